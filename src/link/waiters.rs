//! The threads of one process that wait on one link.
//!
//! One of them, the *sleeper*, sleeps in the kernel on the doorbell; the others follow it on a condition
//! variable. Each announces what it wants and looks again before it comes here (`wait.rs`), so whatever
//! happens after that look makes the doorbell ring, the sleeper wake, and the round number grow; who leaves
//! the sleeper's place wakes the followers, and one of them takes it.
//!
//! A follower cannot miss the sleeper's wake-up: it read the round before its last look, and does not wait if
//! the round has grown since. Events inside the process ([`Waiters::wake`]) grow the round too and, through a
//! private eventfd, wake the sleeper.

use std::sync::PoisonError;
use std::time::Instant;

use hqq_sys::event::Event;

use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering, fence};

#[derive(Debug, Default)]
struct State {
    round: u64,
    sleeping: bool,
    following: usize,
}

/// Where the threads of a process wait for one link.
#[derive(Debug)]
pub(crate) struct Waiters {
    state: Mutex<State>,
    grown: Condvar,
    /// Threads between [`Waiters::arrive`] and [`Waiters::leave`].
    waiting: AtomicU64,
    event: Event,
}

impl Waiters {
    pub(crate) fn new() -> std::io::Result<Self> {
        let state = Mutex::new(State::default());
        Ok(Self { state, grown: Condvar::new(), waiting: AtomicU64::new(0), event: Event::new()? })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; a poisoned one holds a sound state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The event that [`wake`](Self::wake) sets while somebody sleeps in the kernel.
    pub(crate) fn event(&self) -> &Event {
        &self.event
    }

    /// A thread is about to wait: the round, to be read before its last look.
    pub(crate) fn arrive(&self) -> u64 {
        let round = self.lock().round;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `anyone_waits`: its caller's change is seen by our look, or we are seen.
        fence(Ordering::SeqCst);
        round
    }

    /// The thread waits no more.
    pub(crate) fn leave(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether, after a change, more threads wait than the `own` one that the caller knows of.
    pub(crate) fn anyone_waits(&self, own: u64) -> bool {
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::Relaxed) > own
    }

    /// Waits until the round is past `round`, or until `deadline`: in the kernel by `sleep` if nobody else does,
    /// else behind that thread.
    pub(crate) fn wait(&self, round: u64, deadline: Option<Instant>, sleep: impl FnOnce()) {
        let mut state = self.lock();
        while state.round == round && state.sleeping {
            state.following += 1;
            state = match deadline {
                None => self.grown.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let (state, _) =
                        self.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
                    state
                }
            };
            state.following -= 1;
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return;
            }
        }
        if state.round != round {
            return;
        }
        state.sleeping = true;
        drop(state);
        sleep();
        let mut state = self.lock();
        state.sleeping = false;
        self.grow(state);
    }

    /// Makes every waiting thread look again.
    pub(crate) fn wake(&self) {
        let state = self.lock();
        if state.sleeping {
            // Only fails when the event is set already.
            let _ = self.event.signal();
        }
        self.grow(state);
    }

    fn grow(&self, mut state: MutexGuard<'_, State>) {
        state.round += 1;
        let anybody = state.following > 0;
        drop(state);
        if anybody {
            self.grown.notify_all();
        }
    }
}
