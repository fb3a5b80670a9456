//! A bare ring between one sender and one receiver.

use std::io;
use std::os::fd::BorrowedFd;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::{LINE, PAUSES, SLOTS, count_poll, sealed};
use crate::mem::Mapping;

/// One end of the ring. Each message moves one cache line: a stamp and up to 56 bytes of payload. Each end has a
/// private position, and there is no atomic read-modify-write. With `FENCE`, a full fence follows each message, as a
/// sender needs before it checks for a sleeping receiver.
#[derive(Debug)]
pub struct Spsc<const FENCE: bool> {
    memory: Mapping,
    position: u64,
}

impl<const FENCE: bool> Spsc<FENCE> {
    /// Maps an end of the ring in `memfd`, zeroed memory of [`RING`](super::RING) bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] unless it is a sealed memfd of at least that size; those of [`Mapping::map`].
    pub fn new(memfd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { memory: Mapping::map(sealed(memfd)?, super::RING as usize)?, position: 0 })
    }

    /// Waits for a free slot, lets `fill` write its 56 bytes, and sends it.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if no slot is free for some seconds.
    #[inline(always)]
    pub fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let (stamp, payload, lap) = self.slot();
        let mut polls = 0;
        while stamp.load(Ordering::Acquire) != 2 * lap {
            (0..PAUSES).for_each(|_| std::hint::spin_loop());
            count_poll(&mut polls)?;
        }
        // SAFETY: the rest of the slot's line; its stamp shows that the receiver does not use it any more.
        fill(unsafe { slice::from_raw_parts_mut(payload, LINE - 8) });
        stamp.store(2 * lap + 1, Ordering::Release);
        if FENCE {
            fence(Ordering::SeqCst);
        }
        self.position += 1;
        Ok(())
    }

    /// Waits for the next message, and lets `read` read its 56 bytes.
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
        // SAFETY: the rest of the slot's line; its stamp shows that the sender does not use it any more.
        let seen = read(unsafe { slice::from_raw_parts(payload, LINE - 8) });
        stamp.store(2 * (lap + 1), Ordering::Release);
        self.position += 1;
        Ok(seen)
    }

    /// Stamp, payload and lap of the slot at this end's position.
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
