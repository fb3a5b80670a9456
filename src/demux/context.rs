//! What demultiplexing works with: the link's region, its trace hook and its clock; and what it hands on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{ErrorCode, Result};
use crate::options::{Clock, Trace, TraceEvent};
use crate::shm::buffer::Buffer;
use crate::shm::packet::Packet;
use crate::shm::region::Region;
use crate::shm::words::SideMetrics;
use crate::sync::Ordering;

/// No message waits longer to be received, as far as anybody wants to know.
const OLDEST_PROBE: Duration = Duration::from_secs(24 * 60 * 60);

/// The bytes of a connection's chunk.
#[derive(Debug)]
pub(crate) enum ChunkData {
    /// Of an empty message.
    Nothing,
    /// Where the peer wrote them.
    Pool(Buffer<'static>),
    /// In private memory.
    Own(Box<[u8]>),
}

impl ChunkData {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::Pool(buffer) => buffer.bytes(),
            Self::Own(bytes) => bytes,
        }
    }
}

/// An OpError that the peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError {
    /// The connection or copy that it is about.
    pub context: u64,
    /// The code's number; [`ErrorCode::from_number`] knows most.
    pub code: u64,
    /// The opcode that the peer refused.
    pub op: u8,
}

/// A link's region, trace hook and clock: what a pump works with.
#[derive(Clone, Copy)]
pub(crate) struct LinkContext<'l> {
    pub(crate) region: &'l Region<'static>,
    pub(crate) trace: &'l Option<Trace>,
    pub(crate) clock: &'l Option<Clock>,
}

impl LinkContext<'_> {
    /// Time since the machine's start, or by the clock that was given instead. The two ends of a link have the same.
    pub(crate) fn now(&self) -> Duration {
        self.clock.as_ref().map_or_else(hqq_sys::cpu::now, Clock::now)
    }

    /// Shows a packet to the trace hook.
    #[inline(always)]
    pub(crate) fn show(&self, sent: bool, packet: &Packet) {
        if let Some(trace) = self.trace {
            trace.show(&TraceEvent { role: self.region.role(), sent, packet: *packet });
        }
    }

    /// A probe of that time has come: notes how long it took. False if that cannot be.
    pub(crate) fn note_probe(&self, at: u64) -> bool {
        let took = self.now().checked_sub(Duration::from_nanos(at));
        let took = took.filter(|&took| took <= OLDEST_PROBE);
        took.map(|took| self.region.metrics(self.region.role()).note_latency(took)).is_some()
    }

    /// Counts a refusal.
    pub(crate) fn count_refusal(&self, code: ErrorCode) {
        let counters = self.region.counters(self.region.role());
        let number = code.number() as usize;
        let word = match number {
            0x40.. => &counters.refused_own[(number - 0x40) & 7],
            _ => &counters.refused[number & 7],
        };
        word.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_received_error(&self, code: u64) {
        let known = if code < 8 { code as usize } else { 0 };
        self.region.counters(self.region.role()).errors_received[known].fetch_add(1, Ordering::Relaxed);
    }
}

/// What sending works with: the link's context, and the locks that the threads of one end share. Whoever has the demultiplexer's
/// lock may take the gate, and then the gather's.
#[derive(Clone, Copy)]
pub(crate) struct SendContext<'l> {
    pub(crate) link: LinkContext<'l>,
    /// Held by who sends, where only one thread may.
    pub(crate) gate: Option<&'l Mutex<()>>,
    /// Held by who gathers a run of buffers, or must know that nobody does.
    pub(crate) gather: &'l Mutex<()>,
    /// Where stalls are counted, if this end measures.
    pub(crate) metrics: Option<&'l SideMetrics>,
}

impl<'l> SendContext<'l> {
    /// Takes the gate, where there is one.
    pub(super) fn hold_gate(&self) -> Option<MutexGuard<'l, ()>> {
        self.gate.map(|gate| gate.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// While this is held, no other thread gathers a run: a gather takes free buffers one by one and may give them back, so that
    /// others find too few meanwhile.
    pub(super) fn gather_alone(&self) -> MutexGuard<'l, ()> {
        self.gather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a buffer for `len` bytes. The gate is held.
    pub(super) fn loan(&self, len: usize) -> Result<Buffer<'static>> {
        match self.link.region.loan(len) {
            Err(error) if error.is_transient() => {
                let _alone = self.gather_alone();
                self.link.region.loan(len)
            }
            taken => taken,
        }
    }
}

/// Gives a chunk's buffer back, if it has one.
pub(crate) fn home(region: &Region<'static>, data: ChunkData) {
    if let ChunkData::Pool(buffer) = data {
        region.give(buffer);
    }
}
