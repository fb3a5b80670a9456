//! A region that is mapped read-only.

use std::ops::Range;
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

/// Why memory with holes is not read.
const HOLES: &str = "memory whose control words have holes cannot be observed, as reading would fill them: pass a region whose \
                     creator reserved them, as HQQ does";

/// A region that is mapped read-only.
#[derive(Debug)]
pub struct Observer {
    views: OwnedViews,
}

/// State of a seat, as its words have it. They are no proof of the occupant's identity or life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatSeen {
    /// Number of the seat: 0 to 7.
    pub index: usize,
    /// Whether the seat has an occupant.
    pub joined: bool,
    /// Side of the occupant. `None` while vacant.
    pub role: Option<Role>,
    /// Generation of the occupant, or of the next one while vacant: 1 to 31.
    pub generation: u8,
    /// Process id that the occupant stored, in its own pid namespace. 0 if it stored none.
    pub pid: u64,
    /// Whether the occupant has announced that it sends no more.
    pub no_send: bool,
    /// Whether the occupant has announced that it receives no more.
    pub no_recv: bool,
}

impl Observer {
    /// Maps the region of `memfd` read-only. Read access to the descriptor suffices, and it may be closed afterwards.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless `memfd` is a sealed memfd: reading memory whose length can change may kill the
    /// process. It is returned too if a page of the control words is missing, as reading would allocate it: the creator
    /// of a region reserves them. [`Error::ForeignMagic`], [`Error::NotReady`], [`Error::FormatVersion`], [`Error::PageSize`],
    /// [`Error::Geometry`], [`Error::TooSmallMemory`] or [`Error::Corrupt`] if it contains no region that this build
    /// supports; [`Error::Os`].
    pub fn open(memfd: BorrowedFd<'_>) -> Result<Self> {
        let os = |doing| move |source| Error::Os { doing, source };
        let facts = mem::facts(memfd).map_err(os("inspecting a region's memory"))?;
        if !facts.sealed {
            let what = "only a sealed memfd can be observed, as the length of other files can change: pass a region's descriptor";
            return Err(Error::Unsupported { what });
        }
        let len = usize::try_from(facts.len).unwrap_or(usize::MAX);
        let whole = |ranges: &[Range<u64>]| match mem::has_holes(memfd, ranges) {
            Ok(false) => Ok(()),
            Ok(true) => Err(Error::Unsupported { what: HOLES }),
            Err(source) => Err(Error::Os { doing: "inspecting a region's memory", source }),
        };
        // The page of the superblock says where the other control words are.
        whole(std::slice::from_ref(&(0..facts.len.min(mem::page_size() as u64))))?;
        let mapping = Mapping::map_read_only(memfd, len).map_err(os("mapping a region for reading"))?;
        let views = OwnedViews::new(mapping)?;
        whole(&views.views().layout().control())?;
        Ok(Self { views })
    }

    /// Words of the region.
    pub(super) fn views(&self) -> &Views<'_> {
        self.views.views()
    }

    /// Parameters of the region, as read when it was opened.
    pub fn facts(&self) -> &Facts {
        self.views.facts()
    }

    /// Name of the link, for display, as its creator stored it.
    pub fn name(&self) -> String {
        let words = &self.views().superblock().name;
        let bytes: [[u8; 8]; NAME_WORDS] = core::array::from_fn(|i| load(&words[i]).to_le_bytes());
        let bytes = bytes.as_flattened();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// State of the eight seats, in order. A seat whose word is not valid counts as vacant.
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

    /// Counters of the region.
    pub fn stats(&self) -> Stats {
        Stats::read(self.views())
    }

    /// Metrics of the region. `None` unless one of its sides has negotiated them ([`Features::STATISTICS`]).
    pub fn metrics(&self) -> Option<Metrics> {
        let agreed = |agreed: Agreed| agreed.features.contains(Features::STATISTICS);
        let said = self.stats().sides.iter().any(|side| side.agreed.is_some_and(agreed));
        said.then(|| Metrics::read(self.views()))
    }
}
