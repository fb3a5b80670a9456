//! Output of the command: lines, JSON, tables, formatted numbers, progress on a terminal.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use hdrhistogram::Histogram;
use hqq_sys::poll;
use hqq_sys::streams::{self, Stream};
use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;

pub use hqq_bench::Percentiles;
pub use hqq_bench::text::{bytes_rate, nanos, per_second, rate, size, table};

use crate::exit::{Exit, Failure, Result};

/// Standard output without a buffer.
///
/// What is written is written: the standard library's own type takes a descriptor that cannot be written to for a success,
/// and a stream that was closed at the start for the null device.
#[derive(Debug)]
pub struct Stdout(File);

impl Stdout {
    /// Opens standard output.
    pub fn open() -> Result<Self> {
        let opened = streams::open(Stream::Output).map(|fd| Self(fd.into()));
        opened.map_err(|error| {
            Failure::system("standard output is closed or not open for writing", &error)
                .hint("redirect it to a file or a pipe, or to /dev/null if it is not wanted")
        })
    }
}

impl Write for Stdout {
    /// Waits for room if another program has made the stream non-blocking.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll::writable(self.0.as_fd(), None)?;
                }
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fails if nothing can be written to standard output, so that a command says so ahead of its work.
pub fn check() -> Result<()> {
    Stdout::open().map(drop)
}

/// Prints text and a newline on standard output. A closed pipe, as after `head`, is not an error.
pub fn line(text: impl Display) -> Result<()> {
    exactly(&coloured(format!("{text}\n"), AutoStream::choice(&io::stdout())))
}

/// Prints text for programs on standard output, without a change. Colours are not removed, as they are none, and the names
/// of others may look like them.
pub fn exactly(text: &str) -> Result<()> {
    match Stdout::open()?.write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::system("writing to standard output", &error))
        }
        _ => Ok(()),
    }
}

/// Prints an error on standard error; returns the exit code.
pub fn report(failure: &Failure) -> ExitCode {
    use anstyle::{AnsiColor, Style};
    let (red, blue) = (AnsiColor::Red.on_default().bold(), AnsiColor::Cyan.on_default());
    let reset = Style::new();
    // Names of others may be part of both.
    note(format_args!("{red}hqq: error:{reset:#}{red:#} {}", plain(&failure.message)));
    if let Some(hint) = &failure.hint {
        note(format_args!("{blue}hint:{blue:#} {}", plain(hint)));
    }
    ExitCode::from(failure.exit as u8)
}

/// Prints text and a newline on standard error. If that fails, the text is lost, and nothing else: a message must not
/// replace the result that it is about.
pub fn note(text: impl Display) {
    let text = coloured(format!("{text}\n"), AutoStream::choice(&io::stderr()));
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Removes the colours from a text if they are not wanted.
fn coloured(text: String, choice: ColorChoice) -> String {
    if choice == ColorChoice::Never { strip_str(&text).to_string() } else { text }
}

/// Text of others in printable characters: names of links and processes, paths. Each other character is replaced by its
/// escape sequence, so the text keeps to its line and gives a terminal no orders.
pub fn plain(text: impl AsRef<str>) -> String {
    let escaped = text.as_ref().chars().map(|c| match c {
        '\\' | '"' | '\'' => c.to_string(),
        c => c.escape_debug().to_string(),
    });
    escaped.collect()
}

/// Prints a value as JSON on standard output.
pub fn json(facts: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(facts)
        .map_err(|error| Failure::new(Exit::System, format!("writing JSON: {error}")))?;
    exactly(&(printable(&text) + "\n"))
}

/// Escapes what a terminal would obey in JSON: serde_json leaves it alone from U+007F on. Such characters are in strings
/// only.
fn printable(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\u{7f}' || c.escape_debug().len() == 1 {
            text.push(c);
        } else {
            text.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

/// Formats text in bold.
pub fn bold(text: impl Display) -> String {
    let style = anstyle::Style::new().bold();
    format!("{style}{text}{style:#}")
}

/// Formats text in green, for success.
pub fn green(text: impl Display) -> String {
    let style = anstyle::AnsiColor::Green.on_default().bold();
    format!("{style}{text}{style:#}")
}

/// Formats text in red, for errors.
pub fn red(text: impl Display) -> String {
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
pub fn record(times: &mut Histogram<u64>, ns: u64) {
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
    pub fn end(&self, text: impl Display) {
        let seen = !self.0.is_hidden();
        self.clear();
        if seen {
            note(text);
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

/// Prints what clap says: help and version on standard output, errors on standard error.
pub fn clap(said: &clap::Error) -> Result<ExitCode> {
    let text = said.render().ansi().to_string();
    let text = text.trim_end_matches('\n');
    if said.use_stderr() {
        note(text);
        return Ok(ExitCode::from(Exit::Usage as u8));
    }
    line(text)?;
    done()
}

/// Exit code 0.
pub fn done() -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_gives_no_orders() {
        let name = "a\u{1b}[2J\nb\r\u{9b}1m\u{7f}\u{202e}\t\0 'c' \"d\" \\ \u{e4}\u{1f600}";
        let shown = r#"a\u{1b}[2J\nb\r\u{9b}1m\u{7f}\u{202e}\t\0 'c' "d" \ ä😀"#;
        assert_eq!(plain(name), shown);
        assert_eq!(plain(shown), shown);
        let json = printable(&serde_json::to_string_pretty(&[name]).unwrap());
        assert!(json.chars().all(|c| c == '\n' || plain(c.to_string()) == c.to_string()), "{json}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [name]);
    }

    #[test]
    fn every_value_is_drawn() {
        let mut times = histogram();
        for value in 1..=10_000 {
            record(&mut times, value);
        }
        let rows = draw(&times);
        let drawn: u64 =
            rows.iter().map(|r| r.rsplit(' ').next().unwrap().replace(',', "").parse::<u64>().unwrap()).sum();
        assert_eq!(drawn, 10_000);
        assert!(rows.len() < 12);
        assert!(!draw(&histogram()).is_empty());
    }
}
