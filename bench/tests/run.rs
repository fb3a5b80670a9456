//! A short run of every system of this repository, between two processes: this program and itself once more.

use std::env;
use std::process::Command;

use hqq_bench::{Case, Outcome, Plan, System, lead, own, raw, serve};

fn main() -> Outcome {
    let systems: Vec<Box<dyn System>> = raw().into_iter().chain(own()).collect();
    if env::args().nth(1).as_deref() == Some("second") {
        return serve(&systems);
    }
    let plan = Plan {
        systems: &systems,
        cases: Case::select(None, None),
        only: Vec::new(),
        beside_hqq: true,
        rounds: 2,
    };
    let mut command = Command::new(env::current_exe()?);
    command.arg("second");
    let facts = lead(&plan, command, |_, _| {})?;
    assert_eq!(facts.rows.len(), plan.pairs().len());
    for row in &facts.rows {
        println!("{} {} {}: {:?}", row.system, row.case, row.payload, row.ratio_to_raw);
        let timed = row.rtt_ns.is_some_and(|times| times.p50 > 0 && times.p50 <= times.max);
        let rate = row.messages_per_second.or(row.bytes_per_second).is_some_and(|rate| rate > 0.0);
        assert!(timed != rate, "{row:?}");
        assert!(row.ratio_to_raw.is_none_or(|ratio| ratio.is_finite() && ratio > 0.0), "{row:?}");
        assert!(row.ratio_to_raw.is_some(), "{row:?}");
    }
    Ok(())
}
