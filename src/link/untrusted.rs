//! Links to peers that are trusted with nothing.
//!
//! Shared memory may change under a reader's eyes, so no plain slice of it is ever handed out: messages are copied
//! out, loans are written into, by volatile accesses.

use std::fmt;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::demux::WireError;
use crate::error::Result;
use crate::link::body::{Body, Held, HeldMessage, Stored};
use crate::link::core::{LinkCore, Peer};
use crate::link::deadline::Wait;
use crate::link::message::{RecvIntoError, TrySendError};
use crate::link::methods::{link_methods, loan_methods};
use crate::link::pipeline::{HeldLoan, Pipeline};
use crate::link::standard::{ShutdownHandle, StandardLink, shut};
use crate::observe::Stats;
use crate::shm::layout::Geometry;
use crate::shm::words::Role;

/// A link to a peer of any user. It has a [`StandardLink`]'s manners, but messages and loans that only copy.
///
/// Whatever the peer writes into shared memory, safe code on this end stays sound. What it says in its messages is
/// for the caller to judge, and it may change a message while it is being copied: the copy is then torn.
pub struct UntrustedLink {
    link: StandardLink,
}

impl UntrustedLink {
    pub(crate) fn new(link: StandardLink) -> Self {
        Self { link }
    }

    pub(crate) fn link_mut(&mut self) -> &mut StandardLink {
        &mut self.link
    }

    fn core(&self) -> &Arc<LinkCore> {
        self.link.core()
    }

    /// No layers: messages travel as they are.
    fn pipeline(&self) -> Option<&Pipeline> {
        None
    }

    /// Sends a copy of `message`, waiting for room.
    ///
    /// # Errors
    /// As [`StandardLink::send`].
    pub fn send(&self, message: &[u8]) -> Result<()> {
        self.send_wait(message, Wait::Forever)
    }

    /// Sends a copy of `message` if there is room now.
    ///
    /// # Errors
    /// As [`StandardLink::try_send`].
    pub fn try_send(&self, message: &[u8]) -> Result<()> {
        self.send_wait(message, Wait::No)
    }

    /// Sends a copy of `message`, waiting no longer than `time` for room: a peer that receives nothing must not hold up
    /// a thread for ever.
    ///
    /// # Errors
    /// As [`StandardLink::send_timeout`].
    pub fn send_timeout(&self, message: &[u8], time: Duration) -> Result<()> {
        self.send_wait(message, time.into())
    }

    fn send_wait(&self, message: &[u8], wait: Wait) -> Result<()> {
        let mut loan = UntrustedLoan { core: self.core(), body: Held::nothing() };
        self.core().loan_frame(message.len(), 1, wait, &mut loan.body)?;
        loan.write_at(0, message);
        self.core().send_body(&mut loan.body, wait)
    }

    /// Lends memory for a message of `len` bytes, waiting for it.
    ///
    /// # Errors
    /// As [`StandardLink::loan`].
    pub fn loan(&self, len: usize) -> Result<UntrustedLoan<'_>> {
        self.loan_wait(len, Wait::Forever)
    }

    /// Lends memory for a message of `len` bytes if there is some now.
    ///
    /// # Errors
    /// As [`StandardLink::try_loan`].
    pub fn try_loan(&self, len: usize) -> Result<UntrustedLoan<'_>> {
        self.loan_wait(len, Wait::No)
    }

    /// Lends memory for a message of `len` bytes, waiting for it no longer than `time`.
    ///
    /// # Errors
    /// As [`StandardLink::loan_timeout`].
    pub fn loan_timeout(&self, len: usize, time: Duration) -> Result<UntrustedLoan<'_>> {
        self.loan_wait(len, time.into())
    }

    #[inline(always)]
    fn loan_wait(&self, len: usize, wait: Wait) -> Result<UntrustedLoan<'_>> {
        let mut loan = UntrustedLoan { core: self.core(), body: Held::nothing() };
        self.core().loan_frame(len, 1, wait, &mut loan.body)?;
        Ok(loan)
    }

    /// Receives the next message, waiting for it.
    ///
    /// # Errors
    /// As [`StandardLink::recv`].
    pub fn recv(&self) -> Result<UntrustedMessage<'_>> {
        self.recv_wait(Wait::Forever)
    }

    /// Receives the next message if there is one now.
    ///
    /// # Errors
    /// As [`StandardLink::try_recv`].
    pub fn try_recv(&self) -> Result<UntrustedMessage<'_>> {
        self.recv_wait(Wait::No)
    }

    /// Receives the next message, waiting for it no longer than `time`.
    ///
    /// # Errors
    /// As [`StandardLink::recv_timeout`].
    pub fn recv_timeout(&self, time: Duration) -> Result<UntrustedMessage<'_>> {
        self.recv_wait(time.into())
    }

    #[inline(always)]
    fn recv_wait(&self, wait: Wait) -> Result<UntrustedMessage<'_>> {
        let mut message = UntrustedMessage { core: self.core(), body: Held::nothing() };
        if !self.core().take(0, &mut message.body)? {
            self.core().await_message(wait, &mut message.body)?;
        }
        Ok(message)
    }

    /// Receives the next message into a slice, waiting for it. How many bytes it has.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); [`RecvIntoError::TooSmall`] with the message if the slice is too small.
    pub fn recv_into(&self, into: &mut [u8]) -> Result<usize, RecvIntoError<UntrustedMessage<'_>>> {
        let message = self.recv()?;
        let len = message.len();
        if len > into.len() {
            return Err(RecvIntoError::TooSmall { message, capacity: into.len() });
        }
        Ok(message.copy_to(into))
    }
}

link_methods!(UntrustedLink);

impl fmt::Debug for UntrustedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UntrustedLink").field(&self.link).finish()
    }
}

/// A received message of an untrusted peer: to be copied out. Dropping it gives its buffers back.
pub struct UntrustedMessage<'a> {
    core: &'a Arc<LinkCore>,
    body: HeldMessage,
}

impl UntrustedMessage<'_> {
    /// Bytes of the message. Checked when it was received, and kept in private memory.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes from `offset` on into `to`; how many there were.
    pub fn read_at(&self, offset: usize, to: &mut [u8]) -> usize {
        match self.body.get() {
            Some(Body::Stored(Stored::Pool(buffer))) => buffer.copy_to(offset, to),
            // Its bytes are in private memory already.
            _ => {
                let rest = self.body.bytes().get(offset..).unwrap_or(&[]);
                let count = rest.len().min(to.len());
                to[..count].copy_from_slice(&rest[..count]);
                count
            }
        }
    }

    /// Copies the message into `to`; how many bytes fitted.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        self.read_at(0, to)
    }

    /// The message, copied.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = vec![0; self.len()];
        self.copy_to(&mut copy);
        copy
    }
}

impl Drop for UntrustedMessage<'_> {
    fn drop(&mut self) {
        self.core.release_message(&mut self.body);
    }
}

impl fmt::Debug for UntrustedMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntrustedMessage").field("len", &self.len()).finish()
    }
}

/// Memory for one message to an untrusted peer: to be written into. Dropping it unsent gives the buffers back.
pub struct UntrustedLoan<'a> {
    core: &'a Arc<LinkCore>,
    body: HeldLoan<'a>,
}

impl UntrustedLoan<'_> {
    /// Writes `from` at `offset`, as far as there is room; how many bytes fitted.
    pub fn write_at(&mut self, offset: usize, from: &[u8]) -> usize {
        if let Some(Body::Stored(Stored::Pool(buffer))) = self.body.get_mut() {
            return buffer.write_at(offset, from);
        }
        let rest = self.body.bytes_mut().get_mut(offset..).unwrap_or(&mut []);
        let count = rest.len().min(from.len());
        rest[..count].copy_from_slice(&from[..count]);
        count
    }

    /// The bytes themselves, if the peer cannot write to them: on a [protected](crate::Options::protected) link, and for
    /// messages small enough for the slot. `None` otherwise: then [`write_at`](Self::write_at) is the way.
    ///
    /// ```
    /// # let name = format!("doc-strangers-{}", std::process::id());
    /// use hqq::{Listener, Options, StandardLink};
    ///
    /// let listener = Listener::bind_with(&name, Options::new().protected(true))?;
    /// # let peer = std::thread::spawn(move || StandardLink::connect(&name)?.recv().map(|message| message.to_vec()));
    /// let link = listener.accept_untrusted()?;
    /// let mut loan = link.loan(100_000)?;
    /// loan.bytes_mut().expect("the link is protected").fill(7);
    /// loan.send()?;
    /// # assert_eq!(peer.join().unwrap()?, [7; 100_000]);
    /// # Ok::<(), hqq::Error>(())
    /// ```
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let protected = self.core.region().facts().modes.protected;
        match self.body.get_mut()? {
            Body::Stored(Stored::Pool(buffer)) => protected.then(|| buffer.bytes_mut()),
            body => Some(body.bytes_mut()),
        }
    }

    /// Sends only the first `len` bytes, or all if there are fewer.
    pub fn truncate(&mut self, len: usize) {
        if let Some(body) = self.body.get_mut() {
            body.truncate(len);
        }
    }

    /// Sends the message, waiting while there is no room.
    ///
    /// # Errors
    /// As [`Loan::send`](crate::Loan::send).
    pub fn send(mut self) -> Result<()> {
        self.core.send_body(&mut self.body, Wait::Forever)
    }

    loan_methods!();
}

impl Drop for UntrustedLoan<'_> {
    fn drop(&mut self) {
        self.core.release_loan(&mut self.body);
    }
}

impl fmt::Debug for UntrustedLoan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.body.len();
        f.debug_struct("UntrustedLoan").field("len", &len).finish()
    }
}
