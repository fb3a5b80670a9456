//! The source of random bytes.

use super::error::EncryptError;

/// A source of random bytes: fills a slice with unpredictable bytes, or fails with [`EncryptError::NoEntropy`]. This crate
/// makes no system calls, so the caller passes a source, such as `hqq::advanced::entropy`, which is the kernel's.
pub type Entropy = fn(&mut [u8]) -> Result<(), EncryptError>;
