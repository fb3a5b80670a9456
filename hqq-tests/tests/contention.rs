//! Waiting: no call waits longer than its time limit for a lock that another thread holds, no call waits for a message that
//! is already there, and clients that do nothing block nobody.

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hqq::{Error, ErrorCode, Listener, Options, RingMode, Role, StandardLink};
use hqq_sys::peer::uid;
use hqq_sys::sock::{self, Address};
use hqq_tests::patience::SOON;
use hqq_tests::pattern::{bytes, digest};
use hqq_tests::test::{asleep, sleeps};
use hqq_tests::{eventually, test};

const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];
const SHORT: Duration = Duration::from_millis(40);

#[test]
fn no_call_waits_longer_than_it_likes_for_another_threads_turn() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "slots=4 buffers=4 size=64");
    peer.send_command("conn-accept");
    let connection = link.open_connection().unwrap();
    peer.expect_ok();
    let late =
        |result: Result<(), Error>| assert!(matches!(result, Err(Error::Timeout { .. })), "{result:?}");
    thread::scope(|scope| {
        let before = sleeps(&link);
        let reader = scope.spawn(|| connection.recv_timeout(SOON));
        asleep(&link, before);
        assert!(matches!(connection.try_recv(), Err(Error::Busy)));
        late(connection.recv_timeout(SHORT).map(drop));
        assert!(!reader.is_finished(), "it kept its turn");
        peer.ask("conn-send 1 100 1");
        assert_eq!(reader.join().unwrap().unwrap(), bytes(100, 1));
    });
    thread::scope(|scope| {
        let before = sleeps(&link);
        let sender = scope.spawn(|| connection.send_timeout(&bytes(5000, 2), SOON));
        asleep(&link, before);
        late(connection.send_timeout(b"x", SHORT));
        assert!(!sender.is_finished(), "it kept its turn");
        assert_eq!(peer.ask("conn-recv 1"), digest(&bytes(5000, 2)));
        sender.join().unwrap().unwrap();
    });
    let name = test.link_name();
    let listener = Listener::bind(&name).unwrap();
    thread::scope(|scope| {
        let host = scope.spawn(|| listener.accept_timeout(SOON).map(drop));
        // Being greeted shows that somebody accepts.
        peer.ask(format!("sock-connect @hqq.{}.{name}", uid()));
        assert!(peer.ask("sock-recv").starts_with("20"));
        assert!(matches!(listener.try_accept(), Err(Error::NoneWaiting)));
        late(listener.accept_timeout(SHORT).map(drop));
        assert!(!host.is_finished(), "it kept its turn");
        StandardLink::connect(&name).unwrap();
        host.join().unwrap().unwrap();
    });
}

#[test]
fn readers_with_slices_of_two_sizes_share_a_connection() {
    const COUNT: usize = 200_000;
    let _test = test!(untraced);
    let (primary, secondary) = StandardLink::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let connection = secondary.open_connection().unwrap();
            for number in 0..COUNT {
                let len = [8, 64][number % 2];
                connection.send(&[len as u8; 64][..len]).unwrap();
            }
            connection.shutdown(Shutdown::Write);
            // Until the last reader lets go: chunks of a connection that is dropped are not read.
            assert!(matches!(connection.recv_timeout(SOON), Err(Error::Closed)));
        });
        let connection = primary.accept_connection().unwrap();
        let read = |size: usize| {
            let (mut into, mut count) = ([0; 64], 0);
            loop {
                match connection.recv_into(&mut into[..size]) {
                    Ok(len) => {
                        assert_eq!(into[..len], [len as u8; 64][..len]);
                        count += 1;
                    }
                    Err(Error::TooLarge { len: 64, limit: 8 }) => thread::yield_now(),
                    Err(Error::Closed) => return count,
                    Err(error) => panic!("{error:?}"),
                }
            }
        };
        let counts = thread::scope(|scope| {
            let readers = [8, 64, 8, 64, 8, 64].map(|size| scope.spawn(move || read(size)));
            readers.map(|reader| reader.join().unwrap())
        });
        assert_eq!(counts.iter().sum::<usize>(), COUNT);
        drop(connection);
    });
}

#[test]
fn a_batch_that_finds_no_run_hides_no_buffers_from_others() {
    const COUNT: usize = 4000;
    let _test = test!(untraced);
    let (primary, secondary) =
        StandardLink::pair_with(Options::new().slots(64).buffers(4).buffer_size(64)).unwrap();
    for _ in 0..4 {
        primary.send(&[1; 60]).unwrap();
    }
    // Two buffers that touch are free: enough for the one, not for the other.
    let mut kept: Vec<_> = (0..4).map(|_| secondary.recv().unwrap().detach()).collect();
    kept.drain(..2);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                primary.try_send(&[2; 180]).unwrap_err();
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _ = secondary.recv_timeout(SHORT);
            }
        });
        let began = Instant::now();
        let sent = (0..COUNT).try_for_each(|_| primary.send_timeout(&[3; 100], SOON));
        over.store(true, Ordering::Relaxed);
        sent.unwrap();
        assert!(began.elapsed() < SOON, "it slept beside free buffers until its time was up");
    });
}

#[test]
fn a_loan_sent_empty_gives_its_buffer_to_who_waits() {
    let test = test!(untraced);
    for role in ROLES {
        let (link, mut peer) = test.link(role, "slots=8 buffers=2 size=64");
        let _kept = link.loan(64).unwrap();
        let mut emptied = link.loan(64).unwrap();
        thread::scope(|scope| {
            let before = sleeps(&link);
            let lender = scope.spawn(|| link.loan_timeout(64, 2 * SOON).map(|loan| loan.len()));
            asleep(&link, before);
            emptied.truncate(0);
            emptied.send().unwrap();
            eventually("it wakes, and not because its time is up", || lender.is_finished());
            assert_eq!(lender.join().unwrap().unwrap(), 64);
        });
        assert_eq!(peer.ask("recv"), digest(&[]));
    }
}

#[test]
fn who_waits_to_send_sorts_what_the_peer_must_send_first() {
    const COUNT: u64 = 200;
    let test = test!(untraced);
    for role in ROLES {
        let (link, mut peer) = test.link(role, "slots=8 buffers=64 size=64");
        peer.send_command("conn-accept");
        let connection = link.open_connection().unwrap();
        let id = peer.expect_ok();
        thread::scope(|scope| {
            // More than the peer's inbox takes before it reads them; and it first has chunks to send, for which
            // the ring has no room until this end takes some.
            let sender =
                scope.spawn(|| (0..COUNT).try_for_each(|seed| link.send_timeout(&bytes(10, seed), SOON)));
            peer.ask(format!("conn-send {id} 2560 1"));
            for seed in 0..COUNT {
                assert_eq!(peer.ask("recv"), digest(&bytes(10, seed)));
            }
            sender.join().unwrap().unwrap();
        });
        assert_eq!(connection.recv().unwrap(), bytes(2560, 1));
    }
}

#[test]
fn every_request_for_a_connection_is_answered() {
    const COUNT: usize = 140;
    let _test = test!(untraced);
    let options = Options::new().slots(2).buffers(2).inbox(64).backlog(1);
    let (host, asker) = StandardLink::pair_with(options).unwrap();
    let none = |link: &StandardLink| {
        assert!(matches!(link.try_accept_connection(), Err(Error::NoneWaiting)));
    };
    // Messages that nobody reads fill the asker's inbox, then the ring: no answer has room.
    let mut plain = 0;
    while host.try_send(b"plain").is_ok() || {
        none(&asker);
        host.try_send(b"plain").is_ok()
    } {
        plain += 1;
    }
    assert_eq!(plain, 64 + 2);
    thread::scope(|scope| {
        let open = || asker.open_connection_timeout(SOON);
        let openers: Vec<_> = (0..COUNT).map(|_| scope.spawn(open)).collect();
        let refused = || host.stats().side(Role::Primary).refused_with(ErrorCode::ConnRefused);
        eventually("all but one are refused", || {
            assert!(matches!(host.try_recv(), Err(Error::RingEmpty)));
            refused() == COUNT as u64 - 1
        });
        for _ in 0..plain {
            assert_eq!(*asker.recv().unwrap(), *b"plain");
        }
        eventually("they hear of it", || {
            assert!(matches!(host.try_recv(), Err(Error::RingEmpty)));
            openers.iter().filter(|opener| opener.is_finished()).count() == COUNT - 1
        });
        let accepted = host.accept_connection().unwrap();
        let opened = openers.into_iter().filter_map(|opener| match opener.join().unwrap() {
            Ok(connection) => Some(connection.id()),
            Err(Error::Refused { code: ErrorCode::ConnRefused, .. }) => None,
            Err(error) => panic!("{error:?}"),
        });
        assert_eq!(opened.collect::<Vec<_>>(), [accepted.id()]);
    });
}

#[test]
fn a_good_message_behind_many_refused_ones_is_received() {
    let test = test!(untraced);
    let name = test.link_name();
    let options = Options::new().slots(1024).buffers(512).buffer_size(256).max_message(100);
    let listener = Listener::bind_with(&name, options).unwrap();
    let mut peer = test.peer();
    peer.send_command(format!("connect {name}"));
    let link = listener.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    // After long waits a call spins but briefly.
    for _ in 0..12 {
        assert!(matches!(link.recv_timeout(Duration::from_millis(1)), Err(Error::Timeout { .. })));
    }
    assert_eq!(peer.ask("fill 200 1"), "512");
    peer.ask("send 40 2");
    assert_eq!(*link.recv_timeout(SOON).unwrap(), bytes(40, 2));
    assert_eq!(link.stats().side(Role::Primary).refused_with(ErrorCode::MemorySmall), 512);
    assert_eq!(link.stats().sent_by(Role::Secondary).buffers_free, 512, "they have all gone home");
}

/// Connects to a listener and says nothing; `None` if its queue is full.
fn fall_silent(name: &str) -> Option<OwnedFd> {
    sock::connect(&Address::Abstract(format!("hqq.{}.{name}", uid()).into_bytes())).ok()
}

#[test]
fn callers_that_say_nothing_keep_nobody_out() {
    const SILENT: usize = 300;
    let test = test!(untraced);
    let name = test.link_name();
    // Longer than anybody here is ready to wait for them to be given up.
    let options = test.options().handshake_timeout(2 * SOON);
    let listener = Listener::bind_with(&name, options).unwrap();
    thread::scope(|scope| {
        let host = scope.spawn(|| listener.accept_timeout(SOON).map(drop));
        let mut silent = Vec::new();
        eventually("they all knock", || {
            silent.extend(std::iter::from_fn(|| fall_silent(&name)).take(SILENT - silent.len()));
            silent.len() == SILENT
        });
        StandardLink::connect_with_timeout(&name, test.options(), SOON).unwrap();
        host.join().unwrap().unwrap();
        // 256 at a time; those that had been silent for longest made room.
        assert_eq!(listener.refused(), SILENT as u64 + 1 - 256);
    });
}

#[test]
fn a_full_queue_of_callers_is_waited_for() {
    let test = test!(untraced);
    let name = test.link_name();
    let listener = Listener::bind(&name).unwrap();
    let mut silent = Vec::new();
    while let Some(socket) = fall_silent(&name) {
        silent.push(socket);
    }
    assert!(silent.len() >= 128);
    let options = Options::new().handshake_timeout(SHORT);
    match StandardLink::connect_with(&name, options) {
        Err(Error::Timeout { what: "a place in the listener's queue: it must accept", after }) => {
            assert!(after >= SHORT)
        }
        other => panic!("{other:?}"),
    }
    thread::scope(|scope| {
        let options = Options::new().handshake_timeout(SOON);
        let caller = scope.spawn(|| StandardLink::connect_with(&name, options));
        listener.accept_timeout(SOON).unwrap();
        caller.join().unwrap().unwrap();
    });
}

#[test]
fn a_caller_may_wait_for_ever() {
    let test = test!(untraced);
    let name = test.link_name();
    thread::scope(|scope| {
        let caller = scope.spawn(|| StandardLink::connect_timeout(&name, Duration::MAX));
        thread::sleep(SHORT);
        assert!(!caller.is_finished(), "nobody listens yet");
        let listener = Listener::bind(&name).unwrap();
        listener.accept_timeout(SOON).unwrap();
        caller.join().unwrap().unwrap();
    });
}

#[test]
fn answers_that_a_sending_half_carries_wake_their_receiver() {
    let test = test!(untraced);
    let name = test.link_name();
    let options =
        Options::new().slots(2).buffers(8).buffer_size(64).ring_mode(RingMode::Spsc).max_message(50);
    let listener = Listener::bind_with(&name, options).unwrap();
    let (primary, secondary) = thread::scope(|scope| {
        let connector = scope.spawn(|| StandardLink::connect_timeout(&name, SOON).unwrap());
        (listener.accept().unwrap(), connector.join().unwrap())
    });
    let ((sender, receiver), (strangers, heard)) = (primary.split().unwrap(), secondary.split().unwrap());
    // Four refusals, for which the ring has two slots; they go with what the sending half sends next.
    for _ in 0..4 {
        strangers.send_timeout(&[1; 60], SOON).unwrap();
        let _ = receiver.try_recv();
    }
    let waiting = thread::spawn(move || heard.recv_timeout(SOON).map(|message| message.to_vec()));
    // Asleep or not yet: either way it must be woken by the answers, and make room for the message.
    thread::sleep(Duration::from_millis(50));
    sender.send_timeout(b"x", SOON).unwrap();
    assert_eq!(waiting.join().unwrap().unwrap(), b"x");
}
