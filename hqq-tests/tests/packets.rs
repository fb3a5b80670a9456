//! Packets and words written without the library: whatever a peer writes is refused, counted and answered, or ends the link.

use std::time::Duration;

use hqq::{Error, Role, StandardLink};
use hqq_tests::mock::Memory;
use hqq_tests::pattern::{bytes, digest};
use hqq_tests::{Peer, Test, eventually, test};

const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];
const OPTIONS: &str = "slots=16 buffers=8 size=64 max-message=200";
const NONE: &str = "max";

/// A refused packet: what the peer pushes, the code, and the context that it hears.
struct Case(String, u64, u64);

/// Lets the peer push a packet and checks that it is refused, counted and answered, and that the link goes on.
fn refused(link: &StandardLink, peer: &mut Peer, Case(push, code, context): &Case) {
    let counted = |link: &StandardLink| {
        let stats = link.stats();
        let side = stats.side(link.role());
        let heard = stats.side(link.role().other()).errors_received;
        (side.refused[*code as usize & 7], side.refused_total(), heard[*code as usize & 7])
    };
    let before = counted(link);
    peer.ask(format!("push {push}"));
    peer.ask("send 60 9");
    assert_eq!(*link.recv().unwrap(), bytes(60, 9), "{push}: what comes behind it is received");
    let op = push.split(' ').next().unwrap().trim_start_matches("0x");
    // The peer hears of it in whatever it does next.
    link.send(b"what do you say?").unwrap();
    peer.ask("recv");
    assert_eq!(peer.ask("wire-error"), format!("{op} {code} {context:x}"), "{push}");
    assert_eq!(counted(link), (before.0 + 1, before.1 + 1, before.2 + 1), "{push}");
}

/// A link in each role on which the peer has connection 1 or 2 open, which is the connection's number.
fn each_role(test: &Test, check: impl Fn(&StandardLink, &mut Peer, u64)) {
    for role in ROLES {
        let (link, mut peer) = test.link(role, OPTIONS);
        peer.send_command("conn-accept");
        let connection = link.open_connection().unwrap();
        peer.expect_ok();
        check(&link, &mut peer, connection.id());
        // The link is as good as new. The peer gave up the connection that it was refused a chunk on.
        drop(connection);
        peer.send_command("conn-accept");
        let connection = link.open_connection().unwrap();
        peer.expect_ok();
        connection.send(&bytes(150, 5)).unwrap();
        assert_eq!(peer.ask(format!("conn-recv {}", connection.id())), digest(&bytes(150, 5)));
        peer.ask(format!("conn-send {} 150 6", connection.id()));
        assert_eq!(connection.recv().unwrap(), bytes(150, 6));
        assert!(link.is_open());
        drop(connection);
        drop(link);
        peer.quit();
    }
}

#[test]
fn operands_that_break_a_rule() {
    each_role(&test!(), |link, peer, id| {
        let theirs = id + 1;
        let cases = [
            // Copies on the link: ID, buffer, size, run.
            Case(format!("0xff 9 {NONE} 1"), 2, 9),
            Case("0xff 9 0 0".into(), 2, 9),
            Case("0xff 9 8 10".into(), 7, 9),
            Case("0xff 9 0 65".into(), 7, 9),
            Case("0xff 9 7 65 2".into(), 7, 9),
            Case("0xff 9 0 10 max".into(), 7, 9),
            Case("0xff 9 0 201 4".into(), 3, 9),
            Case(format!("0x10 {} 1", 49u64 << 56 | 9), 2, 9),
            // Copies on a connection: connection, ID, copy, transfer, offset, size and place in the pool.
            Case(format!("0x4 {id} 1 10 11 0 11 0"), 2, id),
            Case(format!("0x4 {id} 1 10 5 max 5 0"), 2, id),
            Case(format!("0x4 {id} 1 10 0 0 0 {NONE}"), 2, id),
            Case(format!("0x4 {id} 1 10 10 0 9 0"), 2, id),
            Case(format!("0x4 {id} 1 10 10 0 10 {NONE}"), 2, id),
            Case(format!("0x4 {id} 1 10 10 0 10 8"), 1, id),
            Case(format!("0x4 {id} 1 10 10 0 10 63"), 1, id),
            Case(format!("0x4 {id} 1 10 10 0 10 512"), 7, id),
            Case(format!("0x4 {id} 1 10 10 0 max 64"), 7, id),
            Case(format!("0x4 {id} 1 201 10 0 10 64"), 3, id),
            Case(format!("0x4 77 1 0 0 0 0 {NONE}"), 5, 77),
            // Not the chunk that comes next.
            Case(format!("0x4 {id} 1 10 5 5 5 0"), 2, id),
            // Connections: 0, one of our own parity, one in use, unknown ones, an unknown half.
            Case("0x1 0".into(), 4, 0),
            Case(format!("0x1 {}", id + 2), 4, id + 2),
            Case(format!("0x1 {id}"), 4, id),
            Case(format!("0x2 {theirs}"), 5, theirs),
            Case(format!("0x2 {id}"), 6, id),
            Case(format!("0x3 {theirs} 0"), 5, theirs),
            Case(format!("0x3 {id} 3"), 6, id),
            // Opcodes that nobody knows, and those of the handshake.
            Case("0x7e 5".into(), 6, 5),
            Case("0xfd 5".into(), 6, 5),
            Case("0x20 5".into(), 6, 5),
            Case("0x23 5".into(), 6, 5),
            // Another major version, and an answer to what nobody asked.
            Case("0x5 0x201 2 2".into(), 6, 0),
            Case("0x5 0x1 2 2".into(), 6, 0),
            Case("0x6 0x101 0 0".into(), 6, 0),
        ];
        for case in &cases {
            refused(link, peer, case);
        }
        eventually("their buffers go home", || {
            let _ = link.try_recv();
            link.stats().sent_by(link.role().other()).buffers_held == 0
        });
    });
}

#[test]
fn a_buffer_that_is_still_being_read() {
    each_role(&test!(), |link, peer, id| {
        peer.ask("loan 60 1");
        let first = link.recv().unwrap();
        let held = Memory::of(link);
        let direction = link.role().other().direction();
        let pool = held.layout().directions[direction].pool;
        let index = (0..8).find(|index| held.read(pool + 8 * index) & 7 == 3).unwrap();
        for case in [
            Case(format!("0xff 9 {index} 10"), 7, 9),
            Case(format!("0x4 {id} 1 10 10 0 10 {}", 64 * index), 7, id),
        ] {
            refused(link, peer, &case);
        }
        assert_eq!(*first, bytes(60, 1), "nobody disturbed it");
    });
}

#[test]
fn a_connection_that_its_peer_had_closed() {
    let test = test!();
    for role in ROLES {
        let (link, mut peer) = test.link(role, OPTIONS);
        peer.send_command("conn-accept");
        let connection = link.open_connection().unwrap();
        peer.expect_ok();
        let id = connection.id();
        peer.ask(format!("conn-shutdown {id} write"));
        assert!(matches!(connection.recv(), Err(Error::Closed)));
        refused(&link, &mut peer, &Case(format!("0x4 {id} 1 0 0 0 0 {NONE}"), 6, id));
        // An OpError about a connection ends it, and names the code.
        let (link, mut peer) = test.link(role, OPTIONS);
        peer.send_command("conn-accept");
        let connection = link.open_connection().unwrap();
        peer.expect_ok();
        peer.ask(format!("push 0 {} 7 4", connection.id()));
        match connection.recv() {
            Err(Error::Refused { code: hqq::ErrorCode::BufferOverflow, what }) => {
                assert_eq!(what, "OpConnCopy");
            }
            other => panic!("{other:?}"),
        }
        assert!(connection.send(b"x").is_err());
        link.send(b"the link goes on").unwrap();
        peer.ask("recv");
    }
}

#[test]
fn an_answer_for_which_there_is_no_room() {
    let test = test!();
    for role in ROLES {
        let (link, mut peer) = test.link(role, OPTIONS);
        while link.try_send(&[1; 8]).is_ok() {}
        // Far more refusals than anybody keeps answers for.
        for _ in 0..200 {
            peer.ask("push 0x7e 5");
            assert!(matches!(link.try_recv(), Err(Error::RingEmpty)));
        }
        assert_eq!(link.stats().side(role).refused_with(hqq::ErrorCode::InvalidOp), 200);
        peer.ask("send 60 1");
        assert_eq!(*link.recv().unwrap(), bytes(60, 1), "the link goes on");
        // What was kept goes out as soon as there is room, and the peer survives it.
        for _ in 0..16 {
            assert_eq!(peer.ask("recv"), digest(&[1; 8]));
        }
        peer.send_command("recv");
        link.send(b"after").unwrap();
        assert_eq!(peer.expect_ok(), digest(b"after"));
        assert_eq!(peer.ask("wire-error"), "7e 6 5");
        let heard = link.stats().side(role.other()).errors_received_total();
        assert!((1..200).contains(&heard), "{heard}");
    }
}

#[test]
fn an_error_is_never_answered() {
    // Its codes are no codes.
    let test = test!(untraced);
    for role in ROLES {
        let (link, mut peer) = test.link(role, OPTIONS);
        for (order, code, op) in [
            ("push 0 5 6 0x7e", 6, 0x7e),
            ("push 0 5 0x99 0xff", 0x99, 0xff),
            ("push 0 5 max 0x4", u64::MAX, 4),
            // About a connection that is not there, and about another error.
            ("push 0 77 5 0x4", 5, 4),
            ("push 0 0 6 0", 6, 0),
        ] {
            peer.ask(order);
            peer.ask("send 10 1");
            assert_eq!(*link.recv().unwrap(), bytes(10, 1));
            let heard = link.wire_error().unwrap();
            assert_eq!((heard.code, heard.op), (code, op));
        }
        let stats = link.stats();
        assert_eq!(stats.side(role).errors_received_total(), 5);
        assert_eq!(stats.side(role).refused_total(), 0);
        assert_eq!(stats.sent_by(role).packets_sent, 0, "nothing was said to any of them");
        assert_eq!(peer.ask_error("try-recv"), "RingEmpty");
    }
}

#[test]
fn negotiation() {
    let test = test!();
    for role in ROLES {
        let (link, mut peer) = test.link(role, OPTIONS);
        // The same major version: an answer with the lower of the two. The peer, which never asked, refuses it.
        for (asked, answered) in [("0x105", "101"), ("0x101", "101"), ("0x100", "100")] {
            let before = Memory::of(&link).next(role.direction());
            peer.ask(format!("push 0x5 {asked} 2 4"));
            peer.ask("send 10 1");
            link.recv().unwrap();
            let memory = Memory::of(&link);
            let slot = memory.slot(role.direction(), before % 16);
            assert_eq!(memory.read(slot) & 0xFF, 6, "OpProtoAck");
            assert_eq!(format!("{:x}", memory.read(slot + 8)), answered);
            assert_eq!((memory.read(slot + 16), memory.read(slot + 24)), (0, 0), "no features");
            assert_eq!(peer.ask_error("try-recv"), "RingEmpty");
            peer.ask("send 10 2");
            link.recv().unwrap();
            assert_eq!(link.wire_error().unwrap().op, 6, "nobody asked");
        }
    }
}

#[test]
fn impossible_stamps_end_the_link() {
    let test = test!();
    for (number, (stamp, what)) in [
        (0u64, "zero, as a punched page reads"),
        (0x105, "state 5"),
        (0x1_0100, "a free slot with a holder"),
        (0x200, "claimed by nobody"),
        (7 << 25 | 0x100, "a lap far ahead"),
        (0x100 | 1 << 20, "a reserved bit"),
        (u64::MAX, "ones"),
    ]
    .into_iter()
    .enumerate()
    {
        let role = ROLES[number % 2];
        let (link, mut peer) = test.link(role, "slots=4 buffers=4 size=64");
        peer.send_command("conn-accept");
        let connection = link.open_connection().unwrap();
        peer.expect_ok();
        peer.ask("send 60 1");
        let message = link.recv().unwrap();
        let memory = Memory::of(&link);
        let direction = role.other().direction();
        let at = memory.slot(direction, memory.next(direction) % 4);
        peer.ask(format!("poke {at} {stamp}"));
        let corrupt = |result: Result<(), Error>| match result {
            // A lap ahead leads on to a slot that contradicts it.
            Err(Error::Corrupt { found, .. }) => assert_eq!(found == stamp, !what.contains("lap"), "{what}"),
            other => panic!("{what}: {other:?}"),
        };
        corrupt(link.recv_timeout(Duration::from_secs(5)).map(drop));
        // Nothing more is acted upon, and nothing hangs.
        corrupt(link.recv().map(drop));
        corrupt(link.try_recv().map(drop));
        corrupt(link.send(b"x"));
        corrupt(link.loan(64).map(drop));
        corrupt(link.open_connection().map(drop));
        corrupt(link.accept_connection().map(drop));
        corrupt(connection.recv().map(drop));
        corrupt(connection.send(b"x"));
        assert!(!link.is_open());
        assert_eq!(*message, bytes(60, 1), "what was held stays readable");
    }
}

#[test]
fn impossible_words_of_the_senders_side_end_the_link() {
    let test = test!();
    for role in ROLES {
        // A slot of our own ring, and a word of our own pool.
        for target in ["slot", "buffer"] {
            let (link, mut peer) = test.link(role, "slots=4 buffers=2 size=64");
            let memory = Memory::of(&link);
            let direction = role.direction();
            if target == "slot" {
                peer.ask(format!("poke {} 0x5", memory.slot(direction, 0)));
                assert!(matches!(link.send(b"x"), Err(Error::Corrupt { found: 5, .. })));
            } else {
                let pool = memory.layout().directions[direction].pool;
                peer.ask(format!("poke {pool} 0x6"));
                peer.ask(format!("poke {} 0x6", pool + 8));
                let lent = link.loan_timeout(64, Duration::from_secs(5)).map(drop);
                assert!(matches!(lent, Err(Error::Corrupt { found: 6, .. })), "{lent:?}");
            }
            assert!(matches!(link.send(b"x"), Err(Error::Corrupt { .. })));
            assert!(matches!(link.recv(), Err(Error::Corrupt { .. })));
        }
    }
}

#[test]
fn a_free_word_for_a_buffer_in_use_is_impossible() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Primary, "slots=8 buffers=2 size=64");
    let mut loan = link.loan(64).unwrap();
    loan.fill(3);
    let memory = Memory::of(&link);
    let pool = memory.layout().directions[0].pool;
    let index = (0..2).find(|index| memory.read(pool + 8 * index) & 7 == 2).unwrap();
    peer.ask(format!("poke {} 1", pool + 8 * index));
    // It must not be lent a second time while the first loan lives.
    let again = (0..2).map(|_| link.try_loan(64)).collect::<Vec<_>>();
    assert!(again.iter().any(|loan| matches!(loan, Err(Error::Corrupt { .. }))), "{again:?}");
    assert!(loan.iter().all(|byte| *byte == 3));
}

#[test]
fn what_the_superblock_says_later_is_of_no_importance() {
    let test = test!();
    for role in ROLES {
        let (link, mut peer) = test.link(role, "slots=4 buffers=4 size=64");
        // Magic, format, length, slots, buffers, size, stride, modes, ready, counters.
        for offset in [0u64, 8, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x58, 0x400, 0x500] {
            peer.ask(format!("poke {offset} 0x1000000000000001"));
        }
        for seed in 0..10 {
            link.send(&bytes(100, seed)).unwrap();
            assert_eq!(peer.ask("recv"), digest(&bytes(100, seed)));
            peer.ask(format!("send 60 {seed}"));
            assert_eq!(*link.recv().unwrap(), bytes(60, seed));
        }
        assert_eq!(link.geometry().slots(), 4);
    }
}
