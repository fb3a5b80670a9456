// unsafe: clone has no safe form
//! Clones the peer with a chosen process id, or into new namespaces.
//!
//! `hqq-test-peer as=NUMBER new=user,pid,mnt,ipc uid=INSIDE|none` clones a child, prints its process id as the first
//! answer, and waits until it ends. The child is the peer; it dies with the process that waits.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::exit;

use rustix::process::{Pid, Signal, WaitOptions, getegid, geteuid, set_parent_process_death_signal, waitpid};

/// The process id, the namespaces and the user id of the peer.
#[derive(Default)]
struct Isolation {
    number: Option<i32>,
    flags: i32,
    uid_inside: u32,
    /// Whether the user ids of a new namespace stay unmapped.
    unmapped: bool,
}

fn isolation(words: &[String]) -> Result<Isolation, String> {
    let mut isolation = Isolation::default();
    for word in words {
        let bad = || format!("{word}: not valid");
        match word.split_once('=').ok_or_else(bad)? {
            ("as", number) => isolation.number = Some(number.parse().map_err(|_| bad())?),
            ("uid", "none") => isolation.unmapped = true,
            ("uid", number) => isolation.uid_inside = number.parse().map_err(|_| bad())?,
            ("new", kinds) => {
                for kind in kinds.split(',') {
                    isolation.flags |= match kind {
                        "user" => libc::CLONE_NEWUSER,
                        "pid" => libc::CLONE_NEWPID,
                        "mnt" => libc::CLONE_NEWNS,
                        "ipc" => libc::CLONE_NEWIPC,
                        _ => return Err(bad()),
                    };
                }
            }
            _ => return Err(bad()),
        }
    }
    Ok(isolation)
}

/// Returns only in the child. The process must have one thread.
pub fn enter(words: &[String]) {
    if words.is_empty() {
        return;
    }
    if let Err(error) = isolation(words).map_err(io::Error::other).and_then(|isolation| child(&isolation)) {
        println!("error {error:?}");
        exit(1);
    }
}

fn child(isolation: &Isolation) -> io::Result<()> {
    let (mut here, there) = UnixStream::pair()?;
    // SAFETY: all zeroes is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = isolation.flags as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(number) = &isolation.number {
        args.set_tid = std::ptr::from_ref(number) as u64;
        args.set_tid_size = 1;
    }
    // SAFETY: this process has one thread, so that its copy may do as it likes; what the arguments point to is live.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(here);
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // Waits until its user ids are mapped.
            let mut there = there;
            if there.read(&mut [0])? == 0 {
                exit(1);
            }
            Ok(())
        }
        pid => {
            drop(there);
            if isolation.flags & libc::CLONE_NEWUSER != 0 && !isolation.unmapped {
                let map = |file: &str, text: String| fs::write(format!("/proc/{pid}/{file}"), text);
                map("setgroups", "deny".into())?;
                map("uid_map", format!("{} {} 1", isolation.uid_inside, geteuid().as_raw()))?;
                map("gid_map", format!("{} {} 1", isolation.uid_inside, getegid().as_raw()))?;
            }
            println!("ok {pid}");
            here.write_all(&[1])?;
            let ended = waitpid(Pid::from_raw(pid as i32), WaitOptions::empty())?;
            exit(ended.and_then(|(_, status)| status.exit_status()).unwrap_or(9))
        }
    }
}
