//! The second process of a demonstration or a measurement: this program again, at the other end of a link.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use hqq::{Error, Offer, Options, StandardLink};

use crate::exit::{Exit, Failure, Result};

/// The time limit for its start and for its end.
const PATIENCE: Duration = Duration::from_secs(10);

/// This program's file. The kernel finds it, even after another one took its place or it was removed.
pub const PROGRAM: &str = "/proc/self/exe";

/// A command that starts this program again.
pub fn program() -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg0(env::args_os().next().unwrap_or_else(|| "hqq".into()));
    command
}

/// Gives a second process the command name of the first: the kernel names it after [`PROGRAM`].
pub fn name() {
    // The name is for display only.
    let _ = fs::write("/proc/self/comm", "hqq");
}

/// A process that this one started. Dropping it kills and reaps the process.
#[derive(Debug)]
pub struct Second {
    child: Child,
}

impl Second {
    /// Starts this program with `subcommand` and the arguments that `arrange` adds, and connects to it.
    pub fn start(
        subcommand: &str,
        options: Options,
        arrange: impl FnOnce(&mut Command),
    ) -> Result<(Self, StandardLink)> {
        let offer = Offer::new(options)?;
        let mut command = program();
        command.arg(subcommand).stdin(Stdio::null()).stdout(Stdio::null());
        arrange(&mut command);
        offer.pass_to(&mut command)?;
        let child = command.spawn().map_err(|error| Failure::system("starting a second process", &error))?;
        let mut second = Self { child };
        match offer.accept_timeout(PATIENCE) {
            Ok(link) => Ok((second, link)),
            Err(error) => {
                let failure = Failure::from(error);
                // If this process could not make the link, the other one fails because of that.
                if matches!(failure.exit, Exit::System | Exit::Usage) {
                    return Err(failure);
                }
                Err(match second.wait(Duration::from_millis(500)) {
                    Some(status) => ended(status, "at the start"),
                    None => failure,
                })
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits up to `patience` for the process to end.
    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let limit = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < limit => std::thread::sleep(Duration::from_millis(1)),
                found => return found.ok().flatten(),
            }
        }
    }

    /// Waits for the process to end without an error.
    pub fn end(mut self) -> Result<()> {
        match self.wait(PATIENCE) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(ended(status, "at the end")),
            None => Err(Failure::new(Exit::Failed, "the second process did not end in time and was killed")),
        }
    }

    /// Replaces a failure of the link by the end of the second process, if it has ended.
    pub fn explain(&mut self, failure: Failure, when: &str) -> Failure {
        if failure.exit != Exit::Link {
            return failure;
        }
        match self.wait(Duration::from_secs(2)) {
            Some(status) => ended(status, when),
            None => failure,
        }
    }
}

/// The failure for a process that ended.
fn ended(status: ExitStatus, when: &str) -> Failure {
    match (status.signal(), status.code()) {
        (Some(signal), _) => {
            Failure::new(Exit::Link, format!("the second process was killed {when} by signal {signal}"))
        }
        (None, Some(1)) => Failure::new(Exit::Failed, format!("the second process found a fault {when}"))
            .hint("its message is above"),
        (None, code) => {
            let code = code.unwrap_or_default();
            Failure::new(Exit::Link, format!("the second process stopped {when} with exit code {code}"))
        }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The failure of a second process that has no link. Both are the same program, so a handshake that failed means that the
/// first one stopped, and says why itself.
pub fn unlinked(error: Error) -> Failure {
    match error {
        Error::Handshake { .. } => Error::PeerGone.into(),
        error => error.into(),
    }
}

/// Adds to a failure that it happened in the second process.
pub fn here(failure: Failure) -> Failure {
    let failure = match failure.exit {
        Exit::Link => Failure { message: "the first process died or stopped early".into(), ..failure },
        _ => failure,
    };
    failure.during("second process")
}

/// Converts an error of a stream over a link back to the error of the link.
pub fn stream_error(error: std::io::Error) -> Failure {
    match error.downcast::<Error>() {
        Ok(error) => Failure::from(error),
        Err(error) => Failure::system("reading or writing", &error),
    }
}
