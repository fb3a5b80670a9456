//! The ciphers, by number and by name, and sets of them.

use std::fmt;
use std::str::FromStr;

/// An AEAD that a session can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Cipher {
    /// ChaCha20-Poly1305, RFC 8439: fast on every processor.
    ChaCha20Poly1305 = 1,
    /// AES-256-GCM, NIST SP 800-38D: faster on processors that have instructions for it.
    Aes256Gcm = 2,
}

impl Cipher {
    /// All ciphers, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::ChaCha20Poly1305, Self::Aes256Gcm];

    /// The number of the cipher on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The cipher with the number `number`; `None` if that is unknown.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| cipher.number() == number)
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ChaCha20Poly1305 => "chacha20poly1305",
            Self::Aes256Gcm => "aes256gcm",
        })
    }
}

impl FromStr for Cipher {
    type Err = UnknownCipher;

    /// Reads a name that [`Display`](fmt::Display) writes.
    fn from_str(name: &str) -> Result<Self, UnknownCipher> {
        Self::ALL.into_iter().find(|cipher| cipher.to_string() == name).ok_or(UnknownCipher)
    }
}

/// The error of a name that no [`Cipher`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCipher;

impl fmt::Display for UnknownCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no cipher has this name: use one of")?;
        Cipher::ALL.into_iter().try_for_each(|cipher| write!(f, " {cipher}"))
    }
}

impl std::error::Error for UnknownCipher {}

/// A set of ciphers, which two ends exchange. Bit `n` is the cipher with number `n`.
///
/// ```
/// use hqq_features::encrypt::{Cipher, Ciphers};
///
/// let theirs = Ciphers::from_bits(0b11_0010); // unknown bits are dropped
/// assert_eq!(Ciphers::ALL.and(theirs).best(), Some(Cipher::ChaCha20Poly1305));
/// assert_eq!(Ciphers::from(Cipher::Aes256Gcm).and(theirs).best(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ciphers(u64);

impl Ciphers {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// All ciphers.
    pub const ALL: Self = Self(1 << Cipher::ChaCha20Poly1305.number() | 1 << Cipher::Aes256Gcm.number());

    /// The set with the bits `bits`. Unknown bits are dropped.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The bits of the set on the wire.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether `cipher` is in the set.
    #[must_use]
    pub const fn contains(self, cipher: Cipher) -> bool {
        self.0 >> cipher.number() & 1 == 1
    }

    /// The set with `cipher` added.
    #[must_use]
    pub const fn with(self, cipher: Cipher) -> Self {
        Self(self.0 | 1 << cipher.number())
    }

    /// The ciphers that are in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The fastest cipher of the set on this processor. One end chooses, and sends its choice to the other.
    #[must_use]
    pub fn best(self) -> Option<Cipher> {
        let by_speed = match has_aes() {
            true => [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305],
            false => [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm],
        };
        by_speed.into_iter().find(|&cipher| self.contains(cipher))
    }
}

impl From<Cipher> for Ciphers {
    fn from(cipher: Cipher) -> Self {
        Self::NONE.with(cipher)
    }
}

/// Whether the processor has instructions for both parts of AES-GCM.
pub(super) fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}
