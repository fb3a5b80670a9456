//! `cargo xtask test`: the list of steps.

use crate::command::{
    build, by_hand, cargo, root, run, run_and_keep, run_and_keep_errors, run_within, target_dir,
};
use crate::{
    costs, endurance, fuzz, hostile, kill_sweep, models, no_std, order_mutants, portable, trace_table,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// The time limit of an example, and of the demonstration.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs every step until one fails.
pub fn test() -> ExitCode {
    let mut steps = Steps::default();
    let complete = all(&mut steps).is_ok();
    println!();
    for (name, seconds) in &steps.passed {
        println!("{seconds:>8.1} s  {name}");
    }
    if let Some(failure) = &steps.failure {
        println!("\n{failure}\n");
    }
    println!("{} passed, {} failed", steps.passed.len(), usize::from(!complete));
    if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A step failed; [`Steps::failure`] describes it.
#[derive(Debug)]
struct Stop;

#[derive(Default)]
struct Steps {
    passed: Vec<(String, f64)>,
    failure: Option<String>,
}

impl Steps {
    fn step<T>(
        &mut self,
        name: &str,
        by_hand: &str,
        body: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, Stop> {
        println!("\n=== {name}: {by_hand}");
        let started = Instant::now();
        let outcome = body();
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(value) => {
                println!("=== {name}: passed in {seconds:.1} s");
                self.passed.push((name.to_owned(), seconds));
                Ok(value)
            }
            Err(why) => {
                self.failure =
                    Some(format!("FAILED after {seconds:.1} s: {name}: {why}\nrun it by hand: {by_hand}"));
                Err(Stop)
            }
        }
    }

    fn run(&mut self, name: &str, mut command: Command) -> Result<(), Stop> {
        let typed = by_hand(&command);
        self.step(name, &typed, || run(&mut command))
    }
}

fn all(steps: &mut Steps) -> Result<(), Stop> {
    steps.run("formatting", cargo("fmt --all -- --check"))?;
    for (name, selection) in [
        ("clippy", "--workspace --all-targets"),
        ("clippy, feature named", "--workspace --all-targets --features hqq/named"),
        ("clippy, core alone", "-p hqq --no-default-features --lib"),
        // In a workspace build, other members enable both features.
        ("clippy, library alone", "-p hqq --all-targets"),
        ("clippy, feature compress", "-p hqq --all-targets --features compress"),
        ("clippy, feature encrypt", "-p hqq --all-targets --features encrypt"),
    ] {
        let args = format!("clippy {selection} -- -D warnings");
        steps.run(name, cargo(&args))?;
    }

    let traces = target_dir().join("trace");
    let mut tests = cargo("test --workspace");
    steps.step("tests", &by_hand(&tests), || {
        trace_table::empty(&traces)?;
        tests.env(trace_table::VARIABLE, &traces);
        some_passed(&run_and_keep(&mut tests)?)
    })?;
    steps.step("trace table", "cargo xtask trace-table --check", || trace_table::compare(&traces))?;
    steps.run("tests, feature named", cargo("test -p hqq --features named --lib --tests"))?;

    let mut attack = hostile::short();
    attack.arg("--short");
    steps.run("hostile peer", attack)?;
    steps.step("fuzzing", "cargo xtask fuzz --short", fuzz::short)?;

    let mut doc = cargo("doc --no-deps --workspace");
    doc.env("RUSTDOCFLAGS", "-D warnings");
    steps.step("documentation", &by_hand(&doc), || no_warnings(&run_and_keep_errors(&mut doc)?))?;

    let build_core = format!("cargo {}", no_std::BUILD);
    steps.step("core without std and alloc", &build_core, no_std::check)?;
    steps.step("features are portable", &format!("cargo {}", portable::TREE), portable::check)?;

    steps.step("orderings are listed", "cargo xtask order-mutants --check", order_mutants::compare)?;
    for explorer in [models::LOOM, models::SHUTTLE] {
        let mut models = models::command(explorer);
        let name = format!("{explorer} models");
        steps.step(&name, &by_hand(&models), || some_passed(&run_and_keep(&mut models)?))?;
    }

    examples(steps)?;

    steps.run("release build", cargo("build --release"))?;
    steps.step("exact costs", "cargo xtask costs --check", || costs::run(&costs::Wanted::Check))?;
    // Short forms of commands that take minutes.
    let mut build = cargo("build --release --quiet -p hqq-tests --bin hqq-endurance");
    steps.step("endurance, build", &by_hand(&build), || run(&mut build))?;
    for (name, task, arguments) in [
        ("sleeps and wakes", "wakes", ["--count", "200000"]),
        ("recovery times", "recovery-times", ["--kills", "100"]),
        ("soak", "soak", ["--cycles", "200"]),
    ] {
        let mut command = endurance::command(task, &arguments);
        steps.step(name, &by_hand(&command), || {
            print!("{}", run_within(&mut command, LIMIT)?);
            Ok(())
        })?;
    }
    let mut demo = cargo("run --release --quiet -- demo --messages 20000 --json");
    steps.step("demo", &by_hand(&demo), || verified(&run_within(&mut demo, LIMIT)?))?;

    for (name, args) in [
        ("kill sweep, short", &["--short"][..]),
        ("kill sweep without recovery", &["--short", "--no-recovery"]),
    ] {
        let by_hand = format!("cargo xtask kill-sweep {}", args.join(" "));
        steps.step(name, &by_hand, || kill_sweep::sweep(args))?;
    }
    Ok(())
}

/// Builds all examples, then runs each as a step of its own.
fn examples(steps: &mut Steps) -> Result<(), Stop> {
    let mut command = cargo("build --examples --features hqq/compress,hqq/encrypt");
    let built = steps.step("examples, build", &by_hand(&command), || {
        let names = examples_in(&root().join("examples"))?;
        let programs: BTreeMap<String, PathBuf> =
            build(&mut command)?.iter().filter_map(example_program).collect();
        match names.iter().find(|name| !programs.contains_key(*name)) {
            Some(name) => Err(format!("cargo built no example {name}")),
            None => Ok(names.into_iter().map(move |name| {
                let program = programs[&name].clone();
                (name, program)
            })),
        }
    })?;
    for (name, program) in built {
        let typed = format!("cargo run --features hqq/compress,hqq/encrypt --example {name}");
        steps.step(&format!("example {name}"), &typed, || {
            run_within(Command::new(program).current_dir(root()), LIMIT)
        })?;
    }
    Ok(())
}

/// The names of the examples, as cargo would find them: `NAME.rs` or `NAME/main.rs`.
fn examples_in(folder: &Path) -> Result<Vec<String>, String> {
    let problem = |why: &dyn std::fmt::Display| format!("{}: {why}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| problem(&e))? {
        let path = entry.map_err(|e| problem(&e))?.path();
        let is_example = path.extension().is_some_and(|ext| ext == "rs") || path.join("main.rs").is_file();
        if let (true, Some(stem)) = (is_example, path.file_stem()) {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    if names.is_empty() {
        return Err(problem(&"holds no example"));
    }
    names.sort();
    Ok(names)
}

fn example_program(artifact: &Value) -> Option<(String, PathBuf)> {
    let kinds = artifact["target"]["kind"].as_array()?;
    let name = artifact["target"]["name"].as_str()?;
    let program = artifact["executable"].as_str()?;
    kinds.contains(&Value::from("example")).then(|| (name.to_owned(), program.into()))
}

/// Fails if no test ran.
fn some_passed(output: &str) -> Result<(), String> {
    let ran = output
        .lines()
        .filter_map(|line| line.trim().strip_prefix("test result: ok. "))
        .filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok())
        .sum::<u64>();
    if ran == 0 {
        return Err("no test ran".into());
    }
    Ok(())
}

/// Cargo's own warnings (two crates documented under one name, say) are not errors to rustdoc.
fn no_warnings(output: &str) -> Result<(), String> {
    match output.lines().find(|line| line.starts_with("warning")) {
        Some(line) => Err(line.to_owned()),
        None => Ok(()),
    }
}

/// Fails unless the demonstration reports that it verified everything.
fn verified(output: &str) -> Result<(), String> {
    let facts: Value = serde_json::from_str(output).map_err(|e| format!("not JSON ({e}):\n{output}"))?;
    match &facts["verified"] {
        Value::Bool(true) => Ok(()),
        other => Err(format!("\"verified\" is {other} in:\n{output}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_kept_with_its_command_and_ends_the_run() {
        let mut steps = Steps::default();
        steps.step("first", "one", || Ok(())).unwrap();
        let outcome: Result<(), Stop> = steps.step("second", "two", || Err("broken".into()));
        assert!(outcome.is_err());
        assert_eq!(steps.passed.len(), 1);
        let failure = steps.failure.unwrap();
        assert!(failure.contains("second: broken") && failure.contains("by hand: two"));
    }

    #[test]
    fn no_test_at_all_is_a_failure() {
        let none = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured\n";
        let two = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n";
        assert!(some_passed("").is_err());
        assert!(some_passed(none).is_err());
        assert!(some_passed(&format!("{none}{two}")).is_ok());
    }

    #[test]
    fn a_warning_of_cargo_is_a_failure() {
        assert!(no_warnings("    Checking x\nwarning: output filename collision.\n").is_err());
        assert!(no_warnings(" Documenting hqq v0.1.0\n    Finished\n").is_ok());
    }

    #[test]
    fn the_demonstration_must_say_verified() {
        assert!(verified(r#"{"messages": 3, "verified": true}"#).is_ok());
        for wrong in ["", "{}", r#"{"verified": false}"#, r#"{"verified": "true"}"#] {
            assert!(verified(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn examples_are_found_as_cargo_finds_them() {
        let folder = std::env::temp_dir().join(format!("hqq-examples-{}", std::process::id()));
        fs::create_dir_all(folder.join("two")).unwrap();
        fs::create_dir_all(folder.join("data")).unwrap();
        assert!(examples_in(&folder).is_err(), "nothing there yet");
        fs::write(folder.join("two/main.rs"), "fn main() {}").unwrap();
        fs::write(folder.join("one.rs"), "fn main() {}").unwrap();
        fs::write(folder.join("notes.txt"), "").unwrap();
        assert_eq!(examples_in(&folder).unwrap(), ["one", "two"]);
        fs::remove_dir_all(&folder).unwrap();
        assert!(examples_in(&folder).is_err());
    }
}
