//! Scenarios on the region itself: sets up the region as the victim finds it, with other processes in the middle of an
//! operation.

mod act;
mod judge;

use hqq::Error;
use hqq::shm::buffer::Buffer;
use hqq::shm::endpoint::{Incoming, Payload, SlotBytes};
use hqq::shm::layout::Modes;
use hqq::shm::packet::{CloseHow, ConnCopy, Operation, Packet, Run, op};
use hqq::shm::region::{Region, Setup, Views};
use hqq::shm::ring::{Take, Ticket};
use hqq::shm::sleepers::Sleepers;
use hqq::shm::words::{
    BufferWord, Holder, Lap, LeaseWord, Role, SeatWord, SleepersWord, SlotState, Stamp, Want,
};
use hqq_tests::oracle::{self, EMPTY, Fault, Kind, Verdict};
use std::sync::atomic::Ordering;

use crate::arena::{Arena, Hands, PAGE, Who, again, lasting};
use crate::scenario::{COUNT, Company, INLINE, Middle, Op, POOL, RUN, Scenario, geometry};
use hqq_tests::single_step::mark;
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
    Claimed { ticket: Ticket<'static>, packet: Packet },
    Taken { ticket: Ticket<'static>, packet: Packet, run: Option<Run>, marked: bool, number: u64 },
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
        world.advance_rings()?;
        world.prepare()?;
        let (out, inward) = op.before();
        for (from, lens) in [(world.colleague(), out), (Some(Who::Ally), inward)] {
            if let Some(from) = from {
                world.put_all(from, lens)?;
            }
        }
        world.begin_operation()?;
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
    fn advance_rings(&mut self) -> Setting<()> {
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
                let _held = dequeue(&dead, true)?;
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
        let _held = dequeue(&hands, true)?;
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
    fn begin_operation(&mut self) -> Setting<()> {
        let (who, middle) = self.scenario.company.of();
        if self.scenario.company == Company::Threads {
            let hands = fits(self.arena.hands(Who::Victim, self.victim()))?;
            let claimed = hands.producer().claim().is_ok();
            let taken = dequeue(&hands, true).is_ok();
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
                let run = hands.pool(out).allocate(1).map_err(|shortage| format!("{shortage:?}"))?;
                let number = self.number();
                self.arena.write(out, run, &oracle::message(number, POOL));
                let ticket = hands.producer().claim().map_err(|denied| format!("{denied:?}"))?;
                hands.pool(out).pass(run);
                self.flows[out].claimed.push(number);
                let packet = Packet::new(op::STANDARD_LINK_COPY, [1, run.first.into(), POOL as u64]);
                Held::Claimed { ticket: lasting(ticket), packet }
            }
            Middle::Takes | Middle::Holds => {
                let marked = middle == Middle::Holds;
                let (ticket, packet, run) = dequeue(&hands, marked)?;
                let number = self.flows[inward].ready.remove(0);
                Held::Taken { ticket: lasting(ticket), packet, run, marked, number }
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
        let tail = hqq::shm::ring::Producer::scan_for_tail(slots).expect("a healthy ring");
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
fn dequeue(hands: &Hands, mark: bool) -> Setting<(Ticket<'_>, Packet, Option<Run>)> {
    match hands.consumer().take(|_| true, || {}).map_err(|what| format!("{what:?}"))? {
        Take::Packet(ticket, packet) => {
            let bounds = hqq::shm::packet::Bounds { geometry: geometry(), max_message: u64::MAX };
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
    let run = hands.pool(hands.out()).allocate(1).map_err(|shortage| format!("{shortage:?}"))?;
    let leased = LeaseWord::leased(hands.holder).word();
    let lease = hands.views.lease(hands.out());
    let vacant = LeaseWord::VACANT.word();
    match lease.compare_exchange(vacant, leased, Ordering::Acquire, Ordering::Relaxed) {
        Ok(_) => Ok(run.first as usize),
        Err(found) => Err(format!("the lease says {found:x}")),
    }
}
