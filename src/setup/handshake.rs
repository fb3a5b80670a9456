//! The handshake, by which two processes come to share a region. Each message is one packet of 64 bytes on the link's
//! socket:
//!
//! ```text
//! Primary    HELLO  magic, format, protocol version         ->
//!         <- JOIN   the same, and its limit on the region           Secondary
//!            OFFER  bytes and epoch of the region, with its memfd ->
//!         <- READY  the seat that it took
//!            WELCOME                                          ->
//! ```
//!
//! If the region is protected, OFFER carries the memfd of the Primary's payload too, and READY that of the Secondary's. A
//! successor, which takes the place of a former Secondary, receives the same messages; the region is then an existing one.
//!
//! Between READY and WELCOME the Secondary has a seat and does not use it: it neither sends nor receives. So the Primary can
//! still drop it, and no message is lost.
//!
//! Either side can answer OpError instead. Each side reads the other's user and group from the credentials that the kernel
//! attaches to the first message, and its pidfd from SCM_PIDFD. So no memory is shared before the peer is identified.
//! Afterwards the socket carries doorbell tokens only.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use hqq_sys::ids::Kind;
use hqq_sys::lock::{self, SeatLock};
use hqq_sys::mem::{self, Mapping};
use hqq_sys::sock::{self, Received};
use hqq_sys::{ids, peer, poll};

use crate::agreement::Version;
use crate::error::{Error, ErrorCode, Result};
use crate::link::core::{LinkCore, Parts, Peer};
use crate::link::reattach::Successor;
use crate::options::{Options, TraceEvent};
use crate::setup::identity::{MAPPED, check_user, creds};
use crate::setup::memory::{
    LOCKING, NewRegion, check_memfd, create_payload, lacks_descriptors, map_peer_payload, os,
};
use crate::shm::packet::{Packet, op};
use crate::shm::region::Region;
use crate::shm::region::owned::OwnedRegion;
use crate::shm::words::{FORMAT, Holder, MAGIC, Role, SEATS, SeatWord};
use crate::sync::Ordering;

/// Names of operations that fail because of the peer's socket; see [`memory`](super::memory) for those of its memory. Such
/// a failure ends the handshake and not the call of the listener.
pub(crate) const SENDING: &str = "sending a handshake message";
pub(crate) const READING: &str = "reading a handshake message";
/// Names of operations that fail because this process has no descriptor left, or no memory. That is a failure of this end.
const TAKING: &str = "receiving the descriptors of a handshake message";
const IDENTIFYING: &str = "receiving a descriptor of the peer's process";

/// The peer closed its socket or died. A receive returns it, or already a send.
const HUNG_UP: Error = Error::Handshake {
    what: "the peer hung up before it was over: see the error of the peer's process",
    found: None,
};

/// Whether a handshake has failed since the peer hung up without a reason.
pub(crate) fn is_hang_up(error: &Error) -> bool {
    matches!((error, HUNG_UP), (Error::Handshake { what, .. }, Error::Handshake { what: hung_up, .. }) if *what == hung_up)
}

/// Sends and receives packets on a socket, and shows them to the trace hook.
struct PacketSocket<'o> {
    role: Role,
    options: &'o Options,
}

impl PacketSocket<'_> {
    fn trace(&self, sent: bool, packet: &Packet) {
        if let Some(trace) = &self.options.trace {
            trace.show(&TraceEvent { role: self.role, sent, packet: *packet });
        }
    }

    fn send(&self, socket: BorrowedFd<'_>, packet: &Packet, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.trace(true, packet);
        sock::send(socket, &packet.to_bytes(), fds).map_err(|source| match source.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => HUNG_UP,
            _ => Error::Os { doing: SENDING, source },
        })
    }

    /// Sends WELCOME: the Secondary may use its seat.
    fn welcome(&self, socket: BorrowedFd<'_>) -> Result<()> {
        self.send(socket, &Packet::new(op::WELCOME, []), &[])
    }

    /// Sends OpError with the code of `error`, if it has one. `failed` is the opcode that is refused, `need` the size of
    /// a region that is too large, in bytes, or 0.
    fn send_refusal(&self, socket: BorrowedFd<'_>, error: &Error, failed: u8, need: u64) {
        if let Some(code) = error.code() {
            let mut packet = Packet::error(0, code, failed);
            packet.operands[3] = need;
            // The peer may have closed the socket already.
            let _ = self.send(socket, &packet, &[]);
        }
    }

    /// Receives the next message without waiting, and checks that its opcode is `wanted`.
    fn receive(&self, socket: BorrowedFd<'_>, wanted: u8) -> Result<Option<(Packet, Received)>> {
        let mut bytes = [0; 65];
        let Some(mut received) = sock::recv(socket, &mut bytes).map_err(os(READING))? else {
            return Ok(None);
        };
        let wrong = |what, found| Err(Error::Handshake { what, found: Some(found) });
        if received.len == 0 {
            return Err(HUNG_UP);
        }
        if received.len != 64 {
            return wrong(
                "a message from the peer is not 64 bytes long: run the same version of hqq at both ends",
                received.len as u64,
            );
        }
        let (image, _) = bytes.split_first_chunk().expect("65 bytes are more than 64");
        let Some(packet) = Packet::from_bytes(image) else {
            return wrong(
                "the bytes after the opcode of a message are not zero: run the same version of hqq at both ends",
                u64::from(bytes[1]),
            );
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
            return wrong(
                "the peer sent a message out of turn: run the same version of hqq at both ends",
                packet.op.into(),
            );
        }
        let fds = match wanted {
            op::OFFER => 1..=2,
            op::READY => 0..=1,
            _ => 0..=0,
        };
        let found = received.fds.len();
        match received.cut.take() {
            // More may have been sent than are due. Where none is due, the peer is at fault, however few there was room for.
            Some(source) if *fds.end() > 0 && found <= *fds.end() => {
                return Err(Error::Os { doing: TAKING, source });
            }
            None if fds.contains(&found) => {}
            _ => return Err(wrong_descriptor_count(found)),
        }
        Ok(Some((packet, received)))
    }
}

/// Checks magic, format and protocol version of a HELLO or JOIN.
fn check_greeting(packet: &Packet) -> Result<()> {
    let [magic, format, version, ..] = packet.operands;
    if magic != MAGIC {
        return Err(Error::ForeignMagic { found: magic });
    }
    if format != FORMAT {
        return Err(Error::FormatVersion { found: format, supported: FORMAT });
    }
    if version >> 8 != u64::from(Version::CURRENT.major) {
        return Err(Error::Handshake {
            what: "the peer has another major protocol version: run the same version of hqq at both ends",
            found: Some(version),
        });
    }
    Ok(())
}

/// The sender of a message, and a pidfd that will prove its death.
fn identify(received: Received) -> Result<(Peer, OwnedFd)> {
    let Some(creds) = received.creds else {
        return Err(Error::Handshake {
            what: "the kernel passed no credentials with a message: retry",
            found: None,
        });
    };
    let Some(pidfd) = received.pidfd else {
        return Err(match received.pidfd_error {
            Some(source) => Error::Os { doing: IDENTIFYING, source },
            None => Error::Handshake {
                what: "the kernel passed no descriptor of the peer's process: the process that sent a message has ended",
                found: None,
            },
        });
    };
    let pid = (creds.pid > 0).then_some(creds.pid);
    Ok((Peer { pid, uid: creds.uid, gid: creds.gid }, pidfd))
}

fn wrong_descriptor_count(found: usize) -> Error {
    Error::Handshake {
        what: "the peer passed a wrong number of descriptors: run the same version of hqq at both ends",
        found: Some(found as u64),
    }
}

/// What the Primary offers to a connecting process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A new region.
    New,
    /// The vacant Secondary's place in the region with this epoch.
    Vacant(u64),
}

/// State of a handshake that waits for READY.
struct Offered {
    place: Place,
    at: Instant,
    /// The region, if it is a new one.
    new_region: Option<NewRegion>,
    pidfd: OwnedFd,
    peer: Peer,
}

/// The Primary's side of one handshake. [`drive`](Self::drive) advances it whenever its socket is readable, and
/// [`offer`](Self::offer) when there is memory for a peer whose JOIN has come.
pub(crate) struct ServerHandshake {
    socket: Option<OwnedFd>,
    stage: Stage,
    deadline: Option<Instant>,
}

/// A peer that asks for a link.
struct JoinRequest {
    pidfd: OwnedFd,
    peer: Peer,
    /// Size in bytes of the largest region that it takes.
    limit: u64,
}

enum Stage {
    /// HELLO was sent; JOIN comes next.
    Greeted,
    /// JOIN has come; memory is to be offered.
    Joined(Box<JoinRequest>),
    /// OFFER was sent; READY comes next.
    Offered(Box<Offered>),
    /// The handshake has succeeded or failed.
    Over,
}

/// What a step of a handshake came to.
pub(crate) enum Step {
    /// The peer's next message has not come.
    Waiting,
    /// JOIN has come: an offer is due.
    Joined,
    /// The handshake is over.
    Done(Accepted),
}

/// Result of a handshake at the Primary.
pub(crate) enum Accepted {
    /// A new link.
    Link(Box<LinkCore>),
    /// A successor for the vacant place in an existing link.
    Successor(Successor),
}

/// Whom the Primary accepts, and what it offers.
#[derive(Clone, Copy)]
pub(crate) struct AcceptPolicy<'t> {
    pub(crate) options: &'t Options,
    pub(crate) name: &'t str,
    /// Whether peers of any user are admitted, unless the options have a list.
    pub(crate) any_user: bool,
    /// The link whose vacant place is offered; `None` for a new region.
    pub(crate) into: Option<&'t LinkCore>,
}

impl AcceptPolicy<'_> {
    /// Checks that `peer` may have what is offered.
    fn check_peer(&self, peer: &Peer) -> Result<()> {
        check_user(self.options, self.any_user, creds(peer))?;
        match self.into {
            // A former peer that is not trusted may still have the region mapped. It must not be able to harm another user.
            Some(link) if self.any_user => {
                let expected = link.peer().uid;
                let proves = || ids::proves(Kind::User, expected).map_err(os(MAPPED));
                if expected == peer.uid && proves()? {
                    Ok(())
                } else {
                    Err(Error::OtherUser { uid: peer.uid, expected })
                }
            }
            _ => Ok(()),
        }
    }

    /// The place that is offered.
    pub(crate) fn place(&self) -> Place {
        self.into.map_or(Place::New, |link| Place::Vacant(link.region().facts().epoch))
    }
}

impl ServerHandshake {
    /// Begins a handshake on a connected socket: sends HELLO. It must be over within `timeout`.
    pub(crate) fn new(socket: OwnedFd, options: &Options, timeout: Duration) -> Result<Self> {
        let hello = Packet::new(op::HELLO, [MAGIC, FORMAT, Version::CURRENT.number()]);
        PacketSocket { role: Role::Primary, options }.send(socket.as_fd(), &hello, &[])?;
        let deadline = Instant::now().checked_add(timeout);
        Ok(Self { socket: Some(socket), stage: Stage::Greeted, deadline })
    }

    /// The user of the process that connected `socket`, if it is admitted; if not, it is sent the reason, unless the kernel does
    /// not say who it is.
    pub(crate) fn admits(socket: &OwnedFd, options: &Options, any_user: bool) -> Option<u32> {
        let creds = sock::peer_creds(socket.as_fd()).ok()?;
        match check_user(options, any_user, creds) {
            // What this process cannot find out now, it has to when the peer joins; then it is an error of this end.
            Ok(()) | Err(Error::Os { .. }) => Some(creds.uid),
            Err(error) => {
                let packets = PacketSocket { role: Role::Primary, options };
                packets.send_refusal(socket.as_fd(), &error, op::HELLO, 0);
                None
            }
        }
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("kept until the link is made").as_fd()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The place that was offered to the peer, and when.
    pub(crate) fn offered_place(&self) -> Option<(Place, Instant)> {
        match &self.stage {
            Stage::Offered(offered) => Some((offered.place, offered.at)),
            Stage::Greeted | Stage::Joined(_) | Stage::Over => None,
        }
    }

    /// Advances the handshake by the message that has arrived, if there is one. An error is sent to the peer.
    pub(crate) fn drive(&mut self, policy: AcceptPolicy<'_>) -> Result<Step> {
        let packets = PacketSocket { role: Role::Primary, options: policy.options };
        let wanted = if matches!(self.stage, Stage::Greeted) { op::JOIN } else { op::READY };
        let advanced = self.advance(&packets, policy, wanted);
        self.or_refuse(&packets, advanced, wanted)
    }

    /// As [`drive`](Self::drive), and makes the offer as soon as it is due.
    pub(crate) fn drive_alone(&mut self, policy: AcceptPolicy<'_>) -> Result<Option<Accepted>> {
        match self.drive(policy)? {
            Step::Joined => self.offer(policy).map(|()| None),
            Step::Waiting => Ok(None),
            Step::Done(accepted) => Ok(Some(accepted)),
        }
    }

    /// Reserves memory for a peer whose JOIN has come, or takes the policy's vacant place, and offers it. An error is sent to the
    /// peer.
    pub(crate) fn offer(&mut self, policy: AcceptPolicy<'_>) -> Result<()> {
        let Stage::Joined(request) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Err(Error::Handshake { what: "an offer is due after JOIN only", found: None });
        };
        let packets = PacketSocket { role: Role::Primary, options: policy.options };
        let offered = self.make_offer(&packets, policy, *request);
        self.or_refuse(&packets, offered, op::JOIN)
    }

    /// Sends the peer the error, if `advanced` is one.
    fn or_refuse<T>(&self, packets: &PacketSocket<'_>, advanced: Result<T>, wanted: u8) -> Result<T> {
        if let Err(error) = &advanced {
            // The peer sent the reason, or has been sent it.
            let is_known = matches!(error, Error::RegionTooLarge { .. } | Error::Refused { .. });
            // The socket is gone if making the link failed after it had been moved there.
            if let Some(socket) = self.socket.as_ref().filter(|_| !is_known) {
                packets.send_refusal(socket.as_fd(), error, wanted, 0);
            }
        }
        advanced
    }

    fn advance(&mut self, packets: &PacketSocket<'_>, policy: AcceptPolicy<'_>, wanted: u8) -> Result<Step> {
        let Some((packet, mut received)) = packets.receive(self.socket(), wanted)? else {
            return Ok(Step::Waiting);
        };
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Greeted => {
                let (peer, pidfd) = identify(received)?;
                policy.check_peer(&peer)?;
                check_greeting(&packet)?;
                let request = JoinRequest { pidfd, peer, limit: packet.operands[3] };
                self.stage = Stage::Joined(Box::new(request));
                Ok(Step::Joined)
            }
            Stage::Offered(offered) => {
                let Offered { new_region, pidfd, peer, .. } = *offered;
                policy.check_peer(&peer)?;
                let memory = received.fds.pop();
                let check = |region: &Region<'static>| check_ready(region, &packet, memory.as_ref());
                let accepted = match (new_region, policy.into) {
                    (Some(NewRegion { region, memory, payload, lock }), _) => {
                        let (peer_seat, peer_payload) = check(region.region())?;
                        if let Some(mapping) = peer_payload {
                            region.set_payload(1, mapping)?;
                        }
                        let socket = self.socket.take().expect("kept until the link is made");
                        let parts =
                            Parts { region, memory, payload, _lock: lock, socket, pidfd, peer, peer_seat };
                        let core = LinkCore::new(parts, packets.options)?;
                        packets.welcome(core.parts().socket.as_fd())?;
                        Accepted::Link(Box::new(core))
                    }
                    (None, Some(link)) => {
                        let (seat, payload) = check(link.region())?;
                        packets.welcome(self.socket())?;
                        let socket = self.socket.take().expect("kept until the link is made");
                        Accepted::Successor(Successor { socket, pidfd, peer, seat, payload })
                    }
                    (None, None) => {
                        return Err(Error::Handshake {
                            what: "the vacant place has been taken by another process: connect again",
                            found: None,
                        });
                    }
                };
                Ok(Step::Done(accepted))
            }
            Stage::Joined(_) | Stage::Over => Err(Error::Handshake {
                what: "the peer sent a message out of turn: run the same version of hqq at both ends",
                found: Some(wanted.into()),
            }),
        }
    }

    /// Sends OFFER: for the vacant place in the policy's link, or for a new region.
    fn make_offer(
        &mut self,
        packets: &PacketSocket<'_>,
        policy: AcceptPolicy<'_>,
        request: JoinRequest,
    ) -> Result<()> {
        let JoinRequest { pidfd, peer, limit } = request;
        policy.check_peer(&peer)?;
        let need = match policy.into {
            Some(link) => link.region().layout().len,
            None => crate::shm::layout::required_bytes(&policy.options.geometry()?, mem::page_size() as u64)?,
        };
        if need > limit {
            let error = Error::RegionTooLarge { need, limit };
            packets.send_refusal(self.socket(), &error, op::JOIN, need);
            return Err(error);
        }
        let new_region = match policy.into {
            Some(_) => None,
            None => Some(NewRegion::new(policy.options, policy.name)?),
        };
        let (region, memory, payload) = match (&new_region, policy.into) {
            (Some(new_region), _) => (new_region.region.region(), &new_region.memory, &new_region.payload),
            (None, Some(link)) => (link.region(), &link.parts().memory, &link.parts().payload),
            (None, None) => unreachable!("made where there is no link"),
        };
        let fds: Vec<_> = [memory].into_iter().chain(payload).map(AsFd::as_fd).collect();
        let offer = Packet::new(op::OFFER, [need, region.facts().epoch]);
        packets.send(self.socket(), &offer, &fds)?;
        let place = policy.place();
        self.stage = Stage::Offered(Box::new(Offered { place, at: Instant::now(), new_region, pidfd, peer }));
        Ok(())
    }
}

impl Drop for ServerHandshake {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // What was not read must not keep this thread.
            sock::purge(socket.as_fd());
        }
    }
}

/// Checks the seat that READY names, and maps the payload in `memory`, which a protected region needs.
fn check_ready(
    region: &Region<'static>,
    packet: &Packet,
    memory: Option<&OwnedFd>,
) -> Result<(Holder, Option<Mapping>)> {
    let [seat, generation, ..] = packet.operands;
    if !(1..SEATS as u64).contains(&seat) {
        return Err(Error::Handshake {
            what: "the peer named a seat that a Secondary cannot have",
            found: Some(seat),
        });
    }
    if !(1..32).contains(&generation) {
        return Err(Error::Handshake {
            what: "the peer named a generation that a seat cannot have",
            found: Some(generation),
        });
    }
    let holder = Holder::new(seat as usize, generation as u8);
    let found = region.seat(holder.seat()).word.load(Ordering::Acquire);
    let word = SeatWord::from_word(found);
    let is_seated = word.is_valid() && word.is_occupied_by(holder) && word.role() == Role::Secondary;
    // The Secondary may have closed the link at once.
    let has_left = word == SeatWord::joined(holder, Role::Secondary, false).vacated();
    if !is_seated && !has_left {
        return Err(Error::Corrupt { what: "the Secondary's seat", found });
    }
    let payload = match (region.facts().modes.protected, memory) {
        (true, Some(memory)) => Some(map_peer_payload(region.layout(), memory)?),
        (false, None) => None,
        (_, memory) => return Err(wrong_descriptor_count(memory.into_iter().count())),
    };
    Ok((holder, payload))
}

/// A region that this end has attached to and taken a seat in, before WELCOME.
pub(crate) struct Joined {
    region: OwnedRegion<Mapping>,
    memory: OwnedFd,
    payload: Option<OwnedFd>,
    lock: Option<SeatLock>,
}

/// The Secondary's side of a handshake.
pub(crate) struct ClientHandshake<'o> {
    /// `None` once the link owns it.
    socket: Option<OwnedFd>,
    packets: PacketSocket<'o>,
    deadline: Option<Instant>,
    /// The Primary and its pidfd, once HELLO has been received.
    server: Option<(Peer, OwnedFd)>,
}

impl<'o> ClientHandshake<'o> {
    /// Begins a handshake on a connected socket. It must be over within `timeout`.
    pub(crate) fn new(socket: OwnedFd, options: &'o Options, timeout: Duration) -> Self {
        let packets = PacketSocket { role: Role::Secondary, options };
        Self { socket: Some(socket), packets, deadline: Instant::now().checked_add(timeout), server: None }
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("kept until the link is made").as_fd()
    }

    /// Receives a message with the opcode `wanted`, waiting for it.
    fn receive(&self, wanted: u8) -> Result<(Packet, Received)> {
        let began = Instant::now();
        loop {
            if let Some(message) = self.packets.receive(self.socket(), wanted)? {
                return Ok(message);
            }
            let left = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(Error::Timeout {
                    what: "the peer's part of the handshake: it must accept",
                    after: began.elapsed(),
                });
            }
            poll::many(&[self.socket()], left).map_err(os("waiting for the handshake"))?;
        }
    }

    /// Receives HELLO, checks the Primary's user and version, and sends JOIN.
    pub(crate) fn request_region(&mut self, any_user: bool) -> Result<()> {
        let (packet, received) = self.receive(op::HELLO)?;
        let checked = identify(received).and_then(|(server, pidfd)| {
            check_user(self.packets.options, any_user, creds(&server))?;
            check_greeting(&packet)?;
            Ok((server, pidfd))
        });
        self.server = Some(self.or_refuse(checked, op::HELLO)?);
        let limit = self.packets.options.max_region;
        let join = Packet::new(op::JOIN, [MAGIC, FORMAT, Version::CURRENT.number(), limit]);
        self.packets.send(self.socket(), &join, &[])
    }

    /// Sends the Primary the error, if `result` is one.
    fn or_refuse<T>(&self, result: Result<T>, failed: u8) -> Result<T> {
        result.inspect_err(|error| self.packets.send_refusal(self.socket(), error, failed, 0))
    }

    /// Receives OFFER, attaches to the region, sends READY and receives WELCOME.
    pub(crate) fn finish(mut self) -> Result<LinkCore> {
        let joined = self.join()?;
        self.confirm(joined)
    }

    /// Receives OFFER, attaches to the region and sends READY.
    pub(crate) fn join(&mut self) -> Result<Joined> {
        let (_, received) = self.receive(op::OFFER)?;
        let mut fds = received.fds.into_iter();
        let memory = fds.next().expect("an OFFER has at least one");
        let (region, lock, payload) = self.or_refuse(self.open(&memory, fds.next()), op::OFFER)?;
        let holder = region.region().holder();
        region.region().seat(holder.seat()).pid.store(peer::pid() as u64, Ordering::Relaxed);
        let ready = Packet::new(op::READY, [holder.seat() as u64, holder.generation().into()]);
        let fds: Vec<_> = payload.iter().map(AsFd::as_fd).collect();
        self.packets.send(self.socket(), &ready, &fds)?;
        Ok(Joined { region, memory, payload, lock })
    }

    /// Receives WELCOME. The seat is not used before that, and is left if WELCOME does not come.
    pub(crate) fn confirm(mut self, joined: Joined) -> Result<LinkCore> {
        self.receive(op::WELCOME)?;
        let Joined { region, memory, payload, lock } = joined;
        let (peer, pidfd) = self.server.take().expect("received before the offer");
        let socket = self.socket.take().expect("kept until the link is made");
        let peer_seat = Holder::new(0, 1);
        let parts = Parts { region, memory, payload, _lock: lock, socket, pidfd, peer, peer_seat };
        LinkCore::new(parts, self.packets.options)
    }

    /// Checks and maps the region in `memory`, takes a seat in it, and exchanges the payloads of a protected region.
    fn open(
        &self,
        memory: &OwnedFd,
        peer_payload: Option<OwnedFd>,
    ) -> Result<(OwnedRegion<Mapping>, Option<SeatLock>, Option<OwnedFd>)> {
        let facts = mem::facts(memory.as_fd()).map_err(os("inspecting the offered memory"))?;
        check_memfd(&facts)?;
        let limit = self.packets.options.max_region;
        if facts.len > limit {
            return Err(Error::RegionTooLarge { need: facts.len, limit });
        }
        if facts.len == 0 {
            return Err(Error::TooSmallMemory { what: "the region", have: 0, need: 4096 });
        }
        let mapping =
            Mapping::map(memory.as_fd(), facts.len as usize).map_err(os("mapping the offered region"))?;
        let (mut held, mut failed) = (None, None);
        let prepare = |seat: usize| {
            if seat == 0 {
                // Seat 0 is the Primary's, whatever its word says: with it, this end would be its own peer.
                return None;
            }
            match lock::lock(memory.as_fd(), seat as u64) {
                Ok(lock) => {
                    // Without a lock, the process that had this seat before has not ended completely.
                    held = lock;
                    held.is_some().then_some(true)
                }
                Err(error) if lacks_descriptors(&error) => {
                    failed = Some(error);
                    None
                }
                // Without the lock, only the peer can tell when this process is dead.
                Err(_) => Some(false),
            }
        };
        let attached = OwnedRegion::attach(mapping, mem::page_size() as u64, Role::Secondary, prepare);
        let mut region = match failed {
            Some(source) if attached.is_err() => return Err(Error::Os { doing: LOCKING, source }),
            _ => attached?,
        };
        region.limit_messages(self.packets.options.max_message);
        let layout = *region.region().layout();
        let payload = match (region.region().facts().modes.protected, peer_payload) {
            (true, Some(peer_payload)) => {
                let mapping = map_peer_payload(&layout, &peer_payload)?;
                let (payload, own_mapping) = create_payload(&layout, "hqq-payload")?;
                region.set_payload(0, mapping)?;
                region.set_payload(1, own_mapping)?;
                Some(payload)
            }
            (false, None) => None,
            (_, payload) => return Err(wrong_descriptor_count(1 + payload.into_iter().count())),
        };
        Ok((region, held, payload))
    }
}

impl Drop for ClientHandshake<'_> {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // As in `ServerHandshake`.
            sock::purge(socket.as_fd());
        }
    }
}
