//! `cargo xtask fuzz`: runs the fuzz targets of `fuzz/`, each for some time.
//!
//! The folder has the layout of cargo-fuzz and works with it, too. This command builds the targets with the flags of
//! cargo-fuzz, which need not be installed.

use crate::command::{build, root, run, target_dir};
use crate::hostile::nightly;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The flags of cargo-fuzz 0.13: coverage for libFuzzer, and AddressSanitizer.
const FLAGS: [&str; 9] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg fuzzing",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Zsanitizer=address",
    "-Ccodegen-units=1",
];

/// Seconds for each target by default.
const SECONDS: u64 = 60;
/// Inputs for each target in a step of `cargo xtask test`, beside the committed corpus.
const SHORT: usize = 100;
/// The longest input, bytes.
const LONGEST: usize = 512;

/// The arguments of the command.
#[derive(Debug)]
struct Orders {
    seconds: u64,
    minimize: bool,
    target: Option<String>,
}

impl Orders {
    fn new(args: &[&str]) -> Result<Self, String> {
        let mut orders = Self { seconds: SECONDS, minimize: false, target: None };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match *arg {
                "--seconds" => {
                    let number = args.next().and_then(|number| number.parse().ok());
                    orders.seconds = number.ok_or("--seconds needs a number")?;
                }
                "--minimize" => orders.minimize = true,
                target if !target.starts_with('-') => orders.target = Some(target.into()),
                other => return Err(format!("{other}: only --seconds N, --minimize and a target's name")),
            }
        }
        Ok(orders)
    }
}

/// Runs the command.
pub fn fuzz(args: &[&str]) -> Result<(), String> {
    let orders = Orders::new(args)?;
    let Some(host) = nightly() else {
        return Err("fuzzing needs a nightly toolchain; without one the inputs that there are can be \
                    replayed: cargo test -p hqq-tests --test fuzz_replay"
            .into());
    };
    work(&orders, &host)
}

/// The committed corpus and inputs made of it, through each target under AddressSanitizer, if there is a nightly toolchain.
///
/// They are the same each time: libFuzzer, even from a fixed seed, goes where the coverage leads it, which threads and
/// addresses change, and a check must not fail by chance. Looking for what is new is for [`fuzz`].
pub fn short() -> Result<(), String> {
    let Some(host) = nightly() else {
        println!("no nightly toolchain is installed: the tests have replayed the corpus, that is all");
        return Ok(());
    };
    for (name, program) in programs(&host)? {
        let committed = root().join("fuzz/corpus").join(&name);
        let made = target_dir().join("fuzz-short").join(&name);
        let fail = |e: std::io::Error| format!("{}: {e}", made.display());
        let _ = fs::remove_dir_all(&made);
        fs::create_dir_all(&made).map_err(fail)?;
        for (number, input) in inputs(&committed)?.iter().enumerate() {
            fs::write(made.join(format!("made-{number:03}")), input).map_err(fail)?;
        }
        let mut command = fuzzer(&program);
        // No run beyond the files.
        command
            .arg(&made)
            .arg(&committed)
            .arg("-runs=0")
            .arg(format!("-artifact_prefix={}/", made.display()));
        run(&mut command).map_err(|why| format!("{name}: {why}; its input is in {}", made.display()))?;
    }
    Ok(())
}

/// Inputs made of those in a folder: the head of one and the tail of another, with bytes changed, put in and taken out.
fn inputs(folder: &Path) -> Result<Vec<Vec<u8>>, String> {
    let fail = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).map_err(fail)?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(fs::read).collect::<Result<_, _>>().map_err(fail)?;
    if corpus.is_empty() {
        return Err(format!("{}: no input", folder.display()));
    }
    let mut state = 0_u64;
    // SplitMix64.
    let mut below = |limit: usize| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((word ^ word >> 31) % limit as u64) as usize
    };
    let made = (0..SHORT).map(|_| {
        let (one, other) = (&corpus[below(corpus.len())], &corpus[below(corpus.len())]);
        let mut input = one[..below(one.len() + 1)].to_vec();
        input.extend(&other[below(other.len() + 1)..]);
        for _ in 0..=below(4) {
            let at = below(input.len() + 1);
            match below(3) {
                0 => input.insert(at, below(256) as u8),
                1 if at < input.len() => drop(input.remove(at)),
                _ if at < input.len() => input[at] ^= 1 << below(8),
                _ => {}
            }
        }
        input.truncate(LONGEST);
        input
    });
    Ok(made.collect())
}

fn work(orders: &Orders, host: &str) -> Result<(), String> {
    let programs = programs(host)?;
    let wanted = |name: &str| orders.target.as_deref().is_none_or(|target| target == name);
    if !programs.iter().any(|(name, _)| wanted(name)) {
        let names: Vec<&str> = programs.iter().map(|(name, _)| name.as_str()).collect();
        return Err(format!("no such target; the targets are {}", names.join(", ")));
    }
    for (name, program) in programs.iter().filter(|(name, _)| wanted(name)) {
        println!("=== {name}: {} s", orders.seconds);
        let found = target_dir().join("fuzz-corpus").join(name);
        let committed = root().join("fuzz/corpus").join(name);
        let faults = target_dir().join("fuzz-faults").join(name);
        for folder in [&found, &faults] {
            fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        // New inputs go to the first folder, not to the committed corpus.
        let mut command = fuzzer(program);
        command.arg(&found).arg(&committed).arg(format!("-max_total_time={}", orders.seconds));
        command.arg(format!("-artifact_prefix={}/", faults.display()));
        run(&mut command).map_err(|why| format!("{name}: {why}; its input is in {}", faults.display()))?;
        if orders.minimize {
            minimize(program, &found, &committed)?;
        }
    }
    Ok(())
}

/// The command of a target, with the options that all runs have.
fn fuzzer(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args([&format!("-max_len={LONGEST}"), "-timeout=120", "-rss_limit_mb=2048", "-verbosity=0"]);
    // The sanitizer reports statics of ended threads as leaks.
    command.args(["-detect_leaks=0", "-print_final_stats=1", "-report_slow_units=120"]);
    command
}

/// Replaces the committed corpus by the smallest set of inputs with the same coverage.
fn minimize(program: &Path, found: &Path, committed: &Path) -> Result<(), String> {
    let merged = found.with_extension("merged");
    let _ = fs::remove_dir_all(&merged);
    fs::create_dir_all(&merged).map_err(|e| e.to_string())?;
    let mut command = fuzzer(program);
    // By edges only: with counters, hundreds of inputs would be kept.
    command.args(["-set_cover_merge=1", "-use_counters=0"]).args([
        &merged,
        &found.to_path_buf(),
        &committed.to_path_buf(),
    ]);
    run(&mut command)?;
    let _ = fs::remove_dir_all(committed);
    fs::create_dir_all(committed).map_err(|e| e.to_string())?;
    let files = fs::read_dir(&merged).map_err(|e| e.to_string())?;
    for file in files.flatten() {
        fs::copy(file.path(), committed.join(file.file_name())).map_err(|e| e.to_string())?;
    }
    fs::remove_dir_all(&merged).map_err(|e| e.to_string())
}

/// Builds the targets.
fn programs(host: &str) -> Result<Vec<(String, PathBuf)>, String> {
    // The proxy of rustup chooses the toolchain, which the cargo that runs this would not.
    let mut command = Command::new("cargo");
    command.args(["+nightly", "build", "--release", "--quiet", "--bins", "--target", host]);
    command.arg("--manifest-path").arg(root().join("fuzz/Cargo.toml"));
    command.arg("--target-dir").arg(target_dir().join("fuzz")).current_dir(root());
    command.env_remove("CARGO").env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} {}", FLAGS.join(" ")).trim_start());
    let artifacts = build(&mut command)?;
    let mut programs: Vec<(String, PathBuf)> = artifacts
        .iter()
        .filter_map(|artifact| {
            let manifest = artifact["manifest_path"].as_str()?;
            let ours = Path::new(manifest) == root().join("fuzz/Cargo.toml");
            let program = artifact["executable"].as_str().filter(|_| ours)?;
            Some((artifact["target"]["name"].as_str()?.to_owned(), program.into()))
        })
        .collect();
    programs.sort();
    if programs.is_empty() { Err("cargo built no target".into()) } else { Ok(programs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_the_same_each_time() {
        let folder = root().join("fuzz/corpus/agreements");
        let made = inputs(&folder).unwrap();
        assert_eq!(made, inputs(&folder).unwrap());
        assert!(made.len() == SHORT && made.iter().all(|input| input.len() <= LONGEST));
        // And not each the same as another.
        let mut kinds = made.clone();
        kinds.sort();
        kinds.dedup();
        assert!(kinds.len() > SHORT / 2);
    }

    #[test]
    fn orders_are_read() {
        let orders = Orders::new(&["--seconds", "7", "attach"]).unwrap();
        assert_eq!((orders.seconds, orders.target.as_deref()), (7, Some("attach")));
        assert_eq!(Orders::new(&[]).unwrap().seconds, SECONDS);
        assert!(Orders::new(&["--minimize"]).unwrap().minimize);
        for wrong in [["--seconds", "x"], ["--what", "attach"]] {
            assert!(Orders::new(&wrong).is_err());
        }
    }
}
