//! The buckets of a histogram.

/// The number of buckets of a histogram.
pub const BUCKETS: usize = 288;
/// Buckets below this many nanoseconds are 2 ns wide.
const FIRST: u64 = 16;
/// The last bucket has all latencies from this many nanoseconds.
const LAST: u64 = 1 << 39;

/// The index of the bucket of a latency of `ns` nanoseconds.
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

/// The least and the greatest latency of the bucket with the index `bucket`, in nanoseconds. The last bucket ends with
/// `u64::MAX`.
///
/// # Panics
/// If `bucket` is not less than [`BUCKETS`].
pub const fn bounds_of(bucket: usize) -> (u64, u64) {
    assert!(bucket < BUCKETS);
    if bucket < 8 {
        return (bucket as u64 * 2, bucket as u64 * 2 + 1);
    }
    let width = 1 << (bucket / 8);
    let lowest = (8 + bucket as u64 % 8) * width;
    (lowest, if bucket == BUCKETS - 1 { u64::MAX } else { lowest + width - 1 })
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
}
