// unsafe: an allocator that counts can be written in no other way.
//! The cost of a message while both sides are awake: no allocation, no system call. The cost of waiting: no processor time.
//! After a link has ended: nothing is left behind.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;
use std::{fs, thread};

use hqq::{Error, Listener, Options, Role, StandardLink};
use hqq_tests::patience::SOON;
use hqq_tests::pattern::bytes;
use hqq_tests::{eventually, test};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread asks of it.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; the counter is a thread's own and needs no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's.
        unsafe { System.realloc(at, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread asked for memory in `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| ()), 0);
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn a_message_allocates_nothing() {
    const COUNT: u64 = 10_000;
    for mode in [hqq::RingMode::Mpmc, hqq::RingMode::Spsc] {
        let (primary, secondary) = StandardLink::pair_with(Options::new().ring_mode(mode)).unwrap();
        // In the slot, in a buffer, in a run of three.
        for len in [0, 48, 1000, 40_000] {
            let message = bytes(len, 1);
            let mut into = vec![0; len];
            let mut exchange = |count| {
                for _ in 0..count {
                    primary.send(&message).unwrap();
                    assert_eq!(secondary.recv().unwrap().len(), len);
                    let mut loan = secondary.loan(len).unwrap();
                    loan.fill(2);
                    loan.send().unwrap();
                    assert_eq!(primary.recv_into(&mut into).unwrap(), len);
                }
            };
            // Where a link's threads take turns, its inbox gets its memory with the first message.
            exchange(1);
            assert_eq!(allocations(|| exchange(COUNT - 1)), 0, "{mode:?}, {len} bytes");
        }
        let stats = primary.stats();
        assert!(stats.directions.iter().all(|direction| direction.packets_sent == 4 * COUNT));
        assert!(stats.sides.iter().all(|side| (side.sleeps, side.rings) == (0, 0)));
    }
}

#[test]
fn with_a_peer_that_is_awake_too_nothing_is_allocated_and_nobody_is_rung() {
    // Each of them takes a round of the scheduler where others want the processors too: both sides yield, none sleeps.
    const COUNT: u64 = 1000;
    let test = test!(untraced);
    for len in [40, 4000] {
        let (link, mut peer) = test.link(Role::Primary, "");
        let message = bytes(len, 1);
        peer.send_command(format!("busy-echo {COUNT}"));
        let spent = allocations(|| {
            for _ in 0..COUNT {
                link.try_send(&message).unwrap();
                let echo = loop {
                    match link.try_recv() {
                        Err(Error::RingEmpty) => thread::yield_now(),
                        done => break done.unwrap(),
                    }
                };
                assert_eq!(echo.len(), len);
            }
        });
        peer.expect_ok();
        assert_eq!(spent, 0, "{len} bytes");
        for side in link.stats().sides {
            assert_eq!((side.sleeps, side.rings, side.wakes), (0, 0, 0), "{len} bytes");
        }
    }
}

#[test]
fn a_message_makes_no_system_call() {
    let mut peer = test!(untraced).peer();
    // The thread is killed at the first call but read, write and exit. `max` sleeps in no round.
    for len in [0, 48, 1000, 40_000] {
        assert_eq!(peer.ask(format!("strict 10000 {len} 4294967295")), "10000 0", "{len} bytes");
    }
    // To see that it would have been: the sleep in round 5.
    assert_eq!(test!(untraced).peer().ask_error("strict 10000 48 5"), "\"killed after 5\"");
}

#[test]
fn waiting_uses_no_processor_time() {
    let test = test!(untraced);
    for (wait, options) in
        [("recv", "slots=4"), ("send 8 1", "slots=4"), ("conn-accept", "slots=4"), ("conn-recv 2", "")]
    {
        let (link, mut peer) = test.link(Role::Primary, options);
        match wait {
            "send 8 1" => drop(peer.ask("fill 8 1")),
            "conn-recv 2" => {
                peer.send_command("open");
                let connection = link.accept_connection().unwrap();
                peer.expect_ok();
                // Kept open to the end of the process: the peer waits for what never comes.
                std::mem::forget(connection);
            }
            _ => {}
        }
        peer.ask(format!("bg {wait}"));
        eventually("it sleeps", || link.stats().side(Role::Secondary).sleeps > 0);
        let micros = |peer: &mut hqq_tests::Peer| peer.ask("cpu").parse::<u64>().unwrap();
        let before = micros(&mut peer);
        thread::sleep(Duration::from_millis(300));
        let spent = micros(&mut peer) - before;
        assert!(spent < 20_000, "{wait}: {spent} us of 300 ms");
        assert!(link.stats().side(Role::Secondary).sleeps < 5, "{wait}: it did not stay asleep");
    }
}

#[test]
fn how_long_a_wait_spins_can_be_chosen() {
    for (spin, sleeps) in [(Duration::ZERO, true), (Duration::from_secs(60), false)] {
        let (link, _peer) = StandardLink::pair_with(Options::new().spin(spin)).unwrap();
        let late = link.recv_timeout(Duration::from_millis(20)).map(drop);
        assert!(matches!(late, Err(Error::Timeout { .. })), "{late:?}");
        let alone = hqq_sys::cpu::online() == 1;
        assert_eq!(link.stats().side(link.role()).sleeps > 0, sleeps || alone, "{spin:?}");
    }
}

/// Descriptors and regions that a process has.
fn left(told: &str) -> (u32, u32) {
    let (open, mapped) = told.split_once(' ').unwrap();
    (open.parse().unwrap(), mapped.parse().unwrap())
}

#[test]
fn links_leave_nothing_behind() {
    let test = test!(untraced);
    let name = test.link_name();
    let mut host = test.peer();
    let mut guest = test.peer();
    host.ask(format!("listen {name} slots=16 buffers=8 size=1024"));
    let rounds = |host: &mut hqq_tests::Peer, guest: &mut hqq_tests::Peer, count: u32| {
        guest.send_command(format!("cycle {name} {count}"));
        for _ in 0..count {
            host.ask("accept");
            host.ask("echo 1");
            host.ask("drop");
        }
        guest.expect_ok();
        (left(&host.ask("left")), left(&guest.ask("left")))
    };
    let first = rounds(&mut host, &mut guest, 3);
    assert_eq!((first.0.1, first.1.1), (0, 0), "no region stays mapped");
    assert_eq!(rounds(&mut host, &mut guest, 200), first);
    // Callers that die in the handshake leave nothing either, nor do the dead.
    host.ask("unlisten");
    let mut test = test!(untraced);
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    host.ask(format!("listen {path}"));
    for _ in 0..20 {
        let mut hostile = test.peer();
        hostile.ask(format!("sock-connect {path}"));
        hostile.send_command("sock-join");
        host.send_command("accept");
        hostile.expect_ok();
        hostile.kill();
        let mut dead = test.peer();
        dead.ask(format!("connect {path}"));
        host.expect_ok();
        dead.kill();
        assert_eq!(host.ask_error("recv"), "PeerDead");
        host.ask("drop");
    }
    assert_eq!(left(&host.ask("left")), first.0);
    // Nor do those who live and fall silent. A busy machine may keep an honest caller from being done in so short a
    // time too: it tries again.
    host.ask("unlisten");
    host.ask(format!("listen {path} handshake-ms=50"));
    for _ in 0..5 {
        host.ask("bg accept");
        let mut silent = test.peer();
        silent.ask(format!("sock-connect {path}"));
        silent.ask_any("sock-join");
        eventually("it is hung up on", || silent.ask_any("sock-recv") == "ok 0 bytes");
        let mut honest = test.peer();
        eventually("it is accepted", || honest.ask_any(format!("connect {path}")).starts_with("ok"));
        host.ask("join");
        host.ask("drop");
        assert_eq!(left(&host.ask("left")), first.0);
    }
}

#[test]
fn the_region_is_gone_with_its_processes() {
    let test = test!(untraced);
    let name = test.link_name();
    let listener = Listener::bind(&name).unwrap();
    let mut peer = test.peer();
    peer.send_command(format!("connect {name}"));
    let link = listener.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    let here = || {
        let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.filter(|target| target.to_string_lossy().contains(&format!("memfd:hqq:{name}"))).count()
    };
    assert_eq!(here(), 1, "the region has the link's name");
    let message_keeps_it = {
        peer.ask("send 100 1");
        link.recv().unwrap().detach()
    };
    drop(link);
    let mapped = || fs::read_to_string("/proc/self/maps").unwrap().contains(&format!("memfd:hqq:{name}"));
    assert!(mapped());
    assert_eq!(*message_keeps_it, bytes(100, 1));
    drop(message_keeps_it);
    assert_eq!((here(), mapped()), (0, false));
}
