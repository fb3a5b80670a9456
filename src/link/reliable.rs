//! Reliable delivery, for who sends, receives and acknowledges.

use std::sync::{Arc, PoisonError};

use super::core::LinkCore;
use super::deadline::Wait;
use super::recv::Receipted;
use super::send::unless_transient;
use super::wait::WaitReason;
use crate::demux::{Demux, Stop};
use crate::error::{Error, Result};
use hqq_features::LayerStack;
use hqq_features::reliable::Receipt;

impl LinkCore {
    /// Frames can be made from here on: what is kept goes out.
    pub(crate) fn deliver_by(&self, layers: Arc<LayerStack>) {
        let mut demux = self.lock();
        demux.deliver_by(layers);
        self.unlock_and_flush(demux, 0);
    }

    /// Keeps a message and sends it, waiting for room until `wait`; without one it does not wait.
    pub(crate) fn deliver(&self, message: &[u8], wait: Wait) -> Result<()> {
        let tried = self.try_deliver(message, 0);
        let Err(error) = &tried else { return tried };
        if wait == Wait::No || !error.is_transient() {
            return tried;
        }
        self.wait(WaitReason::KEEPING, wait, |own| {
            // Acknowledgements come the other way: what was committed before its end is visible then.
            let end = self.recv_end();
            self.keep_demuxing(own)?;
            // A store that is full counts those whom it refuses: once each.
            if unless_transient(self.lock().check_store(message.len()))?.is_none() {
                // Its peer may be gone.
                return end.or_else(|| self.send_end()).map_or(Ok(None), Err);
            }
            unless_transient(self.try_deliver(message, own))
        })
    }

    fn try_deliver(&self, message: &[u8], own: u64) -> Result<()> {
        let mut demux = self.lock();
        let delivered = self.deliver_locked(&mut demux, message);
        self.unlock_and_flush(demux, own);
        delivered.inspect_err(|error| self.failed(error))
    }

    fn deliver_locked(&self, demux: &mut Demux, message: &[u8]) -> Result<()> {
        if let Some(end) = self.send_end() {
            return Err(end);
        }
        if demux.has_outgoing() {
            self.flush(demux);
            if demux.has_outgoing() {
                return Err(Error::RingFull { slots: self.region().layout().geometry.slots().into() });
            }
        }
        if demux.check_store(message.len()).is_err() {
            // What the peer has acknowledged may be there.
            self.pump_locked(demux, Stop::Lap)?;
        }
        let gate = self.gate();
        let sent = match demux.deliver(self.context(), message) {
            Err(Error::PoolExhausted { .. } | Error::PoolFragmented { .. }) => {
                // As in `take_alone`.
                let _alone = self.gather.lock().unwrap_or_else(PoisonError::into_inner);
                demux.deliver(self.context(), message)
            }
            sent => sent,
        };
        drop(gate);
        sent.inspect(|()| self.notify_peer(self.region().wake_receivers()))
    }

    /// Takes the next message and its receipt, waiting for it until `wait`; without one it does not wait.
    pub(crate) fn take_delivered(&self, wait: Wait) -> Result<Receipted> {
        if let Some(taken) = self.take_receipted(0)? {
            return Ok(taken);
        }
        if wait == Wait::No {
            self.count_idle_poll();
            return Err(Error::RingEmpty);
        }
        self.wait(WaitReason::MESSAGE, wait, |own| self.take_receipted(own))
    }

    /// The application has processed a message.
    pub(crate) fn acknowledge(&self, receipt: Receipt) -> Result<()> {
        let mut demux = self.lock();
        let acknowledged = demux.acknowledge(receipt);
        // One that sleeps does not see the time.
        let asleep = self.waiters.anyone_waits(0);
        demux.schedule_acks(asleep, || self.now());
        self.unlock_and_flush(demux, 0);
        acknowledged
    }

    /// Tells the peer what was acknowledged, as far as there is room now; the rest goes out as soon as there is.
    pub(crate) fn flush_acknowledgements(&self) {
        let mut demux = self.lock();
        demux.schedule_acks(true, || self.now());
        self.unlock_and_flush(demux, 0);
    }

    /// Waits until the peer has acknowledged all that is kept.
    pub(crate) fn await_acknowledgements(&self, wait: Wait) -> Result<()> {
        self.wait(WaitReason::ACKS, wait, |own| {
            // What was committed before the end is visible then.
            let end = self.recv_end();
            self.keep_demuxing(own)?;
            let left = self.lock().delivery_counts().map_or(0, |(store, ..)| store.messages);
            if left == 0 { Ok(Some(())) } else { end.map_or(Ok(None), Err) }
        })
    }
}
