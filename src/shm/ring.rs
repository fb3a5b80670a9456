//! Layer 1: the ring. Many producers and consumers over borrowed slots, the owner in the stamp; no unsafe.
//!
//! # State
//!
//! There are no cursors in shared memory. A position `p` counts slots from the beginning of time; its slot is
//! `p mod capacity`, its lap `p / capacity`. The slot's own word says everything ([`Stamp`]):
//!
//! ```text
//!        claim (CAS)          publish (store)         take (CAS)            release (store)
//! free(l) --------> claimed(l, P) --------> published(l) --------> taken(l, C) --------> free(l + 1)
//!                        |                        ^                     |
//!                        +--- P died: tombstone --+--- C died: back ----+        (recover.rs)
//! ```
//!
//! Each process keeps *marks*: private positions from which it starts to look. A mark is a hint that may lag and
//! never decides; it walks forward over what it finds, and no further than the words allow.
//!
//! # Invariants
//!
//! - **Order of claims**: position `p + 1` is claimed only by a producer that saw `p` claimed or later. So the
//!   claimed positions have no holes. The same holds for takes, but for what recovery put back.
//! - **Exclusivity**: between claim and publish only the claimer stores to the slot, between take and release
//!   only the taker; others change such a word only on proof of its holder's death. So publish and release
//!   are plain stores.
//! - **A single producer** never claims: a free slot is its own until it publishes. **A single consumer** never
//!   marks a slot taken: a published one is its own until it releases it.
//! - **Bounds**: no call looks at more than two laps of slots; what remains is `Busy`.
//!
//! # Edges
//!
//! | label | store | load | guarantees |
//! |---|---|---|---|
//! | ring.publish | `publish` and `abandon`, release | `find` and `hold`, acquire | the consumer sees operands, payload and buffer words as the producer left them |
//! | ring.free | `release`, release | `claim`, acquire | the consumer has read the operands before a producer overwrites them |
//! | ring.seen | `claim` and `take`, release, on the stamp | `claim` and `find`, acquire | who sees a slot claimed or taken also sees what its holder saw: no slot ahead looks older than it can be |
//! | ring.tail | `claim`, release, on the private mark | `claim`, acquire | who starts behind a claimed slot also sees what its claimer saw |
//! | ring.reuse | `publish`, a release fence ahead of the operands | `peek`, operands, acquire | who reads an operand of the next packet then finds the stamp changed |
//! | ring.head | `take` and `find`, release, on the private mark | `find`, acquire | who starts behind a taken slot also sees what its taker did before it took |
//!
//! # Where a process can die
//!
//! Before the claim: nothing happened. Between claim and publish: the slot names the dead; recovery publishes a
//! tombstone. Between take and release: the slot names the dead and still holds the packet; recovery publishes
//! it again. After publish or release: done. A paused (not dead) producer holds up the consumers at its slot,
//! and a paused consumer holds up the producers one lap later; nobody takes the slot from them.

use crate::error::Impossible;
use crate::shm::packet::{Packet, op};
use crate::shm::words::{Holder, HolderBits, Lap, Slot, SlotState, Stamp};
use crate::sync::{AtomicU64, Ordering, fence, load_for_update};

/// A position that its caller has claimed or taken. Must be published or released.
#[derive(Debug)]
#[must_use = "the slot stays held until it is published or released"]
pub struct Ticket<'a> {
    position: u64,
    slot: &'a Slot,
    /// The slot's word when it was found: free, or published.
    stamp: Stamp,
}

impl PartialEq for Ticket<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.position == other.position
    }
}

impl Eq for Ticket<'_> {}

impl Ticket<'_> {
    /// An operand as it is now in a held slot. A peer that breaks the rules may change it: load it once.
    ///
    /// # Panics
    /// If there is no such operand.
    #[inline(always)]
    pub fn operand(&self, index: usize) -> u64 {
        self.slot.operands[index].load(Ordering::Relaxed)
    }

    /// The position: how many slots were claimed before this one, modulo 2^64.
    pub const fn position(&self) -> u64 {
        self.position
    }
}

/// Why nothing could be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The slot next in turn has not been released.
    Full,
    /// Others claimed faster than this call could look; try again.
    Busy,
    /// A word that no operation leaves.
    Impossible(Impossible),
}

/// What a consumer found.
#[derive(Debug, PartialEq, Eq)]
pub enum Take<'a> {
    /// A packet, copied; its slot is held until released.
    Packet(Ticket<'a>, Packet),
    /// The next packet has an opcode that the caller did not want. It stays.
    Other(u8),
    /// Nothing has been published.
    Empty,
    /// Others took faster than this call could look; try again.
    Busy,
}

#[inline(always)]
fn impossible(stamp: Stamp) -> Impossible {
    Impossible { what: "a ring stamp", found: stamp.word() }
}

/// Slots and the arithmetic between positions, indices and laps.
#[derive(Clone, Copy, Debug)]
struct Slots<'a> {
    slots: &'a [Slot],
    /// The binary logarithm of the capacity.
    shift: u32,
}

impl<'a> Slots<'a> {
    fn new(slots: &'a [Slot]) -> Self {
        assert!(slots.len().is_power_of_two());
        Self { slots, shift: slots.len().trailing_zeros() }
    }

    #[inline(always)]
    fn capacity(self) -> u64 {
        self.slots.len() as u64
    }

    #[inline(always)]
    fn at(self, position: u64) -> &'a Slot {
        // The mask keeps the index in range, and the compiler knows it by the power of two checked in `new`.
        &self.slots[position as usize & (self.slots.len() - 1)]
    }

    #[inline(always)]
    fn lap(self, position: u64) -> Lap {
        Lap::new(position >> self.shift)
    }

    /// The position of slot `index` in `lap`, on the turn of the 64-bit count nearest to zero.
    fn position(self, lap: Lap, index: usize) -> u64 {
        lap.number() * self.capacity() + index as u64
    }

    /// A limit for every loop that follows other threads.
    #[inline(always)]
    fn max_steps(self) -> u64 {
        2 * self.capacity() + 16
    }

    /// A position behind one that was claimed, and not far behind the last: in a ring at rest, the next to be
    /// claimed. The ring may be in use meanwhile.
    fn scan_for_tail(self) -> Result<u64, Impossible> {
        let first = || Stamp::from_word(load_for_update(&self.slots[0].stamp, Ordering::Relaxed));
        // A free slot was last claimed in the lap before.
        let last_claimed = |stamp: Stamp, ahead: i64| {
            let state = stamp.state().ok_or(impossible(stamp))?;
            Ok(if state == SlotState::Free { ahead - 1 } else { ahead })
        };
        let start = first();
        let base = start.lap();
        let least = last_claimed(start, 0)? - 1;
        let mut tail = None;
        for (index, slot) in self.slots.iter().enumerate() {
            let stamp = Stamp::from_word(load_for_update(&slot.stamp, Ordering::Acquire));
            let ahead = stamp.lap().ahead_of(base);
            let claimed = last_claimed(stamp, ahead)?;
            // The others may have gone round since the first look, but then the first slot went with them.
            if claimed < least || ahead > 1 && stamp.lap().ahead_of(first().lap()) > 1 {
                return Err(impossible(stamp));
            }
            let laps = (claimed as u64).wrapping_mul(self.capacity());
            let next = self.position(base, index).wrapping_add(laps).wrapping_add(1);
            if tail.is_none_or(|tail| after(next, tail)) {
                tail = Some(next);
            }
        }
        Ok(tail.unwrap_or(0))
    }
}

/// Whether position `a` comes after `b`.
#[inline(always)]
fn after(a: u64, b: u64) -> bool {
    a.wrapping_sub(b) as i64 > 0
}

/// The sending end of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Producer<'a> {
    slots: Slots<'a>,
    tail: &'a AtomicU64,
    holder_bits: HolderBits,
    single: bool,
}

impl<'a> Producer<'a> {
    /// A producer that starts to look at the private mark `tail`. With `single`, no other thread may produce.
    ///
    /// # Panics
    /// Unless the number of slots is a power of two.
    #[inline(always)]
    pub fn new(slots: &'a [Slot], tail: &'a AtomicU64, holder: Holder, single: bool) -> Self {
        Self { slots: Slots::new(slots), tail, holder_bits: HolderBits::of(holder), single }
    }

    /// Where a newcomer's `tail` mark starts: no later than the next position to be claimed.
    ///
    /// # Errors
    /// A stamp that no operation leaves.
    pub fn scan_for_tail(slots: &[Slot]) -> Result<u64, Impossible> {
        Slots::new(slots).scan_for_tail()
    }

    /// Claims the next slot.
    ///
    /// # Errors
    /// [`Denied`]: nothing was claimed.
    #[inline(always)]
    pub fn claim(&self) -> Result<Ticket<'a>, Denied> {
        let position = self.tail.load(Ordering::Acquire); // edge(ring.tail): acquire
        let slot = self.slots.at(position);
        let lap = self.slots.lap(position);
        let free = Stamp::free(lap);
        // The usual case first: the mark is right and the slot free, so that its word is known beforehand.
        let claimed = if self.single {
            load_for_update(&slot.stamp, Ordering::Acquire) == free.word() // edge(ring.free): acquire
        } else {
            let word = free.held_by(self.holder_bits).word();
            // edge(ring.free): acquire
            // edge(ring.seen): release
            slot.stamp.compare_exchange(free.word(), word, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        if claimed {
            self.tail.store(position.wrapping_add(1), Ordering::Release); // edge(ring.tail): release
            return Ok(Ticket { position, slot, stamp: free });
        }
        self.claim_slow(position)
    }

    #[cold]
    fn claim_slow(&self, mut position: u64) -> Result<Ticket<'a>, Denied> {
        let capacity = self.slots.capacity();
        let mut denied = Denied::Busy;
        for _ in 0..self.slots.max_steps() {
            let slot = self.slots.at(position);
            let lap = self.slots.lap(position);
            // edge(ring.free): acquire
            // edge(ring.seen): acquire
            let stamp = Stamp::from_word(load_for_update(&slot.stamp, Ordering::Acquire));
            let state = stamp.state().ok_or(Denied::Impossible(impossible(stamp)))?;
            let ahead = stamp.lap().ahead_of(lap);
            position = match (ahead, state) {
                (0, SlotState::Free) => {
                    let word = stamp.held_by(self.holder_bits).word();
                    // edge(ring.seen): release
                    let claim = || {
                        slot.stamp.compare_exchange(stamp.word(), word, Ordering::Release, Ordering::Relaxed)
                    };
                    if self.single || claim().is_ok() {
                        self.tail.store(position.wrapping_add(1), Ordering::Release); // edge(ring.tail): release
                        return Ok(Ticket { position, slot, stamp });
                    }
                    continue;
                }
                (0, _) => position.wrapping_add(1),
                // One lap behind and not free: the slot's last packet has not been released.
                (-1, state) if state != SlotState::Free => {
                    denied = Denied::Full;
                    break;
                }
                (1.., SlotState::Free) => {
                    position.wrapping_add((ahead as u64 - 1).wrapping_mul(capacity)).wrapping_add(1)
                }
                (1.., _) => position.wrapping_add((ahead as u64).wrapping_mul(capacity)).wrapping_add(1),
                _ => return Err(Denied::Impossible(impossible(stamp))),
            };
        }
        self.tail.store(position, Ordering::Release); // edge(ring.tail): release
        Err(denied)
    }

    /// Commits a packet to a claimed slot: from here on it will be delivered.
    #[inline(always)]
    pub fn publish(&self, ticket: Ticket<'_>, packet: &Packet) {
        let Ticket { slot, stamp, .. } = ticket;
        fence(Ordering::Release); // edge(ring.reuse): release
        for (word, operand) in slot.operands.iter().zip(packet.operands) {
            word.store(operand, Ordering::Relaxed);
        }
        let stamp = Stamp::published(stamp.lap(), packet.op);
        slot.stamp.store(stamp.word(), Ordering::Release); // edge(ring.publish): release
    }

    /// Gives a claimed slot up: consumers skip it.
    pub fn abandon(&self, ticket: Ticket<'_>) {
        let stamp = Stamp::published(ticket.stamp.lap(), op::TOMBSTONE);
        ticket.slot.stamp.store(stamp.word(), Ordering::Release); // edge(ring.publish): release
    }

    /// Takes back what was published and nobody has taken: each packet whose opcode is `unwanted` becomes a tombstone and
    /// is then shown to `gone`.
    ///
    /// # Errors
    /// A stamp that no operation leaves.
    pub fn retract(
        &self,
        unwanted: impl Fn(u8) -> bool,
        mut gone: impl FnMut(&Packet),
    ) -> Result<(), Impossible> {
        for slot in self.slots.slots {
            let stamp = Stamp::from_word(load_for_update(&slot.stamp, Ordering::Acquire)); // edge(ring.publish): acquire
            let state = stamp.state().ok_or(impossible(stamp))?;
            if state != SlotState::Published || stamp.op() == op::TOMBSTONE || !unwanted(stamp.op()) {
                continue;
            }
            // Theirs only if the exchange finds the slot as it was.
            let operands = core::array::from_fn(|i| slot.operands[i].load(Ordering::Relaxed));
            let tombstone = Stamp::published(stamp.lap(), op::TOMBSTONE).word();
            let taken_back =
                slot.stamp.compare_exchange(stamp.word(), tombstone, Ordering::Release, Ordering::Relaxed); // edge(ring.publish): release
            if taken_back.is_ok() {
                gone(&Packet { op: stamp.op(), operands });
            }
        }
        Ok(())
    }

    /// The slot after that of `position`: the next one to be claimed, as far as its claimer knows.
    #[inline(always)]
    pub fn next_slot(&self, position: u64) -> &'a Slot {
        self.slots.at(position.wrapping_add(1))
    }

    /// Where the next claim begins to look.
    pub fn cursor(&self) -> u64 {
        self.tail.load(Ordering::Relaxed)
    }

    /// Whether the packet at this position has been taken and its slot released. Only loads; what was claimed more than some
    /// laps ago counts as taken.
    pub fn is_taken(&self, position: u64) -> bool {
        let stamp = Stamp::from_word(load_for_update(&self.slots.at(position).stamp, Ordering::Relaxed));
        stamp.lap().ahead_of(self.slots.lap(position)) > 0 || stamp.state().is_none()
    }

    /// Whether a claim is worth trying. Only loads.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.has_room_after(0)
    }

    /// Whether there is room for one more packet behind so many. Only loads, and as good as receivers release slots in order.
    #[inline(always)]
    pub fn has_room_after(&self, others: u64) -> bool {
        let position = self.tail.load(Ordering::Relaxed).wrapping_add(others);
        let stamp = Stamp::from_word(load_for_update(&self.slots.at(position).stamp, Ordering::Relaxed));
        stamp.lap().ahead_of(self.slots.lap(position)) >= 0 || stamp.state().is_none()
    }
}

/// The receiving end of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Consumer<'a> {
    slots: Slots<'a>,
    head: &'a AtomicU64,
    floor: &'a AtomicU64,
    holder_bits: HolderBits,
    single: bool,
}

/// A published slot, and whether it was found at the head mark or below it.
struct Found<'a> {
    position: u64,
    slot: &'a Slot,
    stamp: Stamp,
    at_head: bool,
}

impl<'a> Consumer<'a> {
    /// A consumer with two private marks: nothing below `floor` is left to take, and all from there to `head`
    /// has been taken, unless recovery put something back. With `single`, no other thread may consume.
    ///
    /// # Panics
    /// Unless the number of slots is a power of two.
    #[inline(always)]
    pub fn new(
        slots: &'a [Slot],
        head: &'a AtomicU64,
        floor: &'a AtomicU64,
        holder: Holder,
        single: bool,
    ) -> Self {
        Self { slots: Slots::new(slots), head, floor, holder_bits: HolderBits::of(holder), single }
    }

    /// Where a newcomer's marks start: at the oldest packet that has not been released.
    ///
    /// # Errors
    /// A stamp that no operation leaves.
    pub fn scan_for_head(slots: &[Slot]) -> Result<u64, Impossible> {
        let slots = Slots::new(slots);
        let tail = slots.scan_for_tail()?;
        // All that is a lap behind a claimed position was released; walk on over what else was.
        let mut position = tail.wrapping_sub(slots.capacity());
        while after(tail, position) {
            let stamp = Stamp::from_word(load_for_update(&slots.at(position).stamp, Ordering::Relaxed));
            if stamp.lap().ahead_of(slots.lap(position)) <= 0 {
                break;
            }
            position = position.wrapping_add(1);
        }
        Ok(position)
    }

    /// Takes the next packet if it is where the head mark says and `wanted` says yes to its opcode: the usual case.
    /// `None` says nothing; [`take`](Self::take) does, and skips tombstones.
    #[inline(always)]
    pub fn take_at_head(&self, wanted: impl Fn(u8) -> bool) -> Option<(Ticket<'a>, Packet)> {
        let (ticket, operation) = self.hold_at_head(wanted)?;
        let packet = self.copy(&ticket, operation);
        Some((ticket, packet))
    }

    /// As [`take_at_head`](Self::take_at_head), for callers that want some of the operands: the slot, and the opcode.
    #[inline(always)]
    pub fn hold_at_head(&self, wanted: impl Fn(u8) -> bool) -> Option<(Ticket<'a>, u8)> {
        let position = self.head.load(Ordering::Acquire); // edge(ring.head): acquire
        let lap = self.slots.lap(position);
        let slot = self.slots.at(position);
        let stamp = Stamp::from_word(load_for_update(&slot.stamp, Ordering::Acquire)); // edge(ring.publish): acquire
        // Published in this lap, whatever the opcode.
        if stamp.word() ^ Stamp::published(lap, 0).word() > 0xFF
            || !wanted(stamp.op())
            || stamp.op() == op::TOMBSTONE
        {
            return None;
        }
        let ticket = self.hold(&Found { position, slot, stamp, at_head: true })?;
        Some((ticket, stamp.op()))
    }

    /// Takes the next packet if `wanted` says yes to its opcode. Skips at most one lap of tombstones.
    ///
    /// # Errors
    /// A stamp that no operation leaves.
    #[inline]
    pub fn take(
        &self,
        wanted: impl Fn(u8) -> bool,
        mut skipped: impl FnMut(),
    ) -> Result<Take<'a>, Impossible> {
        // Where the walk below the head mark goes on, so that many tombstones there are skipped in one walk.
        let mut below = None;
        for _ in 0..self.slots.max_steps() {
            let found = match self.find(below)? {
                Ok(found) => found,
                Err(nothing) => return Ok(nothing),
            };
            if !found.at_head {
                below = Some(found.position.wrapping_add(1));
            }
            let operation = found.stamp.op();
            if operation != op::TOMBSTONE && !wanted(operation) {
                return Ok(Take::Other(operation));
            }
            let Some(ticket) = self.hold(&found) else { continue };
            if operation == op::TOMBSTONE {
                self.release(ticket);
                skipped();
                continue;
            }
            let packet = self.copy(&ticket, operation);
            return Ok(Take::Packet(ticket, packet));
        }
        Ok(Take::Busy)
    }

    /// A copy of the next packet, which stays where it is; `None` if there is none or it is just being taken.
    ///
    /// # Errors
    /// A stamp that no operation leaves.
    pub fn peek(&self) -> Result<Option<Packet>, Impossible> {
        let Ok(found) = self.find(None)? else { return Ok(None) };
        let slot = found.slot;
        // edge(ring.reuse): acquire
        let operands = core::array::from_fn(|i| slot.operands[i].load(Ordering::Acquire));
        // Operands of a published slot do not change; if it still is that one, this was the packet.
        let same = load_for_update(&slot.stamp, Ordering::Relaxed) == found.stamp.word();
        Ok(same.then_some(Packet { op: found.stamp.op(), operands }))
    }

    /// Where the next take begins to look.
    pub fn cursor(&self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }

    /// Whether a take is worth trying. Only loads, and only at the head mark.
    #[inline]
    pub fn is_ready(&self) -> bool {
        let position = self.head.load(Ordering::Relaxed);
        let stamp = Stamp::from_word(load_for_update(&self.slots.at(position).stamp, Ordering::Relaxed));
        let ahead = stamp.lap().ahead_of(self.slots.lap(position));
        match stamp.state() {
            Some(SlotState::Free | SlotState::Claimed(_)) => ahead != 0,
            _ => ahead >= 0,
        }
    }

    /// Whether the ring holds a packet with an opcode that is `wanted` and has not been released, tombstones apart. Stale as
    /// soon as it returns.
    ///
    /// # Errors
    /// A stamp that no operation leaves.
    pub fn holds(&self, wanted: impl Fn(u8) -> bool) -> Result<bool, Impossible> {
        for slot in self.slots.slots {
            let stamp = Stamp::from_word(load_for_update(&slot.stamp, Ordering::Relaxed));
            match stamp.state().ok_or(impossible(stamp))? {
                SlotState::Published | SlotState::Taken(_)
                    if stamp.op() != op::TOMBSTONE && wanted(stamp.op()) =>
                {
                    return Ok(true);
                }
                _ => {}
            }
        }
        Ok(false)
    }

    /// Gives a slot back to the producers. The packet was copied when it was taken.
    #[inline(always)]
    pub fn release(&self, ticket: Ticket<'_>) {
        let Ticket { position, slot, stamp } = ticket;
        let stamp = Stamp::free(stamp.lap().next());
        slot.stamp.store(stamp.word(), Ordering::Release); // edge(ring.free): release
        if self.floor.load(Ordering::Relaxed) == position {
            self.floor.store(position.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Copies the packet of a held slot.
    #[inline(always)]
    pub fn copy(&self, ticket: &Ticket<'_>, operation: u8) -> Packet {
        let operands = core::array::from_fn(|i| ticket.slot.operands[i].load(Ordering::Relaxed));
        Packet { op: operation, operands }
    }

    /// Takes hold of a found slot; `None` if somebody else was faster.
    #[inline(always)]
    fn hold(&self, found: &Found<'a>) -> Option<Ticket<'a>> {
        let Found { position, slot, stamp, at_head } = *found;
        if !self.single {
            let word = stamp.held_by(self.holder_bits).word();
            // Acquire, because another may have taken the packet since it was found, died, and been recovered: then the
            // word is the same again and what the dead did to the buffer words comes before what is done now.
            // edge(ring.publish): acquire
            // edge(ring.seen): release
            slot.stamp.compare_exchange(stamp.word(), word, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        }
        if at_head {
            self.head.store(position.wrapping_add(1), Ordering::Release); // edge(ring.head): release
        }
        Some(Ticket { position, slot, stamp })
    }

    /// The next published slot; below the head mark, none ahead of `below`.
    #[inline]
    fn find(&self, below: Option<u64>) -> Result<Result<Found<'a>, Take<'a>>, Impossible> {
        let position = self.head.load(Ordering::Acquire); // edge(ring.head): acquire
        let slot = self.slots.at(position);
        let stamp = Stamp::from_word(load_for_update(&slot.stamp, Ordering::Acquire)); // edge(ring.publish): acquire
        if stamp.lap() == self.slots.lap(position) && stamp.state() == Some(SlotState::Published) {
            return Ok(Ok(Found { position, slot, stamp, at_head: true }));
        }
        self.find_slow(position, below)
    }

    fn find_slow(
        &self,
        mut position: u64,
        below: Option<u64>,
    ) -> Result<Result<Found<'a>, Take<'a>>, Impossible> {
        let start = position;
        let capacity = self.slots.capacity();
        for _ in 0..self.slots.max_steps() {
            let slot = self.slots.at(position);
            // edge(ring.publish): acquire
            // edge(ring.seen): acquire
            let stamp = Stamp::from_word(load_for_update(&slot.stamp, Ordering::Acquire));
            let state = stamp.state().ok_or(impossible(stamp))?;
            let ahead = stamp.lap().ahead_of(self.slots.lap(position));
            position = match (ahead, state) {
                (0, SlotState::Published) => {
                    return Ok(Ok(Found { position, slot, stamp, at_head: true }));
                }
                // Nothing here yet; or one lap behind, where a slow consumer has not released.
                (0, SlotState::Free | SlotState::Claimed(_))
                | (-1, SlotState::Taken(_) | SlotState::Published) => {
                    if position != start {
                        self.head.store(position, Ordering::Release); // edge(ring.head): release
                    }
                    return match self.rescan(position, below)? {
                        Some(found) => Ok(Ok(found)),
                        None => Ok(Err(Take::Empty)),
                    };
                }
                (0, SlotState::Taken(_)) => position.wrapping_add(1),
                (1.., SlotState::Taken(_)) => {
                    position.wrapping_add((ahead as u64).wrapping_mul(capacity)).wrapping_add(1)
                }
                (1.., _) => position.wrapping_add((ahead as u64 - 1).wrapping_mul(capacity)).wrapping_add(1),
                _ => return Err(impossible(stamp)),
            };
        }
        Ok(Err(Take::Busy))
    }

    /// Looks below the head mark for a packet that recovery put back; raises the floor on the way.
    fn rescan(&self, head: u64, below: Option<u64>) -> Result<Option<Found<'a>>, Impossible> {
        if self.single {
            return Ok(None);
        }
        let lowest = head.wrapping_sub(self.slots.capacity());
        let mut floor = self.floor.load(Ordering::Relaxed);
        if after(lowest, floor) {
            floor = lowest;
        }
        let mut position = below.filter(|&below| after(below, floor)).unwrap_or(floor);
        while after(head, position) {
            let slot = self.slots.at(position);
            let stamp = Stamp::from_word(load_for_update(&slot.stamp, Ordering::Acquire)); // edge(ring.publish): acquire
            let state = stamp.state().ok_or(impossible(stamp))?;
            match (stamp.lap().ahead_of(self.slots.lap(position)), state) {
                (0, SlotState::Published) => {
                    self.floor.store(floor, Ordering::Relaxed);
                    return Ok(Some(Found { position, slot, stamp, at_head: false }));
                }
                (0, SlotState::Taken(_)) => {}
                (1.., _) if floor == position => floor = position.wrapping_add(1),
                (1.., _) => {}
                _ => return Err(impossible(stamp)),
            }
            position = position.wrapping_add(1);
        }
        self.floor.store(floor, Ordering::Relaxed);
        Ok(None)
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;
