//! Layer 0: the words as they lie in shared memory. Every word's bits are named here and nowhere else, and
//! every change of a word is a named transition; the layers above never shift a bit.
//!
//! Three rules hold for all control words: a word says who holds what it stands for; zero is never valid, so
//! that a punched page is seen for what it is; and a decoder returns `None` for a value that no transition
//! can have produced.

use crate::sync::{AtomicU64, IN_MEMORY};

mod metrics;

pub use metrics::SideMetrics;

/// Bytes of a ring slot: one cache line.
pub const SLOT_BYTES: usize = 64;
/// Seats in a region: how many processes can be attached to it at once, both sides together.
pub const SEATS: usize = 8;
/// Words of the name in the superblock (128 bytes).
pub const NAME_WORDS: usize = 16;
/// What the first word of every region holds: the bytes `HQQLINK` and 0x1A, little-endian.
pub const MAGIC: u64 = u64::from_le_bytes(*b"HQQLINK\x1a");
/// The layout's version. A region of another version is refused.
pub const FORMAT: u64 = 1;
/// What the ready word holds once the superblock is complete.
pub const READY: u64 = 0x5244_5921_4848_5151;

/// Which end of a link a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Created the region; sends in direction 0.
    Primary,
    /// Attached to it; sends in direction 1.
    Secondary,
}

impl Role {
    /// The other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }

    /// The direction this end sends in: 0 for the Primary, 1 for the Secondary.
    pub const fn direction(self) -> usize {
        match self {
            Self::Primary => 0,
            Self::Secondary => 1,
        }
    }
}

impl core::fmt::Display for Role {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// Who holds something: a seat and the generation of its occupant, in eight bits. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder(u8);

impl Holder {
    /// The occupant number `generation` (1 to 31) of seat `seat` (0 to 7).
    ///
    /// # Panics
    /// When either is out of range.
    pub const fn new(seat: usize, generation: u8) -> Self {
        assert!(seat < SEATS && generation >= 1 && generation < 32);
        Self(generation << 3 | seat as u8)
    }

    /// The holder in a field of a word; `None` if its generation is zero.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        let bits = (bits & 0xFF) as u8;
        if bits >> 3 == 0 { None } else { Some(Self(bits)) }
    }

    /// The eight bits.
    pub const fn bits(self) -> u64 {
        self.0 as u64
    }

    /// The seat's number.
    pub const fn seat(self) -> usize {
        Self::seat_of(self.bits())
    }

    /// The number of the seat in a holder's bits.
    #[inline(always)]
    pub(crate) const fn seat_of(bits: u64) -> usize {
        (bits & 7) as usize
    }

    /// Which occupant of the seat: 1 to 31, then 1 again.
    pub const fn generation(self) -> u8 {
        self.0 >> 3
    }
}

/// A lap of the ring: how often a slot has gone round, modulo 2^39.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lap(u64);

impl Lap {
    const BITS: u32 = 39;
    const MASK: u64 = (1 << Self::BITS) - 1;

    /// The lap number `n`, reduced modulo 2^39.
    pub const fn new(n: u64) -> Self {
        Self(n & Self::MASK)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The lap after this one; after the last comes 0.
    pub const fn next(self) -> Self {
        Self::new(self.0 + 1)
    }

    /// How many laps `self` is ahead of `other`, negative if behind; right as long as they are less than
    /// 2^38 laps apart.
    pub const fn ahead_of(self, other: Self) -> i64 {
        let shift = 64 - Self::BITS;
        (self.0.wrapping_sub(other.0) << shift) as i64 >> shift
    }
}

/// What a free or a published stamp gains when somebody takes hold of the slot: the next state, and the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolderBits(u64);

impl HolderBits {
    /// The grip of `holder`.
    pub const fn of(holder: Holder) -> Self {
        let claimed = Stamp::claimed(Lap(0), holder).0 - Stamp::free(Lap(0)).0;
        let taken = Stamp::taken(Lap(0), holder, 0).0 - Stamp::published(Lap(0), 0).0;
        assert!(claimed == taken);
        Self(claimed)
    }
}

/// Where a slot stands in its lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Waits for a producer of this lap.
    Free,
    /// A producer fills it.
    Claimed(Holder),
    /// Committed; waits for a consumer.
    Published,
    /// A consumer empties it.
    Taken(Holder),
}

/// A slot's first word: the stamp in the upper 56 bits, the opcode in the lower eight.
///
/// | bits | field |
/// |---|---|
/// | 0..8 | opcode, zero while free or claimed |
/// | 8..11 | state: 1 free, 2 claimed, 3 published, 4 taken |
/// | 11..19 | holder while claimed or taken, else zero |
/// | 19..25 | reserved, zero |
/// | 25..64 | lap |
///
/// ```text
/// free(lap) -> claimed(lap, producer) -> published(lap) -> taken(lap, consumer) -> free(lap + 1)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(u64);

impl Stamp {
    const FREE: u64 = 1;
    const CLAIMED: u64 = 2;
    const PUBLISHED: u64 = 3;
    const TAKEN: u64 = 4;

    const fn pack(lap: Lap, state: u64, holder: u64, op: u8) -> Self {
        Self(lap.0 << 25 | holder << 11 | state << 8 | op as u64)
    }

    /// The word of a slot that waits for a producer.
    #[inline(always)]
    pub const fn free(lap: Lap) -> Self {
        Self::pack(lap, Self::FREE, 0, 0)
    }

    /// A producer takes hold of a free slot.
    #[inline(always)]
    pub const fn claimed(lap: Lap, by: Holder) -> Self {
        Self::pack(lap, Self::CLAIMED, by.bits(), 0)
    }

    /// A producer takes hold of a slot with this free stamp, or a consumer of one with this published stamp.
    #[inline(always)]
    pub const fn held_by(self, holder_bits: HolderBits) -> Self {
        Self(self.0 + holder_bits.0)
    }

    /// The producer commits, or whoever buries it publishes a tombstone in its place.
    #[inline(always)]
    pub const fn published(lap: Lap, op: u8) -> Self {
        Self::pack(lap, Self::PUBLISHED, 0, op)
    }

    /// A consumer takes hold of a committed slot.
    #[inline(always)]
    pub const fn taken(lap: Lap, by: Holder, op: u8) -> Self {
        Self::pack(lap, Self::TAKEN, by.bits(), op)
    }

    /// A word as loaded; it may hold anything.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word to store.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The lap field.
    #[inline(always)]
    pub const fn lap(self) -> Lap {
        Lap(self.0 >> 25)
    }

    /// The opcode field.
    #[inline(always)]
    pub const fn op(self) -> u8 {
        self.0 as u8
    }

    /// The state with its holder; `None` for a word that no transition produces.
    #[inline(always)]
    pub const fn state(self) -> Option<SlotState> {
        let holder = self.0 >> 11 & 0xFF;
        if self.0 >> 19 & 0x3F != 0 {
            return None;
        }
        match self.0 >> 8 & 7 {
            Self::FREE if holder == 0 && self.op() == 0 => Some(SlotState::Free),
            Self::PUBLISHED if holder == 0 => Some(SlotState::Published),
            Self::CLAIMED if self.op() == 0 => match Holder::from_bits(holder) {
                Some(by) => Some(SlotState::Claimed(by)),
                None => None,
            },
            Self::TAKEN => match Holder::from_bits(holder) {
                Some(by) => Some(SlotState::Taken(by)),
                None => None,
            },
            _ => None,
        }
    }
}

/// A ring slot: one cache line with the stamp and a packet.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Slot {
    /// [`Stamp`] and opcode.
    pub stamp: AtomicU64,
    /// The seven operands.
    pub operands: [AtomicU64; 7],
}

impl Slot {
    /// A free slot of the given lap, in ordinary memory: for models and tests.
    pub fn new(lap: Lap) -> Self {
        Self {
            stamp: AtomicU64::new(Stamp::free(lap).word()),
            operands: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

const _: () = assert!(!IN_MEMORY || core::mem::size_of::<Slot>() == SLOT_BYTES);

/// Who holds a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferState {
    /// Nobody.
    Free,
    /// The sending side's holder: on loan to it, or in a published slot, which then decides.
    Owned(Holder),
    /// A holder of the receiving side, reading it.
    Held(Holder),
    /// A holder of the sending side keeps it ready for its next loan.
    Spare(Holder),
}

/// A buffer's word in its pool.
///
/// | bits | field |
/// |---|---|
/// | 0..3 | state: 1 free, 2 owned, 3 held, 4 spare |
/// | 8..16 | holder, zero while free |
/// | the rest | reserved, zero |
///
/// ```text
/// free -> owned(sender) -> held(receiver) -> free
/// free -> spare(sender) -> owned(sender)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferWord(u64);

impl BufferWord {
    /// Nobody's buffer.
    pub const FREE: Self = Self(1);

    /// On loan to a sender, or in flight.
    #[inline(always)]
    pub const fn owned(by: Holder) -> Self {
        Self(by.bits() << 8 | 2)
    }

    /// Read by a receiver.
    #[inline(always)]
    pub const fn held(by: Holder) -> Self {
        Self(by.bits() << 8 | 3)
    }

    /// Kept ready by a sender for its next loan.
    #[inline(always)]
    pub const fn spare(by: Holder) -> Self {
        Self(by.bits() << 8 | 4)
    }

    /// A word as loaded.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word to store.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Who holds the buffer; `None` for a word that no transition produces.
    #[inline(always)]
    pub const fn state(self) -> Option<BufferState> {
        if self.0 == Self::FREE.0 {
            return Some(BufferState::Free);
        }
        match (self.0 & !0xFF00, Holder::from_bits(self.0 >> 8)) {
            (2, Some(by)) => Some(BufferState::Owned(by)),
            (3, Some(by)) => Some(BufferState::Held(by)),
            (4, Some(by)) => Some(BufferState::Spare(by)),
            _ => None,
        }
    }
}

/// The word that lets one holder at a time gather a run of buffers: 1 vacant, or the holder's bits over 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseWord(u64);

impl LeaseWord {
    /// Nobody gathers.
    pub const VACANT: Self = Self(1);

    /// `by` gathers a run.
    pub const fn leased(by: Holder) -> Self {
        Self(by.bits() << 8 | 2)
    }

    /// A word as loaded.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word to store.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Who gathers: `Some(None)` if nobody, `None` for a word that no transition produces.
    pub const fn holder(self) -> Option<Option<Holder>> {
        match (self.0 & !0xFF00, Holder::from_bits(self.0 >> 8)) {
            (1, _) if self.0 == 1 => Some(None),
            (2, Some(by)) => Some(Some(by)),
            _ => None,
        }
    }
}

/// What a seat's occupant has said of itself.
///
/// | bits | field |
/// |---|---|
/// | 0..3 | state: 1 vacant, 2 joined |
/// | 3 | side: 0 Primary, 1 Secondary |
/// | 4 | sends no more; always set while vacant |
/// | 5 | receives no more; always set while vacant |
/// | 6 | locked: the occupant holds a file lock on the seat's byte of the memory, which ends with its process |
/// | 8..13 | generation of the present occupant, or of the next one while vacant (1 to 31) |
/// | 16..24 | recoverers: bit `16 + s` while the occupant of seat `s` recovers what this one's left |
/// | the rest | reserved, zero |
///
/// ```text
/// vacant(g) -> joined(g) -> vacant(g + 1)          left in order, or vacated after a recovery
///                 |  ^
///                 v  |
///              joined(g), recoverers                its occupant is dead
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatWord(u64);

impl SeatWord {
    /// Set once the occupant sends no more.
    pub const NO_SEND: u64 = 1 << 4;
    /// Set once the occupant receives no more.
    pub const NO_RECV: u64 = 1 << 5;
    /// Set if the occupant holds the lock on the seat's byte.
    pub const LOCKED: u64 = 1 << 6;

    const VACANT: u64 = Self::NO_SEND | Self::NO_RECV | 1;
    const RECOVERERS: u64 = 0xFF << 16;

    /// An empty seat whose next occupant gets the given generation.
    pub const fn vacant(generation: u8) -> Self {
        Self((generation as u64) << 8 | Self::VACANT)
    }

    /// Taken by `holder` on the side of `role`; `locked` if it holds the lock.
    pub const fn joined(holder: Holder, role: Role, locked: bool) -> Self {
        let locked = if locked { Self::LOCKED } else { 0 };
        Self((holder.generation() as u64) << 8 | locked | (role.direction() as u64) << 3 | 2)
    }

    /// The word of the vacant seat after this occupant.
    pub const fn vacated(self) -> Self {
        let generation = self.generation();
        Self::vacant(if generation >= 31 { 1 } else { generation + 1 })
    }

    /// The bit that says that the occupant of seat `seat` recovers this one.
    pub const fn recoverer(seat: usize) -> u64 {
        1 << (16 + seat)
    }

    /// The same word with `seat` among the recoverers.
    pub const fn with_recoverer(self, seat: usize) -> Self {
        Self(self.0 | Self::recoverer(seat))
    }

    /// A word as loaded.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word to store.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Whether the word can have been produced by a transition.
    pub const fn is_valid(self) -> bool {
        let generation = self.0 >> 8 & 0xFF;
        let vacant = self.0 & !0xFF00 == Self::VACANT;
        let joined = self.0 & 7 == 2 && self.0 & !(Self::RECOVERERS | 0xFF7F) == 0;
        generation >= 1 && generation < 32 && (vacant || joined)
    }

    /// Whether somebody sits here.
    pub const fn is_joined(self) -> bool {
        self.0 & 7 == 2
    }

    /// Whether `holder` sits here, living or dead.
    pub const fn is_occupied_by(self, holder: Holder) -> bool {
        self.is_joined() && self.generation() == holder.generation()
    }

    /// The side of the occupant.
    pub const fn role(self) -> Role {
        if self.0 >> 3 & 1 == 0 { Role::Primary } else { Role::Secondary }
    }

    /// The generation field.
    pub const fn generation(self) -> u8 {
        (self.0 >> 8 & 0x1F) as u8
    }

    /// The seats whose occupants recover this one, a bit each.
    pub const fn recoverers(self) -> u64 {
        (self.0 & Self::RECOVERERS) >> 16
    }

    /// Whether the occupant holds the lock on the seat's byte.
    pub const fn is_locked(self) -> bool {
        self.0 & Self::LOCKED != 0
    }

    /// Whether the occupant sends no more. True of a vacant seat.
    #[inline(always)]
    pub const fn no_send(self) -> bool {
        self.0 & Self::NO_SEND != 0
    }

    /// Whether the occupant receives no more. True of a vacant seat.
    #[inline(always)]
    pub const fn no_recv(self) -> bool {
        self.0 & Self::NO_RECV != 0
    }
}

/// A seat: its word and what helps a person to find the process. The kernel, not this line, says who the
/// occupant is and whether it lives.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Seat {
    /// [`SeatWord`].
    pub word: AtomicU64,
    /// The occupant's process id as it sees it itself.
    pub pid: AtomicU64,
    /// Reserved, zero.
    pub reserved: [AtomicU64; 6],
}

/// What a sleeping process waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A packet to receive.
    Data,
    /// A free slot or buffer to send with.
    Space,
}

/// The announcements of one side: bit `seat` for data, bit `8 + seat` for space. Bit 63 is always set, so
/// that the word is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepersWord(u64);

impl SleepersWord {
    /// Everybody is awake.
    pub const AWAKE: u64 = 1 << 63;

    /// The bit that announces `want` for `seat`.
    #[inline(always)]
    pub const fn bit(seat: usize, want: Want) -> u64 {
        match want {
            Want::Data => 1 << seat,
            Want::Space => 1 << (seat + 8),
        }
    }

    /// The bits of all seats for `want`.
    #[inline(always)]
    pub const fn all(want: Want) -> u64 {
        match want {
            Want::Data => 0xFF,
            Want::Space => 0xFF00,
        }
    }

    /// A word as loaded.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The seats that announced `want`, a bit each.
    #[inline(always)]
    pub const fn seats(self, want: Want) -> u64 {
        match want {
            Want::Data => self.0 & 0xFF,
            Want::Space => self.0 >> 8 & 0xFF,
        }
    }

    /// Whether the word can have been produced by a transition.
    pub const fn is_valid(self) -> bool {
        self.0 & !0xFFFF == Self::AWAKE
    }
}

/// Counters of one side that change on cold paths only. Each counts from zero; observers read them.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct SideCounters {
    /// Waits that found the ring full.
    pub full_waits: AtomicU64,
    /// Waits that found no buffer, or no run long enough.
    pub pool_waits: AtomicU64,
    /// Waits that found nothing to receive.
    pub empty_waits: AtomicU64,
    /// Times a thread of this side slept in the kernel.
    pub sleeps: AtomicU64,
    /// Times a sleep ended because the other side rang.
    pub wakes: AtomicU64,
    /// Times this side rang the other.
    pub rings: AtomicU64,
    /// Tombstones this side skipped.
    pub tombstones: AtomicU64,
    /// What this side has agreed on: version, features and capabilities in 16, 24 and 24 bits from the top; 0 before.
    pub agreed: AtomicU64,
    /// Packets this side refused, by error code 0..8; code 0 is unused.
    pub refused: [AtomicU64; 8],
    /// Packets this side refused with a code of our own, by code - 0x40.
    pub refused_own: [AtomicU64; 8],
    /// OpError packets this side received, by code 0..8; index 0 counts codes outside the list.
    pub heard: [AtomicU64; 8],
}

/// The announcements of one side, alone on its line: senders only read it until somebody sleeps.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Side {
    /// [`SleepersWord`].
    pub sleepers: AtomicU64,
    /// Reserved, zero.
    pub reserved: [AtomicU64; 7],
}

/// The first page: what the region is, who is attached, who sleeps. See `docs/spec.md` for every byte.
#[repr(C)]
#[derive(Debug)]
pub struct Superblock {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`FORMAT`].
    pub format: AtomicU64,
    /// Page size of the machine that made the region, bytes.
    pub page_size: AtomicU64,
    /// Bytes of the region.
    pub region_len: AtomicU64,
    /// Slots of each ring.
    pub slots: AtomicU64,
    /// Buffers of each pool.
    pub buffers: AtomicU64,
    /// Usable bytes of a buffer.
    pub buffer_size: AtomicU64,
    /// Bytes from one buffer to the next.
    pub stride: AtomicU64,
    /// Modes, see [`crate::shm::layout::Modes`].
    pub modes: AtomicU64,
    /// A random number, another for each region.
    pub epoch: AtomicU64,
    /// The lap at which both rings began.
    pub first_lap: AtomicU64,
    /// [`READY`], stored last.
    pub ready: AtomicU64,
    /// Reserved, zero.
    pub reserved: [AtomicU64; 4],
    /// The link's name, zero-padded UTF-8; for people, no part of the protocol.
    pub name: [AtomicU64; NAME_WORDS],
    /// The sleepers of the Primary's side and of the Secondary's.
    pub sides: [Side; 2],
    /// Reserved, zero.
    pub reserved2: [Side; 2],
    /// The seats; seat 0 is the creator's.
    pub seats: [Seat; SEATS],
    /// The counters of the Primary's side and of the Secondary's.
    pub counters: [SideCounters; 2],
    /// The statistics of the Primary's side and of the Secondary's.
    pub metrics: [SideMetrics; 2],
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(!IN_MEMORY || size_of::<Superblock>() <= 4096);
    assert!(!IN_MEMORY || offset_of!(Superblock, name) == 0x80);
    assert!(!IN_MEMORY || offset_of!(Superblock, sides) == 0x100);
    assert!(!IN_MEMORY || offset_of!(Superblock, seats) == 0x200);
    assert!(!IN_MEMORY || offset_of!(Superblock, counters) == 0x400);
    assert!(!IN_MEMORY || offset_of!(Superblock, metrics) == 0x600);
    assert!(!IN_MEMORY || size_of::<SideCounters>() == 0x100);
    assert!(!IN_MEMORY || size_of::<Seat>() == 64 && size_of::<Side>() == 64);
};

static_assertions::assert_impl_all!(Slot: Send, Sync);
static_assertions::assert_impl_all!(Superblock: Send, Sync);

#[cfg(test)]
mod tests;
