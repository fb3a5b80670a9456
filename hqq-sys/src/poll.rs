//! Sleeping until a socket, a process or an event is ready.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::peer::DEAD;

/// Result of [`wait`]. Several fields may be true; all are false after a timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Whether the socket has a message to read, or has reached its end.
    pub socket: bool,
    /// Whether the other end of the socket is closed, or the socket has failed.
    pub hang_up: bool,
    /// Whether the process of the pidfd has ended.
    pub dead: bool,
    /// Whether the local event is set.
    pub event: bool,
}

/// Sleeps until `socket` is readable or hung up, the process of `pidfd` ends, `event` is readable, or `timeout` has
/// passed.
///
/// Without a `timeout` it waits without limit; with zero it returns at once. It reads nothing, so what was ready stays
/// ready.
///
/// # Errors
/// The kernel's, for instance if memory has run out. After a signal the call goes on for the rest of the time.
pub fn wait(
    socket: BorrowedFd<'_>,
    pidfd: Option<BorrowedFd<'_>>,
    event: BorrowedFd<'_>,
    timeout: Option<Duration>,
) -> io::Result<Ready> {
    // Without a pidfd the last entry is only a placeholder: it is not polled.
    let mut fds = [
        PollFd::from_borrowed_fd(socket, PollFlags::IN),
        PollFd::from_borrowed_fd(event, PollFlags::IN),
        PollFd::from_borrowed_fd(pidfd.unwrap_or(event), PollFlags::IN),
    ];
    let count = if pidfd.is_some() { 3 } else { 2 };
    poll_for(&mut fds[..count], timeout)?;
    let socket = fds[0].revents();
    Ok(Ready {
        socket: socket.contains(PollFlags::IN),
        hang_up: socket.intersects(PollFlags::HUP | PollFlags::ERR),
        dead: fds[2].revents().intersects(DEAD),
        event: fds[1].revents().contains(PollFlags::IN),
    })
}

/// Sleeps until at least one of `fds` is readable, hung up or failed, or `timeout` has passed.
///
/// Returns a flag for each descriptor, in their order. All are false after a timeout.
///
/// # Errors
/// As [`wait`]; and [`io::ErrorKind::InvalidInput`] for more descriptors than a process may open.
pub fn many(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<_> = fds.iter().map(|&fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    poll_for(&mut polled, timeout)?;
    Ok(polled.iter().map(|p| !p.revents().is_empty()).collect())
}

/// Sleeps until `fd` can be written to, or has failed, or `timeout` has passed. Returns whether it can be tried again.
///
/// # Errors
/// As [`wait`].
pub fn writable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    poll_for(&mut polled, timeout)?;
    Ok(!polled[0].revents().is_empty())
}

fn poll_for(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    // A deadline beyond the clock's range counts as none.
    let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
    let mut left = deadline.and(timeout);
    loop {
        let spec = left.and_then(|t| Timespec::try_from(t).ok());
        match poll(fds, spec.as_ref()) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {
                left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            }
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::{peer, sock};
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    const LONG: Option<Duration> = Some(Duration::from_secs(20));

    #[test]
    fn nothing_ready_times_out() {
        let (a, _b) = sock::pair().unwrap();
        let event = Event::new().unwrap();
        let start = Instant::now();
        let ready = wait(a.as_fd(), None, event.as_fd(), Some(Duration::from_millis(20))).unwrap();
        assert_eq!(ready, Ready::default());
        assert!(start.elapsed() >= Duration::from_millis(20));
        let me = peer::own_pidfd().unwrap();
        let ready = wait(a.as_fd(), Some(me.as_fd()), event.as_fd(), Some(Duration::ZERO));
        assert_eq!(ready.unwrap(), Ready::default());
    }

    #[test]
    fn event_and_socket_are_told_apart() {
        let (a, b) = sock::pair().unwrap();
        let event = Event::new().unwrap();
        event.signal().unwrap();
        // A set event must not pass for a dead peer when there is no pidfd.
        let ready = wait(a.as_fd(), None, event.as_fd(), None).unwrap();
        assert_eq!(ready, Ready { event: true, ..Ready::default() });
        event.clear().unwrap();
        sock::ring(b.as_fd()).unwrap();
        let ready = wait(a.as_fd(), None, event.as_fd(), Some(Duration::MAX)).unwrap();
        assert_eq!(ready, Ready { socket: true, ..Ready::default() });
    }

    #[test]
    fn a_closed_peer_hangs_up() {
        let (a, b) = sock::pair().unwrap();
        let event = Event::new().unwrap();
        drop(b);
        // Another test may be forking just now and hold a copy of `b` until its exec.
        let ready = wait(a.as_fd(), None, event.as_fd(), LONG).unwrap();
        assert!(ready.hang_up && !ready.dead && !ready.event, "{ready:?}");
    }

    #[test]
    fn death_wakes_a_sleeper() {
        let (a, _b) = sock::pair().unwrap();
        let event = Event::new().unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pidfd = peer::pidfd_open(child.id() as i32).unwrap();
        let ready = std::thread::scope(|s| {
            let sleeper = s.spawn(|| wait(a.as_fd(), Some(pidfd.as_fd()), event.as_fd(), LONG));
            child.kill().unwrap();
            sleeper.join().unwrap().unwrap()
        });
        assert_eq!(ready, Ready { dead: true, ..Ready::default() });
        child.wait().unwrap();
    }

    #[test]
    fn many_flags_each_descriptor() {
        let (a, b) = sock::pair().unwrap();
        let (c, _d) = sock::pair().unwrap();
        let all = [a.as_fd(), c.as_fd()];
        assert_eq!(many(&all, Some(Duration::ZERO)).unwrap(), [false, false]);
        sock::ring(b.as_fd()).unwrap();
        assert_eq!(many(&all, None).unwrap(), [true, false]);
        assert!(many(&[], Some(Duration::ZERO)).unwrap().is_empty());
    }

    #[test]
    fn a_signal_does_not_cut_the_wait_short() {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: the handler does nothing, and no other test uses this signal.
        let old = unsafe { libc::signal(libc::SIGUSR1, nothing as *const () as usize) };
        assert_ne!(old, libc::SIG_ERR);
        let (a, _b) = sock::pair().unwrap();
        let event = Event::new().unwrap();
        let start = Instant::now();
        // SAFETY: always succeeds, and has no preconditions.
        let sleeper = unsafe { libc::pthread_self() } as usize;
        std::thread::scope(|s| {
            s.spawn(move || {
                for _ in 0..5 {
                    std::thread::sleep(Duration::from_millis(5));
                    // SAFETY: that thread waits below until this one has ended.
                    unsafe { libc::pthread_kill(sleeper as libc::pthread_t, libc::SIGUSR1) };
                }
            });
            let limit = Some(Duration::from_millis(60));
            let ready = wait(a.as_fd(), None, event.as_fd(), limit).unwrap();
            assert_eq!(ready, Ready::default());
        });
        assert!(start.elapsed() >= Duration::from_millis(60));
    }
}
