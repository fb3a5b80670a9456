//! Which counters of the peer have been seen: a sliding bitmap after RFC 6479, or strictly one after the other.

use super::error::EncryptError;

/// The counters that were accepted.
#[derive(Debug)]
pub(super) struct Window {
    /// One more than the highest counter accepted.
    next: u64,
    /// Counters below `next` of which each is remembered; 0 if they must come in order.
    width: u64,
    /// A bit for each counter, in a circle that is one word longer than the width: the word that is being
    /// entered can be cleared whole.
    words: Box<[u64]>,
}

impl Window {
    /// Remembers `width` counters; 0 accepts nothing but the next.
    pub(super) fn new(width: u32) -> Self {
        let words = if width == 0 { 0 } else { width.div_ceil(64) as usize + 1 };
        Self { next: 0, width: width.into(), words: vec![0; words].into() }
    }

    /// The lowest counter that may still be accepted.
    pub(super) fn oldest(&self) -> u64 {
        self.next.saturating_sub(self.width)
    }

    /// Whether this counter may be accepted.
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

    /// Accepts this counter, which has been authenticated, unless another thread has just done so.
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
