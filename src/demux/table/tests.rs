//! Every state against every event, and the rules one by one.

use super::*;

mod schedules;

/// Whether a Copy for this id can be dealt with now: placed, given home, or refused.
fn has_room<C>(table: &ConnectionTable<C>, id: u64) -> bool {
    table.conns.get(&id).is_none_or(|conn| {
        conn.stage != Stage::Open
            || conn.in_end.is_some()
            || conn.inbox.len() < table.limits.inbox
            || table.spare > 0
    })
}

const LIMITS: Limits = Limits { max_connections: 4, backlog: 2, inbox: 2, max_message: 100 };

fn primary() -> ConnectionTable<u64> {
    ConnectionTable::new(Role::Primary, LIMITS)
}

fn header(conn: u64, copy_id: u64, size: u64, len: u64, offset: u64) -> CopyHeader {
    CopyHeader { conn, copy_id, copy_size: size, transfer_size: len, transfer_offset: offset }
}

/// A table with connection 2, which the peer opened and we accepted.
fn opened() -> ConnectionTable<u64> {
    let mut table = primary();
    assert_eq!(table.on_create(2), Outcome::Wake(2));
    assert_eq!(table.accept(), Some(2));
    table
}

// Every state against every event.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Never heard of, with an id of the peer's parity.
    Unknown,
    /// The same with an id of ours.
    UnknownOwn,
    Opening,
    Offered,
    Open,
    /// Open, with one chunk in the inbox.
    Fed,
    /// Open, with a full inbox.
    Full,
    FedHeardWrite,
    HeardWrite,
    HeardRead,
    HeardBoth,
    SaidWrite,
    SaidRead,
    SaidBoth,
    /// Both sides have said both.
    Over,
    /// Closed by the peer before it accepted.
    Declined,
    Refused,
    Broken,
    /// Broken because the peer does not know the id.
    Lost,
    LingerOpening,
    Lingering,
    /// Lingering, and the peer writes no more.
    LingerHalf,
    LinkEnded,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Create,
    Accept,
    Close0,
    Close1,
    Close2,
    Close3,
    Copy,
    ErrCreate,
    ErrCopy,
    ErrLost,
    Room,
    Ready,
    CanSend,
    Pop,
    SayBoth,
    SayWrite,
    SayRead,
    Forget,
    TakeOffer,
    Refuse,
    LinkEnd,
}

const EVENTS: [Event; 21] = {
    use Event::*;
    [
        Create, Accept, Close0, Close1, Close2, Close3, Copy, ErrCreate, ErrCopy, ErrLost, Room, Ready,
        CanSend, Pop, SayBoth, SayWrite, SayRead, Forget, TakeOffer, Refuse, LinkEnd,
    ]
};

/// One row per state, one column per event, in their order. `out` alone: nothing else changes. `out>State`: the
/// connection then answers every event as in that state. `out>*`: it changes to a state without a row.
///
/// E4..E6, E40 the code of a refusal; C, N, R, B, L the `ConnEnd`; 0, 1, 2 the Close to send; `0+1` with one chunk.
#[rustfmt::skip]
const TABLE: [(State, &str); 23] = {
    use State::*;
    [
        //               Create      Accept   Close0        Close1             Close2        Close3 Copy   ErrCreate    ErrCopy      ErrLost       Room Ready CanSend Pop             SayBoth     SayWrite    SayRead     Forget          TakeOffer Refuse      LinkEnd
        (Unknown,       "wake>Offered E5     E5            E5                 E5            E5     E5     -            -            -             yes  C     C       C               -           -           -           -               -         no          ->*"),
        (UnknownOwn,    "E4          E5      E5            E5                 E5            E5     E5     -            -            -             yes  C     C       C               -           -           -           -               -         no          -"),
        (Opening,       "E4          wake>Open wake>Declined wake>*           wake>*        E6     E6     wake>Refused wake>Refused wake>Refused  yes  no    N       empty           0>*         1>*         2>*         0>LingerOpening -         no          ->*"),
        (Offered,       "E4          E6      answer>Unknown ->*               ->*           E6     E6     -            -            -             yes  no    N       empty           -           -           -           -               id>Open   yes>Unknown ->*"),
        (Open,          "E4          E6      wake>HeardBoth wake>HeardWrite   wake>HeardRead E6    wake>Fed wake>Broken wake>Broken wake>Lost     yes  yes   yes     empty           0>SaidBoth  1>SaidWrite 2>SaidRead  0>Lingering     -         no          ->LinkEnded"),
        (Fed,           "E4          E6      wake>*        wake>FedHeardWrite wake>*        E6     wake>Full wake>*    wake>*       wake>*        yes  yes   yes     chunk>Open      0>*         1>*         2>*         0+1>Lingering   -         no          ->*"),
        (Full,          "E4          E6      wake>*        wake>*             wake>*        E6     full   wake>*       wake>*       wake>*        no   yes   yes     chunk>Fed       0>*         1>*         2>*         0+2>Lingering   -         no          ->*"),
        (FedHeardWrite, "E4          E6      wake>*        -                  wake>*        E6     E6     wake>*       wake>*       wake>*        yes  yes   yes     chunk>HeardWrite 0>*        1>*         2>*         0+1>LingerHalf  -         no          ->*"),
        (HeardWrite,    "E4          E6      wake>HeardBoth -                 wake>HeardBoth E6    E6     wake>*       wake>*       wake>*        yes  yes   yes     C               0>*         1>*         2>*         0>LingerHalf    -         no          ->*"),
        (HeardRead,     "E4          E6      wake>HeardBoth wake>HeardBoth    -             E6     wake>* wake>*       wake>*       wake>*        yes  yes   C       empty           0>*         1>*         2>*         0>Lingering     -         no          ->*"),
        (HeardBoth,     "E4          E6      -             -                  -             E6     E6     wake         wake         wake>Over     yes  yes   C       C               0>Over      1>*         2>*         0>UnknownOwn    -         no          ->*"),
        (SaidWrite,     "E4          E6      wake>*        wake>*             wake>*        E6     wake>* wake>*       wake>*       wake>*        yes  yes   C       empty           2>SaidBoth  -           2>SaidBoth  2>Lingering     -         no          ->*"),
        (SaidRead,      "E4          E6      wake>*        wake>*             wake>*        E6     home   wake>*       wake>*       wake>*        yes  yes   yes     C               1>SaidBoth  1>SaidBoth  -           1>Lingering     -         no          ->*"),
        (SaidBoth,      "E4          E6      wake>Over     wake>*             wake>*        E6     home   wake         wake         wake>Over     yes  yes   C       C               -           -           -           ->Lingering     -         no          -"),
        (Over,          "E4          E6      -             -                  -             E6     E6     wake         wake         wake          yes  yes   C       C               -           -           -           ->UnknownOwn    -         no          -"),
        (Declined,      "E4          E6      -             -                  -             E6     E6     wake>*       wake>*       wake>*        yes  C     C       C               0>*         1>*         2>*         0>UnknownOwn    -         no          ->*"),
        (Refused,       "E4          E6      -             -                  -             E6     E6     wake         wake         wake          yes  R     R       R               -           -           -           ->UnknownOwn    -         no          -"),
        (Broken,        "E4          E6      wake>*        wake>*             wake>*        E6     home   wake         wake         wake>Lost     yes  yes   B       B               0>*         1>*         2>*         0>*             -         no          ->*"),
        (Lost,          "E4          E6      -             -                  -             E6     E6     wake         wake         wake          yes  yes   B       B               -           -           -           ->UnknownOwn    -         no          -"),
        (LingerOpening, "E4          ->Lingering ->UnknownOwn ->*             ->*           E6     E6     ->UnknownOwn -            ->UnknownOwn  yes  C     C       C               -           -           -           -               -         no          -"),
        (Lingering,     "E4          E6      ->UnknownOwn  ->LingerHalf       ->*           E6     home   ->UnknownOwn -            ->UnknownOwn  yes  yes   C       C               -           -           -           -               -         no          -"),
        (LingerHalf,    "E4          E6      ->UnknownOwn  -                  ->UnknownOwn  E6     E6     ->UnknownOwn -            ->UnknownOwn  yes  yes   C       C               -           -           -           -               -         no          -"),
        (LinkEnded,     "E4          E6      wake>*        wake>*             wake>*        E6     wake>* wake>*       wake>*       wake>*        yes  yes   L       L               ->*         ->*         ->*         ->Lingering     -         no          -"),
    ]
};

/// A table in this state, and the id concerned.
fn build(state: State) -> (ConnectionTable<u64>, u64) {
    use Event::*;
    let (from, events): (_, &[Event]) = match state {
        State::Unknown => return (primary(), 2),
        // One of the peer's that was accepted before is as good as one of its own that it never made.
        State::UnknownOwn => return (primary(), 1),
        State::Opening => {
            let mut table = primary();
            assert_eq!(table.open(), Ok(1));
            return (table, 1);
        }
        State::Offered => (State::Unknown, &[Create]),
        State::Open => (State::Offered, &[TakeOffer]),
        State::Fed => (State::Open, &[Copy]),
        State::Full => (State::Open, &[Copy, Copy]),
        State::FedHeardWrite => (State::Open, &[Copy, Close1]),
        State::HeardWrite => (State::Open, &[Close1]),
        State::HeardRead => (State::Open, &[Close2]),
        State::HeardBoth => (State::Open, &[Close0]),
        State::SaidWrite => (State::Open, &[SayWrite]),
        State::SaidRead => (State::Open, &[SayRead]),
        State::SaidBoth => (State::Open, &[SayBoth]),
        State::Over => (State::Open, &[SayWrite, Close1, Close2, SayRead]),
        State::Declined => (State::Opening, &[Close0]),
        State::Refused => (State::Opening, &[ErrCreate]),
        State::Broken => (State::Open, &[ErrCopy]),
        State::Lost => (State::Open, &[ErrLost]),
        State::LingerOpening => (State::Opening, &[Forget]),
        State::Lingering => (State::Open, &[Forget]),
        State::LingerHalf => (State::Open, &[Close1, Forget]),
        State::LinkEnded => (State::Open, &[LinkEnd]),
    };
    let (mut table, id) = build(from);
    for &event in events {
        apply(&mut table, id, event);
    }
    (table, id)
}

fn end_name(end: ConnEnd) -> String {
    match end {
        ConnEnd::Closed => "C",
        ConnEnd::NotOpen => "N",
        ConnEnd::Refused(_) => "R",
        ConnEnd::Broken { .. } => "B",
        ConnEnd::Cut { .. } => "X",
        ConnEnd::Link(_) => "L",
    }
    .into()
}

fn outcome_name(outcome: Outcome) -> String {
    match outcome {
        Outcome::Done => "-".into(),
        Outcome::Wake(_) => "wake".into(),
        Outcome::Refuse(code) => format!("E{:x}", code as u64),
        Outcome::AnswerClose(_) => "answer".into(),
    }
}

fn how_name(how: Option<CloseHow>) -> String {
    how.map_or("-".into(), |how| how.number().to_string())
}

fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.into()
}

fn apply(table: &mut ConnectionTable<u64>, id: u64, event: Event) -> String {
    match event {
        Event::Create => outcome_name(table.on_create(id)),
        Event::Accept => outcome_name(table.on_accept(id)),
        Event::Close0 => outcome_name(table.on_close(id, 0)),
        Event::Close1 => outcome_name(table.on_close(id, 1)),
        Event::Close2 => outcome_name(table.on_close(id, 2)),
        Event::Close3 => outcome_name(table.on_close(id, 3)),
        Event::Copy => match table.on_copy(header(id, 7, 10, 10, 0), 70) {
            CopyOutcome::Wake(woken) => {
                assert_eq!(woken, id);
                "wake".into()
            }
            CopyOutcome::Swallow(data) => {
                assert_eq!(data, 70);
                "home".into()
            }
            CopyOutcome::Refuse(code, data) => {
                assert_eq!(data, 70);
                format!("E{:x}", code as u64)
            }
            CopyOutcome::Full(data) => {
                assert_eq!(data, 70);
                "full".into()
            }
        },
        Event::ErrCreate => outcome_name(table.on_error(id, ErrorCode::ConnRefused, op::CONN_CREATE)),
        Event::ErrCopy => outcome_name(table.on_error(id, ErrorCode::InvalidSize, op::CONN_COPY)),
        Event::ErrLost => outcome_name(table.on_error(id, ErrorCode::ConnNotFound, op::CONN_COPY)),
        Event::Room => yes_no(has_room(table, id)),
        Event::Ready => table.ready(id).map_or_else(end_name, yes_no),
        Event::CanSend => table.can_send(id).map_or_else(end_name, |()| "yes".into()),
        Event::Pop => match table.pop(id) {
            Pop::Chunk(_) => "chunk".into(),
            Pop::Empty => "empty".into(),
            Pop::End(end) => end_name(end),
        },
        Event::SayBoth => how_name(table.close(id, CloseHow::Both)),
        Event::SayWrite => how_name(table.close(id, CloseHow::Write)),
        Event::SayRead => how_name(table.close(id, CloseHow::Read)),
        Event::Forget => {
            let Forgotten { close, chunks } = table.forget(id);
            match chunks.len() {
                0 => how_name(close),
                n => format!("{}+{n}", how_name(close)),
            }
        }
        Event::TakeOffer => table.accept().map_or("-".into(), |taken| {
            assert_eq!(taken, id);
            "id".into()
        }),
        Event::Refuse => yes_no(table.refuse(id)),
        Event::LinkEnd => {
            table.link_ended(LinkEnd::PeerDead, 0);
            "-".into()
        }
    }
}

/// What a state answers to each event, after `first` if there is one.
fn answers(state: State, first: Option<Event>) -> Vec<String> {
    EVENTS
        .iter()
        .map(|&event| {
            let (mut table, id) = build(state);
            if let Some(first) = first {
                apply(&mut table, id, first);
            }
            apply(&mut table, id, event)
        })
        .collect()
}

#[test]
fn every_state_meets_every_event() {
    for (state, row) in TABLE {
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells.len(), EVENTS.len(), "{state:?}: columns");
        let before = answers(state, None);
        for (index, (&event, cell)) in EVENTS.iter().zip(cells).enumerate() {
            // `->` is the outcome `-` and the arrow.
            let (out, next) = match cell.split_once('>') {
                Some((out, next)) => (out, Some(next)),
                None => (cell, None),
            };
            assert_eq!(before[index], out, "{state:?} {event:?}: outcome");
            let after = answers(state, Some(event));
            match next {
                Some("*") => {}
                None => assert_eq!(after, before, "{state:?} {event:?}: must not change"),
                Some(name) => {
                    let next = TABLE
                        .iter()
                        .find(|(other, _)| format!("{other:?}") == name)
                        .unwrap_or_else(|| panic!("{state:?} {event:?}: no state {name}"));
                    assert_eq!(after, answers(next.0, None), "{state:?} {event:?} -> {name}");
                }
            }
        }
    }
}

// The rules one by one.

#[test]
fn ids_follow_the_role_and_are_never_given_out_twice() {
    let mut table = primary();
    for id in [1, 3, 5] {
        assert_eq!(table.open(), Ok(id));
        assert_eq!(table.on_error(id, ErrorCode::ConnRefused, op::CONN_CREATE), Outcome::Wake(id));
        assert_eq!(table.forget(id).close, None);
    }
    assert_eq!(table.on_create(0), Outcome::Refuse(ErrorCode::FailedInit));
    assert_eq!(table.on_create(7), Outcome::Refuse(ErrorCode::FailedInit));

    let mut table = ConnectionTable::<u64>::new(Role::Secondary, LIMITS);
    assert_eq!((table.open(), table.open()), (Ok(2), Ok(4)));
    assert_eq!(table.on_create(0), Outcome::Refuse(ErrorCode::FailedInit));
    assert_eq!(table.on_create(6), Outcome::Refuse(ErrorCode::FailedInit));
    assert_eq!(table.on_create(5), Outcome::Wake(5));

    table.next_id = Some(u64::MAX - 1);
    assert_eq!(table.open(), Ok(u64::MAX - 1));
    assert_eq!(table.open(), Err(TableError::TooMany { open: 4, limit: 4 }));
    assert!(table.refuse(5));
    assert_eq!(table.open(), Err(TableError::NoIds));
}

#[test]
fn table_and_backlog_are_bounded() {
    let refused = Outcome::Refuse(ErrorCode::ConnRefused);
    let mut table = primary();
    assert_eq!(table.on_create(4), Outcome::Wake(4));
    assert_eq!(table.on_create(2), Outcome::Wake(2));
    assert_eq!(table.on_create(6), refused, "backlog of 2");
    assert_eq!((table.accept(), table.accept()), (Some(4), Some(2)));
    assert_eq!(table.accept(), None);
    assert_eq!((table.open(), table.open()), (Ok(1), Ok(3)));
    assert_eq!(table.on_create(6), refused, "table of 4");
    assert_eq!(table.open(), Err(TableError::TooMany { open: 4, limit: 4 }));
    // A lingering id does not count.
    assert_eq!(table.forget(4).close, Some(CloseHow::Both));
    assert_eq!(table.on_create(6), Outcome::Wake(6));
}

#[test]
fn chunks_of_a_copy_travel_in_order() {
    let bad = |table: &mut ConnectionTable<u64>, header, code| {
        assert_eq!(table.on_copy(header, 9), CopyOutcome::Refuse(code, 9), "{header:?}");
    };
    let size = ErrorCode::InvalidSize;
    let mut table = opened();
    bad(&mut table, header(2, 1, 101, 50, 0), ErrorCode::MemorySmall);
    bad(&mut table, header(2, 1, 30, 10, 10), size);
    bad(&mut table, header(2, 1, 30, 31, 0), size);
    bad(&mut table, header(2, 1, 30, 0, 0), size);
    bad(&mut table, header(2, 1, 30, 1, 31), size);
    bad(&mut table, header(2, 1, 30, u64::MAX, 1), size);
    bad(&mut table, header(2, 1, 0, 1, 0), size);
    bad(&mut table, header(2, 1, 0, 0, 1), size);
    assert_eq!(table.on_copy(header(2, 1, 30, 10, 0), 0), CopyOutcome::Wake(2));
    bad(&mut table, header(2, 1, 30, 10, 0), size); // again from the start
    bad(&mut table, header(2, 2, 30, 10, 10), size); // another copy
    bad(&mut table, header(2, 1, 31, 10, 10), size); // another total
    bad(&mut table, header(2, 1, 30, 5, 15), size); // a gap
    bad(&mut table, header(2, 1, 30, 5, 5), size); // an overlap
    bad(&mut table, header(2, 1, 30, 21, 10), size); // past the end
    assert_eq!(table.on_copy(header(2, 1, 30, 20, 10), 1), CopyOutcome::Wake(2));

    let Pop::Chunk(first) = table.pop(2) else { panic!() };
    assert_eq!((first.data, first.offset, first.copy_size, first.len), (0, 0, 30, 10));
    assert!(!first.is_last());
    let Pop::Chunk(second) = table.pop(2) else { panic!() };
    assert!(second.is_last());
    assert_eq!((second.data, second.offset, second.len), (1, 10, 20));
    assert_eq!(table.pop(2), Pop::Empty);
}

#[test]
fn an_empty_message_ends_at_once_and_a_full_size_one_is_taken() {
    let mut table = opened();
    assert_eq!(table.on_copy(header(2, 1, 0, 0, 0), 0), CopyOutcome::Wake(2));
    assert_eq!(table.on_copy(header(2, 2, 100, 100, 0), 1), CopyOutcome::Wake(2));
    let Pop::Chunk(empty) = table.pop(2) else { panic!() };
    assert!(empty.is_last() && empty.copy_size == 0);
}

#[test]
fn an_inbox_limit_of_zero_still_lets_chunks_through() {
    let mut table = ConnectionTable::new(Role::Primary, Limits { inbox: 0, ..LIMITS });
    assert_eq!(table.on_create(2), Outcome::Wake(2));
    assert_eq!(table.accept(), Some(2));
    assert!(has_room(&table, 2));
    assert_eq!(table.on_copy(header(2, 1, 1, 1, 0), 0), CopyOutcome::Wake(2));
    assert!(!has_room(&table, 2));
    assert_eq!(table.on_copy(header(2, 2, 1, 1, 0), 1), CopyOutcome::Full(1));
}

#[test]
fn a_full_inbox_keeps_the_place_in_the_message() {
    let mut table = opened();
    for offset in [0, 10] {
        let chunk = header(2, 1, 30, 10, offset);
        assert_eq!(table.on_copy(chunk, offset), CopyOutcome::Wake(2));
    }
    let last = header(2, 1, 30, 10, 20);
    assert_eq!(table.on_copy(last, 20), CopyOutcome::Full(20));
    assert!(matches!(table.pop(2), Pop::Chunk(Chunk { data: 0, .. })));
    assert_eq!(table.on_copy(last, 20), CopyOutcome::Wake(2));
}

#[test]
fn a_close_inside_a_message_is_told_apart() {
    let mut table = opened();
    assert_eq!(table.on_copy(header(2, 1, 30, 10, 0), 0), CopyOutcome::Wake(2));
    assert_eq!(table.on_close(2, 1), Outcome::Wake(2));
    assert!(matches!(table.pop(2), Pop::Chunk(_)));
    let cut = ConnEnd::Cut { received: 10, size: 30 };
    assert_eq!(table.pop(2), Pop::End(cut));
    assert_eq!(table.on_error(2, ErrorCode::InvalidOp, op::CONN_COPY), Outcome::Wake(2));
    assert_eq!(table.pop(2), Pop::End(cut), "the first end stays");
    let broken = ConnEnd::Broken { code: ErrorCode::InvalidOp, op: op::CONN_COPY };
    assert_eq!(table.can_send(2), Err(broken));

    let mut table = opened();
    assert_eq!(table.on_copy(header(2, 1, 30, 10, 0), 0), CopyOutcome::Wake(2));
    table.link_ended(LinkEnd::Closed, 0);
    assert!(matches!(table.pop(2), Pop::Chunk(_)));
    assert_eq!(table.pop(2), Pop::End(cut));
}

#[test]
fn a_refused_opening_says_why() {
    let mut table = primary();
    assert_eq!(table.open(), Ok(1));
    let refused = ConnEnd::Refused(ErrorCode::ConnRefused);
    assert_eq!(table.on_error(1, ErrorCode::ConnRefused, op::CONN_CREATE), Outcome::Wake(1));
    assert_eq!(table.ready(1), Err(refused));
    assert_eq!(table.can_send(1), Err(refused));
    assert_eq!(table.pop(1), Pop::End(refused));
    assert_eq!(table.forget(1).close, None);
    assert!(table.conns.is_empty());
}

// Lingering.

#[test]
fn a_chunk_under_way_to_a_dropped_handle_goes_home_quietly() {
    let mut table = opened();
    assert_eq!(table.on_copy(header(2, 1, 30, 10, 0), 0), CopyOutcome::Wake(2));
    let left = table.forget(2);
    assert_eq!(left.close, Some(CloseHow::Both));
    assert_eq!(left.chunks.iter().map(|c| c.data).collect::<Vec<_>>(), [0]);
    // The rest of that message and the next ones, more than an inbox holds.
    assert_eq!(table.on_copy(header(2, 1, 30, 20, 10), 1), CopyOutcome::Swallow(1));
    for copy in 2..9 {
        assert!(has_room(&table, 2));
        assert_eq!(table.on_copy(header(2, copy, 1, 1, 0), copy), CopyOutcome::Swallow(copy));
    }
    assert_eq!(table.on_close(2, 1), Outcome::Done);
    let late = table.on_copy(header(2, 9, 1, 1, 0), 9);
    assert_eq!(late, CopyOutcome::Refuse(ErrorCode::InvalidOp, 9), "it had said: no more");
    assert_eq!(table.on_create(2), Outcome::Refuse(ErrorCode::FailedInit), "still in use");
    assert_eq!(table.on_close(2, 2), Outcome::Done);
    assert!(table.conns.is_empty() && table.lingering.is_empty());
    assert_eq!(table.on_create(2), Outcome::Refuse(ErrorCode::FailedInit), "no id is used twice");
    assert_eq!(table.on_create(4), Outcome::Wake(4));
}

#[test]
fn an_opener_that_gives_up_lingers_until_it_hears_back() {
    // Still on offer at the peer: its table answers.
    let mut opener = primary();
    let mut other = ConnectionTable::<u64>::new(Role::Secondary, LIMITS);
    assert_eq!(opener.open(), Ok(1));
    assert_eq!(other.on_create(1), Outcome::Wake(1));
    assert_eq!(opener.forget(1).close, Some(CloseHow::Both));
    assert_eq!(other.on_close(1, 0), Outcome::AnswerClose(1));
    assert_eq!(other.accept(), None);
    assert_eq!(opener.on_close(1, 0), Outcome::Done);
    assert!(opener.conns.is_empty() && other.conns.is_empty());

    // Accepted, and sent to, before the peer heard of it: both are quiet, and the last Close ends it.
    assert_eq!(opener.open(), Ok(3));
    assert_eq!(other.on_create(3), Outcome::Wake(3));
    assert_eq!(opener.forget(3).close, Some(CloseHow::Both));
    assert_eq!(other.accept(), Some(3));
    assert_eq!(opener.on_accept(3), Outcome::Done);
    assert_eq!(opener.on_copy(header(3, 1, 1, 1, 0), 5), CopyOutcome::Swallow(5));
    assert_eq!(other.on_close(3, 0), Outcome::Wake(3));
    assert_eq!(other.forget(3).close, Some(CloseHow::Both));
    assert_eq!(opener.on_close(3, 0), Outcome::Done);
    assert!(opener.conns.is_empty() && other.conns.is_empty());

    // Refused before the peer heard of it.
    assert_eq!(opener.open(), Ok(5));
    assert_eq!(opener.forget(5).close, Some(CloseHow::Both));
    assert_eq!(opener.on_error(5, ErrorCode::ConnRefused, op::CONN_CREATE), Outcome::Done);
    assert_eq!(opener.on_error(5, ErrorCode::ConnNotFound, op::CONN_CLOSE), Outcome::Done);
    assert!(opener.conns.is_empty() && opener.lingering.is_empty());
}

#[test]
fn lingering_ids_are_bounded_and_the_oldest_goes_first() {
    let mut table = primary();
    for turn in 0..6 {
        let id = table.open().unwrap();
        assert_eq!(id, 2 * turn + 1);
        assert_eq!(table.forget(id).close, Some(CloseHow::Both));
    }
    assert_eq!(table.conns.keys().copied().collect::<Vec<_>>(), [5, 7, 9, 11]);
    assert_eq!(table.on_accept(3), Outcome::Refuse(ErrorCode::ConnNotFound));
    assert_eq!(table.on_close(7, 0), Outcome::Done);
    assert_eq!(table.lingering.values().copied().collect::<Vec<_>>(), [5, 9, 11]);
}

// The link's end.

#[test]
fn what_the_ring_still_holds_at_the_end_is_delivered() {
    let dead = ConnEnd::Link(LinkEnd::PeerDead);
    let mut table = opened();
    assert_eq!(table.open(), Ok(1));
    assert_eq!(table.on_create(4), Outcome::Wake(4));
    for copy in 1..=2 {
        assert_eq!(table.on_copy(header(2, copy, 1, 1, 0), copy), CopyOutcome::Wake(2));
    }
    assert!(!has_room(&table, 2));
    table.link_ended(LinkEnd::PeerDead, 2);
    table.link_ended(LinkEnd::Closed, 100);
    assert_eq!(table.can_send(2), Err(dead));
    assert_eq!(table.open(), Err(TableError::Link(LinkEnd::PeerDead)));
    assert_eq!(table.accept(), None, "an offer lapses");
    assert_eq!(table.on_create(6), Outcome::Refuse(ErrorCode::ConnRefused));

    // The ring: two more than the inbox holds, then an Accept with a message behind it.
    for copy in 3..=4 {
        assert!(has_room(&table, 2));
        assert_eq!(table.on_copy(header(2, copy, 1, 1, 0), copy), CopyOutcome::Wake(2));
    }
    assert!(!has_room(&table, 2), "no more than the ring held");
    assert_eq!(table.on_copy(header(2, 5, 1, 1, 0), 5), CopyOutcome::Full(5));
    assert_eq!(table.ready(1), Err(dead));
    assert_eq!(table.on_accept(1), Outcome::Wake(1));
    assert_eq!(table.ready(1), Ok(true));
    assert_eq!(table.on_copy(header(1, 6, 1, 1, 0), 6), CopyOutcome::Wake(1));

    for copy in 1..=4 {
        assert!(matches!(table.pop(2), Pop::Chunk(Chunk { data, .. }) if data == copy));
    }
    assert_eq!(table.pop(2), Pop::End(dead));
    let rest: Vec<u64> = table.clear().map(|chunk| chunk.data).collect();
    assert_eq!(rest, [6]);
    assert!(table.conns.is_empty());
}
