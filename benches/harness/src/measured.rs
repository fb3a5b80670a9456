//! What a system has to bring, and the loops in which it is measured.

use std::time::{Duration, Instant};

use crate::case::{Case, How, Kind};
use crate::clock;
use crate::limits::limit;
use crate::outcome::Outcome;
use crate::session::Session;

/// Round trips at the beginning of each turn that do not count: the caches belong to the turn before.
const fn uncounted(kind: Kind) -> u64 {
    match kind {
        // Each takes long; and who waits by experience must not learn from another pace.
        Kind::Sleeping | Kind::Paced => 2,
        _ => 16,
    }
}

/// Where a system's two ends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lives {
    /// In two processes.
    BetweenProcesses,
    /// In two threads of one process: it cannot do more, and the table says so.
    BetweenThreads,
}

/// Something that passes messages on.
pub trait System: Sync {
    /// As it is printed and asked for.
    fn name(&self) -> &'static str;

    /// Where its two ends are.
    fn lives(&self) -> Lives {
        Lives::BetweenProcesses
    }

    /// Whether it has an honest way to do this.
    fn can(&self, case: &Case) -> bool;

    /// The system, and its case, that stands for the least that the machine allows for this.
    fn limit(&self, case: Case) -> (&'static str, Case) {
        limit(case, false)
    }

    /// Opens the end of who begins: sends the first message, or all of them. The other end is opened at the same time.
    ///
    /// # Errors
    /// Its own; the run ends.
    fn lead(&self, session: &Session) -> Outcome<Box<dyn Turns>>;

    /// Opens the other end.
    ///
    /// # Errors
    /// Its own; the run ends.
    fn follow(&self, session: &Session) -> Outcome<Box<dyn Turns>>;
}

/// One end of a system, opened for one case. All are used by the same loops; `how` is known when they are compiled, so
/// these should be `#[inline]`.
///
/// Payload is written and read by the functions of [`payload`](crate::payload) alone.
pub trait Way {
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

/// A few milliseconds of one system's work at one case.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// What to do.
    pub case: Case,
    /// How often: round trips, messages, writes of a stream, set-ups.
    pub count: u64,
}

/// From when to when a turn took, by [`clock::now`].
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// When it began.
    pub began: u64,
    /// When it ended. For what goes one way, the follower's end is the turn's.
    pub ended: u64,
}

impl Span {
    /// From `began` to now.
    pub fn since(began: u64) -> Self {
        Self { began, ended: clock::now() }
    }
}

/// One end of a system, with its loops. Every [`Way`] has these; what is no exchange of messages brings its own.
pub trait Turns {
    /// Does the leader's part. `times` has a place for each of the turn's round trips if the kind
    /// [is timed](Kind::is_timed), nanoseconds, and none otherwise.
    ///
    /// # Errors
    /// The system's; the run ends.
    fn lead(&mut self, turn: Turn, times: &mut [u32]) -> Outcome<Span>;

    /// Does the follower's part.
    ///
    /// # Errors
    /// The system's; the run ends.
    fn follow(&mut self, turn: Turn) -> Outcome<Span>;
}

impl<W: Way> Turns for W {
    fn lead(&mut self, turn: Turn, times: &mut [u32]) -> Outcome<Span> {
        let size = turn.case.payload as usize;
        match turn.case.kind {
            Kind::Paced => return pace(self, turn, times),
            kind if !kind.is_timed() => return flood(self, turn),
            _ => {}
        }
        let uncounted = uncounted(turn.case.kind);
        // Spelt out, so that each has a loop of its own.
        match turn.case.kind.how() {
            How::InPlace => ask(self, How::InPlace, size, uncounted, times),
            How::Untouched => ask(self, How::Untouched, size, uncounted, times),
            How::Copy => ask(self, How::Copy, size, uncounted, times),
        }
    }

    fn follow(&mut self, turn: Turn) -> Outcome<Span> {
        let size = turn.case.payload as usize;
        if !turn.case.kind.is_timed() {
            return drain(self, turn);
        }
        let count = turn.count + uncounted(turn.case.kind);
        match turn.case.kind.how() {
            How::InPlace => answer(self, How::InPlace, size, count),
            How::Untouched => answer(self, How::Untouched, size, count),
            How::Copy => answer(self, How::Copy, size, count),
        }
    }
}

/// Nanoseconds, as long as they fit.
#[inline(always)]
pub(crate) fn nanos(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)
}

/// Round trips, one after the other; the clock is read once for each.
#[inline(always)]
fn ask<W: Way>(way: &mut W, how: How, size: usize, uncounted: u64, times: &mut [u32]) -> Outcome<Span> {
    for number in 1..=uncounted {
        way.send(how, number, size)?;
        way.recv(how, number, size)?;
    }
    let began = clock::now();
    let mut last = Instant::now();
    for (number, time) in (uncounted + 1..).zip(times) {
        way.send(how, number, size)?;
        way.recv(how, number, size)?;
        let now = Instant::now();
        *time = nanos(now - last);
        last = now;
    }
    Ok(Span::since(began))
}

#[inline(always)]
fn answer<W: Way>(way: &mut W, how: How, size: usize, count: u64) -> Outcome<Span> {
    let began = clock::now();
    for number in 1..=count {
        way.recv(how, number, size)?;
        way.send(how, number, size)?;
    }
    Ok(Span::since(began))
}

/// Round trips on a schedule that does not wait for answers: a late answer makes all later ones late, as it would those
/// who wait for them.
#[inline(always)]
fn pace<W: Way>(way: &mut W, turn: Turn, times: &mut [u32]) -> Outcome<Span> {
    let size = turn.case.payload as usize;
    let period = Duration::from_micros(turn.case.period_us);
    let (began, mut due) = (clock::now(), Instant::now());
    let mut unread = [0; uncounted(Kind::Paced) as usize];
    for (number, time) in (1..).zip(unread.iter_mut().chain(times)) {
        due += period;
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        way.send(How::InPlace, number, size)?;
        way.recv(How::InPlace, number, size)?;
        *time = nanos(due.elapsed());
    }
    Ok(Span::since(began))
}

#[inline(always)]
fn flood<W: Way>(way: &mut W, turn: Turn) -> Outcome<Span> {
    let size = turn.case.payload as usize;
    let began = clock::now();
    for number in 1..=turn.count {
        way.send(How::InPlace, number, size)?;
    }
    Ok(Span::since(began))
}

#[inline(always)]
fn drain<W: Way>(way: &mut W, turn: Turn) -> Outcome<Span> {
    let size = turn.case.payload as usize;
    let began = clock::now();
    for number in 1..=turn.count {
        way.recv(How::InPlace, number, size)?;
    }
    Ok(Span::since(began))
}
