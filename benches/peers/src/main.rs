//! HQQ and its alternatives, measured in turns between the same two processes, in one table.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml` takes about a minute; `-- --help` lists its options. How
//! it is measured: `docs/benchmarks.md`. Each peer is used as its own documentation has it for speed; its file in
//! `src/systems/` shows the calls.

mod common;
mod systems;
mod traces;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::{env, fs, io, process};

use clap::Parser;
use hqq_bench::{Case, Kind, Outcome, Plan, System, lead, picture, report, serve};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::process::{Signal, set_parent_process_death_signal};

use traces::Traces;

/// What the peers are measured at.
const KINDS: [Kind; 7] = [
    Kind::Slot,
    Kind::Pool,
    Kind::Untouched,
    Kind::Sleeping,
    Kind::ThroughputMpmc,
    Kind::ThroughputSpsc,
    Kind::Stream,
];

/// The variable that tells a process its part, and the one that names the run's first process.
const PART: &str = "HQQ_PEERS_PART";
const KEEPER: &str = "HQQ_PEERS_KEEPER";

/// HQQ and its peers, measured in turns between the same two processes.
#[derive(Parser)]
#[command(name = "hqq-peers", version)]
struct Args {
    /// How often everything has its turn of a few milliseconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Only these systems, separated by commas, beside hqq and the raw programs
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    system: Vec<String>,
    /// Only these cases, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    case: Vec<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Draw the run into this file, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Args {
    /// What they ask for, of the systems that there are.
    fn plan<'a>(&self, systems: &'a [Box<dyn System>]) -> Outcome<Plan<'a>> {
        let known: Vec<&str> = systems.iter().map(|system| system.name()).collect();
        let mut only = known_among("system", &self.system, &known)?;
        if !only.is_empty() {
            only.extend(["hqq", "hqq-spsc"].map(String::from));
        }
        let asked = known_among("case", &self.case, &KINDS.map(Kind::name))?;
        let kinds: Vec<Kind> = KINDS
            .into_iter()
            .filter(|kind| asked.is_empty() || asked.iter().any(|name| name == kind.name()))
            .collect();
        let cases = Case::select(Some(&kinds), None);
        Ok(Plan { systems, cases, only, beside_hqq: true, rounds: self.rounds })
    }
}

/// The same names, if all are known.
fn known_among(what: &str, names: &[String], known: &[&str]) -> Outcome<Vec<String>> {
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(strange) => Err(format!("there is no {what} {strange}; there are {}", known.join(", ")).into()),
        None => Ok(names.to_vec()),
    }
}

/// The process that was started: lets another one measure, and removes what is left however that one ends.
fn keep(args: &Args) -> Outcome<ExitCode> {
    // Mistakes are answered before anything is started.
    let traces = Traces::of(process::id());
    args.plan(&systems::all(&traces))?;
    if let Some(note) = systems::LEFT_OUT {
        eprintln!("{note}");
    }
    traces.make()?;
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1)).env(PART, "lead").env(KEEPER, process::id().to_string());
    let status = command.status();
    traces.remove();
    let status = status?;
    if status.code().is_none() {
        return Err(format!("the measuring process died: {status}").into());
    }
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first of the two processes: measures and prints.
fn measure(args: &Args, traces: &Traces) -> Outcome {
    let systems = systems::all(traces);
    let mut command = Command::new(env::current_exe()?);
    command.env(PART, "serve");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{bar:40} {percent:>3} %, {eta} left")?);
    let facts = lead(&args.plan(&systems)?, command, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let facts = facts?;
    if let Some(file) = &args.svg {
        fs::write(file, picture::draw(&facts))?;
    }
    if args.json {
        serde_json::to_writer_pretty(io::stdout().lock(), &facts)?;
        println!();
    } else {
        println!("{}\n{}", report::tables(&facts), report::legend(&facts));
    }
    Ok(())
}

fn run() -> Outcome<ExitCode> {
    iceoryx2::prelude::set_log_level(iceoryx2::prelude::LogLevel::Error);
    let Some(part) = env::var_os(PART) else { return keep(&Args::parse()) };
    // Nobody measures for a keeper that is gone, nor serves a leader; not even if it hangs or was stopped.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let traces = Traces::of(env::var(KEEPER)?.parse()?);
    if part == "serve" {
        serve(&systems::all(&traces))?;
    } else {
        measure(&Args::parse(), &traces)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    run().unwrap_or_else(|failure| {
        eprintln!("hqq-peers: {failure}");
        ExitCode::FAILURE
    })
}
