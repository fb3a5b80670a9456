//! The program: steps each row twice, which must give the same, and prints the figures.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Parser;
use hqq_tests::step::Child;
use serde::Serialize;

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

#[derive(Parser)]
#[command(
    about = "Counts instructions, atomics, lines, system calls and allocations of a message; prints JSON"
)]
struct Wishes {
    /// Only the rows whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Runs the row of this name without counting, for another tool to count
    #[arg(long, value_name = "ROW", requires = "operations")]
    run: Option<String>,
    /// How many operations to run
    #[arg(long, value_name = "N")]
    operations: Option<u64>,
}

/// The figures of a row, for the JSON.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Figures {
    name: &'static str,
    /// Messages of all that was counted; the counts are of so many.
    messages: u64,
    /// Messages of one operation.
    each: u64,
    parts: BTreeMap<&'static str, Part>,
}

/// Sending, receiving, or both.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
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
    let wishes = Wishes::parse();
    if env::var_os(TUNABLES.0).is_none_or(|value| value != TUNABLES.1) {
        let own = env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let failure = Command::new(own).args(env::args_os().skip(1)).env(TUNABLES.0, TUNABLES.1).exec();
        eprintln!("it cannot start itself anew: {failure}");
        return ExitCode::FAILURE;
    }
    let done = match (&wishes.run, wishes.operations) {
        (Some(name), Some(operations)) => run(name, operations),
        _ => count(&wishes.only),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, operations: u64) -> io::Result<()> {
    let row = ROWS.iter().find(|row| row.name == name);
    let row = row.ok_or_else(|| io::Error::other(format!("there is no row {name:?}")))?;
    on_level_stack(|| (row.run)(Drive::Plain(operations))).map_err(io::Error::other)
}

fn count(only: &str) -> io::Result<()> {
    is_counted(&step(&KNOWN)?)?;
    let mut all = Vec::new();
    for row in ROWS.iter().filter(|row| row.name.contains(only)) {
        let (once, again) = (step(row)?, step(row)?);
        if once != again {
            return Err(io::Error::other(format!(
                "{}: two runs differ, so these are no exact figures: {once:?}, then {again:?}",
                row.name
            )));
        }
        all.push(once);
    }
    println!("{}", serde_json::to_string(&all)?);
    Ok(())
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
        (send.shared_lines, n),
        (send.written_lines, n),
        (receive.shared_lines, 2 * n),
        (receive.written_lines + receive.rmws + receive.fences, 0),
        (receive.allocations + receive.system_calls, 0),
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
            let send = counter.to_mark(&mut child)?;
            let receive = counter.to_mark(&mut child)?;
            child.run_to_mark()?;
            trails[2].push(send.clone().and(&receive));
            trails[0].push(send);
            trails[1].push(receive);
        }
        child.kill()
    };
    counted().map_err(in_row)?;
    let parts = ["send", "receive", "both"].into_iter().zip(trails.iter().map(|trails| Part::of(trails)));
    Ok(Figures {
        name: row.name,
        messages: operations * row.messages,
        each: row.messages,
        parts: parts.collect(),
    })
}
