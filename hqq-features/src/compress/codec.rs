//! The codecs, by number and by name, and sets of them.

use std::fmt;
use std::ops::BitAnd;
use std::str::FromStr;

use lz4_flex::block::get_maximum_output_size;

/// Bytes ahead of each body.
pub const HEADER: usize = 8;

/// The longest message that an LZ4 block may stand for, bytes: the reference implementation's limit.
pub(super) const LZ4_MAX_LEN: usize = 0x7E00_0000;

/// Mode a body is made from a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// The message as it is.
    #[default]
    Raw,
    /// One LZ4 block: little effort, for text and records about half.
    Lz4,
    /// One Zstandard frame: more effort, and less to send.
    Zstd,
}

impl Codec {
    /// All of them, by their numbers.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Lz4, Self::Zstd];

    /// The number in the header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    /// The codec with this number; `None` if it is reserved.
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

    /// No body of this codec decodes to more than so many times its own length.
    pub(super) const fn expansion(self) -> u64 {
        match self {
            Self::Raw => 1,
            // One byte more in a length is at most 255 bytes more in the message.
            Self::Lz4 => 255,
            // A block has at least 4 bytes, its header included, and stands for at most 128 KiB.
            Self::Zstd => (128 << 10) / 4,
        }
    }
}

/// The name as [`FromStr`] takes it: `none`, `lz4` or `zstd`.
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

/// A name that is no codec's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCodec;

impl fmt::Display for UnknownCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no codec has this name: they are none, lz4 and zstd")
    }
}

impl std::error::Error for UnknownCodec {}

/// A set of codecs, as two ends tell each other what they can decode. Raw bodies go without saying.
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
    /// Raw bodies only.
    pub const NONE: Self = Self(0);
    /// LZ4, bit 0.
    pub const LZ4: Self = Self(1);
    /// Zstandard, bit 1.
    pub const ZSTD: Self = Self(2);
    /// All that there are.
    pub const ALL: Self = Self(3);

    /// The set of these.
    pub fn of(codecs: &[Codec]) -> Self {
        let bit = |codec: &Codec| match codec {
            Codec::Raw => Self::NONE.0,
            Codec::Lz4 => Self::LZ4.0,
            Codec::Zstd => Self::ZSTD.0,
        };
        Self(codecs.iter().map(bit).fold(0, |all, bit| all | bit))
    }

    /// The set with these bits. Bits that are not known here are left out, since nothing here could decode them.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// What is in both.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether bodies of this codec may be sent. Raw ones always.
    pub const fn contains(self, codec: Codec) -> bool {
        match codec {
            Codec::Raw => true,
            Codec::Lz4 => self.0 & Self::LZ4.0 != 0,
            Codec::Zstd => self.0 & Self::ZSTD.0 != 0,
        }
    }

    /// The first of `order` that is in the set, or [`Codec::Raw`].
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
