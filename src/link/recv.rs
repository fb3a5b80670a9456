//! Receiving: straight from the ring while the link carries nothing but messages of its own, else sorted under the
//! lock.

use std::sync::PoisonError;

use super::body::{Body, Decoded, HeldMessage, MessageBody, PrivateMessage, Stored};
use super::core::LinkCore;
use super::deadline::Wait;
use super::pipeline::HeldLoan;
use super::stream::{Hole, StreamReader, copy};
use super::wait::WaitReason;
use crate::demux::Stop;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::buffer::Buffer;
use crate::shm::endpoint::{Incoming, Payload};
use crate::shm::packet::{Fault, Operation, Packet, op};
use hqq_features::reliable::Receipt;

/// What a look into the ring gave.
enum Look {
    /// A message, and its receipt if it is to be acknowledged.
    Got(Payload<'static>, Option<Receipt>),
    Empty,
    Busy,
}

/// A message, and its receipt if it is to be acknowledged.
pub(crate) type Receipted = (Payload<'static>, Option<Receipt>);

impl LinkCore {
    /// From now on packets are sorted under the lock.
    pub(crate) fn start_demux(&self) {
        self.state.demux();
    }

    /// Puts the next message into `into`, if there is one. `own` as in [`demux`](Self::demux).
    #[inline(always)]
    pub(crate) fn take(&self, own: u64, into: &mut HeldMessage) -> Result<bool> {
        if self.state().takes_directly() {
            if let Some(position) = self.region().receive_plain(into, |fault| self.refuse(fault, own)) {
                self.arrived(position, into);
                return Ok(true);
            }
        }
        self.take_slowly(own, into)
    }

    /// Puts the next message into `into`, waiting for it until `wait`.
    #[inline(always)]
    pub(crate) fn take_wait(&self, wait: Wait, into: &mut HeldMessage) -> Result<()> {
        if self.take(0, into)? {
            return Ok(());
        }
        // As in `await_message`, which would cost a poll 41 instructions more.
        if wait == Wait::No {
            self.count_idle_poll();
            return Err(Error::RingEmpty);
        }
        self.await_message(wait, into)
    }

    /// Goes on where there was none yet.
    #[cold]
    pub(super) fn await_message(&self, wait: Wait, into: &mut HeldMessage) -> Result<()> {
        if wait == Wait::No {
            self.count_idle_poll();
            return Err(Error::RingEmpty);
        }
        self.wait(WaitReason::MESSAGE, wait, |own| Ok(self.take(own, into)?.then_some(())))
    }

    /// Puts the next message into `into` if it can be taken the short way, and wakes nobody: that is left to the caller,
    /// ahead of anything that may take long.
    #[inline(always)]
    pub(crate) fn take_quietly(&self, into: &mut HeldMessage) -> bool {
        if !self.state().takes_directly() {
            return false;
        }
        let position = self.region().receive_plain(into, |fault| self.refuse(fault, 0));
        if let Some(position) = position {
            if self.state().is_demuxed() {
                self.reorder(position, into);
            }
        }
        position.is_some()
    }

    /// Whether messages can be taken straight from the ring.
    #[inline(always)]
    pub(crate) fn takes_straight(&self) -> bool {
        self.state().receives_unlocked()
    }

    /// Whether it is worth while to look for a message. Only loads, and mostly of the line that the next one comes in.
    #[inline(always)]
    pub(super) fn may_have_message(&self) -> bool {
        !self.state().takes_directly() || self.region().has_packet()
    }

    /// As [`take`](Self::take), with an eye on the link's end.
    #[inline(never)]
    fn take_slowly(&self, own: u64, into: &mut HeldMessage) -> Result<bool> {
        Ok(self.take_receipted(own)?.map(|(payload, _)| *into = payload.into()).is_some())
    }

    /// The next message, if there is one, and its receipt if it is to be acknowledged.
    #[inline(always)]
    pub(super) fn take_receipted(&self, own: u64) -> Result<Option<Receipted>> {
        let found = match self.look(own) {
            Ok(Look::Empty) => match self.recv_end() {
                None => return Ok(None),
                // What was committed before the end is visible now.
                Some(end) => match self.look(own) {
                    Ok(Look::Empty) => return Err(end),
                    found => found,
                },
            },
            found => found,
        };
        match found {
            Ok(Look::Got(payload, receipt)) => Ok(Some((payload, receipt))),
            Ok(Look::Empty | Look::Busy) => Ok(None),
            Err(error) => {
                self.poison(&error);
                Err(error)
            }
        }
    }

    fn look(&self, own: u64) -> Result<Look> {
        if !self.takes_straight() {
            return self.poll_demuxed(own);
        }
        let cx = self.context();
        // A look goes past refused packets: who sleeps after it must not leave a good one behind them. There are
        // no more than the ring has slots; for any that comes later, the peer rings.
        let wanted = |op| Packet::is_plain(op) || op == op::PROBE;
        for _ in 0..cx.region.layout().geometry.slots() {
            match cx.region.receive(wanted, |packet| cx.show(false, packet))? {
                Incoming::Message(payload, position) => {
                    let mut body = HeldMessage::from(payload);
                    self.arrived(position, &mut body);
                    let payload = body.take().and_then(Body::into_payload);
                    return Ok(payload.map_or(Look::Busy, |payload| Look::Got(payload, None)));
                }
                Incoming::Empty => return Ok(Look::Empty),
                Incoming::Busy => return Ok(Look::Busy),
                Incoming::Refused(fault) => self.refuse(fault, own),
                Incoming::Skipped => self.notify_peer(self.region().wake_senders()),
                Incoming::Control(Operation::Probe { at }) => self.take_probe(at, own),
                _ => {
                    self.start_demux();
                    return self.poll_demuxed(own);
                }
            }
        }
        Ok(Look::Busy)
    }

    /// Counts a refused packet and tells the peer.
    #[cold]
    pub(super) fn refuse(&self, fault: Fault, own: u64) {
        self.notify_peer(self.region().wake_senders());
        self.demux(own).answer(self.context(), fault.code, fault.context, fault.op);
    }

    /// Counts a message that breaks the rules of what was agreed, and tells the peer.
    #[cold]
    pub(crate) fn refuse_frame(&self, op: u8) {
        self.demux(0).answer(self.context(), ErrorCode::BadFrame, 0, op);
    }

    /// A message came straight from the ring: its slot is free, and it is the next one unless others have begun to
    /// sort meanwhile.
    #[inline(always)]
    fn arrived(&self, position: u64, message: &mut HeldMessage) {
        self.notify_peer(self.region().wake_senders());
        if self.state().is_demuxed() {
            self.reorder(position, message);
        }
    }

    /// Puts the oldest message that is there in the place of one that came straight.
    #[cold]
    fn reorder(&self, position: u64, message: &mut HeldMessage) {
        let mut demux = self.demux(0);
        if let Some(payload) = message.take().and_then(Body::into_payload) {
            *message = demux.reorder(position, payload).into();
        }
    }

    fn poll_demuxed(&self, own: u64) -> Result<Look> {
        let state = self.state();
        if state.is_corrupt() {
            return Err(self.corrupt_error());
        }
        if state.is_recv_shut() {
            return Err(Error::Closed);
        }
        let mut demux = self.demux(own);
        let empty = demux.pump(Stop::Message)?;
        Ok(match demux.pop_message() {
            Some((payload, receipt)) => Look::Got(payload, receipt),
            None if empty => Look::Empty,
            None => Look::Busy,
        })
    }

    /// Gives a message's buffers back and wakes the peer's senders if they wait.
    #[inline(always)]
    pub(crate) fn give(&self, payload: Payload<'static>) {
        if let Payload::Pool(buffer) = payload {
            self.give_buffer(buffer);
        }
    }

    /// Releases what a received message consists of.
    #[inline(always)]
    pub(crate) fn release_message(&self, body: &mut HeldMessage) {
        // What came in the slot holds nothing, and is not moved once more for that.
        if let Some(Body::Stored(_)) = body.get() {
            match body.take() {
                Some(Body::Stored(Stored::Pool(buffer))) => {
                    debug_assert!(self.region().inward().owns(&buffer), "it was received");
                    self.region().inward().pool.give(buffer.run());
                    self.notify_peer(self.region().wake_senders());
                }
                Some(Body::Stored(Stored::Private(message))) => self.release_boxed(message),
                _ => {}
            }
        }
    }

    #[cold]
    #[inline(never)]
    #[expect(clippy::boxed_local, reason = "the usual way has no room for it on the stack")]
    fn release_boxed(&self, message: Box<PrivateMessage>) {
        self.release_private(*message);
    }

    /// Releases what a decoded message still holds of what came.
    #[cold]
    #[inline(never)]
    pub(crate) fn release_private(&self, message: PrivateMessage) {
        if let Decoded::Within(payload, _) = message.bytes {
            self.give(payload);
        }
    }

    /// Releases a loan that was not sent.
    #[inline(always)]
    pub(crate) fn release_loan(&self, body: &mut HeldLoan<'_>) {
        if let Some(Body::Stored(_)) = body.get() {
            if let Some(Body::Stored(Stored::Pool(buffer))) = body.take() {
                self.give_buffer(buffer);
            }
        }
    }

    /// As [`give`](Self::give), for a buffer.
    #[inline(always)]
    pub(crate) fn give_buffer(&self, buffer: Buffer<'static>) {
        if self.region().inward().owns(&buffer) {
            self.region().inward().pool.give(buffer.run());
            self.notify_peer(self.region().wake_senders());
        } else {
            self.give_loan(buffer);
        }
    }

    /// Gives back a loan that was not sent.
    #[cold]
    fn give_loan(&self, buffer: Buffer<'static>) {
        self.region().give(buffer);
        if self.waiters.anyone_waits(0) {
            // Our own threads may wait for buffers.
            self.waiters.wake();
        }
    }

    /// Reads bytes as a stream from the messages that `next` receives; 0 at the end. A message is acknowledged when its bytes
    /// have been read and the next are asked for.
    pub(crate) fn read(&self, into: &mut [u8], next: impl Fn() -> Result<MessageBody>) -> Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let mut reader = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hole) = &reader.hole {
            return Err(hole.error());
        }
        loop {
            let StreamReader { message, receipt, hole } = &mut *reader;
            let (body, done) = match message {
                Some(begun) => begun,
                None => {
                    if let Some(receipt) = receipt.take() {
                        self.acknowledge(receipt)?;
                    }
                    match next() {
                        Ok(body) => {
                            *receipt = body.receipt();
                            message.insert((body, 0))
                        }
                        Err(Error::Closed) => return Ok(0),
                        Err(error) => {
                            *hole = Hole::of(&error);
                            return Err(error);
                        }
                    }
                }
            };
            let rest = &body.bytes()[*done..];
            let count = copy(rest, into);
            *done += count;
            if count == rest.len() {
                if let Some((body, _)) = message.take() {
                    self.release_message(&mut body.into());
                }
            }
            if count > 0 {
                return Ok(count);
            }
        }
    }

    /// Releases what a stream's reader still holds.
    pub(super) fn end_stream(&self) {
        let mut reader = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((body, _)) = reader.message.take() {
            self.release_message(&mut body.into());
        }
    }
}
