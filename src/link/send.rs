//! Sending: one at a time where the ring allows one, what waits in the outbox first, and a ring of the doorbell
//! after.

use std::sync::{MutexGuard, PoisonError};

use super::core::LinkCore;
use super::deadline::Wait;
use super::wait::WaitReason;
use crate::demux::{Demux, LinkContext};
use crate::error::{Error, Result};
use crate::shm::buffer::Buffer;
use crate::shm::endpoint::{Payload, SlotBytes};
use crate::shm::packet::ConnCopy;

impl LinkCore {
    /// Sends what waits in the outbox, as far as there is room.
    pub(super) fn flush(&self, demux: &mut Demux) {
        let state = self.state();
        let single = self.region().facts().modes.ring.single_producer();
        if !state.can_send() || state.is_split() && single {
            return;
        }
        let gate = self.gate();
        let mut sent = demux.flush(self.context());
        if demux.is_reliable() && demux.has_outgoing() {
            // As in `take_alone`: what is sent again may need buffers.
            let _alone = self.gather.lock().unwrap_or_else(PoisonError::into_inner);
            sent = sent.and_then(|first| Ok(first + demux.flush(self.context())?));
        }
        drop(gate);
        match sent {
            Ok(0) => {}
            Ok(_) => self.notify_peer(self.region().wake_receivers()),
            Err(error) => self.poison(&error),
        }
        if !demux.has_outgoing() {
            self.state.clear_outgoing();
        }
    }

    /// The lock that senders share where only one may send at a time.
    #[inline(always)]
    pub(super) fn gate(&self) -> Option<MutexGuard<'_, ()>> {
        self.state().is_send_serial().then(|| self.close_gate())
    }

    #[cold]
    fn close_gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing can be sent any more.
    #[cold]
    pub(crate) fn send_end(&self) -> Option<Error> {
        self.end_of(|state| state.is_send_shut(), |(_, no_recv)| no_recv)
    }

    /// Fails unless a message may be sent now.
    #[inline]
    pub(crate) fn check_send(&self) -> Result<()> {
        let state = self.state();
        if state.can_send() && !self.peer_word().no_recv() {
            if state.has_outgoing() {
                return self.send_waiting();
            }
            return Ok(());
        }
        Err(self.send_end().unwrap_or(Error::Closed))
    }

    /// What waits in the outbox goes first.
    #[cold]
    pub(super) fn send_waiting(&self) -> Result<()> {
        let mut demux = self.lock();
        self.flush(&mut demux);
        if demux.has_outgoing() && !self.is_split() {
            return Err(Error::RingFull { slots: self.region().layout().geometry.slots().into() });
        }
        if self.is_split() {
            // The sending half is here, so it may do what `flush` leaves to it.
            if demux.flush(self.context())? > 0 {
                self.notify_peer(self.region().wake_receivers());
            }
            if !demux.has_outgoing() {
                self.state.clear_outgoing();
            }
        }
        Ok(())
    }

    /// Does one thing with the sending end, without waiting. Rings the peer if it sent something.
    #[inline]
    pub(crate) fn send_with<T>(&self, send: impl FnOnce(LinkContext<'_>) -> Result<T>) -> Result<T> {
        let gate = self.gate();
        let sent = send(self.context());
        drop(gate);
        match sent {
            Ok(value) => {
                self.announce_sent()?;
                Ok(value)
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// Rings the peer after something was sent.
    #[inline(always)]
    fn announce_sent(&self) -> Result<()> {
        self.notify_peer(self.region().wake_receivers());
        // Shut down meanwhile: the peer may have stopped listening before it came.
        if self.state.load_relaxed().is_send_shut() { Self::shut_meanwhile() } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn shut_meanwhile() -> Result<()> {
        Err(Error::Closed)
    }

    /// Whether a message may be sent now, with nothing else to be done about it.
    #[inline(always)]
    fn sends_straight(&self) -> bool {
        self.state().posts_directly() && !self.peer_word().no_recv()
    }

    /// As [`sends_straight`](Self::sends_straight), of a message as the caller has it.
    #[inline(always)]
    fn sends_unchanged(&self) -> bool {
        self.state().sends_directly() && !self.peer_word().no_recv()
    }

    /// Whether a message of `len` bytes travels in the ring itself.
    #[inline(always)]
    pub(crate) fn fits_slot(&self, len: usize) -> bool {
        len <= self.region().max_inline()
    }

    /// Sends a message that fits the slot, waiting for room.
    #[inline(always)]
    pub(crate) fn send_inline(&self, message: &SlotBytes) -> Result<()> {
        if self.sends_straight() {
            return match self.region().send_inline(message, |_| {}) {
                Ok(()) => self.announce_sent(),
                Err(error) => self.send_inline_patiently(error, *message, Wait::Forever),
            };
        }
        self.send_inline_slowly(*message)
    }

    #[inline(never)]
    fn send_inline_slowly(&self, message: SlotBytes) -> Result<()> {
        self.send_payload(&mut Some(Payload::Slot(message)), Wait::Forever)
    }

    /// As [`send_patiently`](Self::send_patiently).
    #[cold]
    fn send_inline_patiently(&self, failure: Error, message: SlotBytes, wait: Wait) -> Result<()> {
        self.send_payload_patiently(failure, &mut Some(Payload::Slot(message)), wait)
    }

    /// Whether it is worth while to try to send a message. Only loads, and mostly of the line that comes free next.
    pub(super) fn may_have_room(&self) -> bool {
        !self.state().posts_directly() || self.state().is_demuxed() || self.region().has_room()
    }

    /// Fails as a send that does not wait would for want of a slot, or for the link's end. Stale as soon as it returns.
    pub(crate) fn check_room(&self) -> Result<()> {
        self.check_send()?;
        if self.region().has_room() {
            return Ok(());
        }
        self.failed_with(Error::RingFull { slots: self.region().facts().geometry.slots().into() })
    }

    /// Tries to send a message.
    #[inline(always)]
    pub(crate) fn try_send(&self, message: &[u8]) -> Result<()> {
        self.try_send_or(message, || self.try_send_slowly(message))
    }

    /// Tries to send a message the short way; `slowly` sends what cannot go there, and all that must be changed first.
    #[inline(always)]
    pub(crate) fn try_send_or(&self, message: &[u8], slowly: impl FnOnce() -> Result<()>) -> Result<()> {
        if message.len() <= self.region().max_inline() && self.sends_unchanged() {
            return match self.region().send_inline(&SlotBytes::of(message), |_| {}) {
                Ok(()) => self.announce_sent(),
                Err(error) => self.failed_with(error),
            };
        }
        slowly()
    }

    /// A message that does not fit the slot, or takes the long way.
    #[inline(never)]
    pub(crate) fn try_send_slowly(&self, message: &[u8]) -> Result<()> {
        if message.len() <= self.region().max_inline() {
            return self.try_post(|cx| cx.region.send_bytes(message, |packet| cx.show(true, packet)));
        }
        let mut slot = None;
        // Without an alignment to heed, what does not fit the slot is always a buffer.
        self.try_loan(message.len(), 1, &mut slot)?;
        if let Some(Payload::Pool(buffer)) = &mut slot {
            buffer.bytes_mut().copy_from_slice(message);
        }
        let sent = self.try_send_payload(&mut slot);
        if let Some(payload) = slot {
            self.give(payload);
        }
        sent
    }

    /// Sends as many of the messages, in order, as there is room for now, and rings the peer once.
    pub(crate) fn try_send_batch(&self, messages: &[&[u8]]) -> Result<usize> {
        self.check_send()?;
        let mut sent = 0;
        let mut failure = None;
        for message in messages {
            match self.send_one(message) {
                Ok(()) => sent += 1,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        if sent > 0 {
            self.notify_peer(self.region().wake_receivers());
        }
        if let Some(error) = failure {
            self.failed(&error);
            if sent == 0 {
                return Err(error);
            }
        }
        if self.state.load_relaxed().is_send_shut() {
            return Err(Error::Closed);
        }
        Ok(sent)
    }

    /// Sends one message without waiting and without ringing.
    fn send_one(&self, message: &[u8]) -> Result<()> {
        let cx = self.context();
        let seen = |packet: &_| cx.show(true, packet);
        if message.len() <= cx.region.max_inline() {
            let _gate = self.gate();
            return cx.region.send_bytes(message, seen);
        }
        let mut buffer = self.take_buffer(message.len())?;
        buffer.bytes_mut().copy_from_slice(message);
        let gate = self.gate();
        let sent = cx.region.send(buffer, seen);
        drop(gate);
        sent.map_err(|(error, buffer)| {
            self.give_buffer(buffer);
            error
        })
    }

    /// Posts a chunk of a connection's copy with the table locked, so that nobody closes the connection in between.
    /// Rings the peer; on failure the buffer is still there.
    pub(crate) fn post_chunk(
        &self,
        demux: &mut Demux,
        chunk: &ConnCopy,
        kept: &mut Option<Buffer<'static>>,
    ) -> Result<u64> {
        let slots = self.region().layout().geometry.slots().into();
        if let Some(end) = self.send_end() {
            return Err(end);
        }
        if demux.has_outgoing() {
            self.flush(demux);
            if demux.has_outgoing() {
                return Err(Error::RingFull { slots });
            }
        }
        self.tick();
        let cx = self.context();
        let gate = self.gate();
        let sent = cx.region.send_chunk(chunk, kept.take(), |packet| cx.show(true, packet));
        drop(gate);
        match sent {
            Ok(copy_id) => {
                self.notify_peer(self.region().wake_receivers());
                Ok(copy_id)
            }
            Err((error, buffer)) => {
                *kept = buffer;
                Err(error)
            }
        }
    }

    /// While a call waits to send on a link with connections, it sorts what comes in: the peer may wait for that.
    pub(super) fn keep_demuxing(&self, own: u64) -> Result<()> {
        let state = self.state();
        if state.is_demuxed() && !state.is_split() {
            self.pump(own, |_, _| Ok(()))?;
        }
        Ok(())
    }

    /// Sends a message, waiting for room until `wait`.
    #[inline(always)]
    pub(crate) fn send(&self, message: &[u8], wait: Wait) -> Result<()> {
        self.send_or(message, wait, || self.try_send_slowly(message))
    }

    /// As [`send`](Self::send), with another long way. It may wait: then it does not fail for want of room.
    #[inline(always)]
    pub(crate) fn send_or(
        &self,
        message: &[u8],
        wait: Wait,
        slowly: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        match self.try_send_or(message, slowly) {
            Ok(()) => Ok(()),
            Err(error) => self.send_patiently(error, message, wait),
        }
    }

    /// Goes on where a try has failed.
    #[cold]
    fn send_patiently(&self, failure: Error, message: &[u8], wait: Wait) -> Result<()> {
        // What has to be changed is not sent as it is, whatever failed.
        if wait == Wait::No || !failure.is_transient() || self.state().is_transformed() {
            return Err(failure);
        }
        if self.fits_slot(message.len()) {
            return self.send_inline_patiently(failure, SlotBytes::of(message), wait);
        }
        // A buffer once found is kept while the ring is full.
        let mut slot = None;
        self.loan(message.len(), 1, wait, &mut slot)?;
        match &mut slot {
            Some(Payload::Slot(inline)) => inline.bytes_mut().copy_from_slice(message),
            Some(Payload::Pool(buffer)) => buffer.bytes_mut().copy_from_slice(message),
            None => {}
        }
        let sent = self.send_payload(&mut slot, wait);
        if let Some(payload) = slot {
            self.give(payload);
        }
        sent
    }

    /// Sends what `slot` holds, without waiting; on failure it is still there.
    #[inline(always)]
    pub(crate) fn try_send_payload(&self, slot: &mut Option<Payload<'static>>) -> Result<()> {
        let sent = match slot {
            Some(Payload::Pool(buffer)) if !buffer.is_empty() && self.sends_straight() => {
                self.region().send_kept(buffer, |_| {})
            }
            Some(Payload::Slot(inline)) if self.sends_straight() => self.region().send_inline(inline, |_| {}),
            _ => return self.try_send_payload_slowly(slot),
        };
        match sent {
            Ok(()) => {
                let pooled = matches!(slot, Some(Payload::Pool(_)));
                // Its buffers are the peer's now: forget the handle.
                *slot = None;
                let region = self.region();
                if region.is_single() && pooled {
                    // This is the thread that takes buffers: it need not wait for the next one's word.
                    region.prepare();
                }
                self.announce_sent()
            }
            Err(error) => self.failed_with(error),
        }
    }

    #[inline(never)]
    fn try_send_payload_slowly(&self, slot: &mut Option<Payload<'static>>) -> Result<()> {
        if let Some(Payload::Pool(buffer)) = slot.take_if(|payload| payload.is_empty()) {
            // An empty message needs no buffer, and somebody may wait for this one.
            self.give_buffer(buffer);
        }
        slot.get_or_insert(Payload::Slot(SlotBytes::zeroed(0)));
        self.try_post(|cx| {
            let seen = |packet: &_| cx.show(true, packet);
            match slot.take() {
                None => Ok(()),
                Some(Payload::Slot(inline)) => cx.region.send_inline(&inline, seen).inspect_err(|_| {
                    *slot = Some(Payload::Slot(inline));
                }),
                Some(Payload::Pool(buffer)) => cx.region.send(buffer, seen).map_err(|(error, buffer)| {
                    *slot = Some(Payload::Pool(buffer));
                    error
                }),
            }
        })
    }

    /// Sends what `slot` holds, waiting for room until `wait`.
    #[inline(always)]
    pub(crate) fn send_payload(&self, slot: &mut Option<Payload<'static>>, wait: Wait) -> Result<()> {
        match self.try_send_payload(slot) {
            Ok(()) => Ok(()),
            Err(error) => self.send_payload_patiently(error, slot, wait),
        }
    }

    /// As [`send_patiently`](Self::send_patiently).
    #[cold]
    fn send_payload_patiently(
        &self,
        failure: Error,
        slot: &mut Option<Payload<'static>>,
        wait: Wait,
    ) -> Result<()> {
        if wait == Wait::No {
            return Err(failure);
        }
        self.failed(&failure);
        if !failure.is_transient() {
            return Err(failure);
        }
        self.wait_for_room(wait, || self.try_send_payload(slot))
    }

    /// Waits until a send succeeds, or fails for good.
    pub(crate) fn wait_for_room(&self, wait: Wait, mut send: impl FnMut() -> Result<()>) -> Result<()> {
        self.wait(WaitReason::ROOM, wait, |own| {
            self.keep_demuxing(own)?;
            unless_transient(send())
        })
    }

    /// Puts memory for a message of `len` bytes into `into`, without waiting.
    #[inline(always)]
    pub(crate) fn try_loan(
        &self,
        len: usize,
        align: usize,
        into: &mut Option<Payload<'static>>,
    ) -> Result<()> {
        let region = self.region();
        if len > region.max_inline() && len as u64 <= region.max_single() && self.sends_straight() {
            return match region.loan(len) {
                Ok(buffer) => {
                    *into = Some(Payload::Pool(buffer));
                    Ok(())
                }
                Err(error) => self.loan_failed(error, len, align, into),
            };
        }
        self.try_loan_slowly(len, align, into)
    }

    #[cold]
    fn loan_failed(
        &self,
        failure: Error,
        len: usize,
        align: usize,
        into: &mut Option<Payload<'static>>,
    ) -> Result<()> {
        // Some of the buffers may just be gathered, and come home at once.
        if failure.is_transient() {
            self.try_loan_slowly(len, align, into)
        } else {
            self.failed_with(failure)
        }
    }

    fn try_loan_slowly(&self, len: usize, align: usize, into: &mut Option<Payload<'static>>) -> Result<()> {
        *into = Some(if len <= self.region().max_inline() && align <= align_of::<SlotBytes>() {
            self.check_send()?;
            Payload::Slot(SlotBytes::zeroed(len))
        } else {
            Payload::Pool(self.take_buffer(len)?)
        });
        Ok(())
    }

    /// As [`try_loan`](Self::try_loan), waiting for it until `wait`.
    #[inline(always)]
    pub(crate) fn loan(
        &self,
        len: usize,
        align: usize,
        wait: Wait,
        into: &mut Option<Payload<'static>>,
    ) -> Result<()> {
        match self.try_loan(len, align, into) {
            Ok(()) => Ok(()),
            Err(error) => self.loan_patiently(error, len, align, wait, into),
        }
    }

    /// As [`send_patiently`](Self::send_patiently).
    #[cold]
    fn loan_patiently(
        &self,
        failure: Error,
        len: usize,
        align: usize,
        wait: Wait,
        into: &mut Option<Payload<'static>>,
    ) -> Result<()> {
        if wait == Wait::No || !failure.is_transient() {
            return Err(failure);
        }
        self.wait(WaitReason::BUFFER, wait, |own| {
            self.keep_demuxing(own)?;
            unless_transient(self.try_loan(len, align, into))
        })
    }

    /// Takes buffers for a message of `len` bytes, without waiting.
    pub(crate) fn take_buffer(&self, len: usize) -> Result<Buffer<'static>> {
        self.check_send()?;
        let gate = self.gate();
        let region = self.region();
        let single = len as u64 <= region.facts().geometry.buffer_size();
        let taken = if single {
            match region.loan(len) {
                Err(error) if error.is_transient() => self.take_alone(len),
                taken => taken,
            }
        } else {
            self.take_alone(len)
        };
        drop(gate);
        taken.inspect_err(|error| self.failed(error))
    }

    /// Takes buffers while no other thread gathers a run: a gather takes free buffers one by one and may give them
    /// back, and whoever finds too few meanwhile would sleep though nobody will ring.
    #[cold]
    pub(super) fn take_alone(&self, len: usize) -> Result<Buffer<'static>> {
        let _alone = self.gather.lock().unwrap_or_else(PoisonError::into_inner);
        self.region().loan(len)
    }

    /// Fails unless a message may be sent; then lets `send` try.
    #[inline]
    pub(crate) fn try_post<T>(&self, send: impl FnOnce(LinkContext<'_>) -> Result<T>) -> Result<T> {
        self.check_send()?;
        self.send_with(send)
    }

    #[cold]
    fn failed_with(&self, error: Error) -> Result<()> {
        self.failed(&error);
        Err(error)
    }

    #[cold]
    pub(super) fn failed(&self, error: &Error) {
        if error.is_transient() {
            self.idle();
        } else {
            self.poison(error);
        }
    }
}

/// For [`LinkCore::wait`]: what passes is no result yet.
pub(crate) fn unless_transient<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_transient() => Ok(None),
        Err(error) => Err(error),
    }
}
