//! A process of the soak: connects to the other, sends and receives on several threads until the link ends, checks the result,
//! and starts again.
//!
//! It says on its standard output: `linked N` for its N-th link; `over N ...` when that has ended and is drained, with
//! counts of descriptors, mappings and KiB of private memory; `fault ...` for what must never be. `finish` on its
//! standard input lets it end in order; when its input ends it ends at once.

use std::io::BufRead;
use std::net::Shutdown;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use clap::Args;
use hqq::{Connection, Error, Listener, Message, Options, StandardLink};
use hqq_tests::stress;
use hqq_tests::test::healthy;

use crate::ledger::{Ledger, RECEIVERS, SENDERS, Sender};
use crate::pair::{self, Outcome};

/// Links' own threads of each kind; those of connections are numbered behind them.
pub const THREADS: u64 = 2;
const SOON: Duration = Duration::from_secs(30);

#[derive(Args)]
pub struct Task {
    #[arg(long)]
    pub id: u64,
    #[arg(long)]
    pub name: String,
    #[arg(long)]
    pub ledger: PathBuf,
    /// It listens, and is the Primary
    #[arg(long)]
    pub listens: bool,
    /// The link goes on with the dead's successor
    #[arg(long)]
    pub reattaches: bool,
    #[arg(long, default_value_t = 0)]
    pub connections: u64,
    /// The link's options, as the tests' peer reads them
    #[arg(long)]
    pub options: String,
}

/// A process's part in the soak.
struct Worker {
    id: u64,
    reattaches: bool,
    listens: bool,
    connections: u64,
    ledger: Ledger,
    finishing: AtomicBool,
}

/// Where each thread's counts stand: of messages begun on this link, of entries in the log.
struct Counts {
    sent: Vec<AtomicU64>,
    received: Vec<AtomicU64>,
}

fn zeros(count: u64) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

pub fn run(task: &Task) -> Outcome {
    let worker: &'static Worker = Box::leak(Box::new(Worker {
        id: task.id,
        reattaches: task.reattaches,
        listens: task.listens,
        connections: task.connections,
        ledger: Ledger::open(&task.ledger).map_err(pair::context("ledger"))?,
        finishing: AtomicBool::new(false),
    }));
    thread::spawn(|| {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line == "finish" {
                worker.finishing.store(true, Ordering::Relaxed);
            }
        }
        std::process::exit(9);
    });
    let options = hqq_tests::peer::options(Options::new(), task.options.split_whitespace());
    let done = worker.work(&task.name, &options.reattachable(task.reattaches));
    if let Err(why) = &done {
        println!("fault {why}");
    }
    done
}

impl Worker {
    fn work(&self, name: &str, options: &Options) -> Outcome {
        let listener = if self.listens { Some(bind(name, options)?) } else { None };
        let mut counts = Counts { sent: zeros(SENDERS), received: zeros(RECEIVERS) };
        let mut kept: Option<StandardLink> = None;
        let mut number = 0;
        loop {
            let link = match (kept.take(), &listener) {
                (Some(mut link), Some(listener)) => {
                    listener.reattach_timeout(&mut link, SOON).map_err(pair::context("reattach"))?;
                    link
                }
                (_, Some(listener)) => listener.accept_timeout(SOON).map_err(pair::context("accept"))?,
                (_, None) => connect(name, options)?,
            };
            println!("linked {number} {}", link.peer().pid.unwrap_or(0));
            let end = self.use_link(&link, number, &counts)?;
            if end == End::Dead {
                // One that closes may still read.
                healthy(&link);
            }
            let goes_on = end == End::Dead && self.reattaches && self.listens;
            if goes_on {
                kept = Some(link);
            } else {
                drop(link);
            }
            println!("over {number} {end:?} {}", left()?);
            match end {
                End::Closed => return Ok(()),
                End::Dead if goes_on => {}
                End::Dead => {
                    number += 1;
                    counts.sent = zeros(SENDERS);
                }
            }
        }
    }

    /// Sends and receives until the link ends.
    fn use_link(&self, link: &StandardLink, number: u64, counts: &Counts) -> Result<End, String> {
        thread::scope(|scope| {
            let receivers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    scope.spawn(move || self.receive(thread, counts, || link.recv().map(Bytes::Message)))
                })
                .collect();
            let mut others: Vec<_> = (0..THREADS)
                .map(|thread| scope.spawn(move || self.send(link, number, thread, counts)))
                .collect();
            others.extend((0..self.connections).map(|index| {
                scope.spawn(move || self.use_connection(link, number, THREADS + index, counts))
            }));
            let mut ends = Vec::new();
            for thread in others {
                ends.push(thread.join().map_err(|_| "a thread panicked")??);
            }
            if self.finishing.load(Ordering::Relaxed) {
                link.shutdown(Shutdown::Write);
            }
            for thread in receivers {
                ends.push(thread.join().map_err(|_| "a receiver panicked")??);
            }
            ends.dedup();
            match ends.as_slice() {
                [end] => Ok(*end),
                different => Err(format!("different ends: {different:?}")),
            }
        })
    }

    fn send(&self, link: &StandardLink, number: u64, thread: u64, counts: &Counts) -> Result<End, String> {
        self.send_each(number, thread, counts, |message, count| {
            if count % 3 == 0 {
                let mut loan = link.loan(message.len())?;
                loan.copy_from_slice(message);
                loan.send()
            } else {
                link.send(message)
            }
        })
    }

    fn send_each(
        &self,
        link: u64,
        thread: u64,
        counts: &Counts,
        mut send: impl FnMut(&[u8], u64) -> Result<(), Error>,
    ) -> Result<End, String> {
        let sender = Sender { worker: self.id, link, thread }.number();
        while !self.finishing.load(Ordering::Relaxed) {
            let count = counts.sent[thread as usize].fetch_add(1, Ordering::Relaxed);
            let message = stress::message(sender, count);
            self.ledger.begin(link, thread, count + 1);
            if let Err(error) = send(&message, count) {
                return end(error);
            }
            self.ledger.done(link, thread, count + 1);
        }
        Ok(End::Closed)
    }

    fn receive<'l>(
        &self,
        thread: u64,
        counts: &Counts,
        receive: impl Fn() -> Result<Bytes<'l>, Error>,
    ) -> Result<End, String> {
        loop {
            let bytes = match receive() {
                Ok(bytes) => bytes,
                Err(error) => return end(error),
            };
            let len = bytes.len();
            let (sender, number) =
                stress::read(&bytes).ok_or_else(|| format!("a message of {len} bytes is torn"))?;
            let index = counts.received[thread as usize].fetch_add(1, Ordering::Relaxed);
            self.ledger.received(thread, index, sender, number);
        }
    }

    fn use_connection(
        &self,
        link: &StandardLink,
        number: u64,
        thread: u64,
        counts: &Counts,
    ) -> Result<End, String> {
        let connection = if self.listens { link.open_connection() } else { link.accept_connection() };
        let connection: Connection = match connection {
            Ok(connection) => connection,
            Err(error) => return end(error),
        };
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let ended = self.send_each(number, thread, counts, |message, _| connection.send(message));
                connection.shutdown(Shutdown::Write);
                ended
            });
            let received = self.receive(thread, counts, || connection.recv().map(Bytes::Own))?;
            let sent = sender.join().map_err(|_| "a thread panicked")??;
            if sent == received {
                Ok(sent)
            } else {
                Err(format!("a connection ends as {sent:?} and as {received:?}"))
            }
        })
    }
}

/// A message, wherever it lies.
enum Bytes<'l> {
    Message(Message<'l>),
    Own(Vec<u8>),
}

impl std::ops::Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Message(message) => message,
            Self::Own(bytes) => bytes,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Dead,
    Closed,
}

fn end(error: Error) -> Result<End, String> {
    match error {
        Error::PeerDead => Ok(End::Dead),
        Error::Closed => Ok(End::Closed),
        other => Err(format!("the link ends with {other:?}")),
    }
}

fn bind(name: &str, options: &Options) -> Result<Listener, String> {
    Listener::bind_with(name, options.clone()).map_err(pair::context("bind"))
}

/// Connects, also if listeners die meanwhile.
fn connect(name: &str, options: &Options) -> Result<StandardLink, String> {
    let limit = Instant::now() + SOON;
    loop {
        match StandardLink::connect_with_timeout(name, options.clone(), SOON) {
            Ok(link) => return Ok(link),
            Err(error) if Instant::now() > limit => return Err(format!("connect: {error:?}")),
            Err(Error::Handshake { .. } | Error::Refused { .. } | Error::Os { .. }) => {}
            Err(error) => return Err(format!("connect: {error:?}")),
        }
    }
}

/// Descriptors, mappings of regions, and KiB of private memory.
fn left() -> Result<String, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(pair::context("what is left"));
    let open = fs::read_dir("/proc/self/fd").map_err(pair::context("what is left"))?.count();
    let mapped = read("/proc/self/maps")?.lines().filter(|line| line.contains("memfd:hqq:")).count();
    let status = read("/proc/self/status")?;
    let private = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0");
    Ok(format!("{open} {mapped} {}", private.trim().trim_end_matches(" kB")))
}
