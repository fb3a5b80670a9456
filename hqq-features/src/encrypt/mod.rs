//! Encryption between two ends: a Noise handshake, then authenticated encryption of each message.
//!
//! # Protection
//!
//! It protects from a third party that can read the shared memory: another process of the same user, or a dump of the
//! memory. A message is encrypted in private memory, only ciphertext enters shared memory, and it is decrypted into
//! private memory. Keys are never in shared memory. Its writes are detected: a message that was altered,
//! repeated, moved or reflected is refused, and so is a negotiation that was tampered with.
//!
//! That party still sees how many messages there are, when they are sent, how long they are, and their opcodes and
//! operands. It can break the link by writing to the memory. Nothing here protects from a party that can read the
//! private memory of the two processes.
//!
//! # Sessions
//!
//! Each attachment of two ends begins with a [`Handshake`], which makes ephemeral keys and is authenticated by the
//! [`Key`]: a shared secret, or the static keys of both ends. It results in a [`Session`], with a [`Sealer`] for one
//! direction and an [`Opener`] for the other. [`EncryptionLayer`] is a session as a [`Layer`](crate::Layer).
//!
//! # Format of a message
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | counter, little-endian: 0 for the first message of a direction, then 1, 2, 3 |
//! | 8..24 | tag |
//! | 24.. | ciphertext, as long as the message |
//!
//! The nonce is four zero bytes and the counter, little-endian for ChaCha20-Poly1305 and big-endian for AES-256-GCM,
//! as in Noise. The associated data is the caller's: opcode, operands, and what precedes the header. The counter need
//! not be part of it, since another counter is another nonce and fails the tag.
//!
//! # New keys
//!
//! Counters from `n * rekey_every` belong to epoch `n`, which has its own key: the result of Noise's REKEY of the key
//! before, which cannot be computed from it. Nothing is announced, since the counter determines the epoch. The opener
//! keeps the keys of all epochs from which its window still accepts a message. A message may be at most
//! [`MAX_EPOCHS_AHEAD`] epochs ahead, so that a forged counter causes little work, and only a message with the right tag
//! advances the keys.
//!
//! # Connections
//!
//! Each logical connection has its own keys and counters, so that a delayed message of one connection is not outside the
//! window because of messages on others. The key is a block of zeros, encrypted with a root key under a nonce that
//! begins with 2 and ends with the number of the connection. The root key is made in the same way from the first key of
//! the session, under a nonce that begins with 1.
//!
//! # Replays
//!
//! The opener remembers the counters of a window before the highest counter, as in RFC 6479. It checks a counter before
//! it decrypts, and records it after the tag was verified. With [`SessionSettings::strict`] it accepts only the next
//! counter.

mod aead;
mod cipher;
mod entropy;
mod error;
mod handshake;
mod hex;
mod key;
mod layer;
mod limits;
mod noise;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod window;
mod wipe;

pub use cipher::{Cipher, Ciphers, UnknownCipher};
pub use entropy::Entropy;
pub use error::EncryptError;
pub use handshake::Handshake;
pub use key::{Key, KeyError, StaticSecret};
pub use layer::EncryptionLayer;
pub use limits::{COUNTERS, HANDSHAKE, HEADER, MAX_EPOCHS_AHEAD, MAX_MESSAGE};
pub use session::{Opener, Sealer, Session};
pub use settings::SessionSettings;
