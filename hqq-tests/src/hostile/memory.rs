// unsafe: a hostile hand reaches the words of a region through mappings of its own, between pages that kill.
//! Memory for attacked regions: mapped once for each party, each time between two guard pages, so that an access outside the
//! region kills the process.

use std::ffi::c_void;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use hqq_sys::mem;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Sealed shared memory, as a link's is.
#[derive(Debug)]
pub struct Memory {
    fd: OwnedFd,
    len: usize,
}

impl Memory {
    /// `len` bytes of zeros, rounded up to pages.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(len: u64) -> io::Result<Self> {
        let len = (len as usize).next_multiple_of(mem::page_size());
        let fd = mem::create("hqq:hostile", len as u64)?;
        mem::seal(fd.as_fd())?;
        Ok(Self { fd, len })
    }

    /// One more mapping of it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn map(&self) -> io::Result<Guarded> {
        Guarded::new(self.fd.as_fd(), self.len)
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A mapping between two pages that nobody may touch.
#[derive(Debug)]
pub struct Guarded {
    whole: NonNull<u8>,
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is the process's, not a thread's; its bytes are reached by atomics, or by who has a reason of
// its own.
unsafe impl Send for Guarded {}
// SAFETY: as above.
unsafe impl Sync for Guarded {}

impl Guarded {
    /// Maps the first `len` bytes behind a descriptor, whole pages.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let page = mem::page_size();
        assert!(len > 0 && len % page == 0, "whole pages");
        // SAFETY: a new mapping where the kernel likes it; the second replaces the inner part of the first.
        unsafe {
            let none = ProtFlags::empty();
            let whole = mmap_anonymous(ptr::null_mut(), len + 2 * page, none, MapFlags::PRIVATE)?;
            let inner = whole.cast::<u8>().add(page).cast::<c_void>();
            let both = ProtFlags::READ | ProtFlags::WRITE;
            let base = mmap(inner, len, both, MapFlags::SHARED | MapFlags::FIXED, fd, 0)?;
            let some = |at: *mut c_void| NonNull::new(at.cast::<u8>()).ok_or(io::ErrorKind::Other);
            Ok(Self { whole: some(whole)?, base: some(base)?, len })
        }
    }

    /// The first byte.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes.
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// All of it as words. Other parties reach the same memory at other addresses, as other processes would.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: valid for `len` bytes as long as `self` lives, aligned to a page, and through this mapping
        // reached by atomics alone, but for the ends of a region, whose own mappings are others.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), self.len / 8) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this length, and nothing that borrowed from it is left.
        let _ = unsafe { munmap(self.whole.as_ptr().cast(), self.len + 2 * mem::page_size()) };
    }
}

/// A private file for two processes to share a few words through: how far a worker has come.
///
/// # Errors
/// The kernel's.
pub fn map_file(path: &std::path::Path) -> io::Result<Guarded> {
    let file = fs::File::options().read(true).write(true).open(path)?;
    Guarded::new(file.as_fd(), mem::page_size())
}

/// Makes `count` gaps of `len` bytes between guard pages, as high as the kernel puts things. It fills the highest gap
/// that is large enough first, so the mappings of that length that are made next come to lie in these.
pub fn cradle(len: u64, count: usize) {
    let page = mem::page_size();
    let len = (len as usize).next_multiple_of(page);
    let whole = count * (len + page) + page;
    // SAFETY: a new mapping where the kernel likes it, which nobody else knows of, and parts of it are given back.
    unsafe {
        let Ok(start) = mmap_anonymous(ptr::null_mut(), whole, ProtFlags::empty(), MapFlags::PRIVATE) else {
            return;
        };
        for gap in 0..count {
            let _ = munmap(start.cast::<u8>().add(page + gap * (len + page)).cast(), len);
        }
    }
}

/// Puts guard pages on both sides of every mapping of this process whose name begins with `/memfd:NAME`, wherever
/// there is room: a link maps its region itself, where the kernel likes it. How many of those mappings have a page
/// on both sides that kills, and how many there are. The guards stay.
pub fn guard(name: &str) -> (usize, usize) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let wanted = format!("/memfd:{name}");
    let page = mem::page_size();
    for (start, end, _) in lines(&maps).filter(|(_, _, rest)| rest.contains(&wanted)) {
        for at in [start - page, end] {
            let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
            // SAFETY: only takes addresses where nothing is mapped.
            let _ = unsafe { mmap_anonymous(at as *mut c_void, page, ProtFlags::empty(), flags) };
        }
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let none: Vec<(usize, usize)> = lines(&maps)
        .filter(|(.., rest)| rest.starts_with("---"))
        .map(|(start, end, _)| (start, end))
        .collect();
    let (mut guarded, mut all) = (0, 0);
    for (start, end, _) in lines(&maps).filter(|(_, _, rest)| rest.contains(&wanted)) {
        all += 1;
        let before = none.iter().any(|&(_, other)| other == start);
        let behind = none.iter().any(|&(other, _)| other == end);
        guarded += usize::from(before && behind);
    }
    (guarded, all)
}

fn lines(maps: &str) -> impl Iterator<Item = (usize, usize, &str)> {
    maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some((number(start)?, number(end)?, rest))
    })
}

/// Reads one byte behind a guarded mapping: what a fault that reads out of bounds would do.
pub fn trespass(memory: &Guarded) -> u8 {
    // SAFETY: none. This is what the guard pages are for, and kills the process.
    unsafe { memory.base.as_ptr().add(memory.len).read_volatile() }
}
