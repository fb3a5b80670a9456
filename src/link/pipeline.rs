//! The layers that the messages of a link pass through, as was agreed: compression, encryption, and reliable delivery
//! around them. A layer is a [`Layer`](hqq_features::Layer) and knows nothing of the others, nor of links.
//!
//! | messages of | on the way out | on the way in |
//! |---|---|---|
//! | the link itself | [`Pipeline::send`]: all layers, the last of them into shared memory | [`Pipeline::recv`] |
//! | the link, with reliable delivery | kept as the layers before encryption leave them; encrypted for each transmission | [`Pipeline::recv`], with a receipt |
//! | a connection | [`Pipeline::of_connection`]: layers of the connection's own | the same |

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::body::{Body, Decoded, Held, HeldMessage, MessageBody, PrivateMessage, Stored, payload_bytes};
use super::core::LinkCore;
use super::deadline::Wait;
use super::wait::WaitReason;
use crate::demux::frame::{frame_error, link_context};
use crate::error::{Error, Result};
use crate::shm::endpoint::Payload;
use crate::shm::packet::op;
use hqq_features::LayerStack;
use hqq_features::reliable::{HEADER as SEQUENCE, Receipt};

/// A message that a former peer has left, or why it cannot be read.
type Left = Result<(Vec<u8>, Receipt)>;

/// The layers of one end of a link.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// All layers.
    stack: LayerStack,
    reliable: Option<Reliable>,
    /// An error that ended a batch early. The next call that receives returns it.
    late: Mutex<Option<Error>>,
}

/// Reliable delivery: messages are kept until they are acknowledged.
#[derive(Debug)]
struct Reliable {
    /// The layers that are applied before a message is kept.
    kept: LayerStack,
    /// The most bytes by which the layers that are applied to each transmission exceed what is kept.
    overhead: usize,
    limits: Limits,
    /// What former peers have sent, and nobody has received yet.
    left: Mutex<VecDeque<Left>>,
}

/// What a store keeps at the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) bytes: usize,
    /// Messages.
    pub(crate) messages: usize,
}

/// A loan in private memory, until the pipeline sends it. Its bytes are aligned as buffers are.
pub(crate) struct PrivateLoan<'a> {
    pipeline: &'a Pipeline,
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

/// The body of a loan, and the place for one.
pub(crate) type LoanBody<'a> = Body<PrivateLoan<'a>>;
pub(crate) type HeldLoan<'a> = Held<PrivateLoan<'a>>;

impl AsRef<[u8]> for PrivateLoan<'_> {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.start..][..self.len]
    }
}

impl AsMut<[u8]> for PrivateLoan<'_> {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }
}

/// A frame under way. Dropping it releases what was not sent, also when a hook panics.
struct Frame<'c> {
    core: &'c LinkCore,
    body: HeldLoan<'c>,
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        self.core.release_loan(&mut self.body);
    }
}

/// Buffers are aligned to a cache line.
const ALIGN: usize = 64;

impl<'a> LoanBody<'a> {
    /// Uses only the first `len` bytes, or all if there are fewer.
    pub(crate) fn truncate(&mut self, len: usize) {
        match self {
            Self::Slot(bytes) => bytes.truncate(len),
            Self::Stored(Stored::Pool(buffer)) => buffer.truncate(len),
            Self::Stored(Stored::Private(loan)) => loan.len = loan.len.min(len),
        }
    }

    /// `len` zeroed bytes in private memory, for `pipeline` to send.
    pub(super) fn private(pipeline: &'a Pipeline, len: usize, align: usize) -> Self {
        let align = align.max(ALIGN);
        let memory = vec![0; len + align];
        let start = memory.as_ptr().align_offset(align).min(align);
        Self::Stored(Stored::Private(Box::new(PrivateLoan { pipeline, memory, start, len })))
    }
}

impl PrivateLoan<'_> {
    /// Sends the loan.
    pub(crate) fn send(&self, core: &LinkCore, wait: Wait) -> Result<()> {
        self.pipeline.send(core, self.as_ref(), wait)
    }
}

impl Pipeline {
    /// A pipeline of these layers.
    pub(crate) fn new(stack: LayerStack) -> Self {
        Self { stack, reliable: None, late: Mutex::default() }
    }

    /// A pipeline of these layers for messages that are kept until they are acknowledged, and the layers that are applied
    /// to each transmission of what is kept.
    pub(crate) fn reliable(stack: LayerStack, limits: Limits) -> (Self, LayerStack) {
        let (kept, sent) = LayerStack::new(stack.layers().to_vec()).split();
        let reliable = Reliable { kept, overhead: sent.overhead(), limits, left: Mutex::default() };
        (Self { stack, reliable: Some(reliable), late: Mutex::default() }, sent)
    }

    /// The layers of the connection `id`. They do not include reliable delivery, which is about messages of the link
    /// itself. Each end calls it once for each connection.
    pub(super) fn of_connection(&self, id: u64) -> Option<LayerStack> {
        (!self.stack.is_empty()).then(|| self.stack.of_connection(id))
    }

    fn late(&self) -> MutexGuard<'_, Option<Error>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an error that ended a batch early, if it would be lost otherwise: the next call that receives returns it.
    pub(crate) fn defer(&self, error: Error) {
        if let Error::Frame { .. } = error {
            *self.late() = Some(error);
        }
    }

    /// Bytes of all headers of a message.
    fn overhead(&self) -> usize {
        self.stack.overhead() + self.reliable.as_ref().map_or(0, |_| SEQUENCE)
    }

    /// The longest message that can be sent on the link itself, bytes.
    pub(crate) fn max_message(&self, core: &LinkCore) -> u64 {
        let most = core.region().max_message().saturating_sub(self.overhead() as u64);
        let kept = self.reliable.as_ref().map_or(u64::MAX, |reliable| {
            reliable.limits.bytes.saturating_sub(reliable.kept.overhead()) as u64
        });
        most.min(kept)
    }

    /// The longest message of which no more than `size` bytes are made; at least 1.
    pub(super) fn max_plain_len(&self, size: usize) -> usize {
        let headers = self.overhead() - self.stack.overhead();
        self.stack.max_message_len(size.saturating_sub(headers))
    }

    // ---- sending ----

    /// Lends private memory for a message of `len` bytes, aligned as buffers are, or to `align`.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub(crate) fn lend(&self, core: &LinkCore, len: usize, align: usize) -> Result<LoanBody<'_>> {
        let limit = self.max_message(core);
        if len as u64 > limit {
            return Err(Error::TooLarge { len: len as u64, limit });
        }
        Ok(LoanBody::private(self, len, align))
    }

    /// Makes what travels of a message, and sends it.
    ///
    /// # Errors
    /// As a link's `send`; [`Error::StoreFull`].
    #[inline(never)]
    pub(crate) fn send(&self, core: &LinkCore, message: &[u8], wait: Wait) -> Result<()> {
        core.tick();
        let framed = match &self.reliable {
            Some(reliable) => reliable.send(core, message, wait)?,
            None => self.send_frame(core, message, wait)?,
        };
        core.note_framed(message.len(), framed);
        Ok(())
    }

    /// The length of the frame that was sent.
    fn send_frame(&self, core: &LinkCore, message: &[u8], wait: Wait) -> Result<usize> {
        if wait == Wait::No {
            // Nothing is made for a message that cannot go: it would cost time, and a counter.
            core.check_room()?;
        }
        let context = link_context(0);
        let mut encoder = self.stack.prepare(message, &context).map_err(frame_error)?;
        // More than the least room saves a codec a copy, where there is as much.
        let most = core.region().max_message().max(encoder.min_room() as u64);
        let room = (encoder.room() as u64).min(most) as usize;
        let mut frame = Frame { core, body: HeldLoan::nothing() };
        let mut len = 0;
        core.loan_frame(room, 1, wait, &mut frame.body)?;
        let mut written = false;
        let mut send = || loop {
            if frame.body.get().is_none() {
                core.loan_frame(room, 1, Wait::No, &mut frame.body)?;
            }
            if let (Some(frame), false) = (frame.body.get_mut(), written) {
                len = encoder.write(frame.bytes_mut()).map_err(frame_error)?;
                frame.truncate(len);
                written = true;
            }
            match encoder.send_in_order(|| core.send_body(&mut frame.body, Wait::No)) {
                Some(sent) => return sent,
                // It has waited too long for room: the peer would not know whether it had it before.
                None => {
                    core.release_loan(&mut frame.body);
                    written = false;
                }
            }
        };
        let sent = match send() {
            Err(error) if error.is_transient() && wait != Wait::No => core.wait_for_room(wait, send),
            sent => sent,
        };
        sent.map(|()| len)
    }

    // ---- receiving ----

    /// Receives the next message into `into`.
    ///
    /// # Errors
    /// As a link's `recv`; [`Error::Frame`] if what came breaks the rules of a layer. It is gone then.
    pub(crate) fn recv(&self, core: &LinkCore, wait: Wait, into: &mut HeldMessage) -> Result<()> {
        if let Some(error) = self.late().take() {
            return Err(error);
        }
        if let Some(body) = self.poll(core, 0)? {
            *into = body.into();
            return Ok(());
        }
        if wait == Wait::No {
            core.count_idle_poll();
            return Err(Error::RingEmpty);
        }
        *into = core.wait(WaitReason::MESSAGE, wait, |own| self.poll(core, own))?.into();
        Ok(())
    }

    fn poll(&self, core: &LinkCore, own: u64) -> Result<Option<MessageBody>> {
        if let Some(reliable) = &self.reliable {
            return reliable.poll(&self.stack, core, own);
        }
        let mut frame = HeldMessage::nothing();
        if !core.take(own, &mut frame)? {
            return Ok(None);
        }
        let Some(payload) = frame.take().and_then(Body::into_payload) else { return Ok(None) };
        let bytes = decode(&self.stack, core, payload, 0, &link_context(0))?;
        Ok(Some(Body::Stored(Stored::Private(Box::new(PrivateMessage { bytes, receipt: None })))))
    }

    /// Whether a call that receives has something to return that is not in the ring: a message of a former peer, or an error.
    pub(crate) fn has_left(&self) -> bool {
        self.late().is_some() || self.reliable.as_ref().is_some_and(|reliable| !reliable.left().is_empty())
    }

    /// Puts aside what a peer has left that has ended, since the keys end with it. False if it has not ended.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if too much was put aside already; [`Error::Timeout`].
    pub(crate) fn put_aside(&self, core: &LinkCore, wait: Wait) -> Result<bool> {
        let Some(reliable) = &self.reliable else { return Ok(false) };
        if core.is_open() || core.recv_end().is_none() {
            return Ok(false);
        }
        if reliable.left().len() > reliable.limits.messages {
            let what = "too many messages of former peers wait: receive them first";
            return Err(Error::Unsupported { what });
        }
        let began = std::time::Instant::now();
        loop {
            if wait.is_over() {
                let what = "the end of the former peer's messages: reattach when it has died or left";
                return Err(Error::Timeout { what, after: began.elapsed() });
            }
            let (payload, receipt) = match core.take_delivered(wait) {
                Ok(taken) => taken,
                Err(Error::Closed | Error::PeerDead | Error::PeerGone) => return Ok(true),
                Err(error) => return Err(error),
            };
            let left = reliable.decode(&self.stack, core, payload, receipt).map(|message| {
                let bytes = message.as_ref().to_vec();
                let receipt = message.receipt;
                core.release_private(message);
                (bytes, receipt)
            });
            let left = left.and_then(|(bytes, receipt)| Ok((bytes, receipt.ok_or_else(unsequenced)?)));
            reliable.left().push_back(left);
        }
    }

    /// Takes over what `former` has put aside.
    pub(crate) fn inherit(&self, former: &Self) {
        let late = former.late().take();
        *self.late() = late;
        if let (Some(ours), Some(theirs)) = (&self.reliable, &former.reliable) {
            *ours.left() = std::mem::take(&mut theirs.left());
        }
    }

    /// Whether messages are kept until they are acknowledged.
    pub(crate) fn is_reliable(&self) -> bool {
        self.reliable.is_some()
    }
}

fn unsequenced() -> Error {
    let reason = "it came before the ends had agreed on reliable delivery";
    Error::Frame { layer: "reliable delivery", reason: reason.into() }
}

impl Reliable {
    fn left(&self) -> MutexGuard<'_, VecDeque<Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a message and sends it. The length of the frame.
    fn send(&self, core: &LinkCore, message: &[u8], wait: Wait) -> Result<usize> {
        let kept = match self.kept.is_empty() {
            true => Cow::Borrowed(message),
            // No layer whose frames are kept depends on a sequence.
            false => self.kept.encode_to_vec(message, &link_context(0)).map_err(frame_error)?.into(),
        };
        core.deliver(&kept, wait)?;
        Ok(SEQUENCE + self.overhead + kept.len())
    }

    fn poll(&self, stack: &LayerStack, core: &LinkCore, own: u64) -> Result<Option<MessageBody>> {
        let left = self.left().pop_front();
        let message = match left {
            Some(left) => {
                let (bytes, receipt) = left?;
                PrivateMessage { bytes: Decoded::Own(bytes), receipt: Some(receipt) }
            }
            None => match core.take_receipted(own)? {
                Some((payload, receipt)) => self.decode(stack, core, payload, receipt)?,
                None => return Ok(None),
            },
        };
        Ok(Some(Body::Stored(Stored::Private(Box::new(message)))))
    }

    /// Makes the message of what came behind a sequence.
    fn decode(
        &self,
        stack: &LayerStack,
        core: &LinkCore,
        payload: Payload<'static>,
        receipt: Option<Receipt>,
    ) -> Result<PrivateMessage> {
        let Some(receipt) = receipt else {
            core.give(payload);
            core.refuse_frame(op::STANDARD_LINK_COPY);
            return Err(unsequenced());
        };
        let bytes = decode(stack, core, payload, SEQUENCE, &link_context(receipt.sequence))?;
        Ok(PrivateMessage { bytes, receipt: Some(receipt) })
    }
}

/// Makes the message of what came after the first `skip` bytes of `payload`.
fn decode(
    stack: &LayerStack,
    core: &LinkCore,
    payload: Payload<'static>,
    skip: usize,
    context: &[u8],
) -> Result<Decoded> {
    let limit = core.region().bounds().max_message;
    let bytes = payload_bytes(&payload);
    let skip = skip.min(bytes.len());
    match stack.decode(&bytes[skip..], context, limit) {
        Ok(decoded) => Ok(match decoded.range() {
            Some(range) => Decoded::Within(payload, skip + range.start..skip + range.end),
            None => {
                let message = decoded.into_vec(&[]);
                core.give(payload);
                Decoded::Own(message)
            }
        }),
        Err(error) => {
            core.give(payload);
            core.refuse_frame(op::STANDARD_LINK_COPY);
            Err(frame_error(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::link::standard::StandardLink;
    use hqq_features::{Decoded as Message, Encoded, Layer, LayerError};

    /// A layer that appends the number of the frame, and takes its first frame for stale.
    #[derive(Debug, Default)]
    struct Numbered {
        made: AtomicU64,
    }

    impl Layer for Numbered {
        fn name(&self) -> &'static str {
            "numbered"
        }

        fn overhead(&self) -> usize {
            1
        }

        fn encode(&self, message: &[u8], _: &[u8], into: &mut [u8]) -> Result<Encoded, LayerError> {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            into[..message.len()].copy_from_slice(message);
            into[message.len()] = number as u8;
            Ok(Encoded { len: message.len() + 1, ticket: Some(number) })
        }

        fn decode(&self, frame: &[u8], _: &[u8], _: u64) -> Result<Message, LayerError> {
            match frame.split_last() {
                Some((1, message)) => Ok(Message::within(0..message.len())),
                _ => Err(LayerError::new(self.name(), "not the second frame")),
            }
        }

        fn is_stale(&self, ticket: u64) -> bool {
            ticket == 0
        }
    }

    fn sends(len: usize) {
        let (one, other) = StandardLink::pair().unwrap();
        let layer = Arc::new(Numbered::default());
        let pipeline = |layer: &Arc<Numbered>| Pipeline::new(LayerStack::new(vec![layer.clone() as _]));
        pipeline(&layer).send(one.core(), &vec![7; len], Wait::Forever).unwrap();
        assert_eq!(layer.made.load(Ordering::Relaxed), 2);
        let mut message = HeldMessage::nothing();
        pipeline(&layer).recv(other.core(), Wait::Forever, &mut message).unwrap();
        assert_eq!(message.bytes(), vec![7; len]);
        other.core().release_message(&mut message);
        let free = one.stats().directions.map(|direction| direction.buffers_free);
        assert_eq!(free[0], free[1], "every buffer is released");
    }

    #[test]
    fn a_stale_frame_is_made_again() {
        [0, 10, 47, 48, 1000, 100_000].into_iter().for_each(sends);
    }

    #[test]
    fn a_refused_frame_is_released() {
        let (one, other) = StandardLink::pair().unwrap();
        let pipeline = Pipeline::new(LayerStack::new(vec![Arc::new(Numbered::default()) as _]));
        one.send(&[9; 1000]).unwrap();
        let mut message = HeldMessage::nothing();
        let error = pipeline.recv(other.core(), Wait::Forever, &mut message).unwrap_err();
        assert!(matches!(error, Error::Frame { layer: "numbered", .. }), "{error}");
        let free = one.stats().directions.map(|direction| direction.buffers_free);
        assert_eq!(free[0], free[1]);
    }
}
