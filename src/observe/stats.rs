//! Counters of a link, read from its region with loads only: by either end or by an observer.
//!
//! They cost little on the hot path: the number of packets follows from the laps of the slots, and bytes are counted
//! in words that only the holder of a slot stores to. They are for display only, because the peer can write to those
//! words.

use crate::agreement::Agreed;
use crate::error::ErrorCode;
use crate::observe::load::load;
use crate::shm::region::Views;
use crate::shm::words::{BufferState, BufferWord, Lap, Role, SideCounters, Slot, SlotState, Stamp};
use crate::sync::AtomicU64;

/// Counters of a link. Each word is read once, while both ends may go on.
///
/// All counts start at zero when the region is created, and wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Counters of the direction from the Primary to the Secondary, and back.
    pub directions: [DirectionStats; 2],
    /// Counters of the Primary's side, and of the Secondary's.
    pub sides: [SideStats; 2],
}

/// Counters of one direction.
///
/// Words that are not valid are not counted; [`Observer::check`](crate::observe::Observer::check) reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectionStats {
    /// Slots that a sender has claimed: messages, control packets and tombstones. Wraps after 2^39 laps of the ring.
    pub packets_sent: u64,
    /// Slots that a receiver has released. Wraps after 2^39 laps of the ring.
    pub packets_received: u64,
    /// Slots that are claimed, published or taken: `packets_sent - packets_received`.
    pub in_flight: u64,
    /// Payload that was sent, bytes, whether delivered or not.
    pub bytes_sent: u64,
    /// Payload that was received, bytes.
    pub bytes_received: u64,
    /// Buffers that are free, or that a sender keeps for its next loan.
    pub buffers_free: u64,
    /// Buffers that the sending side has on loan or in flight.
    pub buffers_owned: u64,
    /// Buffers that the receiving side holds.
    pub buffers_held: u64,
}

/// Counters of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideStats {
    /// Waits for a free ring slot.
    pub full_waits: u64,
    /// Waits for a free buffer, or for a long enough run.
    pub pool_waits: u64,
    /// Waits for a packet to receive.
    pub empty_waits: u64,
    /// Times a thread of this side slept in the kernel.
    pub sleeps: u64,
    /// Times a sleep ended because the other side rang.
    pub wakes: u64,
    /// Times this side rang the other.
    pub rings: u64,
    /// Tombstones that this side skipped.
    pub tombstones: u64,
    /// Result of this side's negotiation. `None` if it has not negotiated.
    pub agreed: Option<Agreed>,
    /// Packets that this side refused, by the specification's error codes 1 to 7. Index 0 is unused.
    pub refused: [u64; 8],
    /// Packets that this side refused with an error code of HQQ's own, by code - 0x40.
    pub refused_own: [u64; 8],
    /// OpError packets that this side received, by the specification's error codes. Index 0 counts all other codes.
    pub errors_received: [u64; 8],
}

impl Stats {
    /// Reads the counters of a region.
    pub(crate) fn read(views: &Views<'_>) -> Self {
        let superblock = views.superblock();
        let first = Lap::new(load(&superblock.first_lap));
        Self {
            directions: [0, 1].map(|direction| DirectionStats::read(views, direction, first)),
            sides: [0, 1].map(|side| SideStats::read(&superblock.counters[side])),
        }
    }

    /// Counters of the direction in which the end with this role sends.
    pub const fn sent_by(&self, role: Role) -> &DirectionStats {
        &self.directions[role.direction()]
    }

    /// Counters of the side of this role.
    pub const fn side(&self, role: Role) -> &SideStats {
        &self.sides[role.direction()]
    }
}

impl DirectionStats {
    fn read(views: &Views<'_>, direction: usize, first: Lap) -> Self {
        let mut stats = Self {
            bytes_sent: sum(views.byte_counters_sent(direction)),
            bytes_received: sum(views.byte_counters_received(direction)),
            ..Self::default()
        };
        for slot in views.slots(direction) {
            stats.add_slot(slot, first);
        }
        for word in views.buffer_words(direction) {
            match BufferWord::from_word(load(word)).state() {
                Some(BufferState::Free | BufferState::Spare(_)) => stats.buffers_free += 1,
                Some(BufferState::Owned(_)) => stats.buffers_owned += 1,
                Some(BufferState::Held(_)) => stats.buffers_held += 1,
                None => {}
            }
        }
        stats
    }

    /// Counts a slot: in lap n (from the first lap) it has been released n times. If it is not free, it has been
    /// claimed once more.
    fn add_slot(&mut self, slot: &Slot, first: Lap) {
        let stamp = Stamp::from_word(load(&slot.stamp));
        let Some(state) = stamp.state() else { return };
        let laps = Lap::new(stamp.lap().number().wrapping_sub(first.number())).number();
        let busy = u64::from(state != SlotState::Free);
        self.packets_received = self.packets_received.wrapping_add(laps);
        self.packets_sent = self.packets_sent.wrapping_add(laps + busy);
        self.in_flight += busy;
    }
}

impl SideStats {
    fn read(counters: &SideCounters) -> Self {
        let all = |words: &[AtomicU64; 8]| core::array::from_fn(|i| load(&words[i]));
        Self {
            full_waits: load(&counters.full_waits),
            pool_waits: load(&counters.pool_waits),
            empty_waits: load(&counters.empty_waits),
            sleeps: load(&counters.sleeps),
            wakes: load(&counters.wakes),
            rings: load(&counters.rings),
            tombstones: load(&counters.tombstones),
            agreed: Agreed::from_word(load(&counters.agreed)),
            refused: all(&counters.refused),
            refused_own: all(&counters.refused_own),
            errors_received: all(&counters.errors_received),
        }
    }

    /// Packets that this side refused with `code`.
    pub fn refused_with(&self, code: ErrorCode) -> u64 {
        let number = code.number() as usize;
        let found = if number < 8 { self.refused.get(number) } else { self.refused_own.get(number - 0x40) };
        found.copied().unwrap_or(0)
    }

    /// Packets that this side refused, with any code.
    pub fn refused_total(&self) -> u64 {
        self.refused.iter().chain(&self.refused_own).fold(0, |sum, n| sum.wrapping_add(*n))
    }

    /// OpError packets that this side received, with any code.
    pub fn errors_received_total(&self) -> u64 {
        self.errors_received.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }
}

fn sum(words: &[AtomicU64]) -> u64 {
    words.iter().fold(0, |sum, word| sum.wrapping_add(load(word)))
}
