//! The ring of one direction: many producers and consumers over borrowed slots. Each slot names its holder. No unsafe.
//!
//! # State
//!
//! Shared memory has no cursors. A position `p` counts all slots ever claimed; its slot is `p mod capacity` and its lap
//! `p / capacity`. The first word of the slot holds the whole state ([`Stamp`]):
//!
//! ```text
//!        claim (CAS)          publish (store)         take (CAS)            release (store)
//! free(l) --------> claimed(l, P) --------> published(l) --------> taken(l, C) --------> free(l + 1)
//!                        |                        ^                     |
//!                        +--- P died: tombstone --+--- C died: back ----+        (recover.rs)
//! ```
//!
//! Each process keeps *cursors*: private positions at which a search begins. A cursor is a hint and may lag; only
//! stamps decide. A search moves its cursor forward past slots that others have claimed or taken, and never past a
//! slot that is still to be claimed or taken.
//!
//! # Invariants
//!
//! - **Order of claims**: position `p + 1` is claimed only by a producer that saw `p` claimed or later. So the
//!   claimed positions have no holes. The same holds for takes, except for packets that recovery published again.
//! - **Exclusivity**: between claim and publish only the claimer stores to the slot, between take and release only
//!   the taker. Others change such a word only on proof that its holder is dead. So publish and release are plain
//!   stores.
//! - **A single producer** writes no claim: a free slot is its own until it publishes. **A single consumer** writes no
//!   take: a published slot is its own until it releases it.
//! - **Bounds**: a search reads little more than two laps of slots. A call that has found nothing by then returns
//!   `Busy`.
//!
//! # Edges
//!
//! | label | store | load | guarantees |
//! |---|---|---|---|
//! | ring.publish | `publish` and `abandon`, release | `find` and `hold`, acquire | the consumer sees operands, payload and buffer words as the producer left them |
//! | ring.free | `release`, release | `claim`, acquire | the consumer has read the operands before a producer overwrites them |
//! | ring.seen | `claim` and `take`, release, on the stamp | `claim` and `find`, acquire | a thread that sees a slot claimed or taken also sees what its holder saw: no later slot shows an impossibly old stamp |
//! | ring.tail | `claim`, release, on the private cursor | `claim`, acquire | a thread that starts after a claimed slot also sees what its claimer saw |
//! | ring.reuse | `publish`, a release fence before the operands | `peek`, operands, acquire | a thread that reads an operand of the next packet then finds the stamp changed |
//! | ring.head | `take` and `find`, release, on the private cursor | `find`, acquire | a thread that starts after a taken slot also sees what its taker saw |
//!
//! # Where a process can die
//!
//! | death | the slot | recovery |
//! |---|---|---|
//! | before the claim | unchanged | nothing to do |
//! | between claim and publish | names the dead holder | publishes a tombstone |
//! | between take and release | names the dead holder and still has the packet | publishes the packet again |
//! | after publish or release | complete | nothing to do |
//!
//! A producer that is paused, not dead, blocks the consumers at its slot. A paused consumer blocks the producers one
//! lap later. No slot is taken away from a living holder.

use crate::error::Impossible;
use crate::shm::packet::{Packet, op};
use crate::shm::words::{Holder, HolderBits, Lap, Slot, SlotState, Stamp};
use crate::sync::{AtomicU64, Ordering, fence, load_for_update};

/// A slot that the caller has claimed or taken. Publish, abandon or release it.
#[derive(Debug)]
#[must_use = "the slot stays held until it is published or released"]
pub struct Ticket<'a> {
    position: u64,
    slot: &'a Slot,
    /// The stamp before the claim or the take: free, or published.
    stamp: Stamp,
}

impl PartialEq for Ticket<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.position == other.position
    }
}

impl Eq for Ticket<'_> {}

impl Ticket<'_> {
    /// Loads operand number `index` of the held slot. Load each operand once: a hostile peer may change it at any time.
    ///
    /// # Panics
    /// If `index` exceeds 6.
    #[inline(always)]
    pub fn operand(&self, index: usize) -> u64 {
        self.slot.operands[index].load(Ordering::Relaxed)
    }

    /// Position of the slot: how many slots were claimed before it, modulo 2^64.
    pub const fn position(&self) -> u64 {
        self.position
    }
}

/// Why no slot was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The next slot still has a packet that has not been released.
    Full,
    /// Other producers claimed each slot that this call read. Try again.
    Busy,
    /// A stamp that no operation stores.
    Impossible(Impossible),
}

/// Result of [`Consumer::take`].
#[derive(Debug, PartialEq, Eq)]
pub enum Take<'a> {
    /// A private copy of a packet. Its slot stays held until the ticket is released.
    Packet(Ticket<'a>, Packet),
    /// The opcode of the next packet, which the caller did not want. The packet stays in the ring.
    Other(u8),
    /// No packet is published.
    Empty,
    /// Other consumers took each packet that this call read. Try again.
    Busy,
}

#[inline(always)]
fn impossible(stamp: Stamp) -> Impossible {
    Impossible { what: "a ring stamp", found: stamp.word() }
}

/// The slots, and conversions between positions, indices and laps.
#[derive(Clone, Copy, Debug)]
struct Slots<'a> {
    slots: &'a [Slot],
    /// Binary logarithm of the capacity.
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
        // `new` checked that the length is a power of two, so the compiler omits the bounds check.
        &self.slots[position as usize & (self.slots.len() - 1)]
    }

    #[inline(always)]
    fn lap(self, position: u64) -> Lap {
        Lap::new(position >> self.shift)
    }

    /// Position of slot `index` in `lap`. A lap has 39 bits, so this is the least of the positions that share them.
    fn position(self, lap: Lap, index: usize) -> u64 {
        lap.number() * self.capacity() + index as u64
    }

    /// Most iterations of a loop that other threads can prolong.
    #[inline(always)]
    fn max_steps(self) -> u64 {
        2 * self.capacity() + 16
    }

    /// Scans all slots for the next position to be claimed. While others use the ring, the result may be an earlier
    /// position, but it directly follows one that was claimed.
    fn scan_for_tail(self) -> Result<u64, Impossible> {
        let first = || Stamp::from_word(load_for_update(&self.slots[0].stamp, Ordering::Relaxed));
        // The lap in which the slot was last claimed: for a free slot, the lap before its own.
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
            // Others may have gone round since the first load. Then the first slot's stamp has advanced too.
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

/// Whether position `a` is after position `b`.
#[inline(always)]
fn after(a: u64, b: u64) -> bool {
    a.wrapping_sub(b) as i64 > 0
}

/// Sending end of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Producer<'a> {
    slots: Slots<'a>,
    tail: &'a AtomicU64,
    holder_bits: HolderBits,
    single: bool,
}

impl<'a> Producer<'a> {
    /// Creates a producer for `holder`. `tail` is its private cursor, initialized by
    /// [`scan_for_tail`](Self::scan_for_tail). With `single`, no other thread may produce.
    ///
    /// # Panics
    /// Unless the number of slots is a power of two.
    #[inline(always)]
    pub fn new(slots: &'a [Slot], tail: &'a AtomicU64, holder: Holder, single: bool) -> Self {
        Self { slots: Slots::new(slots), tail, holder_bits: HolderBits::of(holder), single }
    }

    /// Scans `slots` for the initial value of a `tail` cursor. It is at most the next position to be claimed.
    ///
    /// # Errors
    /// [`Impossible`] for a stamp that no operation stores.
    pub fn scan_for_tail(slots: &[Slot]) -> Result<u64, Impossible> {
        Slots::new(slots).scan_for_tail()
    }

    /// Claims the next free slot.
    ///
    /// # Errors
    /// [`Denied`], with the reason that no slot was claimed.
    #[inline(always)]
    pub fn claim(&self) -> Result<Ticket<'a>, Denied> {
        let position = self.tail.load(Ordering::Acquire); // edge(ring.tail): acquire
        let slot = self.slots.at(position);
        let lap = self.slots.lap(position);
        let free = Stamp::free(lap);
        // Fast path: the cursor is current and its slot free, so the expected stamp is known without a load.
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
                // The slot still has its packet of the lap before.
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

    /// Stores `packet` into the claimed slot of `ticket` and commits it: it will be delivered, even if this process
    /// dies.
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

    /// Publishes a tombstone in the claimed slot of `ticket`. Consumers skip it.
    pub fn abandon(&self, ticket: Ticket<'_>) {
        let stamp = Stamp::published(ticket.stamp.lap(), op::TOMBSTONE);
        ticket.slot.stamp.store(stamp.word(), Ordering::Release); // edge(ring.publish): release
    }

    /// Withdraws published packets that no consumer has taken: replaces each packet whose opcode is `unwanted` by a
    /// tombstone and then passes it to `gone`.
    ///
    /// # Errors
    /// [`Impossible`] for a stamp that no operation stores. Packets withdrawn before it stay withdrawn.
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
            // They belong to this packet only if the exchange below finds the stamp unchanged.
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

    /// The slot after that of `position`.
    #[inline(always)]
    pub fn next_slot(&self, position: u64) -> &'a Slot {
        self.slots.at(position.wrapping_add(1))
    }

    /// Position at which the next claim begins its search.
    pub fn cursor(&self) -> u64 {
        self.tail.load(Ordering::Relaxed)
    }

    /// Whether the packet at `position` has been taken and its slot released. Loads only. True also for any position
    /// that was claimed more than a lap ago.
    pub fn is_taken(&self, position: u64) -> bool {
        let stamp = Stamp::from_word(load_for_update(&self.slots.at(position).stamp, Ordering::Relaxed));
        stamp.lap().ahead_of(self.slots.lap(position)) > 0 || stamp.state().is_none()
    }

    /// Whether a claim may succeed. Loads only; the result may be outdated when it is returned.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.has_room_after(0)
    }

    /// Whether a packet may be claimed after `others` more packets. Loads only. Exact if consumers release slots in
    /// order.
    #[inline(always)]
    pub fn has_room_after(&self, others: u64) -> bool {
        let position = self.tail.load(Ordering::Relaxed).wrapping_add(others);
        let stamp = Stamp::from_word(load_for_update(&self.slots.at(position).stamp, Ordering::Relaxed));
        stamp.lap().ahead_of(self.slots.lap(position)) >= 0 || stamp.state().is_none()
    }
}

/// Receiving end of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Consumer<'a> {
    slots: Slots<'a>,
    head: &'a AtomicU64,
    floor: &'a AtomicU64,
    holder_bits: HolderBits,
    single: bool,
}

/// A published slot, and whether it was found at the head cursor or below it.
struct Found<'a> {
    position: u64,
    slot: &'a Slot,
    stamp: Stamp,
    at_head: bool,
}

impl<'a> Consumer<'a> {
    /// Creates a consumer for `holder` with two private cursors, both initialized by
    /// [`scan_for_head`](Self::scan_for_head). Each packet below `floor` has been taken. Each packet from `floor` to
    /// `head` has been taken too, unless recovery published it again. With `single`, no other thread may consume.
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

    /// Scans `slots` for the initial value of both cursors: the position of the oldest packet that is not released.
    ///
    /// # Errors
    /// [`Impossible`] for a stamp that no operation stores.
    pub fn scan_for_head(slots: &[Slot]) -> Result<u64, Impossible> {
        let slots = Slots::new(slots);
        let tail = slots.scan_for_tail()?;
        // Positions a lap or more before a claimed one have been released. Skip those released since.
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

    /// Fast path of [`take`](Self::take): takes the packet at the head cursor if it is published and its opcode is
    /// `wanted`. `None` does not mean that the ring is empty: call `take` then, which also skips tombstones.
    #[inline(always)]
    pub fn take_at_head(&self, wanted: impl Fn(u8) -> bool) -> Option<(Ticket<'a>, Packet)> {
        let (ticket, operation) = self.hold_at_head(wanted)?;
        let packet = self.copy(&ticket, operation);
        Some((ticket, packet))
    }

    /// As [`take_at_head`](Self::take_at_head), but copies no operands: returns the held slot and the opcode.
    #[inline(always)]
    pub fn hold_at_head(&self, wanted: impl Fn(u8) -> bool) -> Option<(Ticket<'a>, u8)> {
        let position = self.head.load(Ordering::Acquire); // edge(ring.head): acquire
        let lap = self.slots.lap(position);
        let slot = self.slots.at(position);
        let stamp = Stamp::from_word(load_for_update(&slot.stamp, Ordering::Acquire)); // edge(ring.publish): acquire
        // Unless published in this lap, with any opcode.
        if stamp.word() ^ Stamp::published(lap, 0).word() > 0xFF
            || !wanted(stamp.op())
            || stamp.op() == op::TOMBSTONE
        {
            return None;
        }
        let ticket = self.hold(&Found { position, slot, stamp, at_head: true })?;
        Some((ticket, stamp.op()))
    }

    /// Takes the next packet if its opcode is `wanted`. Releases the tombstones before it, and calls `skipped` for
    /// each.
    ///
    /// # Errors
    /// [`Impossible`] for a stamp that no operation stores.
    #[inline]
    pub fn take(
        &self,
        wanted: impl Fn(u8) -> bool,
        mut skipped: impl FnMut(),
    ) -> Result<Take<'a>, Impossible> {
        // Continues the search below the head cursor here, so that it passes many tombstones only once.
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

    /// Copies the next packet and leaves it in the ring. `None` if there is none, or if another consumer takes it
    /// during the call.
    ///
    /// # Errors
    /// [`Impossible`] for a stamp that no operation stores.
    pub fn peek(&self) -> Result<Option<Packet>, Impossible> {
        let Ok(found) = self.find(None)? else { return Ok(None) };
        let slot = found.slot;
        // edge(ring.reuse): acquire
        let operands = core::array::from_fn(|i| slot.operands[i].load(Ordering::Acquire));
        // The operands of a published slot do not change. So if the stamp is the same, they are those of this packet.
        let same = load_for_update(&slot.stamp, Ordering::Relaxed) == found.stamp.word();
        Ok(same.then_some(Packet { op: found.stamp.op(), operands }))
    }

    /// Position at which the next take begins its search.
    pub fn cursor(&self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }

    /// Whether a take may succeed. Loads the stamp at the head cursor only; the result may be outdated when it is
    /// returned.
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

    /// Whether any slot has a packet whose opcode is `wanted` and that is not released. Tombstones do not count. The
    /// result may be outdated when it is returned.
    ///
    /// # Errors
    /// [`Impossible`] for a stamp that no operation stores.
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

    /// Frees the taken slot of `ticket` for a producer of the next lap. Copy the packet before.
    #[inline(always)]
    pub fn release(&self, ticket: Ticket<'_>) {
        let Ticket { position, slot, stamp } = ticket;
        let stamp = Stamp::free(stamp.lap().next());
        slot.stamp.store(stamp.word(), Ordering::Release); // edge(ring.free): release
        if self.floor.load(Ordering::Relaxed) == position {
            self.floor.store(position.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Copies the packet of the held slot of `ticket`. `operation` is the opcode that the take found.
    #[inline(always)]
    pub fn copy(&self, ticket: &Ticket<'_>, operation: u8) -> Packet {
        let operands = core::array::from_fn(|i| ticket.slot.operands[i].load(Ordering::Relaxed));
        Packet { op: operation, operands }
    }

    /// Marks a found slot as taken by this holder. `None` if another consumer took it first.
    #[inline(always)]
    fn hold(&self, found: &Found<'a>) -> Option<Ticket<'a>> {
        let Found { position, slot, stamp, at_head } = *found;
        if !self.single {
            let word = stamp.held_by(self.holder_bits).word();
            // Acquire: another consumer may have taken the packet since it was found, died, and been recovered. Then
            // the stamp is the same again, and what the dead consumer did to buffer words must come before what
            // follows here.
            // edge(ring.publish): acquire
            // edge(ring.seen): release
            slot.stamp.compare_exchange(stamp.word(), word, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        }
        if at_head {
            self.head.store(position.wrapping_add(1), Ordering::Release); // edge(ring.head): release
        }
        Some(Ticket { position, slot, stamp })
    }

    /// Finds the next published slot. A search below the head cursor begins at `below` or later.
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
                // Not published yet; or still a packet of the lap before, which its consumer has not released.
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

    /// Searches below the head cursor for a packet that recovery published again. Raises `floor` past released slots.
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
