//! Announcing sleep, so that no wake-up is lost. Words only: the caller sleeps and rings doorbells. No unsafe.
//!
//! # The protocol
//!
//! Each side has a *sleepers* word with a bit for each seat and [`Want`]. A waiter that has polled long enough
//!
//! 1. **announces**: sets its bit, then issues a full fence;
//! 2. **checks again** what it waits for, and cancels the announcement if that has come;
//! 3. sleeps until its doorbell rings.
//!
//! A process that causes an event (publishes a packet, releases a slot, frees a buffer)
//!
//! 1. stores it, then issues a full fence;
//! 2. **checks** the other side's word. If bits for this want are set, it clears them and rings the doorbells of their
//!    seats.
//!
//! # Why no wake-up is lost
//!
//! Both have a sequentially consistent fence between their store and their load, so one fence comes first.
//!
//! - *The waiter's*: the load after the other fence reads the announcement, or a later value. A later value without the
//!   bit was stored by another ringer, which rang for this announcement. The doorbell keeps its token until it is read,
//!   so a waiter that is not yet asleep does not fall asleep.
//! - *The other one*: the waiter's second check, after its own fence, sees what was stored, and the waiter does not
//!   sleep.
//!
//! A ringer clears the bits that it rings for, and a waiter may clear its own. Several threads of a process share a
//! bit: one of them sleeps in the kernel and passes each wake-up on to the others. Each announces before its second
//! check.
//!
//! # Edges
//!
//! | label | store | load | guarantees |
//! |---|---|---|---|
//! | sleepers.announce | `announce`: set, fence | `check`: fence, load | the ringer sees the announcement, or the waiter sees the event |
//! | sleepers.event | the event's store, then `check`'s fence | `announce`'s fence, then the second check | the same, from the other side |
//!
//! In spin-only mode there are neither announcements nor checks.

use crate::shm::words::{SleepersWord, Want};
use crate::sync::{AtomicU64, Ordering, fence};

/// Announcements of one side.
#[derive(Clone, Copy, Debug)]
pub struct Sleepers<'a> {
    word: &'a AtomicU64,
}

impl<'a> Sleepers<'a> {
    /// Wraps a side's sleepers `word`.
    #[inline(always)]
    pub fn new(word: &'a AtomicU64) -> Self {
        Self { word }
    }

    /// Announces that `seat` is about to sleep until `want`. The caller must check once more before it sleeps.
    pub fn announce(&self, seat: usize, want: Want) {
        self.word.fetch_or(SleepersWord::bit(seat, want), Ordering::Relaxed); // edge(sleepers.announce): store
        fence(Ordering::SeqCst); // edge(sleepers.event): fence before the second check
    }

    /// Cancels an announcement. A ringer may have seen it already: then the doorbell rings once without need.
    pub fn cancel(&self, seat: usize, want: Want) {
        self.word.fetch_and(!SleepersWord::bit(seat, want), Ordering::Relaxed);
    }

    /// Call after an event for `want`. Returns the seats whose doorbells the caller must ring, a bit for each seat.
    #[inline(always)]
    #[must_use = "the announcements are cleared: no other process will ring for these seats"]
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
