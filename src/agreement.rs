//! Layer 0: what two ends of a link can agree on, in words and numbers. How they come to it is [`AdvancedLink`]'s matter.
//!
//! [`AdvancedLink`]: ../advanced/struct.AdvancedLink.html

use core::fmt;

/// A protocol version. Equal majors understand each other; the lower minor is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Changes when older peers cannot follow.
    pub major: u8,
    /// Changes when something is added.
    pub minor: u8,
}

impl Version {
    /// The one that this build speaks.
    pub const CURRENT: Self = Self { major: 1, minor: 1 };

    /// The number on the wire (ruling 12).
    pub const fn number(self) -> u64 {
        (self.major as u64) << 8 | self.minor as u64
    }

    /// The version with this number; `None` if it has more than two bytes.
    pub const fn from_number(number: u64) -> Option<Self> {
        if number > 0xFFFF {
            return None;
        }
        Some(Self { major: (number >> 8) as u8, minor: number as u8 })
    }

    /// The version that this end and one of `theirs` both speak.
    pub(crate) const fn meet(self, theirs: Self) -> Option<Self> {
        if self.major != theirs.major {
            return None;
        }
        Some(if self.minor < theirs.minor { self } else { theirs })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

bitflags::bitflags! {
    /// What a link can do beyond the standard operations (specification, "Supported Features"; ruling 3). Bits that this
    /// build does not know are never agreed on.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Features: u64 {
        /// Messages may be compressed.
        const COMPRESSION = 2;
        /// Messages are encrypted.
        const ENCRYPTION = 4;
        /// Connections have credit.
        const FLOW_CONTROL = 8;
        /// Histograms and rates are kept.
        const STATISTICS = 16;
        /// Connections have classes and rates.
        const QOS = 32;
    }
}

bitflags::bitflags! {
    /// What an end is made for (specification, "Supported Capabilities"; ruling 3).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Capabilities: u64 {
        /// Buffers for large messages.
        const LARGE_BUFFERS = 2;
        /// Throughput comes before latency.
        const HIGH_THROUGHPUT = 4;
        /// Latency comes before throughput.
        const LOW_LATENCY = 8;
        /// Messages are kept until they are acknowledged.
        const RELIABLE_DELIVERY = 16;
    }
}

/// The names of the flags, separated by commas; "none" without any.
fn list(f: &mut fmt::Formatter<'_>, names: impl Iterator<Item = &'static str>) -> fmt::Result {
    let mut count = 0;
    for name in names {
        let comma = if count > 0 { ", " } else { "" };
        write!(f, "{comma}{}", name.to_lowercase().replace('_', " "))?;
        count += 1;
    }
    if count == 0 { f.write_str("none") } else { Ok(()) }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.iter_names().map(|(name, _)| name))
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.iter_names().map(|(name, _)| name))
    }
}

/// What the features of one end need to know of the other: its Terms packet; or of both, what they share of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The codecs that it decompresses, a bit each.
    pub codecs: u8,
    /// The ciphers that it has, a bit each by number.
    pub ciphers: u8,
    /// The number of the cipher that it likes best; of both, of the one in use.
    pub cipher: u8,
    /// Chunks that may wait unread on each connection; of both, the lower number.
    pub window: u32,
    /// Messages that may be unacknowledged at a time; of both, the lower number.
    pub kept: u32,
}

impl Terms {
    /// Nothing.
    pub const NONE: Self = Self { codecs: 0, ciphers: 0, cipher: 0, window: 0, kept: 0 };

    /// Bits and operands of later versions are nothing to this one.
    pub(crate) const fn from_operands(operands: [u64; 7]) -> Self {
        let [codecs, ciphers, window, kept, ..] = operands;
        Self {
            codecs: codecs as u8,
            ciphers: ciphers as u8,
            cipher: (ciphers >> 8) as u8,
            window: window as u32,
            kept: kept as u32,
        }
    }

    pub(crate) const fn operands(self) -> [u64; 7] {
        let ciphers = self.ciphers as u64 | (self.cipher as u64) << 8;
        [self.codecs as u64, ciphers, self.window as u64, self.kept as u64, 0, 0, 0]
    }

    /// What both have, and of ciphers the one that the Primary likes best, or else the first.
    pub(crate) fn meet(primary: Self, secondary: Self) -> Self {
        let ciphers = primary.ciphers & secondary.ciphers;
        let liked = primary.cipher < 8 && ciphers >> primary.cipher & 1 == 1;
        let cipher = if liked { primary.cipher } else { ciphers.trailing_zeros() as u8 & 7 };
        Self {
            codecs: primary.codecs & secondary.codecs,
            ciphers,
            cipher,
            window: primary.window.min(secondary.window),
            kept: primary.kept.min(secondary.kept),
        }
    }
}

/// Why a link stayed with the standard operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fallback {
    /// The ends have nothing in common, or the peer is a Standard Link.
    NothingShared,
    /// The peer does not know negotiation, or wants none of this.
    Refused {
        /// The number of its reason.
        code: u64,
    },
    /// Another major version.
    Version {
        /// The peer's.
        theirs: Version,
    },
    /// The peer does not have what this end cannot do without.
    Missing(Features),
    /// The peer is not made for what this end cannot do without.
    Incapable(Capabilities),
    /// The peer has another key, or another idea of what was agreed.
    WrongKey,
    /// The peer sent other packets before it had agreed.
    Traffic,
    /// The peer answered what it was not asked.
    Contradiction,
    /// The peer did not answer in time.
    Silence,
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingShared => f.write_str("the ends have nothing in common"),
            Self::Refused { code } => write!(
                f,
                "the peer does not negotiate, or requires what this end did not ask for or does not have (code 0x{code:02x})"
            ),
            Self::Version { theirs } => {
                write!(f, "the peer speaks version {theirs}, this end {}", Version::CURRENT)
            }
            Self::Missing(features) => write!(f, "the ends do not share what is required: {features}"),
            Self::Incapable(capabilities) => {
                write!(f, "the ends do not share what is required, as it is required: {capabilities}")
            }
            Self::WrongKey => f.write_str("the peer has another key"),
            Self::Traffic => f.write_str("the peer sent other packets before it had agreed"),
            Self::Contradiction => f.write_str("the peer agreed to what it was not asked"),
            Self::Silence => f.write_str("the peer did not answer in time"),
        }
    }
}

/// What a negotiation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The version in use.
    pub version: Version,
    /// The features in use.
    pub features: Features,
    /// The capabilities of both.
    pub capabilities: Capabilities,
    /// What the features go by.
    pub terms: Terms,
    /// Why there is nothing beyond the standard operations, if so.
    pub fallback: Option<Fallback>,
}

impl Agreement {
    pub(crate) const fn standard(fallback: Fallback) -> Self {
        Self {
            version: Version::CURRENT,
            features: Features::empty(),
            capabilities: Capabilities::empty(),
            terms: Terms::NONE,
            fallback: Some(fallback),
        }
    }
}

/// What a side says that it has agreed on, for whoever looks at a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The version in use.
    pub version: Version,
    /// The features in use.
    pub features: Features,
    /// The capabilities of both.
    pub capabilities: Capabilities,
}

impl Agreed {
    /// The word in shared memory.
    pub(crate) const fn word(self) -> u64 {
        self.version.number() << 48
            | (self.features.bits() & 0xFF_FFFF) << 24
            | self.capabilities.bits() & 0xFF_FFFF
    }

    /// What the word says; `None` before anything was agreed. Whatever a peer writes there is a combination of bits.
    pub(crate) const fn from_word(word: u64) -> Option<Self> {
        if word == 0 {
            return None;
        }
        Some(Self {
            version: Version { major: (word >> 56) as u8, minor: (word >> 48) as u8 },
            features: Features::from_bits_retain(word >> 24 & 0xFF_FFFF),
            capabilities: Capabilities::from_bits_retain(word & 0xFF_FFFF),
        })
    }
}
