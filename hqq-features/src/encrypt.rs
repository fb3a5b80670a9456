//! Messages that nobody but the two ends can read: a handshake, then authenticated encryption of each message.
//!
//! # Against whom
//!
//! A third party that can read the region: another process of the same user, or a dump of the memory. A message is
//! made in private memory, only ciphertext enters the region, and it is opened into private memory; keys are never
//! in shared memory. What that party writes is noticed as well: a message that was altered, repeated, taken from
//! another place or sent the other way is refused, and so is a negotiation that was tampered with.
//!
//! It still sees how many messages there are, when they travel, how long they are, and their opcodes and operands.
//! It can break the link by writing, as anybody can who has the region. And nothing here helps against who can read
//! the memory of the two processes themselves.
//!
//! # A session
//!
//! Each attach makes a [`Handshake`] with new keys of the moment, authenticated by the [`Key`]: a secret that both
//! ends have, or the static keys of both. It gives a [`Session`], and with it a [`Sealer`] for one direction and an
//! [`Opener`] for the other.
//!
//! # A message
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | counter, little-endian: 0 for the first message of a direction, then 1, 2, 3 |
//! | 8..24 | tag |
//! | 24.. | ciphertext, as long as the message |
//!
//! The nonce is four zero bytes and the counter, little-endian for ChaCha20-Poly1305 and big-endian for AES-256-GCM,
//! as in Noise. The associated data is the caller's: opcode and operands, and what stands ahead of the header.
//! The counter need not be part of it, since another counter is another nonce and fails the tag.
//!
//! # Keys that follow one another
//!
//! Counters `n * rekey_every` and up belong to epoch `n`, which has a key of its own: the one before, put through
//! Noise's REKEY, which nobody can undo. Nothing is announced, since the counter tells. The opener keeps the keys of
//! epochs from which its window still accepts a message. A message may be at most [`MOST_AHEAD`] epochs ahead, so
//! that a forged counter costs little; only a message whose tag is right moves the keys.
//!
//! # Connections
//!
//! Each logical connection has keys and counters of its own: a block of zeros, under a nonce that begins with 2 and ends in
//! the connection's number, encrypted with a key that was made in the same way from the first of the link, under the nonce
//! that begins with 1. So what is long under way on one connection is never behind the window of another.
//!
//! # Each counter once
//!
//! The opener remembers the counters of a window behind the highest, as RFC 6479 does, and checks a counter before
//! it decrypts; it marks it when the tag was right. With [`Settings::strict`] it takes the next one only.

mod aead;
mod handshake;
mod hex;
mod key;
mod layer;
mod noise;
mod session;
#[cfg(test)]
mod tests;
mod window;
mod wipe;

use std::fmt;
use std::str::FromStr;

pub use handshake::Handshake;
pub use key::{Key, KeyError, StaticSecret};
pub use layer::EncryptionLayer;
pub use session::{Opener, Sealer, Session};

/// Fills a slice with random bytes that nobody can predict, or fails with [`EncryptError::NoEntropy`]. This crate makes no
/// system calls, so the caller brings the source; `hqq::advanced::entropy` is the kernel's.
pub type Entropy = fn(&mut [u8]) -> Result<(), EncryptError>;

/// Bytes ahead of the ciphertext: 8 of the counter, 16 of the tag.
pub const HEADER: usize = 24;

/// Bytes of each of the handshake's two messages: a public key and a tag.
pub const HANDSHAKE: usize = 48;

/// Bytes that a message may have: AES-GCM's limit, which is the lower one.
pub const MAX_MESSAGE: usize = (1 << 36) - 32;

/// Epochs that a message may be ahead of the newest key. Keys that follow are computed one by one, so this bounds
/// the work for a counter that somebody made up.
///
/// More than one, since a message that was sealed and could not be sent leaves a gap.
pub const MOST_AHEAD: u64 = 256;

/// Counters that a direction has. All of Noise's would be 2^64 - 1; this many leave room to calculate, and last for
/// a century at a thousand million messages a second.
pub const COUNTERS: u64 = 1 << 62;

/// An AEAD that a session can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Cipher {
    /// ChaCha20-Poly1305, RFC 8439: as good on every processor.
    ChaCha20Poly1305 = 1,
    /// AES-256-GCM, NIST SP 800-38D: the faster one where the processor has instructions for it.
    Aes256Gcm = 2,
}

impl Cipher {
    /// All of them, by number.
    pub const ALL: [Self; 2] = [Self::ChaCha20Poly1305, Self::Aes256Gcm];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The cipher with this number, if it is one we know.
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

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(name: &str) -> Result<Self, UnknownCipher> {
        Self::ALL.into_iter().find(|cipher| cipher.to_string() == name).ok_or(UnknownCipher)
    }
}

/// A name that no [`Cipher`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCipher;

impl fmt::Display for UnknownCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no such cipher; there are")?;
        Cipher::ALL.into_iter().try_for_each(|cipher| write!(f, " {cipher}"))
    }
}

impl std::error::Error for UnknownCipher {}

/// A set of ciphers, as it is offered: bit `n` stands for the cipher with number `n`.
///
/// ```
/// use hqq_features::encrypt::{Cipher, Ciphers};
///
/// let theirs = Ciphers::from_bits(0b11_0010); // what we do not know is left out
/// assert_eq!(Ciphers::ALL.and(theirs).best(), Some(Cipher::ChaCha20Poly1305));
/// assert_eq!(Ciphers::from(Cipher::Aes256Gcm).and(theirs).best(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ciphers(u64);

impl Ciphers {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// All of them.
    pub const ALL: Self = Self(1 << Cipher::ChaCha20Poly1305.number() | 1 << Cipher::Aes256Gcm.number());

    /// The set that these bits stand for, as far as we know its members.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The bits on the wire.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether this cipher is among them.
    #[must_use]
    pub const fn contains(self, cipher: Cipher) -> bool {
        self.0 >> cipher.number() & 1 == 1
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, cipher: Cipher) -> Self {
        Self(self.0 | 1 << cipher.number())
    }

    /// Those that are in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The fastest of them on this processor. One end decides and tells the other.
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
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// What can be chosen for a session.
///
/// ```
/// use hqq_features::encrypt::Settings;
///
/// let settings = Settings { window: 2 * 4096, ..Settings::default() }; // twice the slots of the ring
/// assert_eq!((settings.rekey_every, settings.strict), (4096, false));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How far behind the highest counter a message may come, in messages; at least twice the slots of the ring, and
    /// 2048 by default. Each end chooses for itself.
    pub window: u32,
    /// Messages under one key; 4096 by default. The same at both ends, else the handshake fails.
    ///
    /// The default keeps AES-GCM's promise whatever the messages are: 2^12 of 256 MiB are 2^36 blocks under one key,
    /// with which the odds of telling the ciphertext from noise stay at 2^-57, the usual aim (2^72 pairs of blocks
    /// against 2^129). ChaCha20-Poly1305 has no such limit. A new key costs about as much as a short message.
    pub rekey_every: u64,
    /// Take no counter but the next. For links with one sending and one receiving thread, where nothing is lost:
    /// what was sealed and could not be sent ends the session.
    pub strict: bool,
}

impl Settings {
    /// The widest window: twice the slots of the largest ring, and as much again.
    pub const MAX_WINDOW: u32 = 1 << 22;

    /// The most messages under one key.
    pub const MAX_REKEY_EVERY: u64 = 1 << 32;

    fn check(self) -> Result<(), EncryptError> {
        let (have, limit) = (self.window, Self::MAX_WINDOW);
        if have == 0 || have > limit {
            return Err(EncryptError::Window { have, limit });
        }
        // So that the opener has to keep few keys for its window.
        let (least, most) = (u64::from(have.div_ceil(64)), Self::MAX_REKEY_EVERY);
        let have = self.rekey_every;
        if have < least || have > most {
            return Err(EncryptError::RekeyEvery { have, least, most });
        }
        Ok(())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { window: 2048, rekey_every: 4096, strict: false }
    }
}

/// What can go wrong. Nothing of a key or a message is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncryptError {
    /// The peer has another key, or another idea of what was agreed on: see [`Handshake::new`].
    WrongKey,
    /// A public key with which everybody would get the same secret, such as all zeros.
    WeakKey,
    /// The source of random bytes failed.
    NoEntropy,
    /// A step of the handshake that is not its turn, or one after the handshake has failed.
    OutOfTurn,
    /// `snow` does not take what it is given, which does not happen with the versions that we ask for.
    Unsupported,
    /// A window that is not possible.
    Window {
        /// The width asked for.
        have: u32,
        /// The widest.
        limit: u32,
    },
    /// A number of messages under one key that is not possible.
    RekeyEvery {
        /// The number asked for.
        have: u64,
        /// The least with this window.
        least: u64,
        /// The most.
        most: u64,
    },
    /// All counters are used up; only a new handshake helps.
    Exhausted {
        /// Messages in a session's direction.
        limit: u64,
    },
    /// The message is longer than the ciphers allow.
    TooLong {
        /// Bytes that it has.
        have: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// The place for a sealed message does not fit it.
    Room {
        /// Bytes that it has.
        have: usize,
        /// Bytes of header and message.
        need: usize,
    },
    /// What came is shorter than its header.
    TooShort {
        /// Bytes that came.
        have: usize,
        /// Bytes of the header.
        need: usize,
    },
    /// The tag does not fit: the peer did not send this message, or not with this associated data.
    Forged {
        /// The counter that it came with.
        counter: u64,
    },
    /// A message with this counter has been accepted before.
    Replayed {
        /// The counter.
        counter: u64,
    },
    /// The message is behind the window: whether it was accepted before is not known any more.
    TooOld {
        /// Its counter.
        counter: u64,
        /// The oldest that is still known of.
        oldest: u64,
    },
    /// Messages are missing ahead of this one, where none may be.
    Skipped {
        /// Its counter.
        counter: u64,
        /// The counter that was to come.
        next: u64,
    },
    /// The message is more than [`MOST_AHEAD`] epochs ahead of the newest key.
    AheadOfKeys {
        /// Its counter.
        counter: u64,
        /// The first counter that is too far ahead.
        limit: u64,
    },
}

impl fmt::Display for EncryptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::WrongKey => f.write_str(
                "the peer has another key, or does not agree on what was negotiated; compare the keys of both ends",
            ),
            Self::WeakKey => {
                f.write_str("a public key would make the same secret with everybody; make a new pair of keys")
            }
            Self::NoEntropy => f.write_str("the source of random bytes failed, and a key is made of them"),
            Self::OutOfTurn => {
                f.write_str("this step of the handshake is not due, or the handshake has failed; begin a new one")
            }
            Self::Unsupported => f.write_str("the handshake cannot be set up with this build of snow"),
            Self::Window { have, limit } => {
                write!(f, "a window of {have} messages is not possible; it must be from 1 to {limit}")
            }
            Self::RekeyEvery { have, least, most } => write!(
                f,
                "a new key every {have} messages is not possible with this window; it must be from {least} to {most}"
            ),
            Self::Exhausted { limit } => {
                write!(f, "all {limit} counters of the session are used up; attach again for a new session")
            }
            Self::TooLong { have, limit } => {
                write!(f, "a message of {have} bytes cannot be encrypted; the limit is {limit}")
            }
            Self::Room { have, need } => {
                write!(f, "the sealed message needs {need} bytes, and the place for it has {have}")
            }
            Self::TooShort { have, need } => {
                write!(f, "{have} bytes are no encrypted message; the header alone has {need}")
            }
            Self::Forged { counter } => {
                write!(f, "message {counter} is not what the peer sealed; somebody has written to the link")
            }
            Self::Replayed { counter } => write!(f, "message {counter} has been received before"),
            Self::TooOld { counter, oldest } => {
                write!(f, "message {counter} comes too late; the oldest that is still accepted is {oldest}")
            }
            Self::Skipped { counter, next } => {
                write!(f, "message {counter} came where {next} was to come, and the session is strict")
            }
            Self::AheadOfKeys { counter, limit } => {
                write!(f, "message {counter} is too far ahead of the keys; it must be below {limit}")
            }
        }
    }
}

impl std::error::Error for EncryptError {}
