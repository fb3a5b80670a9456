//! When a sender measures, and rates.

use std::time::Duration;

/// The least time between two measurements.
pub const MIN_GAP: Duration = Duration::from_millis(1);
/// The usual time between two readings of the clock.
const CLOCK_GAP: Duration = Duration::from_micros(250);
/// The most messages between two readings of the clock: about twenty microseconds at the highest rate.
pub const MAX_INTERVAL: u64 = 1024;

/// Decides when a sender measures. Times are of any monotonic clock.
#[derive(Debug)]
pub struct Pacer {
    every: u64,
    clock_read: Option<Duration>,
    measured: Option<Duration>,
}

impl Default for Pacer {
    fn default() -> Self {
        Self { every: 1, clock_read: None, measured: None }
    }
}

impl Pacer {
    /// Whether to measure at the time `now`. The sender calls it when it reads the clock, and reads it again after
    /// [`interval`](Self::interval) messages.
    pub fn is_due(&mut self, now: Duration) -> bool {
        if let Some(clock_read) = self.clock_read.replace(now) {
            // The interval shrinks at once and at most doubles.
            let took = now.saturating_sub(clock_read).as_nanos().max(1);
            let fit = u128::from(self.every) * CLOCK_GAP.as_nanos() / took;
            self.every = u64::try_from(fit).unwrap_or(u64::MAX).clamp(1, (2 * self.every).min(MAX_INTERVAL));
        }
        self.measured.is_none_or(|measured| now.saturating_sub(measured) >= MIN_GAP)
    }

    /// Records a measurement at the time `now`.
    pub fn measured(&mut self, now: Duration) {
        self.measured = Some(now);
    }

    /// Messages until the clock is read again: 1 to [`MAX_INTERVAL`].
    pub fn interval(&self) -> u64 {
        self.every
    }
}

/// The rate of `count` events in `time`, per second: at most `u64::MAX`, and 0 if `time` is zero.
pub fn per_second(count: u64, time: Duration) -> u64 {
    let ns = time.as_nanos();
    if ns == 0 {
        return 0;
    }
    u64::try_from(u128::from(count) * 1_000_000_000 / ns).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `count` messages `apart` from each other: looks at the clock, and measurements.
    fn drive(pacer: &mut Pacer, now: &mut Duration, count: u64, apart: Duration) -> (u64, u64) {
        let (mut looks, mut measured, mut left) = (0, 0, 0);
        for _ in 0..count {
            *now += apart;
            if left == 0 {
                looks += 1;
                if pacer.is_due(*now) {
                    pacer.measured(*now);
                    measured += 1;
                }
                left = pacer.interval();
            }
            left -= 1;
        }
        (looks, measured)
    }

    #[test]
    fn dense_messages_are_measured_a_thousand_times_a_second() {
        let (mut pacer, mut now) = (Pacer::default(), Duration::ZERO);
        let (looks, measured) = drive(&mut pacer, &mut now, 10_000_000, Duration::from_nanos(100));
        assert!((800..=1001).contains(&measured), "{measured}");
        assert!(looks < 10_000_000 / 1000, "{looks}");
        // Slower ones are clock_read at often again, after a few at the most.
        let (_, measured) = drive(&mut pacer, &mut now, 2000, Duration::from_millis(5));
        assert!(measured > 900, "{measured}");
        let (looks, measured) = drive(&mut pacer, &mut now, 2000, Duration::from_micros(500));
        assert!((999..=1001).contains(&measured) && looks <= 2000, "{looks} {measured}");
    }

    #[test]
    fn rare_messages_are_measured_one_by_one() {
        let (mut pacer, mut now) = (Pacer::default(), Duration::ZERO);
        let (looks, measured) = drive(&mut pacer, &mut now, 100, MIN_GAP);
        assert_eq!((looks, measured), (100, 100));
        // A clock that stands or goes back does no harm.
        assert!(!pacer.is_due(now));
        assert!(!pacer.is_due(Duration::ZERO));
        assert!((1..=MAX_INTERVAL).contains(&pacer.interval()));
    }

    #[test]
    fn rates_are_what_they_say() {
        assert_eq!(per_second(500, Duration::from_millis(250)), 2000);
        assert_eq!(per_second(1, Duration::ZERO), 0);
        assert_eq!(per_second(u64::MAX, Duration::from_nanos(1)), u64::MAX);
    }
}
