//! Layer 3: what all handles of a link share: sending, receiving, waiting, and how it ends.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use hqq_sys::mem::Mapping;
use hqq_sys::{barrier, peer, poll, sock};

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::layout::WaitMode;
use crate::mux::{Line, Mux, Pumped};
use crate::options::{Options, Trace};
use crate::packet::Packet;
use crate::park::Park;
use crate::port::{Incoming, Payload};
use crate::region::{OwnedRegion, Region};
use crate::sync::{AtomicU64, Ordering};
use crate::words::{Holder, Role, SeatWord, Want};

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

/// Bits of [`Inner::state`].
mod bit {
    /// Packets are sorted under the lock.
    pub const SORTED: u64 = 1;
    /// Packets wait in the outbox.
    pub const OUTGOING: u64 = 1 << 1;
    pub const SEND_SHUT: u64 = 1 << 2;
    pub const RECV_SHUT: u64 = 1 << 3;
    pub const PEER_DEAD: u64 = 1 << 4;
    pub const PEER_GONE: u64 = 1 << 5;
    pub const CORRUPT: u64 = 1 << 6;
    /// The two directions have one owner each.
    pub const SPLIT: u64 = 1 << 7;
    /// The socket has hung up, and why is known.
    pub const HUNG_UP: u64 = 1 << 8;
    /// The connection table knows of the end.
    pub const TOLD: u64 = 1 << 9;

    pub const NO_SEND: u64 = SEND_SHUT | PEER_DEAD | PEER_GONE | CORRUPT;
    pub const NO_RECV: u64 = RECV_SHUT | CORRUPT;
}

/// How often an idle poll looks at the peer's process.
const GLANCE: u64 = 1024;
/// How long a peer that hung up without a word may take to be seen dead.
const GRACE: Duration = Duration::from_millis(200);
/// Bounds of the spin before a sleep, in polls.
const SPIN: std::ops::RangeInclusive<u64> = 64..=4096;

/// When a waiting call gives up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// Never.
    Forever,
    /// Then.
    At(Instant),
}

impl Until {
    pub(crate) fn after(time: Duration) -> Self {
        // A time beyond the clock's range is as good as for ever.
        Instant::now().checked_add(time).map_or(Self::Forever, Self::At)
    }

    pub(crate) fn instant(self) -> Option<Instant> {
        match self {
            Self::Forever => None,
            Self::At(instant) => Some(instant),
        }
    }

    fn has_passed(self) -> bool {
        matches!(self, Self::At(instant) if instant <= Instant::now())
    }
}

/// What one end of a link consists of, before it is put together.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) region: OwnedRegion<Mapping>,
    pub(crate) memory: OwnedFd,
    pub(crate) socket: OwnedFd,
    pub(crate) pidfd: OwnedFd,
    pub(crate) peer: Peer,
    pub(crate) peer_seat: Holder,
}

/// One end of a link.
pub(crate) struct Inner {
    parts: Parts,
    trace: Option<Trace>,
    /// Bits of `bit`.
    state: CachePadded<AtomicU64>,
    handles: AtomicU64,
    /// Empty polls since somebody looked at the peer's process.
    idle: AtomicU64,
    spin: AtomicU64,
    park: Park,
    mux: Mutex<Mux>,
    /// Held by who sends, where only one thread may.
    gate: Mutex<()>,
    corrupt: OnceLock<(&'static str, u64)>,
    /// The message that `Read` has not finished.
    pub(crate) reading: Mutex<Option<(Payload<'static>, usize)>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let facts = self.parts.region.region().facts();
        f.debug_struct("Link")
            .field("role", &self.role())
            .field("peer", &self.parts.peer)
            .field("geometry", &facts.geometry)
            .field("modes", &facts.modes)
            .finish_non_exhaustive()
    }
}

/// What a look into the ring gave.
enum Look {
    Got(Payload<'static>),
    Empty,
    Busy,
}

impl Inner {
    pub(crate) fn new(parts: Parts, options: &Options) -> Result<Self> {
        let park = Park::new().map_err(|source| Error::Os { doing: "creating an eventfd", source })?;
        barrier::register();
        let mux = Mutex::new(Mux::new(parts.region.region(), options));
        let single = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1);
        let spin = if single { 0 } else { *SPIN.end() / 4 };
        Ok(Self {
            parts,
            trace: options.trace.clone(),
            state: CachePadded::new(AtomicU64::new(0)),
            handles: AtomicU64::new(1),
            idle: AtomicU64::new(0),
            spin: AtomicU64::new(spin),
            park,
            mux,
            gate: Mutex::new(()),
            corrupt: OnceLock::new(),
            reading: Mutex::new(None),
        })
    }

    #[inline(always)]
    pub(crate) fn region(&self) -> &Region<'static> {
        self.parts.region.region()
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    #[inline(always)]
    pub(crate) fn role(&self) -> Role {
        self.region().role()
    }

    #[inline(always)]
    pub(crate) fn line(&self) -> Line<'_> {
        Line { region: self.region(), trace: &self.trace }
    }

    #[inline(always)]
    fn state(&self) -> u64 {
        self.state.load(Ordering::Acquire)
    }

    fn set(&self, bits: u64) -> u64 {
        self.state.fetch_or(bits, Ordering::AcqRel)
    }

    fn peer_word(&self) -> SeatWord {
        let seat = self.region().seat(self.parts.peer_seat.seat());
        SeatWord::from_word(seat.word.load(Ordering::Acquire))
    }

    // ---- the sorted side ----

    pub(crate) fn lock(&self) -> MutexGuard<'_, Mux> {
        self.mux.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on packets are sorted under the lock.
    pub(crate) fn sort(&self) {
        self.set(bit::SORTED);
    }

    /// Whether connections can be used.
    pub(crate) fn is_split(&self) -> bool {
        self.state() & bit::SPLIT != 0
    }

    /// Marks the directions as owned by one half each. Only before any connection exists.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if connections have been used.
    pub(crate) fn split(&self) -> Result<()> {
        if self.set(bit::SPLIT) & bit::SORTED != 0 {
            self.state.fetch_and(!bit::SPLIT, Ordering::AcqRel);
            let what =
                "this link has carried connections or control packets: share it instead of splitting it";
            return Err(Error::Unsupported { what });
        }
        Ok(())
    }

    /// Pumps with the lock held, then lets it go and wakes whoever must know. `own` is 1 if the caller is counted
    /// among the waiting.
    pub(crate) fn pump<T>(&self, own: u64, then: impl FnOnce(&mut Mux, bool) -> Result<T>) -> Result<T> {
        let mut mux = self.lock();
        let pumped = self.pump_locked(&mut mux);
        let result = pumped.and_then(|pumped| then(&mut mux, pumped.empty));
        self.settle(mux, own);
        result.inspect_err(|error| self.poison(error))
    }

    fn pump_locked(&self, mux: &mut Mux) -> Result<Pumped> {
        if self.state() & bit::NO_RECV != 0 {
            return Ok(Pumped { empty: true, ..Pumped::default() });
        }
        let mut pumped = mux.pump(self.line())?;
        if pumped.empty {
            if let Some(end) = self.recv_end() {
                if self.set(bit::TOLD) & bit::TOLD == 0 {
                    mux.link_ended(self.line(), &end);
                }
                // What was committed before the end is visible now.
                let last = mux.pump(self.line())?;
                pumped.freed |= last.freed;
                pumped.empty = last.empty;
            }
        }
        if pumped.freed {
            self.ring(self.region().wake_senders());
        }
        Ok(pumped)
    }

    /// Sends what waits, lets the lock go, and wakes whoever waits for a change.
    pub(crate) fn settle(&self, mut mux: MutexGuard<'_, Mux>, own: u64) {
        if mux.has_outgoing() {
            self.set(bit::OUTGOING);
            self.flush(&mut mux);
        }
        let woke = std::mem::take(&mut mux.woke);
        drop(mux);
        if woke && self.park.somebody_waits(own) {
            self.park.wake();
        }
    }

    /// Sends what waits in the outbox, as far as there is room.
    fn flush(&self, mux: &mut Mux) {
        let state = self.state();
        let single = self.region().facts().modes.ring.single_producer();
        if state & bit::NO_SEND != 0 || state & bit::SPLIT != 0 && single {
            return;
        }
        let gate = self.gate();
        let sent = mux.flush(self.line());
        drop(gate);
        match sent {
            Ok(0) => {}
            Ok(_) => self.ring(self.region().wake_receivers()),
            Err(error) => self.poison(&error),
        }
        if !mux.has_outgoing() {
            self.state.fetch_and(!bit::OUTGOING, Ordering::AcqRel);
        }
    }

    // ---- sending ----

    /// The lock that senders share where only one may send at a time.
    fn gate(&self) -> Option<MutexGuard<'_, ()>> {
        if !self.region().facts().modes.ring.single_producer() || self.is_split() {
            return None;
        }
        Some(self.gate.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why nothing can be sent any more.
    #[cold]
    pub(crate) fn send_end(&self) -> Option<Error> {
        let state = self.state();
        if state & bit::CORRUPT != 0 {
            return Some(self.corrupt_error());
        }
        if state & bit::SEND_SHUT != 0 || self.peer_word().no_recv() {
            return Some(Error::Closed);
        }
        self.peer_end(state)
    }

    fn peer_end(&self, state: u64) -> Option<Error> {
        if state & bit::PEER_DEAD != 0 {
            Some(Error::PeerDead)
        } else if state & bit::PEER_GONE != 0 {
            Some(Error::PeerGone)
        } else {
            None
        }
    }

    /// Fails unless a message may be sent now.
    #[inline]
    fn check_send(&self) -> Result<()> {
        let state = self.state();
        if state & bit::NO_SEND == 0 && !self.peer_word().no_recv() {
            if state & bit::OUTGOING != 0 {
                return self.send_waiting();
            }
            return Ok(());
        }
        Err(self.send_end().unwrap_or(Error::Closed))
    }

    /// What waits in the outbox goes first.
    #[cold]
    fn send_waiting(&self) -> Result<()> {
        let mut mux = self.lock();
        self.flush(&mut mux);
        if mux.has_outgoing() && !self.is_split() {
            return Err(Error::RingFull { slots: self.region().layout().geometry.slots().into() });
        }
        if self.is_split() {
            // The sending half is here, so it may do what `flush` leaves to it.
            mux.flush(self.line())?;
            if !mux.has_outgoing() {
                self.state.fetch_and(!bit::OUTGOING, Ordering::AcqRel);
            }
        }
        Ok(())
    }

    /// Does one thing with the sending end, without waiting. Rings the peer if it sent something.
    #[inline]
    pub(crate) fn send_with<T>(&self, send: impl FnOnce(Line<'_>) -> Result<T>) -> Result<T> {
        let gate = self.gate();
        let sent = send(self.line());
        drop(gate);
        match sent {
            Ok(value) => {
                self.ring(self.region().wake_receivers());
                // Shut down meanwhile: the peer may have stopped listening before it came.
                if self.state.load(Ordering::Relaxed) & bit::SEND_SHUT != 0 {
                    return Err(Error::Closed);
                }
                Ok(value)
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// Tries to send a message.
    #[inline]
    pub(crate) fn try_send(&self, message: &[u8]) -> Result<()> {
        self.try_post(|line| line.region.send_bytes(message, |packet| line.show(true, packet)))
    }

    /// Does what needs the sending end but sends nothing, as taking a loan.
    #[inline]
    pub(crate) fn prepare<T>(&self, take: impl FnOnce(&Region<'static>) -> Result<T>) -> Result<T> {
        self.check_send()?;
        let gate = self.gate();
        let taken = take(self.region());
        drop(gate);
        taken.inspect_err(|error| self.failed(error))
    }

    /// Fails unless a message may be sent; then lets `send` try.
    #[inline]
    pub(crate) fn try_post<T>(&self, send: impl FnOnce(Line<'_>) -> Result<T>) -> Result<T> {
        self.check_send()?;
        self.send_with(send)
    }

    #[cold]
    fn failed(&self, error: &Error) {
        if error.is_transient() {
            self.idle();
        } else {
            self.poison(error);
        }
    }

    // ---- receiving ----

    /// Why nothing more will be received once the ring is drained.
    pub(crate) fn recv_end(&self) -> Option<Error> {
        let state = self.state();
        if state & bit::CORRUPT != 0 {
            return Some(self.corrupt_error());
        }
        if state & bit::RECV_SHUT != 0 || self.peer_word().no_send() {
            return Some(Error::Closed);
        }
        self.peer_end(state)
    }

    /// The next message, if there is one. `own` as in [`pump`](Self::pump).
    #[inline]
    pub(crate) fn take(&self, own: u64) -> Result<Option<Payload<'static>>> {
        let found = match self.look(own) {
            Ok(Look::Empty) => match self.recv_end() {
                None => return Ok(None),
                // What was committed before the end is visible now.
                Some(end) => match self.look(own) {
                    Ok(Look::Empty) => return Err(end),
                    found => found,
                },
            },
            found => found,
        };
        match found {
            Ok(Look::Got(payload)) => Ok(Some(payload)),
            Ok(Look::Empty | Look::Busy) => Ok(None),
            Err(error) => {
                self.poison(&error);
                Err(error)
            }
        }
    }

    #[inline]
    fn look(&self, own: u64) -> Result<Look> {
        let state = self.state();
        if state & (bit::NO_RECV | bit::SORTED) != 0 || self.takes_in_turn(state) {
            return self.look_sorted(own);
        }
        let line = self.line();
        match line.region.receive(Packet::is_plain, |packet| line.show(false, packet))? {
            Incoming::Message(payload, position) => {
                self.ring(line.region.wake_senders());
                if self.state() & bit::SORTED != 0 {
                    return Ok(self.reorder(position, payload));
                }
                Ok(Look::Got(payload))
            }
            Incoming::Empty => Ok(Look::Empty),
            Incoming::Busy => Ok(Look::Busy),
            Incoming::Refused(fault) => {
                self.ring(line.region.wake_senders());
                let mut mux = self.lock();
                mux.answer(line, fault.code, fault.context, fault.op);
                self.settle(mux, own);
                Ok(Look::Busy)
            }
            _ => {
                self.sort();
                self.look_sorted(own)
            }
        }
    }

    /// Whether several threads may share the receiving end, while the ring allows one.
    fn takes_in_turn(&self, state: u64) -> bool {
        state & bit::SPLIT == 0 && self.region().facts().modes.ring.single_consumer()
    }

    #[cold]
    fn reorder(&self, position: u64, payload: Payload<'static>) -> Look {
        let mut mux = self.lock();
        let oldest = mux.reorder(position, payload);
        self.settle(mux, 0);
        Look::Got(oldest)
    }

    fn look_sorted(&self, own: u64) -> Result<Look> {
        let state = self.state();
        if state & bit::CORRUPT != 0 {
            return Err(self.corrupt_error());
        }
        if state & bit::RECV_SHUT != 0 {
            return Err(Error::Closed);
        }
        self.pump(own, |mux, empty| {
            Ok(match mux.pop_message() {
                Some(payload) => Look::Got(payload),
                None if empty => Look::Empty,
                None => Look::Busy,
            })
        })
    }

    /// Gives a message's buffers back and wakes the peer's senders if they wait.
    #[inline]
    pub(crate) fn give(&self, payload: Payload<'static>) {
        if let Payload::Pool(buffer) = payload {
            self.give_buffer(buffer);
        }
    }

    /// As [`give`](Self::give), for a buffer.
    #[inline]
    pub(crate) fn give_buffer(&self, buffer: Buffer<'static>) {
        let lent = buffer.direction() == self.role().direction();
        self.region().give(buffer);
        if !lent {
            self.ring(self.region().wake_senders());
        } else if self.park.somebody_waits(0) {
            // A loan that was not sent: our own threads may wait for buffers.
            self.park.wake();
        }
    }

    /// Rings the peer if it is among the seats to wake.
    #[inline(always)]
    pub(crate) fn ring(&self, seats: u64) {
        if seats != 0 {
            self.ring_now(seats);
        }
    }

    #[cold]
    fn ring_now(&self, seats: u64) {
        if seats >> self.parts.peer_seat.seat() & 1 != 0 {
            self.region().counters(self.role()).rings.fetch_add(1, Ordering::Relaxed);
            // A peer that is gone is noticed elsewhere.
            let _ = sock::ring(self.parts.socket.as_fd());
        }
    }

    // ---- waiting ----

    /// Calls `poll` until it has something, or fails, or the time is up: spinning at first, then asleep. `poll`
    /// is told whether this thread is counted among the waiting (1) or not (0).
    pub(crate) fn wait<T>(
        &self,
        wants: &[Want],
        until: Until,
        what: &'static str,
        mut poll: impl FnMut(u64) -> Result<Option<T>>,
    ) -> Result<T> {
        let began = Instant::now();
        let timeout = || Err(Error::Timeout { what, after: began.elapsed() });
        let spin_only = self.region().facts().modes.wait == WaitMode::Spin;
        let limit = if spin_only { u64::MAX } else { self.spin.load(Ordering::Relaxed) };
        for turn in 1..=limit {
            if let Some(value) = poll(0)? {
                if !spin_only {
                    self.spin.store((limit * 2).min(*SPIN.end()), Ordering::Relaxed);
                }
                return Ok(value);
            }
            if turn % 64 == 0 && until.has_passed() {
                return timeout();
            }
            if turn % GLANCE == 0 {
                self.glance();
                // Somebody else may need this processor to make the event happen.
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        if limit != 0 {
            self.spin.store((limit / 2).max(*SPIN.start()), Ordering::Relaxed);
        }
        self.count_wait(wants[0]);
        let seat = self.region().holder().seat();
        let sleepers = self.region().sleepers(self.role());
        loop {
            let round = self.park.arrive();
            for &want in wants {
                sleepers.announce(seat, want);
            }
            let found = poll(1);
            if !matches!(found, Ok(None)) || until.has_passed() {
                self.park.leave();
                for &want in wants {
                    sleepers.cancel(seat, want);
                }
                // Other threads share the announcement: let them renew it.
                if self.park.somebody_waits(0) {
                    self.park.wake();
                }
                return match found {
                    Ok(None) => timeout(),
                    found => found.map(|value| value.expect("checked above")),
                };
            }
            self.park.wait(round, until.instant(), || self.sleep(until));
            self.park.leave();
        }
    }

    fn count_wait(&self, want: Want) {
        let counters = self.region().counters(self.role());
        let word = match want {
            Want::Data => &counters.empty_waits,
            Want::Space if self.region().producer().has_room() => &counters.pool_waits,
            Want::Space => &counters.full_waits,
        };
        word.fetch_add(1, Ordering::Relaxed);
    }

    /// Sleeps in the kernel until the doorbell rings, the peer dies, this process has news, or the time is up.
    fn sleep(&self, until: Until) {
        let timeout = until.instant().map(|at| at.saturating_duration_since(Instant::now()));
        let event = self.park.event();
        let counters = self.region().counters(self.role());
        counters.sleeps.fetch_add(1, Ordering::Relaxed);
        if self.state() & bit::HUNG_UP != 0 {
            // Nothing more comes from outside, and a hung-up socket would never let us sleep.
            if poll::many(&[event.as_fd()], timeout).is_ok_and(|ready| ready[0]) {
                let _ = event.clear();
            }
            return;
        }
        let pidfd = Some(self.parts.pidfd.as_fd());
        match poll::wait(self.parts.socket.as_fd(), pidfd, event.as_fd(), timeout) {
            Ok(ready) => self.woken(ready),
            // Out of kernel memory: look again rather than fail a call that may yet succeed.
            Err(_) => std::thread::yield_now(),
        }
    }

    fn woken(&self, ready: poll::Ready) {
        if ready.event {
            let _ = self.park.event().clear();
        }
        let mut hang_up = ready.hang_up;
        if ready.socket {
            match sock::drain(self.parts.socket.as_fd()) {
                Ok(drained) => {
                    hang_up |= drained.hang_up;
                    if drained.tokens > 0 {
                        self.region().counters(self.role()).wakes.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Err(_) => hang_up = true,
            }
        }
        if ready.dead {
            self.peer_died();
        } else if hang_up {
            self.hung_up();
        }
    }

    /// A poll that found nothing: every so often, looks whether the peer still lives.
    #[inline]
    pub(crate) fn idle(&self) {
        let idle = self.idle.load(Ordering::Relaxed) + 1;
        self.idle.store(idle, Ordering::Relaxed);
        if idle % GLANCE == 0 {
            self.glance();
        }
    }

    #[cold]
    fn glance(&self) {
        if self.state() & bit::HUNG_UP != 0 {
            return;
        }
        let event = self.park.event();
        let pidfd = Some(self.parts.pidfd.as_fd());
        let now = Some(Duration::ZERO);
        if let Ok(ready) = poll::wait(self.parts.socket.as_fd(), pidfd, event.as_fd(), now) {
            // Tokens and events stay for who sleeps.
            if ready.dead {
                self.peer_died();
            } else if ready.hang_up {
                self.hung_up();
            }
        }
    }

    /// The socket hung up. In order, or is the peer dead, or has it merely gone?
    #[cold]
    fn hung_up(&self) {
        let word = self.peer_word();
        if word.no_send() && word.no_recv() {
            self.ended(bit::HUNG_UP);
            return;
        }
        // A dying process closes its descriptors before its pidfd tells.
        let pidfd = self.parts.pidfd.as_fd();
        let _ = poll::many(&[pidfd], Some(GRACE));
        if peer::is_dead(pidfd) {
            self.peer_died();
        } else {
            let word = self.peer_word();
            let closed = word.no_send() && word.no_recv();
            self.ended(if closed { bit::HUNG_UP } else { bit::PEER_GONE | bit::HUNG_UP });
        }
    }

    /// The peer's process is dead, by proof: what it left is cleared.
    #[cold]
    fn peer_died(&self) {
        let mux = self.lock();
        if self.state() & bit::PEER_DEAD == 0 {
            let mut named = vec![0; self.region().layout().geometry.buffers() as usize];
            if let Err(error) = self.region().recover_dead(self.parts.peer_seat, &mut named) {
                self.poison(&error);
            }
        }
        drop(mux);
        self.ended(bit::PEER_DEAD | bit::HUNG_UP);
    }

    fn ended(&self, bits: u64) {
        self.set(bits);
        self.park.wake();
    }

    // ---- the end ----

    /// Remembers that shared memory is corrupt, if that is what the error says.
    #[cold]
    pub(crate) fn poison(&self, error: &Error) {
        if let Error::Corrupt { what, found } = *error {
            self.corrupt.get_or_init(|| (what, found));
            self.ended(bit::CORRUPT);
        }
    }

    pub(crate) fn corrupt_error(&self) -> Error {
        let (what, found) = self.corrupt.get().copied().unwrap_or(("a control word", 0));
        Error::Corrupt { what, found }
    }

    /// Whether both directions still work, as far as this end knows.
    pub(crate) fn is_open(&self) -> bool {
        self.glance();
        let state = self.state();
        let word = self.peer_word();
        state & (bit::NO_SEND | bit::NO_RECV) == 0 && !word.no_send() && !word.no_recv()
    }

    /// Ends directions for good: tells the peer by this end's seat, and wakes whoever waits on either side.
    pub(crate) fn shutdown(&self, send: bool, recv: bool) {
        let mut said = 0;
        if send {
            said |= SeatWord::NO_SEND;
            let mut mux = self.lock();
            if mux.has_outgoing() {
                self.flush(&mut mux);
            }
            drop(mux);
            self.set(bit::SEND_SHUT);
            // After this, a sender of ours that found the link open has published; any other sees it shut.
            barrier::process_barrier();
        }
        if recv {
            said |= SeatWord::NO_RECV;
            self.set(bit::RECV_SHUT);
        }
        let seat = self.region().seat(self.region().holder().seat());
        seat.word.fetch_or(said, Ordering::AcqRel);
        let _ = sock::ring(self.parts.socket.as_fd());
        self.park.wake();
    }

    /// One more handle that keeps the link open.
    pub(crate) fn open_handle(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// One handle less; the last closes the link.
    pub(crate) fn close_handle(&self) {
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shutdown(true, true);
            self.lock().clear(self.region());
            let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((payload, _)) = reading {
                self.give(payload);
            }
        }
    }
}
