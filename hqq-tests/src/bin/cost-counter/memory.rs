// unsafe: a global allocator, and regions of the core on memory that is brought.
//! The memory of the rows: an allocator that counts, a stack at a fixed offset, and regions for the core.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;

use hqq::shm::layout::{Geometry, Modes, RingMode, WaitMode, required_bytes, required_scratch};
use hqq::shm::region::{Region, Setup};
use hqq::shm::words::Role;
use hqq_sys::mem::{self, Mapping};

/// The system's allocator, which calls [`noted`] each time.
struct Noting;

#[global_allocator]
static ALLOCATOR: Noting = Noting;

/// Called for each allocation, so that whoever steps this process sees it.
#[inline(never)]
pub fn noted() {
    black_box("an allocation");
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        noted();
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        noted();
        // SAFETY: the caller's.
        unsafe { System.realloc(at, layout, len) }
    }
}

#[repr(align(4096))]
struct Floor([u8; 64]);

/// Calls with a stack that begins on a page: arguments and variables of the environment lie at its bottom, and would
/// decide where its lines end.
#[inline(never)]
pub fn on_level_stack<T>(call: impl FnOnce() -> T) -> T {
    let floor = Floor([0; 64]);
    black_box(&floor.0);
    let value = call();
    black_box(&floor.0);
    value
}

/// Both ends of a region of the core that spins, each in a mapping of its own.
pub fn with_regions<T>(
    geometry: Geometry,
    ring: RingMode,
    call: impl FnOnce(&Region<'_>, &Region<'_>) -> T,
) -> hqq::Result<T> {
    let page = mem::page_size() as u64;
    let len = required_bytes(&geometry, page)?;
    let modes = Modes { ring, wait: WaitMode::Spin, ..Modes::default() };
    let setup = Setup { geometry, modes, page, epoch: 1, first_lap: 0, name: "costs" };
    let [near, far] = mapped_twice(len)?;
    let words = required_scratch(&geometry);
    let (mut ours, mut theirs) = (vec![0; words], vec![0; words]);
    // SAFETY: the mappings outlive both ends, and only these touch them.
    let (primary, secondary) = unsafe {
        (
            Region::init(near.base(), len, &setup, &mut ours)?,
            Region::attach(far.base(), len, page, Role::Secondary, &mut theirs)?,
        )
    };
    Ok(call(&primary, &secondary))
}

/// Words that another process could map.
pub fn with_words<T>(call: impl FnOnce(&[AtomicU64]) -> T) -> hqq::Result<T> {
    const COUNT: usize = 512;
    let [memory, _again] = mapped_twice(8 * COUNT as u64)?;
    // SAFETY: on a page, zeroed, and reached as atomics only while the mapping lives.
    let words = unsafe { std::slice::from_raw_parts(memory.base().cast().as_ptr(), COUNT) };
    Ok(call(words))
}

fn mapped_twice(len: u64) -> hqq::Result<[Mapping; 2]> {
    let map = || -> io::Result<[Mapping; 2]> {
        let memory = mem::create("hqq:costs", len)?;
        let map = || Mapping::map(memory.as_fd(), len as usize);
        Ok([map()?, map()?])
    };
    map().map_err(|source| hqq::Error::Os { doing: "mapping memory", source })
}

/// In place of the C library's: always the same bytes. The standard library asks for the keys of its hash tables here,
/// and with other keys a look-up meets other collisions.
///
/// # Safety
/// `to` is the address of `len` writable bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(to: *mut u8, len: usize, _flags: u32) -> isize {
    // SAFETY: the caller's.
    unsafe { to.write_bytes(0x5A, len) };
    len as isize
}
