//! Layer 4: a [`StandardLink`] and what both ends agreed on beyond it.
//!
//! ```
//! use std::thread;
//! use std::time::Duration;
//! use hqq::{AdvancedLink, StandardLink};
//! use hqq::advanced::AdvancedOptions;
//! use hqq::agreement::Capabilities;
//!
//! let (primary, secondary) = StandardLink::pair()?;
//! let wanted = AdvancedOptions::new().capability(Capabilities::LOW_LATENCY);
//! let soon = Duration::from_secs(5);
//! let peer = thread::spawn(move || AdvancedLink::wait_for_negotiation(secondary, &wanted, soon));
//! let wanted = AdvancedOptions::new().capability(Capabilities::LOW_LATENCY | Capabilities::LARGE_BUFFERS);
//! let primary = AdvancedLink::negotiate(primary, &wanted, soon)?;
//! let secondary = peer.join().unwrap()?;
//! assert_eq!(primary.agreement().capabilities, Capabilities::LOW_LATENCY);
//! primary.send(b"as on any link")?;
//! assert_eq!(&*secondary.recv()?, b"as on any link");
//! # Ok::<(), hqq::Error>(())
//! ```
//!
//! Between two processes one listens and the other connects, as for any link, and one of them begins:
//!
//! ```
//! use std::time::Duration;
//! use hqq::{AdvancedLink, Listener, StandardLink};
//! use hqq::advanced::AdvancedOptions;
//!
//! const SOON: Duration = Duration::from_secs(5);
//!
//! fn server(name: &str) -> hqq::Result<()> {
//!     let link = Listener::bind(name)?.accept()?;
//!     let link = AdvancedLink::wait_for_negotiation(link, &AdvancedOptions::new().flow_control(16).statistics(), SOON)?;
//!     println!("agreed on: {}", link.agreement().features);
//!     let connection = link.accept_connection()?;
//!     connection.send(&connection.recv()?)
//! }
//!
//! fn client(name: &str) -> hqq::Result<Vec<u8>> {
//!     let link = StandardLink::connect_timeout(name, SOON)?;
//!     let link = AdvancedLink::negotiate(link, &AdvancedOptions::new().flow_control(64).statistics(), SOON)?;
//!     let connection = link.open_connection()?;
//!     connection.send(b"to and fro")?;
//!     connection.recv()
//! }
//! # let name = format!("doc-agreed-{}", std::process::id());
//! # let theirs = name.clone();
//! # let server = std::thread::spawn(move || server(&theirs));
//! # assert_eq!(client(&name)?, b"to and fro");
//! # server.join().unwrap()?;
//! # Ok::<(), hqq::Error>(())
//! ```
//!
//! Either end may begin, or both; if neither does, both wait in vain.

use std::fmt;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::agreement::{Agreement, Fallback, Features};
#[cfg(feature = "encrypt")]
use crate::demux::negotiation::Keying;
use crate::demux::{ReliableConfig, WireError};
use crate::error::{Error, Result};
use crate::link::connection::Connection;
use crate::link::core::Peer;
use crate::link::deadline::Wait;
use crate::link::standard::{ShutdownHandle, StandardLink};
use crate::link::timed_mutex::TimedMutex;
use crate::observe::{Metrics, Stats};
use crate::shm::layout::Geometry;
use crate::shm::words::Role;

mod batch;
#[cfg(feature = "compress")]
mod compression;
mod connection;
#[cfg(not(all(feature = "compress", feature = "encrypt")))]
mod disabled;
#[cfg(feature = "encrypt")]
mod encryption;
mod message;
mod options;
mod pipeline;
mod reliable;
mod stream;
#[cfg(test)]
mod tests;

pub use batch::AdvancedLoanOf;
#[cfg(feature = "compress")]
use compression::Compression;
pub use connection::AdvancedConnection;
#[cfg(not(feature = "compress"))]
use disabled::Compression;
#[cfg(not(feature = "encrypt"))]
use disabled::Encryption;
#[cfg(feature = "encrypt")]
pub use encryption::entropy;
#[cfg(feature = "encrypt")]
use encryption::{Encryption, Keys};
pub use message::{AdvancedLoan, AdvancedMessage};
pub use options::AdvancedOptions;
use pipeline::Pipeline;
pub use reliable::{Deliveries, Reliability};
use stream::{Reading, Streams};

/// One end of a link with what was agreed on it. Used as a [`StandardLink`] is, and where nothing was agreed at hardly more
/// cost: two or three instructions in a hundred.
///
/// It comes out of a negotiation, which must be the first thing on a link: what a peer sends ahead of it is a sign that it
/// does without. If the peer knows nothing of it, refuses or stays silent, the link goes on with the standard operations, and
/// [`agreement`](Self::agreement) says why; unless something was [required](Wanted::require).
///
/// A link is a stream, too, as a [`StandardLink`] is: what is written goes in messages of up to a buffer each, and what was
/// agreed on is done to each of them. A stream of which a part was refused cannot be read on.
///
/// It is shared by threads, by reference or in an [`Arc`], and cannot be split: both directions have what was agreed on in
/// common.
pub struct AdvancedLink {
    link: StandardLink,
    agreement: Agreement,
    /// What is done to each message; `None` if nothing is.
    pipeline: Option<Arc<Pipeline>>,
    streams: Streams,
    /// Messages are measured, and not changed: then the layers do that.
    measured: bool,
}

impl AdvancedLink {
    /// Proposes what is wanted to the peer and waits for its answer no longer than `time`.
    ///
    /// # Errors
    /// [`Error::NotAgreed`] if something that is required cannot be had; [`Error::Unsupported`] if the link has negotiated
    /// before; the link's end; [`Error::Timeout`] if the peer fell silent when it was too late to do without;
    /// [`Error::Handshake`] if it went back on what was agreed.
    pub fn negotiate(link: StandardLink, wanted: &AdvancedOptions, time: Duration) -> Result<Self> {
        Self::agree(link, wanted, true, time)
    }

    /// Waits for the peer's proposal no longer than `time`, and answers it.
    ///
    /// # Errors
    /// As [`negotiate`](Self::negotiate).
    pub fn wait_for_negotiation(
        link: StandardLink,
        wanted: &AdvancedOptions,
        time: Duration,
    ) -> Result<Self> {
        Self::agree(link, wanted, false, time)
    }

    fn agree(link: StandardLink, wanted: &AdvancedOptions, start: bool, time: Duration) -> Result<Self> {
        let (agreement, pipeline) = Self::settle(&link, wanted, wanted.plan(), start, Wait::from(time))?;
        let measured = agreement.features.contains(Features::STATISTICS) && pipeline.is_none();
        Ok(Self { link, agreement, pipeline, streams: Streams::default(), measured })
    }

    /// A message is about to be sent.
    #[inline(always)]
    fn tick(&self) {
        if self.measured {
            self.link.core().tick();
        }
    }

    /// Comes to an agreement, and makes what it is kept by.
    fn settle(
        link: &StandardLink,
        wanted: &AdvancedOptions,
        plan: Option<ReliableConfig>,
        start: bool,
        wait: Wait,
    ) -> Result<(Agreement, Option<Arc<Pipeline>>)> {
        let (agreement, encryption) = Self::agree_and_key(link, wanted, plan, start, wait)?;
        link.core().agree_spin(agreement.capabilities);
        let missing = wanted.required - agreement.features;
        let incapable = wanted.needed - agreement.capabilities;
        if !missing.is_empty() || !incapable.is_empty() {
            let lacking =
                if missing.is_empty() { Fallback::Incapable(incapable) } else { Fallback::Missing(missing) };
            let fallback = agreement.fallback.unwrap_or(lacking);
            return Err(Error::NotAgreed { missing, incapable, fallback });
        }
        let compression = wanted.compression_layer(&agreement);
        let pipeline = if wanted.reliable_by(&agreement).is_some() {
            let layers = wanted.layers(&agreement, encryption, compression);
            layers.map(|layers| reliable::begin(link.core(), layers))
        } else {
            Pipeline::new(compression, encryption)
        };
        if pipeline.is_some() {
            link.core().change_messages();
        }
        Ok((agreement, pipeline))
    }

    #[cfg(feature = "encrypt")]
    fn agree_and_key(
        link: &StandardLink,
        wanted: &AdvancedOptions,
        plan: Option<ReliableConfig>,
        start: bool,
        wait: Wait,
    ) -> Result<(Agreement, Option<Encryption>)> {
        let kept = wanted.reliable.as_ref().map_or(0, |reliable| reliable.messages);
        let keys = wanted.key.as_ref().map(|key| Keys::new(key.clone(), link.geometry().slots(), kept));
        let driven = keys.clone().map(|keys| Box::new(keys) as Box<dyn Keying>);
        let agreement = link.core().agree(wanted.offer(), driven, plan, start, wait)?;
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
        wanted: &AdvancedOptions,
        plan: Option<ReliableConfig>,
        start: bool,
        wait: Wait,
    ) -> Result<(Agreement, Option<Encryption>)> {
        Ok((link.core().agree(wanted.offer(), None, plan, start, wait)?, None))
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
        self.send_wait(message, Wait::Forever)
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    /// As [`StandardLink::try_send`]; [`Error::StoreFull`] if too much is kept already.
    #[inline(always)]
    pub fn try_send(&self, message: &[u8]) -> Result<()> {
        self.tick();
        self.link.core().try_send_or(message, || self.try_send_slowly(message))
    }

    /// Sends a message, waiting for room no longer than `time`.
    ///
    /// # Errors
    /// As [`send`](Self::send), or [`Error::Timeout`].
    pub fn send_timeout(&self, message: &[u8], time: Duration) -> Result<()> {
        self.send_wait(message, Wait::from(time))
    }

    /// Sends a message, waiting for room until `deadline`.
    ///
    /// # Errors
    /// As [`send`](Self::send), or [`Error::Timeout`].
    pub fn send_deadline(&self, message: &[u8], deadline: Instant) -> Result<()> {
        self.send_wait(message, Wait::Until(deadline))
    }

    #[inline(always)]
    fn send_wait(&self, message: &[u8], wait: Wait) -> Result<()> {
        self.tick();
        self.link.core().send_or(message, wait, || self.send_slowly(message, wait))
    }

    /// Whatever does not go the short way, as nothing does that is changed.
    #[inline(never)]
    fn send_slowly(&self, message: &[u8], wait: Wait) -> Result<()> {
        match &self.pipeline {
            None => self.link.core().try_send_slowly(message),
            Some(pipeline) => pipeline.send(self.link.core(), message, wait),
        }
    }

    #[inline(never)]
    fn try_send_slowly(&self, message: &[u8]) -> Result<()> {
        match &self.pipeline {
            None => self.link.core().try_send_slowly(message),
            Some(pipeline) => pipeline.send(self.link.core(), message, Wait::No),
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
        if self.pipeline.is_none() {
            self.tick();
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
        if self.pipeline.is_some() {
            return self.lend_own(len);
        }
        self.tick();
        let mut loan = AdvancedLoan::empty(self.link.core());
        self.link.core().loan(len, 1, Wait::Forever, loan.place())?;
        Ok(loan)
    }

    /// Lends memory for a message if there is some now.
    ///
    /// # Errors
    /// As [`StandardLink::try_loan`].
    #[inline(always)]
    pub fn try_loan(&self, len: usize) -> Result<AdvancedLoan<'_>> {
        if self.pipeline.is_some() {
            return self.lend_own(len);
        }
        self.tick();
        let mut loan = AdvancedLoan::empty(self.link.core());
        self.link.core().try_loan(len, 1, loan.place())?;
        Ok(loan)
    }

    #[inline(never)]
    fn lend_own(&self, len: usize) -> Result<AdvancedLoan<'_>> {
        Ok(AdvancedLoan::own(self, self.lend(len)?))
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
        self.recv_wait(Wait::Forever)
    }

    /// Receives the next message if there is one now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); [`Error::RingEmpty`] if it would have to wait.
    #[inline(always)]
    pub fn try_recv(&self) -> Result<AdvancedMessage<'_>> {
        let core = self.link.core();
        if self.pipeline.is_some() {
            return self.recv_framed(Wait::No);
        }
        let mut message = AdvancedMessage::empty(core);
        if !core.take(0, message.place())? {
            core.idle();
            return Err(Error::RingEmpty);
        }
        Ok(message)
    }

    /// Receives the next message, waiting for it no longer than `time`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`Error::Timeout`].
    pub fn recv_timeout(&self, time: Duration) -> Result<AdvancedMessage<'_>> {
        self.recv_wait(Wait::from(time))
    }

    /// Receives the next message, waiting for it until `deadline`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`Error::Timeout`].
    pub fn recv_deadline(&self, deadline: Instant) -> Result<AdvancedMessage<'_>> {
        self.recv_wait(Wait::Until(deadline))
    }

    /// Receives the next message, waiting for it, and lets `read` read it; see [`StandardLink::recv_with`]. With reliable
    /// delivery it is acknowledged when `read` returns.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    #[inline(always)]
    pub fn recv_with<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        if self.pipeline.is_none() {
            return self.link.recv_with(read);
        }
        let message = self.recv()?;
        let read = read(&message);
        message.acknowledge()?;
        Ok(read)
    }

    /// As [`recv_with`](Self::recv_with), if there is a message now.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    #[inline(always)]
    pub fn try_recv_with<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        if self.pipeline.is_none() {
            return self.link.try_recv_with(read);
        }
        let message = self.try_recv()?;
        let read = read(&message);
        message.acknowledge()?;
        Ok(read)
    }

    #[inline(always)]
    fn recv_wait(&self, wait: Wait) -> Result<AdvancedMessage<'_>> {
        if self.pipeline.is_some() {
            return self.recv_framed(wait);
        }
        let core = self.link.core();
        let mut message = AdvancedMessage::empty(core);
        core.take_wait(wait, message.place())?;
        Ok(message)
    }

    #[cold]
    #[inline(never)]
    fn recv_framed(&self, wait: Wait) -> Result<AdvancedMessage<'_>> {
        let core = self.link.core();
        match &self.pipeline {
            None => Ok(AdvancedMessage::empty(core)),
            Some(pipeline) => pipeline.recv(core, wait),
        }
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
        let pipeline = self.pipeline.as_ref().and_then(|pipeline| pipeline.of_connection(connection.id()));
        AdvancedConnection { connection, pipeline, reading: TimedMutex::new(Reading::default()) }
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
        let pipeline = self.pipeline.as_deref();
        let (headers, longest) =
            pipeline.map_or((0, u64::MAX), |pipeline| (pipeline.headers(), pipeline.longest()));
        self.link.max_message().saturating_sub(headers as u64).min(longest)
    }

    /// The link's counters. Bytes are those that travelled, whatever was made of the messages.
    pub fn stats(&self) -> Stats {
        self.link.stats()
    }

    /// Latencies, rates and what else the statistics of the link say, of both directions; `None` unless they were agreed on.
    /// Both ends and every observer see the same.
    pub fn metrics(&self) -> Option<Metrics> {
        let agreed = self.agreement.features.contains(Features::STATISTICS);
        agreed.then(|| Metrics::read(self.link.core().region().views()))
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
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.link.shutdown_handle()
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
        let (agreement, streams) = (Agreement::standard(Fallback::NothingShared), Streams::default());
        Self { link, agreement, pipeline: None, streams, measured: false }
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
