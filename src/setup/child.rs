//! Links between a process and its child, without a name: [`Offer`] in the parent, [`StandardLink::inherited`] in the child.

use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use hqq_sys::{poll, sock, spawn};

use crate::error::{Error, Result};
use crate::link::deadline::Wait;
use crate::link::standard::StandardLink;
use crate::options::Options;
use crate::setup::handshake::{AcceptPolicy, Accepted, ClientHandshake, ServerHandshake};
use crate::setup::memory::os;

/// Name of the environment variable with the descriptor of an inherited link.
const INHERITED: &str = "HQQ_LINK_FD";

impl StandardLink {
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
/// let link = offer.accept_timeout(Duration::from_secs(5))?; // the child calls StandardLink::inherited()
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

    /// Waits for the child process to take its end, or to end without taking it.
    ///
    /// # Errors
    /// [`Error::Handshake`] if the child ends without taking its end, or breaks a rule of the handshake; [`Error::Os`].
    pub fn accept(self) -> Result<StandardLink> {
        self.accept_wait(Wait::Forever)
    }

    /// As [`accept`](Self::accept), waiting no longer than `time`.
    ///
    /// # Errors
    /// As [`accept`](Self::accept), or [`Error::Timeout`].
    pub fn accept_timeout(self, time: Duration) -> Result<StandardLink> {
        self.accept_wait(Wait::from(time))
    }

    fn accept_wait(self, wait: Wait) -> Result<StandardLink> {
        let Self { mut handshake, child_end, options } = self;
        // Only the child has this end from now on, so the socket hangs up when the child ends.
        drop(child_end);
        let began = Instant::now();
        loop {
            let policy = AcceptPolicy { options: &options, name: "offer", any_user: false, into: None };
            if let Some(Accepted::Link(core)) = handshake.drive_alone(policy)? {
                return Ok(StandardLink::new(*core));
            }
            if wait.is_over() {
                return Err(Error::Timeout {
                    what: "the child's part of the handshake: it must call StandardLink::inherited",
                    after: began.elapsed(),
                });
            }
            poll::many(&[handshake.socket()], wait.left()).map_err(os("waiting for the child"))?;
        }
    }
}
