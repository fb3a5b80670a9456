//! A bare ring between one sender and one receiver.

use std::io;
use std::os::fd::BorrowedFd;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::{LINE, PAUSES, SLOTS, count_poll, sealed};
use crate::mem::Mapping;

/// Moves one line for each message: a stamp and up to 56 bytes of payload. Each end keeps its position to itself; there is
/// no atomic read-modify-write. With `FENCE`, a full fence follows each message, as it must wherever the sender then looks
/// whether the receiver sleeps.
#[derive(Debug)]
pub struct Spsc<const FENCE: bool> {
    memory: Mapping,
    position: u64,
}

impl<const FENCE: bool> Spsc<FENCE> {
    /// One end, in zeroed memory of [`RING`](super::RING) bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] unless it is a sealed memfd of that many bytes; those of [`Mapping::map`].
    pub fn new(memfd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { memory: Mapping::map(sealed(memfd)?, super::RING as usize)?, position: 0 })
    }

    /// Sends what `fill` writes into the 56 bytes, once there is room.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if there is none for some seconds.
    #[inline(always)]
    pub fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let (stamp, payload, lap) = self.slot();
        let mut polls = 0;
        while stamp.load(Ordering::Acquire) != 2 * lap {
            (0..PAUSES).for_each(|_| std::hint::spin_loop());
            count_poll(&mut polls)?;
        }
        // SAFETY: the rest of the slot's line; by its stamp the receiver has done with it.
        fill(unsafe { slice::from_raw_parts_mut(payload, LINE - 8) });
        stamp.store(2 * lap + 1, Ordering::Release);
        if FENCE {
            fence(Ordering::SeqCst);
        }
        self.position += 1;
        Ok(())
    }

    /// Receives the next message: lets `read` see its 56 bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if none comes for some seconds.
    #[inline(always)]
    pub fn recv<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let (stamp, payload, lap) = self.slot();
        let mut polls = 0;
        while stamp.load(Ordering::Acquire) != 2 * lap + 1 {
            (0..PAUSES).for_each(|_| std::hint::spin_loop());
            count_poll(&mut polls)?;
        }
        // SAFETY: the rest of the slot's line; by its stamp the sender has done with it.
        let seen = read(unsafe { slice::from_raw_parts(payload, LINE - 8) });
        stamp.store(2 * (lap + 1), Ordering::Release);
        self.position += 1;
        Ok(seen)
    }

    /// The slot at this end's position: its stamp and payload, and the lap.
    #[inline(always)]
    fn slot(&self) -> (&AtomicU64, *mut u8, u64) {
        let at = (self.position % SLOTS) as usize * LINE;
        // SAFETY: one of the lines of the mapping, which is writable, sealed and lives as long as `self`.
        unsafe {
            let line = self.memory.base().as_ptr().add(at);
            (AtomicU64::from_ptr(line.cast()), line.add(8), self.position / SLOTS)
        }
    }
}
