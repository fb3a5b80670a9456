//! How the end of the peer is noticed: closed in order, gone, or dead by proof of the kernel; and what that means to calls.
//!
//! | who looks | when |
//! |---|---|
//! | a call that spins or polls | every so many empty polls: [`LinkCore::count_idle_poll`], [`LinkCore::check_liveness`] |
//! | a call that sleeps, an event loop | whenever the socket or the pidfd is ready: `LinkCore::woken` in `wait.rs` |
//! | a listener that is to attach a successor | `LinkCore::make_vacant` in `reattach.rs` |
//!
//! [`LinkCore::hung_up`] and [`LinkCore::peer_died`] decide, the outcome is a [`PeerEnd`] of the link's state, and
//! [`LinkCore::recv_end`] and [`LinkCore::send_end`] make the errors of it.

use std::os::fd::AsFd;
use std::time::Duration;

use hqq_sys::{peer, poll};

use super::core::{LIVENESS_EVERY, LinkCore};
use super::state::{PeerEnd, Snapshot};
use crate::error::Error;
use crate::shm::words::Holder;
use crate::sync::Ordering;

/// How long a peer that hung up without a word may take to be seen dead.
const GRACE: Duration = Duration::from_millis(200);

impl LinkCore {
    /// A poll that found nothing: every so often, looks whether the peer still lives.
    #[inline]
    pub(crate) fn count_idle_poll(&self) {
        let idle = self.idle.load(Ordering::Relaxed) + 1;
        self.idle.store(idle, Ordering::Relaxed);
        if idle % LIVENESS_EVERY == 0 {
            self.check_liveness();
        }
    }

    #[cold]
    pub(super) fn check_liveness(&self) {
        match self.state().peer_end() {
            PeerEnd::Attached => {}
            PeerEnd::Gone => {
                // It may have been dying all the while, only slowly.
                if peer::is_dead(self.parts.pidfd.as_fd()) {
                    self.peer_died();
                }
                return;
            }
            PeerEnd::Closed | PeerEnd::Dead { .. } => return,
        }
        let event = self.waiters.event();
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
    pub(super) fn hung_up(&self) {
        let word = self.peer_now();
        if word.no_send() && word.no_recv() {
            self.peer_ended(PeerEnd::Closed);
            return;
        }
        // A dying process closes its descriptors before its pidfd tells.
        let pidfd = self.parts.pidfd.as_fd();
        let _ = poll::many(&[pidfd], Some(GRACE));
        if peer::is_dead(pidfd) {
            self.peer_died();
        } else {
            let word = self.peer_now();
            let closed = word.no_send() && word.no_recv();
            self.peer_ended(if closed { PeerEnd::Closed } else { PeerEnd::Gone });
        }
    }

    /// The peer's process is dead, by proof: what it left is cleared.
    #[cold]
    pub(super) fn peer_died(&self) {
        let word = self.peek(|_| {
            if matches!(self.state().peer_end(), PeerEnd::Dead { .. }) {
                return None;
            }
            let word = self.peer_now();
            self.recover(self.peer_seat());
            Some(word)
        });
        let Some(word) = word else { return };
        self.peer_ended(PeerEnd::Dead { no_send: word.no_send(), no_recv: word.no_recv() });
    }

    /// Clears the region of what the dead occupant of a seat left. Poisons the link if that is not possible.
    pub(super) fn recover(&self, dead: Holder) -> bool {
        let mut named = vec![0; self.region().layout().geometry.buffers() as usize];
        match self.region().recover_dead(dead, &mut named) {
            Ok(_) => true,
            Err(error) => {
                self.poison(&error);
                false
            }
        }
    }

    /// Whether the peer said that it sends no more, and that it receives no more.
    pub(super) fn peer_said(&self, state: Snapshot) -> (bool, bool) {
        match state.peer_end() {
            PeerEnd::Dead { no_send, no_recv } => (no_send, no_recv),
            _ => {
                let word = self.peer_now();
                (word.no_send(), word.no_recv())
            }
        }
    }

    fn peer_ended(&self, end: PeerEnd) {
        self.state.peer_ended(end);
        self.waiters.wake();
    }

    /// Why nothing more will be received once the ring is drained.
    pub(crate) fn recv_end(&self) -> Option<Error> {
        if self.state().is_undisturbed() {
            return self.peer_now().no_send().then_some(Error::Closed);
        }
        self.end_of(|state| state.is_recv_shut(), |(no_send, _)| no_send)
    }

    /// Why nothing can be sent any more.
    #[cold]
    pub(crate) fn send_end(&self) -> Option<Error> {
        self.end_of(|state| state.is_send_shut(), |(_, no_recv)| no_recv)
    }

    /// Why nothing more comes, or goes, in a direction: because of what this end did, or of what the peer said or did.
    #[cold]
    fn end_of(
        &self,
        is_shut: impl FnOnce(Snapshot) -> bool,
        has_stopped: impl FnOnce((bool, bool)) -> bool,
    ) -> Option<Error> {
        let state = self.state();
        if state.is_corrupt() {
            return Some(self.corrupt_error());
        }
        if is_shut(state) || state.peer_end() == PeerEnd::Closed || has_stopped(self.peer_said(state)) {
            return Some(Error::Closed);
        }
        match state.peer_end() {
            PeerEnd::Dead { .. } => Some(Error::PeerDead),
            PeerEnd::Gone => Some(Error::PeerGone),
            PeerEnd::Attached | PeerEnd::Closed => None,
        }
    }
}
