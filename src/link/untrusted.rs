//! Layer 3: links to peers that are trusted with nothing.
//!
//! Shared memory may change under a reader's eyes, so no plain slice of it is ever handed out: messages are copied
//! out, loans are written into, by volatile accesses.

use std::fmt;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::link::core::{LinkCore, Peer};
use crate::link::deadline::Wait;
use crate::link::standard::StandardLink;
use crate::observe::Stats;
use crate::shm::endpoint::Payload;
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

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.link.role()
    }

    /// Who is at the other end, as the kernel says.
    pub fn peer(&self) -> Peer {
        self.link.peer()
    }

    /// The longest message that can be sent, bytes.
    pub fn max_message(&self) -> u64 {
        self.link.max_message()
    }

    /// The link's counters. The peer can write them too.
    pub fn stats(&self) -> Stats {
        self.link.stats()
    }

    /// Ends one or both directions; see [`StandardLink::shutdown`].
    pub fn shutdown(&self, how: Shutdown) {
        self.link.shutdown(how);
    }

    /// Whether each end's payload is protected from the other; see [`Options::protected`](crate::Options::protected).
    pub fn is_protected(&self) -> bool {
        self.link.is_protected()
    }

    pub(crate) fn link_mut(&mut self) -> &mut StandardLink {
        &mut self.link
    }

    fn core(&self) -> &Arc<LinkCore> {
        self.link.core()
    }

    /// Sends a copy of `message`, waiting for room.
    ///
    /// # Errors
    /// As [`StandardLink::send`].
    pub fn send(&self, message: &[u8]) -> Result<()> {
        self.send_wait(message, Wait::Forever)
    }

    /// Sends a copy of `message`, waiting for room no longer than `time`: a peer that takes nothing shall not hold up
    /// a thread for ever.
    ///
    /// # Errors
    /// As [`StandardLink::send_timeout`].
    pub fn send_timeout(&self, message: &[u8], time: Duration) -> Result<()> {
        self.send_wait(message, Wait::from(time))
    }

    /// Sends a copy of `message` if there is room now.
    ///
    /// # Errors
    /// As [`StandardLink::try_send`].
    pub fn try_send(&self, message: &[u8]) -> Result<()> {
        let mut loan = self.empty();
        self.core().try_loan(message.len(), 1, &mut loan.payload)?;
        loan.write_at(0, message);
        self.core().try_send_payload(&mut loan.payload)
    }

    fn send_wait(&self, message: &[u8], wait: Wait) -> Result<()> {
        let mut loan = self.loan_until(message.len(), wait)?;
        loan.write_at(0, message);
        self.core().send_payload(&mut loan.payload, wait)
    }

    fn empty(&self) -> UntrustedLoan<'_> {
        UntrustedLoan { core: self.core(), payload: None }
    }

    fn loan_until(&self, len: usize, wait: Wait) -> Result<UntrustedLoan<'_>> {
        let mut loan = self.empty();
        self.core().loan(len, 1, wait, &mut loan.payload)?;
        Ok(loan)
    }

    /// Lends memory for a message of `len` bytes, waiting for it.
    ///
    /// # Errors
    /// As [`StandardLink::loan`].
    pub fn loan(&self, len: usize) -> Result<UntrustedLoan<'_>> {
        self.loan_until(len, Wait::Forever)
    }

    /// Lends memory for a message of `len` bytes, waiting for it no longer than `time`.
    ///
    /// # Errors
    /// As [`StandardLink::loan_timeout`].
    pub fn loan_timeout(&self, len: usize, time: Duration) -> Result<UntrustedLoan<'_>> {
        self.loan_until(len, Wait::from(time))
    }

    /// Receives the next message, waiting for it.
    ///
    /// # Errors
    /// As [`StandardLink::recv`].
    pub fn recv(&self) -> Result<UntrustedMessage<'_>> {
        self.recv_wait(Wait::Forever)
    }

    /// Receives the next message, waiting for it no longer than `time`.
    ///
    /// # Errors
    /// As [`StandardLink::recv_timeout`].
    pub fn recv_timeout(&self, time: Duration) -> Result<UntrustedMessage<'_>> {
        self.recv_wait(Wait::from(time))
    }

    /// Receives the next message if there is one now.
    ///
    /// # Errors
    /// As [`StandardLink::try_recv`].
    pub fn try_recv(&self) -> Result<UntrustedMessage<'_>> {
        let mut message = UntrustedMessage { core: self.core(), payload: None };
        if self.core().take(0, &mut message.payload)? {
            return Ok(message);
        }
        self.core().idle();
        Err(Error::RingEmpty)
    }

    fn recv_wait(&self, wait: Wait) -> Result<UntrustedMessage<'_>> {
        let mut message = UntrustedMessage { core: self.core(), payload: None };
        self.core().take_wait(wait, &mut message.payload)?;
        Ok(message)
    }
}

impl fmt::Debug for UntrustedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UntrustedLink").field(&self.link).finish()
    }
}

/// What a handle holds until it is taken out of it.
const HELD: &str = "the handle holds it until it is consumed";

/// A received message of an untrusted peer: to be copied out. Dropping it gives its buffers back.
pub struct UntrustedMessage<'a> {
    core: &'a Arc<LinkCore>,
    payload: Option<Payload<'static>>,
}

impl UntrustedMessage<'_> {
    /// Bytes of the message. Checked when it was received, and kept in private memory.
    pub fn len(&self) -> usize {
        self.payload.as_ref().map_or(0, Payload::len)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes from `offset` on into `to`; how many there were.
    pub fn read_at(&self, offset: usize, to: &mut [u8]) -> usize {
        match self.payload.as_ref().expect(HELD) {
            Payload::Pool(buffer) => buffer.copy_to(offset, to),
            Payload::Slot(inline) => {
                let rest = inline.bytes().get(offset..).unwrap_or(&[]);
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
        if let Some(payload) = self.payload.take() {
            self.core.give(payload);
        }
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
    payload: Option<Payload<'static>>,
}

impl UntrustedLoan<'_> {
    /// Writes `from` at `offset`, as far as there is room; how many bytes fitted.
    pub fn write_at(&mut self, offset: usize, from: &[u8]) -> usize {
        match self.payload.as_mut().expect(HELD) {
            Payload::Pool(buffer) => buffer.write_at(offset, from),
            Payload::Slot(inline) => {
                let rest = inline.bytes_mut().get_mut(offset..).unwrap_or(&mut []);
                let count = rest.len().min(from.len());
                rest[..count].copy_from_slice(&from[..count]);
                count
            }
        }
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
        match self.payload.as_mut().expect(HELD) {
            Payload::Slot(inline) => Some(inline.bytes_mut()),
            Payload::Pool(buffer) => protected.then(|| buffer.bytes_mut()),
        }
    }

    /// Sends the message, waiting while the ring is full.
    ///
    /// # Errors
    /// As [`Loan::send`](crate::Loan::send).
    pub fn send(mut self) -> Result<()> {
        self.core.send_payload(&mut self.payload, Wait::Forever)
    }

    /// Sends the message, waiting while the ring is full no longer than `time`. If it cannot be sent it is dropped.
    ///
    /// # Errors
    /// As [`send`](Self::send), or [`Error::Timeout`].
    pub fn send_timeout(mut self, time: Duration) -> Result<()> {
        self.core.send_payload(&mut self.payload, Wait::from(time))
    }
}

impl Drop for UntrustedLoan<'_> {
    fn drop(&mut self) {
        if let Some(payload) = self.payload.take() {
            self.core.give(payload);
        }
    }
}

impl fmt::Debug for UntrustedLoan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.payload.as_ref().map_or(0, Payload::len);
        f.debug_struct("UntrustedLoan").field("len", &len).finish()
    }
}
