//! Links by name: [`Listener`] binds and accepts, [`StandardLink::connect`] connects. Links without a name: pairs, and an
//! [`Offer`] to a child process.

use std::fmt;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hqq_sys::sock::{self, Address, FileId};
use hqq_sys::{peer, poll, spawn};

use crate::error::{Error, Result};
use crate::link::core::LinkCore;
use crate::link::deadline::Wait;
use crate::link::standard::StandardLink;
use crate::link::timed_mutex::TimedMutex;
use crate::link::untrusted::UntrustedLink;
use crate::options::Options;
use crate::setup::handshake::{
    AcceptPolicy, Accepted, ClientHandshake, READING, SENDING, ServerHandshake, check_user,
};
use crate::setup::memory::{INSPECTING, MAPPING, os};

/// Name of the environment variable with the descriptor of an inherited link.
const INHERITED: &str = "HQQ_LINK_FD";
/// Connecting processes that the kernel queues before the listener accepts their sockets.
const BACKLOG: i32 = 128;
/// Handshakes in progress at a time. When there is another, the one with the earliest deadline is dropped.
const MAX_PENDING: usize = 128;
/// How long a process that was offered a vacant place has before the next one is offered it too.
const PRECEDENCE: Duration = Duration::from_millis(100);
/// How long `connect` sleeps between two attempts to connect.
const RETRY: Duration = Duration::from_millis(2);
/// A time that never passes in practice, within the clock's range.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The socket address of a name.
///
/// # Errors
/// [`Error::BadName`].
fn address(name: &str) -> Result<Address> {
    let bad = |rule| Err(Error::BadName { name: name.into(), rule });
    if name.contains('/') {
        if name.len() > 107 {
            return bad("a path of at most 107 bytes");
        }
        return Ok(Address::Path(PathBuf::from(name)));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        return bad("1 to 64 letters, digits, dots, hyphens and underscores, or a path with a slash");
    }
    Ok(Address::Abstract(format!("hqq.{}.{name}", peer::uid()).into_bytes()))
}

/// Accepts links at a name. Each accepted peer gets a region of its own; this end is the Primary.
///
/// A name without a slash is visible to the same user in the same network namespace, and is gone with the process. A name
/// with a slash is the path of a socket file, for containers that share a mount. Dropping the listener removes the file; a
/// file that a dead process left is replaced by the next [`bind`](Self::bind). Links outlive their listener.
///
/// The accepting calls drive all pending handshakes together, so a peer that stops in the middle of its handshake does not
/// delay others.
///
/// | call | waits | peers |
/// |---|---|---|
/// | [`accept`](Self::accept), [`accept_timeout`](Self::accept_timeout), [`try_accept`](Self::try_accept) | until a peer comes, at most a time, not at all | this user, and those of [`Options::allow_uid`] and [`allow_gid`](Options::allow_gid) |
/// | [`accept_untrusted`](Self::accept_untrusted), [`accept_untrusted_timeout`](Self::accept_untrusted_timeout) | likewise | any user, unless the options have a list |
/// | [`reattach`](Self::reattach), [`reattach_timeout`](Self::reattach_timeout) | likewise | successors on an existing link |
/// | [`reattach_untrusted`](Self::reattach_untrusted) | likewise | successors of the former peer's user |
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    name: String,
    file: Option<(PathBuf, FileId)>,
    options: Options,
    pending: TimedMutex<Vec<ServerHandshake>>,
    refused: AtomicU64,
}

impl fmt::Debug for ServerHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandshake").field("deadline", &self.deadline()).finish_non_exhaustive()
    }
}

impl Listener {
    /// Listens at `name`, for links with the default [`Options`].
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::NameInUse`] if a running process of this user has the name, [`Error::OtherUser`] if one
    /// of another user has; [`Error::Os`].
    pub fn bind(name: &str) -> Result<Self> {
        Self::bind_with(name, Options::new())
    }

    /// Listens at `name`, for links with the given options.
    ///
    /// # Errors
    /// As [`bind`](Self::bind); [`Error::Geometry`] or [`Error::RegionTooLarge`] for the options.
    pub fn bind_with(name: &str, options: Options) -> Result<Self> {
        options.geometry()?;
        let address = address(name)?;
        let socket = sock::listen(&address, BACKLOG).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => name_in_use(name, &address),
            _ => os("listening at a name")(error),
        })?;
        let file = match address {
            Address::Abstract(_) => None,
            Address::Path(path) => {
                let id = sock::file_id(&path).map_err(os("inspecting the socket file"))?;
                Some((path, id))
            }
        };
        let (pending, refused) = (TimedMutex::new(Vec::new()), AtomicU64::new(0));
        Ok(Self { socket, name: name.into(), file, options, pending, refused })
    }

    /// The name that the listener was bound to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of connecting processes that failed the handshake or were not admitted.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Accepts a peer of the same user, or one that [`Options::allow_uid`] or [`Options::allow_gid`] admits, waiting for it.
    /// Others are refused and counted; see [`refused`](Self::refused).
    ///
    /// # Errors
    /// [`Error::Os`] for a failure of this process. A failed handshake is no error here: its peer is sent the reason.
    pub fn accept(&self) -> Result<StandardLink> {
        self.accept_wait(false, Wait::Forever).map(StandardLink::new)
    }

    /// As [`accept`](Self::accept), waiting no longer than `time`.
    ///
    /// # Errors
    /// As [`accept`](Self::accept), or [`Error::Timeout`].
    pub fn accept_timeout(&self, time: Duration) -> Result<StandardLink> {
        self.accept_wait(false, Wait::from(time)).map(StandardLink::new)
    }

    /// As [`accept`](Self::accept), without waiting: advances the pending handshakes and returns a link if one is complete.
    ///
    /// The listener's descriptor ([`AsFd`]) becomes readable when a process connects, and not for the later steps of its
    /// handshake: call this again, or use [`accept_timeout`](Self::accept_timeout).
    ///
    /// # Errors
    /// As [`accept`](Self::accept), or [`Error::NoneWaiting`].
    pub fn try_accept(&self) -> Result<StandardLink> {
        match self.accept_wait(false, Wait::Until(Instant::now())) {
            Err(Error::Timeout { .. }) => Err(Error::NoneWaiting),
            done => done.map(StandardLink::new),
        }
    }

    /// Accepts a peer of any user as an [`UntrustedLink`], waiting for it. If the options have a list of users or groups, only
    /// those and this user are admitted.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn accept_untrusted(&self) -> Result<UntrustedLink> {
        self.accept_wait(true, Wait::Forever).map(|core| UntrustedLink::new(StandardLink::new(core)))
    }

    /// As [`accept_untrusted`](Self::accept_untrusted), waiting no longer than `time`.
    ///
    /// # Errors
    /// As [`accept_untrusted`](Self::accept_untrusted), or [`Error::Timeout`].
    pub fn accept_untrusted_timeout(&self, time: Duration) -> Result<UntrustedLink> {
        let core = self.accept_wait(true, Wait::from(time))?;
        Ok(UntrustedLink::new(StandardLink::new(core)))
    }

    /// Gives a link a new Secondary, the successor of one that died or left, waiting for it to connect.
    ///
    /// Messages that this end had sent and that were not received are delivered to the successor. Messages that the former
    /// peer had sent are still received first. A message that a dead peer had taken from the ring counts as received, also if
    /// its program had not processed it; on a link with connections, so does all that waited in an inbox.
    ///
    /// The link must have been made with [`Options::reattachable`]. Its connections have ended with the former peer: drop
    /// them first. Descriptors that were got from the link (its doorbell, [`StandardLink::peer_process`]) then belong to the
    /// successor: register them with an event loop again. Only one call accepts or reattaches on a listener at a time; others
    /// wait for it. A [`ShutdownHandle`](crate::ShutdownHandle) does not end the call.
    ///
    /// ```
    /// use hqq::{Error, Listener, Options, StandardLink};
    ///
    /// # let name = format!("doc-again-{}", std::process::id());
    /// let listener = Listener::bind_with(&name, Options::new().reattachable(true))?;
    /// # let connect = |name: &str| { let name = name.to_owned();
    /// #     std::thread::spawn(move || StandardLink::connect(&name)) };
    /// let first = connect(&name); // usually in another process
    /// let mut link = listener.accept()?;
    /// link.send(b"one")?;
    /// link.send(b"two")?;
    /// # let first = first.join().unwrap()?;
    /// assert_eq!(&*first.recv()?, b"one");
    /// drop(first); // or its process dies
    /// assert!(matches!(link.recv(), Err(Error::Closed | Error::PeerDead)));
    ///
    /// let second = connect(&name);
    /// listener.reattach(&mut link)?;
    /// # let second = second.join().unwrap()?;
    /// assert_eq!(&*second.recv()?, b"two");
    /// # Ok::<(), hqq::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the place cannot be vacated yet, with the reason; [`Error::PeerGone`] if the former peer's
    /// process hung up and still runs, so that it may still use the link; [`Error::Closed`] if this end was shut down;
    /// [`Error::Corrupt`], [`Error::Os`]. The link is unchanged after an error.
    pub fn reattach(&self, link: &mut StandardLink) -> Result<()> {
        self.reattach_as(link, false, Wait::Forever)
    }

    /// As [`reattach`](Self::reattach), waiting no longer than `time`.
    ///
    /// # Errors
    /// As there, or [`Error::Timeout`].
    pub fn reattach_timeout(&self, link: &mut StandardLink, time: Duration) -> Result<()> {
        self.reattach_as(link, false, Wait::from(time))
    }

    /// As [`reattach`](Self::reattach), for an untrusted link. The successor must belong to the former peer's user, as the
    /// former peer may still have the region mapped.
    ///
    /// # Errors
    /// As [`reattach_timeout`](Self::reattach_timeout).
    pub fn reattach_untrusted(&self, link: &mut UntrustedLink, time: Duration) -> Result<()> {
        self.reattach_as(link.link_mut(), true, Wait::from(time))
    }

    pub(crate) fn reattach_wait(&self, link: &mut StandardLink, wait: Wait) -> Result<()> {
        self.reattach_as(link, false, wait)
    }

    /// Vacates the place of the former peer and waits for a successor.
    fn reattach_as(&self, link: &mut StandardLink, any_user: bool, wait: Wait) -> Result<()> {
        let core = link.core();
        core.make_vacant()?;
        match self.drive(Some(core), any_user, wait)? {
            Accepted::Successor(successor) => core.replace_peer(successor),
            Accepted::Link(_) => Err(Error::Handshake {
                what: "a new link was made where a successor was expected: reattach again",
                found: None,
            }),
        }
    }

    /// Accepts a new link.
    fn accept_wait(&self, any_user: bool, wait: Wait) -> Result<LinkCore> {
        match self.drive(None, any_user, wait)? {
            Accepted::Link(core) => Ok(*core),
            Accepted::Successor(_) => Err(Error::Handshake {
                what: "a successor came where a new link was expected: accept again",
                found: None,
            }),
        }
    }

    /// Drives handshakes until one is complete: for a new link, or for the vacant place of `into`.
    fn drive(&self, into: Option<&LinkCore>, any_user: bool, wait: Wait) -> Result<Accepted> {
        let began = Instant::now();
        let timeout = || Error::Timeout {
            what: "a peer to connect: start it, or allow more time",
            after: began.elapsed(),
        };
        let mut pending = self.pending.lock(wait).ok_or_else(timeout)?;
        let policy = AcceptPolicy { options: &self.options, name: &self.name, any_user, into };
        loop {
            let step =
                self.accept_pending(&mut pending, any_user).and_then(|()| self.advance(&mut pending, policy));
            match step {
                Ok(Some(accepted)) => return Ok(accepted),
                Err(error) => return Err(error),
                Ok(None) => {}
            }
            let now = Instant::now();
            let deadlines = pending.iter().map(ServerHandshake::deadline).chain([wait.deadline()]);
            let left = deadlines.flatten().min().map(|at| at.saturating_duration_since(now));
            if wait.deadline().is_some_and(|at| at <= now) {
                return Err(timeout());
            }
            let offered = is_offered(&pending, policy);
            // When the precedence of a process that was offered the place is over, the next one is due.
            let left =
                if offered { Some(left.map_or(PRECEDENCE, |left| left.min(PRECEDENCE))) } else { left };
            let sockets = pending
                .iter()
                .filter(|handshake| is_due(handshake, policy, offered))
                .map(ServerHandshake::socket);
            let fds: Vec<_> = sockets.chain([self.socket.as_fd()]).collect();
            if let Err(source) = poll::many(&fds, left) {
                return Err(os("waiting for connecting processes")(source));
            }
        }
    }

    /// Accepts the socket of each process that waits, and begins a handshake with those that are admitted.
    fn accept_pending(&self, pending: &mut Vec<ServerHandshake>, any_user: bool) -> Result<()> {
        for _ in 0..2 * MAX_PENDING {
            let Some(socket) =
                sock::accept(self.socket.as_fd()).map_err(os("accepting a connecting process"))?
            else {
                break;
            };
            if !ServerHandshake::admits(&socket, &self.options, any_user) {
                self.count_refused();
                continue;
            }
            if pending.len() >= MAX_PENDING {
                // Drop the one with the earliest deadline, so that silent peers do not keep others out.
                let slowest = (0..pending.len()).min_by_key(|&index| pending[index].deadline());
                pending.swap_remove(slowest.unwrap_or(0));
                self.count_refused();
            }
            match ServerHandshake::new(socket, &self.options, self.options.handshake_timeout) {
                Ok(handshake) => pending.push(handshake),
                Err(_) => self.count_refused(),
            }
        }
        Ok(())
    }

    fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Advances every handshake that is due, and returns the first that is complete.
    fn advance(
        &self,
        pending: &mut Vec<ServerHandshake>,
        policy: AcceptPolicy<'_>,
    ) -> Result<Option<Accepted>> {
        let now = Instant::now();
        let mut index = 0;
        while index < pending.len() {
            let due = is_due(&pending[index], policy, is_offered(pending, policy));
            let stepped = if due { pending[index].drive(policy) } else { Ok(None) };
            match stepped {
                Ok(Some(accepted)) => {
                    pending.remove(index);
                    return Ok(Some(accepted));
                }
                Ok(None) if pending[index].deadline().is_none_or(|deadline| deadline > now) => index += 1,
                Ok(None) => {
                    pending.remove(index);
                    self.count_refused();
                }
                Err(error) => {
                    pending.remove(index);
                    self.count_refused();
                    if is_local_failure(&error) {
                        return Err(error);
                    }
                }
            }
        }
        Ok(None)
    }
}

/// Whether a process was offered the vacant place less than [`PRECEDENCE`] ago.
fn is_offered(pending: &[ServerHandshake], policy: AcceptPolicy<'_>) -> bool {
    let recent = |at: Instant| at.elapsed() < PRECEDENCE;
    let same = |(place, at)| policy.into.is_some() && place == policy.place() && recent(at);
    pending.iter().any(|handshake| handshake.offered_place().is_some_and(same))
}

/// Whether a handshake may advance now. A vacant place is offered to one process after another. A process that was offered
/// another place waits until a call is for that one.
fn is_due(handshake: &ServerHandshake, policy: AcceptPolicy<'_>, offered: bool) -> bool {
    match handshake.offered_place() {
        None => !offered,
        Some((place, _)) => place == policy.place(),
    }
}

/// Whether a handshake failed because of this process, and not because of the peer.
fn is_local_failure(error: &Error) -> bool {
    match error {
        // These fail because of the peer's socket or memory.
        Error::Os { doing, .. } => !matches!(*doing, SENDING | READING | INSPECTING | MAPPING),
        _ => false,
    }
}

/// The error for a name that is bound already: whether by this user or by another one.
fn name_in_use(name: &str, address: &Address) -> Error {
    let expected = peer::uid();
    match sock::connect(address).and_then(|socket| sock::peer_creds(socket.as_fd())) {
        Ok(creds) if creds.uid != expected => Error::OtherUser { uid: creds.uid, expected },
        _ => Error::NameInUse { name: name.into() },
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some((path, id)) = &self.file {
            // Another process may have removed or replaced the file: then it stays.
            let _ = sock::unlink_if_ours(path, *id);
        }
    }
}

/// Connects to the listener at `name`. With `wait`, waits at most that long for the listener to appear and to accept.
fn connect(name: &str, options: &Options, wait: Option<Duration>, any_user: bool) -> Result<StandardLink> {
    let address = address(name)?;
    let began = Instant::now();
    let deadline = wait.map(|wait| began.checked_add(wait).unwrap_or(began + FOREVER));
    // A listener whose queue is full exists: it gets as long as a handshake may take.
    let queue_deadline = began.checked_add(options.handshake_timeout).unwrap_or(began + FOREVER);
    let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
    let socket = loop {
        match sock::connect(&address) {
            Ok(socket) => break socket,
            Err(error) => {
                let is_absent = matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound);
                let is_queue_full = error.kind() == ErrorKind::WouldBlock;
                match deadline.or(is_queue_full.then_some(queue_deadline)) {
                    Some(deadline) if (is_absent || is_queue_full) && left(deadline) > Duration::ZERO => {
                        std::thread::sleep(RETRY.min(left(deadline)));
                    }
                    _ if is_queue_full => {
                        return Err(Error::Timeout {
                            what: "a place in the listener's queue: it must accept",
                            after: began.elapsed(),
                        });
                    }
                    _ if is_absent => return Err(Error::NoSuchName { name: name.into() }),
                    _ => return Err(os("connecting to a listener")(error)),
                }
            }
        }
    };
    let creds = sock::peer_creds(socket.as_fd()).map_err(os("reading the listener's credentials"))?;
    check_user(options, any_user, creds.uid, creds.gid)?;
    let timeout = deadline.map_or(options.handshake_timeout, left);
    let mut client = ClientHandshake::new(socket, options, timeout);
    client.request_region(any_user)?;
    client.finish().map(StandardLink::new)
}

impl StandardLink {
    /// Connects to the listener at `name`, with the default [`Options`]. This end is the Secondary.
    ///
    /// # Errors
    /// [`Error::NoSuchName`] if there is no listener, [`Error::BadName`], [`Error::OtherUser`] if the listener belongs to
    /// another user; [`Error::Timeout`] if it does not accept within [`Options::handshake_timeout`], 5 seconds;
    /// [`Error::Refused`] or [`Error::Handshake`] if the handshake fails; [`Error::RegionTooLarge`],
    /// [`Error::FormatVersion`], [`Error::PageSize`], [`Error::Geometry`], [`Error::NoSeat`] or [`Error::Corrupt`] for a
    /// region that this end cannot attach to; [`Error::Os`].
    pub fn connect(name: &str) -> Result<Self> {
        connect(name, &Options::new(), None, false)
    }

    /// As [`connect`](Self::connect), waiting no longer than `time` for the listener to appear and to accept.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_timeout(name: &str, time: Duration) -> Result<Self> {
        connect(name, &Options::new(), Some(time), false)
    }

    /// Connects with limits and a trace of one's own (geometry and modes are the listener's to choose); waits for
    /// the listener if `wait` is given.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with(name: &str, options: Options, wait: Option<Duration>) -> Result<Self> {
        connect(name, &options, wait, false)
    }

    /// Makes both ends of a new link in this process, the Primary first, for threads and tests.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn pair() -> Result<(Self, Self)> {
        Self::pair_with(Options::new())
    }

    /// As [`pair`](Self::pair), with the given options.
    ///
    /// # Errors
    /// [`Error::Os`]; [`Error::Geometry`] or [`Error::RegionTooLarge`] for the options.
    pub fn pair_with(options: Options) -> Result<(Self, Self)> {
        options.geometry()?;
        let (ours, theirs) = sock::pair().map_err(os("creating a pair of sockets"))?;
        let timeout = options.handshake_timeout;
        let mut handshake = ServerHandshake::new(ours, &options, timeout)?;
        let policy = AcceptPolicy { options: &options, name: "pair", any_user: false, into: None };
        let mut client = ClientHandshake::new(theirs, &options, timeout);
        // One thread plays both sides; each message waits in the socket.
        client.request_region(false)?;
        handshake.drive(policy)?;
        let joined = client.join()?;
        match handshake.drive(policy)? {
            Some(Accepted::Link(primary)) => Ok((Self::new(*primary), Self::new(client.confirm(joined)?))),
            _ => Err(Error::Handshake {
                what: "the two ends of a pair did not answer each other",
                found: None,
            }),
        }
    }

    /// Takes the end of a link that the parent process passed with [`Offer::pass_to`]. It can be taken once.
    ///
    /// # Errors
    /// [`Error::Os`] if the parent passed none or it has been taken; else as [`connect`](Self::connect).
    pub fn inherited() -> Result<Self> {
        Self::inherited_with(Options::new())
    }

    /// As [`inherited`](Self::inherited), with the given options.
    ///
    /// # Errors
    /// As [`inherited`](Self::inherited).
    pub fn inherited_with(options: Options) -> Result<Self> {
        let socket = spawn::inherited(INHERITED).map_err(os("taking the inherited link"))?;
        let mut client = ClientHandshake::new(socket, &options, options.handshake_timeout);
        client.request_region(false)?;
        client.finish().map(Self::new)
    }
}

impl UntrustedLink {
    /// Connects to the listener at `name`, whatever its user; waits for it if `wait` is given.
    ///
    /// # Errors
    /// As [`StandardLink::connect_with`], but for the user.
    pub fn connect(name: &str, options: Options, wait: Option<Duration>) -> Result<Self> {
        connect(name, &options, wait, true).map(Self::new)
    }
}

/// The Primary end of a link whose other end a child process inherits. It needs no name.
///
/// ```no_run
/// use std::process::Command;
/// use std::time::Duration;
///
/// let offer = hqq::Offer::new(hqq::Options::new())?;
/// let mut command = Command::new("worker");
/// offer.pass_to(&mut command)?;
/// let mut child = command.spawn().expect("the worker starts");
/// let link = offer.accept(Duration::from_secs(5))?; // the child calls StandardLink::inherited()
/// link.send(b"work")?;
/// # Ok::<(), hqq::Error>(())
/// ```
#[derive(Debug)]
pub struct Offer {
    handshake: ServerHandshake,
    child_end: OwnedFd,
    options: Options,
}

impl Offer {
    /// Prepares a link with the given options.
    ///
    /// # Errors
    /// [`Error::Os`]; [`Error::Geometry`] or [`Error::RegionTooLarge`] for the options.
    pub fn new(options: Options) -> Result<Self> {
        options.geometry()?;
        let (ours, child_end) = sock::pair().map_err(os("creating a pair of sockets"))?;
        let handshake = ServerHandshake::new(ours, &options, Duration::MAX)?;
        Ok(Self { handshake, child_end, options })
    }

    /// Passes the other end to the process that `command` starts. Spawn one before [`accept`](Self::accept); the first of
    /// several that calls [`StandardLink::inherited`] gets the link.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn pass_to(&self, command: &mut Command) -> Result<()> {
        spawn::inherit_fd(command, self.child_end.as_fd(), INHERITED).map_err(os("passing a link to a child"))
    }

    /// Waits for the child process to take its end, no longer than `time`.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Handshake`] if the child ends without taking its end, or breaks a rule of the handshake;
    /// [`Error::Os`].
    pub fn accept(self, time: Duration) -> Result<StandardLink> {
        let Self { mut handshake, child_end, options } = self;
        // Only the child has this end from now on, so the socket hangs up when the child ends.
        drop(child_end);
        let began = Instant::now();
        loop {
            let policy = AcceptPolicy { options: &options, name: "offer", any_user: false, into: None };
            if let Some(Accepted::Link(core)) = handshake.drive(policy)? {
                return Ok(StandardLink::new(*core));
            }
            let left = time.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(Error::Timeout {
                    what: "the child's part of the handshake: it must call StandardLink::inherited",
                    after: began.elapsed(),
                });
            }
            poll::many(&[handshake.socket()], Some(left)).map_err(os("waiting for the child"))?;
        }
    }
}
