//! Round trips that move the cache lines of a message, and no others.

use std::io;
use std::os::fd::BorrowedFd;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{count_poll, sealed};
use crate::mem::Mapping;

/// Maximum size of a payload in the line of the stamp, bytes.
const INLINE: usize = 56;
/// Number of places that longer payloads use in turn. With one place, writing 64 KiB takes a third longer, because
/// the lines come directly from the other processor. More than two do not help.
const PLACES: usize = 2;
/// Distance from the stamp to a longer payload, bytes. Each direction has a multiple of it.
const PAGE: usize = 4096;

/// One end of the exchange. In each direction it moves one line with a stamp and up to 56 bytes of payload, or the
/// lines of a longer payload and then that of the stamp.
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
    /// Size of the memory for payloads of `size` bytes, bytes.
    pub fn memory(size: usize) -> u64 {
        2 * direction_len(size) as u64
    }

    /// Maps an end in `memfd` for payloads of `size` bytes. `leads` differs between the two ends.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] unless it is a sealed memfd of [`memory`](Self::memory) bytes; those of
    /// [`Mapping::map`].
    pub fn new(memfd: BorrowedFd<'_>, size: usize, leads: bool) -> io::Result<Self> {
        let memory = Mapping::map(sealed(memfd)?, 2 * direction_len(size))?;
        let (outgoing, incoming) = if leads { (0, direction_len(size)) } else { (direction_len(size), 0) };
        Ok(Self { memory, size, outgoing, incoming, sent: 0, received: 0 })
    }

    /// Lets `fill` write the payload, and sends it. The other end must have received the message before.
    #[inline(always)]
    pub fn send(&mut self, fill: impl FnOnce(&mut [u8])) {
        self.sent += 1;
        let (stamp, payload) = self.place(self.outgoing, self.sent);
        // SAFETY: within the mapping, see `place`; the other end reads it only between the stamp's store below and its
        // answer.
        fill(unsafe { slice::from_raw_parts_mut(payload, self.size) });
        stamp.store(self.sent, Ordering::Release);
    }

    /// Waits for the next message, and lets `read` read its payload.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if none comes for some seconds.
    #[inline(always)]
    pub fn recv<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        self.received += 1;
        let (stamp, payload) = self.place(self.incoming, self.received);
        let mut polls = 0;
        while stamp.load(Ordering::Acquire) != self.received {
            std::hint::spin_loop();
            count_poll(&mut polls)?;
        }
        // SAFETY: within the mapping, see `place`; the other end writes it again only after this one has sent.
        Ok(read(unsafe { slice::from_raw_parts(payload, self.size) }))
    }

    /// Stamp and payload of message `number` of the direction at offset `at`.
    #[inline(always)]
    fn place(&self, at: usize, number: u64) -> (&AtomicU64, *mut u8) {
        let place = number as usize % PLACES * self.size.next_multiple_of(PAGE);
        let within = if self.size <= INLINE { 8 } else { PAGE + place };
        // SAFETY: `new` mapped room for both directions: each has a stamp at its start, and the payload either in the
        // stamp's line or one page later, at one of two places. The mapping is writable, sealed and lives as long as
        // `self`.
        unsafe {
            let line = self.memory.base().as_ptr().add(at);
            (AtomicU64::from_ptr(line.cast()), line.add(within))
        }
    }
}

/// Size of one direction, bytes: a page for the stamp, and the places for longer payloads.
fn direction_len(size: usize) -> usize {
    PAGE + if size <= INLINE { 0 } else { PLACES * size.next_multiple_of(PAGE) }
}
