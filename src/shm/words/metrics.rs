//! The words of the feature statistics, behind the counters on the first page.

use crate::sync::{AtomicU64, IN_MEMORY};

/// What one side keeps of its statistics: of what it sends, and the latency of what it receives. For people; nothing may
/// depend on them. All zero on a link that has not agreed on them.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct SideMetrics {
    /// Packets a second that this side sent of late, probes left out.
    pub messages_per_second: AtomicU64,
    /// Payload bytes a second that this side sent of late.
    pub bytes_per_second: AtomicU64,
    /// When the two were stored: nanoseconds of the monotonic clock. 0 before.
    pub rated_at: AtomicU64,
    /// Probes that this side sent.
    pub probes_sent: AtomicU64,
    /// Probes that this side left out, the ring being too full.
    pub probes_skipped: AtomicU64,
    /// Messages of this side that the layers changed.
    pub framed_messages: AtomicU64,
    /// Their bytes before.
    pub plain_bytes: AtomicU64,
    /// Their bytes behind it, with all headers.
    pub framed_bytes: AtomicU64,
    /// Sends of this side that waited for credit.
    pub credit_stalls: AtomicU64,
    /// How long they waited, nanoseconds.
    pub credit_blocked_ns: AtomicU64,
    /// Sends of this side that a rate held up.
    pub over_rate: AtomicU64,
    /// The sum of all latencies in `latency`, nanoseconds.
    pub latency_sum: AtomicU64,
    /// The longest of them, nanoseconds.
    pub latency_max: AtomicU64,
    /// Reserved, zero.
    pub reserved: [AtomicU64; 3],
    /// How long messages to this side took, by probes: 288 buckets of 32 bits, two a word, the lower half first.
    pub latency: [AtomicU64; Self::LATENCY_WORDS],
}

impl SideMetrics {
    /// Words of the histogram.
    pub const LATENCY_WORDS: usize = 144;

    /// Figures of such words.
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

    /// All words, in order.
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
