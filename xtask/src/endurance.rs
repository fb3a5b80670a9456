//! `cargo xtask wakes`, `recovery-times`, `soak` and `schedules`: the program `hqq-endurance` of the tests, optimised.

use std::process::Command;

use crate::command::{cargo, run};

/// The command by which `task` runs, optimised, with arguments of its own.
pub fn command(task: &str, arguments: &[&str]) -> Command {
    let mut command = cargo("run --release --quiet -p hqq-tests --bin hqq-endurance --");
    command.arg(task).args(arguments);
    command
}

/// Runs `task`.
///
/// # Errors
/// If it fails.
pub fn endure(task: &str, arguments: &[&str]) -> Result<(), String> {
    run(&mut command(task, arguments))
}
