//! Flow control, classes and rates of connections between two processes.

use std::thread;
use std::time::{Duration, Instant};

use hqq::Connection;
use hqq::agreement::Features;
use hqq::features::qos::{Class, QosError, Rate, TrafficClass};
use hqq::shm::packet::op;
use hqq::{AdvancedLink, Error, ErrorCode, Role};
use hqq_tests::agree::{message, wanted};
use hqq_tests::patience::SOON;
use hqq_tests::pattern::digest;
use hqq_tests::{Peer, eventually, test};

const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];
const SHORT: Duration = Duration::from_millis(30);

/// Agrees on what the words say.
fn agree(link: hqq::StandardLink, peer: &mut Peer, words: &str) -> AdvancedLink {
    peer.send_command(format!("bg agree wait 30000 {words}"));
    peer.expect_ok();
    let link = AdvancedLink::negotiate(link, &wanted(words.split_whitespace()), SOON).unwrap();
    peer.ask("join");
    link
}

/// Opens a connection that the peer accepts.
fn open(link: &AdvancedLink, peer: &mut Peer) -> Connection {
    peer.send_command("adv-accept");
    let connection = link.open_connection().unwrap();
    assert_eq!(peer.expect_ok(), connection.id().to_string());
    connection
}

/// Sends until no more goes; how many went.
fn fill(connection: &Connection, len: usize) -> u64 {
    for sent in 0.. {
        match connection.send_timeout(&message("noise", len, sent), SHORT) {
            Ok(()) => {}
            Err(Error::Timeout { .. }) => return sent,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!()
}

/// However many connections have readers that stay away, another one goes on: each is stopped at its window, though their
/// windows are together more than the pool has.
#[test]
fn slow_readers_stop_nobody_else() {
    const STUCK: u64 = 9;
    const ROUNDS: u64 = 40;
    let test = test!(untraced);
    for role in ROLES {
        for (words, features) in [("window=8", 8), ("window=8 qos", 40), ("window=8 codecs=lz4 key=3", 14)] {
            let (link, mut peer) = test.link(role, "slots=32 buffers=16 size=512");
            let link = agree(link, &mut peer, words);
            assert_eq!(link.agreement().features, Features::from_bits_retain(features));
            assert_eq!(link.agreement().terms.window, 8);
            let alive = open(&link, &mut peer);
            let stuck: Vec<_> = (0..STUCK).map(|_| open(&link, &mut peer)).collect();
            peer.send_command(format!("bg adv-conn-drain {} {}", alive.id(), STUCK * ROUNDS));
            peer.expect_ok();
            for connection in &stuck {
                assert_eq!(fill(connection, 400), 8);
                (0..ROUNDS).for_each(|round| alive.send(&message("noise", 400, round)).unwrap());
            }
            assert_eq!(peer.ask("join"), (STUCK * ROUNDS * 400).to_string());
            let congestion = stuck[0].congestion().unwrap();
            assert_eq!((congestion.queued, congestion.credit), (0, 0));
            assert!(congestion.stalls == 1 && congestion.blocked >= SHORT / 2, "{congestion:?}");
            // What was held up comes, in order.
            for connection in &stuck {
                for seed in 0..8 {
                    let sent = message("noise", 400, seed);
                    assert_eq!(peer.ask(format!("adv-conn-recv {}", connection.id())), digest(&sent));
                }
                connection.send(b"more").unwrap();
                assert_eq!(peer.ask(format!("adv-conn-recv {}", connection.id())), digest(b"more"));
            }
            drop((alive, stuck));
            peer.quit();
        }
    }
}

/// Without flow control a full inbox stops the link: that this test can tell the difference.
#[test]
fn without_credit_a_slow_reader_stops_the_link() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "slots=32 buffers=16 size=512");
    let link = agree(link, &mut peer, "qos");
    let (alive, stuck) = (open(&link, &mut peer), open(&link, &mut peer));
    fill(&stuck, 400);
    assert!(alive.congestion().is_none());
    assert!(matches!(alive.send_timeout(b"x", SHORT), Err(Error::Timeout { .. })));
}

/// Messages far longer than window and pool, both ways at once, on many connections.
#[test]
fn long_messages_pass_through_small_windows() {
    let test = test!(untraced);
    for words in ["window=2", "window=3 qos", "window=64 qos codecs=zstd key=1"] {
        let (link, mut peer) = test.link(Role::Primary, "slots=16 buffers=8 size=256");
        let link = agree(link, &mut peer, words);
        let connections: Vec<_> = (0..4).map(|_| open(&link, &mut peer)).collect();
        thread::scope(|scope| {
            for (seed, connection) in (0..).zip(&connections) {
                peer.send_command(format!("bg adv-conn-recv {}", connection.id()));
                peer.expect_ok();
                scope.spawn(move || connection.send(&message("noise", 30_000, seed)).unwrap());
            }
            for seed in 0..4 {
                assert_eq!(peer.ask("join"), digest(&message("noise", 30_000, seed)));
            }
        });
        for (seed, connection) in (0..).zip(&connections) {
            peer.send_command(format!("bg adv-conn-send {} text 30000 {seed}", connection.id()));
            peer.expect_ok();
        }
        for (seed, connection) in (0..).zip(&connections) {
            assert!(connection.recv().unwrap() == message("text", 30_000, seed));
            peer.ask("join");
        }
        drop(connections);
        peer.quit();
    }
}

/// However long a sealed message is under way, and whatever passes it on others: its reader knows that it is no copy.
#[test]
fn what_is_long_under_way_can_still_be_opened() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "slots=16 buffers=8 size=256");
    let link = agree(link, &mut peer, "window=4 key=3");
    let (slow, fast) = (open(&link, &mut peer), open(&link, &mut peer));
    thread::scope(|scope| {
        scope.spawn(|| slow.send(&message("noise", 5000, 1)).unwrap());
        peer.send_command(format!("bg adv-conn-drain {} 6000", fast.id()));
        peer.expect_ok();
        (0..6000).for_each(|seed| fast.send(&message("noise", 20, seed)).unwrap());
        assert_eq!(peer.ask("join"), "120000");
        assert_eq!(peer.ask(format!("adv-conn-recv {}", slow.id())), digest(&message("noise", 5000, 1)));
    });
}

/// What a reader has not read when it drops its end keeps no buffers and no credit.
#[test]
fn dropped_connections_leave_nothing_behind() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "slots=32 buffers=8 size=256");
    let link = agree(link, &mut peer, "window=20");
    // Whoever waits at the other end takes what comes for all.
    let alive = open(&link, &mut peer);
    peer.send_command(format!("bg adv-conn-recv {}", alive.id()));
    peer.expect_ok();
    for _ in 0..10 {
        let connection = open(&link, &mut peer);
        assert_eq!(fill(&connection, 200), 20);
        peer.ask(format!("adv-conn-drop {}", connection.id()));
        eventually("the close comes", || {
            connection.send_timeout(b"", SHORT).is_err_and(|error| error.is_end())
        });
    }
    alive.send(b"last").unwrap();
    assert_eq!(peer.ask("join"), digest(b"last"));
    eventually("all buffers are home", || link.stats().sent_by(Role::Primary).buffers_free == 8);
}

/// Credit comes while a sender sleeps, and only then its rate holds it up: it goes on when that allows it.
#[test]
fn a_rate_is_noticed_by_a_sender_that_sleeps() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "slots=32 buffers=8 size=1024");
    let link = agree(link, &mut peer, "window=2 qos");
    let connection = open(&link, &mut peer);
    let rate = Some(Rate { bytes_per_second: 2000, burst: 1088 });
    connection.set_traffic_class(TrafficClass { rate, ..TrafficClass::default() }).unwrap();
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for (len, seed) in [(1, 1), (1, 2), (1024, 3)] {
                connection.send(&message("noise", len, seed)).unwrap();
            }
        });
        // All credit is out: the sender sleeps before the peer reads.
        eventually("the sender sleeps", || link.stats().side(Role::Primary).sleeps > 0);
        for (len, seed) in [(1, 1), (1, 2), (1024, 3)] {
            assert_eq!(
                peer.ask(format!("adv-conn-recv {}", connection.id())),
                digest(&message("noise", len, seed))
            );
        }
        sender.join().unwrap();
    });
}

/// A sender that a rate holds up, and behind it one without credit, see the peer's death.
#[test]
fn who_waits_for_a_rate_sees_a_death() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "slots=32 buffers=8 size=1024");
    let link = agree(link, &mut peer, "window=2 qos");
    let (rated, starving) = (open(&link, &mut peer), open(&link, &mut peer));
    let rate = Some(Rate { bytes_per_second: 1, burst: 1088 });
    rated.set_traffic_class(TrafficClass { rate, ..TrafficClass::default() }).unwrap();
    rated.send(&[0; 1024]).unwrap();
    assert!(matches!(rated.send_timeout(&[0; 10], SHORT), Err(Error::Timeout { .. })));
    thread::scope(|scope| {
        let waits = [&rated, &starving].map(|connection| {
            scope.spawn(move || {
                loop {
                    if let Err(error) = connection.send(&[0; 10]) {
                        return error;
                    }
                }
            })
        });
        eventually("the senders sleep", || link.stats().side(Role::Primary).sleeps > 1);
        peer.kill();
        for wait in waits {
            assert!(matches!(wait.join().unwrap(), Error::PeerDead));
        }
    });
}

#[test]
fn a_window_overrun_is_refused_and_counted() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Secondary, "slots=32 buffers=16 size=256");
    let link = agree(link, &mut peer, "window=2");
    let connection = open(&link, &mut peer);
    let id = connection.id();
    // An empty chunk a packet: conn, copy, sizes, offset; then no buffer.
    for copy in 1..=3 {
        peer.ask(format!("push {} {id} {copy} 0 0 0 0 max", op::CONN_COPY));
    }
    // Whoever waits for something else takes all that has come, before anybody has read what would make room.
    let other = open(&link, &mut peer);
    for _ in 0..2 {
        assert_eq!(connection.recv().unwrap(), b"");
    }
    assert!(matches!(connection.recv_timeout(SHORT), Err(Error::Timeout { .. })));
    assert_eq!(link.stats().side(Role::Secondary).refused_with(ErrorCode::Overrun), 1);
    // Credit that cannot be: less than before, and more than a window beyond what was sent.
    for total in ["0", "max", "100"] {
        peer.ask(format!("push {} {id} {total}", op::CREDIT));
    }
    eventually("they are refused", || {
        let _ = connection.try_recv();
        link.stats().side(Role::Secondary).refused_with(ErrorCode::Overrun) == 4
    });
    assert_eq!(connection.congestion().unwrap().faults, 3);
    other.send(b"goes on").unwrap();
    assert_eq!(peer.ask(format!("adv-conn-recv {}", other.id())), digest(b"goes on"));
}

#[test]
fn what_was_not_agreed_is_refused() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "");
    let link = agree(link, &mut peer, "capabilities=8");
    let connection = open(&link, &mut peer);
    assert!(connection.congestion().is_none());
    assert!(matches!(connection.set_traffic_class(TrafficClass::default()), Err(Error::Unsupported { .. })));
    peer.ask(format!("push {} {} 100", op::CREDIT, connection.id()));
    peer.ask(format!("push {} {} 0 1", op::SHARE, connection.id()));
    peer.ask(format!("push {} 1", op::PROBE));
    peer.ask(format!("push {} 1 1 1", op::START));
    eventually("all are refused", || {
        let _ = connection.try_recv();
        link.stats().side(Role::Primary).refused_with(ErrorCode::InvalidOp) == 4
    });
    connection.send(b"as ever").unwrap();
    assert_eq!(peer.ask(format!("adv-conn-recv {}", connection.id())), digest(b"as ever"));
}

#[test]
fn shares_travel_and_bad_ones_are_named() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "slots=32 buffers=8 size=1024");
    let link = agree(link, &mut peer, "qos");
    let connection = open(&link, &mut peer);
    let id = connection.id();
    connection.set_traffic_class(TrafficClass { class: Class::BULK, weight: 3, rate: None }).unwrap();
    connection.send(b"behind it").unwrap();
    assert_eq!(peer.ask(format!("adv-conn-recv {id}")), digest(b"behind it"));
    assert_eq!(peer.ask(format!("adv-conn-share {id}")), "7 3");
    assert_eq!(Class::new(8), Err(QosError::ClassOutOfRange { class: 8, most: 7 }));
    let rate = |bytes_per_second, burst| Some(Rate { bytes_per_second, burst });
    for (weight, rate, word) in [
        (0, None, "weight of 0"),
        (1, rate(0, 5000), "rate of 0"),
        (1, rate(1000, 1087), "1088"),
        (1, rate(1000, u64::MAX), "burst"),
    ] {
        match connection.set_traffic_class(TrafficClass { weight, rate, ..TrafficClass::default() }) {
            Err(Error::TrafficClass { reason }) => assert!(reason.contains(word), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(connection.traffic_class().weight, 3, "what was refused changes nothing");
    for (class, weight, code) in [(8, 1, ErrorCode::InvalidSize), (0, 0, ErrorCode::InvalidSize)] {
        let before = link.stats().side(Role::Primary).refused_with(code);
        peer.ask(format!("push {} {id} {class} {weight}", op::SHARE));
        eventually("it is refused", || {
            let _ = connection.try_recv();
            link.stats().side(Role::Primary).refused_with(code) == before + 1
        });
    }
    peer.ask(format!("push {} 99 1 1", op::SHARE));
    eventually("it is refused", || {
        let _ = connection.try_recv();
        link.stats().side(Role::Primary).refused_with(ErrorCode::ConnNotFound) == 1
    });
}

/// A rate is kept over any long time, and holds up nobody else.
#[test]
fn rates_are_kept() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "slots=64 buffers=32 size=1024");
    let link = agree(link, &mut peer, "qos window=16");
    let (slow, free) = (open(&link, &mut peer), open(&link, &mut peer));
    let rate = Rate { bytes_per_second: 400_000, burst: 2 * 1088 };
    slow.set_traffic_class(TrafficClass { rate: Some(rate), ..TrafficClass::default() }).unwrap();
    const COUNT: u64 = 100;
    peer.send_command(format!("bg adv-conn-drain {} {COUNT}", slow.id()));
    peer.expect_ok();
    peer.send_command(format!("bg adv-conn-drain {} 2000", free.id()));
    peer.expect_ok();
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| (0..2000).for_each(|seed| free.send(&message("noise", 1024, seed)).unwrap()));
        (0..COUNT).for_each(|seed| slow.send(&message("noise", 1024, seed)).unwrap());
    });
    let least = Duration::from_secs_f64(((COUNT - 2) * 1088) as f64 / 400_000.0);
    assert!(began.elapsed() >= least.mul_f64(0.99), "{:?} of {least:?}", began.elapsed());
    assert_eq!(peer.ask("join"), (COUNT * 1024).to_string());
    assert_eq!(peer.ask("join"), (2000 * 1024).to_string());
}
