//! Reliable delivery: a message is kept until the application at the other end acknowledges it, and sent again to
//! whoever takes a dead peer's place. A state machine without I/O: [`Store`] at the sender, [`Inbox`] at the
//! receiver. [`AdvancedLink`](crate::AdvancedLink) uses it for the messages of the link itself; see
//! [`AdvancedOptions::reliable`](crate::advanced::Wanted::reliable).
//!
//! # The guarantee
//!
//! While the sender lives, each message is processed exactly once where the receiver acknowledges inside its own
//! commit, at least once otherwise.
//!
//! *Inside its own commit* means: one transaction writes what processing the message did, and its [`Receipt`]
//! (session and sequence). After the commit the receiver calls [`Inbox::acknowledge`]. Its successor reads the
//! receipts back and begins with [`Inbox::resume`]. A receiver that keeps no such record begins with [`Inbox::new`],
//! and what its predecessor had processed but not told is processed again.
//!
//! The link itself delivers what was committed to its ring once and in order. What it cannot know is whether a
//! receiver that took a message got to process it. That is all this module adds.
//!
//! # What travels
//!
//! | what | from | content |
//! |---|---|---|
//! | frame | sender | [`HEADER`] bytes: the sequence, from 1, little-endian; then the message |
//! | [`Start`] | sender | session; next: *what is below and has not come is acknowledged*; if it answers a Resume |
//! | [`Resume`] | receiver | session and upto: *all to `upto` is processed*; or that it knows nothing |
//! | [`Ack`] | receiver | session, upto, and 256 bits for single messages from a sequence on |
//!
//! The sequence is what names a copy for ever: the CopyID of a packet is its place in the ring, and a message that
//! is sent again gets another place. Frames and Starts must reach the receiver's [`Inbox`] in the order of the ring.
//! Frames may change places among themselves, as they do with several receiving threads; a Start may not.
//!
//! # An attachment
//!
//! | step | sender | receiver |
//! |---|---|---|
//! | 1 | new, or [`detach`](Store::detach): keeps what is pushed, sends nothing | [`Inbox::new`], [`Inbox::resume`] |
//! | 2 | | sends [`Inbox::position`] as Resume |
//! | 3 | [`resumed`](Store::resumed): drops what is processed | drops what lay in the ring: [`Verdict::Early`] |
//! | 4 | [`resend`](Store::resend): a Start, then what is kept, in order | [`started`](Inbox::started), then delivers |
//! | 5 | [`is_caught_up`](Store::is_caught_up): what is pushed may go straight into the ring | |
//!
//! What lay in the ring when the predecessor died begins somewhere in the middle, behind what the dead one took. The
//! newcomer drops it: the store still has all of it that is not acknowledged, and sends it in order behind the
//! Start. So nothing comes twice and nothing overtakes. Where single messages were acknowledged out of order, the
//! resend has holes; a further Start stands for each. One of those that was meant for the predecessor says nothing to
//! a newcomer, who may lack frames ahead of it: only a Start that answers a Resume opens its inbox.
//!
//! The predecessor must have stopped when the newcomer reads its record: what it commits later, nobody knows of. A
//! dead one has; one that left and lives must see to it itself.
//!
//! # Who keeps what
//!
//! | a message is | store | ring | inbox |
//! |---|---|---|---|
//! | pushed, not placed | kept | | |
//! | placed | kept | lies there | |
//! | delivered | kept | | delivered |
//! | acknowledged by the application | kept | | acknowledged, to be told |
//! | told by an Ack that is under way | kept | | told |
//! | freed by the Ack | | | forgotten once all before it are acknowledged too |
//!
//! Both ends are bounded by [`Limits`]: the sequences from the oldest unacknowledged message to the newest are at
//! most `messages`, acknowledged ones between them included. So the receiver needs no more than that many marks, and
//! refuses sequences that are further ahead. One message that stays unacknowledged for long holds up the sender after
//! `messages` more.
//!
//! # Where the receiver may die
//!
//! | it dies | the newcomer, acknowledging inside the commit | without |
//! |---|---|---|
//! | before it took the message | gets it | gets it |
//! | with it delivered, before the commit | gets it: the first processing left nothing | gets it |
//! | after the commit, before [`acknowledge`](Inbox::acknowledge) | knows it: dropped as a duplicate | gets it again |
//! | after that, before an Ack is sent | the same | gets it again |
//! | with the Ack in the ring, and lost | the same | gets it again |
//! | with the Ack read | does not get it | does not get it |
//!
//! # Where the sender may die
//!
//! The store is private memory: it dies with the sender.
//!
//! | it dies | what becomes of the message |
//! |---|---|
//! | before it is in the ring | lost, though `push` took it |
//! | with it in the ring | a living receiver that has had its Start gets it; if that one dies too, lost |
//! | with it in the ring, before the Start for a newcomer | lost: a newcomer drops what precedes its Start |
//! | after it was delivered | nothing; Acks have nobody to go to |
//!
//! A sender that must survive its own death keeps its messages in durable storage and pushes them again; they are
//! then new messages, and telling them from the old ones is the applications' business.
//!
//! # Sessions
//!
//! A session is one store's life, a random number. Sequences begin at 1 in each, so that 7 of one session is not 7
//! of the next. Every Ack, Start, Resume and Receipt names its session. A Resume of another session counts as one
//! that knows nothing: everything kept is sent. A Start of another session makes the inbox forget what it knew. An
//! Ack or Receipt of another session is refused and changes nothing.
//!
//! # Hostile peers
//!
//! A receiver can only free what was sent to some receiver: it is the one to whom it was promised. What was never
//! sent cannot be acknowledged. A sender can withhold, repeat or skip its own messages only, and
//! cannot make an inbox grow beyond its window. Every check comes before the first change.

use std::fmt;
use std::num::NonZeroU64;

mod inbox;
mod store;
#[cfg(test)]
mod tests;

pub use inbox::{Inbox, InboxCounts, Pace, Started, Verdict};
pub use store::{Limits, Resend, Resumed, Store, StoreCounts, StoreFull};

/// Bytes that a frame has ahead of its message.
pub const HEADER: usize = 8;

/// Single messages that one [`Ack`] can name beyond `upto`.
pub const ACK_BITS: usize = 256;

/// The header of the frame with this sequence.
pub fn header(sequence: u64) -> [u8; HEADER] {
    sequence.to_le_bytes()
}

/// A frame's sequence, and its message.
///
/// # Errors
/// [`ReliableError::TooShort`] for less than a header.
///
/// ```
/// use hqq_features::reliable::{header, split_frame};
///
/// let frame = [&header(7)[..], b"hello"].concat();
/// assert_eq!(split_frame(&frame), Ok((7, &b"hello"[..])));
/// assert!(split_frame(&frame[..7]).is_err());
/// ```
pub fn split_frame(frame: &[u8]) -> Result<(u64, &[u8]), ReliableError> {
    match frame.split_first_chunk() {
        Some((header, message)) => Ok((u64::from_le_bytes(*header), message)),
        None => Err(ReliableError::TooShort { len: frame.len() }),
    }
}

/// What is wrong with something that came from the peer, or with a call. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReliableError {
    /// A frame without a whole header.
    TooShort {
        /// Its bytes.
        len: usize,
    },
    /// A word that may not have this value.
    Malformed {
        /// Which one.
        what: &'static str,
        /// Its value.
        found: u64,
    },
    /// It belongs to another sender's life.
    OtherSession {
        /// The session that it names.
        found: u64,
        /// The session that goes on; 0 if none does.
        current: u64,
    },
    /// Said to be processed, but never sent.
    NeverSent {
        /// The sequence.
        sequence: u64,
        /// The last that was sent.
        last: u64,
    },
    /// Further ahead than an honest sender can be.
    TooFar {
        /// The sequence.
        sequence: u64,
        /// All to this one are acknowledged.
        upto: u64,
        /// How far ahead of that a sequence may be.
        window: usize,
    },
    /// Acknowledged, but not delivered.
    NotDelivered {
        /// The sequence.
        sequence: u64,
    },
    /// A second Resume from the same peer.
    AlreadyResumed,
}

impl fmt::Display for ReliableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { len } => write!(f, "a frame of {len} bytes; its header alone has {HEADER}"),
            Self::Malformed { what, found } => write!(f, "{what} cannot be {found}"),
            Self::OtherSession { found, current } => {
                write!(f, "it belongs to session {found:#x} and the session is {current:#x}: drop it")
            }
            Self::NeverSent { sequence, last } => {
                write!(f, "message {sequence} cannot be acknowledged: {last} is the last that was sent")
            }
            Self::TooFar { sequence, upto, window } => write!(
                f,
                "sequence {sequence} is over {window} ahead of {upto}: give the receiver a window \
                 as large as the sender's limit of messages"
            ),
            Self::NotDelivered { sequence } => {
                write!(f, "message {sequence} was not delivered, so that it cannot be acknowledged")
            }
            Self::AlreadyResumed => f.write_str("the peer has resumed already: detach the store first"),
        }
    }
}

impl std::error::Error for ReliableError {}

/// What names a delivered message for ever. A receiver that acknowledges inside its commit stores it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Receipt {
    /// The sender's life.
    pub session: NonZeroU64,
    /// Counts the messages of that life, from 1.
    pub sequence: u64,
}

/// How far a receiver is: all messages of `session` to `upto` are processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The sender's life.
    pub session: NonZeroU64,
    /// The last of an unbroken row from 1; 0 for none.
    pub upto: u64,
}

fn session(word: u64) -> Result<NonZeroU64, ReliableError> {
    NonZeroU64::new(word).ok_or(ReliableError::Malformed { what: "a session", found: word })
}

fn zeros(words: &[u64]) -> Result<(), ReliableError> {
    match words.iter().find(|word| **word != 0) {
        Some(&found) => Err(ReliableError::Malformed { what: "an unused operand", found }),
        None => Ok(()),
    }
}

/// What a receiver says first: what it knows to be processed, if it knows anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// From its own durable record.
    pub known: Option<Position>,
}

impl Resume {
    /// The operands of its packet: session and upto, both 0 if nothing is known.
    pub fn encode(&self) -> [u64; 7] {
        match self.known {
            Some(Position { session, upto }) => [session.get(), upto, 0, 0, 0, 0, 0],
            None => [0; 7],
        }
    }

    /// What such operands say.
    ///
    /// # Errors
    /// [`ReliableError::Malformed`] for an upto without a session, and for unused operands that are not 0.
    pub fn decode(words: &[u64; 7]) -> Result<Self, ReliableError> {
        let [session, upto, unused @ ..] = words;
        zeros(unused)?;
        let known = NonZeroU64::new(*session).map(|session| Position { session, upto: *upto });
        if known.is_none() && *upto != 0 {
            return Err(ReliableError::Malformed { what: "what is processed of no session", found: *upto });
        }
        Ok(Self { known })
    }
}

/// What a sender says ahead of its first frame to a newcomer, and in place of those it need not send again: whatever
/// is below `next` and has not come is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The sender's life.
    pub session: NonZeroU64,
    /// The sequence of the frame that comes next.
    pub next: u64,
    /// It answers a [`Resume`]. Otherwise it stands for a hole among the frames, and means nothing to a receiver that
    /// has not got those.
    pub opens: bool,
}

impl Start {
    /// The operands of its packet: session, next, and 1 if it answers a Resume.
    pub fn encode(&self) -> [u64; 7] {
        [self.session.get(), self.next, u64::from(self.opens), 0, 0, 0, 0]
    }

    /// What such operands say.
    ///
    /// # Errors
    /// [`ReliableError::Malformed`] for a session or next of 0, a third operand over 1, and unused ones that are not 0.
    pub fn decode(words: &[u64; 7]) -> Result<Self, ReliableError> {
        let [word, next, opens, unused @ ..] = words;
        zeros(unused)?;
        if *next == 0 {
            return Err(ReliableError::Malformed { what: "the next sequence", found: 0 });
        }
        if *opens > 1 {
            return Err(ReliableError::Malformed { what: "the mark of a first Start", found: *opens });
        }
        Ok(Self { session: session(*word)?, next: *next, opens: *opens == 1 })
    }
}

/// What a receiver has processed: all to `upto`, and each `from + i` whose bit is set, bit `i % 64` of word `i / 64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The sender's life.
    pub session: NonZeroU64,
    /// All to this one; 0 for none.
    pub upto: u64,
    /// The sequence of bit 0; 0 if no bit is set.
    pub from: u64,
    /// Single messages.
    pub bits: [u64; ACK_BITS / 64],
}

impl Ack {
    /// The operands of its packet: session, upto, from, bits.
    pub fn encode(&self) -> [u64; 7] {
        let [a, b, c, d] = self.bits;
        [self.session.get(), self.upto, self.from, a, b, c, d]
    }

    /// What such operands say. Whether it can be true is for [`Store::acknowledged`] to tell.
    ///
    /// # Errors
    /// [`ReliableError::Malformed`] for a session of 0.
    pub fn decode(words: &[u64; 7]) -> Result<Self, ReliableError> {
        let [word, upto, from, bits @ ..] = *words;
        Ok(Self { session: session(word)?, upto, from, bits })
    }

    fn has(&self, bit: usize) -> bool {
        self.bits[bit / 64] >> (bit % 64) & 1 == 1
    }

    /// The highest sequence that it names; one that does not fit into 64 bits counts as the highest that does.
    fn highest(&self) -> u64 {
        let bit = (0..ACK_BITS).rev().find(|bit| self.has(*bit));
        bit.map_or(self.upto, |bit| self.upto.max(self.from.saturating_add(bit as u64)))
    }
}
