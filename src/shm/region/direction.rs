//! Layer 2: the payload of one direction, and what is asked of the processor ahead of time: a line takes its time between
//! two of them, whoever waits for it.

use core::sync::atomic::AtomicPtr;

use crate::shm::buffer::Buffer;
use crate::shm::pool::Pool;
use crate::sync::{AtomicU64, Ordering};

/// How much of a message is fetched before its slot is released, bytes. A fence behind the release keeps later loads waiting;
/// beyond that the processor fetches ahead by itself.
const FETCHED: usize = 1024;

/// The payload of one direction, seen from one end of it.
#[derive(Debug)]
pub(crate) struct Direction<'a> {
    /// Who holds which buffer.
    pub(crate) pool: Pool<'a>,
    /// Where the payload begins. Changes only between two occupants of the other end.
    pub(super) payload: AtomicPtr<u8>,
    /// Payload bytes that this end sent or received through each slot.
    pub(crate) byte_counters: &'a [AtomicU64],
    /// What its buffers say of where they belong.
    pub(super) pool_id: usize,
}

impl Direction<'_> {
    /// Fetches what the next loan of one buffer needs: its word, and the first line of its payload.
    #[inline(always)]
    pub(crate) fn prefetch(&self, stride: u64) {
        let (index, word) = self.pool.next();
        prefetch(word);
        let payload = self.payload.load(Ordering::Relaxed);
        prefetch(payload.wrapping_add(index * stride as usize));
    }

    /// Fetches what the receiver of `len` bytes will read of a buffer.
    #[inline(always)]
    pub(crate) fn prefetch_message(&self, index: usize, stride: u64, len: usize) {
        let payload = self.payload.load(Ordering::Relaxed);
        let at = payload.wrapping_add(index * stride as usize);
        let mut offset = 0;
        while offset < len.min(FETCHED) {
            prefetch(at.wrapping_add(offset));
            offset += 64;
        }
    }

    /// Takes a buffer ahead of its loan, and fetches where its payload will be written.
    #[inline(always)]
    pub(crate) fn prepare(&self, stride: u64) {
        if let Some(index) = self.pool.prepare() {
            let payload = self.payload.load(Ordering::Relaxed);
            prefetch_to_write(payload.wrapping_add(index * stride as usize));
        }
    }

    /// Whether a buffer belongs here.
    #[inline(always)]
    pub(crate) fn owns(&self, buffer: &Buffer<'_>) -> bool {
        buffer.pool_id() == self.pool_id
    }
}

/// Asks the processor to fetch what will be used soon: the peer had it last, and a line takes its time between processors.
/// Not as a line to be written, which would take it away from the peer before it is done with it.
#[inline(always)]
pub(crate) fn prefetch<T>(what: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which is good for any address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(what.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = what;
}

/// As [`prefetch`], a line that the peer is done with and this end will write to.
#[inline(always)]
pub(crate) fn prefetch_to_write<T>(what: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which is good for any address, and does nothing where the processor does not know it.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) what, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = what;
}
