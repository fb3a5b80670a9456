//! Helpers of the tests of the command.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A time limit far above that of any working command.
pub const LONG: Duration = Duration::from_secs(60);

/// The command, without the environment variables that force or forbid colours.
pub fn hqq(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hqq"));
    command.args(args).stdin(Stdio::null()).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command
}

/// Runs the command to its end.
pub fn run(args: &[&str]) -> Output {
    hqq(args).output().unwrap()
}

/// A name that no other test uses.
pub fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("cli-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A process that is killed at the end of the test.
pub struct Running(pub Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        let limit = Instant::now() + LONG;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < limit, "process {} does not end", self.0.id());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for its end; returns the exit code and its standard error.
    pub fn code_and_errors(&mut self) -> (Option<i32>, String) {
        let code = self.end().code();
        let mut errors = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (code, errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `done` returns true.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < limit, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
