//! Making and connecting sockets, their options, and who is at the other end.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd, retry_on_intr};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::address::Address;

// The kernel's numbers where `libc` has none; the same on x86-64 and aarch64.
pub(super) const SO_PASSPIDFD: libc::c_int = 76;
const SO_PEERPIDFD: libc::c_int = 77;
const SO_PASSRIGHTS: libc::c_int = 83;

/// Takes the next caller of a listener, or `None` if nobody waits.
///
/// # Errors
/// The kernel's, for instance `EMFILE` when descriptors have run out: the caller stays in line.
pub fn accept(fd: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match retry_on_intr(|| rustix::net::accept_with(fd, flags)) {
        Ok(peer) => {
            identify_senders(&peer)?;
            Ok(Some(peer))
        }
        Err(Errno::AGAIN) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Calls a listener. The connection can be written to at once, before it is accepted.
///
/// # Errors
/// [`io::ErrorKind::ConnectionRefused`] or [`io::ErrorKind::NotFound`] if nobody listens;
/// [`io::ErrorKind::WouldBlock`] if the listener's backlog is full; `EPROTOTYPE` if it is a socket
/// of another type; those of [`super::listen`] for bad names and old kernels; the kernel's for the path.
pub fn connect(address: &Address) -> io::Result<OwnedFd> {
    let to = address.to_unix()?;
    let fd = socket()?;
    retry_on_intr(|| rustix::net::connect(&fd, &to))?;
    Ok(fd)
}

/// Two sockets connected to each other.
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
    identify_senders(&a)?;
    identify_senders(&b)?;
    Ok((a, b))
}

/// Who is, or was, at the other end, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Creds {
    /// Process id as this process's pid namespace numbers it; 0 if it has no number there.
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

/// Who called [`connect`], [`super::listen`] or [`pair`] for the other end, and as whom it ran then.
///
/// Not who holds that end now: a child may have inherited it. [`super::recv`] tells who sends.
///
/// # Errors
/// `ENOTCONN` and the like on sockets that were never connected.
pub fn peer_creds(fd: BorrowedFd<'_>) -> io::Result<Creds> {
    // rustix cannot represent the 0 that stands for a process of another pid namespace.
    let mut creds = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    // SAFETY: the kernel writes a `ucred` for this option.
    unsafe { get_option(fd, libc::SO_PEERCRED, &mut creds)? };
    if creds.uid == u32::MAX {
        return Err(io::Error::from_raw_os_error(libc::ENOTCONN));
    }
    Ok(creds.into())
}

/// A pidfd for the process that [`peer_creds`] names, also across pid namespaces.
///
/// # Errors
/// `ENODATA` on sockets that were never connected; `ESRCH` if that process is gone;
/// `ENOPROTOOPT` before Linux 6.5.
pub fn peer_pidfd(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut raw: libc::c_int = -1;
    // SAFETY: the kernel writes an `int` for this option.
    unsafe { get_option(fd, SO_PEERPIDFD, &mut raw)? };
    // SAFETY: the kernel made this descriptor for us just now (close-on-exec), and it is not -1,
    // since the call succeeded.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Ends a connection both ways, for all who have the socket: the other end sees it hang up.
///
/// # Errors
/// The kernel's.
pub fn hang_up(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::net::shutdown(fd, rustix::net::Shutdown::Both)?)
}

/// Puts `new` in the place of what the descriptor `old` stands for, under the same number, close-on-exec. What it
/// stood for is closed.
///
/// # Errors
/// None are expected; the kernel's are passed on.
pub fn replace(old: BorrowedFd<'_>, new: OwnedFd) -> io::Result<()> {
    // SAFETY: both are open; whoever borrows or owns `old` keeps an open descriptor, which stands for another file.
    match unsafe { libc::dup3(new.as_raw_fd(), old.as_raw_fd(), libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Sets or clears close-on-exec on a descriptor.
///
/// # Errors
/// None are expected; the kernel's are passed on.
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
    // Ahead of connecting, so that the very first message carries its sender.
    identify_senders(&fd)?;
    Ok(fd)
}

/// From here on the socket is a doorbell and no more: its messages name no sender, and bring no descriptors where the
/// kernel can refuse them (Linux 6.16 or newer).
///
/// # Errors
/// The kernel's.
pub fn quiet(fd: BorrowedFd<'_>) -> io::Result<()> {
    rustix::net::sockopt::set_socket_passcred(fd, false)?;
    set_option(fd, SO_PASSPIDFD, 0)?;
    // Older kernels do not know it; `drain` copes with what comes.
    let _ = set_option(fd, SO_PASSRIGHTS, 0);
    Ok(())
}

fn set_option(fd: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer and the size are those of a live `int`, which is what these options take.
    match unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), len)
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Asks for credentials and a pidfd of the sender with each message.
pub(crate) fn identify_senders(fd: &OwnedFd) -> io::Result<()> {
    rustix::net::sockopt::set_socket_passcred(fd, true)?;
    let Err(e) = set_option(fd.as_fd(), SO_PASSPIDFD, 1) else { return Ok(()) };
    Err(match e.raw_os_error() {
        Some(libc::ENOPROTOOPT) => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel does not tell which process sent a message: Linux 6.5 or newer is needed",
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
    // SAFETY: pointer and length describe `value`, which the kernel may fill as the caller vouches.
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
