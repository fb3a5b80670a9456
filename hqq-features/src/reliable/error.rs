//! What is refused.

use std::fmt;

/// What is wrong with something that came from the peer, or with a call. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReliableError {
    /// A frame without a whole header.
    TooShort {
        /// Its bytes.
        len: usize,
        /// Bytes of the header.
        need: usize,
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
            Self::TooShort { len, need } => write!(f, "a frame of {len} bytes; its header alone has {need}"),
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
