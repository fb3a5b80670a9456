//! Listening at an address. Replaces the socket file of a dead listener, and removes an own one.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::address::Address;
use super::socket::{connect, socket};

/// Maximum time to wait for another process that holds the directory's lock.
const LOCK_LIMIT: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// Listens at an address. `backlog` is the number of connections that may be pending, see [`super::accept`].
///
/// For a path it creates a socket file, with permissions according to the umask. It replaces the socket file of a dead
/// listener, see [`take_over`].
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] if another socket listens there, or the path is a file of another kind;
/// [`io::ErrorKind::InvalidInput`] for a name that is empty or too long; [`io::ErrorKind::Unsupported`] before Linux
/// 6.5; the kernel's for the path.
pub fn listen(address: &Address, backlog: i32) -> io::Result<OwnedFd> {
    match address {
        Address::Path(path) => take_over(path, backlog),
        Address::Abstract(_) => {
            let fd = socket()?;
            rustix::net::bind(&fd, &address.to_unix()?)?;
            rustix::net::listen(&fd, backlog)?;
            Ok(fd)
        }
    }
}

/// Listens at `path`, and replaces the socket file of a dead listener.
///
/// A listener is dead if the kernel refuses connections. It does so when the last descriptor of the listening socket
/// has been closed, by its owner or by the owner's death. A living listener sees one connection that hangs up at
/// once. If several processes call this at the same time, one succeeds: each holds the lock (`flock`) of the
/// directory while it checks, removes and listens. No lock file is left. A file that is no socket is not changed.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] if another socket listens at `path`, or `path` is a file of another kind;
/// [`io::ErrorKind::TimedOut`] if another process holds the lock for 2 seconds; [`io::ErrorKind::PermissionDenied`]
/// if this process may not read or change the directory.
pub fn take_over(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let address = Address::Path(path.to_owned());
    let to = address.to_unix()?;
    let fd = socket()?;
    // Held until after `listen`: a socket that is bound but does not listen yet would count as dead.
    let _lock = lock_parent(path)?;
    match rustix::net::bind(&fd, &to) {
        Err(Errno::ADDRINUSE) => {
            if !is_left_over(path, &address) {
                return Err(Errno::ADDRINUSE.into());
            }
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => rustix::net::bind(&fd, &to)?,
            }
        }
        other => other?,
    }
    rustix::net::listen(&fd, backlog)?;
    Ok(fd)
}

/// Whether `path` is the socket file of a dead listener. False in case of doubt.
fn is_left_over(path: &Path, address: &Address) -> bool {
    // The kernel also refuses connections to a file that is no socket, so check the kind first. Do not follow links:
    // the caller would remove the link.
    match fs::symlink_metadata(path) {
        Ok(m) if m.file_type().is_socket() => {}
        Ok(_) => return false,
        Err(e) => return e.kind() == io::ErrorKind::NotFound,
    }
    match connect(address) {
        Ok(_) => false,
        Err(e) => matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound),
    }
}

/// Identity of a file: device and inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// Device that contains the file.
    pub dev: u64,
    /// Inode number of the file on that device.
    pub ino: u64,
}

/// Identity of the file at `path`, without following a link. Call it directly after [`listen`], for [`unlink_if_ours`].
///
/// # Errors
/// The kernel's for the path.
pub fn file_id(path: &Path) -> io::Result<FileId> {
    let m = fs::symlink_metadata(path)?;
    Ok(FileId { dev: m.dev(), ino: m.ino() })
}

/// Removes the socket file at `path` if its identity is still `ours`. Returns whether it did.
///
/// Call it while the listening socket is open: no process replaces the file of a living listener, so the file cannot
/// change between check and removal.
///
/// # Errors
/// The kernel's for the path. It is no error if the file is gone or another's, or if another process keeps the
/// directory locked. In the last case the file stays, and the next listener replaces it.
pub fn unlink_if_ours(path: &Path, ours: FileId) -> io::Result<bool> {
    let _lock = match lock_parent(path) {
        Ok(lock) => lock,
        Err(e) if e.kind() == io::ErrorKind::TimedOut => return Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    match file_id(path) {
        Ok(found) if found == ours => fs::remove_file(path).map(|()| true),
        Ok(_) => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Locks the directory of `path` until the returned file is closed.
fn lock_parent(path: &Path) -> io::Result<File> {
    let parent = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let dir = File::open(parent)?;
    // Limited, because any user who may read a shared directory can lock it without end.
    let limit = Instant::now() + LOCK_LIMIT;
    loop {
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(dir),
            Err(Errno::AGAIN) if Instant::now() >= limit => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!(
                        "another process has locked the directory {} for {} s",
                        parent.display(),
                        LOCK_LIMIT.as_secs()
                    ),
                ));
            }
            Err(Errno::AGAIN) => std::thread::sleep(LOCK_RETRY),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{accept, recv};
    use super::*;
    use std::os::fd::AsFd;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A directory of its own for one test, removed at the end.
    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("hqq-sys-{}-{n}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            fs::create_dir(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Makes what a listener leaves that died without tidying up. It is only bound, and never
    /// listened, so that a child which another test forks cannot keep it alive.
    fn leave_over(path: &Path) -> FileId {
        let fd = socket().unwrap();
        let at = Address::Path(path.to_owned());
        rustix::net::bind(&fd, &at.to_unix().unwrap()).unwrap();
        file_id(path).unwrap()
    }

    #[test]
    fn a_living_listener_keeps_its_path() {
        let dir = Dir::new();
        let at = Address::Path(dir.0.join("s"));
        assert_eq!(connect(&at).unwrap_err().kind(), io::ErrorKind::NotFound);
        let first = listen(&at, 4).unwrap();
        let e = listen(&at, 4).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::AddrInUse);
        // The second `listen` probed the first listener: a connection that hung up.
        let probe = accept(first.as_fd()).unwrap().unwrap();
        let got = recv(probe.as_fd(), &mut [0; 8]).unwrap().unwrap();
        assert_eq!(got.len, 0);
        connect(&at).unwrap();
    }

    #[test]
    fn a_full_backlog_is_a_sign_of_life() {
        let dir = Dir::new();
        let at = Address::Path(dir.0.join("s"));
        let _first = listen(&at, 0).unwrap();
        let mut waiting = Vec::new();
        while let Ok(fd) = connect(&at) {
            waiting.push(fd);
        }
        let e = listen(&at, 4).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_dead_listener_is_replaced() {
        let dir = Dir::new();
        let path = dir.0.join("s");
        leave_over(&path);
        let at = Address::Path(path);
        let e = connect(&at).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::ConnectionRefused);
        let listener = listen(&at, 4).unwrap();
        connect(&at).unwrap();
        assert!(accept(listener.as_fd()).unwrap().is_some());
    }

    #[test]
    fn what_is_no_socket_stays() {
        let dir = Dir::new();
        let file = dir.0.join("file");
        fs::write(&file, "precious").unwrap();
        let dead = dir.0.join("dead");
        leave_over(&dead);
        let link = dir.0.join("link");
        std::os::unix::fs::symlink(&dead, &link).unwrap();
        for path in [&file, &link, &dir.0] {
            let e = take_over(path, 4).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::AddrInUse, "{}", path.display());
        }
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        file_id(&dead).unwrap();
    }

    #[test]
    fn one_of_many_wins() {
        for _ in 0..10 {
            let dir = Dir::new();
            let path = dir.0.join("s");
            leave_over(&path);
            let at = Address::Path(path);
            let won: Vec<_> = std::thread::scope(|s| {
                let all: Vec<_> = (0..4).map(|_| s.spawn(|| listen(&at, 8))).collect();
                all.into_iter().map(|t| t.join().unwrap()).collect()
            });
            assert_eq!(won.iter().filter(|r| r.is_ok()).count(), 1, "{won:?}");
            connect(&at).unwrap();
        }
    }

    #[test]
    fn only_our_own_file_is_removed() {
        let dir = Dir::new();
        let path = dir.0.join("s");
        let at = Address::Path(path.clone());
        let fd = listen(&at, 4).unwrap();
        let ours = file_id(&path).unwrap();
        fs::rename(&path, dir.0.join("kept")).unwrap();
        assert!(!unlink_if_ours(&path, ours).unwrap(), "gone");
        let theirs = leave_over(&path);
        assert_ne!(ours, theirs);
        assert!(!unlink_if_ours(&path, ours).unwrap(), "another's");
        assert_eq!(file_id(&path).unwrap(), theirs);
        fs::rename(dir.0.join("kept"), &path).unwrap();
        assert!(unlink_if_ours(&path, ours).unwrap());
        assert!(!path.exists());
        drop(fd);
        let nowhere = dir.0.join("no such directory/s");
        assert!(!unlink_if_ours(&nowhere, ours).unwrap());
    }

    #[test]
    fn a_lock_that_is_not_given_back_is_reported() {
        let dir = Dir::new();
        let path = dir.0.join("s");
        let held = lock_parent(&path).unwrap();
        let e = take_over(&path, 4).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::TimedOut);
        assert!(!path.exists());
        drop(held);
        // Another test's child may hold the lock until its exec, but never for 2 s.
        take_over(&path, 4).unwrap();
    }
}
