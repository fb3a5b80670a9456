//! Frames, and the packets of reliable delivery.

use std::num::NonZeroU64;

use super::error::ReliableError;

/// Bytes of the header of a frame.
pub const HEADER: usize = 8;

/// Single messages after `upto` that one [`Ack`] can acknowledge.
pub const ACK_BITS: usize = 256;

/// The header of the frame with the sequence `sequence`.
pub fn header(sequence: u64) -> [u8; HEADER] {
    sequence.to_le_bytes()
}

/// Splits a frame into its sequence and its message.
///
/// # Errors
/// [`ReliableError::TooShort`] for fewer than [`HEADER`] bytes.
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

/// Identifies a delivered message. A receiver that acknowledges inside its commit stores it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Receipt {
    /// The session of the sender.
    pub session: NonZeroU64,
    /// The sequence of the message in that session, from 1.
    pub sequence: u64,
}

/// The progress of a receiver: all messages of `session` to `upto` are processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The session of the sender.
    pub session: NonZeroU64,
    /// The last processed sequence without a gap before it; 0 for none.
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

/// The first packet of a receiver: what is processed according to its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The position in its durable record; `None` without a record.
    pub known: Option<Position>,
}

impl Resume {
    /// The operands of the packet: session and upto, both 0 without a record.
    pub fn encode(&self) -> [u64; 7] {
        match self.known {
            Some(Position { session, upto }) => [session.get(), upto, 0, 0, 0, 0, 0],
            None => [0; 7],
        }
    }

    /// Reads the operands of a packet.
    ///
    /// # Errors
    /// [`ReliableError::Malformed`] for an upto without a session, and for unused operands that are not 0.
    pub fn decode(words: &[u64; 7]) -> Result<Self, ReliableError> {
        let [session, upto, unused @ ..] = words;
        zeros(unused)?;
        let known = NonZeroU64::new(*session).map(|session| Position { session, upto: *upto });
        if known.is_none() && *upto != 0 {
            return Err(ReliableError::Malformed { what: "upto without a session", found: *upto });
        }
        Ok(Self { known })
    }
}

/// The packet before the first frame to a successor, and in place of frames that are not sent again: all messages below
/// `next` that have not arrived are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The session of the sender.
    pub session: NonZeroU64,
    /// The sequence of the next frame.
    pub next: u64,
    /// Whether it answers a [`Resume`]. Otherwise it stands for a hole among the frames, and has no meaning for a receiver
    /// that lacks the frames before it.
    pub opens: bool,
}

impl Start {
    /// The operands of the packet: session, next, and 1 if it answers a Resume.
    pub fn encode(&self) -> [u64; 7] {
        [self.session.get(), self.next, u64::from(self.opens), 0, 0, 0, 0]
    }

    /// Reads the operands of a packet.
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
            return Err(ReliableError::Malformed { what: "the third operand of a Start", found: *opens });
        }
        Ok(Self { session: session(*word)?, next: *next, opens: *opens == 1 })
    }
}

/// Acknowledges all messages to `upto`, and each message `from + i` with bit `i % 64` of word `i / 64` set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The session of the sender.
    pub session: NonZeroU64,
    /// The last sequence without a gap before it; 0 for none.
    pub upto: u64,
    /// The sequence of bit 0; 0 if no bit is set.
    pub from: u64,
    /// The bits of single messages.
    pub bits: [u64; ACK_BITS / 64],
}

impl Ack {
    /// The operands of the packet: session, upto, from, bits.
    pub fn encode(&self) -> [u64; 7] {
        let [a, b, c, d] = self.bits;
        [self.session.get(), self.upto, self.from, a, b, c, d]
    }

    /// Reads the operands of a packet. [`Store::acknowledged`](super::store::Store::acknowledged) checks whether the
    /// messages were sent.
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

    /// The highest acknowledged sequence; at most `u64::MAX`.
    pub(super) fn highest(&self) -> u64 {
        let bit = (0..ACK_BITS).rev().find(|bit| self.has(*bit));
        bit.map_or(self.upto, |bit| self.upto.max(self.from.saturating_add(bit as u64)))
    }
}
