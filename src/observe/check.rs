//! Checks every control word of a region against the rules of the protocol.
//!
//! A region in use changes while it is read, so words that are read one after the other may contradict each other
//! although none is wrong. Therefore the region is read up to four times, and only findings that every pass made,
//! with the same values, are reported. This suffices: words that did not change from the first pass to the last had
//! those values all the time. So a pass in between read them together with the words that it compared them with.
//! Where a value may recur (a buffer's word), the comparison includes one that does not (the stamp of the slot that
//! names the buffer, or the seat that its holder left).

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::mem::{offset_of, size_of};

use crate::observe::load::load;
use crate::observe::observer::Observer;
use crate::shm::layout::DirectionLayout;
use crate::shm::packet::{Bounds, Operation, Packet, op};
use crate::shm::region::{Facts, Views};
use crate::shm::words::{
    BufferState, BufferWord, FORMAT, Holder, Lap, LeaseWord, MAGIC, NAME_WORDS, READY, Role, SEATS,
    SLOT_BYTES, Seat, SeatWord, Side, SideCounters, SleepersWord, Slot, SlotState, Stamp, Superblock,
};
use crate::sync::{AtomicU64, Ordering, fence};

/// Most passes over the region. Passes end when one has no findings.
const PASSES: usize = 4;
/// Most readings of a slot that changes while it is read. A slot that always changes is in use, and is not checked
/// further.
const TRIES: usize = 4;

/// A word, or a pair of words, with a value that no operation of the protocol produces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of the word, and details.
    pub what: String,
    /// Offset of the word from the region's start, bytes.
    pub offset: u64,
    /// Value of the word.
    pub found: u64,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, offset, found, rule } = self;
        write!(f, "{what}: 0x{found:016x} at offset 0x{offset:x}; but {rule}")
    }
}

/// A ring slot that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldSlot {
    /// Direction: 0 from the Primary to the Secondary, 1 back.
    pub direction: usize,
    /// Index of the slot in the ring.
    pub index: u32,
    /// Lap of the slot.
    pub lap: u64,
    /// How many slots of this direction were claimed before it since the region was created.
    pub position: u64,
    /// State of the slot, with its holder.
    pub state: SlotState,
    /// Seat of the holder, if the slot is claimed or taken.
    pub seat: Option<usize>,
    /// Name of the packet's operation in the specification. `None` while the slot is only claimed.
    pub op: Option<&'static str>,
}

/// A buffer that is owned or held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBuffer {
    /// Direction: 0 from the Primary to the Secondary, 1 back.
    pub direction: usize,
    /// Index of the buffer in the pool.
    pub index: u32,
    /// State of the buffer, with its holder.
    pub state: BufferState,
    /// Seat of the holder.
    pub seat: usize,
    /// Index of the published or taken slot that names the buffer. Then the buffer is in flight, and the slot takes
    /// precedence over its word.
    pub in_flight_in_slot: Option<u32>,
}

/// Result of [`Observer::check`].
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Words that break a rule, sorted by offset. Empty for a sound region.
    pub findings: Vec<Finding>,
    /// Slots that were not free in the last pass.
    pub slots: Vec<HeldSlot>,
    /// Buffers that were owned or held in the last pass.
    pub buffers: Vec<HeldBuffer>,
}

impl Observer {
    /// Checks every control word of the region, and lists the slots and buffers in use.
    ///
    /// The link may be in use: the region is read up to four times, and only findings that do not change are
    /// reported. Not checked are payload, operands that an operation does not use, padding between sections, and
    /// words that may have any value (counters, process ids). The time is proportional to the number of slots and
    /// buffers, whatever their words contain.
    pub fn check(&self) -> Report {
        let mut pass = Pass::run(self);
        for _ in 1..PASSES {
            if pass.suspects.is_empty() {
                break;
            }
            std::thread::yield_now();
            let before: HashSet<Key> = pass.suspects.iter().map(Suspect::key).collect();
            pass = Pass::run(self);
            pass.suspects.retain(|suspect| before.contains(&suspect.key()));
        }
        let mut findings: Vec<Finding> = pass.suspects.into_iter().map(|suspect| suspect.finding).collect();
        findings.sort_by_key(|finding| finding.offset);
        Report { findings, slots: pass.slots, buffers: pass.buffers }
    }
}

/// Identifies equal findings of different passes: offset, value, rule and evidence.
type Key = (u64, u64, &'static str, [u64; 2]);

/// A finding of one pass, and the values that its word was compared with.
struct Suspect {
    finding: Finding,
    evidence: [u64; 2],
}

impl Suspect {
    fn key(&self) -> Key {
        (self.finding.offset, self.finding.found, self.finding.rule, self.evidence)
    }
}

/// A word that is being checked.
#[derive(Clone, Copy)]
struct Place {
    name: Name,
    offset: u64,
    found: u64,
}

/// Name of a word. It is formatted only for a finding.
#[derive(Clone, Copy)]
enum Name {
    /// A word that there is once.
    One(&'static str),
    /// A word that there is several times, with its number.
    Nth(&'static str, usize),
    Slot(u32, usize),
    Buffer(u32, usize),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => f.write_str(name),
            Self::Nth(name, i) => write!(f, "{name} {i}"),
            Self::Slot(index, direction) => write!(f, "slot {index} of ring {direction}"),
            Self::Buffer(index, direction) => write!(f, "buffer {index} of pool {direction}"),
        }
    }
}

/// One pass over the whole region.
struct Pass<'a> {
    views: Views<'a>,
    facts: Facts,
    seats: [SeatWord; SEATS],
    suspects: Vec<Suspect>,
    slots: Vec<HeldSlot>,
    buffers: Vec<HeldBuffer>,
}

impl<'a> Pass<'a> {
    fn run(observer: &'a Observer) -> Self {
        let views = *observer.views();
        let seats = &views.superblock().seats;
        let seats = std::array::from_fn(|i| SeatWord::from_word(load(&seats[i].word)));
        let facts = *observer.facts();
        let (suspects, slots, buffers) = Default::default();
        let mut pass = Self { views, facts, seats, suspects, slots, buffers };
        pass.superblock();
        pass.sides();
        for direction in 0..2 {
            pass.direction(direction);
        }
        pass
    }

    fn suspect(&mut self, place: Place, rule: &'static str) {
        self.suspect_beside(place, rule, [0; 2], format_args!(""));
    }

    /// Records a word that contradicts `evidence`. `detail` is appended to its name in the report.
    fn suspect_beside(
        &mut self,
        place: Place,
        rule: &'static str,
        evidence: [u64; 2],
        detail: fmt::Arguments<'_>,
    ) {
        let Place { name, offset, found } = place;
        let finding = Finding { what: format!("{name}{detail}"), offset, found, rule };
        self.suspects.push(Suspect { finding, evidence });
    }

    fn zeros(&mut self, name: Name, offset: usize, words: &[AtomicU64], rule: &'static str) {
        for (offset, word) in (offset as u64..).step_by(8).zip(words) {
            let found = load(word);
            if found != 0 {
                self.suspect(Place { name, offset, found }, rule);
            }
        }
    }

    /// Checks the words that do not change after the region was created.
    fn superblock(&mut self) {
        let superblock = self.views.superblock();
        let Facts { geometry, modes, page, epoch, first_lap } = self.facts;
        let len = self.views.layout().len;
        for (word, offset, name, fixed) in [
            (&superblock.magic, offset_of!(Superblock, magic), "the magic", MAGIC),
            (&superblock.format, offset_of!(Superblock, format), "the format version", FORMAT),
            (&superblock.page_size, offset_of!(Superblock, page_size), "the page size", page),
            (&superblock.region_len, offset_of!(Superblock, region_len), "the region's length", len),
            (&superblock.slots, offset_of!(Superblock, slots), "the slots", geometry.slots().into()),
            (&superblock.buffers, offset_of!(Superblock, buffers), "the buffers", geometry.buffers().into()),
            (
                &superblock.buffer_size,
                offset_of!(Superblock, buffer_size),
                "the buffer size",
                geometry.buffer_size(),
            ),
            (&superblock.stride, offset_of!(Superblock, stride), "the stride", geometry.stride()),
            (&superblock.modes, offset_of!(Superblock, modes), "the modes", modes.word()),
            (&superblock.epoch, offset_of!(Superblock, epoch), "the epoch", epoch),
            (&superblock.first_lap, offset_of!(Superblock, first_lap), "the first lap", first_lap),
            (&superblock.ready, offset_of!(Superblock, ready), "the ready word", READY),
        ] {
            let place = Place { name: Name::One(name), offset: offset as u64, found: load(word) };
            if place.found != fixed {
                let detail = format_args!(", which was 0x{fixed:x}");
                self.suspect_beside(place, "it never changes once the region is ready", [0; 2], detail);
            }
        }
        if Lap::new(first_lap).number() != first_lap {
            let offset = offset_of!(Superblock, first_lap) as u64;
            let place = Place { name: Name::One("the first lap"), offset, found: first_lap };
            self.suspect(place, "a lap has 39 bits");
        }
        let reserved = offset_of!(Superblock, reserved);
        self.zeros(Name::One("a reserved word of the superblock"), reserved, &superblock.reserved, RESERVED);
        let words: [u64; NAME_WORDS] = std::array::from_fn(|i| load(&superblock.name[i]));
        if let Some(bad) = bad_name_word(&words) {
            let offset = (offset_of!(Superblock, name) + bad * 8) as u64;
            let place = Place { name: Name::One("the link's name"), offset, found: words[bad] };
            self.suspect(place, "the name is UTF-8 and then zeros");
        }
    }

    /// Checks seats, sleepers and reserved words.
    fn sides(&mut self) {
        let superblock = self.views.superblock();
        for (i, side) in superblock.sides.iter().enumerate() {
            let at = offset_of!(Superblock, sides) + i * size_of::<Side>();
            let name = Name::Nth("the sleepers of side", i);
            let place = Place { name, offset: at as u64, found: load(&side.sleepers) };
            if !SleepersWord::from_word(place.found).is_valid() {
                self.suspect(place, "bit 63 is set, and beside it only two bits for each seat");
            }
            let name = Name::Nth("a reserved word of side", i);
            self.zeros(name, at + offset_of!(Side, reserved), &side.reserved, RESERVED);
        }
        for (i, side) in superblock.reserved2.iter().enumerate() {
            let at = offset_of!(Superblock, reserved2) + i * size_of::<Side>();
            let name = Name::One("a reserved word of the superblock");
            self.zeros(name, at, std::slice::from_ref(&side.sleepers), RESERVED);
            self.zeros(name, at + offset_of!(Side, reserved), &side.reserved, RESERVED);
        }
        for (i, seat) in superblock.seats.iter().enumerate() {
            let at = offset_of!(Superblock, seats) + i * size_of::<Seat>();
            let place = Place { name: Name::Nth("seat", i), offset: at as u64, found: self.seats[i].word() };
            if !self.seats[i].is_valid() {
                self.suspect(place, DECODES);
            }
            let name = Name::Nth("a reserved word of seat", i);
            self.zeros(name, at + offset_of!(Seat, reserved), &seat.reserved, RESERVED);
        }
        for (i, counters) in superblock.counters.iter().enumerate() {
            let at = offset_of!(Superblock, counters) + i * size_of::<SideCounters>();
            let name = Name::Nth("an unused counter of side", i);
            let unused = &counters.refused[..1];
            let rule = "no refusal has error code 0";
            self.zeros(name, at + offset_of!(SideCounters, refused), unused, rule);
        }
    }

    /// Checks ring, pool and lease of a direction.
    fn direction(&mut self, direction: usize) {
        let layout = self.views.layout().directions[direction];
        let named = self.ring(direction, &layout);
        let sender = [Role::Primary, Role::Secondary][direction];
        let found = load(self.views.lease(direction));
        let place = Place { name: Name::Nth("the lease of pool", direction), offset: layout.lease, found };
        match LeaseWord::from_word(found).holder() {
            None => self.suspect(place, DECODES),
            Some(None) => {}
            Some(Some(by)) => self.holder(place, by, sender, false),
        }
        // Slots take precedence over buffer words, so they must be read before them.
        fence(Ordering::Acquire);
        let words = self.views.buffer_words(direction);
        for ((index, word), naming) in (0..).zip(words).zip(named) {
            let found = load(word);
            let name = Name::Buffer(index, direction);
            let place = Place { name, offset: layout.pool + u64::from(index) * 8, found };
            let (state, by, side) = match BufferWord::from_word(found).state() {
                None => {
                    self.suspect(place, DECODES);
                    continue;
                }
                Some(state @ (BufferState::Free | BufferState::Spare(_))) => {
                    if let BufferState::Spare(by) = state {
                        self.holder(place, by, sender, false);
                    }
                    if let Some((slot, stamp)) = naming {
                        let detail = format_args!(", named by slot {slot}");
                        self.suspect_beside(place, IN_FLIGHT, [slot.into(), stamp], detail);
                    }
                    continue;
                }
                Some(state @ BufferState::Owned(by)) => (state, by, sender),
                Some(state @ BufferState::Held(by)) => (state, by, sender.other()),
            };
            self.holder(place, by, side, naming.is_some());
            let in_flight_in_slot = naming.map(|(slot, _)| slot);
            self.buffers.push(HeldBuffer { direction, index, state, seat: by.seat(), in_flight_in_slot });
        }
    }

    /// Checks the slots of a ring. Returns for each buffer the slot that names it, with the slot's stamp.
    fn ring(&mut self, direction: usize, layout: &DirectionLayout) -> Vec<Option<(u32, u64)>> {
        let sender = [Role::Primary, Role::Secondary][direction];
        let ring = self.facts.modes.ring;
        let capacity = u64::from(self.facts.geometry.slots());
        let mut named = vec![None; self.facts.geometry.buffers() as usize];
        let mut laps = Vec::with_capacity(capacity as usize);
        let mut places = Vec::with_capacity(capacity as usize);
        let mut first = None;
        for (index, slot) in (0..).zip(self.views.slots(direction)) {
            let (stamp, packet) = snapshot(slot);
            let offset = layout.ring + u64::from(index) * SLOT_BYTES as u64;
            let place = Place { name: Name::Slot(index, direction), offset, found: stamp.word() };
            places.push(place);
            let Some(state) = stamp.state() else {
                self.suspect(place, DECODES);
                laps.push(None);
                continue;
            };
            let free = state == SlotState::Free;
            let first = *first.get_or_insert(stamp.lap());
            // The lap in which the slot was last claimed, relative to the first slot's lap.
            laps.push(Some(stamp.lap().ahead_of(first) - i64::from(free)));
            let seat = match state {
                SlotState::Free | SlotState::Published => None,
                SlotState::Claimed(by) => {
                    if ring.single_producer() {
                        self.suspect(place, "a single producer publishes without a claim");
                    }
                    self.holder(place, by, sender, false);
                    Some(by.seat())
                }
                SlotState::Taken(by) => {
                    if ring.single_consumer() {
                        self.suspect(place, "a single consumer releases without marking a slot");
                    }
                    self.holder(place, by, sender.other(), false);
                    Some(by.seat())
                }
            };
            let filled = matches!(state, SlotState::Published | SlotState::Taken(_));
            if let (true, Some(packet)) = (filled, packet) {
                self.packet(place, index, &packet, &mut named);
            }
            if !free {
                let lap = stamp.lap().number();
                let laps = Lap::new(lap.wrapping_sub(self.facts.first_lap)).number();
                let position = laps * capacity + u64::from(index);
                let op = filled.then(|| Packet::name(stamp.op()));
                self.slots.push(HeldSlot { direction, index, lap, position, state, seat, op });
            }
        }
        for index in misfits(&laps) {
            let place = places[index];
            let detail = format_args!(", in lap {}", Stamp::from_word(place.found).lap().number());
            self.suspect_beside(place, LAPS, [0; 2], detail);
        }
        named
    }

    /// Checks the packet of a published or taken slot, and records in `named` the buffers that it names.
    fn packet(&mut self, place: Place, index: u32, packet: &Packet, named: &mut [Option<(u32, u64)>]) {
        if packet.op == op::TOMBSTONE {
            return;
        }
        // Each end limits messages by itself; an observer does not know the limit.
        let bounds = Bounds { geometry: self.facts.geometry, max_message: u64::MAX };
        let run = match Operation::check(packet, &bounds) {
            Ok(Operation::Copy { run, .. }) => run,
            Ok(Operation::ConnCopy(copy)) => copy.run,
            Ok(_) => None,
            Err(fault) => {
                let (name, operands) = (Packet::name(packet.op), packet.operands);
                let detail = format_args!(", {name} {operands:x?}: {}", fault.code);
                return self.suspect_beside(place, PACKET, [0; 2], detail);
            }
        };
        let Some(run) = run else { return };
        for buffer in run.indices() {
            match named[buffer] {
                None => named[buffer] = Some((index, place.found)),
                Some((slot, stamp)) => {
                    let detail = format_args!(", naming buffer {buffer} like slot {slot}");
                    // Stops here: else a hostile region could prolong the check to slots times buffers.
                    return self.suspect_beside(place, ONCE, [slot.into(), stamp], detail);
                }
            }
        }
    }

    /// Checks that the holder `by` of a word occupies a seat on `side`. With `may_be_gone`, it may have left: a
    /// buffer stays in flight when its sender leaves.
    fn holder(&mut self, place: Place, by: Holder, side: Role, may_be_gone: bool) {
        let seat = self.seats[by.seat()];
        let present = seat.is_joined() && seat.generation() == by.generation();
        let rule = match (present, side) {
            // An invalid seat word is a finding of its own.
            _ if !seat.is_valid() => return,
            (true, side) if seat.role() == side => return,
            (true, Role::Primary) => "this is held by the Primary's side only",
            (true, Role::Secondary) => "this is held by the Secondary's side only",
            (false, _) if may_be_gone => return,
            (false, _) => "the holder of a word occupies a seat",
        };
        let detail = format_args!(", of seat {} generation {}", by.seat(), by.generation());
        self.suspect_beside(place, rule, [seat.word(), 0], detail);
    }
}

const DECODES: &str = "no operation leaves this value";
const RESERVED: &str = "reserved words are zero";
const LAPS: &str = "the claimed positions have no holes and span one lap";
const PACKET: &str = "a packet has an opcode and operands that its receiver accepts";
const ONCE: &str = "a buffer travels in one slot at a time";
const IN_FLIGHT: &str = "a buffer is not free while a slot names it";

/// Copies a slot's stamp, and its packet if the slot did not change meanwhile.
fn snapshot(slot: &Slot) -> (Stamp, Option<Packet>) {
    let mut stamp = load(&slot.stamp);
    for _ in 0..TRIES {
        fence(Ordering::Acquire);
        let operands = std::array::from_fn(|i| load(&slot.operands[i]));
        fence(Ordering::Acquire);
        let again = load(&slot.stamp);
        if again == stamp {
            let stamp = Stamp::from_word(stamp);
            return (stamp, Some(Packet { op: stamp.op(), operands }));
        }
        stamp = again;
    }
    (Stamp::from_word(stamp), None)
}

/// Index of the first word of a name that is not UTF-8 followed by zeros.
fn bad_name_word(words: &[u64; NAME_WORDS]) -> Option<usize> {
    let bytes = words.map(u64::to_le_bytes);
    let bytes = bytes.as_flattened();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let bad = match std::str::from_utf8(&bytes[..end]) {
        Err(error) => Some(error.valid_up_to()),
        Ok(_) => bytes[end..].iter().position(|byte| *byte != 0).map(|at| end + at),
    };
    bad.map(|at| at / 8)
}

/// Indices of the slots whose laps contradict the others'. `laps` has the lap in which each slot was last claimed, or
/// `None` if its stamp is not valid.
///
/// Claimed positions have no holes. So the ring splits at some index: all slots before it were last claimed in one
/// lap, and all others in the lap before. This finds the split that the most slots fit. Any other slot is a misfit if
/// it is a lap or more apart from a slot that fits.
pub(super) fn misfits(laps: &[Option<i64>]) -> Vec<usize> {
    let mut counts = BTreeMap::new();
    for lap in laps.iter().flatten() {
        *counts.entry(*lap).or_insert(0) += 1;
    }
    let Some((&usual, _)) = counts.iter().max_by_key(|(_, count)| **count) else { return Vec::new() };
    let differs = |found: &Option<i64>, want: i64| i64::from(found.is_some_and(|found| found != want));
    let mut best: Option<(i64, i64, usize)> = None;
    for lap in [usual, usual + 1] {
        let mut wrong: i64 = laps.iter().map(|found| differs(found, lap - 1)).sum();
        for (index, found) in laps.iter().enumerate() {
            wrong += differs(found, lap) - differs(found, lap - 1);
            if best.is_none_or(|(least, ..)| wrong < least) {
                best = Some((wrong, lap, index + 1));
            }
        }
    }
    let Some((_, lap, split)) = best else { return Vec::new() };
    let fits = |index: usize, found: i64| found == lap - i64::from(index >= split);
    let place = |index: usize, found: i64| found * laps.len() as i64 + index as i64;
    let known = || laps.iter().enumerate().filter_map(|(index, found)| Some((index, (*found)?)));
    let fitting = || known().filter(|(index, found)| fits(*index, *found)).map(|(i, found)| place(i, found));
    let (Some(least), Some(most)) = (fitting().min(), fitting().max()) else { return Vec::new() };
    let misfit = known().filter(|(index, found)| {
        let at = place(*index, *found);
        let lap = laps.len() as i64;
        !fits(*index, *found) && (at - least >= lap || most - at >= lap)
    });
    misfit.map(|(index, _)| index).collect()
}
