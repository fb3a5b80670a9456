//! How an encrypted link gets its keys.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::demux::negotiation::{KEY_LEN, Keying};
use hqq_features::encrypt::{Cipher, EncryptError, EncryptionLayer, Handshake, Key, SessionSettings};

/// Random bytes of the kernel, for keys: what [`Key::generate`] and the others of `hqq::features::encrypt` take.
///
/// # Errors
/// [`EncryptError::NoEntropy`] if the kernel has none.
pub fn entropy(into: &mut [u8]) -> Result<(), EncryptError> {
    hqq_sys::random::fill(into).map_err(|_| EncryptError::NoEntropy)
}

/// A key exchange: the negotiation drives it, and the link waits for its outcome.
#[derive(Clone)]
pub(super) struct Keys(Arc<Mutex<Making>>);

struct Making {
    key: Arc<Key>,
    settings: SessionSettings,
    /// The replay window that both ends have at least, in messages.
    common: u32,
    handshake: Option<Handshake>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// An exchange with `key`. The replay window is sized for a ring of `slots` slots and up to `kept` messages that are
    /// received but not yet decrypted.
    pub(super) fn new(key: Arc<Key>, slots: u32, kept: u32) -> Self {
        let usual = SessionSettings::default();
        // A message is no further behind another than the ring is long, and half the window beside: see `EncryptionLayer::new`.
        let settings =
            SessionSettings { window: usual.window.max(2 * slots).min(SessionSettings::MAX_WINDOW), ..usual };
        // Both ends have at least this window, whatever either keeps: it decides how late a frame may be sent.
        let common = settings.window;
        let rekey_every = usual.rekey_every.max(u64::from(common.div_ceil(64)));
        // The window is each end's own affair, but for what the keys of both allow.
        let most = u64::from(SessionSettings::MAX_WINDOW).min(64 * rekey_every) as u32;
        let window = settings.window.max(kept.saturating_mul(2)).min(most);
        let settings = SessionSettings { window, rekey_every, ..settings };
        Self(Arc::new(Mutex::new(Making { key, settings, common, handshake: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Making> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The layer that encrypts with the keys that were made, if they were.
    pub(super) fn finish(&self) -> Option<EncryptionLayer> {
        let mut making = self.lock();
        let session = making.handshake.take()?.finish().ok()?;
        Some(EncryptionLayer::new(session, making.common))
    }
}

impl Keying for Keys {
    fn begin(&mut self, initiator: bool, cipher: u8, agreed: &[u8]) -> bool {
        let mut making = self.lock();
        let handshake = Cipher::from_number(cipher).and_then(|cipher| {
            Handshake::new(&making.key, initiator, cipher, making.settings, agreed, entropy).ok()
        });
        making.handshake = handshake;
        making.handshake.is_some()
    }

    fn write(&mut self) -> Option<[u8; KEY_LEN]> {
        self.lock().handshake.as_mut()?.write().ok()
    }

    fn read(&mut self, message: &[u8; KEY_LEN]) -> bool {
        self.lock().handshake.as_mut().is_some_and(|handshake| handshake.read(message).is_ok())
    }
}
