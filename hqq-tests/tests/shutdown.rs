// unsafe: another process at the peer's side is played on a mapping of our own.
//! Shutdown of a half, of a connection and of a peer: nothing sent before it is lost, and no call waits for something that
//! cannot come any more.

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hqq::shm::layout::required_scratch;
use hqq::shm::region::{Region, Views};
use hqq::shm::words::SeatWord;
use hqq::{Error, Listener, Offer, Options, Role, StandardLink};
use hqq_sys::mem::Mapping;
use hqq_sys::peer::uid;
use hqq_tests::mock::{GREETING, Memory, SEAT_1, shake};
use hqq_tests::patience::SOON;
use hqq_tests::pattern::{bytes, digest};
use hqq_tests::test::{asleep, sleeps};
use hqq_tests::{eventually, test};

const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];
const MODES: [&str; 4] = ["mpmc", "spsc", "mpsc", "spmc"];
const SHORT: Duration = Duration::from_millis(40);

#[track_caller]
fn closed<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Closed)), "{result:?}");
}

#[test]
fn what_a_link_had_taken_from_the_ring_goes_to_its_receiving_half() {
    let test = test!(untraced);
    for (mode, role) in MODES.into_iter().zip(ROLES.into_iter().cycle()) {
        let (link, mut peer) = test.link(role, &format!("mode={mode}"));
        for seed in 0..5 {
            peer.ask(format!("send 100 {seed}"));
        }
        assert_eq!(*link.recv().unwrap(), bytes(100, 0));
        let (sender, receiver) = link.split().unwrap();
        for seed in 1..5 {
            assert_eq!(*receiver.recv_timeout(SOON).unwrap(), bytes(100, seed), "{mode}");
        }
        assert!(matches!(receiver.try_recv(), Err(Error::RingEmpty)), "{mode}");
        peer.ask("send 30 6");
        assert_eq!(*receiver.recv_timeout(SOON).unwrap(), bytes(30, 6));
        sender.send(&bytes(100, 7)).unwrap();
        assert_eq!(peer.ask("recv"), digest(&bytes(100, 7)));
    }
}

#[test]
fn a_full_inbox_keeps_back_nothing_that_was_sent_before_the_end() {
    let test = test!(untraced);
    for (role, orderly, seen) in
        ROLES.into_iter().flat_map(|role| [(role, false, false), (role, true, true), (role, false, true)])
    {
        let (link, mut peer) = test.link(role, "inbox=4");
        let [idle, busy] = [(); 2].map(|()| {
            peer.send_command("open");
            let connection = link.accept_connection().unwrap();
            peer.expect_ok();
            connection
        });
        for seed in 0..10 {
            peer.ask(format!("conn-send {} 100 {seed}", idle.id()));
        }
        peer.ask(format!("conn-send {} 100 50", busy.id()));
        peer.ask("send 100 60");
        if seen {
            assert!(matches!(busy.recv_timeout(SHORT), Err(Error::Timeout { .. })), "it stops the link");
        }
        if orderly {
            peer.quit()
        } else {
            peer.kill()
        }
        let over = |result: Result<Vec<u8>, Error>| match result {
            Err(Error::Closed) => assert!(orderly),
            Err(Error::PeerDead) => assert!(!orderly),
            other => panic!("{other:?}"),
        };
        assert_eq!(busy.recv_timeout(SOON).unwrap(), bytes(100, 50));
        over(busy.recv_timeout(SOON));
        assert_eq!(*link.recv_timeout(SOON).unwrap(), bytes(100, 60));
        over(link.recv_timeout(SOON).map(|message| message.to_vec()));
        over(link.accept_connection_timeout(SOON).map(|_| Vec::new()));
        for seed in 0..10 {
            assert_eq!(idle.recv_timeout(SOON).unwrap(), bytes(100, seed));
        }
        over(idle.recv_timeout(SOON));
    }
}

#[test]
fn who_closed_in_order_cannot_take_it_back() {
    let test = test!(untraced);
    for (role, seat, word) in [(Role::Primary, SEAT_1, 0x14A), (Role::Secondary, SEAT_1 - 64, 0x142)] {
        let (link, mut peer) = test.link(role, "");
        let memory = Memory::of(&link);
        peer.ask("send 100 1");
        peer.ask("drop");
        assert!(!link.is_open());
        assert_ne!(memory.read(seat), word);
        memory.write(seat, word);
        assert_eq!(*link.recv_timeout(SOON).unwrap(), bytes(100, 1));
        closed(link.recv_timeout(SOON));
        closed(link.send_timeout(b"x", SOON));
        closed(link.accept_connection_timeout(SOON));
        closed(link.open_connection_timeout(SOON));
        assert!(!link.is_open());
    }
}

#[test]
fn a_close_comes_behind_every_message_that_was_sent() {
    const ROUNDS: usize = 400;
    let _test = test!(untraced);
    let (primary, secondary) = StandardLink::pair().unwrap();
    thread::scope(|scope| {
        // Tells on each connection how many messages came.
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                let connection = secondary.accept_connection_timeout(SOON).unwrap();
                let mut count = 0u64;
                while connection.recv_timeout(SOON).is_ok() {
                    count += 1;
                }
                // The other end may have panicked over what it found.
                let _ = connection.send(&count.to_le_bytes());
            }
        });
        for _ in 0..ROUNDS {
            let connection = primary.open_connection().unwrap();
            let going = AtomicBool::new(false);
            let sent = thread::scope(|scope| {
                let sender = scope.spawn(|| {
                    let mut count = 0u64;
                    while connection.send(b"data").is_ok() {
                        count += 1;
                        going.store(true, Ordering::Relaxed);
                    }
                    count
                });
                while !going.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                connection.shutdown(Shutdown::Write);
                sender.join().unwrap()
            });
            let reply = connection.recv_timeout(SOON).expect("the other half is whole");
            assert_eq!(reply, sent.to_le_bytes());
        }
    });
}

#[test]
fn a_stopper_ends_either_half_of_a_split_link() {
    let test = test!(untraced);
    let offer = Offer::new(test.options()).unwrap();
    let mut peer = test.peer_with(|command| offer.pass_to(command).unwrap());
    peer.send_command("inherit");
    let link = offer.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    let shutdown_handle = link.shutdown_handle();
    let (sender, receiver) = link.split().unwrap();
    let waiting = thread::spawn(move || (receiver.recv_timeout(SOON).map(drop), receiver));
    shutdown_handle.clone().shutdown(Shutdown::Read);
    let (ended, receiver) = waiting.join().unwrap();
    closed(ended);
    assert_eq!(peer.ask_error("send 10 1"), "Closed");
    sender.send(&bytes(10, 2)).unwrap();
    assert_eq!(peer.ask("recv"), digest(&bytes(10, 2)), "the other half is whole");
    shutdown_handle.shutdown(Shutdown::Write);
    closed(sender.send(b"x"));
    assert_eq!(peer.ask_error("recv"), "Closed");
    // It does nothing once both are gone.
    drop((sender, receiver));
    shutdown_handle.shutdown(Shutdown::Both);
    assert_eq!(peer.ask_error("recv"), "Closed");
}

#[test]
fn a_caller_that_died_is_no_failure_of_the_listener() {
    let test = test!(untraced);
    let name = test.link_name();
    let listener = Listener::bind(&name).unwrap();
    let none_comes = || assert!(matches!(listener.try_accept(), Err(Error::NoneWaiting)));
    let mut peer = test.peer();
    peer.ask(format!("sock-connect @hqq.{}.{name}", uid()));
    none_comes();
    assert!(peer.ask("sock-recv").starts_with("20"), "it was greeted");
    let [magic, format, version] = GREETING;
    peer.ask(format!("sock-send {} {magic} {format} {version} {}", shake::JOIN, 1 << 30));
    // Its JOIN is there, and nobody any more whom the kernel could name.
    peer.kill();
    eventually("it is refused", || {
        none_comes();
        listener.refused() == 1
    });
}

#[test]
fn what_waits_to_go_out_goes_while_the_link_receives() {
    let test = test!(untraced);
    for role in ROLES {
        let (link, mut peer) = test.link(role, "slots=2 buffers=2 size=64");
        peer.send_command("conn-accept");
        let connection = link.open_connection().unwrap();
        let id = peer.expect_ok();
        link.send(&bytes(10, 1)).unwrap();
        link.send(&bytes(10, 2)).unwrap();
        // The ring is full: that the connection is closed cannot be said yet.
        drop(connection);
        let before = sleeps(&link);
        thread::scope(|scope| {
            let receiver = scope.spawn(|| link.recv_timeout(SOON).map(|message| message.to_vec()));
            asleep(&link, before);
            peer.ask(format!("bg conn-recv {id}"));
            assert_eq!(peer.ask_any("join"), "error Closed");
            peer.ask("send 10 3");
            assert_eq!(receiver.join().unwrap().unwrap(), bytes(10, 3));
        });
        assert_eq!(peer.ask("recv"), digest(&bytes(10, 1)));
        assert_eq!(peer.ask("recv"), digest(&bytes(10, 2)));
    }
}

/// What is published at the last moment is received: somebody on the peer's side sends, and the peer says that it
/// sends no more, while this end looks at the one and then at the other without pause.
#[test]
fn a_receiver_looks_once_more_when_it_sees_the_end() {
    const ROUNDS: u32 = 2000;
    let _test = test!(untraced);
    let began = Instant::now();
    // Two threads that spin take a round of the scheduler each time, where others want the processors too.
    for round in (0..=ROUNDS).take_while(|_| began.elapsed() < SOON) {
        let (link, peer) =
            StandardLink::pair_with(Options::new().slots(4).buffers(4).buffer_size(64)).unwrap();
        let layout = *Memory::of(&link).layout();
        let mapping = Mapping::map(link.memory(), layout.len as usize).unwrap();
        let mut scratch = vec![0; required_scratch(&layout.geometry)];
        let looks = AtomicBool::new(false);
        thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                let mut got = Vec::new();
                loop {
                    match link.try_recv() {
                        Ok(message) => got.push(message[0]),
                        Err(Error::RingEmpty) => looks.store(true, Ordering::Relaxed),
                        Err(error) => return (got, error),
                    }
                }
            });
            // SAFETY: the mapping outlives the region and the views; only the protocol touches it.
            let (other, views) = unsafe {
                let (base, len) = (mapping.base(), mapping.len() as u64);
                let other = Region::attach(base, len, layout.page, Role::Secondary, &mut scratch).unwrap();
                (other, Views::new(base, len, layout.page).unwrap())
            };
            while !looks.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            (0..round % 80 * 3).for_each(|_| std::hint::spin_loop());
            other.send_bytes(&[round as u8], |_| {}).unwrap();
            views.superblock().seats[1].word.fetch_or(SeatWord::NO_SEND, Ordering::AcqRel);
            let (got, error) = receiver.join().unwrap();
            assert!(matches!(error, Error::Closed), "{error:?}");
            assert_eq!(got, [round as u8]);
        });
        drop(peer);
    }
}
