//! The errors of reliable delivery.

use std::fmt;

/// A packet of the peer, or a call, that is refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReliableError {
    /// The frame is shorter than its header.
    TooShort {
        /// Bytes of the frame.
        len: usize,
        /// Bytes of the header.
        need: usize,
    },
    /// A word has a value that is not allowed.
    Malformed {
        /// Which word.
        what: &'static str,
        /// The value.
        found: u64,
    },
    /// The packet or receipt belongs to another session.
    OtherSession {
        /// The session of the packet or receipt.
        found: u64,
        /// The present session; 0 for none.
        current: u64,
    },
    /// The acknowledged message was never sent.
    NeverSent {
        /// The sequence of the message.
        sequence: u64,
        /// The last sequence that was sent.
        last: u64,
    },
    /// The sequence is outside the window.
    TooFar {
        /// The sequence.
        sequence: u64,
        /// All messages to this sequence are acknowledged.
        upto: u64,
        /// How many sequences after that are allowed.
        window: usize,
    },
    /// The acknowledged message was not delivered.
    NotDelivered {
        /// The sequence.
        sequence: u64,
    },
    /// The peer sent a second Resume.
    AlreadyResumed,
}

impl fmt::Display for ReliableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { len, need } => write!(
                f,
                "a frame of {len} bytes is shorter than its header of {need}: the peer does not use this protocol"
            ),
            Self::Malformed { what, found } => {
                write!(f, "{what} cannot be {found}: the peer does not use this protocol")
            }
            Self::OtherSession { found, current } => {
                write!(f, "it belongs to session {found:#x}, and the present one is {current:#x}: drop it")
            }
            Self::NeverSent { sequence, last } => {
                write!(f, "message {sequence} cannot be acknowledged: {last} is the last one that was sent")
            }
            Self::TooFar { sequence, upto, window } => write!(
                f,
                "sequence {sequence} is more than {window} after {upto}: use a window as large as the limit of \
                 messages of the sender"
            ),
            Self::NotDelivered { sequence } => {
                write!(
                    f,
                    "message {sequence} was not delivered: acknowledge only messages that were received"
                )
            }
            Self::AlreadyResumed => f.write_str("the peer has resumed already: detach the store first"),
        }
    }
}

impl std::error::Error for ReliableError {}
