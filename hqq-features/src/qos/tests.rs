//! Who sends next: fairness, starvation, rates, bad input, and what an urgent message waits for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use fastrand::Rng;

use super::*;

mod occupied;
mod rates;

const LIMITS: SchedulerLimits = SchedulerLimits { connections: 64, waiting: 64 };
const START: Duration = Duration::ZERO;

fn scheduler(shares: &[TrafficClass]) -> Scheduler<usize> {
    let mut scheduler = Scheduler::new(LIMITS);
    for (id, share) in shares.iter().enumerate() {
        scheduler.add(id, *share, START).unwrap();
    }
    scheduler
}

fn of(class: Class) -> TrafficClass {
    TrafficClass { class, ..TrafficClass::default() }
}

/// What goes next where everything fits.
fn sent(scheduler: &mut Scheduler<usize>) -> Option<(usize, u64)> {
    match scheduler.next(START, |_, _| true) {
        Next::Send { id, cost } => Some((id, cost)),
        Next::Idle => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_input_is_named_and_counted() {
    assert_eq!(Class::new(u64::MAX), Err(QosError::ClassOutOfRange { class: u64::MAX, most: 7 }));
    for number in 0..8 {
        assert_eq!(Class::new(number).unwrap().number(), number as u8);
    }
    let mut scheduler = Scheduler::new(SchedulerLimits { connections: 2, waiting: 2 });
    let rate = |bytes_per_second, burst| TrafficClass {
        rate: Some(Rate { bytes_per_second, burst }),
        ..TrafficClass::default()
    };
    let most = u64::from(u32::MAX);
    for (share, error) in [
        (TrafficClass { weight: 0, ..TrafficClass::default() }, QosError::WeightZero),
        (rate(0, 1), QosError::RateZero),
        (rate(1, 0), QosError::BurstTooSmall { burst: 0, least: 1 }),
        (rate(1, most + 1), QosError::BurstTooLarge { burst: most + 1, most }),
        // 1 GB/s is counted in cells of 512 bytes.
        (rate(1_000_000_000, u64::MAX), QosError::BurstTooLarge { burst: u64::MAX, most: most * 512 }),
    ] {
        assert_eq!(scheduler.add(0, share, START), Err(error));
        assert_eq!(scheduler.push(0, 1), Err(QosError::UnknownConnection), "nothing has changed");
    }
    assert_eq!(scheduler.faults(), 10);
    scheduler.add(0, rate(1000, 100), START).unwrap();
    scheduler.add(1, rate(u64::MAX, u64::MAX), START).unwrap();
    assert_eq!(scheduler.add(1, TrafficClass::default(), START), Err(QosError::KnownConnection));
    assert_eq!(
        scheduler.add(2, TrafficClass::default(), START),
        Err(QosError::TooManyConnections { limit: 2 })
    );
    assert_eq!(scheduler.push(0, 101), Err(QosError::MessageBeyondBurst { cost: 101, burst: 100 }));
    scheduler.push(0, 100).unwrap();
    scheduler.push(0, 0).unwrap();
    assert_eq!(scheduler.push(0, 1), Err(QosError::TooManyWaiting { limit: 2 }));
    assert_eq!((scheduler.faults(), scheduler.waiting(0)), (14, 2));
    assert_eq!(scheduler.withdraw(0), Some(1), "nothing is free");
    assert_eq!((scheduler.remove(0), scheduler.remove(0), scheduler.withdraw(0)), (1, 0, None));
    scheduler.push(1, u64::MAX).unwrap();
    assert_eq!(sent(&mut scheduler), Some((1, u64::MAX)));
    assert_eq!(sent(&mut scheduler), None);
}

#[test]
fn errors_name_value_and_limit() {
    for (error, parts) in [
        (QosError::ClassOutOfRange { class: 9, most: 7 }, ["9", "7"]),
        (QosError::WeightZero, ["0", "1"]),
        (QosError::RateZero, ["0", "1"]),
        (QosError::BurstTooSmall { burst: 0, least: 1 }, ["0", "1"]),
        (QosError::BurstTooLarge { burst: 12, most: 11 }, ["12", "11"]),
        (QosError::MessageBeyondBurst { cost: 8, burst: 4 }, ["8", "4"]),
        (QosError::PartTooSmall { packets: 1, least: 2 }, ["1", "2"]),
        (QosError::TooManyConnections { limit: 5 }, ["5", "connections"]),
        (QosError::TooManyWaiting { limit: 6 }, ["6", "messages"]),
        (QosError::KnownConnection, ["already", "remove"]),
        (QosError::UnknownConnection, ["not", "add"]),
    ] {
        assert!(parts.iter().all(|part| error.to_string().contains(part)), "{error}");
    }
}

/// Keeps all queues filled with costs up to the largest of each, and counts what each sends.
fn backlogged(shares: &[TrafficClass], largest: &[u64], rounds: u64, random: &mut Rng) -> Vec<u64> {
    let mut scheduler = scheduler(shares);
    for (id, largest) in largest.iter().enumerate() {
        for _ in 0..2 {
            scheduler.push(id, 1 + random.u64(..*largest)).unwrap();
        }
    }
    let mut bytes = vec![0; shares.len()];
    for _ in 0..rounds {
        let (id, cost) = sent(&mut scheduler).unwrap();
        bytes[id] += cost;
        scheduler.push(id, 1 + random.u64(..largest[id])).unwrap();
    }
    bytes
}

#[test]
fn connections_of_a_class_share_by_weight() {
    for seed in 1..=15 {
        let mut random = Rng::with_seed(seed);
        let count = 2 + random.u64(..9) as usize;
        let class = Class::new(random.u64(..8)).unwrap();
        let share =
            |random: &mut Rng| TrafficClass { class, weight: 1 + random.u64(..16) as u32, rate: None };
        let shares: Vec<TrafficClass> = (0..count).map(|_| share(&mut random)).collect();
        // Small messages beside large ones.
        let largest: Vec<u64> = (0..count).map(|_| 1 << (6 + random.u64(..11))).collect();
        let bytes = backlogged(&shares, &largest, 60_000, &mut random);
        let weights: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
        let all: u64 = bytes.iter().sum();
        for (id, share) in shares.iter().enumerate() {
            // What follows for all from the bound for each pair: the largest message of each, by weight.
            let part = f64::from(share.weight) / weights as f64;
            let others = largest.iter().sum::<u64>() - largest[id];
            let bound = largest[id] as f64 * (1.0 - part) + others as f64 * part;
            let fair = all as f64 * part;
            let off = (bytes[id] as f64 - fair).abs();
            assert!(off <= bound + 1e-6, "seed {seed}: {id} has {}, fair is {fair} by {bound}", bytes[id]);
        }
    }
}

#[test]
fn at_no_time_is_one_ahead_by_more_than_a_message_of_each() {
    for seed in 1..=40 {
        let mut random = Rng::with_seed(seed);
        let weights = [1 + random.u64(..20), 1 + random.u64(..20)];
        let shares = weights.map(|weight| TrafficClass { weight: weight as u32, ..TrafficClass::default() });
        let largest = [1 + random.u64(..5000), 1 + random.u64(..5000)];
        let mut scheduler = scheduler(&shares);
        let mut served = [0.0; 2];
        let bound: f64 = (0..2).map(|id| largest[id] as f64 / weights[id] as f64).sum();
        for (id, largest) in largest.into_iter().enumerate() {
            scheduler.push(id, 1 + random.u64(..largest)).unwrap();
        }
        for _ in 0..5_000 {
            let (id, cost) = sent(&mut scheduler).unwrap();
            scheduler.push(id, 1 + random.u64(..largest[id])).unwrap();
            served[id] += cost as f64 / weights[id] as f64;
            assert!((served[0] - served[1]).abs() <= bound + 1e-6, "seed {seed}: {served:?}, {bound}");
        }
    }
}

#[test]
fn who_was_away_gets_no_arrears() {
    let mut scheduler = scheduler(&[TrafficClass::default(); 2]);
    for _ in 0..1000 {
        scheduler.push(0, 100).unwrap();
        assert_eq!(sent(&mut scheduler), Some((0, 100)));
    }
    let mut counts = [0; 2];
    for _ in 0..20 {
        scheduler.push(0, 100).unwrap();
        scheduler.push(1, 100).unwrap();
    }
    for _ in 0..20 {
        counts[sent(&mut scheduler).unwrap().0] += 1;
    }
    assert!(counts[0] >= 9, "{counts:?}");
}

#[test]
fn the_more_urgent_goes_first() {
    let shares: Vec<TrafficClass> = (0..8).map(|class| of(Class::new(class).unwrap())).collect();
    let mut scheduler = scheduler(&shares);
    for id in (0..8).rev() {
        scheduler.push(id, 10).unwrap();
        scheduler.push(id, 20).unwrap();
    }
    let order: Vec<_> = core::iter::from_fn(|| sent(&mut scheduler)).collect();
    let expected: Vec<_> = (0..8).flat_map(|id| [(id, 10), (id, 20)]).collect();
    assert_eq!(order, expected);
}

#[test]
fn urgent_overtakes_bulk_whatever_waits() {
    for seed in 1..=20 {
        let mut random = Rng::with_seed(seed);
        let mut scheduler =
            scheduler(&[of(Class::URGENT), of(Class::BULK), of(Class::BULK), of(Class::NORMAL)]);
        let mut waits: Option<u64> = None;
        let mut times = 0;
        for _ in 0..20_000 {
            for id in 1..4 {
                if scheduler.waiting(id) < 32 {
                    scheduler.push(id, 1 + random.u64(..65_536)).unwrap();
                }
            }
            if waits.is_none() && random.u64(..4) == 0 {
                scheduler.push(0, 64 + random.u64(..4096)).unwrap();
                waits = Some(0);
            }
            match (sent(&mut scheduler).unwrap(), &mut waits) {
                ((0, _), _) => {
                    waits = None;
                    times += 1;
                }
                ((_, cost), Some(passed)) => {
                    *passed += cost;
                    let due = 65_536 + 2 * 65_536 / (GUARANTEED - 1);
                    assert!(*passed <= 2 * due, "at most what is due of each of two classes");
                }
                _ => {}
            }
        }
        assert!(times > 3_000, "{times}");
    }
}

#[test]
fn no_class_starves() {
    for seed in 1..=8 {
        let mut random = Rng::with_seed(seed);
        let shares: Vec<TrafficClass> = (0..8).map(|class| of(Class::new(class).unwrap())).collect();
        let mut scheduler = scheduler(&shares);
        let largest: Vec<u64> = (0..8).map(|_| 1 << (4 + random.u64(..13))).collect();
        let mut heads: Vec<u64> = largest.iter().map(|largest| 1 + random.u64(..*largest)).collect();
        for (id, cost) in heads.iter().enumerate() {
            scheduler.push(id, *cost).unwrap();
        }
        let sum: u64 = largest.iter().sum();
        // For each class: bytes that more urgent ones are ahead, those of others since it is due, and its own.
        let (mut passed, mut others, mut bytes) = ([0u64; 8], [0; 8], [0; 8]);
        for _ in 0..60_000 {
            let (id, cost) = sent(&mut scheduler).unwrap();
            passed[id] = passed[id].saturating_sub(cost * (GUARANTEED - 1));
            others[id] = 0;
            bytes[id] += cost;
            heads[id] = 1 + random.u64(..largest[id]);
            scheduler.push(id, heads[id]).unwrap();
            for lower in (0..8).filter(|&lower| lower != id) {
                if passed[lower] >= heads[lower] * (GUARANTEED - 1) && lower > 0 {
                    others[lower] += cost;
                    assert!(others[lower] <= 2 * sum, "seed {seed}: class {lower} is due and waits");
                }
                passed[lower] += if lower > id { cost } else { 0 };
            }
        }
        let all: u64 = bytes.iter().sum();
        for class in 1..8 {
            let part = bytes[..=class].iter().sum::<u64>() / GUARANTEED;
            // Less what it is not due yet at the end.
            let rest = largest[class] + largest[..class].iter().max().unwrap();
            assert!(bytes[class] + rest > part, "seed {seed}: {class} of {bytes:?}");
        }
        assert!(bytes[1..].iter().sum::<u64>() * 2 < all, "seed {seed}: {bytes:?} is no priority");
    }
}

#[test]
fn what_is_due_goes_by_class_and_only_to_who_waited() {
    let mut scheduler = scheduler(&[of(Class::URGENT), of(Class::NORMAL), of(Class::BULK)]);
    for (id, cost) in [(1, 10), (2, 10), (0, 1000), (0, 1000)] {
        scheduler.push(id, cost).unwrap();
    }
    let order: Vec<_> = core::iter::from_fn(|| sent(&mut scheduler)).collect();
    assert_eq!(order, [(0, 1000), (1, 10), (2, 10), (0, 1000)]);

    // They were away while all this went.
    for _ in 0..100 {
        scheduler.push(0, 1000).unwrap();
        assert_eq!(sent(&mut scheduler), Some((0, 1000)));
    }
    for (id, cost) in [(1, 10), (2, 10), (0, 5)] {
        scheduler.push(id, cost).unwrap();
    }
    assert_eq!(sent(&mut scheduler), Some((0, 5)));
}

#[test]
fn what_does_not_fit_holds_up_all_that_is_not_more_urgent() {
    let mut scheduler =
        scheduler(&[of(Class::URGENT), of(Class::NORMAL), of(Class::NORMAL), of(Class::BULK)]);
    for (id, cost) in [(1, 1000), (2, 10), (3, 50)] {
        scheduler.push(id, cost).unwrap();
    }
    let small = |_, cost| cost < 100;
    assert_eq!(scheduler.next(START, small), Next::Full { until: None });
    scheduler.push(0, 50).unwrap();
    assert_eq!(scheduler.next(START, small), Next::Send { id: 0, cost: 50 });
    assert_eq!(scheduler.next(START, small), Next::Full { until: None });
    let order: Vec<_> = core::iter::from_fn(|| sent(&mut scheduler)).collect();
    assert_eq!(order, [(1, 1000), (2, 10), (3, 50)]);

    // Bulk that is due and has no room holds up nobody, and goes once it has.
    scheduler.push(3, 10).unwrap();
    for _ in 0..100 {
        scheduler.push(0, 10).unwrap();
        let next = scheduler.next(START, |class, _| class != Class::BULK);
        assert_eq!(next, Next::Send { id: 0, cost: 10 });
    }
    for id in [0, 3, 3] {
        scheduler.push(id, 10).unwrap();
    }
    // Once: what it could not use while it had no room is not gathered.
    let order: Vec<_> = core::iter::from_fn(|| sent(&mut scheduler)).collect();
    assert_eq!(order, [(3, 10), (0, 10), (3, 10), (3, 10)]);
}

#[test]
fn what_goes_away_leaves_nothing_behind() {
    for seed in 1..=50 {
        let mut random = Rng::with_seed(seed);
        let mut scheduler = Scheduler::new(LIMITS);
        let mut model: BTreeMap<u64, VecDeque<u64>> = BTreeMap::new();
        let mut urgent: BTreeSet<u64> = BTreeSet::new();
        let mut now = START;
        for _ in 0..3_000 {
            let id = random.u64(..8);
            now += Duration::from_micros(random.u64(..3) * random.u64(..200));
            match random.u64(..8) {
                0 => {
                    let class = Class::new(random.u64(..8)).unwrap();
                    let rate = Rate { bytes_per_second: 1 + random.u64(..1 << 20), burst: 4096 };
                    let share = TrafficClass { class, weight: 1 + random.u64(..9) as u32, rate: Some(rate) };
                    let rate = share.rate.filter(|_| random.u64(..2) == 0);
                    let added = scheduler.add(id, TrafficClass { rate, ..share }, now);
                    assert_eq!(added.is_err(), model.contains_key(&id));
                    if added.is_ok() {
                        model.insert(id, VecDeque::new());
                        urgent.extend((class == Class::URGENT).then_some(id));
                    }
                }
                1 if random.u64(..4) == 0 => {
                    let waited = model.remove(&id).map_or(0, |queue| queue.len());
                    urgent.remove(&id);
                    assert_eq!(scheduler.remove(id), waited);
                }
                2 => assert_eq!(scheduler.withdraw(id), model.get_mut(&id).and_then(VecDeque::pop_back)),
                3..=5 => {
                    let cost = 1 + random.u64(..4096);
                    let pushed = scheduler.push(id, cost);
                    let queue = model.get_mut(&id).filter(|queue| queue.len() < LIMITS.waiting);
                    assert_eq!(pushed.is_ok(), queue.is_some());
                    if let Some(queue) = queue {
                        queue.push_back(cost);
                    }
                }
                _ => match scheduler.next(now, |_, _| true) {
                    Next::Send { id, cost } => {
                        assert_eq!(model.get_mut(&id).and_then(VecDeque::pop_front), Some(cost), "order");
                    }
                    Next::WaitUntil(until) => assert!(until > now),
                    Next::Idle => assert!(model.values().all(VecDeque::is_empty)),
                    Next::Full { .. } => panic!("everything fits"),
                },
            }
            assert_eq!(scheduler.has_urgent(), !urgent.is_empty());
            let ready = scheduler.lanes.iter().flat_map(|lane| lane.ready.values());
            let throttled = scheduler.throttled.iter().map(|(_, id)| id);
            let mut places: Vec<u64> = ready.chain(throttled).copied().collect();
            places.sort_unstable();
            let waiting = model.iter().filter(|(_, queue)| !queue.is_empty());
            assert_eq!(places, waiting.map(|(id, _)| *id).collect::<Vec<_>>(), "each in one place");
        }
        // Everything goes out in the end.
        now += Duration::from_secs(1 << 20);
        for _ in 0..8 * LIMITS.waiting * 2 {
            match scheduler.next(now, |_, _| true) {
                Next::Send { .. } => {}
                Next::WaitUntil(until) => now = until,
                _ => break,
            }
        }
        assert_eq!(scheduler.next(now, |_, _| true), Next::Idle);
    }
}
