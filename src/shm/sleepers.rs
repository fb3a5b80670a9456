//! Layer 1: announcing sleep, so that no wake-up is lost. Words only: sleeping and ringing are the caller's.
//!
//! # The protocol
//!
//! A side's *sleepers* word holds a bit for each seat and want ([`SleepersWord`]). A waiter that has spun long
//! enough
//!
//! 1. **announces**: sets its bit, then a full fence;
//! 2. **looks again** at what it waits for; if it is there, cancels and goes on;
//! 3. sleeps on its doorbell.
//!
//! A process that made something happen (published a packet, released a slot, gave a buffer)
//!
//! 1. stored it, then a full fence;
//! 2. **checks** the other side's word; if bits for this want are set, clears them and rings those seats' doorbells.
//!
//! # Why no wake-up is lost
//!
//! Both have a sequentially consistent fence between their store and their load, so the fences are ordered one
//! way or the other. *The waiter's fence first*: the load after the other fence reads the announcement, or a
//! value that a later ringer left, who then rang for this announcement; the doorbell keeps the token until it
//! is read, so a waiter not yet asleep does not fall asleep. *The other's fence first*: the waiter's second
//! look, after its own fence, sees what was stored, and does not sleep. There is no third case.
//!
//! A bit is cleared by whoever rings for it, or by its own waiter. Several threads of a process share a bit: one
//! of them sleeps in the kernel and passes each wake-up on to the rest, and each announces before it looks again
//! (`park.rs`).
//!
//! # Edges
//!
//! | label | store | load | guarantees |
//! |---|---|---|---|
//! | sleepers.announce | `announce`: set, fence | `check`: fence, load | the ringer sees the announcement, or the waiter sees the event |
//! | sleepers.event | the event's store, then `check`'s fence | `announce`'s fence, then the second look | the same, seen from the other side |
//!
//! In spin-only mode nobody announces and nobody checks.

use crate::shm::words::{SleepersWord, Want};
use crate::sync::{AtomicU64, Ordering, fence};

/// The announcements of one side.
#[derive(Clone, Copy, Debug)]
pub struct Sleepers<'a> {
    word: &'a AtomicU64,
}

impl<'a> Sleepers<'a> {
    /// The announcements in the given word.
    #[inline(always)]
    pub fn new(word: &'a AtomicU64) -> Self {
        Self { word }
    }

    /// Announces that `seat` is about to sleep until `want`. The caller must look again before it sleeps.
    pub fn announce(&self, seat: usize, want: Want) {
        self.word.fetch_or(SleepersWord::bit(seat, want), Ordering::Relaxed); // edge(sleepers.announce): store
        fence(Ordering::SeqCst); // edge(sleepers.event): fence before the second look
    }

    /// Takes an announcement back. A ringer may have seen it: its token is then a false alarm for later.
    pub fn cancel(&self, seat: usize, want: Want) {
        self.word.fetch_and(!SleepersWord::bit(seat, want), Ordering::Relaxed);
    }

    /// After an event for `want`: the seats whose doorbells must be rung, a bit each; mostly none.
    #[inline(always)]
    #[must_use = "the seats have been struck off: nobody else will ring for them"]
    pub fn check(&self, want: Want) -> u64 {
        fence(Ordering::SeqCst); // edge(sleepers.event): fence after the event's store
        let word = SleepersWord::from_word(self.word.load(Ordering::Relaxed)); // edge(sleepers.announce): load
        if word.seats(want) == 0 { 0 } else { self.clear(want) }
    }

    #[cold]
    fn clear(&self, want: Want) -> u64 {
        let word = self.word.fetch_and(!SleepersWord::all(want), Ordering::Relaxed);
        SleepersWord::from_word(word).seats(want)
    }
}
