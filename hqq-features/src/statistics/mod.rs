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
//! [`MIN_GAP`] it measures.

mod buckets;
mod pacer;

pub use buckets::{BUCKETS, bounds_of, bucket_of};
pub use pacer::{MAX_INTERVAL, MIN_GAP, Pacer, per_second};
