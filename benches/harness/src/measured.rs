//! The traits of a measured system, and the loops that measure it.

use std::time::{Duration, Instant};

use crate::case::{Case, How, Kind};
use crate::clock;
use crate::limits::limit;
use crate::outcome::Outcome;
use crate::session::Session;

/// Round trips at the start of each turn that are not counted: the caches still hold the data of the turn before.
const fn uncounted(kind: Kind) -> u64 {
    match kind {
        // Each takes long, and an adaptive wait must not adapt to a different pace.
        Kind::Sleeping | Kind::Paced => 2,
        _ => 16,
    }
}

/// Where the two ends of a system run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In two processes.
    BetweenProcesses,
    /// In two threads of one process, for systems that do not work between processes. The table marks them.
    BetweenThreads,
}

/// A system that passes messages on.
pub trait System: Sync {
    /// The name in tables and on the command line.
    fn name(&self) -> &'static str;

    /// Where its two ends run.
    fn placement(&self) -> Placement {
        Placement::BetweenProcesses
    }

    /// Whether the system supports `case` without a detour.
    fn can(&self, case: &Case) -> bool;

    /// The bare program, and its case, that `case` is compared with: the least that the machine allows.
    fn limit(&self, case: Case) -> (&'static str, Case) {
        limit(case, false)
    }

    /// Opens the leading end, which sends the first message, or all of them. The other end is opened at the same time.
    ///
    /// # Errors
    /// Its own; the run ends.
    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>>;

    /// Opens the other end.
    ///
    /// # Errors
    /// Its own; the run ends.
    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>>;
}

/// One end of a system that sends and receives messages, opened for one case. The same loops measure every exchange.
/// They pass `how` as a constant, so the methods should be `#[inline]`.
///
/// Payload is written and read only by the functions of [`payload`](crate::payload).
pub trait Exchange {
    /// Writes and sends message `number` of `size` bytes; waits for room.
    ///
    /// # Errors
    /// Its own; the run ends.
    fn send(&mut self, how: How, number: u64, size: usize) -> Outcome;

    /// Receives, reads and checks message `number` of `size` bytes; waits for it.
    ///
    /// # Errors
    /// Its own; the run ends.
    fn recv(&mut self, how: How, number: u64, size: usize) -> Outcome;
}

/// A turn: a few milliseconds of work of one system at one case.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The kind of work.
    pub case: Case,
    /// The number of round trips, messages, writes of a stream, or setups.
    pub count: u64,
}

/// The time that a turn took, by [`clock::now`].
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// When it began.
    pub began: u64,
    /// When it ended. If messages go one way, the turn ends when the follower does.
    pub ended: u64,
}

impl Span {
    /// The span from `began` until now.
    pub fn since(began: u64) -> Self {
        Self { began, ended: clock::now() }
    }
}

/// One end of a system with its measuring loops. Every [`Exchange`] has them; other work brings loops of its own.
pub trait Workload {
    /// Runs the leader's part of a turn. `times` receives the time of each round trip in nanoseconds if the kind
    /// [is timed](Kind::is_timed), and is empty otherwise.
    ///
    /// # Errors
    /// The system's; the run ends.
    fn lead(&mut self, turn: Turn, times: &mut [u32]) -> Outcome<Span>;

    /// Runs the follower's part of a turn.
    ///
    /// # Errors
    /// The system's; the run ends.
    fn follow(&mut self, turn: Turn) -> Outcome<Span>;
}

impl<E: Exchange> Workload for E {
    fn lead(&mut self, turn: Turn, times: &mut [u32]) -> Outcome<Span> {
        let size = turn.case.payload as usize;
        match turn.case.kind {
            Kind::Paced => return lead_paced(self, turn, times),
            kind if !kind.is_timed() => return send_all(self, turn),
            _ => {}
        }
        let uncounted = uncounted(turn.case.kind);
        // Written out, so that each is compiled to a loop of its own.
        match turn.case.kind.how() {
            How::InPlace => lead_round_trips(self, How::InPlace, size, uncounted, times),
            How::Untouched => lead_round_trips(self, How::Untouched, size, uncounted, times),
            How::Copy => lead_round_trips(self, How::Copy, size, uncounted, times),
        }
    }

    fn follow(&mut self, turn: Turn) -> Outcome<Span> {
        let size = turn.case.payload as usize;
        if !turn.case.kind.is_timed() {
            return recv_all(self, turn);
        }
        let count = turn.count + uncounted(turn.case.kind);
        match turn.case.kind.how() {
            How::InPlace => follow_round_trips(self, How::InPlace, size, count),
            How::Untouched => follow_round_trips(self, How::Untouched, size, count),
            How::Copy => follow_round_trips(self, How::Copy, size, count),
        }
    }
}

/// Nanoseconds, saturated at the limit of `u32`.
#[inline(always)]
pub(crate) fn nanos(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)
}

/// Round trips in sequence; the clock is read once for each.
#[inline(always)]
fn lead_round_trips<E: Exchange>(
    exchange: &mut E,
    how: How,
    size: usize,
    uncounted: u64,
    times: &mut [u32],
) -> Outcome<Span> {
    for number in 1..=uncounted {
        exchange.send(how, number, size)?;
        exchange.recv(how, number, size)?;
    }
    let began = clock::now();
    let mut last = Instant::now();
    for (number, time) in (uncounted + 1..).zip(times) {
        exchange.send(how, number, size)?;
        exchange.recv(how, number, size)?;
        let now = Instant::now();
        *time = nanos(now - last);
        last = now;
    }
    Ok(Span::since(began))
}

#[inline(always)]
fn follow_round_trips<E: Exchange>(exchange: &mut E, how: How, size: usize, count: u64) -> Outcome<Span> {
    let began = clock::now();
    for number in 1..=count {
        exchange.recv(how, number, size)?;
        exchange.send(how, number, size)?;
    }
    Ok(Span::since(began))
}

/// Round trips on a schedule that does not wait for answers: a late answer delays all later messages, and the times
/// include that delay.
#[inline(always)]
fn lead_paced<E: Exchange>(exchange: &mut E, turn: Turn, times: &mut [u32]) -> Outcome<Span> {
    let size = turn.case.payload as usize;
    let period = Duration::from_micros(turn.case.period_us);
    let (began, mut due) = (clock::now(), Instant::now());
    let mut unread = [0; uncounted(Kind::Paced) as usize];
    for (number, time) in (1..).zip(unread.iter_mut().chain(times)) {
        due += period;
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        exchange.send(How::InPlace, number, size)?;
        exchange.recv(How::InPlace, number, size)?;
        *time = nanos(due.elapsed());
    }
    Ok(Span::since(began))
}

#[inline(always)]
fn send_all<E: Exchange>(exchange: &mut E, turn: Turn) -> Outcome<Span> {
    let size = turn.case.payload as usize;
    let began = clock::now();
    for number in 1..=turn.count {
        exchange.send(How::InPlace, number, size)?;
    }
    Ok(Span::since(began))
}

#[inline(always)]
fn recv_all<E: Exchange>(exchange: &mut E, turn: Turn) -> Outcome<Span> {
    let size = turn.case.payload as usize;
    let began = clock::now();
    for number in 1..=turn.count {
        exchange.recv(How::InPlace, number, size)?;
    }
    Ok(Span::since(began))
}
