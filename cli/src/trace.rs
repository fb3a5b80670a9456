//! A packet trace for people: one line a packet, from both processes, in one file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hqq::Options;

use crate::exit::{Failure, Result};

/// A moment that both processes count from.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Nanoseconds since 1970.
    pub began: u64,
    here: Instant,
    before: Duration,
}

impl Start {
    /// Now.
    pub fn now() -> Self {
        Self { began: since_1970(), here: Instant::now(), before: Duration::ZERO }
    }

    /// When another process began.
    pub fn at(began: u64) -> Self {
        let before = Duration::from_nanos(since_1970().saturating_sub(began));
        Self { began, here: Instant::now(), before }
    }

    fn elapsed(&self) -> Duration {
        self.here.elapsed() + self.before
    }
}

fn since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

/// Lets a link append its packets to `path`, if there is one: microseconds since the start, process, role, what was
/// done, operation, operands. The first process empties the file.
pub fn to_file(options: Options, path: Option<&Path>, start: Start, first: bool) -> Result<Options> {
    let Some(path) = path else { return Ok(options) };
    let cannot = |error| Failure::system(format_args!("opening {}", path.display()), &error);
    if first {
        File::create(path).map_err(cannot)?;
    }
    let file = OpenOptions::new().append(true).open(path).map_err(cannot)?;
    let pid = std::process::id();
    let failed = AtomicBool::new(false);
    Ok(options.trace(move |event| {
        let micros = start.elapsed().as_nanos() as f64 / 1e3;
        let line = format!("{micros:>14.3} pid {pid} {event}\n");
        // One call a line, so that two processes do not mix theirs.
        if let Err(error) = (&file).write_all(line.as_bytes())
            && !failed.swap(true, Ordering::Relaxed)
        {
            anstream::eprintln!("hqq: warning: the packet trace has gaps: {error}");
        }
    }))
}
