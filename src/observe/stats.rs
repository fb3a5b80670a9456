//! Counters of a link, read from its region by loads alone: by either end, or by an observer without their help.
//!
//! Nothing is counted on the hot path for this: how many packets went through follows from the laps in the
//! slots, and bytes are tallied in words that only the holder of a slot stores to. The numbers are for people.
//! The peer can write to the words that they come from, so nothing may depend on them.

use crate::agreement::Agreed;
use crate::error::ErrorCode;
use crate::observe::load::load;
use crate::shm::region::Views;
use crate::shm::words::{BufferState, BufferWord, Lap, Role, SideCounters, Slot, SlotState, Stamp};
use crate::sync::AtomicU64;

/// The counters of a link at about one moment; each word is read once while both ends may go on.
///
/// All counts begin at zero when the region is made, and wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// What went from the Primary to the Secondary, and back.
    pub directions: [DirectionStats; 2],
    /// What the Primary's side met with, and the Secondary's.
    pub sides: [SideStats; 2],
}

/// What went through one direction.
///
/// Words that hold no valid value are left out; [`Observer::check`](crate::observe::Observer::check) reports
/// those.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectionStats {
    /// Slots that a sender has claimed or filled: messages, control packets and tombstones. Wraps after 2^39
    /// times round the ring.
    pub packets_sent: u64,
    /// Slots that a receiver has released, of the same kinds; it wraps alike.
    pub packets_received: u64,
    /// Slots between the two: claimed, published or taken. Always `packets_sent - packets_received`.
    pub in_flight: u64,
    /// Payload sent, bytes; what senders announced, delivered or not.
    pub bytes_sent: u64,
    /// Payload received, bytes.
    pub bytes_received: u64,
    /// Buffers that nobody uses: free, or kept ready by a sender for its next loan.
    pub buffers_free: u64,
    /// Buffers of the sending side: lent to it, or in flight.
    pub buffers_owned: u64,
    /// Buffers that the receiving side reads.
    pub buffers_held: u64,
}

/// What one side met with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideStats {
    /// Waits that found the ring full.
    pub full_waits: u64,
    /// Waits that found no buffer, or no run long enough.
    pub pool_waits: u64,
    /// Waits that found nothing to receive.
    pub empty_waits: u64,
    /// Times a thread slept in the kernel.
    pub sleeps: u64,
    /// Times a sleep ended because the other side rang.
    pub wakes: u64,
    /// Times this side rang the other.
    pub rings: u64,
    /// Tombstones that this side skipped.
    pub tombstones: u64,
    /// What this side has agreed on with the other; `None` if it has not negotiated.
    pub agreed: Option<Agreed>,
    /// Packets that this side refused, by the specification's error codes 1 to 7; index 0 is unused.
    pub refused: [u64; 8],
    /// Packets that this side refused with a code of HQQ's own, by code - 0x40.
    pub refused_own: [u64; 8],
    /// OpError packets that this side received, by the specification's codes; index 0 counts all others.
    pub heard: [u64; 8],
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

    /// The direction that the end with this role sends in.
    pub const fn sent_by(&self, role: Role) -> &DirectionStats {
        &self.directions[role.direction()]
    }

    /// The counters of this role's side.
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

    /// A slot in lap n has been released n times; unless it is free, it has been claimed once more.
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
            heard: all(&counters.heard),
        }
    }

    /// Packets that this side refused with `code`.
    pub fn refused_with(&self, code: ErrorCode) -> u64 {
        let number = code.number() as usize;
        let found = if number < 8 { self.refused.get(number) } else { self.refused_own.get(number - 0x40) };
        found.copied().unwrap_or(0)
    }

    /// Packets that this side refused, whatever the code.
    pub fn refused_total(&self) -> u64 {
        self.refused.iter().chain(&self.refused_own).fold(0, |sum, n| sum.wrapping_add(*n))
    }

    /// OpError packets that this side received, whatever the code.
    pub fn heard_total(&self) -> u64 {
        self.heard.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }
}

fn sum(words: &[AtomicU64]) -> u64 {
    words.iter().fold(0, |sum, word| sum.wrapping_add(load(word)))
}
