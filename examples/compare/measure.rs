//! Round trips of several systems, measured in turns between the same two processes.
//!
//! The machine's moods (clock, neighbours, where the scheduler puts a process) last longer than a turn of a few
//! milliseconds and so meet all systems alike. Only the ratios of one run mean something.

use std::error::Error;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use hqq::StandardLink;
use hqq_sys::cpu;

/// What the calls of this program return.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// How the two sides wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Ordinary blocking calls, one round trip after the other.
    Blocking,
    /// Both sides poll without ever sleeping, each on a processor of its own.
    Polling,
    /// Blocking calls, a round trip each millisecond: the peer is asleep when the message comes.
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
    // A thread, since what is pinned stays pinned.
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

/// A way to send messages to the other process and back.
pub trait Way {
    /// What it is called in a complaint.
    fn name(&self) -> &'static str;

    /// Sends `size` bytes of value `fill`, waits for as many to come back, and reads them.
    ///
    /// # Errors
    /// Whatever the system says.
    fn ping(&mut self, case: Case, size: usize, fill: u8) -> Outcome<u64>;

    /// Waits for `size` bytes, reads them, and sends as many of the value of the first.
    ///
    /// # Errors
    /// Whatever the system says.
    fn pong(&mut self, case: Case, size: usize) -> Outcome;

    /// Prepares for a case.
    ///
    /// # Errors
    /// Whatever the system says.
    fn begin(&mut self, _case: Case) -> Outcome {
        Ok(())
    }
}

/// Looks at every byte of a message, as a program would that uses it.
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

/// The times of one case and size: for each way, nanoseconds for a round trip, sorted.
struct Row {
    case: Case,
    size: usize,
    times: Vec<Vec<u64>>,
}

impl Row {
    /// Prints the medians in microseconds, and how many times the first way's each of the others' is.
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

/// Prints the table's head, as the terminal and a README can show it.
pub fn head(ways: &[&str]) {
    print!("| {:<28} | {:>6} |", "round trip, median", "bytes");
    ways.iter().for_each(|way| print!(" {way:>20} |"));
    print!("\n|{}|{}:|", "-".repeat(30), "-".repeat(7));
    ways.iter().for_each(|_| print!("{}:|", "-".repeat(21)));
    println!();
}

/// Measures each case and size for `time`, the ways in turns, and prints after each what came out.
///
/// The other process must call [`follow`] with the same ways in the same order. `control` tells it what is next.
///
/// # Errors
/// Those of the ways, or of the control link.
pub fn lead(
    control: &StandardLink,
    ways: &mut [&mut dyn Way],
    cases: &[Case],
    sizes: &[usize],
    time: Duration,
) -> Outcome {
    for &case in cases {
        for &size in sizes {
            let mut row = Row { case, size, times: vec![Vec::new(); ways.len()] };
            let began = Instant::now();
            while began.elapsed() < time || row.times[0].is_empty() {
                for (index, way) in ways.iter_mut().enumerate() {
                    turn(control, index, *way, case, size, &mut row.times[index])?;
                }
            }
            row.times.iter_mut().for_each(|times| times.sort_unstable());
            row.print();
        }
    }
    Ok(())
}

/// One turn of one way. Its first round trips only warm up.
fn turn(
    control: &StandardLink,
    index: usize,
    way: &mut dyn Way,
    case: Case,
    size: usize,
    times: &mut Vec<u64>,
) -> Outcome {
    let idle = case == Case::Idle;
    let (count, group) = if idle { (10, 1) } else { (TURN, GROUP) };
    way.begin(case)?;
    control.send(bytemuck::cast_slice(&[index as u64, case as u64, size as u64, group + count]))?;
    let expected = read(&vec![FILL; size]);
    for number in 0..=count / group {
        if idle {
            thread::sleep(Duration::from_millis(1));
        }
        let began = Instant::now();
        for _ in 0..group {
            let sum = way.ping(case, size, FILL)?;
            if sum != expected {
                return Err(format!("{}: {size} bytes came back changed", way.name()).into());
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
pub fn follow(control: &StandardLink, ways: &mut [&mut dyn Way]) -> Outcome {
    loop {
        let [index, case, size, count] = match control.recv() {
            Ok(job) => *job.cast::<[u64; 4]>()?,
            Err(hqq::Error::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (case, way) = (Case::ALL[case as usize], &mut ways[index as usize]);
        way.begin(case)?;
        for _ in 0..count {
            way.pong(case, size as usize)?;
        }
    }
}
