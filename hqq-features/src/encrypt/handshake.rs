//! The handshake as a state machine: one message each way.

use std::fmt;

use super::cipher::Cipher;
use super::entropy::Entropy;
use super::error::EncryptError;
use super::key::Key;
use super::limits::HANDSHAKE;
use super::noise::{Noise, from_snow};
use super::session::Session;
use super::settings::SessionSettings;

/// One end of a handshake, which agrees on the keys of a session.
///
/// The initiator writes a message and reads the answer; the responder reads and answers. Both use ephemeral keys, so each
/// session has its own keys, and a party that learns the [`Key`] later cannot decrypt recorded messages.
///
/// The first message may be a replay by a third party. The peer is authenticated for the responder with the first message
/// that its opener accepts, and for the initiator with the answer.
///
/// ```
/// use hqq_features::encrypt::{Cipher, Handshake, Key, SessionSettings};
/// # fn entropy(into: &mut [u8]) -> Result<(), hqq_features::encrypt::EncryptError> {
/// #     getrandom::fill(into).map_err(|_| hqq_features::encrypt::EncryptError::NoEntropy)
/// # }
///
/// let key = Key::generate(entropy)?; // both ends have read it from a file
/// let agreed = b"version, features, capabilities, epoch of the link";
/// let (cipher, settings) = (Cipher::Aes256Gcm, SessionSettings::default());
/// let mut ours = Handshake::new(&key, true, cipher, settings, agreed, entropy)?;
/// let mut theirs = Handshake::new(&key, false, cipher, settings, agreed, entropy)?;
///
/// theirs.read(&ours.write()?)?;
/// ours.read(&theirs.write()?)?;
/// let (ours, theirs) = (ours.finish()?, theirs.finish()?);
///
/// let mut message = *b"for your eyes only";
/// let header = ours.sealer.seal(&mut message, b"opcode and operands")?;
/// theirs.opener.open_in_place(&header, &mut message, b"opcode and operands")?;
/// assert_eq!(&message, b"for your eyes only");
/// # Ok::<(), hqq_features::encrypt::EncryptError>(())
/// ```
pub struct Handshake {
    /// `None` after an error.
    pub(super) noise: Option<Noise>,
    cipher: Cipher,
    settings: SessionSettings,
    initiator: bool,
}

impl Handshake {
    /// Begins a handshake. Exactly one of the two ends is the `initiator`.
    ///
    /// `prologue` is what was agreed on before: version, features, capabilities, codec, epoch of the link. If the ends
    /// pass different bytes, because a third party changed messages, the handshake fails. The cipher and
    /// [`SessionSettings::rekey_every`] are included. `entropy` is the source of the ephemeral keys.
    ///
    /// # Errors
    ///
    /// [`EncryptError::Window`] and [`EncryptError::RekeyEvery`] for settings out of range; [`EncryptError::WeakKey`].
    pub fn new(
        key: &Key,
        initiator: bool,
        cipher: Cipher,
        settings: SessionSettings,
        prologue: &[u8],
        entropy: Entropy,
    ) -> Result<Self, EncryptError> {
        settings.check()?;
        let prologue = [&settings.rekey_every.to_le_bytes(), prologue].concat();
        let noise =
            Noise::new(&key.0, initiator, cipher, &prologue, entropy).map_err(|error| from_snow(&error))?;
        Ok(Self { noise: Some(noise), cipher, settings, initiator })
    }

    /// The message to send to the peer.
    ///
    /// # Errors
    ///
    /// [`EncryptError::UnexpectedStep`], [`EncryptError::WeakKey`] or [`EncryptError::NoEntropy`]. The handshake has then
    /// failed, and a new one is needed.
    pub fn write(&mut self) -> Result<[u8; HANDSHAKE], EncryptError> {
        self.step(|noise| {
            let mut message = [0; HANDSHAKE];
            let len = noise.0.write_message(&[], &mut message)?;
            if len == HANDSHAKE { Ok(message) } else { Err(snow::Error::Input) }
        })
    }

    /// Processes the message of the peer.
    ///
    /// # Errors
    ///
    /// [`EncryptError::WrongKey`], [`EncryptError::WeakKey`] or [`EncryptError::UnexpectedStep`]. The handshake has then
    /// failed, and a new one is needed.
    pub fn read(&mut self, message: &[u8; HANDSHAKE]) -> Result<(), EncryptError> {
        self.step(|noise| {
            let len = noise.0.read_message(message, &mut [0; HANDSHAKE])?;
            if len == 0 { Ok(()) } else { Err(snow::Error::Input) }
        })
    }

    fn step<T>(
        &mut self,
        step: impl FnOnce(&mut Noise) -> Result<T, snow::Error>,
    ) -> Result<T, EncryptError> {
        let noise = self.noise.as_mut().ok_or(EncryptError::UnexpectedStep)?;
        step(noise).map_err(|error| {
            self.noise = None;
            from_snow(&error)
        })
    }

    /// Whether both messages were exchanged.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.noise.as_ref().is_some_and(|noise| noise.0.is_handshake_finished())
    }

    /// Ends the handshake, wipes its keys, and returns the session.
    ///
    /// # Errors
    ///
    /// [`EncryptError::UnexpectedStep`] unless [`is_finished`](Self::is_finished).
    pub fn finish(mut self) -> Result<Session, EncryptError> {
        if !self.is_finished() {
            return Err(EncryptError::UnexpectedStep);
        }
        let mut noise = self.noise.take().ok_or(EncryptError::UnexpectedStep)?;
        let [first, second] = noise.split(self.cipher);
        let (ours, theirs) = if self.initiator { (first, second) } else { (second, first) };
        Ok(Session::new(ours, theirs, self.settings))
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("initiator", &self.initiator)
            .field("cipher", &self.cipher)
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
