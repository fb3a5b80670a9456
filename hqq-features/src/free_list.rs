//! Values that are used again: codecs and buffers that are costly to make.

use std::sync::{Mutex, PoisonError};

/// Values that are free to be used. It grows to as many as threads use at a time.
pub(crate) struct FreeList<T>(Mutex<Vec<T>>);

impl<T> Default for FreeList<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> FreeList<T> {
    /// Calls `act` with a free value, or with one that `make` makes, and keeps the value for the next call.
    pub(crate) fn with<R>(&self, make: impl FnOnce() -> T, act: impl FnOnce(&mut T) -> R) -> R {
        // Nothing panics while it holds the lock; a poisoned one holds a sound list.
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut value = free.unwrap_or_else(make);
        let done = act(&mut value);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(value);
        done
    }
}
