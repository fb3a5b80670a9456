//! [`Listener`]: binds a name and accepts links.

use std::fmt;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hqq_sys::sock::{self, Address, SocketFile};
use hqq_sys::{mem, peer, poll};

use crate::error::{Error, Result};
use crate::link::core::LinkCore;
use crate::link::deadline::Wait;
use crate::link::standard::StandardLink;
use crate::link::timed_mutex::TimedMutex;
use crate::link::untrusted::UntrustedLink;
use crate::options::Options;
use crate::setup::admission::{Admission, MAX_CALLERS, NextOffer, Room};
use crate::setup::connect::address;
use crate::setup::handshake::{AcceptPolicy, Accepted, READING, SENDING, ServerHandshake, Step};
use crate::setup::memory::{INSPECTING, MAPPING, os};
use crate::shm::layout::required_bytes;

/// Connecting processes that the kernel queues before the listener accepts their sockets.
const BACKLOG: i32 = 1024;
/// How long the listener leaves callers in the kernel's queue after descriptors have run out.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(20);
/// How long a process that was offered a vacant place has before the next one is offered it too.
const PRECEDENCE: Duration = Duration::from_millis(100);

/// Accepts links at a name. Each accepted peer gets a region of its own; this end is the Primary.
///
/// A name without a slash is visible to the same user in the same network namespace, and is gone with the process. A name
/// with a slash is the path of a socket file, for containers that share a mount. Dropping the listener removes the file, in
/// the process that bound it and not in a forked child: bind after the fork of a daemon. A file that a dead process left is
/// replaced by the next [`bind`](Self::bind). Links outlive their listener.
///
/// The accepting calls drive all pending handshakes together, so a peer that stops in the middle of its handshake does not
/// delay others.
///
/// | call | waits | peers |
/// |---|---|---|
/// | [`accept`](Self::accept), [`accept_timeout`](Self::accept_timeout), [`try_accept`](Self::try_accept) | until a peer comes, at most a time, not at all | this user, and those of [`Options::allow_uid`] and [`allow_gid`](Options::allow_gid) |
/// | [`accept_untrusted`](Self::accept_untrusted), [`accept_untrusted_timeout`](Self::accept_untrusted_timeout), [`try_accept_untrusted`](Self::try_accept_untrusted) | likewise | any user, unless the options have a list |
/// | [`reattach`](Self::reattach), [`reattach_timeout`](Self::reattach_timeout) | likewise | successors on an existing link |
/// | [`reattach_untrusted`](Self::reattach_untrusted), [`reattach_untrusted_timeout`](Self::reattach_untrusted_timeout) | likewise | successors of the former peer's user |
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    name: String,
    file: Option<SocketFile>,
    options: Options,
    pending: TimedMutex<Admission<ServerHandshake>>,
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
    /// of another user has; [`Error::Os`], also if something other than a socket lies at the path.
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
            Address::Path(path) => Some(SocketFile::at(&path).map_err(os("inspecting the socket file"))?),
        };
        let (pending, refused) = (TimedMutex::new(Admission::new()), AtomicU64::new(0));
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
        self.try_accept_as(false).map(StandardLink::new)
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

    /// As [`try_accept`](Self::try_accept), for a peer of any user.
    ///
    /// # Errors
    /// As [`try_accept`](Self::try_accept).
    pub fn try_accept_untrusted(&self) -> Result<UntrustedLink> {
        self.try_accept_as(true).map(|core| UntrustedLink::new(StandardLink::new(core)))
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
    /// As [`reattach`](Self::reattach).
    pub fn reattach_untrusted(&self, link: &mut UntrustedLink) -> Result<()> {
        self.reattach_as(link.link_mut(), true, Wait::Forever)
    }

    /// As [`reattach_untrusted`](Self::reattach_untrusted), waiting no longer than `time`.
    ///
    /// # Errors
    /// As [`reattach`](Self::reattach), or [`Error::Timeout`].
    pub fn reattach_untrusted_timeout(&self, link: &mut UntrustedLink, time: Duration) -> Result<()> {
        self.reattach_as(link.link_mut(), true, Wait::from(time))
    }

    pub(crate) fn reattach_wait(&self, link: &mut StandardLink, wait: Wait) -> Result<()> {
        self.reattach_as(link, false, wait)
    }

    /// Vacates the place of the former peer and waits for a successor.
    fn reattach_as(&self, link: &mut StandardLink, any_user: bool, wait: Wait) -> Result<()> {
        let core = link.core();
        core.make_vacant()?;
        match self.await_handshake(Some(core), any_user, wait)? {
            Accepted::Successor(successor) => core.replace_peer(successor),
            Accepted::Link(_) => Err(Error::Handshake {
                what: "a new link was made where a successor was expected: reattach again",
                found: None,
            }),
        }
    }

    fn try_accept_as(&self, any_user: bool) -> Result<LinkCore> {
        self.accept_wait(any_user, Wait::Until(Instant::now())).map_err(|error| match error {
            Error::Timeout { .. } => Error::NoneWaiting,
            error => error,
        })
    }

    /// Accepts a new link.
    fn accept_wait(&self, any_user: bool, wait: Wait) -> Result<LinkCore> {
        match self.await_handshake(None, any_user, wait)? {
            Accepted::Link(core) => Ok(*core),
            Accepted::Successor(_) => Err(Error::Handshake {
                what: "a successor came where a new link was expected: accept again",
                found: None,
            }),
        }
    }

    /// Drives handshakes until one is complete: for a new link, or for the vacant place of `into`.
    fn await_handshake(&self, into: Option<&LinkCore>, any_user: bool, wait: Wait) -> Result<Accepted> {
        let began = Instant::now();
        let timeout = || Error::Timeout {
            what: "a peer to connect: start it, or allow more time",
            after: began.elapsed(),
        };
        let mut pending = self.pending.lock(wait).ok_or_else(timeout)?;
        let policy = AcceptPolicy { options: &self.options, name: &self.name, any_user, into };
        let bytes = match into {
            Some(_) => 0,
            None => required_bytes(&self.options.geometry()?, mem::page_size() as u64)?,
        };
        // At first what is there already.
        let mut left = Some(Duration::ZERO);
        let mut began_offer = false;
        loop {
            let arrived = self.arrived(&pending, policy, left)?;
            if let Some(accepted) = self.drive_ready(&mut pending, policy, &arrived.callers)? {
                return Ok(accepted);
            }
            self.drop_expired(&mut pending);
            let accepted = arrived.listener && self.accept_pending(&mut pending, any_user)?;
            // One at a time: whoever is ready meanwhile comes first, and the time is looked at.
            let offered = !(began_offer && wait.is_over()) && self.make_offer(&mut pending, policy, bytes)?;
            began_offer |= offered;
            if wait.is_over() {
                return Err(timeout());
            }
            left = match accepted || offered {
                true => Some(Duration::ZERO),
                false => {
                    let next = [wait.deadline(), self.next_change(&pending, policy, bytes)];
                    let now = Instant::now();
                    next.into_iter().flatten().min().map(|at| at.saturating_duration_since(now))
                }
            };
        }
    }

    /// What has arrived, waiting for it no longer than `left`.
    fn arrived(
        &self,
        pending: &Admission<ServerHandshake>,
        policy: AcceptPolicy<'_>,
        left: Option<Duration>,
    ) -> Result<Arrived> {
        let has_room = !matches!(pending.room(MAX_CALLERS, Instant::now()), Room::Full { .. });
        let listened = has_room.then(|| self.socket.as_fd());
        let watched: Vec<_> =
            (0..pending.len()).filter(|&index| is_for(pending.get(index), policy)).collect();
        let sockets = watched.iter().map(|&index| pending.get(index).socket());
        let fds: Vec<_> = sockets.chain(listened).collect();
        let ready = poll::many(&fds, left).map_err(os("waiting for connecting processes"))?;
        Ok(Arrived {
            callers: watched
                .iter()
                .zip(&ready)
                .filter(|(_, ready)| **ready)
                .map(|(&index, _)| index)
                .collect(),
            listener: has_room && ready.last() == Some(&true),
        })
    }

    /// When something may change that no socket tells.
    fn next_change(
        &self,
        pending: &Admission<ServerHandshake>,
        policy: AcceptPolicy<'_>,
        bytes: u64,
    ) -> Option<Instant> {
        let now = Instant::now();
        let room = match pending.room(MAX_CALLERS, now) {
            Room::Full { until } => until,
            Room::Free | Room::InPlaceOf(_) => None,
        };
        let offer = match pending.next_offer(bytes, now) {
            NextOffer::Later(at) => Some(at),
            // The vacant place was offered to another just now.
            NextOffer::Caller(_) if is_offered(pending, policy) => Some(now + PRECEDENCE),
            NextOffer::Caller(_) | NextOffer::InPlaceOf(..) | NextOffer::Nobody => None,
        };
        [pending.deadline(), room, offer].into_iter().flatten().min()
    }

    /// Accepts the socket of each process that waits, and begins a handshake with those that are admitted. Whether there was one.
    fn accept_pending(&self, pending: &mut Admission<ServerHandshake>, any_user: bool) -> Result<bool> {
        let mut accepted = false;
        for _ in 0..MAX_CALLERS {
            let now = Instant::now();
            let gives_way = match pending.room(MAX_CALLERS, now) {
                Room::Free => None,
                Room::InPlaceOf(index) => Some(index),
                Room::Full { .. } => break,
            };
            let socket = match sock::accept(self.socket.as_fd()) {
                Ok(Some(socket)) => socket,
                Ok(None) => break,
                Err(error) if sock::is_exhaustion(&error) && pending.len() > 0 => {
                    // The slowest make room. Who has spoken goes on, and the rest wait in the kernel's queue for a while.
                    // The kernel says so also when nobody waits.
                    if let Room::InPlaceOf(index) = pending.room(0, now) {
                        self.refuse(pending, index);
                    }
                    pending.rest(now + DESCRIPTOR_PAUSE);
                    break;
                }
                Err(error) => return Err(os("accepting a connecting process")(error)),
            };
            accepted = true;
            let Some(uid) = ServerHandshake::admits(&socket, &self.options, any_user) else {
                self.count_refused();
                continue;
            };
            if let Some(index) = gives_way {
                self.refuse(pending, index);
            }
            match ServerHandshake::new(socket, &self.options, self.options.handshake_timeout) {
                Ok(handshake) => {
                    let deadline = handshake.deadline();
                    pending.push(handshake, uid, now, deadline);
                }
                Err(_) => self.count_refused(),
            }
        }
        Ok(accepted)
    }

    fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends a handshake.
    fn refuse(&self, pending: &mut Admission<ServerHandshake>, index: usize) {
        drop(pending.remove(index));
        self.count_refused();
    }

    fn drop_expired(&self, pending: &mut Admission<ServerHandshake>) {
        while let Some(index) = pending.expired(Instant::now()) {
            self.refuse(pending, index);
        }
    }

    /// Makes the offer that is due, if one is. Whether one was.
    fn make_offer(
        &self,
        pending: &mut Admission<ServerHandshake>,
        policy: AcceptPolicy<'_>,
        bytes: u64,
    ) -> Result<bool> {
        if is_offered(pending, policy) {
            return Ok(false);
        }
        let index = match pending.next_offer(bytes, Instant::now()) {
            NextOffer::Caller(index) => index,
            NextOffer::InPlaceOf(gives_way, index) => {
                self.refuse(pending, gives_way);
                if index > gives_way { index - 1 } else { index }
            }
            NextOffer::Nobody | NextOffer::Later(_) => return Ok(false),
        };
        match pending.get_mut(index).offer(policy) {
            Ok(()) => {
                let now = Instant::now();
                pending.offered(index, bytes, now, now.checked_add(self.options.handshake_timeout));
            }
            Err(error) => {
                self.refuse(pending, index);
                if is_local_failure(&error) {
                    return Err(error);
                }
            }
        }
        Ok(true)
    }

    /// Advances the handshakes whose next message has arrived: those first that can be completed. The first that is complete.
    fn drive_ready(
        &self,
        pending: &mut Admission<ServerHandshake>,
        policy: AcceptPolicy<'_>,
        ready: &[usize],
    ) -> Result<Option<Accepted>> {
        let (offered, others): (Vec<_>, Vec<_>) =
            ready.iter().copied().partition(|&index| pending.is_offered(index));
        let mut gone = Vec::new();
        let mut outcome = Ok(None);
        for index in offered.into_iter().chain(others) {
            match pending.get_mut(index).drive(policy) {
                Ok(Step::Waiting) => {}
                Ok(Step::Joined) => pending.spoke(index, Instant::now()),
                Ok(Step::Done(accepted)) => {
                    gone.push(index);
                    outcome = Ok(Some(accepted));
                    break;
                }
                Err(error) => {
                    gone.push(index);
                    self.count_refused();
                    if is_local_failure(&error) {
                        outcome = Err(error);
                        break;
                    }
                }
            }
        }
        gone.sort_unstable();
        for index in gone.into_iter().rev() {
            drop(pending.remove(index));
        }
        outcome
    }
}

/// What a look at the sockets has found.
struct Arrived {
    /// Callers whose next message has come.
    callers: Vec<usize>,
    /// Processes wait to be accepted.
    listener: bool,
}

/// Whether a process was offered the vacant place less than [`PRECEDENCE`] ago. It is offered to one after another.
fn is_offered(pending: &Admission<ServerHandshake>, policy: AcceptPolicy<'_>) -> bool {
    let recent = |at: Instant| at.elapsed() < PRECEDENCE;
    let same = |(place, at)| policy.into.is_some() && place == policy.place() && recent(at);
    pending.iter().any(|handshake| handshake.offered_place().is_some_and(same))
}

/// Whether a handshake may advance in a call with this policy: a process that was offered another place waits until a call is
/// for that one.
fn is_for(handshake: &ServerHandshake, policy: AcceptPolicy<'_>) -> bool {
    handshake.offered_place().is_none_or(|(place, _)| place == policy.place())
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
        if let Some(file) = &self.file {
            // Another process may have removed or replaced the file, or this is a forked child: then it stays.
            let _ = file.remove();
        }
    }
}
