//! The two processes of a run, and the rounds.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{fmt, process, thread};

use hqq::{Offer, Options, StandardLink};
use hqq_sys::{cpu, poll, sock, spawn};

use crate::case::{Case, Kind};
use crate::limits::{lines, single};
use crate::measured::{Lives, Span, System, Turn, Turns, nanos};
use crate::outcome::{Failure, Outcome};
use crate::session::{PATIENCE, Session, Shelf, expect, tag, words};
use crate::tally::{Facts, Row, Tally, ratio};
use crate::{clock, processors};

/// How long a system works at a case before it is another's turn.
fn length(kind: Kind) -> Duration {
    Duration::from_millis(match kind {
        // Its threads take a while to begin and to be shared out.
        Kind::Crowd => 20,
        _ => 4,
    })
}

/// Turns in the first round, none of which counts.
const WARM_UP: u64 = 4;
/// The most round trips or messages of a turn.
const MOST: u64 = 1 << 18;
/// The variable that hands a socket to the second process.
const SOCKET: &str = "HQQ_BENCH_SOCKET";

/// How long it may be until a turn has ended, before the run is given up: something hangs.
const HANGS: Duration = Duration::from_secs(30);

/// What to measure.
pub struct Plan<'a> {
    /// The systems. The second process must know all of them.
    pub systems: &'a [Box<dyn System>],
    /// The cases: each is measured with every system that can do it.
    pub cases: Vec<Case>,
    /// Only systems of these names; none for all. What they are compared with is measured besides.
    pub only: Vec<String>,
    /// Whether rows are compared with those of `hqq`, too.
    pub beside_hqq: bool,
    /// How often everything has its turn.
    pub rounds: u64,
}

impl<'a> Plan<'a> {
    /// What will be measured, in order: what is wanted, each case's systems together, and what that is compared with.
    pub fn pairs(&self) -> Vec<(&'a dyn System, Case)> {
        let able = |case: Case| self.systems.iter().map(|s| &**s).filter(move |system| system.can(&case));
        let wanted = |name: &str| self.only.is_empty() || self.only.iter().any(|only| only == name);
        let pairs = self.cases.iter().flat_map(|&case| {
            able(case).filter(|system| wanted(system.name())).map(move |system| (system, case))
        });
        let mut pairs: Vec<(&dyn System, Case)> = pairs.collect();
        // Not known by their place in the list, which grows meanwhile.
        for index in 0..pairs.len() {
            let (system, case) = pairs[index];
            let single = single(case).map(|single| (system.name(), single));
            for (name, case) in [Some(system.limit(case)), single].into_iter().flatten() {
                let there = |pair: &(&dyn System, Case)| pair.0.name() == name && pair.1 == case;
                if !pairs.iter().any(there) {
                    pairs.extend(able(case).filter(|system| system.name() == name).map(|s| (s, case)));
                }
            }
        }
        pairs.sort_by_key(|(_, case)| (case.kind, case.payload, case.period_us));
        pairs
    }
}

/// Starts `command` as the second process, which must call [`serve`], and measures. `progress` is told how many of how
/// many turns are done.
///
/// # Errors
/// What goes wrong in either process: those of the systems, of the links and of the operating system.
pub fn lead(plan: &Plan<'_>, mut command: Command, mut progress: impl FnMut(u64, u64)) -> Outcome<Facts> {
    let pinned = processors::pair();
    if let Some([_, other]) = pinned {
        command.env(PROCESSOR, other.to_string());
    }
    let other = Other::start(command)?;
    // Only now: the second process would inherit it.
    let pinned = pinned.filter(|&[own, _]| cpu::pin(own).is_ok());
    let shelf = Shelf::default();
    thread::scope(|scope| {
        let threads = plan.pairs().iter().any(|(system, _)| system.lives() == Lives::BetweenThreads);
        let thread = if threads {
            let (near, far) = StandardLink::pair_with(control())?;
            let (near_socket, far_socket) = sock::pair()?;
            let shelf = &shelf;
            scope.spawn(move || {
                if let Some([_, other]) = pinned {
                    let _ = cpu::pin(other);
                }
                let _ = follow(&far, &far_socket, plan.systems, Some(shelf));
            });
            Some((near, near_socket))
        } else {
            None
        };
        let (pulse, pulses) = mpsc::channel();
        let process = &other;
        scope.spawn(move || watch(&pulses, process));
        let measured = rounds(plan, &other, thread.as_ref(), &shelf, |done, all, what| {
            let _ = pulse.send(what);
            if all > 0 {
                progress(done, all);
            }
        });
        drop(pulse);
        drop(thread);
        let rows = measured.map_err(|failure| other.explain(failure))?;
        other.end()?;
        Ok(Facts { rows, machine: processors::machine(), rounds: plan.rounds, pinned })
    })
}

/// Ends this program if nothing is heard for long, or not for a while and the second process is dead: a system may wait for
/// ever then. Whoever waits for its end is told why.
fn watch(pulses: &mpsc::Receiver<String>, other: &Other) {
    const GLANCE: Duration = Duration::from_millis(500);
    let (mut last, mut what) = (Instant::now(), "the beginning".to_owned());
    let mut dead = 0;
    loop {
        match pulses.recv_timeout(GLANCE) {
            Ok(next) => (last, what, dead) = (Instant::now(), next, 0),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => dead += u32::from(other.wait(Duration::ZERO).is_some()),
        }
        if dead > 6 || last.elapsed() > HANGS {
            let why = if dead > 0 { "the second process is dead" } else { "it hangs" };
            eprintln!("error: {what}: {why}");
            let _ = other.child.lock().unwrap_or_else(PoisonError::into_inner).kill();
            process::exit(4);
        }
    }
}

/// The variable that names the second process's processor.
const PROCESSOR: &str = "HQQ_BENCH_PROCESSOR";

/// In the second process: does the followers' part until the first has finished.
///
/// # Errors
/// If it was not started by [`lead`]; what goes wrong here, which the first process is told, too.
pub fn serve(systems: &[Box<dyn System>]) -> Outcome {
    let control = StandardLink::inherited_with(control())?;
    let socket = spawn::inherited(SOCKET)?;
    if let Some(processor) = std::env::var(PROCESSOR).ok().and_then(|number| number.parse().ok()) {
        // If it cannot, the first process will not either, and says so.
        let _ = cpu::pin(processor);
    }
    let first = control.peer_process().try_clone_to_owned()?;
    // Whatever this process waits for then, nobody will bring it.
    thread::spawn(move || {
        let _ = poll::many(&[first.as_fd()], None);
        process::exit(4);
    });
    follow(&control, &socket, systems, None)
}

/// The control link's options: who waits for orders leaves its processor to those who measure.
fn control() -> Options {
    Options::new().slots(64).buffers(16).buffer_size(4096).spin(Duration::ZERO)
}

/// The second process died or gave up.
#[derive(Debug)]
pub struct SecondEnded(String);

impl fmt::Display for SecondEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SecondEnded {}

fn wait(child: &mut Child, patience: Duration) -> Option<process::ExitStatus> {
    let limit = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < limit => thread::sleep(Duration::from_millis(1)),
            found => return found.ok().flatten(),
        }
    }
}

/// The second process, and the words with it.
struct Other {
    child: Mutex<Child>,
    control: StandardLink,
    socket: OwnedFd,
}

impl Other {
    fn start(mut command: Command) -> Outcome<Self> {
        let offer = Offer::new(control())?;
        let (socket, theirs) = sock::pair()?;
        offer.pass_to(&mut command)?;
        spawn::inherit_fd(&mut command, theirs.as_fd(), SOCKET)?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        match offer.accept_timeout(PATIENCE) {
            Ok(control) => Ok(Self { child: Mutex::new(child), control, socket }),
            Err(error) => {
                // One that died is not yet known to be dead when it hangs up.
                let ended = wait(&mut child, Duration::from_millis(500));
                let _ = child.kill();
                let message = format!("the second process ({}) does not begin: {error}", child.wait()?);
                Err(if ended.is_some() { Box::new(SecondEnded(message)) } else { message.into() })
            }
        }
    }

    /// Waits for it to end, for a while.
    fn wait(&self, patience: Duration) -> Option<process::ExitStatus> {
        wait(&mut self.child.lock().unwrap_or_else(PoisonError::into_inner), patience)
    }

    /// The failure that explains this one: how the second process ended, if it did.
    fn explain(&self, failure: Failure) -> Failure {
        match self.wait(Duration::from_millis(500)) {
            Some(status) => Box::new(SecondEnded(match status.signal() {
                Some(signal) => format!("the second process died, by signal {signal}: {failure}"),
                None => format!("the second process gave up ({status}): {failure}"),
            })),
            None => failure,
        }
    }

    /// Lets it end, and sees that it does so well.
    fn end(&self) -> Outcome {
        self.control.shutdown(std::net::Shutdown::Both);
        match self.wait(PATIENCE) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("the second process ended with {status}").into()),
            None => Err("the second process does not end; it is killed".into()),
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A system that is open for a case.
struct Pair<'a> {
    system: &'a dyn System,
    case: Case,
    turns: Box<dyn Turns>,
    control: &'a StandardLink,
    /// Its number among those that the follower has open.
    index: u64,
    /// Of its next turn.
    count: u64,
    tally: Tally,
}

/// Opens everything, and runs all rounds.
fn rounds(
    plan: &Plan<'_>,
    other: &Other,
    thread: Option<&(StandardLink, OwnedFd)>,
    shelf: &Shelf,
    mut progress: impl FnMut(u64, u64, String),
) -> Outcome<Vec<Row>> {
    let mut open: Vec<Pair<'_>> = Vec::new();
    let mut opened = [0; 2];
    for (number, (system, case)) in plan.pairs().into_iter().enumerate() {
        progress(0, 0, format!("{} at {case}", system.name()));
        let (control, socket, index) = match (system.lives(), thread) {
            (Lives::BetweenThreads, Some((control, socket))) => (control, socket, &mut opened[1]),
            _ => (&other.control, &other.socket, &mut opened[0]),
        };
        let name = format!("hqq-bench-{}-{number}", process::id());
        let session = Session {
            control,
            socket: socket.as_fd(),
            shelf: Some(shelf).filter(|_| system.lives() == Lives::BetweenThreads),
            case,
            name,
            leads: true,
        };
        let turns = begin(system, &session).map_err(|f| format!("{} at {case}: {f}", system.name()))?;
        open.push(Pair {
            system,
            case,
            turns,
            control,
            index: *index,
            count: least(case.kind),
            tally: Tally::new(),
        });
        *index += 1;
    }
    let mut times = vec![0; MOST as usize];
    let total = (plan.rounds + 1) * open.len() as u64;
    let mut done = 0;
    let pairs = open.len();
    for round in 0..=plan.rounds {
        for turn in 0..pairs {
            // Every round begins with another: the later ones are interrupted more often.
            let pair = &mut open[(round as usize + turn) % pairs];
            let what = format!("{} at {}", pair.system.name(), pair.case);
            progress(done, total, what.clone());
            // At first until the turns have found their length.
            for _ in 0..if round == 0 { WARM_UP } else { 1 } {
                take_turn(pair, round > 0, &mut times).map_err(|f| format!("{what}: {f}"))?;
            }
            done += 1;
        }
    }
    progress(done, total, "the end".into());
    let rounds_of = |name: &str, case: Case| -> Option<&[f64]> {
        let pair = open.iter().find(|pair| pair.system.name() == name && pair.case == case)?;
        Some(&pair.tally.rounds)
    };
    let rows = open.iter().map(|pair| {
        let (name, case) = (pair.system.name(), pair.case);
        let ratio_to = |(name, case)| ratio(&pair.tally.rounds, rounds_of(name, case)?);
        let mut row = pair.tally.row(name, case);
        row.between = (pair.system.lives() == Lives::BetweenThreads).then(|| "threads".into());
        row.lines = lines(case);
        let (raw, raw_case) = pair.system.limit(case);
        row.ratio_to_raw = ratio_to((raw, raw_case));
        row.raw = row.ratio_to_raw.map(|_| raw.into());
        row.ratio_to_single = single(case).and_then(|single| ratio_to((name, single)));
        // The mode with the defaults, and where it does not have the case, the one beside it.
        if plan.beside_hqq {
            row.ratio_to_hqq = ratio_to(("hqq", case)).or_else(|| ratio_to(("hqq-spsc", case)));
        }
        row
    });
    Ok(rows.collect())
}

/// Opens both ends of a system.
fn begin(system: &dyn System, session: &Session<'_>) -> Outcome<Box<dyn Turns>> {
    let mut order = vec![tag::OPEN];
    order.extend(session.case.words().map(u64::to_le_bytes).as_flattened());
    order.extend([system.name(), "\0", &session.name].map(str::as_bytes).concat());
    session.control.send(&order)?;
    let led = system.lead(session);
    let followed = expect(session.control, tag::DONE);
    both(led, followed).map(|(turns, _)| turns)
}

/// What both ends have done, or the failure that explains most: the follower's, unless nothing is known of it.
fn both<T>(led: Outcome<T>, followed: Outcome<Vec<u8>>) -> Outcome<(T, Vec<u8>)> {
    match (led, followed) {
        (Ok(led), Ok(followed)) => Ok((led, followed)),
        (Err(failure), Ok(_)) => Err(failure),
        (Err(failure), Err(other)) if other.is::<hqq::Error>() => Err(failure),
        (_, Err(failure)) => Err(failure),
    }
}

/// Lets a system work at its case for a while, and notes what came of it if it `counts`.
fn take_turn(pair: &mut Pair<'_>, counts: bool, times: &mut [u32]) -> Outcome {
    let turn = Turn { case: pair.case, count: pair.count };
    let kind = pair.case.kind;
    let mut order = vec![tag::TURN];
    order.extend([pair.index, pair.count].map(u64::to_le_bytes).as_flattened());
    pair.control.send(&order)?;
    expect(pair.control, tag::DONE)?;
    let times = &mut times[..if kind.is_timed() { pair.count as usize } else { 0 }];
    let led = pair.turns.lead(turn, times);
    let followed = expect(pair.control, tag::DONE);
    let (led, followed) = both(led, followed)?;
    let [ended, cpu, wall] = words(&followed)?;
    let ended = if kind.is_timed() { led.ended } else { ended.max(led.ended) };
    let took = (ended - led.began).max(1);
    if counts {
        if kind.is_timed() {
            pair.tally.note_times(times);
        } else {
            let each = if kind == Kind::Stream { pair.case.payload } else { 1 };
            pair.tally.note_rate(pair.count * each, took);
        }
        if kind == Kind::Paced {
            pair.tally.note_cpu(cpu as f64 / wall.max(1) as f64);
        }
    }
    let fits = pair.count as f64 * f64::from(nanos(length(kind))) / took as f64;
    // No turn is much longer than the last: that one may have been a lucky one.
    pair.count = (fits as u64).clamp(least(kind), MOST).min(8 * pair.count);
    Ok(())
}

/// The fewest that a turn does.
fn least(kind: Kind) -> u64 {
    match kind {
        Kind::Setup => 1,
        Kind::Paced => 4,
        _ => 16,
    }
}

/// The follower's part of everything, until the leader closes.
fn follow(
    control: &StandardLink,
    socket: &OwnedFd,
    systems: &[Box<dyn System>],
    shelf: Option<&Shelf>,
) -> Outcome {
    let mut open: Vec<(Case, Box<dyn Turns>)> = Vec::new();
    loop {
        let order = match control.recv() {
            Ok(order) => order.to_vec(),
            Err(hqq::Error::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let obeyed = match order.split_first() {
            Some((&tag::OPEN, rest)) => opened(rest, control, socket, systems, shelf).map(|pair| {
                open.push(pair);
                Vec::new()
            }),
            Some((&tag::TURN, rest)) => turned(rest, control, &mut open),
            _ => Err("an order was due".into()),
        };
        match obeyed {
            Ok(words) => control.send(&[&[tag::DONE], words.as_slice()].concat())?,
            Err(failure) => {
                control.send(&[&[tag::FAILED], failure.to_string().as_bytes()].concat())?;
                return Err(failure);
            }
        }
    }
}

fn opened(
    order: &[u8],
    control: &StandardLink,
    socket: &OwnedFd,
    systems: &[Box<dyn System>],
    shelf: Option<&Shelf>,
) -> Outcome<(Case, Box<dyn Turns>)> {
    let (case, names) = order.split_at_checked(24).ok_or("an order was due")?;
    let case = Case::from_words(words(case)?).ok_or("a case was due")?;
    let (system, name) = str::from_utf8(names)?.split_once('\0').ok_or("names were due")?;
    let system = systems.iter().find(|known| known.name() == system && known.can(&case));
    let system = system.ok_or("the second process does not know this system")?;
    let session = Session { control, socket: socket.as_fd(), shelf, case, name: name.into(), leads: false };
    Ok((case, system.follow(&session)?))
}

fn turned(order: &[u8], control: &StandardLink, open: &mut [(Case, Box<dyn Turns>)]) -> Outcome<Vec<u8>> {
    let [index, count] = words(order)?;
    let (case, turns) = open.get_mut(index as usize).ok_or("nothing of this number is open")?;
    control.send(&[tag::DONE])?;
    let (wall, cpu) = (clock::now(), cpu::cpu_time());
    let Span { ended, .. } = turns.follow(Turn { case: *case, count })?;
    let (cpu, wall) = ((cpu::cpu_time() - cpu).as_nanos() as u64, clock::now() - wall);
    Ok([ended, cpu, wall].map(u64::to_le_bytes).concat())
}
