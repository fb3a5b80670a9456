//! Every transition by itself; whole lives in `schedules`, peers that lie in `hostile`.

use std::num::NonZeroU64;
use std::time::Duration;

use fastrand::Rng;

use super::*;

mod hostile;
mod schedules;

const POLICY: AckPolicy = AckPolicy { every: 2, within: Duration::from_millis(10) };

fn id(number: u64) -> NonZeroU64 {
    NonZeroU64::new(number).unwrap()
}

/// Room for `messages` messages of eight bytes.
fn store(messages: usize) -> Store {
    Store::new(id(9), StoreLimits { messages, bytes: messages * 8 })
}

/// A store whose peer has resumed, with `count` messages in the ring.
fn placed(messages: usize, count: u64) -> Store {
    let mut store = store(messages);
    store.resumed(Resume::default()).unwrap();
    resend(&mut store);
    for sequence in 1..=count {
        assert_eq!(store.push(sequence.to_le_bytes().to_vec()), Ok(sequence));
    }
    store
}

/// What is handed out: sequences, and Starts as negative ones.
fn resend(store: &mut Store) -> Vec<i64> {
    let session = store.session();
    let mut opens = !store.announced;
    let mut items = Vec::new();
    let handed = store.resend(|item| {
        items.push(match item {
            Resend::Start(start) => {
                assert_eq!((start.session, start.opens), (session, opens));
                opens = false;
                -(start.next as i64)
            }
            Resend::Message { sequence, message } => {
                assert_eq!(message, sequence.to_le_bytes());
                sequence as i64
            }
        });
        Ok::<(), ()>(())
    });
    assert_eq!(handed, Ok(items.iter().filter(|item| **item > 0).count()));
    items
}

/// An Ack of all to `upto` and of single ones.
fn ack(upto: u64, single: &[u64]) -> Ack {
    let from = single.first().copied().unwrap_or(0);
    let mut ack = Ack { session: id(9), upto, from, bits: [0; 4] };
    for sequence in single {
        let bit = (sequence - from) as usize;
        ack.bits[bit / 64] |= 1 << (bit % 64);
    }
    ack
}

fn known(session: u64, upto: u64) -> Resume {
    Resume { known: Some(Position { session: id(session), upto }) }
}

fn start(next: u64) -> Start {
    Start { session: id(9), next, opens: true }
}

fn hole(next: u64) -> Start {
    Start { opens: false, ..start(next) }
}

fn receipt(sequence: u64) -> Receipt {
    Receipt { session: id(9), sequence }
}

/// An inbox that has had its Start.
fn started(window: usize, next: u64) -> Inbox {
    let mut inbox = Inbox::new(window, POLICY);
    assert_eq!(inbox.started(start(next)), Ok(Started::First));
    inbox
}

fn deliver(inbox: &mut Inbox, sequences: impl IntoIterator<Item = u64>) {
    for sequence in sequences {
        assert_eq!(inbox.arrived(sequence), Ok(Verdict::Deliver(receipt(sequence))));
    }
}

fn acknowledge(inbox: &mut Inbox, sequences: impl IntoIterator<Item = u64>) {
    for sequence in sequences {
        assert_eq!(inbox.acknowledge(receipt(sequence)), Ok(true));
    }
}

// The wire.

#[test]
fn frames_have_their_sequence_ahead() {
    assert_eq!(header(0x0102), [2, 1, 0, 0, 0, 0, 0, 0]);
    let frame = [&header(u64::MAX)[..], &[7]].concat();
    assert_eq!(split_frame(&frame), Ok((u64::MAX, &[7][..])));
    assert_eq!(split_frame(&frame[..8]), Ok((u64::MAX, &[][..])));
    assert_eq!(split_frame(&frame[..7]), Err(ReliableError::TooShort { len: 7, need: 8 }));
    assert_eq!(split_frame(&[]), Err(ReliableError::TooShort { len: 0, need: 8 }));
}

#[test]
fn packets_are_encoded_as_the_tables_say() {
    let ack = Ack { session: id(9), upto: 4, from: 6, bits: [1, 2, 3, 4] };
    assert_eq!(ack.encode(), [9, 4, 6, 1, 2, 3, 4]);
    assert_eq!(Ack::decode(&ack.encode()), Ok(ack));
    assert_eq!(start(4).encode(), [9, 4, 1, 0, 0, 0, 0]);
    assert_eq!(Start::decode(&start(4).encode()), Ok(start(4)));
    assert_eq!(hole(4).encode(), [9, 4, 0, 0, 0, 0, 0]);
    assert_eq!(Start::decode(&hole(4).encode()), Ok(hole(4)));
    assert_eq!(known(9, 4).encode(), [9, 4, 0, 0, 0, 0, 0]);
    assert_eq!(Resume::decode(&known(9, 4).encode()), Ok(known(9, 4)));
    assert_eq!(Resume::default().encode(), [0; 7]);
    assert_eq!(Resume::decode(&[0; 7]), Ok(Resume::default()));
}

#[test]
fn impossible_packets_are_refused() {
    let malformed = |what, found| Some(ReliableError::Malformed { what, found });
    assert_eq!(Ack::decode(&[0, 1, 1, 1, 0, 0, 0]).err(), malformed("a session", 0));
    assert_eq!(Start::decode(&[0, 1, 0, 0, 0, 0, 0]).err(), malformed("a session", 0));
    assert_eq!(Start::decode(&[9, 0, 0, 0, 0, 0, 0]).err(), malformed("the next sequence", 0));
    let what = "upto without a session";
    assert_eq!(Resume::decode(&[0, 5, 0, 0, 0, 0, 0]).err(), malformed(what, 5));
    assert_eq!(Start::decode(&[9, 1, 2, 0, 0, 0, 0]).err(), malformed("the third operand of a Start", 2));
    for unused in 2..7 {
        let mut words = [9, 1, 0, 0, 0, 0, 0];
        words[unused] = 3;
        if unused > 2 {
            assert_eq!(Start::decode(&words).err(), malformed("an unused operand", 3));
        }
        assert_eq!(Resume::decode(&words).err(), malformed("an unused operand", 3));
    }
}

#[test]
fn errors_name_the_value_and_the_way_out() {
    let mut store = store(1);
    store.push([0; 8]).unwrap();
    let full = store.push([0; 4]).unwrap_err();
    assert_eq!(
        full.to_string(),
        "no room for a message of 4 bytes: 1 messages of 1 and 8 bytes of 8 are unacknowledged: wait for the receiver, \
         or raise the limits"
    );
    let full = store.push([0; 9]).unwrap_err();
    assert!(full.is_final());
    assert_eq!(full.to_string(), "a message of 9 bytes exceeds the 8 that may be kept: raise the limit");
    let texts = [
        (ReliableError::TooShort { len: 3, need: 8 }, "3 bytes"),
        (ReliableError::Malformed { what: "a session", found: 0 }, "a session cannot be 0"),
        (ReliableError::OtherSession { found: 10, current: 11 }, "session 0xa, and the present one is 0xb"),
        (ReliableError::NeverSent { sequence: 7, last: 6 }, "7 cannot be acknowledged: 6 is"),
        (ReliableError::TooFar { sequence: 7, upto: 1, window: 2 }, "7 is more than 2 after 1"),
        (ReliableError::NotDelivered { sequence: 7 }, "message 7 was not delivered"),
        (ReliableError::AlreadyResumed, "detach the store first"),
    ];
    for (error, part) in texts {
        assert!(error.to_string().contains(part), "{error}");
    }
}

// The store.

#[test]
fn a_new_store_keeps_and_waits() {
    let mut store = store(4);
    for sequence in 1..=2_u64 {
        assert_eq!(store.push(sequence.to_le_bytes()), Ok(sequence));
    }
    assert!(!store.is_caught_up());
    assert_eq!(resend(&mut store), [0; 0], "nobody has resumed");
    assert_eq!(store.resumed(Resume::default()), Ok(Resumed { freed: 0, other_session: false }));
    assert!(!store.is_caught_up());
    assert_eq!(resend(&mut store), [-1, 1, 2]);
    assert!(store.is_caught_up());
    assert_eq!(resend(&mut store), [0; 0]);
    assert_eq!(store.counts().resent, 0, "sent for the first time");
}

#[test]
fn what_is_pushed_to_an_idle_peer_is_not_sent_again() {
    let mut store = placed(4, 2);
    assert!(store.is_caught_up());
    assert_eq!(resend(&mut store), [0; 0]);
}

#[test]
fn a_newcomer_gets_what_is_not_acknowledged() {
    let mut store = placed(8, 6);
    assert_eq!(store.acknowledged(ack(2, &[])), Ok(2));
    store.detach();
    assert_eq!(store.push(7_u64.to_le_bytes()), Ok(7));
    assert_eq!(resend(&mut store), [0; 0]);
    assert_eq!(store.resumed(known(9, 3)), Ok(Resumed { freed: 1, other_session: false }));
    assert_eq!(resend(&mut store), [-4, 4, 5, 6, 7]);
    assert_eq!(store.counts().resent, 3);
    store.detach();
    store.resumed(Resume::default()).unwrap();
    assert_eq!(resend(&mut store), [-4, 4, 5, 6, 7], "it knows nothing, but its predecessor acknowledged");
    assert_eq!(store.counts().resent, 7);
}

#[test]
fn holes_have_a_start_each() {
    let mut store = placed(8, 8);
    assert_eq!(store.acknowledged(ack(0, &[2, 3, 5, 8])), Ok(4));
    store.detach();
    store.resumed(Resume::default()).unwrap();
    assert_eq!(resend(&mut store), [-1, 1, -4, 4, -6, 6, 7, -9]);
    store.detach();
    assert_eq!(store.acknowledged(ack(7, &[])), Ok(4));
    store.resumed(Resume::default()).unwrap();
    assert_eq!(resend(&mut store), [-9]);
}

#[test]
fn a_resend_goes_on_where_it_stopped() {
    let mut store = placed(8, 4);
    store.detach();
    store.resumed(Resume::default()).unwrap();
    let mut room = 2;
    let mut items = Vec::new();
    let full = store.resend(|item| {
        if room == 0 {
            return Err("full");
        }
        room -= 1;
        items.push(format!("{item:?}"));
        Ok(())
    });
    assert_eq!((full, items.len()), (Err("full"), 2));
    assert!(!store.is_caught_up());
    assert_eq!(store.push(5_u64.to_le_bytes()), Ok(5), "waits behind the others");
    // The next two are acknowledged meanwhile, by something late.
    assert_eq!(store.acknowledged(ack(3, &[])), Ok(3));
    assert_eq!(resend(&mut store), [-4, 4, 5]);
    assert_eq!(store.counts().resent, 2);
}

#[test]
fn acknowledgements_free_what_they_name() {
    let mut store = placed(300, 300);
    assert_eq!(store.acknowledged(ack(0, &[])), Ok(0));
    assert_eq!(store.acknowledged(ack(2, &[4, 6, 259])), Ok(5));
    assert_eq!(store.acknowledged(ack(2, &[4, 6, 259])), Ok(0), "twice does no harm");
    assert_eq!(store.acknowledged(ack(1, &[])), Ok(0), "nor does an older one");
    assert_eq!(store.acknowledged(ack(4, &[])), Ok(1));
    assert_eq!(store.acknowledged(ack(5, &[])), Ok(1));
    let counts = store.counts();
    assert_eq!((counts.messages, counts.bytes, counts.acknowledged), (293, 293 * 8, 7));
    assert_eq!(store.first, 7, "6 was acknowledged before");
    assert_eq!(store.acknowledged(ack(300, &[])), Ok(293));
    assert_eq!((store.counts().messages, store.counts().bytes), (0, 0));
    assert_eq!(store.push(b"x"), Ok(301));
}

#[test]
fn acknowledgements_of_what_was_never_sent_change_nothing() {
    let mut store = placed(8, 3);
    let never = |sequence, last| Err(ReliableError::NeverSent { sequence, last });
    let before = format!("{store:?}");
    assert_eq!(store.acknowledged(ack(4, &[])), never(4, 3));
    assert_eq!(store.acknowledged(ack(2, &[3, 5])), never(5, 3));
    assert_eq!(store.acknowledged(ack(2, &[u64::MAX])), never(u64::MAX, 3));
    let wrapping = Ack { bits: [0, 0, 0, 1 << 63], ..ack(2, &[u64::MAX]) };
    assert_eq!(store.acknowledged(wrapping), never(u64::MAX, 3));
    let other = Ack { session: id(8), ..ack(2, &[]) };
    assert_eq!(store.acknowledged(other), Err(ReliableError::OtherSession { found: 8, current: 9 }));
    assert_eq!(format!("{store:?}"), before);
    store.detach();
    store.push(b"4").unwrap();
    assert_eq!(store.acknowledged(ack(4, &[])), never(4, 3), "kept, but in no ring yet");
    let before = format!("{store:?}");
    assert_eq!(store.resumed(known(9, 4)), Err(ReliableError::NeverSent { sequence: 4, last: 3 }));
    assert_eq!(format!("{store:?}"), before);
}

#[test]
fn a_record_of_another_session_frees_nothing() {
    let mut store = placed(8, 3);
    store.detach();
    assert_eq!(store.resumed(known(8, u64::MAX)), Ok(Resumed { freed: 0, other_session: true }));
    assert_eq!(resend(&mut store), [-1, 1, 2, 3]);
}

#[test]
fn a_peer_resumes_once() {
    let mut store = placed(8, 3);
    let before = format!("{store:?}");
    assert_eq!(store.resumed(known(9, 3)), Err(ReliableError::AlreadyResumed));
    assert_eq!(format!("{store:?}"), before);
}

#[test]
fn a_full_store_refuses_and_counts() {
    let mut store = placed(4, 3);
    let limits = store.limits();
    assert_eq!(store.room_for(8), Ok(()));
    let full = StoreFull { len: 9, messages: 3, bytes: 24, limits };
    assert_eq!((store.room_for(9), store.counts().full), (Err(full), 0));
    assert_eq!((store.push([0; 9]), store.counts().full), (Err(full), 1));
    assert_eq!(store.push([]), Ok(4));
    let full = StoreFull { len: 0, messages: 4, bytes: 24, limits };
    assert_eq!((store.push([]), store.counts().full), (Err(full), 2));
    // Room is made at the front only: the receiver's window is as long as the store.
    assert_eq!(store.acknowledged(ack(0, &[2, 3])), Ok(2));
    assert!(store.push([]).is_err());
    assert_eq!(store.acknowledged(ack(1, &[])), Ok(1));
    assert_eq!(store.push([]), Ok(5));
    assert!(store.push(vec![0; 33]).unwrap_err().is_final());
    assert_eq!(store.counts().full, 4);
    let mut none = Store::new(id(9), StoreLimits { messages: 0, bytes: 0 });
    assert_eq!((none.push([]), none.push([]).is_err()), (Ok(1), true));
}

#[test]
fn a_message_that_was_not_placed_is_taken_back() {
    let mut store = placed(4, 2);
    assert!(!store.withdraw(1), "not the newest");
    assert!(!store.withdraw(3) && !store.withdraw(0) && !store.withdraw(u64::MAX));
    assert!(store.withdraw(2));
    assert!(!store.withdraw(1), "one only");
    assert_eq!((store.counts().messages, store.counts().bytes), (1, 8));
    assert!(store.is_caught_up());
    assert!(store.acknowledged(ack(2, &[])).is_err(), "it was not sent");
    assert_eq!(store.push(2_u64.to_le_bytes()), Ok(2));
    assert_eq!(store.acknowledged(ack(1, &[2])), Ok(2));
    assert!(!store.withdraw(2), "acknowledged");

    let mut store = placed(4, 1);
    store.detach();
    assert!(!store.withdraw(1), "the newcomer is to get it");
    store.push(2_u64.to_le_bytes()).unwrap();
    assert!(store.withdraw(2), "nobody got it");
    assert_eq!(store.push(2_u64.to_le_bytes()), Ok(2));
    store.resumed(Resume::default()).unwrap();
    assert_eq!(resend(&mut store), [-1, 1, 2]);
    assert!(!store.withdraw(2), "handed out");
}

// The inbox.

#[test]
fn frames_ahead_of_the_start_are_dropped() {
    let mut inbox = Inbox::new(8, POLICY);
    assert_eq!(inbox.position(), Resume::default());
    assert_eq!(inbox.arrived(6), Ok(Verdict::Early));
    assert_eq!(inbox.started(hole(8)), Ok(Started::Early), "its predecessor was to skip 7");
    assert_eq!(inbox.arrived(8), Ok(Verdict::Early));
    assert_eq!(inbox.started(start(3)), Ok(Started::First));
    assert_eq!(inbox.position(), known(9, 2));
    deliver(&mut inbox, 3..=6);
    let mut inbox = Inbox::resume(8, POLICY, Position { session: id(9), upto: 5 }, []);
    assert_eq!(inbox.arrived(6), Ok(Verdict::Early), "of which session?");
    assert_eq!(inbox.take_ack(), None);
}

#[test]
fn duplicates_are_dropped_in_every_state() {
    let mut inbox = started(8, 1);
    deliver(&mut inbox, [1, 2, 3]);
    acknowledge(&mut inbox, [1, 3]);
    for sequence in [1, 2, 3] {
        assert_eq!(inbox.arrived(sequence), Ok(Verdict::Duplicate));
    }
    assert_eq!(inbox.take_ack(), Some(ack(1, &[3])));
    for sequence in [1, 2, 3] {
        assert_eq!(inbox.arrived(sequence), Ok(Verdict::Duplicate));
    }
    assert_eq!(inbox.take_ack(), Some(ack(1, &[3])), "the sender did not know");
    assert_eq!(inbox.take_ack(), None);
    assert_eq!(inbox.arrived(1), Ok(Verdict::Duplicate));
    assert_eq!(inbox.take_ack(), Some(ack(1, &[])));
    let counts = inbox.counts();
    assert_eq!((counts.delivered, counts.duplicates, counts.acknowledged), (3, 7, 2));
    assert_eq!(inbox.outstanding(), 1);
}

#[test]
fn frames_may_change_places() {
    let mut inbox = started(4, 1);
    deliver(&mut inbox, [3, 1, 4, 2]);
    acknowledge(&mut inbox, [4, 2, 1, 3]);
    assert_eq!(inbox.take_ack(), Some(ack(4, &[])));
}

#[test]
fn the_window_is_the_limit() {
    let mut inbox = started(4, 1);
    let far = |sequence, upto| Err(ReliableError::TooFar { sequence, upto, window: 4 });
    assert_eq!(inbox.arrived(5), far(5, 0));
    assert_eq!(inbox.arrived(u64::MAX), far(u64::MAX, 0));
    assert_eq!(inbox.arrived(0), Err(ReliableError::Malformed { what: "a sequence", found: 0 }));
    assert!(inbox.marks.is_empty());
    deliver(&mut inbox, [4, 1]);
    acknowledge(&mut inbox, [1]);
    deliver(&mut inbox, [5]);
    assert_eq!(inbox.arrived(6), far(6, 1));
    assert_eq!(inbox.counts().refused, 4);
}

#[test]
fn only_what_was_delivered_is_acknowledged() {
    let mut inbox = Inbox::new(4, POLICY);
    let other = |current| Err(ReliableError::OtherSession { found: 9, current });
    assert_eq!(inbox.acknowledge(receipt(1)), other(0));
    let _ = inbox.started(start(1)).unwrap();
    assert_eq!(inbox.acknowledge(receipt(2)), Err(ReliableError::NotDelivered { sequence: 2 }));
    deliver(&mut inbox, [2]);
    assert_eq!(inbox.acknowledge(receipt(1)), Err(ReliableError::NotDelivered { sequence: 1 }));
    assert_eq!(inbox.acknowledge(receipt(u64::MAX)).err().map(|_| ()), Some(()));
    assert_eq!(inbox.acknowledge(receipt(2)), Ok(true));
    assert_eq!(inbox.acknowledge(receipt(2)), Ok(false));
    deliver(&mut inbox, [1]);
    acknowledge(&mut inbox, [1]);
    assert_eq!(inbox.acknowledge(receipt(2)), Ok(false));
    assert_eq!(inbox.counts().acknowledged, 2);
}

#[test]
fn a_record_is_told_and_not_delivered() {
    let position = Position { session: id(9), upto: 2 };
    let mut inbox = Inbox::resume(8, POLICY, position, [7, 3, 5, 1, 5]);
    assert_eq!(inbox.position(), known(9, 3));
    assert_eq!(inbox.take_ack(), None);
    assert_eq!(inbox.started(start(4)), Ok(Started::Continued { skipped: 0 }));
    deliver(&mut inbox, [4]);
    assert_eq!(inbox.arrived(5), Ok(Verdict::Duplicate));
    assert_eq!(inbox.take_ack(), Some(ack(3, &[5, 7])));
    acknowledge(&mut inbox, [4]);
    assert_eq!(inbox.take_ack(), Some(ack(5, &[])));
}

#[test]
fn a_record_may_be_longer_than_the_window() {
    let position = Position { session: id(9), upto: 2 };
    let inbox = Inbox::resume(4, POLICY, position, (3..=20).rev());
    assert_eq!(inbox.position(), known(9, 20));
    let mut inbox = Inbox::resume(4, POLICY, position, [3, 20, 18]);
    assert_eq!(inbox.position(), known(9, 16), "with 16 unacknowledged, 20 could not have been sent");
    assert_eq!(inbox.started(start(17)), Ok(Started::Continued { skipped: 0 }));
    deliver(&mut inbox, [17, 19]);
    acknowledge(&mut inbox, [17]);
    deliver(&mut inbox, [21, 22]);
    let far = Inbox::resume(4, POLICY, position, [u64::MAX]);
    assert_eq!(far.position(), known(9, u64::MAX - 4));
}

#[test]
fn a_start_settles_what_does_not_come() {
    let mut inbox = started(4, 3);
    deliver(&mut inbox, [3]);
    assert_eq!(inbox.started(hole(6)), Ok(Started::Continued { skipped: 2 }));
    assert_eq!(inbox.arrived(5), Ok(Verdict::Duplicate));
    deliver(&mut inbox, [6]);
    assert_eq!(inbox.started(start(2)), Ok(Started::Continued { skipped: 0 }), "older than what is known");
    acknowledge(&mut inbox, [3]);
    assert_eq!(inbox.position(), known(9, 5));
    let far = ReliableError::TooFar { sequence: 11, upto: 5, window: 4 };
    assert_eq!(inbox.started(start(11)), Err(far), "6 is still to be acknowledged");
    acknowledge(&mut inbox, [6]);
    assert_eq!(inbox.started(start(100)), Ok(Started::Continued { skipped: 93 }));
    assert_eq!(inbox.take_ack(), Some(ack(99, &[])));
    assert_eq!(inbox.started(start(u64::MAX)).map(|_| ()), Ok(()));
    deliver(&mut inbox, [u64::MAX]);
    acknowledge(&mut inbox, [u64::MAX]);
    assert_eq!(inbox.take_ack(), Some(ack(u64::MAX, &[])));
}

#[test]
fn a_record_with_gaps_is_joined_with_what_the_sender_knows() {
    let position = Position { session: id(9), upto: 1 };
    let mut inbox = Inbox::resume(4, POLICY, position, [3, 5]);
    assert_eq!(inbox.started(start(11)), Ok(Started::Continued { skipped: 7 }));
    assert_eq!(inbox.position(), known(9, 10));
    deliver(&mut inbox, [11]);
}

#[test]
fn another_session_begins_anew() {
    let mut inbox = started(4, 1);
    deliver(&mut inbox, [1, 2]);
    acknowledge(&mut inbox, [2]);
    let other = Start { session: id(7), ..start(1) };
    assert_eq!(inbox.started(other), Ok(Started::Anew));
    assert_eq!((inbox.take_ack(), inbox.outstanding()), (None, 0));
    let error = ReliableError::OtherSession { found: 9, current: 7 };
    assert_eq!(inbox.acknowledge(receipt(1)), Err(error), "a receipt of the old session");
    let fresh = Receipt { session: id(7), sequence: 1 };
    assert_eq!(inbox.arrived(1), Ok(Verdict::Deliver(fresh)));
    assert_eq!(inbox.counts().delivered, 3);
}

#[test]
fn an_inbox_that_outlives_its_sender_gets_what_lay_in_the_ring() {
    let mut inbox = started(4, 1);
    deliver(&mut inbox, [1]);
    assert_eq!(inbox.position(), known(9, 0), "told to the next sender");
    deliver(&mut inbox, [2, 3]);
    assert_eq!(inbox.started(Start { session: id(7), ..start(1) }), Ok(Started::Anew));
}

#[test]
fn acks_are_due_by_number_and_by_time() {
    let ms = Duration::from_millis;
    let now = ms(1000);
    let mut inbox = started(8, 1);
    deliver(&mut inbox, 1..=6);
    assert!(!inbox.due(now));
    assert_eq!((inbox.deadline(), inbox.take_ack()), (None, None));
    acknowledge(&mut inbox, [1]);
    assert!(!inbox.due(now));
    assert_eq!(inbox.deadline(), Some(now + ms(10)));
    assert!(!inbox.due(now + ms(9)));
    assert!(inbox.due(now + ms(10)));
    assert!(!inbox.due(now - ms(1)), "a clock that steps back");
    acknowledge(&mut inbox, [2]);
    assert!(inbox.due(now), "two");
    assert_eq!(inbox.take_ack(), Some(ack(2, &[])));
    assert!(!inbox.due(now + ms(50)));
    assert_eq!(inbox.deadline(), None);
    acknowledge(&mut inbox, [4]);
    assert!(!inbox.due(now + ms(60)), "counted from here");
    assert!(inbox.due(now + ms(70)));
    assert_eq!(inbox.take_ack(), Some(ack(2, &[4])), "on idle, without asking");
    let mut often = Inbox::new(8, AckPolicy { every: 0, within: Duration::MAX });
    let _ = often.started(start(1)).unwrap();
    deliver(&mut often, [1]);
    acknowledge(&mut often, [1]);
    assert!(often.due(now));
    assert_eq!(often.deadline(), None, "too far to be told");
    assert_eq!(Inbox::new(8, AckPolicy { every: 100, ..POLICY }).policy.every, 4, "half the window");
}

#[test]
fn several_acks_reach_across_a_long_window() {
    let mut store = placed(1000, 1000);
    let mut inbox = started(1000, 1);
    deliver(&mut inbox, 1..=1000);
    acknowledge(&mut inbox, (3..=1000).step_by(2));
    let mut acks = 0;
    while let Some(ack) = inbox.take_ack() {
        assert_eq!(Ack::decode(&ack.encode()), Ok(ack));
        acks += 1;
        store.acknowledged(ack).unwrap();
    }
    assert_eq!((acks, store.counts().messages, inbox.pending), (4, 501, (0, 0)));
    acknowledge(&mut inbox, [1, 2]);
    assert_eq!(inbox.take_ack(), Some(ack(3, &[])));
    assert_eq!(inbox.take_ack(), None, "the rest was told");
}
