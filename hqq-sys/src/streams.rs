//! The standard streams of this process, and whether it was started without them.
//!
//! The standard library opens `/dev/null` in place of a standard stream that is closed when the process starts. So a
//! program that writes to it succeeds, and what it wrote is nowhere. Afterwards the two cannot be told apart: other
//! programs hand a null device down that was opened in the same way. Therefore this module looks before `main`, ahead of
//! the standard library. It does so in every program that has the feature `streams`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{OFlags, fcntl_getfl};

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard input, descriptor 0.
    Input,
    /// Standard output, descriptor 1.
    Output,
    /// Standard error, descriptor 2.
    Error,
}

/// Whether the descriptors 0 to 2 were closed when the process started.
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

/// Looks at the descriptors. The loader calls it before `main`.
extern "C" fn look() {
    for (number, closed) in (0..).zip(&CLOSED) {
        // SAFETY: a query; any number is allowed.
        let missing = unsafe { libc::fcntl(number, libc::F_GETFD) } < 0;
        closed.store(missing, Ordering::Relaxed);
    }
}

// SAFETY: the section has the addresses of functions that the loader calls once, on the only thread, ahead of `main`.
// The function needs nothing that is set up later.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Whether the stream was closed when the process started.
pub fn was_closed(stream: Stream) -> bool {
    CLOSED[stream as usize].load(Ordering::Relaxed)
}

/// Copies the descriptor of a standard stream. The copy is close-on-exec, and reads and writes without a buffer.
///
/// # Errors
/// `EBADF` if the stream was closed when the process started, or is not open for reading (input) or writing (output and
/// error); the kernel's, if descriptors have run out.
pub fn open(stream: Stream) -> io::Result<OwnedFd> {
    let unusable = || io::Error::from_raw_os_error(libc::EBADF);
    if was_closed(stream) {
        return Err(unusable());
    }
    let (copied, useless) = match stream {
        Stream::Input => (io::stdin().as_fd().try_clone_to_owned()?, OFlags::WRONLY),
        Stream::Output => (io::stdout().as_fd().try_clone_to_owned()?, OFlags::RDONLY),
        Stream::Error => (io::stderr().as_fd().try_clone_to_owned()?, OFlags::RDONLY),
    };
    let flags = fcntl_getfl(&copied)?;
    if flags.contains(OFlags::PATH) || flags & OFlags::RWMODE == useless {
        return Err(unusable());
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;
    use std::process::{Command, Stdio};

    const TASK: &str = "HQQ_SYS_TEST_STREAMS";

    /// What a child started by [`child`] does. As a test of its own it does nothing.
    #[test]
    fn in_the_child() {
        let Ok(task) = env::var(TASK) else {
            return;
        };
        let streams = [Stream::Input, Stream::Output, Stream::Error];
        let closed = streams.map(|stream| u8::from(was_closed(stream)).to_string());
        let open = streams.map(|stream| u8::from(open(stream).is_ok()).to_string());
        assert_eq!(format!("{} {}", closed.concat(), open.concat()), task);
    }

    /// Runs this test program with the streams that the shell arranges; it expects them as `task` says: which were
    /// closed, and which can be opened.
    fn child(arrange: &str, task: &str) {
        let script = format!("exec \"$0\" --exact streams::tests::in_the_child {arrange}");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(env::current_exe().unwrap()).env(TASK, task);
        let status = shell.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "{arrange}: not {task}");
    }

    #[test]
    fn closed_streams_are_told_from_null_devices() {
        child("", "000 111");
        child("<&-", "100 011");
        child(">&-", "010 101");
        child("2>&-", "001 110");
        child("<&- >&- 2>&-", "111 000");
        child("<>/dev/null 1<>/dev/null 2<>/dev/null", "000 111");
    }

    #[test]
    fn streams_that_go_the_other_way_are_not_opened() {
        child("0>/dev/null", "000 011");
        child("1</dev/null", "000 101");
        child("2</dev/null", "000 110");
    }
}
