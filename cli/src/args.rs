//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand};
use hqq::Options;
use hqq::features::compress::Codec;
use hqq::features::qos::{Class, Rate, TrafficClass};
use hqq_bench::{Case, Kind};

use crate::exit::CODES;

/// Bytes of a buffer: large enough that system calls do not count, small enough that a few of them stay in a
/// processor's second-level cache.
const BUFFER_SIZE: u64 = 256 * 1024;
/// Buffers each way.
const BUFFERS: u32 = 4;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Move data between two processes through shared memory, without a copy and without a system call while both
/// are awake.
#[derive(Debug, Parser)]
#[command(name = "hqq", version, styles = STYLES, after_help = CODES, max_term_width = 100)]
#[command(propagate_version = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a second process, move messages and a file, check everything, and measure
    #[command(after_help = DEMO_HELP)]
    Demo(Demo),
    /// Send standard input to a waiting `hqq recv`
    #[command(after_help = SEND_HELP)]
    Send(Send),
    /// Receive what `hqq send` sends, and write it to standard output
    #[command(after_help = RECV_HELP)]
    Recv(Recv),
    /// Measure round trips or messages a second between two processes
    #[command(after_help = BENCH_HELP)]
    Bench(Bench),
    /// List the links of this machine
    #[command(after_help = LS_HELP)]
    Ls(Ls),
    /// Show the counters of a link, and latencies and rates if it keeps them
    #[command(after_help = STAT_HELP)]
    Stat(Stat),
    /// Verify every control word of a link, and say who holds which slots and buffers
    #[command(after_help = CHECK_HELP)]
    Check(Which),
    /// The second process of the demonstration
    #[command(hide = true)]
    DemoSecond(DemoSecond),
    /// The second process of a measurement
    #[command(hide = true)]
    BenchSecond,
}

const DEMO_HELP: &str = "\
Examples:
  hqq demo
  hqq demo --messages 100000 --size 4096
  hqq demo --file big.iso --json
  hqq demo --messages 20 --trace packets.txt && sort -n packets.txt

In the JSON, messages_per_second is that of the messages, bytes_per_second that of the file without
a copy, hashing at both ends included; bytes is the payload of both. A file of packets is in order
once it has been sorted by its first column, microseconds since the start.

Exit code 0 means that everything was verified and nothing is left behind, 1 that it was not,
4 that the second process died. `hqq --help` lists all codes.";

const SEND_HELP: &str = "\
Examples:
  in one terminal      hqq recv photos > copy.tar
  in another           hqq send photos < photos.tar
  in either order      hqq send photos --wait 30 < photos.tar
  not too fast         hqq recv photos --rate 10M > copy.tar
                       hqq send photos --rate 10M < photos.tar

The receiver listens, the sender connects. The end of the input ends both with 0, once the receiver
has written everything. If either dies, the other ends within a second, with 4.
`hqq --help` lists all codes.";

const RECV_HELP: &str = "\
Examples:
  in one terminal      hqq recv photos > copy.tar
  in another           hqq send photos < photos.tar
  across containers    hqq recv /run/shared/photos > copy.tar
  across users         hqq recv /run/shared/photos --allow-uid 1000 > copy.tar
  compressed           hqq recv photos --compress lz4,zstd > copy.tar
                       hqq send photos --compress zstd < photos.tar
  encrypted            (umask 077; openssl rand -hex 32 > key)
                       hqq recv photos --encrypt --key-file key > copy.tar
                       hqq send photos --encrypt --key-file key < photos.tar

One sender is taken, then the name is free again. Code 0 means that every byte of the sender's input
was written out. If the sender dies, what it had sent is written out and the code is 4.
`hqq --help` lists all codes.";

const BENCH_HELP: &str = "\
Examples:
  hqq bench
  hqq bench --case slot,pool --payload 8,64,4096
  hqq bench --case throughput --system hqq-spsc,hqq-spsc-spin
  hqq bench --json > before.json; ...; hqq bench --compare before.json
  hqq bench --svg picture.svg
  hqq bench --presets
  hqq bench --agreements --rounds 200
  hqq bench --json | jq '.rows[] | select(.system == \"hqq\")'

Two processes, each on a processor of its own. In each round every system has a turn of a few
milliseconds at each case, so that what disturbs one disturbs all. `raw` and `proto-...` are bare programs
that do the same work for as many cache lines, and nothing else: what the machine allows.
They are always measured beside the systems that are asked for.

Systems: `hqq` is a link with its defaults, where several threads may send and receive; `hqq-spsc` one
between one sender and one receiver; `-spin` never sleeps; `hqq-protected` keeps its payload where the
other end cannot write to it. `pipe` is beside a stream.
Cases, round trips: `slot` (payloads up to 48 bytes), `pool` (longer ones), both written and read; `untouched`
(one byte written and read); `copy` (from one slice to another); `sleeping` (both ends sleep);
`paced` (on a schedule, every 20 us and every 5 ms, and the processor time of who answers).
One way: `throughput_mpmc`, `throughput_spsc`, `batch` (16 at a time), `crowd` (8 threads to 8), `stream`
(bytes through Write and Read). `setup` is from bind to the first message.
`--presets` has cases of its own: round trips, rare messages, small and large messages one way; so has
`--agreements`: round trips, and messages of 8 bytes and of 64 KiB one way.
`latency` stands for slot, pool, untouched and copy; `throughput` for those one way.
docs/benchmarks.md says how each is done.";

const LS_HELP: &str = "\
Links are found without their owners' help; those of other users only as root.

Examples:
  hqq ls
  hqq ls --json | jq '.links[].name'";

const STAT_HELP: &str = "\
The link is only read, and its owners notice nothing.

Examples:
  hqq stat photos
  hqq stat 4711 --json
  hqq stat photos --json | jq '.links[].statistics[].latency.p99_ns'
  hqq stat photos --prometheus > /var/lib/node_exporter/hqq.prom

Latencies, rates, compression and waits for credit are there if both ends have agreed on statistics:
with `Wanted::statistics` in a program, with --statistics in `hqq send` and `hqq recv`. Latency is
that of up to a thousand messages a second, told within an eighth. Rates are of a tenth of a second
or longer; `measured ago` says when that was.
With --prometheus come all counters and figures in its text format, version 0.0.4, with the labels
`link` and `direction` or `side`.";

const CHECK_HELP: &str = "\
The link is only read, and may be in use. Exit code 1 means that something is wrong with it.

Examples:
  hqq check photos
  hqq check 4711 --json | jq '.links[].held_buffers'";

/// `hqq demo`.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Messages to exchange in all, half of them each way
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    pub messages: u64,
    /// Bytes of each message, from 8 to 1048576; lengths from 8 to 256 in turn if not given
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(8..=1 << 20))]
    pub size: Option<u64>,
    /// The file to stream; this program itself if not given
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
    /// Write every packet of both processes to a file, a line each; mind its size with many messages
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

/// The second process of the demonstration.
#[derive(Debug, clap::Args)]
pub struct DemoSecond {
    /// As for the first process.
    #[arg(long)]
    pub messages: u64,
    /// As for the first process.
    #[arg(long)]
    pub size: Option<u64>,
    /// As for the first process.
    #[arg(long)]
    pub trace: Option<PathBuf>,
    /// When the first process began: nanoseconds since 1970.
    #[arg(long)]
    pub began: u64,
}

/// `hqq send`.
#[derive(Debug, clap::Args)]
pub struct Send {
    /// Where `hqq recv` listens: a name, or a path with a slash
    pub name: String,
    /// Wait this long for the receiver, instead of failing if there is none
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,
    /// Compress what is worth it, if the receiver does too: lz4, zstd, or both, the one that is liked best first
    #[arg(long, value_name = "CODECS", value_delimiter = ',', value_parser = codec)]
    pub compress: Vec<Codec>,
    /// Measure latencies and rates for `hqq stat`, if the receiver does too
    #[arg(long)]
    pub statistics: bool,
    #[command(flatten)]
    pub secret: Secret,
    #[command(flatten)]
    pub quality: Quality,
    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub allow: Allow,
}

/// Whether others may read along.
#[derive(Debug, clap::Args)]
pub struct Secret {
    /// Encrypt everything with the key in --key-file, which the other side must have too
    #[arg(long, requires = "key_file")]
    pub encrypt: bool,
    /// A file with a key: 64 hexadecimal digits, as `openssl rand -hex 32` makes them
    #[arg(long, value_name = "FILE", requires = "encrypt")]
    pub key_file: Option<PathBuf>,
}

/// How what is sent stands among other connections of the link.
#[derive(Debug, clap::Args)]
pub struct Quality {
    /// How urgent what this side sends is, if the other side has --priority or --rate, too: from 0, the most urgent, to 7
    #[arg(long, value_name = "CLASS", value_parser = class)]
    pub priority: Option<Class>,
    /// Send no more than so many bytes a second, as they travel, such as 500k or 10MiB, after as much as fits a tenth of a second
    /// or one buffer; the other side needs --priority or --rate, too, or nothing is sent
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    pub rate: Option<u64>,
}

impl Quality {
    /// Whether anything is wanted.
    pub fn is_wanted(&self) -> bool {
        self.priority.is_some() || self.rate.is_some()
    }

    /// As a link takes it, with buffers of so many bytes.
    pub fn share(&self, buffer_size: u64) -> TrafficClass {
        let rate = self.rate.map(|bytes_per_second| {
            // A tenth of a second's worth at once, and room for a buffer and its slot.
            Rate { bytes_per_second, burst: (bytes_per_second / 10).max(buffer_size + 64) }
        });
        TrafficClass { class: self.priority.unwrap_or(Class::NORMAL), rate, ..TrafficClass::default() }
    }
}

fn class(text: &str) -> Result<Class, String> {
    let number = text.parse().map_err(|_| format!("\"{text}\" is no number from 0 to 7"))?;
    Class::new(number).map_err(|error| error.to_string())
}

fn rate(text: &str) -> Result<u64, String> {
    match parse_size::parse_size(text) {
        Ok(0) => Err("a rate of 0 bytes a second would never send: it must be at least 1".into()),
        Ok(rate) => Ok(rate),
        Err(error) => Err(format!("{error}; write a number of bytes, such as 500k or 10MiB")),
    }
}

/// Whom to link up with, beside this user.
#[derive(Debug, clap::Args)]
pub struct Allow {
    /// Also trust a process of this user id; may be given again
    #[arg(long, value_name = "UID")]
    pub allow_uid: Vec<u32>,
    /// Also trust a process of this group id; may be given again
    #[arg(long, value_name = "GID")]
    pub allow_gid: Vec<u32>,
}

impl Allow {
    /// The same options with these on the list.
    pub fn extend(&self, options: Options) -> Options {
        let options = self.allow_uid.iter().fold(options, |options, &uid| options.allow_uid(uid));
        self.allow_gid.iter().fold(options, |options, &gid| options.allow_gid(gid))
    }
}

/// `hqq recv`.
#[derive(Debug, clap::Args)]
pub struct Recv {
    /// Where to listen: a name of letters, digits, dots, hyphens and underscores, or a path with a slash
    pub name: String,
    /// Wait no longer than this for the sender; for ever if not given
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,
    /// Take compressed messages, by one of these codecs: lz4, zstd
    #[arg(long, value_name = "CODECS", value_delimiter = ',', value_parser = codec)]
    pub compress: Vec<Codec>,
    /// Measure latencies and rates for `hqq stat`, if the sender does too
    #[arg(long)]
    pub statistics: bool,
    #[command(flatten)]
    pub secret: Secret,
    #[command(flatten)]
    pub quality: Quality,
    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,
    /// Bytes of a buffer: a multiple of 8
    #[arg(long, value_name = "BYTES", default_value_t = BUFFER_SIZE)]
    pub buffer_size: u64,
    /// Buffers each way: a power of two
    #[arg(long, value_name = "N", default_value_t = BUFFERS)]
    pub buffers: u32,
    /// Keep each end's payload where the other end cannot write to it
    #[arg(long)]
    pub protected: bool,
    #[command(flatten)]
    pub allow: Allow,
}

/// `hqq bench`.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// What was to be measured had its place here once.
    #[arg(value_parser = misplaced, hide = true)]
    pub misplaced: Option<String>,
    /// Only these cases, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = names(case_names), hide_possible_values = true)]
    pub case: Vec<String>,
    /// Only these payloads, bytes, separated by commas; others than the usual ones where the case may have any
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=Case::MOST))]
    pub payload: Vec<u64>,
    /// Only these systems, separated by commas, beside what they are compared with
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = names(system_names), hide_possible_values = true)]
    pub system: Vec<String>,
    /// Only links as capabilities make them, beside one with the defaults: what each is good for
    #[arg(long, conflicts_with_all = ["case", "payload", "system"])]
    pub presets: bool,
    /// Only links and connections with agreements, each beside one without: what each costs, and how urgent is urgent
    #[arg(long, conflicts_with_all = ["case", "payload", "system", "presets"])]
    pub agreements: bool,
    /// How often everything has its turn
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub rounds: u64,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
    /// Print the results as comma-separated values
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Draw them as well: curves of the times and bars of the rates
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Print what has changed since an earlier run, of which this is the JSON; on standard error beside --json and --csv
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
}

/// Names for several cases.
const GROUPS: [(&str, &[Kind]); 2] = [
    ("latency", &[Kind::Slot, Kind::Pool, Kind::Untouched, Kind::Copy]),
    ("throughput", &[Kind::ThroughputMpmc, Kind::ThroughputSpsc, Kind::Batch, Kind::Crowd, Kind::Stream]),
];

impl Bench {
    /// The kinds that are asked for; none for all.
    pub fn kinds(&self) -> Option<Vec<Kind>> {
        let one = |name: &String| {
            let group = GROUPS.iter().find(|(group, _)| group == name);
            group.map_or_else(|| Kind::named(name).into_iter().collect(), |(_, kinds)| kinds.to_vec())
        };
        (!self.case.is_empty()).then(|| self.case.iter().flat_map(one).collect())
    }
}

fn case_names() -> Vec<&'static str> {
    GROUPS.iter().map(|(name, _)| *name).chain(Kind::ALL.map(Kind::name)).collect()
}

fn system_names() -> Vec<&'static str> {
    let mut names: Vec<_> = crate::systems::systems().iter().map(|system| system.name()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Says where the name of a case belongs.
fn misplaced(case: &str) -> Result<String, String> {
    Err(format!("cases are chosen with --case, as in `hqq bench --case {case}`"))
}

/// Takes only names of a list, and shows it if it is given another.
fn names(known: fn() -> Vec<&'static str>) -> PossibleValuesParser {
    PossibleValuesParser::new(known())
}

/// `hqq ls`.
#[derive(Debug, clap::Args)]
pub struct Ls {
    /// Print the list as JSON
    #[arg(long)]
    pub json: bool,
}

/// `hqq stat`.
#[derive(Debug, clap::Args)]
pub struct Stat {
    /// The name of a link, or the id of a process that has it open
    #[arg(value_name = "PID|NAME")]
    pub which: String,
    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
    /// Print everything for Prometheus
    #[arg(long, conflicts_with = "json")]
    pub prometheus: bool,
}

/// `hqq check`.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// The name of a link, or the id of a process that has it open
    #[arg(value_name = "PID|NAME")]
    pub which: String,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// A time in seconds, as `2` or `0.5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|_| "not a time that one can wait".to_owned())
}

fn codec(text: &str) -> Result<Codec, String> {
    match text.parse() {
        Ok(Codec::Raw) | Err(_) => Err("not a codec; there are lz4 and zstd".to_owned()),
        Ok(codec) => Ok(codec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn groups_stand_for_kinds() {
        let parse = |args: &[&str]| match Args::parse_from([&["hqq", "bench"], args].concat()).command {
            Command::Bench(bench) => bench.kinds(),
            other => panic!("{other:?}"),
        };
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&["--case", "slot,stream"]), Some(vec![Kind::Slot, Kind::Stream]));
        assert_eq!(parse(&["--case", "latency"]).unwrap().len(), 4);
    }

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for wrong in ["", "soon", "-1", "inf", "1e300"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
