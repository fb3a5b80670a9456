//! What a victim does, in which state of the region, and in whose company: the scenarios on the region itself.

use std::fmt;

use hqq::buffer::Buffer;
use hqq::layout::{Modes, RingMode};
use hqq::packet::{CloseHow, ConnCopy, Operation, Packet, Run, op};
use hqq::port::{Incoming, Inline, Payload};
use hqq::region::{Region, Setup, Views};
use hqq::ring::{Take, Ticket};
use hqq::wait::Sleepers;
use hqq::words::{BufferWord, Holder, Lap, LeaseWord, Role, SeatWord, SleepersWord, SlotState, Stamp, Want};
use hqq::{Error, Geometry};
use hqq_tests::oracle::{self, EMPTY, Fault, Kind, Verdict};
use std::sync::atomic::Ordering;

use crate::arena::{Arena, Hands, PAGE, Who, again};
use crate::step::mark;

/// Slots and buffers of each direction.
pub const COUNT: u32 = 4;
/// Bytes of a buffer.
pub const SIZE: u64 = 64;
/// Bytes of a message in the slot, in one buffer, and in three.
pub const INLINE: usize = 24;
pub const POOL: usize = 60;
pub const RUN: usize = 150;

/// The geometry of all scenarios here.
pub fn geometry() -> Geometry {
    Geometry::new(COUNT, COUNT, SIZE).expect("powers of two")
}

names! {
    /// What the victim does.
    Op {
        /// Takes a buffer.
        Loan "loan",
        /// Gathers three.
        LoanRun "loan-run",
        /// Gathers three where an earlier message lies in the middle.
        LoanFragmented "loan-fragmented",
        /// Drops a loan.
        GiveLoan "give-loan",
        /// Drops a loan of three buffers.
        GiveRun "give-run",
        /// Sends a loan.
        Send "send",
        /// Sends a loan of three buffers.
        SendRun "send-run",
        /// Sends a loan of which nothing is used.
        SendEmpty "send-empty",
        /// Sends a message in the slot.
        SendInline "send-inline",
        /// Copies a message into the pool and sends it.
        SendBytes "send-bytes",
        /// Sends a packet without payload: a connection is created.
        SendPacket "conn-create",
        /// Sends a packet without payload: a connection is accepted.
        SendAccept "conn-accept",
        /// Sends a packet without payload: a connection is closed.
        SendClose "conn-close",
        /// Sends a chunk of a connection's copy.
        SendChunk "conn-copy",
        /// Sends three messages of both kinds and rings once.
        SendBatch "batch-send",
        /// Receives whatever comes.
        Receive "receive",
        /// Receives by the short way for small messages.
        ReceiveInline "receive-inline",
        /// Receives by the short way for messages in the pool.
        ReceivePool "receive-pool",
        /// Receives a message of three buffers.
        ReceiveRun "receive-run",
        /// Receives an empty message.
        ReceiveEmpty "receive-empty",
        /// Receives a chunk of a connection's copy.
        ReceiveChunk "conn-receive",
        /// Receives behind a tombstone.
        ReceiveTombstone "receive-tombstone",
        /// Receives what recovery put back below its mark.
        ReceiveReturned "receive-returned",
        /// Refuses a message over its limit.
        ReceiveRefused "receive-refused",
        /// Receives what there is and gives it back.
        ReceiveBatch "batch-receive",
        /// Gives a message's buffer back.
        Release "release",
        /// Gives a message's three buffers back.
        ReleaseRun "release-run",
        /// Receives, answers, gives back.
        Echo "echo",
        /// Announces a sleep of both kinds, looks, and takes it back.
        Announce "announce",
        /// Strikes off sleepers.
        Wake "wake",
        /// Joins the region.
        Attach "attach",
        /// Gives its seat up.
        Leave "detach",
        /// Recovers a dead process of its own side.
        RecoverOwn "recover-own",
        /// Recovers a dead process of the other side.
        RecoverOther "recover-other",
    }
}

names! {
    /// Who else is in the middle of an operation when the victim dies.
    Company {
        /// Nobody.
        Nobody "idle",
        /// The ally has claimed a slot for a message in the pool.
        AllyClaims "ally-claims",
        /// The ally has taken a packet.
        AllyTakes "ally-takes",
        /// The ally has taken a packet and marked its buffers.
        AllyHolds "ally-holds",
        /// The ally gathers: it has the lease and a buffer.
        AllyGathers "ally-gathers",
        /// The ally has a loan.
        AllyLends "ally-lends",
        /// The ally reads a message.
        AllyReads "ally-reads",
        /// A second process of the victim's side, with nothing to do.
        SecondIdle "second-idle",
        /// The second has claimed a slot.
        SecondClaims "second-claims",
        /// The second has taken a packet.
        SecondTakes "second-takes",
        /// The second has taken a packet and marked its buffers.
        SecondHolds "second-holds",
        /// The second gathers.
        SecondGathers "second-gathers",
        /// The second has a loan.
        SecondLends "second-lends",
        /// The second reads a message.
        SecondReads "second-reads",
        /// Another thread of the victim has claimed one slot and taken another.
        Threads "threads",
    }
}

/// What somebody is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Middle {
    Nothing,
    Claims,
    Takes,
    Holds,
    Gathers,
    Lends,
    Reads,
}

impl Company {
    fn of(self) -> (Who, Middle) {
        match self {
            Self::Nobody => (Who::Ally, Middle::Nothing),
            Self::AllyClaims => (Who::Ally, Middle::Claims),
            Self::AllyTakes => (Who::Ally, Middle::Takes),
            Self::AllyHolds => (Who::Ally, Middle::Holds),
            Self::AllyGathers => (Who::Ally, Middle::Gathers),
            Self::AllyLends => (Who::Ally, Middle::Lends),
            Self::AllyReads => (Who::Ally, Middle::Reads),
            Self::SecondIdle => (Who::Second, Middle::Nothing),
            Self::SecondClaims => (Who::Second, Middle::Claims),
            Self::SecondTakes => (Who::Second, Middle::Takes),
            Self::SecondHolds => (Who::Second, Middle::Holds),
            Self::SecondGathers => (Who::Second, Middle::Gathers),
            Self::SecondLends => (Who::Second, Middle::Lends),
            Self::SecondReads => (Who::Second, Middle::Reads),
            Self::Threads => (Who::Victim, Middle::Nothing),
        }
    }
}

impl Op {
    /// Whether it needs more than two processes, or threads, on one ring.
    fn needs_many(self) -> bool {
        matches!(self, Self::ReceiveReturned | Self::RecoverOwn | Self::RecoverOther)
    }

    /// Messages that lie in the ring before, by their length, repeated as often as the fill level says: the
    /// direction that the victim sends in, and the other.
    fn before(self) -> (&'static [usize], &'static [usize]) {
        const NONE: &[usize] = &[];
        match self {
            Self::Loan | Self::LoanRun | Self::SendBytes => (&[POOL], NONE),
            Self::LoanFragmented => (NONE, NONE),
            Self::Send | Self::SendRun | Self::SendEmpty | Self::GiveLoan | Self::GiveRun => {
                (&[INLINE], NONE)
            }
            Self::SendInline | Self::SendPacket | Self::SendAccept | Self::SendClose => {
                (&[POOL, INLINE], NONE)
            }
            Self::SendChunk => (&[INLINE], NONE),
            Self::SendBatch => (&[INLINE], NONE),
            Self::Receive => (NONE, &[POOL, INLINE, 0]),
            Self::ReceiveInline => (NONE, &[INLINE, POOL]),
            Self::ReceivePool | Self::ReceiveRefused | Self::ReceiveReturned => (NONE, &[POOL]),
            Self::ReceiveRun => (NONE, &[RUN, INLINE]),
            Self::ReceiveEmpty => (NONE, &[0, INLINE]),
            Self::ReceiveChunk | Self::ReceiveTombstone => (NONE, &[INLINE, POOL]),
            Self::ReceiveBatch => (NONE, &[POOL, INLINE]),
            Self::Release | Self::ReleaseRun => (NONE, &[INLINE]),
            Self::Echo => (&[INLINE], &[POOL]),
            Self::Announce | Self::Wake | Self::Leave | Self::RecoverOwn | Self::RecoverOther => {
                (&[POOL, INLINE], &[INLINE, POOL])
            }
            Self::Attach => (NONE, &[POOL, INLINE]),
        }
    }
}

/// One scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scenario {
    pub op: Op,
    pub ring: RingMode,
    pub fill: u32,
    pub role: Role,
    pub company: Company,
}

/// A ring mode's name.
pub fn ring_name(ring: RingMode) -> &'static str {
    match ring {
        RingMode::Mpmc => "mpmc",
        RingMode::Spsc => "spsc",
        RingMode::Mpsc => "mpsc",
        RingMode::Spmc => "spmc",
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, ring, company) = (self.op.name(), ring_name(self.ring), self.company.name());
        write!(f, "{op}/{ring}/{}/{}/{company}", self.fill, self.role)
    }
}

impl Scenario {
    /// All that make sense.
    pub fn all() -> Vec<Self> {
        let rings = [RingMode::Mpmc, RingMode::Spsc, RingMode::Mpsc, RingMode::Spmc];
        let mut all = Vec::new();
        for &op in Op::ALL {
            for ring in rings {
                for fill in 0..=COUNT {
                    for role in [Role::Primary, Role::Secondary] {
                        for &company in Company::ALL {
                            let scenario = Self { op, ring, fill, role, company };
                            if scenario.makes_sense() {
                                all.push(scenario);
                            }
                        }
                    }
                }
            }
        }
        all
    }

    fn makes_sense(&self) -> bool {
        let many = self.ring == RingMode::Mpmc;
        let company = match self.company.of().0 {
            Who::Ally => true,
            // Who is not attached, or leaves in order, has no threads at work.
            Who::Victim => many && !matches!(self.op, Op::Attach | Op::Leave),
            _ => many && !self.op.needs_many(),
        };
        let room = !matches!(self.op, Op::ReceiveReturned | Op::ReceiveTombstone | Op::ReceiveChunk)
            || self.fill < COUNT;
        company && room && (many || !self.op.needs_many())
    }
}

/// A direction as it must be found.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// Taken by the dead: recovery puts it back, and it comes first.
    back: Vec<u64>,
    /// The consumer was past that before it died: it comes behind what is ready.
    behind: bool,
    /// Published.
    ready: Vec<u64>,
    /// Claimed by somebody who will publish it.
    claimed: Vec<u64>,
    /// Sent by a survivor after the victim's death.
    late: Vec<u64>,
}

/// What somebody holds in the middle of an operation.
enum Held {
    Nothing,
    Claimed { ticket: Ticket, packet: Packet },
    Taken { ticket: Ticket, packet: Packet, run: Option<Run>, marked: bool, number: u64 },
    Gathered { index: usize },
    Lent { buffer: Buffer<'static>, number: u64 },
    Read { buffer: Buffer<'static>, number: u64 },
}

/// The victim's own things.
#[derive(Default)]
struct Own {
    loan: Option<Buffer<'static>>,
    message: Option<Buffer<'static>>,
    texts: Vec<(u64, Vec<u8>)>,
    named: Vec<u64>,
    /// The message that recovery has put back already.
    returned: Option<u64>,
}

/// What the operation changes if it is completed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    pub sends: Vec<u64>,
    pub takes: Vec<u64>,
}

/// How much of it has been seen done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub sent: usize,
    pub taken: usize,
}

/// A region with its processes, ready for the victim's operation.
pub struct World<'a> {
    arena: &'a Arena,
    scenario: Scenario,
    views: Views<'static>,
    victim: Option<Region<'static>>,
    ally: Region<'static>,
    second: Option<Region<'static>>,
    flows: [Flow; 2],
    middle: Option<(Hands, Held)>,
    own: Own,
    effect: Effect,
    number: u64,
}

/// A scenario that cannot be set up: what is to be in the region does not fit.
pub type Setting<T> = Result<T, String>;

fn fits<T>(result: Result<T, Error>) -> Setting<T> {
    result.map_err(|error| format!("{error:?}"))
}

impl<'a> World<'a> {
    /// Sets a scenario up.
    ///
    /// # Errors
    /// It cannot be.
    pub fn new(arena: &'a Arena, scenario: Scenario) -> Setting<Self> {
        let Scenario { op, ring, fill, role, company } = scenario;
        // Half of the rings wrap to lap 0 within the scenario.
        let first_lap = if fill % 2 == 1 { Lap::new(u64::MAX).number() } else { 0 };
        let modes = Modes { ring, ..Modes::default() };
        let setup = Setup { geometry: geometry(), modes, page: PAGE, epoch: 1, first_lap, name: "sweep" };
        // Who attaches as a Primary joins one that made the region.
        let own = if op == Op::Attach { Who::Second } else { Who::Victim };
        let (own, ally) = match role {
            Role::Primary => {
                let own = fits(arena.init(own, &setup))?;
                (Some(own), fits(arena.attach(Who::Ally, Role::Secondary))?)
            }
            Role::Secondary => {
                let ally = fits(arena.init(Who::Ally, &setup))?;
                let own = (op != Op::Attach).then(|| arena.attach(own, Role::Secondary));
                (own.transpose().map_err(|error| format!("{error:?}"))?, ally)
            }
        };
        let (victim, second) = if op == Op::Attach { (None, own) } else { (own, None) };
        let views = fits(arena.views())?;
        let mut world = World {
            arena,
            scenario,
            views,
            victim,
            ally,
            second,
            flows: Default::default(),
            middle: None,
            own: Own { named: vec![0; COUNT as usize], ..Own::default() },
            effect: Effect::default(),
            number: 0,
        };
        let (who, _) = company.of();
        if who == Who::Second && world.second.is_none() {
            world.second = Some(fits(arena.attach(Who::Second, role))?);
        }
        world.turn()?;
        world.prepare()?;
        let (out, inward) = op.before();
        for (from, lens) in [(world.colleague(), out), (Some(Who::Ally), inward)] {
            if let Some(from) = from {
                world.put_all(from, lens)?;
            }
        }
        world.enter()?;
        world.effect = world.plan();
        // Half of the allies sleep.
        if op == Op::Wake || fill % 2 == 0 {
            let sleepers = world.sleepers(role.other());
            let seat = world.ally.holder().seat();
            sleepers.announce(seat, Want::Data);
            sleepers.announce(seat, Want::Space);
        }
        Ok(world)
    }

    fn sleepers(&self, side: Role) -> Sleepers<'static> {
        Sleepers::new(&self.views.superblock().sides[side.direction()].sleepers)
    }

    fn out(&self) -> usize {
        self.scenario.role.direction()
    }

    fn inward(&self) -> usize {
        self.scenario.role.other().direction()
    }

    fn victim(&self) -> &Region<'static> {
        self.victim.as_ref().expect("the scenario has one")
    }

    fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Sends a message of `len` bytes; its number.
    fn put(&mut self, from: Who, len: usize) -> Setting<u64> {
        let number = self.number();
        let bytes = oracle::message(number, len);
        let region = match from {
            Who::Ally => &self.ally,
            Who::Second => self.second.as_ref().expect("it is there"),
            _ => self.victim(),
        };
        fits(region.send_bytes(&bytes, |_| {}))?;
        let number = if len == 0 { EMPTY } else { number };
        self.flows[region.role().direction()].ready.push(number);
        Ok(number)
    }

    /// Who sends on the victim's side: the second if there is one, so that the victim's marks lag.
    fn colleague(&self) -> Option<Who> {
        match (&self.second, &self.victim) {
            (Some(_), _) => Some(Who::Second),
            (None, Some(_)) => Some(Who::Victim),
            (None, None) => None,
        }
    }

    fn region(&self, who: Who) -> &Region<'static> {
        match who {
            Who::Ally => &self.ally,
            Who::Second => self.second.as_ref().expect("the scenario has one"),
            _ => self.victim(),
        }
    }

    /// Turns both rings on by as many slots as the fill level says, so that each scenario begins elsewhere.
    fn turn(&mut self) -> Setting<()> {
        let mut ends: Vec<Who> = self.colleague().into_iter().collect();
        if self.victim.is_some() && !ends.contains(&Who::Victim) {
            ends.push(Who::Victim);
        }
        for &end in ends.iter().cycle().take(self.scenario.fill as usize * usize::from(!ends.is_empty())) {
            for (from, to) in [(end, Who::Ally), (Who::Ally, end)] {
                let number = self.put(from, INLINE)?;
                let found = oracle::receive(self.region(to)).map_err(|fault| fault.to_string())?;
                if found != Some(number) {
                    return Err(format!("{number} was sent, {found:?} came"));
                }
            }
        }
        self.flows = Default::default();
        Ok(())
    }

    /// As many messages as the fill level says; where the pool has no more, small ones.
    fn put_all(&mut self, from: Who, lens: &[usize]) -> Setting<()> {
        for &len in lens.iter().cycle().take(self.scenario.fill as usize * usize::from(!lens.is_empty())) {
            if self.put(from, len).is_err() {
                self.put(from, INLINE)?;
            }
        }
        Ok(())
    }

    /// A loan of the victim's, filled with a message.
    fn lend(&mut self, len: usize) -> Setting<u64> {
        let number = self.number();
        let mut loan = fits(self.victim().loan(len))?;
        oracle::fill(number, loan.bytes_mut());
        self.own.loan = Some(loan);
        Ok(number)
    }

    /// A message that the victim has received and still reads.
    fn hold(&mut self, len: usize) -> Setting<()> {
        self.put(Who::Ally, len)?;
        self.flows[self.inward()].ready.clear();
        match fits(self.victim().receive(|_| true, |_| {}))? {
            Incoming::Message(Payload::Pool(buffer), _) => {
                self.own.message = Some(buffer);
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    }

    /// Texts for the victim to send.
    fn text(&mut self, lens: &[usize]) {
        for &len in lens {
            let number = self.number();
            self.own.texts.push((number, oracle::message(number, len)));
        }
    }

    /// What must be there before the rings are filled.
    fn prepare(&mut self) -> Setting<()> {
        match self.scenario.op {
            Op::GiveLoan | Op::Send | Op::SendEmpty | Op::SendChunk => drop(self.lend(POOL)?),
            Op::GiveRun | Op::SendRun => drop(self.lend(RUN)?),
            Op::LoanFragmented => {
                // One buffer somewhere, or three of them, are in use.
                let from = self.colleague().expect("the scenario has a victim");
                for _ in 0..=self.scenario.fill.min(COUNT - 1) {
                    self.put(from, POOL)?;
                }
                for _ in 0..self.scenario.fill % COUNT {
                    oracle::receive(&self.ally).map_err(|fault| fault.to_string())?;
                    let out = self.out();
                    self.flows[out].ready.remove(0);
                }
            }
            Op::SendInline => self.text(&[INLINE]),
            Op::SendBytes => self.text(&[POOL]),
            Op::SendBatch => self.text(&[INLINE, POOL, INLINE]),
            Op::Echo => self.text(&[INLINE]),
            Op::ReceiveChunk => {
                let number = self.number();
                let mut loan = fits(self.ally.loan(POOL))?;
                oracle::fill(number, loan.bytes_mut());
                let sent = self.ally.send_chunk(&chunk(), Some(loan), |_| {});
                sent.map_err(|(error, _)| format!("{error:?}"))?;
                let inward = self.inward();
                self.flows[inward].ready.push(number);
            }
            Op::ReceiveTombstone => {
                let hands = fits(self.arena.hands(Who::Ally, &self.ally))?;
                let ticket = hands.producer().claim().map_err(|denied| format!("{denied:?}"))?;
                hands.producer().abandon(ticket);
            }
            Op::ReceiveReturned => {
                let region = fits(self.arena.attach(Who::Dead, self.scenario.role))?;
                let dead = fits(self.arena.hands(Who::Dead, &region))?;
                self.put(Who::Ally, POOL)?;
                let _held = take(&dead, true)?;
                self.put(Who::Ally, INLINE)?;
                let inward = self.inward();
                let passed = self.flows[inward].ready.remove(1);
                self.own.returned = self.flows[inward].ready.first().copied();
                let found = oracle::receive(self.victim()).map_err(|fault| fault.to_string())?;
                assert_eq!(found, Some(passed), "the first is taken");
                fits(Arena::recover(&self.ally, dead.holder, &mut self.own.named))?;
            }
            Op::ReceiveRefused => {
                let victim = self.victim.as_mut().expect("the scenario has a victim");
                victim.limit_messages(32);
            }
            Op::Release => self.hold(POOL)?,
            Op::ReleaseRun => self.hold(RUN)?,
            Op::RecoverOwn => self.leave_dead(self.scenario.role)?,
            Op::RecoverOther => self.leave_dead(self.scenario.role.other())?,
            _ => {}
        }
        Ok(())
    }

    /// Somebody of this side was in the middle of everything when it died.
    fn leave_dead(&mut self, role: Role) -> Setting<()> {
        let region = fits(self.arena.attach(Who::Dead, role))?;
        let hands = fits(self.arena.hands(Who::Dead, &region))?;
        let from = if role == self.scenario.role { Who::Ally } else { Who::Victim };
        let inward = role.other().direction();
        // It was reading a message,
        self.put(from, POOL)?;
        let Incoming::Message(Payload::Pool(_), _) = fits(region.receive(|_| true, |_| {}))? else {
            return Err("it has no message".into());
        };
        self.flows[inward].ready.clear();
        // receiving another,
        self.put(from, POOL)?;
        let _held = take(&hands, true)?;
        let back = self.flows[inward].ready.remove(0);
        self.flows[inward].back.push(back);
        // sending one,
        let _loan = fits(region.loan(POOL))?;
        let _ticket = hands.producer().claim().map_err(|denied| format!("{denied:?}"))?;
        // and gathering a run.
        gather(&hands)?;
        Ok(())
    }

    /// The company begins its operation.
    fn enter(&mut self) -> Setting<()> {
        let (who, middle) = self.scenario.company.of();
        if self.scenario.company == Company::Threads {
            let hands = fits(self.arena.hands(Who::Victim, self.victim()))?;
            let claimed = hands.producer().claim().is_ok();
            let taken = take(&hands, true).is_ok();
            if taken {
                let inward = self.inward();
                let back = self.flows[inward].ready.remove(0);
                self.flows[inward].back.push(back);
            }
            return if claimed || taken { Ok(()) } else { Err("no room and nothing to take".into()) };
        }
        if middle == Middle::Nothing {
            return Ok(());
        }
        let region = self.region(who);
        let hands = fits(self.arena.hands(who, region))?;
        let (out, inward) = (hands.out(), hands.inward());
        let held = match middle {
            Middle::Nothing => Held::Nothing,
            Middle::Claims => {
                let run = hands.pool(out).take(1).map_err(|shortage| format!("{shortage:?}"))?;
                let number = self.number();
                self.arena.write(out, run, &oracle::message(number, POOL));
                let ticket = hands.producer().claim().map_err(|denied| format!("{denied:?}"))?;
                hands.pool(out).pass(run);
                self.flows[out].claimed.push(number);
                let packet = Packet::new(op::STANDARD_LINK_COPY, [1, run.first.into(), POOL as u64]);
                Held::Claimed { ticket, packet }
            }
            Middle::Takes | Middle::Holds => {
                let marked = middle == Middle::Holds;
                let (ticket, packet, run) = take(&hands, marked)?;
                let number = self.flows[inward].ready.remove(0);
                Held::Taken { ticket, packet, run, marked, number }
            }
            Middle::Gathers => Held::Gathered { index: gather(&hands)? },
            Middle::Lends => {
                let mut buffer = fits(region.loan(POOL))?;
                let number = self.number();
                oracle::fill(number, buffer.bytes_mut());
                self.flows[out].late.push(number);
                Held::Lent { buffer, number }
            }
            Middle::Reads => match fits(region.receive(|_| true, |_| {}))? {
                Incoming::Message(Payload::Pool(buffer), _) => {
                    let number = self.flows[inward].ready.remove(0);
                    self.flows[inward].behind = true;
                    Held::Read { buffer, number }
                }
                other => return Err(format!("not in the pool: {other:?}")),
            },
        };
        self.middle = Some((hands, held));
        Ok(())
    }

    /// Slots that the victim can fill one after the other.
    fn room(&self) -> usize {
        let slots = self.views.slots(self.out());
        let tail = hqq::ring::Producer::survey(slots).expect("a healthy ring");
        let free = |position: &u64| {
            let stamp = slots[(tail.wrapping_add(*position) % slots.len() as u64) as usize]
                .stamp
                .load(Ordering::Relaxed);
            Stamp::from_word(stamp).state() == Some(SlotState::Free)
        };
        (0..slots.len() as u64).take_while(free).count()
    }

    /// Free buffers of the victim's.
    fn buffers(&self) -> usize {
        let words = self.views.buffer_words(self.out()).iter();
        words.filter(|word| word.load(Ordering::Relaxed) == BufferWord::FREE.word()).count()
    }

    /// What the operation does if it is completed.
    fn plan(&self) -> Effect {
        let ready = &self.flows[self.inward()].ready;
        let mut effect = Effect::default();
        let (mut room, mut buffers) = (self.room(), self.buffers());
        match self.scenario.op {
            Op::Send | Op::SendRun | Op::SendChunk if room > 0 => {
                let loan = self.own.loan.as_ref().expect("it was lent");
                effect.sends = vec![oracle::number(loan.bytes()).expect("a whole message")];
            }
            Op::SendEmpty if room > 0 => effect.sends = vec![EMPTY],
            Op::SendPacket | Op::SendAccept | Op::SendClose if room > 0 => {
                let packet = self.packet();
                let about =
                    if packet.op == op::CONN_CLOSE { packet.operands[0] << 2 } else { packet.operands[0] };
                effect.sends = vec![oracle::control(packet.op, about)];
            }
            Op::SendInline | Op::SendBytes | Op::SendBatch => {
                for (number, bytes) in &self.own.texts {
                    let pool = usize::from(bytes.len() > INLINE);
                    if room == 0 || buffers < pool {
                        break;
                    }
                    (room, buffers) = (room - 1, buffers - pool);
                    effect.sends.push(*number);
                }
            }
            // What lies at its mark comes before what was put back below it.
            Op::ReceiveReturned => {
                let at_mark = ready.iter().find(|number| Some(**number) != self.own.returned);
                effect.takes = at_mark.or(ready.first()).into_iter().copied().collect();
            }
            Op::Receive
            | Op::ReceiveInline
            | Op::ReceivePool
            | Op::ReceiveRun
            | Op::ReceiveEmpty
            | Op::ReceiveChunk
            | Op::ReceiveTombstone
            | Op::ReceiveRefused => effect.takes = ready.first().into_iter().copied().collect(),
            Op::ReceiveBatch => effect.takes = ready.clone(),
            Op::Echo if !ready.is_empty() => {
                effect.takes = vec![ready[0]];
                if room > 0 {
                    effect.sends = vec![self.own.texts[0].0];
                }
            }
            _ => {}
        }
        effect
    }

    fn packet(&self) -> Packet {
        match self.scenario.op {
            Op::SendPacket => Packet::new(op::CONN_CREATE, [7]),
            Op::SendAccept => Packet::new(op::CONN_ACCEPT, [8]),
            _ => Packet::new(op::CONN_CLOSE, [9, CloseHow::Both.number()]),
        }
    }

    // ---- in the child ----

    /// Does the operation between two marks. Whether it did all that it should.
    pub fn operate(&mut self) -> bool {
        let mut own = std::mem::take(&mut self.own);
        let packet = self.packet();
        let role = self.scenario.role;
        let dead = self.find_dead();
        let sleepers = self.sleepers(role);
        let Some(victim) = &self.victim else {
            mark();
            let joined = self.arena.attach(Who::Victim, role);
            mark();
            return joined.is_ok();
        };
        if self.scenario.op == Op::Leave {
            let Some(victim) = self.victim.take() else { return false };
            mark();
            let left = victim.leave();
            mark();
            return matches!(left, Ok(true));
        }
        let seat = victim.holder().seat();
        let mut done = Effect::default();
        let chunk = chunk();
        mark();
        match self.scenario.op {
            Op::Loan => drop(victim.loan(POOL)),
            Op::LoanRun | Op::LoanFragmented => drop(victim.loan(RUN)),
            Op::GiveLoan | Op::GiveRun => {
                if let Some(loan) = own.loan.take() {
                    victim.give(loan);
                }
            }
            Op::Send | Op::SendRun => {
                if let Some(loan) = own.loan.take() {
                    if victim.send(loan, |_| {}).is_ok() {
                        done.sends = self.effect.sends.clone();
                    }
                }
            }
            Op::SendEmpty => {
                if let Some(mut loan) = own.loan.take() {
                    loan.truncate(0);
                    if victim.send(loan, |_| {}).is_ok() {
                        done.sends = vec![EMPTY];
                    }
                }
            }
            Op::SendChunk => {
                let loan = own.loan.take();
                if victim.send_chunk(&chunk, loan, |_| {}).is_ok() {
                    done.sends = self.effect.sends.clone();
                }
            }
            Op::SendInline => {
                let mut inline = Inline::zeroed(INLINE);
                inline.bytes_mut().copy_from_slice(&own.texts[0].1);
                if victim.send_inline(&inline, |_| {}).is_ok() {
                    done.sends = vec![own.texts[0].0];
                }
            }
            Op::SendBytes | Op::SendBatch => {
                for (number, bytes) in &own.texts {
                    if victim.send_bytes(bytes, |_| {}).is_err() {
                        break;
                    }
                    done.sends.push(*number);
                }
            }
            Op::SendPacket | Op::SendAccept | Op::SendClose => {
                if victim.send_packet(&packet, |_| {}).is_ok() {
                    done.sends = self.effect.sends.clone();
                }
            }
            Op::ReceiveInline => match victim.receive_inline(|_| {}) {
                Ok(Some((inline, _))) => done.takes.push(head(inline.bytes())),
                _ => done.takes.extend(take_in(victim)),
            },
            Op::ReceivePool => match victim.receive_pool(|_| {}) {
                Ok(Some((payload, _))) => done.takes.push(read(&payload)),
                _ => done.takes.extend(take_in(victim)),
            },
            Op::Receive
            | Op::ReceiveRun
            | Op::ReceiveEmpty
            | Op::ReceiveChunk
            | Op::ReceiveTombstone
            | Op::ReceiveReturned => done.takes.extend(take_in(victim)),
            Op::ReceiveRefused => {
                if take_in(victim).is_some() {
                    done.takes = self.effect.takes.clone();
                }
            }
            Op::ReceiveBatch => {
                while let Ok(Incoming::Message(payload, _)) = victim.receive(|_| true, |_| {}) {
                    done.takes.push(read(&payload));
                    victim.give_message(payload);
                }
            }
            Op::Release | Op::ReleaseRun => {
                if let Some(message) = own.message.take() {
                    victim.give(message);
                }
            }
            Op::Echo => {
                if let Ok(Incoming::Message(payload, _)) = victim.receive(|_| true, |_| {}) {
                    done.takes.push(read(&payload));
                    if victim.send_bytes(&own.texts[0].1, |_| {}).is_ok() {
                        done.sends.push(own.texts[0].0);
                    }
                    victim.give_message(payload);
                }
            }
            Op::Announce => {
                sleepers.announce(seat, Want::Data);
                sleepers.announce(seat, Want::Space);
                if !(victim.has_packet() && victim.has_room()) {
                    sleepers.cancel(seat, Want::Data);
                    sleepers.cancel(seat, Want::Space);
                }
            }
            Op::Wake | Op::Attach | Op::Leave => {}
            Op::RecoverOwn | Op::RecoverOther => {
                for dead in dead.into_iter().filter(|dead| *dead != victim.holder()) {
                    let recovered = Arena::recover(victim, dead, &mut own.named);
                    if recovered.is_err() || !matches!(Arena::vacate(victim, dead), Ok(true)) {
                        return false;
                    }
                }
            }
        }
        // The seats would be rung now, by the caller.
        let _ = victim.wake_receivers();
        let _ = victim.wake_senders();
        mark();
        done == self.effect
    }

    // ---- the judge ----

    /// Who sits in the region, but for the survivors.
    fn find_dead(&self) -> Vec<Holder> {
        let alive = [Some(&self.ally), self.second.as_ref()];
        let alive: Vec<Holder> = alive.into_iter().flatten().map(Region::holder).collect();
        let seats = self.views.superblock().seats.iter().enumerate();
        let joined = seats.filter_map(|(index, seat)| {
            let word = SeatWord::from_word(seat.word.load(Ordering::Relaxed));
            word.is_joined().then(|| Holder::new(index, word.generation()))
        });
        joined.filter(|holder| !alive.contains(holder)).collect()
    }

    /// Buries the victim in the region as it is, and sees what the survivors find. How much of the operation was
    /// done, at least `least` of it. The memory is used up: whoever goes on puts it back.
    ///
    /// # Errors
    /// A broken promise.
    pub fn judge(&self, least: Progress, recovers: bool) -> Verdict<Progress> {
        let role = self.scenario.role;
        let corrupt = |error: Error| Fault::new(Kind::Wedged, format!("{error:?}"));
        let mut named = [0; COUNT as usize];
        if recovers {
            let mut survivors: Vec<_> =
                [Some(&self.ally), self.second.as_ref()].into_iter().flatten().collect();
            if self.scenario.fill % 2 == 1 {
                survivors.reverse();
            }
            let dead = self.find_dead();
            for (dead, survivor) in dead.iter().flat_map(|dead| survivors.iter().map(move |by| (*dead, by))) {
                Arena::recover(survivor, dead, &mut named).map_err(corrupt)?;
            }
            for dead in dead {
                if !Arena::vacate(&self.ally, dead).map_err(corrupt)? {
                    return Err(Fault::new(Kind::Leaked, format!("the seat of {dead:?} cannot be vacated")));
                }
            }
            if !self.find_dead().is_empty() {
                return Err(Fault::new(Kind::Leaked, format!("the dead still sit: {:?}", self.find_dead())));
            }
            self.wake()?;
        }
        let heir = self.arena.attach(Who::Heir, role).map_err(corrupt)?;
        let beside = self.second.as_ref().unwrap_or(&heir);
        oracle::scribble(&self.ally)?;
        oracle::scribble(&heir)?;

        let mut found = [Vec::new(), Vec::new()];
        self.finish_early()?;
        let (out, inward) = (self.out(), self.inward());
        oracle::drain(&self.ally, &mut found[out])?;
        oracle::drain(beside, &mut found[inward])?;
        self.finish_late()?;
        oracle::drain(&self.ally, &mut found[out])?;
        oracle::drain(beside, &mut found[inward])?;

        let Effect { sends, takes } = &self.effect;
        let sent = oracle::compare("its messages", &found[out], least.sent, sends.len(), |sent| {
            self.flows[out].expected(&[], &sends[..sent])
        })?;
        let taken = oracle::compare("messages to it", &found[inward], least.taken, takes.len(), |taken| {
            self.flows[inward].expected(&takes[..taken], &[])
        })?;
        oracle::at_rest(&self.views)?;
        oracle::work(&self.views, &self.ally, &heir)?;
        if let Some(second) = &self.second {
            oracle::work(&self.views, &self.ally, second)?;
        }
        Ok(Progress { sent, taken })
    }

    /// Whether all of the operation was done; asked when it is over.
    pub fn is_complete(&self, progress: Progress) -> bool {
        let gone = self.scenario.op != Op::Leave || self.find_dead().is_empty();
        gone && progress == Progress { sent: self.effect.sends.len(), taken: self.effect.takes.len() }
    }

    /// Whoever is in the middle of a ring or a pool goes on.
    fn finish_early(&self) -> Verdict {
        let Some((hands, held)) = &self.middle else { return Ok(()) };
        match held {
            Held::Claimed { ticket, packet } => hands.producer().publish(again(ticket), packet),
            Held::Taken { ticket, packet, run, marked, number } => {
                let inward = hands.inward();
                let Some(run) = run else {
                    hands.consumer().release(again(ticket));
                    return Ok(());
                };
                if !marked && hands.pool(inward).hold(*run).is_err() {
                    return Err(Fault::new(Kind::Wedged, "a taken packet's buffers are held"));
                }
                let bytes = self.arena.read(inward, *run, payload_len(packet));
                hands.consumer().release(again(ticket));
                hands.pool(inward).give(*run);
                if oracle::number(&bytes) != Some(*number) {
                    return Err(Fault::new(Kind::Torn, "a packet that a living process had taken"));
                }
            }
            Held::Gathered { index } => {
                let run = Run { first: *index as u32, count: 1 };
                let lease = self.views.lease(hands.out());
                let leased = LeaseWord::leased(hands.holder).word();
                if lease.load(Ordering::Relaxed) != leased {
                    return Err(Fault::new(Kind::Wedged, "a living process lost its lease"));
                }
                hands.pool(hands.out()).give(run);
                lease.store(LeaseWord::VACANT.word(), Ordering::Release);
            }
            Held::Nothing | Held::Lent { .. } | Held::Read { .. } => {}
        }
        Ok(())
    }

    /// Whoever has a loan sends it, whoever reads a message gives it back.
    fn finish_late(&self) -> Verdict {
        let Some((_, held)) = &self.middle else { return Ok(()) };
        let region = self.region(self.scenario.company.of().0);
        let (buffer, number) = match held {
            Held::Lent { buffer, number } | Held::Read { buffer, number } => (again(buffer), *number),
            _ => return Ok(()),
        };
        if oracle::number(buffer.bytes()) != Some(number) {
            return Err(Fault::new(Kind::Torn, "what a living process holds was overwritten"));
        }
        if matches!(held, Held::Read { .. }) {
            region.give(buffer);
            return Ok(());
        }
        region.send(buffer, |_| {}).map_err(|(error, _)| {
            Fault::new(Kind::Wedged, format!("a loan of a living process cannot be sent: {error:?}"))
        })
    }

    /// After a recovery everybody who announced a sleep is woken.
    fn wake(&self) -> Verdict {
        let sides = &self.views.superblock().sides;
        let announced = || {
            let words =
                sides.iter().map(|side| SleepersWord::from_word(side.sleepers.load(Ordering::Relaxed)));
            words.fold(0, |seats, word| seats | word.seats(Want::Data) | word.seats(Want::Space))
        };
        let before = announced();
        let rung = self.ally.wake_all();
        if rung == before && announced() == 0 {
            return Ok(());
        }
        Err(Fault::new(Kind::Wedged, format!("seats {before:b} sleep, and {rung:b} are rung")))
    }
}

impl Flow {
    /// What must come, without `gone`, and with `sent` behind what was there.
    fn expected(&self, gone: &[u64], sent: &[u64]) -> Vec<u64> {
        let mut ready = self.ready.clone();
        for number in gone {
            // Empty messages are all alike.
            if let Some(at) = ready.iter().position(|other| other == number) {
                ready.remove(at);
            }
        }
        let (first, then) = if self.behind { (&ready, &self.back) } else { (&self.back, &ready) };
        let all = first.iter().chain(then).chain(&self.claimed).chain(sent).chain(&self.late);
        all.copied().collect()
    }
}

fn chunk() -> ConnCopy {
    let size = POOL as u64;
    ConnCopy { conn: 7, copy_id: 0, copy_size: size, transfer_size: size, transfer_offset: 0, run: None }
}

/// The payload's bytes of a packet whose buffers are held.
fn payload_len(packet: &Packet) -> usize {
    let operand = if packet.op == op::CONN_COPY { 3 } else { 2 };
    packet.operands[operand] as usize
}

/// Takes the next packet without releasing its slot; marks its buffers if they are to be.
fn take(hands: &Hands, mark: bool) -> Setting<(Ticket, Packet, Option<Run>)> {
    match hands.consumer().take(|_| true, || {}).map_err(|what| format!("{what:?}"))? {
        Take::Packet(ticket, packet) => {
            let bounds = hqq::packet::Bounds { geometry: geometry(), max_message: u64::MAX };
            let run = match Operation::check(&packet, &bounds).map_err(|fault| format!("{fault:?}"))? {
                Operation::Copy { run, .. } => run,
                Operation::ConnCopy(copy) => copy.run,
                _ => None,
            };
            if let (Some(run), true) = (run, mark) {
                hands.pool(hands.inward()).hold(run).map_err(|held| format!("{held:?}"))?;
            }
            Ok((ticket, packet, run))
        }
        other => Err(format!("{other:?}")),
    }
}

/// Takes the lease and one buffer, as a gather does.
fn gather(hands: &Hands) -> Setting<usize> {
    let run = hands.pool(hands.out()).take(1).map_err(|shortage| format!("{shortage:?}"))?;
    let leased = LeaseWord::leased(hands.holder).word();
    let lease = hands.views.lease(hands.out());
    let vacant = LeaseWord::VACANT.word();
    match lease.compare_exchange(vacant, leased, Ordering::Acquire, Ordering::Relaxed) {
        Ok(_) => Ok(run.first as usize),
        Err(found) => Err(format!("the lease says {found:x}")),
    }
}

/// The number at a message's head; the rest is left alone, as the caller is being stepped.
fn head(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(EMPTY, |head| u64::from_le_bytes(*head) >> 16)
}

fn read(payload: &Payload<'_>) -> u64 {
    match payload {
        Payload::Inline(inline) => head(inline.bytes()),
        Payload::Pool(buffer) => head(buffer.bytes()),
    }
}

/// Receives one packet in the victim, and keeps its buffers.
fn take_in(victim: &Region<'static>) -> Option<u64> {
    match victim.receive(|_| true, |_| {}) {
        Ok(Incoming::Message(payload, _)) => Some(read(&payload)),
        Ok(Incoming::ConnData(_, Some(buffer))) => Some(head(buffer.bytes())),
        Ok(Incoming::Refused(fault)) => Some(oracle::refused(fault.op)),
        _ => None,
    }
}
