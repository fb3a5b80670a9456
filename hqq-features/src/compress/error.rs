//! Why a frame is refused.

use std::fmt;

use super::codec::{Codec, HEADER};

/// Why a frame is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressError {
    /// The frame has no room for a header.
    Short {
        /// Bytes in the frame.
        len: usize,
    },
    /// The codec's number is reserved.
    UnknownCodec {
        /// The number.
        number: u8,
    },
    /// The codec is not one that was agreed on.
    NotAgreed {
        /// The codec.
        codec: Codec,
    },
    /// The message would be too long.
    TooLong {
        /// Bytes that the header says.
        len: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// A raw body that is not as long as the header says.
    RawLength {
        /// Bytes that the header says.
        len: u64,
        /// Bytes in the body.
        body: usize,
    },
    /// A compressed body that is not smaller than the message: it should have been sent raw.
    NotSmaller {
        /// The codec.
        codec: Codec,
        /// Bytes that the header says.
        len: u64,
        /// Bytes in the body.
        body: usize,
    },
    /// The header says more than a body of this length can decode to.
    Bomb {
        /// The codec.
        codec: Codec,
        /// Bytes that the header says.
        len: u64,
        /// Bytes in the body.
        body: usize,
    },
    /// The body is nothing that the codec makes, or decodes to more than the header says.
    Invalid {
        /// The codec.
        codec: Codec,
        /// Bytes that the header says.
        len: u64,
    },
    /// The body decodes to less than the header says.
    WrongLength {
        /// The codec.
        codec: Codec,
        /// Bytes that the header says.
        len: u64,
        /// Bytes that it decodes to.
        decoded: usize,
    },
    /// There is no memory to decode the message.
    NoMemory {
        /// Bytes that the header says.
        len: u64,
    },
}

impl fmt::Display for CompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Short { len } => {
                write!(f, "{len} bytes are too few for a compression header of {HEADER}")
            }
            Self::UnknownCodec { number } => {
                write!(f, "codec {number} is reserved: there are 0 (none), 1 (lz4) and 2 (zstd)")
            }
            Self::NotAgreed { codec } => {
                write!(f, "a body of {codec} on a link that did not agree on it: negotiate it or send raw")
            }
            Self::TooLong { len, limit } => {
                write!(f, "a message of {len} bytes, but {limit} are allowed: raise the limit or send less")
            }
            Self::RawLength { len, body } => {
                write!(f, "a raw body of {body} bytes for a message of {len}: they should be as many")
            }
            Self::NotSmaller { codec, len, body } => {
                write!(
                    f,
                    "a {codec} body of {body} bytes for a message of {len}: it should have been sent raw"
                )
            }
            Self::Bomb { codec, len, body } => {
                let most = codec.expansion().saturating_mul(body as u64);
                write!(f, "{body} bytes of {codec} for a message of {len}: they decode to at most {most}")
            }
            Self::Invalid { codec, len } => {
                write!(f, "the body is no {codec} of a message of {len} bytes: it was changed, or never one")
            }
            Self::WrongLength { codec, len, decoded } => {
                write!(f, "the {codec} body has {decoded} bytes of the {len} that its header says")
            }
            Self::NoMemory { len } => {
                write!(f, "no memory to decode a message of {len} bytes: lower the limit of what is accepted")
            }
        }
    }
}

impl std::error::Error for CompressError {}
