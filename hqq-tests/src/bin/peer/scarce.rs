// unsafe: closing the standard streams and forking have no safe form
//! Commands for what a process may lack: room for files, address space, descriptors, standard streams.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use hqq::{Listener, Offer, Options, StandardLink};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::state::{Answer, State, Words, lock};

const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(state: &State, verb: &str, words: &mut Words<'_>) -> Option<Answer> {
    Some(match verb {
        // limit files|file-size|space NUMBER|none
        "limit" => limit(words),
        "pair" => StandardLink::pair_with(words.options()).map(|_| String::new()).map_err(Into::into),
        // Makes links in all ways without standard streams; returns which of their numbers were taken.
        "streamless" => streamless(words),
        // Forks a child that drops the listener and ends.
        "fork-unlisten" => fork_unlisten(state),
        "chdir" => words.next().map_err(Into::into).and_then(|to| {
            std::env::set_current_dir(to)?;
            Ok(String::new())
        }),
        _ => return None,
    })
}

fn limit(words: &mut Words<'_>) -> Answer {
    let resource = match words.next()? {
        "files" => Resource::Nofile,
        "file-size" => Resource::Fsize,
        "space" => Resource::As,
        other => return Err(format!("{other}: no such limit").into()),
    };
    let mut limits = getrlimit(resource);
    limits.current = match words.next()? {
        "none" => limits.maximum,
        number => Some(number.parse()?),
    };
    setrlimit(resource, limits)?;
    Ok(String::new())
}

/// In a forked child, because this process needs its standard streams.
fn streamless(words: &mut Words<'_>) -> Answer {
    let name = words.next()?;
    let (mut here, mut there) = UnixStream::pair()?;
    // SAFETY: the C library's allocator can be used after a fork. What the child calls needs no lock of another thread: one
    // waits for a command and has the lock of standard input.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error().into());
    }
    if child == 0 {
        for stream in 0..3 {
            // SAFETY: the child uses no standard stream.
            unsafe { libc::close(stream) };
        }
        let said = match all_ways(name) {
            Ok(taken) => format!("taken: {taken:?}"),
            Err(error) => format!("{error:?}"),
        };
        let _ = there.write_all(said.as_bytes());
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) };
    }
    drop(there);
    let mut said = String::new();
    here.read_to_string(&mut said)?;
    ended(child)?;
    Ok(said)
}

/// Makes links at a path, in a pair and by an offer, and says what has the number of a standard stream then.
fn all_ways(name: &str) -> Result<Vec<i32>, hqq::Error> {
    let options = || Options::new().protected(true).handshake_timeout(PATIENCE);
    let listener = Listener::bind_with(name, options())?;
    let (accepted, connected) = thread::scope(|scope| {
        let caller = scope.spawn(|| StandardLink::connect_with_timeout(name, Options::new(), PATIENCE));
        let accepted = listener.accept_timeout(PATIENCE);
        (accepted, caller.join().expect("connecting does not panic"))
    });
    let (accepted, _connected) = (accepted?, connected?);
    let pair = StandardLink::pair_with(options())?;
    let offer = Offer::new(options())?;
    offer.pass_to(&mut std::process::Command::new("true"))?;
    // Sleeps, for which it needs an event.
    for link in [&accepted, &pair.0] {
        let _ = link.recv_timeout(Duration::from_millis(1));
    }
    let taken = |stream: &i32| Path::new(&format!("/proc/self/fd/{stream}")).symlink_metadata().is_ok();
    Ok((0..3).filter(taken).collect())
}

fn fork_unlisten(state: &State) -> Answer {
    let mut listener = lock(&state.listener);
    // SAFETY: as in `streamless`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        *listener = None;
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) };
    }
    if child < 0 {
        return Err(io::Error::last_os_error().into());
    }
    ended(child)?;
    Ok(String::new())
}

/// Waits until a child has ended.
fn ended(child: i32) -> Result<(), String> {
    let mut status = 0;
    // SAFETY: waits for a child of this process.
    let found = unsafe { libc::waitpid(child, &raw mut status, 0) };
    if found == child && status == 0 { Ok(()) } else { Err(format!("the child ended with {status:#x}")) }
}
