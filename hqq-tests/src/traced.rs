// unsafe: ptrace has no safe form
//! A process stopped by ptrace, as by a debugger.

use std::collections::BTreeSet;
use std::io;
use std::marker::PhantomData;
use std::ptr::null_mut;

/// A process all of whose threads stand still under this thread's trace, until this is dropped.
#[derive(Debug)]
pub struct Traced {
    pid: i32,
    threads: BTreeSet<i32>,
    /// Only the thread that traces may let go.
    here: PhantomData<*const ()>,
}

impl Traced {
    /// Stops the process `pid`, each of its threads, also those that begin meanwhile.
    ///
    /// # Errors
    /// The kernel's: it may not be traced by this user, or is traced already.
    pub fn stop(pid: i32) -> io::Result<Self> {
        let mut traced = Self { pid, threads: BTreeSet::new(), here: PhantomData };
        loop {
            let mut all = BTreeSet::new();
            for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
                let name = entry?.file_name();
                all.insert(name.to_string_lossy().parse().map_err(io::Error::other)?);
            }
            let new: Vec<i32> = all.difference(&traced.threads).copied().collect();
            if new.is_empty() {
                return Ok(traced);
            }
            for thread in new {
                request(libc::PTRACE_SEIZE, thread)?;
                traced.threads.insert(thread);
                request(libc::PTRACE_INTERRUPT, thread)?;
                // SAFETY: no status is wanted.
                if unsafe { libc::waitpid(thread, null_mut(), libc::__WALL) } != thread {
                    return Err(io::Error::last_os_error());
                }
            }
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        for &thread in &self.threads {
            // A thread that was killed stays, and its process undead with it, until who traces it has looked. The first
            // one is left to the parent.
            if request(libc::PTRACE_DETACH, thread).is_err() && thread != self.pid {
                // SAFETY: no status is wanted.
                unsafe { libc::waitpid(thread, null_mut(), libc::__WALL) };
            }
        }
    }
}

fn request(what: libc::c_uint, thread: i32) -> io::Result<()> {
    let none: *mut libc::c_void = null_mut();
    // SAFETY: the three requests made here read and write no memory of ours.
    match unsafe { libc::ptrace(what, thread, none, none) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
