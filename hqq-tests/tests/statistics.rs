//! The feature statistics: the measured values match what happened.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use hqq::Connection;
use hqq::advanced::AdvancedOptions;
use hqq::observe::Observer;
use hqq::observe::{DirectionMetrics, Metrics};
use hqq::shm::packet::op;
use hqq::{AdvancedLink, Clock, Error, Options, RingMode, Role, StandardLink, TraceEvent, WaitMode};
use hqq_tests::agree::{message, summary, wanted};
use hqq_tests::eventually;
use hqq_tests::patience::SOON;
use hqq_tests::pattern;
use hqq_tests::test;

fn want(words: &str) -> AdvancedOptions {
    wanted(words.split_whitespace())
}

/// Two ends that want this, with a clock that they both go by.
fn pair(options: Options, words: &str) -> (AdvancedLink, AdvancedLink, Clock) {
    let clock = Clock::new();
    clock.advance(Duration::from_secs(1));
    let (primary, secondary) = StandardLink::pair_with(options.clock(&clock)).unwrap();
    let (ours, theirs) = (want(words), want(words));
    let peer = thread::spawn(move || AdvancedLink::wait_for_negotiation(secondary, &theirs, SOON).unwrap());
    let primary = AdvancedLink::negotiate(primary, &ours, SOON).unwrap();
    (primary, peer.join().unwrap(), clock)
}

fn connected(near: &AdvancedLink, far: &AdvancedLink) -> (Connection, Connection) {
    thread::scope(|scope| {
        let peer = scope.spawn(|| far.accept_connection_timeout(SOON).unwrap());
        (near.open_connection_timeout(SOON).unwrap(), peer.join().unwrap())
    })
}

fn of(link: &AdvancedLink, sender: Role) -> DirectionMetrics {
    link.metrics().expect("they have agreed").sent_by(sender).clone()
}

const MODES: [RingMode; 4] = [RingMode::Mpmc, RingMode::Spsc, RingMode::Mpsc, RingMode::Spmc];
const COUNT: u64 = 100;

/// Whatever is measured has that latency: within a bucket each, and to the nanosecond in the sum.
fn all_took(figures: &DirectionMetrics, count: u64, latency: Duration) {
    let told = &figures.latency;
    assert_eq!((told.count(), told.sum()), (count, latency * count as u32));
    assert_eq!((told.max(), told.quantile(1.0)), (Some(latency), Some(latency)));
    let (least, most, all) = told.buckets().next().unwrap();
    assert!(least <= latency && latency <= most && u64::from(all) == count, "{told:?}");
    assert_eq!((figures.probes_sent, figures.probes_skipped), (count, 0));
}

#[test]
fn messages_that_wait_so_long_have_that_latency() {
    let latency = Duration::from_micros(3_500);
    for (ring, wait) in
        MODES.into_iter().flat_map(|ring| [(ring, WaitMode::Adaptive), (ring, WaitMode::Spin)])
    {
        for len in [10, 5000] {
            let (primary, secondary, clock) =
                pair(Options::new().ring_mode(ring).wait_mode(wait), "statistics=1");
            let sent = pattern::bytes(len, 1);
            for turn in 0..COUNT {
                let (near, far) = if turn % 2 == 0 { (&primary, &secondary) } else { (&secondary, &primary) };
                match turn / 2 % 4 {
                    0 => near.send(&sent).unwrap(),
                    1 => near.try_send(&sent).unwrap(),
                    2 => near.send_with(len, |bytes| bytes.copy_from_slice(&sent)).unwrap(),
                    _ => {
                        let mut loan = near.loan(len).unwrap();
                        loan.copy_from_slice(&sent);
                        loan.send().unwrap();
                    }
                }
                clock.advance(latency);
                match turn / 2 % 3 {
                    0 => assert_eq!(*far.recv().unwrap(), sent),
                    1 => assert_eq!(*far.try_recv().unwrap(), sent),
                    _ => far.recv_with(|bytes| assert_eq!(bytes, sent)).unwrap(),
                }
            }
            for role in [Role::Primary, Role::Secondary] {
                all_took(&of(&primary, role), COUNT / 2, latency);
                assert_eq!(primary.stats().side(role).refused_total(), 0);
            }
        }
    }
}

#[test]
fn chunks_of_connections_are_measured_too() {
    for ring in MODES {
        let (primary, secondary, clock) = pair(Options::new().ring_mode(ring), "statistics=1");
        let opened = connected(&primary, &secondary);
        let latency = Duration::from_millis(20);
        for _ in 0..COUNT {
            opened.0.send(b"hello").unwrap();
            clock.advance(latency);
            assert_eq!(opened.1.recv().unwrap(), b"hello");
        }
        all_took(&of(&secondary, Role::Primary), COUNT, latency);
    }
}

#[test]
fn dense_messages_are_sampled_and_rates_are_theirs() {
    let (primary, secondary, clock) = pair(Options::new().slots(4096), "statistics=1");
    for _ in 0..100_000 {
        primary.send(&[7; 40]).unwrap();
        clock.advance(Duration::from_micros(5));
        secondary.recv().unwrap();
    }
    // Half a second, at a thousand samples a second or a few less.
    let figures = of(&primary, Role::Primary);
    assert!((400..=500).contains(&figures.probes_sent), "{figures:?}");
    assert_eq!(figures.latency.count(), figures.probes_sent);
    // The ring's words are added up little by little, so it is a matter of some messages.
    let near = |told: u64, exact: u64| told.abs_diff(exact) <= exact / 50;
    assert_eq!(figures.messages_per_second, 200_000);
    assert!(near(figures.bytes_per_second, 8_000_000), "{figures:?}");
    let at = figures.rated_at.unwrap();
    assert!(at > Duration::from_millis(1300) && at <= Duration::from_millis(1500), "{at:?}");
    assert_eq!(of(&primary, Role::Secondary).rated_at, None);
}

#[test]
fn a_ring_without_room_has_none_for_probes() {
    for ring in MODES {
        let (primary, secondary, clock) = pair(Options::new().slots(16).ring_mode(ring), "statistics=1");
        let mut sent = 0_u8;
        for _ in 0..40 {
            clock.advance(Duration::from_millis(2));
            match primary.try_send(&[sent]) {
                Ok(()) => sent += 1,
                Err(error) => assert!(matches!(error, Error::RingFull { .. }), "{error}"),
            }
        }
        let figures = of(&primary, Role::Primary);
        // In turns with messages, until an eighth is left.
        assert_eq!((figures.probes_sent, sent), (7, 9));
        assert!(figures.probes_skipped > 0, "{figures:?}");
        for expected in 0..sent {
            assert_eq!(*secondary.recv().unwrap(), [expected]);
        }
        assert!(matches!(secondary.try_recv(), Err(Error::RingEmpty)));
        assert_eq!(of(&primary, Role::Primary).latency.count(), figures.probes_sent);
    }
}

/// Where one thread may send at a time, and one is at it, another's message waits for it, but leaves its probe out.
#[test]
fn a_probe_waits_for_no_other_sender() {
    let observer: Arc<OnceLock<Observer>> = Arc::default();
    let (looks, skipped) = (observer.clone(), Arc::new(AtomicU64::new(0)));
    let told = skipped.clone();
    let hook = move |event: &TraceEvent| {
        let slow = event.packet.op == op::INLINE_COPY && event.packet.operands[1] == u64::from(b's');
        if let (true, Some(observer)) = (event.sent && slow, looks.get()) {
            let skipped = || observer.metrics().unwrap().directions[0].probes_skipped;
            told.store(u64::MAX, Ordering::Relaxed);
            eventually("a probe is left out", || skipped() > 0);
            told.store(skipped(), Ordering::Relaxed);
        }
    };
    let options = Options::new().ring_mode(RingMode::Spsc).trace(hook);
    let (primary, secondary, clock) = pair(options, "statistics=1");
    observer.set(Observer::open(primary.memory().as_fd()).unwrap()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| primary.send(b"s").unwrap());
        eventually("it is being sent", || skipped.load(Ordering::Relaxed) > 0);
        clock.advance(Duration::from_millis(2));
        primary.send(b"other").unwrap();
    });
    assert_eq!(skipped.load(Ordering::Relaxed), 1);
    assert_eq!((&*secondary.recv().unwrap(), &*secondary.recv().unwrap()), (&b"s"[..], &b"other"[..]));
}

#[test]
fn what_layers_make_of_messages_is_counted() {
    let (primary, secondary, _) = pair(Options::new(), "statistics=1 codecs=zstd");
    let text = message("text", 5000, 1);
    for _ in 0..10 {
        primary.send(&text).unwrap();
        assert_eq!(*secondary.recv().unwrap(), text);
    }
    let figures = of(&secondary, Role::Primary);
    assert_eq!((figures.framed_messages, figures.plain_bytes), (10, 50_000));
    assert_eq!(figures.framed_bytes, secondary.stats().directions[0].bytes_sent);
    assert!(figures.ratio().unwrap() > 1.5, "{figures:?}");
    assert_eq!((figures.probes_sent, figures.latency.count()), (1, 1));
    assert_eq!(of(&secondary, Role::Secondary).ratio(), None);
    // Without statistics nobody counts them.
    let (primary, secondary, _) = pair(Options::new(), "codecs=zstd");
    primary.send(&text).unwrap();
    secondary.recv().unwrap();
    assert_eq!(primary.metrics(), None);
}

/// Many threads of both ends, by the machine's clock: all messages arrive, and there are samples.
#[test]
fn threads_share_what_is_measured() {
    const EACH: usize = 20_000;
    let (ours, theirs) = (want("statistics=1"), want("statistics=1"));
    for ring in [RingMode::Mpmc, RingMode::Spsc] {
        let (primary, secondary) = StandardLink::pair_with(Options::new().slots(64).ring_mode(ring)).unwrap();
        let (primary, secondary) = thread::scope(|scope| {
            let peer = scope.spawn(|| AdvancedLink::wait_for_negotiation(secondary, &theirs, SOON).unwrap());
            (AdvancedLink::negotiate(primary, &ours, SOON).unwrap(), peer.join().unwrap())
        });
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..EACH).for_each(|_| primary.send(&[1; 30]).unwrap()));
                scope.spawn(|| (0..EACH).for_each(|_| assert_eq!(secondary.recv().unwrap().len(), 30)));
            }
        });
        let figures = of(&primary, Role::Primary);
        assert!(figures.probes_sent > 0 && figures.latency.count() == figures.probes_sent, "{figures:?}");
        assert_eq!(primary.stats().side(Role::Secondary).refused_total(), 0);
    }
}

#[test]
fn two_processes_and_whoever_looks_on_see_the_same() {
    let test = test!(untraced);
    for role in [Role::Primary, Role::Secondary] {
        let (link, mut peer) = test.link(role, "");
        peer.send_command("bg agree wait 30000 statistics=1");
        peer.expect_ok();
        let link = AdvancedLink::negotiate(link, &want("statistics=1"), SOON).unwrap();
        assert_eq!(summary(link.agreement()), "1.1 16 0 0");
        assert_eq!(peer.ask("join"), "1.1 16 0 0");
        for turn in 0..10 {
            let sent = message("noise", 100, turn);
            link.send(&sent).unwrap();
            assert_eq!(peer.ask("adv-recv"), pattern::digest(&sent));
            peer.ask(format!("adv-send noise 100 {turn}"));
            assert_eq!(*link.recv().unwrap(), sent);
        }
        let seen: Metrics = Observer::open(link.memory().as_fd()).unwrap().metrics().unwrap();
        assert_eq!(Some(&seen), link.metrics().as_ref());
        for direction in &seen.directions {
            let Some(median) = direction.latency.quantile(0.5) else { panic!("{direction:?}") };
            assert!(median < SOON && direction.probes_sent >= 1, "{direction:?}");
        }
        assert!(link.stats().sides.iter().all(|side| side.refused_total() == 0));
    }
}

/// One that is not asked does not measure, and its peer sends no probes.
#[test]
fn only_where_both_want_it() {
    for (ours, theirs) in
        [("statistics=1 capabilities=8", "capabilities=8"), ("capabilities=8", "statistics=1 capabilities=8")]
    {
        let clock = Clock::new();
        let (primary, secondary) = StandardLink::pair_with(Options::new().clock(&clock)).unwrap();
        let (ours, theirs) = (want(ours), want(theirs));
        let peer =
            thread::spawn(move || AdvancedLink::wait_for_negotiation(secondary, &theirs, SOON).unwrap());
        let primary = AdvancedLink::negotiate(primary, &ours, SOON).unwrap();
        let secondary = peer.join().unwrap();
        let packets = primary.stats().directions[0].packets_sent;
        for _ in 0..COUNT {
            clock.advance(Duration::from_millis(2));
            primary.send(b"plain").unwrap();
            secondary.recv().unwrap();
        }
        assert_eq!(primary.stats().directions[0].packets_sent, packets + COUNT);
        let opened = connected(&primary, &secondary);
        opened.0.send(b"plain").unwrap();
        opened.1.recv().unwrap();
        assert!(primary.stats().sides.iter().all(|side| side.refused_total() == 0));
        assert!(primary.metrics().is_none() && secondary.metrics().is_none());
        assert!(Observer::open(primary.memory().as_fd()).unwrap().metrics().is_none());
    }
}
