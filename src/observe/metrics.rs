//! Metrics of a link that negotiated them: how they are recorded in its region, and read from it.

use std::time::Duration;

use crate::observe::load::load;
use crate::shm::region::Views;
use crate::shm::words::{Role, SideMetrics};
use crate::sync::{AtomicU64, Ordering};
use hqq_features::statistics::{BUCKETS, bounds_of, bucket_of};

/// Metrics of a link, recorded if both ends negotiated statistics. Each word is read once, while both ends may go on.
///
/// ```
/// use std::thread;
/// use std::time::Duration;
/// use hqq::{AdvancedLink, Role, StandardLink};
/// use hqq::advanced::AdvancedOptions;
///
/// let (primary, secondary) = StandardLink::pair()?;
/// let (wanted, soon) = (AdvancedOptions::new().statistics(), Duration::from_secs(5));
/// let other = wanted.clone();
/// let peer = thread::spawn(move || AdvancedLink::wait_for_negotiation(secondary, &other, soon));
/// let primary = AdvancedLink::negotiate(primary, &wanted, soon)?;
/// let secondary = peer.join().unwrap()?;
/// primary.send(b"how long does it take?")?;
/// secondary.recv()?;
/// let metrics = primary.metrics().expect("they have agreed on statistics");
/// let latency = &metrics.sent_by(Role::Primary).latency;
/// assert_eq!(latency.count(), 1);
/// println!("99 of 100 messages took {:?} or less", latency.quantile(0.99).unwrap());
/// # Ok::<(), hqq::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Metrics of the direction from the Primary to the Secondary, and back.
    pub directions: [DirectionMetrics; 2],
}

/// Metrics of one direction. Counts wrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectionMetrics {
    /// Latency of messages from the send to the receive, measured by probes.
    pub latency: Latency,
    /// Packets per second in the last measured interval of at least a tenth of a second, without probes: messages,
    /// chunks of connections and control packets.
    pub messages_per_second: u64,
    /// Payload bytes per second in the same interval.
    pub bytes_per_second: u64,
    /// End of that interval, as a time of the monotonic clock. `None` if none was measured.
    pub rated_at: Option<Duration>,
    /// Probes that the sender sent.
    pub probes_sent: u64,
    /// Probes that the sender did not send because the ring was too full.
    pub probes_skipped: u64,
    /// Messages that were compressed, encrypted or both.
    pub framed_messages: u64,
    /// Size of those messages before, bytes.
    pub plain_bytes: u64,
    /// Size of those messages as they travelled, with all headers, bytes.
    pub framed_bytes: u64,
    /// Sends that waited for credit.
    pub credit_stalls: u64,
    /// Total time that those sends waited.
    pub credit_blocked: Duration,
    /// Sends that a rate limit delayed.
    pub over_rate: u64,
}

/// Histogram of latencies. The width of a bucket is at most an eighth of its lower bound; see
/// [`hqq_features::statistics`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    buckets: [u32; BUCKETS],
    sum: u64,
    max: u64,
}

impl Metrics {
    /// Reads the metrics of a region, whether they were negotiated or not.
    pub(crate) fn read(views: &Views<'_>) -> Self {
        let sides = &views.superblock().metrics;
        Self { directions: [0, 1].map(|way| DirectionMetrics::read(&sides[way], &sides[1 - way])) }
    }

    /// Metrics of the direction in which the end with this role sends.
    pub const fn sent_by(&self, role: Role) -> &DirectionMetrics {
        &self.directions[role.direction()]
    }
}

impl DirectionMetrics {
    fn read(sender: &SideMetrics, receiver: &SideMetrics) -> Self {
        let rated_at = load(&sender.rated_at);
        Self {
            latency: Latency::read(receiver),
            messages_per_second: load(&sender.messages_per_second),
            bytes_per_second: load(&sender.bytes_per_second),
            rated_at: (rated_at > 0).then(|| Duration::from_nanos(rated_at)),
            probes_sent: load(&sender.probes_sent),
            probes_skipped: load(&sender.probes_skipped),
            framed_messages: load(&sender.framed_messages),
            plain_bytes: load(&sender.plain_bytes),
            framed_bytes: load(&sender.framed_bytes),
            credit_stalls: load(&sender.credit_stalls),
            credit_blocked: Duration::from_nanos(load(&sender.credit_blocked_ns)),
            over_rate: load(&sender.over_rate),
        }
    }

    /// Compression ratio: [`plain_bytes`](Self::plain_bytes) over [`framed_bytes`](Self::framed_bytes). `None` while
    /// there were no such messages.
    pub fn ratio(&self) -> Option<f64> {
        (self.framed_bytes > 0).then(|| self.plain_bytes as f64 / self.framed_bytes as f64)
    }
}

impl Latency {
    fn read(side: &SideMetrics) -> Self {
        let mut buckets = [0; BUCKETS];
        for (pair, word) in buckets.chunks_exact_mut(2).zip(&side.latency) {
            let word = load(word);
            pair.copy_from_slice(&[word as u32, (word >> 32) as u32]);
        }
        Self { buckets, sum: load(&side.latency_sum), max: load(&side.latency_max) }
    }

    /// Number of samples.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|&count| u64::from(count)).sum()
    }

    /// Number of samples in the buckets whose upper bound is at most `time`.
    pub fn count_within(&self, time: Duration) -> u64 {
        let within = |&(bucket, _): &(usize, &u32)| u128::from(bounds_of(bucket).1) <= time.as_nanos();
        self.buckets.iter().enumerate().take_while(within).map(|(_, &count)| u64::from(count)).sum()
    }

    /// The latency that the fraction `part` (0 to 1) of the samples does not exceed. It is at most 12.5 % too high,
    /// and never higher than [`max`](Self::max). `None` without samples.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        // The cast makes NaN zero.
        let rank = ((part.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut below = 0;
        let found = self.buckets.iter().position(|&bucket| {
            below += u64::from(bucket);
            below >= rank
        });
        let (lowest, highest) = bounds_of(found?);
        let ns = if (lowest..highest).contains(&self.max) { self.max } else { highest };
        Some(Duration::from_nanos(ns))
    }

    /// Longest latency. `None` without samples.
    pub fn max(&self) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_nanos(self.max))
    }

    /// Sum of all latencies. Wraps.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// Buckets that are not empty: lower and upper bound of the latency, and the number of samples.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, Duration, u32)> + '_ {
        let filled = self.buckets.iter().enumerate().filter(|&(_, &count)| count > 0);
        filled.map(|(bucket, &count)| {
            let (lowest, highest) = bounds_of(bucket);
            (Duration::from_nanos(lowest), Duration::from_nanos(highest), count)
        })
    }
}

/// Most samples of a bucket. It leaves room for threads that add at the same time, so that no addition carries into the
/// neighbouring bucket.
const FULL: u32 = u32::MAX - 0xFFFF;

fn add(word: &AtomicU64, more: u64) {
    word.fetch_add(more, Ordering::Relaxed);
}

/// Recording by a link.
impl SideMetrics {
    /// Records a received probe whose latency was `time`.
    pub fn note_latency(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket_of(ns);
        let (word, shift) = (&self.latency[bucket / 2], 32 * (bucket as u32 % 2));
        if ((load(word) >> shift) as u32) < FULL {
            add(word, 1 << shift);
        }
        add(&self.latency_sum, ns);
        if load(&self.latency_max) < ns {
            self.latency_max.store(ns, Ordering::Relaxed);
        }
    }

    /// Records a message of `plain` bytes that travels as `framed` bytes.
    pub fn note_framed(&self, plain: usize, framed: usize) {
        add(&self.framed_messages, 1);
        add(&self.plain_bytes, plain as u64);
        add(&self.framed_bytes, framed as u64);
    }

    /// Records a send that waited for credit for the time `blocked`.
    pub fn note_credit_stall(&self, blocked: Duration) {
        add(&self.credit_stalls, 1);
        add(&self.credit_blocked_ns, u64::try_from(blocked.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Records a send that a rate limit delayed.
    pub fn note_over_rate(&self) {
        add(&self.over_rate, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side() -> SideMetrics {
        SideMetrics::of(|| AtomicU64::new(0))
    }

    fn ns(time: Option<Duration>) -> u128 {
        time.map_or(0, |time| time.as_nanos())
    }

    #[test]
    fn quantiles_are_of_what_was_noted() {
        let side = side();
        assert_eq!((Latency::read(&side).quantile(0.5), Latency::read(&side).max()), (None, None));
        for latency in (1..=1000).map(Duration::from_micros) {
            side.note_latency(latency);
        }
        let latency = Latency::read(&side);
        assert_eq!((latency.count(), ns(latency.max())), (1000, 1_000_000));
        assert_eq!(latency.sum(), Duration::from_micros(500_500));
        for (part, exact) in [(0.001, 1000), (0.5, 500_000), (0.9, 900_000), (0.999, 999_000)] {
            let told = ns(latency.quantile(part));
            assert!(told >= exact && told <= exact + exact / 8, "{part}: {told}");
        }
        assert_eq!(latency.quantile(1.0), latency.max());
        assert_eq!(latency.buckets().map(|(.., count)| u64::from(count)).sum::<u64>(), 1000);
        let within = latency.count_within(Duration::from_micros(500));
        assert!((430..=500).contains(&within), "{within}");
        assert_eq!(latency.count_within(Duration::MAX), 1000);
        let first = ns(latency.quantile(0.0));
        for part in [-1.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(ns(latency.quantile(part)), first);
        }
        assert_eq!(latency.quantile(f64::INFINITY), latency.max());
    }

    #[test]
    fn a_full_bucket_does_not_reach_its_neighbour() {
        let side = side();
        let (even, odd) = (Duration::from_nanos(16), Duration::from_nanos(18));
        let word = &side.latency[bucket_of(16) / 2];
        word.store(u64::from(FULL - 1), Ordering::Relaxed);
        for _ in 0..3 {
            side.note_latency(even);
        }
        assert_eq!(load(word), u64::from(FULL));
        word.store(u64::MAX, Ordering::Relaxed);
        side.note_latency(even);
        side.note_latency(odd);
        assert_eq!(load(word), u64::MAX);
        side.note_latency(Duration::MAX);
        assert_eq!(load(&side.latency[SideMetrics::LATENCY_WORDS - 1]), 1 << 32);
        assert_eq!(load(&side.latency_max), u64::MAX);
    }

    /// A hostile peer can store any values.
    #[test]
    fn any_words_can_be_read() {
        for value in [1, u64::from(u32::MAX), 1 << 32, i64::MAX as u64, u64::MAX] {
            let words = SideMetrics::of(|| AtomicU64::new(value));
            let metrics = DirectionMetrics::read(&words, &words);
            assert!(metrics.latency.count() > 0 && metrics.ratio() == Some(1.0));
            let parts = [0.0, 0.5, 0.999, 1.0].map(|part| ns(metrics.latency.quantile(part)));
            assert!(parts.is_sorted() && parts[3] <= u64::MAX.into(), "{parts:?}");
        }
    }
}
