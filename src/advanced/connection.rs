//! Logical connections on a link with an agreement.

use std::net::Shutdown;
use std::time::Duration;

use super::{Pipeline, Reading};
use crate::error::{Error, Result};
use crate::link::connection::Connection;
use crate::link::deadline::Wait;
use crate::link::timed_mutex::TimedMutex;
use hqq_features::flow::Congestion;
use hqq_features::qos::TrafficClass;

/// A logical connection on an [`AdvancedLink`](crate::AdvancedLink): messages of any length up to the limit. As a
/// [`Connection`], of whose messages is made what was agreed on; a stream, too, in messages of 64 KiB at most.
#[derive(Debug)]
pub struct AdvancedConnection {
    pub(super) connection: Connection,
    pub(super) pipeline: Option<Pipeline>,
    /// What a stream has begun, of messages that are changed.
    pub(super) reading: TimedMutex<Reading>,
}

impl AdvancedConnection {
    /// Its number on the link.
    pub fn id(&self) -> u64 {
        self.connection.id()
    }

    /// How urgent it is, its weight, and its rate, in the direction that this end sends. It begins with what the peer has said,
    /// or [`TrafficClass::default`].
    pub fn share(&self) -> TrafficClass {
        self.connection.core().share(self.id())
    }

    /// Says how urgent it is, its weight, and its rate, for messages that this end sends from now on. The peer is told class
    /// and weight, and goes by them unless it says otherwise itself.
    ///
    /// ```
    /// # use std::thread;
    /// # use std::time::Duration;
    /// # use hqq::{AdvancedLink, StandardLink};
    /// use hqq::advanced::AdvancedOptions;
    /// use hqq::features::qos::{Class, Rate, TrafficClass};
    ///
    /// # let (primary, secondary) = StandardLink::pair()?;
    /// # let soon = Duration::from_secs(5);
    /// let wanted = AdvancedOptions::new().qos();
    /// # let theirs = wanted.clone();
    /// # let peer = thread::spawn(move || {
    /// #     let link = AdvancedLink::wait_for_negotiation(secondary, &theirs, soon)?;
    /// #     let bulk = link.accept_connection()?;
    /// #     bulk.recv()
    /// # });
    /// let link = AdvancedLink::negotiate(primary, &wanted, soon)?;
    /// let bulk = link.open_connection()?;
    /// let rate = Some(Rate { bytes_per_second: 10_000_000, burst: 1_000_000 });
    /// bulk.set_share(TrafficClass { class: Class::BULK, rate, ..TrafficClass::default() })?;
    /// bulk.send(b"when there is time")?;
    /// # assert_eq!(peer.join().unwrap()?, b"when there is time");
    /// # Ok::<(), hqq::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) where quality of service was not agreed on;
    /// [`Error::Share`](crate::Error::Share) for a weight or rate of zero, or a burst that is less than a buffer and a slot.
    pub fn set_share(&self, share: TrafficClass) -> Result<()> {
        self.connection.core().set_share(self.id(), share)
    }

    /// How sending stands: what is queued, what credit there is, and how long it was missing. `None` where flow control was
    /// not agreed on.
    pub fn congestion(&self) -> Option<Congestion> {
        self.connection.core().congestion(self.id())
    }

    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send(&self, message: &[u8]) -> Result<()> {
        self.send_wait(message, Wait::Forever)
    }

    /// Sends a message, waiting for room no longer than `time`.
    ///
    /// # Errors
    /// As [`Connection::send_timeout`].
    pub fn send_timeout(&self, message: &[u8], time: Duration) -> Result<()> {
        self.send_wait(message, Wait::from(time))
    }

    fn send_wait(&self, message: &[u8], wait: Wait) -> Result<()> {
        match &self.pipeline {
            None => self.connection.send_wait(message, wait),
            Some(pipeline) => self.connection.send_made(wait, || pipeline.build(&self.connection, message)),
        }
    }

    /// Receives the next message, waiting for it.
    ///
    /// # Errors
    /// As [`Connection::recv`]; [`Error::Frame`](crate::Error::Frame) as for
    /// [`AdvancedLink::recv`](crate::AdvancedLink::recv).
    pub fn recv(&self) -> Result<Vec<u8>> {
        self.recv_wait(Wait::Forever)
    }

    /// Receives the next message, waiting for it no longer than `time`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`Error::Timeout`](crate::Error::Timeout).
    pub fn recv_timeout(&self, time: Duration) -> Result<Vec<u8>> {
        self.recv_wait(time.into())
    }

    /// Receives the next message if it is there now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`Error::RingEmpty`](crate::Error::RingEmpty).
    pub fn try_recv(&self) -> Result<Vec<u8>> {
        self.recv_wait(Wait::No)
    }

    /// Receives a message into a slice, waiting for it; how many bytes it has.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); [`Error::TooLarge`](crate::Error::TooLarge) if the slice is too small: the message stays.
    pub fn recv_into(&self, into: &mut [u8]) -> Result<usize> {
        if self.pipeline.is_none() {
            return self.connection.recv_into(into);
        }
        let wait = Wait::Forever;
        let mut reading = self.reading(wait)?;
        let message = reading.rest().map_or_else(|| self.next(wait), Ok)?;
        let Some(place) = into.get_mut(..message.len()) else {
            let error = Error::TooLarge { len: message.len() as u64, limit: into.len() as u64 };
            reading.put_back(message);
            return Err(error);
        };
        place.copy_from_slice(&message);
        Ok(message.len())
    }

    fn recv_wait(&self, wait: Wait) -> Result<Vec<u8>> {
        if self.pipeline.is_none() {
            return self.connection.recv_wait(wait);
        }
        let mut reading = self.reading(wait)?;
        reading.rest().map_or_else(|| self.next(wait), Ok)
    }

    /// The next message that comes.
    pub(super) fn next(&self, wait: Wait) -> Result<Vec<u8>> {
        let message = self.connection.recv_wait(wait)?;
        match &self.pipeline {
            None => Ok(message),
            Some(pipeline) => pipeline.undo(&self.connection, message),
        }
    }

    /// Ends one or both directions for good; see [`Connection::shutdown`].
    pub fn shutdown(&self, how: Shutdown) {
        self.connection.shutdown(how);
    }
}
