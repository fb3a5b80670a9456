//! The source of random bytes.

use super::error::EncryptError;

/// Fills a slice with random bytes that nobody can predict, or fails with [`EncryptError::NoEntropy`]. This crate makes no
/// system calls, so the caller brings the source; `hqq::advanced::entropy` is the kernel's.
pub type Entropy = fn(&mut [u8]) -> Result<(), EncryptError>;
