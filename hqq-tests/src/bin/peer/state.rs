//! The state of the process, and the words of a command.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::{FromStr, SplitWhitespace};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use hqq::{AdvancedLink, Connection, Listener, Options, OwnedMessage, StandardLink, UntrustedLink};
use hqq_tests::trace;

/// The result of a command.
pub type Answer = Result<String, Box<dyn Error + Send + Sync>>;

/// The links, connections and sockets of the process.
#[derive(Default)]
pub struct State {
    pub listener: Mutex<Option<Arc<Listener>>>,
    pub link: Mutex<Option<Arc<StandardLink>>>,
    pub untrusted: Mutex<Option<Arc<UntrustedLink>>>,
    pub advanced: Mutex<Option<Arc<AdvancedLink>>>,
    pub connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
    pub advanced_connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
    pub held: Mutex<Vec<OwnedMessage>>,
    pub raw: Mutex<Sockets>,
    /// Copies of sockets of another process.
    pub copied: Mutex<Vec<OwnedFd>>,
    pub jobs: Mutex<Vec<JoinHandle<Answer>>>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub fn link(&self) -> Result<Arc<StandardLink>, String> {
        lock(&self.link).clone().ok_or_else(|| "there is no link".into())
    }
}

/// The sockets of handshakes made by hand.
#[derive(Default)]
pub struct Sockets {
    pub listener: Option<OwnedFd>,
    pub socket: Option<OwnedFd>,
}

impl Sockets {
    pub fn socket(&self) -> Result<BorrowedFd<'_>, String> {
        self.socket.as_ref().map(OwnedFd::as_fd).ok_or_else(|| "there is no socket".into())
    }
}

/// The words of a command.
pub struct Words<'w>(pub SplitWhitespace<'w>);

impl<'w> Words<'w> {
    pub fn next(&mut self) -> Result<&'w str, String> {
        self.0.next().ok_or_else(|| "a word is missing".into())
    }

    pub fn number<T: FromStr>(&mut self) -> Result<T, String> {
        let word = self.next()?;
        word.parse().map_err(|_| format!("{word}: not a valid number"))
    }

    /// The remaining words as 64-bit numbers: decimal, `0x...`, or `max`.
    pub fn operands(&mut self) -> Result<Vec<u64>, String> {
        let number = |word: &str| match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None if word == "max" => Some(u64::MAX),
            None => word.parse().ok(),
        };
        self.0.by_ref().map(|word| number(word).ok_or_else(|| format!("{word}: not a number"))).collect()
    }

    /// The remaining words as options.
    pub fn options(&mut self) -> Options {
        let test = env::var(trace::TEST).unwrap_or_default();
        hqq_tests::peer::options(trace::options(&test, Options::new()), self.0.by_ref())
    }
}
