//! Layer 3: how two processes come to share a region. One 64-byte packet a message, over the link's socket:
//!
//! ```text
//! Primary    HELLO  magic, format, protocol version         ->
//!         <- JOIN   the same, and the largest region it takes       Secondary
//!            OFFER  bytes and epoch of the region, with its memfd ->
//!         <- READY  the seat it took
//! ```
//!
//! Either may answer OpError instead. Each takes the other's user from the kernel's credentials and its pidfd
//! from SCM_PIDFD, both attached to the first message that it receives: so nothing is shared before it is known
//! with whom. Afterwards the socket carries doorbell tokens only.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use hqq_sys::mem::{self, Mapping};
use hqq_sys::sock::{self, Received};
use hqq_sys::{peer, poll};

use crate::error::{Error, ErrorCode, Result};
use crate::inner::{Inner, Parts, Peer};
use crate::mux::VERSION;
use crate::options::{Options, TraceEvent};
use crate::packet::{Packet, op};
use crate::region::{OwnedRegion, Setup};
use crate::sync::Ordering;
use crate::words::{FORMAT, Holder, MAGIC, Role, SEATS, SeatWord};

/// What fails on the peer's own socket, and is no trouble of ours.
pub(crate) const SENDING: &str = "sending a handshake message";
/// As [`SENDING`].
pub(crate) const READING: &str = "reading a handshake message";

/// Adds what was being done to an error of the operating system.
pub(crate) fn os(doing: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Os { doing, source }
}

/// The other end closed its socket, or died: seen by the next receive, or already by a send.
const HUNG_UP: Error = Error::Handshake { what: "it hung up", found: 0 };

/// A socket that speaks in packets.
struct Talk<'o> {
    role: Role,
    options: &'o Options,
}

impl Talk<'_> {
    fn trace(&self, sent: bool, packet: &Packet) {
        if let Some(trace) = &self.options.trace {
            trace(&TraceEvent { role: self.role, sent, packet: *packet });
        }
    }

    fn send(&self, socket: BorrowedFd<'_>, packet: &Packet, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.trace(true, packet);
        sock::send(socket, &packet.to_bytes(), fds).map_err(|source| match source.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => HUNG_UP,
            _ => Error::Os { doing: SENDING, source },
        })
    }

    /// Tells the peer why the handshake ends, if it is a reason for it.
    fn refuse(&self, socket: BorrowedFd<'_>, error: &Error, failed: u8, need: u64) {
        if let Some(code) = error.code() {
            let mut packet = Packet::error(0, code, failed);
            packet.operands[3] = need;
            // It may have gone; then there is nobody to tell.
            let _ = self.send(socket, &packet, &[]);
        }
    }

    /// The next message, if it is there and is the `wanted` one.
    fn receive(&self, socket: BorrowedFd<'_>, wanted: u8) -> Result<Option<(Packet, Received)>> {
        let mut bytes = [0; 65];
        let Some(received) = sock::recv(socket, &mut bytes).map_err(os(READING))? else {
            return Ok(None);
        };
        let wrong = |what, found| Err(Error::Handshake { what, found });
        if received.len == 0 {
            return Err(HUNG_UP);
        }
        if received.len != 64 || received.truncated {
            return wrong("a message is not 64 bytes long", received.len as u64);
        }
        let (image, _) = bytes.split_first_chunk().expect("65 bytes are more than 64");
        let Some(packet) = Packet::from_bytes(image) else {
            return wrong("the bytes beside the opcode are not zero", u64::from(bytes[1]));
        };
        self.trace(false, &packet);
        if packet.op == op::ERROR {
            let [_, number, _, need, ..] = packet.operands;
            let code = ErrorCode::from_number(number).unwrap_or(ErrorCode::FailedInit);
            if code == ErrorCode::InvalidSize && need != 0 {
                return Err(Error::RegionTooLarge { need, limit: self.options.max_region });
            }
            return Err(Error::Refused { what: "the handshake", code });
        }
        if packet.op != wanted {
            return wrong("a message out of turn", packet.op.into());
        }
        let fds = usize::from(wanted == op::OFFER);
        if received.fds.len() != fds {
            return wrong("a wrong number of descriptors", received.fds.len() as u64);
        }
        Ok(Some((packet, received)))
    }
}

/// Checks a HELLO or JOIN.
fn check_greeting(packet: &Packet) -> Result<()> {
    let [magic, format, version, ..] = packet.operands;
    if magic != MAGIC {
        return Err(Error::ForeignMagic { found: magic });
    }
    if format != FORMAT {
        return Err(Error::FormatVersion { found: format, supported: FORMAT });
    }
    if version >> 8 != VERSION >> 8 {
        return Err(Error::Handshake { what: "another major protocol version", found: version });
    }
    Ok(())
}

/// Who sent a message, and the proof of its death to come.
fn identify(received: Received) -> Result<(Peer, OwnedFd)> {
    let Some(creds) = received.creds else {
        return Err(Error::Handshake { what: "no credentials came with a message", found: 0 });
    };
    let Some(pidfd) = received.pidfd else {
        return Err(Error::Handshake { what: "it ended before its message was read", found: 0 });
    };
    let pid = (creds.pid > 0).then_some(creds.pid);
    Ok((Peer { pid, uid: creds.uid, gid: creds.gid }, pidfd))
}

/// Whether a peer of this user is admitted where only our own user is.
fn same_user(uid: u32) -> Result<()> {
    let expected = peer::uid();
    if uid == expected { Ok(()) } else { Err(Error::OtherUser { uid, expected }) }
}

/// A random number for a region's epoch.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// What waits for READY.
struct Offered {
    region: OwnedRegion<Mapping>,
    memory: OwnedFd,
    pidfd: OwnedFd,
    peer: Peer,
}

/// The Primary's side of one handshake: moved on whenever its socket has something to read.
pub(crate) struct Host {
    socket: Option<OwnedFd>,
    stage: Stage,
    deadline: Option<Instant>,
}

enum Stage {
    Greeted,
    Offered(Box<Offered>),
    Over,
}

impl Host {
    /// Begins a handshake.
    pub(crate) fn new(socket: OwnedFd, options: &Options, timeout: Duration) -> Result<Self> {
        let hello = Packet::new(op::HELLO, [MAGIC, FORMAT, VERSION]);
        Talk { role: Role::Primary, options }.send(socket.as_fd(), &hello, &[])?;
        let deadline = Instant::now().checked_add(timeout);
        Ok(Self { socket: Some(socket), stage: Stage::Greeted, deadline })
    }

    /// Whether who knocks belongs to our user; tells it if not.
    pub(crate) fn admits(socket: &OwnedFd, options: &Options) -> bool {
        let Ok(creds) = sock::peer_creds(socket.as_fd()) else { return false };
        let admitted = same_user(creds.uid);
        if let Err(error) = &admitted {
            Talk { role: Role::Primary, options }.refuse(socket.as_fd(), error, op::HELLO, 0);
        }
        admitted.is_ok()
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("kept until the link is made").as_fd()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Goes as far as what has been received allows; a finished link's inside. `any_user` admits all users.
    pub(crate) fn step(&mut self, options: &Options, name: &str, any_user: bool) -> Result<Option<Inner>> {
        let talk = Talk { role: Role::Primary, options };
        let wanted = if matches!(self.stage, Stage::Greeted) { op::JOIN } else { op::READY };
        let stepped = self.advance(&talk, name, any_user, wanted);
        if let Err(error) = &stepped {
            if !matches!(error, Error::RegionTooLarge { .. } | Error::Refused { .. }) {
                talk.refuse(self.socket(), error, wanted, 0);
            }
        }
        stepped
    }

    fn advance(&mut self, talk: &Talk<'_>, name: &str, any_user: bool, wanted: u8) -> Result<Option<Inner>> {
        let Some((packet, received)) = talk.receive(self.socket(), wanted)? else { return Ok(None) };
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Greeted => {
                let (peer, pidfd) = identify(received)?;
                if !any_user {
                    same_user(peer.uid)?;
                }
                check_greeting(&packet)?;
                self.offer(talk, name, peer, pidfd, packet.operands[3])?;
                Ok(None)
            }
            Stage::Offered(offered) => {
                let Offered { region, memory, pidfd, peer } = *offered;
                if !any_user {
                    same_user(peer.uid)?;
                }
                let peer_seat = check_seat(&region, packet.operands[0], packet.operands[1])?;
                let socket = self.socket.take().expect("kept until the link is made");
                let parts = Parts { region, memory, socket, pidfd, peer, peer_seat };
                Inner::new(parts, talk.options).map(Some)
            }
            Stage::Over => Err(Error::Handshake { what: "a message after the end", found: wanted.into() }),
        }
    }

    /// Makes the region and offers it.
    fn offer(&mut self, talk: &Talk<'_>, name: &str, peer: Peer, pidfd: OwnedFd, limit: u64) -> Result<()> {
        let options = talk.options;
        let geometry = options.geometry()?;
        let page = mem::page_size() as u64;
        let need = crate::layout::required_bytes(&geometry, page)?;
        if need > limit {
            let error = Error::RegionTooLarge { need, limit };
            talk.refuse(self.socket(), &error, op::JOIN, need);
            return Err(error);
        }
        let memory =
            mem::create(&format!("hqq:{name}"), need).map_err(os("reserving memory for the region"))?;
        mem::seal(memory.as_fd()).map_err(os("sealing the region's memory"))?;
        let mapping = Mapping::map(memory.as_fd(), need as usize).map_err(os("mapping the region"))?;
        let epoch = random();
        let setup = Setup { geometry, modes: options.modes, page, epoch, first_lap: 0, name };
        let mut region = OwnedRegion::create(mapping, &setup, false)?;
        region.limit_messages(options.max_message);
        let seat = region.region().seat(0);
        seat.pid.store(peer::pid() as u64, Ordering::Relaxed);
        let offer = Packet::new(op::OFFER, [need, epoch]);
        talk.send(self.socket(), &offer, &[memory.as_fd()])?;
        self.stage = Stage::Offered(Box::new(Offered { region, memory, pidfd, peer }));
        Ok(())
    }
}

/// The Secondary's seat, as READY names it.
fn check_seat(region: &OwnedRegion<Mapping>, seat: u64, generation: u64) -> Result<Holder> {
    if !(1..SEATS as u64).contains(&seat) {
        return Err(Error::Handshake { what: "there is no such seat for a Secondary", found: seat });
    }
    if !(1..32).contains(&generation) {
        return Err(Error::Handshake { what: "there is no such generation of a seat", found: generation });
    }
    let holder = Holder::new(seat as usize, generation as u8);
    let found = region.region().seat(holder.seat()).word.load(Ordering::Acquire);
    let word = SeatWord::from_word(found);
    let joined = word.is_valid() && word.is_joined() && word.role() == Role::Secondary;
    if joined && u64::from(word.generation()) == generation {
        Ok(holder)
    } else {
        Err(Error::Corrupt { what: "the Secondary's seat", found })
    }
}

/// The Secondary's side of a handshake, a message at a time.
pub(crate) struct Guest<'o> {
    socket: OwnedFd,
    talk: Talk<'o>,
    until: Option<Instant>,
    host: Option<(Peer, OwnedFd)>,
}

impl<'o> Guest<'o> {
    /// Begins a handshake on a connected socket that must be over in `timeout`.
    pub(crate) fn new(socket: OwnedFd, options: &'o Options, timeout: Duration) -> Self {
        let talk = Talk { role: Role::Secondary, options };
        Self { socket, talk, until: Instant::now().checked_add(timeout), host: None }
    }

    /// Waits for a message.
    fn receive(&self, wanted: u8) -> Result<(Packet, Received)> {
        let began = Instant::now();
        loop {
            if let Some(message) = self.talk.receive(self.socket.as_fd(), wanted)? {
                return Ok(message);
            }
            let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(Error::Timeout {
                    what: "the peer's part of the handshake",
                    after: began.elapsed(),
                });
            }
            poll::many(&[self.socket.as_fd()], left).map_err(os("waiting for the handshake"))?;
        }
    }

    /// Hears HELLO, checks who speaks, sends JOIN.
    pub(crate) fn join(&mut self, any_user: bool) -> Result<()> {
        let (packet, received) = self.receive(op::HELLO)?;
        let checked = identify(received).and_then(|(host, pidfd)| {
            if !any_user {
                same_user(host.uid)?;
            }
            check_greeting(&packet)?;
            Ok((host, pidfd))
        });
        self.host = Some(self.or_refuse(checked, op::HELLO)?);
        let limit = self.talk.options.max_region;
        let join = Packet::new(op::JOIN, [MAGIC, FORMAT, VERSION, limit]);
        self.talk.send(self.socket.as_fd(), &join, &[])
    }

    /// Tells the host what went wrong.
    fn or_refuse<T>(&self, result: Result<T>, failed: u8) -> Result<T> {
        result.inspect_err(|error| self.talk.refuse(self.socket.as_fd(), error, failed, 0))
    }

    /// Hears OFFER, attaches, sends READY.
    pub(crate) fn attach(mut self) -> Result<Inner> {
        let (_, mut received) = self.receive(op::OFFER)?;
        let memory = received.fds.pop().expect("one was counted");
        let region = self.or_refuse(self.open(&memory), op::OFFER)?;
        let holder = region.region().holder();
        region.region().seat(holder.seat()).pid.store(peer::pid() as u64, Ordering::Relaxed);
        let ready = Packet::new(op::READY, [holder.seat() as u64, holder.generation().into()]);
        self.talk.send(self.socket.as_fd(), &ready, &[])?;
        let (peer, pidfd) = self.host.take().expect("heard before the offer");
        let peer_seat = Holder::new(0, 1);
        let parts = Parts { region, memory, socket: self.socket, pidfd, peer, peer_seat };
        Inner::new(parts, self.talk.options)
    }

    fn open(&self, memory: &OwnedFd) -> Result<OwnedRegion<Mapping>> {
        let facts = mem::facts(memory.as_fd()).map_err(os("looking at the offered memory"))?;
        let wrong = |what| Err(Error::Handshake { what, found: facts.len });
        if !facts.is_memfd {
            return wrong("the offered descriptor is no memfd");
        }
        if !facts.sealed {
            return wrong("the offered memory is not sealed against truncation");
        }
        let limit = self.talk.options.max_region;
        if facts.len > limit {
            return Err(Error::RegionTooLarge { need: facts.len, limit });
        }
        if facts.len == 0 {
            return Err(Error::TooSmallMemory { what: "the region", have: 0, need: 4096 });
        }
        let mapping =
            Mapping::map(memory.as_fd(), facts.len as usize).map_err(os("mapping the offered region"))?;
        let mut region =
            OwnedRegion::attach(mapping, mem::page_size() as u64, Role::Secondary, |_| Some(false))?;
        region.limit_messages(self.talk.options.max_message);
        Ok(region)
    }
}
