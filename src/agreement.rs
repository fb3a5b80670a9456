//! What two ends of a link can agree on: version, features, capabilities and their parameters, with their encodings.
//! [`AdvancedLink`] negotiates them.
//!
//! [`AdvancedLink`]: ../advanced/struct.AdvancedLink.html

use core::fmt;

/// A protocol version. Two ends with the same major version use the lower of their minor versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major version: changes when older peers cannot understand the protocol any more.
    pub major: u8,
    /// Minor version: changes when the protocol is extended.
    pub minor: u8,
}

impl Version {
    /// The version of this build.
    pub const CURRENT: Self = Self { major: 1, minor: 1 };

    /// Encodes the version for the wire: `major << 8 | minor` (ruling 12).
    pub const fn number(self) -> u64 {
        (self.major as u64) << 8 | self.minor as u64
    }

    /// Decodes a version. `None` if `number` has more than two bytes.
    pub const fn from_number(number: u64) -> Option<Self> {
        if number > 0xFFFF {
            return None;
        }
        Some(Self { major: (number >> 8) as u8, minor: number as u8 })
    }

    /// The version that ends with versions `self` and `theirs` use. `None` if the major versions differ.
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
    /// Extensions of a link beyond the standard operations (specification, "Supported Features"; ruling 3). Unknown
    /// bits are never agreed on.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Features: u64 {
        /// Messages may be compressed.
        const COMPRESSION = 2;
        /// Messages are encrypted.
        const ENCRYPTION = 4;
        /// A sender needs credit of the receiver on each connection.
        const FLOW_CONTROL = 8;
        /// The ends record latency histograms and rates.
        const STATISTICS = 16;
        /// Connections have QoS classes, weights and rate limits.
        const QOS = 32;
    }
}

bitflags::bitflags! {
    /// Purposes that an end supports (specification, "Supported Capabilities"; ruling 3).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Capabilities: u64 {
        /// Has buffers for large messages.
        const LARGE_BUFFERS = 2;
        /// Prefers throughput to latency.
        const HIGH_THROUGHPUT = 4;
        /// Prefers latency to throughput.
        const LOW_LATENCY = 8;
        /// Keeps messages until the peer's application has acknowledged them.
        const RELIABLE_DELIVERY = 16;
    }
}

/// Writes the names of flags, separated by commas, or "none".
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

/// Parameters of the features: of one end, as in its Terms packet; or of a link, as both ends support them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Codecs that the end decompresses, a bit for each.
    pub codecs: u16,
    /// Ciphers that the end supports: bit `n` for cipher number `n`.
    pub ciphers: u8,
    /// Number of the cipher that the end prefers; of a link, of the cipher in use.
    pub cipher: u8,
    /// Maximum number of unread chunks on each connection; of a link, the lower of both.
    pub window: u32,
    /// Maximum number of unacknowledged messages; of a link, the lower of both.
    pub kept: u32,
}

impl Terms {
    /// No codecs, no ciphers, and limits of 0.
    pub const NONE: Self = Self { codecs: 0, ciphers: 0, cipher: 0, window: 0, kept: 0 };

    /// Decodes the operands of a Terms packet. Ignores bits and operands that later versions may add.
    pub(crate) const fn from_operands(operands: [u64; 7]) -> Self {
        let [codecs, ciphers, window, kept, ..] = operands;
        Self {
            codecs: codecs as u16,
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

    /// The parameters that both ends support. The cipher is the one that the Primary prefers, if the Secondary
    /// supports it, or else the common one with the lowest number.
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

/// Why a negotiation agreed on nothing, so that the link has the standard operations alone. `docs/errors.md` of the
/// repository says what to do about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fallback {
    /// The two ends asked for nothing in common, or the peer is a `StandardLink`.
    NothingShared,
    /// The peer does not negotiate, or requires what this end did not ask for.
    Refused {
        /// The number of the peer's reason; see [`ErrorCode`](crate::error::ErrorCode).
        code: u64,
    },
    /// The peer has another major protocol version.
    Version {
        /// The peer's version.
        theirs: Version,
    },
    /// The peer does not have these features, which this end requires.
    Missing(Features),
    /// The peer does not have these capabilities, which this end requires, or not with the same limits.
    Incapable(Capabilities),
    /// The peer has another key, or has agreed on other terms.
    WrongKey,
    /// The peer sent other packets before the negotiation was over.
    Traffic,
    /// The peer agreed to what this end had not asked for.
    Contradiction,
    /// The peer did not answer in time.
    Silence,
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingShared => f.write_str("the two ends asked for nothing in common"),
            Self::Refused { code } => write!(
                f,
                "the peer does not negotiate, or requires what this end did not ask for (code 0x{code:02x})"
            ),
            Self::Version { theirs } => {
                write!(f, "the peer has protocol version {theirs} and this end {}", Version::CURRENT)
            }
            Self::Missing(features) => write!(f, "the peer does not have the required {features}"),
            Self::Incapable(capabilities) => {
                write!(f, "the peer does not have the required {capabilities}, or not with the same limits")
            }
            Self::WrongKey => f.write_str("the peer has another key"),
            Self::Traffic => f.write_str("the peer sent messages before it had negotiated"),
            Self::Contradiction => f.write_str("the peer agreed to what this end had not asked for"),
            Self::Silence => f.write_str("the peer did not answer in time"),
        }
    }
}

/// Result of a negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Version in use.
    pub version: Version,
    /// Features in use.
    pub features: Features,
    /// Capabilities that both ends have.
    pub capabilities: Capabilities,
    /// Parameters of the features in use.
    pub terms: Terms,
    /// Why nothing was agreed on. `None` if something was.
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

/// Result of a negotiation as one side stored it in shared memory, for observers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Version in use.
    pub version: Version,
    /// Features in use.
    pub features: Features,
    /// Capabilities that both ends have.
    pub capabilities: Capabilities,
}

impl Agreed {
    /// Encodes the result as a word of shared memory: version, features and capabilities in 16, 24 and 24 bits, from
    /// the top.
    pub(crate) const fn word(self) -> u64 {
        self.version.number() << 48
            | (self.features.bits() & 0xFF_FFFF) << 24
            | self.capabilities.bits() & 0xFF_FFFF
    }

    /// Decodes such a word. `None` if it is 0, as before a negotiation. Any other value is valid.
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
