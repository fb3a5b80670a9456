//! `cargo xtask wakes`, `recovery-times`, `soak` and `schedules`: run the program `hqq-endurance` of the tests, in release mode.

use std::process::Command;

use crate::command::{cargo, run};

/// The command that runs `task` in release mode with these arguments.
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
