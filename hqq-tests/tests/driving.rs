//! Links in an event loop: one thread sleeps in one `poll` for many links.

use std::os::fd::AsFd;

use hqq::{Error, Options, RingMode, Role, StandardLink, WaitMode};
use hqq_sys::poll;
use hqq_tests::patience::SOON;
use hqq_tests::pattern::bytes;
use hqq_tests::test;

/// Drives the links until one has news; which.
fn next(links: &[&StandardLink]) -> usize {
    loop {
        if let Some(index) = links.iter().position(|link| link.drive().unwrap()) {
            return index;
        }
        let fds: Vec<_> = links.iter().map(|link| link.as_fd()).collect();
        let ready = poll::many(&fds, Some(SOON)).unwrap();
        assert!(ready.contains(&true), "nobody rang");
    }
}

#[test]
fn one_thread_hears_every_link_and_every_end() {
    let test = test!(untraced);
    let (first, mut one) = test.link(Role::Primary, "");
    let (second, mut two) = test.link(Role::Secondary, "");
    let links = [&first, &second];
    for round in 0..50 {
        let (peer, from) = if round % 2 == 0 { (&mut one, 0) } else { (&mut two, 1) };
        // Not there yet, as a rule, when the links are looked at.
        peer.send_command(format!("send 100 {round}"));
        assert_eq!(next(&links), from);
        peer.expect_ok();
        assert_eq!(*links[from].try_recv().unwrap(), bytes(100, round));
        assert!(matches!(links[from].try_recv(), Err(Error::RingEmpty)));
    }
    one.kill();
    assert_eq!(next(&links), 0);
    assert!(matches!(first.try_recv(), Err(Error::PeerDead)));
    two.quit();
    assert_eq!(next(&links[1..]), 0);
    assert!(matches!(second.try_recv(), Err(Error::Closed)));
}

#[test]
fn connections_are_news() {
    let (primary, secondary) = StandardLink::pair().unwrap();
    std::thread::scope(|scope| {
        let opener = scope.spawn(|| {
            let connection = primary.open_connection().unwrap();
            connection.send(&[7; 1000]).unwrap();
            connection.recv().unwrap()
        });
        assert_eq!(next(&[&secondary]), 0);
        let connection = secondary.try_accept_connection().unwrap();
        let message = loop {
            match connection.try_recv() {
                Ok(message) => break message,
                Err(Error::RingEmpty) => assert_eq!(next(&[&secondary]), 0),
                Err(error) => panic!("{error}"),
            }
        };
        connection.send(&message).unwrap();
        assert_eq!(opener.join().unwrap(), [7; 1000]);
    });
}

#[test]
fn a_link_on_which_nobody_rings_says_so() {
    let (primary, _secondary) = StandardLink::pair_with(Options::new().wait_mode(WaitMode::Spin)).unwrap();
    assert!(matches!(primary.drive(), Err(Error::Unsupported { .. })));
}

#[test]
fn what_an_earlier_receive_has_sorted_is_news() {
    for mode in [RingMode::Mpmc, RingMode::Spsc, RingMode::Mpsc, RingMode::Spmc] {
        let (primary, secondary) = StandardLink::pair_with(Options::new().ring_mode(mode)).unwrap();
        for _ in 0..3 {
            primary.send(b"x").unwrap();
        }
        secondary.recv().unwrap();
        for _ in 0..2 {
            assert!(secondary.drive().unwrap(), "{mode:?}");
            secondary.try_recv().unwrap();
        }
        assert!(!secondary.drive().unwrap(), "{mode:?}");
    }
}
