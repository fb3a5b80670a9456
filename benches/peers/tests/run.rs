//! A short run of everything.

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// What it is to measure; without Boost's headers its queue is left out.
const SYSTEMS: [&str; 13] = [
    "raw",
    "hqq",
    "iceoryx2",
    "iceoryx2-event",
    "shmem-ipc",
    "shmipc",
    "ipc-channel",
    "zeromq",
    "unix-stream",
    "unix-datagram",
    "pipe",
    "rtrb",
    "crossbeam",
];

fn peers(arguments: &[&str]) -> (u32, Output) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hqq-peers"));
    let child =
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let id = child.id();
    (id, child.wait_with_output().expect("it ends"))
}

/// The names that a run left in the folders where peers have their files.
fn left_by(leader: u32) -> Vec<String> {
    let folders = ["/dev/shm".into(), std::env::temp_dir()];
    let entries = folders.into_iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(&format!("hqq-peers-{leader}-"))).collect()
}

#[test]
fn everything_is_measured_and_nothing_is_left() {
    let (leader, output) = peers(&["--rounds", "1", "--json"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let facts: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let rows = facts["rows"].as_array().expect("there are rows");
    for system in SYSTEMS {
        assert!(rows.iter().any(|row| row["system"] == system), "{system} is missing");
    }
    for row in rows {
        let ratio = row["ratio_to_hqq"].as_f64();
        assert!(ratio.is_some_and(|ratio| ratio.is_finite() && ratio > 0.0), "{row}");
        let median = row["rtt_ns"]["p50"].as_f64();
        let rate = row["messages_per_second"].as_f64().or(row["bytes_per_second"].as_f64());
        assert!(median.or(rate).is_some_and(|figure| figure > 0.0), "{row}");
    }
    assert_eq!(left_by(leader), [""; 0]);
}

#[test]
fn names_that_are_unknown_are_answered_with_those_that_are() {
    for (option, known) in [("--system", "zeromq"), ("--case", "untouched")] {
        let (_, output) = peers(&[option, "nonsense"]);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && complaint.contains(known), "{complaint}");
    }
}
