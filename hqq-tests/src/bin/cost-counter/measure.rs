//! The program: counts each row twice, requires equal results, and prints them.
//!
//! Each time a copy of the program does it that was just started, under a name that is always the same, so that its
//! memory is laid out as it always is.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use clap::Parser;
use hqq_tests::single_step::Child;
use serde::{Deserialize, Serialize};

use crate::count::{Counter, Counts, Trail};
use crate::memory::{noted, on_level_stack};
use crate::rows::{Drive, KNOWN, LAP, ROWS, Row};

/// Operations ahead of the first that is counted: everything has its memory, and rings and pools have gone round.
const WARM_UP: u64 = 2 * LAP as u64;

/// The C library chooses its copying functions by the processor; with these features out of sight it is always the
/// same one.
const TUNABLES: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX_Fast_Unaligned_Load,-SSSE3,-ERMS,-FSRM",
);

/// The argument of a copy of this program that is to count one row.
const STEP: &str = "step";

#[derive(Parser)]
#[command(
    about = "Counts instructions, atomics, lines, system calls and allocations of a message; prints JSON"
)]
struct Wishes {
    /// Only the rows whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Has callgrind count the instructions too, by the difference of two runs without marks
    #[arg(long)]
    callgrind: bool,
    /// Runs the row of this name without counting, for another tool to count
    #[arg(long, value_name = "ROW", requires = "operations")]
    run: Option<String>,
    /// How many operations to run
    #[arg(long, value_name = "N")]
    operations: Option<u64>,
}

/// The figures of a row, for the JSON.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Figures {
    name: String,
    /// Messages of all that was counted; the counts are of so many.
    messages: u64,
    /// Messages of one operation.
    each: u64,
    parts: BTreeMap<String, Part>,
    /// Instructions of a message, as callgrind sees them.
    callgrind: Option<f64>,
}

/// Sending, receiving, or both.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    /// Sums over all operations; of lines, each operation's distinct ones.
    total: Counts,
    /// Instructions of the cheapest operation.
    least: u64,
    /// Of the most expensive one.
    most: u64,
}

impl Part {
    fn of(trails: &[Trail]) -> Self {
        let instructions = || trails.iter().map(|trail| trail.counts().instructions);
        Self {
            total: trails.iter().map(Trail::counts).fold(Counts::default(), |sum, next| sum + next),
            least: instructions().min().unwrap_or_default(),
            most: instructions().max().unwrap_or_default(),
        }
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    // Read ahead of the others: these take memory, and would decide where other things lie.
    if env::args_os().nth(1).is_some_and(|argument| argument == STEP) {
        return ended(
            env::args().nth(2).map_or_else(|| Err(io::Error::other("which row?")), |name| count_one(&name)),
        );
    }
    let wishes = Wishes::parse();
    ended(match (&wishes.run, wishes.operations) {
        (Some(name), Some(operations)) => run(name, operations),
        _ => count(&wishes.only, wishes.callgrind),
    })
}

fn ended(done: io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}

fn named(name: &str) -> io::Result<&'static Row> {
    let row = ROWS.iter().chain([&KNOWN]).find(|row| row.name == name);
    row.ok_or_else(|| io::Error::other(format!("there is no row {name:?}")))
}

fn run(name: &str, operations: u64) -> io::Result<()> {
    let row = named(name)?;
    on_level_stack(|| (row.run)(Drive::Plain(operations))).map_err(io::Error::other)
}

/// Counts one row, for the program that started this one.
fn count_one(name: &str) -> io::Result<()> {
    println!("{}", serde_json::to_string(&step(named(name)?)?)?);
    Ok(())
}

/// Has a row counted.
fn count_in_child(row: &Row) -> io::Result<Figures> {
    let mut command = Command::new("/proc/self/exe");
    let command = command.arg0("hqq-cost-counter").args([STEP, row.name]).env(TUNABLES.0, TUNABLES.1);
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{}: {}", row.name, output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn count(only: &str, callgrind: bool) -> io::Result<()> {
    is_counted(&count_in_child(&KNOWN)?)?;
    let mut all = Vec::new();
    for row in ROWS.iter().filter(|row| row.name.contains(only)) {
        let (once, again) = thread::scope(|scope| {
            let again = scope.spawn(|| count_in_child(row));
            (count_in_child(row), again.join().expect("asking does not panic"))
        });
        let (mut once, again) = (once?, again?);
        if once != again {
            return Err(io::Error::other(format!(
                "{}: two runs differ, so these are no exact figures: {once:?}, then {again:?}",
                row.name
            )));
        }
        if callgrind {
            once.callgrind = Some(by_callgrind(row)?);
        }
        all.push(once);
    }
    println!("{}", serde_json::to_string(&all)?);
    Ok(())
}

/// Instructions of a message, as callgrind sees them.
fn by_callgrind(row: &Row) -> io::Result<f64> {
    const MORE: u64 = 10_240;
    let own = env::current_exe()?;
    let collected = |operations: u64| {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&own);
        command.args(["--run", row.name, "--operations", &operations.to_string()]);
        let output = command.env(TUNABLES.0, TUNABLES.1).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let count =
            said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<u64>().ok());
        count.ok_or_else(|| io::Error::other(format!("valgrind on {}: {}", row.name, said.trim())))
    };
    let (few, many) = (collected(WARM_UP)?, collected(WARM_UP + MORE)?);
    Ok((many - few) as f64 / (MORE * row.messages) as f64)
}

/// What is known beforehand must be found.
fn is_counted(known: &Figures) -> io::Result<()> {
    let (send, receive, both) =
        (known.parts["send"].total, known.parts["receive"].total, known.parts["both"].total);
    let n = u64::from(LAP);
    let told = [
        (send.rmws, n),
        (send.fences, n),
        (send.allocations, n),
        (send.system_calls, n),
        (send.clock_reads, n),
        (send.shared_lines, n),
        (send.written_lines, n),
        (receive.shared_lines, 2 * n),
        (receive.written_lines + receive.rmws + receive.fences, 0),
        (receive.allocations + receive.system_calls + receive.clock_reads, 0),
        (both.shared_lines, 2 * n),
        (both.written_lines, n),
        (both.instructions, send.instructions + receive.instructions),
    ];
    if told.iter().all(|(found, wanted)| found == wanted) {
        return Ok(());
    }
    Err(io::Error::other(format!("what is known beforehand is counted wrongly: {told:?} of {known:?}")))
}

/// Steps a child through one lap of messages.
fn step(row: &Row) -> io::Result<Figures> {
    let in_row = |error: io::Error| io::Error::other(format!("{}: {error}", row.name));
    let body = || match on_level_stack(|| (row.run)(Drive::Marked)) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("{}: {error}", row.name);
            false
        }
    };
    let (mut child, ()) = Child::fork(body, || ()).map_err(in_row)?;
    let operations = u64::from(LAP) / row.messages;
    let mut trails = [Vec::new(), Vec::new(), Vec::new()];
    let mut counted = || {
        for _ in 0..WARM_UP {
            (0..3).try_for_each(|_| child.run_to_mark())?;
        }
        let mut counter = Counter::new(&child, noted)?;
        for _ in 0..operations {
            let send = counter.segment(&mut child)?;
            let receive = counter.segment(&mut child)?;
            child.run_to_mark()?;
            trails[2].push(send.clone().and(&receive));
            trails[0].push(send);
            trails[1].push(receive);
        }
        child.kill()
    };
    counted().map_err(in_row)?;
    let parts = ["send", "receive", "both"]
        .map(String::from)
        .into_iter()
        .zip(trails.iter().map(|trails| Part::of(trails)));
    Ok(Figures {
        name: row.name.to_owned(),
        messages: operations * row.messages,
        each: row.messages,
        parts: parts.collect(),
        callgrind: None,
    })
}
