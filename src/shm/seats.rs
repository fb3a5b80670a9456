//! The seats of a region: which processes are attached, and which of them recovers a dead one. No unsafe.
//!
//! A process joins a seat ([`SeatWord`]) to attach. The seat becomes vacant, for its next generation, when its
//! occupant leaves, or when another process has recovered the dead occupant. Words elsewhere name a holder by seat
//! and generation. So a seat must not get a new occupant while a recovery for the dead one may still run. Therefore
//! each *recoverer* first sets its bit in the dead occupant's seat, and the seat is vacated only when no bit is set.
//! If a recoverer dies, its bit stays until another process has recovered the recoverer.
//!
//! # Edges
//!
//! | label | store | load | guarantees |
//! |---|---|---|---|
//! | seats.vacate | `leave` and `vacate`, release | `join`, acquire | the next occupant sees the region at least as the previous one, or its recoverer, left it |
//! | seats.clear | `finish` and `strike`, release | `vacate`, acquire | the vacating process is after every recovery of the seat, and so is the next occupant |
//! | seats.enter | `join`, release | `enter`, acquire | the recoverer is after the joining of the dead occupant |
//!
//! # Where a process can die
//!
//! After `join`: the seat names the dead occupant; other words may not. After `enter`: the recoverer's bit stays
//! until the recoverer is recovered. Between a recovery and `vacate`: any process may recover again and vacate.

use crate::error::Impossible;
use crate::shm::words::{Holder, Role, Seat, SeatWord};
use crate::sync::{AtomicU64, Ordering, load_for_update};

/// Most attempts of a compare-exchange on a seat. Other processes that keep the protocol change its word fewer times.
const TRIES: usize = 64;

/// Seats of a region.
#[derive(Clone, Copy, Debug)]
pub struct Seats<'a> {
    seats: &'a [Seat],
}

#[inline]
fn valid(found: u64) -> Result<SeatWord, Impossible> {
    let word = SeatWord::from_word(found);
    if word.is_valid() { Ok(word) } else { Err(Impossible { what: "a seat", found }) }
}

impl<'a> Seats<'a> {
    /// Wraps at most eight seats.
    pub fn new(seats: &'a [Seat]) -> Self {
        Self { seats }
    }

    fn word(&self, seat: usize) -> &'a AtomicU64 {
        &self.seats[seat].word
    }

    /// Joins the first vacant seat that `prepare` accepts, on the side of `role`. `None` if there is none.
    ///
    /// `prepare` is called with the number of a vacant seat. It returns whether the caller has locked the seat's
    /// byte, or `None` to skip the seat.
    ///
    /// # Errors
    /// [`Impossible`] for a word that no operation stores.
    pub fn join(
        &self,
        role: Role,
        mut prepare: impl FnMut(usize) -> Option<bool>,
    ) -> Result<Option<Holder>, Impossible> {
        for seat in 0..self.seats.len() {
            let found = load_for_update(self.word(seat), Ordering::Acquire); // edge(seats.vacate): acquire
            let word = valid(found)?;
            if word.is_joined() {
                continue;
            }
            let Some(locked) = prepare(seat) else { continue };
            let holder = Holder::new(seat, word.generation());
            let joined = SeatWord::joined(holder, role, locked).word();
            let won = self.word(seat).compare_exchange(found, joined, Ordering::Release, Ordering::Relaxed); // edge(seats.enter): release
            if won.is_ok() {
                return Ok(Some(holder));
            }
        }
        Ok(None)
    }

    /// Vacates the caller's own seat. The caller must not hold anything in the region any more. False, and the seat
    /// stays joined, if another process is recovering it.
    ///
    /// # Errors
    /// [`Impossible`] for a word that no operation stores.
    pub fn leave(&self, own: Holder) -> Result<bool, Impossible> {
        self.make_vacant(own, |word, from, to| {
            word.compare_exchange(from, to, Ordering::Release, Ordering::Relaxed) // edge(seats.vacate): release
        })
    }

    /// Vacates the seat of `dead` after a complete recovery. False while another process recovers it. True also if the
    /// seat has been vacated before.
    ///
    /// # Errors
    /// [`Impossible`] for a word that no operation stores.
    pub fn vacate(&self, dead: Holder) -> Result<bool, Impossible> {
        // edge(seats.clear): acquire
        // edge(seats.vacate): release
        self.make_vacant(dead, |word, from, to| {
            word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
        })
    }

    fn make_vacant(
        &self,
        holder: Holder,
        exchange: impl Fn(&AtomicU64, u64, u64) -> Result<u64, u64>,
    ) -> Result<bool, Impossible> {
        for _ in 0..TRIES {
            let found = load_for_update(self.word(holder.seat()), Ordering::Relaxed);
            let word = valid(found)?;
            if !word.is_occupied_by(holder) {
                return Ok(true);
            }
            if word.recoverers() != 0 {
                return Ok(false);
            }
            let vacated = word.vacated().word();
            if exchange(self.word(holder.seat()), found, vacated).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Begins a recovery of `dead` by `by`. The seat is not vacated until [`finish`](Self::finish). False if it has
    /// been vacated before: then there is nothing to recover.
    ///
    /// # Errors
    /// [`Impossible`] for a word that no operation stores, or one that changes at each attempt.
    pub fn enter(&self, dead: Holder, by: Holder) -> Result<bool, Impossible> {
        let mut found = load_for_update(self.word(dead.seat()), Ordering::Relaxed);
        for _ in 0..TRIES {
            let word = valid(found)?;
            if !word.is_occupied_by(dead) {
                return Ok(false);
            }
            let entered = word.with_recoverer(by.seat()).word();
            let won =
                self.word(dead.seat()).compare_exchange(found, entered, Ordering::Acquire, Ordering::Relaxed); // edge(seats.enter): acquire
            match won {
                Ok(_) => return Ok(true),
                Err(now) => found = now,
            }
        }
        Err(Impossible { what: "a seat that is never left alone", found })
    }

    /// Ends a recovery of `dead` by `by`, complete or not.
    pub fn finish(&self, dead: Holder, by: Holder) {
        let others = !SeatWord::recoverer(by.seat());
        self.word(dead.seat()).fetch_and(others, Ordering::Release); // edge(seats.clear): release
    }

    /// Removes `dead` from the recoverers of every seat, because it will not finish.
    pub fn strike(&self, dead: Holder) {
        let bit = SeatWord::recoverer(dead.seat());
        for seat in 0..self.seats.len() {
            if load_for_update(self.word(seat), Ordering::Relaxed) & bit != 0 {
                self.word(seat).fetch_and(!bit, Ordering::Release); // edge(seats.clear): release
            }
        }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;
