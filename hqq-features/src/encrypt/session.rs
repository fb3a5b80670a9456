//! The two directions of a session: sealing with counters that never repeat, and opening each counter once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chacha20poly1305::aead::inout::InOutBuf;
use zeroize::Zeroize;

use super::aead::{Aead, TAG};
use super::error::EncryptError;
use super::limits::{COUNTERS, HEADER, MAX_EPOCHS_AHEAD, MAX_MESSAGE};
use super::settings::SessionSettings;
use super::window::Window;

/// The keys of both directions, which a handshake results in. They are in private memory only, and are wiped when they
/// are dropped or replaced.
pub struct Session {
    /// Seals the messages that are sent.
    pub sealer: Sealer,
    /// Opens the messages that are received.
    pub opener: Opener,
    roots: Roots,
    settings: SessionSettings,
}

/// The width of the window of a connection, whose messages arrive in order.
const CONNECTION_WINDOW: u32 = 64;

/// Messages of a connection under one key: more than on a link, because messages that are sealed and then not sent in
/// time leave long gaps.
const CONNECTION_REKEY_EVERY: u64 = 1 << 18;

/// The root keys of both directions, from which the keys of connections are derived.
struct Roots {
    ours: Aead,
    theirs: Aead,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sealer, opener, .. } = self;
        f.debug_struct("Session").field("sealer", sealer).field("opener", opener).finish()
    }
}

impl Session {
    pub(super) fn new(ours: Aead, theirs: Aead, settings: SessionSettings) -> Self {
        let roots = Roots { ours: ours.root(), theirs: theirs.root() };
        let sealer = Sealer {
            state: Mutex::new(SealerState { next: 0, epoch: 0, key: Arc::new(ours) }),
            rekey_every: settings.rekey_every,
        };
        let opener = Opener {
            state: Mutex::new(OpenerState {
                window: Window::new(if settings.strict { 0 } else { settings.window }),
                first: 0,
                keys: VecDeque::from([Arc::new(theirs)]),
            }),
            rekey_every: settings.rekey_every,
        };
        Self { sealer, opener, roots, settings }
    }

    /// The session of the logical connection `id`, with its own keys and counters: a message on one connection may be
    /// delayed while any number passes on others. Both ends derive the same session, each once for each `id`: a second
    /// session would repeat the counters of the first.
    ///
    /// While this session exists, the first keys of the connection can be derived again.
    ///
    /// ```
    /// # use hqq_features::encrypt::{Cipher, EncryptError, Handshake, Key, SessionSettings};
    /// # fn entropy(into: &mut [u8]) -> Result<(), hqq_features::encrypt::EncryptError> {
    /// #     getrandom::fill(into).map_err(|_| hqq_features::encrypt::EncryptError::NoEntropy)
    /// # }
    /// # let key = Key::generate(entropy)?;
    /// # let handshake = |initiator| {
    /// #     Handshake::new(&key, initiator, Cipher::ChaCha20Poly1305, SessionSettings::default(), b"", entropy)
    /// # };
    /// # let (mut ours, mut theirs) = (handshake(true)?, handshake(false)?);
    /// # theirs.read(&ours.write()?)?;
    /// # ours.read(&theirs.write()?)?;
    /// # let (ours, theirs) = (ours.finish()?, theirs.finish()?);
    /// let mut message = *b"on connection 3";
    /// let header = ours.of_connection(3).sealer.seal(&mut message, b"ad")?;
    /// let elsewhere = theirs.of_connection(5);
    /// let refused = elsewhere.opener.open_in_place(&header, &mut message.clone(), b"ad");
    /// assert_eq!(refused, Err(EncryptError::Forged { counter: 0 }));
    /// theirs.of_connection(3).opener.open_in_place(&header, &mut message, b"ad")?;
    /// assert_eq!(&message, b"on connection 3");
    /// # Ok::<(), EncryptError>(())
    /// ```
    #[must_use]
    pub fn of_connection(&self, id: u64) -> Self {
        let Roots { ours, theirs } = &self.roots;
        let settings = SessionSettings {
            window: CONNECTION_WINDOW,
            rekey_every: CONNECTION_REKEY_EVERY,
            ..self.settings
        };
        Self::new(ours.of_connection(id), theirs.of_connection(id), settings)
    }
}

/// Seals the messages of one direction. Threads share it.
///
/// Each message uses the next counter, whether it is sent afterwards or not. Seal only messages that are going to be
/// sent: the opener refuses all messages after a gap of [`MAX_EPOCHS_AHEAD`] epochs, and after any gap if it is strict.
pub struct Sealer {
    pub(super) state: Mutex<SealerState>,
    rekey_every: u64,
}

pub(super) struct SealerState {
    /// The counter of the next message.
    pub(super) next: u64,
    /// The epoch of `key`.
    pub(super) epoch: u64,
    pub(super) key: Arc<Aead>,
}

impl Sealer {
    /// Seals `message` in place, in private memory, and returns the header to send before it: 8 bytes of counter and 16
    /// bytes of tag. The associated data `ad` is authenticated and not sent: the opcode of the message, for instance.
    ///
    /// The counter is the nonce, so it is authenticated too.
    ///
    /// # Errors
    ///
    /// [`EncryptError::Exhausted`] and [`EncryptError::TooLong`]; then the message is unchanged.
    pub fn seal(&self, message: &mut [u8], ad: &[u8]) -> Result<[u8; HEADER], EncryptError> {
        self.seal_buffer(message.into(), ad)
    }

    /// Seals `message` in place, in private memory, then copies header and ciphertext to `into`, which may be shared
    /// memory: only ciphertext is written to it, and nothing is read from it.
    ///
    /// ```
    /// # use hqq_features::encrypt::{Cipher, EncryptError, HEADER, Handshake, Key, SessionSettings};
    /// # fn entropy(into: &mut [u8]) -> Result<(), hqq_features::encrypt::EncryptError> {
    /// #     getrandom::fill(into).map_err(|_| hqq_features::encrypt::EncryptError::NoEntropy)
    /// # }
    /// # let key = Key::generate(entropy)?;
    /// # let handshake = |initiator| {
    /// #     Handshake::new(&key, initiator, Cipher::Aes256Gcm, SessionSettings::default(), b"", entropy)
    /// # };
    /// # let (mut ours, mut theirs) = (handshake(true)?, handshake(false)?);
    /// # theirs.read(&ours.write()?)?;
    /// # ours.read(&theirs.write()?)?;
    /// # let (ours, theirs) = (ours.finish()?, theirs.finish()?);
    /// let mut message = *b"a loan, filled";
    /// let mut shared = [0; HEADER + 14];
    /// ours.sealer.seal_into(&mut message, b"ad", &mut shared)?;
    ///
    /// let mut opened = Vec::new();
    /// theirs.opener.open(&shared, b"ad", &mut opened)?;
    /// assert_eq!(opened, b"a loan, filled");
    /// assert_eq!(theirs.opener.open(&shared, b"ad", &mut opened), Err(EncryptError::Replayed { counter: 0 }));
    /// # Ok::<(), EncryptError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`seal`](Self::seal); [`EncryptError::Room`] unless `into` is exactly [`HEADER`] bytes longer than the message.
    /// Then nothing is written, and the message is unchanged.
    pub fn seal_into(&self, message: &mut [u8], ad: &[u8], into: &mut [u8]) -> Result<(), EncryptError> {
        check_room(message.len(), into.len())?;
        let header = self.seal(message, ad)?;
        fill(into, &header, message);
        Ok(())
    }

    /// Seals `message` without changing it, and returns its counter. The ciphertext is made in `scratch`, private memory
    /// for reuse, and copied to `into` as by [`seal_into`](Self::seal_into).
    ///
    /// # Errors
    ///
    /// As [`seal_into`](Self::seal_into).
    pub fn seal_copy_into(
        &self,
        message: &[u8],
        ad: &[u8],
        scratch: &mut Vec<u8>,
        into: &mut [u8],
    ) -> Result<u64, EncryptError> {
        check_room(message.len(), into.len())?;
        check_len(message.len())?;
        scratch.resize(message.len(), 0);
        let too_long = EncryptError::TooLong { have: message.len(), limit: MAX_MESSAGE };
        let buffer = InOutBuf::new(message, scratch).map_err(|_| too_long)?;
        let header = self.seal_buffer(buffer, ad)?;
        fill(into, &header, scratch);
        let mut counter = [0; 8];
        counter.copy_from_slice(&header[..8]);
        Ok(u64::from_le_bytes(counter))
    }

    /// How many messages were sealed after the one with the counter `counter`.
    pub fn sealed_since(&self, counter: u64) -> u64 {
        self.lock().next.saturating_sub(counter).saturating_sub(1)
    }

    fn seal_buffer(&self, buffer: InOutBuf<'_, '_, u8>, ad: &[u8]) -> Result<[u8; HEADER], EncryptError> {
        let have = buffer.len();
        check_len(have)?;
        let (counter, key) = self.next_counter()?;
        let tag = key.seal(counter, ad, buffer).ok_or(EncryptError::TooLong { have, limit: MAX_MESSAGE })?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&counter.to_le_bytes());
        header[8..].copy_from_slice(&tag);
        Ok(header)
    }

    /// A counter that is used only once, and its key.
    fn next_counter(&self) -> Result<(u64, Arc<Aead>), EncryptError> {
        let mut state = self.lock();
        let counter = state.next;
        if counter >= COUNTERS {
            return Err(EncryptError::Exhausted { limit: COUNTERS });
        }
        let epoch = counter / self.rekey_every;
        if epoch != state.epoch {
            // Counters advance by one, so this is the next epoch. The old key is wiped after the last thread has sealed
            // with it.
            state.key = Arc::new(state.key.next());
            state.epoch = epoch;
        }
        state.next = counter + 1;
        Ok((counter, Arc::clone(&state.key)))
    }

    fn lock(&self) -> MutexGuard<'_, SealerState> {
        // No code panics while it holds the lock, so a poisoned lock still guards a valid state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("next", &self.lock().next).finish_non_exhaustive()
    }
}

/// Opens the messages of one direction. Threads share it.
pub struct Opener {
    pub(super) state: Mutex<OpenerState>,
    rekey_every: u64,
}

pub(super) struct OpenerState {
    pub(super) window: Window,
    /// The epoch of the first of `keys`.
    pub(super) first: u64,
    /// The keys of all epochs from which a message may still be accepted, up to the newest one.
    pub(super) keys: VecDeque<Arc<Aead>>,
}

/// A message whose counter passed the first check.
struct Screened {
    counter: u64,
    tag: [u8; TAG],
    key: Arc<Aead>,
    /// The newest epoch with a key.
    newest: u64,
    /// The keys of the epochs after it, up to that of the message.
    ahead: Vec<Arc<Aead>>,
}

impl Opener {
    /// Opens the message `framed`, header and ciphertext, into private memory. `framed` may be shared memory: it is copied
    /// before it is checked. Afterwards `into` contains exactly the plaintext; it can be reused.
    ///
    /// # Errors
    ///
    /// The reason for which the message is refused. Then `into` is empty and its memory wiped. After
    /// [`EncryptError::Forged`] end the link: a third party has written to it.
    pub fn open(&self, framed: &[u8], ad: &[u8], into: &mut Vec<u8>) -> Result<(), EncryptError> {
        let opened = self.open_copy(framed, ad, into);
        if opened.is_err() {
            into.zeroize();
        }
        opened
    }

    fn open_copy(&self, framed: &[u8], ad: &[u8], into: &mut Vec<u8>) -> Result<(), EncryptError> {
        let Some((header, ciphertext)) = framed.split_first_chunk::<HEADER>() else {
            return Err(EncryptError::TooShort { have: framed.len(), need: HEADER });
        };
        let screened = self.screen(header, ciphertext.len())?;
        if into.capacity() < ciphertext.len() {
            // Growth would leave a copy of the last message.
            into.zeroize();
        }
        into.clear();
        into.extend_from_slice(ciphertext);
        self.open_screened(screened, into, ad)
    }

    /// Opens `message` in place, in private memory, given its `header`.
    ///
    /// # Errors
    ///
    /// The reason for which the message is refused. Then it is wiped.
    pub fn open_in_place(
        &self,
        header: &[u8; HEADER],
        message: &mut [u8],
        ad: &[u8],
    ) -> Result<(), EncryptError> {
        let screened = self.screen(header, message.len());
        let opened = screened.and_then(|screened| self.open_screened(screened, message, ad));
        if opened.is_err() {
            message.zeroize();
        }
        opened
    }

    fn screen(&self, header: &[u8; HEADER], len: usize) -> Result<Screened, EncryptError> {
        check_len(len)?;
        let (mut word, mut tag) = ([0; 8], [0; TAG]);
        word.copy_from_slice(&header[..8]);
        tag.copy_from_slice(&header[8..]);
        let counter = u64::from_le_bytes(word);
        let epoch = counter / self.rekey_every;

        let state = self.lock();
        state.window.check(counter)?;
        let newest = state.first + state.keys.len() as u64 - 1;
        let limit = (newest + MAX_EPOCHS_AHEAD + 1).saturating_mul(self.rekey_every).min(COUNTERS);
        if counter >= limit {
            return Err(EncryptError::AheadOfKeys { counter, limit });
        }
        let too_old = EncryptError::TooOld { counter, oldest: state.window.oldest() };
        let index = epoch.checked_sub(state.first).ok_or(too_old)?;
        let index = index.min(state.keys.len() as u64 - 1);
        let mut key = Arc::clone(&state.keys[index as usize]);
        drop(state);

        let mut ahead = Vec::new();
        for _ in newest..epoch {
            key = Arc::new(key.next());
            ahead.push(Arc::clone(&key));
        }
        Ok(Screened { counter, tag, key, newest, ahead })
    }

    fn open_screened(&self, screened: Screened, message: &mut [u8], ad: &[u8]) -> Result<(), EncryptError> {
        let Screened { counter, tag, key, newest, ahead } = screened;
        if !key.open(counter, ad, message, &tag) {
            return Err(EncryptError::Forged { counter });
        }
        let mut state = self.lock();
        state.window.accept(counter)?;
        for (epoch, key) in (newest + 1..).zip(ahead) {
            // Another thread may have added it.
            if epoch == state.first + state.keys.len() as u64 {
                state.keys.push_back(key);
            }
        }
        let oldest = state.window.oldest() / self.rekey_every;
        while state.first < oldest && state.keys.len() > 1 {
            state.keys.pop_front();
            state.first += 1;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, OpenerState> {
        // No code panics while it holds the lock, so a poisoned lock still guards a valid state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Opener")
            .field("oldest", &state.window.oldest())
            .field("keys", &state.keys.len())
            .finish_non_exhaustive()
    }
}

fn check_len(have: usize) -> Result<(), EncryptError> {
    let limit = MAX_MESSAGE;
    if have > limit { Err(EncryptError::TooLong { have, limit }) } else { Ok(()) }
}

fn check_room(message: usize, have: usize) -> Result<(), EncryptError> {
    let need = message.saturating_add(HEADER);
    if have == need { Ok(()) } else { Err(EncryptError::Room { have, need }) }
}

fn fill(into: &mut [u8], header: &[u8; HEADER], ciphertext: &[u8]) {
    let (ahead, rest) = into.split_at_mut(HEADER);
    ahead.copy_from_slice(header);
    rest.copy_from_slice(ciphertext);
}
