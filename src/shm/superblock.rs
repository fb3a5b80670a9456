//! The superblock: written when a region is created, checked when a process attaches. No unsafe.

use crate::error::{Error, Result};
use crate::shm::layout::{Geometry, Layout, Modes};
use crate::shm::words::{FORMAT, MAGIC, NAME_WORDS, READY, SeatWord, SideCounters, SleepersWord, Superblock};
use crate::sync::{AtomicU64, Ordering, fence};

/// Parameters of a new region.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'n> {
    /// Number of slots and buffers, and the buffer size.
    pub geometry: Geometry,
    /// Ring mode, wait mode and protection.
    pub modes: Modes,
    /// Page size of this machine, bytes.
    pub page: u64,
    /// A random number that identifies the region.
    pub epoch: u64,
    /// Lap at which both rings begin: 0, or in tests a value near the wrap.
    pub first_lap: u64,
    /// Name for display, truncated to 128 bytes.
    pub name: &'n str,
}

/// Parameters of an existing region, read from its superblock and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Number of slots and buffers, and the buffer size.
    pub geometry: Geometry,
    /// Ring mode, wait mode and protection.
    pub modes: Modes,
    /// Page size, bytes.
    pub page: u64,
    /// The random number that identifies the region.
    pub epoch: u64,
    /// Lap at which both rings began.
    pub first_lap: u64,
}

/// Writes every word of the superblock except the ready word, which it clears.
pub fn write(superblock: &Superblock, setup: &Setup<'_>, layout: &Layout, creator: SeatWord) {
    let store = |word: &AtomicU64, value| word.store(value, Ordering::Relaxed);
    store(&superblock.ready, 0);
    store(&superblock.magic, MAGIC);
    store(&superblock.format, FORMAT);
    store(&superblock.page_size, layout.page);
    store(&superblock.region_len, layout.len);
    store(&superblock.slots, layout.geometry.slots().into());
    store(&superblock.buffers, layout.geometry.buffers().into());
    store(&superblock.buffer_size, layout.geometry.buffer_size());
    store(&superblock.stride, layout.geometry.stride());
    store(&superblock.modes, setup.modes.word());
    store(&superblock.epoch, setup.epoch);
    store(&superblock.first_lap, crate::shm::words::Lap::new(setup.first_lap).number());
    let reserved = superblock.reserved.iter();
    let reserved2 = superblock.reserved2.iter();
    let words = reserved2.flat_map(|side| core::iter::once(&side.sleepers).chain(&side.reserved));
    for word in reserved.chain(words) {
        store(word, 0);
    }
    let mut name = [0u8; NAME_WORDS * 8];
    let mut cut = setup.name.len().min(name.len());
    while !setup.name.is_char_boundary(cut) {
        cut -= 1;
    }
    name[..cut].copy_from_slice(&setup.name.as_bytes()[..cut]);
    for (word, bytes) in superblock.name.iter().zip(name.chunks_exact(8)) {
        let mut le = [0; 8];
        le.copy_from_slice(bytes);
        store(word, u64::from_le_bytes(le));
    }
    for side in &superblock.sides {
        store(&side.sleepers, SleepersWord::AWAKE);
        side.reserved.iter().for_each(|word| store(word, 0));
    }
    for (index, seat) in superblock.seats.iter().enumerate() {
        let word = if index == 0 { creator } else { SeatWord::vacant(1) };
        store(&seat.word, word.word());
        store(&seat.pid, 0);
        seat.reserved.iter().for_each(|word| store(word, 0));
    }
    for counters in &superblock.counters {
        let SideCounters {
            full_waits,
            pool_waits,
            empty_waits,
            sleeps,
            wakes,
            rings,
            tombstones,
            agreed,
            refused,
            refused_own,
            errors_received,
        } = counters;
        let single = [full_waits, pool_waits, empty_waits, sleeps, wakes, rings, tombstones, agreed];
        let many = refused.iter().chain(refused_own).chain(errors_received);
        single.into_iter().chain(many).for_each(|word| store(word, 0));
    }
    for metrics in &superblock.metrics {
        metrics.words().for_each(|word| store(word, 0));
    }
}

/// Stores the ready word. A process that sees it also sees everything that was written before.
pub fn publish(superblock: &Superblock) {
    superblock.ready.store(READY, Ordering::Release);
}

/// Reads and checks a superblock. `page` is the page size of this machine, bytes. Uses relaxed loads and a fence
/// only, so the memory may be mapped read-only.
///
/// # Errors
/// [`Error::ForeignMagic`], [`Error::NotReady`], [`Error::FormatVersion`], [`Error::PageSize`], [`Error::Geometry`],
/// [`Error::Corrupt`].
pub fn read(superblock: &Superblock, page: u64) -> Result<Facts> {
    let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
    let found = load(&superblock.magic);
    if found != MAGIC {
        return Err(Error::ForeignMagic { found });
    }
    if load(&superblock.ready) != READY {
        return Err(Error::NotReady);
    }
    fence(Ordering::Acquire);
    let found = load(&superblock.format);
    if found != FORMAT {
        return Err(Error::FormatVersion { found, supported: FORMAT });
    }
    let found = load(&superblock.page_size);
    if found != page {
        return Err(Error::PageSize { found, ours: page });
    }
    let count = |word, what, rule| {
        let value = load(word);
        u32::try_from(value).map_err(|_| Error::Geometry { what, value, rule })
    };
    let rule = "a power of two from 2 to 1048576";
    let slots = count(&superblock.slots, "slots", rule)?;
    let buffers = count(&superblock.buffers, "buffers", rule)?;
    let geometry = Geometry::new(slots, buffers, load(&superblock.buffer_size))?;
    let found = load(&superblock.modes);
    let modes = Modes::from_word(found).ok_or(Error::Corrupt { what: "the modes", found })?;
    let found = load(&superblock.stride);
    if found != geometry.stride() {
        return Err(Error::Corrupt { what: "the stride", found });
    }
    let layout = Layout::new(geometry, page)?;
    let found = load(&superblock.region_len);
    if found != layout.len {
        return Err(Error::Corrupt { what: "the region's length", found });
    }
    Ok(Facts {
        geometry,
        modes,
        page,
        epoch: load(&superblock.epoch),
        first_lap: load(&superblock.first_lap),
    })
}
