//! Unix sockets that keep messages apart (`SOCK_SEQPACKET`): connecting two processes, telling
//! them who is at the other end, and waking one another.
//!
//! Every socket made here is close-on-exec, never blocks, and asks the kernel to tell with each
//! message who sent it.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd, retry_on_intr};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

mod message;
mod path;

pub use message::{Drained, MAX_FDS, Received, drain, purge, recv, ring, send};
pub use path::{FileId, file_id, take_over, unlink_if_ours};

// The kernel's numbers where `libc` has none; the same on x86-64 and aarch64.
const SO_PASSPIDFD: libc::c_int = 76;
const SO_PEERPIDFD: libc::c_int = 77;
const SO_PASSRIGHTS: libc::c_int = 83;

/// What a socket's address holds beside the zero byte that starts or ends the name.
const MAX_NAME: usize = 107;

/// Where a listener can be found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A name that is no file: gone with its listener, seen by all processes of the network
    /// namespace. 1 to 107 bytes, any values.
    Abstract(Vec<u8>),
    /// A socket file. The path may have 1 to 107 bytes, none of them zero.
    Path(PathBuf),
}

impl Address {
    fn to_unix(&self) -> io::Result<SocketAddrUnix> {
        let name = match self {
            Self::Abstract(name) => name.as_slice(),
            Self::Path(path) => path.as_os_str().as_bytes(),
        };
        // The kernel takes an empty path for a request to make up a name. It would also take a
        // path of 108 bytes, without the final zero, which other programs do not expect.
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the name of the socket has {} bytes, and 1 to {MAX_NAME} fit", name.len()),
            ));
        }
        Ok(match self {
            Self::Abstract(name) => SocketAddrUnix::new_abstract_name(name),
            Self::Path(path) => SocketAddrUnix::new(path.as_path()),
        }?)
    }
}

/// Listens at an address. `backlog` is how many callers may wait for [`accept`].
///
/// A path is made into a socket file with the rights that the umask leaves. One that a dead
/// listener left is taken over, see [`take_over`].
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] if somebody listens there or the path is something else than a
/// socket; [`io::ErrorKind::InvalidInput`] for a name that is empty or too long;
/// [`io::ErrorKind::Unsupported`] before Linux 6.5; the kernel's for the path.
pub fn listen(address: &Address, backlog: i32) -> io::Result<OwnedFd> {
    match address {
        Address::Path(path) => take_over(path, backlog),
        Address::Abstract(_) => {
            let fd = socket()?;
            rustix::net::bind(&fd, &address.to_unix()?)?;
            rustix::net::listen(&fd, backlog)?;
            Ok(fd)
        }
    }
}

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
/// of another type; those of [`listen`] for bad names and old kernels; the kernel's for the path.
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

/// Who called [`connect`], [`listen`] or [`pair`] for the other end, and as whom it ran then.
///
/// Not who holds that end now: a child may have inherited it. [`recv`] tells who sends.
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

fn socket() -> io::Result<OwnedFd> {
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
unsafe fn get_option<T: Copy>(fd: BorrowedFd<'_>, option: libc::c_int, value: &mut T) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// An abstract address that no other test has.
    fn fresh() -> Address {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Address::Abstract(format!("hqq-sys-test.{}.{n}", std::process::id()).into_bytes())
    }

    fn flags_are_right(fd: &OwnedFd) {
        assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
        let flags = rustix::fs::fcntl_getfl(fd).unwrap();
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
        assert!(rustix::net::sockopt::socket_passcred(fd).unwrap());
        let mut on: libc::c_int = 0;
        // SAFETY: the kernel writes an `int` for this option.
        unsafe { get_option(fd.as_fd(), SO_PASSPIDFD, &mut on).unwrap() };
        assert_eq!(on, 1);
    }

    #[test]
    fn listen_connect_accept() {
        let at = fresh();
        let e = connect(&at).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::ConnectionRefused);
        let listener = listen(&at, 4).unwrap();
        assert!(accept(listener.as_fd()).unwrap().is_none());
        let e = listen(&at, 4).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::AddrInUse);

        let caller = connect(&at).unwrap();
        // Sent before it is accepted, and still with its sender.
        send(caller.as_fd(), b"early", &[]).unwrap();
        let accepted = accept(listener.as_fd()).unwrap().unwrap();
        for fd in [&listener, &caller, &accepted] {
            flags_are_right(fd);
        }
        let mut buf = [0; 16];
        let got = recv(accepted.as_fd(), &mut buf).unwrap().unwrap();
        assert_eq!(&buf[..got.len], b"early");
        assert_eq!(got.creds.unwrap().pid, crate::peer::pid());
        assert!(got.pidfd.is_some());
        send(accepted.as_fd(), b"reply", &[]).unwrap();
        let got = recv(caller.as_fd(), &mut buf).unwrap().unwrap();
        assert_eq!(&buf[..got.len], b"reply");
        assert!(got.pidfd.is_some());

        drop(listener);
        // A child that another test forks may hold the listener until its exec.
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while connect(&at).is_ok() {
            assert!(std::time::Instant::now() < limit);
        }
    }

    #[test]
    fn a_full_backlog_would_block() {
        let at = fresh();
        let listener = listen(&at, 1).unwrap();
        let mut callers = Vec::new();
        let e = loop {
            match connect(&at) {
                Ok(fd) => callers.push(fd),
                Err(e) => break e,
            }
            assert!(callers.len() < 10);
        };
        assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
        for _ in &callers {
            assert!(accept(listener.as_fd()).unwrap().is_some());
        }
        connect(&at).unwrap();
    }

    #[test]
    fn bad_names() {
        for at in [
            Address::Abstract(vec![]),
            Address::Abstract(vec![b'x'; 108]),
            Address::Path("".into()),
            Address::Path("x".repeat(108).into()),
            Address::Path("a\0b".into()),
        ] {
            for r in [listen(&at, 1), connect(&at)] {
                let e = r.unwrap_err();
                assert_eq!(e.kind(), io::ErrorKind::InvalidInput, "{at:?}: {e}");
            }
        }
        listen(&Address::Abstract(vec![b'x'; 107]), 1).unwrap();
    }

    #[test]
    fn a_pair_knows_its_maker() {
        let (a, b) = pair().unwrap();
        flags_are_right(&a);
        flags_are_right(&b);
        let me = Creds {
            pid: crate::peer::pid(),
            uid: crate::peer::uid(),
            gid: rustix::process::getegid().as_raw(),
        };
        assert_eq!(peer_creds(a.as_fd()).unwrap(), me);
        assert!(!crate::peer::is_dead(peer_pidfd(b.as_fd()).unwrap().as_fd()));
    }

    #[test]
    fn a_socket_without_peer_has_no_credentials() {
        let fd = socket().unwrap();
        assert!(peer_creds(fd.as_fd()).is_err());
        assert!(peer_pidfd(fd.as_fd()).is_err());
    }

    #[test]
    fn a_replaced_socket_is_another_under_its_number() {
        let (ours, former) = pair().unwrap();
        let (theirs, present) = pair().unwrap();
        let number = ours.as_raw_fd();
        replace(ours.as_fd(), theirs).unwrap();
        flags_are_right(&ours);
        assert_eq!(ours.as_raw_fd(), number);
        assert!(drain(former.as_fd()).unwrap().hang_up, "the only other end is closed");
        ring(ours.as_fd()).unwrap();
        assert_eq!(drain(present.as_fd()).unwrap().tokens, 1);
    }

    #[test]
    fn cloexec_can_be_cleared_and_set() {
        let (a, _b) = pair().unwrap();
        for on in [false, true, true] {
            set_cloexec(a.as_fd(), on).unwrap();
            assert_eq!(fcntl_getfd(&a).unwrap().contains(FdFlags::CLOEXEC), on);
        }
    }
}
