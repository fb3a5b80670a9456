//! A mutex for calls that may block for long while they hold it: others give up waiting for it when their time is up.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::deadline::Wait;

/// A mutex whose [`lock`](Self::lock) can time out.
#[derive(Debug)]
pub(crate) struct TimedMutex<T> {
    state: Mutex<State<T>>,
    unlocked: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// The value, unless a guard has it.
    value: Option<T>,
    /// Threads that wait for the value. Without any, unlocking makes no system call.
    waiting: usize,
}

impl<T> TimedMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { state: Mutex::new(State { value: Some(value), waiting: 0 }), unlocked: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // It is only ever locked to move the value in or out, which cannot panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks it; `None` if that was not possible in time.
    pub(crate) fn lock(&self, wait: Wait) -> Option<TimedGuard<'_, T>> {
        let mut state = self.state();
        if state.value.is_none() && wait != Wait::No {
            state.waiting += 1;
            while state.value.is_none() {
                state = match wait.left() {
                    None => self.unlocked.wait(state).unwrap_or_else(PoisonError::into_inner),
                    Some(left) if left.is_zero() => break,
                    Some(left) => {
                        self.unlocked.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
            }
            state.waiting -= 1;
        }
        state.value.take().map(|value| TimedGuard { mutex: self, value: Some(value) })
    }
}

/// The value of a [`TimedMutex`], which is unlocked when this is dropped.
#[derive(Debug)]
pub(crate) struct TimedGuard<'t, T> {
    mutex: &'t TimedMutex<T>,
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
        let mut state = self.mutex.state();
        state.value = self.value.take();
        let awaited = state.waiting > 0;
        drop(state);
        if awaited {
            self.mutex.unlocked.notify_one();
        }
    }
}
