//! How long a receiver leaves the ring alone between polls.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};

/// How long a receiver leaves the ring alone between polls. In a stream of messages without answers, a receiver that is
/// faster than the sender meets it in each line, and slows it to the time that a line takes between processors. So it
/// waits until there are more. Where messages are not that dense, or are answered, it polls at once: a message that comes
/// meanwhile would be late.
///
/// A rough figure: threads may overwrite each other's.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// What had been sent, and what had been received, when the last wait began.
    sent: AtomicU64,
    received: AtomicU64,
    /// Polls until the last wait's end.
    polls: AtomicU64,
    /// Index of the patience.
    level: AtomicU64,
}

impl Pace {
    const PATIENCE: [Duration; 5] = [
        Duration::ZERO,
        Duration::from_nanos(400),
        Duration::from_nanos(800),
        Duration::from_nanos(1600),
        Duration::from_nanos(3200),
    ];
    /// A message in that time is dense.
    const DENSE: Duration = Duration::from_nanos(100);
    /// A wait of so few polls ended at once.
    const FEW: u64 = 8;

    /// A wait begins: how long to leave the ring alone, by what has been sent and received so far.
    pub(super) fn patience(&self, sent: u64, received: u64) -> Duration {
        let answered = self.sent.load(Ordering::Relaxed) != sent;
        let burst = received.wrapping_sub(self.received.load(Ordering::Relaxed));
        self.sent.store(sent, Ordering::Relaxed);
        self.received.store(received, Ordering::Relaxed);
        let last = Self::PATIENCE.len() as u64 - 1;
        let level = self.level.load(Ordering::Relaxed).min(last);
        let dense = (Self::PATIENCE[level as usize].as_nanos() / Self::DENSE.as_nanos()) as u64;
        let next = match level {
            _ if answered => 0,
            0 => u64::from(self.polls.load(Ordering::Relaxed) <= Self::FEW),
            _ if burst >= dense => last.min(level + 1),
            _ if burst < dense / 4 => level - 1,
            _ => level,
        };
        self.level.store(next, Ordering::Relaxed);
        Self::PATIENCE[next as usize]
    }

    /// A wait for a message has ended after so many polls.
    pub(super) fn ended(&self, polls: u64) {
        self.polls.store(polls, Ordering::Relaxed);
    }
}
