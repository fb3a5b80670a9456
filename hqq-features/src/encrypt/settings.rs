//! The settings of a session.

use super::error::EncryptError;

/// What can be chosen for a session.
///
/// ```
/// use hqq_features::encrypt::SessionSettings;
///
/// let settings = SessionSettings { window: 2 * 4096, ..SessionSettings::default() }; // twice the slots of the ring
/// assert_eq!((settings.rekey_every, settings.strict), (4096, false));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionSettings {
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

impl SessionSettings {
    /// The widest window: twice the slots of the largest ring, and as much again.
    pub const MAX_WINDOW: u32 = 1 << 22;

    /// The most messages under one key.
    pub const MAX_REKEY_EVERY: u64 = 1 << 32;

    pub(super) fn check(self) -> Result<(), EncryptError> {
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

impl Default for SessionSettings {
    fn default() -> Self {
        Self { window: 2048, rekey_every: 4096, strict: false }
    }
}
