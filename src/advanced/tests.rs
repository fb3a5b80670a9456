//! What cannot be seen from outside the crate, or not with clocks that stand.

use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::error::{Error, ErrorCode};
use crate::link::standard::StandardLink;
use crate::options::{Clock, Options};
use crate::shm::layout::RingMode;
use crate::shm::packet::{ConnCopy, Packet, op};
use crate::shm::words::Role;
use crate::sync::Ordering;

const SOON: Duration = Duration::from_secs(5);

/// Two ends with a clock that they both go by.
fn measured(options: Options) -> (AdvancedLink, AdvancedLink, Clock) {
    let clock = Clock::new();
    clock.advance(Duration::from_secs(100 * 3600));
    let (primary, secondary) = StandardLink::pair_with(options.clock(&clock)).unwrap();
    let (ours, theirs) = (AdvancedOptions::new().statistics(), AdvancedOptions::new().statistics());
    let peer = thread::spawn(move || AdvancedLink::wait_for_negotiation(secondary, &theirs, SOON).unwrap());
    let primary = AdvancedLink::negotiate(primary, &ours, SOON).unwrap();
    (primary, peer.join().unwrap(), clock)
}

fn all_modes() -> [Options; 4] {
    [RingMode::Mpmc, RingMode::Spsc, RingMode::Mpsc, RingMode::Spmc]
        .map(|ring| Options::new().ring_mode(ring))
}

/// A link that has sorted once goes the long way for good.
#[test]
fn probes_do_not_make_a_link_sort() {
    let (primary, secondary, clock) = measured(Options::new());
    for _ in 0..100 {
        primary.send(b"short").unwrap();
        clock.advance(Duration::from_millis(1));
        assert_eq!(&*secondary.recv().unwrap(), b"short");
    }
    assert_eq!(primary.metrics().unwrap().directions[0].latency.count(), 100);
    assert!(secondary.link.core().takes_straight());
}

#[test]
fn probes_of_no_possible_time_are_refused() {
    for options in all_modes() {
        let (primary, secondary, clock) = measured(options);
        let day = 24 * 3600 * 1_000_000_000;
        let now = clock.now().as_nanos() as u64;
        for (at, refused) in
            [(now, 0), (now - day, 0), (now - day - 1, 1), (now + 1, 2), (0, 3), (u64::MAX, 4)]
        {
            let region = primary.link.core().region();
            region.send_packet(&Packet::new(op::PROBE, [at]), |_| {}).unwrap();
            assert!(matches!(secondary.try_recv(), Err(Error::RingEmpty)));
            let side = *secondary.stats().side(Role::Secondary);
            assert_eq!((side.refused_with(ErrorCode::InvalidOp), side.refused_total()), (refused, refused));
        }
        let latency = secondary.metrics().unwrap().directions[0].latency.clone();
        assert_eq!((latency.count(), latency.max()), (2, Some(Duration::from_nanos(day))));
        // The link goes on, and tells the one who sent them.
        secondary.send(b"after all").unwrap();
        assert_eq!(&*primary.recv().unwrap(), b"after all");
        assert_eq!(primary.stats().side(Role::Primary).errors_received[6], 4);
    }
}

/// One that has agreed on something else knows the packet, and takes none.
#[test]
fn probes_that_nobody_agreed_on_are_refused() {
    let (primary, secondary) = StandardLink::pair().unwrap();
    primary.core().region().send_packet(&Packet::new(op::PROBE, [1]), |_| {}).unwrap();
    primary.send(b"behind it").unwrap();
    assert_eq!(&*secondary.recv().unwrap(), b"behind it");
    let side = *secondary.stats().side(Role::Secondary);
    assert_eq!((side.refused_with(ErrorCode::InvalidOp), side.refused_total()), (1, 1));
    let words = secondary.core().region().metrics(Role::Secondary).words();
    assert!(words.into_iter().all(|word| word.load(Ordering::Relaxed) == 0));
}

/// Behind a pause nobody waits for a thousand messages.
#[test]
fn whoever_wakes_the_other_measures_soon() {
    let (primary, secondary, clock) = measured(Options::new());
    for _ in 0..20_000 {
        primary.send(b"dense").unwrap();
        clock.advance(Duration::from_nanos(100));
        secondary.recv().unwrap();
    }
    let before = primary.metrics().unwrap().directions[0].probes_sent;
    assert!((2..=4).contains(&before), "{before}");
    for _ in 0..12 {
        // As a receiver who is about to sleep does.
        assert!(!secondary.drive().unwrap());
        clock.advance(Duration::from_millis(1));
        primary.send(b"rare").unwrap();
        secondary.recv().unwrap();
    }
    assert!(primary.metrics().unwrap().directions[0].probes_sent > before);
}

/// Another thread's long chunk goes first, in the look of the sender that sleeps: its own goes in that look too, and it knows.
#[test]
fn a_sender_that_sleeps_learns_that_its_chunk_has_gone() {
    const LEN: u64 = 1 << 20;
    let soon = Duration::from_secs(60);
    let wanted = || AdvancedOptions::new().flow_control(4);
    let options = Options::new().slots(64).buffers(16).buffer_size(LEN);
    let (primary, secondary) = StandardLink::pair_with(options).unwrap();
    let peer = thread::spawn(move || {
        let link = AdvancedLink::wait_for_negotiation(secondary, &wanted(), soon).unwrap();
        let connections = [(); 2].map(|()| link.accept_connection().unwrap());
        (link, connections)
    });
    let link = AdvancedLink::negotiate(primary, &wanted(), soon).unwrap();
    let [first, second] = [(); 2].map(|()| link.open_connection().unwrap());
    let peer = peer.join().unwrap();
    let core = link.core();
    let mut taken: Vec<_> = std::iter::from_fn(|| core.take_buffer(LEN as usize).ok()).collect();
    let long = vec![7; LEN as usize];
    let chunk = ConnCopy {
        conn: first.id(),
        copy_id: 0,
        copy_size: LEN,
        transfer_size: LEN,
        transfer_offset: 0,
        run: None,
    };
    // As by a thread that is about to wait for its turn.
    assert_eq!(core.demux(0).submit_chunk(chunk, &long, |_| Error::Closed).unwrap(), None);
    let sleeps = || link.stats().side(link.role()).sleeps;
    let before = sleeps();
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let began = Instant::now();
            second.send_timeout(&long, soon).map(|()| began.elapsed())
        });
        while sleeps() == before {
            thread::yield_now();
        }
        let guard = core.demux(0);
        taken.drain(..2).for_each(|buffer| core.give_buffer(buffer));
        drop(guard);
        let took = sender.join().unwrap().unwrap();
        assert!(took < soon / 2, "{took:?}");
    });
    taken.into_iter().for_each(|buffer| core.give_buffer(buffer));
    drop(peer);
}

/// A hook that has panicked is not called once more, but any other panic leaves the close to be sent.
#[test]
fn a_connection_that_a_panic_drops_is_closed() {
    for options in [Options::new(), Options::new().trace(|_| {})] {
        let (primary, secondary) = StandardLink::pair_with(options).unwrap();
        let peer = thread::spawn(move || (secondary.accept_connection().unwrap(), secondary));
        let connection = primary.open_connection().unwrap();
        let (theirs, secondary) = peer.join().unwrap();
        let panicked = thread::spawn(move || {
            let _dropped = connection;
            panic!("for the test");
        });
        assert!(panicked.join().is_err());
        assert!(matches!(theirs.recv_timeout(Duration::from_secs(60)), Err(Error::Closed)));
        drop((primary, secondary));
    }
}
