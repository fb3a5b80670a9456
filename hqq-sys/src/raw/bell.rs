//! Round trips over the socket that is a link's doorbell, and nothing else.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::count_poll;
use crate::sock;

/// How long to sleep for a message, seconds.
const PATIENCE: i64 = 10;

/// One of two sockets of a [pair](sock::pair): a message of up to 64 bytes, to and fro. Each takes a call to send it, one to
/// sleep until it is there and one to receive it; who does not sleep calls to receive it until it is there.
#[derive(Debug)]
pub struct Bell {
    socket: OwnedFd,
    sleeps: bool,
}

impl Bell {
    /// Of a socket of a pair, which becomes what a link makes of its own.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(socket: OwnedFd, sleeps: bool) -> io::Result<Self> {
        sock::quiet(socket.as_fd())?;
        Ok(Self { socket, sleeps })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        retry_on_intr(|| send(&self.socket, message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT))?;
        Ok(())
    }

    /// Receives a message. How many bytes it has.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if none comes for some seconds; the kernel's.
    pub fn recv(&self, into: &mut [u8; 64]) -> io::Result<usize> {
        let mut polls = 0;
        loop {
            if self.sleeps {
                let time = Timespec { tv_sec: PATIENCE, tv_nsec: 0 };
                let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
                if retry_on_intr(|| poll(&mut fds, Some(&time)))? == 0 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            match recv(&self.socket, &mut *into, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(io::ErrorKind::ConnectionReset.into()),
                Ok((_, len)) => return Ok(len.min(into.len())),
                Err(Errno::AGAIN | Errno::INTR) => count_poll(&mut polls)?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
