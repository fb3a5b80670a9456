//! Handing a socket to a child process.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::sock::{identify_senders, set_cloexec};

/// Numbers below are standard streams, which `Command` replaces in the child.
const FIRST: RawFd = 3;

/// Lets the children that `cmd` starts keep this descriptor, and names its number in the
/// environment variable `env`. The child takes it with [`inherited`].
///
/// In this process the descriptor stays close-on-exec, so that other children do not get it. It
/// is not copied: keep it open until the child has been started, and close it afterwards, since a
/// socket hangs up only once all its descriptors are closed. If it is closed earlier the start
/// fails with `EBADF`, also when the number has been used anew for something else.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if the descriptor is a standard stream (0, 1 or 2).
pub fn inherit_fd(cmd: &mut Command, fd: BorrowedFd<'_>, env: &str) -> io::Result<()> {
    let number = fd.as_raw_fd();
    if number < FIRST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("descriptor {number} is a standard stream and cannot be handed to a child"),
        ));
    }
    let is = fstat(fd)?;
    let (dev, ino) = (is.st_dev, is.st_ino);
    cmd.env(env, number.to_string());
    let keep_open = move || {
        // SAFETY: all zeroes is a valid `stat`.
        let mut found: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `found` is live and writable; any number may be asked about.
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
    // SAFETY: between fork and exec the closure calls only fstat and fcntl, which are safe there,
    // and does not allocate: errors made of a number hold nothing else.
    unsafe { cmd.pre_exec(keep_open) };
    Ok(())
}

/// Takes the socket that the parent handed over with [`inherit_fd`], once.
///
/// It must be an open Unix socket that keeps messages apart, and still inheritable, as nothing is
/// that this process opened by itself. From here on it is close-on-exec, so that this process's
/// own children do not get it. The variable stays in the environment.
///
/// # Errors
/// They all name the variable: [`io::ErrorKind::NotFound`] if it is not set,
/// [`io::ErrorKind::InvalidInput`] if it is no number from 3 on,
/// [`io::ErrorKind::InvalidData`] if the number is not such a socket, or was taken before.
pub fn inherited(env: &str) -> io::Result<OwnedFd> {
    take(env, env::var_os(env))
}

fn take(env: &str, value: Option<OsString>) -> io::Result<OwnedFd> {
    // Two threads must not both find the descriptor inheritable.
    static ONCE: Mutex<()> = Mutex::new(());
    let _once = ONCE.lock().unwrap_or_else(PoisonError::into_inner);

    let value = value.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("{env} is not set: this process was not given a socket by its parent"),
        )
    })?;
    let number = value
        .to_str()
        .and_then(|s| s.parse::<RawFd>().ok())
        .filter(|&n| n >= FIRST)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{env}={value:?} is not the number of a descriptor, from {FIRST} on"),
            )
        })?;
    let refuse =
        |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{env}={number}: {why}"));

    // SAFETY: only asks; any number is allowed.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(refuse(
            "this descriptor is not open; did a process in between close it?",
        ));
    }
    // What survived an exec has the flag clear; what this process opened since, or took here
    // before, has it set.
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(refuse(
            "this descriptor was not inherited, or was taken before",
        ));
    }
    // SAFETY: it is open, as was just seen, and is borrowed for the questions below only.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    if sockopt::socket_domain(fd) != Ok(AddressFamily::UNIX)
        || sockopt::socket_type(fd) != Ok(SocketType::SEQPACKET)
    {
        return Err(refuse(
            "this descriptor is not a Unix socket that keeps messages apart",
        ));
    }
    set_cloexec(fd, true)?;
    // SAFETY: it is open and was inherited, so that nothing in this process owns it; having set
    // close-on-exec under the lock, nobody else will take it here.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
    identify_senders(&fd)?;
    Ok(fd)
}
