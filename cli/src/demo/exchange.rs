//! The exchange of messages in both directions at once; every message is checked.

use std::time::Instant;

use hqq::StandardLink;
use serde::Serialize;

use crate::exit::{Exit, Failure, Result};
use crate::out::{self, Progress};
use crate::pattern::Pattern;

/// Messages that an end sends before it receives.
const BURST: u64 = 128;

/// The results of the exchange.
#[derive(Debug, Serialize)]
pub struct Exchanged {
    /// Payload bytes of both directions.
    pub bytes: u64,
    /// Duration.
    pub seconds: f64,
    /// Both directions together.
    pub messages_per_second: f64,
    /// Both directions together.
    pub bytes_per_second: f64,
}

/// Sends `there` messages, receives `back` messages, and checks each one received.
///
/// Both ends alternate between a burst of sends and a burst of receives. They cannot block each other: an end sends only
/// after it has received the burst before, so at most one burst is in flight, and the ring has room for it.
pub fn run(
    link: &StandardLink,
    (own, there): (&Pattern, u64),
    (other, back): (&Pattern, u64),
    progress: &Progress,
) -> Result<Exchanged> {
    let burst = BURST.min(u64::from(link.geometry().buffers()) / 2);
    let began = Instant::now();
    let (mut sent, mut received, mut bytes) = (0, 0, 0);
    while sent < there || received < back {
        let before = sent + received;
        let until = there.min(sent + burst);
        while sent < until {
            let mut loan = link.loan(own.len(sent))?;
            own.fill(sent, &mut loan);
            bytes += loan.len() as u64;
            loan.send()?;
            sent += 1;
        }
        let until = back.min(received + burst);
        while received < until {
            let message = link.recv()?;
            other.check(received, &message).map_err(|fault| Failure::new(Exit::Failed, fault))?;
            bytes += message.len() as u64;
            received += 1;
        }
        progress.add(sent + received - before);
    }
    let time = began.elapsed();
    Ok(Exchanged {
        bytes,
        seconds: time.as_secs_f64(),
        messages_per_second: out::per_second(sent + received, time),
        bytes_per_second: out::per_second(bytes, time),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hqq::Options;

    fn pair() -> (StandardLink, StandardLink) {
        StandardLink::pair_with(Options::new().slots(8).buffers(8).buffer_size(256)).unwrap()
    }

    #[test]
    fn both_ends_count_the_same() {
        let (a, b) = pair();
        let (first, second) = (Pattern::new(1, None), Pattern::new(2, None));
        std::thread::scope(|scope| {
            let far = scope.spawn(|| run(&b, (&second, 100), (&first, 101), &Progress::none()).unwrap());
            let near = run(&a, (&first, 101), (&second, 100), &Progress::none()).unwrap();
            assert_eq!(near.bytes, far.join().unwrap().bytes);
        });
    }

    #[test]
    fn a_wrong_message_is_a_fault() {
        let (a, b) = pair();
        let pattern = Pattern::new(1, Some(64));
        let mut message = [0; 64];
        pattern.fill(1, &mut message);
        a.send(&message).unwrap();
        let failure = run(&b, (&pattern, 0), (&pattern, 5), &Progress::none()).unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.message.contains("expected message 0, received 1"), "{}", failure.message);
    }
}
