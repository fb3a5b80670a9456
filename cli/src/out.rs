//! What the command prints: facts as JSON, tables, numbers for people, progress on a terminal.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::exit::{Exit, Failure, Result};

/// Prints text and a newline on standard output. A reader that has seen enough, as `head`, is no error.
pub fn line(text: impl std::fmt::Display) -> Result<()> {
    match writeln!(anstream::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::system("writing to standard output", &error))
        }
        _ => Ok(()),
    }
}

/// Prints facts as JSON on standard output.
pub fn json(facts: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(facts)
        .map_err(|error| Failure::new(Exit::System, format!("writing JSON: {error}")))?;
    line(text)
}

/// A heading, or whatever is to stand out.
pub fn bold(text: impl std::fmt::Display) -> String {
    let style = anstyle::Style::new().bold();
    format!("{style}{text}{style:#}")
}

/// Good news.
pub fn green(text: impl std::fmt::Display) -> String {
    let style = anstyle::AnsiColor::Green.on_default().bold();
    format!("{style}{text}{style:#}")
}

/// Bad news.
pub fn red(text: impl std::fmt::Display) -> String {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    format!("{style}{text}{style:#}")
}

/// A number of bytes, as `1.23 GB`.
pub fn bytes(count: u64) -> String {
    DecimalBytes(count).to_string()
}

/// The size of a buffer, as `256 KiB` or `1000 B`.
pub fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

/// A number, as `1,234,567`.
pub fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

/// A rate of bytes, as `1.23 GB/s`.
pub fn bytes_rate(rate: f64) -> String {
    format!("{}/s", bytes(rate as u64))
}

/// A rate of things, as `1.23 M/s`.
pub fn rate(rate: f64) -> String {
    match rate {
        r if r >= 1e6 => format!("{:.2} M/s", r / 1e6),
        r if r >= 1e3 => format!("{:.1} k/s", r / 1e3),
        r => format!("{r:.0} /s"),
    }
}

/// How much there is of something a second. Never infinite, since JSON has no word for that.
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

/// Percentiles of round-trip times, nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    /// Half of them were shorter.
    pub p50: u64,
    /// 99 of 100 were shorter.
    pub p99: u64,
    /// 999 of 1000 were shorter.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(times: &Histogram<u64>) -> Self {
        let at = |quantile| times.value_at_quantile(quantile);
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: times.max() }
    }
}

/// A histogram for nanoseconds that grows as it must.
pub fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three significant digits are allowed")
}

/// Notes a time, whatever its length.
#[inline]
pub fn note(times: &mut Histogram<u64>, ns: u64) {
    // Cannot fail: the histogram grows.
    let _ = times.record(ns);
}

/// Draws a histogram, a line a class, up to the 99.9th percentile; the classes grow by the same factor.
pub fn draw(times: &Histogram<u64>) -> Vec<String> {
    const CLASSES: i32 = 8;
    const WIDTH: u64 = 40;
    let low = times.min().max(1) as f64;
    let high = (times.value_at_quantile(0.999) as f64).max(low * 1.1);
    let step = (high / low).powf(1.0 / f64::from(CLASSES));
    let bounds: Vec<u64> = (1..=CLASSES).map(|i| (low * step.powi(i)).ceil() as u64).collect();
    let mut counts = vec![0; bounds.len() + 1];
    for value in times.iter_recorded() {
        let class = bounds.partition_point(|&bound| bound < value.value_iterated_to());
        counts[class] += value.count_at_value();
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let names = bounds.iter().map(|&bound| format!("up to {}", nanos(bound))).chain(["more".into()]);
    let rows = names.zip(counts).map(|(name, number)| {
        let bar = "#".repeat((number * WIDTH).div_ceil(most) as usize);
        format!("{name:>14} |{bar:<40} {}", count(number))
    });
    rows.collect()
}

/// A table with a heading; all columns but the first `texts` hold numbers.
pub fn table<const N: usize>(
    heading: [&str; N],
    texts: usize,
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heading.map(str::to_uppercase));
    for row in rows {
        table.add_row(row);
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

/// Progress on standard error, if that is a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows `done` of `total` bytes, or only how many if the total is unknown.
    pub fn bytes(total: Option<u64>, wanted: bool) -> Self {
        const RATE: &str = "{decimal_bytes} at {decimal_bytes_per_sec}";
        Self::new(total, wanted, RATE, "{decimal_bytes}/{decimal_total_bytes} at {decimal_bytes_per_sec}")
    }

    /// Shows how many of `total` things are done.
    pub fn things(total: u64) -> Self {
        Self::new(Some(total), true, "", "{human_pos}/{human_len} {msg}")
    }

    /// Shows nothing.
    pub fn none() -> Self {
        Self(ProgressBar::hidden())
    }

    fn new(total: Option<u64>, wanted: bool, open: &str, closed: &str) -> Self {
        if !wanted || !io::stderr().is_terminal() {
            return Self::none();
        }
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), format!("[{{bar:30}}] {closed} {{eta}} left")),
            None => (ProgressBar::no_length(), format!("{{spinner}} {open}, {{elapsed}}")),
        };
        let style = ProgressStyle::with_template(&template);
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")))
    }

    /// Says what is being done.
    pub fn message(&self, text: &'static str) {
        self.0.set_message(text);
    }

    /// So much more is done.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.inc(more);
    }

    /// Removes it from the terminal.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }

    /// Replaces it by a last line, if it was to be seen at all.
    pub fn end(&self, text: impl std::fmt::Display) {
        let seen = !self.0.is_hidden();
        self.clear();
        if seen {
            anstream::eprintln!("{text}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if !self.0.is_finished() {
            self.clear();
        }
    }
}

/// All is well.
pub fn done() -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(nanos(999), "999 ns");
        assert_eq!(nanos(1_500), "1.5 µs");
        assert_eq!(rate(2_500_000.0), "2.50 M/s");
        assert_eq!((size(1 << 18), size(1000)), ("256 KiB".into(), "1000 B".into()));
        assert!(per_second(1, Duration::ZERO).is_finite());
    }

    #[test]
    fn every_value_is_drawn() {
        let mut times = histogram();
        for value in 1..=10_000 {
            note(&mut times, value);
        }
        let rows = draw(&times);
        let drawn: u64 =
            rows.iter().map(|r| r.rsplit(' ').next().unwrap().replace(',', "").parse::<u64>().unwrap()).sum();
        assert_eq!(drawn, 10_000);
        assert!(rows.len() < 12);
        assert!(!draw(&histogram()).is_empty());
    }

    #[test]
    fn tables_line_up() {
        let text = table(["name", "n"], 1, [["a".into(), "1".into()], ["long".into(), "1000".into()]]);
        assert_eq!(text, "NAME     N\na        1\nlong  1000");
    }
}
