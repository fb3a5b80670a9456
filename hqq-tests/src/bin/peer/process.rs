// unsafe: fork has no safe form
//! Commands that act on other processes and on shared memory.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use hqq_sys::{peer, sock};
use rustix::fs::{FallocateFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::state::{Answer, State, Words, lock};

pub fn run(state: &State, verb: &str, words: &mut Words<'_>) -> Option<Answer> {
    Some(match verb {
        "fork" => fork(),
        "copy-sockets" => copy_sockets(state, words),
        "wake-sockets" => {
            let copied = lock(&state.copied);
            copied
                .iter()
                .try_for_each(|socket| sock::ring(socket.as_fd()))
                .map(|()| copied.len().to_string())
                .map_err(Into::into)
        }
        "tamper" => tamper(state, words),
        _ => return None,
    })
}

/// Forks a child that never calls exec; returns its process id, and whether it could read the memory of the region.
fn fork() -> Answer {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let region = maps.lines().find(|line| line.contains("memfd:hqq:")).ok_or("no region is mapped")?;
    let address = region.split('-').next().and_then(|word| usize::from_str_radix(word, 16).ok());
    let address = address.ok_or("no address")?;
    let (mut here, there) = UnixStream::pair()?;
    let (_reader, scratch) = UnixStream::pair()?;
    // SAFETY: the child calls nothing but write, alarm and pause, which are safe after a fork of a process with
    // several threads. The kernel looks at the address itself, and says so if nothing is there.
    let child = unsafe {
        let child = libc::fork();
        if child == 0 {
            let looked = libc::write(scratch.as_raw_fd(), address as *const libc::c_void, 1);
            let errno = if looked == 1 { 0 } else { *libc::__errno_location() as u8 };
            libc::write(there.as_raw_fd(), (&raw const errno).cast(), 1);
            // In case the test does not kill it.
            libc::alarm(120);
            loop {
                libc::pause();
            }
        }
        child
    };
    if child < 0 {
        return Err(io::Error::last_os_error().into());
    }
    let mut errno = [0];
    here.read_exact(&mut errno)?;
    let found = match errno[0] {
        0 => "readable".to_owned(),
        errno if i32::from(errno) == libc::EFAULT => "fault".to_owned(),
        errno => format!("errno {errno}"),
    };
    Ok(format!("{child} {found}"))
}

/// Copies all sockets of another process.
fn copy_sockets(state: &State, words: &mut Words<'_>) -> Answer {
    let pid: i32 = words.number()?;
    let pidfd = peer::pidfd_open(pid)?;
    let mut copied = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let target = fs::read_link(entry.path()).unwrap_or_default();
        if !target.to_string_lossy().starts_with("socket:") {
            continue;
        }
        let number = entry.file_name().to_string_lossy().parse()?;
        copied.push(pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty())?);
    }
    let count = copied.len();
    lock(&state.copied).extend(copied);
    Ok(count.to_string())
}

/// Changes the memory of the link in ways that its seals forbid, or cannot forbid.
fn tamper(state: &State, words: &mut Words<'_>) -> Answer {
    let link = state.link()?;
    let memory = link.memory();
    match (words.next()?, words.operands()?.as_slice()) {
        ("truncate", &[len]) => ftruncate(memory, len)?,
        ("grow", &[len]) => fallocate(memory, FallocateFlags::empty(), 0, len)?,
        ("collapse", &[at, len]) => fallocate(memory, FallocateFlags::COLLAPSE_RANGE, at, len)?,
        ("punch", &[at, len]) => {
            fallocate(memory, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, len)?;
        }
        ("seal-writes", &[]) => fcntl_add_seals(memory, SealFlags::WRITE)?,
        (how, _) => return Err(format!("{how}: no such change").into()),
    }
    Ok(String::new())
}
