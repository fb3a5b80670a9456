//! `cargo xtask`: the checks of this workspace and the tools that go with them.
//!
//! * `cargo xtask test` runs every check, stops at the first that fails and ends with
//!   `N passed, M failed`.
//! * `cargo xtask mutants` takes one piece of the recovery or of the validation out at a time, in a copy of the sources,
//!   and sees that a test fails then; `--only TEXT` takes those out whose name holds the text.
//! * `cargo xtask hostile` attacks the library from shared memory, under AddressSanitizer if there is a nightly
//!   toolchain; `--short` does as much of it as `cargo xtask test`, `--json` prints figures.
//! * `cargo xtask fuzz` runs the fuzz targets, each for a minute unless `--seconds` says otherwise, on a nightly toolchain;
//!   `--minimize` afterwards puts what is worth keeping into the committed corpus; `--short` does as much as
//!   `cargo xtask test`.
//! * `cargo xtask kill-sweep` kills a process behind every instruction of every operation and judges what its survivors
//!   find; `--help` tells its switches. With `--no-recovery` it succeeds only if the sweep finds broken promises.
//! * `cargo xtask wakes`, `recovery-times`, `soak` and `schedules` take long, and print what they measured;
//!   each takes `--help`.
//! * `cargo xtask costs` counts instructions, atomics, cache lines, system calls and allocations of a message, exactly;
//!   `--write` makes what it found the budget, `--check` fails if it found more than the budget allows, `--parts` parts
//!   sends from receives, `--callgrind` has valgrind count too, `--only TEXT` takes the rows with that in their name.
//! * `cargo xtask trace-table` rewrites the table of opcodes in `docs/testing.md` from what the
//!   tests traced; with `--check` it only compares.
//! * `cargo xtask order-mutants` weakens each memory ordering of the core, one at a time, wants a model to
//!   fail, and rewrites the list in `docs/memory-model.md`; with `--check` it only compares.

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
usage: cargo xtask test
       cargo xtask kill-sweep [--full] [--json] [--no-recovery] [...]
       cargo xtask mutants [--only TEXT]
       cargo xtask hostile [--short] [--json] [--seed N]
       cargo xtask fuzz [--short | [--seconds N] [--minimize] [TARGET]]
       cargo xtask wakes [--count N]
       cargo xtask recovery-times [--kills N] [--json] [--limits]
       cargo xtask soak [--cycles N] [--minutes N] [--seed N] [--paused [SECONDS]]
       cargo xtask schedules [--count N] [--from SEED]
       cargo xtask costs [--check | --write | [--parts] [--callgrind] [--only TEXT]]
       cargo xtask trace-table [--check]
       cargo xtask order-mutants [--only SITE] [--json] [--check]";

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
