//! A new client takes the place of a Secondary that died or left: messages that were sent and not received are delivered to
//! it, and the place of a living client is never taken.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use hqq::observe::Observer;
use hqq::shm::words::{Holder, Role, SeatWord};
use hqq::{Error, Listener, StandardLink};
use hqq_sys::lock;
use hqq_tests::mock::{Memory, SEAT_1};
use hqq_tests::patience::SOON;
use hqq_tests::pattern::{bytes, digest};
use hqq_tests::test::link_by_hand;
use hqq_tests::{Peer, Test, eventually, test};

const SMALL: &str = "slots=8 buffers=8 size=64 reattachable";
/// In the slot, in a buffer, in a run.
const LENGTHS: [usize; 3] = [20, 64, 180];

fn bind(test: &Test, words: &str) -> Listener {
    let options = hqq_tests::peer::options(test.options(), words.split_whitespace());
    Listener::bind_with(&test.link_name(), options).unwrap()
}

/// A fresh peer that has connected, or will once there is a place.
fn caller(test: &Test, listener: &Listener) -> Peer {
    let mut peer = test.peer();
    peer.send_command(format!("connect-wait {} 30000", listener.name()));
    peer
}

fn join(link: &mut StandardLink, listener: &Listener, peer: &mut Peer) {
    listener.reattach_timeout(link, SOON).unwrap();
    peer.expect_ok();
    assert_eq!(link.peer().pid, Some(peer.pid()));
    assert!(link.is_open());
}

/// Waits until the peer's end is known, without receiving anything.
fn ended(link: &StandardLink) {
    eventually("the peer's end is noticed", || !link.is_open());
}

#[track_caller]
fn unsupported(result: Result<(), Error>, part: &str) {
    match result {
        Err(Error::Unsupported { what }) => assert!(what.contains(part), "{what}"),
        other => panic!("{other:?}"),
    }
}

/// Nothing is wrong, nobody but this end holds anything, and this end holds nothing.
fn whole(link: &StandardLink) {
    let report = Observer::open(link.memory()).unwrap().check();
    assert!(report.findings.is_empty(), "{report:?}");
    let free = u64::from(link.geometry().buffers());
    for direction in link.stats().directions {
        assert_eq!((direction.in_flight, direction.buffers_free), (0, free), "{direction:?}");
    }
}

#[test]
fn what_was_sent_and_not_received_goes_to_the_next() {
    let test = test!(untraced);
    for (mode, killed) in [("mpmc", true), ("mpmc", false), ("spsc", true), ("spmc", true), ("mpsc", true)] {
        for extra in ["", "protected"] {
            let listener = bind(&test, &format!("{SMALL} mode={mode} {extra}"));
            let mut peer = caller(&test, &listener);
            let mut link = listener.accept_timeout(SOON).unwrap();
            peer.expect_ok();
            for seed in 0..5 {
                link.send(&bytes(LENGTHS[seed as usize % 3], seed)).unwrap();
                peer.ask(format!("send {} {}", LENGTHS[seed as usize % 3], 100 + seed));
            }
            assert_eq!(peer.ask("recv"), digest(&bytes(20, 0)));
            if killed {
                peer.ask("hold");
                peer.ask("hold");
                peer.kill();
            } else {
                assert_eq!(peer.ask("recv"), digest(&bytes(64, 1)));
                assert_eq!(peer.ask("recv"), digest(&bytes(180, 2)));
                peer.ask("drop");
            }
            ended(&link);
            // What the former peer had sent comes first, before or after the next has come.
            let keeps = extra.is_empty() && mode != "spsc";
            if !keeps {
                unsupported_if(extra == "protected", listener.reattach_timeout(&mut link, Duration::ZERO));
                for seed in 0..5 {
                    assert_eq!(*link.recv().unwrap(), bytes(LENGTHS[seed as usize % 3], 100 + seed));
                }
                assert!(matches!(link.recv(), Err(Error::PeerDead | Error::Closed)));
            }
            let mut next = caller(&test, &listener);
            join(&mut link, &listener, &mut next);
            for seed in 3..5 {
                assert_eq!(next.ask("recv"), digest(&bytes(LENGTHS[seed as usize % 3], seed)));
            }
            next.ask("send 180 200");
            if keeps {
                for seed in 0..5 {
                    assert_eq!(*link.recv().unwrap(), bytes(LENGTHS[seed as usize % 3], 100 + seed));
                }
            }
            assert_eq!(*link.recv().unwrap(), bytes(180, 200));
            link.send(&bytes(500, 7)).unwrap();
            assert_eq!(next.ask("recv"), digest(&bytes(500, 7)));
            whole(&link);
            next.ask("drop");
            assert!(matches!(link.recv(), Err(Error::Closed)));
        }
    }
}

/// A protected link wants the former peer's messages received before its memory goes.
fn unsupported_if(protected: bool, result: Result<(), Error>) {
    if protected {
        unsupported(result, "receive them first");
    } else {
        assert!(matches!(result, Err(Error::Timeout { .. })), "{result:?}");
    }
}

#[test]
fn generations_go_round() {
    let test = test!(untraced);
    let listener = bind(&test, &format!("{SMALL} protected"));
    let mut peer = caller(&test, &listener);
    let mut link = listener.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    let memory = Memory::of(&link);
    for round in 1..=40u64 {
        let word = SeatWord::from_word(memory.read(SEAT_1));
        let generation = u8::try_from((round - 1) % 31 + 1).unwrap();
        assert!(word.is_occupied_by(Holder::new(1, generation)) && word.is_locked(), "{round}: {word:?}");
        link.send(&bytes(180, round)).unwrap();
        if round % 3 == 0 {
            peer.ask("drop");
        } else {
            peer.kill();
        }
        ended(&link);
        assert!(link.send(b"to nobody").is_err());
        let mut next = caller(&test, &listener);
        join(&mut link, &listener, &mut next);
        assert_eq!(next.ask("recv"), digest(&bytes(180, round)));
        next.ask("send 64 1");
        assert_eq!(*link.recv().unwrap(), bytes(64, 1));
        whole(&link);
        peer = next;
    }
}

#[test]
fn nobody_takes_the_place_of_the_living() {
    let mut test = test!(untraced);
    let plain = bind(&test, "slots=8 buffers=8 size=64");
    let mut peer = caller(&test, &plain);
    let mut link = plain.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    peer.kill();
    unsupported(plain.reattach_timeout(&mut link, SOON), "make it with Options::reattachable");

    let listener = bind(&test, SMALL);
    let mut peer = caller(&test, &listener);
    let mut link = listener.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    unsupported(listener.reattach_timeout(&mut link, SOON), "neither died nor left");
    // A stopped process is no dead one, however long it stands.
    peer.stop();
    std::thread::sleep(Duration::from_millis(300));
    unsupported(listener.reattach_timeout(&mut link, SOON), "neither died nor left");
    peer.resume();
    link.send(&bytes(64, 1)).unwrap();
    assert_eq!(peer.ask("recv"), digest(&bytes(64, 1)));
    link.shutdown(std::net::Shutdown::Read);
    peer.kill();
    ended(&link);
    assert!(matches!(listener.reattach_timeout(&mut link, SOON), Err(Error::Closed)));

    // One that hung up without a word and lives.
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let options = hqq_tests::peer::options(test.options(), SMALL.split_whitespace());
    let listener = Listener::bind_with(&path, options).unwrap();
    let mut peer = test.peer();
    let mut link = link_by_hand(&listener, &mut peer);
    peer.ask("sock-drop");
    assert!(matches!(link.recv(), Err(Error::PeerGone)));
    assert!(matches!(listener.reattach_timeout(&mut link, SOON), Err(Error::PeerGone)));
    peer.kill();
    let mut next = test.peer();
    next.send_command(format!("connect-wait {path} 30000"));
    join(&mut link, &listener, &mut next);
}

#[test]
fn connections_end_with_their_peer() {
    let test = test!(untraced);
    let listener = bind(&test, SMALL);
    let mut peer = caller(&test, &listener);
    let mut link = listener.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    for round in 0..6u64 {
        peer.send_command("conn-accept");
        let ours = link.open_connection_timeout(SOON).unwrap();
        peer.expect_ok();
        peer.send_command("open");
        let theirs = link.accept_connection_timeout(SOON).unwrap();
        let id = peer.expect_ok();
        peer.ask(format!("conn-send {id} 100 {round}"));
        // Under way in both directions when it dies, with a message of the link itself among them.
        ours.send(&bytes(100, 1)).unwrap();
        link.send(&bytes(64, round)).unwrap();
        theirs.send(&bytes(10, 2)).unwrap();
        peer.kill();
        ended(&link);
        let mut next = caller(&test, &listener);
        if round % 2 == 0 {
            unsupported(listener.reattach_timeout(&mut link, SOON), "drop them first");
            assert_eq!(*theirs.recv_timeout(SOON).unwrap(), bytes(100, round));
            assert!(matches!(theirs.recv_timeout(SOON), Err(Error::PeerDead)));
        }
        drop((ours, theirs));
        join(&mut link, &listener, &mut next);
        assert_eq!(
            next.ask("recv"),
            digest(&bytes(64, round)),
            "the message, and nothing of the connections"
        );
        assert!(next.ask_error("try-recv").starts_with("RingEmpty"));
        peer = next;
        assert_eq!(peer.ask("wire-error"), "none");
        whole(&link);
    }
}

#[test]
fn messages_that_were_kept_stay_as_they_were() {
    let test = test!(untraced);
    for extra in ["", "protected"] {
        let listener = bind(&test, &format!("{SMALL} {extra}"));
        let mut peer = caller(&test, &listener);
        let mut link = listener.accept_timeout(SOON).unwrap();
        peer.expect_ok();
        let mut kept = Vec::new();
        for round in 0..4u64 {
            peer.ask(format!("send 64 {round}"));
            kept.push(link.recv().unwrap().detach());
            peer.kill();
            ended(&link);
            let mut next = caller(&test, &listener);
            join(&mut link, &listener, &mut next);
            // Into every buffer that the newcomer may have.
            for seed in 0..8 {
                next.ask(format!("send 64 {}", 1000 + seed));
                assert_eq!(*link.recv().unwrap(), bytes(64, 1000 + seed));
            }
            for (message, round) in kept.iter().zip(0..) {
                assert_eq!(**message, bytes(64, round), "{extra}");
            }
            peer = next;
        }
        let pages = mappings("hqq-payload");
        kept.clear();
        whole(&link);
        peer.kill();
        ended(&link);
        let mut next = caller(&test, &listener);
        join(&mut link, &listener, &mut next);
        if extra == "protected" {
            assert!(
                mappings("hqq-payload") < pages,
                "memory of former peers is unmapped once it is not read"
            );
        }
    }
}

/// How many mappings of this process are of a memfd with this in its name.
fn mappings(name: &str) -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| line.contains(name)).count()
}

#[test]
fn who_never_finished_a_handshake_is_cleared_away_once_dead() {
    let test = test!(untraced);
    let listener = bind(&test, SMALL);
    let mut peer = caller(&test, &listener);
    let mut link = listener.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    let memory = Memory::of(&link);
    // Three that sat down: dead, alive, and one of whom nobody can tell.
    let seats = [3u64, 4, 5].map(|seat| SEAT_1 + 64 * (seat - 1));
    let locked = SeatWord::joined(Holder::new(3, 1), Role::Secondary, true).word();
    memory.write(seats[0], locked);
    memory.write(seats[1], locked);
    memory.write(seats[2], locked & !SeatWord::LOCKED);
    let alive = lock::lock(link.memory(), 4).unwrap().unwrap();
    peer.kill();
    ended(&link);
    let mut next = caller(&test, &listener);
    join(&mut link, &listener, &mut next);
    assert_eq!(memory.read(seats[0]), SeatWord::vacant(2).word());
    assert_eq!([memory.read(seats[1]), memory.read(seats[2])], [locked, locked & !SeatWord::LOCKED]);
    assert!(lock::is_locked(link.memory(), 1).unwrap(), "the newcomer's");
    drop(alive);
    next.kill();
    ended(&link);
    let mut last = caller(&test, &listener);
    join(&mut link, &listener, &mut last);
    assert_eq!(memory.read(seats[1]), SeatWord::vacant(2).word());
}

#[test]
fn a_place_stays_vacant_until_somebody_comes() {
    let test = test!(untraced);
    let listener = bind(&test, SMALL);
    let mut peer = caller(&test, &listener);
    let mut link = listener.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    link.send(&bytes(64, 3)).unwrap();
    peer.kill();
    ended(&link);
    for _ in 0..3 {
        let waited = listener.reattach_timeout(&mut link, Duration::from_millis(20));
        assert!(
            matches!(waited, Err(Error::Timeout { what, .. }) if what.starts_with("a peer")),
            "{waited:?}"
        );
        assert!(matches!(link.send(b"x"), Err(Error::PeerDead)));
        assert!(matches!(link.open_connection(), Err(Error::PeerDead)));
    }
    // One that says nothing, one that hangs up, one that wants less than the region has.
    let mut rude = test.peer();
    let name = format!("\0hqq.{}.{}", hqq_sys::peer::uid(), listener.name());
    let silent = hqq_sys::sock::connect(&hqq_sys::sock::Address::Abstract(name[1..].into())).unwrap();
    rude.send_command(format!("connect {} max-region=4096", listener.name()));
    eventually("both are refused", || {
        let waited = listener.reattach_timeout(&mut link, Duration::from_millis(20));
        assert!(matches!(waited, Err(Error::Timeout { .. })), "{waited:?}");
        listener.refused() == 2
    });
    let mut next = caller(&test, &listener);
    join(&mut link, &listener, &mut next);
    assert!(rude.expect_error().contains("RegionTooLarge"));
    assert_eq!(next.ask("recv"), digest(&bytes(64, 3)));
    drop(silent);
    // The same listener goes on making new links, and both live.
    let mut other = caller(&test, &listener);
    let second = listener.accept_timeout(SOON).unwrap();
    other.expect_ok();
    second.send(b"second").unwrap();
    link.send(b"first").unwrap();
    assert_eq!((other.ask("recv"), next.ask("recv")), (digest(b"second"), digest(b"first")));
}

#[test]
fn a_stopper_and_streams_go_on_with_the_next() {
    let test = test!(untraced);
    let listener = bind(&test, SMALL);
    let mut peer = caller(&test, &listener);
    let mut link = listener.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    let shutdown_handle = link.shutdown_handle();
    link.write_all(&bytes(64, 1)).unwrap();
    peer.kill();
    ended(&link);
    let mut next = caller(&test, &listener);
    join(&mut link, &listener, &mut next);
    assert_eq!(next.ask("read-exact 64"), digest(&bytes(64, 1)));
    // The doorbell is the newcomer's, and so is the process.
    assert!(!link.drive().unwrap());
    next.ask("send 10 5");
    let ready = hqq_sys::poll::many(&[link.as_fd()], Some(SOON)).unwrap();
    assert!(ready[0] && link.drive().unwrap());
    assert_eq!(*link.try_recv().unwrap(), bytes(10, 5));
    assert!(!hqq_sys::peer::is_dead(link.peer_process()));
    shutdown_handle.shutdown(std::net::Shutdown::Both);
    assert!(matches!(link.recv(), Err(Error::Closed)));
    assert!(next.ask_error("recv").starts_with("Closed"));
}

#[test]
fn strangers_take_places_too() {
    let test = test!(untraced);
    let listener = bind(&test, &format!("{SMALL} buffers=16 protected"));
    let connect = || {
        let name = listener.name().to_owned();
        std::thread::spawn(move || hqq::UntrustedLink::connect_timeout(&name, SOON).unwrap())
    };
    let first = connect();
    let mut link = listener.accept_untrusted_timeout(SOON).unwrap();
    let first = first.join().unwrap();
    for number in 0..3 {
        let mut loan = link.loan(180).unwrap();
        loan.bytes_mut().unwrap().copy_from_slice(&bytes(180, number));
        loan.send().unwrap();
    }
    assert_eq!(first.recv().unwrap().to_vec(), bytes(180, 0));
    drop(first);
    let second = connect();
    listener.reattach_untrusted_timeout(&mut link, SOON).unwrap();
    let second = second.join().unwrap();
    assert!(link.is_protected() && second.is_protected());
    assert_eq!(second.recv().unwrap().to_vec(), bytes(180, 1));
    second.send(&bytes(500, 9)).unwrap();
    assert_eq!(link.recv().unwrap().to_vec(), bytes(500, 9));
    assert_eq!(second.recv().unwrap().to_vec(), bytes(180, 2));
}

#[test]
fn who_has_become_another_program_has_left_its_place() {
    let test = test!(untraced);
    let listener = bind(&test, SMALL);
    let mut peer = caller(&test, &listener);
    let mut link = listener.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    link.send(&bytes(64, 1)).unwrap();
    let lock = |seat| lock::is_locked(link.memory(), seat).unwrap();
    assert!(lock(1));
    // Its process lives on; its memory, and with it the lock, does not.
    peer.send_command("exec");
    eventually("the lock is gone", || !lock(1));
    assert!(matches!(link.recv_timeout(SOON), Err(Error::PeerGone)));
    assert!(!hqq_sys::peer::is_dead(link.peer_process()));
    let mut next = caller(&test, &listener);
    join(&mut link, &listener, &mut next);
    assert_eq!(next.ask("recv"), digest(&bytes(64, 1)));
    whole(&link);
}

#[test]
fn a_strangers_place_goes_to_nobody_elses_process() {
    const NOBODY: u32 = 65534;
    let mut test = test!(untraced);
    if hqq_sys::peer::uid() != 0 {
        println!("not root: nobody here can play another user; skipped");
        return;
    }
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let options = hqq_tests::peer::options(test.options(), SMALL.split_whitespace());
    let listener = Listener::bind_with(&path, options).unwrap();
    hqq_tests::test::allow(path.as_ref(), 0o666);
    let mut peer = test.peer_of(NOBODY);
    peer.send_command(format!("untrusted {path}"));
    let mut link = listener.accept_untrusted_timeout(SOON).unwrap();
    peer.expect_ok();
    peer.kill();
    assert!(matches!(link.recv(), Err(Error::PeerDead)));
    let mut ours = test.peer();
    ours.send_command(format!("untrusted {path}"));
    eventually("it is refused", || {
        let waited = listener.reattach_untrusted_timeout(&mut link, Duration::from_millis(20));
        assert!(matches!(waited, Err(Error::Timeout { .. })), "{waited:?}");
        listener.refused() == 1
    });
    assert!(ours.expect_error().contains("NotAdmitted"));
    let mut next = test.peer_of(NOBODY);
    next.send_command(format!("untrusted {path}"));
    listener.reattach_untrusted(&mut link).unwrap();
    next.expect_ok();
    assert_eq!((link.peer().uid, link.peer().pid), (NOBODY, Some(next.pid())));
}
