//! What all handles of a link share: sending, receiving, waiting, and how it ends.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use hqq_sys::lock::SeatLock;
use hqq_sys::mem::Mapping;
use hqq_sys::{barrier, sock};

use crate::demux::{Demux, LinkContext};
use crate::error::{Error, Result};
use crate::link::waiters::Waiters;
use crate::options::{Clock, Options, Trace};
use crate::shm::region::Region;
use crate::shm::region::owned::OwnedRegion;
use crate::shm::words::{Holder, Role, SeatWord};
use crate::sync::{AtomicU64, Ordering, fence};

use super::meter::Meter;
use super::pace::Pace;
use super::state::{LinkState, Snapshot};
use super::stream::StreamReader;

/// Who is at the other end, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process id as this process sees it; `None` if it lives in a namespace that we cannot see into.
    pub pid: Option<i32>,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

/// How often an idle poll looks at the peer's process.
pub(super) const LIVENESS_EVERY: u64 = 1024;

/// What one end of a link consists of, before it is put together.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) region: OwnedRegion<Mapping>,
    pub(crate) memory: OwnedFd,
    /// This end's payload, in a protected region.
    pub(crate) payload: Option<OwnedFd>,
    /// The proof for others that this process lives.
    pub(crate) _lock: Option<SeatLock>,
    pub(crate) socket: OwnedFd,
    pub(crate) pidfd: OwnedFd,
    /// The first peer. Others may follow.
    pub(crate) peer: Peer,
    pub(crate) peer_seat: Holder,
}

/// One end of a link.
pub(crate) struct LinkCore {
    pub(super) parts: Parts,
    /// The present peer, and its holder's bits. They change only while nobody else uses the link.
    pub(super) peer: Mutex<Peer>,
    pub(super) peer_seat: AtomicU64,
    pub(super) reattachable: bool,
    pub(super) trace: Option<Trace>,
    /// Time, if not the machine's.
    pub(super) clock: Option<Clock>,
    pub(super) state: LinkState,
    pub(super) handles: AtomicU64,
    /// Empty polls since somebody looked at the peer's process.
    pub(super) idle: AtomicU64,
    /// How long waits take of late, nanoseconds.
    pub(super) usual: AtomicU64,
    pub(super) pace: Pace,
    pub(super) meter: CachePadded<Meter>,
    /// How long to spin ahead of a sleep; unless it is set, as experience tells.
    pub(super) spin: Option<Duration>,
    /// The same, as the ends have agreed.
    pub(super) agreed_spin: OnceLock<Duration>,
    pub(super) waiters: Waiters,
    pub(super) demux: Mutex<Demux>,
    /// Held by who sends, where only one thread may.
    pub(super) gate: Mutex<()>,
    /// Held by who gathers a run, or must know that nobody does.
    pub(super) gather: Mutex<()>,
    pub(super) corrupt: OnceLock<(&'static str, u64)>,
    pub(super) reading: Mutex<StreamReader>,
}

impl std::fmt::Debug for LinkCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let facts = self.parts.region.region().facts();
        f.debug_struct("Link")
            .field("role", &self.role())
            .field("peer", &self.peer())
            .field("geometry", &facts.geometry)
            .field("modes", &facts.modes)
            .finish_non_exhaustive()
    }
}

impl LinkCore {
    pub(crate) fn new(parts: Parts, options: &Options) -> Result<Self> {
        let waiters = Waiters::new().map_err(|source| Error::Os { doing: "creating an eventfd", source })?;
        barrier::register();
        sock::quiet(parts.socket.as_fd())
            .map_err(|source| Error::Os { doing: "preparing the doorbell socket", source })?;
        let demux = Mutex::new(Demux::new(parts.region.region(), options));
        let mark = parts.region.region().sent_so_far();
        let ring = parts.region.region().facts().modes.ring;
        // Not what this process may use: one that is bound to a processor has its peer on another.
        let alone = hqq_sys::cpu::online() == 1;
        // On one processor, spinning keeps the peer from working.
        let spin = if alone { Some(Duration::ZERO) } else { options.spin };
        Ok(Self {
            peer: Mutex::new(parts.peer),
            peer_seat: AtomicU64::new(parts.peer_seat.bits()),
            reattachable: options.reattachable,
            parts,
            trace: options.trace.clone(),
            clock: options.clock.clone(),
            state: LinkState::new(ring, options.trace.is_some()),
            handles: AtomicU64::new(1),
            idle: AtomicU64::new(0),
            usual: AtomicU64::new(0),
            pace: Pace::default(),
            meter: CachePadded::new(Meter::new(mark)),
            spin,
            agreed_spin: OnceLock::new(),
            waiters,
            demux,
            gate: Mutex::new(()),
            gather: Mutex::new(()),
            corrupt: OnceLock::new(),
            reading: Mutex::default(),
        })
    }

    #[inline(always)]
    pub(crate) fn region(&self) -> &Region<'static> {
        self.parts.region.region()
    }

    /// As [`LinkContext::now`].
    pub(crate) fn now(&self) -> Duration {
        self.context().now()
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    #[inline(always)]
    pub(crate) fn role(&self) -> Role {
        self.region().role()
    }

    #[inline(always)]
    pub(crate) fn context(&self) -> LinkContext<'_> {
        LinkContext { region: self.region(), trace: &self.trace, clock: &self.clock }
    }

    #[inline(always)]
    pub(super) fn state(&self) -> Snapshot {
        self.state.load()
    }

    /// From now on messages pass through a pipeline of layers.
    pub(crate) fn transform_messages(&self) {
        self.state.transform();
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> Peer {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline(always)]
    pub(super) fn peer_seat(&self) -> Holder {
        Holder::from_bits(self.peer_seat.load(Ordering::Relaxed)).unwrap_or(self.parts.peer_seat)
    }

    #[inline(always)]
    pub(super) fn peer_word(&self) -> SeatWord {
        let number = Holder::seat_of(self.peer_seat.load(Ordering::Relaxed));
        let seat = self.region().seat(number);
        SeatWord::from_word(seat.word.load(Ordering::Acquire))
    }

    /// What the peer's seat says of the peer: of one that has left, if somebody else sits there now.
    pub(super) fn peer_now(&self) -> SeatWord {
        let word = self.peer_word();
        if word.generation() == self.peer_seat().generation() { word } else { SeatWord::vacant(1) }
    }

    /// Whether connections can be used.
    #[inline(always)]
    pub(crate) fn is_split(&self) -> bool {
        self.state().is_split()
    }

    /// Marks the directions as owned by one half each. Only before any connection exists.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if connections have been used.
    pub(crate) fn split(&self) -> Result<()> {
        self.peek(|demux| {
            if self.state().is_demuxed() {
                let what = "a link that has carried connections or control packets cannot be split: share it between threads";
                return Err(Error::Unsupported { what });
            }
            self.state.split(!demux.is_idle());
            Ok(())
        })
    }

    /// Rings the peer if it is among the seats to wake.
    #[inline(always)]
    pub(crate) fn notify_peer(&self, seats: u64) {
        if seats != 0 {
            self.notify_peer_now(seats);
        }
    }

    #[cold]
    pub(super) fn notify_peer_now(&self, seats: u64) {
        if seats >> self.peer_seat().seat() & 1 != 0 {
            self.region().counters(self.role()).rings.fetch_add(1, Ordering::Relaxed);
            self.meter.hurry(self.region().sent_so_far());
            // A peer that is gone is noticed elsewhere.
            let _ = sock::ring(self.parts.socket.as_fd());
        }
    }

    /// Remembers that shared memory is corrupt, if that is what the error says.
    #[cold]
    pub(crate) fn poison(&self, error: &Error) {
        if let Error::Corrupt { what, found } = *error {
            self.corrupt.get_or_init(|| (what, found));
            self.state.corrupt();
            self.waiters.wake();
        }
    }

    pub(crate) fn corrupt_error(&self) -> Error {
        let (what, found) = self.corrupt.get().copied().unwrap_or(("a control word", 0));
        Error::Corrupt { what, found }
    }

    /// Whether both directions still work, as far as this end knows.
    pub(crate) fn is_open(&self) -> bool {
        self.check_liveness();
        let state = self.state();
        let word = self.peer_now();
        state.can_send() && state.can_recv() && !word.no_send() && !word.no_recv()
    }

    /// Ends directions for good: tells the peer by this end's seat, and wakes whoever waits on either side.
    pub(crate) fn shutdown(&self, send: bool, recv: bool) {
        let mut said = 0;
        if send {
            said |= SeatWord::NO_SEND;
            let mut demux = self.demux(0);
            demux.schedule_acks(true, || self.now());
            demux.settle();
            // Still under the lock: who sends under it has found the link open, and has published, or finds it shut.
            self.state.shut_send();
            drop(demux);
            // After this, a sender of ours that found the link open has published; any other sees it shut.
            if !barrier::process_barrier() {
                // Where the kernel refuses, this side's fence pairs with the one that adaptive senders pay.
                fence(Ordering::SeqCst);
            }
        }
        if recv {
            said |= SeatWord::NO_RECV;
            self.state.shut_recv();
        }
        let seat = self.region().seat(self.region().holder().seat());
        seat.word.fetch_or(said, Ordering::AcqRel);
        let _ = sock::ring(self.parts.socket.as_fd());
        self.waiters.wake();
    }

    /// One more handle that keeps the link open.
    pub(crate) fn open_handle(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// One handle less; the last closes the link.
    pub(crate) fn close_handle(&self) {
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shutdown(true, true);
            self.demux(0).clear(self.region());
            self.end_stream();
            // The peer may have left something in the socket that would keep us at its closing.
            sock::purge(self.parts.socket.as_fd());
        }
    }
}
