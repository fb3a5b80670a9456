//! Layer 3: names, and how links are made of them: bind and accept, connect, pair, and an offer to a child.

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
    AcceptPolicy, Accepted, ClientHandshake, LOOKING, MAPPING, READING, SENDING, ServerHandshake, admit, os,
};

/// The environment variable that names an inherited link's descriptor.
const INHERITED: &str = "HQQ_LINK_FD";
/// Connectors that wait in the kernel before the listener hears of them.
const BACKLOG: i32 = 128;
/// Handshakes under way at once; beyond it the slowest is given up.
const MAX_PENDING: usize = 128;
/// How long somebody who was offered a vacant place has before the next in line is offered it too.
const PRECEDENCE: Duration = Duration::from_millis(100);
/// How long a waiting `connect` sleeps before it looks for the name again.
const RETRY: Duration = Duration::from_millis(2);
/// As good as for ever, and within the clock's range.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The address of a name.
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

/// A name at which links are accepted. Each accepted peer gets a region of its own; this end is the Primary.
///
/// A bare name belongs to this user and is gone with the process. A name with a slash is a socket file, for
/// containers that share a mount; dropping the listener removes it, and the next bind takes over one that a
/// dead process left. Links outlive the listener that made them.
///
/// All handshakes are driven at once, inside the accepting calls: a connector that falls silent delays nobody.
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
        f.debug_struct("Host").field("deadline", &self.deadline()).finish_non_exhaustive()
    }
}

impl Listener {
    /// Listens at `name` for links with the default [`Options`].
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::NameInUse`] if a living process has the name, [`Error::OtherUser`] if one of
    /// another user has; [`Error::Os`].
    pub fn bind(name: &str) -> Result<Self> {
        Self::bind_with(name, Options::new())
    }

    /// Listens at `name` for links with the given options.
    ///
    /// # Errors
    /// As [`bind`](Self::bind); [`Error::Geometry`] or [`Error::RegionTooLarge`] for the options.
    pub fn bind_with(name: &str, options: Options) -> Result<Self> {
        options.geometry()?;
        let address = address(name)?;
        let socket = sock::listen(&address, BACKLOG).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => in_use(name, &address),
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

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many connectors failed the handshake or were not admitted.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Waits for a peer of the same user, or one that [`Options::allow_uid`] admits. Others are refused, told so, and
    /// counted.
    ///
    /// # Errors
    /// [`Error::Os`]; what a failed handshake says stays between its two processes.
    pub fn accept(&self) -> Result<StandardLink> {
        self.accept_wait(false, Wait::Forever).map(StandardLink::new)
    }

    /// Waits for a peer of the same user no longer than `time`.
    ///
    /// # Errors
    /// As [`accept`](Self::accept), or [`Error::Timeout`].
    pub fn accept_timeout(&self, time: Duration) -> Result<StandardLink> {
        self.accept_wait(false, Wait::from(time)).map(StandardLink::new)
    }

    /// Moves the handshakes on without waiting, and returns a link if one is ready.
    ///
    /// # Errors
    /// As [`accept`](Self::accept), or [`Error::NoneWaiting`]. The listener's descriptor
    /// ([`AsFd`]) becomes readable for newcomers, not for the later steps of a handshake.
    pub fn try_accept(&self) -> Result<StandardLink> {
        match self.accept_wait(false, Wait::Until(Instant::now())) {
            Err(Error::Timeout { .. }) => Err(Error::NoneWaiting),
            done => done.map(StandardLink::new),
        }
    }

    /// Waits for a peer of any user, trusted with nothing. If the options have a list of users or groups, only those and
    /// this user are admitted.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn accept_untrusted(&self) -> Result<UntrustedLink> {
        self.accept_wait(true, Wait::Forever).map(|core| UntrustedLink::new(StandardLink::new(core)))
    }

    /// Waits for a peer of any user no longer than `time`.
    ///
    /// # Errors
    /// As [`accept_untrusted`](Self::accept_untrusted), or [`Error::Timeout`].
    pub fn accept_untrusted_timeout(&self, time: Duration) -> Result<UntrustedLink> {
        let core = self.accept_wait(true, Wait::from(time))?;
        Ok(UntrustedLink::new(StandardLink::new(core)))
    }

    /// Waits for a new Secondary to take the place of one that died or left, on the same link: what this end had sent and
    /// nobody received is delivered to the newcomer, and what the former peer had sent is still received first. What a dead
    /// peer had taken from the ring counts as received: the message in its program's hand and, on a link with connections,
    /// what it had sorted into its inbox.
    ///
    /// The link must have been made with [`Options::reattachable`]. Connections on it have ended with the former peer: drop
    /// them beforehand. Descriptors got from the link (its doorbell, [`StandardLink::peer_process`]) stand for the new peer
    /// afterwards; register them with an event loop anew. Accepting and this take turns on one listener, for as long as each
    /// waits; a [`ShutdownHandle`](crate::Stopper) ends neither.
    ///
    /// ```
    /// use hqq::{Error, Listener, Options, StandardLink};
    ///
    /// # let name = format!("doc-again-{}", std::process::id());
    /// let listener = Listener::bind_with(&name, Options::new().reattachable(true))?;
    /// # let connect = |name: &str| { let name = name.to_owned();
    /// #     std::thread::spawn(move || StandardLink::connect(&name)) };
    /// let first = connect(&name); // another process, mostly
    /// let mut link = listener.accept()?;
    /// link.send(b"one")?;
    /// link.send(b"two")?;
    /// # let first = first.join().unwrap()?;
    /// assert_eq!(&*first.recv()?, b"one");
    /// drop(first); // or it is killed
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
    /// [`Error::Unsupported`] unless the place is vacant, saying what is in the way; [`Error::PeerGone`] if the former
    /// peer hung up and lives, so that it may still use the link; [`Error::Closed`] if this end was shut down;
    /// [`Error::Corrupt`], [`Error::Os`]. The link is then as it was.
    pub fn reattach(&self, link: &mut StandardLink) -> Result<()> {
        self.reattach_as(link, false, Wait::Forever)
    }

    /// As [`reattach`](Self::reattach), no longer than `time`.
    ///
    /// # Errors
    /// As there, or [`Error::Timeout`].
    pub fn reattach_timeout(&self, link: &mut StandardLink, time: Duration) -> Result<()> {
        self.reattach_as(link, false, Wait::from(time))
    }

    /// As [`reattach`](Self::reattach), for a peer that is trusted with nothing; no longer than `time`. It must belong to the
    /// former peer's user, who may have kept the region.
    ///
    /// # Errors
    /// As [`reattach_timeout`](Self::reattach_timeout).
    pub fn reattach_untrusted(&self, link: &mut UntrustedLink, time: Duration) -> Result<()> {
        self.reattach_as(link.link_mut(), true, Wait::from(time))
    }

    pub(crate) fn reattach_wait(&self, link: &mut StandardLink, wait: Wait) -> Result<()> {
        self.reattach_as(link, false, wait)
    }

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
            // Then the next in line may be due.
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

    /// Begins a handshake with each waiting connector that is admitted.
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
                // The slowest handshake is given up, so that a silent connector keeps nobody out.
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
                    if is_ours(&error) {
                        return Err(error);
                    }
                }
            }
        }
        Ok(None)
    }
}

/// Whether somebody has been offered the vacant place of late.
fn is_offered(pending: &[ServerHandshake], policy: AcceptPolicy<'_>) -> bool {
    let late = |at: Instant| at.elapsed() < PRECEDENCE;
    let same = |(place, at)| policy.into.is_some() && place == policy.place() && late(at);
    pending.iter().any(|handshake| handshake.was_offered().is_some_and(same))
}

/// Whether a handshake may go on now: a vacant place is offered to one after another, and who was offered something else
/// waits until that is asked for again.
fn is_due(handshake: &ServerHandshake, policy: AcceptPolicy<'_>, offered: bool) -> bool {
    match handshake.was_offered() {
        None => !offered,
        Some((place, _)) => place == policy.place(),
    }
}

/// Whether a failed handshake is this process's trouble, not the connector's.
fn is_ours(error: &Error) -> bool {
    match error {
        // What fails on the connector's own socket or memory is between it and us.
        Error::Os { doing, .. } => !matches!(*doing, SENDING | READING | LOOKING | MAPPING),
        _ => false,
    }
}

/// Who has a name that cannot be bound?
fn in_use(name: &str, address: &Address) -> Error {
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
            // Somebody may have removed or replaced it: then it is not ours to remove.
            let _ = sock::unlink_if_ours(path, *id);
        }
    }
}

/// Calls `name`; waits for it to appear until `wait`, if given.
fn connect(name: &str, options: &Options, wait: Option<Duration>, any_user: bool) -> Result<StandardLink> {
    let address = address(name)?;
    let began = Instant::now();
    let deadline = wait.map(|wait| began.checked_add(wait).unwrap_or(began + FOREVER));
    // A listener whose queue is full is there: it gets as long as a handshake may take.
    let patience = began.checked_add(options.handshake_timeout).unwrap_or(began + FOREVER);
    let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
    let socket = loop {
        match sock::connect(&address) {
            Ok(socket) => break socket,
            Err(error) => {
                let absent = matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound);
                let crowded = error.kind() == ErrorKind::WouldBlock;
                match deadline.or(crowded.then_some(patience)) {
                    Some(deadline) if (absent || crowded) && left(deadline) > Duration::ZERO => {
                        std::thread::sleep(RETRY.min(left(deadline)));
                    }
                    _ if crowded => {
                        return Err(Error::Timeout {
                            what: "a place in the listener's queue: it must accept",
                            after: began.elapsed(),
                        });
                    }
                    _ if absent => return Err(Error::NoSuchName { name: name.into() }),
                    _ => return Err(os("connecting to a listener")(error)),
                }
            }
        }
    };
    let creds = sock::peer_creds(socket.as_fd()).map_err(os("reading the listener's credentials"))?;
    admit(options, any_user, creds.uid, creds.gid)?;
    let timeout = deadline.map_or(options.handshake_timeout, left);
    let mut client = ClientHandshake::new(socket, options, timeout);
    client.request_region(any_user)?;
    client.finish().map(StandardLink::new)
}

impl StandardLink {
    /// Connects to the listener at `name`, with the default limits. This end is the Secondary.
    ///
    /// # Errors
    /// [`Error::NoSuchName`] if nobody listens there, [`Error::BadName`], [`Error::OtherUser`] if another user
    /// does; [`Error::Timeout`] if the listener does not accept within 5 seconds, [`Error::Refused`],
    /// [`Error::Handshake`]; those of an attach for an unfit region; [`Error::Os`].
    pub fn connect(name: &str) -> Result<Self> {
        connect(name, &Options::new(), None, false)
    }

    /// Connects to the listener at `name`, waiting for it to appear and to accept no longer than `time`.
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

    /// Both ends of a new link in this process, the Primary first, for threads and tests.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn pair() -> Result<(Self, Self)> {
        Self::pair_with(Options::new())
    }

    /// Both ends of a new link with the given options, the Primary first.
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
        // Each message waits in the socket for the other's turn.
        client.request_region(false)?;
        handshake.drive(policy)?;
        let seated = client.join()?;
        match handshake.drive(policy)? {
            Some(Accepted::Link(primary)) => Ok((Self::new(*primary), Self::new(client.confirm(seated)?))),
            _ => Err(Error::Handshake {
                what: "the two ends of a pair did not answer each other",
                found: None,
            }),
        }
    }

    /// In a child process: takes the end of a link that the parent passed with [`Offer::pass_to`]. Once.
    ///
    /// # Errors
    /// [`Error::Os`] if there is none, saying which variable should name it; else as [`connect`](Self::connect).
    pub fn inherited() -> Result<Self> {
        Self::inherited_with(Options::new())
    }

    /// As [`inherited`](Self::inherited), with limits and a trace of one's own.
    ///
    /// # Errors
    /// As there.
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

/// The Primary end of a link whose other end a child process will take. No name is involved.
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
    /// Prepares a link.
    ///
    /// # Errors
    /// [`Error::Os`]; [`Error::Geometry`] or [`Error::RegionTooLarge`] for the options.
    pub fn new(options: Options) -> Result<Self> {
        options.geometry()?;
        let (ours, child_end) = sock::pair().map_err(os("creating a pair of sockets"))?;
        let handshake = ServerHandshake::new(ours, &options, Duration::MAX)?;
        Ok(Self { handshake, child_end, options })
    }

    /// Lets the children that `command` starts inherit the other end. Spawn one of them before
    /// [`accept`](Self::accept).
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn pass_to(&self, command: &mut Command) -> Result<()> {
        spawn::inherit_fd(command, self.child_end.as_fd(), INHERITED).map_err(os("passing a link to a child"))
    }

    /// Waits for the child to take its end, no longer than `time`.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Handshake`] if the child ends without taking it; those of a handshake.
    pub fn accept(self, time: Duration) -> Result<StandardLink> {
        let Self { mut handshake, child_end, options } = self;
        // Only the child has it now, so that its end hangs up with it.
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
