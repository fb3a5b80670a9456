//! Sleeps and wakes: on many links at once, each end waits without a time limit for an action of the other end, just after it
//! fell asleep or while it does. A link without progress for half a minute is stuck.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::Args;
use fastrand::Rng;
use hqq::{Connection, Error, Listener, Options, RingMode, StandardLink};

use crate::pair::{self, Outcome};

/// How long nothing may move. Thousands of times what a wake takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long whoever has the turn waits before it acts: around the time at which the other gives up spinning.
const DELAY: std::ops::Range<u64> = 120..320;

#[derive(Args)]
pub struct Wishes {
    /// How many sleeps, both ends counted
    #[arg(long, default_value_t = 10_000_000)]
    count: u64,
    /// Links at once in each part
    #[arg(long, default_value_t = 32)]
    links: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
pub struct Answer {
    name: String,
    links: usize,
    part: usize,
    seed: u64,
}

/// What happens on each link of a part.
struct Part {
    what: &'static str,
    options: fn() -> Options,
    /// Percent of the sleeps.
    share: u64,
    /// Threads of each end; a turn goes to and fro for each.
    threads: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Whoever receives sends.
    Turns,
    /// As that, on a connection for each thread.
    Connections,
    /// One end sends without a pause, the other receives with pauses: the sender sleeps for room.
    Room,
    /// As that, for buffers.
    Buffers,
}

fn small() -> Options {
    Options::new().slots(8).buffers(4).buffer_size(64)
}

const PARTS: [Part; 6] = [
    Part { what: "one thread at each end", options: small, share: 35, threads: 1, kind: Kind::Turns },
    Part { what: "four threads at each end", options: small, share: 20, threads: 4, kind: Kind::Turns },
    Part {
        what: "four threads, rings for one",
        options: || small().ring_mode(RingMode::Spsc),
        share: 10,
        threads: 4,
        kind: Kind::Turns,
    },
    Part {
        what: "four connections on a link",
        options: small,
        share: 15,
        threads: 4,
        kind: Kind::Connections,
    },
    Part {
        what: "waiting for room",
        options: || Options::new().slots(2).buffers(2).buffer_size(64),
        share: 10,
        threads: 1,
        kind: Kind::Room,
    },
    Part {
        what: "waiting for buffers",
        options: || Options::new().slots(8).buffers(2).buffer_size(64),
        share: 10,
        threads: 1,
        kind: Kind::Buffers,
    },
];

struct Kills(Child);

impl Drop for Kills {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn run(wishes: &Wishes) -> Outcome {
    let began = Instant::now();
    let (mut sleeps, mut wakes, mut messages) = (0, 0, 0);
    for (number, part) in PARTS.iter().enumerate() {
        let started = Instant::now();
        let goal = wishes.count * part.share / 100;
        let links = (wishes.links / part.threads).max(1);
        let sums = run_part(number, part, links, goal, wishes.seed)?;
        println!(
            "{:<28} {:>10} sleeps, {:>10} wakes, {:>10} messages on {links} links, {:.1} s",
            part.what,
            sums.sleeps,
            sums.wakes,
            sums.messages,
            started.elapsed().as_secs_f64()
        );
        sleeps += sums.sleeps;
        wakes += sums.wakes;
        messages += sums.messages;
    }
    println!(
        "wakes: {sleeps} sleeps, {wakes} wakes by the other process, {messages} messages, 0 stuck, {:.1} s",
        began.elapsed().as_secs_f64()
    );
    if sleeps < wishes.count { Err(format!("only {sleeps} sleeps")) } else { Ok(()) }
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Sums {
    sleeps: u64,
    wakes: u64,
    messages: u64,
}

fn sums(link: &StandardLink) -> Sums {
    let stats = link.stats();
    Sums {
        sleeps: stats.sides.iter().map(|side| side.sleeps).sum(),
        wakes: stats.sides.iter().map(|side| side.wakes).sum(),
        messages: stats.directions.iter().map(|direction| direction.packets_received).sum(),
    }
}

fn run_part(number: usize, part: &Part, count: usize, goal: u64, seed: u64) -> Result<Sums, String> {
    let name = format!("wakes-{}-{number}", std::process::id());
    let listener = Listener::bind_with(&name, (part.options)()).map_err(pair::context("bind"))?;
    let child = Command::new(std::env::current_exe().map_err(pair::context("this program"))?)
        .args(["answer", &name, &count.to_string(), &number.to_string(), &seed.to_string()])
        .stdin(Stdio::null())
        .spawn();
    let mut child = Kills(child.map_err(pair::context("a second process"))?);
    let accepted = (0..count).map(|_| listener.accept_timeout(PATIENCE)).collect::<Result<Vec<_>, _>>();
    let links: &'static [StandardLink] = accepted.map_err(pair::context("accept"))?.leak();
    let stop: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let threads =
        links.iter().enumerate().flat_map(|(index, link)| act(part, link, true, seed + index as u64, stop));
    let threads: Vec<_> = threads.collect();

    // The watch sees only counters in shared memory: nothing that it does could wake a sleeper.
    let mut last: Vec<_> = links.iter().map(|link| (sums(link), Instant::now())).collect();
    let total = loop {
        thread::sleep(Duration::from_millis(20));
        for (link, (before, since)) in links.iter().zip(&mut last) {
            let now = sums(link);
            if now.messages != before.messages {
                (*before, *since) = (now, Instant::now());
            } else if since.elapsed() > PATIENCE {
                return Err(format!(
                    "stuck, {}: nothing moved for {PATIENCE:?}: {:#?}",
                    part.what,
                    link.stats()
                ));
            }
            *before = now;
        }
        let add = |sum: Sums, (one, _): &(Sums, Instant)| Sums {
            sleeps: sum.sleeps + one.sleeps,
            wakes: sum.wakes + one.wakes,
            messages: sum.messages + one.messages,
        };
        let total = last.iter().fold(Sums::default(), add);
        if total.sleeps >= goal {
            break total;
        }
    };
    stop.store(true, Ordering::Relaxed);
    for link in links {
        link.shutdown(std::net::Shutdown::Both);
    }
    for thread in threads {
        let ended = thread.join().map_err(|_| format!("{}: a thread panicked", part.what))?;
        ended.map_err(|error| format!("{}: {error:?}", part.what))?;
    }
    let limit = Instant::now() + PATIENCE;
    loop {
        match child.0.try_wait().map_err(pair::context("the second process"))? {
            Some(status) if status.success() => return Ok(total),
            Some(status) => return Err(format!("{}: the second process: {status}", part.what)),
            None if Instant::now() > limit => {
                return Err(format!("stuck, {}: the second process does not see the end", part.what));
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// The second process.
pub fn answer(task: &Answer) -> Outcome {
    let part = &PARTS[task.part];
    let links = (0..task.links).map(|_| StandardLink::connect_timeout(&task.name, PATIENCE));
    let links: &'static [StandardLink] =
        links.collect::<Result<Vec<_>, _>>().map_err(pair::context("connect"))?.leak();
    let stop: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let seed = task.seed + 1000;
    let threads =
        links.iter().enumerate().flat_map(|(index, link)| act(part, link, false, seed + index as u64, stop));
    for thread in threads.collect::<Vec<_>>() {
        let ended = thread.join().map_err(|_| "a thread panicked")?;
        ended.map_err(|error| format!("{}, second process: {error:?}", part.what))?;
    }
    Ok(())
}

type Ended = Result<(), Error>;

/// What one end does on one link until the link ends.
fn act(
    part: &Part,
    link: &'static StandardLink,
    first: bool,
    seed: u64,
    stop: &'static AtomicBool,
) -> Vec<JoinHandle<Ended>> {
    let kind = part.kind;
    (0..part.threads as u64)
        .map(|thread| {
            let mut rng = Rng::with_seed(seed << 8 | thread);
            thread::spawn(move || {
                let ended = match kind {
                    Kind::Turns if first => {
                        link.send(&0u64.to_le_bytes()).and_then(|()| round_trips(link, &mut rng))
                    }
                    Kind::Turns => round_trips(link, &mut rng),
                    Kind::Connections if first => link.open_connection().and_then(|connection| {
                        connection.send(&0u64.to_le_bytes())?;
                        talk(&connection, &mut rng)
                    }),
                    Kind::Connections => {
                        link.accept_connection().and_then(|connection| talk(&connection, &mut rng))
                    }
                    Kind::Room | Kind::Buffers if first => flood(link, kind, stop),
                    Kind::Room | Kind::Buffers => trickle(link, &mut rng),
                };
                match ended {
                    Err(Error::Closed) => Ok(()),
                    other => other,
                }
            })
        })
        .collect()
}

fn pause(rng: &mut Rng) {
    thread::sleep(Duration::from_micros(rng.u64(DELAY)));
}

fn round_trips(link: &StandardLink, rng: &mut Rng) -> Ended {
    loop {
        let number = u64::from_le_bytes(link.recv()?[..].try_into().expect("eight bytes were sent"));
        pause(rng);
        link.send(&(number + 1).to_le_bytes())?;
    }
}

fn talk(connection: &Connection, rng: &mut Rng) -> Ended {
    let mut expected = None;
    loop {
        let bytes = connection.recv()?;
        let number = u64::from_le_bytes(bytes[..].try_into().expect("eight bytes were sent"));
        assert!(expected.is_none_or(|expected| expected == number), "{expected:?}: {number}");
        expected = Some(number + 2);
        pause(rng);
        connection.send(&(number + 1).to_le_bytes())?;
    }
}

fn flood(link: &StandardLink, kind: Kind, stop: &AtomicBool) -> Ended {
    let message = [7; 64];
    let len = if kind == Kind::Room { 8 } else { 64 };
    while !stop.load(Ordering::Relaxed) {
        link.send(&message[..len])?;
    }
    Ok(())
}

/// Receives as much as there is, then makes the sender wait; and now and then lets itself be waited for.
fn trickle(link: &StandardLink, rng: &mut Rng) -> Ended {
    loop {
        let message = link.recv()?;
        pause(rng);
        drop(message);
    }
}
