//! What comes in is sorted here: messages of the link itself into its inbox, the rest into the connection
//! table; and what must go out some time is kept here until there is room for it.
//!
//! The link uses it only once connections or control packets exist; before that a receiver takes its messages
//! straight from the ring. All of it happens under one lock, so that packets are sorted in the ring's order.
//!
//! # A full inbox
//!
//! When the next packet has no room, everything behind it waits in the ring: nothing is dropped, nothing is
//! reordered. It goes on when the owner of the full inbox reads from it, or drops it. The link's own
//! inbox has room for a whole ring, so that a reply that waits behind plain messages always comes through to a
//! process that has not neglected them before.

mod context;
mod delivery;
pub(crate) mod frame;
pub(crate) mod negotiation;
mod outgoing;
mod reliable;
mod scheduler;
pub(crate) mod table;

use std::collections::VecDeque;

use crate::agreement::{Agreement, Features, Terms};
use crate::demux::negotiation::{Event, KEY_LEN, Keying, Negotiation, Progress, Proposal};
use crate::demux::table::{ConnectionTable, CopyHeader, CopyOutcome, LinkEnd, Outcome};
use crate::error::{Error, ErrorCode, Result};
use crate::options::Options;
use crate::shm::endpoint::{Incoming, Payload};
use crate::shm::packet::{Operation, Packet, op};
use crate::shm::region::Region;
use crate::shm::words::Role;
use hqq_features::reliable::Receipt;

pub use self::context::WireError;
pub(crate) use self::context::{ChunkData, LinkContext, SendContext, home};
pub(crate) use self::reliable::ReliableConfig;
use self::reliable::ReliableDelivery;
pub(crate) use self::scheduler::EgressScheduler;

/// Packets that wait for room to go out; beyond it replies that nobody depends on are dropped.
const OUTBOX: usize = 64;

/// When a pump has done enough, if not after a lap of the ring: what stays in the ring is not lost with this process, and
/// takes none of its memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    Lap,
    /// There is a message of the link itself.
    Message,
    /// There is a chunk of this connection.
    Chunk(u64),
}

/// What a pump did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pumped {
    /// Slots or buffers came free: the peer's senders may go on.
    pub(crate) freed: bool,
    /// The ring has nothing more.
    pub(crate) empty: bool,
}

/// The sorted and the waiting.
#[derive(Debug)]
pub(crate) struct Demux {
    pub(crate) table: ConnectionTable<ChunkData>,
    /// With position, and receipt if each is acknowledged.
    inbox: VecDeque<(u64, Payload<'static>, Option<Receipt>)>,
    inbox_limit: usize,
    /// The inbox's limit as long as the link has not ended.
    full_inbox: usize,
    outbox: VecDeque<Packet>,
    /// Answers to connection requests that may wait beyond the outbox's limit.
    requests: usize,
    /// A chunk whose inbox is full; everything behind it waits in the ring.
    held: Option<(CopyHeader, ChunkData)>,
    /// The next packet has no room.
    stalled: bool,
    /// Something changed that other threads of this process may wait for.
    pub(crate) woke: bool,
    /// Something was sent that the peer may wait for.
    pub(crate) sent: bool,
    pub(crate) last_error: Option<WireError>,
    pub(crate) negotiation: Negotiation,
    pub(crate) keys: Option<Box<dyn Keying>>,
    keys_begun: bool,
    /// What goes out on connections and when, where that was agreed on.
    pub(crate) egress: Option<Box<EgressScheduler>>,
    /// What is kept, and what is acknowledged; `None` if nothing is.
    delivery: Option<Box<ReliableDelivery>>,
}

impl Demux {
    pub(crate) fn new(region: &Region<'static>, options: &Options) -> Self {
        let limits = crate::demux::table::Limits {
            max_connections: options.max_connections as usize,
            backlog: options.backlog as usize,
            inbox: options.inbox as usize,
            max_message: options.max_message,
        };
        let slots = region.layout().geometry.slots() as usize;
        let full_inbox = slots.max(options.inbox as usize);
        Self {
            table: ConnectionTable::new(region.role(), limits),
            inbox: VecDeque::new(),
            inbox_limit: full_inbox,
            full_inbox,
            outbox: VecDeque::new(),
            requests: options.max_connections as usize,
            held: None,
            stalled: false,
            woke: false,
            sent: false,
            last_error: None,
            negotiation: Negotiation::plain(region.role()),
            keys: None,
            keys_begun: false,
            egress: None,
            delivery: None,
        }
    }

    /// Whether nothing has been sorted and nothing waits to go out.
    pub(crate) fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.held.is_none() && !self.has_outgoing()
    }

    /// Whether messages of the link itself wait to be received.
    pub(crate) fn has_messages(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Whether the next packet has no room.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// The oldest message of the link itself.
    pub(crate) fn pop_message(&mut self) -> Option<(Payload<'static>, Option<Receipt>)> {
        let (_, payload, receipt) = self.inbox.pop_front()?;
        self.made_room();
        Some((payload, receipt))
    }

    /// A message taken straight from the ring while others were being sorted: puts it in its place, and returns
    /// the oldest.
    pub(crate) fn reorder(&mut self, position: u64, payload: Payload<'static>) -> Payload<'static> {
        let place = self.inbox.partition_point(|sorted| position.wrapping_sub(sorted.0) as i64 > 0);
        self.inbox.insert(place, (position, payload, None));
        self.woke |= self.inbox.len() > 1;
        self.inbox.pop_front().map(|(_, payload, _)| payload).expect("one was just put in")
    }

    /// Somebody took something out of an inbox.
    pub(crate) fn made_room(&mut self) {
        if self.stalled {
            self.stalled = false;
            self.woke = true;
        }
    }

    /// Sorts what the ring holds, at most a lap of it, or until there is what the caller wants.
    pub(crate) fn pump(&mut self, cx: LinkContext<'_>, stop: Stop) -> Result<Pumped> {
        let mut done = Pumped::default();
        if let Some(egress) = &mut self.egress {
            // Time has passed, and there may be room.
            egress.dispatch_later();
        }
        if let Some((header, data)) = self.held.take() {
            self.place(cx, header, data);
            done.freed = self.held.is_none();
        }
        let mut found = match stop {
            Stop::Lap => false,
            Stop::Message => self.has_messages(),
            Stop::Chunk(conn) => self.table.unread(conn) > 0,
        };
        for _ in 0..cx.region.layout().geometry.slots() {
            if self.held.is_some() || found {
                break;
            }
            // Of what is acknowledged one by one there is no more than the window, and Acks may lie behind it.
            let room = self.inbox.len() < self.inbox_limit || self.is_reliable();
            let wanted = |op| room || !Packet::is_plain(op);
            match cx.region.receive(wanted, |packet| cx.show(false, packet))? {
                Incoming::Message(payload, position) => {
                    self.sort_message(cx, position, payload);
                    found = matches!(stop, Stop::Message) && self.has_messages();
                }
                Incoming::ConnData(copy, data) => {
                    let header = CopyHeader {
                        conn: copy.conn,
                        copy_id: copy.copy_id,
                        copy_size: copy.copy_size,
                        transfer_size: copy.transfer_size,
                        transfer_offset: copy.transfer_offset,
                    };
                    let placed = self.place(cx, header, data.map_or(ChunkData::Nothing, ChunkData::Pool));
                    found = placed && matches!(stop, Stop::Chunk(conn) if conn == copy.conn);
                }
                Incoming::Control(operation) => self.control(cx, operation),
                Incoming::Refused(fault) => self.answer(cx, fault.code, fault.context, fault.op),
                Incoming::Busy | Incoming::Skipped => {}
                Incoming::Other(_) => {
                    self.stalled = true;
                    break;
                }
                Incoming::Empty => {
                    done.empty = true;
                    break;
                }
            }
            done.freed = true;
        }
        Ok(done)
    }

    /// Puts a chunk into its connection's inbox, or refuses it, or holds it until the inbox has room. Whether the inbox has it.
    fn place(&mut self, cx: LinkContext<'_>, header: CopyHeader, data: ChunkData) -> bool {
        let conn = header.conn;
        let buffers = if let ChunkData::Pool(buffer) = &data { buffer.run().count } else { 0 };
        if self.egress.as_ref().is_some_and(|egress| !egress.has_room(conn, buffers)) {
            home(cx.region, data);
            self.answer(cx, ErrorCode::Overrun, conn, op::CONN_COPY);
            return false;
        }
        match self.table.on_copy(header, data) {
            CopyOutcome::Wake(_) => {
                self.woke = true;
                self.make_own(cx, conn);
                return true;
            }
            CopyOutcome::Swallow(data) => home(cx.region, data),
            CopyOutcome::Refuse(code, data) => {
                home(cx.region, data);
                self.answer(cx, code, conn, op::CONN_COPY);
            }
            CopyOutcome::Full(data) => {
                self.held = Some((header, data));
                self.stalled = true;
            }
        }
        false
    }

    /// A chunk has arrived: it leaves its buffer if others may need that.
    fn make_own(&mut self, cx: LinkContext<'_>, conn: u64) {
        let Some(egress) = &mut self.egress else { return };
        let waiting = self.table.unread(conn).saturating_sub(1);
        match self.table.newest(conn) {
            Some(data @ ChunkData::Pool(_)) => {
                if !egress.arrived(conn, waiting, true) {
                    let own = ChunkData::Own(data.bytes().into());
                    home(cx.region, std::mem::replace(data, own));
                }
            }
            _ => {
                let _ = egress.arrived(conn, waiting, false);
            }
        }
    }

    pub(crate) fn control(&mut self, cx: LinkContext<'_>, operation: Operation) {
        let (outcome, context, code) = match operation {
            Operation::ConnCreate { conn } => (self.table.on_create(conn), conn, op::CONN_CREATE),
            Operation::ConnAccept { conn } => (self.table.on_accept(conn), conn, op::CONN_ACCEPT),
            Operation::ConnClose { conn, how } => {
                (self.table.on_close(conn, how.number()), conn, op::CONN_CLOSE)
            }
            Operation::Error { context, code, failed } => {
                cx.count_received_error(code);
                self.last_error = Some(WireError { context, code, op: failed });
                if Negotiation::is_about(failed) {
                    return self.negotiate(cx, Event::Error { code }, op::ERROR);
                }
                let about_connection = (op::CONN_CREATE..=op::CONN_COPY).contains(&failed);
                if !about_connection {
                    return;
                }
                // A code that this build does not know still ends what it is about.
                let code = ErrorCode::from_number(code).unwrap_or(ErrorCode::InvalidOp);
                (self.table.on_error(context, code, failed), context, op::ERROR)
            }
            Operation::Negotiate { version, features, capabilities } => {
                let event = Event::Negotiate(Proposal { version, features, capabilities });
                return self.negotiate(cx, event, op::PROTO_NEGOTIATE);
            }
            Operation::Ack { version, features, capabilities } => {
                let event = Event::Ack(Proposal { version, features, capabilities });
                return self.negotiate(cx, event, op::PROTO_ACK);
            }
            Operation::Terms { operands } => {
                return self.negotiate(cx, Event::Terms(Terms::from_operands(operands)), op::TERMS);
            }
            Operation::Key { words } => return self.take_key(cx, bytemuck::cast(words)),
            Operation::Begin { features, capabilities } => {
                return self.negotiate(cx, Event::Begin { features, capabilities }, op::BEGIN);
            }
            Operation::Credit { conn, total } => return self.credit(cx, conn, total),
            Operation::Share { conn, class, weight } => return self.share(cx, conn, class, weight),
            Operation::Delivery { op, operands } => return self.on_delivery(cx, op, &operands),
            Operation::Probe { at } => {
                if !self.negotiation.has(Features::STATISTICS) || !cx.note_probe(at) {
                    self.answer(cx, ErrorCode::InvalidOp, 0, op::PROBE);
                }
                return;
            }
            Operation::ConnCopy(_) | Operation::Inline { .. } | Operation::Copy { .. } => return,
        };
        if !self.table.knows(context) {
            self.closed(cx, context);
        }
        match outcome {
            Outcome::Done => {}
            Outcome::Wake(_) => self.woke = true,
            Outcome::AnswerClose(conn) => self.queue_droppable(Packet::new(op::CONN_CLOSE, [conn, 0])),
            Outcome::Refuse(reason) => self.answer(cx, reason, context, code),
        }
    }

    fn credit(&mut self, cx: LinkContext<'_>, conn: u64, total: u64) {
        let granted = match &mut self.egress {
            Some(egress) => egress.credit(conn, total, cx.now()),
            None => Err(ErrorCode::InvalidOp),
        };
        match granted {
            Ok(more) => self.woke |= more,
            Err(code) => self.answer(cx, code, conn, op::CREDIT),
        }
    }

    fn share(&mut self, cx: LinkContext<'_>, conn: u64, class: u64, weight: u64) {
        let (known, used) = (self.table.knows(conn), self.table.is_used(conn));
        let asked = match &mut self.egress {
            Some(egress) if used => egress.asked(conn, class, weight, cx.now()),
            // It was said before the peer heard of the close.
            Some(_) if known => Ok(()),
            Some(_) => Err(ErrorCode::ConnNotFound),
            None => Err(ErrorCode::InvalidOp),
        };
        if let Err(code) = asked {
            self.answer(cx, code, conn, op::SHARE);
        }
    }

    /// A chunk of a connection was read, or goes home unread.
    pub(crate) fn consumed(&mut self, conn: u64, data: &ChunkData) {
        if let Some(egress) = &mut self.egress {
            egress.consumed(conn, matches!(data, ChunkData::Pool(_)));
        }
    }

    /// There is a handle of this connection.
    pub(crate) fn opened(&mut self, cx: LinkContext<'_>, conn: u64) {
        if let Some(egress) = &mut self.egress {
            egress.opened(conn, cx.now());
        }
    }

    /// There is none any more.
    pub(crate) fn closed(&mut self, cx: LinkContext<'_>, conn: u64) {
        if let Some(egress) = &mut self.egress {
            egress.closed(conn, cx.now());
        }
    }

    /// Something happened to the negotiation, by a packet with this opcode if it was the peer's doing.
    pub(crate) fn negotiate(&mut self, cx: LinkContext<'_>, event: Event, op: u8) {
        let mut out = Vec::new();
        let before = self.negotiation.progress();
        let done = self.negotiation.on(event, &mut out);
        for packet in out {
            // Each of these is said but once; what an end says that does not negotiate, as often as it is asked.
            if before == Progress::Open { self.queue(packet) } else { self.queue_droppable(packet) }
        }
        if let Err(code) = done {
            self.answer(cx, code, 0, op);
        }
        if let (Progress::Open, Progress::Done(agreement)) = (before, self.negotiation.progress()) {
            // What the peer sends behind its Begin goes by it already.
            self.egress = EgressScheduler::new(&agreement, cx.region.layout().geometry).map(Box::new);
            self.begin_delivery(&agreement);
        }
        if self.negotiation.keying().is_some() && !self.keys_begun {
            self.begin_keys(cx);
        }
        self.woke |= self.negotiation.progress() != before;
    }

    /// Only a key is left to agree on: the Primary says the first word.
    fn begin_keys(&mut self, cx: LinkContext<'_>) {
        self.keys_begun = true;
        let (Some(agreement), Some(keys)) = (self.negotiation.keying(), &mut self.keys) else { return };
        let Agreement { version, features, capabilities, terms, .. } = agreement;
        let [codecs, ciphers, ..] = terms.operands();
        let epoch = cx.region.facts().epoch;
        let agreed = [version.number(), features.bits(), capabilities.bits(), codecs, ciphers, epoch];
        let initiator = cx.region.role() == Role::Primary;
        let begun = keys.begin(initiator, terms.cipher, bytemuck::bytes_of(&agreed));
        if !begun || initiator && !self.say_key() {
            self.wrong_key(cx);
        }
    }

    /// There is no key in common: both ends get to know.
    fn wrong_key(&mut self, cx: LinkContext<'_>) {
        self.negotiate(cx, Event::WrongKey, op::KEY);
        self.answer(cx, ErrorCode::WrongKey, 0, op::KEY);
    }

    fn say_key(&mut self) -> bool {
        let Some(message) = self.keys.as_mut().and_then(|keys| keys.write()) else { return false };
        let [a, b, c, d, e, f]: [u64; 6] = bytemuck::cast(message);
        self.queue(Packet { op: op::KEY, operands: [0, a, b, c, d, e, f] });
        true
    }

    fn take_key(&mut self, cx: LinkContext<'_>, message: [u8; KEY_LEN]) {
        let answers = cx.region.role() == Role::Secondary;
        match (self.negotiation.keying(), &mut self.keys) {
            (Some(_), Some(keys)) => {
                if keys.read(&message) && (!answers || self.say_key()) {
                    self.negotiate(cx, Event::Keyed, op::KEY);
                } else {
                    self.wrong_key(cx);
                }
            }
            _ => self.answer(cx, ErrorCode::InvalidOp, 0, op::KEY),
        }
    }

    /// Counts a refusal and tells the peer, unless it was itself an OpError or there is no room.
    pub(crate) fn answer(&mut self, cx: LinkContext<'_>, code: ErrorCode, context: u64, failed: u8) {
        cx.count_refusal(code);
        let packet = Packet::error(context, code, failed);
        match failed {
            op::ERROR => {}
            // Somebody waits for this answer: it is dropped only for who asks more often than anybody may.
            op::CONN_CREATE if self.outbox.len() < OUTBOX + self.requests => self.queue(packet),
            _ => self.queue_droppable(packet),
        }
    }

    /// Queues a reply that may be dropped.
    fn queue_droppable(&mut self, packet: Packet) {
        if self.outbox.len() < OUTBOX {
            self.outbox.push_back(packet);
        }
    }

    /// Queues a packet that must not be dropped. How many there are is bounded by the connections.
    pub(crate) fn queue(&mut self, packet: Packet) {
        self.outbox.push_back(packet);
    }

    /// Whether so much waits to go out that nothing new should be begun.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.outbox.len() >= OUTBOX
    }

    /// The link has ended: tells every connection.
    pub(crate) fn link_ended(&mut self, cx: LinkContext<'_>, end: &Error) {
        let end = match end {
            Error::PeerDead => LinkEnd::PeerDead,
            Error::PeerGone => LinkEnd::PeerGone,
            Error::Corrupt { .. } => LinkEnd::Corrupt,
            _ => LinkEnd::Closed,
        };
        // All that can still come: a ring's worth, and the packet in hand.
        let spare = cx.region.layout().geometry.slots() as usize + 1;
        self.table.link_ended(end, spare);
        self.inbox_limit += spare;
        self.stalled = false;
        self.outbox.clear();
        if let Some(egress) = &mut self.egress {
            egress.ended();
        }
        self.woke = true;
    }

    /// Begins anew with another peer, after the link has ended and its last packet was sorted. Messages of the link
    /// itself stay.
    pub(crate) fn renew(&mut self, region: &Region<'static>) {
        if let Some((_, data)) = self.held.take() {
            home(region, data);
        }
        for chunk in self.table.renew() {
            home(region, chunk.data);
        }
        self.inbox_limit = self.full_inbox;
        self.stalled = false;
        self.outbox.clear();
        self.last_error = None;
        self.negotiation = Negotiation::plain(region.role());
        (self.keys, self.keys_begun) = (None, false);
        self.egress = None;
        self.detach_delivery();
    }

    /// Whether connections are open.
    pub(crate) fn has_connections(&self) -> bool {
        self.table.live() > 0
    }

    /// Gives every buffer home that nobody will read.
    pub(crate) fn clear(&mut self, region: &Region<'static>) {
        if let Some((_, data)) = self.held.take() {
            home(region, data);
        }
        for (_, payload, _) in std::mem::take(&mut self.inbox) {
            region.give_message(payload);
        }
        for chunk in self.table.clear() {
            home(region, chunk.data);
        }
    }
}
