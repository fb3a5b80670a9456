//! Checks that hqq-features is portable: it depends on no crate that calls the operating system, and it builds for
//! wasm32 where that target is installed.

use crate::command;
use std::path::Path;
use std::process::Command;

/// The normal dependencies with all features. The target is fixed, so that the outcome is the same on every machine.
pub const TREE: &str =
    "tree -p hqq-features --all-features -e normal --prefix none --target x86_64-unknown-linux-gnu";

/// Crates that call the operating system.
const SYSTEM: [&str; 8] = ["libc", "rustix", "nix", "getrandom", "mio", "windows-sys", "memmap2", "tokio"];

const WASM: &str = "wasm32-unknown-unknown";

/// Checks the dependencies and the build for wasm32.
pub fn check() -> Result<(), String> {
    let tree = output(&mut command::cargo(TREE))?;
    let violations = violations(&tree);
    if !violations.is_empty() {
        return Err(violations.join("\n"));
    }
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let libraries = output(rustc.args(["--print", "target-libdir", "--target", WASM]))?;
    if !Path::new(libraries.trim()).is_dir() {
        println!("left out: the build for {WASM}, which is not installed (rustup target add {WASM})");
        return Ok(());
    }
    // Compression needs a C compiler for the target.
    for features in ["", " --features encrypt"] {
        command::run(&mut command::cargo(&format!("check -p hqq-features --target {WASM}{features}")))?;
    }
    Ok(())
}

/// The crates that call the operating system in the output of `cargo tree --prefix none`: a line for each package, which
/// begins with its name.
fn violations(tree: &str) -> Vec<String> {
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    if names.clone().next() != Some("hqq-features") {
        return vec![format!("cargo tree does not begin with hqq-features:\n{tree}")];
    }
    let mut found: Vec<&str> = names.filter(|name| SYSTEM.contains(name)).collect();
    found.sort_unstable();
    found.dedup();
    let violation = |name| format!("hqq-features depends on {name}: pass bytes, times and random bytes in");
    found.into_iter().map(violation).collect()
}

fn output(command: &mut Command) -> Result<String, String> {
    let typed = command::by_hand(command);
    let output = command.output().map_err(|e| format!("cannot start {typed}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{typed}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("{typed}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "hqq-features v0.1.0 (path)\ngovernor v0.10.4\nlibcrux v1.0.0\n";

    #[test]
    fn a_portable_tree_passes() {
        assert_eq!(violations(TREE), [""; 0]);
    }

    #[test]
    fn a_crate_of_the_system_is_found_once() {
        let tree = format!("{TREE}libc v0.2.1\ngetrandom v0.4.3\nlibc v0.2.1 (*)\n");
        let found = violations(&tree);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("getrandom") && found[1].contains("libc"));
    }

    #[test]
    fn the_wrong_tree_is_found() {
        assert_eq!(violations("").len(), 1);
        assert_eq!(violations("hqq v0.1.0\n").len(), 1);
    }
}
