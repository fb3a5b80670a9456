//! The command line: subcommands, options and their help texts.

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

/// Bytes of a buffer: large enough to make the cost of system calls negligible, small enough that a few buffers fit the
/// second-level cache.
const BUFFER_SIZE: u64 = 256 * 1024;
/// Buffers in each direction.
const BUFFERS: u32 = 4;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Send messages and byte streams between two processes through shared memory, and inspect and measure such links.
#[derive(Debug, Parser)]
#[command(name = "hqq", version, styles = STYLES, after_help = CODES, max_term_width = 100)]
#[command(propagate_version = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Args {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a second process, exchange messages and a file with it, verify and measure them
    #[command(after_help = DEMO_HELP)]
    Demo(Demo),
    /// Send standard input to `hqq recv`
    #[command(after_help = SEND_HELP)]
    Send(Send),
    /// Receive from `hqq send`, and write to standard output
    #[command(after_help = RECV_HELP)]
    Recv(Recv),
    /// Measure latency and throughput between two processes
    #[command(after_help = BENCH_HELP)]
    Bench(Bench),
    /// List the links of this machine
    #[command(after_help = LS_HELP)]
    Ls(Ls),
    /// Show the counters of a link, and its latencies and rates if it measures them
    #[command(after_help = STAT_HELP)]
    Stat(Stat),
    /// Verify every control word of a link, and list the slots and buffers in use
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

In the JSON, messages_per_second counts the messages of the exchange, and bytes_per_second is the rate of \
the zero-copy file transfer, hashing at both ends included. bytes is the payload of both. The packet trace \
starts each line with microseconds since the start; sort it by that column.

Exit code 0: everything was verified and nothing was left behind. 1: verification failed. \
4: the second process died. `hqq --help` lists all codes.";

const SEND_HELP: &str = "\
Examples:
  in one terminal      hqq recv photos > copy.tar
  in another           hqq send photos < photos.tar
  in either order      hqq send photos --wait 30 < photos.tar
  limited rate         hqq recv photos --rate 10M > copy.tar
                       hqq send photos --rate 10M < photos.tar

The receiver listens and the sender connects. At the end of the input, both exit with 0 once the receiver \
has written everything. If one side dies, the other exits with 4 within a second. \
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

One sender is accepted; then the name is free again. Exit code 0 means that every byte of the sender's \
input was written. If standard output is closed or cannot be written to, the exit code is 6, and that of the \
sender is 4. If the sender dies, everything that it had sent is written and the exit code is 4. \
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

Measures between two processes, each pinned to its own processor. In each round, every system has a turn of \
a few milliseconds at each case, so that disturbances affect all systems alike. `raw` and `proto-...` are \
bare programs that pass as many cache lines and do nothing else; they show what the machine allows. They \
are always measured together with the systems that are compared with them.

Systems:
  hqq            a link with the default options; any number of threads may send and receive
  hqq-spsc       a link for one sending and one receiving thread
  hqq-protected  a link whose payload is read-only for the other end
  ...-spin       polls and never sleeps
  pipe           a pipe, compared with streams

Cases, round trips:
  slot           payload up to 48 bytes, all of it written and read
  pool           longer payload, all of it written and read
  untouched      longer payload, one byte of it written and read
  copy           from a slice of the sender to a slice of the receiver
  sleeping       both ends sleep between messages
  paced          one message every 20 us or 5 ms; also the processor time of the receiver
  latency        slot, pool, untouched and copy
Cases, one way:
  throughput_mpmc, throughput_spsc
  batch          16 messages at a time
  crowd          8 sending and 8 receiving threads
  stream         bytes through Write and Read
  throughput     all cases one way
Case, once:
  setup          from bind to the first message

--presets measures round trips, rare messages, and small and large messages one way. --agreements measures \
round trips, and messages of 8 bytes and of 64 KiB one way. docs/benchmarks.md describes the method.";

const LS_HELP: &str = "\
Finds the links of all processes of this user, and as root those of all users. The processes are not \
involved. A region that cannot be read has a row without figures, and the reason is on standard error; in \
the JSON it has the key `error`. Unprintable characters in names are escaped, as \\u{1b}.

Examples:
  hqq ls
  hqq ls --json | jq '.links[].name'";

const STAT_HELP: &str = "\
Only reads the link; the processes that use it are not affected. If several links have the name, all are \
shown. Those that end meanwhile are left out. Of a region that cannot be read, the reason is shown after the \
others (in the JSON as `error`, with --prometheus on standard error). Exit code 0: at least one was read. \
`hqq --help` lists all codes.

Examples:
  hqq stat photos
  hqq stat 4711 --json
  hqq stat photos --json | jq '.links[].statistics[].latency.p99_ns'
  hqq stat photos --prometheus > /var/lib/node_exporter/hqq.prom

Latencies, rates, compression and waits for credit are shown if both ends agreed on statistics: with \
`AdvancedOptions::statistics` in a program, with --statistics in `hqq send` and `hqq recv`. Latency is \
sampled, up to a thousand messages a second, accurate to 12.5 %. Rates are averages over a tenth \
of a second or longer; `measured ago` is their age. \
--prometheus prints all counters and metrics in the Prometheus text format 0.0.4, with the labels `link`, \
and `direction` or `side`.";

const CHECK_HELP: &str = "\
Only reads the link, which may be in use. If several links have the name, all are checked. Those that end \
meanwhile are left out, and of a region that cannot be read, the reason is shown after the others (in the JSON \
as `error`).

Exit code 0: every link that was read is valid. 1: a control word is invalid. `hqq --help` lists all codes.

Examples:
  hqq check photos
  hqq check 4711 --json | jq '.links[].held_buffers'";

/// `hqq demo`.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Number of messages, half of them in each direction
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    pub messages: u64,
    /// Bytes of each message, from 8 to 1048576 [default: varying from 8 to 256]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(8..=1 << 20))]
    pub size: Option<u64>,
    /// File to stream [default: the hqq program itself]
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
    /// Write a line for each packet of both processes to this file; use it with few messages
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

/// The second process of the demonstration.
#[derive(Debug, clap::Args)]
pub struct DemoSecond {
    /// As in the first process.
    #[arg(long)]
    pub messages: u64,
    /// As in the first process.
    #[arg(long)]
    pub size: Option<u64>,
    /// As in the first process.
    #[arg(long)]
    pub trace: Option<PathBuf>,
    /// The start of the first process, in nanoseconds since 1970.
    #[arg(long)]
    pub began: u64,
}

/// `hqq send`.
#[derive(Debug, clap::Args)]
pub struct Send {
    /// Name that `hqq recv` listens at, or a path that contains a slash
    pub name: String,
    /// Wait up to this long for the receiver to start [default: do not wait]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,
    /// Codecs to compress with, in order of preference: lz4, zstd; the receiver needs --compress with one of them, too
    #[arg(long, value_name = "CODECS", value_delimiter = ',', value_parser = codec)]
    pub compress: Vec<Codec>,
    /// Measure latencies and rates for `hqq stat`; the receiver needs --statistics, too
    #[arg(long)]
    pub statistics: bool,
    #[command(flatten)]
    pub secret: Secret,
    #[command(flatten)]
    pub quality: Quality,
    /// Do not show progress
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub allow: Allow,
}

/// The options of encryption.
#[derive(Debug, clap::Args)]
pub struct Secret {
    /// Encrypt with the key in --key-file; the other side needs the same key
    #[arg(long, requires = "key_file")]
    pub encrypt: bool,
    /// File with the key: 64 hexadecimal digits, as from `openssl rand -hex 32`. A warning says so if others
    /// can read it. A key of zeros is refused
    #[arg(long, value_name = "FILE", requires = "encrypt")]
    pub key_file: Option<PathBuf>,
}

/// The options of quality of service.
#[derive(Debug, clap::Args)]
pub struct Quality {
    /// Priority of the data that this side sends: 0 (most urgent) to 7; the other side needs --priority or --rate, too
    #[arg(long, value_name = "CLASS", value_parser = class)]
    pub priority: Option<Class>,
    /// Limit to this many bytes a second, after compression, such as 500k or 10MiB. The first tenth of a second's worth, at
    /// least one buffer, is sent at once. The other side needs --priority or --rate, too, or nothing is sent
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    pub rate: Option<u64>,
}

impl Quality {
    /// Whether an option was given.
    pub fn is_wanted(&self) -> bool {
        self.priority.is_some() || self.rate.is_some()
    }

    /// The traffic class for a link with buffers of `buffer_size` bytes.
    pub fn share(&self, buffer_size: u64) -> TrafficClass {
        let rate = self.rate.map(|bytes_per_second| {
            // A tenth of a second's worth, but at least a buffer and its slot.
            Rate { bytes_per_second, burst: (bytes_per_second / 10).max(buffer_size + 64) }
        });
        TrafficClass { class: self.priority.unwrap_or(Class::NORMAL), rate, ..TrafficClass::default() }
    }
}

fn class(text: &str) -> Result<Class, String> {
    let number = text.parse().map_err(|_| format!("\"{text}\" is not a number from 0 to 7"))?;
    Class::new(number).map_err(|error| error.to_string())
}

fn rate(text: &str) -> Result<u64, String> {
    match parse_size::parse_size(text) {
        Ok(0) => Err("the rate is 0, but it must be at least 1 byte a second".into()),
        Ok(rate) => Ok(rate),
        Err(error) => Err(format!("{error}; write a number of bytes, such as 500k or 10MiB")),
    }
}

/// Other users that may be at the other end.
#[derive(Debug, clap::Args)]
pub struct Allow {
    /// Also accept a process of this user id at the other end; may be repeated
    #[arg(long, value_name = "UID")]
    pub allow_uid: Vec<u32>,
    /// Also accept a process of this group id at the other end; may be repeated
    #[arg(long, value_name = "GID")]
    pub allow_gid: Vec<u32>,
}

impl Allow {
    /// Adds these users and groups to `options`.
    pub fn extend(&self, options: Options) -> Options {
        let options = self.allow_uid.iter().fold(options, |options, &uid| options.allow_uid(uid));
        self.allow_gid.iter().fold(options, |options, &gid| options.allow_gid(gid))
    }
}

/// `hqq recv`.
#[derive(Debug, clap::Args)]
pub struct Recv {
    /// Name to listen at (letters, digits, dots, hyphens, underscores), or a path that contains a slash
    pub name: String,
    /// Wait up to this long for the sender [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,
    /// Codecs to accept, in order of preference: lz4, zstd; the sender needs --compress with one of them, too
    #[arg(long, value_name = "CODECS", value_delimiter = ',', value_parser = codec)]
    pub compress: Vec<Codec>,
    /// Measure latencies and rates for `hqq stat`; the sender needs --statistics, too
    #[arg(long)]
    pub statistics: bool,
    #[command(flatten)]
    pub secret: Secret,
    #[command(flatten)]
    pub quality: Quality,
    /// Do not show progress
    #[arg(long, short)]
    pub quiet: bool,
    /// Bytes of a buffer, a multiple of 8
    #[arg(long, value_name = "BYTES", default_value_t = BUFFER_SIZE)]
    pub buffer_size: u64,
    /// Buffers in each direction, a power of two
    #[arg(long, value_name = "N", default_value_t = BUFFERS)]
    pub buffers: u32,
    /// Make the payload of each side read-only for the other
    #[arg(long)]
    pub protected: bool,
    #[command(flatten)]
    pub allow: Allow,
}

/// `hqq bench`.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// A case without --case, to report a helpful error.
    #[arg(value_name = "CASE", value_parser = misplaced, hide = true)]
    pub misplaced: Option<String>,
    /// Cases to measure, separated by commas [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = names(case_names), hide_possible_values = true)]
    pub case: Vec<String>,
    /// Payload sizes in bytes, separated by commas [default: the usual sizes of each case]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=Case::MOST))]
    pub payload: Vec<u64>,
    /// Systems to measure, separated by commas; those that they are compared with are added [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = names(system_names), hide_possible_values = true)]
    pub system: Vec<String>,
    /// Compare links with the options of each capability with a link with the default options
    #[arg(long, conflicts_with_all = ["case", "payload", "system"])]
    pub presets: bool,
    /// Compare links and connections with one agreed feature each with those without: the cost of each feature, and the
    /// latency of urgent messages
    #[arg(long, conflicts_with_all = ["case", "payload", "system", "presets"])]
    pub agreements: bool,
    /// Number of rounds; each system has one turn at each case in a round
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub rounds: u64,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
    /// Print the results as comma-separated values
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Also draw the results as a picture: curves of times, bars of rates
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Print the changes since an earlier run, whose --json output is in this file; to standard error with --json or --csv
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
}

/// Names that stand for several cases.
const GROUPS: [(&str, &[Kind]); 2] = [
    ("latency", &[Kind::Slot, Kind::Pool, Kind::Untouched, Kind::Copy]),
    ("throughput", &[Kind::ThroughputMpmc, Kind::ThroughputSpsc, Kind::Batch, Kind::Crowd, Kind::Stream]),
];

impl Bench {
    /// The kinds that were asked for; `None` for all.
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

/// Rejects a case without --case.
fn misplaced(case: &str) -> Result<String, String> {
    Err(format!("unexpected argument; choose cases with --case: `hqq bench --case {case}`"))
}

/// Accepts only the names in `known`; the error lists them.
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
    /// Name of a link, or id of a process that has it open
    #[arg(value_name = "PID|NAME")]
    pub which: String,
    /// Print all values as JSON
    #[arg(long)]
    pub json: bool,
    /// Print all values in the Prometheus text format
    #[arg(long, conflicts_with = "json")]
    pub prometheus: bool,
}

/// `hqq check`.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// Name of a link, or id of a process that has it open
    #[arg(value_name = "PID|NAME")]
    pub which: String,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Parses a time in seconds, such as `2` or `0.5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|_| "not a valid time".to_owned())
}

fn codec(text: &str) -> Result<Codec, String> {
    match text.parse() {
        Ok(Codec::Raw) | Err(_) => Err("not a codec; the codecs are lz4 and zstd".to_owned()),
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
