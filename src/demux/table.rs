//! The connection table: logical connections on one link, as a state machine without I/O.
//!
//! The driver feeds it what arrives and what callers want; the table answers with what is to be sent, woken,
//! refused or given home. It knows neither time nor memory: a chunk's bytes travel as a token `C`.
//!
//! # Ids
//!
//! The Primary's ids are odd, the Secondary's even, 0 is the link itself. A table counts its own ids upwards
//! and never gives one out twice.
//!
//! # Stages
//!
//! | stage | Create | Accept | Close | Copy | Error | leaves by |
//! |---|---|---|---|---|---|---|
//! | (unknown id) | -> Offered, or refused | `ConnNotFound` | `ConnNotFound` | `ConnNotFound` | ignored | |
//! | Opening: we sent Create | `FailedInit` | -> Open | noted | `InvalidOp` | ends, `Refused` | Accept, `forget` |
//! | Offered: the peer's Create waits | `FailedInit` | `InvalidOp` | noted; whole: gone, answered | `InvalidOp` | ignored | `accept`, `refuse` |
//! | Open | `FailedInit` | `InvalidOp` | noted | inbox | ends, `Broken` | `forget` |
//! | Lingering: handle dropped | `FailedInit` | once, as above | noted; whole: gone | given home | not known there: gone | the peer's Close |
//!
//! # Halves
//!
//! Orthogonal to the stage, each side announces two things exactly once in a connection's life: *I write no
//! more* and *I read no more* (Close 1, Close 2, or both as Close 0). `ours` is what this end has announced, `theirs`
//! what the peer has. Dropping the handle announces the rest.
//!
//! | | incoming direction | outgoing direction |
//! |---|---|---|
//! | we say *write* | | ends, `Closed` |
//! | we say *read* | ends; what comes later is given home unread | |
//! | peer says *write* | inbox is delivered, then `Closed` (`Cut` inside a message); a Copy is `InvalidOp` | |
//! | peer says *read* | | ends, `Closed` |
//! | OpError | inbox is delivered, then the error; what comes later is given home | ends with the error |
//! | the link ends | inbox is delivered, then the link's end | ends at once |
//!
//! The first reason that ends a direction is the one reported, and it stays.
//! An id whose handle is gone lingers until the peer has announced both, since chunks may be under way that were sent
//! before the peer received the close. At most `max_connections` ids linger; beyond that the oldest is forgotten,
//! and what still comes for it is answered with `ConnNotFound`, which harms nobody.
//!
//! # A full inbox
//!
//! An inbox holds a bounded number of chunks. When the next chunk finds it full, the driver keeps it and
//! leaves everything behind it in the ring, on the whole link: nothing is dropped or reordered.

use std::collections::{BTreeMap, VecDeque};

use crate::error::ErrorCode;
use crate::shm::packet::{CloseHow, op};
use crate::shm::words::Role;

/// What a table may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time, those of the backlog included; as many more ids may linger after their end.
    pub max_connections: usize,
    /// Connections that the peer offers and nobody has accepted yet.
    pub backlog: usize,
    /// Chunks that wait in one connection's inbox; 0 counts as 1.
    pub inbox: usize,
    /// Bytes in one message.
    pub max_message: u64,
}

/// How the link under the connections ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEnd {
    /// In order, by either side.
    Closed,
    /// The peer died.
    PeerDead,
    /// The peer hung up and lives.
    PeerGone,
    /// The region holds an impossible word.
    Corrupt,
}

/// Why a direction of a connection carries nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnEnd {
    /// It was closed, by either side; also what an id gets that the table does not know.
    Closed,
    /// Asked to send before the peer has accepted. Not final, unlike the others.
    NotOpen,
    /// The peer would not have the connection.
    Refused(ErrorCode),
    /// The peer answered an operation of this connection with an error.
    Broken {
        /// The peer's code.
        code: ErrorCode,
        /// The opcode that it refused.
        op: u8,
    },
    /// The peer stopped writing in order, but inside a message.
    Cut {
        /// Bytes of the message that came.
        received: u64,
        /// Bytes it was to have.
        size: u64,
    },
    /// The link ended.
    Link(LinkEnd),
}

/// Why a connection cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// The table is full.
    TooMany {
        /// Connections there are.
        open: usize,
        /// Connections there may be.
        limit: usize,
    },
    /// All ids of this side are used up.
    NoIds,
    /// The link ended.
    Link(LinkEnd),
}

/// OpConnCopy's operands, as far as the table checks them. Buffer bounds are the driver's to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyHeader {
    /// The connection's id.
    pub conn: u64,
    /// The same for all chunks of one message.
    pub copy_id: u64,
    /// Bytes in the message.
    pub copy_size: u64,
    /// Bytes in this chunk.
    pub transfer_size: u64,
    /// Where in the message this chunk begins, in bytes.
    pub transfer_offset: u64,
}

/// A piece of a message, or a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<C> {
    /// What carries the bytes.
    pub data: C,
    /// The message it belongs to.
    pub copy_id: u64,
    /// Bytes in that message.
    pub copy_size: u64,
    /// Where in the message this chunk begins, in bytes.
    pub offset: u64,
    /// Bytes in this chunk.
    pub len: u64,
}

impl<C> Chunk<C> {
    /// Whether the message is complete with this chunk.
    pub fn is_last(&self) -> bool {
        self.offset + self.len == self.copy_size
    }
}

/// What to do after a control packet.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Done,
    /// Wake who waits on this connection; after a Create, who waits to accept.
    Wake(u64),
    /// Answer with an OpError, room permitting.
    Refuse(ErrorCode),
    /// Answer with a whole Close for this id, room permitting: the peer took its offer back.
    AnswerClose(u64),
}

/// What to do after a Copy.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyOutcome<C> {
    /// The inbox has it; wake who reads this connection.
    Wake(u64),
    /// Nobody will read it: give its buffer home and say nothing.
    Swallow(C),
    /// Give its buffer home and answer with an OpError, room permitting.
    Refuse(ErrorCode, C),
    /// The inbox is full: leave the packet where it is. Nothing has changed.
    Full(C),
}

/// What an inbox gives.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pop<C> {
    /// The oldest chunk.
    Chunk(Chunk<C>),
    /// Nothing yet.
    Empty,
    /// Nothing any more.
    End(ConnEnd),
}

/// What a dropped handle leaves to do.
#[must_use]
#[derive(Debug)]
pub struct Forgotten<C> {
    /// The Close to send, if anything is still to be announced.
    pub close: Option<CloseHow>,
    /// What nobody read; their buffers go home.
    pub chunks: VecDeque<Chunk<C>>,
}

/// What one side has announced.
#[derive(Clone, Copy, Debug, Default)]
struct Halves {
    write: bool,
    read: bool,
}

impl Halves {
    const WHOLE: Self = Self { write: true, read: true };

    fn whole(self) -> bool {
        self.write && self.read
    }

    /// Adds `how` and tells which part of it is new.
    fn add(&mut self, how: CloseHow) -> Option<CloseHow> {
        let write = how != CloseHow::Read && !self.write;
        let read = how != CloseHow::Write && !self.read;
        self.write |= write;
        self.read |= read;
        match (write, read) {
            (true, true) => Some(CloseHow::Both),
            (true, false) => Some(CloseHow::Write),
            (false, true) => Some(CloseHow::Read),
            (false, false) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Offered,
    Open,
}

/// A message of which chunks are still to come.
#[derive(Clone, Copy, Debug)]
struct Partial {
    copy_id: u64,
    size: u64,
    received: u64,
}

#[derive(Debug)]
struct Conn<C> {
    stage: Stage,
    ours: Halves,
    theirs: Halves,
    /// Why nothing more comes in, and why nothing more goes out: the first reason each.
    in_end: Option<ConnEnd>,
    out_end: Option<ConnEnd>,
    /// Set once the handle is gone: the place in the order of lingering ids.
    lingers: Option<u64>,
    partial: Option<Partial>,
    inbox: VecDeque<Chunk<C>>,
}

impl<C> Conn<C> {
    fn new(stage: Stage) -> Self {
        Self {
            stage,
            ours: Halves::default(),
            theirs: Halves::default(),
            in_end: None,
            out_end: None,
            lingers: None,
            partial: None,
            inbox: VecDeque::new(),
        }
    }

    fn wake(&self, id: u64) -> Outcome {
        match self.lingers {
            None => Outcome::Wake(id),
            Some(_) => Outcome::Done,
        }
    }

    /// How the incoming direction ends when the peer stops in order.
    fn clean_end(&self, end: ConnEnd) -> ConnEnd {
        self.partial.map_or(end, |p| ConnEnd::Cut { received: p.received, size: p.size })
    }

    /// Ends both directions, unless they have ended already.
    fn fail(&mut self, end: ConnEnd) {
        self.in_end.get_or_insert(end);
        self.out_end.get_or_insert(end);
    }

    /// The peer knows this id no more: nothing is left to say or to hear.
    fn unknown_to_peer(&mut self) {
        self.ours = Halves::WHOLE;
        self.theirs = Halves::WHOLE;
    }

    /// Checks a chunk against the message that is under way.
    fn in_sequence(&self, header: &CopyHeader) -> bool {
        match self.partial {
            None => header.transfer_offset == 0,
            Some(p) => {
                header.copy_id == p.copy_id
                    && header.copy_size == p.size
                    && header.transfer_offset == p.received
            }
        }
    }
}

/// The connections of one link, seen from one side. `C` is what carries a chunk's bytes.
#[derive(Debug)]
pub struct ConnectionTable<C> {
    role: Role,
    limits: Limits,
    conns: BTreeMap<u64, Conn<C>>,
    /// Ids in stage Offered, oldest first.
    offered: VecDeque<u64>,
    /// Lingering ids by the order of their dropping.
    lingering: BTreeMap<u64, u64>,
    lingered: u64,
    next_id: Option<u64>,
    /// The last of the peer's that was accepted: what is used twice would have the same keys twice.
    last_theirs: u64,
    end: Option<LinkEnd>,
    /// Chunks beyond the inboxes' limit that may still be taken after the link's end.
    spare: usize,
}

impl<C> ConnectionTable<C> {
    /// An empty table for this side of a link.
    pub fn new(role: Role, mut limits: Limits) -> Self {
        limits.inbox = limits.inbox.max(1);
        Self {
            role,
            limits,
            conns: BTreeMap::new(),
            offered: VecDeque::new(),
            lingering: BTreeMap::new(),
            lingered: 0,
            next_id: Some(match role {
                Role::Primary => 1,
                Role::Secondary => 2,
            }),
            last_theirs: 0,
            end: None,
            spare: 0,
        }
    }

    /// Connections that count against the limit: all but the lingering.
    pub fn live(&self) -> usize {
        self.conns.len() - self.lingering.len()
    }

    /// Whether the id means anything here.
    pub fn knows(&self, id: u64) -> bool {
        self.conns.contains_key(&id)
    }

    /// Whether a connection is in use here, or on offer.
    pub fn is_used(&self, id: u64) -> bool {
        self.conns.get(&id).is_some_and(|conn| conn.lingers.is_none())
    }

    /// Chunks that wait in a connection's inbox.
    pub fn unread(&self, id: u64) -> usize {
        self.conns.get(&id).map_or(0, |conn| conn.inbox.len())
    }

    /// What carries the bytes of the newest chunk in a connection's inbox.
    pub fn newest(&mut self, id: u64) -> Option<&mut C> {
        Some(&mut self.conns.get_mut(&id)?.inbox.back_mut()?.data)
    }

    /// Chunks that an inbox holds at most.
    pub fn inbox_limit(&self) -> usize {
        self.limits.inbox
    }

    // What callers want.

    /// A new connection of ours, Opening. The caller sends a Create with this id.
    ///
    /// # Errors
    ///
    /// [`TableError`]: the table is full, the ids are used up, or the link ended.
    pub fn open(&mut self) -> Result<u64, TableError> {
        if let Some(end) = self.end {
            return Err(TableError::Link(end));
        }
        if self.live() >= self.limits.max_connections {
            return Err(TableError::TooMany { open: self.live(), limit: self.limits.max_connections });
        }
        let id = self.next_id.ok_or(TableError::NoIds)?;
        self.next_id = id.checked_add(2);
        self.conns.insert(id, Conn::new(Stage::Opening));
        Ok(id)
    }

    /// Takes the oldest connection that the peer offers. The caller sends an Accept with this id before anything
    /// else of this connection.
    pub fn accept(&mut self) -> Option<u64> {
        let id = self.offered.pop_front()?;
        self.last_theirs = self.last_theirs.max(id);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.stage = Stage::Open;
        }
        Some(id)
    }

    /// Turns an offered connection down. If true, the caller sends an OpError `ConnRefused` for its Create; false if
    /// the id is not on offer.
    pub fn refuse(&mut self, id: u64) -> bool {
        let Some(place) = self.offered.iter().position(|&offered| offered == id) else {
            return false;
        };
        self.offered.remove(place);
        self.conns.remove(&id);
        true
    }

    /// Whether the peer has accepted a connection that we opened.
    ///
    /// # Errors
    ///
    /// How it ended, if the peer refused it, or it or the link was closed before.
    pub fn ready(&self, id: u64) -> Result<bool, ConnEnd> {
        let conn = self.conns.get(&id).ok_or(ConnEnd::Closed)?;
        match (conn.stage, conn.in_end, conn.out_end) {
            (Stage::Open, ..) => Ok(true),
            (_, Some(end), Some(_)) => Err(end),
            _ => self.end.map_or(Ok(false), |end| Err(ConnEnd::Link(end))),
        }
    }

    /// Ends our half or halves. The answer is the Close to send: what of `how` had not been announced before.
    ///
    /// Chunks that wait in the inbox can still be popped after the reading half is closed.
    #[must_use]
    pub fn close(&mut self, id: u64, how: CloseHow) -> Option<CloseHow> {
        let ended = self.end.is_some();
        let conn = self.conns.get_mut(&id)?;
        if conn.stage == Stage::Offered {
            return None;
        }
        let fresh = conn.ours.add(how);
        if conn.ours.write {
            conn.out_end.get_or_insert(ConnEnd::Closed);
        }
        if conn.ours.read {
            conn.in_end.get_or_insert(ConnEnd::Closed);
        }
        fresh.filter(|_| !ended)
    }

    /// Whether chunks may be sent now. The chunks of one message go out in order, with no other of the same
    /// connection between them; the caller sees to that.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn can_send(&self, id: u64) -> Result<(), ConnEnd> {
        let conn = self.conns.get(&id).ok_or(ConnEnd::Closed)?;
        match (conn.out_end, self.end, conn.stage) {
            (Some(end), ..) => Err(end),
            (None, Some(end), _) => Err(ConnEnd::Link(end)),
            (None, None, Stage::Open) => Ok(()),
            (None, None, _) => Err(ConnEnd::NotOpen),
        }
    }

    /// Takes the oldest chunk out of a connection's inbox. A packet that found the inbox full can be placed then.
    pub fn pop(&mut self, id: u64) -> Pop<C> {
        let Some(conn) = self.conns.get_mut(&id) else {
            return Pop::End(ConnEnd::Closed);
        };
        if let Some(chunk) = conn.inbox.pop_front() {
            return Pop::Chunk(chunk);
        }
        match (conn.in_end, self.end) {
            (Some(end), _) => Pop::End(end),
            (None, Some(LinkEnd::Closed)) => Pop::End(conn.clean_end(ConnEnd::Link(LinkEnd::Closed))),
            (None, Some(end)) => Pop::End(ConnEnd::Link(end)),
            (None, None) => Pop::Empty,
        }
    }

    /// The handle is dropped: closes what is still open, empties the inbox, and lets the id linger if the peer may
    /// still send for it. Does nothing to an id that is on offer or unknown.
    pub fn forget(&mut self, id: u64) -> Forgotten<C> {
        let close = self.close(id, CloseHow::Both);
        let mut chunks = VecDeque::new();
        match self.conns.get_mut(&id) {
            Some(conn) if conn.stage != Stage::Offered && conn.lingers.is_none() => {
                chunks = std::mem::take(&mut conn.inbox);
                if conn.theirs.whole() {
                    self.conns.remove(&id);
                } else {
                    conn.lingers = Some(self.lingered);
                    self.lingering.insert(self.lingered, id);
                    self.lingered += 1;
                    if self.lingering.len() > self.limits.max_connections {
                        if let Some((_, oldest)) = self.lingering.pop_first() {
                            self.conns.remove(&oldest);
                        }
                    }
                }
            }
            _ => {}
        }
        Forgotten { close, chunks }
    }

    // What arrives.

    /// The peer opens a connection.
    pub fn on_create(&mut self, id: u64) -> Outcome {
        let peers_parity = match self.role {
            Role::Primary => 0,
            Role::Secondary => 1,
        };
        if id <= self.last_theirs || id % 2 != peers_parity || self.conns.contains_key(&id) {
            return Outcome::Refuse(ErrorCode::FailedInit);
        }
        if self.end.is_some()
            || self.live() >= self.limits.max_connections
            || self.offered.len() >= self.limits.backlog
        {
            return Outcome::Refuse(ErrorCode::ConnRefused);
        }
        self.conns.insert(id, Conn::new(Stage::Offered));
        self.offered.push_back(id);
        Outcome::Wake(id)
    }

    /// The peer accepts a connection that we opened.
    pub fn on_accept(&mut self, id: u64) -> Outcome {
        let Some(conn) = self.conns.get_mut(&id) else {
            return Outcome::Refuse(ErrorCode::ConnNotFound);
        };
        if conn.stage != Stage::Opening || conn.theirs.whole() {
            return Outcome::Refuse(ErrorCode::InvalidOp);
        }
        conn.stage = Stage::Open;
        conn.wake(id)
    }

    /// The peer ends its half or halves; `how` as it came.
    pub fn on_close(&mut self, id: u64, how: u64) -> Outcome {
        let Some(conn) = self.conns.get_mut(&id) else {
            return Outcome::Refuse(ErrorCode::ConnNotFound);
        };
        let Some(how) = CloseHow::from_number(how) else {
            return Outcome::Refuse(ErrorCode::InvalidOp);
        };
        if conn.theirs.add(how).is_none() {
            return Outcome::Done;
        }
        if conn.theirs.write {
            let end = conn.clean_end(ConnEnd::Closed);
            conn.in_end.get_or_insert(end);
        }
        if conn.theirs.read {
            conn.out_end.get_or_insert(ConnEnd::Closed);
        }
        match (conn.stage, conn.theirs.whole()) {
            (Stage::Offered, true) => {
                self.refuse(id);
                Outcome::AnswerClose(id)
            }
            (Stage::Offered, false) => Outcome::Done,
            (_, whole) => {
                let outcome = conn.wake(id);
                if let (true, Some(place)) = (whole, conn.lingers) {
                    self.lingering.remove(&place);
                    self.conns.remove(&id);
                }
                outcome
            }
        }
    }

    /// A chunk arrives. Its buffer's index and bounds have been checked.
    pub fn on_copy(&mut self, header: CopyHeader, data: C) -> CopyOutcome<C> {
        let Some(conn) = self.conns.get_mut(&header.conn) else {
            return CopyOutcome::Refuse(ErrorCode::ConnNotFound, data);
        };
        if conn.stage != Stage::Open || conn.theirs.write {
            return CopyOutcome::Refuse(ErrorCode::InvalidOp, data);
        }
        if header.copy_size > self.limits.max_message {
            return CopyOutcome::Refuse(ErrorCode::MemorySmall, data);
        }
        let Some(rest) = header.copy_size.checked_sub(header.transfer_offset) else {
            return CopyOutcome::Refuse(ErrorCode::InvalidSize, data);
        };
        if header.transfer_size > rest || (header.transfer_size == 0 && header.copy_size != 0) {
            return CopyOutcome::Refuse(ErrorCode::InvalidSize, data);
        }
        if conn.in_end.is_some() {
            return CopyOutcome::Swallow(data);
        }
        if !conn.in_sequence(&header) {
            return CopyOutcome::Refuse(ErrorCode::InvalidSize, data);
        }
        if conn.inbox.len() >= self.limits.inbox {
            if self.spare == 0 {
                return CopyOutcome::Full(data);
            }
            self.spare -= 1;
        }
        conn.partial = (header.transfer_size < rest).then_some(Partial {
            copy_id: header.copy_id,
            size: header.copy_size,
            received: header.transfer_offset + header.transfer_size,
        });
        conn.inbox.push_back(Chunk {
            data,
            copy_id: header.copy_id,
            copy_size: header.copy_size,
            offset: header.transfer_offset,
            len: header.transfer_size,
        });
        CopyOutcome::Wake(header.conn)
    }

    /// The peer answers operation `op` in the context of this id with an error. Never asks for an OpError back.
    pub fn on_error(&mut self, id: u64, code: ErrorCode, op: u8) -> Outcome {
        let Some(conn) = self.conns.get_mut(&id) else {
            return Outcome::Done;
        };
        let unknown_there = code == ErrorCode::ConnNotFound;
        if let Some(place) = conn.lingers {
            if unknown_there || op == op::CONN_CREATE {
                self.lingering.remove(&place);
                self.conns.remove(&id);
            }
            return Outcome::Done;
        }
        match conn.stage {
            Stage::Offered => return Outcome::Done,
            Stage::Opening => {
                conn.fail(ConnEnd::Refused(code));
                conn.unknown_to_peer();
            }
            Stage::Open => {
                conn.fail(ConnEnd::Broken { code, op });
                if unknown_there {
                    conn.unknown_to_peer();
                }
            }
        }
        Outcome::Wake(id)
    }

    /// The link ended: every connection ends once its inbox is drained, offers lapse, and nothing is sent any more.
    ///
    /// What was committed before the end is not lost: under the same lock, the driver next takes what the ring still
    /// holds, at most `spare` packets, and the inboxes take it beyond their limit, so that no reader who stays away
    /// holds up another's rest. The first end stays. The caller wakes everybody.
    pub fn link_ended(&mut self, end: LinkEnd, spare: usize) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(end);
        self.spare = spare;
        for id in std::mem::take(&mut self.offered) {
            self.conns.remove(&id);
        }
    }

    /// Begins anew with another peer after the link has ended. The ids go on: none is given out twice. What nobody read
    /// goes home.
    pub fn renew(&mut self) -> impl Iterator<Item = Chunk<C>> + use<C> {
        self.end = None;
        self.spare = 0;
        self.last_theirs = 0;
        self.offered.clear();
        self.lingering.clear();
        std::mem::take(&mut self.conns).into_values().flat_map(|conn| conn.inbox)
    }

    /// Empties the table, as the link is dropped: all chunks that nobody read; their buffers go home.
    pub fn clear(&mut self) -> impl Iterator<Item = Chunk<C>> + use<C> {
        self.offered.clear();
        self.lingering.clear();
        std::mem::take(&mut self.conns).into_values().flat_map(|conn| conn.inbox)
    }
}

#[cfg(test)]
mod tests;
