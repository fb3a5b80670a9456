//! The stores of the sweep: every control word of a small region, and the values stored into each.

use std::sync::atomic::{AtomicU64, Ordering};

use hqq::shm::layout::Layout;
use hqq::shm::packet::op;
use hqq::shm::words::{BufferWord, Holder, Lap, LeaseWord, Role, SeatWord, Stamp};

/// The control words of a region, by their offsets: the superblock's, reserved ones and name included, then the
/// rings', pools', leases' and tallies'.
pub fn places(layout: &Layout) -> Vec<u64> {
    let (slots, buffers) = (u64::from(layout.geometry.slots()), u64::from(layout.geometry.buffers()));
    let mut places: Vec<u64> = (0..0x600).step_by(8).collect();
    for direction in &layout.directions {
        for (start, words) in [
            (direction.ring, 8 * slots),
            (direction.pool, buffers),
            (direction.lease, 1),
            (direction.sent, slots),
            (direction.received, slots),
        ] {
            places.extend((0..words).map(|word| start + 8 * word));
        }
    }
    places
}

/// What a word is called.
pub fn name(layout: &Layout, offset: u64) -> String {
    for (number, direction) in layout.directions.iter().enumerate().rev() {
        for (start, part) in [
            (direction.received, "bytes received"),
            (direction.sent, "bytes sent"),
            (direction.lease, "lease"),
            (direction.pool, "buffer word"),
        ] {
            if offset >= start {
                return format!("{part} {} of direction {number}", (offset - start) / 8);
            }
        }
        if offset >= direction.ring {
            let word = (offset - direction.ring) / 8;
            let part = if word % 8 == 0 { "stamp".into() } else { format!("operand {}", word % 8 - 1) };
            return format!("slot {}'s {part} of direction {number}", word / 8);
        }
    }
    format!("superblock's word at 0x{offset:x}")
}

/// What a value is made from: the word as it stands, and the one behind it.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    old: u64,
    next: u64,
}

impl Found {
    /// The word at `offset` and its neighbour.
    pub fn at(words: &[AtomicU64], offset: u64) -> Self {
        let index = offset as usize / 8;
        let load = |index: usize| words.get(index).map_or(0, |word| word.load(Ordering::Relaxed));
        Self { old: load(index), next: load(index + 1) }
    }

    /// The word.
    pub fn word(self) -> u64 {
        self.old
    }

    fn lap(self) -> Lap {
        Stamp::from_word(self.old).lap()
    }
}

const LAP: u64 = 1 << 25;
const FIRST: Holder = Holder::new(0, 1);
const SECOND: Holder = Holder::new(1, 1);
const LAST: Holder = Holder::new(7, 31);

/// A value's name, and how it is made.
pub type Value = (&'static str, fn(Found) -> u64);

/// The menu. Every value goes into every word: what is a valid stamp is nonsense as a buffer word, and the other way.
pub const VALUES: [Value; 45] = [
    ("zero", |_| 0),
    ("ones", |_| u64::MAX),
    ("bit 0 flipped", |f| f.old ^ 1),
    ("bit 4 flipped", |f| f.old ^ 1 << 4),
    ("bit 8 flipped", |f| f.old ^ 1 << 8),
    ("bit 10 flipped", |f| f.old ^ 1 << 10),
    ("bit 11 flipped", |f| f.old ^ 1 << 11),
    ("bit 20 flipped", |f| f.old ^ 1 << 20),
    ("bit 63 flipped", |f| f.old ^ 1 << 63),
    ("one more", |f| f.old.wrapping_add(1)),
    ("one less", |f| f.old.wrapping_sub(1)),
    ("its neighbour's", |f| f.next),
    ("a lap back", |f| f.old.wrapping_sub(LAP)),
    ("a lap on", |f| f.old.wrapping_add(LAP)),
    ("two laps on", |f| f.old.wrapping_add(2 * LAP)),
    ("half of all laps away", |f| f.old ^ 1 << 63),
    ("half of all laps less one away", |f| f.old.wrapping_add((1 << 63) - LAP)),
    ("3", |_| 3),
    ("as many as there are", |_| 4),
    ("one over a buffer", |_| 65),
    ("2^31", |_| 1 << 31),
    ("2^32", |_| 1 << 32),
    ("2^63 - 1", |_| i64::MAX as u64),
    ("free", |f| Stamp::free(f.lap()).word()),
    ("free, the next lap", |f| Stamp::free(f.lap().next()).word()),
    ("claimed by the Primary", |f| Stamp::claimed(f.lap(), FIRST).word()),
    ("claimed by the Secondary", |f| Stamp::claimed(f.lap(), SECOND).word()),
    ("claimed by a stranger", |f| Stamp::claimed(f.lap(), LAST).word()),
    ("taken by the Primary", |f| Stamp::taken(f.lap(), FIRST, op::STANDARD_LINK_COPY).word()),
    ("taken by the Secondary", |f| Stamp::taken(f.lap(), SECOND, op::STANDARD_LINK_COPY).word()),
    ("taken by a stranger", |f| Stamp::taken(f.lap(), LAST, op::CONN_COPY).word()),
    ("a published message", |f| Stamp::published(f.lap(), op::STANDARD_LINK_COPY).word()),
    ("a published short message", |f| Stamp::published(f.lap(), op::INLINE_COPY).word()),
    ("a published chunk", |f| Stamp::published(f.lap(), op::CONN_COPY).word()),
    ("a published tombstone", |f| Stamp::published(f.lap(), op::TOMBSTONE).word()),
    ("a published error, the next lap", |f| Stamp::published(f.lap().next(), op::ERROR).word()),
    ("a free buffer", |_| BufferWord::FREE.word()),
    ("owned by the Primary", |_| BufferWord::owned(FIRST).word()),
    ("owned by the Secondary", |_| BufferWord::owned(SECOND).word()),
    ("kept spare by the Primary", |_| BufferWord::spare(FIRST).word()),
    ("held by the Primary", |_| BufferWord::held(FIRST).word()),
    ("held by a stranger", |_| BufferWord::held(LAST).word()),
    ("leased by the Primary", |_| LeaseWord::leased(FIRST).word()),
    ("a vacant seat", |_| SeatWord::vacant(2).word()),
    ("a seat of the Secondary, closed", |_| {
        SeatWord::joined(SECOND, Role::Secondary, false).word() | SeatWord::NO_SEND | SeatWord::NO_RECV
    }),
];
