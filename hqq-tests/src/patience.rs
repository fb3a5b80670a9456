//! How long a test waits for something that must happen.

use std::thread;
use std::time::{Duration, Instant};

/// The time limit for something that must happen.
pub const SOON: Duration = Duration::from_secs(30);

/// Waits until `holds` returns true; `what` describes the condition in the message of a failure.
///
/// # Panics
/// If the condition does not hold within [`SOON`].
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "not within {SOON:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
