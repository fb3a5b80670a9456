//! One direction of a region, and hints to the processor to fetch its cache lines early: a line takes long from one
//! processor to another.

use core::sync::atomic::AtomicPtr;

use crate::shm::buffer::Buffer;
use crate::shm::pool::Pool;
use crate::sync::{AtomicU64, Ordering};

/// How many bytes of a message are fetched before its slot is released, because a fence after the release delays later
/// loads. The processor's own prefetching covers the rest.
const FETCHED: usize = 1024;

/// Pool, payload and byte counters of one direction, as used by one end.
#[derive(Debug)]
pub(crate) struct Direction<'a> {
    /// Holders of the buffers.
    pub(crate) pool: Pool<'a>,
    /// Start of the payload. Changes only when another process replaces the peer.
    pub(super) payload: AtomicPtr<u8>,
    /// Counters of payload bytes that this end sent or received through each slot.
    pub(crate) byte_counters: &'a [AtomicU64],
    /// Value of [`Buffer::pool_id`] for buffers of this pool.
    pub(super) pool_id: usize,
}

impl Direction<'_> {
    /// Prefetches the word and the first payload line of the buffer that the next loan will probably use. `stride` is
    /// the distance between buffers, bytes.
    #[inline(always)]
    pub(crate) fn prefetch(&self, stride: u64) {
        let (index, word) = self.pool.next();
        prefetch(word);
        let payload = self.payload.load(Ordering::Relaxed);
        prefetch(payload.wrapping_add(index * stride as usize));
    }

    /// Prefetches the first lines of a received message of `len` bytes in buffer `index`. `stride` is the distance
    /// between buffers, bytes.
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

    /// Allocates a spare buffer for the next loan, and prefetches its first payload line for writing. `stride` is the
    /// distance between buffers, bytes.
    #[inline(always)]
    pub(crate) fn prepare(&self, stride: u64) {
        if let Some(index) = self.pool.prepare() {
            let payload = self.payload.load(Ordering::Relaxed);
            prefetch_to_write(payload.wrapping_add(index * stride as usize));
        }
    }

    /// Whether `buffer` belongs to this pool.
    #[inline(always)]
    pub(crate) fn owns(&self, buffer: &Buffer<'_>) -> bool {
        buffer.pool_id() == self.pool_id
    }
}

/// Asks the processor to fetch the cache line of `what` for reading. Fetching it for writing would take it away from
/// the peer, which may still use it.
#[inline(always)]
pub(crate) fn prefetch<T>(what: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which is allowed for any address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(what.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = what;
}

/// Asks the processor to fetch the cache line of `what` for writing. The peer must not use it any more.
#[inline(always)]
pub(crate) fn prefetch_to_write<T>(what: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which is allowed for any address; processors without it ignore it.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) what, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = what;
}
