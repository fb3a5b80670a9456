//! Recovery: completes or undoes the unfinished operations of a dead process in one direction. No unsafe.
//!
//! Recovery runs only on proof of death, never on a timeout. The recoverer may be killed, and several may run at the
//! same time or one after the other: every step is a compare-exchange on the exact word that names the dead holder.
//! Only one order is needed: slots are read before buffer words.
//!
//! | found | meaning | becomes |
//! |---|---|---|
//! | slot claimed by the dead holder | a slot that will never be filled | a tombstone, published |
//! | slot taken by the dead holder | a packet that was not fully received | published again |
//! | buffer owned, held or kept as a spare by the dead holder, named by no published or taken slot | not in use | free |
//! | lease held by the dead holder | an interrupted gather | vacant |
//!
//! The word of a buffer that a slot names is left alone: the slot takes precedence, and its next receiver overwrites
//! the word. A slot that changes while it is read was published or taken by a living process. Its packet names no
//! buffer in the dead holder's name any more, because its receiver marked them as held before it released the slot
//! (ring.free).
//!
//! # Edges
//!
//! | label | store | load | guarantees |
//! |---|---|---|---|
//! | ring.publish | tombstones and returned packets, release | `find` and `hold` in ring.rs, acquire | a returned packet is seen whole: the compare-exchange continues its producer's release sequence |
//! | ring.reuse | `publish` in ring.rs, a release fence | the scan's operands, acquire | operands of the next packet are not taken for this one's |
//! | ring.free | `release` in ring.rs | the scan of slots, acquire | a released slot's buffers are seen as held or free |
//! | pool.give | buffers freed, release | `allocate` in pool.rs, acquire | as for `give` in pool.rs |
//! | pool.lease | lease vacated, release | `gather` in pool.rs, acquire | as for `gather` in pool.rs |

use crate::error::Impossible;
use crate::shm::layout::Geometry;
use crate::shm::packet::{Bounds, Operation, Packet, Run, op};
use crate::shm::words::{BufferState, BufferWord, Holder, LeaseWord, Slot, SlotState, Stamp};
use crate::sync::{AtomicU64, Ordering, load_for_update};

/// Counts of what a recovery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Claimed slots that became tombstones.
    pub tombstones: u64,
    /// Taken packets that were published again.
    pub returned: u64,
    /// Buffers that were freed.
    pub buffers: u64,
}

impl core::ops::AddAssign for Recovered {
    fn add_assign(&mut self, other: Self) {
        self.tombstones += other.tombstones;
        self.returned += other.returned;
        self.buffers += other.buffers;
    }
}

/// Shared words of one direction.
#[derive(Clone, Copy, Debug)]
pub struct DirectionWords<'a> {
    /// Slots of the ring.
    pub slots: &'a [Slot],
    /// Words of the pool's buffers.
    pub words: &'a [AtomicU64],
    /// Lease of the pool.
    pub lease: &'a AtomicU64,
}

/// Recovers one direction from the death of `dead`. `named` is private scratch of one word for each buffer; its
/// contents are overwritten.
///
/// # Errors
/// [`Impossible`] for a word that no operation stores. Steps done before it stay done.
///
/// # Panics
/// If `named` is shorter than the pool.
pub fn recover(
    direction: DirectionWords<'_>,
    geometry: Geometry,
    dead: Holder,
    named: &mut [u64],
) -> Result<Recovered, Impossible> {
    // No message limit: a packet over this end's limit protects the buffers that it names, too.
    let bounds = Bounds { geometry, max_message: u64::MAX };
    let mut done = Recovered::default();
    let named = &mut named[..direction.words.len()];
    named.fill(0);
    for slot in direction.slots {
        recover_slot(slot, dead, &mut done)?;
        if let Some(run) = buffers_of(slot, &bounds) {
            // Adds one where a run begins and subtracts one after its end: a running sum counts the packets that name
            // each buffer.
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
    // A failure means that another process holds the lease, or none does.
    let _ = direction.lease.compare_exchange(leased, vacant, Ordering::Release, Ordering::Relaxed); // edge(pool.lease): release
    Ok(done)
}

/// Publishes a tombstone or the packet again if `dead` holds the slot. Counts it in `done`.
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

/// The run that a published or taken slot names.
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
        // The receiver refuses the packet, but frees these.
        Err(fault) => fault.run,
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;
