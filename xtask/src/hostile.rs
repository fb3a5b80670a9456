//! `cargo xtask hostile`: a peer that writes anything into shared memory, at any time.

use crate::command::{by_hand, cargo, run, target_dir};
use std::env;
use std::process::{Command, Stdio};

/// Overflows and failed assertions count, as well as errors that the sanitizer finds.
const FLAGS: &str = "-Zsanitizer=address -Coverflow-checks=on -Cdebug-assertions=on";

/// Runs the whole attack under AddressSanitizer; with `--short`, a sample of it in the build of the tests.
pub fn attack(args: &[&str]) -> Result<(), String> {
    let mut command = if args.contains(&"--short") { short() } else { full()? };
    command.args(args);
    if !args.contains(&"--json") {
        println!("{}", by_hand(&command));
    }
    run(&mut command)
}

/// The program, built as the tests are.
pub fn short() -> Command {
    cargo("run --quiet -p hqq-tests --bin hqq-hostile --")
}

fn full() -> Result<Command, String> {
    const PROGRAM: &str = "run --release --quiet -p hqq-tests --bin hqq-hostile";
    let Some(host) = nightly() else {
        eprintln!("no nightly toolchain is installed; running WITHOUT AddressSanitizer");
        return Ok(cargo(&format!("{PROGRAM} --")));
    };
    // The proxy of rustup chooses the toolchain, which the cargo that runs this would not.
    let mut command = Command::new("cargo");
    command.arg("+nightly").args(PROGRAM.split(' ')).args(["--target", &host, "--target-dir"]);
    command.arg(target_dir().join("asan")).arg("--").current_dir(crate::command::root());
    command.env_remove("CARGO").env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} {FLAGS}").trim_start());
    Ok(command)
}

/// The platform that the nightly toolchain builds for, if there is one.
pub fn nightly() -> Option<String> {
    let mut command = Command::new("cargo");
    command.args(["+nightly", "--version", "--verbose"]).stderr(Stdio::null());
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
}
