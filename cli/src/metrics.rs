//! The part of `hqq stat` for links that agreed on statistics.

use std::time::Duration;

use hqq::observe::{DirectionMetrics, Latency, Metrics};
use serde_json::{Value, json};

use crate::labels::DIRECTIONS;
use crate::out;

/// The quantiles, with their names in the table and in JSON.
const PARTS: [(f64, &str, &str); 4] =
    [(0.5, "p50", "p50_ns"), (0.9, "p90", "p90_ns"), (0.99, "p99", "p99_ns"), (0.999, "p99.9", "p999_ns")];

/// Nanoseconds as a number: at most 584 years.
fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The age of the rates, if they were measured.
fn age(way: &DirectionMetrics) -> Option<Duration> {
    way.rated_at.map(|at| hqq_sys::cpu::now().saturating_sub(at))
}

/// All metrics, as JSON.
pub fn facts(figures: &Metrics) -> Value {
    let ways = figures.directions.iter().zip(DIRECTIONS);
    let ways = ways.map(|(way, name)| {
        json!({
            "direction": name,
            "latency": latency(&way.latency),
            "messages_per_second": way.messages_per_second,
            "bytes_per_second": way.bytes_per_second,
            "rates_measured_seconds_ago": age(way).map(|age| age.as_secs_f64()),
            "samples_sent": way.probes_sent,
            "samples_skipped": way.probes_skipped,
            "framed_messages": way.framed_messages,
            "plain_bytes": way.plain_bytes,
            "framed_bytes": way.framed_bytes,
            "ratio": way.ratio(),
            "credit_stalls": way.credit_stalls,
            "credit_blocked_ns": ns(way.credit_blocked),
            "over_rate": way.over_rate,
        })
    });
    ways.collect::<Vec<_>>().into()
}

fn latency(latency: &Latency) -> Value {
    let buckets: Vec<_> = latency
        .buckets()
        .map(|(least, most, samples)| json!({"from_ns": ns(least), "to_ns": ns(most), "samples": samples}))
        .collect();
    let mut value = json!({
        "samples": latency.count(),
        "sum_ns": ns(latency.sum()),
        "max_ns": latency.max().map(ns),
        "buckets": buckets,
    });
    for (part, _, name) in PARTS {
        value[name] = latency.quantile(part).map(ns).into();
    }
    value
}

/// All metrics, as a table.
pub fn shown(figures: &Metrics) -> String {
    let row = |name: String, of: &dyn Fn(&DirectionMetrics) -> Option<String>| {
        let [there, back] = [0, 1].map(|way| of(&figures.directions[way]).unwrap_or_else(|| "-".into()));
        [name, there, back]
    };
    let time = |time: Option<Duration>| time.map(|time| out::nanos(ns(time)));
    let mut rows: Vec<_> = PARTS
        .iter()
        .map(|&(part, name, _)| row(format!("latency {name}"), &|way| time(way.latency.quantile(part))))
        .collect();
    rows.extend([
        row("latency max".into(), &|way| time(way.latency.max())),
        row("samples".into(), &|way| Some(out::count(way.latency.count()))),
        row("messages a second".into(), &|way| age(way).map(|_| out::count(way.messages_per_second))),
        row("bytes a second".into(), &|way| age(way).map(|_| out::count(way.bytes_per_second))),
        row("measured ago".into(), &|way| age(way).map(|age| format!("{:.1} s", age.as_secs_f64()))),
        row("compression ratio".into(), &|way| way.ratio().map(|ratio| format!("{ratio:.2}"))),
        row("waits for credit".into(), &|way| Some(out::count(way.credit_stalls))),
        row("time waited for credit".into(), &|way| {
            Some(format!("{:.3} s", way.credit_blocked.as_secs_f64()))
        }),
        row("sends delayed by a rate".into(), &|way| Some(out::count(way.over_rate))),
    ]);
    out::table(["statistics", DIRECTIONS[0], DIRECTIONS[1]], 1, rows)
}
