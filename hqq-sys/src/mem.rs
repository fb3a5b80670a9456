//! Anonymous shared memory that no peer can shrink: sealed memfds and their mappings.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::OnceLock;

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, MemfdFlags, Mode, OFlags, SealFlags, StatxFlags, fallocate,
    fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate, makedev, memfd_create, open, statx,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Resource, getrlimit};

use crate::fd::clear_of_streams;

/// Type of the file system of memfds with ordinary pages.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Creates a memfd of `len` zeroed bytes, not sealed yet.
///
/// `name` is for display only: it appears as `/memfd:NAME` in `/proc/PID/fd`, need not be unique, and may have at
/// most 249 bytes. All pages are reserved at once, so a lack of memory is an error here and not a signal at the first
/// access. The memory is freed when the last descriptor and the last mapping are closed. It cannot be made
/// executable, if the kernel supports that.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if `len` is 0, or `name` is too long or contains a zero byte;
/// [`io::ErrorKind::FileTooLarge`] if `len` exceeds the limit on file sizes, see [`check_file_size`]; the kernel's
/// (`ENOSPC`, `ENOMEM`, `EFBIG`) if there is not enough memory.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::os::fd::AsFd;
/// let fd = hqq_sys::mem::create("example", 4096)?;
/// hqq_sys::mem::seal(fd.as_fd())?;
/// let facts = hqq_sys::mem::facts(fd.as_fd())?;
/// assert!(facts.len == 4096 && facts.is_memfd && facts.sealed);
/// # Ok(()) }
/// ```
pub fn create(name: &str, len: u64) -> io::Result<OwnedFd> {
    create_sparse(name, len, std::slice::from_ref(&(0..len)))
}

/// As [`create`], but reserves only the byte ranges in `reserve`. Other pages are allocated at their first access,
/// which kills the process if there is no memory.
///
/// # Errors
/// As [`create`].
pub fn create_sparse(name: &str, len: u64, reserve: &[Range<u64>]) -> io::Result<OwnedFd> {
    if len == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "shared memory needs at least 1 byte"));
    }
    check_file_size(len)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not support that flag.
        Err(Errno::INVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    let fd = clear_of_streams(fd)?;
    retry_on_intr(|| ftruncate(&fd, len))?;
    for part in reserve {
        retry_on_intr(|| fallocate(&fd, FallocateFlags::empty(), part.start, part.end - part.start))?;
    }
    Ok(fd)
}

/// Checks that this process may make a file of `len` bytes. Call it before a file grows: beyond the limit the kernel sends
/// the signal `SIGXFSZ`, which ends the process, beside the error.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] if `len` exceeds the limit on file sizes (`RLIMIT_FSIZE`); the message has both.
pub fn check_file_size(len: u64) -> io::Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if len > limit => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{len} bytes exceed the limit on file sizes of {limit} bytes"),
        )),
        _ => Ok(()),
    }
}

/// Seals a memfd: its length and its set of seals cannot be changed any more.
///
/// Its contents stay writable. A peer can still punch holes into it, which read as zeroes.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] if it is sealed already; `EINVAL` if it is no memfd.
pub fn seal(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_add_seals(fd, SEALS)?)
}

/// As [`seal`]. Also, the contents can afterwards be written only through mappings that exist already: no process,
/// including this one, can map the memfd for writing again, write to it, or punch holes into it.
///
/// # Errors
/// As [`seal`].
pub fn seal_contents(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_add_seals(fd, SEALS | SealFlags::FUTURE_WRITE)?)
}

/// Properties of a descriptor, as [`facts`] returns them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Length in bytes.
    pub len: u64,
    /// Whether it is a memfd of ordinary pages (or an unnamed tmpfs file, which is equivalent). A memfd of huge pages
    /// does not count: huge pages may run out, so after a peer has punched a hole, an access may kill the process
    /// (`SIGBUS`).
    pub is_memfd: bool,
    /// Whether its length and its seals cannot be changed any more. Never true without `is_memfd`.
    pub sealed: bool,
}

/// Reads the properties of a descriptor. Its sender need not be trusted.
///
/// Map the file only if `sealed` is true: an access to a mapping of a file that was truncated kills the process
/// (`SIGBUS`).
///
/// # Errors
/// The kernel's. A descriptor of another kind of file is no error: then `is_memfd` is false.
pub fn facts(fd: BorrowedFd<'_>) -> io::Result<Facts> {
    let stat = fstat(fd)?;
    let seals = match fcntl_get_seals(fd) {
        Ok(seals) => Some(seals),
        Err(Errno::INVAL) => None,
        Err(e) => return Err(e.into()),
    };
    // A file of a mounted tmpfs has seals too (F_SEAL_SEAL only), but it has a name.
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let is_memfd = is_file && stat.st_nlink == 0 && seals.is_some() && fstatfs(fd)?.f_type == TMPFS;
    Ok(Facts {
        len: u64::try_from(stat.st_size).unwrap_or(0),
        is_memfd,
        sealed: is_memfd && seals.is_some_and(|s| s.contains(SEALS)),
    })
}

/// A memfd that some process has open, found and not opened yet.
#[derive(Debug)]
pub struct Found {
    /// Opened with `O_PATH`: for its identity only.
    place: OwnedFd,
    /// Device (file system) of the inode. All memfds of ordinary pages have the same.
    pub device: u64,
    /// Inode. It identifies the memfd as long as it exists.
    pub inode: u64,
}

impl Found {
    /// Finds the memfd of ordinary pages that `path`, usually `/proc/PID/fd/FD`, leads to. `None` if it leads to another
    /// kind of file. No driver, no other process and no server of a file system is asked, so the call does not block,
    /// whatever lies there.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if the process or its descriptor has gone; [`io::ErrorKind::PermissionDenied`] if the
    /// process may not be inspected; the kernel's.
    pub fn at(path: &str) -> io::Result<Option<Self>> {
        let place = retry_on_intr(|| open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))?;
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let facts = statx(&place, c"", flags, StatxFlags::TYPE | StatxFlags::INO)?;
        let device = makedev(facts.stx_dev_major, facts.stx_dev_minor);
        let is_file = FileType::from_raw_mode(facts.stx_mode.into()) == FileType::RegularFile;
        Ok((is_file && device == memfd_device()?).then_some(Self { place, device, inode: facts.stx_ino }))
    }

    /// Opens it for reading. Does not wait.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] if its owner does not let this user read it;
    /// [`io::ErrorKind::WouldBlock`] while a process holds a lease on it; the kernel's.
    pub fn open(&self) -> io::Result<OwnedFd> {
        let path = format!("/proc/thread-self/fd/{}", self.place.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match retry_on_intr(|| open(path.as_str(), flags, Mode::empty())) {
            Err(Errno::AGAIN) => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "a process holds a lease on this memory: try again in a minute",
            )),
            opened => Ok(opened?),
        }
    }
}

/// The device that all memfds of ordinary pages are on.
fn memfd_device() -> io::Result<u64> {
    static DEVICE: OnceLock<u64> = OnceLock::new();
    if let Some(&device) = DEVICE.get() {
        return Ok(device);
    }
    let own = memfd_create("hqq device", MemfdFlags::CLOEXEC)?;
    let device = fstat(&own)?.st_dev;
    Ok(*DEVICE.get_or_init(|| device))
}

/// Whether some page of these byte ranges of a memfd is missing: reading it through a mapping would allocate it, at the
/// reader's cost. A page that was reserved and never touched is not missing, nor is one that was swapped out.
///
/// Where the kernel does not count the pages of a range (Linux before 6.5, or no permission to write to the memfd), the
/// whole memfd counts as free of holes if it has as many pages as the ranges. So reading can at most double its memory.
///
/// # Errors
/// The kernel's.
pub fn has_holes(fd: BorrowedFd<'_>, ranges: &[Range<u64>]) -> io::Result<bool> {
    let page = page_size() as u64;
    let mut wanted = 0;
    let mut known = true;
    for range in ranges.iter().filter(|range| !range.is_empty()) {
        let start = range.start / page * page;
        let pages = (range.end - start).div_ceil(page);
        wanted += pages;
        match pages_present(fd, start, pages * page) {
            Ok(present) if present < pages => return Ok(true),
            Ok(_) => {}
            Err(_) => known = false,
        }
    }
    let has = u64::try_from(fstat(fd)?.st_blocks).unwrap_or(0) * 512;
    Ok(!known && has < wanted * page)
}

/// The number of pages of a range that are in memory or in swap.
fn pages_present(fd: BorrowedFd<'_>, start: u64, len: u64) -> io::Result<u64> {
    /// `cachestat`, which has the same number on all architectures since Linux 6.5.
    const CACHESTAT: libc::c_long = 451;
    let range = [start, len];
    // In cache, dirty, being written back, evicted (for memfds: swapped out), recently evicted.
    let mut counts = [0_u64; 5];
    let number = fd.as_raw_fd();
    // SAFETY: the descriptor is open; the kernel reads two words and writes five, which live.
    let done = unsafe { libc::syscall(CACHESTAT, number, range.as_ptr(), counts.as_mut_ptr(), 0) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(counts[0] + counts[3])
}

/// Shared memory that is mapped into this process. Dropping it unmaps the memory.
///
/// A child made by `fork` does not inherit the mapping (`MADV_DONTFORK`). The descriptor may be closed before the
/// mapping. Other processes may change the bytes at any time, so this type gives access to the address only, not to a
/// reference.
#[derive(Debug)]
pub struct Mapping {
    map: MmapRaw,
    base: NonNull<u8>,
}

// SAFETY: a mapping belongs to the process, not to a thread, and its address and length do not change. Accesses
// through the address are `unsafe` for the caller.
unsafe impl Send for Mapping {}
// SAFETY: as above; the methods that take `&self` only read the private address and length.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `fd` for reading and writing, shared with all other mappings.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if `len` is 0 or exceeds the file's length;
    /// [`io::ErrorKind::PermissionDenied`] if the descriptor or its seals forbid writing;
    /// [`io::ErrorKind::OutOfMemory`] if address space has run out, with its limit (`RLIMIT_AS`) if there is one.
    pub fn map(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        check_length(fd, len)?;
        Self::new(MmapOptions::new().len(len).map_raw(fd.as_raw_fd()).map_err(|error| no_space(error, len))?)
    }

    /// Maps the first `len` bytes of `fd` read-only. A write through [`Mapping::base`] kills the process (`SIGSEGV`).
    ///
    /// # Errors
    /// As [`Mapping::map`], but neither the descriptor nor its seals need to allow writing.
    pub fn map_read_only(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        check_length(fd, len)?;
        Self::new(
            MmapOptions::new()
                .len(len)
                .map_raw_read_only(fd.as_raw_fd())
                .map_err(|error| no_space(error, len))?,
        )
    }

    fn new(map: MmapRaw) -> io::Result<Self> {
        map.advise(Advice::DontFork)?;
        let base = NonNull::new(map.as_mut_ptr())
            .ok_or_else(|| io::Error::other("the kernel mapped memory at address 0"))?;
        Ok(Self { map, base })
    }

    /// Address of the first byte, at the start of a page. Valid for [`Mapping::len`] bytes until this value is dropped,
    /// provided that the file keeps its length (see [`facts`]).
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Length in bytes; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.map.len()
    }
}

/// The error of a mapping of `len` bytes that failed, with the limit on address space if that may be the reason.
fn no_space(error: io::Error, len: usize) -> io::Error {
    match getrlimit(Resource::As).current {
        Some(limit) if error.raw_os_error() == Some(libc::ENOMEM) => io::Error::new(
            io::ErrorKind::OutOfMemory,
            format!(
                "there is no room for {len} bytes, and the limit on address space is {limit} bytes (ulimit -v)"
            ),
        ),
        _ => error,
    }
}

/// Reserves all pages of the `len` bytes at `base`, a shared mapping of a file, without changing a byte. So a full file
/// system is an error here, and not a signal (`SIGBUS`) at the first access. [`create`] reserves its pages itself.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] if the file system is full; [`io::ErrorKind::OutOfMemory`] if there is no memory,
/// or no mapping at `base`; the kernel's unless `base` is at the start of a page.
pub fn reserve(base: NonNull<u8>, len: usize) -> io::Result<()> {
    loop {
        // SAFETY: the contents do not change; an address that is not mapped is an error.
        match unsafe { libc::madvise(base.as_ptr().cast(), len, libc::MADV_POPULATE_WRITE) } {
            0 => return Ok(()),
            _ => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                // An access would have raised the signal.
                e if e.raw_os_error() == Some(libc::EFAULT) => {
                    return Err(io::Error::from_raw_os_error(libc::ENOSPC));
                }
                e => return Err(e),
            },
        }
    }
}

/// Checks that the file has `len` bytes: the kernel maps more without an error, but an access there kills the process.
fn check_length(fd: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    let has = u64::try_from(fstat(fd)?.st_size).unwrap_or(0);
    if len == 0 || len as u64 > has {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("cannot map {len} bytes of a file of {has} bytes"),
        ));
    }
    Ok(())
}

/// Page size of this machine, bytes: a power of two.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::slice::from_ref;

    fn sealed(len: u64) -> OwnedFd {
        let fd = create("hqq-sys test", len).unwrap();
        seal(fd.as_fd()).unwrap();
        fd
    }

    #[test]
    fn created_memory_is_named_reserved_and_not_sealed() {
        let len = 4 * page_size() as u64;
        let fd = create("hqq:some name", len).unwrap();
        let facts = facts(fd.as_fd()).unwrap();
        assert_eq!(facts, Facts { len, is_memfd: true, sealed: false });
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        assert!(link.to_str().unwrap().starts_with("/memfd:hqq:some name"));
        assert!(fstat(&fd).unwrap().st_blocks as u64 * 512 >= len);
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn sealed_contents_are_written_by_former_mappings_alone() {
        let len = 2 * page_size();
        let fd = create("hqq-sys test", len as u64).unwrap();
        let map = Mapping::map(fd.as_fd(), len).unwrap();
        seal_contents(fd.as_fd()).unwrap();
        assert!(facts(fd.as_fd()).unwrap().sealed);
        // SAFETY: the mapping is writable and nobody else writes.
        unsafe { map.base().write_volatile(7) };
        let other = Mapping::map_read_only(fd.as_fd(), len).unwrap();
        // SAFETY: the mapping is readable.
        assert_eq!(unsafe { other.base().read_volatile() }, 7);
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let anew = File::options().read(true).write(true).open(path).unwrap();
        let denied = io::ErrorKind::PermissionDenied;
        for fd in [fd.as_fd(), anew.as_fd()] {
            assert_eq!(Mapping::map(fd, len).unwrap_err().kind(), denied);
            assert_eq!(rustix::io::pwrite(fd, b"x", 0).unwrap_err(), Errno::PERM);
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            assert_eq!(fallocate(fd, punch, 0, 4096).unwrap_err(), Errno::PERM);
        }
    }

    #[test]
    fn only_the_given_parts_are_reserved() {
        let page = page_size() as u64;
        let fd = create_sparse("hqq-sys test", 64 * page, &[0..page, 10 * page..12 * page]).unwrap();
        let reserved = fstat(&fd).unwrap().st_blocks as u64 * 512;
        assert_eq!((facts(fd.as_fd()).unwrap().len, reserved), (64 * page, 3 * page));
    }

    #[test]
    fn nothing_changes_the_length_of_sealed_memory() {
        let len = 2 * page_size() as u64;
        let fd = sealed(len);
        assert!(facts(fd.as_fd()).unwrap().sealed);
        for wrong in [0, len - 1, len + 1] {
            assert_eq!(ftruncate(&fd, wrong), Err(Errno::PERM), "{wrong}");
        }
        let grow = fallocate(&fd, FallocateFlags::empty(), 0, 2 * len);
        assert_eq!(grow, Err(Errno::PERM));
        assert_eq!(seal(fd.as_fd()).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(facts(fd.as_fd()).unwrap().len, len);
    }

    #[test]
    fn every_seal_counts() {
        for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL] {
            let fd = create("partly", 4096).unwrap();
            fcntl_add_seals(&fd, SEALS - missing).unwrap();
            let facts = facts(fd.as_fd()).unwrap();
            assert!(facts.is_memfd && !facts.sealed, "{missing:?}");
        }
    }

    #[test]
    fn other_files_are_told_apart() {
        let disk = File::open("/proc/self/exe").unwrap();
        let (socket, _) = crate::sock::pair().unwrap();
        for fd in [disk.as_fd(), socket.as_fd()] {
            let facts = facts(fd).unwrap();
            assert!(!facts.is_memfd && !facts.sealed);
            assert!(seal(fd).is_err());
        }
    }

    #[test]
    fn huge_pages_are_told_apart() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
        // A kernel without huge pages has nothing to mistake for ordinary ones.
        if let Ok(fd) = memfd_create("huge", flags) {
            fcntl_add_seals(&fd, SEALS).unwrap();
            let facts = facts(fd.as_fd()).unwrap();
            assert!(!facts.is_memfd && !facts.sealed);
        }
    }

    #[test]
    fn a_file_with_a_name_is_no_memfd() {
        let path = format!("/dev/shm/hqq-sys-test-{}", std::process::id());
        // A machine without that directory has nothing to mistake for a memfd.
        if let Ok(file) = File::create_new(&path) {
            let named = facts(file.as_fd());
            std::fs::remove_file(&path).unwrap();
            assert!(!named.unwrap().is_memfd);
        }
    }

    fn path_of(fd: BorrowedFd<'_>) -> String {
        format!("/proc/self/fd/{}", fd.as_raw_fd())
    }

    #[test]
    fn memfds_are_found_and_opened_through_proc() {
        let fd = sealed(4096);
        let found = Found::at(&path_of(fd.as_fd())).unwrap().unwrap();
        let stat = fstat(&fd).unwrap();
        assert_eq!((found.device, found.inode), (stat.st_dev, stat.st_ino));
        let opened = found.open().unwrap();
        assert_eq!(fstat(&opened).unwrap().st_ino, stat.st_ino);
        assert_eq!(Mapping::map(opened.as_fd(), 4096).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let path = path_of(fd.as_fd());
        drop(fd);
        assert!(
            Found::at(&path).is_err() || Found::at(&path).unwrap().is_none_or(|f| f.inode != stat.st_ino)
        );
    }

    #[test]
    fn nothing_else_is_taken_for_a_memfd() {
        let fifo = std::env::temp_dir().join(format!("hqq-sys-fifo-{}", std::process::id()));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        // Opening a FIFO to read it would wait for a writer.
        assert!(Found::at(fifo.to_str().unwrap()).unwrap().is_none());
        std::fs::remove_file(fifo).unwrap();
        let (socket, _) = crate::sock::pair().unwrap();
        for path in ["/proc/self/exe", "/dev/null", "/dev/shm", "/", &path_of(socket.as_fd())] {
            assert!(Found::at(path).unwrap().is_none(), "{path}");
        }
        assert_eq!(Found::at("/no/such/file").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_lease_does_not_keep_anybody_waiting() {
        // SAFETY: ignores the signal that tells this process of the attempt to open the file.
        unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
        let memfd = sealed(4096);
        // The kernel grants a lease for a description that was opened by its path only.
        let fd = File::options().read(true).write(true).open(path_of(memfd.as_fd())).unwrap();
        // SAFETY: the descriptor is open.
        let leased = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
        assert_eq!(leased, 0, "{}", io::Error::last_os_error());
        let found = Found::at(&path_of(fd.as_fd())).unwrap().unwrap();
        let began = std::time::Instant::now();
        assert_eq!(found.open().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // The kernel takes a lease away after 45 s.
        assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    }

    #[test]
    fn holes_are_found_without_filling_them() {
        let page = page_size() as u64;
        let fd = create_sparse("hqq-sys test", 64 * page, &[0..page, 10 * page..12 * page]).unwrap();
        let blocks = || fstat(&fd).unwrap().st_blocks as u64 * 512;
        let holes = |ranges: &[Range<u64>]| has_holes(fd.as_fd(), ranges).unwrap();
        for whole in [&[][..], from_ref(&(0..1)), &[0..page, 10 * page + 1..12 * page - 1], from_ref(&(5..5))]
        {
            assert!(!holes(whole), "{whole:?}");
        }
        for torn in
            [from_ref(&(0..page + 1)), &[0..page, 9 * page..11 * page], from_ref(&(11 * page..13 * page))]
        {
            assert!(holes(torn), "{torn:?}");
        }
        assert_eq!(blocks(), 3 * page);
        // Touched pages count as the others do.
        rustix::io::pwrite(&fd, b"x", 10 * page).unwrap();
        assert!(!holes(&[10 * page..12 * page, 0..page]));
    }

    #[test]
    fn bad_requests_are_refused() {
        for (name, len) in [("x", 0), ("a\0b", 4096), (&*"n".repeat(250), 4096)] {
            let e = create(name, len).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidInput, "{e}");
        }
        assert!(create("x", u64::MAX).is_err());
    }

    #[test]
    fn mappings_share_their_bytes_and_outlive_the_descriptor() {
        let len = page_size();
        let fd = sealed(len as u64);
        let a = Mapping::map(fd.as_fd(), len).unwrap();
        let b = Mapping::map(fd.as_fd(), len).unwrap();
        let c = Mapping::map_read_only(fd.as_fd(), len).unwrap();
        drop(fd);
        assert_eq!((a.len(), c.len()), (len, len));
        assert_eq!(a.base().as_ptr() as usize % page_size(), 0);
        // SAFETY: all three mappings are live and `len` bytes long, and only this thread uses
        // them.
        unsafe {
            a.base().add(len - 1).write_volatile(7);
            assert_eq!(b.base().add(len - 1).read_volatile(), 7);
            assert_eq!(c.base().add(len - 1).read_volatile(), 7);
            assert_eq!(c.base().read_volatile(), 0);
        }
    }

    #[test]
    fn a_mapping_never_reaches_beyond_its_file() {
        let len = page_size();
        let fd = sealed(len as u64);
        for wrong in [0, len + 1, usize::MAX] {
            for r in [Mapping::map(fd.as_fd(), wrong), Mapping::map_read_only(fd.as_fd(), wrong)] {
                assert_eq!(r.unwrap_err().kind(), io::ErrorKind::InvalidInput);
            }
        }
    }

    #[test]
    fn memory_can_be_reserved_through_its_mapping() {
        let len = 4 * page_size();
        let fd = memfd_create("sparse", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, len as u64).unwrap();
        let map = Mapping::map(fd.as_fd(), len).unwrap();
        assert_eq!(fstat(&fd).unwrap().st_blocks, 0);
        // SAFETY: the mapping is live, and only this thread uses it.
        unsafe { map.base().write_volatile(7) };
        reserve(map.base(), len).unwrap();
        assert_eq!(fstat(&fd).unwrap().st_blocks as usize * 512, len);
        // SAFETY: as above.
        assert_eq!(unsafe { map.base().read_volatile() }, 7);
        // The last page is beyond the file's end: touched, it would kill.
        ftruncate(&fd, len as u64 - 1 - page_size() as u64).unwrap();
        assert_eq!(reserve(map.base(), len).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(reserve(NonNull::without_provenance(page_size().try_into().unwrap()), page_size()).is_err());
    }

    #[test]
    fn a_write_seal_leaves_reading() {
        let len = page_size();
        let fd = create("read only", len as u64).unwrap();
        fcntl_add_seals(&fd, SealFlags::FUTURE_WRITE).unwrap();
        let e = Mapping::map(fd.as_fd(), len).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::PermissionDenied);
        Mapping::map_read_only(fd.as_fd(), len).unwrap();
    }

    #[test]
    fn a_forked_child_does_not_get_the_mapping() {
        let len = page_size();
        let map = Mapping::map(sealed(len as u64).as_fd(), len).unwrap();
        let start = format!("{:x}-", map.base().as_ptr() as usize);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let entry = smaps.lines().skip_while(|l| !l.starts_with(&start));
        let flags = entry.skip(1).find(|l| l.starts_with("VmFlags:")).unwrap();
        assert!(flags.split_whitespace().any(|f| f == "dc"), "{flags}");
    }
}
