//! What lies between the two processes, and what goes over it.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hqq::{Listener, Options, Receiver, RingMode, Sender, StandardLink};
use hqq_sys::mem;
use hqq_sys::raw::RawLine;

use super::case::{Case, System};
use crate::args::Measure;
use crate::exit::{Exit, Failure, Result};

/// How long one process waits for the other on the raw line.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the second link may take to come about.
const BEGIN: Duration = Duration::from_secs(10);

/// The options of both links: buffers for the longest payload.
pub fn options(longest: u64) -> Options {
    Options::new().buffer_size(longest.next_multiple_of(64).max(4096))
}

/// What the first process prepares for the second to find.
pub struct Meeting {
    spsc: Listener,
    protected: Listener,
    memory: OwnedFd,
}

impl Meeting {
    /// Prepares two more links and the raw line's memory.
    pub fn new(longest: u64) -> Result<Self> {
        let cannot = |error| Failure::system("making shared memory", &error);
        let name = format!("bench-{}", std::process::id());
        let spsc = Listener::bind_with(&name, options(longest).ring_mode(RingMode::Spsc))?;
        let protected = Listener::bind_with(&protected(&name), options(longest).protected(true))?;
        let memory = mem::create("hqq-bench", mem::page_size() as u64).map_err(cannot)?;
        mem::seal(memory.as_fd()).map_err(cannot)?;
        Ok(Self { spsc, protected, memory })
    }

    /// Where the second process finds the link and the memory.
    pub fn place(&self) -> (String, PathBuf) {
        let memory = format!("/proc/{}/fd/{}", std::process::id(), self.memory.as_raw_fd());
        (self.spsc.name().into(), memory.into())
    }

    /// Waits for the second process, which has the other end of `link`. It may open the memory later than that.
    pub fn meet(&self, link: StandardLink) -> Result<Wires> {
        let spsc = self.spsc.accept_timeout(BEGIN)?;
        let protected = self.protected.accept_timeout(BEGIN)?;
        let raw =
            RawLine::new(self.memory.as_fd()).map_err(|error| Failure::system("mapping memory", &error))?;
        Ok(Wires { link, spsc: spsc.split()?, protected, raw })
    }
}

/// The name of the protected link beside that of the one between one sender and one receiver.
fn protected(name: &str) -> String {
    format!("{name}-protected")
}

/// Everything between the processes, seen from one of them.
pub struct Wires {
    link: StandardLink,
    spsc: (Sender, Receiver),
    protected: StandardLink,
    raw: RawLine,
}

/// A payload that is written anew, every byte of it, for each message.
#[inline]
fn write(number: u64, into: &mut [u8]) {
    into.fill(number as u8);
}

/// Reads every byte.
#[inline]
fn read(message: &[u8]) {
    let words = message.chunks_exact(8);
    let rest = words.remainder().iter().fold(0, |sum: u64, byte| sum ^ u64::from(*byte));
    let all =
        words.fold(rest, |sum, word| sum ^ u64::from_le_bytes(word.try_into().expect("chunks of eight")));
    black_box(all);
}

/// What passes the payload on.
#[derive(Clone, Copy)]
enum Way<'a> {
    Raw(&'a RawLine),
    Link(&'a StandardLink),
    Halves(&'a (Sender, Receiver)),
}

impl Way<'_> {
    /// Sends a payload; on the raw line, makes a round trip.
    #[inline]
    fn send(self, number: u64, payload: u64) -> Result<()> {
        let mut loan = match self {
            Self::Raw(line) => return line.ping(number, PATIENCE).map_err(late),
            Self::Link(link) => link.loan(payload as usize)?,
            Self::Halves((sender, _)) => sender.loan(payload as usize)?,
        };
        write(number, &mut loan);
        Ok(loan.send()?)
    }

    /// Receives a payload; on the raw line, takes part in a round trip.
    #[inline]
    fn receive(self, number: u64) -> Result<()> {
        let message = match self {
            Self::Raw(line) => return line.pong(number, PATIENCE).map_err(late),
            Self::Link(link) => link.recv()?,
            Self::Halves((_, receiver)) => receiver.recv()?,
        };
        read(&message);
        Ok(())
    }

    /// Whether a round trip takes an answer of its own.
    fn is_link(self) -> bool {
        !matches!(self, Self::Raw(_))
    }
}

fn late(error: std::io::Error) -> Failure {
    Failure::new(Exit::Link, format!("the other process is silent: {error}"))
}

impl Wires {
    /// In the second process: finds what the first has prepared.
    pub fn find(name: &str, memory: &PathBuf) -> Result<Self> {
        let cannot = |error| Failure::system("opening the first process's memory", &error);
        let link = StandardLink::inherited()?;
        let spsc = StandardLink::connect_timeout(name, BEGIN)?;
        let protected = StandardLink::connect_timeout(&protected(name), BEGIN)?;
        let memory = OpenOptions::new().read(true).write(true).open(memory).map_err(cannot)?;
        let raw = RawLine::new(memory.as_fd()).map_err(cannot)?;
        Ok(Self { link, spsc: spsc.split()?, protected, raw })
    }

    /// What a case uses.
    fn way(&self, case: &Case) -> Way<'_> {
        match case.system {
            System::Raw => Way::Raw(&self.raw),
            System::Link => Way::Link(&self.link),
            System::LinkSpsc => Way::Halves(&self.spsc),
            System::LinkProtected => Way::Link(&self.protected),
        }
    }

    /// Tells the second process what comes next, and waits until it is ready for it.
    fn announce(&self, case: &Case, measure: Measure, count: u64) -> Result<()> {
        let words = case.words(measure, count).map(u64::to_le_bytes);
        self.link.send(words.as_flattened())?;
        self.acknowledged()
    }

    /// Waits for the second process's empty message.
    fn acknowledged(&self) -> Result<()> {
        match self.link.recv()?.len() {
            0 => Ok(()),
            _ => Err(Failure::new(Exit::Failed, "the second process answers out of turn")),
        }
    }

    /// In the second process: what comes next; nothing once the first has closed.
    pub fn announced(&self) -> Result<Option<(Case, Measure, u64)>> {
        let message = match self.link.recv() {
            Ok(message) => message,
            Err(hqq::Error::Closed) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (words, _) = message.as_chunks::<8>();
        let words = <[[u8; 8]; 4]>::try_from(words).ok().map(|words| words.map(u64::from_le_bytes));
        let case = words.and_then(Case::from_words);
        case.map(Some)
            .ok_or_else(|| Failure::new(Exit::Failed, "an announcement was due, something else came"))
    }

    /// Makes `count` round trips, and tells the time of each in nanoseconds. How long it all took.
    pub fn ask(&self, case: &Case, count: u64, mut took: impl FnMut(u64)) -> Result<Duration> {
        self.announce(case, Measure::Latency, count)?;
        let way = self.way(case);
        let began = Instant::now();
        let mut last = began;
        for number in 1..=count {
            way.send(number, case.payload)?;
            if way.is_link() {
                way.receive(number)?;
            }
            let now = Instant::now();
            took((now - last).as_nanos() as u64);
            last = now;
        }
        Ok(began.elapsed())
    }

    /// Sends `count` messages, and waits until all are received. How long that took.
    pub fn flood(&self, case: &Case, count: u64) -> Result<Duration> {
        self.announce(case, Measure::Throughput, count)?;
        let way = self.way(case);
        let began = Instant::now();
        for number in 1..=count {
            way.send(number, case.payload)?;
        }
        self.acknowledged()?;
        Ok(began.elapsed())
    }

    /// The second process's part in a turn.
    pub fn follow(&self, case: &Case, measure: Measure, count: u64) -> Result<()> {
        self.link.send(&[])?;
        let way = self.way(case);
        for number in 1..=count {
            way.receive(number)?;
            if way.is_link() && measure == Measure::Latency {
                way.send(number, case.payload)?;
            }
        }
        match measure {
            Measure::Latency => Ok(()),
            Measure::Throughput => Ok(self.link.send(&[])?),
        }
    }
}
