//! The counters that were accepted: a sliding bitmap after RFC 6479, or strictly consecutive counters.

use super::error::EncryptError;

/// The set of accepted counters.
#[derive(Debug)]
pub(super) struct Window {
    /// One more than the highest accepted counter.
    next: u64,
    /// How many counters before `next` are recorded; 0 if counters must be consecutive.
    width: u64,
    /// A bit for each counter, in a ring that is one word longer than the width, so that the word of the next counters can
    /// be cleared as a whole.
    words: Box<[u64]>,
}

impl Window {
    /// A window of `width` counters. With 0 only the next counter is accepted.
    pub(super) fn new(width: u32) -> Self {
        let words = if width == 0 { 0 } else { width.div_ceil(64) as usize + 1 };
        Self { next: 0, width: width.into(), words: vec![0; words].into() }
    }

    /// The lowest counter that may still be accepted.
    pub(super) fn oldest(&self) -> u64 {
        self.next.saturating_sub(self.width)
    }

    /// Checks whether `counter` may be accepted.
    pub(super) fn check(&self, counter: u64) -> Result<(), EncryptError> {
        let (next, oldest) = (self.next, self.oldest());
        if self.width == 0 {
            return match counter {
                counter if counter == next => Ok(()),
                counter if counter < next => Err(EncryptError::Replayed { counter }),
                counter => Err(EncryptError::Skipped { counter, next }),
            };
        }
        if counter >= next {
            Ok(())
        } else if counter < oldest {
            Err(EncryptError::TooOld { counter, oldest })
        } else if self.words[self.word(counter)] & bit(counter) != 0 {
            Err(EncryptError::Replayed { counter })
        } else {
            Ok(())
        }
    }

    /// Records the authenticated `counter`, unless another thread has recorded it since it was checked.
    pub(super) fn accept(&mut self, counter: u64) -> Result<(), EncryptError> {
        self.check(counter)?;
        if self.width == 0 {
            self.next = counter + 1;
            return Ok(());
        }
        if counter >= self.next {
            let highest = self.next.saturating_sub(1) / 64;
            let entered = (counter / 64 - highest).min(self.words.len() as u64);
            for step in 0..entered {
                let word = self.word(counter - step * 64);
                self.words[word] = 0;
            }
            self.next = counter + 1;
        }
        let word = self.word(counter);
        self.words[word] |= bit(counter);
        Ok(())
    }

    fn word(&self, counter: u64) -> usize {
        (counter / 64 % self.words.len() as u64) as usize
    }
}

fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}
