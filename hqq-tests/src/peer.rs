//! The other process of a test: starts it, sends it commands, reads its replies, kills and reaps it.

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

/// A process that runs `hqq-test-peer`. It runs the commands on its standard input, one on each line, and replies to each
/// with a line that starts with `ok` or `error`. Dropping this kills the process.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// The process that runs the commands, which may be a child of `child`.
    pid: i32,
    process: OwnedFd,
    commands: ChildStdin,
    replies: Receiver<String>,
}

impl Peer {
    /// Starts the process.
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the peer's program starts");
        let commands = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, replies) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let pid = child.id().try_into().expect("process ids fit");
        let process = pidfd_open(pid).expect("a child that was not waited for has a number");
        Self { child, pid, process, commands, replies }
    }

    /// Starts a program that clones the peer and waits for it. The first reply is the process id of the peer, or an error.
    pub(crate) fn start_behind(command: &mut Command) -> Result<Self, String> {
        let mut peer = Self::start(command);
        let reply = peer.read_reply();
        match reply.strip_prefix("ok ").and_then(|number| number.parse().ok()) {
            Some(pid) => {
                peer.pid = pid;
                peer.process = pidfd_open(pid).map_err(|error| error.to_string())?;
                Ok(peer)
            }
            None => Err(reply),
        }
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a command without waiting for the reply.
    pub fn send_command(&mut self, command: impl AsRef<str>) {
        writeln!(self.commands, "{}", command.as_ref()).expect("the peer is alive");
    }

    /// Waits for the next reply.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn read_reply(&mut self) -> String {
        self.replies.recv_timeout(SOON).expect("the peer replies")
    }

    /// Waits for the next reply, which must be `ok`; returns the rest of it.
    ///
    /// # Panics
    /// If it is an error.
    #[track_caller]
    pub fn expect_ok(&mut self) -> String {
        let reply = self.read_reply();
        let Some(found) = reply.strip_prefix("ok") else { panic!("the reply is: {reply}") };
        found.trim_start().to_owned()
    }

    /// Waits for the next reply, which must be an error; returns the error as printed by `{:?}`.
    ///
    /// # Panics
    /// If it is not an error.
    #[track_caller]
    pub fn expect_error(&mut self) -> String {
        let reply = self.read_reply();
        let Some(error) = reply.strip_prefix("error ") else { panic!("the reply is: {reply}") };
        error.to_owned()
    }

    /// Runs a command that must succeed; returns its result.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ask(&mut self, command: impl AsRef<str>) -> String {
        self.send_command(command);
        self.expect_ok()
    }

    /// Runs a command that must fail; returns the error as printed by `{:?}`.
    ///
    /// # Panics
    /// If it succeeds.
    #[track_caller]
    pub fn ask_error(&mut self, command: impl AsRef<str>) -> String {
        self.send_command(command);
        self.expect_error()
    }

    /// Runs a command; returns the whole reply.
    #[track_caller]
    pub fn ask_any(&mut self, command: impl AsRef<str>) -> String {
        self.send_command(command);
        self.read_reply()
    }

    /// Waits up to `within` for the next reply.
    pub fn try_read_reply(&mut self, within: Duration) -> Option<String> {
        self.replies.recv_timeout(within).ok()
    }

    /// Kills the process and waits until it is dead.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("a child can be waited for");
    }

    /// Stops the process with SIGSTOP and waits until it is stopped.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.pid());
        eventually("the peer is stopped", || {
            let stat = std::fs::read_to_string(&stat).expect("a child has a state");
            stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
        });
    }

    /// Resumes the process with SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.process, signal).expect("a process that was not waited for can be signalled");
    }

    /// Lets the process drop everything and exit.
    ///
    /// # Panics
    /// If it fails.
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
        // These fail only if the process was reaped already.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Changes options by words such as `slots=4`.
///
/// # Panics
/// If a word is not an option.
pub fn options<'w>(mut options: Options, words: impl Iterator<Item = &'w str>) -> Options {
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{word}: not a number"));
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
