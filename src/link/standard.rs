//! [`StandardLink`], and the two halves it can be split into.

use std::fmt;
use std::marker::PhantomData;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytemuck::Pod;

use crate::demux::WireError;
use crate::error::{Error, Result};
use crate::link::connection::{self, Connection};
use crate::link::core::{LinkCore, Peer};
use crate::link::deadline::Wait;
use crate::link::message::{Loan, Message, RecvIntoError, TypedLoan};
use crate::link::methods::{EACH, connecting_methods, link_methods, receiving_methods, sending_methods};
use crate::link::pipeline::{HeldLoan, Pipeline};
use crate::observe::Stats;
use crate::shm::endpoint::SlotBytes;
use crate::shm::layout::Geometry;
use crate::shm::words::Role;

/// One end of a link between two processes: messages both ways, streams, logical connections.
///
/// It may be shared by many threads. Dropping it closes the link once the connections on it are dropped too:
/// the peer receives what was sent, then [`Error::Closed`].
///
/// ```
/// use std::thread;
/// use hqq::{Listener, StandardLink};
///
/// # let name = format!("doc-{}", std::process::id());
/// let listener = Listener::bind(&name)?;
/// let other = thread::spawn(move || {
///     let link = StandardLink::connect(&name)?;
///     link.send(b"hello from over here")
/// });
/// let link = listener.accept()?;
/// assert_eq!(&*link.recv()?, b"hello from over here");
/// # other.join().unwrap()?;
/// # Ok::<(), hqq::Error>(())
/// ```
pub struct StandardLink {
    core: Arc<LinkCore>,
}

impl StandardLink {
    pub(crate) fn new(core: LinkCore) -> Self {
        Self { core: Arc::new(core) }
    }

    #[inline(always)]
    pub(crate) fn core(&self) -> &Arc<LinkCore> {
        &self.core
    }

    /// No layers: messages travel as they are.
    #[inline(always)]
    pub(crate) fn pipeline(&self) -> Option<&Pipeline> {
        None
    }

    #[inline(always)]
    fn before_send(&self) {}

    sending_methods!();
    receiving_methods!();
    connecting_methods!();

    /// Splits the link into a half that sends and one that receives, for two threads. In a single-producer or
    /// single-consumer mode the halves need no lock. Dropping a half shuts its direction down.
    ///
    /// # Errors
    /// [`Error::Unsupported`] once the link has carried connections or control packets; share it instead.
    pub fn split(self) -> Result<(Sender, Receiver)> {
        self.core.split()?;
        self.core.open_handle();
        self.core.open_handle();
        let (core, thread) = (&self.core, PhantomData);
        Ok((Sender { core: core.clone(), thread }, Receiver { core: core.clone(), thread }))
    }
}

link_methods!(StandardLink);

impl Drop for StandardLink {
    fn drop(&mut self) {
        self.core.close_handle();
    }
}

impl fmt::Debug for StandardLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

/// Shuts a link down from any thread; see [`StandardLink::shutdown_handle`]. It does not keep the link open.
///
/// ```
/// use std::net::Shutdown;
///
/// let (primary, _secondary) = hqq::StandardLink::pair()?;
/// let shutdown_handle = primary.shutdown_handle();
/// let (_sender, receiver) = primary.split()?;
/// let waiting = std::thread::spawn(move || matches!(receiver.recv(), Err(hqq::Error::Closed)));
/// shutdown_handle.shutdown(Shutdown::Read);
/// assert!(waiting.join().unwrap());
/// # Ok::<(), hqq::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ShutdownHandle {
    core: Weak<LinkCore>,
}

impl ShutdownHandle {
    pub(crate) fn new(core: &Arc<LinkCore>) -> Self {
        Self { core: Arc::downgrade(core) }
    }

    /// Ends one or both directions; see [`StandardLink::shutdown`]. Nothing happens if the link is gone.
    pub fn shutdown(&self, how: Shutdown) {
        if let Some(core) = self.core.upgrade() {
            shut(&core, how);
        }
    }
}

pub(crate) fn shut(core: &LinkCore, how: Shutdown) {
    let (recv, send) = match how {
        Shutdown::Read => (true, false),
        Shutdown::Write => (false, true),
        Shutdown::Both => (true, true),
    };
    core.shutdown(send, recv);
}

/// The sending half of a link; see [`StandardLink::split`]. It can move to a thread, and is used by one at a time.
pub struct Sender {
    core: Arc<LinkCore>,
    thread: PhantomData<std::cell::Cell<()>>,
}

impl Sender {
    #[inline(always)]
    pub(crate) fn pipeline(&self) -> Option<&Pipeline> {
        None
    }

    #[inline(always)]
    fn before_send(&self) {}

    sending_methods!();

    #[inline(always)]
    pub(crate) fn core(&self) -> &Arc<LinkCore> {
        &self.core
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.core.shutdown(true, false);
        self.core.close_handle();
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

/// The receiving half of a link; see [`StandardLink::split`]. It can move to a thread, and is used by one at a
/// time.
pub struct Receiver {
    core: Arc<LinkCore>,
    thread: PhantomData<std::cell::Cell<()>>,
}

impl Receiver {
    #[inline(always)]
    pub(crate) fn pipeline(&self) -> Option<&Pipeline> {
        None
    }

    receiving_methods!();

    #[inline(always)]
    pub(crate) fn core(&self) -> &Arc<LinkCore> {
        &self.core
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.core.shutdown(false, true);
        self.core.close_handle();
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}
