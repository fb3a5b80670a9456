//! A test: its name, its time limit, its peers, and names that only it uses.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use std::{env, fs, process, thread};

use hqq::observe::Observer;
use hqq::shm::words::BufferState;
use hqq::{Error, Listener, Options, Role, StandardLink};

use crate::patience::{SOON, eventually};
use crate::peer::Peer;
use crate::trace;

/// The time limit of a test, far more than any test needs on a busy machine: it only catches calls that hang.
const LIMIT: Duration = Duration::from_secs(300);

/// A running test, started by [`test!`](crate::test!).
///
/// When the time limit passes, the whole program is aborted, because a call that hangs cannot be ended otherwise.
#[derive(Debug)]
pub struct Test {
    name: String,
    program: PathBuf,
    traced: bool,
    folder: Option<PathBuf>,
    _over: Sender<()>,
}

impl Test {
    /// Starts a test with `program` as its peer. `here` is the name of a function inside the test function.
    pub fn new(here: &str, program: &str, traced: bool) -> Self {
        let name = here.rsplit_once("::").map_or(here, |(name, _)| name).to_owned();
        let (over, alarm) = channel::<()>();
        let told = name.clone();
        thread::spawn(move || {
            if alarm.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                // Directly to standard error: captured output is lost in an abort.
                let _ = writeln!(io::stderr(), "{told}: still running after {LIMIT:?}; aborting");
                process::abort();
            }
        });
        Self { name, program: program.into(), traced, folder: None, _over: over }
    }

    /// The test's name: file and function.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Default options, traced if the test is.
    pub fn options(&self) -> Options {
        if self.traced { trace::options(&self.name, Options::new()) } else { Options::new() }
    }

    /// A unique name for a link.
    pub fn link_name(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        format!("test-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// A folder for this test that every user may enter; it is removed at the end.
    pub fn folder(&mut self) -> &Path {
        if self.folder.is_none() {
            let folder = env::temp_dir().join(format!("hqq-{}", self.link_name()));
            fs::create_dir(&folder).expect("a folder can be made");
            allow(&folder, 0o777);
            self.folder = Some(folder);
        }
        self.folder.as_deref().expect("just made")
    }

    /// Starts a peer.
    pub fn peer(&self) -> Peer {
        self.peer_with(|_| ())
    }

    /// Starts a peer; `more` may change its command.
    pub fn peer_with(&self, more: impl FnOnce(&mut Command)) -> Peer {
        let mut command = Command::new(&self.program);
        command.env(trace::TEST, &self.name);
        if !self.traced {
            command.env_remove(trace::VARIABLE);
        }
        more(&mut command);
        Peer::start(&mut command)
    }

    /// Starts a peer with a process id or namespaces as in `isolation` (see `namespaces.rs` of the peer): `as=NUMBER`,
    /// `new=user,pid,mnt`, `uid=INSIDE`. Its packets are not traced.
    ///
    /// # Errors
    /// The error of the kernel, which may not permit this.
    pub fn peer_isolated(&self, wish: &str) -> Result<Peer, String> {
        let mut command = Command::new(&self.program);
        command.env_remove(trace::VARIABLE).args(wish.split_whitespace());
        Peer::start_behind(&mut command)
    }

    /// Like [`peer_isolated`](Self::peer_isolated), as another user; only root can do this.
    ///
    /// # Errors
    /// As there.
    pub fn peer_isolated_as(&mut self, uid: u32, wish: &str) -> Result<Peer, String> {
        let mut command = self.command_of(uid);
        Peer::start_behind(command.args(wish.split_whitespace()))
    }

    /// Starts a peer as another user; only root can do this. Its packets are not traced, so that the table of opcodes does
    /// not depend on the user who runs the tests.
    pub fn peer_of(&mut self, uid: u32) -> Peer {
        self.peer_of_with(uid, |_| ())
    }

    /// Like [`peer_of`](Self::peer_of); `more` may change the command.
    pub fn peer_of_with(&mut self, uid: u32, more: impl FnOnce(&mut Command)) -> Peer {
        let mut command = self.command_of(uid);
        more(&mut command);
        Peer::start(&mut command)
    }

    fn command_of(&mut self, uid: u32) -> Command {
        use std::os::unix::process::CommandExt;
        // That user may have no access to the build folder.
        let program = self.folder().join("peer");
        if !program.exists() {
            // Copied by another process: a child that another test forks meanwhile would keep the copy open for writing,
            // and a file open for writing cannot be executed.
            let copied = Command::new("cp").arg(&self.program).arg(&program).status();
            assert!(copied.is_ok_and(|status| status.success()), "the peer's program can be copied");
            allow(&program, 0o755);
        }
        let mut command = Command::new(program);
        command.env_remove(trace::VARIABLE).current_dir("/").uid(uid).gid(uid);
        command
    }

    /// A link with a new peer. This process has `role`; `options` are words as for [`options`](crate::peer::options), used
    /// on both sides.
    pub fn link(&self, role: Role, options: &str) -> (StandardLink, Peer) {
        let peer = self.peer();
        self.link_with(peer, role, options)
    }

    /// Like [`link`](Self::link), with a running peer.
    pub fn link_with(&self, mut peer: Peer, role: Role, options: &str) -> (StandardLink, Peer) {
        let name = self.link_name();
        let ours = crate::peer::options(self.options(), options.split_whitespace());
        let link = match role {
            Role::Primary => {
                let listener = Listener::bind_with(&name, ours).expect("a fresh name can be bound");
                peer.send_command(format!("connect {name} {options}"));
                let link = listener.accept_timeout(SOON).expect("the peer connects");
                peer.expect_ok();
                link
            }
            Role::Secondary => {
                peer.ask(format!("listen {name} {options}"));
                peer.send_command("accept");
                let link = StandardLink::connect_with_timeout(&name, ours, SOON).expect("the peer accepts");
                peer.expect_ok();
                link
            }
        };
        assert_eq!(link.role(), role);
        assert_eq!(link.peer().pid, Some(peer.pid()));
        (link, peer)
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // A folder that is left is harmless, and the test may have failed already.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Sets a file's permissions.
pub fn allow(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions of an own file");
}

/// A link at a listener on a path, to a peer that did the handshake by hand: it has a socket and the region only.
pub fn link_by_hand(listener: &Listener, peer: &mut Peer) -> StandardLink {
    peer.ask(format!("sock-connect {}", listener.name()));
    peer.send_command("sock-join");
    thread::scope(|scope| {
        let accepting = scope.spawn(|| listener.accept_timeout(SOON));
        peer.expect_ok();
        peer.ask("sock-send 0x23 1 1");
        accepting.join().expect("accepting does not panic").expect("the peer joins")
    })
}

/// Polls a listener until it has refused `count` clients.
///
/// # Panics
/// If it admits one, and as [`eventually`].
#[track_caller]
pub fn refuses(listener: &Listener, count: u64) {
    eventually("the client is refused", || {
        match listener.try_accept() {
            Err(Error::NoneWaiting) => {}
            other => panic!("{other:?}"),
        }
        listener.refused() == count
    });
}

/// Waits until a thread of this end sleeps in the kernel that did not when `sleeps` was read.
///
/// # Panics
/// As [`eventually`].
#[track_caller]
pub fn asleep(link: &StandardLink, sleeps: u64) {
    eventually("a call sleeps", || self::sleeps(link) > sleeps);
}

/// How many times threads of this end have gone to sleep.
pub fn sleeps(link: &StandardLink) -> u64 {
    link.stats().side(link.role()).sleeps
}

/// Checks that nothing of a dead peer is left in the region, after everything that it sent has been received.
///
/// # Panics
/// If something is left.
#[track_caller]
pub fn healthy(link: &StandardLink) {
    let report = Observer::open(link.memory()).unwrap().check();
    assert!(report.findings.is_empty(), "{report:?}");
    let stats = link.stats();
    let inward = stats.sent_by(link.role().other());
    assert_eq!((inward.in_flight, inward.buffers_free), (0, link.geometry().buffers().into()), "{inward:?}");
    // Messages that the peer did not receive are in the ring. It holds nothing itself. A buffer word may still name it if
    // it died between marking the buffers of a message and releasing its slot, but then the slot is published again, and
    // takes precedence.
    let ours = link.role().direction();
    for buffer in &report.buffers {
        let held = buffer.direction == ours && matches!(buffer.state, BufferState::Held(_));
        assert!(!held || buffer.in_flight_in_slot.is_some(), "{buffer:?}");
    }
}
