//! What statistics measure where messages are sent: now and then a probe goes ahead of a message, and what was
//! sent since the last ones makes a rate.

use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use super::core::LinkCore;
use super::meter::{NEVER, Sender};
use crate::error::{Error, ErrorCode};
use crate::shm::packet::{Fault, Packet, op};
use crate::sync::Ordering;

impl LinkCore {
    /// Whether this end takes part in statistics.
    pub(super) fn measures(&self) -> bool {
        self.meter.is_on()
    }

    /// Whether it does so from now on.
    pub(super) fn measure(&self, on: bool) {
        *self.meter.sender.lock().unwrap_or_else(PoisonError::into_inner) = Sender::default();
        let due = self.region().sent_so_far().wrapping_add(if on { 0 } else { NEVER });
        self.meter.due.store(due, Ordering::Relaxed);
        self.meter.on.store(on.into(), Ordering::Relaxed);
    }

    /// A message is about to be sent.
    #[inline(always)]
    pub(crate) fn tick(&self) {
        let past = self.region().sent_so_far().wrapping_sub(self.meter.due.load(Ordering::Relaxed));
        if past as i64 >= 0 {
            self.look_at_clock();
        }
    }

    /// Measures, if it is time. Waits for nobody.
    #[cold]
    fn look_at_clock(&self) {
        let mut sender = match self.meter.sender.try_lock() {
            Ok(sender) => sender,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let now = self.now();
        let time_to_measure = sender.pacer.is_due(now);
        if time_to_measure {
            // What was left out now would be left out again at once.
            sender.pacer.measured(now);
        }
        if time_to_measure && self.send_probe(now) {
            sender.rates.probes += 1;
            if let Some([messages, bytes]) = sender.rates.go_on(self.region(), now) {
                let metrics = self.region().metrics(self.role());
                metrics.messages_per_second.store(messages, Ordering::Relaxed);
                metrics.bytes_per_second.store(bytes, Ordering::Relaxed);
                metrics.rated_at.store(nanos(now), Ordering::Relaxed);
            }
        }
        let due = self.region().sent_so_far().wrapping_add(sender.pacer.interval());
        self.meter.due.store(due, Ordering::Relaxed);
    }

    /// Sends a probe, unless somebody would be held up by it.
    fn send_probe(&self, now: Duration) -> bool {
        let state = self.state();
        if !state.can_send() || state.has_outgoing() || self.peer_word().no_recv() {
            return false;
        }
        let cx = self.context();
        let metrics = cx.region.metrics(self.role());
        let skip = || {
            metrics.probes_skipped.fetch_add(1, Ordering::Relaxed);
            false
        };
        let slots = u64::from(cx.region.facts().geometry.slots());
        let gate = if !state.is_send_serial() {
            None
        } else {
            match self.gate.try_lock() {
                Ok(gate) => Some(gate),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => return skip(),
            }
        };
        if !cx.region.producer().has_room_after((slots / 8).max(1)) {
            return skip();
        }
        let probe = Packet::new(op::PROBE, [nanos(now)]);
        let sent = cx.region.send_packet(&probe, |packet| cx.show(true, packet));
        drop(gate);
        match sent {
            Ok(()) => {
                metrics.probes_sent.fetch_add(1, Ordering::Relaxed);
                // One who sleeps is woken now, as by the message itself.
                self.notify_peer(cx.region.wake_receivers());
                true
            }
            Err(Error::RingFull { .. } | Error::Busy) => skip(),
            Err(error) => {
                self.poison(&error);
                false
            }
        }
    }

    /// A message of so many bytes travels as so many.
    pub(crate) fn note_framed(&self, plain: usize, framed: usize) {
        if self.meter.is_on() {
            self.region().metrics(self.role()).note_framed(plain, framed);
        }
    }

    /// A probe came while messages are taken straight from the ring.
    #[cold]
    pub(super) fn take_probe(&self, at: u64, own: u64) {
        if self.measures() && self.context().note_probe(at) {
            self.notify_peer(self.region().wake_senders());
        } else {
            self.refuse(Fault { code: ErrorCode::InvalidOp, context: 0, op: op::PROBE, run: None }, own);
        }
    }
}

/// Time in a word.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
