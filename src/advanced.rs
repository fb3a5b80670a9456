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
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::conn::Connection;
use crate::error::{Error, Result};
use crate::inner::{Peer, Until};
use crate::layout::Geometry;
use crate::link::{StandardLink, Stopper};
use crate::message::{Loan, Message};
use crate::mux::{Plan, WireError};
#[cfg(feature = "encrypt")]
use crate::negotiate::Keying;
#[cfg(feature = "encrypt")]
use crate::protocol::Features;
use crate::protocol::{Agreement, Fallback};
use crate::stats::Stats;
use crate::words::Role;

#[cfg(feature = "compress")]
mod compression;
mod connection;
#[cfg(feature = "encrypt")]
mod encryption;
mod frames;
mod reliable;
mod wanted;
#[cfg(not(all(feature = "compress", feature = "encrypt")))]
mod without;

#[cfg(feature = "compress")]
use compression::Compression;
pub use connection::AdvancedConnection;
#[cfg(feature = "encrypt")]
use encryption::{Encryption, Keys};
use frames::{Frames, Undone};
pub use reliable::{Deliveries, Reliability};
pub use wanted::Wanted;
#[cfg(not(feature = "compress"))]
use without::Compression;
#[cfg(not(feature = "encrypt"))]
use without::Encryption;

/// One end of a link with what was agreed on it. Used as a [`StandardLink`] is, and where nothing was agreed at hardly more
/// cost: some instructions in a hundred for [`send_with`](Self::send_with) and [`recv_with`](Self::recv_with), a tenth otherwise.
///
/// It comes out of a negotiation, which must be the first thing on a link: what a peer sends ahead of it is a sign that it
/// does without. If the peer knows nothing of it, refuses or stays silent, the link goes on with the standard operations, and
/// [`agreement`](Self::agreement) says why; unless something was [required](Wanted::require).
pub struct AdvancedLink {
    link: StandardLink,
    agreement: Agreement,
    /// What is done to each message; `None` if nothing is.
    frames: Option<Arc<Frames>>,
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
        let (agreement, frames) = Self::settle(&link, wanted, wanted.plan(), start, Until::after(time))?;
        Ok(Self { link, agreement, frames })
    }

    /// Comes to an agreement, and makes what it is kept by.
    fn settle(
        link: &StandardLink,
        wanted: &Wanted,
        plan: Option<Plan>,
        start: bool,
        until: Until,
    ) -> Result<(Agreement, Option<Arc<Frames>>)> {
        let (agreement, encryption) = Self::agree_and_key(link, wanted, plan, start, until)?;
        let missing = wanted.required - agreement.features;
        let incapable = wanted.needed - agreement.capabilities;
        if !missing.is_empty() || !incapable.is_empty() {
            let lacking =
                if missing.is_empty() { Fallback::Incapable(incapable) } else { Fallback::Missing(missing) };
            let fallback = agreement.fallback.unwrap_or(lacking);
            return Err(Error::NotAgreed { missing, incapable, fallback });
        }
        let compression = wanted.compression_layer(&agreement);
        let frames = if wanted.reliable_by(&agreement).is_some() {
            let layers = wanted.layers(&agreement, encryption, compression);
            layers.map(|layers| reliable::begin(link.inner(), layers))
        } else {
            Frames::new(compression, encryption)
        };
        Ok((agreement, frames))
    }

    #[cfg(feature = "encrypt")]
    fn agree_and_key(
        link: &StandardLink,
        wanted: &Wanted,
        plan: Option<Plan>,
        start: bool,
        until: Until,
    ) -> Result<(Agreement, Option<Encryption>)> {
        let keys = wanted.key.as_ref().map(|key| Keys::new(key.clone(), link.geometry().slots()));
        let driven = keys.clone().map(|keys| Box::new(keys) as Box<dyn Keying>);
        let agreement = link.inner().agree(wanted.offer(), driven, plan, start, until)?;
        if !agreement.features.contains(Features::ENCRYPTION) {
            return Ok((agreement, None));
        }
        let session = keys.and_then(|keys| keys.finish());
        let broken = Error::Handshake { what: "it agreed to encryption without a key", found: 0 };
        Ok((agreement, Some(session.ok_or(broken)?)))
    }

    #[cfg(not(feature = "encrypt"))]
    fn agree_and_key(
        link: &StandardLink,
        wanted: &Wanted,
        plan: Option<Plan>,
        start: bool,
        until: Until,
    ) -> Result<(Agreement, Option<Encryption>)> {
        Ok((link.inner().agree(wanted.offer(), None, plan, start, until)?, None))
    }

    /// What was agreed, or why nothing was.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// Sends a message, waiting for room; with [reliable delivery](Wanted::reliable) also for room to keep it. Then it is kept
    /// if and only if this returns `Ok`.
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
    /// As [`StandardLink::try_send`]; [`Error::StoreFull`] if too much is kept already.
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

    /// Sends a message of `len` bytes that `fill` writes, waiting for room; see [`StandardLink::send_with`].
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Panics
    /// If `fill` does; then nothing is sent.
    #[inline(always)]
    pub fn send_with<T>(&self, len: usize, fill: impl FnOnce(&mut [u8]) -> T) -> Result<T> {
        if self.frames.is_none() {
            return self.link.send_with(len, fill);
        }
        let mut message = self.lend(len)?;
        let filled = fill(&mut message);
        self.send(&message)?;
        Ok(filled)
    }

    /// Lends memory for a message of `len` bytes, waiting for it. Where messages are changed on their way, this is private
    /// memory, and what is made of it enters the region when it is sent; else it is shared, and nothing is copied.
    ///
    /// # Errors
    /// As [`StandardLink::loan`].
    #[inline(always)]
    pub fn loan(&self, len: usize) -> Result<AdvancedLoan<'_>> {
        let mut loan = self.no_loan();
        match &self.frames {
            None => self.link.inner().loan(len, 1, Until::Forever, loan.shared.place())?,
            Some(_) => loan.own = Some(Box::new(Own(self.lend(len)?))),
        }
        Ok(loan)
    }

    /// Lends memory for a message if there is some now.
    ///
    /// # Errors
    /// As [`StandardLink::try_loan`].
    #[inline(always)]
    pub fn try_loan(&self, len: usize) -> Result<AdvancedLoan<'_>> {
        let mut loan = self.no_loan();
        match &self.frames {
            None => self.link.inner().try_loan(len, 1, loan.shared.place())?,
            Some(_) => loan.own = Some(Box::new(Own(self.lend(len)?))),
        }
        Ok(loan)
    }

    #[inline(always)]
    fn no_loan(&self) -> AdvancedLoan<'_> {
        AdvancedLoan { link: self, shared: Loan::empty(self.link.inner()), own: None }
    }

    fn lend(&self, len: usize) -> Result<Vec<u8>> {
        let limit = self.max_message();
        if len as u64 > limit {
            return Err(Error::TooLarge { len: len as u64, limit });
        }
        Ok(vec![0; len])
    }

    /// Receives the next message, waiting for it.
    ///
    /// # Errors
    /// As [`StandardLink::recv`]; [`Error::Frame`] if what came breaks the rules of what was agreed: it is gone then, and the
    /// next call goes on behind it.
    #[inline(always)]
    pub fn recv(&self) -> Result<AdvancedMessage<'_>> {
        self.recv_until(Until::Forever)
    }

    /// Receives the next message if there is one now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); [`Error::RingEmpty`] if it would have to wait.
    #[inline(always)]
    pub fn try_recv(&self) -> Result<AdvancedMessage<'_>> {
        let mut message = self.no_message();
        let inner = self.link.inner();
        if let Some(frames) = &self.frames {
            frames.recv(inner, None, &mut message)?;
        } else if !inner.take(0, message.shared.place())? {
            inner.idle();
            return Err(Error::RingEmpty);
        }
        Ok(message)
    }

    /// Receives the next message, waiting for it no longer than `time`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`Error::Timeout`].
    pub fn recv_timeout(&self, time: Duration) -> Result<AdvancedMessage<'_>> {
        self.recv_until(Until::after(time))
    }

    /// Receives the next message, waiting for it until `deadline`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`Error::Timeout`].
    pub fn recv_deadline(&self, deadline: Instant) -> Result<AdvancedMessage<'_>> {
        self.recv_until(Until::At(deadline))
    }

    /// Receives the next message, waiting for it, and lets `read` read it; see [`StandardLink::recv_with`].
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    #[inline(always)]
    pub fn recv_with<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        if self.frames.is_none() {
            return self.link.recv_with(read);
        }
        Ok(read(&self.recv()?))
    }

    /// As [`recv_with`](Self::recv_with), if there is a message now.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    #[inline(always)]
    pub fn try_recv_with<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        if self.frames.is_none() {
            return self.link.try_recv_with(read);
        }
        Ok(read(&self.try_recv()?))
    }

    #[inline(always)]
    fn no_message(&self) -> AdvancedMessage<'_> {
        AdvancedMessage { shared: Message::empty(self.link.inner()), changed: None }
    }

    #[inline(always)]
    fn recv_until(&self, until: Until) -> Result<AdvancedMessage<'_>> {
        let mut message = self.no_message();
        let inner = self.link.inner();
        match &self.frames {
            None => inner.take_until(until, message.shared.place())?,
            Some(frames) => frames.recv(inner, Some(until), &mut message)?,
        }
        Ok(message)
    }

    /// Opens a connection and waits until the peer accepts it.
    ///
    /// # Errors
    /// As [`StandardLink::open_connection`].
    pub fn open_connection(&self) -> Result<AdvancedConnection> {
        Ok(self.with_frames(self.link.open_connection()?))
    }

    /// Opens a connection and waits for the peer to accept it no longer than `time`.
    ///
    /// # Errors
    /// As [`open_connection`](Self::open_connection), or [`Error::Timeout`].
    pub fn open_connection_timeout(&self, time: Duration) -> Result<AdvancedConnection> {
        Ok(self.with_frames(self.link.open_connection_timeout(time)?))
    }

    /// Waits for a connection that the peer opens, and accepts it.
    ///
    /// # Errors
    /// As [`StandardLink::accept_connection`].
    pub fn accept_connection(&self) -> Result<AdvancedConnection> {
        Ok(self.with_frames(self.link.accept_connection()?))
    }

    /// Waits for a connection no longer than `time`.
    ///
    /// # Errors
    /// As [`accept_connection`](Self::accept_connection), or [`Error::Timeout`].
    pub fn accept_connection_timeout(&self, time: Duration) -> Result<AdvancedConnection> {
        Ok(self.with_frames(self.link.accept_connection_timeout(time)?))
    }

    /// Accepts a connection if the peer has opened one.
    ///
    /// # Errors
    /// As [`accept_connection`](Self::accept_connection), or [`Error::NoneWaiting`].
    pub fn try_accept_connection(&self) -> Result<AdvancedConnection> {
        Ok(self.with_frames(self.link.try_accept_connection()?))
    }

    fn with_frames(&self, connection: Connection) -> AdvancedConnection {
        AdvancedConnection { connection, frames: self.frames.clone() }
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
        let (headers, longest) = match self.frames.as_deref() {
            None => (0, u64::MAX),
            Some(frames @ Frames::Reliable(layers)) => (frames.headers(), layers.longest() as u64),
            Some(frames) => (frames.headers(), u64::MAX),
        };
        self.link.max_message().saturating_sub(headers as u64).min(longest)
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
        let news = self.link.drive()? || self.has_left();
        if !news {
            // The caller is about to sleep.
            self.flush_acknowledgements();
        }
        Ok(news)
    }

    /// The region's memory, for observers; see [`StandardLink::memory`].
    pub fn memory(&self) -> BorrowedFd<'_> {
        self.link.memory()
    }
}

/// A link that does not negotiate: the standard operations, and no others.
impl From<StandardLink> for AdvancedLink {
    fn from(link: StandardLink) -> Self {
        Self { link, agreement: Agreement::standard(Fallback::NothingShared), frames: None }
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

/// Private memory, behind a pointer: handles are moved about, most often without any.
struct Own(Vec<u8>);

/// Memory for one message on an [`AdvancedLink`]; dereferences to `[u8]`. Dropped unsent, it is gone.
pub struct AdvancedLoan<'a> {
    link: &'a AdvancedLink,
    /// Holds nothing if `own` is there.
    shared: Loan<'a>,
    own: Option<Box<Own>>,
}

impl AdvancedLoan<'_> {
    /// Sends only the first `len` bytes, or all if there are fewer.
    pub fn truncate(&mut self, len: usize) {
        match &mut self.own {
            None => self.shared.truncate(len),
            Some(own) => own.0.truncate(len),
        }
    }

    /// Sends the message, waiting while there is no room.
    ///
    /// # Errors
    /// As [`StandardLink::send`].
    #[inline(always)]
    pub fn send(self) -> Result<()> {
        match &self.own {
            None => self.shared.send(),
            Some(own) => self.link.send(&own.0),
        }
    }
}

impl Deref for AdvancedLoan<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match &self.own {
            None => &self.shared,
            Some(own) => &own.0,
        }
    }
}

impl DerefMut for AdvancedLoan<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.own {
            None => &mut self.shared,
            Some(own) => &mut own.0,
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
    shared: Message<'a>,
    /// `None` if it came as it is. Behind a pointer, as above.
    changed: Option<Box<Undone>>,
}

impl AdvancedMessage<'_> {
    /// The message in memory of its own; copies unless it is that already.
    pub fn into_vec(self) -> Vec<u8> {
        match self.changed.map(|changed| *changed) {
            None => self.shared.to_vec(),
            Some(Undone { bytes: None, skip, .. }) => self.shared[skip..].to_vec(),
            Some(Undone { bytes: Some(bytes), .. }) => bytes,
        }
    }
}

impl Deref for AdvancedMessage<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match self.changed.as_deref() {
            None => &self.shared,
            Some(Undone { bytes: None, skip, .. }) => &self.shared[*skip..],
            Some(Undone { bytes: Some(bytes), .. }) => bytes,
        }
    }
}

impl fmt::Debug for AdvancedMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdvancedMessage").field("len", &self.len()).finish()
    }
}
