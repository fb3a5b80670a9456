//! Reliable delivery, for who sends, receives and acknowledges.

use std::sync::Arc;

use super::core::LinkCore;
use super::deadline::Wait;
use super::recv::Receipted;
use super::send::unless_transient;
use super::wait::WaitReason;
use crate::demux::Stop;
use crate::error::{Error, Result};
use hqq_features::LayerStack;
use hqq_features::reliable::Receipt;

impl LinkCore {
    /// Frames can be made from here on: what is kept goes out.
    pub(crate) fn deliver_by(&self, layers: Arc<LayerStack>) {
        self.demux(0).deliver_by(layers);
    }

    /// Keeps a message and sends it, waiting for room until `wait`; without one it does not wait.
    pub(crate) fn deliver(&self, message: &[u8], wait: Wait) -> Result<()> {
        let tried = self.demux(0).deliver(message);
        let Err(error) = &tried else { return tried };
        // Without the lock: a look at the peer takes it.
        self.failed(error);
        if wait == Wait::No || !error.is_transient() {
            return tried;
        }
        self.wait(WaitReason::KEEPING, wait, |own| {
            // Acknowledgements come the other way: what was committed before its end is visible then.
            let end = self.recv_end();
            let mut demux = self.demux(own);
            demux.pump(Stop::Lap)?;
            // A store that is full counts those whom it refuses: once each.
            if unless_transient(demux.check_store(message.len()))?.is_none() {
                // Its peer may be gone.
                return end.or_else(|| self.send_end()).map_or(Ok(None), Err);
            }
            unless_transient(demux.deliver(message))
        })
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
        let mut demux = self.demux(0);
        let acknowledged = demux.acknowledge(receipt);
        // One that sleeps does not see the time.
        let asleep = self.waiters.anyone_waits(0);
        demux.schedule_acks(asleep, || self.now());
        acknowledged
    }

    /// Tells the peer what was acknowledged, as far as there is room now; the rest goes out as soon as there is.
    pub(crate) fn flush_acknowledgements(&self) {
        self.demux(0).schedule_acks(true, || self.now());
    }

    /// Waits until the peer has acknowledged all that is kept.
    pub(crate) fn await_acknowledgements(&self, wait: Wait) -> Result<()> {
        self.wait(WaitReason::ACKS, wait, |own| {
            // What was committed before the end is visible then.
            let end = self.recv_end();
            self.keep_demuxing(own)?;
            let left = self.peek(|demux| demux.delivery_counts().map_or(0, |(store, ..)| store.messages));
            if left == 0 { Ok(Some(())) } else { end.map_or(Ok(None), Err) }
        })
    }
}
