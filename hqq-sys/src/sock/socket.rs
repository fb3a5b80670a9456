//! Creating and connecting sockets, their options, and the identity of the peer.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd, retry_on_intr};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::address::Address;
use crate::fd::clear_of_streams;

// Numbers that `libc` lacks; the same on x86-64 and aarch64.
pub(super) const SO_PASSPIDFD: libc::c_int = 76;
const SO_PEERPIDFD: libc::c_int = 77;
const SO_PASSRIGHTS: libc::c_int = 83;

/// Accepts the next connection of the listener `fd`. `None` if none is pending.
///
/// # Errors
/// The kernel's, for instance `EMFILE` if descriptors have run out: then the connection stays pending.
pub fn accept(fd: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match retry_on_intr(|| rustix::net::accept_with(fd, flags)) {
        Ok(peer) => {
            let peer = clear_of_streams(peer)?;
            identify_senders(&peer)?;
            Ok(Some(peer))
        }
        Err(Errno::AGAIN) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether an error of [`accept`] says that this process, or the machine, has no descriptor or memory left for another socket.
pub fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Connects to a listener. The connection can be written to before it is accepted.
///
/// # Errors
/// [`io::ErrorKind::ConnectionRefused`] or [`io::ErrorKind::NotFound`] if there is no listener;
/// [`io::ErrorKind::WouldBlock`] if the listener's backlog is full; `EPROTOTYPE` if the socket is of another type;
/// those of [`super::listen`] for invalid names and old kernels; the kernel's for the path.
pub fn connect(address: &Address) -> io::Result<OwnedFd> {
    let to = address.to_unix()?;
    let fd = socket()?;
    retry_on_intr(|| rustix::net::connect(&fd, &to))?;
    Ok(fd)
}

/// Creates two sockets that are connected to each other.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] before Linux 6.5; the kernel's when descriptors have run out.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    let (a, b) = (clear_of_streams(a)?, clear_of_streams(b)?);
    identify_senders(&a)?;
    identify_senders(&b)?;
    Ok((a, b))
}

/// Identity of the process at the other end, as the kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Creds {
    /// Process id in the pid namespace of the calling process. 0 if the process has none there.
    pub pid: i32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

impl From<libc::ucred> for Creds {
    fn from(c: libc::ucred) -> Self {
        Self { pid: c.pid, uid: c.uid, gid: c.gid }
    }
}

/// Identity of the process that called [`connect`], [`super::listen`] or [`pair`] for the other end, at the time of
/// that call.
///
/// Another process may have that end now, for instance a child that inherited it. [`super::recv`] reports the sender
/// of a message.
///
/// # Errors
/// `ENOTCONN` or similar for a socket that was never connected.
pub fn peer_creds(fd: BorrowedFd<'_>) -> io::Result<Creds> {
    // rustix cannot represent 0, which means a process of another pid namespace.
    let mut creds = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    // SAFETY: the kernel writes a `ucred` for this option.
    unsafe { get_option(fd, libc::SO_PEERCRED, &mut creds)? };
    if creds.uid == u32::MAX {
        return Err(io::Error::from_raw_os_error(libc::ENOTCONN));
    }
    Ok(creds.into())
}

/// Opens a pidfd for the process of [`peer_creds`], even in another pid namespace.
///
/// # Errors
/// `ENODATA` for a socket that was never connected; `ESRCH` if that process has ended; `ENOPROTOOPT` before Linux 6.5.
pub fn peer_pidfd(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut raw: libc::c_int = -1;
    // SAFETY: the kernel writes an `int` for this option.
    unsafe { get_option(fd, SO_PEERPIDFD, &mut raw)? };
    // SAFETY: the kernel has just created this descriptor for the caller (close-on-exec); it is not -1, since the call
    // succeeded.
    clear_of_streams(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Shuts a connection down in both directions, for all processes that have the socket. The other end hangs up.
///
/// # Errors
/// The kernel's.
pub fn hang_up(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::net::shutdown(fd, rustix::net::Shutdown::Both)?)
}

/// Closes the file of the descriptor `old` and lets the same number refer to the file of `new`, close-on-exec.
///
/// # Errors
/// The kernel's; none are expected.
pub fn replace(old: BorrowedFd<'_>, new: OwnedFd) -> io::Result<()> {
    // SAFETY: both are open; `old` stays an open descriptor for all its borrowers and its owner, of another file.
    match unsafe { libc::dup3(new.as_raw_fd(), old.as_raw_fd(), libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Sets or clears close-on-exec on a descriptor.
///
/// # Errors
/// The kernel's; none are expected.
pub fn set_cloexec(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let mut flags = fcntl_getfd(fd)?;
    flags.set(FdFlags::CLOEXEC, on);
    Ok(fcntl_setfd(fd, flags)?)
}

pub(super) fn socket() -> io::Result<OwnedFd> {
    let fd = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    let fd = clear_of_streams(fd)?;
    // Before connecting, so that the sender of the first message is reported too.
    identify_senders(&fd)?;
    Ok(fd)
}

/// Makes the socket a mere doorbell: the kernel no longer reports the sender of a message, and refuses descriptors if
/// it is Linux 6.16 or newer.
///
/// # Errors
/// The kernel's.
pub fn quiet(fd: BorrowedFd<'_>) -> io::Result<()> {
    rustix::net::sockopt::set_socket_passcred(fd, false)?;
    set_option(fd, SO_PASSPIDFD, 0)?;
    // Older kernels do not support it. `drain` closes the descriptors that arrive then.
    let _ = set_option(fd, SO_PASSRIGHTS, 0);
    Ok(())
}

fn set_option(fd: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: pointer and size are those of a live `int`, which these options take.
    match unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), len)
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the kernel report credentials and a pidfd of the sender with each message.
pub(crate) fn identify_senders(fd: &OwnedFd) -> io::Result<()> {
    rustix::net::sockopt::set_socket_passcred(fd, true)?;
    let Err(e) = set_option(fd.as_fd(), SO_PASSPIDFD, 1) else { return Ok(()) };
    Err(match e.raw_os_error() {
        Some(libc::ENOPROTOOPT) => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel does not report which process sent a message: use Linux 6.5 or later",
        ),
        _ => e,
    })
}

/// Reads a socket option into `value`.
///
/// # Safety
/// Every value that the kernel may write for `option`, in whole or in part, must be a valid `T`.
pub(super) unsafe fn get_option<T: Copy>(
    fd: BorrowedFd<'_>,
    option: libc::c_int,
    value: &mut T,
) -> io::Result<()> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length describe `value`, which the kernel may fill according to the contract of this
    // function.
    let r = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw mut *value).cast(), &raw mut len)
    };
    if r == 0 && len as usize == size_of::<T>() {
        Ok(())
    } else if r == 0 {
        Err(io::Error::from(io::ErrorKind::InvalidData))
    } else {
        Err(io::Error::last_os_error())
    }
}
