//! Victims with a real link: a forked process that connected to this one. Every instant is judged in a copy of the region; at
//! random instants it is killed, and the link of this process is the judge.

use std::fmt;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hqq::shm::layout::RingMode;
use hqq::shm::packet::{Packet, op};
use hqq::shm::words::{BufferState, BufferWord, Holder, Role, SeatWord};
use hqq::{Connection, Error, Listener, Options, OwnedMessage, StandardLink};
use hqq_sys::mem::Mapping;
use hqq_tests::mock::Memory;
use hqq_tests::oracle::{self, Fault, Kind, Verdict};

use crate::arena::{Arena, Image, Who};
use crate::scenario::{COUNT, INLINE, POOL, RUN, SIZE, ring_name};
use crate::sweep::{ENDLESS, Outcome, Settings, guarded, image_base};
use hqq_tests::single_step::{Child, Stop, mark};

/// Far more than anything here takes that does not hang.
const SOON: Duration = Duration::from_secs(20);
/// Numbers of messages to the victim.
const INWARD: u64 = 100;
/// Bytes of a message that a connection cuts in two.
const PART: usize = 100;

names! {
    /// What a victim does with its link.
    Op {
        /// Sends a message through the pool.
        Send "link-send",
        /// Sends a small message.
        SendInline "link-send-inline",
        /// Sends several.
        SendBatch "link-batch-send",
        /// Lends itself memory, fills it, and sends it.
        LoanSend "link-loan-send",
        /// Lends itself a run of buffers and drops it.
        LoanDrop "link-loan-drop",
        /// Receives a message and drops it.
        Receive "link-receive",
        /// Receives what there is, and drops it.
        ReceiveBatch "link-batch-receive",
        /// Looks whether there is something, and announces that it waits.
        Drive "link-drive",
        /// Waits for room, asleep if there is none.
        SendBlocking "link-send-asleep",
        /// Waits for a message, asleep if there is none.
        ReceiveBlocking "link-receive-asleep",
        /// Opens a connection, and waits for the answer.
        ConnOpen "link-conn-create",
        /// Accepts a connection.
        ConnAccept "link-conn-accept",
        /// Sends a message in two chunks.
        ConnSend "link-conn-send",
        /// Receives a message.
        ConnReceive "link-conn-receive",
        /// Drops a connection.
        ConnClose "link-conn-close",
        /// Shuts the link down.
        Shut "link-shutdown",
        /// Drops the link.
        Close "link-close",
    }
}

impl Op {
    /// Whether the link carries connections.
    fn sorts(self) -> bool {
        matches!(
            self,
            Self::ConnOpen | Self::ConnAccept | Self::ConnSend | Self::ConnReceive | Self::ConnClose
        )
    }

    /// Whether both sides agree on a connection before.
    fn connected(self) -> bool {
        matches!(self, Self::ConnSend | Self::ConnReceive | Self::ConnClose)
    }

    /// Whether it may end the link in order.
    fn closes(self) -> bool {
        matches!(self, Self::Shut | Self::Close)
    }

    /// Whether the messages that lie there before are on their way to the victim.
    fn receives(self) -> bool {
        matches!(self, Self::Receive | Self::ReceiveBatch | Self::Drive | Self::ReceiveBlocking)
    }
}

/// One scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scenario {
    pub op: Op,
    pub ring: RingMode,
    pub fill: u32,
    pub role: Role,
    /// Whether the survivor has a loan, and reads a message if there was one.
    pub busy: bool,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let busy = if self.busy { "busy" } else { "idle" };
        write!(f, "{}/{}/{}/{}/{busy}", self.op.name(), ring_name(self.ring), self.fill, self.role)
    }
}

impl Scenario {
    /// All that make sense.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for &op in Op::ALL {
            for ring in [RingMode::Mpmc, RingMode::Spsc, RingMode::Mpsc, RingMode::Spmc] {
                // Waiting for room needs no other fill level; connections need room.
                let fills = if op.sorts() { 0..=2 } else { 0..=COUNT };
                for fill in fills {
                    for role in [Role::Primary, Role::Secondary] {
                        for busy in [false, true] {
                            all.push(Self { op, ring, fill, role, busy });
                        }
                    }
                }
            }
        }
        all
    }

    fn options(&self) -> Options {
        Options::new().slots(COUNT).buffers(COUNT).buffer_size(SIZE).ring_mode(self.ring)
    }

    fn inward(&self) -> usize {
        self.role.other().direction()
    }

    // ---- in the child ----

    /// Meets the parent and does the operation between two marks.
    fn play(&self, name: &str) -> Result<(), Error> {
        let link = match self.role {
            Role::Primary => Listener::bind_with(name, self.options())?.accept_timeout(SOON)?,
            Role::Secondary => StandardLink::connect_with_timeout(name, self.options(), SOON)?,
        };
        if !self.op.receives() {
            for number in 1..=self.fill.into() {
                link.try_send(&oracle::message(number, INLINE))?;
            }
        }
        let connection = if self.op.connected() { Some(link.accept_connection()?) } else { None };
        let texts = [(11, POOL), (12, INLINE), (13, PART), (14, INLINE)];
        let texts = texts.map(|(number, len)| oracle::message(number, len));
        let batch: [&[u8]; 3] = [&texts[1], &texts[0], &texts[3]];
        let mut received = Vec::with_capacity(COUNT as usize);
        let room = (COUNT - self.fill) as usize;
        mark();
        // What fails for want of room is no error here: the parent knows what there is room for.
        match self.op {
            Op::Send => drop(link.try_send(&texts[0])),
            Op::SendInline => drop(link.try_send(&texts[1])),
            // A batch waits for room, so it has no more messages than there is room for.
            Op::SendBatch if self.busy || room == 0 => {
                let _ = batch.iter().try_for_each(|message| link.try_send(message));
            }
            Op::SendBatch => drop(link.send_batch(&batch[..room.min(3)])?),
            Op::LoanSend => {
                if let Ok(mut loan) = link.try_loan(POOL) {
                    loan.copy_from_slice(&texts[0]);
                    drop(loan.try_send().map_err(|rejected| rejected.error));
                }
            }
            Op::LoanDrop => drop(link.try_loan(RUN)),
            Op::Receive => drop(link.try_recv()),
            Op::ReceiveBatch => {
                if self.busy || self.fill == 0 {
                    received.extend(std::iter::from_fn(|| link.try_recv().ok()));
                } else {
                    link.recv_batch(&mut received, COUNT as usize)?;
                }
                received.clear();
            }
            Op::Drive => drop(link.drive()),
            Op::SendBlocking => link.send(&texts[0])?,
            Op::ReceiveBlocking => drop(link.recv()?),
            Op::ConnOpen => drop(link.open_connection()?.id()),
            Op::ConnAccept => drop(link.accept_connection()?.id()),
            Op::ConnSend => {
                if let Some(connection) = &connection {
                    connection.send(&texts[2])?;
                }
            }
            Op::ConnReceive => {
                if let Some(connection) = &connection {
                    drop(connection.recv()?);
                }
            }
            Op::ConnClose => drop(connection),
            Op::Shut => link.shutdown(Shutdown::Both),
            Op::Close => {
                drop(received);
                drop(link);
            }
        }
        mark();
        Ok(())
    }
}

/// A name for one link.
fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("kill-sweep-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What lies in the two directions, as messages would be received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lists {
    out: Vec<u64>,
    inward: Vec<u64>,
}

/// A victim at its first mark, and the survivor's end.
struct Meeting {
    scenario: Scenario,
    child: Child,
    link: StandardLink,
    connection: Option<Connection>,
    memory: Mapping,
    /// What lies in the region.
    lists: Lists,
    /// Messages that the survivor has sorted, or still reads.
    kept: Vec<u64>,
    read: Option<OwnedMessage>,
}

impl Meeting {
    fn new(scenario: Scenario) -> Result<Self, String> {
        let name = name();
        let failed = |error: Error| format!("{scenario}: {error:?}");
        let options = scenario.options();
        let listener = match scenario.role {
            Role::Primary => None,
            Role::Secondary => Some(Listener::bind_with(&name, options.clone()).map_err(failed)?),
        };
        let meet = || -> Result<_, Error> {
            let link = match &listener {
                Some(listener) => listener.accept_timeout(SOON)?,
                None => StandardLink::connect_with_timeout(&name, options, SOON)?,
            };
            if scenario.op.receives() {
                for index in 0..scenario.fill {
                    let len = if index % 2 == 0 { POOL } else { INLINE };
                    link.try_send(&oracle::message(INWARD + u64::from(index), len))?;
                }
            }
            let connection = if scenario.op.connected() { Some(link.open_connection()?) } else { None };
            if let (Op::ConnReceive, Some(connection)) = (scenario.op, &connection) {
                connection.send(&oracle::message(INWARD, POOL))?;
            }
            Ok((link, connection))
        };
        let play = || scenario.play(&name).is_ok();
        let (child, met) = Child::fork(play, meet).map_err(|error| format!("{scenario}: {error}"))?;
        let (link, connection) = met.map_err(failed)?;
        let mut lists = Lists::default();
        if scenario.op.receives() {
            lists.inward = (0..scenario.fill).map(|index| INWARD + u64::from(index)).collect();
        } else {
            lists.out = (1..=scenario.fill.into()).collect();
        }
        match scenario.op {
            Op::ConnAccept => {
                // As the link would ask, which then waits for the answer.
                let id = if link.role() == Role::Primary { 1 } else { 2 };
                Memory::of(&link).push(scenario.inward(), &Packet::new(op::CONN_CREATE, [id]));
                lists.inward = vec![oracle::control(op::CONN_CREATE, id)];
            }
            Op::ConnReceive => lists.inward = vec![INWARD],
            _ => {}
        }
        let len = hqq::shm::layout::required_bytes(&link.geometry(), crate::arena::PAGE).map_err(failed)?;
        let memory = Mapping::map_read_only(link.memory(), len as usize);
        let memory = memory.map_err(|error| format!("{scenario}: {error}"))?;
        let (kept, read) = (Vec::new(), None);
        let mut meeting = Self { scenario, child, link, connection, memory, lists, kept, read };
        if scenario.op.connected() {
            // The answer came behind what was sent before.
            meeting.kept.append(&mut meeting.lists.out);
        } else if scenario.busy && !scenario.op.sorts() && !meeting.lists.out.is_empty() {
            let message = meeting.receive()?;
            meeting.read = Some(message);
        }
        Ok(meeting)
    }

    /// The survivor receives the next message of the victim's.
    fn receive(&mut self) -> Result<OwnedMessage, String> {
        let message =
            self.link.recv_timeout(SOON).map_err(|error| format!("{}: {error:?}", self.scenario))?;
        if self.kept.is_empty() {
            let first = self.lists.out.remove(0);
            self.kept.push(first);
        }
        let (due, number) = (self.kept.remove(0), oracle::number(&message));
        if number != Some(due) {
            return Err(format!("{}: {number:?} came, {due} was due", self.scenario));
        }
        Ok(message.detach())
    }

    /// Whether the victim's next instruction puts it to sleep until somebody rings.
    fn falls_asleep(&self) -> std::io::Result<bool> {
        if !self.child.is_system_call(self.child.next_instruction()?)? {
            return Ok(false);
        }
        let registers = self.child.registers()?;
        let asleep = match registers.rax as i64 {
            libc::SYS_poll => registers.rdx as i32 == -1,
            libc::SYS_ppoll => registers.rdx == 0,
            _ => false,
        };
        Ok(asleep)
    }

    /// Does what the victim sleeps for.
    fn ring(&mut self) -> Result<(), String> {
        let scenario = self.scenario;
        let failed = |error: Error| format!("{scenario}: {error:?}");
        match scenario.op {
            Op::SendBlocking => drop(self.receive()?),
            Op::ReceiveBlocking => {
                let number = INWARD + 50 + self.lists.inward.len() as u64;
                self.link.try_send(&oracle::message(number, POOL)).map_err(failed)?;
                self.lists.inward.push(number);
            }
            Op::ConnOpen => {
                let connection = self.link.accept_connection_timeout(SOON).map_err(failed)?;
                // What was sent before the request has been sorted.
                self.lists.out.retain(|number| *number < oracle::EMPTY);
                self.kept.append(&mut self.lists.out);
                self.lists.inward.push(oracle::control(op::CONN_ACCEPT, connection.id()));
                self.connection = Some(connection);
            }
            _ => return Err(format!("{scenario}: the victim sleeps and nobody will ring")),
        }
        Ok(())
    }
}

fn corrupt(error: Error) -> Fault {
    Fault::new(Kind::Wedged, format!("{error:?}"))
}

fn holder(role: Role) -> Holder {
    Holder::new(role.direction(), 1)
}

/// How many buffers are in somebody's name.
fn in_the_name_of(arena: &Arena, holder: Holder) -> Verdict<usize> {
    let views = arena.views().map_err(corrupt)?;
    let words = (0..2).flat_map(|direction| views.buffer_words(direction));
    let states = words.map(|word| BufferWord::from_word(word.load(Ordering::Relaxed)).state());
    let named = states.filter(
        |state| matches!(state, Some(BufferState::Owned(by) | BufferState::Held(by) | BufferState::Spare(by)) if *by == holder),
    );
    Ok(named.count())
}

/// Buries the victim in a copy of its region: what lies there then.
fn judge(arena: &Arena, image: &Image, role: Role, recovers: bool) -> Verdict<Lists> {
    arena.restore(image);
    let (dead, survivor) = (holder(role), holder(role.other()));
    let mut named = [0; COUNT as usize];
    let views = arena.views().map_err(corrupt)?;
    // A victim that has closed its link has given its seat up.
    let seat = SeatWord::from_word(views.superblock().seats[dead.seat()].word.load(Ordering::Relaxed));
    let ally = arena.attach(Who::Ally, role.other()).map_err(corrupt)?;
    if recovers && seat.is_occupied_by(dead) {
        let before = in_the_name_of(arena, survivor)?;
        Arena::recover(&ally, dead, &mut named).map_err(corrupt)?;
        if !Arena::vacate(&ally, dead).map_err(corrupt)? {
            return Err(Fault::new(Kind::Leaked, "the seat of the dead cannot be vacated"));
        }
        let after = in_the_name_of(arena, survivor)?;
        if before != after {
            let what = format!("the survivor had {before} buffers, and has {after}");
            return Err(Fault::new(Kind::Lost, what));
        }
        // Whoever these are, they would be rung.
        let _ = ally.wake_all();
    }
    let heir = arena.attach(Who::Heir, role).map_err(corrupt)?;
    oracle::scribble(&ally)?;
    oracle::scribble(&heir)?;
    let mut lists = Lists::default();
    oracle::drain(&ally, &mut lists.out)?;
    oracle::drain(&heir, &mut lists.inward)?;
    // What the survivor still holds is no leak, and goes home when it dies too.
    Arena::recover(&ally, survivor, &mut named).map_err(corrupt)?;
    oracle::at_rest(&views)?;
    oracle::work(&views, &ally, &heir)?;
    Ok(lists)
}

/// Whether the lists can have become these while only the victim ran, or not even that.
fn follows(before: &Lists, now: &Lists, at_once: bool) -> Verdict {
    if at_once {
        oracle::compare("its messages", &now.out, 0, 0, |_| before.out.clone())?;
        return oracle::compare("messages to it", &now.inward, 0, 0, |_| before.inward.clone()).map(drop);
    }
    let still = &now.out[..before.out.len().min(now.out.len())];
    oracle::compare("its messages", still, 0, 0, |_| before.out.clone())?;
    // What is new there came once.
    oracle::compare("its messages", &now.out, 0, 0, |_| {
        let mut once = now.out.clone();
        once.sort_unstable();
        once.dedup();
        if once.len() == now.out.len() { now.out.clone() } else { once }
    })?;
    let gone = before.inward.len();
    oracle::compare("messages to it", &now.inward, 0, gone, |gone| before.inward[gone..].to_vec())?;
    Ok(())
}

/// What must lie there when the operation is over, if it can be foreseen.
fn outcome(scenario: &Scenario, first: &Lists) -> Option<Lists> {
    let room = COUNT as usize - first.out.len();
    let mut lists = first.clone();
    match scenario.op {
        Op::Send | Op::LoanSend => lists.out.extend([11].iter().take(room)),
        Op::SendInline => lists.out.extend([12].iter().take(room)),
        Op::SendBatch => lists.out.extend([12, 11, 14].iter().take(room)),
        // In such a ring it sorts what is there.
        Op::Drive if scenario.ring.single_consumer() => lists.inward.clear(),
        Op::Receive => drop(lists.inward.drain(..1.min(first.inward.len()))),
        Op::ReceiveBatch => lists.inward.clear(),
        Op::LoanDrop | Op::Drive | Op::Shut | Op::Close => {}
        _ => return None,
    }
    Some(lists)
}

/// The messages of a list that a link hands out by itself.
fn plain(list: &[u64]) -> Vec<u64> {
    list.iter().copied().filter(|number| *number < oracle::EMPTY).collect()
}

/// Sweeps a scenario.
///
/// # Errors
/// The sweep itself failed.
pub fn sweep(arena: &Arena, scenario: Scenario, settings: Settings) -> Result<Outcome, String> {
    let failed = |error: std::io::Error| format!("{scenario}: {error}");
    let mut meeting = Meeting::new(scenario)?;
    if scenario.busy {
        // It is never given back: who judges a copy looks whether it stays the survivor's.
        std::mem::forget(meeting.link.try_loan(POOL));
    }
    let base = image_base();
    let mut told = Outcome::default();
    let mut image = Image::default();
    let first = meeting.lists.clone();
    let mut stop = Stop::Step;
    loop {
        let changed = told.points == 0 || !arena.is_of(&meeting.memory, &image);
        told.points += 1;
        if settings.point.map_or(changed, |point| point + 1 == told.points) {
            arena.save_of(&meeting.memory, &mut image);
            told.states += 1;
            let verdict = guarded(|| {
                let now = judge(arena, &image, scenario.role, settings.recovers)?;
                if settings.point.is_none() {
                    follows(&meeting.lists, &now, told.points == 1)?;
                }
                Ok(now)
            });
            match verdict {
                Ok(now) => meeting.lists = now,
                Err(fault) => {
                    let address = meeting.child.next_instruction().map_err(failed)?.wrapping_sub(base);
                    if told.note(&scenario, address, fault) {
                        return Ok(told);
                    }
                }
            }
        }
        if stop == Stop::Mark || told.points > ENDLESS {
            break;
        }
        if meeting.falls_asleep().map_err(failed)? {
            meeting.ring()?;
        }
        stop = meeting.child.step().map_err(failed)?;
    }
    let due = outcome(&scenario, &first);
    let fault = if stop != Stop::Mark {
        Some("the victim's operation does not end".to_owned())
    } else if settings.point.is_none()
        && told.faults.is_empty()
        && due.as_ref().is_some_and(|due| *due != meeting.lists)
    {
        Some(format!("the operation is over, there is {:?}, due was {due:?}", meeting.lists))
    } else {
        None
    };
    if let Some(what) = fault {
        told.note(&scenario, 0, Fault::new(Kind::Wedged, what));
    }
    meeting.child.kill().map_err(failed)?;
    Ok(told)
}

/// Receives all that the survivor's own link hands out, up to the notice of the death.
fn receive(link: &StandardLink, closes: bool) -> Verdict<Vec<u64>> {
    let mut found = Vec::new();
    loop {
        match link.recv_timeout(SOON) {
            Ok(message) => {
                let torn = || Fault::new(Kind::Torn, "a message of the dead");
                found.push(oracle::number(&message).ok_or_else(torn)?);
            }
            Err(Error::PeerDead) => return Ok(found),
            Err(Error::Closed) if closes => return Ok(found),
            Err(Error::Timeout { .. }) => {
                return Err(Fault::new(Kind::Wedged, "the death is not noticed"));
            }
            Err(error) => return Err(corrupt(error)),
        }
    }
}

/// Kills a victim behind its instruction number `at`, or at its second mark. `asleep`: the survivor sleeps then.
///
/// # Errors
/// The sweep itself failed.
pub fn kill(arena: &Arena, scenario: Scenario, at: u64, asleep: bool) -> Result<Verdict, String> {
    let failed = |error: std::io::Error| format!("{scenario}: {error}");
    let mut meeting = Meeting::new(scenario)?;
    for _ in 0..at {
        if meeting.falls_asleep().map_err(failed)? {
            meeting.ring()?;
        }
        if meeting.child.step().map_err(failed)? == Stop::Mark {
            break;
        }
    }
    let mut image = Image::default();
    arena.save_of(&meeting.memory, &mut image);
    let lists = match guarded(|| judge(arena, &image, scenario.role, true)) {
        Ok(lists) => lists,
        Err(fault) => return Ok(Err(fault)),
    };
    let Meeting { mut child, link, connection, memory, mut kept, read, .. } = meeting;
    let loan = if scenario.busy { link.try_loan(POOL).ok() } else { None };
    let closes = scenario.op.closes();
    let found = thread::scope(|scope| {
        let link = &link;
        let receiver = asleep.then(|| scope.spawn(move || receive(link, closes)));
        if asleep {
            // It may come too late to sleep; then it is awake.
            let sleeps = || link.stats().side(link.role()).sleeps;
            let before = sleeps();
            for _ in 0..100 {
                if sleeps() > before {
                    break;
                }
                thread::sleep(Duration::from_micros(20));
            }
        }
        child.kill()?;
        Ok(match receiver {
            Some(receiver) => {
                receiver.join().unwrap_or_else(|_| Err(Fault::new(Kind::Wedged, "it panicked")))
            }
            None => receive(link, closes),
        })
    })
    .map_err(failed)?;
    Ok(guarded(|| {
        kept.extend(plain(&lists.out));
        oracle::compare("its messages", &found?, 0, 0, |_| kept.clone())?;
        if let Some(connection) = &connection {
            end(connection)?;
        }
        drop((loan, read, connection));
        arena.save_of(&memory, &mut image);
        arena.restore(&image);
        let views = arena.views().map_err(corrupt)?;
        let ally = arena.attach(Who::Ally, scenario.role.other()).map_err(corrupt)?;
        let heir = arena.attach(Who::Heir, scenario.role).map_err(corrupt)?;
        let mut inward = Vec::new();
        oracle::drain(&heir, &mut inward)?;
        if !scenario.op.sorts() {
            oracle::compare("messages to it", &inward, 0, 0, |_| lists.inward.clone())?;
        }
        oracle::at_rest(&views)?;
        // The survivor may keep one buffer ready, and is not there to use it in this copy.
        let mut named = [0; COUNT as usize];
        Arena::recover(&ally, holder(scenario.role.other()), &mut named).map_err(corrupt)?;
        oracle::work(&views, &ally, &heir)
    }))
}

/// A connection ends with its link.
fn end(connection: &Connection) -> Verdict {
    for _ in 0..=2 * COUNT {
        match connection.recv_timeout(SOON) {
            Ok(_) => {}
            Err(Error::PeerDead | Error::Closed | Error::Cut { .. }) => return Ok(()),
            Err(error) => return Err(corrupt(error)),
        }
    }
    Err(Fault::new(Kind::Wedged, "a connection does not end"))
}

/// The name of the meetings that are cut short by a kill.
pub const fn greeting(role: Role) -> &'static str {
    match role {
        Role::Primary => "link-accept",
        Role::Secondary => "link-connect",
    }
}

/// Kills a victim that is just meeting this process behind its instruction number `at`, or when they have met. How
/// many instructions it had executed.
///
/// # Errors
/// The sweep itself failed.
pub fn kill_greeting(role: Role, at: u64) -> Result<(u64, Verdict), String> {
    let name = name();
    let failed = |what: &dyn fmt::Debug| format!("{}: {what:?}", greeting(role));
    let bind = || Listener::bind_with(&name, Options::new().slots(COUNT).buffers(COUNT).buffer_size(SIZE));
    let listener = match role {
        Role::Primary => None,
        Role::Secondary => Some(bind().map_err(|error| failed(&error))?),
    };
    let meet = || {
        let own = if role == Role::Primary { Some(bind()) } else { None };
        mark();
        let link = match own {
            Some(own) => own.and_then(|listener| listener.accept_timeout(SOON)),
            None => StandardLink::connect_timeout(&name, SOON),
        };
        mark();
        link.is_ok()
    };
    let (mut child, ()) = Child::fork(meet, || ()).map_err(|error| failed(&error))?;
    thread::scope(|scope| {
        let connecting = match listener {
            Some(_) => None,
            None => Some(scope.spawn(|| StandardLink::connect_timeout(&name, SOON))),
        };
        let mut accepted = None;
        let mut done = 0;
        while done < at {
            if let (Some(listener), None) = (&listener, &accepted) {
                // Only where it may wait for us: each look takes a while.
                let next = child.next_instruction().and_then(|next| child.is_system_call(next));
                if next.map_err(|error| failed(&error))? {
                    accepted = listener.accept_timeout(Duration::from_micros(200)).ok();
                }
            }
            done += 1;
            if child.step().map_err(|error| failed(&error))? == Stop::Mark {
                break;
            }
        }
        child.kill().map_err(|error| failed(&error))?;
        let met = match connecting {
            Some(connecting) => connecting.join().map_err(|panic| failed(&panic))?.ok(),
            None => accepted,
        };
        Ok((done, guarded(|| after_greeting(listener.as_ref(), met))))
    })
}

/// A link that came of a cut meeting says that the peer is dead; and the listener goes on.
fn after_greeting(listener: Option<&Listener>, met: Option<StandardLink>) -> Verdict {
    let late = listener.and_then(|listener| listener.accept_timeout(Duration::from_millis(1)).ok());
    for link in met.into_iter().chain(late) {
        if !receive(&link, true)?.is_empty() {
            return Err(Fault::new(Kind::Torn, "nothing was sent"));
        }
    }
    let Some(listener) = listener else { return Ok(()) };
    thread::scope(|scope| {
        let next = scope.spawn(|| StandardLink::connect_timeout(listener.name(), SOON)?.send(b"next"));
        let link = listener.accept_timeout(SOON);
        let sent = next.join().map_err(|_| Fault::new(Kind::Wedged, "the next caller panicked"))?;
        sent.map_err(corrupt)?;
        let link = link.map_err(corrupt)?;
        let message = link.recv_timeout(SOON).map_err(corrupt)?;
        if *message == *b"next" { Ok(()) } else { Err(Fault::new(Kind::Torn, "the next caller's message")) }
    })
}
