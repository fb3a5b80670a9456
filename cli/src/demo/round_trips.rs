//! One message to and fro at a time, and how long that takes.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hqq::StandardLink;

use crate::exit::{Exit, Failure, Result};
use crate::out;
use crate::pattern::Pattern;

/// How many, unless the time is up first.
const ROUNDS: u64 = 100_000;
/// The first few, that wake everything up, do not count.
const WARM_UP: u64 = 1_000;
const TIME: Duration = Duration::from_secs(2);

/// Sends messages of `size` bytes and waits for each to come back. Nanoseconds.
pub fn ask(link: &StandardLink, size: u64) -> Result<Histogram<u64>> {
    let pattern = Pattern::new(3, Some(size));
    let mut message = vec![0; size as usize];
    let mut times = out::histogram();
    let end = Instant::now() + TIME;
    for number in 0..WARM_UP + ROUNDS {
        pattern.fill(number, &mut message);
        let asked = Instant::now();
        link.send(&message)?;
        let back = link.recv()?;
        let answered = Instant::now();
        pattern.check(number, &back).map_err(|fault| Failure::new(Exit::Failed, fault))?;
        drop(back);
        if number >= WARM_UP {
            out::note(&mut times, (answered - asked).as_nanos() as u64);
        }
        if answered > end && !times.is_empty() {
            break;
        }
    }
    // An empty message is the end.
    link.send(&[])?;
    Ok(times)
}

/// Sends back what comes.
pub fn answer(link: &StandardLink) -> Result<()> {
    loop {
        let message = link.recv()?;
        if message.is_empty() {
            return Ok(());
        }
        link.send(&message)?;
    }
}
