//! Numbers of descriptors, opening files, and reading small ones.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// The first number that is not a standard stream.
pub(crate) const FIRST: RawFd = 3;

/// Moves a descriptor that has the number of a standard stream (0, 1 or 2) to the first free number above, close-on-exec.
///
/// A process that has closed its standard streams gets these numbers for whatever it opens next. What the process prints
/// later would be written to that file or socket.
pub(crate) fn clear_of_streams(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= FIRST {
        return Ok(fd);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, FIRST)?)
}

/// Opens a file, close-on-exec, without waiting for another process: not for the writer of a pipe, nor for the holder of a
/// lease.
pub(crate) fn open(path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    clear_of_streams(rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, mode))?)
}

/// Reads a small file of `/proc`, at most 64 KiB.
pub(crate) fn read_proc(path: &str) -> io::Result<String> {
    let file = std::fs::File::from(open(Path::new(path), OFlags::RDONLY, Mode::empty())?);
    let mut text = String::new();
    file.take(1 << 16).read_to_string(&mut text)?;
    Ok(text)
}
