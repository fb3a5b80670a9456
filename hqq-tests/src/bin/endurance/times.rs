//! Recovery times: from just before the call of `kill` until the survivor's blocked `recv` returns that the peer is dead, when
//! its buffers have been recovered; and until the first message of a waiting successor.

use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use hqq::observe::Observer;
use hqq::{Error, Listener, Options, StandardLink};

use crate::pair::{self, Outcome};

const SOON: Duration = Duration::from_secs(30);

#[derive(Args)]
pub struct Wishes {
    /// Kills of each kind
    #[arg(long, default_value_t = 1000)]
    kills: usize,
    /// Prints one line of JSON
    #[arg(long)]
    json: bool,
    /// Fails if a figure is over its limit: 0.5 ms (p50) and 5 ms (p99) to recovery, 1.5 ms (p50) to a newcomer's message
    #[arg(long)]
    limits: bool,
}

#[derive(Args)]
pub struct Victim {
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    /// It waits for a message, as the survivor does
    Idle,
    /// It holds every buffer of both pools, and the ring towards it is full
    Full,
    /// It sends and receives on two threads
    Busy,
    /// A newcomer waits at the listener, for a link of its own
    NextLink,
    /// A newcomer waits at the listener, to take the dead's place on the link
    Reattach,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Idle, Self::Full, Self::Busy, Self::NextLink, Self::Reattach];

    fn what(self) -> &'static str {
        match self {
            Self::Idle => "recovered: it waited for a message",
            Self::Full => "recovered: it held everything",
            Self::Busy => "recovered: in the midst of traffic",
            Self::NextLink => "a newcomer's first message, new link",
            Self::Reattach => "a newcomer's first message, same link",
        }
    }

    /// Limits of median and 99th percentile.
    fn limits(self) -> (Duration, Option<Duration>) {
        match self {
            Self::Idle | Self::Full | Self::Busy => {
                (Duration::from_micros(500), Some(Duration::from_millis(5)))
            }
            Self::NextLink | Self::Reattach => (Duration::from_micros(1500), None),
        }
    }

    fn has_newcomer(self) -> bool {
        matches!(self, Self::NextLink | Self::Reattach)
    }
}

pub fn run(wishes: &Wishes) -> Outcome {
    let mut rows = Vec::new();
    let mut over = Vec::new();
    for kind in Kind::ALL {
        let mut times = measure(kind, wishes.kills)?;
        times.sort_unstable();
        // The smallest time that at least this share of all does not exceed.
        let at = |share: f64| times[((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1];
        let (median, tail, longest) = (at(0.5), at(0.99), at(1.0));
        let (most, most_tail) = kind.limits();
        if median > most || most_tail.is_some_and(|most| tail > most) {
            over.push(kind.what());
        }
        if !wishes.json {
            println!(
                "{:<40} {} kills: p50 {:>9.1?}, p99 {:>9.1?}, longest {:>9.1?}",
                kind.what(),
                times.len(),
                median,
                tail,
                longest
            );
        }
        rows.push(serde_json::json!({
            "what": kind.what(),
            "kills": times.len(),
            "p50_us": median.as_secs_f64() * 1e6,
            "p99_us": tail.as_secs_f64() * 1e6,
            "longest_us": longest.as_secs_f64() * 1e6,
        }));
    }
    if wishes.json {
        println!("{}", serde_json::Value::from(rows));
    }
    match over.as_slice() {
        [_, ..] if wishes.limits => Err(format!("over the limit: {}", over.join("; "))),
        _ => Ok(()),
    }
}

/// A process that is killed at the latest when this is dropped.
struct Process(Child);

impl Process {
    fn start(name: &str, kind: Kind) -> Result<Self, String> {
        let kind = kind.to_possible_value().expect("no kind is hidden");
        Command::new(std::env::current_exe().map_err(pair::context("this program"))?)
            .args(["victim", name, kind.get_name()])
            .stdin(Stdio::null())
            .spawn()
            .map(Self)
            .map_err(pair::context("a second process"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(kind: Kind, kills: usize) -> Result<Vec<Duration>, String> {
    let name = format!("times-{}-{}", std::process::id(), kind as u8);
    let options = Options::new().reattachable(kind == Kind::Reattach);
    let listener = Listener::bind_with(&name, options).map_err(pair::context("bind"))?;
    let accept = || listener.accept_timeout(SOON).map_err(pair::context("accept"));
    if kind.has_newcomer() {
        let mut victim = Process::start(&name, kind)?;
        let mut link = accept()?;
        link.recv().map_err(pair::context("the first message"))?;
        return (0..kills)
            .map(|_| {
                let newcomer = Process::start(&name, kind)?;
                let knocks =
                    hqq_sys::poll::many(&[listener.as_fd()], Some(SOON)).map_err(pair::context("poll"))?;
                if !knocks[0] {
                    return Err("no newcomer knocks".into());
                }
                let time = until_newcomer(&listener, &mut link, &mut victim, kind)?;
                victim = newcomer;
                Ok(time)
            })
            .collect();
    }
    let once = |_| {
        let mut victim = Process::start(&name, kind)?;
        let link = accept()?;
        if kind == Kind::Full {
            fill(&link)?;
        }
        until_recovered(&link, &mut victim, kind)
    };
    (0..kills).map(once).collect()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Outcome {
    let limit = Instant::now() + SOON;
    while !holds() {
        if Instant::now() > limit {
            return Err(format!("not within {SOON:?}: {what}"));
        }
        thread::yield_now();
    }
    // A sleep is counted just before it.
    thread::sleep(Duration::from_micros(300));
    Ok(())
}

/// Lets the victim hold all that it can: it keeps what it receives, and has lent itself all of its own.
fn fill(link: &StandardLink) -> Outcome {
    for _ in 0..link.geometry().buffers() {
        link.send(&[1; 1000]).map_err(pair::context("send"))?;
    }
    link.recv().map_err(pair::context("its word that it holds all"))?;
    loop {
        match link.try_send(b"no buffer needed") {
            Ok(()) => {}
            Err(Error::RingFull { .. }) => break,
            Err(error) => return Err(format!("{error:?}")),
        }
    }
    let stats = link.stats();
    let free: u64 = stats.directions.iter().map(|direction| direction.buffers_free).sum();
    if free == 0 { Ok(()) } else { Err(format!("{free} buffers are free")) }
}

fn until_recovered(link: &StandardLink, victim: &mut Process, kind: Kind) -> Result<Duration, String> {
    let before = link.stats();
    let took = thread::scope(|scope| {
        if kind == Kind::Busy {
            scope.spawn(|| while link.send(&[1; 100]).is_ok() {});
        }
        let survivor = scope.spawn(|| {
            loop {
                match link.recv() {
                    Ok(_) => {}
                    Err(Error::PeerDead) => return Ok(Instant::now()),
                    Err(error) => return Err(format!("{}: {error:?}", kind.what())),
                }
            }
        });
        let under_way = eventually("the survivor waits", || {
            let now = link.stats();
            if kind == Kind::Busy {
                (0..2).all(|way| now.directions[way].packets_received > 1000)
            } else {
                now.side(link.role()).sleeps > before.side(link.role()).sleeps
            }
        });
        let began = Instant::now();
        victim.0.kill().map_err(pair::context("kill"))?;
        let ended = survivor.join().map_err(|_| "the survivor panicked")??;
        under_way.map(|()| ended - began)
    })?;
    let stats = link.stats();
    let inward = stats.sent_by(link.role().other());
    let (free, all) = (inward.buffers_free, u64::from(link.geometry().buffers()));
    // What lies in the ring to the dead is nobody's to receive; all else is free.
    let held = stats.sent_by(link.role()).buffers_held;
    if free == all && (held == 0 || kind == Kind::Busy) {
        Ok(took)
    } else {
        Err(format!("{}: not recovered: {stats:?}", kind.what()))
    }
}

fn until_newcomer(
    listener: &Listener,
    link: &mut StandardLink,
    victim: &mut Process,
    kind: Kind,
) -> Result<Duration, String> {
    let observer = Observer::open(link.memory()).map_err(pair::context("observe"))?;
    let role = link.role();
    let asleep = observer.stats().side(role).sleeps;
    thread::scope(|scope| {
        let survivor = scope.spawn(|| {
            let ended = link.recv().map(drop);
            if !matches!(ended, Err(Error::PeerDead)) {
                return Err(format!("{}: {ended:?}", kind.what()));
            }
            if kind == Kind::Reattach {
                listener.reattach_timeout(link, SOON).map_err(pair::context("reattach"))?;
            } else {
                *link = listener.accept_timeout(SOON).map_err(pair::context("accept"))?;
            }
            let message = link.recv().map_err(pair::context("the newcomer's first message"))?;
            let now = Instant::now();
            if *message == HERE { Ok(now) } else { Err("another message".into()) }
        });
        let waits = eventually("the survivor waits", || observer.stats().side(role).sleeps > asleep);
        let began = Instant::now();
        victim.0.kill().map_err(pair::context("kill"))?;
        let ended = survivor.join().map_err(|_| "the survivor panicked")??;
        waits.map(|()| ended - began)
    })
}

/// A newcomer's first message.
const HERE: [u8; 8] = *b"I'm here";

/// The process that will be killed.
pub fn victim(task: &Victim) -> Outcome {
    let link = StandardLink::connect_timeout(&task.name, SOON).map_err(pair::context("connect"))?;
    let forever = |link: &StandardLink| while link.recv().is_ok() {};
    match task.kind {
        Kind::Idle => forever(&link),
        Kind::Full => {
            let count = link.geometry().buffers();
            let received: Result<Vec<_>, _> = (0..count).map(|_| link.recv()).collect();
            let lent: Result<Vec<_>, _> = (0..count).map(|_| link.loan(1000)).collect();
            let _all = (received.map_err(pair::context("recv"))?, lent.map_err(pair::context("loan"))?);
            link.send(b"all").map_err(pair::context("send"))?;
            loop {
                thread::park();
            }
        }
        Kind::Busy => thread::scope(|scope| {
            scope.spawn(|| while link.send(&[2; 100]).is_ok() {});
            forever(&link);
        }),
        Kind::NextLink | Kind::Reattach => {
            link.send(&HERE).map_err(pair::context("send"))?;
            forever(&link);
        }
    }
    // The survivor never ends the link while this process lives, but it may end itself.
    Ok(())
}
