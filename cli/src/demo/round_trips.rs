//! Round trips: one message at a time, back and forth, with its time.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hqq::StandardLink;

use crate::exit::{Exit, Failure, Result};
use crate::out;
use crate::pattern::Pattern;

/// The number of round trips.
pub const ROUNDS: u64 = 100_000;
/// The number with a packet trace, which makes the times meaningless.
pub const TRACED: u64 = 100;
/// The time after which the measurement ends early.
const TIME: Duration = Duration::from_secs(2);

/// Sends `rounds` messages of `size` bytes and waits for each to come back; returns the times in nanoseconds.
pub fn measure(link: &StandardLink, size: u64, rounds: u64) -> Result<Histogram<u64>> {
    let pattern = Pattern::new(3, Some(size));
    let mut message = vec![0; size as usize];
    let mut times = out::histogram();
    let end = Instant::now() + TIME;
    // The first few warm up the caches and are not counted.
    let warm_up = rounds / 100;
    for number in 0..warm_up + rounds {
        pattern.fill(number, &mut message);
        let asked = Instant::now();
        link.send(&message)?;
        let back = link.recv()?;
        let answered = Instant::now();
        pattern.check(number, &back).map_err(|fault| Failure::new(Exit::Failed, fault))?;
        drop(back);
        if number >= warm_up {
            out::record(&mut times, (answered - asked).as_nanos() as u64);
        }
        if answered > end && !times.is_empty() {
            break;
        }
    }
    // An empty message ends the echo.
    link.send(&[])?;
    Ok(times)
}

/// Sends back each message until an empty one.
pub fn echo(link: &StandardLink) -> Result<()> {
    loop {
        let message = link.recv()?;
        if message.is_empty() {
            return Ok(());
        }
        link.send(&message)?;
    }
}
