//! Random schedules of both ends with rings between them, and a death at any step, against an oracle.
//!
//! Legal outcomes, for every message that was pushed and not withdrawn:
//!
//! - a receiver that acknowledges inside its commit: processed exactly once;
//! - one that records afterwards, or keeps no record: at least once;
//! - if the sender dies: at most once inside a commit; what was in the ring exactly once, if the receiver lives.
//!
//! Always: first deliveries are in the order of the pushes, one receiver is never given a message twice, nothing is
//! freed that is not processed, and both ends stay within their limits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

const LIMITS: StoreLimits = StoreLimits { messages: 10, bytes: 200 };
const RING: usize = 6;

/// When a receiver makes durable that it has processed a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    /// In one commit with the processing.
    Inside,
    /// In a step of its own after the processing.
    After,
    Never,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    record: Record,
    /// Messages are processed in the order of their delivery.
    in_order: bool,
    receivers_die: bool,
    senders_die: bool,
}

#[derive(Debug)]
enum Packet {
    Frame(Vec<u8>),
    Start([u64; 7]),
}

#[derive(Debug)]
enum Answer {
    Resume([u64; 7]),
    Ack([u64; 7]),
}

/// What survives a receiver.
#[derive(Default)]
struct Durable {
    session: Option<NonZeroU64>,
    upto: u64,
    beyond: BTreeSet<u64>,
}

impl Durable {
    fn record(&mut self, receipt: Receipt) {
        if self.session != Some(receipt.session) {
            *self = Self { session: Some(receipt.session), ..Self::default() };
        }
        self.beyond.insert(receipt.sequence);
    }

    /// What a receiver's table may forget: an unbroken row, as its inbox tells it.
    fn prune(&mut self, position: Position) {
        if self.session == Some(position.session) {
            self.upto = self.upto.max(position.upto);
            self.beyond = self.beyond.split_off(&(self.upto + 1));
        }
    }
}

/// A message on its way through the application: its name for the oracle, and whether it is processed and recorded.
struct Work {
    receipt: Receipt,
    name: u64,
    processed: bool,
    recorded: bool,
}

struct World {
    plan: Plan,
    random: Rng,
    now: Duration,
    store: Store,
    sessions: u64,
    ring: VecDeque<Packet>,
    back: VecDeque<Answer>,
    inbox: Inbox,
    work: Vec<Work>,
    durable: Durable,
    /// Messages by the sequence of the present session.
    names: BTreeMap<u64, u64>,
    pushed: u64,
    processed: BTreeMap<u64, u32>,
    /// Sequences of this session that were looked at already and found free.
    checked: u64,
    /// The last name that any receiver was given.
    newest: u64,
    /// Names that this receiver was given.
    given: BTreeSet<u64>,
    /// Names that died with their sender.
    excused: BTreeSet<u64>,
    tally: Tally,
}

/// How often the cases that matter came up.
#[derive(Debug, Default)]
struct Tally {
    deaths: u64,
    repeats: u64,
    early: u64,
    duplicates: u64,
    resent: u64,
    full: u64,
    skipped: u64,
    excused: usize,
    withdrawn: u64,
    stale: u64,
}

impl World {
    fn new(seed: u64, plan: Plan) -> Self {
        let mut world = Self {
            plan,
            random: Rng::with_seed(seed),
            now: Duration::ZERO,
            store: Store::new(id(1), LIMITS),
            sessions: 1,
            ring: VecDeque::new(),
            back: VecDeque::new(),
            inbox: Inbox::new(LIMITS.messages, POLICY),
            work: Vec::new(),
            durable: Durable::default(),
            names: BTreeMap::new(),
            pushed: 0,
            processed: BTreeMap::new(),
            checked: 0,
            newest: 0,
            given: BTreeSet::new(),
            excused: BTreeSet::new(),
            tally: Tally::default(),
        };
        world.back.push_back(Answer::Resume(world.inbox.position().encode()));
        world
    }

    fn frame(sequence: u64, message: &[u8]) -> Packet {
        Packet::Frame([&header(sequence)[..], message].concat())
    }

    fn push(&mut self) {
        let name = self.pushed + 1;
        let mut message = name.to_le_bytes().to_vec();
        message.resize(8 + self.random.u64(..30) as usize, 0xaa);
        let Ok(sequence) = self.store.push(message.clone()) else {
            self.tally.full += 1;
            return;
        };
        if self.store.is_caught_up() {
            if self.ring.len() >= RING {
                assert!(self.store.withdraw(sequence));
                self.tally.withdrawn += 1;
                return;
            }
            self.ring.push_back(Self::frame(sequence, &message));
        } else if self.random.u64(..8) == 0 && self.store.withdraw(sequence) {
            self.tally.withdrawn += 1;
            return;
        }
        self.pushed = name;
        self.names.insert(sequence, name);
    }

    fn resend(&mut self) {
        let ring = &mut self.ring;
        let _ = self.store.resend(|item| {
            if ring.len() >= RING {
                return Err(());
            }
            ring.push_back(match item {
                Resend::Start(start) => Packet::Start(start.encode()),
                Resend::Message { sequence, message } => Self::frame(sequence, message),
            });
            Ok(())
        });
    }

    fn receive(&mut self) {
        match self.ring.pop_front() {
            Some(Packet::Start(words)) => {
                let start = Start::decode(&words).unwrap();
                match self.inbox.started(start).unwrap() {
                    // A record that is made inside the commit lacks nothing.
                    Started::Continued { skipped } => {
                        assert!(self.plan.record != Record::Inside || skipped == 0, "{skipped} skipped");
                        self.tally.skipped += skipped;
                    }
                    Started::Early => self.tally.stale += 1,
                    Started::First | Started::Anew => {}
                }
            }
            Some(Packet::Frame(frame)) => {
                let (sequence, message) = split_frame(&frame).unwrap();
                let name = u64::from_le_bytes(*message.first_chunk().unwrap());
                if let Verdict::Deliver(receipt) = self.inbox.arrived(sequence).unwrap() {
                    assert!(self.given.insert(name), "{name} given twice to one receiver");
                    if name > self.newest {
                        let skipped = (self.newest + 1..name).all(|lost| self.excused.contains(&lost));
                        assert!(skipped, "{name} came first, after {}", self.newest);
                        self.newest = name;
                    } else {
                        self.tally.repeats += 1;
                    }
                    self.work.push(Work { receipt, name, processed: false, recorded: false });
                }
            }
            None => {}
        }
    }

    /// One step of the application on one message.
    fn process(&mut self) {
        if self.work.is_empty() {
            return;
        }
        let at = if self.plan.in_order { 0 } else { self.random.u64(..self.work.len() as u64) as usize };
        let work = &mut self.work[at];
        if !work.processed {
            work.processed = true;
            *self.processed.entry(work.name).or_default() += 1;
            if self.plan.record == Record::Inside {
                self.durable.record(work.receipt);
                work.recorded = true;
            }
        } else if !work.recorded && self.plan.record == Record::After {
            self.durable.record(work.receipt);
            work.recorded = true;
        } else {
            let work = self.work.remove(at);
            match self.inbox.acknowledge(work.receipt) {
                Err(ReliableError::OtherSession { .. }) => assert!(self.plan.senders_die),
                outcome => assert_eq!(outcome, Ok(true)),
            }
            let position = self.inbox.position().known.filter(|_| self.random.u64(..6) == 0);
            if let Some(position) = position {
                self.durable.prune(position);
            }
        }
    }

    fn tell(&mut self, at_once: bool) {
        if self.inbox.due(self.now) || at_once {
            if let Some(ack) = self.inbox.take_ack() {
                self.back.push_back(Answer::Ack(ack.encode()));
            }
        }
    }

    fn hear(&mut self) {
        match self.back.pop_front() {
            Some(Answer::Resume(words)) => {
                let _ = self.store.resumed(Resume::decode(&words).unwrap()).unwrap();
            }
            Some(Answer::Ack(words)) => match self.store.acknowledged(Ack::decode(&words).unwrap()) {
                Ok(_) => {}
                Err(error) => {
                    assert!(self.plan.senders_die && matches!(error, ReliableError::OtherSession { .. }));
                }
            },
            None => {}
        }
    }

    fn receiver_dies(&mut self) {
        self.tally.deaths += 1;
        self.tally.early += self.inbox.counts().early;
        self.tally.duplicates += self.inbox.counts().duplicates;
        self.work.clear();
        self.given.clear();
        // What it had said is read, or lost with it; the sender then waits for the next.
        while !self.back.is_empty() {
            if self.random.u64(..2) == 0 {
                self.back.clear();
            } else {
                self.hear();
            }
        }
        self.store.detach();
        // The link takes its own packets back, or did not come to it.
        if self.random.u64(..4) == 0 {
            self.ring.retain(|packet| matches!(packet, Packet::Frame(_)));
        }
        let durable = &self.durable;
        self.inbox = match durable.session {
            Some(session) => {
                let position = Position { session, upto: durable.upto };
                Inbox::resume(LIMITS.messages, POLICY, position, durable.beyond.iter().copied())
            }
            None => Inbox::new(LIMITS.messages, POLICY),
        };
        self.back.push_back(Answer::Resume(self.inbox.position().encode()));
    }

    fn sender_dies(&mut self) {
        self.tally.deaths += 1;
        // What it had kept and not placed is lost.
        let placed: BTreeSet<u64> = self.ring.iter().filter_map(Self::name_of).collect();
        let lost = (self.newest + 1..=self.pushed).filter(|name| !placed.contains(name));
        self.excused.extend(lost);
        self.names.clear();
        self.checked = 0;
        self.sessions += 1;
        self.tally.resent += self.store.counts().resent;
        self.store = Store::new(id(self.sessions), LIMITS);
        if self.random.u64(..2) == 0 {
            self.back.clear();
        }
        self.back.retain(|answer| matches!(answer, Answer::Ack(_)));
        self.back.push_back(Answer::Resume(self.inbox.position().encode()));
    }

    fn name_of(packet: &Packet) -> Option<u64> {
        match packet {
            Packet::Frame(frame) => Some(u64::from_le_bytes(*frame[HEADER..].first_chunk().unwrap())),
            Packet::Start(_) => None,
        }
    }

    /// What must hold at every instant.
    fn check(&mut self) {
        let counts = self.store.counts();
        assert!(self.store.kept.len() <= LIMITS.messages && counts.bytes <= LIMITS.bytes);
        assert!(self.inbox.marks.len() <= LIMITS.messages);
        let is_free = |sequence: &u64| {
            sequence.checked_sub(self.store.first).is_none_or(|at| self.store.kept[at as usize].is_none())
        };
        for (sequence, name) in self.names.range(self.checked + 1..).filter(|(s, _)| is_free(s)) {
            assert!(self.processed.contains_key(name), "{sequence} was freed and not processed");
        }
        self.checked = self.store.first - 1;
    }

    fn step(&mut self, lifetime: u64) {
        match self.random.u64(..24) {
            0..5 => self.push(),
            5..8 => self.resend(),
            8..13 => self.receive(),
            13..20 => self.process(),
            20 => self.tell(false),
            21 | 22 => self.hear(),
            _ => {
                self.now += Duration::from_millis(self.random.u64(..8));
                let idle = self.random.u64(..4) == 0;
                self.tell(idle);
            }
        }
        if self.random.u64(..lifetime) == 0 {
            if self.plan.receivers_die {
                self.receiver_dies();
            }
            if self.plan.senders_die {
                self.sender_dies();
            }
        }
        self.check();
    }

    /// Lets both ends come to rest without another death, and compares with what was pushed.
    fn finish(mut self) -> Tally {
        for _ in 0..4 * LIMITS.messages {
            self.resend();
            while !self.ring.is_empty() {
                self.receive();
            }
            while !self.work.is_empty() {
                self.process();
            }
            self.tell(true);
            while !self.back.is_empty() {
                self.hear();
            }
            self.check();
        }
        assert!(self.store.is_caught_up());
        assert_eq!(self.store.counts().messages, 0, "the sender was not told everything");
        assert_eq!((self.inbox.outstanding(), self.inbox.take_ack()), (0, None));
        for name in 1..=self.pushed {
            let times = self.processed.get(&name).copied().unwrap_or(0);
            assert!(times > 0 || self.excused.contains(&name), "{name} of {} was lost", self.pushed);
            assert!(times <= 1 || self.plan.record != Record::Inside, "{name} was processed {times} times");
        }
        self.tally.excused = self.excused.len();
        self.tally.resent += self.store.counts().resent;
        self.tally
    }
}

fn run(seeds: u64, plan: Plan) -> Tally {
    let mut sum = Tally::default();
    for seed in 1..=seeds {
        let mut world = World::new(seed, plan);
        for _ in 0..2000 {
            world.step(20 + seed % 4 * 30);
        }
        let tally = world.finish();
        sum.deaths += tally.deaths;
        sum.repeats += tally.repeats;
        sum.early += tally.early;
        sum.duplicates += tally.duplicates;
        sum.resent += tally.resent;
        sum.full += tally.full;
        sum.skipped += tally.skipped;
        sum.excused += tally.excused;
        sum.withdrawn += tally.withdrawn;
        sum.stale += tally.stale;
    }
    sum
}

const RECEIVERS: Plan =
    Plan { record: Record::Inside, in_order: false, receivers_die: true, senders_die: false };

#[test]
fn acknowledged_inside_the_commit_each_message_is_processed_exactly_once() {
    for in_order in [false, true] {
        let tally = run(30, Plan { in_order, ..RECEIVERS });
        let Tally { deaths, repeats, early, duplicates, resent, full, withdrawn, stale, .. } = tally;
        for often in [deaths, repeats, early, resent, full, withdrawn] {
            assert!(often > 100, "{tally:?}");
        }
        // Single messages beyond the record's unbroken row come again.
        assert!(in_order || duplicates > 100 && stale > 3, "{tally:?}");
    }
}

#[test]
fn acknowledged_otherwise_each_message_is_processed_at_least_once() {
    for record in [Record::After, Record::Never] {
        for in_order in [false, true] {
            let tally = run(20, Plan { record, in_order, ..RECEIVERS });
            assert!(tally.deaths > 100 && tally.repeats > 100 && tally.resent > 100, "{tally:?}");
        }
    }
}

#[test]
fn without_a_death_nothing_is_sent_twice() {
    let tally = run(10, Plan { receivers_die: false, record: Record::Never, ..RECEIVERS });
    assert_eq!((tally.deaths, tally.repeats, tally.resent, tally.duplicates), (0, 0, 0, 0));
    assert!(tally.full > 100, "{tally:?}");
}

#[test]
fn a_living_receiver_gets_what_a_dead_sender_had_placed() {
    let tally = run(25, Plan { receivers_die: false, senders_die: true, ..RECEIVERS });
    assert!(tally.deaths > 100 && tally.excused > 100, "{tally:?}");
    assert_eq!(tally.repeats, 0);
}
