//! The soak: two processes under load; one of them is killed and restarted, repeatedly.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender as Channel, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use fastrand::Rng;
use hqq_tests::traced::Traced;
use rustix::process::{Pid, Signal, kill_process};

use crate::ledger::{LINKS, Ledger, RECEIVERS, Received, SENDERS, Sender};
use crate::pair::{self, Outcome};
use crate::worker::THREADS;

/// How long what must happen may take.
const SOON: Duration = Duration::from_secs(30);
/// Deaths after which a process's memory must not grow any more.
const WARM: usize = 16;
/// KiB by which it may seem to grow all the same: what an allocator keeps for threads varies.
const SLACK: u64 = 1024;

#[derive(Args)]
pub struct Wishes {
    /// Kills and restarts
    #[arg(long, default_value_t = 10_000)]
    cycles: u64,
    /// Goes on for so long instead
    #[arg(long)]
    minutes: Option<f64>,
    /// What is random is the same for the same seed, but for the exact moments
    #[arg(long)]
    seed: Option<u64>,
    /// Stops one of the processes for so many seconds, by a signal and as a debugger does, instead of killing it
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60")]
    paused: Option<u64>,
    /// Tells of each kill and each link
    #[arg(long)]
    verbose: bool,
}

/// One of the two processes.
struct Side {
    id: u64,
    child: Child,
    orders: ChildStdin,
    ledger: Ledger,
    /// How far each receiver's log has been read.
    read: [u64; RECEIVERS as usize],
    /// Its present link's number.
    link: u64,
    /// What it said it has open, mapped and in memory after each link.
    left: Vec<[u64; 3]>,
    connections: u64,
    /// Of each ring.
    slots: u64,
    /// How many processes it has outlived on its present link.
    successors: u64,
    /// It has ended in order.
    closed: bool,
    /// Its links below this number are accounted for.
    verified: u64,
}

impl Side {
    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn has_sent(&self, link: u64) -> bool {
        (0..SENDERS).any(|thread| self.ledger.sent(link, thread).0 > 0)
    }

    fn signal(&self, signal: Signal) -> Outcome {
        let pid = Pid::from_raw(self.pid()).ok_or("no process")?;
        kill_process(pid, signal).map_err(pair::context("signal"))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How the processes of an era go about it.
struct Era {
    options: String,
    slots: u64,
    name: String,
    connections: u64,
    reattaches: bool,
    cycles: u64,
    /// Only this side is killed, so that the other lives long.
    victim: Option<usize>,
}

impl Era {
    fn random(rng: &mut Rng, folder: &Path, number: u64) -> Self {
        let mode = rng.choice(["mpmc", "mpmc", "spsc", "mpsc", "spmc"]).unwrap_or("mpmc");
        let (slots, buffers) = (rng.choice([4, 16, 64]).unwrap_or(4), rng.choice([8, 64]).unwrap_or(8));
        let bare = format!("soak-{}-{number}", std::process::id());
        let name = if rng.bool() { bare } else { folder.join(bare).to_string_lossy().into_owned() };
        Self {
            slots,
            options: format!("slots={slots} buffers={buffers} size=256 mode={mode}"),
            name,
            connections: if rng.u8(..3) == 0 { 2 } else { 0 },
            reattaches: rng.bool(),
            cycles: rng.u64(16..LINKS - 8),
            victim: if rng.bool() { Some(rng.usize(..2)) } else { None },
        }
    }
}

impl std::fmt::Display for Era {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { options, connections, reattaches, victim, name, .. } = self;
        write!(f, "{name}: {options}, {connections} connections, ")?;
        write!(f, "{}", if *reattaches { "links go on with successors" } else { "a link for each pair" })?;
        match victim {
            None => write!(f, ", either side dies"),
            Some(side) => write!(f, ", only the {} dies", ["Primary", "Secondary"][*side]),
        }
    }
}

#[derive(Default)]
struct Totals {
    kills: [u64; 2],
    early: u64,
    received: u64,
    unsure: u64,
    growth: u64,
    workers: u64,
}

struct Soak {
    verbose: bool,
    rng: Rng,
    totals: Totals,
    events: Receiver<(u64, String)>,
    says: Channel<(u64, String)>,
    received: Received,
}

pub fn run(wishes: &Wishes) -> Outcome {
    let seed = wishes.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let folder = Folder::new()?;
    let (before, open) = (files(), descriptors());
    let (says, events) = channel();
    let mut soak = Soak {
        verbose: wishes.verbose,
        rng: Rng::with_seed(seed),
        totals: Totals::default(),
        events,
        says,
        received: Received::default(),
    };
    let began = Instant::now();
    if let Some(seconds) = wishes.paused {
        soak.paused(&folder.0, Duration::from_secs(seconds)).map_err(|why| format!("seed {seed}: {why}"))?;
        println!(
            "paused: {} messages, 0 lost, 0 doubled, 0 torn; never taken for dead, {:.0} s (seed {seed})",
            soak.totals.received,
            began.elapsed().as_secs_f64()
        );
        return Ok(());
    }
    let until = wishes.minutes.map(|minutes| began + Duration::from_secs_f64(minutes * 60.0));
    let mut told = began;
    for number in 0.. {
        let done: u64 = soak.totals.kills.iter().sum();
        let left = if until.is_some() { u64::MAX } else { wishes.cycles.saturating_sub(done) };
        if left == 0 || until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let mut era = Era::random(&mut soak.rng, &folder.0, number);
        era.cycles = era.cycles.min(left);
        soak.era(&era, until).map_err(|why| format!("seed {seed}, after {done} cycles, {era}: {why}"))?;
        if told.elapsed() > Duration::from_secs(20) {
            told = Instant::now();
            eprintln!(
                "{} cycles, {:.0} s",
                soak.totals.kills.iter().sum::<u64>(),
                began.elapsed().as_secs_f64()
            );
        }
    }
    // The threads that heard the last processes may not have ended yet.
    let limit = Instant::now() + SOON;
    while descriptors() > open && Instant::now() < limit {
        thread::sleep(Duration::from_millis(1));
    }
    let left: Vec<_> = files().into_iter().filter(|file| !before.contains(file)).collect();
    let opened = descriptors().saturating_sub(open);
    let Totals { kills: [primaries, secondaries], early, received, unsure, growth, workers } = soak.totals;
    println!(
        "soak: {} cycles ({primaries} Primaries and {secondaries} Secondaries killed, {early} of them at any moment of \
         the handshake too) in {:.0} s, seed {seed}; {received} messages received, 0 committed ones lost, 0 doubled, \
         0 torn; {unsure} in the hands of the dead; {workers} processes: descriptors and mappings +0, memory at most \
         +{growth} KiB, {} files and {opened} descriptors left",
        primaries + secondaries,
        began.elapsed().as_secs_f64(),
        left.len(),
    );
    if growth > SLACK {
        return Err(format!("seed {seed}: memory grew by {growth} KiB"));
    }
    if left.is_empty() && opened == 0 {
        Ok(())
    } else {
        Err(format!("seed {seed}: left: {left:?}, {opened} descriptors"))
    }
}

/// A folder for socket files, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("hqq-soak-{}", std::process::id()));
        fs::create_dir(&folder).map_err(pair::context("folder"))?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Harmless if it stays.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What lies where HQQ could leave files, by the names that this process gives.
fn files() -> Vec<PathBuf> {
    let folders = [PathBuf::from("/dev/shm"), std::env::temp_dir()];
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let ours = format!("soak-{}", std::process::id());
    paths.filter(|path| path.to_string_lossy().contains(&ours)).collect()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

impl Soak {
    fn start(&mut self, era: &Era, side: usize) -> Result<Side, String> {
        let id = self.totals.workers;
        self.totals.workers += 1;
        let ledger = Ledger::create().map_err(pair::context("ledger"))?;
        let mut command = Command::new(std::env::current_exe().map_err(pair::context("this program"))?);
        command.args(["worker", "--id", &id.to_string(), "--name", &era.name, "--ledger", &ledger.path()]);
        command.args(["--options", &era.options, "--connections", &era.connections.to_string()]);
        if side == 0 {
            command.arg("--listens");
        }
        if era.reattaches {
            command.arg("--reattaches");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(pair::context("a process"))?;
        let orders = child.stdin.take().ok_or("no pipe")?;
        let lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let says = self.says.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if says.send((id, line)).is_err() {
                    return;
                }
            }
            let _ = says.send((id, "end".into()));
        });
        Ok(Side {
            id,
            child,
            orders,
            ledger,
            read: [0; RECEIVERS as usize],
            link: 0,
            left: Vec::new(),
            connections: era.connections,
            slots: era.slots,
            successors: 0,
            closed: false,
            verified: 0,
        })
    }

    /// Hears what the processes say until `done` holds of what each has said last of being linked: the other's process.
    fn read_lines(
        &mut self,
        sides: &mut [Side; 2],
        what: &str,
        mut done: impl FnMut(usize, &str) -> bool,
    ) -> Outcome {
        let limit = Instant::now() + SOON;
        loop {
            let left = limit.saturating_duration_since(Instant::now());
            let Ok((id, line)) = self.events.recv_timeout(left) else {
                return Err(format!("STUCK: not within {SOON:?}: {what}; {}", stacks(sides)));
            };
            if self.verbose {
                eprintln!("process {id}: {line}");
            }
            if line.starts_with("fault") {
                return Err(format!("process {id}: {line}"));
            }
            // Others are dead, and what else they said is of no importance.
            let Some(side) = sides.iter().position(|side| side.id == id) else { continue };
            let words: Vec<&str> = line.split(' ').collect();
            let number = |word: &str| word.parse::<u64>().map_err(|_| format!("{line}: no number"));
            match words.as_slice() {
                ["linked", link, _] => {
                    let link = number(link)?;
                    if link != sides[side].link {
                        sides[side].successors = 0;
                    }
                    sides[side].link = link;
                }
                ["end"] if sides[side].closed => {}
                ["over", _, how, open, mapped, memory] => {
                    sides[side].closed = *how == "Closed";
                    sides[side].left.push([number(open)?, number(mapped)?, number(memory)?]);
                }
                _ => return Err(format!("process {id} ({}): {line}", ["Primary", "Secondary"][side])),
            }
            if done(side, &line) {
                return Ok(());
            }
        }
    }

    /// Until each says that it is linked with the other.
    fn wait_linked(&mut self, sides: &mut [Side; 2]) -> Outcome {
        let pids = [0, 1].map(|side| sides[side].pid());
        let mut met = [false; 2];
        self.read_lines(sides, "both are linked", |side, line| {
            met[side] |= line.starts_with("linked") && line.ends_with(&format!(" {}", pids[1 - side]));
            met == [true; 2]
        })
    }

    fn era(&mut self, era: &Era, until: Option<Instant>) -> Outcome {
        let mut sides = [self.start(era, 0)?, self.start(era, 1)?];
        let mut dead = Vec::new();
        for cycle in 0..era.cycles {
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            // Mostly in the midst of traffic; now and then whatever they do so soon after the last kill.
            let early = self.rng.u8(..8) == 0;
            if !early {
                self.wait_linked(&mut sides)?;
                self.verify(&mut sides, &mut dead).map_err(|why| format!("cycle {cycle}: {why}"))?;
            }
            let most = if early { 4_000 } else { 12_000 };
            thread::sleep(Duration::from_micros(self.rng.u64(..most)));
            let victim = era.victim.unwrap_or_else(|| self.rng.usize(..2));
            let killed = self.kill(&mut sides[victim])?;
            if !killed {
                // What it died of, it has said.
                self.read_lines(&mut sides, "why a process ended by itself", |_, _| false)?;
            }
            if self.verbose {
                eprintln!("process {} killed, early: {early}", sides[victim].id);
            }
            self.totals.kills[victim] += 1;
            self.totals.early += u64::from(early);
            let next = self.start(era, victim)?;
            let side = std::mem::replace(&mut sides[victim], next);
            let survivor = &mut sides[1 - victim];
            survivor.successors += 1;
            // If that one is new itself, the dead may have been linked with its predecessor.
            let known = !dead.iter().any(|dead: &Dead| dead.place != victim);
            dead.push(Dead { side, place: victim, partner: known.then_some(survivor.id) });
        }
        self.wait_linked(&mut sides)?;
        self.verify(&mut sides, &mut dead)?;
        self.finish(&mut sides)
    }

    /// False if it had ended by itself.
    fn kill(&mut self, side: &mut Side) -> Result<bool, String> {
        side.child.kill().map_err(pair::context("kill"))?;
        let status = side.child.wait().map_err(pair::context("wait"))?;
        Ok(status.signal() == Some(libc::SIGKILL))
    }

    fn read_log(&mut self, side: &mut Side) {
        for (receiver, read) in side.read.iter_mut().enumerate() {
            let entries = side.ledger.log(receiver as u64, *read);
            *read += entries.len() as u64;
            for (sender, number) in entries {
                self.received.add(sender, number);
            }
        }
    }

    /// Both are linked, so whoever outlived another has received all that this one had sent.
    fn verify(&mut self, sides: &mut [Side; 2], dead: &mut Vec<Dead>) -> Outcome {
        for side in dead.iter_mut().map(|dead| &mut dead.side).chain(sides.iter_mut()) {
            self.read_log(side);
        }
        for Dead { side, partner, .. } in dead.drain(..) {
            let survived = sides.iter().any(|side| Some(side.id) == partner);
            let links: Vec<u64> = (side.verified..LINKS).filter(|&link| side.has_sent(link)).collect();
            for &link in &links {
                let strict = survived && links.last() == Some(&link);
                self.verify_link(&side, link, if strict { Demand::All } else { Demand::NoGap })?;
            }
        }
        for side in sides {
            for link in side.verified..side.link {
                self.verify_link(side, link, Demand::NoGap)?;
                side.verified = link + 1;
            }
            let [first, .., third, second, last] = side.left.as_slice() else { continue };
            let excess = |left: &[u64; 3]| left[0] > first[0] || left[1] > first[1];
            if excess(third) && excess(second) && excess(last) {
                return Err(format!("descriptors or mappings grow: {first:?} became {last:?}"));
            }
            if let Some(warm) = side.left.get(WARM) {
                self.totals.growth = self.totals.growth.max(last[2].saturating_sub(warm[2]));
            }
        }
        Ok(())
    }

    fn verify_link(&mut self, side: &Side, link: u64, demand: Demand) -> Outcome {
        for thread in 0..SENDERS {
            let sender = Sender { worker: side.id, link, thread };
            let (begun, done) = side.ledger.sent(link, thread);
            // What each receiver of a dead process had in hand, and what was being sent to it.
            let mut each = THREADS + 1;
            if side.connections > 0 {
                // And what it had sorted into its inbox, which has room for so much: then it had received it.
                each += 64 + 2 * side.slots;
            }
            let successors = if link == side.link { side.successors } else { 0 };
            let unsure = match demand {
                // Connections and what was on them end with the process at the other end.
                Demand::All if thread >= THREADS && successors > 0 => u64::MAX,
                Demand::All => successors * each,
                Demand::NoGap => (successors + 1) * each,
            };
            let verified = match demand {
                Demand::All => self.received.verify(sender, begun, done, unsure),
                Demand::NoGap => self.received.verify_prefix(sender, begun, unsure),
            };
            let (received, unsure) = verified?;
            self.totals.received += received;
            self.totals.unsure += unsure;
        }
        Ok(())
    }

    /// Lets both end in order: then all that was sent has been received.
    fn finish(&mut self, sides: &mut [Side; 2]) -> Outcome {
        for side in sides.iter_mut() {
            writeln!(side.orders, "finish").map_err(pair::context("finish"))?;
        }
        let mut over = [false; 2];
        self.read_lines(sides, "both have finished", |side, line| {
            over[side] |= line.starts_with("over") && line.contains("Closed");
            over == [true; 2]
        })?;
        for side in sides.iter_mut() {
            self.read_log(side);
        }
        for side in sides.iter() {
            self.verify_link(side, side.link, Demand::All)?;
        }
        self.received.all_settled()
    }

    /// Stops one side for a while, each in both ways; the other must wait for it as if nothing were.
    fn paused(&mut self, folder: &Path, time: Duration) -> Outcome {
        let era = Era {
            options: "slots=16 buffers=64 size=256".into(),
            slots: 16,
            connections: 2,
            reattaches: false,
            ..Era::random(&mut self.rng, folder, 0)
        };
        let mut sides = [self.start(&era, 0)?, self.start(&era, 1)?];
        self.wait_linked(&mut sides)?;
        for debugger in [false, true] {
            for side in 0..2 {
                let what = format!(
                    "the {} {}",
                    ["Primary", "Secondary"][side],
                    if debugger { "in a debugger" } else { "stopped by a signal" }
                );
                thread::sleep(Duration::from_millis(300));
                let pause = || match self.events.recv_timeout(time) {
                    Ok((_, line)) => Err(format!("{what}: {line}")),
                    Err(_) => Ok(()),
                };
                if debugger {
                    let traced = Traced::stop(sides[side].pid()).map_err(pair::context("trace"))?;
                    pause()?;
                    drop(traced);
                } else {
                    sides[side].signal(Signal::STOP)?;
                    pause()?;
                    sides[side].signal(Signal::CONT)?;
                }
                eprintln!("{what} for {time:?}");
            }
        }
        thread::sleep(Duration::from_millis(300));
        self.finish(&mut sides)
    }
}

struct Dead {
    side: Side,
    /// 0 for a Primary, 1 for a Secondary.
    place: usize,
    /// With whom alone it can have been linked last.
    partner: Option<u64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Demand {
    /// All that was sent has been received.
    All,
    /// What was received last may be anywhere.
    NoGap,
}

/// What the threads of both wait for in the kernel.
fn stacks(sides: &[Side; 2]) -> String {
    let mut all = BTreeMap::<String, u64>::new();
    for (side, name) in sides.iter().zip(["Primary", "Secondary"]) {
        let tasks = fs::read_dir(format!("/proc/{}/task", side.pid())).into_iter().flatten();
        for task in tasks.filter_map(Result::ok) {
            let wchan = fs::read_to_string(task.path().join("wchan")).unwrap_or_default();
            *all.entry(format!("{name} in {wchan}")).or_default() += 1;
        }
    }
    format!("{all:?}")
}
