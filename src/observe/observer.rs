//! A region that is mapped for reading only.

use std::os::fd::BorrowedFd;

use hqq_sys::mem::{self, Mapping};

use crate::agreement::{Agreed, Features};
use crate::error::{Error, Result};
use crate::observe::load::load;
use crate::observe::metrics::Metrics;
use crate::observe::stats::Stats;
use crate::shm::region::owned::OwnedViews;
use crate::shm::region::{Facts, Views};
use crate::shm::words::{NAME_WORDS, Role, SeatWord};

/// A region, mapped for reading only.
#[derive(Debug)]
pub struct Observer {
    views: OwnedViews,
}

/// A seat of a region as its words say. The process id is what the occupant wrote there, no proof of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatSeen {
    /// Which seat: 0 to 7.
    pub index: usize,
    /// Whether somebody sits there.
    pub joined: bool,
    /// The occupant's side; `None` while vacant.
    pub role: Option<Role>,
    /// The number of the occupant, or of the next one while vacant: 1 to 31.
    pub generation: u8,
    /// The occupant's process id in its own namespace; 0 if it wrote none.
    pub pid: u64,
    /// It has said that it sends no more.
    pub no_send: bool,
    /// It has said that it receives no more.
    pub no_recv: bool,
}

impl Observer {
    /// Maps the region behind a descriptor, which needs to be open for reading only; it may be closed afterwards.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless it is a sealed memfd: memory whose length can change is not safe to look at.
    /// [`Error::ForeignMagic`], [`Error::NotReady`], [`Error::FormatVersion`], [`Error::PageSize`],
    /// [`Error::Geometry`], [`Error::TooSmallMemory`] or [`Error::Corrupt`] if it holds no region that this build
    /// understands; [`Error::Os`].
    pub fn open(memfd: BorrowedFd<'_>) -> Result<Self> {
        let os = |doing| move |source| Error::Os { doing, source };
        let facts = mem::facts(memfd).map_err(os("looking at a region's memory"))?;
        if !facts.sealed {
            let what = "only sealed memory can be observed; the length of this file can change";
            return Err(Error::Unsupported { what });
        }
        let len = usize::try_from(facts.len).unwrap_or(usize::MAX);
        let mapping = Mapping::map_read_only(memfd, len).map_err(os("mapping a region for reading"))?;
        Ok(Self { views: OwnedViews::new(mapping)? })
    }

    /// The words of the region.
    pub(super) fn views(&self) -> &Views<'_> {
        self.views.views()
    }

    /// What the region was made with, as read when it was opened.
    pub fn facts(&self) -> &Facts {
        self.views.facts()
    }

    /// The name that its creator gave it, for people.
    pub fn name(&self) -> String {
        let words = &self.views().superblock().name;
        let bytes: [[u8; 8]; NAME_WORDS] = core::array::from_fn(|i| load(&words[i]).to_le_bytes());
        let bytes = bytes.as_flattened();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// Its seats, all eight in order. One whose word holds no valid value looks vacant.
    pub fn seats(&self) -> Vec<SeatSeen> {
        let seats = &self.views().superblock().seats;
        let seen = seats.iter().enumerate().map(|(index, seat)| {
            let word = SeatWord::from_word(load(&seat.word));
            let joined = word.is_valid() && word.is_joined();
            SeatSeen {
                index,
                joined,
                role: joined.then(|| word.role()),
                generation: word.generation(),
                pid: load(&seat.pid),
                no_send: joined && word.no_send(),
                no_recv: joined && word.no_recv(),
            }
        });
        seen.collect()
    }

    /// Its counters.
    pub fn stats(&self) -> Stats {
        Stats::read(self.views())
    }

    /// Its statistics; `None` unless one of its sides says that they were agreed on.
    pub fn metrics(&self) -> Option<Metrics> {
        let agreed = |agreed: Agreed| agreed.features.contains(Features::STATISTICS);
        let said = self.stats().sides.iter().any(|side| side.agreed.is_some_and(agreed));
        said.then(|| Metrics::read(self.views()))
    }
}
