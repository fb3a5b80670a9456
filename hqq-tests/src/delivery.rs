//! Shared by the tests of reliable delivery and their workers: numbered messages, and the file in which a worker commits
//! processed messages.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::Path;

use hqq::advanced::Reliability;
use hqq::features::reliable::{Position, Receipt};

use crate::pattern;

/// Bytes of a record.
const RECORD: usize = 32;

/// A processed message: one record, written in one call, so that a death leaves all of it or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The receipt of the message; `None` for a worker that does not commit receipts.
    pub receipt: Option<Receipt>,
    /// The number of the message.
    pub number: u64,
}

impl Record {
    /// Appends the record to a file opened for appending.
    ///
    /// # Errors
    /// Those of the system.
    pub fn append(&self, mut file: &File) -> io::Result<()> {
        let (session, sequence) = self.receipt.map_or((0, 0), |of| (of.session.get(), of.sequence));
        let words = [session, sequence, self.number, pattern::mix(session ^ sequence ^ self.number)];
        file.write_all(words.map(u64::to_le_bytes).as_flattened())
    }

    /// All records of a file; none if there is no such file.
    ///
    /// # Panics
    /// If one is damaged.
    pub fn read_all(path: &Path) -> Vec<Self> {
        let bytes = std::fs::read(path).unwrap_or_default();
        assert!(bytes.len() % RECORD == 0, "a record is incomplete");
        let read = |record: &[u8]| {
            let word = |at: usize| u64::from_le_bytes(record[8 * at..][..8].try_into().expect("eight bytes"));
            let [session, sequence, number, check] = [0, 1, 2, 3].map(word);
            assert_eq!(check, pattern::mix(session ^ sequence ^ number), "a damaged record");
            let receipt = NonZeroU64::new(session).map(|session| Receipt { session, sequence });
            Self { receipt, number }
        };
        bytes.chunks(RECORD).map(read).collect()
    }
}

/// Resumes the last session of the records, if there are any.
pub fn resume(reliability: Reliability, records: &[Record]) -> Reliability {
    let Some(last) = records.iter().rev().find_map(|record| record.receipt) else { return reliability };
    let receipts = records.iter().filter_map(|record| record.receipt);
    let beyond = receipts.filter(|receipt| receipt.session == last.session).map(|receipt| receipt.sequence);
    reliability.resume(Position { session: last.session, upto: 0 }, beyond)
}

/// The message of this number: from 8 bytes, which fit a slot, to a run of buffers; every other one is compressible.
pub fn message(number: u64) -> Vec<u8> {
    let len = [0, 20, 60, 250, 700, 1500][pattern::mix(number) as usize % 6];
    let mut message = number.to_le_bytes().to_vec();
    let kind = if number % 2 == 0 { "text" } else { "noise" };
    message.extend(crate::agree::message(kind, len, number));
    message
}

/// The number of a message.
///
/// # Panics
/// If it differs from what was sent.
pub fn number(message: &[u8]) -> u64 {
    let number = message.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).expect("it has a number");
    assert!(message == self::message(number), "message {number} is not what was sent");
    number
}
