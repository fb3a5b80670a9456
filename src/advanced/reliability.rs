//! Reliable delivery, as its owner asks for it, and its counts.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::demux::ReliableConfig;
use hqq_features::reliable::{AckPolicy, InboxCounts, Position, StoreCounts};

/// How messages are kept until the peer's application acknowledges them; see [`AdvancedOptions::reliable`](super::AdvancedOptions::reliable).
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
    pub(super) bytes: usize,
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
    /// The record is what [`AdvancedLink::position`](super::AdvancedLink::position) said at some time, and the sequences of all receipts of the same
    /// session since.
    #[must_use]
    pub fn resume(mut self, position: Position, beyond: impl IntoIterator<Item = u64>) -> Self {
        self.record = Some((position, beyond.into_iter().collect()));
        self
    }

    /// The link is of use without it: then [`Message::receipt`](crate::Message::receipt) is `None`, and nothing is kept.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    pub(super) fn config(&self) -> ReliableConfig {
        ReliableConfig {
            session: hqq_sys::random::number().ok().and_then(NonZeroU64::new).unwrap_or(NonZeroU64::MIN),
            bytes: self.bytes,
            ack_policy: self.ack_policy,
            record: self.record.clone(),
        }
    }
}

/// Figures of reliable delivery on one end; see [`AdvancedLink::deliveries`](super::AdvancedLink::deliveries).
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
