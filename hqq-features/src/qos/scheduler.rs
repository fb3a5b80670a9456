//! The scheduler, which chooses the connection that sends next.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::bucket::Bucket;
use super::class::{Class, Rate, TrafficClass};
use super::error::QosError;

/// A class with waiting messages gets at least one part in this many of the bytes.
pub const GUARANTEED: u64 = 32;

/// The greatest time: 146 years. Later times count as this one.
const LATEST: Duration = Duration::from_nanos(1 << 62);

/// The limits of a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerLimits {
    /// The most connections.
    pub connections: usize,
    /// The most waiting messages of each connection.
    pub waiting: usize,
}

/// The outcome of [`Scheduler::next`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<Id> {
    /// Send the oldest message of this connection now. The scheduler has removed it.
    Send {
        /// The connection.
        id: Id,
        /// The cost of the message in bytes, as it was pushed.
        cost: u64,
    },
    /// There is no room for the next message: call again when there is, or at this time.
    Full {
        /// The time at which a rate allows the first connection to send again.
        until: Option<Duration>,
    },
    /// All waiting connections exceed their rates: call again at this time.
    WaitUntil(Duration),
    /// No message waits.
    Idle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No message waits.
    Empty,
    /// In the lane of its class, under this key.
    Ready(Key),
    /// Over its rate until this time.
    Throttled(Duration),
}

/// The start tag, then the order of arrival.
pub(super) type Key = (u128, u64);

#[derive(Debug)]
struct Queue {
    class: Class,
    weight: u32,
    rate: Option<Rate>,
    bucket: Option<Bucket>,
    costs: VecDeque<u64>,
    /// The start of the oldest message, in the virtual time of the class.
    start: u128,
    state: State,
}

/// The connections of a class that may send.
#[derive(Debug)]
pub(super) struct Lane<Id> {
    pub(super) ready: BTreeMap<Key, Id>,
    /// The start tag of the last message that was sent.
    virtual_time: u128,
    /// Bytes that more urgent classes sent while this one was ready, less those that its own messages allow.
    passed: u64,
}

enum Attempt<Id> {
    Sent(Id, u64),
    NoRoom,
    Nothing,
}

/// Chooses the connection that sends next. It has the costs of messages, and the caller keeps the messages of each
/// connection in order.
///
/// ```
/// use core::time::Duration;
/// use hqq_features::qos::{Class, SchedulerLimits, Next, Rate, Scheduler, TrafficClass};
///
/// let now = Duration::ZERO;
/// let mut scheduler = Scheduler::new(SchedulerLimits { connections: 8, waiting: 64 });
/// scheduler.add('b', TrafficClass { class: Class::BULK, ..TrafficClass::default() }, now)?;
/// scheduler.add('u', TrafficClass { class: Class::URGENT, ..TrafficClass::default() }, now)?;
/// let rate = Some(Rate { bytes_per_second: 1000, burst: 500 });
/// scheduler.add('r', TrafficClass { rate, ..TrafficClass::default() }, now)?;
/// for (id, cost) in [('b', 4096), ('r', 500), ('r', 100), ('u', 64)] {
///     scheduler.push(id, cost)?;
/// }
/// let mut order = String::new();
/// while let Next::Send { id, .. } = scheduler.next(now, |_, _| true) {
///     order.push(id);
/// }
/// assert_eq!(order, "urb");
/// assert_eq!(scheduler.next(now, |_, _| true), Next::WaitUntil(Duration::from_millis(100)));
/// # Ok::<(), hqq_features::qos::QosError>(())
/// ```
#[derive(Debug)]
pub struct Scheduler<Id> {
    limits: SchedulerLimits,
    queues: BTreeMap<Id, Queue>,
    pub(super) lanes: [Lane<Id>; Class::COUNT],
    /// The connections that exceed their rates, by the time at which they may send again.
    pub(super) throttled: BTreeSet<(Duration, Id)>,
    now: Duration,
    /// Connections of the most urgent class.
    urgent: usize,
    /// How often a connection became ready.
    arrivals: u64,
    faults: u64,
}

impl<Id: Copy + Ord> Scheduler<Id> {
    /// A scheduler without connections.
    pub fn new(limits: SchedulerLimits) -> Self {
        let lane = |_| Lane { ready: BTreeMap::new(), virtual_time: 0, passed: 0 };
        Self {
            limits,
            queues: BTreeMap::new(),
            lanes: core::array::from_fn(lane),
            throttled: BTreeSet::new(),
            now: Duration::ZERO,
            urgent: 0,
            arrivals: 0,
            faults: 0,
        }
    }

    /// Adds the connection `id` at the time `now`, with a full token bucket.
    ///
    /// # Errors
    /// [`QosError`] for a weight or rate of zero, a burst out of range, an `id` that was added already, or one connection
    /// too many. It is counted as a fault.
    pub fn add(&mut self, id: Id, share: TrafficClass, now: Duration) -> Result<(), QosError> {
        let now = self.at(now);
        let added =
            self.check(id, share).and_then(|()| share.rate.map(|rate| Bucket::new(rate, now)).transpose());
        let bucket = self.count(added)?;
        let TrafficClass { class, weight, rate } = share;
        let queue =
            Queue { class, weight, rate, bucket, costs: VecDeque::new(), start: 0, state: State::Empty };
        self.queues.insert(id, queue);
        self.urgent += usize::from(class == Class::URGENT);
        Ok(())
    }

    fn check(&self, id: Id, share: TrafficClass) -> Result<(), QosError> {
        if share.weight == 0 {
            return Err(QosError::WeightZero);
        }
        if self.queues.contains_key(&id) {
            return Err(QosError::KnownConnection);
        }
        let limit = self.limits.connections;
        if self.queues.len() >= limit { Err(QosError::TooManyConnections { limit }) } else { Ok(()) }
    }

    fn count<T>(&mut self, result: Result<T, QosError>) -> Result<T, QosError> {
        self.faults += u64::from(result.is_err());
        result
    }

    /// Changes the class of traffic of the connection `id` at the time `now`. Its messages keep waiting. An unchanged rate
    /// keeps its token bucket.
    ///
    /// # Errors
    /// As [`add`](Self::add), or [`QosError::UnknownConnection`]. Then nothing changes but the count of faults.
    pub fn change(&mut self, id: Id, share: TrafficClass, now: Duration) -> Result<(), QosError> {
        let now = self.at(now);
        let changed = match self.queues.get(&id) {
            None => Err(QosError::UnknownConnection),
            Some(_) if share.weight == 0 => Err(QosError::WeightZero),
            Some(queue) if share.rate == queue.rate => Ok(None),
            Some(_) => share.rate.map(|rate| Bucket::new(rate, now)).transpose().map(Some),
        };
        let bucket = self.count(changed)?;
        self.clear_state(id);
        let Some(queue) = self.queues.get_mut(&id) else { return Ok(()) };
        let TrafficClass { class, weight, rate } = share;
        let before = std::mem::replace(&mut queue.class, class);
        self.urgent += usize::from(class == Class::URGENT);
        self.urgent -= usize::from(before == Class::URGENT);
        if class != before {
            // Each class has its own virtual time.
            queue.start = 0;
        }
        (queue.weight, queue.rate) = (weight, rate);
        if let Some(bucket) = bucket {
            queue.bucket = bucket;
        }
        if !queue.costs.is_empty() {
            self.make_ready(id);
        }
        Ok(())
    }

    /// Removes the connection `id`, and returns how many of its messages waited.
    pub fn remove(&mut self, id: Id) -> usize {
        self.clear_state(id);
        let Some(queue) = self.queues.remove(&id) else { return 0 };
        self.urgent -= usize::from(queue.class == Class::URGENT);
        queue.costs.len()
    }

    /// Adds a message of the connection `id`, after those that wait. `cost` is in bytes.
    ///
    /// # Errors
    /// [`QosError::UnknownConnection`], [`QosError::TooManyWaiting`], or [`QosError::MessageBeyondBurst`]. It is counted as
    /// a fault.
    pub fn push(&mut self, id: Id, cost: u64) -> Result<(), QosError> {
        let limit = self.limits.waiting;
        let cost = cost.max(1);
        let pushed = match self.queues.get_mut(&id) {
            None => Err(QosError::UnknownConnection),
            Some(queue) if queue.costs.len() >= limit => Err(QosError::TooManyWaiting { limit }),
            Some(queue) => match queue.bucket.as_ref().map(Bucket::burst) {
                Some(burst) if cost > burst => Err(QosError::MessageBeyondBurst { cost, burst }),
                _ => {
                    queue.costs.push_back(cost);
                    Ok(())
                }
            },
        };
        self.count(pushed)?;
        if self.queues.get(&id).is_some_and(|queue| queue.state == State::Empty) {
            self.make_ready(id);
        }
        Ok(())
    }

    /// Removes the newest message of the connection `id`, and returns its cost. `None` if none waits.
    pub fn withdraw(&mut self, id: Id) -> Option<u64> {
        let queue = self.queues.get_mut(&id)?;
        let cost = queue.costs.pop_back()?;
        if queue.costs.is_empty() {
            self.clear_state(id);
        }
        Some(cost)
    }

    /// How many messages of the connection `id` wait.
    pub fn waiting(&self, id: Id) -> usize {
        self.queues.get(&id).map_or(0, |queue| queue.costs.len())
    }

    /// Whether there is a connection of the class [`Class::URGENT`], for [`Occupancy::guard`](super::occupancy::Occupancy::guard).
    pub fn has_urgent(&self) -> bool {
        self.urgent > 0
    }

    /// How many calls were refused.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// Chooses the next message at the time `now`. `fits` returns whether there is room for a message of a class and a
    /// cost; it may be called for several messages. A message that does not fit delays all that are not more urgent, so
    /// that small messages cannot starve large ones.
    pub fn next(&mut self, now: Duration, mut fits: impl FnMut(Class, u64) -> bool) -> Next<Id> {
        let now = self.at(now);
        while let Some(&(until, id)) = self.throttled.first() {
            if until > now {
                break;
            }
            self.clear_state(id);
            self.make_ready(id);
        }
        for class in 1..Class::COUNT {
            if self.is_due(class) {
                if let Attempt::Sent(id, cost) = self.send(class, &mut fits) {
                    return Next::Send { id, cost };
                }
            }
        }
        let mut full = false;
        for class in 0..Class::COUNT {
            match self.send(class, &mut fits) {
                Attempt::Sent(id, cost) => return Next::Send { id, cost },
                Attempt::Nothing => {}
                Attempt::NoRoom => {
                    full = true;
                    break;
                }
            }
        }
        match (full, self.throttled.first().map(|&(until, _)| until)) {
            (true, until) => Next::Full { until },
            (false, Some(until)) => Next::WaitUntil(until),
            (false, None) => Next::Idle,
        }
    }

    /// Whether more urgent classes have sent enough while this one waited.
    fn is_due(&self, class: usize) -> bool {
        let lane = &self.lanes[class];
        let first = lane.ready.values().next().and_then(|id| self.queues.get(id));
        let cost = first.and_then(|queue| queue.costs.front());
        cost.is_some_and(|cost| lane.passed >= passed_limit(*cost))
    }

    /// Sends the first message of a class that its rate allows.
    fn send(&mut self, class: usize, fits: &mut impl FnMut(Class, u64) -> bool) -> Attempt<Id> {
        // Each round but the last throttles a connection.
        while let Some((key, id)) = self.lanes[class].ready.first_key_value().map(|(key, id)| (*key, *id)) {
            let Some(queue) = self.queues.get_mut(&id) else { return Attempt::Nothing };
            let Some(&cost) = queue.costs.front() else { return Attempt::Nothing };
            if !fits(queue.class, cost) {
                let lane = &mut self.lanes[class];
                lane.passed = lane.passed.min(passed_limit(cost));
                return Attempt::NoRoom;
            }
            // After the test for room, because a payment cannot be returned.
            let paid = queue.bucket.as_mut().map_or(Ok(()), |bucket| bucket.pay(cost, self.now));
            if let Err(until) = paid {
                self.clear_state(id);
                self.set_state(id, State::Throttled(until));
                continue;
            }
            queue.costs.pop_front();
            queue.start = key.0.saturating_add((u128::from(cost) << 32) / u128::from(queue.weight));
            let more = !queue.costs.is_empty();
            let lane = &mut self.lanes[class];
            lane.virtual_time = key.0;
            lane.passed = lane.passed.saturating_sub(passed_limit(cost));
            self.clear_state(id);
            if more {
                self.make_ready(id);
            }
            for lane in self.lanes.iter_mut().skip(class + 1) {
                // A class without waiting messages accumulates nothing.
                lane.passed = if lane.ready.is_empty() { 0 } else { lane.passed.saturating_add(cost) };
            }
            return Attempt::Sent(id, cost);
        }
        Attempt::Nothing
    }

    /// The present time, which never decreases.
    fn at(&mut self, now: Duration) -> Duration {
        self.now = self.now.max(now).min(LATEST);
        self.now
    }

    fn make_ready(&mut self, id: Id) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        // No compensation for the idle time.
        queue.start = queue.start.max(self.lanes[usize::from(queue.class.number())].virtual_time);
        self.arrivals = self.arrivals.wrapping_add(1);
        let key = (queue.start, self.arrivals);
        self.set_state(id, State::Ready(key));
    }

    fn set_state(&mut self, id: Id, state: State) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.state = state;
        match state {
            State::Empty => {}
            State::Ready(key) => {
                self.lanes[usize::from(queue.class.number())].ready.insert(key, id);
            }
            State::Throttled(until) => {
                self.throttled.insert((until, id));
            }
        }
    }

    /// Removes a connection from its lane or from the throttled ones.
    fn clear_state(&mut self, id: Id) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        match core::mem::replace(&mut queue.state, State::Empty) {
            State::Empty => {}
            State::Ready(key) => {
                self.lanes[usize::from(queue.class.number())].ready.remove(&key);
            }
            State::Throttled(until) => {
                self.throttled.remove(&(until, id));
            }
        }
    }
}

/// Bytes that more urgent classes may send for a message of this cost.
fn passed_limit(cost: u64) -> u64 {
    cost.saturating_mul(GUARANTEED - 1)
}
