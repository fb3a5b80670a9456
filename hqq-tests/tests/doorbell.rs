//! Hostile processes that misuse the socket of a link: whatever they send, leave unread, set or close, no call of the other
//! end waits for them.

use std::fs::File;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use hqq::{Error, Listener, Options, UntrustedLink};
use hqq_sys::sock;
use hqq_tests::mock::Stranger;
use hqq_tests::patience::SOON;
use hqq_tests::{Test, eventually, test};
use rustix::net::sockopt;

/// What a call may take that has nothing to wait for, on the busiest machine: half of how long a socket may linger. A peer
/// that hangs up and lives is given 200 ms to die.
const AT_ONCE: Duration = Duration::from_secs(10);
/// How long a call is told to wait.
const SHORT: Duration = Duration::from_millis(20);
/// How long a socket with unsent data lingers when it is closed, seconds.
const LINGER: Duration = Duration::from_secs(20);

/// A link to a stranger.
fn link(test: &Test, options: Options) -> (UntrustedLink, Stranger) {
    let name = test.link_name();
    let listener = Listener::bind_with(&name, options).unwrap();
    thread::scope(|scope| {
        let calling = scope.spawn(|| Stranger::connect(&name));
        let link = listener.accept_untrusted_timeout(SOON).unwrap();
        (link, calling.join().unwrap().unwrap())
    })
}

fn small() -> Options {
    Options::new().slots(4).buffers(4).buffer_size(64)
}

/// Runs `call` and sees that it is over in time.
#[track_caller]
fn at_once<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = call();
    assert!(began.elapsed() < AT_ONCE, "{what} took {:?}", began.elapsed());
    done
}

/// Every call, again and again, with the stranger abusing the doorbell in between.
fn every_call(what: &str, link: UntrustedLink, stranger: &Stranger, mut abuse: impl FnMut(&Stranger)) {
    for _ in 0..20 {
        stranger.sleep_for_everything().unwrap();
        abuse(stranger);
        // The first fill the ring, which rings; the others find it full.
        at_once(what, || link.try_send(&[1; 9])).ok();
        at_once(what, || link.try_send(&[1; 60])).ok();
        at_once(what, || link.send_timeout(&[1; 60], SHORT)).ok();
        at_once(what, || link.loan_timeout(200, SHORT).map(drop)).ok();
        at_once(what, || link.try_recv().map(drop)).ok();
        at_once(what, || link.recv_timeout(SHORT).map(drop)).ok();
        at_once(what, || link.stats());
    }
    at_once(what, || link.shutdown(Shutdown::Write));
    at_once(what, || link.shutdown(Shutdown::Both));
    assert!(matches!(at_once(what, || link.recv_timeout(SHORT)), Err(Error::Closed | Error::PeerGone)));
    at_once(what, || drop(link));
}

#[test]
fn a_socket_that_is_full_and_never_read() {
    let test = test!(untraced);
    let (link, stranger) = link(&test, small());
    // The stranger reads nothing, and the link rings for each of these.
    for _ in 0..2000 {
        stranger.sleep_for_everything().unwrap();
        at_once("giving a loan back", || link.loan_timeout(60, SHORT).map(drop)).ok();
        at_once("a receive", || link.try_recv().map(drop)).ok();
    }
    every_call("a full socket", link, &stranger, |stranger| {
        // And it fills the other way.
        while sock::send(stranger.socket.as_fd(), &[0], &[]).is_ok() {}
    });
}

#[test]
fn tokens_without_end() {
    let test = test!(untraced);
    let (link, stranger) = link(&test, small());
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = sock::send(stranger.socket.as_fd(), &[0], &[]);
            }
        });
        every_call("a storm of tokens", link, &stranger, |_| {});
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn garbage_of_every_length() {
    let test = test!(untraced);
    let (link, stranger) = link(&test, small());
    let mut len = 1;
    every_call("garbage", link, &stranger, |stranger| {
        let _ = sock::send(stranger.socket.as_fd(), &vec![0xA5; len], &[]);
        len = len * 2 % 99_991;
    });
}

#[test]
fn descriptors_that_nobody_wants() {
    let test = test!(untraced);
    let (link, stranger) = link(&test, small());
    let null = File::open("/dev/null").unwrap();
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    every_call("descriptors", link, &stranger, |stranger| {
        let _ = sock::send(stranger.socket.as_fd(), &[0], &[null.as_fd(); 4]);
    });
    eventually("none of them stays open", || open() <= before);
}

/// A socket that keeps whoever closes it last for [`LINGER`].
fn lingering() -> (TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut calling = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    sockopt::set_socket_linger(&calling, Some(LINGER)).unwrap();
    calling.set_nonblocking(true).unwrap();
    while calling.write(&[0; 65536]).is_ok() {}
    (listener, calling)
}

/// The last owner of a lingering socket waits while it closes it; a link must never be that.
#[test]
fn a_socket_that_lingers() {
    let test = test!(untraced);
    for read in [true, false] {
        let (link, stranger) = link(&test, small());
        let (_listener, calling) = lingering();
        if sock::send(stranger.socket.as_fd(), &[0], &[calling.as_fd()]).is_err() {
            // The kernel keeps it from the link. Then it is this test that closes it last.
            sockopt::set_socket_linger(&calling, None).unwrap();
        }
        drop(calling);
        if read {
            every_call("a lingering socket", link, &stranger, |_| {});
        } else {
            at_once("a link closed with a lingering socket unread", || drop(link));
        }
    }
}

#[test]
fn halves_closed_and_nothing_said() {
    let test = test!(untraced);
    for how in [rustix::net::Shutdown::Read, rustix::net::Shutdown::Write, rustix::net::Shutdown::Both] {
        let (link, stranger) = link(&test, small());
        every_call("a half-closed socket", link, &stranger, |stranger| {
            let _ = rustix::net::shutdown(&stranger.socket, how);
        });
    }
    // An empty message reads like a hang-up.
    let (link, stranger) = self::link(&test, small());
    every_call("an empty message", link, &stranger, |stranger| {
        let _ = rustix::net::send(&stranger.socket, &[], rustix::net::SendFlags::empty());
    });
}

#[test]
fn odd_options() {
    let test = test!(untraced);
    let (link, stranger) = link(&test, small());
    let socket = &stranger.socket;
    sockopt::set_socket_recv_buffer_size(socket, 0).unwrap();
    sockopt::set_socket_send_buffer_size(socket, 0).unwrap();
    sockopt::set_socket_passcred(socket, false).unwrap();
    sockopt::set_socket_linger(socket, Some(LINGER)).unwrap();
    let _ = sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(LINGER));
    let _ = sockopt::set_socket_timeout(socket, sockopt::Timeout::Send, Some(LINGER));
    rustix::io::ioctl_fionbio(socket, false).unwrap();
    every_call("odd options", link, &stranger, |stranger| {
        let _ = sock::ring(stranger.socket.as_fd());
    });
}

/// What would be waited for lies in memory: a word that says that the peer sleeps, and a peer that never answers.
#[test]
fn an_event_that_never_comes() {
    let test = test!(untraced);
    let (link, stranger) = link(&test, small());
    let began = Instant::now();
    assert!(matches!(link.recv_timeout(SHORT), Err(Error::Timeout { .. })));
    assert!(began.elapsed() >= SHORT);
    while link.try_send(&[1; 9]).is_ok() {}
    assert!(matches!(link.send_timeout(&[1; 9], SHORT), Err(Error::Timeout { .. })));
    assert!(matches!(link.send_timeout(&[1; 60], SHORT), Err(Error::Timeout { .. })));
    let loan = link.loan_timeout(60, SHORT).unwrap();
    assert!(matches!(loan.send_timeout(SHORT).map_err(|late| late.error), Err(Error::Timeout { .. })));
    let whole: Vec<_> = (0..4).map(|_| link.loan_timeout(60, SHORT).unwrap()).collect();
    assert!(matches!(link.loan_timeout(60, SHORT), Err(Error::Timeout { .. })));
    drop((whole, stranger));
}
