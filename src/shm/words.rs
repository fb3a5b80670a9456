//! The words in shared memory: their bit fields, and the values that each may take. No other file shifts their bits.
//!
//! Three rules hold for all control words:
//!
//! - A word names the holder of the thing that it describes.
//! - Zero is never valid, so that a page which was zeroed (by punching a hole into the memory) is detected.
//! - A decoder returns `None` for a value that no transition produces.

use crate::sync::{AtomicU64, IN_MEMORY};

mod metrics;

pub use metrics::SideMetrics;

/// Bytes of a ring slot: one cache line.
pub const SLOT_BYTES: usize = 64;
/// Number of seats: how many processes can be attached to a region at the same time, both sides together.
pub const SEATS: usize = 8;
/// Number of words of the name in the superblock (128 bytes).
pub const NAME_WORDS: usize = 16;
/// First word of every region: the bytes `HQQLINK` and 0x1A, little-endian.
pub const MAGIC: u64 = u64::from_le_bytes(*b"HQQLINK\x1a");
/// Version of the region's format. A region of another version is refused.
pub const FORMAT: u64 = 1;
/// Value of the ready word once the superblock is complete.
pub const READY: u64 = 0x5244_5921_4848_5151;

/// One of the two ends of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The end that created the region. It sends in direction 0.
    Primary,
    /// The end that attached to the region. It sends in direction 1.
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

    /// The direction in which this end sends: 0 for the Primary, 1 for the Secondary.
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

/// Identity of a process in shared words: its seat and its generation there, in eight bits. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder(u8);

impl Holder {
    /// The holder in seat `seat` (0 to 7) with generation `generation` (1 to 31).
    ///
    /// # Panics
    /// If either is out of range.
    pub const fn new(seat: usize, generation: u8) -> Self {
        assert!(seat < SEATS && generation >= 1 && generation < 32);
        Self(generation << 3 | seat as u8)
    }

    /// Decodes the holder field in the low eight bits of `bits`. `None` if the generation is zero.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        let bits = (bits & 0xFF) as u8;
        if bits >> 3 == 0 { None } else { Some(Self(bits)) }
    }

    /// The holder as eight bits.
    pub const fn bits(self) -> u64 {
        self.0 as u64
    }

    /// Number of the seat: 0 to 7.
    pub const fn seat(self) -> usize {
        Self::seat_of(self.bits())
    }

    /// Number of the seat in a holder's bits.
    #[inline(always)]
    pub(crate) const fn seat_of(bits: u64) -> usize {
        (bits & 7) as usize
    }

    /// Generation of the seat's occupant: 1 to 31, then 1 again.
    pub const fn generation(self) -> u8 {
        self.0 >> 3
    }
}

/// A pass over the ring. The lap of a slot grows by one with each release, modulo 2^39.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lap(u64);

impl Lap {
    const BITS: u32 = 39;
    const MASK: u64 = (1 << Self::BITS) - 1;

    /// The lap with number `n`, reduced modulo 2^39.
    pub const fn new(n: u64) -> Self {
        Self(n & Self::MASK)
    }

    /// The lap's number: 0 to 2^39 - 1.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The next lap. After 2^39 - 1 follows 0.
    pub const fn next(self) -> Self {
        Self::new(self.0 + 1)
    }

    /// How many laps `self` is after `other`; negative if it is before. Correct if they are less than 2^38 laps apart.
    pub const fn ahead_of(self, other: Self) -> i64 {
        let shift = 64 - Self::BITS;
        (self.0.wrapping_sub(other.0) << shift) as i64 >> shift
    }
}

/// The difference between a free stamp and a claimed one, and between a published stamp and a taken one: the next state
/// and the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolderBits(u64);

impl HolderBits {
    /// The difference for `holder`.
    pub const fn of(holder: Holder) -> Self {
        let claimed = Stamp::claimed(Lap(0), holder).0 - Stamp::free(Lap(0)).0;
        let taken = Stamp::taken(Lap(0), holder, 0).0 - Stamp::published(Lap(0), 0).0;
        assert!(claimed == taken);
        Self(claimed)
    }
}

/// State of a slot in its lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// No packet of this lap yet; a producer may claim the slot.
    Free,
    /// This producer is writing a packet.
    Claimed(Holder),
    /// The packet is committed; a consumer may take it.
    Published,
    /// This consumer is reading the packet.
    Taken(Holder),
}

/// First word of a slot: state, holder and lap, and the opcode in the low eight bits.
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

    /// The stamp of a free slot.
    #[inline(always)]
    pub const fn free(lap: Lap) -> Self {
        Self::pack(lap, Self::FREE, 0, 0)
    }

    /// The stamp of a slot that producer `by` has claimed.
    #[inline(always)]
    pub const fn claimed(lap: Lap, by: Holder) -> Self {
        Self::pack(lap, Self::CLAIMED, by.bits(), 0)
    }

    /// Changes a free stamp to claimed, or a published stamp to taken, by the holder of `holder_bits`.
    #[inline(always)]
    pub const fn held_by(self, holder_bits: HolderBits) -> Self {
        Self(self.0 + holder_bits.0)
    }

    /// The stamp of a slot with a committed packet of opcode `op`. A tombstone is such a packet.
    #[inline(always)]
    pub const fn published(lap: Lap, op: u8) -> Self {
        Self::pack(lap, Self::PUBLISHED, 0, op)
    }

    /// The stamp of a slot whose packet, of opcode `op`, consumer `by` has taken.
    #[inline(always)]
    pub const fn taken(lap: Lap, by: Holder, op: u8) -> Self {
        Self::pack(lap, Self::TAKEN, by.bits(), op)
    }

    /// Wraps a word as it was loaded. It may have any value.
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

    /// Decodes the state and its holder. `None` for a word that no transition produces.
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

/// A ring slot: one cache line with a stamp and a packet.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Slot {
    /// A [`Stamp`], which includes the opcode.
    pub stamp: AtomicU64,
    /// The seven operands.
    pub operands: [AtomicU64; 7],
}

impl Slot {
    /// Makes a free slot of the given lap in ordinary memory, for models and tests.
    pub fn new(lap: Lap) -> Self {
        Self {
            stamp: AtomicU64::new(Stamp::free(lap).word()),
            operands: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

const _: () = assert!(!IN_MEMORY || core::mem::size_of::<Slot>() == SLOT_BYTES);

/// State of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferState {
    /// Not in use.
    Free,
    /// Allocated by this holder of the sending side: on loan, or in flight. If a slot names the buffer, the slot takes
    /// precedence over this word.
    Owned(Holder),
    /// Received by this holder of the receiving side, which may be reading it.
    Held(Holder),
    /// Allocated by this holder of the sending side for its next loan.
    Spare(Holder),
}

/// Word of a buffer in its pool.
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
    /// The word of a buffer that is not in use.
    pub const FREE: Self = Self(1);

    /// The word of a buffer that sender `by` has on loan or in flight.
    #[inline(always)]
    pub const fn owned(by: Holder) -> Self {
        Self(by.bits() << 8 | 2)
    }

    /// The word of a buffer that receiver `by` holds.
    #[inline(always)]
    pub const fn held(by: Holder) -> Self {
        Self(by.bits() << 8 | 3)
    }

    /// The word of a buffer that sender `by` keeps for its next loan.
    #[inline(always)]
    pub const fn spare(by: Holder) -> Self {
        Self(by.bits() << 8 | 4)
    }

    /// Wraps a word as it was loaded.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word to store.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Decodes the state and its holder. `None` for a word that no transition produces.
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

/// Lock word of a pool: only its holder may gather a run of several buffers. 1 while vacant; else 2 in the low byte and
/// the holder in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseWord(u64);

impl LeaseWord {
    /// No process is gathering a run.
    pub const VACANT: Self = Self(1);

    /// The word while `by` is gathering a run.
    pub const fn leased(by: Holder) -> Self {
        Self(by.bits() << 8 | 2)
    }

    /// Wraps a word as it was loaded.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word to store.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Decodes the holder: `Some(None)` while vacant. `None` for a word that no transition produces.
    pub const fn holder(self) -> Option<Option<Holder>> {
        match (self.0 & !0xFF00, Holder::from_bits(self.0 >> 8)) {
            (1, _) if self.0 == 1 => Some(None),
            (2, Some(by)) => Some(Some(by)),
            _ => None,
        }
    }
}

/// State of a seat and of its occupant.
///
/// | bits | field |
/// |---|---|
/// | 0..3 | state: 1 vacant, 2 joined |
/// | 3 | side: 0 Primary, 1 Secondary |
/// | 4 | the occupant sends no more; always set while vacant |
/// | 5 | the occupant receives no more; always set while vacant |
/// | 6 | locked: the occupant holds a file lock on the seat's byte of the memory, which ends with its process |
/// | 8..13 | generation of the occupant, or of the next one while vacant (1 to 31) |
/// | 16..24 | recoverers: bit `16 + s` while the occupant of seat `s` recovers the dead occupant of this one |
/// | the rest | reserved, zero |
///
/// ```text
/// vacant(g) -> joined(g) -> vacant(g + 1)          the occupant left, or was recovered
///                 |  ^
///                 v  |
///              joined(g), recoverers                its occupant is dead
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatWord(u64);

impl SeatWord {
    /// Bit: the occupant sends no more.
    pub const NO_SEND: u64 = 1 << 4;
    /// Bit: the occupant receives no more.
    pub const NO_RECV: u64 = 1 << 5;
    /// Bit: the occupant holds the lock on the seat's byte.
    pub const LOCKED: u64 = 1 << 6;

    const VACANT: u64 = Self::NO_SEND | Self::NO_RECV | 1;
    const RECOVERERS: u64 = 0xFF << 16;

    /// The word of a vacant seat whose next occupant gets `generation`.
    pub const fn vacant(generation: u8) -> Self {
        Self((generation as u64) << 8 | Self::VACANT)
    }

    /// The word of a seat joined by `holder` on the side of `role`. `locked` if it holds the lock on the seat's byte.
    pub const fn joined(holder: Holder, role: Role, locked: bool) -> Self {
        let locked = if locked { Self::LOCKED } else { 0 };
        Self((holder.generation() as u64) << 8 | locked | (role.direction() as u64) << 3 | 2)
    }

    /// The word of the seat after its present occupant is gone: vacant, with the next generation.
    pub const fn vacated(self) -> Self {
        let generation = self.generation();
        Self::vacant(if generation >= 31 { 1 } else { generation + 1 })
    }

    /// The bit of recoverer `seat`: set while that seat's occupant recovers this one.
    pub const fn recoverer(seat: usize) -> u64 {
        1 << (16 + seat)
    }

    /// The same word with `seat` among the recoverers.
    pub const fn with_recoverer(self, seat: usize) -> Self {
        Self(self.0 | Self::recoverer(seat))
    }

    /// Wraps a word as it was loaded.
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

    /// Whether the seat has an occupant, living or dead.
    pub const fn is_joined(self) -> bool {
        self.0 & 7 == 2
    }

    /// Whether `holder`, living or dead, is the occupant. The caller checks that the seat's number is the holder's.
    pub const fn is_occupied_by(self, holder: Holder) -> bool {
        self.is_joined() && self.generation() == holder.generation()
    }

    /// Side of the occupant.
    pub const fn role(self) -> Role {
        if self.0 >> 3 & 1 == 0 { Role::Primary } else { Role::Secondary }
    }

    /// The generation field.
    pub const fn generation(self) -> u8 {
        (self.0 >> 8 & 0x1F) as u8
    }

    /// Bits of the seats whose occupants recover this one: bit `s` for seat `s`.
    pub const fn recoverers(self) -> u64 {
        (self.0 & Self::RECOVERERS) >> 16
    }

    /// Whether the occupant holds the lock on the seat's byte.
    pub const fn is_locked(self) -> bool {
        self.0 & Self::LOCKED != 0
    }

    /// Whether the occupant sends no more. True for a vacant seat.
    #[inline(always)]
    pub const fn no_send(self) -> bool {
        self.0 & Self::NO_SEND != 0
    }

    /// Whether the occupant receives no more. True for a vacant seat.
    #[inline(always)]
    pub const fn no_recv(self) -> bool {
        self.0 & Self::NO_RECV != 0
    }
}

/// A seat: one cache line with its word, and with a process id for display. Only the kernel tells reliably which
/// process the occupant is and whether it lives.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Seat {
    /// A [`SeatWord`].
    pub word: AtomicU64,
    /// Process id of the occupant, in its own pid namespace.
    pub pid: AtomicU64,
    /// Reserved, zero.
    pub reserved: [AtomicU64; 6],
}

/// Event that a sleeping process waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A packet to receive.
    Data,
    /// A free slot or buffer to send with.
    Space,
}

/// Announcements of one side's sleepers: bit `seat` for data, bit `8 + seat` for space. Bit 63 is always set, so that
/// the word is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepersWord(u64);

impl SleepersWord {
    /// The word without announcements.
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

    /// Wraps a word as it was loaded.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// Bits of the seats that announced `want`: bit `s` for seat `s`.
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

/// Counters of one side, for observers. They change on cold paths only, and start at zero.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct SideCounters {
    /// Waits for a free ring slot.
    pub full_waits: AtomicU64,
    /// Waits for a free buffer, or for a long enough run.
    pub pool_waits: AtomicU64,
    /// Waits for a packet to receive.
    pub empty_waits: AtomicU64,
    /// Times a thread of this side slept in the kernel.
    pub sleeps: AtomicU64,
    /// Times a sleep ended because the other side rang.
    pub wakes: AtomicU64,
    /// Times this side rang the other.
    pub rings: AtomicU64,
    /// Tombstones that this side skipped.
    pub tombstones: AtomicU64,
    /// Result of this side's negotiation: version, features and capabilities in 16, 24 and 24 bits, from the top. 0
    /// before.
    pub agreed: AtomicU64,
    /// Packets that this side refused, by the specification's error codes 1 to 7. Index 0 is unused.
    pub refused: [AtomicU64; 8],
    /// Packets that this side refused with an error code of HQQ's own, by code - 0x40.
    pub refused_own: [AtomicU64; 8],
    /// OpError packets that this side received, by the specification's error codes. Index 0 counts all other codes.
    pub errors_received: [AtomicU64; 8],
}

/// Announcements of one side, on a cache line of their own: the other side only reads it while no thread sleeps.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Side {
    /// A [`SleepersWord`].
    pub sleepers: AtomicU64,
    /// Reserved, zero.
    pub reserved: [AtomicU64; 7],
}

/// First page of a region: its parameters, seats, sleepers and counters. `docs/spec.md` describes every byte.
#[repr(C)]
#[derive(Debug)]
pub struct Superblock {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`FORMAT`].
    pub format: AtomicU64,
    /// Page size of the machine that made the region, bytes.
    pub page_size: AtomicU64,
    /// Length of the region, bytes.
    pub region_len: AtomicU64,
    /// Number of slots of each ring.
    pub slots: AtomicU64,
    /// Number of buffers of each pool.
    pub buffers: AtomicU64,
    /// Usable size of a buffer, bytes.
    pub buffer_size: AtomicU64,
    /// Distance from one buffer to the next, bytes.
    pub stride: AtomicU64,
    /// [`Modes`](crate::shm::layout::Modes) of the region.
    pub modes: AtomicU64,
    /// A random number that identifies the region.
    pub epoch: AtomicU64,
    /// Lap at which both rings began.
    pub first_lap: AtomicU64,
    /// [`READY`], stored last.
    pub ready: AtomicU64,
    /// Reserved, zero.
    pub reserved: [AtomicU64; 4],
    /// Name of the link for display: UTF-8, padded with zeros.
    pub name: [AtomicU64; NAME_WORDS],
    /// Sleepers of the Primary's side and of the Secondary's.
    pub sides: [Side; 2],
    /// Reserved, zero.
    pub reserved2: [Side; 2],
    /// Seats. Seat 0 is the creator's.
    pub seats: [Seat; SEATS],
    /// Counters of the Primary's side and of the Secondary's.
    pub counters: [SideCounters; 2],
    /// Metrics of the Primary's side and of the Secondary's.
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
