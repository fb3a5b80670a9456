//! Sockets made, connected, listened at and described.

use super::socket::{SO_PASSPIDFD, get_option, socket};
use super::*;
use rustix::io::{FdFlags, fcntl_getfd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// An abstract address that no other test has.
fn fresh() -> Address {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    Address::Abstract(format!("hqq-sys-test.{}.{n}", std::process::id()).into_bytes())
}

fn flags_are_right(fd: &OwnedFd) {
    assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
    let flags = rustix::fs::fcntl_getfl(fd).unwrap();
    assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
    assert!(rustix::net::sockopt::socket_passcred(fd).unwrap());
    let mut on: libc::c_int = 0;
    // SAFETY: the kernel writes an `int` for this option.
    unsafe { get_option(fd.as_fd(), SO_PASSPIDFD, &mut on).unwrap() };
    assert_eq!(on, 1);
}

#[test]
fn listen_connect_accept() {
    let at = fresh();
    let e = connect(&at).unwrap_err();
    assert_eq!(e.kind(), io::ErrorKind::ConnectionRefused);
    let listener = listen(&at, 4).unwrap();
    assert!(accept(listener.as_fd()).unwrap().is_none());
    let e = listen(&at, 4).unwrap_err();
    assert_eq!(e.kind(), io::ErrorKind::AddrInUse);

    let caller = connect(&at).unwrap();
    // Sent before it is accepted, and still with its sender.
    send(caller.as_fd(), b"early", &[]).unwrap();
    let accepted = accept(listener.as_fd()).unwrap().unwrap();
    for fd in [&listener, &caller, &accepted] {
        flags_are_right(fd);
    }
    let mut buf = [0; 16];
    let got = recv(accepted.as_fd(), &mut buf).unwrap().unwrap();
    assert_eq!(&buf[..got.len], b"early");
    assert_eq!(got.creds.unwrap().pid, crate::peer::pid());
    assert!(got.pidfd.is_some());
    send(accepted.as_fd(), b"reply", &[]).unwrap();
    let got = recv(caller.as_fd(), &mut buf).unwrap().unwrap();
    assert_eq!(&buf[..got.len], b"reply");
    assert!(got.pidfd.is_some());

    drop(listener);
    // A child that another test forks may hold the listener until its exec.
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while connect(&at).is_ok() {
        assert!(std::time::Instant::now() < limit);
    }
}

#[test]
fn a_full_backlog_would_block() {
    let at = fresh();
    let listener = listen(&at, 1).unwrap();
    let mut callers = Vec::new();
    let e = loop {
        match connect(&at) {
            Ok(fd) => callers.push(fd),
            Err(e) => break e,
        }
        assert!(callers.len() < 10);
    };
    assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
    for _ in &callers {
        assert!(accept(listener.as_fd()).unwrap().is_some());
    }
    connect(&at).unwrap();
}

#[test]
fn bad_names() {
    for at in [
        Address::Abstract(vec![]),
        Address::Abstract(vec![b'x'; 108]),
        Address::Path("".into()),
        Address::Path("x".repeat(108).into()),
        Address::Path("a\0b".into()),
    ] {
        for r in [listen(&at, 1), connect(&at)] {
            let e = r.unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidInput, "{at:?}: {e}");
        }
    }
    listen(&Address::Abstract(vec![b'x'; 107]), 1).unwrap();
}

#[test]
fn a_pair_knows_its_maker() {
    let (a, b) = pair().unwrap();
    flags_are_right(&a);
    flags_are_right(&b);
    let me =
        Creds { pid: crate::peer::pid(), uid: crate::peer::uid(), gid: rustix::process::getegid().as_raw() };
    assert_eq!(peer_creds(a.as_fd()).unwrap(), me);
    assert!(!crate::peer::is_dead(peer_pidfd(b.as_fd()).unwrap().as_fd()));
}

#[test]
fn a_socket_without_peer_has_no_credentials() {
    let fd = socket().unwrap();
    assert!(peer_creds(fd.as_fd()).is_err());
    assert!(peer_pidfd(fd.as_fd()).is_err());
}

#[test]
fn a_replaced_socket_is_another_under_its_number() {
    let (ours, former) = pair().unwrap();
    let (theirs, present) = pair().unwrap();
    let number = ours.as_raw_fd();
    replace(ours.as_fd(), theirs).unwrap();
    flags_are_right(&ours);
    assert_eq!(ours.as_raw_fd(), number);
    assert!(drain(former.as_fd()).unwrap().hang_up, "the only other end is closed");
    ring(ours.as_fd()).unwrap();
    assert_eq!(drain(present.as_fd()).unwrap().tokens, 1);
}

#[test]
fn cloexec_can_be_cleared_and_set() {
    let (a, _b) = pair().unwrap();
    for on in [false, true, true] {
        set_cloexec(a.as_fd(), on).unwrap();
        assert_eq!(fcntl_getfd(&a).unwrap().contains(FdFlags::CLOEXEC), on);
    }
}
