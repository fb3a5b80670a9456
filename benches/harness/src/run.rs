//! The two processes of a run, and the rounds.

use std::io::{self, Write};
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
use crate::measured::{Placement, Span, System, Turn, Workload, nanos};
use crate::outcome::{Failure, Outcome};
use crate::session::{PATIENCE, Session, Shelf, expect, tag, words};
use crate::tally::{Facts, Row, Tally, ratio};
use crate::{clock, processors};

/// The length of a turn.
fn length(kind: Kind) -> Duration {
    Duration::from_millis(match kind {
        // Its threads take a while to start and to spread over the processors.
        Kind::Crowd => 20,
        _ => 4,
    })
}

/// Turns of each pair in the first round, which is not counted.
const WARM_UP: u64 = 4;
/// The most round trips or messages of a turn.
const MOST: u64 = 1 << 18;
/// The environment variable with the descriptor of a socket, for the second process.
const SOCKET: &str = "HQQ_BENCH_SOCKET";

/// The time limit of a turn; when it passes, the run ends with an error.
const HANGS: Duration = Duration::from_secs(30);

/// The plan of a run: what to measure.
pub struct Plan<'a> {
    /// The systems. The second process must know all of them.
    pub systems: &'a [Box<dyn System>],
    /// The cases: each is measured with every system that can do it.
    pub cases: Vec<Case>,
    /// The names of the systems to measure; empty for all. The systems that they are compared with are added.
    pub only: Vec<String>,
    /// Whether rows are also compared with those of `hqq`.
    pub beside_hqq: bool,
    /// The number of rounds: how many turns each pair has.
    pub rounds: u64,
}

impl<'a> Plan<'a> {
    /// The pairs that will be measured, in order: those of the plan, by case, and those that they are compared with.
    pub fn pairs(&self) -> Vec<(&'a dyn System, Case)> {
        let able = |case: Case| self.systems.iter().map(|s| &**s).filter(move |system| system.can(&case));
        let wanted = |name: &str| self.only.is_empty() || self.only.iter().any(|only| only == name);
        let pairs = self.cases.iter().flat_map(|&case| {
            able(case).filter(|system| wanted(system.name())).map(move |system| (system, case))
        });
        let mut pairs: Vec<(&dyn System, Case)> = pairs.collect();
        // By index, because the list grows meanwhile.
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

/// Starts `command` as the second process, which must call [`serve`], and measures. `progress` is called with the
/// number of turns done and the number of all turns.
///
/// # Errors
/// Those of the systems, of the links and of the operating system, in either process.
pub fn lead(plan: &Plan<'_>, mut command: Command, mut progress: impl FnMut(u64, u64)) -> Outcome<Facts> {
    let pinned = processors::pair();
    if let Some([_, other]) = pinned {
        command.env(PROCESSOR, other.to_string());
    }
    let other = Other::start(command)?;
    // After the start of the second process, which would inherit it.
    let pinned = pinned.filter(|&[own, _]| cpu::pin(own).is_ok());
    let shelf = Shelf::default();
    thread::scope(|scope| {
        let threads = plan.pairs().iter().any(|(system, _)| system.placement() == Placement::BetweenThreads);
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

/// Ends this program with an error message if there is no progress for long, or for a while after the death of the second
/// process: a system might wait for ever.
fn watch(pulses: &mpsc::Receiver<String>, other: &Other) {
    const GLANCE: Duration = Duration::from_millis(500);
    let (mut last, mut what) = (Instant::now(), "start".to_owned());
    let mut dead = 0;
    loop {
        match pulses.recv_timeout(GLANCE) {
            Ok(next) => (last, what, dead) = (Instant::now(), next, 0),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => dead += u32::from(other.wait(Duration::ZERO).is_some()),
        }
        if dead > 6 || last.elapsed() > HANGS {
            let why = if dead > 0 { "the second process is dead" } else { "no progress for 30 s" };
            // The message may be lost; the exit code is not.
            let _ = writeln!(io::stderr(), "error: {what}: {why}");
            let _ = other.child.lock().unwrap_or_else(PoisonError::into_inner).kill();
            process::exit(4);
        }
    }
}

/// The environment variable with the number of the processor of the second process.
const PROCESSOR: &str = "HQQ_BENCH_PROCESSOR";

/// Runs the followers in the second process until the first process has finished.
///
/// # Errors
/// If this process was not started by [`lead`]; those of the systems, which the first process reports, too.
pub fn serve(systems: &[Box<dyn System>]) -> Outcome {
    let control = StandardLink::inherited_with(control())?;
    let socket = spawn::inherited(SOCKET)?;
    if let Some(processor) = std::env::var(PROCESSOR).ok().and_then(|number| number.parse().ok()) {
        // If this fails, it fails in the first process as well, which reports it.
        let _ = cpu::pin(processor);
    }
    let first = control.peer_process().try_clone_to_owned()?;
    // Without the first process, this one would wait for ever.
    thread::spawn(move || {
        let _ = poll::many(&[first.as_fd()], None);
        process::exit(4);
    });
    follow(&control, &socket, systems, None)
}

/// The options of the control link: a receiver sleeps at once and leaves the processor to the measurement.
fn control() -> Options {
    Options::new().slots(64).buffers(16).buffer_size(4096).spin(Duration::ZERO)
}

/// The error that the second process died or ended early.
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

/// The second process, and the control link to it.
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
                // The link ends before the death of the process is known.
                let ended = wait(&mut child, Duration::from_millis(500));
                let _ = child.kill();
                let message = format!("the second process ({}) did not start: {error}", child.wait()?);
                Err(if ended.is_some() { Box::new(SecondEnded(message)) } else { message.into() })
            }
        }
    }

    /// Waits up to `patience` for the process to end.
    fn wait(&self, patience: Duration) -> Option<process::ExitStatus> {
        wait(&mut self.child.lock().unwrap_or_else(PoisonError::into_inner), patience)
    }

    /// Replaces `failure` by the end of the second process if it has ended.
    fn explain(&self, failure: Failure) -> Failure {
        match self.wait(Duration::from_millis(500)) {
            Some(status) => Box::new(SecondEnded(match status.signal() {
                Some(signal) => format!("the second process died, by signal {signal}: {failure}"),
                None => format!("the second process ended ({status}): {failure}"),
            })),
            None => failure,
        }
    }

    /// Closes the control link and waits for the process to end without an error.
    fn end(&self) -> Outcome {
        self.control.shutdown(std::net::Shutdown::Both);
        match self.wait(PATIENCE) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("the second process ended with {status}").into()),
            None => Err("the second process did not end in time and was killed".into()),
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

/// A system opened for a case.
struct Pair<'a> {
    system: &'a dyn System,
    case: Case,
    workload: Box<dyn Workload>,
    control: &'a StandardLink,
    /// Its index among the pairs that the follower has open.
    index: u64,
    /// The count of its next turn.
    count: u64,
    tally: Tally,
}

/// Opens all pairs and runs all rounds.
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
        let (control, socket, index) = match (system.placement(), thread) {
            (Placement::BetweenThreads, Some((control, socket))) => (control, socket, &mut opened[1]),
            _ => (&other.control, &other.socket, &mut opened[0]),
        };
        let name = format!("hqq-bench-{}-{number}", process::id());
        let session = Session {
            control,
            socket: socket.as_fd(),
            shelf: Some(shelf).filter(|_| system.placement() == Placement::BetweenThreads),
            case,
            name,
            leads: true,
        };
        let workload = begin(system, &session).map_err(|f| format!("{} at {case}: {f}", system.name()))?;
        open.push(Pair {
            system,
            case,
            workload,
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
            // Every round starts with another pair: the later ones of a round are interrupted more often.
            let pair = &mut open[(round as usize + turn) % pairs];
            let what = format!("{} at {}", pair.system.name(), pair.case);
            progress(done, total, what.clone());
            // In the first round, until the count of a turn fits its length.
            for _ in 0..if round == 0 { WARM_UP } else { 1 } {
                lead_turn(pair, round > 0, &mut times).map_err(|f| format!("{what}: {f}"))?;
            }
            done += 1;
        }
    }
    progress(done, total, "end".into());
    let rounds_of = |name: &str, case: Case| -> Option<&[f64]> {
        let pair = open.iter().find(|pair| pair.system.name() == name && pair.case == case)?;
        Some(&pair.tally.rounds)
    };
    let rows = open.iter().map(|pair| {
        let (name, case) = (pair.system.name(), pair.case);
        let ratio_to = |(name, case)| ratio(&pair.tally.rounds, rounds_of(name, case)?);
        let mut row = pair.tally.row(name, case);
        row.between = (pair.system.placement() == Placement::BetweenThreads).then(|| "threads".into());
        row.lines = lines(case);
        let (raw, raw_case) = pair.system.limit(case);
        row.ratio_to_raw = ratio_to((raw, raw_case));
        row.raw = row.ratio_to_raw.map(|_| raw.into());
        row.ratio_to_single = single(case).and_then(|single| ratio_to((name, single)));
        // The link with the defaults, or hqq-spsc where it does not have the case.
        if plan.beside_hqq {
            row.ratio_to_hqq = ratio_to(("hqq", case)).or_else(|| ratio_to(("hqq-spsc", case)));
        }
        row
    });
    Ok(rows.collect())
}

/// Opens both ends of a system.
fn begin(system: &dyn System, session: &Session<'_>) -> Outcome<Box<dyn Workload>> {
    let mut command = vec![tag::OPEN];
    command.extend(session.case.words().map(u64::to_le_bytes).as_flattened());
    command.extend([system.name(), "\0", &session.name].map(str::as_bytes).concat());
    session.control.send(&command)?;
    let led = system.lead(session);
    let followed = expect(session.control, tag::DONE);
    both(led, followed).map(|(workload, _)| workload)
}

/// The results of both ends, or the failure that explains most: the follower's, unless it is unknown.
fn both<T>(led: Outcome<T>, followed: Outcome<Vec<u8>>) -> Outcome<(T, Vec<u8>)> {
    match (led, followed) {
        (Ok(led), Ok(followed)) => Ok((led, followed)),
        (Err(failure), Ok(_)) => Err(failure),
        (Err(failure), Err(other)) if other.is::<hqq::Error>() => Err(failure),
        (_, Err(failure)) => Err(failure),
    }
}

/// Runs a turn of a pair and records its results if it `counts`.
fn lead_turn(pair: &mut Pair<'_>, counts: bool, times: &mut [u32]) -> Outcome {
    let turn = Turn { case: pair.case, count: pair.count };
    let kind = pair.case.kind;
    let mut command = vec![tag::TURN];
    command.extend([pair.index, pair.count].map(u64::to_le_bytes).as_flattened());
    pair.control.send(&command)?;
    expect(pair.control, tag::DONE)?;
    let times = &mut times[..if kind.is_timed() { pair.count as usize } else { 0 }];
    let led = pair.workload.lead(turn, times);
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
    // At most eight times the last count: that turn may have been unusually fast.
    pair.count = (fits as u64).clamp(least(kind), MOST).min(8 * pair.count);
    Ok(())
}

/// The smallest count of a turn.
fn least(kind: Kind) -> u64 {
    match kind {
        Kind::Setup => 1,
        Kind::Paced => 4,
        _ => 16,
    }
}

/// Runs the follower of every pair until the leader closes the link.
fn follow(
    control: &StandardLink,
    socket: &OwnedFd,
    systems: &[Box<dyn System>],
    shelf: Option<&Shelf>,
) -> Outcome {
    let mut open: Vec<(Case, Box<dyn Workload>)> = Vec::new();
    loop {
        let command = match control.recv() {
            Ok(command) => command.to_vec(),
            Err(hqq::Error::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let done = match command.split_first() {
            Some((&tag::OPEN, rest)) => open_end(rest, control, socket, systems, shelf).map(|pair| {
                open.push(pair);
                Vec::new()
            }),
            Some((&tag::TURN, rest)) => follow_turn(rest, control, &mut open),
            _ => Err("unexpected message on the control link".into()),
        };
        match done {
            Ok(words) => control.send(&[&[tag::DONE], words.as_slice()].concat())?,
            Err(failure) => {
                control.send(&[&[tag::FAILED], failure.to_string().as_bytes()].concat())?;
                return Err(failure);
            }
        }
    }
}

fn open_end(
    command: &[u8],
    control: &StandardLink,
    socket: &OwnedFd,
    systems: &[Box<dyn System>],
    shelf: Option<&Shelf>,
) -> Outcome<(Case, Box<dyn Workload>)> {
    let (case, names) = command.split_at_checked(24).ok_or("unexpected message on the control link")?;
    let case = Case::from_words(words(case)?).ok_or("a message names an unknown case")?;
    let (system, name) = str::from_utf8(names)?.split_once('\0').ok_or("a message has no name")?;
    let system = systems.iter().find(|known| known.name() == system && known.can(&case));
    let system = system.ok_or("the second process does not know this system")?;
    let session = Session { control, socket: socket.as_fd(), shelf, case, name: name.into(), leads: false };
    Ok((case, system.follow(&session)?))
}

fn follow_turn(
    command: &[u8],
    control: &StandardLink,
    open: &mut [(Case, Box<dyn Workload>)],
) -> Outcome<Vec<u8>> {
    let [index, count] = words(command)?;
    let (case, workload) = open.get_mut(index as usize).ok_or("no pair of this index is open")?;
    control.send(&[tag::DONE])?;
    let (wall, cpu) = (clock::now(), cpu::cpu_time());
    let Span { ended, .. } = workload.follow(Turn { case: *case, count })?;
    let (cpu, wall) = ((cpu::cpu_time() - cpu).as_nanos() as u64, clock::now() - wall);
    Ok([ended, cpu, wall].map(u64::to_le_bytes).concat())
}
