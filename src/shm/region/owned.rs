//! Regions and views that own their memory.

use std::sync::{Mutex, PoisonError};

use hqq_sys::barrier::process_barrier;
use hqq_sys::mem::{Mapping, page_size};

use super::*;

/// A region that owns its memory, of type `M`, and its private words.
///
/// Its buffers have the lifetime `'static`. So the crate keeps the owner alive beside each buffer.
#[derive(Debug)]
pub(crate) struct OwnedRegion<M> {
    region: Region<'static>,
    scratch: *mut [u64],
    /// Mappings of separate payload: the present one of each direction, and earlier ones that messages of a former
    /// peer may still use.
    payload: Mutex<([Option<Mapping>; 2], Vec<Mapping>)>,
    _memory: M,
}

// SAFETY: the raw pointer is this struct's own allocation, reached only through the region.
unsafe impl<M: Send> Send for OwnedRegion<M> {}
// SAFETY: in MPMC mode many threads may use a region. In the other modes the link makes sure that only one thread sends
// and only one receives at a time: by its gate and its lock, or because it was split into halves that are not Sync and
// whose loans are not Send. A segment link is MPMC.
unsafe impl<M: Sync> Sync for OwnedRegion<M> {}

/// Memory that can contain a region.
///
/// # Safety
/// `base` and `len` must always describe the same memory. It must be valid for reads and writes until the value is
/// dropped, even if the value moves, and only HQQ's protocol may access it.
pub(crate) unsafe trait Memory {
    /// Address of the first byte.
    fn base(&self) -> NonNull<u8>;
    /// Length, bytes.
    fn len(&self) -> u64;
}

// SAFETY: a mapping does not move until it is dropped. The crate maps only memfds that it created or received in a
// handshake for writing.
unsafe impl Memory for Mapping {
    fn base(&self) -> NonNull<u8> {
        Self::base(self)
    }

    fn len(&self) -> u64 {
        Self::len(self) as u64
    }
}

// SAFETY: a segment does not move until it is dropped. The feature's documentation requires that nothing else
// accesses or truncates it.
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
    /// Creates a region in `memory` as its Primary; see [`Region::init`]. `locked` tells whether the byte of seat 0
    /// is locked.
    ///
    /// # Errors
    /// As [`Region::init`].
    pub(crate) fn create(memory: M, setup: &Setup<'_>, locked: bool) -> Result<Self> {
        let words = required_scratch(&setup.geometry);
        // SAFETY: the memory is valid as long as the value beside the region (`Memory`).
        Self::open(memory, words, |memory, scratch| unsafe {
            Region::init_seated(memory.base(), memory.len(), setup, scratch, locked)
        })
    }

    /// Attaches to the region in `memory` on the side of `role`, in a seat that `prepare` accepts; see
    /// [`Region::attach`] and [`Seats::join`].
    ///
    /// # Errors
    /// As [`Region::attach`].
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

    /// Opens a region with a new scratch of `words` words.
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

    /// Limits the size of this end's messages; see [`Region::limit_messages`].
    pub(crate) fn limit_messages(&mut self, limit: u64) {
        self.region.limit_messages(limit);
    }

    /// Moves the payload of direction `index` to `memory`: a mapping of a file that is sealed against truncation,
    /// writable if this end sends in that direction. Messages received before stay readable: the earlier mapping is
    /// kept until a call finds that this end has no buffers of the direction. No thread may receive or allocate
    /// meanwhile.
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
        // A thread sets the lent flags of its buffers before it loads the pointer. So after a barrier on all threads,
        // either a flag is seen here, or no thread has the old pointer or will load it.
        if process_barrier() && !direction.pool.is_in_use() {
            former.clear();
        }
        Ok(())
    }

    /// The region. Do not use it, or its buffers, longer than `self`.
    #[inline(always)]
    pub(crate) fn region(&self) -> &Region<'static> {
        &self.region
    }
}

impl<M> Drop for OwnedRegion<M> {
    fn drop(&mut self) {
        // An impossible word does not concern this end any more.
        let _ = self.region.leave_seat();
        // SAFETY: from `into_raw`; neither the region nor a buffer has a destructor that would access the scratch.
        drop(unsafe { Box::from_raw(self.scratch) });
    }
}

/// Views of a region that own its mapping. The mapping may be read-only; then a store through them kills the process.
#[derive(Debug)]
pub(crate) struct OwnedViews {
    views: Views<'static>,
    facts: Facts,
    _mapping: Mapping,
}

impl OwnedViews {
    /// Checks the region in `mapping` as [`Region::inspect`] does.
    ///
    /// # Errors
    /// As [`Region::inspect`].
    pub(crate) fn new(mapping: Mapping) -> Result<Self> {
        let (base, len) = (mapping.base(), mapping.len() as u64);
        // SAFETY: the mapping is valid for reads of its length as long as it lives.
        let facts = unsafe { Region::inspect(base, len, page_size() as u64) }?;
        let layout = Layout::new(facts.geometry, facts.page)?;
        // `inspect` checked that the views fit into the mapping. `views` below lends them for the lifetime of `self`
        // only.
        let views = Views { base, layout, memory: PhantomData };
        Ok(Self { views, facts, _mapping: mapping })
    }

    /// Parameters of the region: a private copy.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Words of the region.
    pub(crate) fn views(&self) -> &Views<'_> {
        &self.views
    }
}
