//! Waking a thread of this process that sleeps in [`crate::poll::wait`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, retry_on_intr, write};

use crate::fd::clear_of_streams;

/// A flag that a sleeping thread can wait for: a non-blocking `eventfd`.
///
/// It is set, and its descriptor readable, from [`Event::signal`] to [`Event::clear`]. Several signals have the
/// effect of one.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event = hqq_sys::event::Event::new()?;
/// event.signal()?;
/// event.signal()?;
/// assert!(event.clear()?);
/// assert!(!event.clear()?);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    /// Creates an event that is not set.
    ///
    /// # Errors
    /// The kernel's, when descriptors or memory have run out.
    pub fn new() -> io::Result<Self> {
        Ok(Self(clear_of_streams(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)?))
    }

    /// Sets the event and wakes the threads that poll it. Does nothing if it is set already.
    ///
    /// # Errors
    /// The kernel's; none are expected.
    pub fn signal(&self) -> io::Result<()> {
        match retry_on_intr(|| write(&self.0, &1u64.to_ne_bytes())) {
            // The counter is full, so the flag is set.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Clears the event. Returns whether it was set.
    ///
    /// # Errors
    /// The kernel's; none are expected.
    pub fn clear(&self) -> io::Result<bool> {
        let mut count = [0u8; 8];
        match retry_on_intr(|| read(&self.0, &mut count)) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_merge_and_clear_resets() {
        let event = Event::new().unwrap();
        assert!(!event.clear().unwrap());
        for _ in 0..1000 {
            event.signal().unwrap();
        }
        assert!(event.clear().unwrap());
        assert!(!event.clear().unwrap());
    }

    #[test]
    fn a_full_counter_neither_blocks_nor_fails() {
        let event = Event::new().unwrap();
        write(&event.0, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        event.signal().unwrap();
        assert!(event.clear().unwrap());
    }
}
