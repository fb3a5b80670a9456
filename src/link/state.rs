//! What one end of a link knows about itself and its peer, in one word of private memory.
//!
//! Nobody tests a bit outside this file: a [`Snapshot`] answers questions, and each change is a method of [`LinkState`].
//!
//! | transition | from | to |
//! |---|---|---|
//! | [`LinkState::demux`] | messages are received straight from the ring | packets are demultiplexed under the lock |
//! | [`LinkState::split`] | one owner, threads may have to take turns | each direction has an owner of its own |
//! | [`LinkState::shut_send`], [`LinkState::shut_recv`] | open | this end has shut the direction |
//! | [`LinkState::corrupt`] | any | shared memory is corrupt: nothing works any more |
//! | [`LinkState::peer_ended`] | [`PeerEnd::Attached`] | any other |
//! | [`LinkState::peer_ended`] | [`PeerEnd::Gone`] | [`PeerEnd::Dead`], once that is proved |
//! | [`LinkState::announce_end`] | the connections do not know of the end | they do |
//! | [`LinkState::attach_successor`] | any end of the peer but corruption | [`PeerEnd::Attached`] |

use crossbeam_utils::CachePadded;

use crate::shm::layout::RingMode;
use crate::sync::{AtomicU64, Ordering};

/// How the peer's end of a link has ended, if it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerEnd {
    /// It has not, as far as this end knows.
    Attached,
    /// The peer closed the link in order.
    Closed,
    /// The peer hung up without closing, and its process lives.
    Gone,
    /// The peer's process is dead, by proof. What its seat said before: its seat may be vacant by now.
    Dead {
        /// It had said that it sends no more.
        no_send: bool,
        /// It had said that it receives no more.
        no_recv: bool,
    },
}

/// Packets are demultiplexed under the lock.
const DEMUXED: u64 = 1;
/// Packets wait in the outbox.
const OUTGOING: u64 = 1 << 1;
const SEND_SHUT: u64 = 1 << 2;
const RECV_SHUT: u64 = 1 << 3;
const CORRUPT: u64 = 1 << 4;
/// The two directions have one owner each.
const SPLIT: u64 = 1 << 5;
/// The connection table knows of the peer's end.
const END_ANNOUNCED: u64 = 1 << 6;
/// The ring allows one sending thread, or one receiving thread, at a time.
const SERIAL_SEND: u64 = 1 << 7;
const SERIAL_RECV: u64 = 1 << 8;
/// A hook sees each packet.
const TRACED: u64 = 1 << 9;
/// Messages pass through a pipeline of layers.
const TRANSFORMED: u64 = 1 << 10;
/// Chunks of connections go by credit, class or rate.
const REGULATED: u64 = 1 << 11;
/// The [`PeerEnd`], as a number.
const PEER_END: u64 = 0b111 << 12;
const END_SHIFT: u32 = PEER_END.trailing_zeros();

const NO_SEND: u64 = SEND_SHUT | CORRUPT | PEER_END;
const NO_RECV: u64 = RECV_SHUT | CORRUPT;
/// What keeps a frame from being posted directly, and a message from being sent directly.
const SLOW_POST: u64 = NO_SEND | OUTGOING | SERIAL_SEND | TRACED;
const SLOW_SEND: u64 = SLOW_POST | TRANSFORMED;
/// What keeps a frame from being taken directly.
const SLOW_TAKE: u64 = NO_RECV | DEMUXED | SERIAL_RECV | TRACED;

impl PeerEnd {
    const fn number(self) -> u64 {
        match self {
            Self::Attached => 0,
            Self::Closed => 1,
            Self::Gone => 2,
            Self::Dead { no_send, no_recv } => 4 | no_send as u64 | (no_recv as u64) << 1,
        }
    }

    const fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Attached,
            1 => Self::Closed,
            2 | 3 => Self::Gone,
            dead => Self::Dead { no_send: dead & 1 != 0, no_recv: dead & 2 != 0 },
        }
    }

    /// Whether `next` is news after this: the first end counts, but a peer that is gone may be proved dead later.
    const fn precedes(self, next: Self) -> bool {
        match self {
            Self::Attached => !matches!(next, Self::Attached),
            Self::Gone => matches!(next, Self::Dead { .. }),
            Self::Closed | Self::Dead { .. } => false,
        }
    }
}

/// The state at one moment.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(u64);

impl Snapshot {
    #[inline(always)]
    fn has(self, bits: u64) -> bool {
        self.0 & bits != 0
    }

    /// Whether a frame, which is a message as it travels, can be put into the ring with nothing else to be done.
    #[inline(always)]
    pub(super) fn posts_directly(self) -> bool {
        !self.has(SLOW_POST)
    }

    /// Whether a message can be put into the ring as it is, with nothing else to be done.
    #[inline(always)]
    pub(super) fn sends_directly(self) -> bool {
        !self.has(SLOW_SEND)
    }

    /// Whether a frame can be taken from the ring with nothing else to be done.
    #[inline(always)]
    pub(super) fn takes_directly(self) -> bool {
        !self.has(SLOW_TAKE)
    }

    /// Whether messages are received from the ring without the lock, if perhaps with a trace.
    #[inline(always)]
    pub(super) fn receives_unlocked(self) -> bool {
        !self.has(NO_RECV | DEMUXED | SERIAL_RECV)
    }

    /// Whether nothing is known that ends a direction.
    #[inline(always)]
    pub(super) fn is_undisturbed(self) -> bool {
        !self.has(NO_SEND | NO_RECV)
    }

    /// Whether this end may send, as far as it knows.
    #[inline(always)]
    pub(super) fn can_send(self) -> bool {
        !self.has(NO_SEND)
    }

    /// Whether this end may receive.
    #[inline(always)]
    pub(super) fn can_recv(self) -> bool {
        !self.has(NO_RECV)
    }

    /// Whether packets wait in the outbox.
    #[inline(always)]
    pub(super) fn has_outgoing(self) -> bool {
        self.has(OUTGOING)
    }

    /// Whether packets are demultiplexed under the lock.
    #[inline(always)]
    pub(super) fn is_demuxed(self) -> bool {
        self.has(DEMUXED)
    }

    /// Whether each direction has an owner of its own, so that there are no connections.
    #[inline(always)]
    pub(super) fn is_split(self) -> bool {
        self.has(SPLIT)
    }

    /// Whether one thread at a time may send.
    #[inline(always)]
    pub(super) fn is_send_serial(self) -> bool {
        self.has(SERIAL_SEND)
    }

    /// Whether this end has shut its sending direction.
    #[inline(always)]
    pub(super) fn is_send_shut(self) -> bool {
        self.has(SEND_SHUT)
    }

    /// Whether this end has shut its receiving direction.
    pub(super) fn is_recv_shut(self) -> bool {
        self.has(RECV_SHUT)
    }

    /// Whether shared memory was found to be corrupt.
    pub(super) fn is_corrupt(self) -> bool {
        self.has(CORRUPT)
    }

    /// Whether chunks of connections go by credit, class or rate.
    #[inline(always)]
    pub(super) fn is_regulated(self) -> bool {
        self.has(REGULATED)
    }

    /// Whether the peer's end is known, so that its socket has nothing more to say.
    pub(super) fn has_peer_ended(self) -> bool {
        self.has(PEER_END)
    }

    /// How the peer's end has ended.
    pub(super) fn peer_end(self) -> PeerEnd {
        PeerEnd::from_number((self.0 & PEER_END) >> END_SHIFT)
    }
}

/// The state of one end of a link.
#[derive(Debug)]
pub(crate) struct LinkState(CachePadded<AtomicU64>);

impl LinkState {
    /// The state of a new end: attached and open.
    pub(super) fn new(ring: RingMode, traced: bool) -> Self {
        let bit = |is_set: bool, bit: u64| if is_set { bit } else { 0 };
        Self(CachePadded::new(AtomicU64::new(
            bit(traced, TRACED)
                | bit(ring.single_producer(), SERIAL_SEND)
                | bit(ring.single_consumer(), SERIAL_RECV),
        )))
    }

    /// The state now, and all that was stored before the last change.
    #[inline(always)]
    pub(super) fn load(&self) -> Snapshot {
        Snapshot(self.0.load(Ordering::Acquire))
    }

    /// The state now. What was stored before the last change may not be visible yet.
    #[inline(always)]
    pub(super) fn load_relaxed(&self) -> Snapshot {
        Snapshot(self.0.load(Ordering::Relaxed))
    }

    /// Sets bits. Whether any of them is new.
    fn set(&self, bits: u64) -> bool {
        self.0.fetch_or(bits, Ordering::AcqRel) & bits != bits
    }

    fn clear(&self, bits: u64) {
        self.0.fetch_and(!bits, Ordering::AcqRel);
    }

    /// From now on packets are demultiplexed under the lock.
    pub(super) fn demux(&self) {
        self.set(DEMUXED);
    }

    /// From now on each direction has one owner, which needs no turns. What has been demultiplexed before must come out
    /// first: then `demuxed` is true.
    pub(super) fn split(&self, demuxed: bool) {
        self.set(SPLIT | if demuxed { DEMUXED } else { 0 });
        self.clear(SERIAL_SEND | SERIAL_RECV);
    }

    /// Whether packets wait in the outbox, from now on.
    pub(super) fn set_outgoing(&self, waits: bool) {
        if waits {
            self.set(OUTGOING);
        } else {
            self.clear(OUTGOING);
        }
    }

    /// This end sends no more.
    pub(super) fn shut_send(&self) {
        self.set(SEND_SHUT);
    }

    /// This end receives no more.
    pub(super) fn shut_recv(&self) {
        self.set(RECV_SHUT);
    }

    /// Shared memory is corrupt.
    pub(super) fn corrupt(&self) {
        self.set(CORRUPT);
    }

    /// From now on messages pass through a pipeline.
    pub(super) fn transform(&self) {
        self.set(TRANSFORMED);
    }

    /// From now on chunks of connections go by credit, class or rate.
    pub(super) fn regulate(&self) {
        self.set(REGULATED);
    }

    /// The peer's end is known. Nothing changes if more was known already.
    pub(super) fn peer_ended(&self, end: PeerEnd) {
        let mut word = self.0.load(Ordering::Relaxed);
        while Snapshot(word).peer_end().precedes(end) {
            let next = word & !PEER_END | end.number() << END_SHIFT;
            match self.0.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(found) => word = found,
            }
        }
    }

    /// The connection table is about to be told of the end. Whether this is the first time.
    #[must_use]
    pub(super) fn announce_end(&self) -> bool {
        self.set(END_ANNOUNCED)
    }

    /// Another peer takes the place of the one that has ended, and nothing was agreed with it yet.
    pub(super) fn attach_successor(&self) {
        self.clear(PEER_END | END_ANNOUNCED | OUTGOING | REGULATED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: [PeerEnd; 7] = [
        PeerEnd::Attached,
        PeerEnd::Closed,
        PeerEnd::Gone,
        PeerEnd::Dead { no_send: false, no_recv: false },
        PeerEnd::Dead { no_send: true, no_recv: false },
        PeerEnd::Dead { no_send: false, no_recv: true },
        PeerEnd::Dead { no_send: true, no_recv: true },
    ];

    #[test]
    fn every_end_of_the_peer_comes_out_as_it_went_in() {
        for end in ENDS {
            assert_eq!(PeerEnd::from_number(end.number()), end);
            assert!(end.number() << END_SHIFT & !PEER_END == 0);
        }
    }

    #[test]
    fn the_first_end_of_the_peer_counts_unless_death_is_proved_later() {
        for first in ENDS {
            for second in ENDS {
                let state = LinkState::new(RingMode::Mpmc, false);
                state.peer_ended(first);
                state.peer_ended(second);
                let dies = first == PeerEnd::Gone && matches!(second, PeerEnd::Dead { .. });
                let expected = if first == PeerEnd::Attached || dies { second } else { first };
                assert_eq!(state.load().peer_end(), expected, "{first:?}, then {second:?}");
                assert_eq!(state.load().can_send(), expected == PeerEnd::Attached);
                state.attach_successor();
                assert_eq!(state.load(), LinkState::new(RingMode::Mpmc, false).load());
            }
        }
    }

    #[test]
    fn each_transition_closes_the_direct_ways_that_it_must() {
        // The transition, and whether messages are still sent, and received, directly.
        type Transition = fn(&LinkState);
        let all: [(Transition, bool, bool); 9] = [
            (LinkState::demux, true, false),
            (|state| state.split(false), true, true),
            (|state| state.split(true), true, false),
            (|state: &LinkState| state.set_outgoing(true), false, true),
            (LinkState::shut_send, false, true),
            (LinkState::shut_recv, true, false),
            (LinkState::corrupt, false, false),
            (LinkState::transform, false, true),
            (LinkState::regulate, true, true),
        ];
        for (number, (transition, sends, receives)) in all.into_iter().enumerate() {
            let state = LinkState::new(RingMode::Mpmc, false);
            assert!(state.load().sends_directly() && state.load().takes_directly());
            transition(&state);
            let after = (state.load().sends_directly(), state.load().takes_directly());
            assert_eq!(after, (sends, receives), "transition {number}");
        }
        let serial = LinkState::new(RingMode::Spsc, false);
        assert!(!serial.load().sends_directly() && !serial.load().takes_directly());
        serial.split(false);
        assert!(serial.load().sends_directly() && serial.load().takes_directly());
        assert!(!LinkState::new(RingMode::Mpmc, true).load().sends_directly());
    }

    #[test]
    fn the_end_is_announced_once() {
        let state = LinkState::new(RingMode::Mpmc, false);
        assert!(state.announce_end() && !state.announce_end());
    }
}
