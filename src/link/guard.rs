//! The demultiplexer while a thread has it locked. Dropping the guard does what every change may call for, in this order:
//! chunks that are due and packets that wait are sent, the lock is released, the peer is woken for what was sent, and the
//! threads of this process that wait for a change are woken.

use std::ops::{Deref, DerefMut};
use std::sync::{MutexGuard, PoisonError};
use std::thread;

use super::core::LinkCore;
use crate::demux::table::ConnEnd;
use crate::demux::{Demux, Pumped, SendContext, Stop};
use crate::error::{Error, Result};
use crate::options::Trace;
use crate::shm::buffer::Buffer;
use crate::shm::packet::ConnCopy;

/// The demultiplexer of a link, locked. See the [module](self).
pub(crate) struct DemuxGuard<'l> {
    demux: MutexGuard<'l, Demux>,
    /// A field behind the lock's guard, so that it is dropped after it.
    wake: WakeOnDrop<'l>,
}

/// Wakes the peer, and threads of this process, when it is dropped.
struct WakeOnDrop<'l> {
    core: &'l LinkCore,
    /// 1 if the caller is counted among the waiting.
    own: u64,
    /// Packets were sent.
    peer: bool,
    /// Something changed that threads of this process may wait for.
    threads: bool,
}

impl LinkCore {
    /// Locks the demultiplexer for a change. `own` is 1 if the caller is counted among the waiting.
    #[inline]
    pub(crate) fn demux(&self, own: u64) -> DemuxGuard<'_> {
        DemuxGuard { demux: self.lock(), wake: WakeOnDrop { core: self, own, peer: false, threads: false } }
    }

    /// Locks the demultiplexer for a look at it, or for what must not happen beside a change.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&Demux) -> T) -> T {
        look(&self.lock())
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, Demux> {
        self.demux.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn send_context(&self) -> SendContext<'_> {
        SendContext {
            link: self.context(),
            gate: self.state().is_send_serial().then_some(&self.gate),
            gather: &self.gather,
            metrics: self.measures().then(|| self.region().metrics(self.role())),
        }
    }
}

impl DemuxGuard<'_> {
    /// Demultiplexes what the ring holds. Whether the ring has nothing more.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(crate) fn pump(&mut self, stop: Stop) -> Result<bool> {
        let pumped = self.pump_ring(stop);
        self.poisoned(pumped).map(|pumped| pumped.empty)
    }

    fn pump_ring(&mut self, stop: Stop) -> Result<Pumped> {
        let core = self.wake.core;
        if !core.state().can_recv() {
            self.announce_end(&core.recv_end().unwrap_or(Error::Closed));
            return Ok(Pumped { empty: true, ..Pumped::default() });
        }
        let mut pumped = self.demux.pump(core.context(), stop)?;
        if pumped.empty || self.demux.is_stalled() {
            if let Some(end) = core.recv_end() {
                // From here on no inbox is too full for what was committed.
                self.announce_end(&end);
                // What was committed before the end is visible now.
                let last = self.demux.pump(core.context(), stop)?;
                pumped.freed |= last.freed;
                pumped.empty = last.empty;
            }
        }
        if pumped.freed {
            core.notify_peer(core.region().wake_senders());
        }
        Ok(pumped)
    }

    /// Tells the connections, once, that the link has ended.
    pub(super) fn announce_end(&mut self, end: &Error) {
        if self.wake.core.state.announce_end() {
            self.demux.link_ended(self.wake.core.context(), end);
        }
    }

    /// Fails if this end may not send any more. That stays true while the lock is held.
    fn check_open(&self) -> Result<()> {
        self.wake.core.send_end().map_or(Ok(()), Err)
    }

    #[inline]
    fn poisoned<T>(&self, done: Result<T>) -> Result<T> {
        done.inspect_err(|error| self.wake.core.poison(error))
    }

    /// Sends a chunk on a connection, with the buffer in `kept` if it has bytes. On failure the buffer is still there. The
    /// chunk's CopyID.
    ///
    /// # Errors
    /// The link's end; [`Error::RingFull`], [`Error::Busy`].
    #[inline]
    pub(crate) fn send_chunk(&mut self, chunk: &ConnCopy, kept: &mut Option<Buffer<'static>>) -> Result<u64> {
        self.check_open()?;
        if self.demux.has_outgoing() {
            self.flush_first()?;
        }
        let _gate = self.wake.core.gate();
        let sent = self.demux.post_chunk(self.wake.core.context(), chunk, kept);
        self.poisoned(sent)
    }

    #[cold]
    fn flush_first(&mut self) -> Result<()> {
        let flushed = self.demux.flush_first(&self.wake.core.send_context());
        self.poisoned(flushed)
    }

    /// Submits a chunk on a connection to the scheduler. Its CopyID if it was sent at once.
    ///
    /// # Errors
    /// The link's end; the connection's, as `ended` makes it.
    pub(crate) fn submit_chunk(
        &mut self,
        chunk: ConnCopy,
        part: &[u8],
        ended: impl FnOnce(ConnEnd) -> Error,
    ) -> Result<Option<u64>> {
        if let Err(end) = self.check_open() {
            return Err(self.demux.table.can_send(chunk.conn).err().map_or(end, ended));
        }
        let sent = self.demux.submit_chunk(&self.wake.core.send_context(), chunk, part, ended);
        self.poisoned(sent)
    }

    /// Keeps a message and sends it; both or neither.
    ///
    /// # Errors
    /// The link's end; [`Error::StoreFull`]; what is in the way of a message.
    pub(super) fn deliver(&mut self, message: &[u8]) -> Result<()> {
        self.check_open()?;
        if self.demux.check_store(message.len()).is_err() {
            // What the peer has acknowledged may be there.
            self.pump(Stop::Lap)?;
        }
        let sent = self.demux.deliver(&self.wake.core.send_context(), message);
        self.poisoned(sent)
    }

    /// Sends the chunks of connections that are due.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(super) fn dispatch(&mut self) -> Result<()> {
        let core = self.wake.core;
        while self.check_open().is_ok() {
            let sent = self.demux.dispatch(&core.send_context(), None);
            if !self.poisoned(sent)? {
                break;
            }
            // There is more: the peer begins with what it has meanwhile.
            core.notify_peer(core.region().wake_receivers());
        }
        Ok(())
    }

    /// Sends what waits in the outbox, as far as there is room. For a thread that has the sending direction.
    ///
    /// # Errors
    /// The link's end; [`Error::Corrupt`].
    pub(super) fn flush(&mut self) -> Result<()> {
        self.check_open()?;
        let flushed = self.demux.flush(&self.wake.core.send_context());
        self.poisoned(flushed)
    }

    /// Whether this thread may send what waits.
    fn may_settle(&self) -> bool {
        let core = self.wake.core;
        let single = core.region().facts().modes.ring.single_producer();
        let is_other_half = core.state().is_split() && single;
        // If it is the trace hook that panics, to call it now would end the process. The next call on the link sends.
        let after_hook = core.trace.as_ref().is_some_and(Trace::has_panicked) && thread::panicking();
        !is_other_half && !after_hook && self.check_open().is_ok()
    }

    /// Sends what may go now, as far as there is room, and notes in the link's state whether something still waits.
    pub(super) fn settle(&mut self) {
        let core = self.wake.core;
        while self.may_settle() {
            let settled = self.demux.settle(&core.send_context(), self.wake.own == 1);
            if !self.poisoned(settled).unwrap_or(false) {
                break;
            }
            // There is more: the peer begins with what it has meanwhile.
            core.notify_peer(core.region().wake_receivers());
        }
        let waits = self.demux.has_outgoing();
        if core.state().has_outgoing() != waits {
            core.state.set_outgoing(waits);
        }
    }
}

impl Deref for DemuxGuard<'_> {
    type Target = Demux;

    fn deref(&self) -> &Demux {
        &self.demux
    }
}

impl DerefMut for DemuxGuard<'_> {
    fn deref_mut(&mut self) -> &mut Demux {
        &mut self.demux
    }
}

impl Drop for DemuxGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.demux.is_plain() || self.wake.core.state().has_outgoing() {
            self.settle();
        }
        self.wake.peer = self.demux.sent;
        self.wake.threads = self.demux.woke;
        (self.demux.sent, self.demux.woke) = (false, false);
    }
}

impl Drop for WakeOnDrop<'_> {
    #[inline]
    fn drop(&mut self) {
        let core = self.core;
        if self.peer {
            core.notify_peer(core.region().wake_receivers());
        }
        if self.threads && core.waiters.anyone_waits(self.own) {
            core.waiters.wake();
        }
    }
}
