//! Logical connections on a link with an agreement.

use std::net::Shutdown;
use std::time::Duration;

use super::Frames;
use crate::conn::Connection;
use crate::error::Result;
use crate::feature::flow::Congestion;
use crate::feature::qos::Share;
use crate::inner::Until;

/// A logical connection on an [`AdvancedLink`](crate::AdvancedLink): messages of any length up to the limit. As a
/// [`Connection`], of whose messages is made what was agreed on.
#[derive(Debug)]
pub struct AdvancedConnection {
    pub(super) connection: Connection,
    pub(super) frames: Option<Frames>,
}

impl AdvancedConnection {
    /// Its number on the link.
    pub fn id(&self) -> u64 {
        self.connection.id()
    }

    /// How urgent it is, its weight, and its rate, in the direction that this end sends. It begins with what the peer has said,
    /// or [`Share::default`].
    pub fn share(&self) -> Share {
        self.connection.inner().share(self.id())
    }

    /// Says how urgent it is, its weight, and its rate, for messages that this end sends from now on. The peer is told class
    /// and weight, and goes by them unless it says otherwise itself.
    ///
    /// ```
    /// # use std::thread;
    /// # use std::time::Duration;
    /// # use hqq::{AdvancedLink, StandardLink};
    /// use hqq::advanced::Wanted;
    /// use hqq::feature::qos::{Class, Rate, Share};
    ///
    /// # let (primary, secondary) = StandardLink::pair()?;
    /// # let soon = Duration::from_secs(5);
    /// let wanted = Wanted::new().qos();
    /// # let theirs = wanted.clone();
    /// # let peer = thread::spawn(move || {
    /// #     let link = AdvancedLink::wait_for_negotiation(secondary, &theirs, soon)?;
    /// #     let bulk = link.accept_connection()?;
    /// #     bulk.recv()
    /// # });
    /// let link = AdvancedLink::negotiate(primary, &wanted, soon)?;
    /// let bulk = link.open_connection()?;
    /// let rate = Some(Rate { bytes_per_second: 10_000_000, burst: 1_000_000 });
    /// bulk.set_share(Share { class: Class::BULK, rate, ..Share::default() })?;
    /// bulk.send(b"when there is time")?;
    /// # assert_eq!(peer.join().unwrap()?, b"when there is time");
    /// # Ok::<(), hqq::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) where quality of service was not agreed on;
    /// [`Error::Share`](crate::Error::Share) for a weight or rate of zero, or a burst that is less than a buffer and a slot.
    pub fn set_share(&self, share: Share) -> Result<()> {
        self.connection.inner().set_share(self.id(), share)
    }

    /// How sending stands: what is queued, what credit there is, and how long it was missing. `None` where flow control was
    /// not agreed on.
    pub fn congestion(&self) -> Option<Congestion> {
        self.connection.inner().congestion(self.id())
    }

    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send(&self, message: &[u8]) -> Result<()> {
        self.send_until(message, Until::Forever)
    }

    /// Sends a message, waiting for room no longer than `time`.
    ///
    /// # Errors
    /// As [`Connection::send_timeout`].
    pub fn send_timeout(&self, message: &[u8], time: Duration) -> Result<()> {
        self.send_until(message, Until::after(time))
    }

    fn send_until(&self, message: &[u8], until: Until) -> Result<()> {
        match &self.frames {
            None => self.connection.send_until(message, until),
            Some(frames) => self.connection.send_made(until, || frames.build(&self.connection, message)),
        }
    }

    /// Receives the next message, waiting for it.
    ///
    /// # Errors
    /// As [`Connection::recv`]; [`Error::Frame`](crate::Error::Frame) as for
    /// [`AdvancedLink::recv`](crate::AdvancedLink::recv).
    pub fn recv(&self) -> Result<Vec<u8>> {
        self.undo(self.connection.recv()?)
    }

    /// Receives the next message, waiting for it no longer than `time`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`Error::Timeout`](crate::Error::Timeout).
    pub fn recv_timeout(&self, time: Duration) -> Result<Vec<u8>> {
        self.undo(self.connection.recv_timeout(time)?)
    }

    /// Receives the next message if it is there now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`Error::RingEmpty`](crate::Error::RingEmpty).
    pub fn try_recv(&self) -> Result<Vec<u8>> {
        self.undo(self.connection.try_recv()?)
    }

    fn undo(&self, message: Vec<u8>) -> Result<Vec<u8>> {
        match &self.frames {
            None => Ok(message),
            Some(frames) => frames.undo(&self.connection, message),
        }
    }

    /// Ends one or both directions for good; see [`Connection::shutdown`].
    pub fn shutdown(&self, how: Shutdown) {
        self.connection.shutdown(how);
    }
}
