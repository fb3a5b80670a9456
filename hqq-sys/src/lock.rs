//! A lock on one byte of a memfd. While it is held, the holder's memory still exists; any process with the file can
//! check.
//!
//! It is a lock of an open file description (OFD lock). No byte is read or written, and the file need not have that
//! byte. The proof rests on these facts:
//!
//! | fact of the kernel | consequence |
//! |---|---|
//! | the lock ends with the last descriptor *and mapping* of its description | [`SeatLock`] keeps a mapping and closes the descriptor |
//! | a forked child inherits descriptors, but no mapping with `MADV_DONTFORK` | a child cannot keep its parent's lock |
//! | `exec` removes the mappings | it releases the lock: the process lives, but its memory does not exist any more |
//! | a dying process releases its memory before its pidfd reports the death | when the pidfd reports it, the lock is released, unless a reader of `/proc/PID` or a debugger keeps the memory a moment longer |
//! | a process created with `CLONE_VM` (by `vfork`, for instance) shares the memory | the lock lasts until that process has ended too, and until then it may write |
//! | a descriptor received by `SCM_RIGHTS` or `fork` shares its description with the sender | [`lock`] opens the file again, through `/proc`, for a description of its own |
//! | seals forbid writing and resizing, but not locks | a sealed memfd can be locked, also with `F_SEAL_FUTURE_WRITE` |
//! | the kernel does not report the holder of the lock (`l_pid` is -1) | the seat's word names the occupant; a hostile process with the descriptor can lock a byte, but not unlock another's |
//!
//! A byte that is not locked proves that the holder's memory is gone or about to go, so the holder writes no more. A
//! locked byte is no proof of life: check again later.
//!
//! One gap is left: if a thread forks while another is inside [`lock`], the child may inherit the description. Then
//! the lock lasts until that child has called exec or ended.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::fd::open;
use crate::mem::Mapping;

/// One locked byte. It is unlocked when this value is dropped, or when this process ends.
#[derive(Debug)]
pub struct SeatLock {
    /// Never read: it keeps the description that owns the lock.
    _keeps: Mapping,
}

/// Locks `byte` of the memfd `fd`. `None` if it is locked already, by another process or by this one.
///
/// The lock keeps one page of address space, but no descriptor.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if `byte` exceeds `i64::MAX - 1` or the file is empty;
/// [`io::ErrorKind::NotFound`] where `/proc` is not mounted; [`io::ErrorKind::PermissionDenied`] if
/// this user may not write to the file; [`io::ErrorKind::WouldBlock`] if another process holds a lease on it; the
/// kernel's, when descriptors or memory have run out.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use hqq_sys::{lock, mem};
/// use std::os::fd::AsFd;
/// let fd = mem::create("example", 4096)?;
/// let held = lock::lock(fd.as_fd(), 3)?;
/// assert!(held.is_some() && lock::is_locked(fd.as_fd(), 3)?);
/// assert!(lock::lock(fd.as_fd(), 3)?.is_none());
/// drop(held);
/// assert!(!lock::is_locked(fd.as_fd(), 3)?);
/// # Ok(()) }
/// ```
pub fn lock(fd: BorrowedFd<'_>, byte: u64) -> io::Result<Option<SeatLock>> {
    let mut want = write_lock(byte)?;
    // Not `/proc/self`: a thread may have its own table of descriptors.
    let path = format!("/proc/thread-self/fd/{}", fd.as_raw_fd());
    // Without waiting: any process that has the file may hold a lease on it, and the kernel would let it keep that for 45 s.
    let own = open(Path::new(&path), OFlags::RDWR, Mode::empty())?;
    // Before the lock, so that no child forked in between inherits the mapping of a locked description.
    let keeps = Mapping::map_read_only(own.as_fd(), 1)?;
    // SAFETY: the descriptor is open, and the kernel only reads the live `flock`.
    if unsafe { libc::fcntl(own.as_raw_fd(), libc::F_OFD_SETLK, &raw mut want) } == 0 {
        return Ok(Some(SeatLock { _keeps: keeps }));
    }
    let e = io::Error::last_os_error();
    match e.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(None),
        _ => Err(e),
    }
}

/// Whether any process, including this one, holds a [`SeatLock`] on `byte` of `fd`. Does not wait.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if `byte` exceeds `i64::MAX - 1`; others are not expected.
pub fn is_locked(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    let mut found = write_lock(byte)?;
    // SAFETY: the descriptor is open, and the kernel reads and writes the live `flock` alone.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &raw mut found) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::from(found.l_type) != libc::F_UNLCK)
}

fn write_lock(byte: u64) -> io::Result<libc::flock> {
    let start = i64::try_from(byte).ok().filter(|&start| start < i64::MAX);
    let start = start.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("byte {byte} of a file cannot be locked"))
    })?;
    // SAFETY: all zeroes is a valid `flock`; `l_pid` must be 0 for OFD locks.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = start;
    lock.l_len = 1;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mem, peer, sock};
    use std::env;
    use std::fs::File;
    use std::io::{BufRead, BufReader, Write};
    use std::os::fd::OwnedFd;
    use std::process::{Child, ChildStdout, Command, Stdio};
    use std::time::{Duration, Instant};

    /// What a child does, and of which memory, by a path of this process.
    const TASK: &str = "HQQ_SYS_TEST_LOCK";
    const FILE: &str = "HQQ_SYS_TEST_LOCK_FILE";
    const BYTE: u64 = 5;

    fn memory() -> OwnedFd {
        let fd = mem::create("hqq-sys lock", 4096).unwrap();
        mem::seal(fd.as_fd()).unwrap();
        fd
    }

    fn comes_free(fd: &OwnedFd) {
        let limit = Instant::now() + Duration::from_secs(20);
        while is_locked(fd.as_fd(), BYTE).unwrap() {
            assert!(Instant::now() < limit, "still locked after 20 s");
            std::thread::yield_now();
        }
    }

    fn say(word: &str) {
        // Not captured, unlike what is printed.
        io::stdout().write_all(format!("lock: {word}\n").as_bytes()).unwrap();
    }

    fn hear() -> String {
        let mut line = String::new();
        io::stdin().read_line(&mut line).unwrap();
        line
    }

    /// What a child started by [`start`] does. As a test of its own it does nothing.
    #[test]
    fn in_the_child() {
        let Ok(task) = env::var(TASK) else {
            return;
        };
        let file = File::options().read(true).write(true).open(env::var(FILE).unwrap()).unwrap();
        let held = lock(file.as_fd(), BYTE).unwrap().expect("nobody else holds it");
        match task.as_str() {
            "hold" => say("held"),
            "fork" => {
                // SAFETY: the child calls nothing but alarm, pause and _exit, which are safe after a
                // fork of a process with several threads. It ends by itself after a minute.
                let child = unsafe {
                    let child = libc::fork();
                    if child == 0 {
                        libc::alarm(60);
                        libc::pause();
                        libc::_exit(0);
                    }
                    child
                };
                assert!(child > 0);
                say(&child.to_string());
            }
            other => panic!("{other} is no task"),
        }
        match hear().as_str() {
            "drop\n" => {
                drop(held);
                say("dropped");
                hear();
            }
            "exec\n" => {
                use std::os::unix::process::CommandExt;
                panic!("{}", Command::new("cat").exec());
            }
            _ => {}
        }
    }

    struct Holder {
        child: Child,
        out: BufReader<ChildStdout>,
    }

    impl Holder {
        /// This test program once more, running [`in_the_child`] only, and its first word.
        fn start(task: &str, fd: &OwnedFd) -> (Self, String) {
            let mut child = Command::new(env::current_exe().unwrap())
                .args(["--exact", "lock::tests::in_the_child"])
                .env(TASK, task)
                .env(FILE, format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let out = BufReader::new(child.stdout.take().unwrap());
            let mut holder = Self { child, out };
            let word = holder.hear();
            (holder, word)
        }

        fn hear(&mut self) -> String {
            let mut line = String::new();
            while self.out.read_line(&mut line).unwrap() > 0 {
                // The test program's own output may come before it in the line.
                if let Some((_, word)) = line.trim_end().split_once("lock: ") {
                    return word.to_owned();
                }
                line.clear();
            }
            panic!("the child ended: {:?}", self.child.wait());
        }

        fn say(&mut self, order: &str) {
            self.child.stdin.as_mut().unwrap().write_all(order.as_bytes()).unwrap();
        }
    }

    impl Drop for Holder {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// A process by its number, ended when this is dropped.
    struct Other(OwnedFd);

    impl Other {
        fn open(pid: &str) -> Self {
            Self(peer::pidfd_open(pid.parse().unwrap()).unwrap())
        }

        fn lives(&self) -> bool {
            !peer::is_dead(self.0.as_fd())
        }
    }

    impl Drop for Other {
        fn drop(&mut self) {
            let _ = rustix::process::pidfd_send_signal(&self.0, rustix::process::Signal::KILL);
        }
    }

    #[test]
    fn a_byte_has_one_holder_in_a_process_too() {
        let fd = memory();
        let first = lock(fd.as_fd(), BYTE).unwrap().unwrap();
        assert!(is_locked(fd.as_fd(), BYTE).unwrap());
        // The same description under another number, as a peer would have it.
        let copy = fd.try_clone().unwrap();
        assert!(is_locked(copy.as_fd(), BYTE).unwrap());
        assert!(lock(copy.as_fd(), BYTE).unwrap().is_none());
        for other in [0, BYTE - 1, BYTE + 1, 1 << 40] {
            assert!(!is_locked(fd.as_fd(), other).unwrap(), "{other}");
            drop(lock(fd.as_fd(), other).unwrap().unwrap());
        }
        assert!(is_locked(fd.as_fd(), BYTE).unwrap(), "closing other descriptions changes nothing");
        drop(copy);
        assert!(is_locked(fd.as_fd(), BYTE).unwrap());
        drop(first);
        assert!(!is_locked(fd.as_fd(), BYTE).unwrap());
        drop(lock(fd.as_fd(), BYTE).unwrap().unwrap());
    }

    #[test]
    fn the_lock_outlives_the_callers_descriptor() {
        let fd = memory();
        let other = File::open(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        let held = lock(fd.as_fd(), BYTE).unwrap();
        drop(fd);
        assert!(is_locked(other.as_fd(), BYTE).unwrap());
        drop(held);
        assert!(!is_locked(other.as_fd(), BYTE).unwrap());
    }

    #[test]
    fn no_descriptor_is_left_and_no_child_gets_the_page() {
        const NAME: &str = "hqq-sys lock counted";
        let fd = mem::create(NAME, 4096).unwrap();
        let open = || {
            let names = std::fs::read_dir("/proc/self/fd").unwrap();
            let targets = names.filter_map(|name| std::fs::read_link(name.unwrap().path()).ok());
            targets.filter(|to| to.to_string_lossy().contains(NAME)).count()
        };
        assert_eq!(open(), 1);
        let held: Vec<_> = (0..20).map(|byte| lock(fd.as_fd(), byte).unwrap().unwrap()).collect();
        assert!(lock(fd.as_fd(), 7).unwrap().is_none());
        assert_eq!(open(), 1);
        let kept_from_children = || {
            let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let (mut ours, mut kept) = (false, 0);
            for line in smaps.lines() {
                match line.strip_prefix("VmFlags:") {
                    Some(flags) => kept += usize::from(ours && flags.split_whitespace().any(|f| f == "dc")),
                    // A mapping's first line begins with its addresses, the others with a name.
                    None if !line.starts_with(|c: char| c.is_ascii_uppercase()) => ours = line.contains(NAME),
                    None => {}
                }
            }
            kept
        };
        assert_eq!(kept_from_children(), 20);
        drop(held);
        assert_eq!(kept_from_children(), 0);
    }

    #[test]
    fn sealed_memory_can_be_locked() {
        use rustix::fs::{SealFlags, fcntl_add_seals};
        let fd = mem::create("hqq-sys lock", 4096).unwrap();
        fcntl_add_seals(&fd, SealFlags::FUTURE_WRITE).unwrap();
        mem::seal(fd.as_fd()).unwrap();
        let held = lock(fd.as_fd(), BYTE).unwrap().unwrap();
        assert!(is_locked(fd.as_fd(), BYTE).unwrap());
        drop(held);
        assert!(!is_locked(fd.as_fd(), BYTE).unwrap());
    }

    #[test]
    fn a_lease_on_the_memory_delays_nobody() {
        let fd = memory();
        // The kernel does not count what `memfd_create` returns as opened for writing, which a lease needs.
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let leased = File::options().read(true).write(true).open(path).unwrap();
        // SAFETY: sets a flag of an open file of this process.
        if unsafe { libc::fcntl(leased.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) } != 0 {
            eprintln!("WARNING: A LEASE WAS NOT TRIED: {}", io::Error::last_os_error());
            return;
        }
        // Nobody is to get the signal that asks for the lease, which would end this process.
        // SAFETY: as above.
        assert_eq!(unsafe { libc::fcntl(leased.as_raw_fd(), libc::F_SETOWN, 0) }, 0);
        let began = Instant::now();
        let refused = lock(fd.as_fd(), BYTE).unwrap_err();
        // The kernel takes a lease away after 45 s.
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn bad_requests_are_refused() {
        let fd = memory();
        for byte in [i64::MAX as u64, u64::MAX] {
            for e in [lock(fd.as_fd(), byte).unwrap_err(), is_locked(fd.as_fd(), byte).unwrap_err()] {
                assert_eq!(e.kind(), io::ErrorKind::InvalidInput, "{e}");
            }
        }
        drop(lock(fd.as_fd(), i64::MAX as u64 - 1).unwrap().unwrap());
        let (socket, _other) = sock::pair().unwrap();
        assert!(lock(socket.as_fd(), 0).is_err());
    }

    #[test]
    fn another_process_sees_it_and_kill_9_releases_it() {
        let fd = memory();
        let (mut holder, _) = Holder::start("hold", &fd);
        assert!(is_locked(fd.as_fd(), BYTE).unwrap());
        assert!(lock(fd.as_fd(), BYTE).unwrap().is_none());
        holder.child.kill().unwrap();
        comes_free(&fd);
        lock(fd.as_fd(), BYTE).unwrap().unwrap();
    }

    #[test]
    fn a_forked_child_does_not_keep_its_dead_parents_lock() {
        let fd = memory();
        let (mut holder, child) = Holder::start("fork", &fd);
        let child = Other::open(&child);
        assert!(is_locked(fd.as_fd(), BYTE).unwrap());
        holder.child.kill().unwrap();
        comes_free(&fd);
        assert!(child.lives());
    }

    #[test]
    fn a_forked_child_does_not_keep_a_dropped_lock() {
        let fd = memory();
        let (mut holder, child) = Holder::start("fork", &fd);
        let child = Other::open(&child);
        holder.say("drop\n");
        assert_eq!(holder.hear(), "dropped");
        assert!(!is_locked(fd.as_fd(), BYTE).unwrap());
        assert!(child.lives());
    }

    #[test]
    fn exec_releases_it_though_the_process_lives() {
        let fd = memory();
        let (mut holder, _) = Holder::start("hold", &fd);
        let process = Other::open(&holder.child.id().to_string());
        holder.say("exec\n");
        comes_free(&fd);
        assert!(process.lives());
        drop(holder.child.stdin.take());
        assert!(holder.child.wait().unwrap().success(), "it had become another program");
    }
}
