//! A record of what a process has sent and received that outlives the process: `begun` is written before each send, `done`
//! after it, and each message received before it is dropped. Whenever the process dies, everything but the one operation of
//! each thread is known.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};

/// Threads that send, of one process.
pub const SENDERS: u64 = 16;
/// Threads that receive.
pub const RECEIVERS: u64 = 16;
/// Links of one process, one after the other.
pub const LINKS: u64 = 256;

/// The sender's part: `begun` and `done` for each link and thread. Behind it, a log for each receiver.
const LOGS: u64 = SENDERS * LINKS * 16;
const LOG: u64 = 1 << 32;
const ENTRY: u64 = 16;

/// A thread that sends on one link: which process, its how many-th link, which thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sender {
    pub worker: u64,
    pub link: u64,
    pub thread: u64,
}

impl Sender {
    /// One number, as messages carry it.
    pub fn number(self) -> u64 {
        (self.worker * LINKS + self.link) * SENDERS + self.thread
    }

    pub fn from_number(number: u64) -> Self {
        let (worker, rest) = (number / (LINKS * SENDERS), number % (LINKS * SENDERS));
        Self { worker, link: rest / SENDERS, thread: rest % SENDERS }
    }
}

/// A process's own ledger.
pub struct Ledger(File);

impl Ledger {
    /// An empty one, in memory that nobody has mapped.
    pub fn create() -> io::Result<Self> {
        Ok(Self(File::from(memfd_create("ledger", MemfdFlags::CLOEXEC)?)))
    }

    /// The path by which another process opens it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    pub fn open(path: &Path) -> io::Result<Self> {
        File::options().read(true).write(true).open(path).map(Self)
    }

    fn put(&self, at: u64, word: u64) {
        self.0.write_all_at(&word.to_le_bytes(), at).expect("memory for the ledger");
    }

    fn get(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        // Beyond its end nothing was ever written.
        match self.0.read_exact_at(&mut word, at) {
            Ok(()) => u64::from_le_bytes(word),
            Err(_) => 0,
        }
    }

    fn counts(link: u64, thread: u64) -> u64 {
        (link * SENDERS + thread) * 16
    }

    /// The thread is about to send its message number `count - 1`.
    pub fn begin(&self, link: u64, thread: u64, count: u64) {
        self.put(Self::counts(link, thread), count);
    }

    /// That was sent.
    pub fn done(&self, link: u64, thread: u64, count: u64) {
        self.put(Self::counts(link, thread) + 8, count);
    }

    /// How many sends were begun and done.
    pub fn sent(&self, link: u64, thread: u64) -> (u64, u64) {
        let at = Self::counts(link, thread);
        (self.get(at), self.get(at + 8))
    }

    /// The receiver's entry number `index`: message `number` of `sender`.
    pub fn received(&self, receiver: u64, index: u64, sender: u64, number: u64) {
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&(sender + 1).to_le_bytes());
        entry[8..].copy_from_slice(&number.to_le_bytes());
        self.0.write_all_at(&entry, LOGS + receiver * LOG + index * ENTRY).expect("memory for the ledger");
    }

    /// The receiver's entries from `from` on.
    pub fn log(&self, receiver: u64, from: u64) -> Vec<(Sender, u64)> {
        let mut entries = Vec::new();
        let mut block = vec![0; 1 << 14];
        loop {
            let at = LOGS + receiver * LOG + (from + entries.len() as u64) * ENTRY;
            let read = self.0.read_at(&mut block, at).expect("the ledger can be read");
            let full = block[..read].chunks_exact(16);
            for entry in full {
                let (sender, number) = entry.split_at(8);
                let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
                match word(sender) {
                    0 => return entries,
                    sender => entries.push((Sender::from_number(sender - 1), word(number))),
                }
            }
            if read < 16 {
                return entries;
            }
        }
    }
}

/// All that was received, by sender.
#[derive(Default)]
pub struct Received(BTreeMap<Sender, Vec<u64>>);

impl Received {
    pub fn add(&mut self, sender: Sender, number: u64) {
        self.0.entry(sender).or_default().push(number);
    }

    /// Checks what came from `sender`, which had begun to send `begun` messages and done so with `done`, against what
    /// must hold: nothing twice, nothing that was not sent, and at most `unsure` of the done ones not received. How many
    /// were received, and how many of the done ones not; they are forgotten.
    pub fn verify(
        &mut self,
        sender: Sender,
        begun: u64,
        done: u64,
        unsure: u64,
    ) -> Result<(u64, u64), String> {
        let mut numbers = self.0.remove(&sender).unwrap_or_default();
        let count = numbers.len() as u64;
        numbers.sort_unstable();
        if let Some(twice) = numbers.windows(2).find(|two| two[0] == two[1]) {
            return Err(format!("{sender:?}: message {} came twice", twice[0]));
        }
        if let Some(last) = numbers.last().filter(|&&last| last >= begun) {
            return Err(format!("{sender:?}: message {last} came, but only {begun} were begun"));
        }
        let there = numbers.partition_point(|&number| number < done) as u64;
        if done - there > unsure {
            let missing: Vec<u64> =
                (0..done).filter(|number| numbers.binary_search(number).is_err()).take(10).collect();
            return Err(format!(
                "{sender:?}: {} of {done} committed messages are lost, {unsure} may be; the first of them: {missing:?}",
                done - there
            ));
        }
        Ok((count, done - there))
    }

    /// Whether all is settled.
    pub fn all_settled(&self) -> Result<(), String> {
        match self.0.first_key_value() {
            None => Ok(()),
            Some((sender, numbers)) => {
                Err(format!("{} messages of {sender:?} are unaccounted for", numbers.len()))
            }
        }
    }

    /// As [`verify`](Self::verify) where what is missing at the end was nobody's to receive any more: what came must be
    /// without a gap but for `unsure` messages.
    pub fn verify_prefix(&mut self, sender: Sender, begun: u64, unsure: u64) -> Result<(u64, u64), String> {
        let last = self.0.get(&sender).and_then(|numbers| numbers.iter().max()).map_or(0, |last| last + 1);
        self.verify(sender, begun, last.min(begun), unsure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_doubles_and_inventions_are_seen() {
        let sender = Sender { worker: 70_000, link: 255, thread: 15 };
        assert_eq!(Sender::from_number(sender.number()), sender);
        let verify = |numbers: &[u64], begun, done, unsure| {
            let mut received = Received::default();
            numbers.iter().for_each(|&number| received.add(sender, number));
            received.verify(sender, begun, done, unsure)
        };
        assert_eq!(verify(&[1, 0, 2], 3, 3, 0), Ok((3, 0)));
        assert_eq!(
            verify(&[0, 1, 2], 3, 2, 0),
            Ok((3, 0)),
            "committed, though its sender did not live to say so"
        );
        assert_eq!(verify(&[0, 1], 3, 2, 0), Ok((2, 0)));
        assert_eq!(verify(&[0, 2], 3, 3, 1), Ok((2, 1)));
        for (numbers, begun, done) in
            [(&[0, 2][..], 3, 3), (&[0, 1, 1], 2, 2), (&[0, 1, 2, 3], 3, 3), (&[], 1, 1)]
        {
            assert!(verify(numbers, begun, done, 0).is_err(), "{numbers:?}");
        }
    }
}
