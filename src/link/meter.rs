//! What one end of a link measures of what it sends.

use std::sync::Mutex;
use std::time::Duration;

use crate::shm::region::Region;
use crate::sync::{AtomicU64, Ordering};
use hqq_features::statistics::{Pacer, per_second};

/// What one end measures, if it does.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) on: AtomicU64,
    /// Where the ring stands when it is time to look at the clock; as far off as can be where nothing is measured.
    pub(super) due: AtomicU64,
    pub(super) sender: Mutex<Sender>,
}

#[derive(Debug, Default)]
pub(super) struct Sender {
    pub(super) pacer: Pacer,
    pub(super) rates: Rates,
}

/// So many messages nobody sends.
pub(super) const NEVER: u64 = 1 << 62;

impl Meter {
    /// One that is off, in a ring that stands there.
    pub(super) fn new(mark: u64) -> Self {
        let due = AtomicU64::new(mark.wrapping_add(NEVER));
        Self { on: AtomicU64::new(0), due, sender: Mutex::default() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed) != 0
    }

    /// The ring stands there, and somebody had to be woken: messages have become rare, if they were dense before.
    pub(super) fn hurry(&self, mark: u64) {
        let due = self.due.load(Ordering::Relaxed);
        let left = due.wrapping_sub(mark) as i64;
        if left > 0 && self.is_on() {
            self.due.store(due.wrapping_sub(left as u64 / 2), Ordering::Relaxed);
        }
    }
}

/// Rates over about a tenth of a second. Payload is counted in one word a slot: they are added up little by little, so that
/// nobody is held up by a long ring.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// The next word to be added, and what came of those before; `None` between two sums.
    at: Option<usize>,
    sum: u64,
    began: Duration,
    /// Probes since the last sum was complete.
    pub(super) probes: u64,
    last: Option<Whole>,
}

/// What had been sent when a sum was complete.
#[derive(Clone, Copy, Debug)]
struct Whole {
    when: Duration,
    mark: u64,
    bytes: u64,
}

impl Rates {
    /// From the beginning of one sum to that of the next, at least.
    const SPAN: Duration = Duration::from_millis(100);
    /// Words that are added up at once.
    const PIECE: usize = 1024;

    /// Goes on. Messages a second and bytes a second, if there are new ones.
    pub(super) fn go_on(&mut self, region: &Region<'_>, now: Duration) -> Option<[u64; 2]> {
        if self.at.is_none() {
            if self.last.is_some() && now.saturating_sub(self.began) < Self::SPAN {
                return None;
            }
            (self.at, self.sum, self.began) = (Some(0), 0, now);
        }
        let words = region.out().byte_counters;
        let at = self.at.unwrap_or(0).min(words.len());
        let end = words.len().min(at + Self::PIECE);
        for word in &words[at..end] {
            self.sum = self.sum.wrapping_add(word.load(Ordering::Relaxed));
        }
        self.at = Some(end);
        if end < words.len() {
            return None;
        }
        self.at = None;
        let probes = std::mem::take(&mut self.probes);
        let whole = Whole { when: now, mark: region.sent_so_far(), bytes: self.sum };
        let last = self.last.replace(whole)?;
        let time = now.saturating_sub(last.when);
        let messages = whole.mark.wrapping_sub(last.mark).saturating_sub(probes);
        Some([messages, whole.bytes.wrapping_sub(last.bytes)].map(|count| per_second(count, time)))
    }
}
