//! Streams of bytes over messages: what a read leaves of a message, and how much of a write goes into one. The traits are in
//! `io.rs`.

use super::body::MessageBody;
use crate::error::{Error, Result};
use hqq_features::reliable::Receipt;

/// A part of a stream that was refused. It is missing, so nothing after it may be read.
#[derive(Clone, Debug)]
pub(super) struct Hole {
    layer: &'static str,
    reason: String,
}

impl Hole {
    pub(super) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Frame { layer, reason } => Some(Self { layer, reason: reason.clone() }),
            _ => None,
        }
    }

    pub(super) fn error(&self) -> Error {
        Error::Frame { layer: self.layer, reason: self.reason.clone() }
    }
}

/// What a stream's reader has begun on a link.
#[derive(Default)]
pub(crate) struct StreamReader {
    /// The message that is being read, and how many of its bytes have been.
    pub(super) message: Option<(MessageBody, usize)>,
    /// What acknowledges the message that was read last.
    pub(super) receipt: Option<Receipt>,
    pub(super) hole: Option<Hole>,
}

/// What a stream's reader has left of a decoded message on a connection.
#[derive(Debug, Default)]
pub(super) struct Rest {
    message: Vec<u8>,
    done: usize,
    hole: Option<Hole>,
}

impl Rest {
    /// Reads what is left of a message, or else of the next, which `next` receives; 0 at the end.
    pub(super) fn read(
        &mut self,
        into: &mut [u8],
        mut next: impl FnMut() -> Result<Vec<u8>>,
    ) -> Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if let Some(hole) = &self.hole {
            return Err(hole.error());
        }
        loop {
            if let Some(rest) = self.message.get(self.done..).filter(|rest| !rest.is_empty()) {
                let count = copy(rest, into);
                self.done += count;
                return Ok(count);
            }
            match next() {
                Ok(message) => self.put_back(message),
                Err(Error::Closed) => return Ok(0),
                Err(error) => {
                    self.hole = Hole::of(&error);
                    return Err(error);
                }
            }
        }
    }

    /// Puts a message back that was not received after all.
    pub(super) fn put_back(&mut self, message: Vec<u8>) {
        (self.message, self.done) = (message, 0);
    }

    /// What is left of a message.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let mut message = std::mem::take(&mut self.message);
        message.drain(..std::mem::take(&mut self.done));
        (!message.is_empty()).then_some(message)
    }
}

/// Copies as much as fits.
pub(super) fn copy(from: &[u8], into: &mut [u8]) -> usize {
    let count = from.len().min(into.len());
    into[..count].copy_from_slice(&from[..count]);
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(reading: &mut Rest, len: usize, messages: &mut Vec<Result<Vec<u8>>>) -> Result<Vec<u8>> {
        let mut into = vec![0; len];
        let count = reading.read(&mut into, || messages.remove(0))?;
        into.truncate(count);
        Ok(into)
    }

    #[test]
    fn messages_are_joined_and_empty_ones_are_nothing() {
        let mut messages =
            vec![Ok(b"abcde".to_vec()), Ok(Vec::new()), Ok(b"fg".to_vec()), Err(Error::Closed)];
        let mut reading = Rest::default();
        for (len, read) in [(0, ""), (2, "ab"), (2, "cd"), (9, "e"), (9, "fg"), (0, ""), (9, "")] {
            assert_eq!(reads(&mut reading, len, &mut messages).unwrap(), read.as_bytes());
        }
        assert_eq!(reading.take(), None);
    }

    #[test]
    fn what_is_left_can_be_had_as_a_message() {
        let mut messages = vec![Ok(b"abcde".to_vec())];
        let mut reading = Rest::default();
        assert_eq!(reads(&mut reading, 2, &mut messages).unwrap(), b"ab");
        assert_eq!(reading.take(), Some(b"cde".to_vec()));
        assert_eq!(reading.take(), None);
    }

    #[test]
    fn nothing_is_read_behind_a_hole() {
        let refused = || Error::Frame { layer: "encryption", reason: "a test".into() };
        let mut messages = vec![Ok(b"ab".to_vec()), Err(refused()), Ok(b"behind".to_vec())];
        let mut reading = Rest::default();
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
