//! `hqq demo`: two processes exchange messages and a file, verify all of it, and measure round trips.

mod exchange;
mod file;
mod remains;
mod round_trips;

use std::path::Path;
use std::process::ExitCode;

use hqq::{Options, StandardLink};
use serde::Serialize;

use crate::args::{Demo, DemoSecond};
use crate::exit::{Exit, Failure, Result};
use crate::out::{self, Percentiles, Progress};
use crate::pattern::Pattern;
use crate::second::{self, Second};
use crate::trace::{self, Start};

/// The results of the demonstration. The first keys are documented and must not change.
#[derive(Debug, Serialize)]
struct Facts {
    messages: u64,
    bytes: u64,
    verified: bool,
    rtt_ns: Percentiles,
    messages_per_second: f64,
    bytes_per_second: f64,
    left_behind: Vec<String>,
    exchange: exchange::Exchanged,
    file: file::Streamed,
    round_trips: u64,
}

/// The seeds of the two directions, by the sending process.
const SEEDS: [u64; 2] = [1, 2];

/// Options with buffers for the longest message, and no more of them than fit a cache.
fn options(size: Option<u64>) -> Options {
    const POOL: u64 = 32 << 20;
    let buffer = Pattern::longest(size).next_multiple_of(64).max(1024);
    let most = POOL / buffer;
    let buffers = 1 << most.ilog2();
    Options::new().slots(512).buffers(buffers.clamp(4, 512)).buffer_size(buffer)
}

/// `hqq demo`.
pub fn run(args: &Demo) -> Result<ExitCode> {
    // The kernel finds this program's file, whatever has become of its name.
    let path = args.file.as_deref().unwrap_or(Path::new(second::PROGRAM));
    let file = file::Source::open(path)?;
    let remains = remains::Remains::before();
    let start = Start::now();
    let options = trace::to_file(options(args.size), args.trace.as_deref(), start, true)?;
    let (mut second, link) = Second::start("demo-second", options, |command| {
        command.arg("--messages").arg(args.messages.to_string()).arg("--began").arg(start.began.to_string());
        if let Some(size) = args.size {
            command.arg("--size").arg(size.to_string());
        }
        if let Some(path) = &args.trace {
            command.arg("--trace").arg(path);
        }
    })?;
    let child = second.pid();
    let mut show = Show { json: args.json };
    show.beginning(&link, child)?;

    let progress = Progress::things(args.messages);
    let halves = Halves::of(args.messages);
    progress.message("messages, all checked;");
    let [own, other] = SEEDS.map(|seed| Pattern::new(seed, args.size));
    let exchanged = exchange::run(&link, (&own, halves.there), (&other, halves.back), &progress)
        .map_err(|failure| second.explain(failure, "during the exchange"))?;
    progress.clear();
    show.exchange(args.messages, &exchanged)?;

    let streamed =
        file.stream(&link).map_err(|failure| second.explain(failure, "during the file transfer"))?;
    show.file(&file.name(), &streamed)?;

    let size = args.size.unwrap_or(64);
    let rounds = if args.trace.is_some() { round_trips::TRACED } else { round_trips::ROUNDS };
    let times = round_trips::measure(&link, size, rounds)
        .map_err(|failure| second.explain(failure, "during the round trips"))?;
    let rtt_ns = Percentiles::from(&times);
    show.round_trips(size, &times, &rtt_ns)?;

    drop(link);
    second.end()?;
    drop(file);
    let left_behind = remains.left_behind(child);
    show.left_behind(&left_behind)?;

    let facts = Facts {
        messages: args.messages,
        bytes: exchanged.bytes + 2 * streamed.bytes,
        verified: true,
        rtt_ns,
        messages_per_second: exchanged.messages_per_second,
        bytes_per_second: streamed.zero_copy.bytes_per_second,
        left_behind,
        exchange: exchanged,
        file: streamed,
        round_trips: times.len(),
    };
    if args.json {
        out::json(&facts)?;
    }
    match facts.left_behind.first() {
        Some(first) => Err(Failure::new(Exit::Failed, format!("left behind: {first}"))),
        None => show.end(),
    }
}

/// The second process.
pub fn second(args: &DemoSecond) -> Result<ExitCode> {
    run_second(args).map_err(second::here)?;
    out::done()
}

fn run_second(args: &DemoSecond) -> Result<()> {
    let options = trace::to_file(Options::new(), args.trace.as_deref(), Start::at(args.began), false)?;
    let link = StandardLink::inherited_with(options).map_err(second::unlinked)?;
    let halves = Halves::of(args.messages);
    let [other, own] = SEEDS.map(|seed| Pattern::new(seed, args.size));
    exchange::run(&link, (&own, halves.back), (&other, halves.there), &Progress::none())?;
    file::receive(&link)?;
    round_trips::echo(&link)?;
    match link.recv().err() {
        Some(hqq::Error::Closed) => Ok(()),
        Some(error) => Err(error.into()),
        None => Err(Failure::new(Exit::Failed, "received an unexpected message")),
    }
}

/// The number of messages in each direction.
struct Halves {
    there: u64,
    back: u64,
}

impl Halves {
    fn of(messages: u64) -> Self {
        Self { there: messages.div_ceil(2), back: messages / 2 }
    }
}

/// Prints results as they come in; nothing with `--json`.
struct Show {
    json: bool,
}

impl Show {
    fn line(&self, text: impl std::fmt::Display) -> Result<()> {
        if self.json { Ok(()) } else { out::line(text) }
    }

    fn fact(&self, name: &str, text: impl std::fmt::Display) -> Result<()> {
        self.line(format_args!("{}  {text}", out::bold(format_args!("{name:<11}"))))
    }

    fn beginning(&mut self, link: &StandardLink, child: u32) -> Result<()> {
        let geometry = link.geometry();
        let own = std::process::id();
        self.fact("processes", format_args!("{own} (primary) and {child} (secondary)"))?;
        let buffers = out::size(geometry.buffer_size());
        self.fact(
            "link",
            format_args!(
                "{} slots and {} buffers of {buffers} in each direction",
                geometry.slots(),
                geometry.buffers()
            ),
        )
    }

    fn exchange(&mut self, messages: u64, found: &exchange::Exchanged) -> Result<()> {
        let (messages, bytes) = (out::count(messages), out::bytes(found.bytes));
        self.fact(
            "messages",
            format_args!("{messages} in both directions, {bytes}, in {:.2} s", found.seconds),
        )?;
        self.fact("", "all checked by their receivers: order, length, every byte; none lost or duplicated")?;
        let rate = out::rate(found.messages_per_second);
        self.fact("", format_args!("{rate} messages, {}", out::bytes_rate(found.bytes_per_second)))
    }

    fn file(&mut self, name: &str, found: &file::Streamed) -> Result<()> {
        let name = out::plain(name);
        self.fact("file", format_args!("{name}, {}, sent twice", out::bytes(found.bytes)))?;
        for (way, pass) in [("zero copy ", &found.zero_copy), ("Read, Write", &found.stream)] {
            self.fact(
                "",
                format_args!("{way:<11} {}, hashing included", out::bytes_rate(pass.bytes_per_second)),
            )?;
        }
        self.fact("", format_args!("SHA-256 {} at both ends", found.sha256))
    }

    fn round_trips(
        &mut self,
        size: u64,
        times: &hdrhistogram::Histogram<u64>,
        found: &Percentiles,
    ) -> Result<()> {
        self.fact("round trips", format_args!("{} of {size} bytes", out::count(times.len())))?;
        let Percentiles { p50, p99, p999, max, .. } = *found;
        let [p50, p99, p999, max] = [p50, p99, p999, max].map(out::nanos);
        self.fact("", format_args!("p50 {p50}   p99 {p99}   p99.9 {p999}   max {max}"))?;
        out::draw(times).into_iter().try_for_each(|row| self.fact("", row))
    }

    fn left_behind(&mut self, found: &[String]) -> Result<()> {
        if found.is_empty() {
            return self.fact("left behind", "nothing: no process, descriptor, mapping or socket name");
        }
        found.iter().try_for_each(|what| self.fact("left behind", out::red(out::plain(what))))
    }

    fn end(&mut self) -> Result<ExitCode> {
        self.line(out::green("everything verified"))?;
        out::done()
    }
}
