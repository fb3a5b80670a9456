//! The command: splits the scenarios among workers and collects their messages.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use hqq::Role;
use hqq_tests::oracle::{Fault, Kind};
use hqq_tests::pattern;

use crate::arena::Arena;
use crate::report::Report;
use crate::sweep::{Found, Outcome, Settings};
use crate::worker_message::WorkerMessage;
use crate::{delivery, link, scenario, sweep};

/// A worker that says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(60);

/// Kills a process behind every instruction of every operation, and judges what the survivors find.
#[derive(Clone, Debug, Parser)]
#[command(name = "hqq-kill-sweep")]
pub struct Args {
    /// Every scenario, and many more real kills.
    #[arg(long)]
    full: bool,
    /// One scenario in twelve: what `cargo xtask test` does.
    #[arg(long, conflicts_with = "full")]
    short: bool,
    /// Figures by operation, as JSON.
    #[arg(long)]
    json: bool,
    /// Survivors do not recover the dead: the sweep must fail.
    #[arg(long)]
    no_recovery: bool,
    /// Only scenarios whose names begin like this.
    #[arg(long, default_value = "", value_name = "NAME")]
    only: String,
    /// Only this instant: so many instructions into the operation.
    #[arg(long, value_name = "N")]
    point: Option<u64>,
    /// Kill there for real. Without it, the instant is judged in a copy.
    #[arg(long, requires = "point")]
    kill: bool,
    /// Another choice of scenarios and of instants for real kills.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Processes that work; one for each processor unless given.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Which part of the work this process does.
    #[arg(long, hide = true, value_names = ["PART", "PARTS"], num_args = 2)]
    worker: Option<Vec<usize>>,
}

/// A job of a worker.
#[derive(Clone, Copy, Debug)]
enum Job {
    Region(scenario::Scenario),
    Link(link::Scenario),
    Greeting(Role),
    Delivery(delivery::Op),
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Region(scenario) => scenario.fmt(f),
            Self::Link(scenario) => scenario.fmt(f),
            Self::Greeting(role) => write!(f, "{}/mpmc/0/{role}/idle", link::greeting(*role)),
            Self::Delivery(op) => write!(f, "{}/mpmc/0/{}/idle", op.name(), Role::Secondary),
        }
    }
}

impl Args {
    /// All work, in an order that spreads it evenly.
    fn jobs(&self) -> Vec<Job> {
        let regions = scenario::Scenario::all().into_iter().map(Job::Region);
        let links = link::Scenario::all().into_iter().map(Job::Link);
        // Without recovery there is nothing to see in what a link does by itself.
        let links = links.filter(|_| !self.no_recovery);
        let greetings = [Role::Primary, Role::Secondary].map(Job::Greeting);
        let deliveries = delivery::Op::ALL.iter().copied().map(Job::Delivery);
        let greetings = greetings.into_iter().chain(deliveries).filter(|_| !self.no_recovery);
        let all = regions.chain(links).enumerate().filter(|(index, _)| {
            let nth = pattern::mix(self.seed << 32 ^ *index as u64);
            !self.short || self.point.is_some() || nth % 12 == 0
        });
        let all = all.map(|(_, job)| job).chain(greetings);
        all.filter(|job| job.to_string().starts_with(&self.only)).collect()
    }

    /// Real kills in a scenario with a link, and in the meetings of each role.
    fn kills(&self) -> (u64, u64) {
        match (self.short, self.full) {
            (true, _) => (1, 4),
            (_, true) => (8, 200),
            _ => (2, 60),
        }
    }

    fn parts(&self) -> usize {
        self.jobs.unwrap_or_else(|| hqq_sys::cpu::allowed().map_or(1, |cpus| cpus.len())).max(1)
    }
}

/// The program.
pub fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(&[part, parts]) = args.worker.as_deref() {
        return match work(&args, part, parts) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                print_message(&WorkerMessage::Failed(why));
                ExitCode::FAILURE
            }
        };
    }
    let began = Instant::now();
    let mut report = Report::default();
    let (sender, messages) = channel();
    let mut workers: Vec<(Child, String, Instant)> = Vec::new();
    for part in 0..args.parts() {
        match start(&args, part, sender.clone()) {
            Ok(child) => workers.push((child, String::new(), Instant::now())),
            Err(why) => report.failed.push(format!("a worker does not start: {why}")),
        }
    }
    drop(sender);
    loop {
        match messages.recv_timeout(Duration::from_secs(1)) {
            Ok((part, message)) => {
                let (_, at, last) = &mut workers[part];
                *last = Instant::now();
                match message {
                    Some(WorkerMessage::Started(name)) => *at = name,
                    // The end of what it says.
                    None => finish(&mut workers[part], &mut report),
                    Some(message) => report.add(message),
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                for (child, _, _) in workers.iter_mut().filter(|(_, _, last)| last.elapsed() > SILENCE) {
                    // Fails only if it has just ended by itself.
                    let _ = child.kill();
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    report.print(&args.only, began.elapsed(), args.json);
    report.exit_code()
}

fn start(
    args: &Args,
    part: usize,
    sender: std::sync::mpsc::Sender<(usize, Option<WorkerMessage>)>,
) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1));
    command.args(["--worker", &part.to_string(), &args.parts().to_string()]).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let output = child.stdout.take().expect("piped");
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let message = serde_json::from_str(&line).unwrap_or(WorkerMessage::Failed(line));
            if sender.send((part, Some(message))).is_err() {
                return;
            }
        }
        // Nobody hears it any more only if the whole program ends.
        let _ = sender.send((part, None));
    });
    Ok(child)
}

/// A worker has ended: as it should, or in the middle of something.
fn finish((child, at, _): &mut (Child, String, Instant), report: &mut Report) {
    match child.wait() {
        Ok(status) if status.success() => {}
        status => {
            let what = format!("the judge crashed or hung: {status:?}");
            let mut outcome = Outcome::default();
            outcome.note(at, 0, Fault::new(Kind::Wedged, what));
            report.add(WorkerMessage::Done(at.clone(), outcome, 0));
        }
    }
}

fn print_message(message: &WorkerMessage) {
    let line = serde_json::to_string(message).expect("plain data");
    // Nobody listens only if the whole program is ending.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Does one part of the work.
fn work(args: &Args, part: usize, parts: usize) -> Result<(), String> {
    let cpus = hqq_sys::cpu::allowed().map_err(|error| error.to_string())?;
    // Victim and judge take turns: on one processor, neither has to be woken on another.
    hqq_sys::cpu::pin(cpus[part % cpus.len()]).map_err(|error| error.to_string())?;
    sweep::keep_panics();
    let arena = Arena::new(scenario::geometry()).map_err(|error| error.to_string())?;
    let settings = Settings { recovers: !args.no_recovery, point: args.point };
    for (index, job) in args.jobs().into_iter().enumerate().filter(|(index, _)| index % parts == part) {
        print_message(&WorkerMessage::Started(job.to_string()));
        let seed = pattern::mix(args.seed << 32 ^ index as u64);
        let done =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(args, &arena, job, settings, seed)));
        let failed = |why: String| WorkerMessage::Failed(format!("{job}: {why}"));
        print_message(&match done {
            Ok(Ok(Some((outcome, kills)))) => WorkerMessage::Done(job.to_string(), outcome, kills),
            Ok(Ok(None)) => WorkerMessage::Skipped(job.to_string()),
            Ok(Err(why)) => failed(why),
            Err(_) => failed(sweep::last_panic()),
        });
    }
    Ok(())
}

fn one(
    args: &Args,
    arena: &Arena,
    job: Job,
    settings: Settings,
    seed: u64,
) -> Result<Option<(Outcome, u64)>, String> {
    let (kills, greetings) = args.kills();
    let instant = |kill: u64, points: u64| args.point.unwrap_or(pattern::mix(seed + kill) % (points + 1));
    let mut outcome = Outcome::default();
    let fault = |scenario: &dyn std::fmt::Display, at, outcome: &mut Outcome, fault: Fault| {
        let (kind, what) = (fault.kind.name().into(), format!("after a SIGKILL: {}", fault.what));
        outcome.faults.push(Found { scenario: scenario.to_string(), point: at, address: 0, kind, what });
    };
    let done = match job {
        Job::Region(scenario) => {
            return Ok(sweep::sweep(arena, scenario, settings)?.map(|outcome| (outcome, 0)));
        }
        Job::Link(scenario) => {
            if !args.kill {
                outcome = link::sweep(arena, scenario, settings)?;
            }
            let kills = if args.point.is_some() { u64::from(args.kill) * 2 } else { kills };
            for kill in 0..kills {
                let at = instant(kill, outcome.points);
                if let Err(why) = link::kill(arena, scenario, at, (seed ^ kill) % 2 == 0)? {
                    fault(&scenario, at, &mut outcome, why);
                }
            }
            kills
        }
        Job::Greeting(_) | Job::Delivery(_) => {
            let strike = |at| match job {
                Job::Greeting(role) => link::kill_greeting(role, at),
                Job::Delivery(op) => delivery::kill(op, at),
                Job::Region(_) | Job::Link(_) => Ok((0, Ok(()))),
            };
            let (points, verdict) = strike(args.point.unwrap_or(u64::MAX))?;
            if let Err(why) = verdict {
                fault(&job, points, &mut outcome, why);
            }
            let more = if args.point.is_some() { 0 } else { greetings - 1 };
            for kill in 0..more {
                let at = instant(kill, points);
                if let (_, Err(why)) = strike(at)? {
                    fault(&job, at, &mut outcome, why);
                }
                print_message(&WorkerMessage::Started(job.to_string()));
            }
            more + 1
        }
    };
    Ok(Some((outcome, done)))
}
