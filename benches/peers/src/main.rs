//! HQQ and what a user would pick instead, between the same two processes in turns, in one table.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml` takes about a minute; `-- --help` lists its options. How
//! it is measured: `docs/benchmarks.md`. Each peer is used as its own documentation has it for speed; its file in
//! `src/systems/` shows the calls.

mod systems;
mod table;
mod traces;
mod watch;

use std::env;
use std::io::IsTerminal;
use std::process::{self, Command, ExitCode};

use clap::Parser;
use hqq_bench::{Case, Kind, Outcome, Plan, System, lead, own, raw, serve};
use indicatif::{ProgressBar, ProgressStyle};

use table::Report;
use traces::Traces;

/// HQQ and its peers, measured in turns between the same two processes.
#[derive(Parser)]
#[command(name = "hqq-peers", version)]
struct Args {
    /// How often everything has its turn of a few milliseconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Only these systems, separated by commas, beside raw and hqq
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    system: Vec<String>,
    /// Only these cases, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    case: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Internal: be the second process, of the leader with this process id
    #[arg(long, hide = true, value_name = "PID")]
    second: Option<u32>,
}

/// What is measured unless the arguments say otherwise.
fn cases() -> Vec<Case> {
    let of = |kind, payloads: &[u64]| payloads.iter().map(move |&payload| Case::new(kind, payload)).collect();
    let cases: [Vec<Case>; 6] = [
        of(Kind::Slot, &[8, 48]),
        of(Kind::Pool, &[64, 1024, 4096, 65536]),
        of(Kind::Untouched, &[64, 8192]),
        of(Kind::Sleeping, &[8]),
        of(Kind::ThroughputMpmc, &[8, 48]),
        of(Kind::ThroughputSpsc, &[8, 48]),
    ];
    cases.concat()
}

/// Every system that this program knows.
fn systems(traces: &'static Traces) -> Vec<Box<dyn System>> {
    raw().into_iter().chain(own()).chain(systems::all(traces)).collect()
}

/// The systems that `names` asks for, beside those that the ratios need.
fn chosen(names: &[String], mut known: Vec<Box<dyn System>>) -> Outcome<Vec<Box<dyn System>>> {
    let all: Vec<&str> = known.iter().map(|system| system.name()).collect();
    if let Some(strange) = names.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(format!("there is no system {strange}; there are {}", all.join(", ")).into());
    }
    // Raw programs come first, and all of them stay.
    let needed = raw().len();
    let needed: Vec<String> = known
        .iter()
        .take(needed)
        .map(|system| system.name().into())
        .chain(["hqq".into(), "hqq-spsc".into()])
        .collect();
    known.retain(|system| {
        let is = |name: &String| name == system.name();
        names.is_empty() || names.iter().any(is) || needed.iter().any(is)
    });
    Ok(known)
}

/// The cases that `names` asks for.
fn wanted(names: &[String], mut cases: Vec<Case>) -> Outcome<Vec<Case>> {
    let mut all: Vec<&str> = cases.iter().map(|case| case.kind.name()).collect();
    all.dedup();
    if let Some(strange) = names.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(format!("there is no case {strange}; there are {}", all.join(", ")).into());
    }
    cases.retain(|case| names.is_empty() || names.iter().any(|name| name == case.kind.name()));
    Ok(cases)
}

/// The first process: measures and prints.
fn compare(args: &Args, traces: &'static Traces) -> Outcome {
    let systems = chosen(&args.system, systems(traces))?;
    let plan = Plan { systems: &systems, cases: wanted(&args.case, cases())?, rounds: args.rounds };
    if let Some(note) = systems::LEFT_OUT {
        eprintln!("{note}");
    }
    let mut command = Command::new(env::current_exe()?);
    command.arg("--second").arg(process::id().to_string());
    let lifeline = watch::start(&mut command, traces)?;
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{bar:40} {percent:>3} %, {eta} left")?);
    let facts = lead(&plan, command, |done, total| {
        watch::progress(done);
        bar.set_length(total);
        bar.set_position(done);
    });
    watch::over();
    bar.finish_and_clear();
    drop(lifeline);
    let report = Report::from(facts?);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}\n\n{}", report.table(), report.notes());
    }
    Ok(())
}

fn run(args: &Args) -> Outcome {
    iceoryx2::prelude::set_log_level(iceoryx2::prelude::LogLevel::Error);
    // Lives as long as the process: systems and the watcher's thread refer to it.
    if let Some(leader) = args.second {
        let traces = Box::leak(Box::new(Traces::of(leader)));
        watch::show()?;
        return serve(&systems(traces));
    }
    let traces = Box::leak(Box::new(Traces::make()?));
    let outcome = compare(args, traces);
    traces.remove();
    outcome
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("hqq-peers: {failure}");
            ExitCode::FAILURE
        }
    }
}
