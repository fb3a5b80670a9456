//! Checks that the core uses neither std nor alloc.
//!
//! A build without the default features is not enough: it could still link std. So the library is linked into a static
//! library with a panic handler of its own and no allocator. The compiler refuses that if std (a second panic handler) or
//! alloc (no allocator) is in the graph.

use crate::command;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROBE: &str = "\
#![no_std]
use hqq as _;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
";

/// The cargo command that builds the core.
pub const BUILD: &str = "build -p hqq --no-default-features --lib";

/// Builds the core and links it without std and alloc.
pub fn check() -> Result<(), String> {
    let artifacts = command::build(&mut command::cargo(BUILD))?;
    let mut folders = BTreeSet::new();
    let mut library = None;
    for artifact in &artifacts {
        for name in artifact["filenames"].as_array().into_iter().flatten() {
            let path = PathBuf::from(name.as_str().unwrap_or_default());
            if path.extension().is_some_and(|ext| ext == "rlib") {
                folders.extend(path.parent().map(Path::to_path_buf));
                if artifact["target"]["name"] == "hqq" {
                    library = Some(path);
                }
            }
        }
    }
    let library = library.ok_or("cargo reported no library for hqq")?;
    // Cargo lifts the library itself out of the folder where what it depends on stays.
    folders.extend(library.parent().map(|folder| folder.join("deps")));
    probe(&library, &folders, &command::target_dir().join("no-std"))
}

fn probe(library: &Path, folders: &BTreeSet<PathBuf>, scratch: &Path) -> Result<(), String> {
    fs::create_dir_all(scratch).map_err(|e| format!("{}: {e}", scratch.display()))?;
    let source = scratch.join("probe.rs");
    fs::write(&source, PROBE).map_err(|e| format!("{}: {e}", source.display()))?;
    let mut rustc = rustc();
    rustc.args(["--edition=2024", "--crate-type=staticlib", "-Cpanic=abort"]);
    rustc.arg("--extern");
    rustc.arg(format!("hqq={}", library.display()));
    for folder in folders {
        rustc.arg(format!("-Ldependency={}", folder.display()));
    }
    rustc.arg("--out-dir").arg(scratch).arg(&source);
    let output = rustc.output().map_err(|e| format!("cannot start rustc: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("the core does not link without std and alloc:\n{said}"))
}

fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probes a library called hqq with this source.
    fn probe_source(name: &str, source: &str) -> Result<(), String> {
        let scratch = std::env::temp_dir().join(format!("hqq-{name}-{}", std::process::id()));
        fs::create_dir_all(&scratch).unwrap();
        let file = scratch.join("lib.rs");
        fs::write(&file, source).unwrap();
        let mut build = rustc();
        build.args(["--crate-name=hqq", "--crate-type=rlib", "--edition=2024"]);
        command::run(build.arg("--out-dir").arg(&scratch).arg(&file)).unwrap();
        let outcome = probe(&scratch.join("libhqq.rlib"), &BTreeSet::new(), &scratch);
        fs::remove_dir_all(&scratch).unwrap();
        outcome
    }

    #[test]
    fn a_core_of_its_own_passes() {
        probe_source("core", "#![no_std]\npub fn f() {}").unwrap();
    }

    #[test]
    fn alloc_is_refused() {
        let why = probe_source("alloc", "#![no_std]\nextern crate alloc;").unwrap_err();
        assert!(why.contains("allocator"), "{why}");
    }

    #[test]
    fn std_is_refused() {
        let why = probe_source("std", "pub fn f() {}").unwrap_err();
        assert!(why.contains("panic_impl"), "{why}");
    }
}
