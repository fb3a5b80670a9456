//! Sending and receiving messages with descriptors and the sender's identity; the doorbell.

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::socket::Creds;
use crate::fd::{FIRST, clear_of_streams};

// Missing from `libc`; the same number on every architecture.
const SCM_PIDFD: libc::c_int = 4;

/// Maximum number of descriptors in a message.
pub const MAX_FDS: usize = 4;

/// Maximum number of doorbell tokens that one [`drain`] reads.
const MAX_TOKENS: usize = 64;

/// A number of messages that exceeds what a socket's buffer can contain.
const MAX_QUEUE: usize = 4096;

/// Sends `bytes` as one message, with up to [`MAX_FDS`] descriptors. Never blocks.
///
/// The receiver gets new descriptors for the same open files.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if the socket's buffer is full; [`io::ErrorKind::BrokenPipe`] or
/// [`io::ErrorKind::ConnectionReset`] if the peer has hung up; [`io::ErrorKind::InvalidInput`] if `bytes` is empty,
/// which would read as a hang-up, or there are too many descriptors; `EMSGSIZE` if the message is larger than a
/// socket's buffer.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.is_empty() || fds.len() > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "a message of {} bytes with {} descriptors: at least 1 byte is needed, and at \
                 most {MAX_FDS} descriptors can go along",
                bytes.len(),
                fds.len()
            ),
        ));
    }
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for the descriptors of a message"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let data = [io::IoSlice::new(bytes)];
    let sent = retry_on_intr(|| rustix::net::sendmsg(fd, &data, &mut control, flags))?;
    if sent != bytes.len() {
        return Err(io::Error::from(io::ErrorKind::WriteZero));
    }
    Ok(())
}

/// A received message, or a hang-up. See [`recv`].
#[derive(Debug)]
pub struct Received {
    /// Number of bytes that were stored in the buffer; 0 if the peer has hung up.
    pub len: usize,
    /// Whether the message was larger than the buffer or carried more than [`MAX_FDS`] descriptors; the rest is lost.
    pub truncated: bool,
    /// Why the message was cut: descriptors that the peer sent are lost, since this process has no descriptor left for them
    /// (`EMFILE`, `ENFILE`), or a security module forbids them.
    pub cut: Option<io::Error>,
    /// Descriptors of the message, at most [`MAX_FDS`], close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// The process that sent the message. Some kernels leave it out if that process had ended before the message was
    /// read. Only a privileged sender can name another process.
    pub pidfd: Option<OwnedFd>,
    /// Why this process could not get the pidfd, if that is not due to the sender: it has no descriptor or no memory left
    /// (`EMFILE`, `ENFILE`, `ENOMEM`).
    pub pidfd_error: Option<io::Error>,
    /// Identity of the sender when it sent the message.
    pub creds: Option<Creds>,
}

/// Maximum number of descriptors that the kernel allows in a message (`SCM_MAX_FD`).
const FDS: usize = 253;

/// Buffer for control data, aligned for its headers. It has room for credentials, a pidfd and the maximum number of
/// descriptors: the kernel would close descriptors that do not fit on the calling thread, which blocks if a socket
/// lingers.
type Control = [u64; 136];

const _: () = {
    // SAFETY: only computes sizes.
    let need = unsafe {
        libc::CMSG_SPACE(size_of::<libc::ucred>() as u32)
            + libc::CMSG_SPACE((FDS * size_of::<RawFd>()) as u32)
            + libc::CMSG_SPACE(size_of::<RawFd>() as u32)
    };
    assert!(size_of::<Control>() >= need as usize);
    assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());
};

/// Receives the next message into `buf`. `None` if there is none. Never blocks.
///
/// Messages that the peer sent before it hung up, or was killed, are received before the hang-up. Descriptors beyond
/// [`MAX_FDS`] are closed, and reported by `truncated`.
///
/// # Errors
/// The kernel's for broken sockets; [`io::ErrorKind::InvalidInput`] if `buf` is empty.
pub fn recv(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Option<Received>> {
    if buf.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message cannot be received into 0 bytes"));
    }
    let mut control: Control = [0; 136];
    let mut data = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let mut resets = 0;
    let (len, message) = loop {
        // SAFETY: all zeroes is a valid `msghdr`. (Its padding differs between C libraries.)
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut data;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>() as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the header points to `buf` and `control`, which are live, writable and as long as it tells.
        let n = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) };
        if let Ok(n) = usize::try_from(n) {
            break (n, message);
        }
        let e = io::Error::last_os_error();
        match e.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EAGAIN) => return Ok(None),
            // The peer hung up before it had read all messages. The kernel reports this once, before the messages
            // that are still to be received here.
            Some(libc::ECONNRESET) if resets == 0 => resets += 1,
            _ => return Err(e),
        }
    };
    let mut received = Received {
        len,
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        cut: None,
        fds: Vec::new(),
        pidfd: None,
        pidfd_error: None,
        creds: None,
    };
    // SAFETY: the kernel has filled `message`, and the control data that it points to is live and unchanged.
    unsafe { parse(&message, &mut received) };
    // The control buffer has room for everything, so only descriptors can be missing.
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        received.cut.get_or_insert_with(|| why_cut(fd));
    }
    if received.fds.len() > MAX_FDS {
        received.fds.truncate(MAX_FDS);
        received.truncated = true;
    }
    Ok(Some(received))
}

/// Why the kernel installed fewer descriptors than were sent, while those that it did install are still open.
fn why_cut(fd: BorrowedFd<'_>) -> io::Error {
    match rustix::io::fcntl_dupfd_cloexec(fd, FIRST) {
        Err(e) => e.into(),
        Ok(_) => io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the kernel passed none of the peer's descriptors: a security module forbids it",
        ),
    }
}

/// Reads the control data of a message into `into`, which then owns every descriptor in it.
///
/// # Safety
/// `message` must be as `recvmsg` left it, be parsed only once, and its control data be live.
unsafe fn parse(message: &libc::msghdr, into: &mut Received) {
    // SAFETY: per the contract of this function.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !next.is_null() {
        // SAFETY: the macro returned a header within the control data.
        let header = unsafe { &*next };
        // SAFETY: as above; the data follow the header.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: only computes a size.
        let head = unsafe { libc::CMSG_LEN(0) } as usize;
        let len = (header.cmsg_len as usize).saturating_sub(head);
        match (header.cmsg_level, header.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for i in 0..len / size_of::<RawFd>() {
                    // SAFETY: within the data; they may lie unaligned.
                    let raw = unsafe { data.cast::<RawFd>().add(i).read_unaligned() };
                    // SAFETY: the kernel has just installed this descriptor for us alone.
                    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
                    // A hostile sender may have set a linger time, for which closing the socket would block. Fails for
                    // other kinds of files.
                    let _ = rustix::net::sockopt::set_socket_linger(&fd, None);
                    match clear_of_streams(fd) {
                        Ok(fd) => into.fds.push(fd),
                        Err(e) => into.cut = Some(e),
                    }
                }
            }
            (libc::SOL_SOCKET, SCM_PIDFD) if len >= size_of::<RawFd>() => {
                // SAFETY: within the data; they may lie unaligned.
                let raw = unsafe { data.cast::<RawFd>().read_unaligned() };
                if raw >= 0 {
                    // SAFETY: the kernel has just installed this descriptor for us alone.
                    match clear_of_streams(unsafe { OwnedFd::from_raw_fd(raw) }) {
                        Ok(fd) => into.pidfd = Some(fd),
                        Err(e) => into.pidfd_error = Some(e),
                    }
                } else if matches!(-raw, libc::EMFILE | libc::ENFILE | libc::ENOMEM) {
                    into.pidfd_error = Some(io::Error::from_raw_os_error(-raw));
                }
                // Any other negative number: the sender has ended and its parent has waited for it.
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if len >= size_of::<libc::ucred>() => {
                // SAFETY: within the data; they may lie unaligned.
                let creds = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                into.creds = Some(creds.into());
            }
            _ => {}
        }
        // SAFETY: per the contract; `next` is a header of this message.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
}

/// Rings the doorbell: sends one byte without blocking, so that the peer's socket becomes readable.
///
/// A full socket is no error: it is readable already.
///
/// # Errors
/// [`io::ErrorKind::BrokenPipe`] or [`io::ErrorKind::ConnectionReset`] if the peer has hung up.
pub fn ring(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    match retry_on_intr(|| rustix::net::send(fd, &[0], flags)) {
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Result of [`drain`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Number of messages that were read, at most 64.
    pub tokens: usize,
    /// Whether the peer has hung up and all messages have been read.
    pub hang_up: bool,
}

/// Reads and discards all doorbell tokens, but at most 64, so that a peer that rings continuously does not block the
/// caller.
///
/// Any message counts as a token. Descriptors in it are closed without blocking.
///
/// # Errors
/// The kernel's for broken sockets. A hang-up is no error.
pub fn drain(fd: BorrowedFd<'_>) -> io::Result<Drained> {
    let mut drained = Drained::default();
    let mut byte = [0u8; 1];
    while drained.tokens < MAX_TOKENS {
        match recv(fd, &mut byte)? {
            None => break,
            Some(Received { len: 0, .. }) => {
                drained.hang_up = true;
                break;
            }
            Some(_) => drained.tokens += 1,
        }
    }
    Ok(drained)
}

/// Discards all messages of a socket. The peer cannot send any more. Call it before closing a socket with an
/// untrusted peer: else the kernel closes descriptors in pending messages on the thread that closes the socket, which
/// blocks if a socket among them lingers.
pub fn purge(fd: BorrowedFd<'_>) {
    // Each call may fail on a broken socket, which has no messages.
    let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Read);
    // Tells an empty message, which has a sender, from the end.
    let _ = rustix::net::sockopt::set_socket_passcred(fd, true);
    let mut byte = [0u8; 1];
    for _ in 0..MAX_QUEUE {
        match recv(fd, &mut byte) {
            Ok(Some(received)) if received.len > 0 || received.creds.is_some() => {}
            _ => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pair;
    use super::*;
    use crate::{mem, peer};
    use std::collections::BTreeSet;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    fn drop_wholly(fd: OwnedFd, seen_from: BorrowedFd<'_>) {
        drop(fd);
        // A child that another test forks may hold a copy until its exec.
        let event = crate::event::Event::new().unwrap();
        let limit = Instant::now() + Duration::from_secs(10);
        while !crate::poll::wait(seen_from, None, event.as_fd(), Some(Duration::ZERO)).unwrap().hang_up {
            assert!(Instant::now() < limit);
            std::thread::yield_now();
        }
    }

    #[test]
    fn messages_keep_their_borders_and_their_sender() {
        let (a, b) = pair().unwrap();
        let mut buf = [0; 8];
        assert!(recv(b.as_fd(), &mut buf).unwrap().is_none());
        send(a.as_fd(), b"one", &[]).unwrap();
        send(a.as_fd(), b"three", &[]).unwrap();
        for expected in [&b"one"[..], b"three"] {
            let got = recv(b.as_fd(), &mut buf).unwrap().unwrap();
            assert_eq!(&buf[..got.len], expected);
            assert!(!got.truncated && got.fds.is_empty());
            let creds = got.creds.unwrap();
            assert_eq!((creds.pid, creds.uid), (peer::pid(), peer::uid()));
            let pidfd = got.pidfd.unwrap();
            assert!(!peer::is_dead(pidfd.as_fd()));
            let flags = rustix::io::fcntl_getfd(&pidfd).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
        assert!(recv(b.as_fd(), &mut buf).unwrap().is_none());
        drop_wholly(a, b.as_fd());
        let got = recv(b.as_fd(), &mut buf).unwrap().unwrap();
        assert!(got.len == 0 && !got.truncated);
    }

    #[test]
    fn descriptors_travel() {
        let (a, b) = pair().unwrap();
        let memory: Vec<_> =
            (1..=MAX_FDS as u64).map(|n| mem::create("travels", n * 4096).unwrap()).collect();
        let fds: Vec<_> = memory.iter().map(|m| m.as_fd()).collect();
        send(a.as_fd(), b"x", &fds).unwrap();
        drop(memory);
        let got = recv(b.as_fd(), &mut [0; 8]).unwrap().unwrap();
        assert!(!got.truncated && got.pidfd.is_some() && got.creds.is_some());
        let lengths: Vec<_> = got.fds.iter().map(|fd| mem::facts(fd.as_fd()).unwrap().len).collect();
        assert_eq!(lengths, [4096, 8192, 12288, 16384]);
        for fd in &got.fds {
            let flags = rustix::io::fcntl_getfd(fd).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
    }

    #[test]
    fn unsendable_and_unreceivable() {
        let (a, b) = pair().unwrap();
        let five = [a.as_fd(); MAX_FDS + 1];
        for (bytes, fds) in [(&b""[..], &five[..0]), (b"x", &five[..])] {
            let e = send(a.as_fd(), bytes, fds).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
        }
        let e = recv(b.as_fd(), &mut []).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
        let e = send(a.as_fd(), &vec![0; 16 << 20], &[]).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::EMSGSIZE));
    }

    #[test]
    fn a_message_that_is_too_long_says_so() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), b"too long", &[]).unwrap();
        let got = recv(b.as_fd(), &mut [0; 3]).unwrap().unwrap();
        assert!(got.truncated);
        assert_eq!(got.len, 3);
    }

    /// As [`send`], but as many descriptors as the kernel allows.
    fn send_many(fd: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        let data = [io::IoSlice::new(b"many")];
        rustix::net::sendmsg(fd, &data, &mut control, SendFlags::empty()).unwrap();
    }

    /// The descriptors of this process that are the memfd of that name.
    fn open_with_name(name: &str) -> BTreeSet<std::ffi::OsString> {
        let all = std::fs::read_dir("/proc/self/fd").unwrap();
        all.filter_map(Result::ok)
            .filter(|e| std::fs::read_link(e.path()).is_ok_and(|l| l.to_string_lossy().contains(name)))
            .map(|e| e.file_name())
            .collect()
    }

    #[test]
    fn surplus_descriptors_are_not_kept() {
        let (a, b) = pair().unwrap();
        let memory = mem::create("surplus", 4096).unwrap();
        for count in [MAX_FDS + 1, 10, 11, 253] {
            send_many(a.as_fd(), &vec![memory.as_fd(); count]);
            let got = recv(b.as_fd(), &mut [0; 8]).unwrap().unwrap();
            assert!(got.truncated, "{count}");
            assert_eq!(got.fds.len(), MAX_FDS);
            assert_eq!(open_with_name("surplus").len(), 1 + MAX_FDS);
        }
        assert_eq!(open_with_name("surplus").len(), 1);
    }

    #[test]
    fn what_was_sent_before_a_hang_up_arrives() {
        let (a, b) = pair().unwrap();
        send(b.as_fd(), b"never read", &[]).unwrap();
        send(a.as_fd(), b"last words", &[]).unwrap();
        drop_wholly(a, b.as_fd());
        // `a` went with a message unread, so the kernel reports a reset first.
        let mut buf = [0; 16];
        let got = recv(b.as_fd(), &mut buf).unwrap().unwrap();
        assert_eq!(&buf[..got.len], b"last words");
        assert_eq!(recv(b.as_fd(), &mut buf).unwrap().unwrap().len, 0);

        let (a, b) = pair().unwrap();
        ring(b.as_fd()).unwrap();
        ring(a.as_fd()).unwrap();
        drop_wholly(a, b.as_fd());
        let all = Drained { tokens: 1, hang_up: true };
        assert_eq!(drain(b.as_fd()).unwrap(), all);
    }

    #[test]
    fn the_doorbell_never_blocks() {
        let (a, b) = pair().unwrap();
        assert_eq!(drain(b.as_fd()).unwrap(), Drained::default());
        for _ in 0..10_000 {
            ring(a.as_fd()).unwrap();
        }
        let first = drain(b.as_fd()).unwrap();
        assert_eq!((first.tokens, first.hang_up), (MAX_TOKENS, false));
        let mut total = first.tokens;
        loop {
            let more = drain(b.as_fd()).unwrap();
            total += more.tokens;
            if more.tokens == 0 {
                break;
            }
        }
        assert!(total < 10_000, "the socket was full at some time");
        ring(a.as_fd()).unwrap();
        assert_eq!(drain(b.as_fd()).unwrap().tokens, 1);
    }

    #[test]
    fn ringing_a_closed_door_fails() {
        let (a, b) = pair().unwrap();
        drop_wholly(b, a.as_fd());
        let e = ring(a.as_fd()).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::BrokenPipe);
        let e = send(a.as_fd(), b"x", &[]).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::BrokenPipe);
        assert!(drain(a.as_fd()).unwrap().hang_up);
    }

    #[test]
    fn drained_messages_bring_no_descriptors() {
        let (a, b) = pair().unwrap();
        let memory = mem::create("drained", 4096).unwrap();
        send_many(a.as_fd(), &[memory.as_fd(); 100]);
        assert_eq!(drain(b.as_fd()).unwrap().tokens, 1);
        assert_eq!(open_with_name("drained").len(), 1);
    }
}
