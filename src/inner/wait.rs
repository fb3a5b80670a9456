//! Waiting: spinning for an adaptive while, then asleep on the doorbell.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hqq_sys::{poll, sock};

use super::{GLANCE, Inner, bit};
use crate::error::{Error, Result};
use crate::layout::WaitMode;
use crate::sync::Ordering;
use crate::words::Want;

/// Bounds of the spin before a sleep, in polls.
pub(super) const SPIN: std::ops::RangeInclusive<u64> = 64..=4096;

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

impl Inner {
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

    pub(super) fn count_wait(&self, want: Want) {
        let counters = self.region().counters(self.role());
        let word = match want {
            Want::Data => &counters.empty_waits,
            Want::Space if self.region().producer().has_room() => &counters.pool_waits,
            Want::Space => &counters.full_waits,
        };
        word.fetch_add(1, Ordering::Relaxed);
    }

    /// Sleeps in the kernel until the doorbell rings, the peer dies, this process has news, or the time is up.
    pub(super) fn sleep(&self, until: Until) {
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

    pub(super) fn woken(&self, ready: poll::Ready) {
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
}
