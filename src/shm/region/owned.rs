//! Regions and views together with the memory that they lie in.

use std::sync::{Mutex, PoisonError};

use hqq_sys::barrier::process_barrier;
use hqq_sys::mem::{Mapping, page_size};

use super::*;

/// A region together with the memory that it lies in, of type `M`, and its private words.
///
/// Buffers that it hands out say that they live for ever; the crate keeps the owner beside each of them.
#[derive(Debug)]
pub(crate) struct OwnedRegion<M> {
    region: Region<'static>,
    scratch: *mut [u64],
    /// Payload in memory of its own: what each direction has now, and what messages of a former peer may lie in.
    payload: Mutex<([Option<Mapping>; 2], Vec<Mapping>)>,
    _memory: M,
}

// SAFETY: the raw pointer is this struct's own allocation, reached only through the region.
unsafe impl<M: Send> Send for OwnedRegion<M> {}
// SAFETY: in MPMC mode a region may be used by many threads. In the others the link sees to it that only one
// thread sends and one receives at a time: by its gate and its lock, or because it was split into halves that
// are not Sync and whose loans are not Send. A named link is MPMC.
unsafe impl<M: Sync> Sync for OwnedRegion<M> {}

/// Memory that a region can lie in.
///
/// # Safety
/// `base` and `len` always name the same memory, valid for reads and writes until the value is dropped, even
/// if the value moves, and touched by nothing but HQQ's protocol.
pub(crate) unsafe trait Memory {
    /// Its first byte.
    fn base(&self) -> NonNull<u8>;
    /// Its bytes.
    fn len(&self) -> u64;
}

// SAFETY: a mapping stays where it is until it is dropped; the crate makes writable ones only of memfds that it
// created or that a handshake brought.
unsafe impl Memory for Mapping {
    fn base(&self) -> NonNull<u8> {
        Self::base(self)
    }

    fn len(&self) -> u64 {
        Self::len(self) as u64
    }
}

// SAFETY: a segment stays where it is until it is dropped. That nothing else touches or truncates it is what the
// feature's documentation asks of those who use it.
#[cfg(feature = "named")]
unsafe impl Memory for shared_memory::Shmem {
    fn base(&self) -> NonNull<u8> {
        NonNull::new(self.as_ptr()).unwrap_or(NonNull::dangling())
    }

    fn len(&self) -> u64 {
        shared_memory::Shmem::len(self) as u64
    }
}

impl<M: Memory> OwnedRegion<M> {
    /// Lays a region out in `memory` as its Primary; see [`Region::init`]. `locked` if seat 0's byte is locked.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn create(memory: M, setup: &Setup<'_>, locked: bool) -> Result<Self> {
        let words = required_scratch(&setup.geometry);
        // SAFETY: the memory is kept beside the region and valid as long (`Memory`).
        Self::open(memory, words, |memory, scratch| unsafe {
            Region::init_seated(memory.base(), memory.len(), setup, scratch, locked)
        })
    }

    /// Attaches to the region in `memory` on the side of `role`, in a seat that `prepare` agrees to; see
    /// [`Region::attach`] and [`Seats::join`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn attach(
        memory: M,
        page: u64,
        role: Role,
        prepare: impl FnMut(usize) -> Option<bool>,
    ) -> Result<Self> {
        // SAFETY: as in `create`.
        let facts = unsafe { Region::inspect(memory.base(), memory.len(), page) }?;
        let words = required_scratch(&facts.geometry);
        // SAFETY: as in `create`.
        Self::open(memory, words, |memory, scratch| unsafe {
            Region::attach_seated(memory.base(), memory.len(), page, role, scratch, prepare)
        })
    }

    /// Opens a region on `words` words of scratch of its own.
    fn open(
        memory: M,
        words: usize,
        open: impl FnOnce(&M, &'static mut [u64]) -> Result<Region<'static>>,
    ) -> Result<Self> {
        let scratch = Box::into_raw(vec![0; words].into_boxed_slice());
        // SAFETY: a fresh allocation that is freed only in `drop`, after the region.
        match open(&memory, unsafe { &mut *scratch }) {
            Ok(region) => Ok(Self { region, scratch, payload: Mutex::default(), _memory: memory }),
            Err(error) => {
                // SAFETY: the pointer is from `into_raw`, and `open` kept nothing of it.
                drop(unsafe { Box::from_raw(scratch) });
                Err(error)
            }
        }
    }

    /// Limits the messages of this end; see [`Region::limit_messages`].
    pub(crate) fn limit_messages(&mut self, limit: u64) {
        self.region.limit_messages(limit);
    }

    /// Puts the payload of a direction into `memory`, a mapping of a file sealed against truncation, writable if this end
    /// sends in that direction. Messages of before stay readable: what was there stays mapped as long as this end has
    /// buffers of the direction, and until this is called again at least. For times when nobody receives or takes loans.
    ///
    /// # Errors
    /// [`Error::TooSmallMemory`].
    pub(crate) fn set_payload(&self, index: usize, memory: Mapping) -> Result<()> {
        let (have, need) = (memory.len() as u64, self.region.layout().payload_len());
        if have < need {
            return Err(Error::TooSmallMemory { what: "the payload", have, need });
        }
        let mut payload = self.payload.lock().unwrap_or_else(PoisonError::into_inner);
        let (current, former) = &mut *payload;
        let sends = index == self.region.role().direction();
        let direction = if sends { self.region.out() } else { self.region.inward() };
        direction.payload.store(memory.base().as_ptr(), Ordering::Relaxed);
        former.extend(current[index].replace(memory));
        // Whoever reads the pointer has marked its buffers before. So behind a barrier on all threads, either a mark is
        // seen here, or nobody has the old pointer or will get it.
        if process_barrier() && !direction.pool.is_in_use() {
            former.clear();
        }
        Ok(())
    }

    /// The region, to be used no longer than `self`.
    #[inline(always)]
    pub(crate) fn region(&self) -> &Region<'static> {
        &self.region
    }
}

impl<M> Drop for OwnedRegion<M> {
    fn drop(&mut self) {
        // A word that no operation leaves is nothing to this end any more.
        let _ = self.region.leave_seat();
        // SAFETY: from `into_raw`; the region has no destructor that would reach its scratch, and buffers
        // have none either.
        drop(unsafe { Box::from_raw(self.scratch) });
    }
}

/// The words of a region and the mapping that they lie in, mostly a read-only one: then a store through them
/// kills the process.
#[derive(Debug)]
pub(crate) struct OwnedViews {
    views: Views<'static>,
    facts: Facts,
    _mapping: Mapping,
}

impl OwnedViews {
    /// Checks the region in `mapping` as [`Region::inspect`] does, and fails as it does.
    pub(crate) fn new(mapping: Mapping) -> Result<Self> {
        let (base, len) = (mapping.base(), mapping.len() as u64);
        // SAFETY: the mapping is valid for reads of its length as long as it lives.
        let facts = unsafe { Region::inspect(base, len, page_size() as u64) }?;
        let layout = Layout::new(facts.geometry, facts.page)?;
        // The views lie in the mapping by `inspect`, and lend nothing out for longer than it is kept here.
        let views = Views { base, layout, memory: PhantomData };
        Ok(Self { views, facts, _mapping: mapping })
    }

    /// What the region was made with. Private memory.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The words.
    pub(crate) fn views(&self) -> &Views<'_> {
        &self.views
    }
}
