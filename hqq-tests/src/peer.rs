//! The other process: started, told what to do, heard, and killed and reaped whatever happens.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use hqq::{Options, RingMode, WaitMode};
use hqq_sys::peer::pidfd_open;
use rustix::process::{Signal, pidfd_send_signal};

use crate::patience::{SOON, eventually};

/// A process that runs `hqq-test-peer`. It does what its standard input says, a line at a time, and answers each
/// line with one that begins with `ok` or `error`. Dropping it kills it.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// The process that takes the orders, which need not be the child itself.
    pid: i32,
    process: OwnedFd,
    orders: ChildStdin,
    answers: Receiver<String>,
}

impl Peer {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the peer's program starts");
        let orders = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (heard, answers) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if heard.send(line).is_err() {
                    return;
                }
            }
        });
        let pid = child.id().try_into().expect("process ids fit");
        let process = pidfd_open(pid).expect("a child that was not waited for has a number");
        Self { child, pid, process, orders, answers }
    }

    /// Starts one whose program makes the peer and stands by. The peer's first answer is its process id, or why there
    /// is none.
    pub(crate) fn start_behind(command: &mut Command) -> Result<Self, String> {
        let mut peer = Self::start(command);
        let answer = peer.read_reply();
        match answer.strip_prefix("ok ").and_then(|number| number.parse().ok()) {
            Some(pid) => {
                peer.pid = pid;
                peer.process = pidfd_open(pid).map_err(|error| error.to_string())?;
                Ok(peer)
            }
            None => Err(answer),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Gives it an order without waiting for the answer.
    pub fn send_command(&mut self, order: impl AsRef<str>) {
        writeln!(self.orders, "{}", order.as_ref()).expect("the peer lives");
    }

    /// Its next answer.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn read_reply(&mut self) -> String {
        self.answers.recv_timeout(SOON).expect("the peer answers")
    }

    /// Its next answer, which must be that all went well: what it found.
    ///
    /// # Panics
    /// If it is an error.
    #[track_caller]
    pub fn expect_ok(&mut self) -> String {
        let answer = self.read_reply();
        let Some(found) = answer.strip_prefix("ok") else { panic!("the peer says: {answer}") };
        found.trim_start().to_owned()
    }

    /// Its next answer, which must be an error: what went wrong, as `{:?}` prints it.
    ///
    /// # Panics
    /// If all went well.
    #[track_caller]
    pub fn expect_error(&mut self) -> String {
        let answer = self.read_reply();
        let Some(error) = answer.strip_prefix("error ") else { panic!("the peer says: {answer}") };
        error.to_owned()
    }

    /// Gives it an order that must go well: what it found.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn ask(&mut self, order: impl AsRef<str>) -> String {
        self.send_command(order);
        self.expect_ok()
    }

    /// Gives it an order that must fail: what went wrong, as `{:?}` prints it.
    ///
    /// # Panics
    /// If it goes well.
    #[track_caller]
    pub fn ask_error(&mut self, order: impl AsRef<str>) -> String {
        self.send_command(order);
        self.expect_error()
    }

    /// Gives it an order: the whole answer, whatever it is.
    #[track_caller]
    pub fn ask_any(&mut self, order: impl AsRef<str>) -> String {
        self.send_command(order);
        self.read_reply()
    }

    /// Whether an answer has come that was not heard yet.
    pub fn try_read_reply(&mut self, within: Duration) -> Option<String> {
        self.answers.recv_timeout(within).ok()
    }

    /// Kills it where it stands and waits until it is dead.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("a child can be waited for");
    }

    /// Stops it, without killing it, and waits until it stands still.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.pid());
        eventually("the peer stands still", || {
            let stat = std::fs::read_to_string(&stat).expect("a child has a state");
            stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
        });
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.process, signal).expect("a process that was not waited for can be signalled");
    }

    /// Lets it drop all that it has and end.
    ///
    /// # Panics
    /// If it ends in another way.
    #[track_caller]
    pub fn quit(mut self) {
        self.send_command("quit");
        let mut status = None;
        eventually("the peer ends", || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // These fail only if it was waited for already.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Changes options as words like `slots=4` say.
///
/// # Panics
/// At a word that says nothing.
pub fn options<'w>(mut options: Options, words: impl Iterator<Item = &'w str>) -> Options {
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{word}: no number"));
        let small = || u32::try_from(number()).unwrap_or_else(|_| panic!("{word}: too large"));
        options = match (key, value) {
            ("slots", _) => options.slots(small()),
            ("buffers", _) => options.buffers(small()),
            ("size", _) => options.buffer_size(number()),
            ("max-region", _) => options.max_region(number()),
            ("max-message", _) => options.max_message(number()),
            ("connections", _) => options.max_connections(small()),
            ("inbox", _) => options.inbox(small()),
            ("backlog", _) => options.backlog(small()),
            ("handshake-ms", _) => options.handshake_timeout(Duration::from_millis(number())),
            ("mode", "mpmc") => options.ring_mode(RingMode::Mpmc),
            ("mode", "spsc") => options.ring_mode(RingMode::Spsc),
            ("mode", "mpsc") => options.ring_mode(RingMode::Mpsc),
            ("mode", "spmc") => options.ring_mode(RingMode::Spmc),
            ("protected", "") => options.protected(true),
            ("reattachable", "") => options.reattachable(true),
            ("uid", _) => options.allow_uid(small()),
            ("gid", _) => options.allow_gid(small()),
            ("wait", "spin") => options.wait_mode(WaitMode::Spin),
            ("wait", "adaptive") => options.wait_mode(WaitMode::Adaptive),
            _ => panic!("{word}: no such option"),
        };
    }
    options
}
