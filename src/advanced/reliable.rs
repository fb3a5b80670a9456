//! Reliable delivery, as its owner asks for it and uses it.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::pipeline::{Decoded, compressed, context};
use super::{AdvancedLink, AdvancedMessage, AdvancedOptions, Compression, Encryption, Pipeline};
use crate::agreement::{Agreement, Fallback};
use crate::demux::ReliableConfig;
use crate::demux::negotiation::Sealing;
use crate::error::{Error, Result};
use crate::link::core::LinkCore;
use crate::link::deadline::Wait;
use crate::setup::listener::Listener;
use crate::shm::packet::op;
use hqq_features::reliable::{AckPolicy, HEADER, InboxCounts, Position, Receipt, StoreCounts};

/// How messages are kept until the peer's application acknowledges them; see [`AdvancedOptions::reliable`].
///
/// | what | unless set |
/// |---|---|
/// | [`messages`](Self::messages) | 1024 |
/// | [`bytes`](Self::bytes) | 16 MiB |
/// | [`acknowledge_every`](Self::acknowledge_every) | 32 |
/// | [`acknowledge_within`](Self::acknowledge_within) | 1 ms |
/// | [`resume`](Self::resume) | nothing is known to be processed |
/// | [`optional`](Self::optional) | without it there is no link |
///
/// ```
/// use std::time::Duration;
/// use hqq::advanced::{Reliability, AdvancedOptions};
///
/// let patient = Reliability::new().messages(64).bytes(1 << 20).acknowledge_within(Duration::from_millis(20));
/// let wanted = AdvancedOptions::new().reliable(patient);
/// ```
#[derive(Clone, Debug)]
pub struct Reliability {
    pub(super) messages: u32,
    bytes: usize,
    ack_policy: AckPolicy,
    record: Option<(Position, Vec<u64>)>,
    pub(super) optional: bool,
    /// Fewer messages than these are none: so many may be kept already.
    pub(super) least: u32,
}

impl Default for Reliability {
    fn default() -> Self {
        Self::new()
    }
}

impl Reliability {
    /// As the table says.
    pub fn new() -> Self {
        Self {
            messages: 1024,
            bytes: 16 << 20,
            ack_policy: AckPolicy { every: 32, within: Duration::from_millis(1) },
            record: None,
            optional: false,
            least: 0,
        }
    }

    /// Messages from the oldest unacknowledged one to the newest, in each direction; 0 counts as 1, and more than 65,536 as
    /// that. The lower number of both ends is used.
    #[must_use]
    pub fn messages(mut self, messages: u32) -> Self {
        self.messages = messages.clamp(1, MOST);
        self
    }

    /// Bytes that this end keeps, after compression.
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// The peer is told after so many acknowledgements; never less often than when half of the messages are acknowledged.
    #[must_use]
    pub fn acknowledge_every(mut self, every: usize) -> Self {
        self.ack_policy.every = every;
        self
    }

    /// The peer is told by the first call that finds that an acknowledgement has waited for so long.
    #[must_use]
    pub fn acknowledge_within(mut self, within: Duration) -> Self {
        self.ack_policy.within = within;
        self
    }

    /// This end goes on from a durable record: all to `position` are processed, and those in `beyond`, in any order. What is
    /// known to be processed is not delivered again.
    ///
    /// The record is what [`AdvancedLink::position`] said at some time, and the sequences of all receipts of the same
    /// session since.
    #[must_use]
    pub fn resume(mut self, position: Position, beyond: impl IntoIterator<Item = u64>) -> Self {
        self.record = Some((position, beyond.into_iter().collect()));
        self
    }

    /// The link is of use without it: then [`AdvancedMessage::receipt`] is `None`, and nothing is kept.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    fn plan(&self) -> ReliableConfig {
        ReliableConfig {
            session: hqq_sys::random::number().ok().and_then(NonZeroU64::new).unwrap_or(NonZeroU64::MIN),
            bytes: self.bytes,
            ack_policy: self.ack_policy,
            record: self.record.clone(),
        }
    }
}

/// Figures of reliable delivery on one end; see [`AdvancedLink::deliveries`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// What this end keeps for the peer.
    pub store: StoreCounts,
    /// What came from the peer.
    pub inbox: InboxCounts,
    /// Messages that were delivered to this end and that it has not acknowledged; those that wait to be received are
    /// among them.
    pub outstanding: usize,
}

/// The most messages that may be unacknowledged: so far back an end can tell a sealed one from its copy.
const MOST: u32 = 1 << 16;

/// A message that a former peer has left, or why it cannot be read.
type Left = Result<(Vec<u8>, Receipt)>;

/// What is done to the messages of a link that keeps them.
pub(crate) struct Layers {
    encryption: Option<Arc<Encryption>>,
    compression: Option<Arc<Compression>>,
    bytes: usize,
    kept: usize,
    /// What the next peer is to agree to.
    again: AdvancedOptions,
    /// What former peers have sent, and nobody has received yet.
    left: Mutex<VecDeque<Left>>,
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { encryption, compression, kept, .. } = self;
        f.debug_struct("Layers")
            .field("encryption", encryption)
            .field("compression", compression)
            .field("kept", kept)
            .finish_non_exhaustive()
    }
}

impl Sealing for Encryption {
    fn overhead(&self) -> usize {
        Self::HEADER
    }

    fn seal(&self, sequence: u64, message: &[u8], into: &mut [u8]) -> Result<()> {
        self.seal(message, &context(op::STANDARD_LINK_COPY, sequence), into).map(drop)
    }
}

impl Layers {
    /// The longest message that may be kept, bytes.
    pub(super) fn longest(&self) -> usize {
        self.bytes - self.compression.as_ref().map_or(0, |_| Compression::HEADER).min(self.bytes)
    }

    pub(super) fn both(&self) -> (Option<&Encryption>, Option<&Arc<Compression>>) {
        (self.encryption.as_deref(), self.compression.as_ref())
    }

    /// Keeps a message and sends it; how many bytes travel.
    pub(super) fn send(&self, core: &LinkCore, message: &[u8], wait: Wait) -> Result<usize> {
        let compressed = self.compression.as_ref().map(|layer| compressed(layer, message));
        let kept = compressed.as_deref().unwrap_or(message);
        core.deliver(kept, wait)?;
        Ok(HEADER + self.encryption.as_ref().map_or(0, |_| Encryption::HEADER) + kept.len())
    }

    fn left(&self) -> MutexGuard<'_, VecDeque<Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipeline {
    /// Takes the next message of a link that keeps them; without an `wait` it does not wait.
    pub(super) fn recv_kept<'a>(
        &self,
        layers: &Layers,
        core: &'a Arc<LinkCore>,
        wait: Wait,
    ) -> Result<AdvancedMessage<'a>> {
        let mut message = AdvancedMessage::empty(core);
        let left = layers.left().pop_front();
        let undone = match left {
            Some(left) => {
                left.map(|(bytes, receipt)| Decoded { receipt: Some(receipt), ..Decoded::made(bytes) })?
            }
            None => {
                let (payload, receipt) = core.take_delivered(wait)?;
                *message.place() = Some(payload);
                self.open_kept(core, &message, receipt)?
            }
        };
        message.change(core, undone);
        Ok(message)
    }

    /// Makes the message again of what came behind a sequence.
    fn open_kept(&self, core: &LinkCore, framed: &[u8], receipt: Option<Receipt>) -> Result<Decoded> {
        let none =
            Error::Frame { layer: "reliable delivery", reason: "it came ahead of the agreement".into() };
        let (_, body) = framed.split_at(HEADER.min(framed.len()));
        let undone = receipt.ok_or(none).and_then(|receipt| {
            let context = context(op::STANDARD_LINK_COPY, receipt.sequence);
            let undone = self.message_of(core, body, &context)?;
            Ok(Decoded { skip: undone.skip + HEADER, receipt: Some(receipt), ..undone })
        });
        undone.inspect_err(|_| core.refuse_frame(op::STANDARD_LINK_COPY))
    }
}

impl AdvancedOptions {
    /// What this end brings along for messages that are kept.
    pub(super) fn plan(&self) -> Option<ReliableConfig> {
        self.reliable.as_ref().map(Reliability::plan)
    }

    /// The layers of a link that keeps its messages by this agreement; `None` if it keeps none.
    pub(super) fn layers(
        &self,
        agreement: &Agreement,
        encryption: Option<Encryption>,
        compression: Option<Compression>,
    ) -> Option<Layers> {
        let reliable = self.reliable_by(agreement)?;
        Some(Layers {
            encryption: encryption.map(Arc::new),
            compression: compression.map(Arc::new),
            bytes: reliable.bytes,
            kept: agreement.terms.kept as usize,
            again: self.again(agreement),
            left: Mutex::default(),
        })
    }
}

/// Frames of these layers, which the store sends by from here on.
pub(super) fn begin(core: &LinkCore, layers: Layers) -> Arc<Pipeline> {
    let sealing = layers.encryption.clone().map(|encryption| encryption as Arc<dyn Sealing>);
    core.deliver_by(sealing);
    Arc::new(Pipeline::Reliable(Box::new(layers)))
}

/// # Reliable delivery
///
/// While the sender lives, each message is processed exactly once where the receiver acknowledges inside its own commit, at
/// least once otherwise: a link with [`AdvancedOptions::reliable`] keeps a message until the peer's application acknowledges it, and
/// sends it again to whoever takes a dead peer's place ([`reattach`](Self::reattach)). *Inside its own commit* means that one
/// transaction writes what processing a message did, and its [receipt](AdvancedMessage::receipt); a successor reads the record
/// back and begins with [`Reliability::resume`]. What is known to be processed is then not delivered again.
///
/// Only a Secondary can be replaced, so this is about what a Primary sends. A Secondary's messages are kept until the Primary
/// has acknowledged them, which tells the Secondary what was processed; if the Primary dies, the link has ended.
///
/// A message that is refused with [`Error::Frame`] was not written by an honest peer; it has no receipt, and is never acknowledged.
/// Streams acknowledge a message when its bytes have been read and the next are asked for;
/// [`recv_with`](Self::recv_with), [`recv_each`](Self::recv_each) and [`recv_into`](Self::recv_into) when they have passed it on.
///
/// It covers the messages of the link itself. Connections end with their peer, and what was on its way in them is lost. What is
/// kept is in private memory, and dies with the sender.
impl AdvancedLink {
    /// The application has processed a message; in a receiver that keeps a record, after the commit. In any order, from any
    /// thread, and more than once without harm. The peer is told soon; see [`Reliability`] for when. A receipt that
    /// came from a former peer is void: nobody is left to be told. Without reliable delivery nothing happens.
    ///
    /// ```
    /// use std::thread;
    /// use std::time::Duration;
    /// use hqq::{AdvancedLink, StandardLink};
    /// use hqq::advanced::{Reliability, AdvancedOptions};
    ///
    /// let (primary, secondary) = StandardLink::pair()?;
    /// let soon = Duration::from_secs(5);
    /// let peer = thread::spawn(move || {
    ///     let wanted = AdvancedOptions::new().reliable(Reliability::new());
    ///     let link = AdvancedLink::wait_for_negotiation(secondary, &wanted, soon)?;
    ///     let job = link.recv()?;
    ///     let receipt = job.receipt().unwrap();
    ///     // ... do it, and store the receipt with what came of it ...
    ///     link.acknowledge(receipt)
    /// });
    /// let wanted = AdvancedOptions::new().reliable(Reliability::new().messages(100));
    /// let primary = AdvancedLink::negotiate(primary, &wanted, soon)?;
    /// primary.send(b"a job")?;
    /// primary.wait_acknowledged(soon)?;
    /// assert_eq!(primary.deliveries().unwrap().store.acknowledged, 1);
    /// # peer.join().unwrap()?;
    /// # Ok::<(), hqq::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what was not received in the present session; a receipt of any other session is void, also one
    /// of a session that this link never had.
    pub fn acknowledge(&self, receipt: Receipt) -> Result<()> {
        self.link.core().acknowledge(receipt)
    }

    /// Tells the peer at once what was acknowledged; what the ring has no room for goes out with a later call. For an
    /// application that acknowledges and then makes no call for long: a call that waits does it before it sleeps.
    pub fn flush_acknowledgements(&self) {
        self.link.core().flush_acknowledgements();
    }

    /// Waits until the peer has acknowledged all that was sent, no longer than `time`: before a sender ends, whose store dies
    /// with it. At once without reliable delivery.
    ///
    /// # Errors
    /// The link's end, with messages left for [`reattach`](Self::reattach); [`Error::Timeout`].
    pub fn wait_acknowledged(&self, time: Duration) -> Result<()> {
        self.link.core().await_acknowledgements(Wait::from(time))
    }

    /// What is kept and what is delivered; `None` without reliable delivery.
    pub fn deliveries(&self) -> Option<Deliveries> {
        let (store, inbox, outstanding) = self.link.core().lock().delivery_counts()?;
        Some(Deliveries { store, inbox, outstanding })
    }

    /// How far this end is with the peer's messages: all of its session to that sequence are acknowledged. A durable record
    /// may store it in place of the receipts that it covers. `None` without reliable delivery, and before the peer's
    /// first word has come.
    pub fn position(&self) -> Option<Position> {
        self.link.core().lock().position()
    }

    /// Waits for a new Secondary to take the place of one that died or left, no longer than `time`; agrees with it on the same as
    /// with the former, with fresh keys; and sends it what is not acknowledged. As [`Listener::reattach`] for a link that
    /// keeps its messages: the link must have been made with [`Options::reattachable`](crate::Options::reattachable), and
    /// connections on it must be dropped beforehand.
    ///
    /// What the former peer had sent is still received first; its receipts are void. The newcomer must ask for
    /// [`AdvancedOptions::reliable`] too, with no lower number of messages, for encryption if there was any, and for the same codec.
    /// It negotiates or waits for it, as it likes. What the ring has no room for goes out with later calls. An application that had processed messages must have ended before its
    /// successor reads its record.
    ///
    /// # Errors
    /// As [`Listener::reattach_timeout`] and [`negotiate`](Self::negotiate); [`Error::Unsupported`] on a link without reliable
    /// delivery. What is kept stays. If a newcomer came who does not agree, nothing can be sent until
    /// it has left and another call succeeds.
    pub fn reattach(&mut self, listener: &Listener, time: Duration) -> Result<()> {
        let wait = Wait::from(time);
        let Some(pipeline) = self.pipeline.clone() else { return Err(unkept()) };
        let Pipeline::Reliable(layers) = &*pipeline else { return Err(unkept()) };
        // The peer's end may be noticed by the attempt alone.
        let ended = self.keep_left(&pipeline, layers, wait, time)?;
        let mut vacated = listener.reattach_wait(&mut self.link, wait);
        if matches!(vacated, Err(Error::Unsupported { .. }))
            && !ended
            && self.keep_left(&pipeline, layers, wait, time)?
        {
            vacated = listener.reattach_wait(&mut self.link, wait);
        }
        vacated?;
        self.agreement = Agreement::standard(Fallback::Silence);
        let settled = Self::settle(&self.link, &layers.again, None, true, wait);
        // Whoever does not agree is told so: it may wait for messages that would never come.
        let (agreement, renewed) = settled.inspect_err(|_| self.link.core().hang_up())?;
        if let Some(Pipeline::Reliable(renewed)) = renewed.as_deref() {
            *renewed.left() = std::mem::take(&mut layers.left());
        }
        (self.agreement, self.pipeline) = (agreement, renewed);
        Ok(())
    }

    /// If the peer's end has come, puts aside what it left: keys end with it. Whether it has.
    fn keep_left(&self, pipeline: &Pipeline, layers: &Layers, wait: Wait, time: Duration) -> Result<bool> {
        let core = self.link.core();
        if core.is_open() || core.recv_end().is_none() {
            return Ok(false);
        }
        if layers.left().len() > layers.kept {
            let what = "more messages of former peers wait than are kept: receive them first";
            return Err(Error::Unsupported { what });
        }
        loop {
            if wait.is_over() {
                return Err(Error::Timeout { what: "the end of what the former peer has sent", after: time });
            }
            let (payload, receipt) = match core.take_delivered(wait) {
                Ok(taken) => taken,
                Err(Error::Closed | Error::PeerDead | Error::PeerGone) => return Ok(true),
                Err(error) => return Err(error),
            };
            let mut message = AdvancedMessage::empty(core);
            *message.place() = Some(payload);
            let left = pipeline.open_kept(core, &message, receipt).and_then(|undone| {
                let receipt = undone.receipt.ok_or_else(unkept)?;
                message.change(core, undone);
                Ok((message.into_vec(), receipt))
            });
            layers.left().push_back(left);
        }
    }

    /// Whether a former peer's messages wait.
    pub(super) fn has_left(&self) -> bool {
        match self.pipeline.as_deref() {
            Some(Pipeline::Reliable(layers)) => !layers.left().is_empty(),
            _ => false,
        }
    }
}

fn unkept() -> Error {
    Error::Unsupported {
        what: "only a link with reliable delivery goes on with another peer: see Wanted::reliable",
    }
}

#[cfg(test)]
mod tests;
