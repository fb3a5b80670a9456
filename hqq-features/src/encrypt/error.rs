//! What can go wrong.

use std::fmt;

/// What can go wrong. Nothing of a key or a message is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncryptError {
    /// The peer has another key, or another idea of what was agreed on: see [`Handshake::new`](super::handshake::Handshake::new).
    WrongKey,
    /// A public key with which everybody would get the same secret, such as all zeros.
    WeakKey,
    /// The source of random bytes failed.
    NoEntropy,
    /// A step of the handshake that is not its turn, or one after the handshake has failed.
    UnexpectedStep,
    /// `snow` does not take what it is given, which does not happen with the versions that we ask for.
    Unsupported,
    /// A window that is not possible.
    Window {
        /// The width asked for.
        have: u32,
        /// The widest.
        limit: u32,
    },
    /// A number of messages under one key that is not possible.
    RekeyEvery {
        /// The number asked for.
        have: u64,
        /// The least with this window.
        least: u64,
        /// The most.
        most: u64,
    },
    /// All counters are used up; only a new handshake helps.
    Exhausted {
        /// Messages in a session's direction.
        limit: u64,
    },
    /// The message is longer than the ciphers allow.
    TooLong {
        /// Bytes that it has.
        have: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// The place for a sealed message does not fit it.
    Room {
        /// Bytes that it has.
        have: usize,
        /// Bytes of header and message.
        need: usize,
    },
    /// What came is shorter than its header.
    TooShort {
        /// Bytes that came.
        have: usize,
        /// Bytes of the header.
        need: usize,
    },
    /// The tag does not fit: the peer did not send this message, or not with this associated data.
    Forged {
        /// The counter that it came with.
        counter: u64,
    },
    /// A message with this counter has been accepted before.
    Replayed {
        /// The counter.
        counter: u64,
    },
    /// The message is behind the window: whether it was accepted before is not known any more.
    TooOld {
        /// Its counter.
        counter: u64,
        /// The oldest that is still known of.
        oldest: u64,
    },
    /// Messages are missing ahead of this one, where none may be.
    Skipped {
        /// Its counter.
        counter: u64,
        /// The counter that was to come.
        next: u64,
    },
    /// The message is more than [`MAX_EPOCHS_AHEAD`](super::limits::MAX_EPOCHS_AHEAD) epochs ahead of the newest key.
    AheadOfKeys {
        /// Its counter.
        counter: u64,
        /// The first counter that is too far ahead.
        limit: u64,
    },
}

impl fmt::Display for EncryptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::WrongKey => f.write_str(
                "the peer has another key, or does not agree on what was negotiated; compare the keys of both ends",
            ),
            Self::WeakKey => {
                f.write_str("a public key would make the same secret with everybody; make a new pair of keys")
            }
            Self::NoEntropy => f.write_str("the source of random bytes failed, and a key is made of them"),
            Self::UnexpectedStep => {
                f.write_str("this step of the handshake is not due, or the handshake has failed; begin a new one")
            }
            Self::Unsupported => f.write_str("the handshake cannot be set up with this build of snow"),
            Self::Window { have, limit } => {
                write!(f, "a window of {have} messages is not possible; it must be from 1 to {limit}")
            }
            Self::RekeyEvery { have, least, most } => write!(
                f,
                "a new key every {have} messages is not possible with this window; it must be from {least} to {most}"
            ),
            Self::Exhausted { limit } => {
                write!(f, "all {limit} counters of the session are used up; attach again for a new session")
            }
            Self::TooLong { have, limit } => {
                write!(f, "a message of {have} bytes cannot be encrypted; the limit is {limit}")
            }
            Self::Room { have, need } => {
                write!(f, "the sealed message needs {need} bytes, and the place for it has {have}")
            }
            Self::TooShort { have, need } => {
                write!(f, "{have} bytes are no encrypted message; the header alone has {need}")
            }
            Self::Forged { counter } => {
                write!(f, "message {counter} is not what the peer sealed; somebody has written to the link")
            }
            Self::Replayed { counter } => write!(f, "message {counter} has been received before"),
            Self::TooOld { counter, oldest } => {
                write!(f, "message {counter} comes too late; the oldest that is still accepted is {oldest}")
            }
            Self::Skipped { counter, next } => {
                write!(f, "message {counter} came where {next} was to come, and the session is strict")
            }
            Self::AheadOfKeys { counter, limit } => {
                write!(f, "message {counter} is too far ahead of the keys; it must be below {limit}")
            }
        }
    }
}

impl std::error::Error for EncryptError {}
