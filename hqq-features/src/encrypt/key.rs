//! What two ends must have in common, or know of each other, before they meet.

use std::fmt;

use x25519_dalek::PublicKey;
use zeroize::Zeroizing;

use super::aead::KEY;
use super::entropy::Entropy;
use super::error::EncryptError;
use super::hex;
use super::wipe::wipe_stack;

/// What a handshake proves to the peer.
///
/// It is wiped when it is dropped, and `Debug` does not show it. What it was made of is the caller's to wipe.
///
/// As text it is one line, in hexadecimal digits of either case:
///
/// | text | key |
/// |---|---|
/// | 64 digits, or `psk:` and 64 digits | a secret that both ends share |
/// | `pinned:` our secret `:` their public key, 64 digits each | the static keys of both ends |
///
/// ```
/// use hqq_features::encrypt::{Key, KeyError};
/// # fn entropy(into: &mut [u8]) -> Result<(), hqq_features::encrypt::EncryptError> {
/// #     getrandom::fill(into).map_err(|_| hqq_features::encrypt::EncryptError::NoEntropy)
/// # }
///
/// let key = Key::generate(entropy)?;
/// let file = key.text(); // for a file that only this user can read
/// assert!(Key::parse(&file).is_ok());
/// assert_eq!(Key::parse("psk:beef").unwrap_err(), KeyError::Digits { part: "psk", have: 4 });
/// # Ok::<(), hqq_features::encrypt::EncryptError>(())
/// ```
pub struct Key(pub(super) Kind);

/// In a box, since each move would leave a copy behind.
pub(super) type Secret = Box<Zeroizing<[u8; KEY]>>;

pub(super) enum Kind {
    Shared(Secret),
    Pinned { ours: Secret, theirs: [u8; KEY] },
}

impl Key {
    /// A secret that both ends share; the handshake is Noise's NNpsk0.
    ///
    /// The secret must be random: it is used as it is, so a password will not do.
    #[must_use]
    pub fn shared(secret: [u8; 32]) -> Self {
        Self(Kind::Shared(Box::new(Zeroizing::new(secret))))
    }

    /// Our secret key and the peer's public key; the handshake is Noise's KK. Neither end can pass for the other,
    /// and nobody else needs to know anything.
    #[must_use]
    pub fn pinned(ours: StaticSecret, theirs: [u8; 32]) -> Self {
        Self(Kind::Pinned { ours: ours.0, theirs })
    }

    /// A new secret to share, made of random bytes from `entropy`.
    ///
    /// # Errors
    ///
    /// [`EncryptError::NoEntropy`].
    pub fn generate(entropy: Entropy) -> Result<Self, EncryptError> {
        StaticSecret::generate(entropy).map(|secret| Self(Kind::Shared(secret.0)))
    }

    /// New static keys for two ends, each with the other's public key, made of random bytes from `entropy`.
    ///
    /// ```
    /// use hqq_features::encrypt::Key;
    /// # fn entropy(into: &mut [u8]) -> Result<(), hqq_features::encrypt::EncryptError> {
    /// #     getrandom::fill(into).map_err(|_| hqq_features::encrypt::EncryptError::NoEntropy)
    /// # }
    ///
    /// let (ours, theirs) = Key::generate_pair(entropy)?;
    /// assert!(ours.text().starts_with("pinned:") && *ours.text() != *theirs.text());
    /// # Ok::<(), hqq_features::encrypt::EncryptError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`EncryptError::NoEntropy`].
    pub fn generate_pair(entropy: Entropy) -> Result<(Self, Self), EncryptError> {
        let (one, other) = (StaticSecret::generate(entropy)?, StaticSecret::generate(entropy)?);
        let (first, second) = (one.public(), other.public());
        Ok((Self::pinned(one, second), Self::pinned(other, first)))
    }

    /// Reads a key from the contents of a file. Space around the line does not matter.
    ///
    /// # Errors
    ///
    /// Says what is wrong and where, without showing anything of the text.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let line = text.trim();
        if line.is_empty() {
            return Err(KeyError::Empty);
        }
        let lines = line.lines().count();
        if lines != 1 {
            return Err(KeyError::Lines { have: lines });
        }
        Ok(Self(match line.split_once(':') {
            None => Kind::Shared(part("psk", line)?),
            Some(("psk", digits)) => Kind::Shared(part("psk", digits)?),
            Some(("pinned", rest)) => {
                let (ours, theirs) = rest.split_once(':').ok_or(KeyError::NoPublic)?;
                let ours = part("our secret", ours)?;
                Kind::Pinned { ours, theirs: **part("their public key", theirs)? }
            }
            Some(_) => return Err(KeyError::Kind),
        }))
    }

    /// The line that [`parse`](Self::parse) reads, wiped when it is dropped.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        // As long as any, since growth would leave a copy behind.
        let mut text = Zeroizing::new(String::with_capacity("pinned::".len() + 4 * KEY));
        match &self.0 {
            Kind::Shared(secret) => {
                text.push_str("psk:");
                hex::write(&secret[..], &mut text);
            }
            Kind::Pinned { ours, theirs } => {
                text.push_str("pinned:");
                hex::write(&ours[..], &mut text);
                text.push(':');
                hex::write(theirs, &mut text);
            }
        }
        text
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Shared(_) => "Key(shared)",
            Kind::Pinned { .. } => "Key(pinned)",
        })
    }
}

fn part(part: &'static str, digits: &str) -> Result<Secret, KeyError> {
    let mut bytes = Secret::default();
    match hex::read(digits, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(hex::HexError::Length { have }) => Err(KeyError::Digits { part, have }),
        Err(hex::HexError::Digit { at }) => Err(KeyError::NotHex { part, at }),
    }
}

/// The secret half of a static key, wiped when it is dropped.
///
/// ```
/// use hqq_features::encrypt::{Key, StaticSecret};
/// # fn entropy(into: &mut [u8]) -> Result<(), hqq_features::encrypt::EncryptError> {
/// #     getrandom::fill(into).map_err(|_| hqq_features::encrypt::EncryptError::NoEntropy)
/// # }
///
/// let (ours, theirs) = (StaticSecret::generate(entropy)?, StaticSecret::generate(entropy)?);
/// // The public halves are exchanged by a way that can be trusted, such as a file of this user.
/// let theirs = theirs.public();
/// let key = Key::pinned(ours, theirs);
/// # Ok::<(), hqq_features::encrypt::EncryptError>(())
/// ```
pub struct StaticSecret(Secret);

impl StaticSecret {
    /// A secret made elsewhere: 32 random bytes, for X25519.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self(Box::new(Zeroizing::new(secret)))
    }

    /// A new one, made of random bytes from `entropy`.
    ///
    /// # Errors
    ///
    /// [`EncryptError::NoEntropy`].
    pub fn generate(entropy: Entropy) -> Result<Self, EncryptError> {
        let mut secret = Secret::default();
        entropy(&mut secret[..])?;
        Ok(Self(secret))
    }

    /// The public half, which the peer is to pin.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        let public = PublicKey::from(&x25519_dalek::StaticSecret::from(**self.0)).to_bytes();
        wipe_stack();
        public
    }
}

impl fmt::Debug for StaticSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticSecret")
    }
}

/// Why a text is no key. It says nothing of what the text contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// There is nothing in it.
    Empty,
    /// It is more than one line.
    Lines {
        /// Lines that it has.
        have: usize,
    },
    /// What stands ahead of the first colon is neither `psk` nor `pinned`.
    Kind,
    /// Behind `pinned:` there is one part only.
    NoPublic,
    /// A part is not 64 digits long.
    Digits {
        /// Which part.
        part: &'static str,
        /// Characters that it has.
        have: usize,
    },
    /// A character is no hexadecimal digit.
    NotHex {
        /// In which part.
        part: &'static str,
        /// Which character of it, from 1.
        at: usize,
    },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => {
                f.write_str("the key is empty; it must be one line, psk: and 64 hexadecimal digits")
            }
            Self::Lines { have } => write!(f, "the key has {have} lines; it must be one"),
            Self::Kind => f.write_str("the key must begin with psk: or pinned:, or be 64 hexadecimal digits"),
            Self::NoPublic => {
                f.write_str("the pinned key lacks a part; it must be pinned:OUR_SECRET:THEIR_PUBLIC_KEY")
            }
            Self::Digits { part, have } => {
                write!(f, "the key's part \"{part}\" has {have} characters; it must have {}", 2 * KEY)
            }
            Self::NotHex { part, at } => {
                write!(f, "character {at} of the key's part \"{part}\" is no hexadecimal digit")
            }
        }
    }
}

impl std::error::Error for KeyError {}
