//! One key of one direction: the two ciphers, their nonces, and derived keys.

use aes_gcm::Aes256Gcm;
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use zeroize::Zeroizing;

use super::cipher::Cipher;
use super::wipe::wipe_stack;

/// Bytes of a key.
pub(super) const KEY: usize = 32;

/// Bytes of a tag.
pub(super) const TAG: usize = 16;

/// The purpose of a nonce, in its first byte.
const MESSAGE: u8 = 0;
const ROOT: u8 = 1;
const CONNECTION: u8 = 2;

/// A key, prepared for its cipher. The ciphers wipe it when they are dropped.
pub(super) enum Aead {
    ChaCha(ChaCha20Poly1305),
    Aes(Box<Aes256Gcm>),
}

impl Aead {
    pub(super) fn new(cipher: Cipher, key: &[u8; KEY]) -> Self {
        match cipher {
            Cipher::ChaCha20Poly1305 => Self::ChaCha(ChaCha20Poly1305::new(key.into())),
            Cipher::Aes256Gcm => Self::Aes(Box::new(Aes256Gcm::new(key.into()))),
        }
    }

    pub(super) fn cipher(&self) -> Cipher {
        match self {
            Self::ChaCha(_) => Cipher::ChaCha20Poly1305,
            Self::Aes(_) => Cipher::Aes256Gcm,
        }
    }

    /// The purpose `kind`, three zero bytes, and the counter, in the byte order that Noise prescribes for the cipher.
    fn nonce(&self, kind: u8, counter: u64) -> [u8; 12] {
        let counter = match self {
            Self::ChaCha(_) => counter.to_le_bytes(),
            Self::Aes(_) => counter.to_be_bytes(),
        };
        let mut nonce = [0; 12];
        nonce[0] = kind;
        nonce[4..].copy_from_slice(&counter);
        nonce
    }

    /// Encrypts the buffer and returns the tag; `None` if the message is too long for the cipher.
    pub(super) fn seal(&self, counter: u64, ad: &[u8], buffer: InOutBuf<'_, '_, u8>) -> Option<[u8; TAG]> {
        self.seal_as(MESSAGE, counter, ad, buffer)
    }

    fn seal_as(&self, kind: u8, counter: u64, ad: &[u8], buffer: InOutBuf<'_, '_, u8>) -> Option<[u8; TAG]> {
        let nonce = self.nonce(kind, counter).into();
        let tag = match self {
            Self::ChaCha(cipher) => cipher.encrypt_inout_detached(&nonce, ad, buffer),
            Self::Aes(cipher) => cipher.encrypt_inout_detached(&nonce, ad, buffer),
        };
        tag.ok().map(Into::into)
    }

    /// Decrypts the buffer if the tag is right, and returns whether it is. Otherwise nothing is decrypted.
    #[must_use]
    pub(super) fn open(&self, counter: u64, ad: &[u8], buffer: &mut [u8], tag: &[u8; TAG]) -> bool {
        let nonce = self.nonce(MESSAGE, counter).into();
        let opened = match self {
            Self::ChaCha(cipher) => cipher.decrypt_inout_detached(&nonce, ad, buffer.into(), tag.into()),
            Self::Aes(cipher) => cipher.decrypt_inout_detached(&nonce, ad, buffer.into(), tag.into()),
        };
        opened.is_ok()
    }

    /// The key of the next epoch: Noise's REKEY, a block of zeros under the nonce that no message may have. This key
    /// cannot be computed from it.
    pub(super) fn next(&self) -> Self {
        self.derive(MESSAGE, u64::MAX)
    }

    /// The root key, from which the keys of connections are derived.
    pub(super) fn root(&self) -> Self {
        self.derive(ROOT, 0)
    }

    /// The key of the connection `id`, if this is a root key.
    pub(super) fn of_connection(&self, id: u64) -> Self {
        self.derive(CONNECTION, id)
    }

    fn derive(&self, kind: u8, number: u64) -> Self {
        let mut key = Zeroizing::new([0; KEY]);
        // 32 bytes are within the limit; the tag is not used.
        self.seal_as(kind, number, &[], InOutBuf::from(&mut key[..]));
        let derived = Self::new(self.cipher(), &key);
        wipe_stack();
        derived
    }
}
