//! Loads from memory that may be mapped read-only.

use crate::sync::{AtomicU64, Ordering};

/// Loads a word with relaxed ordering: the language allows no other atomic load of memory that is mapped for reading
/// only.
pub(super) fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}
