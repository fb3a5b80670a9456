//! How an observer reads a word.

use crate::sync::{AtomicU64, Ordering};

/// Loads a word with relaxed ordering: the language allows no other atomic load of memory that is mapped for reading only.
pub(super) fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}
