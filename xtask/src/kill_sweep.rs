//! `cargo xtask kill-sweep`: builds the sweep as it is released, and runs it.

use crate::command::{cargo, run, target_dir};
use std::process::Command;

/// The cargo command that builds the sweep.
pub const BUILD: &str = "build --release --quiet -p hqq-tests --bin hqq-kill-sweep";

/// The option with which the sweep has to fail.
const NO_RECOVERY: &str = "--no-recovery";

/// Builds the sweep and runs it with these arguments. Without recovery, a sweep that finds nothing is a failure.
pub fn sweep(args: &[&str]) -> Result<(), String> {
    run(&mut cargo(BUILD))?;
    let program = target_dir().join("release/hqq-kill-sweep");
    let status = Command::new(program).args(args).status();
    let status = status.map_err(|error| format!("the sweep does not start: {error}"))?;
    judge(status.code(), args.contains(&NO_RECOVERY))
}

/// Interprets the exit code: 0 if nothing was violated, 1 if something was, anything else if the sweep itself failed.
fn judge(code: Option<i32>, must_fail: bool) -> Result<(), String> {
    match (code, must_fail) {
        (Some(0), false) => Ok(()),
        (Some(1), true) => {
            println!("without recovery, the sweep finds violations, as it must");
            Ok(())
        }
        (Some(0), true) => Err("nothing was recovered, but the sweep found no violation".into()),
        (Some(1), false) => Err("the sweep found violations".into()),
        (code, _) => Err(format!("the sweep itself failed, with code {code:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_recovery_only_broken_promises_will_do() {
        assert!(judge(Some(0), false).is_ok());
        assert!(judge(Some(1), true).is_ok());
        for (code, must_fail) in
            [(Some(1), false), (Some(0), true), (Some(2), true), (Some(2), false), (None, true)]
        {
            assert!(judge(code, must_fail).is_err(), "{code:?} {must_fail}");
        }
    }
}
