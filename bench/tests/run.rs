//! A short run of every system of this repository, between two processes: this program and itself once more.

use std::env;
use std::process::Command;

use hqq_bench::{Case, Kind, Outcome, Plan, System, lead, own, raw, serve};

fn main() -> Outcome {
    let systems: Vec<Box<dyn System>> = raw().into_iter().chain(own()).collect();
    if env::args().nth(1).as_deref() == Some("second") {
        return serve(&systems);
    }
    let cases = vec![
        Case::new(Kind::Slot, 8),
        Case::new(Kind::Pool, 64),
        Case::new(Kind::Untouched, 8192),
        Case::new(Kind::Copy, 1000),
        Case::new(Kind::Sleeping, 8),
        Case::paced(8, 20),
        Case::new(Kind::ThroughputMpmc, 8),
        Case::new(Kind::ThroughputSpsc, 8),
        Case::new(Kind::Batch, 8),
    ];
    let plan = Plan { systems: &systems, cases, rounds: 2 };
    let mut command = Command::new(env::current_exe()?);
    command.arg("second");
    let facts = lead(&plan, command, |_, _| {})?;
    assert_eq!(facts.rows.len(), plan.pairs().count());
    for row in &facts.rows {
        println!("{row:?}");
        let timed = row.rtt_ns.is_some_and(|times| times.p50 > 0 && times.p50 <= times.max);
        let rate = row.messages_per_second.or(row.bytes_per_second).is_some_and(|rate| rate > 0.0);
        assert!(timed != rate, "{row:?}");
    }
    Ok(())
}
