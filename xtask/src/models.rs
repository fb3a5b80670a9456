//! Builds and lists the loom and shuttle models.

use crate::command::{build, cargo, root, run_within, target_dir};
use std::process::Command;
use std::time::Duration;

/// Explores all executions of two threads, or of three with few preemptions.
pub const LOOM: &str = "loom";
/// Explores random schedules of more threads.
pub const SHUTTLE: &str = "shuttle";

/// One model.
#[derive(Clone, Debug)]
pub struct Model {
    program: String,
    test: String,
    /// `ring::two_producers_one_consumer`.
    pub name: String,
}

impl Model {
    /// The command that runs only this model.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--exact", &self.test, "--test-threads=1"]).current_dir(root());
        command
    }
}

/// Cargo for the models of an explorer. They have a target folder of their own, since their flag would rebuild
/// everything.
pub fn command(explorer: &str) -> Command {
    let mut command = cargo(&format!("test -p {explorer}-tests --tests --release --target-dir"));
    command.arg(target_dir().join(explorer));
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let flags = format!("{flags} --cfg {explorer} -D warnings");
    command.env("RUSTFLAGS", flags.trim_start());
    command
}

/// Builds the loom models and lists them.
pub fn build_all() -> Result<Vec<Model>, String> {
    let mut models = Vec::new();
    for artifact in build(command(LOOM).arg("--no-run"))? {
        let (kind, name) = (&artifact["target"]["kind"][0], artifact["target"]["name"].as_str());
        let (Some(area), Some(program)) = (name, artifact["executable"].as_str()) else { continue };
        if kind != "test" {
            continue;
        }
        let mut list = Command::new(program);
        let list = run_within(list.args(["--list", "--format=terse"]), Duration::from_secs(60))?;
        let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
        models.extend(tests.map(|test| Model {
            program: program.into(),
            test: test.into(),
            name: format!("{area}::{test}"),
        }));
    }
    if models.is_empty() {
        return Err("cargo built no models".into());
    }
    models.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(models)
}
