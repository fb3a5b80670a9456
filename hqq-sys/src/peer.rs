//! Identity of a process, and proof of its death.
//!
//! A pidfd always refers to the same process, while a process id may be reused. It becomes readable when the process
//! has ended, even if its parent has not waited for it yet.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags};

use crate::fd::clear_of_streams;

/// Poll flags of a pidfd whose process has ended: `IN`, and `HUP` after its parent has waited for it.
pub(crate) const DEAD: PollFlags = PollFlags::IN.union(PollFlags::HUP);

/// Whether the process of `pidfd` has ended. Does not wait.
///
/// `true` is proof of death. If the kernel reports an error, which is not expected, the process counts as alive.
pub fn is_dead(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    retry_on_intr(|| poll(&mut fds, Some(&now))).is_ok() && fds[0].revents().intersects(DEAD)
}

/// Opens a pidfd for the process with id `pid`.
///
/// The id may have been reused meanwhile. Prefer the pidfd that [`crate::sock::recv`] returns.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if `pid` is not positive; `ESRCH` if there is no such process.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // `Pid::from_raw` checks for zero only.
    let pid = if pid > 0 { Pid::from_raw(pid) } else { None };
    let pid =
        pid.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a process number must be positive"))?;
    clear_of_streams(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Opens a pidfd for the calling process.
///
/// # Errors
/// The kernel's, when descriptors have run out or a system call filter forbids it.
pub fn own_pidfd() -> io::Result<OwnedFd> {
    pidfd_open(pid())
}

/// Effective user id of this process, which the kernel reports to peers.
pub fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Process id of this process, in its own pid namespace.
pub fn pid() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    #[test]
    fn own_identity() {
        assert_eq!(pid(), std::process::id() as i32);
        assert!(!is_dead(own_pidfd().unwrap().as_fd()));
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pidfd = pidfd_open(child.id() as i32).unwrap();
        assert!(!is_dead(pidfd.as_fd()));
        child.kill().unwrap();
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
        retry_on_intr(|| poll(&mut fds, Some(&limit))).unwrap();
        assert!(is_dead(pidfd.as_fd()), "not reaped yet, but dead");
        child.wait().unwrap();
        assert!(is_dead(pidfd.as_fd()), "reaped");
        let e = pidfd_open(child.id() as i32).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn numbers_that_name_no_process() {
        for pid in [0, -1, i32::MIN] {
            let e = pidfd_open(pid).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
