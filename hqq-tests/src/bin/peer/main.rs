//! The other process of a test: does what its standard input says, a line at a time, and answers each line with
//! one that begins with `ok` or `error`. It dies with whoever wrote to it.
//!
//! An order is a word and what belongs to it; `bg` ahead of an order lets it run on a thread of its own, answered
//! only when `join` asks for it. What orders there are stands in the `match`es of the modules.

mod advanced;
mod born;
mod conn;
mod delivery;
mod link;
mod process;
mod raw;

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::io::BufRead;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::str::{FromStr, SplitWhitespace};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use hqq::advanced::AdvancedConnection;
use hqq::{AdvancedLink, Connection, Listener, Options, OwnedMessage, StandardLink, UntrustedLink};
use hqq_tests::trace;

/// What an order finds, or why it fails.
type Answer = Result<String, Box<dyn Error + Send + Sync>>;

/// What the process has.
#[derive(Default)]
struct State {
    listener: Mutex<Option<Arc<Listener>>>,
    link: Mutex<Option<Arc<StandardLink>>>,
    untrusted: Mutex<Option<Arc<UntrustedLink>>>,
    advanced: Mutex<Option<Arc<AdvancedLink>>>,
    connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
    lanes: Mutex<BTreeMap<u64, Arc<AdvancedConnection>>>,
    held: Mutex<Vec<OwnedMessage>>,
    raw: Mutex<raw::Sockets>,
    /// Copies of another process's sockets.
    taken: Mutex<Vec<OwnedFd>>,
    jobs: Mutex<Vec<JoinHandle<Answer>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn link(&self) -> Result<Arc<StandardLink>, String> {
        lock(&self.link).clone().ok_or_else(|| "there is no link".into())
    }
}

/// The words of an order.
struct Words<'w>(SplitWhitespace<'w>);

impl<'w> Words<'w> {
    fn next(&mut self) -> Result<&'w str, String> {
        self.0.next().ok_or_else(|| "a word is missing".into())
    }

    fn number<T: FromStr>(&mut self) -> Result<T, String> {
        let word = self.next()?;
        word.parse().map_err(|_| format!("{word}: not such a number"))
    }

    /// All that are left, as 64-bit numbers: decimal, `0x...`, or `max`.
    fn operands(&mut self) -> Result<Vec<u64>, String> {
        let number = |word: &str| match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None if word == "max" => Some(u64::MAX),
            None => word.parse().ok(),
        };
        self.0.by_ref().map(|word| number(word).ok_or_else(|| format!("{word}: no number"))).collect()
    }

    /// Options, as the words that are left say.
    fn options(&mut self) -> Options {
        let test = env::var(trace::TEST).unwrap_or_default();
        hqq_tests::peer::options(trace::options(&test, Options::new()), self.0.by_ref())
    }
}

fn obey(state: &Arc<State>, order: &str) -> Answer {
    let mut words = Words(order.split_whitespace());
    let verb = words.next()?;
    match verb {
        "bg" => {
            let rest = order.split_once("bg ").map_or("", |(_, rest)| rest).to_owned();
            let inner = state.clone();
            lock(&state.jobs).push(thread::spawn(move || obey(&inner, &rest)));
            return Ok(String::new());
        }
        // Waits for the oldest.
        "join" => {
            let mut jobs = lock(&state.jobs);
            if jobs.is_empty() {
                return Err("nothing runs".into());
            }
            let job = jobs.remove(0);
            drop(jobs);
            return job.join().unwrap_or_else(|_| Err("it panicked".into()));
        }
        "cpu" => return Ok(hqq_sys::cpu::cpu_time().as_micros().to_string()),
        // Becomes a program that knows nothing of links.
        "exec" => return Err(Command::new("sleep").arg("1000").exec().into()),
        "left" => return left(),
        _ => {}
    }
    if let Some(answer) = link::obey(state, verb, &mut words) {
        return answer;
    }
    if let Some(answer) = conn::obey(state, verb, &mut words) {
        return answer;
    }
    if let Some(answer) = advanced::obey(state, verb, &mut words) {
        return answer;
    }
    if let Some(answer) = delivery::obey(state, verb, &mut words) {
        return answer;
    }
    if let Some(answer) = process::obey(state, verb, &mut words) {
        return answer;
    }
    raw::obey(state, verb, &mut words).unwrap_or_else(|| Err(format!("{verb}: no such order").into()))
}

/// How many descriptors this process has open, and how many regions it has mapped.
fn left() -> Answer {
    let open = std::fs::read_dir("/proc/self/fd")?.count();
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mapped = maps.lines().filter(|line| line.contains("memfd:hqq:")).count();
    Ok(format!("{open} {mapped}"))
}

fn main() {
    born::again(&env::args().skip(1).collect::<Vec<_>>());
    let (sender, orders) = channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
        // Whatever the main thread is blocked in: nobody is left to tell it anything.
        std::process::exit(9);
    });
    let state = Arc::new(State::default());
    for order in orders {
        if order == "quit" {
            return;
        }
        match obey(&state, &order) {
            Ok(found) => println!("ok {found}"),
            Err(error) => println!("error {error:?}"),
        }
    }
}
