//! The results of the sweep.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use hqq_tests::oracle::Kind;
use serde_json::{Value, json};

use crate::sweep::Found;
use crate::worker_message::WorkerMessage;

/// Faults that are shown in full.
const SHOWN: usize = 10;

/// What came of an operation.
#[derive(Default)]
struct Operation {
    scenarios: u64,
    skipped: u64,
    points: u64,
    states: u64,
    kills: u64,
    faults: u64,
    /// The most instants of any scenario with the same fill level and role.
    longest: BTreeMap<(String, String), u64>,
}

/// What came of everything.
#[derive(Default)]
pub struct Report {
    operations: BTreeMap<String, Operation>,
    found: Vec<Found>,
    /// Where the sweep itself failed.
    pub failed: Vec<String>,
    points: u64,
    /// Instants with a survivor in the middle of an operation of its own.
    busy: u64,
    states: u64,
    kills: u64,
}

/// `12,345` for 12345.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
}

impl Report {
    /// 0 if no promise was broken, 1 if one was, 2 if the sweep itself failed or looked at nothing.
    pub fn exit_code(&self) -> ExitCode {
        if !self.failed.is_empty() || self.points + self.kills == 0 {
            ExitCode::from(2)
        } else if self.found.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(1)
        }
    }

    /// Adds a message of a worker to the results.
    pub fn add(&mut self, message: WorkerMessage) {
        match message {
            WorkerMessage::Started(_) => {}
            WorkerMessage::Failed(why) => self.failed.push(why),
            WorkerMessage::Skipped(name) => {
                let (operation, _) = name.split_once('/').unwrap_or((&name, ""));
                self.operations.entry(operation.into()).or_default().skipped += 1;
            }
            WorkerMessage::Done(name, outcome, kills) => {
                let mut parts = name.split('/');
                let mut part = || parts.next().unwrap_or_default().to_owned();
                let (name, _ring, fill, role, company) = (part(), part(), part(), part(), part());
                let operation = self.operations.entry(name).or_default();
                operation.scenarios += 1;
                operation.points += outcome.points;
                operation.states += outcome.states;
                operation.kills += kills;
                operation.faults += outcome.faults.len() as u64;
                let longest = operation.longest.entry((fill, role)).or_default();
                *longest = outcome.points.max(*longest);
                self.points += outcome.points;
                self.states += outcome.states;
                self.kills += kills;
                if !["idle", "second-idle", "threads"].contains(&company.as_str()) {
                    self.busy += outcome.points;
                }
                self.found.extend(outcome.faults);
            }
        }
    }

    /// Instants that differ in operation, fill level, role or instruction.
    fn distinct(&self) -> u64 {
        self.operations.values().flat_map(|operation| operation.longest.values()).sum()
    }

    fn of_kind(&self, kind: Kind) -> usize {
        self.found.iter().filter(|found| found.kind == kind.name()).count()
    }

    /// The faults, and a line of figures, or all as JSON.
    pub fn print(&self, only: &str, took: Duration, as_json: bool) {
        for why in &self.failed {
            eprintln!("the sweep failed: {why}");
        }
        for found in self.found.iter().take(SHOWN) {
            eprintln!("{}, instruction {}: {}: {}", found.scenario, found.point, found.kind, found.what);
            if let Some(place) = place(found.address) {
                eprintln!("    before {place}");
            }
            let kill = if found.what.starts_with("after a SIGKILL") { " --kill" } else { "" };
            eprintln!("    again: --only {} --point {}{kill}", found.scenario, found.point);
        }
        if self.found.len() > SHOWN {
            eprintln!("and {} more", self.found.len() - SHOWN);
        }
        if as_json {
            println!("{:#}", self.json(took));
            return;
        }
        let only = if only.is_empty() { String::new() } else { format!(" of {only}") };
        let kinds: Vec<_> =
            Kind::ALL.iter().map(|kind| format!("{} {}", kind.name(), self.of_kind(*kind))).collect();
        println!(
            "kill-sweep{only}: {} points ({} by operation, fill, role and instruction alone; {} with a survivor in \
             mid-operation; {} memory states), {} kills; {}; {:.0} s",
            grouped(self.points),
            grouped(self.distinct()),
            grouped(self.busy),
            grouped(self.states),
            grouped(self.kills),
            kinds.join(", "),
            took.as_secs_f64()
        );
    }

    fn json(&self, took: Duration) -> Value {
        let operations: Vec<Value> = self
            .operations
            .iter()
            .map(|(name, of)| {
                json!({
                    "name": name, "scenarios": of.scenarios, "impossible": of.skipped, "points": of.points,
                    "memory_states": of.states, "kills": of.kills, "faults": of.faults,
                })
            })
            .collect();
        let kinds: BTreeMap<_, _> = Kind::ALL.iter().map(|kind| (kind.name(), self.of_kind(*kind))).collect();
        json!({
            "points": self.points, "points_by_operation_fill_role_instruction": self.distinct(),
            "points_with_a_busy_survivor": self.busy, "memory_states": self.states, "kills": self.kills,
            "faults": kinds, "seconds": took.as_secs_f64(), "operations": operations,
            "found": self.found, "failed": self.failed,
        })
    }
}

/// The function and line of an address in this program, where the machine has the tool that tells.
fn place(address: u64) -> Option<String> {
    let program: PathBuf = std::env::current_exe().ok()?;
    let output = Command::new("addr2line")
        .args(["-f", "-C", "-s", "-e"])
        .arg(program)
        .arg(format!("{address:#x}"))
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (function, line) = text.trim().split_once('\n')?;
    (address != 0 && !line.starts_with('?')).then(|| format!("{line} in {function}"))
}
