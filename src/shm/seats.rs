//! Layer 1: who is attached, and who clears up after whom. No unsafe.
//!
//! A seat's word ([`SeatWord`]) is joined by who attaches, and made vacant, for the next generation, by who leaves
//! or by who has recovered the dead. What a word elsewhere says of a holder is about one generation of one seat, so
//! a seat must not be given to a successor while anybody may still act on what the dead one's holder says. Hence the
//! *recoverers*: whoever recovers sets its bit in the dead's seat first, and the seat is vacated only when no bit is set.
//! A recoverer that dies leaves its bit; whoever recovers *it* clears the bit.
//!
//! # Edges
//!
//! | label | store | load | guarantees |
//! |---|---|---|---|
//! | seats.vacate | `leave` and `vacate`, release | `join`, acquire | the newcomer sees the region at least as its predecessor, or who recovered that one, left it |
//! | seats.clear | `finish` and `strike`, release | `vacate`, acquire | who vacates is after every recovery of the seat, and so is the newcomer |
//! | seats.enter | `join`, release | `enter`, acquire | who recovers is after the dead's joining |
//!
//! # Where a process can die
//!
//! After `join`: the seat names the dead, and nothing else need do so. After `enter`: the recoverer's bit stands until
//! it is recovered itself. Between a recovery and `vacate`: anybody may recover again and vacate.

use crate::error::Impossible;
use crate::shm::words::{Holder, Role, Seat, SeatWord};
use crate::sync::{AtomicU64, Ordering, load_for_update};

/// How often a compare-exchange on a seat is tried: more than all others together can change its word meanwhile.
const TRIES: usize = 64;

/// The seats of a region.
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
    /// The given seats, at most eight.
    pub fn new(seats: &'a [Seat]) -> Self {
        Self { seats }
    }

    fn word(&self, seat: usize) -> &'a AtomicU64 {
        &self.seats[seat].word
    }

    /// Takes the first vacant seat that `prepare` agrees to; `None` if there is none. `prepare` is told the seat's
    /// number before it is taken, and says whether its byte is locked, or `None` to pass it by.
    ///
    /// # Errors
    /// A word that no operation leaves.
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

    /// Gives up one's own seat: whoever sat there holds nothing in the region any more. False if somebody takes the
    /// occupant for dead; then the seat stays as it is.
    ///
    /// # Errors
    /// A word that no operation leaves.
    pub fn leave(&self, own: Holder) -> Result<bool, Impossible> {
        self.make_vacant(own, |word, from, to| {
            word.compare_exchange(from, to, Ordering::Release, Ordering::Relaxed) // edge(seats.vacate): release
        })
    }

    /// After a complete recovery of `dead`: makes its seat vacant for the next generation. False while somebody else
    /// recovers it. True also if it was done already.
    ///
    /// # Errors
    /// A word that no operation leaves.
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

    /// Begins a recovery of `dead` by `by`: from here on the seat has no successor. False if it has been vacated:
    /// then there is nothing to recover.
    ///
    /// # Errors
    /// A word that no operation leaves, or one that others never leave alone.
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

    /// Ends a recovery of `dead` by `by`, done or not.
    pub fn finish(&self, dead: Holder, by: Holder) {
        let others = !SeatWord::recoverer(by.seat());
        self.word(dead.seat()).fetch_and(others, Ordering::Release); // edge(seats.clear): release
    }

    /// Strikes `dead` off the recoverers of every seat: it will not finish.
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
