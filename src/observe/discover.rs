//! Finds the links of this machine: every region is a memfd whose name begins with `hqq:`, and `/proc` lists the
//! processes that have it open.
//!
//! Strangers decide what their descriptors lead to. So nothing is opened before it is known to be a memfd, and nothing
//! is waited for.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use hqq_sys::mem::Found;

use crate::error::{Error, Result};
use crate::observe::observer::Observer;

/// A region that some process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSeen {
    /// Name of the link. All links of one listener have the same name.
    pub name: String,
    /// Inode of the memfd. It identifies the region as long as it exists.
    pub inode: u64,
    /// Device (file system) of the inode.
    pub device: u64,
    /// Processes that have the region open, sorted by id: usually the two ends.
    pub processes: Vec<ProcessSeen>,
}

/// A process that has a region open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSeen {
    /// Process id.
    pub pid: i32,
    /// A descriptor of the region in that process: `/proc/PID/fd/FD`.
    pub fd: i32,
    /// Command name as the kernel shows it, at most 15 bytes. Empty if the process has ended.
    pub comm: String,
}

/// Result of [`links`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// Links, sorted by name and inode.
    pub links: Vec<LinkSeen>,
    /// Number of processes whose descriptors could not be read, usually because they belong to other users. Links
    /// that only such processes have open are missing.
    pub unreadable: u64,
}

impl LinkSeen {
    /// Opens the region through the first of its processes that still has it open. Does not wait, whatever these
    /// processes have done with the region or its descriptor.
    ///
    /// # Errors
    /// As [`Observer::open`]; [`Error::Os`] of kind `NotFound` if no process has the region open any more, and of kind
    /// `WouldBlock` while a process holds a lease on it.
    pub fn open(&self) -> Result<Observer> {
        let mut reason = io::Error::new(ErrorKind::NotFound, "the link has gone");
        for ProcessSeen { pid, fd, .. } in &self.processes {
            match Found::at(&path(*pid, *fd)) {
                // The number may be in use for another file by now.
                Ok(Some(found)) if (found.device, found.inode) == (self.device, self.inode) => {
                    match found.open() {
                        Ok(memfd) => return Observer::open(memfd.as_fd()),
                        Err(error) => reason = error,
                    }
                }
                Ok(_) => {}
                Err(error) if has_gone(&error) => {}
                Err(error) => reason = error,
            }
        }
        Err(Error::Os { doing: "opening a link through a process that has it", source: reason })
    }
}

/// Finds the links of all processes whose descriptors this process may read: those of its own user, or all for root.
///
/// # Errors
/// [`Error::Os`] if `/proc` cannot be read.
///
/// ```
/// let found = hqq::observe::links()?;
/// for link in &found.links {
///     println!("{} is open in {} processes", link.name, link.processes.len());
/// }
/// # Ok::<(), hqq::Error>(())
/// ```
pub fn links() -> Result<Discovered> {
    let os = |source| Error::Os { doing: "listing the processes in /proc", source };
    let mut found = BTreeMap::new();
    let mut unreadable = 0;
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").map_err(os)? {
        pids.extend(number(&entry.map_err(os)?));
    }
    pids.sort_unstable();
    for pid in pids {
        match scan(pid, &mut found) {
            Ok(()) => {}
            Err(error) if has_gone(&error) => {}
            Err(_) => unreadable += 1,
        }
    }
    let mut links: Vec<LinkSeen> = found.into_values().collect();
    links.sort_by(|a, b| (&a.name, a.inode).cmp(&(&b.name, b.inode)));
    Ok(Discovered { links, unreadable })
}

/// Finds the links that have the name `pid_or_name`, or that the process with this id has open.
///
/// # Errors
/// As [`links`].
pub fn find(pid_or_name: &str) -> Result<Vec<LinkSeen>> {
    let pid = pid_or_name.parse().ok();
    let mut links = links()?.links;
    links.retain(|link| {
        link.name == pid_or_name || link.processes.iter().any(|process| Some(process.pid) == pid)
    });
    Ok(links)
}

/// Adds the links of process `pid` to `found`.
fn scan(pid: i32, found: &mut BTreeMap<(u64, u64), LinkSeen>) -> io::Result<()> {
    let mut fds = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        fds.extend(number(&entry?));
    }
    fds.sort_unstable();
    for fd in fds {
        let path = path(pid, fd);
        // Closed meanwhile, or no region. The kernel gives the path of other files too, so the name proves nothing.
        let Ok(target) = fs::read_link(&path) else { continue };
        let Some(name) = link_name(&target.to_string_lossy()) else { continue };
        let Ok(Some(memfd)) = Found::at(&path) else { continue };
        let (device, inode) = (memfd.device, memfd.inode);
        let link = found.entry((device, inode));
        let link = link.or_insert_with(|| LinkSeen { name, inode, device, processes: Vec::new() });
        if link.processes.last().is_none_or(|last| last.pid != pid) {
            let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            let comm = String::from_utf8_lossy(&comm).trim_end_matches('\n').to_owned();
            link.processes.push(ProcessSeen { pid, fd, comm });
        }
    }
    Ok(())
}

/// A descriptor of a process.
fn path(pid: i32, fd: i32) -> String {
    format!("/proc/{pid}/fd/{fd}")
}

/// Name of the link, if `target` (the target of a descriptor's `/proc` entry) is a region.
fn link_name(target: &str) -> Option<String> {
    let name = target.strip_prefix("/memfd:hqq:")?;
    Some(name.strip_suffix(" (deleted)").unwrap_or(name).to_owned())
}

/// Name of a directory entry as a number.
fn number(entry: &fs::DirEntry) -> Option<i32> {
    entry.file_name().to_str()?.parse().ok()
}

/// Whether an error means that a process or descriptor has disappeared: no such file, or `ESRCH`.
fn has_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(3)
}
