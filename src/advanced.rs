//! Layer 4: a [`StandardLink`] and what both ends agreed on beyond it.
//!
//! ```
//! use std::thread;
//! use std::time::Duration;
//! use hqq::{AdvancedLink, StandardLink};
//! use hqq::advanced::Wanted;
//! use hqq::protocol::Capabilities;
//!
//! let (primary, secondary) = StandardLink::pair()?;
//! let wanted = Wanted::new().capability(Capabilities::LOW_LATENCY);
//! let soon = Duration::from_secs(5);
//! let peer = thread::spawn(move || AdvancedLink::wait_for_negotiation(secondary, &wanted, soon));
//! let wanted = Wanted::new().capability(Capabilities::LOW_LATENCY | Capabilities::LARGE_BUFFERS);
//! let primary = AdvancedLink::negotiate(primary, &wanted, soon)?;
//! let secondary = peer.join().unwrap()?;
//! assert_eq!(primary.agreement().capabilities, Capabilities::LOW_LATENCY);
//! primary.send(b"as on any link")?;
//! assert_eq!(&*secondary.recv()?, b"as on any link");
//! # Ok::<(), hqq::Error>(())
//! ```

use std::fmt;
use std::net::Shutdown;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::inner::{Peer, Until};
use crate::layout::Geometry;
use crate::link::{StandardLink, Stopper};
use crate::message::{Loan, Message};
use crate::mux::WireError;
use crate::negotiate::Offer;
use crate::protocol::{Agreement, Capabilities, Features, Terms, Version};
use crate::stats::Stats;
use crate::words::Role;

mod frames;

use frames::Frames;

/// What this end would like to agree on, and what it cannot do without.
#[derive(Clone, Debug)]
pub struct Wanted {
    version: Version,
    features: Features,
    capabilities: Capabilities,
    required: Features,
}

impl Default for Wanted {
    fn default() -> Self {
        Self::new()
    }
}

impl Wanted {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            version: Version::CURRENT,
            features: Features::empty(),
            capabilities: Capabilities::empty(),
            required: Features::empty(),
        }
    }

    /// These capabilities, beside others.
    #[must_use]
    pub const fn capability(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = self.capabilities.union(capabilities);
        self
    }

    /// A link without these is of no use: then the negotiation fails with [`Error::NotAgreed`], instead of falling back.
    /// Only what has been asked for can be required.
    #[must_use]
    pub const fn require(mut self, features: Features) -> Self {
        self.required = self.required.union(features);
        self
    }

    fn offer(&self) -> Offer {
        Offer {
            version: self.version,
            features: self.features,
            capabilities: self.capabilities,
            required: self.required,
            terms: Terms { codecs: 0 },
        }
    }
}

/// One end of a link with what was agreed on it. Used as a [`StandardLink`] is; where nothing was agreed it costs what that
/// costs.
///
/// It comes out of a negotiation, which must be the first thing on a link: what a peer sends ahead of it is a sign that it
/// does without. If the peer knows nothing of it, refuses or stays silent, the link goes on with the standard operations, and
/// [`agreement`](Self::agreement) says why; unless something was [required](Wanted::require).
pub struct AdvancedLink {
    link: StandardLink,
    agreement: Agreement,
    /// What is done to each message; `None` if nothing is.
    frames: Option<Box<Frames>>,
}

impl AdvancedLink {
    /// Proposes what is wanted to the peer and waits for its answer no longer than `time`.
    ///
    /// # Errors
    /// [`Error::NotAgreed`] if something that is required cannot be had; [`Error::Unsupported`] if the link has negotiated
    /// before; the link's end; [`Error::Timeout`] if the peer fell silent when it was too late to do without;
    /// [`Error::Handshake`] if it went back on what was agreed.
    pub fn negotiate(link: StandardLink, wanted: &Wanted, time: Duration) -> Result<Self> {
        Self::agree(link, wanted, true, time)
    }

    /// Waits for the peer's proposal no longer than `time`, and answers it.
    ///
    /// # Errors
    /// As [`negotiate`](Self::negotiate).
    pub fn wait_for_negotiation(link: StandardLink, wanted: &Wanted, time: Duration) -> Result<Self> {
        Self::agree(link, wanted, false, time)
    }

    fn agree(link: StandardLink, wanted: &Wanted, start: bool, time: Duration) -> Result<Self> {
        let agreement = link.inner().agree(wanted.offer(), start, Until::after(time))?;
        let missing = wanted.required - agreement.features;
        match agreement.fallback {
            Some(fallback) if !missing.is_empty() => Err(Error::NotAgreed { missing, fallback }),
            _ => Ok(Self { frames: Frames::new(wanted, &agreement, link.role()), link, agreement }),
        }
    }

    /// What was agreed, or why nothing was.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// As [`StandardLink::send`].
    #[inline(always)]
    pub fn send(&self, message: &[u8]) -> Result<()> {
        match &self.frames {
            None => self.link.send(message),
            Some(frames) => frames.send(self.link.inner(), message, Some(Until::Forever)),
        }
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    /// As [`StandardLink::try_send`].
    #[inline(always)]
    pub fn try_send(&self, message: &[u8]) -> Result<()> {
        match &self.frames {
            None => self.link.try_send(message),
            Some(frames) => frames.send(self.link.inner(), message, None),
        }
    }

    /// Sends a message, waiting for room no longer than `time`.
    ///
    /// # Errors
    /// As [`send`](Self::send), or [`Error::Timeout`].
    pub fn send_timeout(&self, message: &[u8], time: Duration) -> Result<()> {
        self.send_until(message, Until::after(time))
    }

    /// Sends a message, waiting for room until `deadline`.
    ///
    /// # Errors
    /// As [`send`](Self::send), or [`Error::Timeout`].
    pub fn send_deadline(&self, message: &[u8], deadline: Instant) -> Result<()> {
        self.send_until(message, Until::At(deadline))
    }

    fn send_until(&self, message: &[u8], until: Until) -> Result<()> {
        match &self.frames {
            None => self.link.inner().send(message, until),
            Some(frames) => frames.send(self.link.inner(), message, Some(until)),
        }
    }

    /// Lends memory for a message of `len` bytes, waiting for it. Where messages are changed on their way, this is private
    /// memory, and what is made of it enters the region when it is sent; else it is shared, and nothing is copied.
    ///
    /// # Errors
    /// As [`StandardLink::loan`].
    #[inline(always)]
    pub fn loan(&self, len: usize) -> Result<AdvancedLoan<'_>> {
        match &self.frames {
            None => Ok(AdvancedLoan { link: self, held: Lent::Shared(self.link.loan(len)?) }),
            Some(_) => self.lend(len),
        }
    }

    /// Lends memory for a message if there is some now.
    ///
    /// # Errors
    /// As [`StandardLink::try_loan`].
    #[inline(always)]
    pub fn try_loan(&self, len: usize) -> Result<AdvancedLoan<'_>> {
        match &self.frames {
            None => Ok(AdvancedLoan { link: self, held: Lent::Shared(self.link.try_loan(len)?) }),
            Some(_) => self.lend(len),
        }
    }

    fn lend(&self, len: usize) -> Result<AdvancedLoan<'_>> {
        let limit = self.max_message();
        if len as u64 > limit {
            return Err(Error::TooLarge { len: len as u64, limit });
        }
        Ok(AdvancedLoan { link: self, held: Lent::Own(vec![0; len]) })
    }

    /// Receives the next message, waiting for it.
    ///
    /// # Errors
    /// As [`StandardLink::recv`]; [`Error::Frame`] if what came breaks the rules of what was agreed: it is gone then, and the
    /// next call goes on behind it.
    #[inline(always)]
    pub fn recv(&self) -> Result<AdvancedMessage<'_>> {
        self.open(self.link.recv()?)
    }

    /// Receives the next message if there is one now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); [`Error::RingEmpty`] if it would have to wait.
    #[inline(always)]
    pub fn try_recv(&self) -> Result<AdvancedMessage<'_>> {
        self.open(self.link.try_recv()?)
    }

    /// Receives the next message, waiting for it no longer than `time`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`Error::Timeout`].
    pub fn recv_timeout(&self, time: Duration) -> Result<AdvancedMessage<'_>> {
        self.open(self.link.recv_timeout(time)?)
    }

    /// Receives the next message, waiting for it until `deadline`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`Error::Timeout`].
    pub fn recv_deadline(&self, deadline: Instant) -> Result<AdvancedMessage<'_>> {
        self.open(self.link.recv_deadline(deadline)?)
    }

    #[inline(always)]
    fn open<'a>(&'a self, message: Message<'a>) -> Result<AdvancedMessage<'a>> {
        match &self.frames {
            None => Ok(AdvancedMessage { held: Held::Shared { message, from: 0 } }),
            Some(frames) => frames.open(self.link.inner(), message),
        }
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.link.role()
    }

    /// Who is at the other end, as the kernel says.
    pub fn peer(&self) -> Peer {
        self.link.peer()
    }

    /// Slots and buffers of the link.
    pub fn geometry(&self) -> Geometry {
        self.link.geometry()
    }

    /// The longest message that can be sent in one piece, bytes.
    pub fn max_message(&self) -> u64 {
        let headers = self.frames.as_ref().map_or(0, |frames| frames.headers());
        self.link.max_message().saturating_sub(headers as u64)
    }

    /// The link's counters. Bytes are those that travelled, whatever was made of the messages.
    pub fn stats(&self) -> Stats {
        self.link.stats()
    }

    /// Whether both directions still work, as far as can be told now.
    pub fn is_open(&self) -> bool {
        self.link.is_open()
    }

    /// The last error that the peer reported, if any.
    pub fn wire_error(&self) -> Option<WireError> {
        self.link.wire_error()
    }

    /// Ends one or both directions for good; see [`StandardLink::shutdown`].
    pub fn shutdown(&self, how: Shutdown) {
        self.link.shutdown(how);
    }

    /// A handle that can shut the link down from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.link.stopper()
    }

    /// For event loops; see [`StandardLink::drive`].
    ///
    /// # Errors
    /// As there.
    pub fn drive(&self) -> Result<bool> {
        self.link.drive()
    }

    /// The region's memory, for observers; see [`StandardLink::memory`].
    pub fn memory(&self) -> BorrowedFd<'_> {
        self.link.memory()
    }
}

/// The link's doorbell; see [`AdvancedLink::drive`].
impl AsFd for AdvancedLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

impl fmt::Debug for AdvancedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdvancedLink").field("link", &self.link).field("agreement", &self.agreement).finish()
    }
}

/// Memory for one message on an [`AdvancedLink`]; dereferences to `[u8]`. Dropped unsent, it is gone.
pub struct AdvancedLoan<'a> {
    link: &'a AdvancedLink,
    held: Lent<'a>,
}

enum Lent<'a> {
    Shared(Loan<'a>),
    Own(Vec<u8>),
}

impl AdvancedLoan<'_> {
    /// Sends only the first `len` bytes, or all if there are fewer.
    pub fn truncate(&mut self, len: usize) {
        match &mut self.held {
            Lent::Shared(loan) => loan.truncate(len),
            Lent::Own(bytes) => bytes.truncate(len),
        }
    }

    /// Sends the message, waiting while there is no room.
    ///
    /// # Errors
    /// As [`StandardLink::send`].
    #[inline(always)]
    pub fn send(self) -> Result<()> {
        match self.held {
            Lent::Shared(loan) => loan.send(),
            Lent::Own(bytes) => self.link.send(&bytes),
        }
    }
}

impl Deref for AdvancedLoan<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match &self.held {
            Lent::Shared(loan) => loan,
            Lent::Own(bytes) => bytes,
        }
    }
}

impl DerefMut for AdvancedLoan<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.held {
            Lent::Shared(loan) => loan,
            Lent::Own(bytes) => bytes,
        }
    }
}

impl fmt::Debug for AdvancedLoan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdvancedLoan").field("len", &self.len()).finish()
    }
}

/// A message received on an [`AdvancedLink`]; dereferences to `[u8]`. It lies where the peer wrote it, or in private memory
/// where something had to be undone.
pub struct AdvancedMessage<'a> {
    held: Held<'a>,
}

enum Held<'a> {
    Shared { message: Message<'a>, from: usize },
    Own(Vec<u8>),
}

impl AdvancedMessage<'_> {
    /// The message in memory of its own; copies unless it is that already.
    pub fn into_vec(self) -> Vec<u8> {
        match self.held {
            Held::Shared { message, from } => message[from..].to_vec(),
            Held::Own(bytes) => bytes,
        }
    }
}

impl Deref for AdvancedMessage<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match &self.held {
            Held::Shared { message, from } => &message[*from..],
            Held::Own(bytes) => bytes,
        }
    }
}

impl fmt::Debug for AdvancedMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdvancedMessage").field("len", &self.len()).finish()
    }
}
