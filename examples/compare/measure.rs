//! Round trips of several systems, measured in turns between the same two processes.
//!
//! Disturbances of the machine (clock, other load, where the scheduler puts a process) last longer than a turn of a few
//! milliseconds and so affect all systems alike. Only ratios within one run are meaningful.

use std::error::Error;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use hqq::StandardLink;
use hqq_sys::cpu;

/// The result of the calls of this program.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// How the two sides wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Ordinary blocking calls, one round trip after the other.
    Blocking,
    /// Both sides poll without ever sleeping, each on a processor of its own.
    Polling,
    /// Blocking calls, a round trip each millisecond: the peer is asleep when the message arrives.
    Idle,
}

impl Case {
    const ALL: [Self; 3] = [Self::Blocking, Self::Polling, Self::Idle];
}

/// Runs `session` for the cases that sleep, wherever the scheduler puts the two processes, and then, if this
/// process may use two processors, for the one that polls: pinned to one of them. The other is the session's second
/// argument, for the second process.
///
/// # Errors
/// Those of the sessions.
pub fn sessions(session: impl Fn(&[Case], Option<usize>) -> Outcome + Sync) -> Outcome {
    session(&[Case::Blocking, Case::Idle], None)?;
    let [first, .., last] = cpu::allowed()?[..] else {
        println!("(only one processor to run on: two that poll would measure its scheduler)");
        return Ok(());
    };
    let pinned = || {
        cpu::pin(last)?;
        session(&[Case::Polling], Some(first))
    };
    // In a thread of its own, which stays pinned.
    let pinned = || pinned().map_err(|error| error.to_string());
    let outcome = thread::scope(|scope| scope.spawn(pinned).join());
    Ok(outcome.map_err(|_| "a session panicked")??)
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocking => "blocking calls, back to back",
            Self::Polling => "both sides poll",
            Self::Idle => "the peer sleeps",
        })
    }
}

/// A system that sends messages to the other process and back.
pub trait Exchange {
    /// The name in error messages.
    fn name(&self) -> &'static str;

    /// Sends `size` bytes of value `fill`, waits for as many to come back, and reads them.
    ///
    /// # Errors
    /// Those of the system.
    fn ping(&mut self, case: Case, size: usize, fill: u8) -> Outcome<u64>;

    /// Waits for `size` bytes, reads them, and sends as many of the value of the first.
    ///
    /// # Errors
    /// Those of the system.
    fn pong(&mut self, case: Case, size: usize) -> Outcome;

    /// Prepares for a case.
    ///
    /// # Errors
    /// Those of the system.
    fn begin(&mut self, _case: Case) -> Outcome {
        Ok(())
    }
}

/// Reads every byte of a message, as a program that uses it would.
pub fn read(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let rest = words.remainder().iter().map(|&byte| u64::from(byte));
    let words = words.map(|word| u64::from_le_bytes(word.try_into().expect("each has eight bytes")));
    words.chain(rest).fold(0, u64::wrapping_add)
}

/// The value that fills the messages.
const FILL: u8 = 7;
/// Round trips of a turn, timed in groups of `GROUP`.
const TURN: u64 = 64;
const GROUP: u64 = 16;

/// The times of one case and size: for each system, nanoseconds for a round trip, sorted.
struct Row {
    case: Case,
    size: usize,
    times: Vec<Vec<u64>>,
}

impl Row {
    /// Prints the medians in microseconds, and the ratio of each to that of the first system.
    fn print(&self) {
        print!("| {:<28} | {:>6} |", self.case.to_string(), self.size);
        let medians: Vec<f64> = self.times.iter().map(|times| times[times.len() / 2] as f64).collect();
        for (index, median) in medians.iter().enumerate() {
            let ratio = if index == 0 { String::new() } else { format!(" ({:.1} x)", median / medians[0]) };
            print!(" {:>20} |", format!("{:.2} us{ratio}", median / 1000.0));
        }
        println!();
    }
}

/// Prints the head of the table, in Markdown.
pub fn head(systems: &[&str]) {
    print!("| {:<28} | {:>6} |", "round trip, median", "bytes");
    systems.iter().for_each(|system| print!(" {system:>20} |"));
    print!("\n|{}|{}:|", "-".repeat(30), "-".repeat(7));
    systems.iter().for_each(|_| print!("{}:|", "-".repeat(21)));
    println!();
}

/// Measures each case and size for `time`, the systems in turns, and prints the results of each.
///
/// The other process must call [`follow`] with the same systems in the same order. It receives the next case over `control`.
///
/// # Errors
/// Those of the systems and of the control link.
pub fn lead(
    control: &StandardLink,
    systems: &mut [&mut dyn Exchange],
    cases: &[Case],
    sizes: &[usize],
    time: Duration,
) -> Outcome {
    for &case in cases {
        for &size in sizes {
            let mut row = Row { case, size, times: vec![Vec::new(); systems.len()] };
            let began = Instant::now();
            while began.elapsed() < time || row.times[0].is_empty() {
                for (index, system) in systems.iter_mut().enumerate() {
                    turn(control, index, *system, case, size, &mut row.times[index])?;
                }
            }
            row.times.iter_mut().for_each(|times| times.sort_unstable());
            row.print();
        }
    }
    Ok(())
}

/// One turn of one system. Its first round trips only warm up.
fn turn(
    control: &StandardLink,
    index: usize,
    system: &mut dyn Exchange,
    case: Case,
    size: usize,
    times: &mut Vec<u64>,
) -> Outcome {
    let idle = case == Case::Idle;
    let (count, group) = if idle { (10, 1) } else { (TURN, GROUP) };
    system.begin(case)?;
    control.send(bytemuck::cast_slice(&[index as u64, case as u64, size as u64, group + count]))?;
    let expected = read(&vec![FILL; size]);
    for number in 0..=count / group {
        if idle {
            thread::sleep(Duration::from_millis(1));
        }
        let began = Instant::now();
        for _ in 0..group {
            let sum = system.ping(case, size, FILL)?;
            if sum != expected {
                return Err(format!("{}: {size} bytes came back changed", system.name()).into());
            }
        }
        if number > 0 {
            times.push(began.elapsed().as_nanos() as u64 / group);
        }
    }
    Ok(())
}

/// The other process: answers until the control link closes.
///
/// # Errors
/// As [`lead`].
pub fn follow(control: &StandardLink, systems: &mut [&mut dyn Exchange]) -> Outcome {
    loop {
        let [index, case, size, count] = match control.recv() {
            Ok(job) => *job.cast::<[u64; 4]>()?,
            Err(hqq::Error::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (case, system) = (Case::ALL[case as usize], &mut systems[index as usize]);
        system.begin(case)?;
        for _ in 0..count {
            system.pong(case, size as usize)?;
        }
    }
}
