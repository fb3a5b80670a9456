//! The errors of encryption.

use std::fmt;

/// An error of a handshake or a session. It contains nothing of a key or a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncryptError {
    /// The peer has another key or another prologue; see [`Handshake::new`](super::handshake::Handshake::new).
    WrongKey,
    /// A public key makes the same secret with any other key, such as all zeros.
    WeakKey,
    /// The source of random bytes failed.
    NoEntropy,
    /// The step of the handshake is not the next one, or the handshake has failed.
    UnexpectedStep,
    /// `snow` refuses the parameters of the handshake; this does not happen with the versions in use.
    Unsupported,
    /// The width of the window is out of range.
    Window {
        /// The width in the settings.
        have: u32,
        /// The widest window.
        limit: u32,
    },
    /// The number of messages under one key is out of range.
    RekeyEvery {
        /// The number in the settings.
        have: u64,
        /// The least number with this window.
        least: u64,
        /// The greatest number.
        most: u64,
    },
    /// All counters are used; a new handshake is needed.
    Exhausted {
        /// Messages in a direction of a session.
        limit: u64,
    },
    /// The message is longer than the ciphers or the receiver allow.
    TooLong {
        /// Bytes of the message.
        have: usize,
        /// Bytes that a message may have.
        limit: usize,
    },
    /// The memory for the sealed message has another length.
    Room {
        /// Bytes of the memory.
        have: usize,
        /// Bytes of header and message.
        need: usize,
    },
    /// The received bytes are shorter than a header.
    TooShort {
        /// Bytes that were received.
        have: usize,
        /// Bytes of the header.
        need: usize,
    },
    /// The tag is wrong: the peer did not send this message, or not with this associated data.
    Forged {
        /// The counter in the header.
        counter: u64,
    },
    /// A message with this counter was accepted before.
    Replayed {
        /// The counter.
        counter: u64,
    },
    /// The message is too old for the window: whether it was accepted before is no longer known.
    TooOld {
        /// Its counter.
        counter: u64,
        /// The oldest counter in the window.
        oldest: u64,
    },
    /// Messages before this one are missing, which a strict session does not allow.
    Skipped {
        /// Its counter.
        counter: u64,
        /// The expected counter.
        next: u64,
    },
    /// The message is more than [`MAX_EPOCHS_AHEAD`](super::limits::MAX_EPOCHS_AHEAD) epochs after the newest key.
    AheadOfKeys {
        /// Its counter.
        counter: u64,
        /// The first counter that is refused.
        limit: u64,
    },
}

impl fmt::Display for EncryptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::WrongKey => f.write_str(
                "the peer has another key, or agreed on something else: compare the keys of both ends",
            ),
            Self::WeakKey => {
                f.write_str("a public key makes the same secret with any other: make a new pair of keys")
            }
            Self::NoEntropy => f.write_str("the source of random bytes failed, and keys need them: try again"),
            Self::UnexpectedStep => f.write_str(
                "this step of the handshake is not the next one, or the handshake has failed: begin a new one",
            ),
            Self::Unsupported => f.write_str("this build of snow does not support the handshake: rebuild it"),
            Self::Window { have, limit } => {
                write!(f, "a window of {have} messages is out of range: use 1 to {limit}")
            }
            Self::RekeyEvery { have, least, most } => write!(
                f,
                "a new key every {have} messages is out of range for this window: use {least} to {most}"
            ),
            Self::Exhausted { limit } => {
                write!(f, "all {limit} counters of the session are used: attach again for a new session")
            }
            Self::TooLong { have, limit } => {
                write!(f, "a message of {have} bytes exceeds the limit of {limit}: send it in parts")
            }
            Self::Room { have, need } => {
                write!(f, "{have} bytes of memory for a sealed message of {need}: provide exactly that many")
            }
            Self::TooShort { have, need } => {
                write!(f, "{have} bytes are shorter than the header of {need}: the peer does not encrypt")
            }
            Self::Forged { counter } => {
                write!(f, "the tag of message {counter} is wrong: the peer did not send it, so end the link")
            }
            Self::Replayed { counter } => {
                write!(f, "message {counter} was received before: the peer did not send it again, so drop it")
            }
            Self::TooOld { counter, oldest } => {
                write!(f, "message {counter} is too old, {oldest} is the oldest accepted: use a wider window")
            }
            Self::Skipped { counter, next } => {
                write!(f, "message {counter} came before {next}, and the session is strict: attach again")
            }
            Self::AheadOfKeys { counter, limit } => {
                write!(f, "message {counter} is too far ahead, the limit is {limit}: attach again")
            }
        }
    }
}

impl std::error::Error for EncryptError {}
