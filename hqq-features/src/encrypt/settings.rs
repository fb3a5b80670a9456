//! The settings of a session.

use super::error::EncryptError;

/// Settings of a session.
///
/// ```
/// use hqq_features::encrypt::SessionSettings;
///
/// let settings = SessionSettings { window: 2 * 4096, ..SessionSettings::default() }; // twice the slots of the ring
/// assert_eq!((settings.rekey_every, settings.strict), (4096, false));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// Width of the replay window: how many messages before the highest counter are still accepted. It should be at least
    /// twice the slots of the ring. The default is 2048. The ends may differ.
    pub window: u32,
    /// Messages under one key. The default is 4096. The handshake fails if the ends differ.
    ///
    /// The default keeps AES-GCM within its bounds for any messages: 2^12 messages of 256 MiB are 2^36 blocks under one
    /// key, with which the advantage of an attacker in distinguishing the ciphertext from noise stays at the usual 2^-57
    /// (2^72 pairs of blocks against 2^129). ChaCha20-Poly1305 has no such limit. A new key costs about as much as a
    /// short message.
    pub rekey_every: u64,
    /// Accepts only the next counter. It is for links with one sending and one receiving thread that lose no messages:
    /// a message that was sealed and not sent ends the session.
    pub strict: bool,
}

impl SessionSettings {
    /// The widest window: four times the slots of the largest ring.
    pub const MAX_WINDOW: u32 = 1 << 22;

    /// The most messages under one key.
    pub const MAX_REKEY_EVERY: u64 = 1 << 32;

    pub(super) fn check(self) -> Result<(), EncryptError> {
        let (have, limit) = (self.window, Self::MAX_WINDOW);
        if have == 0 || have > limit {
            return Err(EncryptError::Window { have, limit });
        }
        // Bounds the keys that an opener keeps for its window.
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
