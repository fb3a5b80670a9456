//! Another Secondary in the place of one that is gone, on the same region.
//!
//! All of it happens while nobody else uses the link: the caller has it alone, and no connection is open. What may go on
//! meanwhile is the giving back of messages that the program has kept.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::PoisonError;

use hqq_sys::mem::Mapping;
use hqq_sys::{lock, peer, sock};

use super::core::{LinkCore, Peer};
use super::state::PeerEnd;
use crate::demux::Stop;
use crate::error::{Error, Result};
use crate::shm::packet::{Bounds, Operation, Packet};
use crate::shm::words::{Holder, SEATS, SeatWord};
use crate::sync::Ordering;

/// Whoever takes the vacant place.
pub(crate) struct Successor {
    pub(crate) socket: OwnedFd,
    pub(crate) pidfd: OwnedFd,
    pub(crate) peer: Peer,
    pub(crate) seat: Holder,
    /// Its payload, in a protected region.
    pub(crate) payload: Option<Mapping>,
}

impl LinkCore {
    /// Makes sure that the place at the other end is vacant, and that nothing of its former occupant is left but what it
    /// had sent.
    ///
    /// # Errors
    /// What is in the way.
    pub(crate) fn make_vacant(&self) -> Result<()> {
        self.clear_place().inspect_err(|error| self.poison(error))
    }

    fn clear_place(&self) -> Result<()> {
        let unsupported = |what| Err(Error::Unsupported { what });
        if !self.reattachable {
            return unsupported("this link cannot take a successor: make it with Options::reattachable");
        }
        if self.is_split() {
            return unsupported("a link that was split cannot take a successor: make a new link");
        }
        self.check_liveness();
        let state = self.state();
        if state.is_corrupt() {
            return Err(self.corrupt_error());
        }
        if state.is_send_shut() || state.is_recv_shut() {
            return Err(Error::Closed);
        }
        let former = self.peer_seat();
        let word = self.peer_word();
        if !word.is_valid() {
            return Err(Error::Corrupt { what: "a seat", found: word.word() });
        }
        let is_dead = matches!(state.peer_end(), PeerEnd::Dead { .. });
        if !is_dead && word.is_occupied_by(former) {
            if !state.has_peer_ended() {
                return unsupported("the link's peer has neither died nor left: reattach when it has");
            }
            // One that lives may still use what it has mapped, unless it has become another program since.
            if !peer::is_dead(self.parts.pidfd.as_fd()) && !self.has_lost_its_memory(former.seat(), word) {
                return Err(Error::PeerGone);
            }
            self.peer_died();
        }
        self.empty_places(former)?;
        self.drop_connections()
    }

    /// Whether the lock of a seat proves that its occupant's memory is gone.
    fn has_lost_its_memory(&self, seat: usize, word: SeatWord) -> bool {
        word.is_locked() && !lock::is_locked(self.parts.memory.as_fd(), seat as u64).unwrap_or(true)
    }

    /// Recovers and vacates every seat of the other side whose occupant is dead.
    fn empty_places(&self, former: Holder) -> Result<()> {
        for seat in 1..SEATS {
            let word = SeatWord::from_word(self.region().seat(seat).word.load(Ordering::Acquire));
            if !word.is_valid() || !word.is_joined() {
                // The next who joins says so if the word is impossible.
                continue;
            }
            let occupant = Holder::new(seat, word.generation());
            // Others than the former peer began a handshake and never ended it. Their locks tell whether they live.
            let is_dead = occupant == former || self.has_lost_its_memory(seat, word);
            if is_dead && self.recover(occupant) && !self.region().vacate_dead(occupant)? {
                return Err(Error::Busy);
            }
        }
        if self.state().is_corrupt() { Err(self.corrupt_error()) } else { Ok(()) }
    }

    /// Sees to it that no packet of a connection is left in either ring.
    fn drop_connections(&self) -> Result<()> {
        let mut demux = self.demux(0);
        let region = self.region();
        let reliable = demux.is_reliable();
        if region.facts().modes.protected && (demux.has_messages() || region.has(|_| true)?) {
            let what = "messages wait in the former peer's memory: receive them first, until the link ends";
            return Err(Error::Unsupported { what });
        }
        if self.state().is_demuxed() || !demux.is_idle() || region.has(|op| !Packet::is_plain(op))? {
            self.start_demux();
            let end = self.recv_end().unwrap_or(Error::PeerDead);
            demux.announce_end(&end);
            // No connection's inbox is too full any more, so that a lap of the ring is all there can be.
            demux.pump(Stop::Lap)?;
            if demux.has_connections() {
                let what = "connections with the former peer are still open: drop them first";
                return Err(Error::Unsupported { what });
            }
            if reliable && demux.has_messages() {
                // They belong to what was agreed with the former peer.
                let what = "messages of the former peer wait: receive them first, until the link ends";
                return Err(Error::Unsupported { what });
            }
            if region.has(|op| reliable || !Packet::is_plain(op))? {
                let what = "too many messages of former peers wait: receive them first, until the link ends";
                return Err(Error::Unsupported { what });
            }
        }
        let bounds = Bounds { max_message: u64::MAX, ..region.bounds() };
        // What is kept is sent again, behind what is agreed with the next peer.
        let gone = |op| reliable || !Packet::is_plain(op);
        region.retract(gone, |packet| match Operation::check(packet, &bounds) {
            Ok(Operation::ConnCopy(copy)) => copy.run,
            Ok(Operation::Copy { run, .. }) => run,
            _ => None,
        })
    }

    /// Gives the present peer up: it sees this end hang up.
    pub(crate) fn hang_up(&self) {
        // Without a socket there is nobody to be told.
        let _ = sock::hang_up(self.parts.socket.as_fd());
        self.check_liveness();
    }

    /// Goes on with another peer.
    pub(crate) fn replace_peer(&self, successor: Successor) -> Result<()> {
        let Successor { socket, pidfd, peer, seat, payload } = successor;
        if let Some(payload) = payload {
            self.parts.region.set_payload(1, payload)?;
        }
        let failed = |source| Error::Os { doing: "replacing the descriptors of the former peer", source };
        sock::replace(self.parts.pidfd.as_fd(), pidfd).map_err(failed)?;
        sock::quiet(socket.as_fd()).map_err(failed)?;
        sock::purge(self.parts.socket.as_fd());
        sock::replace(self.parts.socket.as_fd(), socket).map_err(failed)?;
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner) = peer;
        self.peer_seat.store(seat.bits(), Ordering::Relaxed);
        self.demux(0).renew(self.region());
        self.measure(false);
        self.state.attach_successor();
        // What came free meanwhile was told to nobody: the newcomer may sleep for it already.
        let _ = sock::ring(self.parts.socket.as_fd());
        Ok(())
    }
}
