//! `cargo xtask pieces`: takes one piece of the recovery or of the validation out of the library at a time, and sees
//! that some test fails then. A check that nothing would miss is no check.
//!
//! It works on a copy of the sources, so that the tree stays as it is.

mod list;

use crate::command::{by_hand, cargo, root, run, run_within, target_dir};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use list::{PIECES, Piece};

/// How long tests may take that miss a piece: some of them hang, which is a way to fail.
const LIMIT: Duration = Duration::from_secs(150);

/// Takes out every piece whose description holds `only`.
pub fn check(only: &str) -> Result<(), String> {
    let work = target_dir().join("pieces");
    let tree = work.join("tree");
    copy(&tree)?;
    let chosen: Vec<&Piece> = PIECES.iter().filter(|piece| piece.what.contains(only)).collect();
    if chosen.is_empty() {
        return Err(format!("no piece is called \"{only}\""));
    }
    let mut missed = Vec::new();
    for (number, piece) in (1..).zip(&chosen) {
        let began = Instant::now();
        let found = without(piece, &tree, &work.join("target"))?;
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
    let test = |more: &str| {
        let mut command = cargo(&format!("test -q {} {more}", piece.tests));
        command.current_dir(tree).env("CARGO_TARGET_DIR", target).env("RUST_BACKTRACE", "0");
        command
    };
    fs::write(&file, changed).map_err(|e| e.to_string())?;
    // Arguments for the test program come behind two dashes, which a build must not get.
    let build = piece.tests.split(" -- ").next().unwrap_or(piece.tests);
    let mut build = cargo(&format!("test -q --no-run {build}"));
    build.current_dir(tree).env("CARGO_TARGET_DIR", target).env("RUSTFLAGS", "-A warnings");
    let built = run(&mut build);
    let mut tests = test("");
    tests.env("RUSTFLAGS", "-A warnings").stderr(std::process::Stdio::null());
    let outcome = built.map(|()| run_within(&mut tests, LIMIT).is_err());
    fs::write(&file, text).map_err(|e| e.to_string())?;
    outcome.map_err(|why| {
        format!("{}: {why}; it does not build without this piece: {}", piece.what, by_hand(&build))
    })
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
        for piece in PIECES {
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
