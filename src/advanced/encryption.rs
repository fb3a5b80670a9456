//! The layer that encrypts, and how its keys come about.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Compression;
use super::pipeline::Pipeline;
use crate::demux::negotiation::{KEY_LEN, Keying};
use crate::error::{Error, Result};
use hqq_features::encrypt::{Cipher, EncryptError, HEADER, Handshake, Key, Session, SessionSettings};

/// Random bytes of the kernel, for keys: what [`Key::generate`] and the others of `hqq::features::encrypt` take.
///
/// # Errors
/// [`EncryptError::NoEntropy`] if the kernel has none.
pub fn entropy(into: &mut [u8]) -> Result<(), EncryptError> {
    hqq_sys::random::fill(into).map_err(|_| EncryptError::NoEntropy)
}

/// Sealing and opening.
pub(crate) struct Encryption {
    session: Session,
    /// Ciphertext is made here, before it is copied into the region.
    scratch: Mutex<Vec<Vec<u8>>>,
    /// Held by who puts a message into the ring, so that none falls behind while it is looked at.
    order: Mutex<()>,
    /// So many may be sealed after one and sent before it.
    leeway: u64,
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption").finish_non_exhaustive()
    }
}

fn refused(error: EncryptError) -> Error {
    Error::Frame { layer: "encryption", reason: error.to_string() }
}

impl Encryption {
    /// Bytes ahead of the ciphertext.
    pub(super) const HEADER: usize = HEADER;

    fn new(session: Session, window: u32) -> Self {
        let (scratch, order) = Default::default();
        Self { session, scratch, order, leeway: u64::from(window) / 2 }
    }

    /// The layers of a connection, with keys of its own. Its messages are sealed in the order in which they are sent.
    pub(super) fn of_connection(&self, id: u64, compression: Option<Arc<Compression>>) -> Pipeline {
        Pipeline::Encrypted(Box::new(Self::new(self.session.of_connection(id), 0)), compression)
    }

    /// Lets `send` send what was sealed with this counter, unless so much was sealed since that it would come too late.
    pub(super) fn send_in_order<T>(&self, counter: u64, send: impl FnOnce() -> T) -> Option<T> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        (self.session.sealer.sealed_since(counter) <= self.leeway).then(send)
    }

    /// Puts header and ciphertext of a message into `into`, which is as long as both and may be shared. Its counter.
    pub(super) fn seal(&self, message: &[u8], context: &[u8; 16], into: &mut [u8]) -> Result<u64> {
        let mut scratch = self.scratches().pop().unwrap_or_default();
        let sealed = self.session.sealer.seal_copy_into(message, context, &mut scratch, into);
        self.scratches().push(scratch);
        sealed.map_err(refused)
    }

    /// Header and ciphertext of a message.
    pub(super) fn sealed(&self, message: &[u8], context: &[u8; 16]) -> Result<Vec<u8>> {
        let mut frame = Vec::with_capacity(HEADER + message.len());
        frame.extend_from_slice(&[0; HEADER]);
        frame.extend_from_slice(message);
        let header = self.session.sealer.seal(&mut frame[HEADER..], context).map_err(refused)?;
        frame[..HEADER].copy_from_slice(&header);
        Ok(frame)
    }

    fn scratches(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens what came, in private memory.
    pub(super) fn open(&self, framed: &[u8], context: &[u8; 16]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.session.opener.open(framed, context, &mut bytes).map_err(refused)?;
        Ok(bytes)
    }
}

/// The making of keys, seen by the negotiation that drives it and by the link that waits for it.
#[derive(Clone)]
pub(super) struct Keys(Arc<Mutex<Making>>);

struct Making {
    key: Arc<Key>,
    settings: SessionSettings,
    handshake: Option<Handshake>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// For a ring of so many slots, of messages of which so many may be received and not opened.
    pub(super) fn new(key: Arc<Key>, slots: u32, kept: u32) -> Self {
        let usual = SessionSettings::default();
        // A message is no further behind another than the ring is long, and half the window beside: `send_in_order`.
        let settings =
            SessionSettings { window: usual.window.max(2 * slots).min(SessionSettings::MAX_WINDOW), ..usual };
        let rekey_every = usual.rekey_every.max(u64::from(settings.window.div_ceil(64)));
        // The window is each end's own affair, but for what the keys of both allow.
        let most = u64::from(SessionSettings::MAX_WINDOW).min(64 * rekey_every) as u32;
        let window = settings.window.max(kept.saturating_mul(2)).min(most);
        let settings = SessionSettings { window, rekey_every, ..settings };
        Self(Arc::new(Mutex::new(Making { key, settings, handshake: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Making> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came of it.
    pub(super) fn finish(&self) -> Option<Encryption> {
        let mut making = self.lock();
        let session = making.handshake.take()?.finish().ok()?;
        Some(Encryption::new(session, making.settings.window))
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
