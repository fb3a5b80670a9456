//! `cargo xtask kill-sweep`: builds the sweep as it is released, and runs it.

use crate::command::{cargo, run, target_dir};
use std::process::Command;

/// What builds it.
pub const BUILD: &str = "build --release --quiet -p hqq-tests --bin hqq-kill-sweep";

/// The switch with which the sweep has to fail.
const NO_RECOVERY: &str = "--no-recovery";

/// Builds the sweep and runs it with these arguments. Without recovery, finding nothing is the failure.
pub fn sweep(args: &[&str]) -> Result<(), String> {
    run(&mut cargo(BUILD))?;
    let program = target_dir().join("release/hqq-kill-sweep");
    let status = Command::new(program).args(args).status();
    let status = status.map_err(|error| format!("the sweep does not start: {error}"))?;
    judge(status.code(), args.contains(&NO_RECOVERY))
}

/// The sweep says 0 if no promise was broken, 1 if one was, and something else if it failed itself.
fn judge(code: Option<i32>, must_fail: bool) -> Result<(), String> {
    match (code, must_fail) {
        (Some(0), false) => Ok(()),
        (Some(1), true) => {
            println!("without recovery promises are broken, as they must be: the sweep sees it");
            Ok(())
        }
        (Some(0), true) => Err("nobody recovered anything, and the sweep found nothing wrong".into()),
        (Some(1), false) => Err("promises were broken".into()),
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
