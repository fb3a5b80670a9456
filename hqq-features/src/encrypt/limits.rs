//! Lengths and limits of encrypted messages.

/// Bytes of the header of an encrypted message: 8 of the counter, 16 of the tag.
pub const HEADER: usize = 24;

/// Bytes of each of the two messages of a handshake: a public key and a tag.
pub const HANDSHAKE: usize = 48;

/// The most bytes of a message: the limit of AES-GCM, which is the lower one, or of the address space where that is
/// smaller.
pub const MAX_MESSAGE: usize = {
    let limit: u64 = (1 << 36) - 32;
    if limit > usize::MAX as u64 { usize::MAX } else { limit as usize }
};

/// The most epochs between the newest key of an opener and the next message. Keys are computed one by one, so this
/// bounds the work for a forged counter. It is more than one because messages that were sealed and not sent leave gaps.
pub const MAX_EPOCHS_AHEAD: u64 = 256;

/// The number of counters of a direction. Noise allows 2^64 - 1; this many leave room to calculate, and last for a
/// century at a thousand million messages per second.
pub const COUNTERS: u64 = 1 << 62;
