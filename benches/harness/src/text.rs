//! Formats numbers with units, and tables of them.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

/// The size of a payload, as `256 KiB` or `1000 B`.
pub fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

/// A rate of things, as `1.23 M/s`.
pub fn rate(rate: f64) -> String {
    match rate {
        r if r >= 1e6 => format!("{:.2} M/s", r / 1e6),
        r if r >= 1e3 => format!("{:.1} k/s", r / 1e3),
        r => format!("{r:.0} /s"),
    }
}

/// A rate of bytes, as `1.23 GB/s`.
pub fn bytes_rate(rate: f64) -> String {
    match rate {
        r if r >= 1e9 => format!("{:.2} GB/s", r / 1e9),
        r if r >= 1e6 => format!("{:.1} MB/s", r / 1e6),
        r => format!("{:.1} kB/s", r / 1e3),
    }
}

/// `amount` per second. Never infinite, which JSON cannot express.
pub fn per_second(amount: u64, time: Duration) -> f64 {
    amount as f64 / time.as_secs_f64().max(1e-9)
}

/// A time in nanoseconds, as `480 ns` or `12.3 µs`.
pub fn nanos(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// A table with a heading; all columns but the first `texts` hold numbers.
pub fn table<H: AsRef<str>, R: IntoIterator<Item = String>>(
    heading: impl IntoIterator<Item = H>,
    texts: usize,
    rows: impl IntoIterator<Item = R>,
) -> String {
    let mut table = Table::new();
    let heading = heading.into_iter().map(|cell| cell.as_ref().to_uppercase());
    table.load_style(presets::NOTHING).set_header(heading.collect::<Vec<_>>());
    for row in rows {
        table.add_row(row.into_iter().collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
        if column.index >= texts {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(nanos(999), "999 ns");
        assert_eq!(nanos(1_500), "1.5 µs");
        assert_eq!(rate(2_500_000.0), "2.50 M/s");
        assert_eq!(bytes_rate(2.5e9), "2.50 GB/s");
        assert_eq!((size(1 << 18), size(1000)), ("256 KiB".into(), "1000 B".into()));
        assert!(per_second(1, Duration::ZERO).is_finite());
    }

    #[test]
    fn tables_line_up() {
        let rows = [["a".to_owned(), "1".into()], ["long".into(), "1000".into()]];
        assert_eq!(table(["name", "n"], 1, rows), "NAME     N\na        1\nlong  1000");
    }
}
