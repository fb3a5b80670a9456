//! The death of either side by SIGKILL while the other waits for anything; and events that do not count as a death.

use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use hqq::{Connection, Error, Listener, Role, StandardLink};
use hqq_sys::sock::{self, Address};
use hqq_tests::mock;
use hqq_tests::pattern::{bytes, digest};
use hqq_tests::test::{asleep, healthy, link_by_hand, sleeps};
use hqq_tests::{Peer, Test, eventually, test};

const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];
const SMALL: &str = "slots=4 buffers=4 size=64";
/// Far more than the notice of a death takes, far less than anything that would be a hang.
const NOTICE: Duration = Duration::from_secs(5);

#[track_caller]
fn dead<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::PeerDead)), "{result:?}");
}

/// Kills the peer while `wait` sleeps, in both roles; `wait` must then return.
fn killed_while(
    test: &Test,
    options: &str,
    prepare: impl Fn(&StandardLink, &mut Peer) -> Option<Connection>,
    wait: impl Fn(&StandardLink, Option<&Connection>) + Sync,
) {
    for role in ROLES {
        let (link, mut peer) = test.link(role, options);
        let connection = prepare(&link, &mut peer);
        let before = sleeps(&link);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| wait(&link, connection.as_ref()));
            asleep(&link, before);
            let began = Instant::now();
            peer.kill();
            assert!(waiting.join().is_ok(), "{role}");
            assert!(began.elapsed() < NOTICE);
        });
        // From now on everything says so at once.
        let began = Instant::now();
        dead(link.send(b"x"));
        dead(link.loan(60));
        dead(link.open_connection());
        while link.try_recv().is_ok() {}
        dead(link.recv());
        dead(link.accept_connection());
        assert!(!link.is_open());
        assert!(began.elapsed() < NOTICE);
        healthy(&link);
    }
}

/// Opens a connection that the peer accepts.
fn connection(link: &StandardLink, peer: &mut Peer) -> Connection {
    peer.send_command("conn-accept");
    let connection = link.open_connection().unwrap();
    peer.expect_ok();
    connection
}

#[test]
fn while_the_other_receives() {
    let nothing = |_: &StandardLink, _: &mut Peer| None;
    killed_while(&test!(untraced), SMALL, nothing, |link, _| dead(link.recv()));
}

#[test]
fn while_the_other_sends_into_a_full_ring() {
    let fill = |link: &StandardLink, _: &mut Peer| {
        while link.try_send(&bytes(8, 1)).is_ok() {}
        None
    };
    killed_while(&test!(untraced), SMALL, fill, |link, _| dead(link.send(b"no room")));
}

#[test]
fn while_the_other_waits_for_buffers_that_the_dead_held() {
    let exhaust = |link: &StandardLink, peer: &mut Peer| {
        for seed in 0..4 {
            link.send(&bytes(64, seed)).unwrap();
            peer.ask("hold");
        }
        None
    };
    killed_while(&test!(untraced), SMALL, exhaust, |link, _| dead(link.loan(256).map(drop)));
}

#[test]
fn while_the_other_opens_a_connection() {
    let nothing = |_: &StandardLink, _: &mut Peer| None;
    killed_while(&test!(untraced), SMALL, nothing, |link, _| dead(link.open_connection()));
    killed_while(&test!(untraced), SMALL, nothing, |link, _| dead(link.accept_connection()));
}

#[test]
fn while_the_other_uses_a_connection() {
    let open = |link: &StandardLink, peer: &mut Peer| Some(connection(link, peer));
    killed_while(&test!(untraced), SMALL, open, |_, connection| dead(connection.unwrap().recv()));
    killed_while(&test!(untraced), SMALL, open, |_, connection| {
        // More than the link holds, so that it must wait.
        let connection = connection.unwrap();
        dead((0..).try_for_each(|_| connection.send(&[1; 200])));
    });
}

#[test]
fn while_many_threads_wait() {
    let test = test!(untraced);
    for role in ROLES {
        let (link, mut peer) = test.link(role, SMALL);
        let connection = connection(&link, &mut peer);
        while link.try_send(&[1; 8]).is_ok() {}
        let before = sleeps(&link);
        thread::scope(|scope| {
            let mut waiting = Vec::new();
            for _ in 0..2 {
                waiting.push(scope.spawn(|| dead(link.recv())));
                waiting.push(scope.spawn(|| dead(link.send(b"no room"))));
                waiting.push(scope.spawn(|| dead(link.accept_connection())));
                waiting.push(scope.spawn(|| dead(connection.recv())));
            }
            asleep(&link, before);
            peer.kill();
            for thread in waiting {
                thread.join().unwrap();
            }
        });
    }
}

#[test]
fn what_was_committed_is_received_first() {
    let test = test!(untraced);
    for role in ROLES {
        for mode in ["mpmc", "spsc", "mpsc", "spmc"] {
            let (link, mut peer) = test.link(role, &format!("{SMALL} mode={mode}"));
            assert_eq!(peer.ask("fill 60 10"), "4");
            peer.kill();
            // Whether the death is noticed before or after must make no difference.
            if role == Role::Primary {
                eventually("the death is seen", || !link.is_open());
            }
            for seed in 10..14 {
                assert_eq!(*link.recv().unwrap(), bytes(60, seed), "{mode}");
            }
            dead(link.recv());
            healthy(&link);
        }
    }
}

#[test]
fn what_was_committed_on_connections_is_received_first() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "slots=32 buffers=32 size=64");
    let (one, two) = (connection(&link, &mut peer), connection(&link, &mut peer));
    peer.ask("conn-send 1 1000 1");
    peer.ask("send 60 2");
    peer.ask("conn-send 3 10 3");
    // This one is not complete when it dies.
    peer.send_command("conn-send 3 100000 4");
    eventually("the ring is full", || link.stats().directions[1].in_flight == 32);
    peer.kill();
    eventually("the death is seen", || !link.is_open());
    assert_eq!(two.recv().unwrap(), bytes(10, 3));
    dead(two.recv());
    assert_eq!(one.recv().unwrap(), bytes(1000, 1));
    dead(one.recv());
    assert_eq!(*link.recv().unwrap(), bytes(60, 2));
    dead(link.recv());
    drop((one, two));
    healthy(&link);
}

#[test]
fn a_kill_in_the_middle_of_everything() {
    let test = test!(untraced);
    for round in 0..12 {
        let role = ROLES[round % 2];
        let mode = ["mpmc", "spsc", "mpsc", "spmc"][round / 2 % 4];
        let (link, mut peer) = test.link(role, &format!("slots=8 buffers=8 size=256 mode={mode}"));
        // It sends and receives on several threads; it dies at some instruction of all that.
        peer.ask("bg produce 1 2 1000000");
        peer.ask("bg consume 2 9 1 1000000");
        thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                loop {
                    match link.recv() {
                        Ok(message) => assert!(message.len() >= 16),
                        Err(error) => break dead::<()>(Err(error)),
                    }
                }
            });
            let sender = scope.spawn(|| dead(hqq_tests::stress::produce(&link, 9, 1, 1_000_000)));
            eventually("both ways are at work", || {
                link.stats().directions.iter().all(|direction| direction.packets_received > 200)
            });
            peer.kill();
            receiver.join().unwrap();
            sender.join().unwrap();
        });
        healthy(&link);
    }
}

#[test]
fn a_stopped_process_is_not_dead() {
    let test = test!(untraced);
    for role in ROLES {
        let (link, mut peer) = test.link(role, SMALL);
        peer.stop();
        let late = link.recv_timeout(Duration::from_millis(300));
        assert!(matches!(late, Err(Error::Timeout { .. })), "{late:?}");
        // Polls look at the peer's process every so often.
        for _ in 0..10_000 {
            assert!(matches!(link.try_recv(), Err(Error::RingEmpty)));
        }
        assert!(link.is_open());
        for seed in 0..4 {
            link.send(&bytes(60, seed)).unwrap();
        }
        assert!(matches!(link.send_timeout(b"x", Duration::from_millis(50)), Err(Error::Timeout { .. })));
        peer.resume();
        for seed in 0..4 {
            assert_eq!(peer.ask("recv"), digest(&bytes(60, seed)));
        }
        // And it can die while it stands still.
        peer.stop();
        peer.kill();
        dead(link.recv());
    }
}

#[test]
fn polls_see_a_death_too() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, SMALL);
    peer.kill();
    eventually("an idle poll says so", || match link.try_recv() {
        Err(Error::RingEmpty) => false,
        other => {
            dead(other);
            true
        }
    });
    let (link, mut peer) = test.link(Role::Primary, SMALL);
    while link.try_send(&[1; 8]).is_ok() {}
    peer.kill();
    eventually("a failing send says so", || match link.try_send(b"x") {
        Err(Error::RingFull { .. }) => false,
        other => {
            dead(other);
            true
        }
    });
}

#[test]
fn a_death_that_hangs_nothing_up() {
    let mut test = test!(untraced);
    let folder = test.folder().to_owned();
    let listener = Listener::bind(folder.join("link").to_str().unwrap()).unwrap();
    let other = Address::Path(folder.join("other"));
    let keeper = sock::listen(&other, 1).unwrap();
    let mut peer = test.peer();
    let link = link_by_hand(&listener, &mut peer);
    // Somebody else has the peer's socket too, so that only its process tells of its death.
    peer.ask(format!("sock-lend {}", folder.join("other").display()));
    let lent = sock::accept(keeper.as_fd()).unwrap().unwrap();
    let (_, kept) = mock::recv(lent.as_fd()).unwrap();
    assert_eq!(kept.len(), 1);
    let before = sleeps(&link);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| dead(link.recv()));
        asleep(&link, before);
        let began = Instant::now();
        peer.kill();
        waiting.join().unwrap();
        assert!(began.elapsed() < NOTICE);
    });
}

#[test]
fn a_peer_that_hangs_up_and_lives_is_gone() {
    let mut test = test!(untraced);
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let listener = Listener::bind_with(&path, test.options().slots(4).buffers(4).buffer_size(64)).unwrap();
    for blocked in ["recv", "send", "loan"] {
        let mut peer = test.peer();
        let link = link_by_hand(&listener, &mut peer);
        if blocked == "send" {
            while link.try_send(&[1; 8]).is_ok() {}
        }
        let loans: Vec<_> = (0..4).filter(|_| blocked == "loan").map(|_| link.loan(64).unwrap()).collect();
        let before = sleeps(&link);
        let gone = |result: Result<(), Error>| assert!(matches!(result, Err(Error::PeerGone)), "{result:?}");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| match blocked {
                "recv" => gone(link.recv().map(drop)),
                "send" => gone(link.send(b"no room")),
                _ => gone(link.loan(64).map(drop)),
            });
            asleep(&link, before);
            peer.ask("sock-drop");
            waiting.join().unwrap();
        });
        gone(link.recv().map(drop));
        gone(link.send(b"x"));
        gone(link.accept_connection().map(drop));
        assert!(!link.is_open());
        drop(loans);
        // It may still write, so nothing that it could hold is taken from it.
        let in_flight = link.stats().directions[0].in_flight;
        assert_eq!(in_flight, if blocked == "send" { 4 } else { 0 });
        assert_eq!(peer.ask("sock-uid"), hqq_sys::peer::uid().to_string(), "it lives");
    }
}
