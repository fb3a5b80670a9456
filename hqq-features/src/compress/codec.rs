//! The codecs, by number and by name, and sets of them.
//!
//! # To add a codec
//!
//! 1. `Cargo.toml` of this crate: the crate that has it.
//! 2. Here: a variant of [`Codec`] at the end of `Codec::ALL`, with its number, its name, the room that it needs, and its expansion;
//!    a constant of [`Codecs`], whose bit follows from the number (LZ4 has number 1 and bit 0); the text of [`UnknownCodec`]. A
//!    variant that is not in `Codec::ALL` has no number that decodes, and no test passes that uses it.
//! 3. `compressor.rs`: `CodecState`, `encode`, and whether `is_promising` finds what this codec profits from. `decompressor.rs`:
//!    `decode`. But for `is_promising`, the compiler names the places.
//! 4. `tests.rs`: the lists of codecs there.
//! 5. In the repository: `docs/spec.md`, the bit in the row Terms, the number and the expansion in "Compression"; `cli/src/args.rs`,
//!    the two helps of `--compress`; the README; `CHANGELOG.md`.

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
        let index = number as usize;
        if index < Self::ALL.len() { Some(Self::ALL[index]) } else { None }
    }

    /// The bit of the codec in [`Codecs`]: none for raw bodies.
    const fn bit(self) -> u64 {
        match self.number() {
            0 => 0,
            number => 1 << (number - 1),
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
            Self::Raw | Self::Lz4 | Self::Zstd => HEADER + len,
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
    pub const LZ4: Self = Self(Codec::Lz4.bit());
    /// Zstandard, bit 1.
    pub const ZSTD: Self = Self(Codec::Zstd.bit());
    /// All codecs.
    pub const ALL: Self = Self((1 << (Codec::ALL.len() - 1)) - 1);

    /// The set of `codecs`.
    pub fn of(codecs: &[Codec]) -> Self {
        Self(codecs.iter().fold(0, |all, codec| all | codec.bit()))
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
        self.0 & codec.bit() == codec.bit()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bits_are_those_of_the_specification() {
        let numbers = [(Codec::Raw, 0), (Codec::Lz4, 1), (Codec::Zstd, 2)];
        assert_eq!(numbers.map(|(codec, _)| codec), Codec::ALL);
        for (codec, number) in numbers {
            assert_eq!((codec.number(), Codec::from_number(number)), (number, Some(codec)));
        }
        assert_eq!(Codec::from_number(3), None);
        assert_eq!([Codecs::LZ4, Codecs::ZSTD, Codecs::ALL].map(Codecs::bits), [1, 2, 3]);
    }
}
