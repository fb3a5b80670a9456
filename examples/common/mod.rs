//! Shared by the examples: starts the second process.

use std::error::Error;
use std::process::{Command, id};
use std::time::Duration;
use std::{env, io};

/// The result of one half of an example.
pub type Outcome = Result<(), Box<dyn Error>>;

/// The time limit for one half to wait for the other.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the two halves of an example in two processes.
///
/// Without arguments `listen` runs here and `connect` in a second process that runs the same program, under a
/// unique name. For two terminals: `-- listen NAME` in one and `-- connect NAME` in the other.
pub fn two_processes(listen: fn(&str) -> Outcome, connect: fn(&str) -> Outcome) -> Outcome {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["listen", name] => return listen(name),
        ["connect", name] => return connect(name),
        [] => {}
        _ => return Err("usage: no arguments, or `listen NAME` and `connect NAME` in two terminals".into()),
    }
    let name = format!("example-{}", id());
    let mut other = Command::new(env::current_exe()?).args(["connect", &name]).spawn()?;
    let outcome = listen(&name);
    if outcome.is_err() {
        // The other half may wait for this one. If it has ended already, killing it fails, which is harmless.
        let _ = other.kill();
    }
    let status = other.wait()?;
    outcome?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("the other half: {status}")).into()) }
}
