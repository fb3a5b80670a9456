//! The codecs, by number and by name, and sets of them.
//!
//! # To add a codec
//!
//! 1. Here: a variant of [`Codec`], its number on the wire and its bit in [`Codecs`] (LZ4 has number 1 and bit 0), its name, how much
//!    room its output needs, `Codec::ALL` and `Codecs::ALL`. Both are checked by tests that go through all codecs.
//! 2. `compressor.rs` and `decompressor.rs`: what encodes and decodes. The compiler names the places.
//! 3. `docs/spec.md` of the repository, below "Compression": the number and the bit.
//! 4. `cli/src/args.rs`: the help of `--compress`.

use std::fmt;
use std::ops::BitAnd;
use std::str::FromStr;

use lz4_flex::block::get_maximum_output_size;

/// Bytes of the header of a frame.
pub const HEADER: usize = 8;

/// The longest message that an LZ4 block may stand for, bytes: the reference implementation's limit.
pub(super) const LZ4_MAX_LEN: usize = 0x7E00_0000;

/// The encoding of the body of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// The message as it is.
    #[default]
    Raw,
    /// One LZ4 block: fast; text and records shrink to about half.
    Lz4,
    /// One Zstandard frame: slower, and smaller.
    Zstd,
}

impl Codec {
    /// All codecs, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Lz4, Self::Zstd];

    /// The number of the codec in the header of a frame.
    pub const fn number(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    /// The codec with the number `number`; `None` if that is reserved.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Raw),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Raw => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Bytes of room with which a message of `len` bytes is compressed without a copy; see [`Compressor::room`].
    ///
    /// [`Compressor::room`]: super::Compressor::room
    pub(super) const fn room(self, len: usize) -> usize {
        match self {
            Self::Lz4 if len <= LZ4_MAX_LEN => HEADER + get_maximum_output_size(len),
            _ => HEADER + len,
        }
    }

    /// The most bytes of a message for each byte of a body.
    pub(super) const fn expansion(self) -> u64 {
        match self {
            Self::Raw => 1,
            // A further byte of a length adds at most 255 bytes to the message.
            Self::Lz4 => 255,
            // A block has at least 4 bytes, with its header, and decodes to at most 128 KiB.
            Self::Zstd => (128 << 10) / 4,
        }
    }
}

/// The name that [`FromStr`] reads: `none`, `lz4` or `zstd`.
impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(name: &str) -> Result<Self, UnknownCodec> {
        Self::ALL.into_iter().find(|codec| codec.name() == name).ok_or(UnknownCodec)
    }
}

/// The error of a name that no [`Codec`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCodec;

impl fmt::Display for UnknownCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no codec has this name: use none, lz4 or zstd")
    }
}

impl std::error::Error for UnknownCodec {}

/// A set of codecs, which two ends exchange to agree on the codecs that both decode. Raw bodies are always allowed.
///
/// ```
/// use hqq_features::compress::{Codec, Codecs};
///
/// let agreed = Codecs::ALL & Codecs::from_bits(1);
/// assert_eq!(agreed, Codecs::LZ4);
/// assert_eq!(agreed.preferred(&[Codec::Zstd, Codec::Lz4]), Codec::Lz4);
/// assert_eq!(Codecs::NONE.preferred(&[Codec::Zstd, Codec::Lz4]), Codec::Raw);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Codecs(u64);

impl Codecs {
    /// The empty set: raw bodies only.
    pub const NONE: Self = Self(0);
    /// LZ4, bit 0.
    pub const LZ4: Self = Self(1);
    /// Zstandard, bit 1.
    pub const ZSTD: Self = Self(2);
    /// All codecs.
    pub const ALL: Self = Self(3);

    /// The set of `codecs`.
    pub fn of(codecs: &[Codec]) -> Self {
        let bit = |codec: &Codec| match codec {
            Codec::Raw => Self::NONE.0,
            Codec::Lz4 => Self::LZ4.0,
            Codec::Zstd => Self::ZSTD.0,
        };
        Self(codecs.iter().map(bit).fold(0, |all, bit| all | bit))
    }

    /// The set with the bits `bits`. Unknown bits are dropped: this build could not decode their codecs.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The bits of the set, as they are sent to the peer.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The codecs that are in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether bodies of `codec` may be sent; always true for [`Codec::Raw`].
    pub const fn contains(self, codec: Codec) -> bool {
        match codec {
            Codec::Raw => true,
            Codec::Lz4 => self.0 & Self::LZ4.0 != 0,
            Codec::Zstd => self.0 & Self::ZSTD.0 != 0,
        }
    }

    /// The first codec of `order` that is in the set; [`Codec::Raw`] if none is.
    pub fn preferred(self, order: &[Codec]) -> Codec {
        order.iter().copied().find(|codec| self.contains(*codec)).unwrap_or_default()
    }
}

impl BitAnd for Codecs {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        self.intersection(other)
    }
}
