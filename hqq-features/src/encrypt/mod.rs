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
//! epochs from which its window still accepts a message. A message may be at most [`MAX_EPOCHS_AHEAD`] epochs ahead, so
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
//! it decrypts; it marks it when the tag was right. With [`SessionSettings::strict`] it takes the next one only.

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
