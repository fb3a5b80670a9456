//! Sending: one at a time where the ring allows one, what waits in the outbox first, and a ring of the doorbell
//! after.

use std::sync::{MutexGuard, PoisonError};

use super::body::{Body, Held, Stored};
use super::core::LinkCore;
use super::deadline::Wait;
use super::pipeline::{HeldLoan, Pipeline};
use super::wait::WaitReason;
use crate::demux::{LinkContext, Stop};
use crate::error::{Error, Result};
use crate::shm::buffer::Buffer;
use crate::shm::endpoint::SlotBytes;

impl LinkCore {
    /// The lock that senders share where only one may send at a time.
    #[inline(always)]
    pub(super) fn gate(&self) -> Option<MutexGuard<'_, ()>> {
        self.state().is_send_serial().then(|| self.close_gate())
    }

    #[cold]
    fn close_gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut demux = self.demux(0);
        demux.flush()?;
        if demux.has_outgoing() && !self.is_split() {
            return Err(Error::RingFull { slots: self.region().layout().geometry.slots().into() });
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

    /// Whether a frame may be put into the ring now, with nothing else to be done about it.
    #[inline(always)]
    fn posts_directly(&self) -> bool {
        self.state().posts_directly() && !self.peer_word().no_recv()
    }

    /// Whether a message may be put into the ring now as it is, with nothing else to be done about it.
    #[inline(always)]
    pub(crate) fn sends_directly(&self) -> bool {
        self.state().sends_directly() && !self.peer_word().no_recv()
    }

    /// Whether a message of `len` bytes travels in the ring itself.
    #[inline(always)]
    pub(crate) fn fits_slot(&self, len: usize) -> bool {
        len <= self.region().max_inline()
    }

    /// Sends a message that fits the slot, where it can be [sent directly](Self::sends_directly), waiting for room until
    /// `wait`.
    #[inline(always)]
    pub(crate) fn send_in_slot(&self, bytes: &SlotBytes, message: &[u8], wait: Wait) -> Result<()> {
        match self.region().send_inline(bytes, |_| {}) {
            Ok(()) => self.announce_sent(),
            Err(error) => self.send_again(error, message, wait),
        }
    }

    #[cold]
    fn send_again(&self, failure: Error, message: &[u8], wait: Wait) -> Result<()> {
        self.failed(&failure);
        self.send_patiently(failure, message, wait)
    }

    /// Goes on where a try has failed.
    #[cold]
    pub(crate) fn send_patiently(&self, failure: Error, message: &[u8], wait: Wait) -> Result<()> {
        if wait == Wait::No || !failure.is_transient() {
            return Err(failure);
        }
        if self.fits_slot(message.len()) {
            let mut body = Body::Slot(SlotBytes::of(message)).into();
            return self.wait_for_room(wait, || self.try_send_body(&mut body, Wait::No));
        }
        // A buffer once found is kept while the ring is full.
        let mut body = HeldLoan::nothing();
        self.loan_frame(message.len(), 1, wait, &mut body)?;
        if let Some(body) = body.get_mut() {
            body.bytes_mut().copy_from_slice(message);
        }
        let sent = self.send_body(&mut body, wait);
        self.release_loan(&mut body);
        sent
    }

    /// Whether it is worth while to try to send a message. Only loads, and mostly of the line that comes free next.
    pub(super) fn may_have_room(&self) -> bool {
        let state = self.state();
        !state.posts_directly() || state.is_demuxed() || self.region().has_room()
    }

    /// Fails as a send that does not wait would for want of a slot, or for the link's end. Stale as soon as it returns.
    pub(crate) fn check_room(&self) -> Result<()> {
        self.check_send()?;
        if self.region().has_room() {
            return Ok(());
        }
        self.failed_with(Error::RingFull { slots: self.region().facts().geometry.slots().into() })
    }

    /// Sends a message as it is, where it does not fit the slot or cannot be [sent directly](Self::sends_directly), waiting
    /// for room until `wait`.
    #[inline(always)]
    pub(crate) fn send_slowly(&self, message: &[u8], wait: Wait) -> Result<()> {
        let region = self.region();
        if message.len() > region.max_inline()
            && message.len() as u64 <= region.max_single()
            && self.posts_directly()
        {
            if let Ok(mut buffer) = region.loan(message.len()) {
                buffer.bytes_mut().copy_from_slice(message);
                return match region.send_kept(&buffer, |_| {}) {
                    Ok(()) => {
                        self.prepare_next();
                        self.announce_sent()
                    }
                    Err(error) => self.send_copied(error, buffer, wait),
                };
            }
        }
        match self.try_send_uncommon(message) {
            Ok(()) => Ok(()),
            Err(error) => self.send_patiently(error, message, wait),
        }
    }

    /// After a send through the pool: if this is the only thread that takes buffers, it need not wait for the word of the
    /// next one.
    #[inline(always)]
    fn prepare_next(&self) {
        let region = self.region();
        if region.is_single() {
            region.prepare();
        }
    }

    /// Goes on where a try has failed. A buffer once found is kept while the ring is full.
    #[cold]
    fn send_copied(&self, failure: Error, buffer: Buffer<'static>, wait: Wait) -> Result<()> {
        self.failed(&failure);
        let mut body = Body::Stored(Stored::Pool(buffer)).into();
        let sent = self.send_body_patiently(failure, &mut body, wait);
        self.release_loan(&mut body);
        sent
    }

    /// Sends a message that takes several buffers, or takes turns, or is traced, if there is room.
    #[inline(never)]
    fn try_send_uncommon(&self, message: &[u8]) -> Result<()> {
        if self.fits_slot(message.len()) {
            return self.try_post(|cx| cx.region.send_bytes(message, |packet| cx.show(true, packet)));
        }
        let mut body = HeldLoan::nothing();
        self.try_loan_frame(message.len(), 1, &mut body)?;
        body.bytes_mut().copy_from_slice(message);
        let sent = self.try_send_body(&mut body, Wait::No);
        if sent.is_err() {
            self.release_loan(&mut body);
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

    /// While a call waits to send on a link with connections, it sorts what comes in: the peer may wait for that.
    pub(super) fn keep_demuxing(&self, own: u64) -> Result<()> {
        let state = self.state();
        if state.is_demuxed() && !state.is_split() {
            self.demux(own).pump(Stop::Lap)?;
        }
        Ok(())
    }

    /// Sends what `body` holds, waiting for room until `wait`; on failure it is still there.
    #[inline(always)]
    pub(crate) fn send_body(&self, body: &mut HeldLoan<'_>, wait: Wait) -> Result<()> {
        match self.try_send_body(body, wait) {
            Ok(()) => Ok(()),
            Err(error) if wait == Wait::No => Err(error),
            Err(error) => self.send_body_patiently(error, body, wait),
        }
    }

    #[inline(always)]
    fn try_send_body(&self, body: &mut HeldLoan<'_>, wait: Wait) -> Result<()> {
        // Each way returns by itself: what a send costs depends on it.
        match body.get() {
            Some(Body::Stored(Stored::Pool(buffer))) if !buffer.is_empty() && self.posts_directly() => {
                if let Err(error) = self.region().send_kept(buffer, |_| {}) {
                    return self.failed_with(error);
                }
                // Its buffers are the peer's now.
                body.forget();
                self.prepare_next();
                self.announce_sent()
            }
            Some(Body::Slot(bytes)) if self.posts_directly() => {
                if let Err(error) = self.region().send_inline(bytes, |_| {}) {
                    return self.failed_with(error);
                }
                body.forget();
                self.announce_sent()
            }
            _ => self.try_send_body_slowly(body, wait),
        }
    }

    #[inline(never)]
    fn try_send_body_slowly(&self, body: &mut HeldLoan<'_>, wait: Wait) -> Result<()> {
        if let Some(Body::Stored(Stored::Private(loan))) = body.get() {
            // It waits by itself: what the layers made of it is kept meanwhile.
            loan.send(self, wait)?;
            drop(body.take());
            return Ok(());
        }
        if body.get().is_none_or(|body| body.len() == 0) {
            // An empty message needs no buffer, and somebody may wait for this one.
            self.release_loan(body);
            *body = Body::Slot(SlotBytes::zeroed(0)).into();
        }
        self.try_post(|cx| {
            let seen = |packet: &_| cx.show(true, packet);
            match body.take() {
                Some(Body::Slot(bytes)) => cx.region.send_inline(&bytes, seen).inspect_err(|_| {
                    *body = Body::Slot(bytes).into();
                }),
                Some(Body::Stored(Stored::Pool(buffer))) => {
                    cx.region.send(buffer, seen).map_err(|(error, buffer)| {
                        *body = Body::Stored(Stored::Pool(buffer)).into();
                        error
                    })
                }
                None | Some(Body::Stored(Stored::Private(_))) => Ok(()),
            }
        })
    }

    /// Goes on where a try has failed.
    #[cold]
    fn send_body_patiently(&self, failure: Error, body: &mut HeldLoan<'_>, wait: Wait) -> Result<()> {
        if wait == Wait::No || !failure.is_transient() {
            return Err(failure);
        }
        self.wait_for_room(wait, || self.try_send_body(body, Wait::No))
    }

    /// Waits until a send succeeds, or fails for good.
    pub(crate) fn wait_for_room(&self, wait: Wait, mut send: impl FnMut() -> Result<()>) -> Result<()> {
        self.wait(WaitReason::ROOM, wait, |own| {
            self.keep_demuxing(own)?;
            unless_transient(send())
        })
    }

    /// Puts memory of the link for a frame of `len` bytes into `into`, waiting for it until `wait`.
    #[inline(always)]
    pub(crate) fn loan_frame<P>(
        &self,
        len: usize,
        align: usize,
        wait: Wait,
        into: &mut Held<P>,
    ) -> Result<()> {
        match self.try_loan_frame(len, align, into) {
            Ok(()) => Ok(()),
            Err(error) if wait == Wait::No => Err(error),
            Err(error) => self.loan_patiently(error, len, align, wait, into),
        }
    }

    #[inline(always)]
    fn try_loan_frame<P>(&self, len: usize, align: usize, into: &mut Held<P>) -> Result<()> {
        let region = self.region();
        if len > region.max_inline() && len as u64 <= region.max_single() && self.posts_directly() {
            return match region.loan(len) {
                Ok(buffer) => {
                    *into = Body::Stored(Stored::Pool(buffer)).into();
                    Ok(())
                }
                Err(error) => self.loan_failed(error, len, align, into),
            };
        }
        self.try_loan_slowly(len, align, into)
    }

    #[cold]
    fn loan_failed<P>(&self, failure: Error, len: usize, align: usize, into: &mut Held<P>) -> Result<()> {
        // Some of the buffers may just be gathered, and be free again at once.
        if failure.is_transient() {
            self.try_loan_slowly(len, align, into)
        } else {
            self.failed_with(failure)
        }
    }

    fn try_loan_slowly<P>(&self, len: usize, align: usize, into: &mut Held<P>) -> Result<()> {
        *into = if len <= self.region().max_inline() && align <= align_of::<SlotBytes>() {
            self.check_send()?;
            Body::Slot(SlotBytes::zeroed(len)).into()
        } else {
            Body::Stored(Stored::Pool(self.take_buffer(len)?)).into()
        };
        Ok(())
    }

    /// Goes on where a try has failed.
    #[cold]
    fn loan_patiently<P>(
        &self,
        failure: Error,
        len: usize,
        align: usize,
        wait: Wait,
        into: &mut Held<P>,
    ) -> Result<()> {
        if !failure.is_transient() {
            return Err(failure);
        }
        self.wait(WaitReason::BUFFER, wait, |own| {
            self.keep_demuxing(own)?;
            unless_transient(self.try_loan_frame(len, align, into))
        })
    }

    /// The part of a write that goes into one message: what is made of it fits a buffer.
    pub(crate) fn stream_part<'b>(&self, pipeline: Option<&Pipeline>, from: &'b [u8]) -> &'b [u8] {
        let region = self.region();
        let size = region.facts().geometry.buffer_size().min(region.max_message()) as usize;
        let most = match pipeline {
            None => size,
            Some(pipeline) => {
                let limit = usize::try_from(pipeline.max_message(self)).unwrap_or(usize::MAX);
                pipeline.max_plain_len(size).min(limit).max(1)
            }
        };
        &from[..from.len().min(most)]
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
            self.count_idle_poll();
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
