//! The errors of compression.

use std::fmt;

use super::codec::{Codec, HEADER};

/// The reason for which a frame is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressError {
    /// The frame is shorter than its header.
    Short {
        /// Bytes in the frame.
        len: usize,
    },
    /// The codec's number is reserved.
    UnknownCodec {
        /// The number.
        number: u8,
    },
    /// The codec was not agreed on.
    NotAgreed {
        /// The codec.
        codec: Codec,
    },
    /// The message is longer than the limit.
    TooLong {
        /// Bytes of the message, as in the header.
        len: u64,
        /// Bytes that a message may have.
        limit: u64,
    },
    /// A raw body has another length than the message.
    RawLength {
        /// Bytes of the message, as in the header.
        len: u64,
        /// Bytes in the body.
        body: usize,
    },
    /// A compressed body is not smaller than the message, which should have been sent raw.
    NotSmaller {
        /// The codec.
        codec: Codec,
        /// Bytes of the message, as in the header.
        len: u64,
        /// Bytes in the body.
        body: usize,
    },
    /// The message is longer than a body of this length can decode to.
    Bomb {
        /// The codec.
        codec: Codec,
        /// Bytes of the message, as in the header.
        len: u64,
        /// Bytes in the body.
        body: usize,
    },
    /// The body is invalid, or decodes to more bytes than the message has.
    Invalid {
        /// The codec.
        codec: Codec,
        /// Bytes of the message, as in the header.
        len: u64,
    },
    /// The body decodes to fewer bytes than the message has.
    WrongLength {
        /// The codec.
        codec: Codec,
        /// Bytes of the message, as in the header.
        len: u64,
        /// Bytes that the body decodes to.
        decoded: usize,
    },
    /// There is no memory for the message.
    NoMemory {
        /// Bytes of the message, as in the header.
        len: u64,
    },
}

impl fmt::Display for CompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Short { len } => {
                write!(
                    f,
                    "a frame of {len} bytes is shorter than its header of {HEADER}: the peer does not compress"
                )
            }
            Self::UnknownCodec { number } => {
                write!(f, "codec {number} is reserved: use 0 (none), 1 (lz4) or 2 (zstd)")
            }
            Self::NotAgreed { codec } => {
                write!(f, "codec {codec} was not agreed on: negotiate it, or send raw")
            }
            Self::TooLong { len, limit } => {
                write!(
                    f,
                    "a message of {len} bytes exceeds the limit of {limit}: raise the limit, or send less"
                )
            }
            Self::RawLength { len, body } => {
                write!(f, "a raw body has {body} bytes and its message {len}: they must be equal")
            }
            Self::NotSmaller { codec, len, body } => {
                write!(
                    f,
                    "a {codec} body of {body} bytes is not smaller than its message of {len}: send it raw"
                )
            }
            Self::Bomb { codec, len, body } => {
                let most = codec.expansion().saturating_mul(body as u64);
                write!(
                    f,
                    "a {codec} body of {body} bytes has a message of {len}: it decodes to at most {most}"
                )
            }
            Self::Invalid { codec, len } => {
                write!(
                    f,
                    "the {codec} body of a message of {len} bytes is invalid: it was changed on its way"
                )
            }
            Self::WrongLength { codec, len, decoded } => {
                write!(
                    f,
                    "the {codec} body decodes to {decoded} bytes, and its header has {len}: it was changed on its way"
                )
            }
            Self::NoMemory { len } => {
                write!(f, "no memory for a message of {len} bytes: lower the limit of messages")
            }
        }
    }
}

impl std::error::Error for CompressError {}
