//! Words of the feature `STATISTICS`, after the counters on the first page.

use crate::sync::{AtomicU64, IN_MEMORY};

/// Metrics of one side: rates of what it sends, and latencies of what it receives. For display only: the peer can write
/// them. All zero unless the link negotiated the feature `STATISTICS`.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct SideMetrics {
    /// Packets per second that this side sent in the last measured interval, without probes.
    pub messages_per_second: AtomicU64,
    /// Payload bytes per second that this side sent in the last measured interval.
    pub bytes_per_second: AtomicU64,
    /// Time of the monotonic clock at which the two rates were stored, nanoseconds. 0 before.
    pub rated_at: AtomicU64,
    /// Probes that this side sent.
    pub probes_sent: AtomicU64,
    /// Probes that this side did not send because the ring was too full.
    pub probes_skipped: AtomicU64,
    /// Messages of this side that were compressed or encrypted.
    pub framed_messages: AtomicU64,
    /// Size of those messages before, bytes.
    pub plain_bytes: AtomicU64,
    /// Size of those messages after, with all headers, bytes.
    pub framed_bytes: AtomicU64,
    /// Sends of this side that waited for credit.
    pub credit_stalls: AtomicU64,
    /// Total time that those sends waited, nanoseconds.
    pub credit_blocked_ns: AtomicU64,
    /// Sends of this side that a rate limit delayed.
    pub over_rate: AtomicU64,
    /// Sum of the latencies in `latency`, nanoseconds.
    pub latency_sum: AtomicU64,
    /// Longest latency in `latency`, nanoseconds.
    pub latency_max: AtomicU64,
    /// Reserved, zero.
    pub reserved: [AtomicU64; 3],
    /// Histogram of the latency of messages to this side, measured by probes: 288 buckets of 32 bits, two in each
    /// word, the lower half first.
    pub latency: [AtomicU64; Self::LATENCY_WORDS],
}

impl SideMetrics {
    /// Number of words of the histogram.
    pub const LATENCY_WORDS: usize = 144;

    /// Makes metrics in ordinary memory, each word by `word`.
    pub fn of(word: impl Fn() -> AtomicU64) -> Self {
        Self {
            messages_per_second: word(),
            bytes_per_second: word(),
            rated_at: word(),
            probes_sent: word(),
            probes_skipped: word(),
            framed_messages: word(),
            plain_bytes: word(),
            framed_bytes: word(),
            credit_stalls: word(),
            credit_blocked_ns: word(),
            over_rate: word(),
            latency_sum: word(),
            latency_max: word(),
            reserved: core::array::from_fn(|_| word()),
            latency: core::array::from_fn(|_| word()),
        }
    }

    /// All words, in the order of their offsets.
    pub fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        let Self {
            messages_per_second,
            bytes_per_second,
            rated_at,
            probes_sent,
            probes_skipped,
            framed_messages,
            plain_bytes,
            framed_bytes,
            credit_stalls,
            credit_blocked_ns,
            over_rate,
            latency_sum,
            latency_max,
            reserved,
            latency,
        } = self;
        let single = [
            messages_per_second,
            bytes_per_second,
            rated_at,
            probes_sent,
            probes_skipped,
            framed_messages,
            plain_bytes,
            framed_bytes,
            credit_stalls,
            credit_blocked_ns,
            over_rate,
            latency_sum,
            latency_max,
        ];
        single.into_iter().chain(reserved).chain(latency)
    }
}

const _: () = assert!(!IN_MEMORY || size_of::<SideMetrics>() == 160 * 8);
