//! Layer 1: the superblock: what it says when a region is made, and what is believed of it on attaching. No unsafe.

use crate::error::{Error, Result};
use crate::shm::layout::{Geometry, Layout, Modes};
use crate::shm::words::{FORMAT, MAGIC, NAME_WORDS, READY, SeatWord, SideCounters, SleepersWord, Superblock};
use crate::sync::{AtomicU64, Ordering, fence};

/// What the creator of a region decides.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'n> {
    /// Slots and buffers.
    pub geometry: Geometry,
    /// Who may use the rings, and how calls wait.
    pub modes: Modes,
    /// Bytes of a page of this machine.
    pub page: u64,
    /// A random number.
    pub epoch: u64,
    /// The lap at which the rings begin; 0, or near the wrap in tests.
    pub first_lap: u64,
    /// A name for people, cut to 128 bytes.
    pub name: &'n str,
}

/// What a region says of itself, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Slots and buffers.
    pub geometry: Geometry,
    /// The modes.
    pub modes: Modes,
    /// Page size, bytes.
    pub page: u64,
    /// Its random number.
    pub epoch: u64,
    /// The lap at which the rings began.
    pub first_lap: u64,
}

/// Writes everything but the ready word.
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
            heard,
        } = counters;
        let single = [full_waits, pool_waits, empty_waits, sleeps, wakes, rings, tombstones, agreed];
        let many = refused.iter().chain(refused_own).chain(heard);
        single.into_iter().chain(many).for_each(|word| store(word, 0));
    }
    for metrics in &superblock.metrics {
        metrics.words().for_each(|word| store(word, 0));
    }
}

/// Stores the ready word: what was written before is complete for whoever sees it.
pub fn publish(superblock: &Superblock) {
    superblock.ready.store(READY, Ordering::Release);
}

/// Reads and checks a superblock, with no more than relaxed loads and a fence: it may lie in read-only memory.
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
