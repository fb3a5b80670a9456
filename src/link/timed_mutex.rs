//! Layer 3: a value that one thread at a time works with, perhaps for long, while others can give up waiting for it.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A mutex for calls that may block while they hold it: others wait their turn no longer than they like.
#[derive(Debug)]
pub(crate) struct TimedMutex<T> {
    home: Mutex<Home<T>>,
    back: Condvar,
}

#[derive(Debug)]
struct Home<T> {
    /// The value, unless somebody has it.
    value: Option<T>,
    /// Threads that wait for it. Without them nobody is notified: that is a system call each time.
    waiting: usize,
}

/// When a thread gives up waiting for its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// At once.
    None,
    /// Then; never if there is no such time.
    Until(Option<Instant>),
}

impl<T> TimedMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { home: Mutex::new(Home { value: Some(value), waiting: 0 }), back: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Home<T>> {
        // The lock is only ever held to take the value or put it back.
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the value when it is there; `None` if it was not in time.
    pub(crate) fn take(&self, patience: Patience) -> Option<TimedGuard<'_, T>> {
        let mut home = self.lock();
        if home.value.is_none() {
            let until = match patience {
                Patience::None => return None,
                Patience::Until(until) => until,
            };
            home.waiting += 1;
            while home.value.is_none() {
                home = match until {
                    None => self.back.wait(home).unwrap_or_else(PoisonError::into_inner),
                    Some(at) => {
                        let left = at.saturating_duration_since(Instant::now());
                        if left.is_zero() {
                            break;
                        }
                        self.back.wait_timeout(home, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
            }
            home.waiting -= 1;
        }
        home.value.take().map(|value| TimedGuard { turn: self, value: Some(value) })
    }
}

/// The value of a [`TimedMutex`], until it is dropped.
#[derive(Debug)]
pub(crate) struct TimedGuard<'t, T> {
    turn: &'t TimedMutex<T>,
    value: Option<T>,
}

impl<T> Deref for TimedGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("held until dropped")
    }
}

impl<T> DerefMut for TimedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("held until dropped")
    }
}

impl<T> Drop for TimedGuard<'_, T> {
    fn drop(&mut self) {
        let mut home = self.turn.lock();
        home.value = self.value.take();
        let anybody = home.waiting > 0;
        drop(home);
        if anybody {
            self.turn.back.notify_one();
        }
    }
}
