//! The packet trace: one line for each packet of both processes, in one file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hqq::Options;

use crate::exit::{Failure, Result};
use crate::out;

/// The start time, from which both processes count.
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

    /// The start of another process, `began` nanoseconds after 1970.
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

/// Adds a packet trace to `options`, if there is a `path`. Each line has microseconds since the start, process, role, sent
/// or received, operation and operands. The first process empties the file.
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
        // One call for each line, so that lines of the two processes do not mix.
        if let Err(error) = (&file).write_all(line.as_bytes())
            && !failed.swap(true, Ordering::Relaxed)
        {
            out::note(format_args!("hqq: warning: the packet trace is incomplete: {error}"));
        }
    }))
}
