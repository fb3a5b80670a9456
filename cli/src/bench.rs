//! `hqq bench`: two processes, every case in turns of a few milliseconds, the raw cache line among them.

mod case;
mod processors;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::args::{Bench, BenchSecond, Measure};
use crate::exit::Result;
use crate::out::{self, Percentiles};
use crate::second::{self, Second};

use case::{Case, System};
use wire::{Meeting, Wires, options};

/// How long a case runs before it is another's turn.
const TURN: Duration = Duration::from_millis(4);
/// Round trips or messages of a case's first turn, which does not count.
const WARM_UP: u64 = 100;
/// The most in one turn.
const MOST: u64 = 1 << 20;

/// What was measured.
#[derive(Debug, Serialize)]
struct Facts {
    rows: Vec<Row>,
    rounds: u64,
    /// The processors that the two processes stayed on; `null` if that was not possible.
    pinned: Option<[usize; 2]>,
}

/// One case.
#[derive(Debug, Serialize)]
struct Row {
    system: &'static str,
    case: &'static str,
    payload: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ns: Option<Percentiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages_per_second: Option<f64>,
    ratio_to_raw: f64,
}

/// `hqq bench`.
pub fn run(args: &Bench) -> Result<ExitCode> {
    let longest = args.payload.iter().copied().max().unwrap_or(1);
    let pinned = processors::pair();
    let meeting = Meeting::new(longest)?;
    let (name, memory) = meeting.place();
    let (mut second, link) = Second::start("bench-second", options(longest), |command| {
        command.arg("--link").arg(name).arg("--memory").arg(memory);
        if let Some([_, cpu]) = pinned {
            command.arg("--cpu").arg(cpu.to_string());
        }
    })?;
    let wires = meeting.meet(link).map_err(|failure| second.explain(failure, "at the beginning"))?;
    // Only now: a link made by a process that is tied to one processor takes it for the machine's only one.
    let pinned = pinned.filter(|[cpu, _]| hqq_sys::cpu::pin(*cpu).is_ok());
    if pinned.is_none() {
        anstream::eprintln!(
            "hqq: note: the processes are not tied to two processors; expect figures to vary"
        );
    }
    let rows = measure(args, &wires).map_err(|failure| second.explain(failure, "during the measurement"))?;
    drop(wires);
    second.end()?;
    let facts = Facts { rows, rounds: args.rounds, pinned };
    if args.json {
        out::json(&facts)?;
    } else {
        show(args.measure, &facts)?;
    }
    out::done()
}

/// Runs all cases, round after round.
fn measure(args: &Bench, wires: &Wires) -> Result<Vec<Row>> {
    let mut cases: Vec<Tally> = case::all(&args.payload).into_iter().map(Tally::new).collect();
    let progress = out::Progress::things(args.rounds * cases.len() as u64);
    progress.message("turns;");
    for round in 0..=args.rounds {
        // Every round begins with another case: the later ones are interrupted more often.
        let first = round as usize % cases.len();
        let (later, sooner) = cases.split_at_mut(first);
        for tally in sooner.iter_mut().chain(later) {
            let count = tally.next;
            let took = match args.measure {
                Measure::Latency => wires.ask(&tally.case, count, |ns| {
                    if round > 0 {
                        out::note(&mut tally.times, ns);
                    }
                })?,
                Measure::Throughput => wires.flood(&tally.case, count)?,
            };
            if round > 0 {
                tally.rates.push(out::per_second(tally.case.messages(count, args.measure), took));
                progress.add(1);
            }
            let fits = TURN.as_secs_f64() * out::per_second(count, took);
            tally.next = (fits as u64).clamp(10, MOST);
        }
    }
    progress.clear();
    let raw = cases.iter_mut().find(|tally| tally.case.system == System::Raw).map(|tally| {
        let percentiles = Percentiles::from(&tally.times);
        (percentiles.p50 as f64, tally.median_rate())
    });
    let (raw_time, raw_rate) = raw.unwrap_or_default();
    let rows = cases.iter_mut().map(|tally| {
        let case = tally.case;
        let mut row = Row {
            system: case.system.name(),
            case: case.name(),
            payload: case.payload,
            rtt_ns: None,
            messages_per_second: None,
            ratio_to_raw: 0.0,
        };
        match args.measure {
            Measure::Latency => {
                let percentiles = Percentiles::from(&tally.times);
                row.rtt_ns = Some(percentiles);
                row.ratio_to_raw = percentiles.p50 as f64 / raw_time.max(1.0);
            }
            Measure::Throughput => {
                let rate = tally.median_rate();
                row.messages_per_second = Some(rate);
                row.ratio_to_raw = rate / raw_rate.max(1.0);
            }
        }
        row
    });
    Ok(rows.collect())
}

/// What has been measured of a case so far.
struct Tally {
    case: Case,
    times: Histogram<u64>,
    rates: Vec<f64>,
    /// Round trips or messages of its next turn.
    next: u64,
}

impl Tally {
    fn new(case: Case) -> Self {
        Self { case, times: out::histogram(), rates: Vec::new(), next: WARM_UP }
    }

    fn median_rate(&mut self) -> f64 {
        self.rates.sort_by(f64::total_cmp);
        self.rates.get(self.rates.len() / 2).copied().unwrap_or_default()
    }
}

fn show(measure: Measure, facts: &Facts) -> Result<()> {
    let common = |row: &Row| [row.system.to_owned(), row.case.to_owned(), out::count(row.payload)];
    let ratio = |row: &Row| format!("{:.2}", row.ratio_to_raw);
    let text = match measure {
        Measure::Latency => out::table(
            ["system", "case", "payload", "p50", "p99", "p99.9", "× raw"],
            2,
            facts.rows.iter().filter_map(|row| {
                let [system, case, payload] = common(row);
                let Percentiles { p50, p99, p999, .. } = row.rtt_ns?;
                let [p50, p99, p999] = [p50, p99, p999].map(out::nanos);
                Some([system, case, payload, p50, p99, p999, ratio(row)])
            }),
        ),
        Measure::Throughput => out::table(
            ["system", "case", "payload", "messages", "payload", "× raw"],
            2,
            facts.rows.iter().filter_map(|row| {
                let [system, case, payload] = common(row);
                let messages = row.messages_per_second?;
                let bytes = out::bytes_rate(messages * row.payload as f64);
                Some([system, case, payload, out::rate(messages), bytes, ratio(row)])
            }),
        ),
    };
    out::line(text)?;
    out::line(match measure {
        Measure::Latency => "Round trips, the clock's reading included; × raw compares the medians.",
        Measure::Throughput => "One way, medians of all turns; for raw, a round trip counts as two messages.",
    })
}

/// The second process.
pub fn second(args: &BenchSecond) -> Result<ExitCode> {
    serve(args).map_err(second::here)?;
    out::done()
}

fn serve(args: &BenchSecond) -> Result<()> {
    let wires = Wires::find(&args.link, &args.memory)?;
    if let Some(cpu) = args.cpu {
        // If it cannot, the first process will not either, and says so.
        let _ = hqq_sys::cpu::pin(cpu);
    }
    while let Some((case, measure, count)) = wires.announced()? {
        wires.follow(&case, measure, count)?;
    }
    Ok(())
}
