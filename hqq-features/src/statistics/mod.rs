//! Statistics: the buckets of a latency histogram, and the times at which a sender measures.
//!
//! # Buckets
//!
//! As in an HDR histogram, there are eight buckets per octave. The width of a bucket is at most an eighth of its lowest
//! value, so a latency that is known by its bucket has an error of at most 12.5 %. Below 16 ns buckets are 2 ns wide. The
//! last bucket has all latencies from 2^39 ns (nine minutes).
//!
//! ```
//! use hqq_features::statistics::{bounds_of, bucket_of};
//!
//! let (lowest, highest) = bounds_of(bucket_of(1_000));
//! assert_eq!((lowest, highest), (960, 1023));
//! ```
//!
//! # Measurements
//!
//! Reading a clock costs as much as sending a message. So a [`Pacer`] counts messages and has the clock read only
//! sometimes: about four times per millisecond if messages are frequent, and before each message if they are rare. It
//! measures at most once per [`MIN_GAP`].

mod buckets;
mod pacer;

pub use buckets::{BUCKETS, bounds_of, bucket_of};
pub use pacer::{MAX_INTERVAL, MIN_GAP, Pacer, per_second};
