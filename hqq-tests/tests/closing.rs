//! Orderly shutdown: everything sent before it arrives, then `Closed`; a shutdown wakes waiting calls.

use std::net::Shutdown;
use std::thread;

use hqq::{Error, Role, StandardLink};
use hqq_tests::pattern::{bytes, digest};
use hqq_tests::test::{asleep, sleeps};
use hqq_tests::{eventually, test};

const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];
const SMALL: &str = "slots=4 buffers=4 size=64";

#[track_caller]
fn closed<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Closed)), "{result:?}");
}

#[test]
fn what_was_sent_before_the_close_arrives() {
    let test = test!(untraced);
    for role in ROLES {
        let (link, mut peer) = test.link(role, SMALL);
        assert_eq!(peer.ask("fill 60 10"), "4");
        peer.quit();
        closed(link.send(b"too late"));
        closed(link.try_loan(64));
        assert!(!link.is_open());
        for seed in 10..14 {
            assert_eq!(*link.recv().unwrap(), bytes(60, seed));
        }
        closed(link.recv());
        closed(link.try_recv());
        closed(link.open_connection());
        closed(link.accept_connection());
        closed(link.recv());
    }
}

#[test]
fn a_peer_that_closes_wakes_every_kind_of_waiting() {
    let test = test!(untraced);
    for role in ROLES {
        for order in ["drop", "shutdown both", "quit"] {
            let (link, mut peer) = test.link(role, SMALL);
            while link.try_send(&[1; 8]).is_ok() {}
            let before = sleeps(&link);
            thread::scope(|scope| {
                let receiver = scope.spawn(|| closed(link.recv()));
                let sender = scope.spawn(|| closed(link.send(b"no room")));
                let host = scope.spawn(|| closed(link.accept_connection()));
                asleep(&link, before);
                peer.send_command(order);
                for thread in [receiver, sender, host] {
                    thread.join().unwrap();
                }
            });
        }
    }
}

#[test]
fn shutdown_from_another_thread_wakes_every_kind_of_waiting() {
    let test = test!(untraced);
    // Each with the halves whose end it must notice.
    type Wait = fn(&StandardLink);
    let waits: [(&str, Wait, &[Shutdown]); 5] = [
        ("recv", |link| closed(link.recv()), &[Shutdown::Read, Shutdown::Both]),
        ("send", |link| closed(link.send(b"no room")), &[Shutdown::Write, Shutdown::Both]),
        ("loan", |link| closed(link.loan(64)), &[Shutdown::Write, Shutdown::Both]),
        ("accept", |link| closed(link.accept_connection()), &[Shutdown::Read, Shutdown::Both]),
        ("open", |link| closed(link.open_connection()), &[Shutdown::Both]),
    ];
    for (name, wait, halves) in waits {
        for (&how, role) in halves.iter().zip(ROLES.into_iter().cycle()) {
            let (link, mut peer) = test.link(role, SMALL);
            match name {
                "send" => while link.try_send(&[1; 8]).is_ok() {},
                "loan" => {
                    for _ in 0..4 {
                        link.send(&[1; 64]).unwrap();
                        peer.ask("hold");
                    }
                }
                _ => {}
            }
            let before = sleeps(&link);
            thread::scope(|scope| {
                let waiting = scope.spawn(|| wait(&link));
                asleep(&link, before);
                link.shutdown(how);
                assert!(waiting.join().is_ok(), "{name} {how:?}");
            });
        }
    }
}

#[test]
fn half_a_link_goes_on() {
    let test = test!(untraced);
    for role in ROLES {
        let (link, mut peer) = test.link(role, SMALL);
        link.send(&bytes(60, 1)).unwrap();
        link.shutdown(Shutdown::Write);
        closed(link.send(b"no more"));
        assert_eq!(peer.ask("recv"), digest(&bytes(60, 1)));
        assert_eq!(peer.ask_error("recv"), "Closed");
        // Its own direction is whole.
        for seed in 0..20 {
            peer.ask(format!("send 60 {seed}"));
            assert_eq!(*link.recv().unwrap(), bytes(60, seed));
        }
        link.shutdown(Shutdown::Read);
        closed(link.recv());
        assert_eq!(peer.ask_error("send 60 1"), "Closed");
        drop(link);
        peer.quit();
    }
}

#[test]
fn a_sender_blocked_on_a_full_ring_hears_that_nobody_reads() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Secondary, SMALL);
    while link.try_send(&[1; 8]).is_ok() {}
    let before = sleeps(&link);
    thread::scope(|scope| {
        let sender = scope.spawn(|| closed(link.send(b"no room")));
        asleep(&link, before);
        peer.ask("shutdown read");
        sender.join().unwrap();
    });
    peer.ask("send 8 1");
    assert_eq!(*link.recv().unwrap(), bytes(8, 1));
}

#[test]
fn connections_keep_a_link_open() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "");
    peer.send_command("conn-accept");
    let connection = link.open_connection().unwrap();
    let id = peer.expect_ok();
    link.send(b"from the link").unwrap();
    drop(link);
    connection.send(&bytes(5000, 1)).unwrap();
    assert_eq!(peer.ask(format!("conn-recv {id}")), digest(&bytes(5000, 1)));
    peer.ask(format!("conn-send {id} 10 2"));
    assert_eq!(connection.recv().unwrap(), bytes(10, 2));
    drop(connection);
    assert_eq!(peer.ask("recv"), digest(b"from the link"));
    assert_eq!(peer.ask_error("recv"), "Closed");
    assert_eq!(peer.ask_error(format!("conn-recv {id}")), "Closed");
}

#[test]
fn loans_and_messages_may_be_dropped_after_the_end() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, SMALL);
    peer.ask("send 60 1");
    let message = link.recv().unwrap();
    let mut loan = link.loan(60).unwrap();
    peer.quit();
    eventually("the end is seen", || !link.is_open());
    loan.fill(1);
    closed(loan.send());
    assert_eq!(*message, bytes(60, 1));
    drop(message);
    for direction in link.stats().directions {
        assert_eq!(direction.buffers_free, 4);
    }
}
