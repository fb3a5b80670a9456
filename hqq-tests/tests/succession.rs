//! Failures between the offer of a seat and its successor joining: nothing is lost, and no client harms others.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hqq::shm::packet::Packet;
use hqq::shm::words::{Holder, Role, SeatWord};
use hqq::{Error, Listener, StandardLink};
use hqq_sys::sock::{self, Address};
use hqq_tests::mock::{self, GREETING, Memory, SEAT_1, shake};
use hqq_tests::patience::SOON;
use hqq_tests::pattern::{bytes, digest};
use hqq_tests::test::asleep;
use hqq_tests::{Peer, Test, eventually, test};

const SMALL: &str = "slots=8 buffers=8 size=64 reattachable";

fn bind(test: &Test, words: &str) -> Listener {
    let options = hqq_tests::peer::options(test.options(), words.split_whitespace());
    Listener::bind_with(&test.link_name(), options).unwrap()
}

fn caller(test: &Test, listener: &Listener) -> Peer {
    let mut peer = test.peer();
    peer.send_command(format!("connect-wait {} 30000", listener.name()));
    peer
}

fn ended(link: &StandardLink) {
    eventually("the peer's end is noticed", || !link.is_open());
}

/// A caller by hand.
fn call(listener: &Listener) -> OwnedFd {
    let name = format!("hqq.{}.{}", hqq_sys::peer::uid(), listener.name());
    sock::connect(&Address::Abstract(name.into())).unwrap()
}

fn send(socket: &OwnedFd, op: u8, operands: &[u64], fds: &[BorrowedFd<'_>]) {
    let mut all = [0; 7];
    all[..operands.len()].copy_from_slice(operands);
    sock::send(socket.as_fd(), &Packet { op, operands: all }.to_bytes(), fds).unwrap();
}

fn join(socket: &OwnedFd) {
    mock::recv(socket.as_fd()).unwrap();
    send_join(socket);
}

fn send_join(socket: &OwnedFd) {
    let [magic, format, version] = GREETING;
    send(socket, shake::JOIN, &[magic, format, version, 1 << 30], &[]);
}

#[test]
fn a_sender_is_woken_though_the_newcomer_finds_nothing_but_tombstones() {
    let test = test!(untraced);
    for mode in ["mpmc", "spsc", "mpsc", "spmc"] {
        let listener = bind(&test, &format!("{SMALL} mode={mode}"));
        let mut peer = caller(&test, &listener);
        let mut link = listener.accept_timeout(SOON).unwrap();
        peer.expect_ok();
        // A ring full of what is meant for this peer alone.
        peer.stop();
        let full = || link.stats().sent_by(Role::Primary).in_flight == 8;
        while !full() {
            let late = link.open_connection_timeout(Duration::from_millis(1));
            assert!(matches!(late, Err(Error::Timeout { .. })), "{late:?}");
        }
        peer.kill();
        ended(&link);
        let mut newcomer = caller(&test, &listener);
        listener.reattach_timeout(&mut link, SOON).unwrap();
        newcomer.expect_ok();
        let before = link.stats().side(Role::Primary).sleeps;
        thread::scope(|scope| {
            let sending = scope.spawn(|| link.send_timeout(b"at last", SOON));
            asleep(&link, before);
            assert_eq!(newcomer.ask("recv"), digest(b"at last"), "{mode}");
            sending.join().unwrap().unwrap();
        });
    }
}

#[test]
fn connections_that_nobody_looked_at_end_with_their_peer() {
    let test = test!(untraced);
    for mode in ["mpmc", "spsc"] {
        let listener = bind(&test, &format!("{SMALL} mode={mode}"));
        let mut peer = caller(&test, &listener);
        let mut link = listener.accept_timeout(SOON).unwrap();
        peer.expect_ok();
        peer.ask("send 20 1");
        peer.send_command("open");
        let memory = Memory::of(&link);
        eventually("its request is in the ring", || memory.next(1) >= 2);
        peer.kill();
        ended(&link);
        let mut next = caller(&test, &listener);
        listener.reattach_timeout(&mut link, SOON).unwrap();
        next.expect_ok();
        assert_eq!(*link.recv_timeout(SOON).unwrap(), bytes(20, 1));
        assert!(
            matches!(link.try_accept_connection(), Err(Error::NoneWaiting)),
            "{mode}: the former peer's request is no request of the next one"
        );
        next.send_command("open");
        let connection = link.accept_connection_timeout(SOON).unwrap();
        let id = next.expect_ok();
        next.ask(format!("conn-send {id} 10 3"));
        assert_eq!(connection.recv_timeout(SOON).unwrap(), bytes(10, 3));
    }
}

#[test]
fn messages_of_many_former_peers_are_received_first() {
    let test = test!(untraced);
    let listener = bind(&test, &format!("{SMALL} inbox=1"));
    let mut peer = caller(&test, &listener);
    let mut link = listener.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    let memory = Memory::of(&link);
    let mut sent = 0;
    // Until the inbox has no room for more of them, so that a connection's request stays behind in the ring.
    let full = loop {
        assert!(sent < 100);
        for _ in 0..7 {
            peer.ask(format!("send 20 {sent}"));
            sent += 1;
        }
        let before = memory.next(1);
        peer.send_command("open");
        eventually("its request is in the ring", || memory.next(1) > before);
        peer.kill();
        ended(&link);
        let mut next = caller(&test, &listener);
        let joined = listener.reattach_timeout(&mut link, SOON);
        if joined.is_err() {
            peer = next;
            break joined;
        }
        next.expect_ok();
        peer = next;
    };
    assert!(
        matches!(full, Err(Error::Unsupported { what }) if what.contains("receive them first")),
        "{full:?}"
    );
    for number in 0..sent {
        assert_eq!(*link.recv_timeout(SOON).unwrap(), bytes(20, number));
    }
    listener.reattach_timeout(&mut link, SOON).unwrap();
    peer.expect_ok();
    assert!(matches!(link.try_accept_connection(), Err(Error::NoneWaiting)));
}

/// However early the call that offers the place gives up.
#[test]
fn who_was_not_adopted_has_received_nothing() {
    let test = test!(untraced);
    let listener = bind(&test, SMALL);
    let connect = || {
        let name = listener.name().to_owned();
        thread::spawn(move || StandardLink::connect_timeout(&name, SOON))
    };
    for round in 0..300u64 {
        let first = connect();
        let mut link = listener.accept_timeout(SOON).unwrap();
        let first = first.join().unwrap().unwrap();
        link.send(&bytes(20, round)).unwrap();
        drop(first);
        ended(&link);
        let next = connect();
        for turn in 0.. {
            let time = Duration::from_micros((round * 37 + turn * 11) % 400);
            match listener.reattach_timeout(&mut link, time) {
                Ok(()) => break,
                Err(Error::Timeout { .. }) if !next.is_finished() => {}
                other => panic!("{round}: {other:?}, and the newcomer says {:?}", next.join()),
            }
        }
        let next = next.join().unwrap().unwrap();
        assert_eq!(*next.recv_timeout(SOON).unwrap(), bytes(20, round));
    }
}

#[test]
fn a_caller_cannot_make_accept_fail() {
    let test = test!(untraced);
    let listener = bind(&test, "slots=8 buffers=8 size=64 protected");
    for kind in ["write-only", "path"] {
        let socket = call(&listener);
        let guest = thread::spawn({
            let socket = socket.try_clone().unwrap();
            move || {
                join(&socket);
                let (_, fds) = mock::recv(socket.as_fd()).unwrap();
                let region = File::from(fds.into_iter().next().unwrap());
                let joined = SeatWord::joined(Holder::new(1, 1), Role::Secondary, false).word();
                std::os::unix::fs::FileExt::write_all_at(&region, &joined.to_le_bytes(), SEAT_1).unwrap();
                let memory = mock::payload("good").unwrap();
                let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
                let flags = match kind {
                    "write-only" => rustix::fs::OFlags::WRONLY,
                    _ => rustix::fs::OFlags::PATH,
                };
                let odd =
                    rustix::fs::open(path, flags | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
                        .unwrap();
                send(&socket, shake::READY, &[1, 1], &[odd.as_fd()]);
            }
        });
        let before = listener.refused();
        let accepted = loop {
            match listener.accept_timeout(Duration::from_millis(50)) {
                Err(Error::Timeout { .. }) if listener.refused() == before => {}
                other => break other,
            }
        };
        assert!(matches!(accepted, Err(Error::Timeout { .. })), "{kind}: {accepted:?}");
        guest.join().unwrap();
    }
}

const POOR: &str = "HQQ_TEST_POOR";

#[test]
fn a_listener_without_descriptors_says_so() {
    if std::env::var_os(POOR).is_some() {
        let listener = Listener::bind(&format!("poor-{}", std::process::id())).unwrap();
        let socket = call(&listener);
        assert!(matches!(listener.try_accept(), Err(Error::NoneWaiting)));
        join(&socket);
        assert!(matches!(listener.try_accept(), Err(Error::NoneWaiting)));
        let (_, fds) = mock::recv(socket.as_fd()).unwrap();
        let region = File::from(fds.into_iter().next().unwrap());
        let joined = SeatWord::joined(Holder::new(1, 1), Role::Secondary, false).word();
        std::os::unix::fs::FileExt::write_all_at(&region, &joined.to_le_bytes(), SEAT_1).unwrap();
        send(&socket, shake::READY, &[1, 1], &[]);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        // One is left: the kernel takes it for the pidfd that comes with READY.
        let free = File::open("/dev/null").unwrap().as_raw_fd();
        let few = rustix::process::Rlimit { current: Some(free as u64 + 1), ..limit };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, few).unwrap();
        let accepted = listener.try_accept();
        assert!(matches!(accepted, Err(Error::Os { .. })), "{accepted:?}");
        return;
    }
    let _test = test!(untraced);
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "a_listener_without_descriptors_says_so"]).env(POOR, "1");
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn who_sits_in_a_former_peers_seat_does_not_speak_for_it() {
    let test = test!(untraced);
    let listener = bind(&test, SMALL);
    let name = listener.name().to_owned();
    let first = thread::spawn(move || StandardLink::connect_timeout(&name, SOON).unwrap());
    let mut link = listener.accept_timeout(SOON).unwrap();
    let first = first.join().unwrap();
    // A forked child, say, keeps the socket from hanging up.
    let socket = first.as_fd().try_clone_to_owned().unwrap();
    drop(first);
    assert!(!link.is_open());
    // Somebody sits down in the same seat, and goes no further.
    let next = SeatWord::joined(Holder::new(1, 2), Role::Secondary, false).word();
    Memory::of(&link).write(SEAT_1, next);
    assert!(!link.is_open());
    assert!(matches!(link.recv_timeout(SOON), Err(Error::Closed)));
    assert!(matches!(link.drive(), Ok(true)));
    drop(socket);
    assert!(matches!(link.recv_timeout(SOON), Err(Error::Closed)));
    let waited = listener.reattach_timeout(&mut link, Duration::ZERO);
    assert!(matches!(waited, Err(Error::Timeout { .. })), "{waited:?}");
    assert!(matches!(link.recv_timeout(SOON), Err(Error::Closed)));
}

/// However many fall silent once they have been offered it.
#[test]
fn a_place_is_not_held_by_the_silent() {
    let test = test!(untraced);
    let listener = bind(&test, SMALL);
    let mut peer = caller(&test, &listener);
    let mut link = listener.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    peer.kill();
    ended(&link);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // There is always one that has been waiting for less long than the last, and one that waits longer.
        scope.spawn(|| {
            let mut silent = std::collections::VecDeque::new();
            while !over.load(Ordering::Relaxed) {
                let socket = call(&listener);
                // HELLO will come; nobody has to wait for it.
                send_join(&socket);
                silent.push_back(socket);
                if silent.len() > 8 {
                    silent.pop_front();
                }
                thread::sleep(Duration::from_millis(250));
            }
        });
        let _ = listener.reattach_timeout(&mut link, Duration::from_millis(400));
        let mut next = caller(&test, &listener);
        let joined = listener.reattach_timeout(&mut link, SOON);
        over.store(true, Ordering::Relaxed);
        joined.unwrap();
        next.expect_ok();
    });
}
