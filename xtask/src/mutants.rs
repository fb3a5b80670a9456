//! `cargo xtask mutants`: takes one piece of the recovery or of the validation out of the library at a time, and sees
//! that some test fails then. A check that nothing would miss is no check.
//!
//! It works on a copy of the sources, so that the tree stays as it is.

mod agreements;
mod core;

use crate::command::{by_hand, cargo, root, run, run_within, target_dir};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use agreements::AGREED;
use core::{PIECES, Piece};

/// How long tests may take that miss a piece: some of them hang, which is a way to fail.
const LIMIT: Duration = Duration::from_secs(150);

fn all() -> impl Iterator<Item = &'static Piece> {
    PIECES.iter().chain(AGREED)
}

/// Takes out every piece whose description holds `only`.
pub fn check(only: &str) -> Result<(), String> {
    let work = target_dir().join("pieces");
    let tree = work.join("tree");
    copy(&tree)?;
    let chosen: Vec<&Piece> = all().filter(|piece| piece.what.contains(only)).collect();
    if chosen.is_empty() {
        return Err(format!("no piece is called \"{only}\""));
    }
    let target = work.join("target");
    let suites: BTreeSet<&str> = chosen.iter().map(|piece| piece.tests).collect();
    for tests in suites {
        // Or else everything would be found.
        if fails(tests, &tree, &target)? {
            return Err(format!("cargo test {tests} fails with every piece in its place"));
        }
    }
    let mut missed = Vec::new();
    for (number, piece) in (1..).zip(&chosen) {
        let began = Instant::now();
        let found = without(piece, &tree, &target)?;
        let seconds = began.elapsed().as_secs_f64();
        let verdict = if found { "found" } else { "MISSED" };
        println!(
            "{number:>3} of {}  {verdict:<7} {seconds:>5.1} s  {}: {}",
            chosen.len(),
            piece.what,
            piece.tests
        );
        if !found {
            missed.push(piece.what);
        }
    }
    println!("{} pieces, {} missed by the tests named", chosen.len(), missed.len());
    if missed.is_empty() { Ok(()) } else { Err(format!("missed by nobody: {}", missed.join("; "))) }
}

/// Whether the tests named fail without the piece.
fn without(piece: &Piece, tree: &Path, target: &Path) -> Result<bool, String> {
    let file = tree.join(piece.file);
    let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", piece.file))?;
    let changed = taken_out(piece, &text)?;
    fs::write(&file, changed).map_err(|e| e.to_string())?;
    let outcome = fails(piece.tests, tree, target);
    fs::write(&file, text).map_err(|e| e.to_string())?;
    outcome.map_err(|why| format!("without \"{}\": {why}", piece.what))
}

/// Whether tests fail, or hang. That they do not build is an error.
fn fails(tests: &str, tree: &Path, target: &Path) -> Result<bool, String> {
    let within = |mut command: Command| {
        command.current_dir(tree).env("CARGO_TARGET_DIR", target).env("RUST_BACKTRACE", "0");
        command.env("RUSTFLAGS", "-A warnings");
        command
    };
    let mut build = within(cargo(&format!("test -q --no-run {tests}")));
    run(&mut build).map_err(|why| format!("{}: {why}", by_hand(&build)))?;
    let mut command = within(cargo(&format!("test -q {tests}")));
    command.stderr(std::process::Stdio::null());
    Ok(run_within(&mut command, LIMIT).is_err())
}

/// The file's text without the piece.
fn taken_out(piece: &Piece, text: &str) -> Result<String, String> {
    match text.matches(piece.find).count() {
        1 => Ok(text.replace(piece.find, piece.replace)),
        count => Err(format!("{}: {count} places in {} hold\n{}", piece.what, piece.file, piece.find)),
    }
}

/// Copies what belongs to the workspace.
fn copy(to: &Path) -> Result<(), String> {
    let mut list = Command::new("git");
    list.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let listed = list.output().map_err(|e| format!("git: {e}"))?;
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    if !listed.status.success() || names.is_empty() {
        return Err("git does not tell which files belong to the workspace".into());
    }
    for name in names.lines() {
        let (from, to) = (root().join(name), to.join(name));
        // Only what differs, so that little is built anew the next time.
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
    fn every_piece_is_there_and_can_be_taken_out() {
        for piece in all() {
            let text = fs::read_to_string(root().join(piece.file)).expect(piece.file);
            let changed = taken_out(piece, &text).unwrap_or_else(|why| panic!("{why}"));
            assert_ne!(changed, text, "{}", piece.what);
        }
    }

    #[test]
    fn a_piece_that_is_nowhere_or_twice_is_an_error() {
        let piece = Piece { what: "x", file: "x", find: "one", replace: "", tests: "" };
        assert!(taken_out(&piece, "nothing").is_err() && taken_out(&piece, "one one").is_err());
        assert_eq!(taken_out(&piece, "just one").unwrap(), "just ");
    }
}
