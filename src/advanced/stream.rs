//! Streams over messages that are changed on their way: what a read leaves of a message, and how much of a write goes into
//! one. The traits are in `io.rs`.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use super::{AdvancedConnection, AdvancedLink, AdvancedMessage};
use crate::error::{Error, Result};
use crate::link::connection::{Connection, lock};
use crate::link::deadline::Wait;
use crate::link::standard::StandardLink;
use crate::link::timed_mutex::TimedGuard;
use hqq_features::reliable::Receipt;

/// Most bytes of a stream in one message on a connection: enough for a codec, and little to hold twice.
const MOST: u64 = 64 << 10;

/// What a stream's reader has begun.
#[derive(Debug, Default)]
pub(super) struct Reading {
    message: Vec<u8>,
    done: usize,
    /// A part of the stream was refused. It is missing, so nothing behind it may be read.
    hole: Option<(&'static str, String)>,
}

impl Reading {
    /// Reads what is left of a message, or else of the next; 0 at the end. `keep` makes a message one's own.
    fn read<M: Deref<Target = [u8]>>(
        &mut self,
        into: &mut [u8],
        mut next: impl FnMut() -> Result<M>,
        keep: impl Fn(M) -> Vec<u8>,
    ) -> Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if let Some((layer, reason)) = self.hole.clone() {
            return Err(Error::Frame { layer, reason });
        }
        if let Some(rest) = self.message.get(self.done..).filter(|rest| !rest.is_empty()) {
            let count = copy(rest, into);
            self.done += count;
            return Ok(count);
        }
        loop {
            let message = match next() {
                Ok(message) => message,
                Err(Error::Closed) => return Ok(0),
                Err(error) => {
                    if let Error::Frame { layer, reason } = &error {
                        self.hole = Some((layer, reason.clone()));
                    }
                    return Err(error);
                }
            };
            let count = copy(&message, into);
            if count < message.len() {
                (self.message, self.done) = (keep(message), count);
            }
            if count > 0 {
                return Ok(count);
            }
        }
    }

    /// Gives a message back that was not taken after all.
    pub(super) fn put_back(&mut self, message: Vec<u8>) {
        (self.message, self.done) = (message, 0);
    }

    /// What is left of a message.
    pub(super) fn rest(&mut self) -> Option<Vec<u8>> {
        let mut message = std::mem::take(&mut self.message);
        message.drain(..std::mem::take(&mut self.done));
        (!message.is_empty()).then_some(message)
    }
}

/// As much of it as fits.
fn copy(from: &[u8], into: &mut [u8]) -> usize {
    let count = from.len().min(into.len());
    into[..count].copy_from_slice(&from[..count]);
    count
}

/// The state of a link's streams and batches.
#[derive(Debug, Default)]
pub(super) struct Streams {
    reading: Mutex<Reading>,
    /// The message that is being read, if it is to be acknowledged.
    read: Mutex<Option<Receipt>>,
    /// Why a batch ended early.
    pub(super) late: Mutex<Option<Error>>,
}

impl AdvancedLink {
    /// The link, if its messages travel as they are.
    pub(crate) fn plain(&self) -> Option<&StandardLink> {
        self.pipeline.is_none().then_some(&self.link)
    }

    /// Reads bytes as a stream, across messages that were changed; 0 at the end.
    pub(crate) fn read_changed(&self, into: &mut [u8]) -> Result<usize> {
        let mut reading = self.streams.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let next = || {
            let mut read = self.streams.read.lock().unwrap_or_else(PoisonError::into_inner);
            // All its bytes were handed out before.
            if let Some(receipt) = read.take() {
                self.acknowledge(receipt)?;
            }
            let message = self.recv()?;
            *read = message.receipt();
            Ok(message)
        };
        reading.read(into, next, AdvancedMessage::into_vec)
    }

    /// The part of a write that goes into one message: what is made of it fits a buffer.
    pub(crate) fn part<'b>(&self, from: &'b [u8]) -> &'b [u8] {
        let size = self.geometry().buffer_size().min(self.link.max_message()) as usize;
        let most = self.pipeline.as_ref().map_or(size, |pipeline| pipeline.fits(size));
        let most = most.min(self.max_message() as usize).max(1);
        &from[..from.len().min(most)]
    }
}

impl AdvancedConnection {
    /// The connection, if its messages travel as they are.
    pub(crate) fn plain(&self) -> Option<&Connection> {
        self.pipeline.is_none().then_some(&self.connection)
    }

    pub(super) fn reading(&self, wait: Wait) -> Result<TimedGuard<'_, Reading>> {
        lock(&self.reading, wait, "another reader of the connection")
    }

    /// As [`AdvancedLink::read_changed`].
    pub(crate) fn read_changed(&self, into: &mut [u8]) -> Result<usize> {
        let mut reading = self.reading(Wait::Forever)?;
        reading.read(into, || self.next(Wait::Forever), |message| message)
    }

    /// As [`AdvancedLink::part`], where a message may take several buffers.
    pub(crate) fn part<'b>(&self, from: &'b [u8]) -> &'b [u8] {
        let size = MOST.min(self.connection.core().region().bounds().max_message) as usize;
        let most = self.pipeline.as_ref().map_or(from.len(), |pipeline| pipeline.fits(size));
        &from[..from.len().min(most)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(reading: &mut Reading, len: usize, messages: &mut Vec<Result<Vec<u8>>>) -> Result<Vec<u8>> {
        let mut into = vec![0; len];
        let count = reading.read(&mut into, || messages.remove(0), |message| message)?;
        into.truncate(count);
        Ok(into)
    }

    #[test]
    fn messages_are_joined_and_empty_ones_are_nothing() {
        let mut messages =
            vec![Ok(b"abcde".to_vec()), Ok(Vec::new()), Ok(b"fg".to_vec()), Err(Error::Closed)];
        let mut reading = Reading::default();
        for (len, read) in [(0, ""), (2, "ab"), (2, "cd"), (9, "e"), (9, "fg"), (0, ""), (9, "")] {
            assert_eq!(reads(&mut reading, len, &mut messages).unwrap(), read.as_bytes());
        }
        assert_eq!(reading.rest(), None);
    }

    #[test]
    fn what_is_left_can_be_had_as_a_message() {
        let mut messages = vec![Ok(b"abcde".to_vec())];
        let mut reading = Reading::default();
        assert_eq!(reads(&mut reading, 2, &mut messages).unwrap(), b"ab");
        assert_eq!(reading.rest(), Some(b"cde".to_vec()));
        assert_eq!(reading.rest(), None);
    }

    #[test]
    fn nothing_is_read_behind_a_hole() {
        let refused = || Error::Frame { layer: "encryption", reason: "a test".into() };
        let mut messages = vec![Ok(b"ab".to_vec()), Err(refused()), Ok(b"behind".to_vec())];
        let mut reading = Reading::default();
        assert_eq!(reads(&mut reading, 9, &mut messages).unwrap(), b"ab");
        for _ in 0..3 {
            let error = reads(&mut reading, 9, &mut messages).unwrap_err();
            assert!(
                matches!(&error, Error::Frame { layer: "encryption", reason } if reason == "a test"),
                "{error}"
            );
        }
        assert_eq!(messages.len(), 1);
    }
}
