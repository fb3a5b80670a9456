//! Listening at an address. Replaces the socket file of a dead listener, and removes an own one.

use std::ffi::OsString;
use std::fs::{self, File, FileType, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::address::Address;
use super::socket::{connect, socket};
use crate::fd::open;
use crate::peer;

/// Maximum time to wait for another process of this user that binds the same path.
const LOCK_LIMIT: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// Listens at an address. `backlog` is the number of connections that may be pending, see [`super::accept`].
///
/// For a path it creates a socket file, with permissions according to the umask. It replaces the socket file of a dead
/// listener, see [`take_over`].
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] if another socket listens there; [`io::ErrorKind::AlreadyExists`] if something else lies at
/// the path, which the message names; [`io::ErrorKind::InvalidInput`] for a name that is empty or too long; [`io::ErrorKind::Unsupported`] before Linux
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
/// once. A file that is no socket is not changed.
///
/// If several processes of a user call this at the same time, one succeeds: each holds the lock (`flock`) of the file
/// `.NAME.hqq-lock` beside the path while it checks, removes and listens, and removes that file. The lock is on a file of
/// our own, because others may rightfully lock what is not ours: systemd-tmpfiles asks programs to lock directories. For the
/// same reason a lock file of another user, and a file system without locks, do not keep this from working. Then two
/// processes that replace the file of a dead listener in the same moment may both succeed, and the later one has the path.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] if another socket listens at `path`; [`io::ErrorKind::AlreadyExists`] if something else lies
/// there, which the message names; [`io::ErrorKind::TimedOut`] if another process of this user holds the lock for 2 seconds;
/// [`io::ErrorKind::PermissionDenied`] if this process may not change the directory.
pub fn take_over(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let address = Address::Path(path.to_owned());
    let to = address.to_unix()?;
    let fd = socket()?;
    // Held until after `listen`: a socket that is bound but does not listen yet would count as dead.
    let _lock = lock_beside(path)?;
    match rustix::net::bind(&fd, &to) {
        Err(Errno::ADDRINUSE) => {
            if !is_left_over(path, &address) {
                return Err(in_use(path, &address));
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

/// The error for a path that cannot be bound: a socket has it, or something else lies there.
fn in_use(path: &Path, address: &Address) -> io::Error {
    let found = fs::symlink_metadata(path).ok().and_then(|found| kind(found.file_type()));
    match found {
        // A link to the socket of a living listener is as good as that.
        Some(what) if connect(address).is_err() => io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{what} lies at {}: remove it, or choose another path", path.display()),
        ),
        _ => Errno::ADDRINUSE.into(),
    }
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

/// What `path` leads to, if that is no socket, in words: for errors. `None` if it is a socket, or nothing.
pub fn obstacle(path: &Path) -> Option<&'static str> {
    match fs::metadata(path) {
        Ok(found) => kind(found.file_type()),
        Err(e) if e.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_ok() => {
            Some("a symbolic link that leads nowhere")
        }
        Err(_) => None,
    }
}

/// The kind of a file that is no socket, in words.
fn kind(found: FileType) -> Option<&'static str> {
    Some(match found {
        found if found.is_socket() => return None,
        found if found.is_dir() => "a directory",
        found if found.is_symlink() => "a symbolic link",
        found if found.is_fifo() => "a named pipe",
        found if found.is_file() => "a file",
        _ => "a device",
    })
}

/// Identity of a file: device and inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    dev: u64,
    ino: u64,
}

impl From<&Metadata> for FileId {
    fn from(m: &Metadata) -> Self {
        Self { dev: m.dev(), ino: m.ino() }
    }
}

/// The socket file that this process made with [`listen`].
#[derive(Debug)]
pub struct SocketFile {
    /// Absolute, so that it can be removed after the working directory has changed.
    path: PathBuf,
    id: FileId,
    /// The process that made it. A forked child has a copy of this value, and not the file.
    owner: i32,
}

impl SocketFile {
    /// The socket file at `path`, which [`listen`] has just made in this process.
    ///
    /// # Errors
    /// The kernel's for the path.
    pub fn at(path: &Path) -> io::Result<Self> {
        let id = FileId::from(&fs::symlink_metadata(path)?);
        // A working directory that has been removed has no name, and then nothing can be bound in it.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { path, id, owner: peer::pid() })
    }

    /// Removes the file, if this process made it and it is still the same. Returns whether it did. Does not wait.
    ///
    /// Call it while the listening socket is open: no process replaces the file of a living listener, so the file cannot
    /// change between check and removal, and no lock is needed.
    ///
    /// # Errors
    /// The kernel's for the path. It is no error if the file is gone or another's.
    pub fn remove(&self) -> io::Result<bool> {
        if self.owner != peer::pid() {
            return Ok(false);
        }
        match fs::symlink_metadata(&self.path) {
            Ok(found) if FileId::from(&found) == self.id => fs::remove_file(&self.path).map(|()| true),
            Ok(_) => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// A locked file beside a path that is being bound. It is removed before it is unlocked.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    /// Never read: it holds the lock.
    _file: OwnedFd,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A lock file that is left does no harm: the next one locks it, and removes it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Locks `.NAME.hqq-lock` beside `path`. `None` if that is not possible: this process may not make files there, the file is
/// another user's, or the file system has no locks.
fn lock_beside(path: &Path) -> io::Result<Option<Lock>> {
    let Some(name) = path.file_name() else { return Ok(None) };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".hqq-lock");
    let at = path.with_file_name(hidden);
    let began = Instant::now();
    loop {
        let (file, is_new) = match open_lock(&at) {
            Ok(opened) => opened,
            Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => return Err(e),
            // Another process has just removed it.
            Err(e)
                if e.kind() == io::ErrorKind::NotFound
                    && began.elapsed() < LOCK_LIMIT
                    && fs::metadata(parent(path)).is_ok() =>
            {
                continue;
            }
            Err(_) => return Ok(None),
        };
        let file = File::from(file);
        let found = file.metadata()?;
        let is_ours = found.is_file() && found.nlink() <= 1 && found.uid() == peer::uid();
        if !(is_new || is_ours) {
            return Ok(None);
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let id = FileId::from(&found);
                // Else the process that had it has removed it, and somebody may have a new one.
                if fs::symlink_metadata(&at).is_ok_and(|there| FileId::from(&there) == id) {
                    return Ok(Some(Lock { path: at, _file: file.into() }));
                }
            }
            Err(Errno::AGAIN) if began.elapsed() >= LOCK_LIMIT => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!(
                        "another process of this user has locked {} for {} s: end the process that binds there",
                        at.display(),
                        LOCK_LIMIT.as_secs()
                    ),
                ));
            }
            Err(Errno::AGAIN) => std::thread::sleep(LOCK_RETRY),
            Err(Errno::INTR) => {}
            Err(_) => {
                if is_new {
                    fs::remove_file(&at)?;
                }
                return Ok(None);
            }
        }
    }
}

/// Opens a lock file; says whether it was made for this.
fn open_lock(at: &Path) -> io::Result<(OwnedFd, bool)> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW;
    match open(at, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok((open(at, flags, Mode::empty())?, false)),
        other => Ok((other?, true)),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
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

    fn id_of(path: &Path) -> FileId {
        FileId::from(&fs::symlink_metadata(path).unwrap())
    }

    /// Makes what a listener leaves that died without tidying up. It is only bound, and never
    /// listened, so that a child which another test forks cannot keep it alive.
    fn leave_over(path: &Path) -> FileId {
        let fd = socket().unwrap();
        let at = Address::Path(path.to_owned());
        rustix::net::bind(&fd, &at.to_unix().unwrap()).unwrap();
        id_of(path)
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
        let astray = dir.0.join("astray");
        std::os::unix::fs::symlink("nowhere", &astray).unwrap();
        for (path, what, leads_to) in [
            (&file, "a file", Some("a file")),
            (&link, "a symbolic link", None),
            (&astray, "a symbolic link", Some("a symbolic link that leads nowhere")),
            (&dir.0, "a directory", Some("a directory")),
        ] {
            let e = take_over(path, 4).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::AlreadyExists, "{}", path.display());
            assert_eq!(
                e.to_string(),
                format!("{what} lies at {}: remove it, or choose another path", path.display())
            );
            assert_eq!(obstacle(path), leads_to);
        }
        assert_eq!(obstacle(&dir.0.join("nothing")), None);
        // What a link leads to may listen.
        let alive = dir.0.join("alive");
        let _listener = take_over(&alive, 4).unwrap();
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&alive, &link).unwrap();
        assert_eq!(take_over(&link, 4).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        id_of(&dead);
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
        let fd = listen(&Address::Path(path.clone()), 4).unwrap();
        let ours = SocketFile::at(&path).unwrap();
        fs::rename(&path, dir.0.join("kept")).unwrap();
        assert!(!ours.remove().unwrap(), "gone");
        let theirs = leave_over(&path);
        assert_ne!(ours.id, theirs);
        assert!(!ours.remove().unwrap(), "another's");
        assert_eq!(id_of(&path), theirs);
        fs::rename(dir.0.join("kept"), &path).unwrap();
        let copied = SocketFile { path: path.clone(), id: ours.id, owner: 1 };
        assert!(!copied.remove().unwrap(), "this is a forked child");
        assert!(ours.remove().unwrap());
        assert!(!path.exists());
        drop(fd);
        let nowhere = SocketFile { path: dir.0.join("no such directory/s"), ..ours };
        assert!(!nowhere.remove().unwrap());
    }

    fn names_in(dir: &Dir) -> Vec<OsString> {
        fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_lock_on_the_directory_concerns_nobody() {
        let dir = Dir::new();
        let path = dir.0.join("s");
        for lock in [FlockOperation::NonBlockingLockExclusive, FlockOperation::NonBlockingLockShared] {
            let locked = File::open(&dir.0).unwrap();
            flock(&locked, lock).unwrap();
            leave_over(&path);
            let began = Instant::now();
            let _listener = take_over(&path, 4).unwrap();
            assert_eq!(names_in(&dir), ["s"], "no lock file is left");
            assert!(SocketFile::at(&path).unwrap().remove().unwrap());
            assert!(began.elapsed() < LOCK_LIMIT, "{:?}", began.elapsed());
        }
    }

    #[test]
    fn a_lock_of_ours_that_is_not_given_back_is_reported() {
        let dir = Dir::new();
        let path = dir.0.join("s");
        let held = lock_beside(&path).unwrap().unwrap();
        let e = take_over(&path, 4).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::TimedOut);
        assert!(e.to_string().contains(".s.hqq-lock"), "{e}");
        assert!(!path.exists());
        drop(held);
        // What another test forks may hold the lock until its exec, but not the file.
        let listener = take_over(&path, 4).unwrap();
        drop(listener);
        // A process that dies leaves the file, without a lock.
        fs::write(dir.0.join(".s.hqq-lock"), "").unwrap();
        take_over(&path, 4).unwrap();
        assert_eq!(names_in(&dir), ["s"]);
    }

    #[test]
    fn what_cannot_be_locked_is_bound_all_the_same() {
        let dir = Dir::new();
        let (path, lock) = (dir.0.join("s"), dir.0.join(".s.hqq-lock"));
        fs::create_dir(&lock).unwrap();
        let first = take_over(&path, 4).unwrap();
        assert_eq!(take_over(&path, 4).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        fs::remove_dir(&lock).unwrap();
        // Neither followed nor written to.
        fs::write(dir.0.join("precious"), "x").unwrap();
        std::os::unix::fs::symlink(dir.0.join("precious"), &lock).unwrap();
        assert!(lock_beside(&path).unwrap().is_none());
        drop(first);
        // A pipe for which nobody waits, and a file in place of the directory.
        fs::remove_file(&lock).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &lock, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        assert!(lock_beside(&path).unwrap().is_none());
        let beneath = lock.join("s");
        assert_eq!(take_over(&beneath, 4).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(take_over(&dir.0.join("no/s"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
