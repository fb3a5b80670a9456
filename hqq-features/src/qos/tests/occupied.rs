//! What an urgent message waits for: a ring that keeps order, and a peer that takes from it.

use super::*;

const RING: Load = Load { packets: 64, bytes: 64 * 65_536 };

fn micros(us: u64) -> Duration {
    Duration::from_micros(us)
}

#[test]
fn a_part_has_its_bounds() {
    for packets in 0..2 {
        let part = Load { packets, bytes: 4096 };
        let error = QosError::PartTooSmall { packets, least: 2 };
        assert_eq!(Occupancy::fixed(RING, part).unwrap_err(), error);
        assert_eq!(Occupancy::learning(part, micros(1)).unwrap_err(), error);
    }
    let all = Load { packets: u64::MAX, bytes: u64::MAX };
    let mut occupancy = Occupancy::fixed(RING, all).unwrap();
    occupancy.guard(true);
    assert_eq!(occupancy.limit(), RING);
}

#[test]
fn only_what_is_not_urgent_is_bounded_and_only_while_guarded() {
    let mut occupancy = Occupancy::fixed(RING, Load { packets: 3, bytes: 1000 }).unwrap();
    let mut position = u64::MAX - 4;
    let mut send = |occupancy: &mut Occupancy, class, bytes| {
        occupancy.sent(START, class, position, bytes);
        position = position.wrapping_add(1);
    };
    for _ in 0..4 {
        assert!(occupancy.may_send(Class::BULK, 5000));
        send(&mut occupancy, Class::BULK, 5000);
    }
    occupancy.guard(true);
    let classes = |occupancy: &mut Occupancy, bytes| {
        (0..8).map(|class| occupancy.may_send(Class(class), bytes)).collect::<Vec<_>>()
    };
    assert_eq!(classes(&mut occupancy, 0), [true, false, false, false, false, false, false, false]);
    occupancy.reached(START, u64::MAX);
    assert_eq!(occupancy.in_flight(), Load::default());
    assert_eq!(classes(&mut occupancy, 5000), [true; 8], "one may always go");
    send(&mut occupancy, Class::NORMAL, 600);
    send(&mut occupancy, Class::URGENT, 60_000);
    assert!(occupancy.may_send(Class::BULK, 400) && !occupancy.may_send(Class::BULK, 401));
    send(&mut occupancy, Class::BULK, 100);
    send(&mut occupancy, Class::BULK, 100);
    assert_eq!(occupancy.in_flight(), Load { packets: 3, bytes: 800 });
    assert!(!occupancy.may_send(Class::BULK, 1));
    // The count of positions wraps between the first and the last of these.
    occupancy.reached(START, 1);
    assert_eq!(occupancy.in_flight(), Load { packets: 2, bytes: 200 });
    occupancy.reached(START, 0);
    assert_eq!(occupancy.in_flight(), Load { packets: 2, bytes: 200 }, "nothing comes back");
    occupancy.reached(START, 3);
    assert_eq!(occupancy.in_flight(), Load::default());
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut occupancy = Occupancy::learning(RING, micros(1)).unwrap();
    for position in 0..1000 {
        occupancy.sent(START, Class::BULK, position, u64::MAX);
    }
    assert!(occupancy.in_flight().packets <= RING.packets);
    occupancy.reached(Duration::MAX, 1000);
    occupancy.reached(START, u64::MAX);
    assert_eq!(occupancy.in_flight(), Load::default());
}

/// A sender with bulk that never ends and urgent messages now and then, a ring, and a peer that takes a packet in
/// `fixed_ns` and a byte in `per_kb_ns / 1024`.
struct Link {
    scheduler: Scheduler<usize>,
    occupancy: Occupancy,
    random: Rng,
    /// Whether it is urgent, and its bytes.
    ring: VecDeque<(bool, u64)>,
    now: Duration,
    /// When the peer has taken the packet in hand.
    busy: Duration,
    sent: u64,
    taken: u64,
    fixed_ns: u64,
    per_kb_ns: u64,
    largest: u64,
}

impl Link {
    fn new(occupancy: Occupancy, seed: u64) -> Self {
        Self {
            scheduler: scheduler(&[of(Class::URGENT), of(Class::BULK)]),
            occupancy,
            random: Rng::with_seed(seed),
            ring: VecDeque::new(),
            now: START,
            busy: START,
            sent: 0,
            taken: 0,
            fixed_ns: 200,
            per_kb_ns: 100,
            largest: 65_536,
        }
    }

    fn service(&self, bytes: u64) -> Duration {
        Duration::from_nanos(self.fixed_ns + bytes * self.per_kb_ns / 1024)
    }

    /// Runs for a time; how long each urgent message took, and which part of the time the peer had work.
    fn run(&mut self, time: Duration) -> (Vec<Duration>, f64) {
        let end = self.now + time;
        let (mut took, mut idle) = (Vec::new(), Duration::ZERO);
        // One urgent message at a time: they shall not wait for each other.
        let mut pushed = None;
        while self.now < end {
            while self.scheduler.waiting(1) < 8 {
                self.scheduler.push(1, 1 + self.random.u64(..self.largest)).unwrap();
            }
            if pushed.is_none() && self.random.u64(..10) == 0 {
                self.scheduler.push(0, 64).unwrap();
                pushed = Some(self.now);
            }
            self.occupancy.reached(self.now, self.taken);
            let room = RING.packets - self.ring.len() as u64;
            let occupancy = &mut self.occupancy;
            let fits = |class, cost| room > 0 && occupancy.may_send(class, cost);
            if let Next::Send { id, cost } = self.scheduler.next(self.now, fits) {
                let class = if id == 0 { Class::URGENT } else { Class::BULK };
                self.occupancy.sent(self.now, class, self.sent, cost);
                self.sent += 1;
                self.ring.push_back((id == 0, cost));
            }
            // The sender looks about every 150 ns.
            self.now += Duration::from_nanos(100 + self.random.u64(..100));
            while let Some(&(urgent, bytes)) = self.ring.front() {
                let done = self.busy + self.service(bytes);
                if done > self.now {
                    break;
                }
                self.busy = done;
                self.ring.pop_front();
                self.taken += 1;
                let since = pushed.filter(|_| urgent);
                if let Some(since) = since {
                    took.push(done.saturating_sub(since));
                    pushed = None;
                }
            }
            if self.ring.is_empty() {
                idle += self.now.saturating_sub(self.busy);
                self.busy = self.now;
            }
        }
        took.sort_unstable();
        (took, 1.0 - idle.as_secs_f64() / time.as_secs_f64())
    }
}

fn p99(took: &[Duration]) -> Duration {
    assert!(took.len() > 100, "{} are too few", took.len());
    took[took.len() * 99 / 100]
}

#[test]
fn an_urgent_message_waits_for_no_more_than_the_part() {
    for seed in 1..=5 {
        for packets in [2, 4, 16] {
            let part = Load { packets, bytes: 40_000 };
            let mut link = Link::new(Occupancy::fixed(RING, part).unwrap(), seed);
            link.occupancy.guard(true);
            let (took, busy) = link.run(micros(5_000));
            // The part, or one larger packet; one more that was due to bulk; itself; and a look of the sender.
            let part = link.service(65_536).max(link.service(40_000) + link.service(0) * packets as u32);
            let bound = part + link.service(65_536) + link.service(64) * 2 + Duration::from_nanos(200);
            assert!(*took.last().unwrap() <= bound, "{took:?} beyond {bound:?}");
            assert!(busy > 0.9, "the peer had work for {busy} of the time");
        }
        // The simulation can show it: an unguarded ring is full of bulk.
        let mut link = Link::new(Occupancy::fixed(RING, RING).unwrap(), seed);
        let (took, _) = link.run(micros(20_000));
        assert!(took[took.len() / 2] > link.service(65_536) * 16);
    }
}

#[test]
fn the_part_is_learnt_and_learnt_again() {
    for seed in 1..=5 {
        let target = micros(20);
        let mut link = Link::new(Occupancy::learning(RING, target).unwrap(), seed);
        link.occupancy.guard(true);
        for (largest, fixed_ns, per_kb_ns) in
            [(4096, 200, 100), (65_536, 200, 100), (64, 300, 0), (4096, 2_000, 1_000), (4096, 200, 100)]
        {
            (link.largest, link.fixed_ns, link.per_kb_ns) = (largest, fixed_ns, per_kb_ns);
            link.run(micros(2_000));
            let (took, busy) = link.run(micros(10_000));
            assert!(
                p99(&took) < target * 3 / 2 + link.service(largest),
                "{largest} {fixed_ns}: {:?} of {target:?} {:?}",
                p99(&took),
                link.occupancy.limit()
            );
            assert!(busy > 0.9, "{largest} {fixed_ns}: the peer had work for {busy} of the time");
        }
        // What was never held up is not bounded for nothing.
        let limit = link.occupancy.limit();
        assert!(limit.packets > 8, "{limit:?}");
    }
}

#[test]
fn the_part_grows_once_a_whole_one_left_in_time() {
    let mut occupancy = Occupancy::learning(RING, micros(20)).unwrap();
    occupancy.guard(true);
    let limit = occupancy.limit();
    // Never full: no reason to grow.
    for position in 0..1000 {
        assert!(occupancy.may_send(Class::BULK, 100));
        occupancy.sent(START, Class::BULK, position, 100);
        occupancy.reached(micros(1), position + 1);
    }
    assert_eq!(occupancy.limit(), limit);
    // The first may have found it half empty; the last has not. So grow only with the last.
    let mut position = 1000;
    for _ in 0..3 {
        let first = position;
        while occupancy.may_send(Class::BULK, 100) {
            occupancy.sent(START, Class::BULK, position, 100);
            position += 1;
        }
        assert_eq!(position - first, occupancy.limit().packets);
        let limit = occupancy.limit();
        for taken in first + 1..position {
            occupancy.reached(micros(1), taken);
            assert_eq!(occupancy.limit(), limit);
        }
        occupancy.reached(micros(1), position);
        assert!(occupancy.limit().bytes > limit.bytes);
    }
    // What was sent before a change says nothing about it: many that are late shrink it once.
    let before = occupancy.limit();
    for _ in 0..before.packets {
        occupancy.sent(START, Class::BULK, position, 100);
        position += 1;
    }
    occupancy.reached(micros(50), position);
    let after = occupancy.limit();
    assert!(after.bytes < before.bytes && after.bytes * 4 >= before.bytes * 3 - 4, "{before:?} {after:?}");
}

#[test]
fn a_peer_that_pauses_costs_the_part_no_more_than_a_while() {
    let mut occupancy = Occupancy::learning(RING, micros(20)).unwrap();
    occupancy.guard(true);
    let mut now = START;
    let mut position = 0;
    for round in 0..400u64 {
        let first = position;
        while occupancy.may_send(Class::BULK, 100) {
            occupancy.sent(now, Class::BULK, position, 100);
            position += 1;
        }
        assert!(position - first >= 2, "never less than two");
        // Stopped for a second each time, then quick again.
        now += if round < 100 { Duration::from_secs(1) } else { micros(1) };
        occupancy.reached(now, position);
        if round == 99 {
            assert_eq!(occupancy.limit().packets, 2);
        }
    }
    assert_eq!(occupancy.limit(), RING);
}
