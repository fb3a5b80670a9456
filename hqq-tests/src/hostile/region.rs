// unsafe: regions are laid out on memory that the attacker maps too, and recovered though nobody has died.
//! The sweep over the core: one store into one word of a region in some state, then one operation, then all others.

use std::os::fd::AsFd;
use std::ptr::NonNull;

use hqq::observe::Observer;
use hqq::shm::buffer::Buffer;
use hqq::shm::endpoint::{Incoming, Payload, SlotBytes};
use hqq::shm::layout::{Geometry, Layout, Modes, RingMode, required_bytes, required_scratch};
use hqq::shm::packet::{ConnCopy, Packet, op};
use hqq::shm::region::{Region, Setup};
use hqq::shm::words::{Holder, Role, Stamp};
use hqq::{Error, Result};
use hqq_sys::mem;
use std::sync::atomic::{AtomicU64, Ordering};

use super::memory::{Guarded, Memory};
use super::menu::{self, Found, VALUES};
use super::{Breach, breach};

const SLOTS: u32 = 4;
const BUFFERS: u32 = 4;
const SIZE: u64 = 64;
/// A lap before the wrap.
const LATE: u64 = (1 << 39) - 2;
/// More than any message of the sweep has.
const LONGEST: usize = 512;

/// What the rings and pools hold when the store comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Nothing.
    Fresh,
    /// A few messages under way both ways, one being read and one on loan at each end.
    Flowing,
    /// As much as the rings take.
    RingFull,
    /// Every buffer on loan, under way or being read.
    PoolOut,
    /// As `Flowing`, after some laps, at the wrap of the laps.
    Worn,
    /// The peer has claimed the next slot and taken the oldest, and gone no further.
    Halfway,
}

/// Every fill.
pub const FILLS: [Fill; 6] =
    [Fill::Fresh, Fill::Flowing, Fill::RingFull, Fill::PoolOut, Fill::Worn, Fill::Halfway];

/// What the victim does first after the store; the `Inside` ones have the store made between two of their steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Act {
    LoanOne,
    LoanAhead,
    LoanRun,
    LoanAll,
    SendInline,
    SendBuffer,
    SendRun,
    SendEmpty,
    SendBytes,
    SendChunk,
    SendPacket,
    ReceiveAny,
    ReceivePlain,
    ReceiveStraight,
    Peek,
    Look,
    GiveAll,
    RecoverPeer,
    RecoverStranger,
    AttachSecondary,
    AttachPrimary,
    Observe,
    SendInlineInside,
    SendBufferInside,
    SendChunkInside,
    ReceiveInside,
}

/// Every act.
pub const ACTS: [Act; 26] = {
    use Act::*;
    [
        LoanOne,
        LoanAhead,
        LoanRun,
        LoanAll,
        SendInline,
        SendBuffer,
        SendRun,
        SendEmpty,
        SendBytes,
        SendChunk,
        SendPacket,
        ReceiveAny,
        ReceivePlain,
        ReceiveStraight,
        Peek,
        Look,
        GiveAll,
        RecoverPeer,
        RecoverStranger,
        AttachSecondary,
        AttachPrimary,
        Observe,
        SendInlineInside,
        SendBufferInside,
        SendChunkInside,
        ReceiveInside,
    ]
};

impl Act {
    /// Whether the store comes in the middle of it.
    fn is_inside(self) -> bool {
        matches!(
            self,
            Self::SendInlineInside | Self::SendBufferInside | Self::SendChunkInside | Self::ReceiveInside
        )
    }
}

const MODES: [RingMode; 2] = [RingMode::Mpmc, RingMode::Spsc];
const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];

/// One case of the sweep.
#[derive(Clone, Copy, Debug)]
struct Case {
    victim: Role,
    ring: RingMode,
    fill: Fill,
    act: Act,
    value: usize,
    place: usize,
}

/// Memory and mappings that the cases share.
#[derive(Debug)]
pub struct Desk {
    memory: Memory,
    /// For the two ends, a newcomer, and the hostile hand.
    maps: [Guarded; 4],
    geometry: Geometry,
    layout: Layout,
    places: Vec<u64>,
}

/// One end under attack, and what it has in hand.
#[derive(Debug)]
pub struct End<'m> {
    pub(super) region: Region<'m>,
    base: NonNull<u8>,
    hands: Vec<Buffer<'m>>,
    /// Buffers in hand, a bit each, 64 in a word: of direction 0 and 1.
    lent: [Vec<u64>; 2],
    /// Calls that were made.
    pub operations: u64,
    /// Those that handed out or took in what they should.
    pub succeeded: u64,
    /// Those that called the region corrupt.
    pub corrupt: u64,
    /// Receives that found nothing, or nothing that was wanted.
    pub idle: u64,
    /// Whether nobody stores to the memory meanwhile, so that its bytes may be borrowed.
    quiet: bool,
}

impl<'m> End<'m> {
    /// An end on a mapping that begins at `base`.
    pub fn new(region: Region<'m>, base: NonNull<u8>, quiet: bool) -> Self {
        let words = (region.layout().geometry.buffers() as usize).div_ceil(64);
        let lent = [vec![0; words], vec![0; words]];
        Self {
            region,
            base,
            hands: Vec::new(),
            lent,
            operations: 0,
            succeeded: 0,
            corrupt: 0,
            idle: 0,
            quiet,
        }
    }

    /// Gives the seat up.
    ///
    /// # Errors
    /// As [`Region::leave`].
    pub fn leave(self) -> Result<bool> {
        self.region.leave()
    }

    /// Counts a call.
    fn done<T>(&mut self, result: Result<T>) -> Option<T> {
        self.operations += 1;
        self.succeeded += u64::from(result.is_ok());
        result.inspect_err(|error| self.failed(error)).ok()
    }

    fn failed(&mut self, error: &Error) {
        self.corrupt += u64::from(matches!(error, Error::Corrupt { .. }));
    }

    /// A buffer was handed out: it must lie in the pool, and not be in hand.
    fn got(&mut self, mut buffer: Buffer<'m>) {
        let layout = self.region.layout();
        let geometry = layout.geometry;
        let (run, direction) = (buffer.run(), buffer.direction());
        let inside = run.indices().end <= geometry.buffers() as usize && run.count > 0;
        let capacity = geometry.run_bytes(run.count) as usize;
        if !inside || buffer.capacity() != capacity || buffer.len() > capacity {
            breach(Breach::OutOfBounds, format!("{buffer:?} is not in the pool"));
        }
        if self.quiet {
            let start = layout.directions[direction].buffers + u64::from(run.first) * geometry.stride();
            let at = buffer.bytes().as_ptr() as usize;
            if at != self.base.as_ptr() as usize + start as usize {
                breach(Breach::OutOfBounds, format!("{buffer:?} lies elsewhere than its run"));
            }
        }
        let lent = &mut self.lent[direction];
        for index in run.indices() {
            if lent[index / 64] >> (index % 64) & 1 != 0 {
                breach(Breach::HeldTwice, format!("{run:?} of direction {direction} is in hand already"));
            }
            lent[index / 64] |= 1 << (index % 64);
        }
        // Every byte of it can be reached.
        let mut bytes = [7; LONGEST];
        if direction == self.region.role().direction() {
            buffer.write_at(0, &bytes[..buffer.len().min(LONGEST)]);
        } else {
            buffer.copy_to(0, &mut bytes);
        }
        self.hands.push(buffer);
    }

    /// Takes a buffer out of the hands, of the own direction or the other.
    fn hand(&mut self, own: bool) -> Option<Buffer<'m>> {
        let ours = self.region.role().direction();
        let at = self.hands.iter().rposition(|buffer| (buffer.direction() == ours) == own)?;
        let buffer = self.hands.swap_remove(at);
        let lent = &mut self.lent[buffer.direction()];
        buffer.run().indices().for_each(|index| lent[index / 64] &= !(1 << (index % 64)));
        Some(buffer)
    }

    fn loan(&mut self, len: usize) -> bool {
        let lent = self.region.loan(len);
        self.done(lent).map(|buffer| self.got(buffer)).is_some()
    }

    /// Sends a loan in hand, or a new one of `len` bytes.
    fn send(&mut self, len: usize, inside: impl FnOnce(&Packet)) {
        if !self.loan(len) {
            return;
        }
        let Some(buffer) = self.hand(true) else { return };
        let sent = self.region.send(buffer, inside).map_err(|(error, buffer)| {
            self.got(buffer);
            error
        });
        self.done(sent);
    }

    fn send_empty(&mut self) {
        if !self.loan(100) {
            return;
        }
        let Some(mut buffer) = self.hand(true) else { return };
        buffer.truncate(0);
        let sent = self.region.send(buffer, |_| {}).map_err(|(error, buffer)| {
            self.got(buffer);
            error
        });
        self.done(sent);
    }

    fn send_chunk(&mut self, inside: impl FnOnce(&Packet)) {
        let sizes =
            ConnCopy { conn: 1, copy_id: 0, copy_size: 60, transfer_size: 60, transfer_offset: 0, run: None };
        if !self.loan(60) {
            return;
        }
        let Some(buffer) = self.hand(true) else { return };
        let sent = self.region.send_chunk(&sizes, Some(buffer), inside).map_err(|(error, buffer)| {
            buffer.into_iter().for_each(|buffer| self.got(buffer));
            error
        });
        self.done(sent);
    }

    /// Inspects what was received; returns whether there may be more.
    fn inspect(&mut self, incoming: Incoming<'m>) -> bool {
        match incoming {
            Incoming::Message(payload, _) => self.message(payload),
            Incoming::ConnData(copy, Some(buffer)) => {
                if copy.transfer_size != buffer.len() as u64 {
                    breach(Breach::OutOfBounds, format!("{copy:?} in {buffer:?}"));
                }
                self.got(buffer);
            }
            Incoming::Empty | Incoming::Other(_) | Incoming::Busy => return false,
            Incoming::ConnData(_, None) | Incoming::Control(_) | Incoming::Refused(_) | Incoming::Skipped => {
            }
        }
        true
    }

    fn message(&mut self, payload: Payload<'m>) {
        match payload {
            Payload::Pool(buffer) => self.got(buffer),
            Payload::Slot(inline) => {
                if inline.bytes().len() > 48 {
                    breach(Breach::OutOfBounds, format!("{inline:?}"));
                }
            }
        }
    }

    fn receive(&mut self, wanted: fn(u8) -> bool, inside: impl FnOnce(&Packet)) -> bool {
        let incoming = self.region.receive(wanted, inside);
        let something = self.done(incoming).is_some_and(|incoming| self.inspect(incoming));
        self.idle += u64::from(!something);
        something
    }

    fn release_one(&mut self, own: bool) {
        if let Some(buffer) = self.hand(own) {
            self.region.give(buffer);
            self.operations += 1;
        }
    }

    fn release_all(&mut self) {
        while !self.hands.is_empty() {
            self.release_one(true);
            self.release_one(false);
        }
    }

    fn look(&mut self) {
        let _ = (self.region.has_room(), self.region.has_packet());
        let _ = (self.region.wake_receivers(), self.region.wake_senders());
        self.operations += 4;
    }

    fn peek(&mut self) {
        let peeked = self.region.peek();
        self.done(peeked);
    }

    fn recover(&mut self, dead: Holder) {
        if dead.seat() == self.region.holder().seat() {
            return;
        }
        let mut named = vec![0; self.region.layout().geometry.buffers() as usize];
        // SAFETY: nobody is dead, but whoever has the dead one's buffers reaches them with volatile accesses or not at
        // all, and through another mapping: it is to us what a hostile process is.
        let recovered = unsafe { self.region.recover(dead, &mut named) };
        if self.done(recovered).is_some() {
            // SAFETY: as above.
            let vacated = unsafe { self.region.vacate(dead) };
            self.done(vacated);
        }
    }

    /// Any call, chosen by a random number; for the scribbler.
    pub fn any(&mut self, random: &mut fastrand::Rng) {
        self.call(random.u8(..), random.u8(..));
    }

    /// The call with this number, with as much data as `size` says.
    pub fn call(&mut self, number: u8, size: u8) {
        let len = usize::from(size);
        match number % 32 {
            0..=3 => _ = self.loan(len % 65),
            4 => _ = self.loan(65 + len),
            5..=8 => self.send_inline(len % 49, |_| {}),
            9..=12 => self.send(1 + len % 64, |_| {}),
            13 => self.send(65 + len / 2, |_| {}),
            14 => self.send_chunk(|_| {}),
            15 => self.send_packet(),
            16 => _ = self.receive(Packet::is_plain, |_| {}),
            17..=20 => _ = self.receive(|_| true, |_| {}),
            21..=23 => self.receive_straight(),
            24 => self.peek(),
            25 => self.look(),
            26..=27 => self.release_one(true),
            28..=30 => self.release_one(false),
            _ if size == 0 => self.recover(Holder::new(7, 31)),
            _ => self.release_all(),
        }
        if self.hands.len() > 6 {
            self.release_all();
        }
    }

    fn send_inline(&mut self, len: usize, inside: impl FnOnce(&Packet)) {
        let sent = self.region.send_inline(&SlotBytes::zeroed(len), inside);
        self.done(sent);
    }

    fn send_packet(&mut self) {
        let sent = self.region.send_packet(&Packet::new(op::CONN_CREATE, [2]), |_| {});
        self.done(sent);
    }

    fn receive_straight(&mut self) {
        self.operations += 1;
        let mut payload = None;
        let position = self.region.receive_plain(&mut payload, |_| {});
        assert!(position.is_some() == payload.is_some(), "a position goes with a message");
        if let Some(payload) = payload {
            self.message(payload);
        }
    }

    /// Everything that an end can do, with what the case left it.
    fn all_the_rest(&mut self) {
        self.look();
        self.peek();
        self.receive_straight();
        for _ in 0..SLOTS + 2 {
            self.receive(|_| true, |_| {});
        }
        self.loan(64);
        self.loan(100);
        self.send_inline(5, |_| {});
        self.send(60, |_| {});
        self.send_chunk(|_| {});
        self.release_all();
        self.loan(256);
        self.release_all();
        for len in [10, 64, 200, 64] {
            self.loan(len);
        }
        self.send(64, |_| {});
        self.receive(Packet::is_plain, |_| {});
        self.release_all();
    }
}

impl Desk {
    /// A desk.
    ///
    /// # Panics
    /// If the kernel has no memory.
    pub fn new() -> Self {
        let page = mem::page_size() as u64;
        let geometry = Geometry::new(SLOTS, BUFFERS, SIZE).expect("a good geometry");
        let layout = Layout::new(geometry, page).expect("a good geometry");
        let memory = Memory::new(required_bytes(&geometry, page).expect("a good geometry"));
        let memory = memory.expect("memory for a small region");
        let maps = [0; 4].map(|_| memory.map().expect("a mapping"));
        Self { memory, maps, geometry, layout, places: menu::places(&layout) }
    }

    /// The words that are stored to.
    pub fn words(&self) -> usize {
        self.places.len()
    }

    /// How many cases there are.
    pub fn cases(&self) -> u64 {
        (ROLES.len() * MODES.len() * FILLS.len() * ACTS.len() * VALUES.len() * self.places.len()) as u64
    }

    fn case(&self, number: u64) -> Case {
        let mut rest = number as usize;
        let mut choose = |count: usize| {
            let choice = rest % count;
            rest /= count;
            choice
        };
        Case {
            place: choose(self.places.len()),
            value: choose(VALUES.len()),
            act: ACTS[choose(ACTS.len())],
            fill: FILLS[choose(FILLS.len())],
            ring: MODES[choose(MODES.len())],
            victim: ROLES[choose(ROLES.len())],
        }
    }

    /// What a case is, for people.
    pub fn describe(&self, number: u64) -> String {
        let Case { victim, ring, fill, act, value, place } = self.case(number);
        let word = menu::name(&self.layout, self.places[place]);
        format!("{act:?} by the {victim}, {fill:?}, {ring:?}: {word} becomes {}", VALUES[value].0)
    }

    /// Runs a case: how many operations that were, and how many of them called the region corrupt.
    ///
    /// # Panics
    /// As soon as the library does, or with a [`Breach`].
    pub fn run(&self, number: u64) -> (u64, u64) {
        let case = self.case(number);
        let late = case.fill == Fill::Worn;
        let setup = Setup {
            geometry: self.geometry,
            modes: Modes { ring: case.ring, ..Modes::default() },
            page: mem::page_size() as u64,
            epoch: 1,
            first_lap: if late { LATE } else { 0 },
            name: "hostile",
        };
        let words = required_scratch(&self.geometry);
        let (mut ours, mut theirs) = (vec![0; words], vec![0; words]);
        let [first, second, ..] = &self.maps;
        // SAFETY: the mappings outlive the ends; whoever else reaches the memory does so through other mappings, as a
        // hostile process would, and the ends take it for one: they borrow payload only while nobody stores to it.
        let (primary, secondary) = unsafe {
            let primary = Region::init(first.base(), first.len() as u64, &setup, &mut ours);
            let page = setup.page;
            let len = second.len() as u64;
            (primary, Region::attach(second.base(), len, page, Role::Secondary, &mut theirs))
        };
        let mut primary = End::new(primary.expect("a good region"), first.base(), true);
        let mut secondary = End::new(secondary.expect("a good region"), second.base(), true);
        self.fill(case.fill, &mut primary, &mut secondary, case.victim);
        let (victim, peer) = match case.victim {
            Role::Primary => (&mut primary, &mut secondary),
            Role::Secondary => (&mut secondary, &mut primary),
        };
        let offset = self.places[case.place];
        let hand = self.maps[3].words();
        let store = || {
            let value = VALUES[case.value].1(Found::at(hand, offset));
            hand[offset as usize / 8].store(value, Ordering::Release);
        };
        if !case.act.is_inside() {
            store();
        }
        self.act(case.act, victim, peer.region.holder(), &store);
        victim.all_the_rest();
        // The other end lives on the same words.
        peer.all_the_rest();
        victim.all_the_rest();
        let counts = (victim.operations + peer.operations, victim.corrupt + peer.corrupt);
        let _ = (primary.region.leave(), secondary.region.leave());
        counts
    }

    fn fill<'m>(&self, fill: Fill, primary: &mut End<'m>, secondary: &mut End<'m>, victim: Role) {
        match fill {
            Fill::Fresh => {}
            Fill::Flowing => flow(primary, secondary),
            Fill::Worn => {
                for turn in 0..11 {
                    primary.send(20 + 10 * turn, |_| {});
                    secondary.receive(|_| true, |_| {});
                    secondary.send(20 + 10 * turn, |_| {});
                    primary.receive(|_| true, |_| {});
                    secondary.release_all();
                    primary.release_all();
                }
                flow(primary, secondary);
            }
            Fill::RingFull => {
                for end in [primary, secondary] {
                    end.send(60, |_| {});
                    end.send_chunk(|_| {});
                    for _ in 0..SLOTS {
                        end.send_inline(9, |_| {});
                    }
                }
            }
            Fill::PoolOut => {
                primary.send(60, |_| {});
                secondary.receive(|_| true, |_| {});
                primary.send(60, |_| {});
                secondary.send(60, |_| {});
                primary.receive(|_| true, |_| {});
                secondary.send(60, |_| {});
                while primary.loan(60) {}
                while secondary.loan(60) {}
            }
            Fill::Halfway => {
                flow(primary, secondary);
                let (out, peer) = match victim {
                    Role::Primary => (0, secondary.region.holder()),
                    Role::Secondary => (1, primary.region.holder()),
                };
                let hand = self.maps[3].words();
                let slots = |direction: usize| {
                    let start = self.layout.directions[direction].ring as usize / 8;
                    (0..SLOTS as usize).map(move |slot| &hand[start + 8 * slot])
                };
                let state = |word: &AtomicU64| {
                    let stamp = Stamp::from_word(word.load(Ordering::Relaxed));
                    (stamp, stamp.state())
                };
                use hqq::shm::words::SlotState::{Free, Published};
                if let Some(word) = slots(out).find(|word| state(word).1 == Some(Published)) {
                    let stamp = state(word).0;
                    word.store(Stamp::taken(stamp.lap(), peer, stamp.op()).word(), Ordering::Release);
                }
                if let Some(word) = slots(1 - out).find(|word| state(word).1 == Some(Free)) {
                    let stamp = state(word).0;
                    word.store(Stamp::claimed(stamp.lap(), peer).word(), Ordering::Release);
                }
            }
        }
    }

    fn act(&self, act: Act, victim: &mut End<'_>, peer: Holder, store: &dyn Fn()) {
        match act {
            Act::LoanOne => _ = victim.loan(60),
            Act::LoanAhead => {
                victim.region.prepare();
                victim.loan(60);
            }
            Act::LoanRun => _ = victim.loan(120),
            Act::LoanAll => _ = victim.loan(256),
            Act::SendInline => victim.send_inline(48, |_| {}),
            Act::SendBuffer => victim.send(60, |_| {}),
            Act::SendRun => victim.send(120, |_| {}),
            Act::SendEmpty => victim.send_empty(),
            Act::SendBytes => {
                let sent = victim.region.send_bytes(&[3; 100], |_| {});
                victim.done(sent);
            }
            Act::SendChunk => victim.send_chunk(|_| {}),
            Act::SendPacket => victim.send_packet(),
            Act::ReceiveAny => _ = victim.receive(|_| true, |_| {}),
            Act::ReceivePlain => _ = victim.receive(Packet::is_plain, |_| {}),
            Act::ReceiveStraight => victim.receive_straight(),
            Act::Peek => victim.peek(),
            Act::Look => victim.look(),
            Act::GiveAll => victim.release_all(),
            Act::RecoverPeer => victim.recover(peer),
            Act::RecoverStranger => victim.recover(Holder::new(7, 31)),
            Act::AttachSecondary => self.newcomer(Role::Secondary),
            Act::AttachPrimary => self.newcomer(Role::Primary),
            Act::Observe => self.observe(),
            Act::SendInlineInside => victim.send_inline(48, |_| store()),
            Act::SendBufferInside => victim.send(60, |_| store()),
            Act::SendChunkInside => victim.send_chunk(|_| store()),
            Act::ReceiveInside => _ = victim.receive(|_| true, |_| store()),
        }
    }

    /// Somebody attaches to what is there now, and uses it.
    fn newcomer(&self, role: Role) {
        let map = &self.maps[2];
        let (len, page) = (map.len() as u64, mem::page_size() as u64);
        // SAFETY: as in `run`.
        let Ok(facts) = (unsafe { Region::inspect(map.base(), len, page) }) else { return };
        let mut scratch = vec![0; required_scratch(&facts.geometry)];
        // SAFETY: as in `run`.
        let region = unsafe { Region::attach(map.base(), len, page, role, &mut scratch) };
        if let Ok(region) = region {
            let mut end = End::new(region, map.base(), true);
            end.all_the_rest();
            let _ = end.region.leave();
        }
    }

    /// Somebody looks at what is there now.
    fn observe(&self) {
        if let Ok(observer) = Observer::open(self.memory.as_fd()) {
            let report = observer.check();
            let text: String = report.findings.iter().map(ToString::to_string).collect();
            assert_eq!(text.is_empty(), report.findings.is_empty());
            let stats = observer.stats();
            let _ = stats.sides[0].refused_total().wrapping_add(stats.sides[1].errors_received_total());
            let _ = observer.metrics().map(|figures| figures.directions.map(|way| way.latency.quantile(0.5)));
            assert_eq!(observer.seats().len(), 8);
            drop(observer.name());
        }
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self::new()
    }
}

/// A few messages under way both ways, one being read and one on loan at each end.
fn flow<'m>(primary: &mut End<'m>, secondary: &mut End<'m>) {
    primary.send(60, |_| {});
    secondary.send(60, |_| {});
    secondary.receive(|_| true, |_| {});
    primary.receive(|_| true, |_| {});
    for end in [primary, secondary] {
        end.send(50, |_| {});
        end.send_inline(10, |_| {});
        end.loan(64);
    }
}
