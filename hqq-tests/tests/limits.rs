//! Limits: a full ring, an exhausted pool, a message that is too long, a timeout. Each returns its own error with numbers,
//! and nothing is lost.

use std::thread;
use std::time::{Duration, Instant};

use hqq::{Error, ErrorCode, Role};
use hqq_tests::pattern::{bytes, digest};
use hqq_tests::test;
use hqq_tests::test::{asleep, sleeps};

const SHORT: Duration = Duration::from_millis(40);

#[test]
fn a_full_ring() {
    let test = test!();
    for role in [Role::Primary, Role::Secondary] {
        let (link, mut peer) = test.link(role, "slots=4 buffers=8 size=64");
        for seed in 0..4 {
            link.try_send(&bytes(8, seed)).unwrap();
        }
        let full = |result| assert!(matches!(result, Err(Error::RingFull { slots: 4 })), "{result:?}");
        full(link.try_send(b"x"));
        // The pool has room, so a loan is to be had; it stays good when the ring is full.
        let mut loan = link.try_loan(60).unwrap();
        loan.copy_from_slice(&bytes(60, 4));
        let rejected = loan.try_send().unwrap_err();
        assert!(matches!(rejected.error, Error::RingFull { slots: 4 }));
        assert!(rejected.to_string().contains('4'));
        let began = Instant::now();
        let late = link.send_timeout(b"x", SHORT);
        assert!(matches!(late, Err(Error::Timeout { .. })), "{late:?}");
        let late = link.send_timeout(b"x", SHORT);
        assert!(matches!(late, Err(Error::Timeout { .. })), "{late:?}");
        assert!(began.elapsed() >= 2 * SHORT);
        assert!(link.stats().side(role).full_waits >= 2);
        // A sleeping sender goes on as soon as the peer receives.
        let before = sleeps(&link);
        thread::scope(|scope| {
            let sender = scope.spawn(|| link.send(&bytes(8, 5)));
            asleep(&link, before);
            assert_eq!(peer.ask("recv"), digest(&bytes(8, 0)));
            sender.join().unwrap().unwrap();
        });
        for seed in 1..4 {
            assert_eq!(peer.ask("recv"), digest(&bytes(8, seed)));
        }
        assert_eq!(peer.ask("recv"), digest(&bytes(8, 5)));
        rejected.loan.try_send().unwrap();
        assert_eq!(peer.ask("recv"), digest(&bytes(60, 4)));
        assert_eq!(peer.ask_error("try-recv"), "RingEmpty", "nothing came twice");
    }
}

#[test]
fn an_exhausted_pool() {
    let test = test!();
    for role in [Role::Primary, Role::Secondary] {
        let (link, mut peer) = test.link(role, "slots=16 buffers=4 size=64");
        for seed in 0..4 {
            link.try_send(&bytes(64, seed)).unwrap();
            assert_eq!(peer.ask("hold"), digest(&bytes(64, seed)));
        }
        match link.try_loan(64) {
            Err(Error::PoolExhausted { wanted: 1, free: 0 }) => {}
            other => panic!("{other:?}"),
        }
        assert!(matches!(link.try_send(&[0; 200]), Err(Error::PoolExhausted { wanted: 4, free: 0 })));
        assert!(matches!(link.loan_timeout(64, SHORT), Err(Error::Timeout { .. })));
        assert!(matches!(link.send_timeout(&[0; 64], SHORT), Err(Error::Timeout { .. })));
        assert!(link.stats().side(role).pool_waits >= 2);
        // What needs no buffer still goes.
        link.try_send(&[1; 48]).unwrap();
        peer.ask("recv");
        assert_eq!(link.stats().sent_by(role).buffers_held, 4);
        // A sleeping lender goes on as soon as the peer gives back; also one who wants them all.
        for len in [64, 256] {
            let before = sleeps(&link);
            thread::scope(|scope| {
                let lender = scope.spawn(|| link.loan(len).map(|loan| loan.len()));
                asleep(&link, before);
                peer.ask("release");
                assert_eq!(lender.join().unwrap().unwrap(), len);
            });
            if len == 64 {
                link.send(&bytes(64, 9)).unwrap();
                peer.ask("hold");
            }
        }
        assert_eq!(link.stats().sent_by(role).buffers_free, 4);
    }
}

#[test]
fn a_fragmented_pool() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Primary, "slots=16 buffers=4 size=64");
    let mut loans: Vec<_> = (0..4).map(|_| Some(link.try_loan(64).unwrap())).collect();
    // Two that do not touch.
    loans[0] = None;
    loans[2] = None;
    match link.try_loan(128) {
        Err(Error::PoolFragmented { wanted: 2, longest: 1 }) => {}
        other => panic!("{other:?}"),
    }
    assert!(matches!(link.try_loan(192), Err(Error::PoolExhausted { wanted: 3, free: 2 })));
    link.try_send(&bytes(64, 1)).unwrap();
    assert_eq!(peer.ask("recv"), digest(&bytes(64, 1)), "one is still one");
    // A thread of this process that waits for a run is woken by a loan that is dropped here.
    let before = sleeps(&link);
    thread::scope(|scope| {
        let lender = scope.spawn(|| link.loan(128).map(|loan| loan.len()));
        asleep(&link, before);
        loans.clear();
        assert_eq!(lender.join().unwrap().unwrap(), 128);
    });
}

#[test]
fn nothing_to_receive() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Secondary, "");
    assert!(matches!(link.try_recv(), Err(Error::RingEmpty)));
    let began = Instant::now();
    let late = link.recv_timeout(SHORT);
    assert!(matches!(late, Err(Error::Timeout { what, .. }) if what.starts_with("a message")), "{late:?}");
    assert!(matches!(link.recv_timeout(SHORT), Err(Error::Timeout { .. })));
    assert!(began.elapsed() >= 2 * SHORT);
    assert!(matches!(link.recv_timeout(Duration::ZERO), Err(Error::Timeout { .. })));
    assert!(matches!(link.accept_connection_timeout(SHORT), Err(Error::Timeout { .. })));
    let error = std::io::Error::from(link.recv_timeout(SHORT).unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    // What is there is received although the time is up, and with all the time in the world.
    peer.ask("send 10 1");
    assert_eq!(*link.recv_timeout(Duration::ZERO).unwrap(), bytes(10, 1));
    peer.ask("send 10 2");
    assert_eq!(*link.recv_timeout(Duration::MAX).unwrap(), bytes(10, 2));
}

#[test]
fn a_message_over_the_limit_of_either_end() {
    let mut test = test!();
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    // The limits are each end's own: the sender's stops it, the receiver's refuses.
    let options = test.options().max_message(1000);
    let listener = hqq::Listener::bind_with(&path, options).unwrap();
    let mut peer = test.peer();
    peer.send_command(format!("connect {path} max-message=2000"));
    let link = listener.accept().unwrap();
    peer.expect_ok();
    assert_eq!(link.max_message(), 1000);
    match link.send(&[0; 1001]) {
        Err(error @ Error::TooLarge { len: 1001, limit: 1000 }) => {
            assert_eq!(error.code(), Some(ErrorCode::BufferOverflow));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(link.loan(1001), Err(Error::TooLarge { len: 1001, limit: 1000 })));
    assert_eq!(peer.ask_error("send 2001 1"), "TooLarge { len: 2001, limit: 2000 }");
    peer.ask("send 1500 1");
    peer.ask("send 900 2");
    assert_eq!(*link.recv().unwrap(), bytes(900, 2), "the one before was refused");
    assert_eq!(link.stats().side(Role::Primary).refused_with(ErrorCode::MemorySmall), 1);
    assert_eq!(peer.ask_error("try-recv"), "RingEmpty");
    assert_eq!(peer.ask("wire-error"), "ff 3 1", "OpStandardLinkCopy, MemorySmall, the first copy");
}

#[test]
fn a_limit_below_what_a_slot_carries() {
    let test = test!(untraced);
    let name = test.link_name();
    let listener = hqq::Listener::bind_with(&name, test.options().max_message(20)).unwrap();
    let mut peer = test.peer();
    peer.send_command(format!("connect {name}"));
    let link = listener.accept().unwrap();
    peer.expect_ok();
    assert_eq!(link.max_message(), 20);
    let small =
        |link: &hqq::StandardLink| link.stats().side(Role::Primary).refused_with(ErrorCode::MemorySmall);
    // Straight from the ring, and sorted.
    for round in 0..2 {
        let over =
            |result| assert!(matches!(result, Err(Error::TooLarge { len: 21, limit: 20 })), "{result:?}");
        over(link.send(&[0; 21]));
        over(link.send_batch(&[&[0; 21]]).map(drop));
        over(link.loan(21).map(drop));
        link.send(&bytes(20, 1)).unwrap();
        assert_eq!(peer.ask("recv"), digest(&bytes(20, 1)));
        peer.ask("send 21 2");
        peer.ask("send 48 3");
        peer.ask("send 20 4");
        assert_eq!(*link.recv().unwrap(), bytes(20, 4), "those before were refused");
        assert_eq!(small(&link), 2 * (round + 1));
        peer.send_command("open");
        link.accept_connection().unwrap();
        peer.expect_ok();
    }
}
