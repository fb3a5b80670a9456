//! What travels: frames, and the packets that go with them.

use std::num::NonZeroU64;

use super::error::ReliableError;

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
        None => Err(ReliableError::TooShort { len: frame.len(), need: HEADER }),
    }
}

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

    /// What such operands say. Whether it can be true is for [`Store::acknowledged`](super::store::Store::acknowledged) to tell.
    ///
    /// # Errors
    /// [`ReliableError::Malformed`] for a session of 0.
    pub fn decode(words: &[u64; 7]) -> Result<Self, ReliableError> {
        let [word, upto, from, bits @ ..] = *words;
        Ok(Self { session: session(word)?, upto, from, bits })
    }

    pub(super) fn has(&self, bit: usize) -> bool {
        self.bits[bit / 64] >> (bit % 64) & 1 == 1
    }

    /// The highest sequence that it names; one that does not fit into 64 bits counts as the highest that does.
    pub(super) fn highest(&self) -> u64 {
        let bit = (0..ACK_BITS).rev().find(|bit| self.has(*bit));
        bit.map_or(self.upto, |bit| self.upto.max(self.from.saturating_add(bit as u64)))
    }
}
