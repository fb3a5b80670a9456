//! Round trips of as many cache lines as a message has.

use std::io;
use std::os::fd::BorrowedFd;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{count_poll, sealed};
use crate::mem::Mapping;

/// The payload that fits the stamp's line.
const INLINE: usize = 56;
/// Where longer payload lies in turn. Lines that come straight back are slower to write: by a third at 64 KiB; more places
/// than two do not help.
const PLACES: usize = 2;
/// From the stamp's line to the payload, and of that a multiple from one way to the other.
const PAGE: usize = 4096;

/// Moves, each way: one line with a stamp and up to 56 bytes of payload; or the lines of a longer payload and then the
/// stamp's. Lines that are not touched do not move.
#[derive(Debug)]
pub struct Ping {
    memory: Mapping,
    size: usize,
    /// Offset of the outgoing messages, bytes.
    outgoing: usize,
    /// Offset of the incoming messages, bytes.
    incoming: usize,
    sent: u64,
    received: u64,
}

impl Ping {
    /// Bytes of memory for payloads of `size` bytes.
    pub fn memory(size: usize) -> u64 {
        2 * direction_len(size) as u64
    }

    /// One end; the other has the other value of `leads`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] unless it is a sealed memfd of that many bytes; those of [`Mapping::map`].
    pub fn new(memfd: BorrowedFd<'_>, size: usize, leads: bool) -> io::Result<Self> {
        let memory = Mapping::map(sealed(memfd)?, 2 * direction_len(size))?;
        let (outgoing, incoming) = if leads { (0, direction_len(size)) } else { (direction_len(size), 0) };
        Ok(Self { memory, size, outgoing, incoming, sent: 0, received: 0 })
    }

    /// Sends what `fill` writes. The other end must have received what was sent before.
    #[inline(always)]
    pub fn send(&mut self, fill: impl FnOnce(&mut [u8])) {
        self.sent += 1;
        let (stamp, payload) = self.place(self.outgoing, self.sent);
        // SAFETY: within the mapping, see `way`; the other end reads it only between the stamp's store below and its
        // answer to that.
        fill(unsafe { slice::from_raw_parts_mut(payload, self.size) });
        stamp.store(self.sent, Ordering::Release);
    }

    /// Waits for what the other end sends, and lets `read` see it.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if nothing comes for some seconds.
    #[inline(always)]
    pub fn recv<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        self.received += 1;
        let (stamp, payload) = self.place(self.incoming, self.received);
        let mut polls = 0;
        while stamp.load(Ordering::Acquire) != self.received {
            std::hint::spin_loop();
            count_poll(&mut polls)?;
        }
        // SAFETY: within the mapping, see `way`; the other end writes it again only after this one has sent.
        Ok(read(unsafe { slice::from_raw_parts(payload, self.size) }))
    }

    /// The stamp and the payload of message `number` on a way.
    #[inline(always)]
    fn place(&self, at: usize, number: u64) -> (&AtomicU64, *mut u8) {
        let place = number as usize % PLACES * self.size.next_multiple_of(PAGE);
        let within = if self.size <= INLINE { 8 } else { PAGE + place };
        // SAFETY: `memory` and `new` made room for both ways: a stamp at the beginning of each, and the payload within
        // its line or one page on, at one of the places there. The mapping is writable, sealed and lives as long as `self`.
        unsafe {
            let line = self.memory.base().as_ptr().add(at);
            (AtomicU64::from_ptr(line.cast()), line.add(within))
        }
    }
}

/// Bytes from one way to the other: a page for the stamp, and those of the payload.
fn direction_len(size: usize) -> usize {
    PAGE + if size <= INLINE { 0 } else { PLACES * size.next_multiple_of(PAGE) }
}
