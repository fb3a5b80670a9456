//! Logical connections between two processes.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use hqq::{Connection, Error, ErrorCode, Role, StandardLink};
use hqq_tests::pattern::{bytes, digest};
use hqq_tests::test::{asleep, sleeps};
use hqq_tests::{Peer, eventually, test};

const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];
const SHORT: Duration = Duration::from_millis(50);

/// Opens a connection that the peer accepts.
fn open(link: &StandardLink, peer: &mut Peer) -> Connection {
    peer.send_command("conn-accept");
    let connection = link.open_connection().unwrap();
    assert_eq!(peer.expect_ok(), connection.id().to_string());
    connection
}

#[track_caller]
fn closed<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Closed)), "{result:?}");
}

#[test]
fn either_side_opens() {
    let test = test!();
    for role in ROLES {
        let (link, mut peer) = test.link(role, "");
        let ours = open(&link, &mut peer);
        peer.send_command("open");
        let theirs = link.accept_connection().unwrap();
        assert_eq!(peer.expect_ok(), theirs.id().to_string());
        let (odd, even) = if role == Role::Primary { (&ours, &theirs) } else { (&theirs, &ours) };
        assert_eq!((odd.id(), even.id()), (1, 2));
        for (connection, seed) in [(&ours, 1), (&theirs, 2)] {
            let id = connection.id();
            connection.send(&bytes(100, seed)).unwrap();
            assert_eq!(peer.ask(format!("conn-recv {id}")), digest(&bytes(100, seed)));
            peer.ask(format!("conn-send {id} 100 {}", seed + 10));
            assert_eq!(connection.recv().unwrap(), bytes(100, seed + 10));
        }
        // Both process and link are at rest: nothing waits anywhere.
        assert!(matches!(link.try_accept_connection(), Err(Error::NoneWaiting)));
        assert!(matches!(ours.try_recv(), Err(Error::RingEmpty)));
        assert!(matches!(ours.recv_timeout(SHORT), Err(Error::Timeout { .. })));
        drop((ours, theirs));
        assert_eq!(peer.ask_error("conn-recv 1"), "Closed");
        assert_eq!(peer.ask_error("conn-send 2 10 1"), "Closed");
        peer.quit();
    }
}

#[test]
fn every_length() {
    let test = test!();
    for role in ROLES {
        let (link, mut peer) = test.link(role, "slots=16 buffers=8 size=256");
        let connection = open(&link, &mut peer);
        let id = connection.id();
        // Also far more than the pool holds: such a message goes in chunks.
        for len in [0, 1, 48, 49, 255, 256, 257, 2048, 2049, 100_000] {
            peer.send_command(format!("conn-recv {id}"));
            connection.send(&bytes(len, 1)).unwrap();
            assert_eq!(peer.expect_ok(), digest(&bytes(len, 1)));
            peer.send_command(format!("conn-send {id} {len} 2"));
            assert!(connection.recv().unwrap() == bytes(len, 2), "{len}");
            peer.expect_ok();
        }
        peer.ask(format!("conn-send {id} 300 3"));
        let mut into = [0; 300];
        match connection.recv_into(&mut into[..299]) {
            Err(Error::TooLarge { len: 300, limit: 299 }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(connection.recv_into(&mut into).unwrap(), 300);
        assert_eq!(into[..], bytes(300, 3));
        for direction in link.stats().directions {
            assert_eq!((direction.in_flight, direction.buffers_free), (0, 8));
        }
    }
}

#[test]
fn sixty_four_at_once() {
    const COUNT: usize = 64;
    let test = test!();
    for role in ROLES {
        let (link, mut peer) = test.link(role, "slots=64 buffers=32 size=1024");
        peer.send_command(format!("serve {COUNT}"));
        let connections: Vec<_> = (0..COUNT).map(|_| link.open_connection().unwrap()).collect();
        thread::scope(|scope| {
            for (number, connection) in connections.iter().enumerate() {
                scope.spawn(move || {
                    for round in 0..12 {
                        // Short ones, and on some connections one larger than the pool.
                        let len = match (number % 8, round) {
                            (0, 6) => 50_000,
                            _ => (number * 13 + round * 97) % 1500,
                        };
                        let message = bytes(len, (number * 100 + round) as u64);
                        connection.send(&message).unwrap();
                        assert!(connection.recv().unwrap() == message, "{number} {round}");
                    }
                });
            }
            // The link's own messages pass through the same ring.
            for seed in 0..20 {
                link.send(&bytes(200, seed)).unwrap();
            }
        });
        drop(connections);
        peer.expect_ok();
        for seed in 0..20 {
            assert_eq!(peer.ask("recv"), digest(&bytes(200, seed)));
        }
        eventually("all is given back", || {
            let _ = link.try_recv();
            link.stats().directions.iter().all(|direction| direction.buffers_free == 32)
        });
        for side in link.stats().sides {
            assert_eq!(side.refused_total(), 0);
        }
    }
}

#[test]
fn streams_and_half_closes() {
    const TOTAL: usize = 1 << 20;
    let test = test!();
    for role in ROLES {
        let (link, mut peer) = test.link(role, "slots=32 buffers=16 size=1024");
        let mut connection = open(&link, &mut peer);
        let id = connection.id();
        peer.ask(format!("bg conn-read {id}"));
        for piece in bytes(TOTAL, 1).chunks(9001) {
            connection.write_all(piece).unwrap();
        }
        connection.shutdown(Shutdown::Write);
        assert_eq!(peer.ask("join"), digest(&bytes(TOTAL, 1)));
        closed(connection.send(b"no more"));
        // The other half is whole.
        peer.ask(format!("bg conn-write {id} {TOTAL} 2"));
        let mut all = vec![0; TOTAL];
        connection.read_exact(&mut all).unwrap();
        assert!(all == bytes(TOTAL, 2));
        peer.ask("join");
        connection.shutdown(Shutdown::Read);
        peer.ask_error("try-recv");
        assert_eq!(peer.ask_error(format!("conn-send {id} 10 1")), "Closed");
        closed(connection.recv());
        assert_eq!(connection.read(&mut [0; 4]).unwrap(), 0);
        // The link has not noticed.
        let other = open(&link, &mut peer);
        other.send(&bytes(10, 3)).unwrap();
        assert_eq!(peer.ask(format!("conn-recv {}", other.id())), digest(&bytes(10, 3)));
    }
}

#[test]
fn what_was_sent_before_a_close_arrives() {
    let test = test!();
    for role in ROLES {
        for how in ["conn-shutdown ID both", "conn-shutdown ID write", "conn-drop ID"] {
            let (link, mut peer) = test.link(role, "");
            let connection = open(&link, &mut peer);
            let id = connection.id().to_string();
            for seed in 0..5 {
                peer.ask(format!("conn-send {id} 500 {seed}"));
            }
            peer.ask(how.replace("ID", &id));
            for seed in 0..5 {
                assert_eq!(connection.recv().unwrap(), bytes(500, seed));
            }
            closed(connection.recv());
            if how.ends_with("write") {
                connection.send(b"still open").unwrap();
            } else {
                closed(connection.send(b"closed"));
            }
        }
    }
}

#[test]
fn a_message_cut_short() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Primary, "slots=8 buffers=8 size=64");
    let connection = open(&link, &mut peer);
    // Its sender gives up in the middle, because nobody reads.
    assert!(peer.ask_error("conn-send-for 1 50 5000 1").starts_with("Timeout"));
    // Its word of that waits for room, and goes out in whatever it does next.
    peer.send_command("conn-recv 1");
    let cut = connection.recv();
    match cut {
        Err(Error::Cut { received, size: 5000 }) => {
            assert!(received > 0 && received < 5000 && received % 64 == 0)
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(std::io::Error::from(cut.unwrap_err()).kind(), std::io::ErrorKind::UnexpectedEof);
    connection.send(&bytes(100, 2)).unwrap();
    assert_eq!(peer.expect_ok(), digest(&bytes(100, 2)), "the other half is whole");
    assert_eq!(peer.ask_error("conn-send 1 10 1"), "Closed");
}

#[test]
fn a_full_inbox_stops_the_link_until_it_is_read() {
    let test = test!();
    for role in ROLES {
        let (link, mut peer) = test.link(role, "inbox=2");
        let (idle, busy) = (open(&link, &mut peer), open(&link, &mut peer));
        for seed in 0..5 {
            peer.ask(format!("conn-send {} 100 {seed}", idle.id()));
        }
        peer.ask(format!("conn-send {} 100 50", busy.id()));
        peer.ask("send 100 60");
        // Two chunks are in the inbox, the third has no room, and nothing overtakes it.
        assert!(matches!(busy.recv_timeout(SHORT), Err(Error::Timeout { .. })));
        assert!(matches!(link.recv_timeout(SHORT), Err(Error::Timeout { .. })));
        // Who waits behind it goes on as soon as its owner reads.
        let before = sleeps(&link);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| busy.recv());
            asleep(&link, before);
            for seed in 0..5 {
                assert_eq!(idle.recv().unwrap(), bytes(100, seed));
            }
            assert_eq!(waiting.join().unwrap().unwrap(), bytes(100, 50));
        });
        assert_eq!(*link.recv().unwrap(), bytes(100, 60));
        // The same when it is dropped instead.
        for seed in 0..5 {
            peer.ask(format!("conn-send {} 100 {seed}", idle.id()));
        }
        peer.ask(format!("conn-send {} 100 70", busy.id()));
        assert!(matches!(busy.recv_timeout(SHORT), Err(Error::Timeout { .. })));
        drop(idle);
        assert_eq!(busy.recv().unwrap(), bytes(100, 70));
        eventually("what nobody reads goes home", || {
            let _ = link.try_recv();
            link.stats().directions.iter().all(|direction| direction.buffers_free == 64)
        });
    }
}

#[test]
fn full_rings_do_not_stop_replies() {
    let test = test!();
    for role in ROLES {
        let (link, mut peer) = test.link(role, "slots=8 buffers=8 size=64");
        for seed in 0..8 {
            link.try_send(&bytes(10, seed)).unwrap();
        }
        assert_eq!(peer.ask("fill 10 100"), "8");
        // Both rings are full. Now both open and both accept; each needs an answer through a full ring.
        peer.ask("bg open");
        peer.ask("bg conn-accept");
        let (opened, accepted) = thread::scope(|scope| {
            let opening = scope.spawn(|| link.open_connection());
            let accepted = link.accept_connection().unwrap();
            (opening.join().unwrap().unwrap(), accepted)
        });
        assert_eq!(peer.ask("join"), accepted.id().to_string());
        assert_eq!(peer.ask("join"), opened.id().to_string());
        // Nothing was lost, and all is in order, on the link and on the connections.
        for seed in 0..8 {
            assert_eq!(*link.recv().unwrap(), bytes(10, seed + 100));
            assert_eq!(peer.ask("recv"), digest(&bytes(10, seed)));
        }
        for connection in [opened, accepted] {
            connection.send(&bytes(300, 1)).unwrap();
            assert_eq!(peer.ask(format!("conn-recv {}", connection.id())), digest(&bytes(300, 1)));
        }
    }
}

#[test]
fn two_processes_that_only_send_do_not_wait_for_ever() {
    const LEN: usize = 3000;
    let test = test!();
    for role in ROLES {
        // Buffers for all of it, slots for a small part.
        let (link, mut peer) = test.link(role, "slots=4 buffers=64 size=64");
        let connection = open(&link, &mut peer);
        let id = connection.id();
        // Each sends before it receives, on one thread: who waits for room sorts what comes.
        peer.send_command(format!("conn-swap {id} {LEN} 1"));
        connection.send(&bytes(LEN, 2)).unwrap();
        assert!(connection.recv().unwrap() == bytes(LEN, 1));
        assert_eq!(peer.expect_ok(), digest(&bytes(LEN, 2)));
    }
}

#[test]
fn refused_for_want_of_room() {
    let test = test!();
    for role in ROLES {
        // The peer's backlog.
        let (link, mut peer) = test.link(role, "backlog=1");
        peer.ask("bg open");
        eventually("it asks", || link.stats().sent_by(link.role().other()).packets_sent == 1);
        peer.ask("bg open");
        eventually("it asks again", || link.stats().sent_by(link.role().other()).packets_sent == 2);
        let first = link.accept_connection().unwrap();
        let answers = [peer.ask_any("join"), peer.ask_any("join")];
        assert!(answers.contains(&format!("ok {}", first.id())), "{answers:?}");
        let refused = "error Refused { what: \"the connection\", code: ConnRefused }";
        assert!(answers.iter().any(|answer| answer == refused), "{answers:?}");
        // Its own limit, which it knows beforehand.
        let (link, mut peer) = test.link(role, "connections=2");
        let both = (open(&link, &mut peer), open(&link, &mut peer));
        match link.open_connection() {
            Err(Error::TooMany { open: 2, limit: 2 }) => {}
            other => panic!("{other:?}"),
        }
        drop(both);
        eventually("there is room again", || match link.open_connection_timeout(SHORT) {
            Err(Error::TooMany { .. }) => false,
            Err(Error::Timeout { .. } | Error::Refused { .. }) => true,
            other => panic!("{other:?}"),
        });
    }
}

#[test]
fn refused_by_the_peers_table() {
    let mut test = test!();
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let listener = hqq::Listener::bind_with(&path, test.options()).unwrap();
    let mut peer = test.peer();
    peer.send_command(format!("connect {path} connections=1"));
    let link = listener.accept().unwrap();
    peer.expect_ok();
    let one = open(&link, &mut peer);
    thread::scope(|scope| {
        let second = scope.spawn(|| link.open_connection());
        assert!(peer.ask_error("recv-for 200").starts_with("Timeout"), "it sorts while it waits");
        match second.join().unwrap() {
            Err(error @ Error::Refused { code: ErrorCode::ConnRefused, .. }) => {
                assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::ConnectionRefused);
            }
            other => panic!("{other:?}"),
        }
    });
    one.send(&bytes(10, 1)).unwrap();
    assert_eq!(peer.ask("conn-recv 1"), digest(&bytes(10, 1)));
}

#[test]
fn an_opener_that_gives_up_leaves_nothing_behind() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Secondary, "");
    for _ in 0..5 {
        assert!(matches!(
            link.open_connection_timeout(Duration::from_millis(10)),
            Err(Error::Timeout { .. })
        ));
    }
    assert_eq!(peer.ask_error("try-conn-accept"), "NoneWaiting", "the offers were taken back");
    let connection = open(&link, &mut peer);
    connection.send(&bytes(10, 1)).unwrap();
    assert_eq!(peer.ask(format!("conn-recv {}", connection.id())), digest(&bytes(10, 1)));
}
