//! Layer 1: finishing or undoing what a dead seat left. No unsafe.
//!
//! Recovery runs only on proof of death, never on a timeout. It may itself be killed, and run again or beside
//! another: every step is a compare-exchange on the exact word that names the dead, and the steps need no order
//! among themselves but one: the slots are read before the buffer words.
//!
//! | found | meaning | becomes |
//! |---|---|---|
//! | slot claimed by the dead | a hole: it will never be filled | a tombstone, published |
//! | slot taken by the dead | a packet that was not fully received | published again |
//! | buffer owned or held by the dead, named by no published or taken slot | nobody's | free |
//! | lease held by the dead | a gather cut short | vacant |
//!
//! A buffer word that a slot names stays as it is: the slot decides, and its next receiver overwrites the word.
//! A slot that changes while it is read was published or taken by a living process; the words of the dead are
//! then no longer in it, because its receiver marked them before it released the slot (ring.free).
//!
//! # Edges
//!
//! | label | store | load | guarantees |
//! |---|---|---|---|
//! | ring.publish | tombstones and returned packets, release | `find` and `hold` in ring.rs, acquire | a returned packet is seen whole: the compare-exchange carries on what its producer released |
//! | ring.reuse | `publish` in ring.rs, a release fence | the scan's operands, acquire | operands of the next packet are not taken for this one's |
//! | ring.free | `release` in ring.rs | the scan of slots, acquire | a released slot's buffers are seen as held or free |
//! | pool.give | buffers freed, release | `take` in pool.rs, acquire | as for any give |
//! | pool.lease | lease vacated, release | `gather` in pool.rs, acquire | as for any gather |

use crate::error::Impossible;
use crate::shm::layout::Geometry;
use crate::shm::packet::{Bounds, Operation, Packet, Run, op};
use crate::shm::words::{BufferState, BufferWord, Holder, LeaseWord, Slot, SlotState, Stamp};
use crate::sync::{AtomicU64, Ordering, load_for_update};

/// What recovery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Holes that became tombstones.
    pub tombstones: u64,
    /// Packets that were handed out again.
    pub returned: u64,
    /// Buffers that came home.
    pub buffers: u64,
}

impl core::ops::AddAssign for Recovered {
    fn add_assign(&mut self, other: Self) {
        self.tombstones += other.tombstones;
        self.returned += other.returned;
        self.buffers += other.buffers;
    }
}

/// The shared words of one direction.
#[derive(Clone, Copy, Debug)]
pub struct DirectionWords<'a> {
    /// The ring.
    pub slots: &'a [Slot],
    /// The buffer words.
    pub words: &'a [AtomicU64],
    /// The lease.
    pub lease: &'a AtomicU64,
}

/// Clears one direction of what `dead` left there. `named` is private scratch: one word a buffer, contents
/// ignored and overwritten.
///
/// # Errors
/// A word that no operation leaves. What was done until then stays done.
///
/// # Panics
/// If `named` is shorter than the pool.
pub fn recover(
    direction: DirectionWords<'_>,
    geometry: Geometry,
    dead: Holder,
    named: &mut [u64],
) -> Result<Recovered, Impossible> {
    // Whatever this end's own limit is: a packet decides over the buffers that it names.
    let bounds = Bounds { geometry, max_message: u64::MAX };
    let mut done = Recovered::default();
    let named = &mut named[..direction.words.len()];
    named.fill(0);
    for slot in direction.slots {
        recover_slot(slot, dead, &mut done)?;
        if let Some(run) = buffers_of(slot, &bounds) {
            // A run counts up where it begins and down after its end; the sum tells how many name a buffer.
            let run = run.indices();
            named[run.start] = named[run.start].wrapping_add(1);
            if let Some(next) = named.get_mut(run.end) {
                *next = next.wrapping_sub(1);
            }
        }
    }
    let mut names = 0u64;
    for (word, change) in direction.words.iter().zip(named) {
        names = names.wrapping_add(*change);
        let found = load_for_update(word, Ordering::Relaxed);
        let state = BufferWord::from_word(found).state();
        let state = state.ok_or(Impossible { what: "a buffer word", found })?;
        let (BufferState::Owned(by) | BufferState::Held(by) | BufferState::Spare(by)) = state else {
            continue;
        };
        if by == dead && names == 0 {
            let free = BufferWord::FREE.word();
            let freed = word.compare_exchange(found, free, Ordering::Release, Ordering::Relaxed); // edge(pool.give): release
            done.buffers += u64::from(freed.is_ok());
        }
    }
    let leased = LeaseWord::leased(dead).word();
    let vacant = LeaseWord::VACANT.word();
    // Nothing to do if somebody else holds it, or nobody.
    let _ = direction.lease.compare_exchange(leased, vacant, Ordering::Release, Ordering::Relaxed); // edge(pool.lease): release
    Ok(done)
}

/// Finishes or undoes what the dead did to one slot.
fn recover_slot(slot: &Slot, dead: Holder, done: &mut Recovered) -> Result<(), Impossible> {
    let found = load_for_update(&slot.stamp, Ordering::Relaxed);
    let stamp = Stamp::from_word(found);
    let state = stamp.state().ok_or(Impossible { what: "a ring stamp", found })?;
    let (after, count) = match state {
        SlotState::Claimed(by) if by == dead => {
            (Stamp::published(stamp.lap(), op::TOMBSTONE), &mut done.tombstones)
        }
        SlotState::Taken(by) if by == dead => (Stamp::published(stamp.lap(), stamp.op()), &mut done.returned),
        _ => return Ok(()),
    };
    let exchanged = slot.stamp.compare_exchange(found, after.word(), Ordering::Release, Ordering::Relaxed); // edge(ring.publish): release
    *count += u64::from(exchanged.is_ok());
    Ok(())
}

/// The buffers that a published or taken slot names.
fn buffers_of(slot: &Slot, bounds: &Bounds) -> Option<Run> {
    let found = load_for_update(&slot.stamp, Ordering::Acquire); // edge(ring.free): acquire
    let stamp = Stamp::from_word(found);
    match stamp.state()? {
        SlotState::Published | SlotState::Taken(_) => {}
        SlotState::Free | SlotState::Claimed(_) => return None,
    }
    // edge(ring.reuse): acquire
    let operands = core::array::from_fn(|i| slot.operands[i].load(Ordering::Acquire));
    if Stamp::from_word(load_for_update(&slot.stamp, Ordering::Relaxed)).lap() != stamp.lap() {
        return None;
    }
    match Operation::check(&Packet { op: stamp.op(), operands }, bounds) {
        Ok(Operation::Copy { run, .. }) => run,
        Ok(Operation::ConnCopy(copy)) => copy.run,
        Ok(_) => None,
        // Refused, but its receiver gives these home.
        Err(fault) => fault.run,
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;
