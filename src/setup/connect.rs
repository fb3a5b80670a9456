//! Links that this end begins: by the name of a listener, and both ends of a pair.
//!
//! | call | waits for the listener | options |
//! |---|---|---|
//! | `connect` | no: fails if there is none | default |
//! | `connect_timeout` | at most a time | default |
//! | `connect_with` | no | given |
//! | `connect_with_timeout` | at most a time | given |
//!
//! [`StandardLink`] and [`UntrustedLink`] have all four. A listener that exists has [`Options::handshake_timeout`] to accept in
//! the forms without a time.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hqq_sys::peer;
use hqq_sys::sock::{self, Address};

use crate::error::{Error, Result};
use crate::link::standard::StandardLink;
use crate::link::untrusted::UntrustedLink;
use crate::options::Options;
use crate::setup::handshake::{AcceptPolicy, Accepted, ClientHandshake, ServerHandshake, is_hang_up};
use crate::setup::identity::check_user;
use crate::setup::memory::os;

/// How long `connect` sleeps between its first two attempts; twice as long each time, up to the longest.
const RETRY: Duration = Duration::from_millis(2);
const LONGEST_RETRY: Duration = Duration::from_millis(16);
/// A time that never passes in practice, within the clock's range.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The socket address of a name.
///
/// # Errors
/// [`Error::BadName`].
pub(super) fn address(name: &str) -> Result<Address> {
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

/// The error for a name without a listener: nobody has it, or something other than a socket lies at the path.
fn no_listener(name: &str, address: &Address) -> Error {
    let Address::Path(path) = address else { return Error::NoSuchName { name: name.into() } };
    match sock::obstacle(path) {
        None => Error::NoSuchName { name: name.into() },
        Some(what) => os("connecting to a listener")(std::io::Error::new(
            ErrorKind::InvalidInput,
            format!(
                "{what} lies at {name}, and no socket: check the name, or remove it and bind a listener there"
            ),
        )),
    }
}

/// Connects to the listener at `name`. With `wait`, waits at most that long for the listener to appear and to accept. A listener
/// that has too many callers may hang up on one that has not been served yet, so that it calls again.
fn connect(name: &str, options: &Options, wait: Option<Duration>, any_user: bool) -> Result<StandardLink> {
    let address = address(name)?;
    let began = Instant::now();
    let deadline = wait.map(|wait| began.checked_add(wait).unwrap_or(began + FOREVER));
    // A listener that exists gets as long as a handshake may take.
    let known_deadline = began.checked_add(options.handshake_timeout).unwrap_or(began + FOREVER);
    let mut pause = RETRY;
    let mut hung_up = None;
    loop {
        let error = match sock::connect(&address) {
            Ok(socket) => {
                let left = deadline.unwrap_or(known_deadline).saturating_duration_since(Instant::now());
                match shake_hands(socket, options, left, any_user) {
                    Err(error) if is_hang_up(&error) => hung_up = Some(error),
                    // Why it was called again says more than that it took too long.
                    Err(Error::Timeout { what, after }) => {
                        return Err(hung_up.unwrap_or(Error::Timeout { what, after }));
                    }
                    done => return done,
                }
                None
            }
            Err(error) => Some(error),
        };
        let kind = error.as_ref().map(std::io::Error::kind);
        let is_absent = matches!(kind, Some(ErrorKind::ConnectionRefused | ErrorKind::NotFound));
        let is_queue_full = kind == Some(ErrorKind::WouldBlock);
        let until = match deadline {
            Some(deadline) if is_absent || is_queue_full || error.is_none() => Some(deadline),
            None if is_queue_full || error.is_none() => Some(known_deadline),
            _ => None,
        };
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        match (left, error) {
            (Some(left), _) if left > Duration::ZERO => std::thread::sleep(pause.min(left)),
            (_, Some(error)) => {
                return Err(match hung_up {
                    // It was there a moment ago.
                    Some(hung_up) if is_absent || is_queue_full => hung_up,
                    _ if is_absent => no_listener(name, &address),
                    _ if is_queue_full => Error::Timeout {
                        what: "a place in the listener's queue: it must accept",
                        after: began.elapsed(),
                    },
                    _ => os("connecting to a listener")(error),
                });
            }
            (_, None) => {
                return Err(hung_up.take().unwrap_or_else(|| Error::NoSuchName { name: name.into() }));
            }
        }
        pause = (2 * pause).min(LONGEST_RETRY);
    }
}

/// Makes a link of a socket that has just been connected, within `timeout`.
fn shake_hands(
    socket: OwnedFd,
    options: &Options,
    timeout: Duration,
    any_user: bool,
) -> Result<StandardLink> {
    let creds = sock::peer_creds(socket.as_fd()).map_err(os("reading the listener's credentials"))?;
    check_user(options, any_user, creds)?;
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

    /// As [`connect`](Self::connect), with the given options. The listener chooses geometry and modes.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with(name: &str, options: Options) -> Result<Self> {
        connect(name, &options, None, false)
    }

    /// As [`connect_with`](Self::connect_with), waiting no longer than `time` for the listener to appear and to accept.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with_timeout(name: &str, options: Options, time: Duration) -> Result<Self> {
        connect(name, &options, Some(time), false)
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
        handshake.drive_alone(policy)?;
        let joined = client.join()?;
        match handshake.drive_alone(policy)? {
            Some(Accepted::Link(primary)) => Ok((Self::new(*primary), Self::new(client.confirm(joined)?))),
            _ => Err(Error::Handshake {
                what: "the two ends of a pair did not answer each other",
                found: None,
            }),
        }
    }
}

impl UntrustedLink {
    /// Connects to the listener at `name` with the default [`Options`], whatever its user. This end is the Secondary.
    ///
    /// # Errors
    /// As [`StandardLink::connect`], but [`Error::OtherUser`] only if the options have a list of users or groups.
    pub fn connect(name: &str) -> Result<Self> {
        Self::connect_with(name, Options::new())
    }

    /// As [`connect`](Self::connect), waiting no longer than `time` for the listener to appear and to accept.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_timeout(name: &str, time: Duration) -> Result<Self> {
        Self::connect_with_timeout(name, Options::new(), time)
    }

    /// As [`connect`](Self::connect), with the given options. The listener chooses geometry and modes.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with(name: &str, options: Options) -> Result<Self> {
        connect(name, &options, None, true).map(Self::new)
    }

    /// As [`connect_with`](Self::connect_with), waiting no longer than `time` for the listener to appear and to accept.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with_timeout(name: &str, options: Options, time: Duration) -> Result<Self> {
        connect(name, &options, Some(time), true).map(Self::new)
    }
}
