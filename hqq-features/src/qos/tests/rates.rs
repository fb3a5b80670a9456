//! The token bucket under simulated time.

use super::*;

fn rated(bytes_per_second: u64, burst: u64) -> TrafficClass {
    TrafficClass { rate: Some(Rate { bytes_per_second, burst }), ..TrafficClass::default() }
}

/// What goes over a true rate in any time: two cells of at most this many nanoseconds.
fn rounding(rate: u64) -> u64 {
    2 * (u128::from(rate) * 1024 / 1_000_000_000) as u64
}

/// Sends random costs as fast as the rate allows, asking at random times and at those that the scheduler names.
/// The bytes, each with its time.
fn history(rate: u64, burst: u64, largest: u64, count: usize, random: &mut Rng) -> Vec<(Duration, u64)> {
    let mut scheduler = scheduler(&[rated(rate, burst)]);
    let mut now = Duration::from_secs(random.u64(..100));
    let mut history = Vec::new();
    let mean = Duration::from_nanos((u128::from(largest) * 1_000_000_000 / u128::from(rate)) as u64 / 2 + 1);
    while history.len() < count {
        if scheduler.waiting(0) == 0 {
            scheduler.push(0, 1 + random.u64(..largest)).unwrap();
        }
        match scheduler.next(now, |_, _| true) {
            Next::Send { cost, .. } => history.push((now, cost)),
            Next::WaitUntil(until) => {
                assert!(until > now, "a wait for what is past");
                // Sometimes too early: that must neither help nor harm.
                now = if random.u64(..4) == 0 { now + (until - now) / 2 } else { until };
            }
            other => panic!("{other:?}"),
        }
        if random.u64(..500) == 0 {
            now += mean * random.u64(..20) as u32;
        }
    }
    history
}

#[test]
fn in_the_long_run_the_rate_is_kept_within_a_hundredth() {
    // From a byte a second to more than any memory copies; messages of a millisecond, and of a cache line.
    for rate in
        [1, 7, 1000, 999_999, 1 << 20, 600_000_000, 999_999_999, 4_000_000_001, 60_000_000_000, 1 << 50]
    {
        for largest in [(rate / 1000).clamp(1, 1 << 40), 64] {
            let mut random = Rng::with_seed(rate);
            // Small beside all that is sent.
            let burst = largest * 4;
            let mut scheduler = scheduler(&[rated(rate, burst)]);
            let (mut now, mut bytes) = (START, 0);
            for _ in 0..40_000 {
                if scheduler.waiting(0) == 0 {
                    scheduler.push(0, 1 + random.u64(..largest)).unwrap();
                }
                match scheduler.next(now, |_, _| true) {
                    Next::Send { cost, .. } => bytes += cost,
                    Next::WaitUntil(until) => now = until,
                    other => panic!("{other:?}"),
                }
            }
            // All of it must be much more than a cell.
            if rate < 10_000_000_000 || largest > 64 {
                let off = (bytes - burst) as f64 / (rate as f64 * now.as_secs_f64()) - 1.0;
                assert!(off.abs() < 0.01, "{rate} bytes a second: {off}");
            }
        }
    }
}

#[test]
fn in_no_time_goes_more_than_the_burst_and_the_rate() {
    for seed in 1..=60 {
        let mut random = Rng::with_seed(seed);
        let (rate, largest) = (random.u64(..40), random.u64(..17));
        let rate = 1 + random.u64(..1 << rate);
        let largest = 1 + random.u64(..1 << largest);
        let burst = largest + random.u64(..largest * 8);
        let history = history(rate, burst, largest, 600, &mut random);
        for (first, (from, _)) in history.iter().enumerate() {
            let mut bytes = 0;
            for (to, cost) in &history[first..] {
                bytes += cost;
                let elapsed = (*to - *from).as_nanos();
                let allowed = u128::from(burst) + elapsed * u128::from(rate) / 1_000_000_000 + 1;
                let allowed = allowed + u128::from(rounding(rate));
                assert!(
                    u128::from(bytes) <= allowed,
                    "seed {seed}: {bytes} in {elapsed} ns, {allowed} allowed"
                );
            }
        }
    }
}

#[test]
fn a_rate_below_a_megabyte_is_exact() {
    let mut scheduler = scheduler(&[rated(1000, 500)]);
    for _ in 0..3 {
        scheduler.push(0, 250).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(sent(&mut scheduler), Some((0, 250)));
    }
    let due = Duration::from_millis(250);
    assert_eq!(scheduler.next(START, |_, _| true), Next::WaitUntil(due));
    let early = due - Duration::from_nanos(1);
    assert_eq!(scheduler.next(early, |_, _| true), Next::WaitUntil(due));
    assert_eq!(scheduler.next(due, |_, _| true), Next::Send { id: 0, cost: 250 });
}

#[test]
fn who_is_over_its_rate_holds_up_nobody() {
    let urgent = TrafficClass { class: Class::URGENT, ..rated(1000, 100) };
    let mut scheduler = scheduler(&[urgent, rated(1000, 100), TrafficClass::default()]);
    for id in [0, 1, 2, 0, 1, 2] {
        scheduler.push(id, 100).unwrap();
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        let Next::Send { id, .. } = scheduler.next(START, |_, _| true) else { panic!("something may go") };
        order.push(id);
    }
    assert_eq!(order, [0, 1, 2, 2]);
    let due = Duration::from_millis(100);
    assert_eq!(scheduler.next(START, |_, _| true), Next::WaitUntil(due));
    // What has no room must still be tried again when a rate allows something.
    scheduler.push(2, 5).unwrap();
    assert_eq!(scheduler.next(START, |_, _| false), Next::Full { until: Some(due) });
    assert_eq!(scheduler.next(due, |class, _| class == Class::URGENT), Next::Send { id: 0, cost: 100 });
}

#[test]
fn what_does_not_fit_has_not_been_paid() {
    let mut scheduler = scheduler(&[rated(1000, 100)]);
    scheduler.push(0, 100).unwrap();
    for _ in 0..10 {
        assert_eq!(scheduler.next(START, |_, _| false), Next::Full { until: None });
    }
    assert_eq!(sent(&mut scheduler), Some((0, 100)));
}

#[test]
fn an_earlier_time_counts_as_the_last() {
    let mut scheduler = scheduler(&[rated(1000, 100)]);
    for _ in 0..2 {
        scheduler.push(0, 100).unwrap();
    }
    assert_eq!(sent(&mut scheduler), Some((0, 100)));
    let due = Duration::from_millis(100);
    assert_eq!(scheduler.next(START, |_, _| true), Next::WaitUntil(due));
    assert_eq!(scheduler.next(due, |_, _| false), Next::Full { until: None });
    assert_eq!(scheduler.next(START, |_, _| true), Next::Send { id: 0, cost: 100 });
}

#[test]
fn time_may_stand_still_go_back_and_leap() {
    let mut scheduler = scheduler(&[rated(1000, 100)]);
    let later = Duration::from_secs(50);
    let mut at = |now: Duration| {
        scheduler.push(0, 100).unwrap();
        let next = scheduler.next(now, |_, _| true);
        if next != (Next::Send { id: 0, cost: 100 }) {
            assert_eq!(scheduler.withdraw(0), Some(100));
        }
        next
    };
    let send = Next::Send { id: 0, cost: 100 };
    assert_eq!(at(later), send);
    let due = Next::WaitUntil(later + Duration::from_millis(100));
    for now in [later, later, START, Duration::from_secs(49), later] {
        assert_eq!(at(now), due, "time that does not pass brings nothing");
    }
    let mut now = later + Duration::from_millis(100);
    // Each leap fills the bucket, and never beyond its burst.
    for leap in [0, 1, 1000, 1 << 20, 1 << 30, 1 << 31] {
        now += Duration::from_secs(leap);
        let full = at(now) == send;
        assert_eq!(full, leap > 0 || now == later + Duration::from_millis(100));
        assert_ne!(at(now), send, "twice the burst");
    }
    // Beyond all that can be told apart nothing overflows.
    for now in [Duration::from_secs(1 << 40), Duration::MAX, Duration::MAX, START] {
        let _ = at(now);
    }
    let mut slow = super::scheduler(&[rated(1, u64::from(u32::MAX))]);
    for now in [START, Duration::MAX, Duration::MAX] {
        slow.push(0, u64::from(u32::MAX)).unwrap();
        let _ = slow.next(now, |_, _| true);
    }
}
