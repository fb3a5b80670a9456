//! Logical connections on a link with an agreement.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use super::{Frames, Reading};
use crate::conn::Connection;
use crate::error::{Error, Result};
use crate::inner::Until;
use crate::turn::Turn;

/// A logical connection on an [`AdvancedLink`](crate::AdvancedLink): messages of any length up to the limit. As a
/// [`Connection`], of whose messages is made what was agreed on; a stream, too, in messages of 64 KiB at most.
#[derive(Debug)]
pub struct AdvancedConnection {
    pub(super) connection: Connection,
    pub(super) frames: Option<Arc<Frames>>,
    /// What a stream has begun, of messages that are changed.
    pub(super) reading: Turn<Reading>,
}

impl AdvancedConnection {
    /// Its number on the link.
    pub fn id(&self) -> u64 {
        self.connection.id()
    }

    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send(&self, message: &[u8]) -> Result<()> {
        match &self.frames {
            None => self.connection.send(message),
            Some(frames) => self.connection.send(&frames.build(&self.connection, message)?),
        }
    }

    /// Sends a message, waiting for room no longer than `time`.
    ///
    /// # Errors
    /// As [`Connection::send_timeout`].
    pub fn send_timeout(&self, message: &[u8], time: Duration) -> Result<()> {
        match &self.frames {
            None => self.connection.send_timeout(message, time),
            Some(frames) => self.connection.send_timeout(&frames.build(&self.connection, message)?, time),
        }
    }

    /// Receives the next message, waiting for it.
    ///
    /// # Errors
    /// As [`Connection::recv`]; [`Error::Frame`](crate::Error::Frame) as for
    /// [`AdvancedLink::recv`](crate::AdvancedLink::recv).
    pub fn recv(&self) -> Result<Vec<u8>> {
        self.recv_until(Some(Until::Forever))
    }

    /// Receives the next message, waiting for it no longer than `time`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`Error::Timeout`](crate::Error::Timeout).
    pub fn recv_timeout(&self, time: Duration) -> Result<Vec<u8>> {
        self.recv_until(Some(Until::after(time)))
    }

    /// Receives the next message if it is there now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`Error::RingEmpty`](crate::Error::RingEmpty).
    pub fn try_recv(&self) -> Result<Vec<u8>> {
        self.recv_until(None)
    }

    /// Receives a message into a slice, waiting for it; how many bytes it has.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); [`Error::TooLarge`](crate::Error::TooLarge) if the slice is too small: the message stays.
    pub fn recv_into(&self, into: &mut [u8]) -> Result<usize> {
        if self.frames.is_none() {
            return self.connection.recv_into(into);
        }
        let until = Some(Until::Forever);
        let mut reading = self.reading(until)?;
        let message = reading.rest().map_or_else(|| self.next(until), Ok)?;
        let Some(place) = into.get_mut(..message.len()) else {
            let error = Error::TooLarge { len: message.len() as u64, limit: into.len() as u64 };
            reading.put_back(message);
            return Err(error);
        };
        place.copy_from_slice(&message);
        Ok(message.len())
    }

    fn recv_until(&self, until: Option<Until>) -> Result<Vec<u8>> {
        if self.frames.is_none() {
            return self.connection.recv_until(until);
        }
        let mut reading = self.reading(until)?;
        reading.rest().map_or_else(|| self.next(until), Ok)
    }

    /// The next message that comes.
    pub(super) fn next(&self, until: Option<Until>) -> Result<Vec<u8>> {
        let message = self.connection.recv_until(until)?;
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
