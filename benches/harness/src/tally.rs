//! The results of the turns, and the rows made from them.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::case::{Case, Kind};

/// The longest time that is recorded, in nanoseconds; longer ones count as this.
const LONGEST: u64 = u32::MAX as u64;

/// Percentiles of times, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of them were shorter.
    pub p50: u64,
    /// 99 of 100 were shorter.
    pub p99: u64,
    /// 999 of 1,000 were shorter.
    pub p999: u64,
    /// 9,999 of 10,000 were shorter.
    pub p9999: u64,
    /// The longest.
    pub max: u64,
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(times: &Histogram<u64>) -> Self {
        let at = |quantile| times.value_at_quantile(quantile);
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), p9999: at(0.9999), max: times.max() }
    }
}

/// The result of one system at one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The name of the system.
    pub system: String,
    /// The name of the kind of work.
    pub case: String,
    /// Bytes of a message, or of one write of a stream.
    pub payload: u64,
    /// Microseconds between two messages on a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_us: Option<u64>,
    /// `threads` if its ends are threads of one process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<String>,
    /// Cache lines that carry each message: of a round trip both ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
    /// Times of round trips, of answers since their message was due, or of setups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ns: Option<Percentiles>,
    /// Messages a second, one way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<f64>,
    /// Bytes a second, one way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
    /// The share of a processor that the receiver used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// The bare program that the row is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// The time or rate divided by that of `raw` in the same round; the median of all rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_to_raw: Option<f64>,
    /// The same against this system's rate with one thread that sends one message at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_to_single: Option<f64>,
    /// The same against `hqq`, or else `hqq-spsc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_to_hqq: Option<f64>,
    /// Times at increasing quantiles, for the picture.
    #[serde(skip)]
    pub curve: Vec<(f64, u64)>,
}

/// The results of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// One row for each system and case.
    pub rows: Vec<Row>,
    /// The model and number of the processors, and the version of the kernel.
    #[serde(default)]
    pub machine: String,
    /// The number of rounds.
    pub rounds: u64,
    /// The processors that the two processes were pinned to; `null` if that was not possible.
    pub pinned: Option<[usize; 2]>,
}

/// The results so far of a system at a case.
pub(crate) struct Tally {
    times: Histogram<u64>,
    /// The median time, or the rate, of each round.
    pub rounds: Vec<f64>,
    cpu: Vec<f64>,
}

impl Tally {
    pub fn new() -> Self {
        let times = Histogram::new_with_bounds(1, LONGEST, 3).expect("these bounds are allowed");
        Self { times, rounds: Vec::new(), cpu: Vec::new() }
    }

    /// Records the single times of a round, and sorts them.
    pub fn note_times(&mut self, times: &mut [u32]) {
        times.sort_unstable();
        for &mut time in &mut *times {
            self.times.saturating_record(u64::from(time).max(1));
        }
        if let Some(&median) = times.get(times.len() / 2) {
            self.rounds.push(f64::from(median.max(1)));
        }
    }

    /// Records the rate of a round.
    pub fn note_rate(&mut self, amount: u64, nanos: u64) {
        self.rounds.push(amount as f64 * 1e9 / nanos.max(1) as f64);
    }

    /// Records the share of a processor that the follower used.
    pub fn note_cpu(&mut self, share: f64) {
        self.cpu.push(share);
    }

    /// Times from the median on, at quantiles whose distance to 1 shrinks by a constant factor.
    fn curve(&self) -> Vec<(f64, u64)> {
        const STEPS: i32 = 12;
        let left = (0..).map(|step: i32| 0.5 * 10f64.powf(f64::from(-step) / f64::from(STEPS)));
        // A single time says nothing about how often it occurs.
        let enough = left.take_while(|left| left * self.times.len() as f64 >= 5.0 && *left >= 0.9e-4);
        enough.map(|left| (1.0 - left, self.times.value_at_quantile(1.0 - left))).collect()
    }

    /// Makes a row without the ratios.
    pub fn row(&self, system: &str, case: Case) -> Row {
        let timed = case.kind.is_timed();
        let rate = median(self.rounds.clone());
        let is_bytes = case.kind == Kind::Stream;
        Row {
            system: system.into(),
            case: case.kind.name().into(),
            payload: case.payload,
            period_us: (case.period_us > 0).then_some(case.period_us),
            between: None,
            lines: None,
            rtt_ns: timed.then(|| Percentiles::from(&self.times)),
            messages_per_second: rate.filter(|_| !timed && !is_bytes),
            bytes_per_second: rate.filter(|_| is_bytes),
            cpu: median(self.cpu.clone()),
            raw: None,
            ratio_to_raw: None,
            ratio_to_single: None,
            ratio_to_hqq: None,
            curve: if timed { self.curve() } else { Vec::new() },
        }
    }
}

/// The median of the ratios of each round: drift between rounds affects both.
pub(crate) fn ratio(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect())
}

/// The middle value, or the mean of the middle two.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    Some(if values.len().is_multiple_of(2) { (values[half - 1] + upper) / 2.0 } else { upper })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Made-up results of a run.
    pub fn sample() -> Facts {
        let row = |name: &str, kind, times: &[u32]| {
            let mut tally = Tally::new();
            tally.note_times(&mut times.to_vec());
            let mut row = tally.row(name, Case::new(kind, 8));
            row.messages_per_second = Some(f64::from(times[0])).filter(|_| !kind.is_timed());
            (row.raw, row.ratio_to_raw, row.lines) = (Some("raw".into()), Some(1.25), Some(2));
            row
        };
        let times: Vec<u32> = (1..=100_000).map(|n| 100 + n / 100).collect();
        let rows = vec![
            row("raw", Kind::Slot, &times),
            row("hqq", Kind::Slot, &times),
            row("hqq-spsc", Kind::ThroughputSpsc, &[90_000_000]),
        ];
        Facts { rows, machine: "a machine".into(), rounds: 3, pinned: Some([0, 1]) }
    }

    #[test]
    fn facts_are_json_and_back() {
        let facts = sample();
        let text = serde_json::to_string(&facts).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["rows"][0]["rtt_ns"]["p50"], facts.rows[0].rtt_ns.unwrap().p50);
        assert_eq!(json["rows"][2]["messages_per_second"], 90e6);
        assert_eq!((&json["rows"][2]["rtt_ns"], &json["rows"][0]["curve"]), (&().into(), &().into()));
        let mut back: Facts = serde_json::from_str(&text).unwrap();
        for (back, row) in back.rows.iter_mut().zip(&facts.rows) {
            back.curve = row.curve.clone();
        }
        assert_eq!(back, facts);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The machine became three times as slow in the second round and recovered.
        let (raw, ours) = ([100.0, 300.0, 100.0], [120.0, 360.0, 110.0]);
        assert_eq!(ratio(&ours, &raw), Some(1.2));
        assert_eq!(ratio(&[], &raw), None);
        assert_eq!(median(vec![1.0, 4.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![f64::NAN, 1.0]), Some(1.0));
    }

    #[test]
    fn rows_say_what_was_measured() {
        let mut tally = Tally::new();
        tally.note_times(&mut [30, 10, 20]);
        let row = tally.row("hqq", Case::new(Kind::Slot, 8));
        assert_eq!(row.rtt_ns.map(|p| (p.p50, p.max)), Some((20, 30)));
        assert_eq!(row.messages_per_second, None);
        let mut tally = Tally::new();
        tally.note_rate(1000, 1_000_000);
        let row = tally.row("hqq", Case::new(Kind::ThroughputSpsc, 8));
        assert_eq!((row.messages_per_second, row.rtt_ns), (Some(1e6), None));
        let row = tally.row("hqq", Case::new(Kind::Stream, 8));
        assert_eq!((row.messages_per_second, row.bytes_per_second), (None, Some(1e6)));
    }

    #[test]
    fn curves_end_where_times_are_few() {
        let mut tally = Tally::new();
        tally.note_times(&mut (1..=10_000).collect::<Vec<u32>>());
        let curve = tally.curve();
        assert!(curve.is_sorted() && curve[0].0 == 0.5 && curve.last().unwrap().0 > 0.999);
        assert!(Tally::new().curve().is_empty());
    }
}
