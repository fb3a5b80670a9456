//! Output of the command: lines, JSON, tables, formatted numbers, progress on a terminal.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use hdrhistogram::Histogram;
use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;

pub use hqq_bench::Percentiles;
pub use hqq_bench::text::{bytes_rate, nanos, per_second, rate, size, table};

use crate::exit::{Exit, Failure, Result};

/// Prints text and a newline on standard output. A closed pipe, as after `head`, is not an error.
pub fn line(text: impl std::fmt::Display) -> Result<()> {
    match writeln!(anstream::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::system("writing to standard output", &error))
        }
        _ => Ok(()),
    }
}

/// Prints lines on standard output.
pub fn text(lines: impl AsRef<str>) -> Result<()> {
    line(lines.as_ref().trim_end_matches('\n'))
}

/// Prints a value as JSON on standard output.
pub fn json(facts: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(facts)
        .map_err(|error| Failure::new(Exit::System, format!("writing JSON: {error}")))?;
    line(text)
}

/// Formats text in bold.
pub fn bold(text: impl std::fmt::Display) -> String {
    let style = anstyle::Style::new().bold();
    format!("{style}{text}{style:#}")
}

/// Formats text in green, for success.
pub fn green(text: impl std::fmt::Display) -> String {
    let style = anstyle::AnsiColor::Green.on_default().bold();
    format!("{style}{text}{style:#}")
}

/// Formats text in red, for errors.
pub fn red(text: impl std::fmt::Display) -> String {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    format!("{style}{text}{style:#}")
}

/// A number of bytes, as `1.23 GB`.
pub fn bytes(count: u64) -> String {
    DecimalBytes(count).to_string()
}

/// A number, as `1,234,567`.
pub fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

/// A histogram of nanoseconds that grows as needed.
pub fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three significant digits are allowed")
}

/// Records a time of any length.
#[inline]
pub fn note(times: &mut Histogram<u64>, ns: u64) {
    // Cannot fail: the histogram grows.
    let _ = times.record(ns);
}

/// Draws a histogram, one line for each class, up to the 99.9th percentile. The classes grow by a constant factor.
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

/// Progress on standard error, if that is a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// Progress in bytes, of `total` if that is known.
    pub fn bytes(total: Option<u64>, wanted: bool) -> Self {
        const RATE: &str = "{decimal_bytes} at {decimal_bytes_per_sec}";
        Self::new(total, wanted, RATE, "{decimal_bytes}/{decimal_total_bytes} at {decimal_bytes_per_sec}")
    }

    /// Progress in items, of `total`.
    pub fn things(total: u64) -> Self {
        Self::new(Some(total), true, "", "{human_pos}/{human_len} {msg}")
    }

    /// Progress that is not shown.
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

    /// Sets the text beside the bar.
    pub fn message(&self, text: &'static str) {
        self.0.set_message(text);
    }

    /// Adds `more` to what is done.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.inc(more);
    }

    /// Sets what is done.
    pub fn at(&self, done: u64) {
        self.0.set_position(done);
    }

    /// Removes the progress from the terminal.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }

    /// Replaces the progress by a last line, if it was shown.
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

/// Exit code 0.
pub fn done() -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
