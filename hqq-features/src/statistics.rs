//! Statistics: the buckets of a latency histogram, and when a sender measures.
//!
//! # Buckets
//!
//! As in an HDR histogram, eight buckets an octave: a bucket's width is at most an eighth of its lowest value, so a latency
//! that is told by its bucket is wrong by at most 12.5 %. Below 16 ns they are 2 ns wide; all that takes 2^39 ns (nine
//! minutes) or longer is in the last.
//!
//! ```
//! use hqq_features::statistics::{bounds_of, bucket_of};
//!
//! let (lowest, highest) = bounds_of(bucket_of(1_000));
//! assert_eq!((lowest, highest), (960, 1023));
//! ```
//!
//! # When to measure
//!
//! A clock costs as much as a message. So a sender counts messages, and looks at the clock only now and then: about four
//! times in a millisecond where messages are dense, ahead of each message where they are rare. At most every
//! [`LEAST_GAP`] it measures.

use std::time::Duration;

/// Buckets of a histogram.
pub const BUCKETS: usize = 288;
/// Below this, nanoseconds, buckets are 2 ns wide.
const FIRST: u64 = 16;
/// From here on all is in the last bucket.
const LAST: u64 = 1 << 39;

/// The bucket that a latency belongs to, whatever it is.
pub const fn bucket_of(ns: u64) -> usize {
    if ns < FIRST {
        return (ns / 2) as usize;
    }
    if ns >= LAST {
        return BUCKETS - 1;
    }
    let octave = ns.ilog2();
    let eighth = (ns >> (octave - 3)) & 7;
    8 + (octave as usize - 4) * 8 + eighth as usize
}

/// The least and the greatest latency of a bucket, nanoseconds. The last one ends with `u64::MAX`.
///
/// # Panics
/// If there is no such bucket.
pub const fn bounds_of(bucket: usize) -> (u64, u64) {
    assert!(bucket < BUCKETS);
    if bucket < 8 {
        return (bucket as u64 * 2, bucket as u64 * 2 + 1);
    }
    let width = 1 << (bucket / 8);
    let lowest = (8 + bucket as u64 % 8) * width;
    (lowest, if bucket == BUCKETS - 1 { u64::MAX } else { lowest + width - 1 })
}

/// Between two measurements at least.
pub const LEAST_GAP: Duration = Duration::from_millis(1);
/// Between two looks at the clock, about.
const LOOKS: Duration = Duration::from_micros(250);
/// Messages between two looks at most: about twenty microseconds' worth of the densest.
pub const MOST: u64 = 1024;

/// When one sender measures. Times are of any clock that does not go back.
#[derive(Debug)]
pub struct Pacer {
    every: u64,
    looked: Option<Duration>,
    measured: Option<Duration>,
}

impl Default for Pacer {
    fn default() -> Self {
        Self { every: 1, looked: None, measured: None }
    }
}

impl Pacer {
    /// The sender looks at the clock: whether it is time to measure. [`every`](Self::every) says when to look again.
    pub fn look(&mut self, now: Duration) -> bool {
        if let Some(looked) = self.looked.replace(now) {
            // Half as many or fewer at once, but not more than twice as many.
            let took = now.saturating_sub(looked).as_nanos().max(1);
            let fit = u128::from(self.every) * LOOKS.as_nanos() / took;
            self.every = u64::try_from(fit).unwrap_or(u64::MAX).clamp(1, (2 * self.every).min(MOST));
        }
        self.measured.is_none_or(|measured| now.saturating_sub(measured) >= LEAST_GAP)
    }

    /// It has measured.
    pub fn measured(&mut self, now: Duration) {
        self.measured = Some(now);
    }

    /// After how many messages to look at the clock again: 1 to [`MOST`].
    pub fn every(&self) -> u64 {
        self.every
    }
}

/// So many in that time, as a rate; `u64::MAX` at most, and 0 in no time.
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

    #[test]
    fn every_latency_has_a_bucket_that_holds_it() {
        let near = |ns: u64| [ns.saturating_sub(1), ns, ns.saturating_add(1)];
        let powers = (0..64).flat_map(|bit| (0..8).map(move |eighth| (1_u64 << bit) | ((eighth << bit) / 8)));
        for ns in powers.chain([0, u64::MAX]).flat_map(near).chain(0..100_000) {
            let (lowest, highest) = bounds_of(bucket_of(ns));
            assert!((lowest..=highest).contains(&ns), "{ns}: {lowest} to {highest}");
            if (FIRST..LAST).contains(&ns) && highest != u64::MAX {
                assert!((highest - lowest) as f64 <= lowest as f64 / 8.0, "{lowest} to {highest}");
            }
        }
    }

    #[test]
    fn buckets_follow_each_other_without_gaps() {
        assert_eq!(bounds_of(0).0, 0);
        for bucket in 0..BUCKETS {
            let (lowest, highest) = bounds_of(bucket);
            assert_eq!((bucket_of(lowest), bucket_of(highest)), (bucket, bucket));
            if bucket + 1 < BUCKETS {
                assert_eq!(bounds_of(bucket + 1).0, highest + 1);
            }
        }
        assert_eq!(bounds_of(BUCKETS - 1), (LAST - (LAST >> 4), u64::MAX));
    }

    /// Sends `count` messages `apart` from each other: looks at the clock, and measurements.
    fn drive(pacer: &mut Pacer, now: &mut Duration, count: u64, apart: Duration) -> (u64, u64) {
        let (mut looks, mut measured, mut left) = (0, 0, 0);
        for _ in 0..count {
            *now += apart;
            if left == 0 {
                looks += 1;
                if pacer.look(*now) {
                    pacer.measured(*now);
                    measured += 1;
                }
                left = pacer.every();
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
        // Slower ones are looked at often again, after a few at the most.
        let (_, measured) = drive(&mut pacer, &mut now, 2000, Duration::from_millis(5));
        assert!(measured > 900, "{measured}");
        let (looks, measured) = drive(&mut pacer, &mut now, 2000, Duration::from_micros(500));
        assert!((999..=1001).contains(&measured) && looks <= 2000, "{looks} {measured}");
    }

    #[test]
    fn rare_messages_are_measured_one_by_one() {
        let (mut pacer, mut now) = (Pacer::default(), Duration::ZERO);
        let (looks, measured) = drive(&mut pacer, &mut now, 100, LEAST_GAP);
        assert_eq!((looks, measured), (100, 100));
        // A clock that stands or goes back does no harm.
        assert!(!pacer.look(now));
        assert!(!pacer.look(Duration::ZERO));
        assert!((1..=MOST).contains(&pacer.every()));
    }

    #[test]
    fn rates_are_what_they_say() {
        assert_eq!(per_second(500, Duration::from_millis(250)), 2000);
        assert_eq!(per_second(1, Duration::ZERO), 0);
        assert_eq!(per_second(u64::MAX, Duration::from_nanos(1)), u64::MAX);
    }
}
