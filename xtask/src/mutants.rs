//! `cargo xtask mutants`: disables one check or one part of recovery at a time, and expects the tests named for it to fail.
//!
//! It works on a copy of the sources; the tree itself is not changed.

mod agreements;
mod core;

use crate::command::{by_hand, cargo, root, run, run_within, target_dir};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use agreements::AGREEMENTS;
use core::{CORE, Mutant};

/// The time limit of the tests of one mutant. Some mutants make a test hang, which counts as a failure.
const LIMIT: Duration = Duration::from_secs(150);

fn all() -> impl Iterator<Item = &'static Mutant> {
    CORE.iter().chain(AGREEMENTS)
}

/// Tests every mutant whose description contains `only`.
pub fn check(only: &str) -> Result<(), String> {
    let work = target_dir().join("mutants");
    let tree = work.join("tree");
    copy(&tree)?;
    let chosen: Vec<&Mutant> = all().filter(|mutant| mutant.what.contains(only)).collect();
    if chosen.is_empty() {
        return Err(format!("no mutant has \"{only}\" in its description"));
    }
    let target = work.join("target");
    let suites: BTreeSet<&str> = chosen.iter().map(|mutant| mutant.tests).collect();
    for tests in suites {
        // A test that fails on the unchanged sources would find every mutant.
        if fails(tests, &tree, &target)? {
            return Err(format!("cargo test {tests} fails on the unchanged sources"));
        }
    }
    let mut missed = Vec::new();
    for (number, mutant) in (1..).zip(&chosen) {
        let began = Instant::now();
        let found = is_found(mutant, &tree, &target)?;
        let seconds = began.elapsed().as_secs_f64();
        let verdict = if found { "found" } else { "MISSED" };
        println!(
            "{number:>3} of {}  {verdict:<7} {seconds:>5.1} s  {}: {}",
            chosen.len(),
            mutant.what,
            mutant.tests
        );
        if !found {
            missed.push(mutant.what);
        }
    }
    println!("{} mutants, {} missed by the tests named for them", chosen.len(), missed.len());
    if missed.is_empty() { Ok(()) } else { Err(format!("no test fails for: {}", missed.join("; "))) }
}

/// Whether the tests named for `mutant` fail on the changed sources.
fn is_found(mutant: &Mutant, tree: &Path, target: &Path) -> Result<bool, String> {
    let file = tree.join(mutant.file);
    let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", mutant.file))?;
    let changed = apply(mutant, &text)?;
    fs::write(&file, changed).map_err(|e| e.to_string())?;
    let outcome = fails(mutant.tests, tree, target);
    fs::write(&file, text).map_err(|e| e.to_string())?;
    outcome.map_err(|why| format!("mutant \"{}\": {why}", mutant.what))
}

/// Whether the tests fail or hang. A failure to build is an error.
fn fails(tests: &str, tree: &Path, target: &Path) -> Result<bool, String> {
    let within = |mut command: Command| {
        command.current_dir(tree).env("CARGO_TARGET_DIR", target).env("RUST_BACKTRACE", "0");
        command.env("RUSTFLAGS", "-A warnings");
        command
    };
    // Documentation tests are built as they run, so that only what they use can be built ahead.
    let mut build = within(match tests.split_once(" --doc") {
        Some((package, _)) => cargo(&format!("build -q {package}")),
        None => cargo(&format!("test -q --no-run {tests}")),
    });
    run(&mut build).map_err(|why| format!("{}: {why}", by_hand(&build)))?;
    let mut command = within(cargo(&format!("test -q {tests}")));
    command.stderr(std::process::Stdio::null());
    Ok(run_within(&mut command, LIMIT).is_err())
}

/// The text of the file with the mutant applied.
fn apply(mutant: &Mutant, text: &str) -> Result<String, String> {
    match text.matches(mutant.find).count() {
        1 => Ok(text.replace(mutant.find, mutant.replace)),
        count => Err(format!(
            "mutant \"{}\": {} contains this text {count} times instead of once:\n{}",
            mutant.what, mutant.file, mutant.find
        )),
    }
}

/// Copies the files of the workspace to `to`.
fn copy(to: &Path) -> Result<(), String> {
    let mut list = Command::new("git");
    list.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let listed = list.output().map_err(|e| format!("git: {e}"))?;
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    if !listed.status.success() || names.is_empty() {
        return Err("git ls-files did not list the files of the workspace".into());
    }
    for name in names.lines() {
        let (from, to) = (root().join(name), to.join(name));
        // Only changed files are written, so that the next run builds little.
        let Ok(bytes) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        let folder = to.parent().map(PathBuf::from).unwrap_or_default();
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&to, bytes))
            .map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_can_be_applied() {
        for mutant in all() {
            let text = fs::read_to_string(root().join(mutant.file)).expect(mutant.file);
            let changed = apply(mutant, &text).unwrap_or_else(|why| panic!("{why}"));
            assert_ne!(changed, text, "{}", mutant.what);
        }
    }

    #[test]
    fn the_tests_of_every_mutant_exist() {
        for mutant in all() {
            let words: Vec<&str> = mutant.tests.split(' ').collect();
            for pair in words.windows(2).filter(|pair| pair[0] == "--test") {
                let file = root().join(words[1]).join("tests").join(pair[1]).with_extension("rs");
                assert!(file.is_file(), "{}: no test {}", mutant.what, pair[1]);
            }
            // Unit tests of a package find nothing in another one.
            let package = if mutant.file.starts_with("hqq-features/") { "hqq-features" } else { "hqq" };
            assert!([package, "hqq-tests"].contains(&words[1]), "{}: tests of {}", mutant.what, words[1]);
        }
    }

    #[test]
    fn a_text_that_is_absent_or_ambiguous_is_an_error() {
        let mutant = Mutant { what: "x", file: "x", find: "one", replace: "", tests: "" };
        assert!(apply(&mutant, "nothing").is_err() && apply(&mutant, "one one").is_err());
        assert_eq!(apply(&mutant, "just one").unwrap(), "just ");
    }
}
