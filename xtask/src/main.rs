//! `cargo xtask`: the checks of this workspace and the tools that go with them.
//!
//! * `cargo xtask test` runs every check, stops at the first that fails and ends with
//!   `N passed, M failed`.
//! * `cargo xtask mutants` disables one check or one part of recovery at a time, in a copy of the sources, and expects
//!   the tests named for it to fail; `--only TEXT` selects the mutants whose description contains the text.
//! * `cargo xtask hostile` attacks the library from shared memory, under AddressSanitizer if there is a nightly
//!   toolchain; `--short` runs the sample that `cargo xtask test` runs, `--json` prints the results as JSON.
//! * `cargo xtask fuzz` runs the fuzz targets on a nightly toolchain, each for a minute or `--seconds N`; `--minimize`
//!   then adds the useful inputs to the committed corpus; `--short` runs what `cargo xtask test` runs.
//! * `cargo xtask kill-sweep` kills a process after every instruction of every operation and checks what its survivors
//!   find; `--help` lists its options. With `--no-recovery` it succeeds only if the sweep finds violations.
//! * `cargo xtask wakes`, `recovery-times`, `soak` and `schedules` run for minutes and print their measurements; each has
//!   `--help`.
//! * `cargo xtask costs` counts the instructions, atomics, cache lines, system calls and allocations of a message exactly;
//!   `--write` stores the counts as the budget, `--check` fails if they exceed it, `--parts` separates sends from
//!   receives, `--callgrind` counts with valgrind as well, `--only TEXT` selects the rows whose name contains the text.
//! * `cargo xtask trace-table` rewrites the table of opcodes in `docs/testing.md` from the traces of the tests; with
//!   `--check` it only compares.
//! * `cargo xtask order-mutants` weakens one memory ordering of the core at a time, expects a model to fail, and rewrites
//!   the list in `docs/memory-model.md`; with `--check` it only compares.

mod command;
mod costs;
mod document;
mod endurance;
mod fuzz;
mod hostile;
mod kill_sweep;
mod models;
mod mutants;
mod no_std;
mod order_mutants;
mod order_sites;
mod portable;
mod steps;
mod trace_table;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

Checks:
  test                     run every check, as CI does
  mutants                  disable each check and part of recovery in turn; a test must fail
                           [--only TEXT]
  order-mutants            weaken each memory ordering in turn; a model must fail
                           [--only SITE] [--json] [--check]
  hostile                  attack the library from shared memory
                           [--short] [--json] [--seed N]
  fuzz                     run the fuzz targets; needs a nightly toolchain
                           [--short | [--seconds N] [--minimize] [TARGET]]
  kill-sweep               kill a process after every instruction of every operation
                           [--full] [--short] [--json] [--no-recovery] [...]
  schedules                random schedules of features, compared with a model
                           [--count N] [--from SEED]
  wakes                    millions of sleeps and wakes
                           [--count N]
  soak                     thousands of kills and restarts
                           [--cycles N] [--minutes N] [--seed N] [--paused [SECONDS]]

Measurements:
  costs                    the exact cost of a message
                           [--check | --write | [--parts] [--callgrind] [--only TEXT]]
  recovery-times           the time from a death to the end of recovery
                           [--kills N] [--json] [--limits]

Documents:
  trace-table              rewrite the table of opcodes in docs/testing.md
                           [--check]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["test"] => steps::test(),
        ["kill-sweep", args @ ..] => report(kill_sweep::sweep(args)),
        ["mutants"] => report(mutants::check("")),
        ["mutants", "--only", only] => report(mutants::check(only)),
        ["hostile", args @ ..] => report(hostile::attack(args)),
        ["fuzz", "--short"] => report(fuzz::short()),
        ["fuzz", args @ ..] => report(fuzz::fuzz(args)),
        [task @ ("wakes" | "recovery-times" | "soak" | "schedules"), arguments @ ..] => {
            report(endurance::endure(task, arguments))
        }
        ["costs", rest @ ..] => match costs::Wanted::parse(rest) {
            Some(wanted) => report(costs::run(&wanted)),
            None => usage(),
        },
        ["trace-table"] => report(trace_table::regenerate(false)),
        ["trace-table", "--check"] => report(trace_table::regenerate(true)),
        ["order-mutants", rest @ ..] => match order_mutants::Wanted::parse(rest) {
            Some(wanted) => report(order_mutants::run(wanted)),
            None => usage(),
        },
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn report(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
