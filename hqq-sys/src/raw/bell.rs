//! Messages over a socket pair only: a link's doorbell without the link.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::count_poll;
use crate::sock;

/// Maximum time to sleep for a message, seconds.
const PATIENCE: i64 = 10;

/// One socket of a [pair](sock::pair), for messages of up to 64 bytes in both directions. A message needs one system
/// call to send it, one to sleep until it has come, and one to receive it. Without sleep, the receiver repeats the
/// last call.
#[derive(Debug)]
pub struct Bell {
    socket: OwnedFd,
    sleeps: bool,
}

impl Bell {
    /// Wraps a socket of a pair, with the options that a link sets. `sleeps` tells whether [`recv`](Self::recv)
    /// sleeps or polls.
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

    /// Receives a message into `into`. Returns its length, bytes.
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
