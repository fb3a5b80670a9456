//! Prints rows as tables, as CSV, and compared with an earlier run.

use crate::case::Kind;
use crate::outcome::Outcome;
use crate::tally::{Facts, Row};
use crate::text::{bytes_rate, nanos, rate, size, table};

/// Tables of all rows, one for each kind of work.
pub fn tables(facts: &Facts) -> String {
    let kinds = Kind::ALL.into_iter().filter_map(|kind| {
        let rows: Vec<&Row> = facts.rows.iter().filter(|row| row.case == kind.name()).collect();
        let table = || if kind.is_timed() { times(&rows) } else { rates(&rows) };
        (!rows.is_empty()).then(|| format!("{}: {}\n{}\n", kind.name(), kind.describe(), table()))
    });
    kinds.collect::<Vec<_>>().join("\n")
}

/// One table of presets, a line for each.
pub fn presets(facts: &Facts) -> String {
    let mut systems: Vec<&str> = facts.rows.iter().map(|row| row.system.as_str()).collect();
    systems.sort_unstable();
    systems.dedup();
    // In the order of measurement.
    systems.sort_by_key(|system| facts.rows.iter().position(|row| row.system == *system));
    let cells = systems.into_iter().map(|system| {
        let of = |kind: Kind, payload: u64| {
            facts.rows.iter().find(|row| {
                (row.system.as_str(), row.case.as_str(), row.payload) == (system, kind.name(), payload)
            })
        };
        let times = |row: Option<&Row>| {
            let times = row.and_then(|row| row.rtt_ns);
            [times.map(|times| nanos(times.p50)), times.map(|times| nanos(times.p99))]
        };
        let rate_of = |payload| of(Kind::ThroughputMpmc, payload).and_then(|row| row.messages_per_second);
        let [slot, pool, rare] =
            [(Kind::Slot, 8), (Kind::Pool, 1024), (Kind::Paced, 8)].map(|(kind, payload)| of(kind, payload));
        let cpu = rare.and_then(|row| row.cpu).map(|share| format!("{:.1} %", 100.0 * share));
        let bytes_of = |payload: u64| rate_of(payload).map(|rate| bytes_rate(rate * payload as f64));
        let rates = [rate_of(8).map(rate), rate_of(1024).map(rate), bytes_of(1 << 20)];
        let figures = times(slot).into_iter().chain(times(pool)).chain(times(rare)).chain([cpu]).chain(rates);
        let figures = figures.map(|figure| figure.unwrap_or_else(|| "-".into()));
        [system.to_owned()].into_iter().chain(figures).collect::<Vec<_>>()
    });
    let times = ["8 B p50", "p99", "1 KiB p50", "p99", "rare p50", "p99", "cpu"];
    let headings = ["preset"].into_iter().chain(times).chain(["of 8 B", "of 1 KiB", "of 1 MiB"]);
    table(headings, 1, cells)
}

/// Explains the columns of [`presets`].
pub fn presets_legend(facts: &Facts) -> String {
    format!(
        "8 B, 1 KIB: round trips. RARE: a round trip of 8 bytes every 5 ms. CPU: the processor time of the receiver in that \
         case. OF 8 B, OF 1 KIB: messages a second, one way. OF 1 MIB: bytes a second in messages of 1 MiB. The median of \
         {} rounds; every preset had a turn in each.",
        facts.rounds
    )
}

/// One table of agreements, a line for each.
pub fn agreements(facts: &Facts) -> String {
    let mut systems: Vec<&str> = Vec::new();
    for row in &facts.rows {
        if !systems.contains(&row.system.as_str()) {
            systems.push(&row.system);
        }
    }
    let cells = systems.into_iter().map(|system| {
        let of = |kind: Kind, payload: u64| {
            facts.rows.iter().find(|row| {
                (row.system.as_str(), row.case.as_str(), row.payload) == (system, kind.name(), payload)
            })
        };
        let ratio =
            |row: Option<&Row>| row.and_then(|row| row.ratio_to_raw).map(|ratio| format!("{ratio:.2}"));
        let trip = of(Kind::Slot, 8);
        let times = trip.and_then(|row| row.rtt_ns);
        let [small, large] = [8, 65536].map(|payload| of(Kind::ThroughputMpmc, payload));
        let each = small.and_then(|row| row.messages_per_second).map(|rate| format!("{:.0} ns", 1e9 / rate));
        let gib = large.and_then(|row| row.messages_per_second);
        let gib = gib.map(|rate| format!("{:.0} ms", 1e3 * GIB / (rate * 65536.0)));
        let figures = [
            times.map(|times| nanos(times.p50)),
            times.map(|times| nanos(times.p99)),
            ratio(trip),
            each,
            ratio(small),
            gib,
            ratio(large),
        ];
        let figures = figures.map(|figure| figure.unwrap_or_else(|| "-".into()));
        [system.to_owned()].into_iter().chain(figures).collect::<Vec<_>>()
    });
    let headings = ["agreed", "8 B p50", "p99", "\u{d7}", "a message", "\u{d7}", "a GiB", "\u{d7}"];
    table(headings, 1, cells)
}

/// Bytes.
const GIB: f64 = (1u64 << 30) as f64;

/// Explains the columns of [`agreements`].
pub fn agreements_legend(facts: &Facts) -> String {
    format!(
        "8 B: round trips. A MESSAGE: the time of a message of 8 bytes, one way. A GIB: the time of a GiB in messages of 64 \
         KiB. \u{d7}: divided by the row that is called link, connection or urgent; after A MESSAGE and A GIB, a ratio of \
         rates. The payload repeats one byte, which is the best case for compression. URGENT, BULK: a message of the most \
         urgent class while bulk messages fill their part of the ring. EQUAL, BULK: both of the same class. Of {} rounds.",
        facts.rounds
    )
}

/// Explains the columns of [`tables`].
pub fn legend(facts: &Facts) -> String {
    let threads = facts.rows.iter().any(|row| row.between.is_some());
    let threads = if threads {
        "\n* between two threads of one process; this system does not work between processes."
    } else {
        ""
    };
    format!(
        "LINES: the fewest cache lines that carry a message; of a round trip, both ways. × RAW: divided by the result of \
         the bare program named in RAW BY, which passes as many lines, in the same round; the median of {} rounds. \
         Times include reading the clock.{threads}",
        facts.rounds
    )
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"))
}

/// A column: its heading, and its cell in a row. Columns without a cell in any row are left out.
type Column<'a> = (&'a str, Box<dyn Fn(&Row) -> Option<String> + 'a>);

fn columns(rows: &[&Row], columns: Vec<Column<'_>>) -> String {
    let used: Vec<_> =
        columns.iter().filter(|(_, cell)| rows.iter().any(|row| cell(row).is_some())).collect();
    let cells = rows.iter().map(|row| used.iter().map(|(_, cell)| cell(row).unwrap_or_else(|| "-".into())));
    table(used.iter().map(|(heading, _)| heading), 1, cells)
}

/// The first columns of all tables.
fn first<'a>() -> Vec<Column<'a>> {
    let name = |row: &Row| format!("{}{}", row.system, if row.between.is_some() { "*" } else { "" });
    vec![
        ("system", Box::new(move |row| Some(name(row)))),
        ("payload", Box::new(|row| Some(size(row.payload)))),
        ("every", Box::new(|row| row.period_us.map(|period| nanos(1000 * period)))),
        ("lines", Box::new(|row| row.lines.map(|lines| lines.to_string()))),
    ]
}

/// The last columns of all tables.
fn last<'a>() -> Vec<Column<'a>> {
    vec![
        ("× raw", Box::new(|row| row.ratio_to_raw.map(|found| ratio(Some(found))))),
        ("× single", Box::new(|row| row.ratio_to_single.map(|found| ratio(Some(found))))),
        ("× hqq", Box::new(|row| row.ratio_to_hqq.map(|found| ratio(Some(found))))),
        ("raw by", Box::new(|row| row.raw.clone())),
    ]
}

fn times(rows: &[&Row]) -> String {
    let mut all = first();
    all.push(("p50", Box::new(|row| row.rtt_ns.map(|times| nanos(times.p50)))));
    all.push(("p99", Box::new(|row| row.rtt_ns.map(|times| nanos(times.p99)))));
    all.push(("p99.9", Box::new(|row| row.rtt_ns.map(|times| nanos(times.p999)))));
    all.push(("p99.99", Box::new(|row| row.rtt_ns.map(|times| nanos(times.p9999)))));
    all.push(("max", Box::new(|row| row.rtt_ns.map(|times| nanos(times.max)))));
    all.push(("cpu", Box::new(|row| row.cpu.map(|share| format!("{:.1} %", 100.0 * share)))));
    all.extend(last());
    columns(rows, all)
}

fn rates(rows: &[&Row]) -> String {
    let mut all = first();
    all.push(("messages", Box::new(|row| row.messages_per_second.map(rate))));
    all.push(("each", Box::new(|row| row.messages_per_second.map(|rate| format!("{:.1} ns", 1e9 / rate)))));
    all.push(("bytes", Box::new(|row| row.bytes_per_second.map(bytes_rate))));
    all.extend(last());
    columns(rows, all)
}

/// All rows as comma-separated values with a heading; a missing value is empty.
///
/// # Errors
/// None are expected.
pub fn csv(facts: &Facts) -> Outcome<String> {
    const HEADING: [&str; 18] = [
        "system",
        "case",
        "payload",
        "period_us",
        "between",
        "lines",
        "p50_ns",
        "p99_ns",
        "p999_ns",
        "p9999_ns",
        "max_ns",
        "messages_per_second",
        "bytes_per_second",
        "cpu",
        "raw",
        "ratio_to_raw",
        "ratio_to_single",
        "ratio_to_hqq",
    ];
    fn cell(value: Option<impl ToString>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADING)?;
    for row in &facts.rows {
        let times = row.rtt_ns;
        let record: [String; HEADING.len()] = [
            row.system.clone(),
            row.case.clone(),
            row.payload.to_string(),
            cell(row.period_us),
            cell(row.between.as_ref()),
            cell(row.lines),
            cell(times.map(|times| times.p50)),
            cell(times.map(|times| times.p99)),
            cell(times.map(|times| times.p999)),
            cell(times.map(|times| times.p9999)),
            cell(times.map(|times| times.max)),
            cell(row.messages_per_second),
            cell(row.bytes_per_second),
            cell(row.cpu),
            cell(row.raw.as_ref()),
            cell(row.ratio_to_raw),
            cell(row.ratio_to_single),
            cell(row.ratio_to_hqq),
        ];
        writer.write_record(record)?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// A table of the rows that are in both `old` and `new`: both results, and both ratios to the bare program, which depend
/// less on the state of the machine.
pub fn compare(old: &Facts, new: &Facts) -> String {
    let key = |row: &Row| (row.system.clone(), row.case.clone(), row.payload, row.period_us);
    let change = |old: Option<f64>, new: Option<f64>| match (old, new) {
        (Some(old), Some(new)) if old > 0.0 => format!("{:+.1} %", 100.0 * (new / old - 1.0)),
        _ => "-".into(),
    };
    let (mut rows, mut without) = (Vec::new(), 0);
    for row in &new.rows {
        let Some(was) = old.rows.iter().find(|was| key(was) == key(row)) else {
            without += 1;
            continue;
        };
        let case = match row.period_us {
            Some(period) => format!("{} every {}", row.case, nanos(1000 * period)),
            None => row.case.clone(),
        };
        rows.push([
            row.system.clone(),
            case,
            size(row.payload),
            was.shown(),
            row.shown(),
            change(was.figure(), row.figure()),
            ratio(was.ratio_to_raw),
            ratio(row.ratio_to_raw),
            change(was.ratio_to_raw, row.ratio_to_raw),
        ]);
    }
    let heading = ["system", "case", "payload", "was", "is", "change", "× raw was", "is", "change"];
    let rest =
        if without > 0 { format!("\n{without} row(s) are not in the earlier run.") } else { String::new() };
    format!("{}{rest}", table(heading, 2, rows))
}

impl Row {
    /// The median time or the rate.
    fn figure(&self) -> Option<f64> {
        let time = self.rtt_ns.map(|times| times.p50 as f64);
        time.or(self.messages_per_second).or(self.bytes_per_second)
    }

    /// The median time or the rate, with its unit.
    fn shown(&self) -> String {
        let time = self.rtt_ns.map(|times| nanos(times.p50));
        let messages = || self.messages_per_second.map(rate);
        let bytes = || self.bytes_per_second.map(bytes_rate);
        time.or_else(messages).or_else(bytes).unwrap_or_else(|| "-".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::tests::sample;

    #[test]
    fn tables_have_what_their_rows_have() {
        let text = tables(&sample());
        assert!(text.contains("slot: ") && text.contains("throughput_spsc: "), "{text}");
        let [slot, spsc] = ["slot: ", "throughput_spsc: "].map(|head| {
            let at = text.find(head).unwrap();
            text[at..].lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>()
        });
        assert_eq!(slot[..5], ["SYSTEM", "PAYLOAD", "LINES", "P50", "P99"]);
        assert_eq!(slot[slot.len() - 4..], ["×", "RAW", "RAW", "BY"]);
        assert_eq!(spsc[..5], ["SYSTEM", "PAYLOAD", "LINES", "MESSAGES", "EACH"]);
        assert!(!text.contains("EVERY") && !text.contains("× HQQ"));
        assert!(legend(&sample()).contains("rounds"));
    }

    #[test]
    fn values_are_separated_by_commas() {
        let text = csv(&sample()).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(lines.len(), 1 + sample().rows.len());
        assert!(lines.iter().all(|line| line.len() == 18), "{text}");
        assert_eq!((lines[0][0], lines[0][6], lines[1][0]), ("system", "p50_ns", "raw"));
    }

    #[test]
    fn an_old_run_is_compared_row_by_row() {
        let (old, mut new) = (sample(), sample());
        new.rows[1].ratio_to_raw = new.rows[1].ratio_to_raw.map(|ratio| 1.5 * ratio);
        new.rows[2].system = "novel".into();
        let text = compare(&old, &new);
        assert!(text.contains("+50.0 %") && text.contains("+0.0 %"), "{text}");
        assert!(text.ends_with("1 row(s) are not in the earlier run."), "{text}");
    }
}
