//! Geometry, modes and layout of a region: from the number of slots and buffers to page-aligned offsets.
//!
//! ```text
//! superblock | ring 0, pool 0, byte counters 0 | buffers 0 | ring 1, pool 1, byte counters 1 | buffers 1
//! ```
//!
//! Every section between bars begins on a page. [`Layout::new`] checks that all offsets fit.

use crate::error::{Error, Result};
use crate::shm::words::SLOT_BYTES;

/// Size of a cache line, bytes. The distance between buffers is a multiple of it.
pub const LINE: u64 = 64;
/// Maximum number of slots of a ring.
pub const MAX_SLOTS: u32 = 1 << 20;
/// Maximum number of buffers of a pool.
pub const MAX_BUFFERS: u32 = 1 << 20;

/// How many threads may send into a ring, and how many may receive from it, at the same time. Fixed when the region is
/// created, for both directions.
///
/// The single modes need no atomic read-modify-write on the ring. **Split a link in such a mode**
/// ([`split`](crate::StandardLink::split)): a link that is not split serializes its threads with a private lock, which
/// costs more than the mode saves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RingMode {
    /// Many producers, many consumers.
    #[default]
    Mpmc,
    /// One producer, one consumer.
    Spsc,
    /// Many producers, one consumer.
    Mpsc,
    /// One producer, many consumers.
    Spmc,
}

impl RingMode {
    /// Whether only one thread of the sending side sends.
    #[inline(always)]
    pub const fn single_producer(self) -> bool {
        matches!(self, Self::Spsc | Self::Spmc)
    }

    /// Whether only one thread of the receiving side receives.
    #[inline(always)]
    pub const fn single_consumer(self) -> bool {
        matches!(self, Self::Spsc | Self::Mpsc)
    }
}

/// How a blocked call waits. Fixed when the region is created, for both ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WaitMode {
    /// Polls for a short, adaptive time, then sleeps in the kernel. Each send needs a memory fence.
    #[default]
    Adaptive,
    /// Polls without end. A send needs no fence.
    Spin,
}

/// Modes word of the superblock: bit 0 single producer, bit 1 single consumer, bit 16 spin only, bit 17 protected,
/// bit 63 always set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// Mode of both rings.
    pub ring: RingMode,
    /// How blocked calls wait.
    pub wait: WaitMode,
    /// Whether each end writes its payload to memory of its own, which the peer can only read. The payload sections
    /// of the region are then unused.
    pub protected: bool,
}

impl Modes {
    const SET: u64 = 1 << 63;
    const SPIN: u64 = 1 << 16;
    const PROTECTED: u64 = 1 << 17;

    /// The word to store.
    pub const fn word(self) -> u64 {
        let spin = matches!(self.wait, WaitMode::Spin) as u64 * Self::SPIN;
        let protected = self.protected as u64 * Self::PROTECTED;
        Self::SET
            | spin
            | protected
            | self.ring.single_producer() as u64
            | (self.ring.single_consumer() as u64) << 1
    }

    /// Decodes a modes word. `None` if it has an unknown bit, or bit 63 is not set.
    pub const fn from_word(word: u64) -> Option<Self> {
        let ring = match word & 3 {
            0 => RingMode::Mpmc,
            1 => RingMode::Spmc,
            2 => RingMode::Mpsc,
            _ => RingMode::Spsc,
        };
        let wait = if word & Self::SPIN == 0 { WaitMode::Adaptive } else { WaitMode::Spin };
        let modes = Self { ring, wait, protected: word & Self::PROTECTED != 0 };
        if modes.word() == word { Some(modes) } else { None }
    }
}

/// Number of slots and buffers of each direction, and the size of a buffer.
///
/// ```
/// use hqq::shm::layout::{Geometry, required_bytes};
///
/// let geometry = Geometry::new(1024, 64, 16 * 1024)?;
/// assert_eq!(geometry.stride(), 16 * 1024);
/// assert!(required_bytes(&geometry, 4096)? > 2 * 64 * 16 * 1024);
/// # Ok::<(), hqq::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    slots: u32,
    buffers: u32,
    buffer_size: u64,
}

impl Geometry {
    /// Checks a geometry of `slots` ring slots and `buffers` buffers of `buffer_size` bytes in each direction.
    ///
    /// # Errors
    /// [`Error::Geometry`] unless `slots` and `buffers` are powers of two of at least 2 and at most 2^20, and
    /// `buffer_size` is a multiple of 8 of at least 8 and at most 2^40 (specification, "Memory Alignment").
    pub const fn new(slots: u32, buffers: u32, buffer_size: u64) -> Result<Self> {
        const COUNT: &str = "a power of two from 2 to 1048576";
        if !slots.is_power_of_two() || slots < 2 || slots > MAX_SLOTS {
            return Err(Error::Geometry { what: "slots", value: slots as u64, rule: COUNT });
        }
        if !buffers.is_power_of_two() || buffers < 2 || buffers > MAX_BUFFERS {
            return Err(Error::Geometry { what: "buffers", value: buffers as u64, rule: COUNT });
        }
        if buffer_size < 8 || buffer_size % 8 != 0 || buffer_size > 1 << 40 {
            return Err(Error::Geometry {
                what: "buffer_size",
                value: buffer_size,
                rule: "a multiple of 8 from 8 to 1099511627776",
            });
        }
        Ok(Self { slots, buffers, buffer_size })
    }

    /// Number of slots of each ring.
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Number of buffers of each pool.
    pub const fn buffers(&self) -> u32 {
        self.buffers
    }

    /// Usable size of a buffer, bytes.
    pub const fn buffer_size(&self) -> u64 {
        self.buffer_size
    }

    /// Distance from one buffer's start to the next, bytes: the size rounded up to a cache line.
    pub const fn stride(&self) -> u64 {
        self.buffer_size.next_multiple_of(LINE)
    }

    /// Usable size of a run of `count` consecutive buffers, bytes.
    #[inline]
    pub const fn run_bytes(&self, count: u32) -> u64 {
        if count == 0 { 0 } else { (count as u64 - 1) * self.stride() + self.buffer_size }
    }

    /// Number of consecutive buffers that hold `len` bytes. May exceed [`buffers`](Self::buffers).
    #[inline]
    pub const fn run_for(&self, len: u64) -> u64 {
        if len <= self.buffer_size { 1 } else { 1 + (len - self.buffer_size).div_ceil(self.stride()) }
    }
}

/// Offsets of the sections of one direction, in bytes from the region's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectionLayout {
    /// Slots of the ring.
    pub ring: u64,
    /// Words of the pool's buffers.
    pub pool: u64,
    /// Lease of the pool.
    pub lease: u64,
    /// Counters of payload bytes sent, one word for each slot.
    pub sent: u64,
    /// Counters of payload bytes received, one word for each slot.
    pub received: u64,
    /// Payload buffers.
    pub buffers: u64,
}

/// Offsets of all sections of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Number of slots and buffers, and the buffer size.
    pub geometry: Geometry,
    /// Page size, bytes.
    pub page: u64,
    /// The directions: from the Primary to the Secondary, and back.
    pub directions: [DirectionLayout; 2],
    /// Length of the region, bytes.
    pub len: u64,
}

impl Layout {
    /// Computes the layout of `geometry` on pages of `page` bytes.
    ///
    /// # Errors
    /// [`Error::Geometry`] unless the page size is a power of two from 4,096 to 2^30, and the region has at most 2^46
    /// bytes.
    pub const fn new(geometry: Geometry, page: u64) -> Result<Self> {
        if !page.is_power_of_two() || page < 4096 || page > 1 << 30 {
            return Err(Error::Geometry {
                what: "page size",
                value: page,
                rule: "a power of two from 4096 to 1073741824",
            });
        }
        // Nothing overflows: sizes are at most 2^41 and counts at most 2^20.
        const fn direction(start: u64, geometry: &Geometry, page: u64) -> (DirectionLayout, u64) {
            let slots = geometry.slots as u64;
            let buffers = geometry.buffers as u64;
            let ring = start;
            let pool = ring + slots * SLOT_BYTES as u64;
            let lease = pool + (buffers * 8).next_multiple_of(LINE);
            let sent = lease + LINE;
            let received = sent + (slots * 8).next_multiple_of(LINE);
            let control_end = received + (slots * 8).next_multiple_of(LINE);
            let at = control_end.next_multiple_of(page);
            let end = (at + buffers * geometry.stride()).next_multiple_of(page);
            (DirectionLayout { ring, pool, lease, sent, received, buffers: at }, end)
        }
        let (first, middle) = direction(page, &geometry, page);
        let (second, len) = direction(middle, &geometry, page);
        if len > 1 << 46 {
            return Err(Error::Geometry {
                what: "the whole region",
                value: len,
                rule: "at most 70368744177664 bytes: use fewer or smaller buffers",
            });
        }
        Ok(Self { geometry, page, directions: [first, second], len })
    }
}

impl Layout {
    /// Size of one direction's payload, bytes, rounded up to a page.
    pub const fn payload_len(&self) -> u64 {
        (self.geometry.buffers as u64 * self.geometry.stride()).next_multiple_of(self.page)
    }

    /// Ranges of the region that hold no payload, in bytes from its start.
    pub const fn control(&self) -> [core::ops::Range<u64>; 2] {
        let [first, second] = &self.directions;
        [0..first.buffers, second.ring..second.buffers]
    }
}

/// Number of private words for the cursors of each direction. They fill whole cache lines.
pub const CURSOR_WORDS: usize = 16;

/// Size of a region with this geometry on pages of `page` bytes, in bytes (the specification's `sizeStandardLink`).
///
/// # Errors
/// As [`Layout::new`].
pub fn required_bytes(geometry: &Geometry, page: u64) -> Result<u64> {
    Ok(Layout::new(*geometry, page)?.len)
}

/// Number of `u64` words of private memory that an end needs: its cursors, and a lent flag for each buffer. The peer
/// cannot change them.
pub const fn required_scratch(geometry: &Geometry) -> usize {
    CURSOR_WORDS * 2 + 2 * geometry.buffers as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(slots: u32, buffers: u32, size: u64) -> Geometry {
        Geometry::new(slots, buffers, size).unwrap()
    }

    #[test]
    fn geometry_says_which_rule_failed() {
        for (slots, buffers, size, what) in [
            (0, 2, 8, "slots"),
            (1, 2, 8, "slots"),
            (3, 2, 8, "slots"),
            (1 << 21, 2, 8, "slots"),
            (2, 0, 8, "buffers"),
            (2, 6, 8, "buffers"),
            (2, 2, 0, "buffer_size"),
            (2, 2, 12, "buffer_size"),
            (2, 2, (1 << 40) + 8, "buffer_size"),
        ] {
            match Geometry::new(slots, buffers, size) {
                Err(Error::Geometry { what: found, .. }) => assert_eq!(found, what),
                other => panic!("{slots} {buffers} {size}: {other:?}"),
            }
        }
    }

    #[test]
    fn sections_do_not_overlap_and_begin_on_pages() {
        for g in [geometry(2, 2, 8), geometry(1024, 64, 16384), geometry(4096, 2, 1 << 24)] {
            for page in [4096, 16384, 65536] {
                let layout = Layout::new(g, page).unwrap();
                let mut end = page;
                for d in layout.directions {
                    assert_eq!(d.ring, end);
                    assert!(d.ring % page == 0 && d.buffers % page == 0);
                    assert!(d.ring < d.pool && d.pool < d.lease && d.lease < d.sent);
                    assert!(d.sent < d.received && d.received < d.buffers);
                    assert!(d.pool % 64 == 0 && d.lease % 64 == 0 && d.sent % 64 == 0);
                    end = (d.buffers + u64::from(g.buffers()) * g.stride()).next_multiple_of(page);
                }
                assert_eq!(end, layout.len);
            }
        }
    }

    #[test]
    fn runs_cover_what_they_must() {
        let g = geometry(2, 8, 72);
        assert_eq!(g.stride(), 128);
        for len in 0..=g.run_bytes(8) {
            let count = g.run_for(len);
            assert!(g.run_bytes(count as u32) >= len);
            assert!(count == 1 || g.run_bytes(count as u32 - 1) < len);
        }
        assert_eq!(g.run_for(g.run_bytes(8) + 1), 9);
    }

    #[test]
    fn modes_round_trip_and_unknown_bits_are_refused() {
        for ring in [RingMode::Mpmc, RingMode::Spsc, RingMode::Mpsc, RingMode::Spmc] {
            for wait in [WaitMode::Adaptive, WaitMode::Spin] {
                for protected in [false, true] {
                    let modes = Modes { ring, wait, protected };
                    assert_eq!(Modes::from_word(modes.word()), Some(modes));
                    assert_eq!(Modes::from_word(modes.word() | 1 << 40), None);
                }
            }
        }
        assert_eq!(Modes::from_word(0), None);
    }
}
