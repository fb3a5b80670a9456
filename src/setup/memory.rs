//! The memory of a link: how the Primary makes the region, how each end makes its payload in a protected region, and what is
//! checked of memory that a peer passes.

use std::os::fd::{AsFd, OwnedFd};

use hqq_sys::lock::{self, SeatLock};
use hqq_sys::mem::{self, Mapping};
use hqq_sys::{peer, random};

use crate::error::{Error, Result};
use crate::options::Options;
use crate::shm::layout::Layout;
use crate::shm::region::Setup;
use crate::shm::region::owned::OwnedRegion;
use crate::sync::Ordering;

/// Names of operations that fail because of the peer's memory. Such a failure ends the handshake and not the call of the
/// listener.
pub(crate) const INSPECTING: &str = "inspecting the peer's payload";
pub(crate) const MAPPING: &str = "mapping the peer's payload";

/// Name of the operation that takes the lock of a seat.
pub(super) const LOCKING: &str = "locking a seat of the region";

/// Whether a call failed because this process, or the machine, has no descriptor left. Linux's numbers of `EMFILE` and
/// `ENFILE`, which have no kind.
pub(super) fn lacks_descriptors(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// Converts an error of the operating system; `doing` says what the call was for.
pub(crate) fn os(doing: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Os { doing, source }
}

/// A region that has just been made, with the descriptors and the lock that belong to it.
pub(super) struct NewRegion {
    pub(super) region: OwnedRegion<Mapping>,
    pub(super) memory: OwnedFd,
    /// Memory of the Primary's payload, if the region is protected.
    pub(super) payload: Option<OwnedFd>,
    pub(super) lock: Option<SeatLock>,
}

/// Makes memory for the payload that this end sends: mapped for writing here, and sealed against writing elsewhere.
pub(super) fn create_payload(layout: &Layout, name: &str) -> Result<(OwnedFd, Mapping)> {
    let len = layout.payload_len();
    let memory = mem::create(name, len).map_err(os("reserving memory for the payload"))?;
    let mapping = Mapping::map(memory.as_fd(), len as usize).map_err(os("mapping the payload"))?;
    mem::seal_contents(memory.as_fd()).map_err(os("sealing the payload"))?;
    Ok((memory, mapping))
}

/// Maps the memory of the peer's payload for reading, after checking it.
pub(super) fn map_peer_payload(layout: &Layout, memory: &OwnedFd) -> Result<Mapping> {
    let facts = mem::facts(memory.as_fd()).map_err(os(INSPECTING))?;
    check_memfd(&facts)?;
    if facts.len != layout.payload_len() {
        return Err(Error::Handshake {
            what: "the memory that the peer passed for its payload has a wrong length",
            found: Some(facts.len),
        });
    }
    Mapping::map_read_only(memory.as_fd(), facts.len as usize).map_err(os(MAPPING))
}

/// Checks that memory which a peer passed can be mapped safely: a memfd that cannot shrink.
pub(super) fn check_memfd(facts: &mem::Facts) -> Result<()> {
    let wrong = |what| Err(Error::Handshake { what, found: Some(facts.len) });
    match (facts.is_memfd, facts.sealed) {
        (false, _) => wrong("the memory that the peer passed is not a memfd"),
        (_, false) => wrong("the memory that the peer passed is not sealed against truncation"),
        _ => Ok(()),
    }
}

impl NewRegion {
    /// Makes a region with the geometry and modes of `options`. `name` is stored in it, for observers.
    pub(super) fn new(options: &Options, name: &str) -> Result<Self> {
        let geometry = options.geometry()?;
        let page = mem::page_size() as u64;
        let layout = Layout::new(geometry, page)?;
        let title = format!("hqq:{name}");
        let memory = if options.modes.protected {
            mem::create_sparse(&title, layout.len, &layout.control())
        } else {
            mem::create(&title, layout.len)
        };
        let memory = memory.map_err(os("reserving memory for the region"))?;
        mem::seal(memory.as_fd()).map_err(os("sealing the region's memory"))?;
        let mapping = Mapping::map(memory.as_fd(), layout.len as usize).map_err(os("mapping the region"))?;
        let lock = match lock::lock(memory.as_fd(), 0) {
            Err(error) if lacks_descriptors(&error) => return Err(os(LOCKING)(error)),
            // Without the lock, only the peer can tell when this process is dead.
            other => other.unwrap_or(None),
        };
        let epoch = random::number().map_err(os("reading a random number"))?;
        let setup = Setup { geometry, modes: options.modes, page, epoch, first_lap: 0, name };
        let mut region = OwnedRegion::create(mapping, &setup, lock.is_some())?;
        region.limit_messages(options.max_message);
        region.region().seat(0).pid.store(peer::pid() as u64, Ordering::Relaxed);
        let mut payload = None;
        if options.modes.protected {
            let (memory, mapping) = create_payload(&layout, &format!("hqq-payload:{name}"))?;
            region.set_payload(0, mapping)?;
            payload = Some(memory);
        }
        Ok(Self { region, memory, payload, lock })
    }
}
