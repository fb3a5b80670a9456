//! Payload memory: the unsafe code that turns a run of buffers into bytes.
//!
//! A [`Buffer`] is a run that this process holds, with its memory. Plain slices ([`Buffer::bytes`],
//! [`Buffer::bytes_mut`]) are for trusted peers, which do not write to a message that they have sent.
//! [`Buffer::copy_to`] and [`Buffer::write_at`] are sound with any peer, because they access the memory with volatile
//! accesses only.

use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::shm::packet::Run;

/// A run of buffers that this process holds, on loan or received. Return it with
/// [`Region::give`](crate::shm::region::Region::give): if it is dropped, the buffers leak until this end's seat is
/// recovered.
#[derive(Debug)]
#[must_use = "give the buffers back to the region"]
pub struct Buffer<'a> {
    at: NonNull<u8>,
    len: usize,
    capacity: usize,
    run: Run,
    /// Address of the region, which is even, plus the direction.
    pool_id: usize,
    memory: PhantomData<&'a [u8]>,
}

// SAFETY: a Buffer is the only handle of this process to its bytes (the pool's lent flags make sure of that), so it may
// move to another thread; shared references to it only read.
unsafe impl Send for Buffer<'_> {}
// SAFETY: as above.
unsafe impl Sync for Buffer<'_> {}

impl<'a> Buffer<'a> {
    /// Makes a handle to the `capacity` bytes of `run` at `at`. The first `len` bytes are in use. `pool_id`
    /// identifies the pool of the run.
    ///
    /// # Safety
    /// `at` must be valid for reads and writes of `capacity` bytes during `'a`, `len` at most `capacity`, and this
    /// process must hold `run` (its lent flags set) as long as the handle exists.
    pub(crate) unsafe fn new(at: NonNull<u8>, len: usize, capacity: usize, run: Run, pool_id: usize) -> Self {
        debug_assert!(len <= capacity);
        Self { at, len, capacity, run, pool_id, memory: PhantomData }
    }

    /// Identifies the pool of `direction` in the region at address `region`, which is even.
    pub(crate) const fn pool_id_of(region: usize, direction: usize) -> usize {
        debug_assert!(region % 2 == 0 && direction < 2);
        region | direction
    }

    /// Number of bytes in use.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes are in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Shortens the bytes in use to `len`, if they are longer. The run keeps all its buffers.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The run of buffers.
    #[inline(always)]
    pub fn run(&self) -> Run {
        self.run
    }

    /// Identifies the pool of the buffers; see [`pool_id_of`](Self::pool_id_of).
    #[inline(always)]
    pub(crate) fn pool_id(&self) -> usize {
        self.pool_id
    }

    /// Direction whose pool the buffers belong to.
    #[inline(always)]
    pub fn direction(&self) -> usize {
        self.pool_id & 1
    }

    /// The bytes in use. Only with a trusted peer: the peer must not write to them while the slice lives.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: valid for `len` bytes by `new`; no other handle of this process writes them, and a trusted peer
        // does not either (docs/spec.md, "Buffers").
        unsafe { core::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }

    /// The bytes in use, for writing. Only with a trusted peer, as [`bytes`](Self::bytes).
    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes this the only slice.
        unsafe { core::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }

    /// Copies the bytes in use from `offset` on to `to`, as many as fit. Returns their number. If the peer writes to
    /// the memory meanwhile, the copy may be torn, but the call stays sound.
    pub fn copy_to(&self, offset: usize, to: &mut [u8]) -> usize {
        let count = self.len.saturating_sub(offset).min(to.len());
        let mut done = 0;
        while done < count {
            // SAFETY: `offset + done < len`, so the address lies in the handle's memory; a word is read only at an
            // aligned address with eight bytes left.
            unsafe {
                let from = self.at.as_ptr().add(offset + done);
                if count - done >= 8 && from.addr() % 8 == 0 {
                    let word = from.cast::<u64>().read_volatile();
                    to[done..done + 8].copy_from_slice(&word.to_ne_bytes());
                    done += 8;
                } else {
                    to[done] = from.read_volatile();
                    done += 1;
                }
            }
        }
        count
    }

    /// Copies `from` to the bytes in use from `offset` on, as many as fit. Returns their number. Sound with any peer,
    /// as [`copy_to`](Self::copy_to).
    pub fn write_at(&mut self, offset: usize, from: &[u8]) -> usize {
        let count = self.len.saturating_sub(offset).min(from.len());
        let mut done = 0;
        while done < count {
            // SAFETY: as in `copy_to`, for writes.
            unsafe {
                let to = self.at.as_ptr().add(offset + done);
                if count - done >= 8 && to.addr() % 8 == 0 {
                    let mut word = [0; 8];
                    word.copy_from_slice(&from[done..done + 8]);
                    to.cast::<u64>().write_volatile(u64::from_ne_bytes(word));
                    done += 8;
                } else {
                    to.write_volatile(from[done]);
                    done += 1;
                }
            }
        }
        count
    }

    /// Size of the run, bytes.
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volatile_copies_agree_with_slices_at_every_offset() {
        let mut memory = [0u8; 64];
        let at = NonNull::new(memory.as_mut_ptr()).unwrap();
        let run = Run { first: 0, count: 1 };
        // SAFETY: the array outlives the handle and nothing else touches it meanwhile.
        let mut buffer = unsafe { Buffer::new(at, 50, 64, run, Buffer::pool_id_of(0, 0)) };
        let data: [u8; 60] = core::array::from_fn(|i| i as u8 + 1);
        for offset in 0..60 {
            buffer.bytes_mut().fill(0);
            let fitted = buffer.write_at(offset, &data);
            assert_eq!(fitted, 50usize.saturating_sub(offset).min(60));
            if offset < 50 {
                assert_eq!(buffer.bytes()[offset..], data[..fitted]);
            }
            let mut copy = [0; 60];
            assert_eq!(buffer.copy_to(offset, &mut copy), fitted);
            assert_eq!(copy[..fitted], data[..fitted]);
        }
        buffer.truncate(3);
        assert_eq!((buffer.len(), buffer.capacity()), (3, 64));
    }
}
