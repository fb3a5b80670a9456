//! Waiting: spinning for an adaptive while, then asleep on the doorbell.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hqq_sys::{cpu, poll, sock};

use super::core::{LIVENESS_EVERY, LinkCore};
use super::deadline::Wait;
use crate::agreement::Capabilities;
use crate::demux::Stop;
use crate::error::{Error, Result};
use crate::options::spin_for;
use crate::shm::layout::WaitMode;
use crate::shm::words::{SideCounters, Want};
use crate::sync::{AtomicU64, Ordering};

/// The longest spin before a sleep: longer than a sleeping peer needs to wake and answer, so that two ends that
/// have once fallen asleep between messages find out that they need not.
const LONG_SPIN: Duration = Duration::from_micros(200);
/// The spin of an end whose waits are long anyway.
const SHORT_SPIN: Duration = Duration::from_micros(10);
/// Polls between two looks at the clock.
const CLOCK_EVERY: u64 = 16;
/// Polls between two offers of the processor to somebody who may need it.
const YIELD_EVERY: u64 = 32;
/// Polls that may be left out on a hint's word, between two that look everywhere.
const FORCED_POLL_EVERY: u64 = 32;

/// How long a sender whose ring is full leaves its lines alone between polls: who looks at a line again and again while the
/// other is at it takes it away each time. Nobody waits for it.
const FULL_BACKOFF: Duration = Duration::from_micros(3);
/// No longer than so much for each slot or buffer: the peer goes through them, and must not run dry meanwhile.
const BACKOFF_PER_SLOT: Duration = Duration::from_nanos(10);

/// What a call waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitReason {
    /// For the error of a deadline.
    what: &'static str,
    /// What to announce.
    wants: &'static [Want],
    count: fn(&SideCounters) -> &AtomicU64,
    /// Whether what is waited for may be there, found out at less cost than by trying.
    hint: fn(&LinkCore) -> bool,
    /// How long to leave the lines alone between polls.
    patience: fn(&LinkCore) -> Duration,
    /// Whether the pace of messages is learnt from the wait.
    paces: bool,
}

impl WaitReason {
    pub(crate) const MESSAGE: Self = Self {
        what: "a message: the peer has sent none",
        wants: &[Want::Data],
        count: |counters| &counters.empty_waits,
        hint: LinkCore::may_have_message,
        patience: |core| {
            let region = core.region();
            core.pace.patience(region.sent_so_far(), region.received_so_far())
        },
        paces: true,
    };
    pub(crate) const ROOM: Self = Self {
        what: "room in the ring: the peer must receive",
        wants: &[Want::Space],
        count: |counters| &counters.full_waits,
        hint: LinkCore::may_have_room,
        patience: |core| FULL_BACKOFF.min(BACKOFF_PER_SLOT * core.region().facts().geometry.slots()),
        paces: false,
    };
    pub(crate) const BUFFER: Self = Self {
        what: "free buffers: messages must be dropped where they were received",
        count: |counters| &counters.pool_waits,
        hint: |_| true,
        ..Self::ROOM
    };
    pub(crate) const CONN_DATA: Self = Self {
        what: "data on a connection: the peer has sent none",
        hint: |_| true,
        patience: |_| Duration::ZERO,
        paces: false,
        ..Self::MESSAGE
    };
    pub(crate) const CONN_ROOM: Self = Self {
        what: "room to send on a connection: the peer must receive",
        hint: |_| true,
        patience: |_| Duration::ZERO,
        ..Self::ROOM
    };
    pub(crate) const TURN: Self = Self {
        what: "credit, the scheduler or the rate limit of a connection: the peer must read, or its class, weight or rate be raised",
        ..Self::CONN_ROOM
    };
    pub(crate) const OPEN: Self =
        Self { what: "room in the ring to open a connection: the peer must receive", ..Self::CONN_ROOM };
    pub(crate) const ANSWER: Self = Self {
        what: "the peer's answer to a new connection: it must call accept_connection or receive",
        ..Self::CONN_DATA
    };
    pub(crate) const AGREEMENT: Self = Self {
        what: "the peer's part of the negotiation: it must negotiate or receive",
        wants: &[Want::Data, Want::Space],
        ..Self::CONN_DATA
    };
    pub(crate) const KEEPING: Self = Self {
        what: "room to keep and send a message: the peer's application must receive and acknowledge",
        ..Self::CONN_ROOM
    };
    pub(crate) const ACKS: Self =
        Self { what: "the peer's acknowledgements: its application must acknowledge", ..Self::CONN_DATA };
    pub(crate) const ACCEPT: Self =
        Self { what: "a connection from the peer: it must call open_connection", ..Self::CONN_DATA };
}

impl LinkCore {
    /// Calls `poll` until it has something, or fails, or the time is up: spinning at first, then asleep. `poll`
    /// is told whether this thread is counted among the waiting (1) or not (0).
    pub(crate) fn wait<T>(
        &self,
        reason: WaitReason,
        wait: Wait,
        mut poll: impl FnMut(u64) -> Result<Option<T>>,
    ) -> Result<T> {
        // The clock costs as much as a cache line: who waits only for a moment does not read it.
        let mut began = wait.deadline().map(|_| Instant::now());
        let spin = self.spin_for();
        let pauses = cpu::pauses((reason.patience)(self));
        for turn in 1.. {
            for _ in 0..pauses {
                std::hint::spin_loop();
            }
            if (reason.hint)(self) || turn % FORCED_POLL_EVERY == 0 {
                if let Some(value) = poll(0)? {
                    if reason.paces {
                        self.pace.ended(turn);
                    }
                    self.learn(began.map_or(Duration::ZERO, |began| began.elapsed()));
                    return Ok(value);
                }
            }
            if spin == Some(Duration::ZERO) {
                break;
            }
            if turn == 1 && reason.paces {
                self.prepare();
            }
            if pauses > 1 || turn % CLOCK_EVERY == 0 {
                let passed = began.get_or_insert_with(Instant::now).elapsed();
                if wait.is_over() {
                    return Err(Error::Timeout { what: reason.what, after: passed });
                }
                if spin.is_some_and(|spin| passed >= spin) {
                    break;
                }
            }
            if turn % LIVENESS_EVERY == 0 {
                self.check_liveness();
            }
            if turn % YIELD_EVERY == 0 || pauses > 1 && turn % 2 == 0 {
                std::thread::yield_now();
            }
        }
        let began = began.unwrap_or_else(Instant::now);
        self.give_spare();
        let slept = self.wait_asleep(reason, wait, began, poll);
        if reason.paces {
            self.pace.ended(u64::MAX);
        }
        self.learn(began.elapsed());
        slept
    }

    /// While there is nothing else to do: takes the next loan's buffer.
    fn prepare(&self) {
        let region = self.region();
        // One who receives does not take buffers beside the only one who may.
        if region.has_spare() || region.is_single() || !self.state().posts_directly() {
            return;
        }
        // Whoever finds too few buffers looks once more under this lock, and then none is on its way to be kept.
        if let Ok(_alone) = self.gather.try_lock() {
            region.prepare();
        }
    }

    /// Who sleeps keeps no buffer from others.
    fn give_spare(&self) {
        let region = self.region();
        if !region.is_single() && region.give_spare() && self.waiters.anyone_waits(0) {
            self.waiters.wake();
        }
    }

    /// Spins as is fit for what was agreed on, unless this end was told otherwise.
    pub(crate) fn agree_spin(&self, capabilities: Capabilities) {
        if let Some(time) = spin_for(capabilities) {
            self.agreed_spin.get_or_init(|| time);
        }
    }

    /// How long to spin; `None` for ever.
    fn spin_for(&self) -> Option<Duration> {
        if self.region().facts().modes.wait == WaitMode::Spin {
            None
        } else if let Some(spin) = self.spin.or_else(|| self.agreed_spin.get().copied()) {
            Some(spin)
        } else {
            let usual = Duration::from_nanos(self.usual.load(Ordering::Relaxed));
            Some(if usual <= LONG_SPIN { LONG_SPIN } else { SHORT_SPIN })
        }
    }

    /// Remembers how long waits take of late. A rough figure: threads may overwrite each other's.
    fn learn(&self, took: Duration) {
        let took = took.min(8 * LONG_SPIN).as_nanos() as u64;
        let usual = self.usual.load(Ordering::Relaxed);
        self.usual.store((7 * usual + took) / 8, Ordering::Relaxed);
    }

    fn wait_asleep<T>(
        &self,
        reason: WaitReason,
        wait: Wait,
        began: Instant,
        mut poll: impl FnMut(u64) -> Result<Option<T>>,
    ) -> Result<T> {
        (reason.count)(self.region().counters(self.role())).fetch_add(1, Ordering::Relaxed);
        let seat = self.region().holder().seat();
        let sleepers = self.region().sleepers(self.role());
        loop {
            let round = self.waiters.arrive();
            // On a link with connections whoever waits sorts, and sends what waits to go out.
            let wants: &[Want] =
                if self.state().is_demuxed() { &[Want::Data, Want::Space] } else { reason.wants };
            for &want in wants {
                sleepers.announce(seat, want);
            }
            let found = match poll(1) {
                Ok(None) if wait.is_over() => {
                    Some(Err(Error::Timeout { what: reason.what, after: began.elapsed() }))
                }
                found => found.transpose(),
            };
            if let Some(found) = found {
                self.waiters.leave();
                for &want in wants {
                    sleepers.cancel(seat, want);
                }
                // Other threads share the announcement: let them renew it.
                if self.waiters.anyone_waits(0) {
                    self.waiters.wake();
                }
                return found;
            }
            self.waiters.wait(round, wait.deadline(), || self.sleep(wait));
            self.waiters.leave();
        }
    }

    /// Takes what the doorbell holds, then says whether there is something to receive, or announces that this end
    /// waits for it: the socket becomes readable then.
    pub(crate) fn drive(&self) -> Result<bool> {
        if self.region().facts().modes.wait == WaitMode::Spin {
            let what = "a link made with WaitMode::Spin has no doorbell: poll it, or make it with WaitMode::Adaptive";
            return Err(Error::Unsupported { what });
        }
        let now = Some(Duration::ZERO);
        let (socket, event) = (self.parts.socket.as_fd(), self.waiters.event());
        if !self.state().has_peer_ended() {
            match poll::wait(socket, Some(self.parts.pidfd.as_fd()), event.as_fd(), now) {
                Ok(ready) => self.woken(ready),
                Err(source) => return Err(Error::Os { doing: "polling the doorbell socket", source }),
            }
        }
        if self.has_news()? {
            return Ok(true);
        }
        let sleepers = self.region().sleepers(self.role());
        let seat = self.region().holder().seat();
        let wants: &[Want] =
            if self.state().is_demuxed() { &[Want::Data, Want::Space] } else { &[Want::Data] };
        for &want in wants {
            sleepers.announce(seat, want);
        }
        self.has_news()
    }

    /// Whether a receiving call would have something to return.
    fn has_news(&self) -> Result<bool> {
        if self.recv_end().is_some() {
            return Ok(true);
        }
        if self.takes_straight() {
            return Ok(self.region().has_packet());
        }
        let mut demux = self.demux(0);
        demux.pump(Stop::Lap)?;
        Ok(demux.woke || demux.has_messages())
    }

    /// Sleeps in the kernel until the doorbell rings, the peer dies, this process has news, or the time is up.
    pub(super) fn sleep(&self, wait: Wait) {
        let timeout = wait.left();
        let event = self.waiters.event();
        let counters = self.region().counters(self.role());
        counters.sleeps.fetch_add(1, Ordering::Relaxed);
        if self.state().has_peer_ended() {
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

    pub(super) fn woken(&self, ready: poll::Ready) {
        if ready.event {
            let _ = self.waiters.event().clear();
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
}
