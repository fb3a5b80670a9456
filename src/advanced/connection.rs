//! Logical connections on a link with an agreement.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use super::Frames;
use crate::conn::Connection;
use crate::error::Result;

/// A logical connection on an [`AdvancedLink`](crate::AdvancedLink): messages of any length up to the limit. As a
/// [`Connection`], of whose messages is made what was agreed on.
#[derive(Debug)]
pub struct AdvancedConnection {
    pub(super) connection: Connection,
    pub(super) frames: Option<Arc<Frames>>,
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
