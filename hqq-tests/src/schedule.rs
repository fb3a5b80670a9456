//! Random schedules of a link with an agreement, compared with a model: one thread, both ends, and a manual clock. The seed
//! determines the schedule.
//!
//! Each step is one call on one end, and none waits. The model knows what was sent and not received, and says what each
//! call may give. When the schedule ends, what is still under way must come, and nothing may be left in the region.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hqq::Connection;
use hqq::advanced::{AdvancedOptions, Reliability};
use hqq::agreement::{Capabilities, Features};
use hqq::features::compress::Codec;
use hqq::features::encrypt::Key;
use hqq::features::qos::{Class, Rate, TrafficClass};
use hqq::features::reliable::Receipt;
use hqq::{AdvancedLink, Clock, Error, Listener, Options, StandardLink};

use crate::agree::message;
use crate::patience::SOON;

const SLOTS: u32 = 16;
const BUFFERS: u32 = 16;
const SIZE: u64 = 512;
const WINDOW: u32 = 4;
const INBOX: u32 = 6;
const LANES: usize = 3;
/// Messages that may be unacknowledged.
const KEPT: u32 = 40;
/// The longest message on a connection: one chunk, whatever is done to it.
const CHUNK: usize = SIZE as usize - 64;

/// Something that two ends can agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Messages are compressed.
    Compression,
    /// Messages are encrypted.
    Encryption,
    /// Connections have credit.
    Flow,
    /// Connections have classes and rates.
    Qos,
    /// Both ends measure.
    Statistics,
    /// Messages are kept until they are acknowledged, and the Secondary is replaced now and then.
    Reliable,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Compression, Self::Encryption, Self::Flow, Self::Qos, Self::Statistics, Self::Reliable];

    /// Each alone, all pairs, and all together.
    pub fn sets() -> Vec<Vec<Self>> {
        let mut sets: Vec<Vec<Self>> = Self::ALL.iter().map(|one| vec![*one]).collect();
        for (at, one) in Self::ALL.iter().enumerate() {
            sets.extend(Self::ALL[at + 1..].iter().map(|other| vec![*one, *other]));
        }
        sets.push(Self::ALL.to_vec());
        sets
    }

    fn add(self, wanted: AdvancedOptions) -> AdvancedOptions {
        match self {
            Self::Compression => wanted.compression(&[Codec::Lz4]),
            Self::Encryption => wanted.encryption(Key::shared([7; 32])),
            Self::Flow => wanted.flow_control(WINDOW),
            Self::Qos => wanted.qos(),
            Self::Statistics => wanted.statistics(),
            Self::Reliable => wanted.reliable(Reliability::new().messages(KEPT)),
        }
    }
}

/// What a schedule has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Calls.
    pub steps: u64,
    /// Messages received, on the link and on connections.
    pub received: u64,
    /// Sends that found no room, credit or turn.
    pub held_up: u64,
    /// Secondaries that took another's place.
    pub successors: u64,
    /// Messages that came again because they were not acknowledged.
    pub again: u64,
}

/// What does not agree with the model.
#[derive(Debug)]
pub struct Difference(String);

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Difference {
    fn from(error: Error) -> Self {
        Self(format!("a call failed: {error}"))
    }
}

type Outcome<T = ()> = Result<T, Difference>;

/// Calls of a schedule.
pub const STEPS: u64 = 1500;

fn differs<T>(what: impl fmt::Display) -> Outcome<T> {
    Err(Difference(what.to_string()))
}

/// Messages under way, the oldest first.
type Queue = VecDeque<Vec<u8>>;

/// A rate that a lane has kept since some moment.
#[derive(Clone, Copy, Debug)]
struct Kept {
    rate: Rate,
    since: Duration,
    sent: u64,
}

/// A connection: index 0 is the Primary's end, and what it sends.
struct Lane {
    ends: [Connection; 2],
    queues: [Queue; 2],
    kept: [Option<Kept>; 2],
}

struct World {
    features: Vec<Feature>,
    /// The Primary and the Secondary.
    ends: Vec<AdvancedLink>,
    clock: Clock,
    now: Duration,
    rng: fastrand::Rng,
    queues: [Queue; 2],
    /// What each end has received and not acknowledged, the oldest first.
    taken: [VecDeque<(Receipt, Vec<u8>)>; 2],
    /// What the Secondaries' record has beyond the position: acknowledged, in any order.
    record: Vec<u64>,
    lanes: Vec<Lane>,
    figures: Figures,
    options: Options,
    listener: Listener,
    name: String,
}

fn wanted(features: &[Feature]) -> AdvancedOptions {
    features.iter().fold(AdvancedOptions::new(), |wanted, feature| feature.add(wanted))
}

/// Lets both do their part at a time.
fn both<A: Send, B: Send>(
    one: impl FnOnce() -> Result<A, Error>,
    other: impl FnOnce() -> Result<B, Error> + Send,
) -> Outcome<(A, B)> {
    thread::scope(|scope| {
        let other = scope.spawn(other);
        let one = one();
        let other = other.join().or_else(|_| differs("the other end panicked"))?;
        Ok((one?, other?))
    })
}

/// Runs `count` schedules of each set of features, from this seed on.
///
/// # Errors
/// Where the first differs from the model, with what to run it again by.
pub fn run_all(first: u64, count: u64, steps: u64) -> Outcome<Figures> {
    let mut all = Figures::default();
    for features in Feature::sets() {
        for seed in first..first.saturating_add(count) {
            let done = run(&features, seed, steps).map_err(|Difference(what)| {
                Difference(format!("{features:?}: {what}; `cargo xtask schedules --from {seed} --count 1`"))
            })?;
            all.steps += done.steps;
            all.received += done.received;
            all.held_up += done.held_up;
            all.successors += done.successors;
            all.again += done.again;
        }
    }
    Ok(all)
}

/// Runs a schedule of so many steps.
///
/// # Errors
/// Where it differs from the model.
pub fn run(features: &[Feature], seed: u64, steps: u64) -> Outcome<Figures> {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let clock = Clock::new();
    let options = Options::new().slots(SLOTS).buffers(BUFFERS).buffer_size(SIZE).inbox(INBOX).clock(&clock);
    let options = options.reattachable(true);
    let name = format!("schedule-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    let listener = Listener::bind_with(&name, options.clone())?;
    let wanted = wanted(features);
    let (primary, secondary) = both(
        || AdvancedLink::negotiate(listener.accept_timeout(SOON)?, &wanted, SOON),
        || {
            let link = StandardLink::connect_with_timeout(&name, options.clone(), SOON)?;
            AdvancedLink::wait_for_negotiation(link, &wanted, SOON)
        },
    )?;
    let mut world = World {
        features: features.to_vec(),
        ends: vec![primary, secondary],
        clock,
        now: Duration::ZERO,
        rng: fastrand::Rng::with_seed(seed),
        queues: Default::default(),
        taken: Default::default(),
        record: Vec::new(),
        lanes: Vec::new(),
        figures: Figures::default(),
        options,
        listener,
        name,
    };
    world.check_agreement()?;
    for _ in 0..LANES {
        world.open()?;
    }
    for _ in 0..steps {
        world.step()?;
    }
    world.finish()
}

impl World {
    fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    fn check_agreement(&self) -> Outcome {
        let want = self.features.iter().fold(Features::empty(), |all, feature| {
            all | match feature {
                Feature::Compression => Features::COMPRESSION,
                Feature::Encryption => Features::ENCRYPTION,
                Feature::Flow => Features::FLOW_CONTROL,
                Feature::Qos => Features::QOS,
                Feature::Statistics => Features::STATISTICS,
                Feature::Reliable => Features::empty(),
            }
        });
        for end in &self.ends {
            let capable = if self.has(Feature::Reliable) {
                Capabilities::RELIABLE_DELIVERY
            } else {
                Capabilities::empty()
            };
            let agreement = end.agreement();
            if (agreement.features, agreement.capabilities) != (want, capable) || agreement.fallback.is_some()
            {
                return differs(format_args!("agreed on {:?}, wanted {want:?}", end.agreement()));
            }
        }
        Ok(())
    }

    /// Opens a connection, from either end.
    fn open(&mut self) -> Outcome {
        let opener = self.rng.usize(..2);
        let (ours, theirs) = (&self.ends[opener], &self.ends[1 - opener]);
        let (ours, theirs) =
            both(|| ours.open_connection_timeout(SOON), || theirs.accept_connection_timeout(SOON))?;
        if ours.id() != theirs.id() {
            return differs(format_args!("{} is not {}", ours.id(), theirs.id()));
        }
        let ends = if opener == 0 { [ours, theirs] } else { [theirs, ours] };
        self.lanes.push(Lane { ends, queues: Default::default(), kept: [None; 2] });
        Ok(())
    }

    fn message(&mut self, most: usize) -> Vec<u8> {
        let len = match self.rng.u8(..4) {
            0 => 0,
            1 => self.rng.usize(..50),
            _ => self.rng.usize(..=most),
        };
        message(if self.rng.bool() { "text" } else { "noise" }, len, self.rng.u64(..))
    }

    fn step(&mut self) -> Outcome {
        self.figures.steps += 1;
        let end = self.rng.usize(..2);
        let lane = self.rng.usize(..self.lanes.len());
        match self.rng.u8(..100) {
            0..25 => self.send(end),
            25..45 => self.receive(end).map(drop),
            45..70 => self.send_on(lane, end),
            70..92 => self.receive_on(lane, end).map(drop),
            92..96 => {
                let time = Duration::from_micros(self.rng.u64(..20_000));
                self.clock.advance(time);
                self.now += time;
                Ok(())
            }
            96..98 => self.share(lane, end),
            98 => self.reopen(lane),
            _ if self.rng.u8(..4) > 0 => self.acknowledge(end),
            _ => self.replace(),
        }
    }

    fn send(&mut self, end: usize) -> Outcome {
        let message = self.message(3 * SIZE as usize);
        match self.ends[end].try_send(&message) {
            Ok(()) => self.queues[end].push_back(message),
            Err(error) if error.is_transient() => self.figures.held_up += 1,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Receives a message of the link, if there is one; whether there was.
    fn receive(&mut self, end: usize) -> Outcome<bool> {
        let (receipt, message) = match self.ends[end].try_recv() {
            Ok(message) => (message.receipt(), message.into_vec()),
            Err(error) if error.is_transient() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.figures.received += 1;
        expect(&mut self.queues[1 - end], &message, "on the link")?;
        if let Some(receipt) = receipt {
            self.taken[end].push_back((receipt, message));
            for _ in 0..self.rng.usize(..3) {
                self.acknowledge(end)?;
            }
        }
        Ok(true)
    }

    /// One of the messages that were received is processed.
    fn acknowledge(&mut self, end: usize) -> Outcome {
        let taken = &mut self.taken[end];
        if taken.is_empty() {
            return Ok(());
        }
        // Mostly the oldest.
        let which = if self.rng.bool() { 0 } else { self.rng.usize(..taken.len()) };
        if let Some((receipt, _)) = taken.remove(which) {
            self.ends[end].acknowledge(receipt)?;
            if end == 1 {
                self.record.push(receipt.sequence);
            }
        }
        Ok(())
    }

    /// Another Secondary takes the place of the present one, with its record.
    fn replace(&mut self) -> Outcome {
        if !self.has(Feature::Reliable) {
            return Ok(());
        }
        self.lanes.clear();
        let former = self.ends.pop();
        let position = former.as_ref().and_then(|former| former.position());
        drop(former);
        let others: Vec<Feature> =
            self.features.iter().copied().filter(|feature| *feature != Feature::Reliable).collect();
        let mut reliability = Reliability::new().messages(KEPT);
        if let Some(position) = position {
            reliability = reliability.resume(position, self.record.iter().copied());
        }
        let wanted = wanted(&others).reliable(reliability);
        let (name, options, listener) = (&self.name, &self.options, &self.listener);
        let primary = &mut self.ends[0];
        let ((), secondary) = both(
            || primary.reattach(listener, SOON),
            || {
                let link = StandardLink::connect_with_timeout(name, options.clone(), SOON)?;
                AdvancedLink::wait_for_negotiation(link, &wanted, SOON)
            },
        )?;
        self.ends.push(secondary);
        self.figures.successors += 1;
        // What was not acknowledged comes again, ahead of what had not come.
        let again = std::mem::take(&mut self.taken[1]);
        self.figures.again += again.len() as u64;
        for (_, message) in again.into_iter().rev() {
            self.queues[0].push_front(message);
        }
        for _ in 0..LANES {
            self.open()?;
        }
        Ok(())
    }

    fn send_on(&mut self, lane: usize, end: usize) -> Outcome {
        let message = self.message(CHUNK);
        let flow = self.has(Feature::Flow);
        let lane = &mut self.lanes[lane];
        match lane.ends[end].send_timeout(&message, Duration::ZERO) {
            Ok(()) => {}
            Err(Error::Timeout { .. }) => {
                self.figures.held_up += 1;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        if let Some(kept) = &mut lane.kept[end] {
            // At least that much went: headers come to it.
            kept.sent +=
                64 + if self.features.contains(&Feature::Compression) { 0 } else { message.len() as u64 };
            let passed = (self.now - kept.since).as_secs_f64();
            let most = kept.rate.burst as f64 + passed * kept.rate.bytes_per_second as f64;
            // The limiter counts in whole microseconds.
            if kept.sent as f64 > most + 2e-6 * kept.rate.bytes_per_second as f64 + 1.0 {
                return differs(format_args!("{} bytes went where {most} may", kept.sent));
            }
        }
        lane.queues[end].push_back(message);
        if flow && lane.queues[end].len() > WINDOW as usize {
            return differs(format_args!("{} messages are unread", lane.queues[end].len()));
        }
        Ok(())
    }

    fn receive_on(&mut self, lane: usize, end: usize) -> Outcome<bool> {
        let lane = &mut self.lanes[lane];
        match lane.ends[end].try_recv() {
            Ok(message) => {
                self.figures.received += 1;
                expect(&mut lane.queues[1 - end], &message, "on a connection")?;
                Ok(true)
            }
            Err(error) if error.is_transient() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn share(&mut self, lane: usize, end: usize) -> Outcome {
        let class = Class::new(self.rng.u64(..8)).map_err(|error| Difference(error.to_string()))?;
        let rate = self.rng.bool().then(|| Rate {
            bytes_per_second: self.rng.u64(1_000..10_000_000),
            burst: self.rng.u64(SIZE + 64..10 * SIZE),
        });
        let share = TrafficClass { class, weight: self.rng.u32(1..100), rate };
        let qos = self.has(Feature::Qos);
        let now = self.now;
        let lane = &mut self.lanes[lane];
        match (lane.ends[end].set_traffic_class(share), qos) {
            (Ok(()), true) => {
                lane.kept[end] = rate.map(|rate| Kept { rate, since: now, sent: 0 });
                Ok(())
            }
            (Err(Error::Unsupported { .. }), false) => Ok(()),
            (other, _) => differs(format_args!("a share: {other:?}")),
        }
    }

    /// Drops a connection with all that is under way, and opens another.
    fn reopen(&mut self, lane: usize) -> Outcome {
        drop(self.lanes.swap_remove(lane));
        // While inboxes are full the request does not come through.
        self.drain()?;
        self.open()
    }

    /// Receives all that is under way.
    fn drain(&mut self) -> Outcome {
        let under_way = |world: &Self| {
            let lanes = world.lanes.iter().flat_map(|lane| &lane.queues);
            world.queues.iter().chain(lanes).any(|queue| !queue.is_empty())
        };
        for _ in 0..1000 {
            for end in 0..2 {
                while self.receive(end)? {}
                for lane in 0..self.lanes.len() {
                    while self.receive_on(lane, end)? {}
                }
            }
            for end in 0..2 {
                // A full store keeps nobody from receiving.
                while !self.taken[end].is_empty() {
                    self.acknowledge(end)?;
                }
            }
            if !under_way(self) {
                return Ok(());
            }
        }
        differs("something was sent and does not come")
    }

    /// On each connection half a window goes, if all is read: nothing holds it up for good.
    fn check_that_all_goes(&mut self) -> Outcome {
        let count = if self.has(Feature::Flow) { WINDOW / 2 } else { 1 };
        for lane in 0..self.lanes.len() {
            for end in 0..2 {
                for _ in 0..count {
                    // Any rate allows the next.
                    let time = Duration::from_secs(10);
                    self.clock.advance(time);
                    self.now += time;
                    let before = self.lanes[lane].queues[end].len();
                    self.send_on(lane, end)?;
                    if self.lanes[lane].queues[end].len() == before {
                        let congestion = self.lanes[lane].ends[end].congestion();
                        return differs(format_args!("nothing can be sent any more: {congestion:?}"));
                    }
                }
                while self.receive_on(lane, 1 - end)? {}
            }
        }
        self.drain()
    }

    fn finish(mut self) -> Outcome<Figures> {
        self.drain()?;
        self.check_that_all_goes()?;
        for lane in &self.lanes {
            for end in &lane.ends {
                match (end.congestion(), self.features.contains(&Feature::Flow)) {
                    (Some(congestion), true) if congestion.queued == 0 && congestion.faults == 0 => {}
                    (None, false) => {}
                    (other, _) => return differs(format_args!("congestion at rest: {other:?}")),
                }
            }
        }
        self.lanes.clear();
        // Closes, credit and acknowledgements under way.
        for _ in 0..100 {
            for end in 0..2 {
                self.receive(end)?;
                self.ends[end].flush_acknowledgements();
            }
        }
        for end in &self.ends {
            match (end.deliveries(), self.features.contains(&Feature::Reliable)) {
                (Some(deliveries), true) if deliveries.store.messages == 0 && deliveries.outstanding == 0 => {
                }
                (None, false) => {}
                (other, _) => return differs(format_args!("deliveries at rest: {other:?}")),
            }
        }
        let stats = self.ends[0].stats();
        for direction in stats.directions {
            if (direction.in_flight, direction.buffers_free) != (0, BUFFERS.into()) {
                return differs(format_args!("left behind: {direction:?}"));
            }
        }
        match (self.ends[0].metrics(), self.features.contains(&Feature::Statistics)) {
            (Some(figures), true) => {
                for direction in figures.directions {
                    let longest = direction.latency.max();
                    if direction.latency.count() == 0 || longest > Some(self.now) {
                        return differs(format_args!("in {:?} this was measured: {direction:?}", self.now));
                    }
                }
            }
            (None, false) => {}
            (other, _) => return differs(format_args!("figures: {other:?}")),
        }
        for side in stats.sides {
            if side.refused_total() > 0 {
                return differs(format_args!("something was refused: {side:?}"));
            }
        }
        Ok(self.figures)
    }
}

fn expect(queue: &mut Queue, found: &[u8], place: &str) -> Outcome {
    match queue.pop_front() {
        Some(sent) if sent == found => Ok(()),
        Some(sent) => {
            differs(format_args!("{place}: {} bytes came where {} were sent", found.len(), sent.len()))
        }
        None => differs(format_args!("{place}: {} bytes came that nobody sent", found.len())),
    }
}
