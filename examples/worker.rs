//! A restartable worker with reliable delivery: it adds numbers, is killed again and again, and each number counts once. The
//! sum and the receipt of the last number are in one file, which is replaced atomically.
//!
//! ```sh
//! cargo run --example worker
//! ```
//!
//! For two terminals: `-- listen NAME` in one and `-- connect NAME` in the other. Kill the second, and start it again.

use hqq::advanced::{AdvancedOptions, Reliability};
use hqq::features::reliable::{Position, Receipt};
use hqq::{AdvancedLink, Error, Listener, Options, StandardLink};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;
use std::{env, fs, thread};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const NUMBERS: u64 = 200;
/// How often the worker kills itself.
const DEATHS: u64 = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// The worker's progress.
struct Ledger {
    path: PathBuf,
    sum: u64,
    /// Receipt of the message that was processed last. Messages are processed in order, so all before it were too.
    last: Option<Receipt>,
}

impl Ledger {
    fn open(name: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let path = file(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|_| "0 0 0".into());
        let words: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [sum, session, sequence] = words[..] else { return Err("a damaged ledger".into()) };
        let last = NonZeroU64::new(session).map(|session| Receipt { session, sequence });
        Ok(Self { path, sum, last })
    }

    /// Adds `number` and writes the sum and `receipt` atomically.
    fn commit(&mut self, number: u64, receipt: Receipt) -> Outcome {
        self.sum += number;
        let (draft, Receipt { session, sequence }) = (self.path.with_extension("new"), receipt);
        fs::write(&draft, format!("{} {session} {sequence}", self.sum))?;
        fs::rename(&draft, &self.path)?;
        Ok(())
    }
}

fn file(name: &str) -> PathBuf {
    env::temp_dir().join(format!("hqq-ledger-{}", name.replace(['/', '\\'], "-")))
}

/// The worker. It aborts after `deadly` numbers, if that is not 0, and sleeps for `pause` before each.
fn work(name: &str, deadly: u64, pause: Duration) -> Outcome {
    let mut ledger = Ledger::open(name)?;
    let mut reliability = Reliability::new();
    if let Some(Receipt { session, sequence }) = ledger.last {
        reliability = reliability.resume(Position { session, upto: sequence }, []);
    }
    println!("worker {}: goes on at a sum of {}", std::process::id(), ledger.sum);
    let link = StandardLink::connect_timeout(name, PATIENCE)?;
    let wanted = AdvancedOptions::new().reliable(reliability);
    let link = AdvancedLink::wait_for_negotiation(link, &wanted, PATIENCE)?;
    for count in 1.. {
        let message = match link.recv() {
            Ok(message) => message,
            Err(Error::Closed) => break,
            Err(error) => return Err(error.into()),
        };
        let number = u64::from_le_bytes(message.as_ref().try_into()?);
        let receipt = message.receipt().ok_or("the link is not reliable")?;
        // Time to kill it by hand.
        thread::sleep(pause);
        ledger.commit(number, receipt)?;
        if count == deadly {
            // The file is written; the message is not acknowledged yet.
            std::process::abort();
        }
        message.acknowledge()?;
    }
    println!("worker {}: done, the sum is {}", std::process::id(), ledger.sum);
    Ok(())
}

fn start(name: &str, deadly: u64) -> std::io::Result<Child> {
    Command::new(env::current_exe()?).args(["connect", name, &deadly.to_string()]).spawn()
}

/// The sender. `hire` starts another worker when one has died.
fn listen(name: &str, mut hire: impl FnMut(u64) -> Outcome) -> Outcome {
    let path = file(name);
    let _ = fs::remove_file(&path);
    let listener = Listener::bind_with(name, Options::new().slots(64).buffers(16).reattachable(true))?;
    hire(0)?;
    let wanted = AdvancedOptions::new().reliable(Reliability::new().messages(50));
    let mut link = AdvancedLink::negotiate(listener.accept_timeout(PATIENCE)?, &wanted, PATIENCE)?;
    let (mut next, mut deaths) = (1, 0);
    loop {
        let done = match next {
            1..=NUMBERS => link.send(&next.to_le_bytes()),
            _ => link.wait_acknowledged(PATIENCE),
        };
        match done {
            Ok(()) if next > NUMBERS => break,
            Ok(()) => next += 1,
            Err(Error::PeerDead | Error::Closed) => {
                deaths += 1;
                println!("{} numbers were sent; the worker is dead. Another one!", next - 1);
                hire(deaths)?;
                link.reattach(&listener, PATIENCE)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let figures = link.deliveries().ok_or("the link is not reliable")?.store;
    println!("{deaths} deaths, {} numbers sent again", figures.resent);
    drop(link);
    check(&path)
}

fn check(path: &Path) -> Outcome {
    let text = fs::read_to_string(path)?;
    let sum = text.split_whitespace().next().ok_or("an empty ledger")?;
    println!("the ledger says {sum}");
    assert_eq!(sum.parse(), Ok(NUMBERS * (NUMBERS + 1) / 2), "each number counts once");
    fs::remove_file(path)?;
    Ok(())
}

fn main() -> Outcome {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["connect", name] => return work(name, u64::MAX, Duration::from_millis(50)),
        ["connect", name, deadly] => return work(name, deadly.parse()?, Duration::ZERO),
        ["listen", name] => return listen(name, |_| Ok(())),
        [] => {}
        _ => return Err("usage: no arguments, or `listen NAME` and `connect NAME` in two terminals".into()),
    }
    let name = format!("worker-{}", std::process::id());
    let mut worker: Option<Child> = None;
    let other = name.clone();
    listen(&name, |deaths| {
        if let Some(mut dead) = worker.take() {
            dead.wait()?;
        }
        worker = Some(start(&other, if deaths < DEATHS { 20 + 7 * deaths } else { u64::MAX })?);
        Ok(())
    })?;
    let ended = worker.map_or(Ok(true), |mut worker| worker.wait().map(|status| status.success()))?;
    assert!(ended, "the last worker was not killed");
    Ok(())
}
