//! Messages between two processes: every way of sending and receiving, every ring mode, threads on both sides.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;

use bytemuck::{Pod, Zeroable};
use hqq::shm::packet::op;
use hqq::{Error, Listener, Options, RecvIntoError, Role, StandardLink};
use hqq_tests::patience::eventually;
use hqq_tests::pattern::{bytes, digest};
use hqq_tests::{stress, test};

const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];
const MODES: [&str; 4] = ["mpmc", "spsc", "mpsc", "spmc"];

/// A small pool, so that runs and their ends are met early.
const SMALL: &str = "slots=16 buffers=8 buffer-size";

fn small(mode: &str) -> String {
    format!("{} mode={mode}", SMALL.replace("buffer-size", "size=256"))
}

#[test]
fn both_ways_in_every_length_and_mode() {
    let test = test!();
    for (mode, role) in MODES.into_iter().zip(ROLES.into_iter().cycle()) {
        let (link, mut peer) = test.link(role, &small(mode));
        // Empty, inline, at and around its limit, one buffer, runs, the whole pool.
        let longest = link.max_message() as usize;
        assert_eq!(longest, 8 * 256);
        for len in [0, 1, 7, 47, 48, 49, 255, 256, 257, 512, 1000, longest] {
            let seed = len as u64;
            link.send(&bytes(len, seed)).unwrap();
            assert_eq!(peer.ask("recv"), digest(&bytes(len, seed)), "{mode} {len}");
            let mut loan = link.loan(len).unwrap();
            loan.copy_from_slice(&bytes(len, seed + 1));
            loan.send().unwrap();
            assert_eq!(peer.ask("recv"), digest(&bytes(len, seed + 1)), "{mode} {len}");
            peer.ask(format!("send {len} 3"));
            assert_eq!(*link.recv().unwrap(), bytes(len, 3), "{mode} {len}");
            peer.ask(format!("loan {len} 4"));
            assert_eq!(*link.recv().unwrap(), bytes(len, 4), "{mode} {len}");
        }
        match link.send(&bytes(longest + 1, 0)) {
            Err(Error::TooLarge { len, limit }) => assert_eq!((len, limit), (2049, 2048)),
            other => panic!("{other:?}"),
        }
        assert_eq!(peer.ask_error("send 2049 0"), "TooLarge { len: 2049, limit: 2048 }");
        for side in link.stats().directions {
            assert_eq!((side.in_flight, side.buffers_free), (0, 8));
            assert_eq!(side.bytes_sent, side.bytes_received);
        }
        peer.quit();
    }
}

#[test]
fn loans_may_be_shortened_or_dropped() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Primary, "slots=4 buffers=4 size=64");
    for _ in 0..20 {
        let mut loan = link.loan(200).unwrap();
        loan.copy_from_slice(&bytes(200, 9));
        loan.truncate(70);
        loan.send().unwrap();
        let unsent = link.loan(40).unwrap();
        assert_eq!(unsent.len(), 40);
        drop(unsent);
        assert_eq!(peer.ask("recv"), digest(&bytes(70, 9)));
        drop(link.loan(256).unwrap());
    }
    let mut none = link.loan(256).unwrap();
    none.truncate(0);
    none.send().unwrap();
    assert_eq!(peer.ask("recv"), digest(&[]));
    assert_eq!(link.stats().directions[0].buffers_free, 4);
}

#[test]
fn in_place_without_a_handle() {
    let test = test!();
    for (mode, role) in MODES.into_iter().zip(ROLES.into_iter().cycle()) {
        let (link, mut peer) = test.link(role, &small(mode));
        for len in [0, 1, 48, 49, 256, 1000] {
            let filled = link.send_with(len, |place| {
                place.copy_from_slice(&bytes(len, 5));
                place.len()
            });
            assert_eq!(filled.unwrap(), len);
            assert_eq!(peer.ask("recv"), digest(&bytes(len, 5)), "{mode} {len}");
            peer.ask(format!("send {len} 6"));
            assert_eq!(link.recv_with(<[u8]>::to_vec).unwrap(), bytes(len, 6), "{mode} {len}");
        }
        // Who panics sends nothing, and the buffer comes home.
        for len in [48, 49] {
            let panics = || link.send_with(len, |_| -> () { std::panic::resume_unwind(Box::new(())) });
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        }
        for side in link.stats().directions {
            assert_eq!((side.in_flight, side.buffers_free), (0, 8));
        }
        // Who finds the ring full waits.
        (0..16).for_each(|number| link.try_send(&bytes(9, number)).unwrap());
        thread::scope(|scope| {
            let late = scope.spawn(|| link.send_with(9, |place| place.copy_from_slice(&bytes(9, 16))));
            for number in 0..17 {
                assert_eq!(peer.ask("recv"), digest(&bytes(9, number)), "{mode}");
            }
            late.join().unwrap().unwrap();
        });
        peer.quit();
    }
}

#[test]
fn batches() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Secondary, "slots=8 buffers=8 size=64");
    let messages: Vec<_> = (0..20).map(|n| bytes(n * 3, n as u64)).collect();
    let slices: Vec<_> = messages.iter().map(Vec::as_slice).collect();
    // As many as fit, in order.
    assert_eq!(link.send_batch(&slices[..8]).unwrap(), 8);
    assert!(matches!(link.try_send(slices[8]), Err(Error::RingFull { slots: 8 })));
    for message in &messages[..8] {
        assert_eq!(peer.ask("recv"), digest(message));
    }
    // All of them, while the peer receives.
    peer.send_command("bg recv");
    thread::scope(|scope| {
        let sender = scope.spawn(|| link.send_batch(&slices));
        peer.expect_ok();
        assert_eq!(peer.ask("join"), digest(&messages[0]));
        for message in &messages[1..] {
            assert_eq!(peer.ask("recv"), digest(message));
        }
        assert_eq!(sender.join().unwrap().unwrap(), 20);
    });
    assert_eq!(peer.ask("batch 6 60 50"), "6");
    let mut got = Vec::new();
    while got.len() < 6 {
        let most = 6 - got.len().min(4);
        link.recv_batch(&mut got, most).unwrap();
    }
    for (message, seed) in got.iter().zip(50..) {
        assert_eq!(**message, bytes(60, seed));
    }
    assert!(matches!(link.try_recv(), Err(Error::RingEmpty)));
    drop(got);
    // In place, small ones and large ones.
    for len in [40, 60] {
        assert_eq!(peer.ask(format!("batch 6 {len} 70")), "6");
        let mut seeds = 70..;
        let mut taken = link.recv_each(4, |message| assert_eq!(message, bytes(len, seeds.next().unwrap())));
        assert_eq!(taken.as_ref().unwrap(), &4);
        taken = link.recv_each(100, |message| assert_eq!(message, bytes(len, seeds.next().unwrap())));
        assert_eq!(taken.unwrap(), 2);
        assert_eq!(link.recv_each(0, |_| unreachable!()).unwrap(), 0);
    }
    assert_eq!(link.stats().directions[0].buffers_free, 8);
    assert_eq!(link.send_batch(&[]).unwrap(), 0);
}

#[test]
fn a_batch_frees_the_ring_before_it_is_read() {
    const SLOTS: usize = 16;
    const REQUESTS: u64 = 28;
    let _test = test!(untraced);
    let options = Options::new().slots(SLOTS as u32).spin(std::time::Duration::ZERO);
    let (client, server) = StandardLink::pair_with(options).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            // More than the ring holds: the last ones wait for room while the server answers the first.
            (0..REQUESTS).for_each(|number| client.send(&number.to_le_bytes()).unwrap());
            (0..REQUESTS).for_each(|number| assert_eq!(*client.recv().unwrap(), number.to_le_bytes()));
        });
        scope.spawn(|| {
            // Asleep for want of room, ahead of the first and again behind it.
            let asleep = |times| server.stats().sides[0].full_waits >= times;
            eventually("the client waits", || asleep(1));
            let mut answered = 0;
            while answered < REQUESTS as usize {
                let answer = |request: &[u8]| {
                    if request == 0_u64.to_le_bytes() {
                        eventually("the client waits again", || asleep(2));
                    }
                    server.send(request).unwrap();
                };
                answered += server.recv_each(100, answer).unwrap();
            }
        });
    });
}

#[test]
fn streams() {
    const TOTAL: usize = 3 << 20;
    let test = test!();
    for role in ROLES {
        let (mut link, mut peer) = test.link(role, "slots=16 buffers=8 size=4096");
        peer.send_command("bg read");
        peer.expect_ok();
        let sent = bytes(TOTAL, 7);
        // Pieces that fit no buffer evenly, and none at all.
        for piece in sent.chunks(10_007) {
            link.write_all(piece).unwrap();
            assert_eq!(link.write(&[]).unwrap(), 0);
        }
        link.flush().unwrap();
        link.shutdown(Shutdown::Write);
        assert_eq!(peer.ask("join"), digest(&sent));
        peer.ask(format!("bg write {TOTAL} 8"));
        let mut head = vec![0; 1000];
        link.read_exact(&mut head).unwrap();
        let mut all = head;
        peer.send_command("join");
        let mut rest = vec![0; TOTAL - all.len()];
        link.read_exact(&mut rest).unwrap();
        all.append(&mut rest);
        assert_eq!(all, bytes(TOTAL, 8));
        peer.expect_ok();
        peer.ask("shutdown write");
        assert_eq!(link.read(&mut [0; 10]).unwrap(), 0, "the end");
        assert_eq!(link.read(&mut [0; 10]).unwrap(), 0, "and it stays");
    }
}

#[test]
fn a_stream_cut_by_death_is_no_end() {
    let test = test!();
    let (mut link, mut peer) = test.link(Role::Primary, "");
    peer.ask("write 5000 1");
    peer.kill();
    let mut all = Vec::new();
    let error = link.read_to_end(&mut all).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(all, bytes(5000, 1), "what was committed came first");
    assert_eq!(link.write(b"x").unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Pose {
    at: [f64; 9],
    stamp: u64,
}

#[test]
fn typed_values() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Primary, "");
    let pose = Pose { at: [1.5; 9], stamp: 7 };
    let mut loan = link.loan_as::<Pose>().unwrap();
    assert_eq!(*loan, Pose::zeroed(), "whatever the buffer held before");
    *loan = pose;
    loan.send().unwrap();
    assert_eq!(peer.ask("recv"), digest(bytemuck::bytes_of(&pose)));
    let mut small = link.loan_as::<u32>().unwrap();
    *small = 0x1234_5678;
    small.send().unwrap();
    assert_eq!(peer.ask("recv"), digest(&0x1234_5678_u32.to_le_bytes()));
    peer.ask("send 80 1");
    let message = link.recv().unwrap();
    assert_eq!(bytemuck::bytes_of(message.cast::<Pose>().unwrap()), bytes(80, 1));
    match message.cast::<u64>() {
        Err(Error::TypeSize { want: 8, found: 80 }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn detached_messages_outlive_the_link() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Secondary, "slots=8 buffers=4 size=128");
    peer.ask("send 100 1");
    peer.ask("send 300 2");
    let first = link.recv().unwrap().detach();
    let second = link.recv().unwrap().detach();
    assert!(peer.ask_error("try-send 100 3").starts_with("PoolExhausted"), "its buffers are held here");
    let kept = thread::spawn(move || {
        assert_eq!(*first, bytes(100, 1));
        second
    });
    let second = kept.join().unwrap();
    peer.ask("try-send 100 3");
    assert_eq!(*link.recv().unwrap(), bytes(100, 3));
    drop(link);
    peer.kill();
    assert_eq!(*second, bytes(300, 2), "the memory stays");
}

#[test]
fn a_slice_too_small_loses_nothing() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Primary, "");
    for len in [30, 300] {
        peer.ask(format!("send {len} 1"));
        let mut into = vec![0; len - 1];
        match link.recv_into(&mut into) {
            Err(RecvIntoError::TooSmall { message, capacity }) => {
                assert_eq!((&*message, capacity), (&*bytes(len, 1), len - 1));
            }
            other => panic!("{other:?}"),
        }
        peer.ask(format!("send {len} 2"));
        let mut into = vec![0; len + 5];
        assert_eq!(link.recv_into(&mut into).unwrap(), len);
        assert_eq!(into[..len], bytes(len, 2));
        link.send(&bytes(len, 3)).unwrap();
        assert_eq!(peer.ask("recv-into 10"), format!("too small 10 {}", digest(&bytes(len, 3))));
    }
}

#[test]
fn halves_in_every_mode() {
    const COUNT: u64 = 2000;
    let test = test!();
    for (mode, role) in MODES.into_iter().zip(ROLES.into_iter().cycle()) {
        let (link, mut peer) = test.link(role, &small(mode));
        peer.send_command("split-echo");
        let (sender, receiver) = link.split().unwrap();
        let sending = thread::spawn(move || {
            for number in 0..COUNT {
                sender.send(&bytes((number * 7 % 300) as usize, number)).unwrap();
            }
            // Dropping the half says that no more comes.
        });
        for number in 0..COUNT {
            assert_eq!(*receiver.recv().unwrap(), bytes((number * 7 % 300) as usize, number), "{mode}");
        }
        sending.join().unwrap();
        assert_eq!(peer.expect_ok(), COUNT.to_string());
        assert!(matches!(receiver.recv(), Err(Error::Closed)), "{mode}");
    }
}

#[test]
fn a_split_link_carries_no_connections() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Primary, "");
    peer.send_command("conn-accept");
    let connection = link.open_connection().unwrap();
    peer.expect_ok();
    drop(connection);
    assert!(matches!(link.split(), Err(Error::Unsupported { .. })), "too late");
}

/// Threads of both processes, both ways at once, on one shared link.
fn crowds(test: &hqq_tests::Test, options: &str, threads: u64, count: u64) {
    for role in ROLES {
        let (link, mut peer) = test.link(role, options);
        peer.ask(format!("bg produce 100 {threads} {count}"));
        peer.ask(format!("bg consume {threads} 200 {threads} {count}"));
        thread::scope(|scope| {
            let (done, result) = channel();
            let shared: &StandardLink = &link;
            scope.spawn(move || done.send(stress::consume(shared, threads as usize, 100, threads, count)));
            stress::produce(&link, 200, threads, count).unwrap();
            link.shutdown(Shutdown::Write);
            peer.ask("join");
            peer.ask("shutdown write");
            peer.ask("join");
            assert_eq!(result.recv().unwrap(), Ok(()), "{options}");
        });
        let stats = link.stats();
        for direction in stats.directions {
            assert_eq!(direction.packets_sent, direction.packets_received);
            assert_eq!((direction.packets_sent, direction.buffers_free), (threads * count, 8), "{options}");
        }
    }
}

#[test]
fn threads_share_a_link() {
    crowds(&test!(), &small("mpmc"), 4, 1500);
}

#[test]
fn threads_share_a_link_while_connections_come_and_go() {
    const THREADS: u64 = 2;
    const COUNT: u64 = 1500;
    let test = test!();
    for role in ROLES {
        let (link, mut peer) = test.link(role, &small("mpmc"));
        peer.ask("bg serve 8");
        peer.ask(format!("bg produce 100 {THREADS} {COUNT}"));
        peer.ask(format!("bg consume {THREADS} 200 {THREADS} {COUNT}"));
        thread::scope(|scope| {
            let receiver = scope.spawn(|| stress::consume(&link, THREADS as usize, 100, THREADS, COUNT));
            let sender = scope.spawn(|| stress::produce(&link, 200, THREADS, COUNT));
            // The first of them makes every receiver sort what was taken straight from the ring before.
            for number in 0..8 {
                let connection = link.open_connection().unwrap();
                for round in 0..10 {
                    let message = bytes(number * 100 + round, round as u64);
                    connection.send(&message).unwrap();
                    assert!(connection.recv().unwrap() == message);
                }
            }
            peer.ask("join");
            sender.join().unwrap().unwrap();
            peer.ask("join");
            link.shutdown(Shutdown::Write);
            peer.ask("join");
            peer.ask("shutdown write");
            assert_eq!(receiver.join().unwrap(), Ok(()));
        });
    }
}

#[test]
fn what_was_taken_before_others_sort_keeps_its_place() {
    let test = test!(untraced);
    for role in ROLES {
        // Stops the thread that takes the first message, in the middle of taking it.
        let (seen, first_is_taken) = channel();
        let (go_on, may_go_on) = channel::<()>();
        let may_go_on = Mutex::new(may_go_on);
        let options = Options::new().trace(move |event| {
            if !event.sent && event.packet.op == op::INLINE_COPY && event.packet.operands[1] == 1 {
                seen.send(()).unwrap();
                let _ = may_go_on.lock().unwrap().recv();
            }
        });
        let mut peer = test.peer();
        let name = test.link_name();
        let link = if role == Role::Primary {
            let listener = Listener::bind_with(&name, options).unwrap();
            peer.send_command(format!("connect {name}"));
            let link = listener.accept().unwrap();
            peer.expect_ok();
            link
        } else {
            peer.ask(format!("listen {name}"));
            peer.send_command("accept");
            let link = StandardLink::connect_with(&name, options).unwrap();
            peer.expect_ok();
            link
        };
        for number in 1..=3u64 {
            peer.ask(format!("send-number {number}"));
        }
        thread::scope(|scope| {
            let first = scope.spawn(|| *link.recv().unwrap().cast::<u64>().unwrap());
            // Dropped if this thread fails, so that the other goes on.
            let go_on = go_on;
            first_is_taken.recv().unwrap();
            // From here on packets are sorted, which takes the others out of the ring.
            assert!(matches!(link.try_accept_connection(), Err(Error::NoneWaiting)));
            assert!(link.stats().sent_by(role.other()).in_flight <= 1);
            go_on.send(()).unwrap();
            assert_eq!(first.join().unwrap(), 1);
        });
        for number in 2..=3 {
            assert_eq!(*link.recv().unwrap().cast::<u64>().unwrap(), number);
        }
    }
}

#[test]
fn threads_share_a_link_that_allows_one_at_a_time() {
    let test = test!();
    for mode in &MODES[1..] {
        crowds(&test, &small(mode), 3, 1500);
    }
}

#[test]
fn without_sleeping() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Primary, "slots=16 buffers=8 size=256 wait=spin");
    peer.ask("bg echo 200");
    for number in 0..200 {
        link.send(&bytes(number as usize, number)).unwrap();
        assert_eq!(*link.recv().unwrap(), bytes(number as usize, number));
    }
    peer.ask("join");
    for side in link.stats().sides {
        assert_eq!((side.sleeps, side.rings), (0, 0));
    }
    // Who only spins sees the ends all the same.
    peer.ask("send 10 1");
    peer.kill();
    assert_eq!(*link.recv().unwrap(), bytes(10, 1));
    assert!(matches!(link.recv(), Err(Error::PeerDead)));
}
