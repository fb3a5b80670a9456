//! The long-term keys of two ends.

use std::fmt;

use x25519_dalek::PublicKey;
use zeroize::Zeroizing;

use super::aead::KEY;
use super::entropy::Entropy;
use super::error::EncryptError;
use super::hex;
use super::wipe::wipe_stack;

/// The key that authenticates an end in a handshake: a shared secret, or static keys.
///
/// It is wiped when it is dropped, and `Debug` does not show it. The caller wipes the bytes or text that it was made of.
///
/// Its text is one line, with hexadecimal digits of either case:
///
/// | text | key |
/// |---|---|
/// | 64 digits, or `psk:` and 64 digits | a shared secret |
/// | `pinned:` own secret key `:` public key of the peer, 64 digits each | the static keys of both ends |
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

/// A boxed secret: moving the bytes themselves would leave a copy.
pub(super) type Secret = Box<Zeroizing<[u8; KEY]>>;

pub(super) enum Kind {
    Shared(Secret),
    Pinned { ours: Secret, theirs: [u8; KEY] },
}

impl Key {
    /// A secret that both ends share. The handshake is Noise's NNpsk0.
    ///
    /// The secret must be 32 random bytes, not a password: it is used without key stretching.
    #[must_use]
    pub fn shared(secret: [u8; 32]) -> Self {
        Self(Kind::Shared(Box::new(Zeroizing::new(secret))))
    }

    /// The own secret key and the public key of the peer. The handshake is Noise's KK. Neither end can impersonate the
    /// other, and the secret keys never leave their ends.
    #[must_use]
    pub fn pinned(ours: StaticSecret, theirs: [u8; 32]) -> Self {
        Self(Kind::Pinned { ours: ours.0, theirs })
    }

    /// A new secret to share, of random bytes from `entropy`.
    ///
    /// # Errors
    ///
    /// [`EncryptError::NoEntropy`].
    pub fn generate(entropy: Entropy) -> Result<Self, EncryptError> {
        StaticSecret::generate(entropy).map(|secret| Self(Kind::Shared(secret.0)))
    }

    /// New static keys for two ends, each with the public key of the other, of random bytes from `entropy`.
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

    /// Reads a key from the text of a file. White space around the line is ignored.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] with the place of the mistake and nothing of the text.
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
                let ours = part("own secret key", ours)?;
                Kind::Pinned { ours, theirs: **part("public key of the peer", theirs)? }
            }
            Some(_) => return Err(KeyError::Kind),
        }))
    }

    /// The line that [`parse`](Self::parse) reads. It is wiped when it is dropped.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        // With room for the longest key: growth would leave a copy.
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

/// A static secret key. It is wiped when it is dropped.
///
/// ```
/// use hqq_features::encrypt::{Key, StaticSecret};
/// # fn entropy(into: &mut [u8]) -> Result<(), hqq_features::encrypt::EncryptError> {
/// #     getrandom::fill(into).map_err(|_| hqq_features::encrypt::EncryptError::NoEntropy)
/// # }
///
/// let (ours, theirs) = (StaticSecret::generate(entropy)?, StaticSecret::generate(entropy)?);
/// // The public keys are exchanged over a trusted way, such as a file of this user.
/// let theirs = theirs.public();
/// let key = Key::pinned(ours, theirs);
/// # Ok::<(), hqq_features::encrypt::EncryptError>(())
/// ```
pub struct StaticSecret(Secret);

impl StaticSecret {
    /// The secret key with these 32 random bytes, for X25519.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self(Box::new(Zeroizing::new(secret)))
    }

    /// A new secret key, of random bytes from `entropy`.
    ///
    /// # Errors
    ///
    /// [`EncryptError::NoEntropy`].
    pub fn generate(entropy: Entropy) -> Result<Self, EncryptError> {
        let mut secret = Secret::default();
        entropy(&mut secret[..])?;
        Ok(Self(secret))
    }

    /// The public key, for the peer to pin.
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

/// The reason for which a text is no key. It contains nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is empty.
    Empty,
    /// The text has more than one line.
    Lines {
        /// Lines of the text.
        have: usize,
    },
    /// The word before the first colon is neither `psk` nor `pinned`.
    Kind,
    /// Only one part follows `pinned:`.
    NoPublic,
    /// A part is not 64 digits long.
    Digits {
        /// Which part.
        part: &'static str,
        /// Characters of the part.
        have: usize,
    },
    /// A character is not a hexadecimal digit.
    NotHex {
        /// Which part.
        part: &'static str,
        /// The position of the character in the part, from 1.
        at: usize,
    },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => {
                f.write_str("the key is empty: it must be one line, psk: and 64 hexadecimal digits")
            }
            Self::Lines { have } => write!(f, "the key has {have} lines: it must have one"),
            Self::Kind => f.write_str("the key must begin with psk: or pinned:, or be 64 hexadecimal digits"),
            Self::NoPublic => f.write_str(
                "the pinned key lacks a part: it must be pinned:OWN_SECRET_KEY:PUBLIC_KEY_OF_THE_PEER",
            ),
            Self::Digits { part, have } => {
                write!(f, "the part \"{part}\" of the key has {have} characters: it must have {}", 2 * KEY)
            }
            Self::NotHex { part, at } => {
                write!(
                    f,
                    "character {at} of the part \"{part}\" of the key is not a hexadecimal digit: correct it"
                )
            }
        }
    }
}

impl std::error::Error for KeyError {}
