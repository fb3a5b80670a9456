//! The primitives of the handshake for `snow`, and wiping of its state.
//!
//! The resolver of `snow` would use older versions of the same crates, and does not wipe its keys.

use std::hint::black_box;

use chacha20poly1305::aead::inout::InOutBuf;
use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types;
use snow::{Builder, Error, HandshakeState};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use super::aead::{Aead, KEY, TAG};
use super::cipher::Cipher;
use super::entropy::Entropy;
use super::error::EncryptError;
use super::key::{Kind, Secret};
use super::wipe::wipe_stack;

/// A handshake of `snow`, boxed so that it can be overwritten.
pub(super) struct Noise(pub(super) Box<HandshakeState>);

impl Noise {
    pub(super) fn new(
        kind: &Kind,
        initiator: bool,
        cipher: Cipher,
        prologue: &[u8],
        entropy: Entropy,
    ) -> Result<Self, Error> {
        let builder = builder(kind, cipher, entropy)?.prologue(prologue)?;
        let builder = match kind {
            Kind::Shared(key) => builder.psk(0, key)?,
            Kind::Pinned { ours, theirs } => {
                builder.local_private_key(&ours[..])?.remote_public_key(theirs)?
            }
        };
        let state = if initiator { builder.build_initiator() } else { builder.build_responder() };
        let noise = state.map(|state| Self(Box::new(state)));
        wipe_stack();
        noise
    }

    /// The keys of the two directions, that of the initiator first.
    ///
    /// This is sound though `snow` calls it risky: the keys are those of Noise's Split, and they are used as by the
    /// transport of Noise: in one AEAD each, with counting nonces, and REKEY as specified. The differences are longer
    /// messages, which the AEADs allow, and associated data. The transport of `snow`, which would use the same nonces
    /// again, is never made of this state.
    pub(super) fn split(&mut self, cipher: Cipher) -> [Aead; 2] {
        let mut keys = self.0.dangerously_get_raw_split();
        let aeads = [Aead::new(cipher, &keys.0), Aead::new(cipher, &keys.1)];
        keys.0.zeroize();
        keys.1.zeroize();
        aeads
    }
}

impl Drop for Noise {
    /// Overwrites the state with one that has no secrets. `snow` wipes neither the pre-shared key nor the chaining key,
    /// from which the keys of the session can be computed.
    fn drop(&mut self) {
        let nothing = Kind::Shared(Secret::default());
        // A blank state is never used, so it needs no random bytes.
        let blank = builder(&nothing, Cipher::ChaCha20Poly1305, |_| Err(EncryptError::NoEntropy))
            .and_then(|builder| builder.psk(0, &[0; KEY]))
            .and_then(Builder::build_initiator);
        if let Ok(blank) = blank {
            *self.0 = blank;
            // Otherwise the compiler could drop the stores before the deallocation.
            black_box(&self.0);
        }
        wipe_stack();
    }
}

fn builder<'a>(kind: &Kind, cipher: Cipher, entropy: Entropy) -> Result<Builder<'a>, Error> {
    let pattern = match kind {
        Kind::Shared(_) => "NNpsk0",
        Kind::Pinned { .. } => "KK",
    };
    let aead = match cipher {
        Cipher::ChaCha20Poly1305 => "ChaChaPoly",
        Cipher::Aes256Gcm => "AESGCM",
    };
    let name = format!("Noise_{pattern}_25519_{aead}_SHA256");
    Ok(Builder::with_resolver(name.parse()?, Box::new(Resolver(entropy))))
}

/// The error of `snow` as an [`EncryptError`].
pub(super) fn from_snow(error: &Error) -> EncryptError {
    match error {
        Error::Decrypt => EncryptError::WrongKey,
        Error::Dh => EncryptError::WeakKey,
        Error::Rng => EncryptError::NoEntropy,
        Error::State(_) => EncryptError::UnexpectedStep,
        _ => EncryptError::Unsupported,
    }
}

/// The primitives of this crate, and the random bytes of the caller.
pub(super) struct Resolver(pub(super) Entropy);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn types::Random>> {
        Some(Box::new(Source(self.0)))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn types::Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519::default())),
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn types::Hash>> {
        match choice {
            HashChoice::SHA256 => Some(Box::new(Hash(Sha256::new()))),
            _ => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn types::Cipher>> {
        let cipher = match choice {
            CipherChoice::ChaChaPoly => Cipher::ChaCha20Poly1305,
            CipherChoice::AESGCM => Cipher::Aes256Gcm,
        };
        Some(Box::new(SnowCipher(Aead::new(cipher, &[0; KEY]))))
    }
}

/// The random bytes of the caller.
struct Source(Entropy);

impl types::Random for Source {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        (self.0)(dest).map_err(|_| Error::Rng)
    }
}

#[derive(Default)]
struct X25519 {
    secret: Zeroizing<[u8; KEY]>,
    public: [u8; KEY],
}

impl types::Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY
    }

    fn priv_len(&self) -> usize {
        KEY
    }

    fn set(&mut self, secret: &[u8]) {
        self.secret.copy_from_slice(secret);
        self.public = PublicKey::from(&StaticSecret::from(*self.secret)).to_bytes();
    }

    fn generate(&mut self, random: &mut dyn types::Random) -> Result<(), Error> {
        let mut secret = Zeroizing::new([0; KEY]);
        random.try_fill_bytes(&mut secret[..])?;
        self.set(&secret[..]);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.secret[..]
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public = public.first_chunk::<KEY>().ok_or(Error::Dh)?;
        let shared = StaticSecret::from(*self.secret).diffie_hellman(&PublicKey::from(*public));
        // A point of small order makes the same secret with any key.
        if !shared.was_contributory() {
            return Err(Error::Dh);
        }
        out[..KEY].copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

struct Hash(Sha256);

impl types::Hash for Hash {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash = self.0.finalize_reset();
        out[..hash.len()].copy_from_slice(&hash);
    }
}

struct SnowCipher(Aead);

impl types::Cipher for SnowCipher {
    fn name(&self) -> &'static str {
        match self.0.cipher() {
            Cipher::ChaCha20Poly1305 => "ChaChaPoly",
            Cipher::Aes256Gcm => "AESGCM",
        }
    }

    fn set(&mut self, key: &[u8; KEY]) {
        self.0 = Aead::new(self.0.cipher(), key);
    }

    fn encrypt(&self, nonce: u64, ad: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (text, rest) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        let Some(tag) = self.0.seal(nonce, ad, InOutBuf::from(&mut *text)) else {
            return 0;
        };
        rest[..TAG].copy_from_slice(&tag);
        plaintext.len() + TAG
    }

    fn decrypt(&self, nonce: u64, ad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let (text, tag) = sealed.split_last_chunk::<TAG>().ok_or(Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(Error::Decrypt)?;
        out.copy_from_slice(text);
        if self.0.open(nonce, ad, out, tag) { Ok(text.len()) } else { Err(Error::Decrypt) }
    }
}
