// unsafe: clone has no safe form
//! Being born in an unusual way: with a process id of one's choice, or in namespaces of one's own.
//!
//! `hqq-test-peer as=NUMBER new=user,pid,mnt,ipc uid=INSIDE` makes a child so, tells its process id in the first
//! answer, and stands by until it ends; the child is the peer, and dies with the one that stands by.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::exit;

use rustix::process::{Pid, Signal, WaitOptions, getegid, geteuid, set_parent_process_death_signal, waitpid};

/// How a peer is to be born.
#[derive(Default)]
struct Wish {
    number: Option<i32>,
    flags: i32,
    uid_inside: u32,
}

fn wish(words: &[String]) -> Result<Wish, String> {
    let mut wish = Wish::default();
    for word in words {
        let bad = || format!("{word}: no such wish");
        match word.split_once('=').ok_or_else(bad)? {
            ("as", number) => wish.number = Some(number.parse().map_err(|_| bad())?),
            ("uid", number) => wish.uid_inside = number.parse().map_err(|_| bad())?,
            ("new", kinds) => {
                for kind in kinds.split(',') {
                    wish.flags |= match kind {
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
    Ok(wish)
}

/// Returns in the child alone. To be called while the process has one thread.
pub fn again(words: &[String]) {
    if words.is_empty() {
        return;
    }
    if let Err(error) = wish(words).map_err(io::Error::other).and_then(|wish| child(&wish)) {
        println!("error {error:?}");
        exit(1);
    }
}

fn child(wish: &Wish) -> io::Result<()> {
    let (mut here, there) = UnixStream::pair()?;
    // SAFETY: all zeroes is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = wish.flags as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(number) = &wish.number {
        args.set_tid = std::ptr::from_ref(number) as u64;
        args.set_tid_size = 1;
    }
    // SAFETY: this process has one thread, so that its copy may do as it likes; what the arguments point to is live.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(here);
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // Until its users are mapped, it is nobody.
            let mut there = there;
            if there.read(&mut [0])? == 0 {
                exit(1);
            }
            Ok(())
        }
        pid => {
            drop(there);
            if wish.flags & libc::CLONE_NEWUSER != 0 {
                let map = |file: &str, text: String| fs::write(format!("/proc/{pid}/{file}"), text);
                map("setgroups", "deny".into())?;
                map("uid_map", format!("{} {} 1", wish.uid_inside, geteuid().as_raw()))?;
                map("gid_map", format!("{} {} 1", wish.uid_inside, getegid().as_raw()))?;
            }
            println!("ok {pid}");
            here.write_all(&[1])?;
            let ended = waitpid(Pid::from_raw(pid as i32), WaitOptions::empty())?;
            exit(ended.and_then(|(_, status)| status.exit_status()).unwrap_or(9))
        }
    }
}
