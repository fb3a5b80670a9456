//! Lengths and limits of what is sealed.

/// Bytes ahead of the ciphertext: 8 of the counter, 16 of the tag.
pub const HEADER: usize = 24;

/// Bytes of each of the handshake's two messages: a public key and a tag.
pub const HANDSHAKE: usize = 48;

/// Bytes that a message may have: AES-GCM's limit, which is the lower one.
pub const MAX_MESSAGE: usize = (1 << 36) - 32;

/// Epochs that a message may be ahead of the newest key. Keys that follow are computed one by one, so this bounds
/// the work for a counter that somebody made up.
///
/// More than one, since a message that was sealed and could not be sent leaves a gap.
pub const MAX_EPOCHS_AHEAD: u64 = 256;

/// Counters that a direction has. All of Noise's would be 2^64 - 1; this many leave room to calculate, and last for
/// a century at a thousand million messages a second.
pub const COUNTERS: u64 = 1 << 62;
