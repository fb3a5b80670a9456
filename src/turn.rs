//! Layer 3: a value that one thread at a time works with, perhaps for long, while others can give up waiting for it.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A mutex for calls that may block while they hold it: others wait their turn no longer than they like.
#[derive(Debug)]
pub(crate) struct Turn<T> {
    /// The value, unless somebody has it.
    home: Mutex<Option<T>>,
    back: Condvar,
}

/// When a thread gives up waiting for its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// At once.
    None,
    /// Then; never if there is no such time.
    Until(Option<Instant>),
}

impl<T> Turn<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { home: Mutex::new(Some(value)), back: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        // The lock is only ever held to take the value or put it back.
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the value when it is there; `None` if it was not in time.
    pub(crate) fn take(&self, patience: Patience) -> Option<Holding<'_, T>> {
        let mut home = self.lock();
        loop {
            if let Some(value) = home.take() {
                return Some(Holding { turn: self, value: Some(value) });
            }
            home = match patience {
                Patience::None => return None,
                Patience::Until(None) => self.back.wait(home).unwrap_or_else(PoisonError::into_inner),
                Patience::Until(Some(at)) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.back.wait_timeout(home, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// The value of a [`Turn`], until it is dropped.
#[derive(Debug)]
pub(crate) struct Holding<'t, T> {
    turn: &'t Turn<T>,
    value: Option<T>,
}

impl<T> Deref for Holding<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("held until dropped")
    }
}

impl<T> DerefMut for Holding<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("held until dropped")
    }
}

impl<T> Drop for Holding<'_, T> {
    fn drop(&mut self) {
        *self.turn.lock() = self.value.take();
        self.turn.back.notify_one();
    }
}
