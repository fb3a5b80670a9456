//! The end of a run whose second process dies or hangs: peers wait for ever.

use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{self, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hqq_bench::Outcome;
use hqq_sys::{poll, sock, spawn};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::traces::Traces;

/// The longest without any progress.
const PATIENCE: Duration = Duration::from_secs(30);
/// For the harness to find out by itself what happened, and to say it better.
const GRACE: Duration = Duration::from_secs(2);
/// The variable that hands a socket to the second process.
const SOCKET: &str = "HQQ_PEERS_SOCKET";

/// What the run tells its watcher.
static TURNS: AtomicU64 = AtomicU64::new(0);
static OVER: AtomicBool = AtomicBool::new(false);

/// Watches the process that `command` will start, from a thread. The socket must be kept until it has started.
///
/// # Errors
/// The kernel's.
pub fn start(command: &mut Command, traces: &'static Traces) -> io::Result<OwnedFd> {
    let (own, theirs) = sock::pair()?;
    spawn::inherit_fd(command, theirs.as_fd(), SOCKET)?;
    thread::spawn(move || {
        let (why, process) = watch(own.as_fd());
        thread::sleep(GRACE);
        if OVER.load(Relaxed) {
            return;
        }
        eprintln!("hqq-peers: {why}");
        if let Some(process) = process {
            // It is gone already, or goes now; what it made goes after it.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            let _ = poll::many(&[process.as_fd()], Some(GRACE));
        }
        traces.remove();
        process::exit(1);
    });
    Ok(theirs)
}

/// Notes that so many turns are done.
pub fn progress(turns: u64) {
    TURNS.store(turns, Relaxed);
}

/// Notes that the run is over.
pub fn over() {
    OVER.store(true, Relaxed);
}

/// In the second process: makes itself known to the watcher, if there is one.
///
/// # Errors
/// The kernel's.
pub fn show() -> Outcome {
    if env::var_os(SOCKET).is_some() {
        sock::send(spawn::inherited(SOCKET)?.as_fd(), b"here", &[])?;
    }
    Ok(())
}

/// Returns what is wrong once something is, and the second process if it was ever there.
fn watch(socket: BorrowedFd<'_>) -> (String, Option<OwnedFd>) {
    let came = poll::many(&[socket], Some(PATIENCE)).and_then(|_| sock::recv(socket, &mut [0; 8]));
    let Some(process) = came.ok().flatten().and_then(|message| message.pidfd) else {
        return ("the second process does not begin".into(), None);
    };
    let (mut turns, mut since) = (0, Instant::now());
    loop {
        if poll::many(&[process.as_fd()], Some(Duration::from_millis(500))).is_ok_and(|ready| ready[0]) {
            return (format!("the second process died ({})", status(&process)), Some(process));
        }
        let now = TURNS.load(Relaxed);
        if now != turns {
            (turns, since) = (now, Instant::now());
        } else if since.elapsed() > PATIENCE {
            let why = format!("nothing happens for {} s, after {turns} turns: given up", PATIENCE.as_secs());
            return (why, Some(process));
        }
    }
}

/// How it ended, which the harness may have asked already.
fn status(process: &OwnedFd) -> String {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    match waitid(WaitId::PidFd(process.as_fd()), options) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (_, Some(signal)) => format!("signal {signal}"),
            _ => "no one knows how".into(),
        },
        _ => "no one knows how".into(),
    }
}
