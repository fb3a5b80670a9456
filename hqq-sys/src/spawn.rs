//! Passing a socket to a child process.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::net::{AddressFamily, SocketType, sockopt};

// `Command` replaces the standard streams in the child.
use crate::fd::FIRST;
use crate::sock::{identify_senders, set_cloexec};

/// Lets the children that `cmd` starts inherit `fd`, and sets the environment variable `env` to its number. The child
/// calls [`inherited`].
///
/// In this process the descriptor stays close-on-exec, so other children do not inherit it. It is not copied: keep it
/// open until the child has been started, and close it afterwards, because a socket hangs up only when all its
/// descriptors are closed. If it is closed earlier, the start fails with `EBADF`, even if the number refers to
/// another file by then.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if the descriptor is a standard stream (0, 1 or 2).
pub fn inherit_fd(cmd: &mut Command, fd: BorrowedFd<'_>, env: &str) -> io::Result<()> {
    let number = fd.as_raw_fd();
    if number < FIRST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "descriptor {number} is a standard stream, which a child cannot be passed: pass {FIRST} or more"
            ),
        ));
    }
    let is = fstat(fd)?;
    let (dev, ino) = (is.st_dev, is.st_ino);
    cmd.env(env, number.to_string());
    let keep_open = move || {
        // SAFETY: all zeroes is a valid `stat`.
        let mut found: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `found` is live and writable; any number is allowed.
        if unsafe { libc::fstat(number, &raw mut found) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if (found.st_dev, found.st_ino) != (dev, ino) {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        // SAFETY: changes a flag of a descriptor in this child alone.
        if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure calls only fstat and fcntl, which are async-signal-safe, and does not
    // allocate: an error made from a number needs no memory.
    unsafe { cmd.pre_exec(keep_open) };
    Ok(())
}

/// Returns the socket that the parent passed with [`inherit_fd`]. Succeeds once.
///
/// The descriptor must be an open Unix socket that preserves message boundaries. It must still be inheritable, unlike
/// any descriptor that this process opened itself. Afterwards it is close-on-exec, so this process's own children do
/// not inherit it. The variable stays in the environment.
///
/// # Errors
/// All name the variable: [`io::ErrorKind::NotFound`] if it is not set; [`io::ErrorKind::InvalidInput`] unless it is
/// a number of at least 3; [`io::ErrorKind::InvalidData`] if the descriptor is no such socket, or an earlier call
/// returned it.
pub fn inherited(env: &str) -> io::Result<OwnedFd> {
    inherited_from(env, env::var_os(env))
}

fn inherited_from(env: &str, value: Option<OsString>) -> io::Result<OwnedFd> {
    // Two threads must not both find the descriptor inheritable.
    static ONCE: Mutex<()> = Mutex::new(());
    let _once = ONCE.lock().unwrap_or_else(PoisonError::into_inner);

    let value = value.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("{env} is not set: the process that starts this one must pass it a socket"),
        )
    })?;
    let number =
        value.to_str().and_then(|s| s.parse::<RawFd>().ok()).filter(|&n| n >= FIRST).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{env}={value:?} is not the number of a descriptor; it must be {FIRST} or more"),
            )
        })?;
    let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{env}={number}: {why}"));

    // SAFETY: a query; any number is allowed.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(refuse("this descriptor is not open; a process between the two may have closed it"));
    }
    // A descriptor that survived an exec has the flag clear. One that this process opened, or returned here before, has
    // it set.
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(refuse("this descriptor was not inherited, or was taken before; it can be taken once"));
    }
    // SAFETY: it is open, as F_GETFD showed, and is borrowed for the queries below only.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    if sockopt::socket_domain(fd) != Ok(AddressFamily::UNIX)
        || sockopt::socket_type(fd) != Ok(SocketType::SEQPACKET)
    {
        return Err(refuse("this descriptor is not a Unix socket of type SOCK_SEQPACKET"));
    }
    set_cloexec(fd, true)?;
    // SAFETY: it is open and was inherited, so nothing in this process owns it; close-on-exec was set under the lock,
    // so no other call returns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
    identify_senders(&fd)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::{peer, poll, sock};
    use std::fs::File;
    use std::os::fd::{AsFd, IntoRawFd};
    use std::process::{Child, Stdio};
    use std::time::Duration;

    const VARIABLE: &str = "HQQ_SYS_TEST_FD";

    /// What a child started by [`child`] does. As a test of its own it does nothing.
    #[test]
    fn in_the_child() {
        if env::var_os(VARIABLE).is_none() {
            return;
        }
        let socket = inherited(VARIABLE).unwrap();
        let again = inherited(VARIABLE).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::InvalidData);
        sock::send(socket.as_fd(), b"here", &[]).unwrap();
        // Until it is killed or the parent rings.
        let event = Event::new().unwrap();
        poll::wait(socket.as_fd(), None, event.as_fd(), None).unwrap();
    }

    /// This test program once more, running [`in_the_child`] only.
    fn child() -> Command {
        let mut cmd = Command::new(env::current_exe().unwrap());
        cmd.args(["--exact", "spawn::tests::in_the_child"]).stdin(Stdio::null()).stdout(Stdio::null());
        cmd
    }

    fn start() -> (OwnedFd, Child, OwnedFd) {
        let (ours, theirs) = sock::pair().unwrap();
        let mut cmd = child();
        inherit_fd(&mut cmd, theirs.as_fd(), VARIABLE).unwrap();
        let child = cmd.spawn().unwrap();
        drop(theirs);
        let event = Event::new().unwrap();
        let limit = Some(Duration::from_secs(20));
        let ready = poll::wait(ours.as_fd(), None, event.as_fd(), limit).unwrap();
        assert!(ready.socket, "{ready:?}");
        let mut buf = [0; 16];
        let got = sock::recv(ours.as_fd(), &mut buf).unwrap().unwrap();
        assert_eq!(&buf[..got.len], b"here");
        assert_eq!(got.creds.unwrap().pid, child.id() as i32);
        (ours, child, got.pidfd.unwrap())
    }

    #[test]
    fn a_message_names_its_sender_until_death() {
        let (ours, mut child, pidfd) = start();
        assert!(!peer::is_dead(pidfd.as_fd()));
        // The pair itself was made here, which is what the socket goes on saying.
        let maker = sock::peer_creds(ours.as_fd()).unwrap();
        assert_eq!(maker.pid, peer::pid());

        child.kill().unwrap();
        let event = Event::new().unwrap();
        let limit = Some(Duration::from_secs(20));
        loop {
            let ready = poll::wait(ours.as_fd(), Some(pidfd.as_fd()), event.as_fd(), limit);
            let ready = ready.unwrap();
            assert_ne!(ready, poll::Ready::default(), "death went unnoticed");
            if ready.dead && ready.hang_up {
                break;
            }
        }
        assert!(peer::is_dead(pidfd.as_fd()));
        child.wait().unwrap();
        assert!(peer::is_dead(pidfd.as_fd()));
        assert!(sock::drain(ours.as_fd()).unwrap().hang_up);
    }

    #[test]
    fn a_sender_that_is_gone_gives_no_living_pidfd() {
        let (ours, theirs) = sock::pair().unwrap();
        let mut cmd = child();
        inherit_fd(&mut cmd, theirs.as_fd(), VARIABLE).unwrap();
        // Rung beforehand, the child does not wait: it sends, ends, and is reaped unread.
        sock::ring(ours.as_fd()).unwrap();
        assert!(cmd.status().unwrap().success());
        let got = sock::recv(ours.as_fd(), &mut [0; 16]).unwrap().unwrap();
        assert_eq!(got.len, 4);
        // Newer kernels name it all the same, and older ones do not.
        assert!(got.pidfd.is_none_or(|p| peer::is_dead(p.as_fd())));
    }

    #[test]
    fn other_children_do_not_get_it() {
        let (_ours, theirs) = sock::pair().unwrap();
        let mut cmd = child();
        inherit_fd(&mut cmd, theirs.as_fd(), VARIABLE).unwrap();
        assert!(rustix::io::fcntl_getfd(&theirs).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        let seen = Command::new("sh")
            .args(["-c", &format!("test -e /proc/self/fd/{}", theirs.as_raw_fd())])
            .status()
            .unwrap();
        assert!(!seen.success());
    }

    #[test]
    fn a_descriptor_closed_too_early_fails_the_start() {
        let (ours, theirs) = sock::pair().unwrap();
        let mut cmd = child();
        inherit_fd(&mut cmd, theirs.as_fd(), VARIABLE).unwrap();
        let number = theirs.as_raw_fd();
        // Another file takes the place of the socket, under the same number.
        let other = File::open("/dev/null").unwrap();
        // SAFETY: gives up the socket for the file in one step; `number` is owned by nobody else.
        let taken = unsafe { libc::dup3(other.as_raw_fd(), theirs.into_raw_fd(), libc::O_CLOEXEC) };
        assert_eq!(taken, number);
        // SAFETY: dup3 succeeded, and the former owner has let go of the number.
        let _file = unsafe { OwnedFd::from_raw_fd(taken) };
        let e = cmd.spawn().unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::EBADF));
        drop(ours);
    }

    #[test]
    fn standard_streams_are_refused() {
        let mut cmd = child();
        let e = inherit_fd(&mut cmd, io::stdin().as_fd(), VARIABLE).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn errors_name_the_variable() {
        let file = File::open("/proc/self/exe").unwrap();
        sock::set_cloexec(file.as_fd(), false).unwrap();
        let (own, _other) = sock::pair().unwrap();
        let file_number = file.as_raw_fd().to_string();
        let own_number = own.as_raw_fd().to_string();
        for (value, kind, words) in [
            (None, io::ErrorKind::NotFound, "not set"),
            (Some(""), io::ErrorKind::InvalidInput, "not the number"),
            (Some("-4"), io::ErrorKind::InvalidInput, "not the number"),
            (Some("0"), io::ErrorKind::InvalidInput, "not the number"),
            (Some("7 "), io::ErrorKind::InvalidInput, "not the number"),
            (Some("999999"), io::ErrorKind::InvalidData, "not open"),
            (Some(&file_number), io::ErrorKind::InvalidData, "not a Unix socket"),
            (Some(&own_number), io::ErrorKind::InvalidData, "not inherited"),
        ] {
            let e = inherited_from("SOME_VARIABLE", value.map(OsString::from)).unwrap_err();
            assert_eq!(e.kind(), kind, "{e}");
            let text = e.to_string();
            assert!(text.contains("SOME_VARIABLE") && text.contains(words), "{text}");
        }
        let e = inherited("HQQ_SYS_NO_SUCH_VARIABLE").unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::NotFound);
    }
}
