//! A bare ring for any number of senders and receivers.

use std::io;
use std::os::fd::BorrowedFd;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::{LINE, PAUSES, SLOTS, count_poll, sealed};
use crate::mem::Mapping;

/// One end of the ring. Each message moves one cache line: a stamp and up to 56 bytes of payload. As in HQQ's ring,
/// the stamp has the state of the slot: one compare-exchange claims it, and one takes it. Each end has a private
/// position. With `FENCE`, a full fence follows each message, as a sender needs before it checks for sleeping
/// receivers.
#[derive(Debug)]
pub struct Mpmc<const FENCE: bool> {
    memory: Mapping,
    position: u64,
}

impl<const FENCE: bool> Mpmc<FENCE> {
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
        let (stamp, payload, free) = self.hold(0)?;
        // SAFETY: the rest of the slot's line, which the stamp reserves for this end.
        fill(unsafe { slice::from_raw_parts_mut(payload, LINE - 8) });
        stamp.store(free + 2, Ordering::Release);
        if FENCE {
            fence(Ordering::SeqCst);
        }
        Ok(())
    }

    /// Waits for the next message, and lets `read` read its 56 bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if none comes for some seconds.
    #[inline(always)]
    pub fn recv<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let (stamp, payload, free) = self.hold(2)?;
        // SAFETY: the rest of the slot's line, which the stamp reserves for this end.
        let seen = read(unsafe { slice::from_raw_parts(payload, LINE - 8) });
        stamp.store(free + 4, Ordering::Release);
        Ok(seen)
    }

    /// Waits for the next slot that is free (`state` 0) or published (2), and changes it to claimed (1) or taken (3).
    /// Returns its stamp, its payload, and the stamp's value when it was free.
    #[inline(always)]
    fn hold(&mut self, state: u64) -> io::Result<(&AtomicU64, *mut u8, u64)> {
        let mut polls = 0;
        // A receiver loads first: an exchange would take the line away from a sender that is writing to it.
        let mut look = state != 0;
        loop {
            let at = (self.position % SLOTS) as usize * LINE;
            let free = 4 * (self.position / SLOTS);
            // SAFETY: one of the lines of the mapping, which is writable, sealed and lives as long as `self`.
            let line = unsafe { self.memory.base().as_ptr().add(at) };
            // SAFETY: as above.
            let (stamp, payload) = unsafe { (AtomicU64::from_ptr(line.cast()), line.add(8)) };
            let due = free + state;
            let found = if look { stamp.load(Ordering::Acquire) } else { due };
            let held = found == due
                && stamp.compare_exchange(due, due + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if held {
                self.position += 1;
                return Ok((stamp, payload, free));
            }
            look = true;
            if found > due {
                self.position += 1; // another end has it
            } else if found < due {
                (0..PAUSES).for_each(|_| std::hint::spin_loop());
                count_poll(&mut polls)?;
            }
        }
    }
}
