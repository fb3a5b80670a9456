//! The statistics of a link whose ends have agreed on them: how they are noted in its region, and read from it.

use std::time::Duration;

use crate::observe::load::load;
use crate::shm::region::Views;
use crate::shm::words::{Role, SideMetrics};
use crate::sync::{AtomicU64, Ordering};
use hqq_features::statistics::{BUCKETS, bounds_of, bucket_of};

/// What is kept by the feature statistics, at about one moment.
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
    /// From the Primary to the Secondary, and back.
    pub directions: [DirectionMetrics; 2],
}

/// The statistics of one direction. Counts wrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectionMetrics {
    /// How long messages took from the sender's ring to the receiver's hand, by samples.
    pub latency: Latency,
    /// Packets a second, samples left out, over the last tenth of a second or longer that was measured: messages, chunks of
    /// connections, and the few that control the link.
    pub messages_per_second: u64,
    /// Payload bytes a second in the same time.
    pub bytes_per_second: u64,
    /// When that was: time of the monotonic clock. `None` if it never was.
    pub rated_at: Option<Duration>,
    /// Samples that the sender took.
    pub probes_sent: u64,
    /// Samples that it did not take, the ring being too full.
    pub probes_skipped: u64,
    /// Messages that were compressed, encrypted or both.
    pub framed_messages: u64,
    /// Their bytes before.
    pub plain_bytes: u64,
    /// Their bytes as they travelled, with all headers.
    pub framed_bytes: u64,
    /// Sends that waited for credit.
    pub credit_stalls: u64,
    /// How long they waited.
    pub credit_blocked: Duration,
    /// Sends that were held up by a rate.
    pub over_rate: u64,
}

/// A histogram of latencies, in buckets that are at most an eighth wide; see [`hqq_features::statistics`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    buckets: [u32; BUCKETS],
    sum: u64,
    max: u64,
}

impl Metrics {
    /// Reads what the words of a region say, whether anybody has agreed on it or not.
    pub(crate) fn read(views: &Views<'_>) -> Self {
        let sides = &views.superblock().metrics;
        Self { directions: [0, 1].map(|way| DirectionMetrics::read(&sides[way], &sides[1 - way])) }
    }

    /// The direction that the end with this role sends in.
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

    /// Bytes before for each byte that travelled: over 1 where compression saves some. `None` while there is nothing to
    /// tell.
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

    /// How many samples there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|&count| u64::from(count)).sum()
    }

    /// How many samples surely took no longer than this: those of whole buckets.
    pub fn count_within(&self, time: Duration) -> u64 {
        let within = |&(bucket, _): &(usize, &u32)| u128::from(bounds_of(bucket).1) <= time.as_nanos();
        self.buckets.iter().enumerate().take_while(within).map(|(_, &count)| u64::from(count)).sum()
    }

    /// The latency that this part of the samples, from 0 to 1, do not exceed: at most 12.5 % too long, and never longer than
    /// the longest. `None` without samples.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        // What is no number becomes zero by this.
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

    /// The longest; `None` without samples.
    pub fn max(&self) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_nanos(self.max))
    }

    /// All samples together. Wraps.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// The buckets that are not empty: the least and the greatest latency of each, and how many samples it has.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, Duration, u32)> + '_ {
        let filled = self.buckets.iter().enumerate().filter(|&(_, &count)| count > 0);
        filled.map(|(bucket, &count)| {
            let (lowest, highest) = bounds_of(bucket);
            (Duration::from_nanos(lowest), Duration::from_nanos(highest), count)
        })
    }
}

/// A bucket counts no further: so far below its end that threads which all have seen less do not carry into the next.
const FULL: u32 = u32::MAX - 0xFFFF;

fn add(word: &AtomicU64, more: u64) {
    word.fetch_add(more, Ordering::Relaxed);
}

/// How a side notes its own.
impl SideMetrics {
    /// A message has taken so long.
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

    /// A message of so many bytes travels as so many.
    pub fn note_framed(&self, plain: usize, framed: usize) {
        add(&self.framed_messages, 1);
        add(&self.plain_bytes, plain as u64);
        add(&self.framed_bytes, framed as u64);
    }

    /// A send has waited so long for credit.
    pub fn note_credit_stall(&self, blocked: Duration) {
        add(&self.credit_stalls, 1);
        add(&self.credit_blocked_ns, u64::try_from(blocked.as_nanos()).unwrap_or(u64::MAX));
    }

    /// A send was held up by a rate.
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
        assert_eq!(load(word), FULL.into());
        word.store(u64::MAX, Ordering::Relaxed);
        side.note_latency(even);
        side.note_latency(odd);
        assert_eq!(load(word), u64::MAX);
        side.note_latency(Duration::MAX);
        assert_eq!(load(&side.latency[SideMetrics::LATENCY_WORDS - 1]), 1 << 32);
        assert_eq!(load(&side.latency_max), u64::MAX);
    }

    /// The peer may write what it likes.
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
