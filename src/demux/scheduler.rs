//! What the connections of a link may send and when, where flow control or quality of service was agreed on.
//!
//! A message's chunk goes through three states: it *starves* until its connection has credit, it *waits* for its turn, and
//! it is *sent*. Whoever drives the link sends what is due, whosever it is: so the order is kept without handing threads
//! over to one another. A chunk that waits keeps its bytes in private memory, not in a buffer that others could use.
//!
//! # Buffers
//!
//! A window bounds what waits unread on a connection, and is a promise of memory. So that slow readers do not hold the pool,
//! however many there are, an inbox with flow control keeps one chunk in its buffer, and all inboxes together no more than a
//! quarter of the pool; any other chunk is moved to private memory when it arrives.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use crate::agreement::{Agreement, Features};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::layout::Geometry;
use crate::shm::packet::{ConnCopy, Packet, op};
use hqq_features::flow::{Congestion, CreditReceiver, CreditSender, Grant};
use hqq_features::qos::{
    Class, Load, Next, Occupancy, QosError, Rate, Scheduler, SchedulerLimits, TrafficClass,
};

/// What a packet costs beside its payload, bytes: its slot.
const SLOT: u64 = 64;

/// How long a message that is not urgent should stay in the ring at most, while others may be urgent.
const TARGET: Duration = Duration::from_micros(5);

/// A chunk that somebody wants to send.
#[derive(Debug)]
struct PendingChunk {
    chunk: ConnCopy,
    /// Its payload, unless the sender itself is at work.
    bytes: Option<Vec<u8>>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starving,
    Waiting,
    Sent { copy_id: u64 },
}

/// One connection.
#[derive(Debug)]
struct ConnQueue {
    /// Both ends of credit, where flow control was agreed on.
    credit: Option<(CreditSender, CreditReceiver)>,
    share: TrafficClass,
    /// The owner has said so itself.
    settled: bool,
    pending: Option<PendingChunk>,
}

/// Who goes next.
#[derive(Debug)]
enum Order {
    /// As they came.
    Fifo(VecDeque<u64>),
    /// By class, weight and rate.
    Fair(Box<Fair>),
}

#[derive(Debug)]
struct Fair {
    scheduler: Scheduler<u64>,
    occupancy: Occupancy,
}

/// The connections of one end of a link.
#[derive(Debug)]
pub(crate) struct EgressScheduler {
    /// Chunks in the window of each connection; 0 without flow control.
    window: u64,
    geometry: Geometry,
    order: Order,
    queues: BTreeMap<u64, ConnQueue>,
    /// Buffers of chunks that wait unread.
    held: u32,
    /// How long credit was missing, of each stall that is over since somebody asked.
    stalls: Vec<Duration>,
    /// Chunks that wait for their turn.
    waiting: usize,
    /// Whose turn has come while the ring had no room.
    turn: Option<u64>,
    /// When the first rate allows something again.
    alarm: Option<Duration>,
    /// Grants and shares that the peer has not had, by connection and opcode: of several the last.
    updates: BTreeMap<(u64, u8), Packet>,
    /// The key of the one that was sent last: the next comes behind it, so that all have their turn.
    last_update: (u64, u8),
    /// Something has changed since the last dispatch: chunks may be due.
    changed: bool,
}

impl EgressScheduler {
    /// What was agreed on says, if it says anything.
    pub(crate) fn new(agreement: &Agreement, geometry: Geometry) -> Option<Self> {
        let window = match agreement.features.contains(Features::FLOW_CONTROL) {
            true => u64::from(agreement.terms.window),
            false => 0,
        };
        let fair = agreement.features.contains(Features::QOS);
        if window == 0 && !fair {
            return None;
        }
        // An urgent message needs a buffer as well as a slot.
        let buffers = u64::from(geometry.buffers());
        let packets = u64::from(geometry.slots()).min(buffers - buffers / 4);
        let bytes = packets.saturating_mul(geometry.buffer_size() + SLOT);
        let order = match Occupancy::learning(Load { packets, bytes }, TARGET) {
            Ok(occupancy) if fair => {
                let limits = SchedulerLimits { connections: usize::MAX, waiting: 1 };
                Order::Fair(Box::new(Fair { scheduler: Scheduler::new(limits), occupancy }))
            }
            _ => Order::Fifo(VecDeque::new()),
        };
        Some(Self {
            window,
            geometry,
            order,
            queues: BTreeMap::new(),
            held: 0,
            stalls: Vec::new(),
            waiting: 0,
            turn: None,
            alarm: None,
            updates: BTreeMap::new(),
            last_update: (0, 0),
            changed: false,
        })
    }

    fn queue(&mut self, id: u64, now: Duration) -> &mut ConnQueue {
        let Self { queues, order, window, .. } = self;
        queues.entry(id).or_insert_with(|| {
            let share = TrafficClass::default();
            if let Order::Fair(fair) = order {
                // A share as it is by default is never refused, and the id is new.
                let _ = fair.scheduler.add(id, share, now);
            }
            let credit = CreditSender::new(*window).ok().zip(CreditReceiver::new(*window).ok());
            ConnQueue { credit, share, settled: false, pending: None }
        })
    }

    // ---- connections ----

    /// There is a handle of this connection from now on.
    pub(crate) fn opened(&mut self, id: u64, now: Duration) {
        self.queue(id, now);
    }

    /// The handle is gone, or nobody knows the connection any more.
    pub(crate) fn closed(&mut self, id: u64, now: Duration) {
        let _ = self.withdraw(id, now);
        self.changed = true;
        self.updates.retain(|(other, _), _| *other != id);
        self.queues.remove(&id);
        if let Order::Fair(fair) = &mut self.order {
            fair.scheduler.remove(id);
        }
    }

    // ---- classes and rates ----

    /// How a connection is treated.
    pub(crate) fn traffic_class(&self, id: u64) -> TrafficClass {
        self.queues.get(&id).map_or_else(TrafficClass::default, |queue| queue.share)
    }

    /// How a connection is treated from now on, as its owner says; the peer is told.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without quality of service; [`Error::TrafficClass`].
    pub(crate) fn set_traffic_class(&mut self, id: u64, share: TrafficClass, now: Duration) -> Result<()> {
        let refused = |reason: String| Error::TrafficClass { reason };
        if matches!(self.order, Order::Fifo(_)) {
            return Err(Error::Unsupported {
                what: "quality of service was not agreed on: ask for it with AdvancedOptions::qos at both ends",
            });
        }
        if let Some(Rate { burst, .. }) = share.rate {
            let least = self.geometry.buffer_size() + SLOT;
            if burst < least {
                return Err(refused(format!(
                    "a burst of {burst} bytes is less than a buffer and its slot, {least}: allow more, or use smaller \
                     buffers"
                )));
            }
        }
        self.change(id, share, now).map_err(|error| refused(error.to_string()))?;
        self.queue(id, now).settled = true;
        let operands = [id, u64::from(share.class.number()), u64::from(share.weight)];
        self.updates.insert((id, op::SHARE), Packet::new(op::SHARE, operands));
        Ok(())
    }

    fn change(&mut self, id: u64, share: TrafficClass, now: Duration) -> Result<(), QosError> {
        self.queue(id, now);
        if let Order::Fair(fair) = &mut self.order {
            fair.scheduler.change(id, share, now)?;
        }
        self.changed = true;
        self.queue(id, now).share = share;
        Ok(())
    }

    /// The peer says how it would have a connection treated that is known here.
    ///
    /// # Errors
    /// The code that it is refused with.
    pub(crate) fn asked(&mut self, id: u64, class: u64, weight: u64, now: Duration) -> Result<(), ErrorCode> {
        if matches!(self.order, Order::Fifo(_)) {
            return Err(ErrorCode::InvalidOp);
        }
        let (Ok(class), Ok(weight)) = (Class::new(class), u32::try_from(weight)) else {
            return Err(ErrorCode::InvalidSize);
        };
        if weight == 0 {
            return Err(ErrorCode::InvalidSize);
        }
        if self.queues.get(&id).is_some_and(|queue| queue.settled) {
            return Ok(());
        }
        let share = TrafficClass { class, weight, ..self.traffic_class(id) };
        self.change(id, share, now).map_err(|_| ErrorCode::InvalidSize)
    }

    // ---- receiving ----

    /// Whether a chunk in so many buffers was granted to the peer.
    pub(crate) fn has_room(&self, id: u64, buffers: u32) -> bool {
        let credit = self.queues.get(&id).and_then(|queue| queue.credit.as_ref());
        // A credit is for one buffer: memory was promised for no more.
        credit.is_none_or(|(_, receiver)| receiver.has_room() && buffers <= 1)
    }

    /// A chunk came that goes into an inbox with `waiting` others. Whether it may stay in its buffer, if it is in one.
    pub(crate) fn arrived(&mut self, id: u64, waiting: usize, in_buffer: bool) -> bool {
        let credit = self.queues.get_mut(&id).and_then(|queue| queue.credit.as_mut());
        let Some((_, receiver)) = credit else { return true };
        let taken = receiver.arrived(1);
        debug_assert!(taken.is_ok(), "the caller has asked");
        let stays = waiting == 0 && self.held < self.geometry.buffers() / 4;
        self.held += u32::from(stays && in_buffer);
        stays
    }

    /// A chunk was read, or is given home unread. Whether it had stayed in its buffer.
    pub(crate) fn consumed(&mut self, id: u64, in_buffer: bool) {
        self.held = self.held.saturating_sub(u32::from(in_buffer && self.window > 0));
        let credit = self.queues.get_mut(&id).and_then(|queue| queue.credit.as_mut());
        if let Some(grant) = credit.and_then(|(_, receiver)| receiver.consumed(1)) {
            self.announce(id, grant);
        }
    }

    fn announce(&mut self, id: u64, grant: Grant) {
        self.updates.insert((id, op::CREDIT), Packet::new(op::CREDIT, [id, grant.total()]));
    }

    /// Whether grants or shares wait to be sent.
    pub(crate) fn has_updates(&self) -> bool {
        !self.updates.is_empty()
    }

    fn first_update(&self) -> Option<(&(u64, u8), &Packet)> {
        let behind = (Bound::Excluded(self.last_update), Bound::Unbounded);
        self.updates.range(behind).next().or_else(|| self.updates.first_key_value())
    }

    /// The grant or share to be sent next.
    pub(crate) fn next_update(&self) -> Option<Packet> {
        self.first_update().map(|(_, packet)| *packet)
    }

    /// It was sent.
    pub(crate) fn update_sent(&mut self) {
        if let Some((&key, _)) = self.first_update() {
            self.updates.remove(&key);
            self.last_update = key;
        }
    }

    /// No update is sent any more: the link has ended.
    pub(crate) fn ended(&mut self) {
        self.updates.clear();
    }

    // ---- sending ----

    /// The peer grants more. True if somebody can go on.
    ///
    /// # Errors
    /// The code that it is refused with.
    pub(crate) fn credit(&mut self, id: u64, total: u64, now: Duration) -> Result<bool, ErrorCode> {
        // Of a connection that is gone, it has lost its meaning.
        let Some(queue) = self.queues.get_mut(&id) else { return Ok(false) };
        let Some((sender, _)) = &mut queue.credit else { return Err(ErrorCode::InvalidOp) };
        let more = sender.granted(Grant::from_total(total), now).map_err(|_| ErrorCode::Overrun)?;
        if queue.pending.as_ref().is_some_and(|pending| pending.state == State::Starving) {
            self.feed(id, now);
        }
        Ok(more)
    }

    /// Somebody wants to send this chunk of a connection that has no other under way.
    pub(crate) fn submit(&mut self, chunk: ConnCopy, now: Duration) {
        let queue = self.queue(chunk.conn, now);
        if let Some((sender, _)) = &mut queue.credit {
            sender.enqueue(1);
        }
        queue.pending = Some(PendingChunk { chunk, bytes: None, state: State::Starving });
        self.feed(chunk.conn, now);
    }

    /// What starves on a connection waits for its turn from now on, if there is credit for it.
    fn feed(&mut self, id: u64, now: Duration) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(pending) = &mut queue.pending else { return };
        if let Some((sender, _)) = &mut queue.credit {
            let blocked = sender.blocked_for(now);
            if sender.try_spend(1, now).is_err() {
                return;
            }
            self.stalls.extend(blocked);
        }
        pending.state = State::Waiting;
        self.waiting += 1;
        self.changed = true;
        match &mut self.order {
            Order::Fifo(line) => line.push_back(id),
            Order::Fair(fair) => {
                // It is known there and has nothing else waiting, and any burst is as large as any chunk.
                let pushed = fair.scheduler.push(id, cost(&pending.chunk));
                debug_assert!(pushed.is_ok(), "{pushed:?}");
            }
        }
    }

    /// Keeps the bytes of what could not be sent at once.
    pub(crate) fn keep(&mut self, id: u64, bytes: &[u8]) {
        if let Some(pending) = self.queues.get_mut(&id).and_then(|queue| queue.pending.as_mut()) {
            pending.bytes = Some(bytes.to_vec());
        }
    }

    /// Whether anything waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Whose turn it is; the ring has room. `taken` says whether the peer has taken the packet at a position.
    pub(crate) fn next(&mut self, now: Duration, taken: impl FnMut(u64) -> bool) -> Option<u64> {
        if let Some(id) = self.turn.take() {
            return Some(id);
        }
        match &mut self.order {
            Order::Fifo(line) => line.pop_front(),
            Order::Fair(fair) => {
                let Fair { scheduler, occupancy } = &mut **fair;
                occupancy.retire(now, taken);
                occupancy.guard(scheduler.has_urgent());
                self.alarm = None;
                match scheduler.next(now, |class, bytes| occupancy.may_send(class, bytes)) {
                    Next::Send { id, .. } => Some(id),
                    Next::Full { until } => {
                        self.alarm = until;
                        None
                    }
                    Next::WaitUntil(until) => {
                        self.alarm = Some(until);
                        None
                    }
                    Next::Idle => None,
                }
            }
        }
    }

    /// What is to be sent for it, with the bytes if they are kept here.
    pub(crate) fn take(&mut self, id: u64) -> Option<(ConnCopy, Option<Vec<u8>>)> {
        let pending = self.queues.get_mut(&id)?.pending.as_mut()?;
        Some((pending.chunk, pending.bytes.take()))
    }

    /// It could not be sent: it goes ahead of all others as soon as there is room.
    pub(crate) fn put_back(&mut self, id: u64, bytes: Option<Vec<u8>>) {
        if let Some(pending) = self.queues.get_mut(&id).and_then(|queue| queue.pending.as_mut()) {
            pending.bytes = bytes;
            self.turn = Some(id);
        }
    }

    /// It was sent, to this position of the ring.
    pub(crate) fn sent(&mut self, id: u64, copy_id: u64, position: u64, now: Duration) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(pending) = &mut queue.pending else { return };
        pending.state = State::Sent { copy_id };
        self.waiting -= 1;
        if let Order::Fair(fair) = &mut self.order {
            fair.occupancy.sent(now, queue.share.class, position, cost(&pending.chunk));
        }
    }

    /// The CopyID of what was submitted, once it was sent.
    pub(crate) fn outcome(&mut self, id: u64) -> Option<u64> {
        let queue = self.queues.get_mut(&id)?;
        let State::Sent { copy_id } = queue.pending.as_ref()?.state else { return None };
        queue.pending = None;
        Some(copy_id)
    }

    /// Takes back what was submitted and not sent. If it was sent meanwhile, its CopyID.
    pub(crate) fn withdraw(&mut self, id: u64, now: Duration) -> Option<u64> {
        let queue = self.queues.get_mut(&id)?;
        let pending = queue.pending.take()?;
        if let State::Sent { copy_id } = pending.state {
            return Some(copy_id);
        }
        // What it gave up, others can use.
        self.changed = true;
        let waited = pending.state == State::Waiting;
        if let Some((sender, _)) = &mut queue.credit {
            if waited {
                sender.refund(1);
            }
            sender.withdraw(1, now);
        }
        if waited {
            self.waiting -= 1;
            self.turn = self.turn.filter(|other| *other != id);
            match &mut self.order {
                Order::Fifo(line) => line.retain(|other| *other != id),
                Order::Fair(fair) => drop(fair.scheduler.withdraw(id)),
            }
        }
        None
    }

    /// When something may go that is held up by a rate alone.
    pub(crate) fn alarm(&self) -> Option<Duration> {
        self.alarm
    }

    /// Whether chunks may be due since the last dispatch.
    pub(crate) fn wants_dispatch(&self) -> bool {
        self.changed
    }

    /// Chunks may be due: the next chance to dispatch them is to be used.
    pub(crate) fn dispatch_later(&mut self) {
        self.changed = true;
    }

    /// What is due is about to be sent. The alarm that there was; it is found anew.
    pub(crate) fn begin_dispatch(&mut self) -> Option<Duration> {
        self.changed = false;
        self.alarm.take()
    }

    /// Stalls that are over: how long each was.
    pub(crate) fn take_stalls(&mut self) -> impl Iterator<Item = Duration> {
        self.stalls.drain(..)
    }

    /// How sending on a connection stands.
    pub(crate) fn congestion(&self, id: u64, now: Duration) -> Option<Congestion> {
        let queue = self.queues.get(&id)?;
        let (sender, _) = queue.credit.as_ref()?;
        // What has credit and waits for its turn is not sent either.
        let waits =
            queue.pending.as_ref().is_some_and(|pending| !matches!(pending.state, State::Sent { .. }));
        Some(Congestion { queued: waits.into(), ..sender.congestion(now) })
    }
}

fn cost(chunk: &ConnCopy) -> u64 {
    SLOT + chunk.transfer_size
}

#[cfg(test)]
mod tests;
