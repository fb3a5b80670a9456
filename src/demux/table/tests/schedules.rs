//! Random schedules: two tables with queues between them, against an oracle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

#[derive(Clone, Copy, Debug)]
enum Packet {
    Create(u64),
    Accept(u64),
    Close(u64, CloseHow),
    Copy(CopyHeader, u64),
    Error(u64, ErrorCode, u8),
}

#[derive(Debug)]
struct Handle {
    id: u64,
    message: Option<Partial>,
    said_write: bool,
    said_read: bool,
    end: Option<ConnEnd>,
}

struct Side {
    table: ConnectionTable<u64>,
    out: VecDeque<Packet>,
    handles: Vec<Handle>,
    /// Ids that this side turned down.
    refused: BTreeSet<u64>,
}

/// What one side wrote on one connection, chunk by chunk, and how many of those the other has read.
#[derive(Default)]
struct Direction {
    sent: Vec<Chunk<u64>>,
    read: usize,
    finished: bool,
    cut: bool,
}

struct World {
    sides: [Side; 2],
    flows: BTreeMap<(usize, u64), Direction>,
    random: Random,
    /// Chunks sent so far; a chunk's number is its content.
    sent: u64,
    copies: u64,
    /// Every chunk that was read or went home.
    arrived: BTreeSet<u64>,
    read: u64,
    /// No id is ever pushed out of the lingering ones.
    roomy: bool,
    limits: Limits,
}

impl World {
    fn new(seed: u64, roomy: bool) -> Self {
        let limits = Limits {
            max_connections: if roomy { 100_000 } else { 3 },
            backlog: 2,
            inbox: 3,
            max_message: 60,
        };
        let side = |role| Side {
            table: ConnectionTable::new(role, limits),
            out: VecDeque::new(),
            handles: Vec::new(),
            refused: BTreeSet::new(),
        };
        Self {
            sides: [side(Role::Primary), side(Role::Secondary)],
            flows: BTreeMap::new(),
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            sent: 0,
            copies: 0,
            arrived: BTreeSet::new(),
            read: 0,
            roomy,
            limits,
        }
    }

    fn home(&mut self, data: u64) {
        assert!(self.arrived.insert(data), "chunk {data} twice");
    }

    fn add_handle(&mut self, me: usize, id: u64) {
        self.sides[me].handles.push(Handle {
            id,
            message: None,
            said_write: false,
            said_read: false,
            end: None,
        });
    }

    fn step(&mut self) {
        let me = self.random.below(2) as usize;
        match self.random.below(40) {
            0..=1 if self.sides[me].handles.len() >= 6 => {}
            0..=1 => {
                if let Ok(id) = self.sides[me].table.open() {
                    assert_eq!(id % 2, 1 - me as u64);
                    self.sides[me].out.push_back(Packet::Create(id));
                    self.add_handle(me, id);
                }
            }
            2..=4 => self.take_offer(me),
            5 => {
                if let Some(&id) = self.sides[me].table.offered.back() {
                    assert!(self.sides[me].table.refuse(id));
                    self.turn_down(me, id, ErrorCode::ConnRefused);
                }
            }
            6..=15 => self.send(me),
            16..=27 => self.pump(me),
            28..=37 => self.read(me),
            38 if self.random.below(3) == 0 => self.say(me),
            38 => {}
            _ => {
                let handles = self.sides[me].handles.len() as u64;
                if handles > 0 && self.random.below(3) == 0 {
                    let index = self.random.below(handles) as usize;
                    self.drop_handle(me, index);
                }
            }
        }
        for side in &self.sides {
            let table = &side.table;
            assert!(table.live() <= self.limits.max_connections);
            assert!(table.lingering.len() <= self.limits.max_connections);
            assert!(table.offered.len() <= self.limits.backlog);
            assert!(table.conns.values().all(|c| c.inbox.len() <= self.limits.inbox));
        }
    }

    fn turn_down(&mut self, me: usize, id: u64, code: ErrorCode) {
        self.sides[me].refused.insert(id);
        self.sides[me].out.push_back(Packet::Error(id, code, op::CONN_CREATE));
    }

    fn take_offer(&mut self, me: usize) {
        if let Some(id) = self.sides[me].table.accept() {
            self.sides[me].out.push_back(Packet::Accept(id));
            self.add_handle(me, id);
        }
    }

    /// Sends the next chunk on some connection.
    fn send(&mut self, me: usize) {
        let side = &mut self.sides[me];
        if side.handles.is_empty() || side.out.len() >= 8 {
            return;
        }
        let index = self.random.below(side.handles.len() as u64) as usize;
        let handle = &mut side.handles[index];
        if let Err(end) = side.table.can_send(handle.id) {
            assert!(!matches!(end, ConnEnd::Cut { .. } | ConnEnd::Link(_)));
            return;
        }
        assert!(!handle.said_write);
        let message = handle.message.unwrap_or_else(|| {
            self.copies += 1;
            let size = self.random.below(self.limits.max_message + 1);
            Partial { copy_id: self.copies, size, received: 0 }
        });
        let rest = message.size - message.received;
        let len = if rest == 0 { 0 } else { 1 + self.random.below(rest.min(20)) };
        let chunk = Chunk {
            data: self.sent,
            copy_id: message.copy_id,
            copy_size: message.size,
            offset: message.received,
            len,
        };
        self.sent += 1;
        let received = message.received + len;
        handle.message = (received < message.size).then_some(Partial { received, ..message });
        let header = header(handle.id, chunk.copy_id, chunk.copy_size, len, chunk.offset);
        self.flows.entry((me, handle.id)).or_default().sent.push(chunk);
        side.out.push_back(Packet::Copy(header, chunk.data));
    }

    /// Takes one packet of the peer's.
    fn pump(&mut self, me: usize) {
        let Some(&packet) = self.sides[1 - me].out.front() else {
            return;
        };
        if let Packet::Copy(header, data) = packet {
            let table = &mut self.sides[me].table;
            let room = has_room(table, header.conn);
            match table.on_copy(header, data) {
                CopyOutcome::Full(back) => {
                    assert!(!room && back == data);
                    return;
                }
                CopyOutcome::Wake(id) => assert!(room && id == header.conn),
                CopyOutcome::Swallow(data) => {
                    assert!(room);
                    self.home(data);
                }
                CopyOutcome::Refuse(code, data) => {
                    assert!(room && !self.roomy && code == ErrorCode::ConnNotFound, "{code:?}");
                    self.home(data);
                    self.answer(me, header.conn, Outcome::Refuse(code), op::CONN_COPY);
                }
            }
            self.sides[1 - me].out.pop_front();
            return;
        }
        self.sides[1 - me].out.pop_front();
        let table = &mut self.sides[me].table;
        match packet {
            Packet::Create(id) => {
                let outcome = table.on_create(id);
                match outcome {
                    Outcome::Wake(woken) => assert_eq!(woken, id),
                    Outcome::Refuse(ErrorCode::ConnRefused) => {
                        self.turn_down(me, id, ErrorCode::ConnRefused);
                    }
                    other => panic!("Create {id}: {other:?}"),
                }
            }
            Packet::Accept(id) => {
                let outcome = table.on_accept(id);
                self.answer(me, id, outcome, 0x02);
            }
            Packet::Close(id, how) => {
                let outcome = table.on_close(id, how.number());
                self.answer(me, id, outcome, op::CONN_CLOSE);
            }
            Packet::Error(id, code, op) => {
                let outcome = table.on_error(id, code, op);
                assert!(matches!(outcome, Outcome::Done | Outcome::Wake(_)));
            }
            Packet::Copy(..) => unreachable!("dealt with above"),
        }
    }

    fn answer(&mut self, me: usize, id: u64, outcome: Outcome, op: u8) {
        match outcome {
            Outcome::Done => {}
            Outcome::Wake(woken) => {
                assert_eq!(woken, id);
                assert!(self.sides[me].handles.iter().any(|h| h.id == id), "nobody to wake");
            }
            Outcome::AnswerClose(closed) => {
                assert_eq!(closed, id);
                self.sides[me].out.push_back(Packet::Close(id, CloseHow::Both));
            }
            Outcome::Refuse(code) => {
                assert_eq!(code, ErrorCode::ConnNotFound, "{id} {op}");
                let crossed = op == op::CONN_CLOSE && self.sides[me].refused.contains(&id);
                assert!(crossed || !self.roomy, "op {op} for {id} refused");
                self.sides[me].out.push_back(Packet::Error(id, code, op));
            }
        }
    }

    fn read(&mut self, me: usize) {
        let side = &mut self.sides[me];
        if side.handles.is_empty() {
            return;
        }
        let index = self.random.below(side.handles.len() as u64) as usize;
        let handle = &mut side.handles[index];
        let flow = self.flows.entry((1 - me, handle.id)).or_default();
        match side.table.pop(handle.id) {
            Pop::Empty => assert_eq!(handle.end, None, "an end stays"),
            Pop::Chunk(chunk) => {
                assert_eq!(handle.end, None, "nothing follows an end");
                assert_eq!(Some(&chunk), flow.sent.get(flow.read), "order and content");
                flow.read += 1;
                self.read += 1;
                self.home(chunk.data);
            }
            Pop::End(end) => {
                assert!(handle.end.is_none_or(|before| before == end), "an end stays");
                handle.end = Some(end);
                match end {
                    _ if handle.said_read => assert!(!matches!(end, ConnEnd::Link(_))),
                    ConnEnd::Closed | ConnEnd::Cut { .. } => {
                        assert!(flow.finished, "an end that nobody wrote");
                        assert_eq!(flow.read, flow.sent.len(), "lost before the end");
                        assert_eq!(flow.cut, end != ConnEnd::Closed);
                    }
                    ConnEnd::Refused(code) => assert_eq!(code, ErrorCode::ConnRefused),
                    ConnEnd::Broken { code, .. } => {
                        assert!(!self.roomy && code == ErrorCode::ConnNotFound);
                    }
                    ConnEnd::NotOpen | ConnEnd::Link(_) => panic!("{end:?}"),
                }
                if self.random.below(3) == 0 {
                    self.drop_handle(me, index);
                }
            }
        }
    }

    /// Closes a half or both, with the handle kept.
    fn say(&mut self, me: usize) {
        let how = CloseHow::from_number(self.random.below(3)).unwrap();
        let side = &mut self.sides[me];
        if side.handles.is_empty() {
            return;
        }
        let index = self.random.below(side.handles.len() as u64) as usize;
        let handle = &mut side.handles[index];
        handle.said_read |= how != CloseHow::Write;
        if how != CloseHow::Read {
            self.flows.entry((me, handle.id)).or_default().finish(handle);
        }
        if let Some(how) = side.table.close(handle.id, how) {
            side.out.push_back(Packet::Close(handle.id, how));
        }
    }

    fn drop_handle(&mut self, me: usize, index: usize) {
        let side = &mut self.sides[me];
        let mut handle = side.handles.swap_remove(index);
        self.flows.entry((me, handle.id)).or_default().finish(&mut handle);
        let Forgotten { close, chunks } = side.table.forget(handle.id);
        side.out.extend(close.map(|how| Packet::Close(handle.id, how)));
        for chunk in chunks {
            self.home(chunk.data);
        }
    }

    /// Drops everything, lets the queues run dry, and takes stock.
    fn finish(mut self) -> (u64, u64) {
        for _ in 0..2 {
            for me in 0..2 {
                while !self.sides[me].table.offered.is_empty() {
                    self.take_offer(me);
                }
                while !self.sides[me].handles.is_empty() {
                    self.drop_handle(me, 0);
                }
            }
            while self.sides.iter().any(|side| !side.out.is_empty()) {
                self.pump(0);
                self.pump(1);
            }
        }
        for side in &self.sides {
            let left: Vec<_> = side.table.conns.keys().collect();
            assert!(!self.roomy || left.is_empty(), "left behind: {left:?}");
            assert_eq!(side.table.lingering.len(), left.len());
        }
        assert_eq!(self.arrived.len() as u64, self.sent, "chunks lost");
        (self.sent, self.read)
    }
}

impl Direction {
    fn finish(&mut self, handle: &mut Handle) {
        if !handle.said_write {
            handle.said_write = true;
            self.finished = true;
            self.cut = handle.message.is_some();
        }
    }
}

#[test]
fn random_schedules_keep_every_promise() {
    for roomy in [true, false] {
        let (mut sent, mut read) = (0, 0);
        for seed in 1..=60 {
            let mut world = World::new(seed, roomy);
            for _ in 0..4000 {
                world.step();
            }
            let (more_sent, more_read) = world.finish();
            sent += more_sent;
            read += more_read;
        }
        // The schedules do move data: most of what is sent is also read.
        assert!(sent > 20_000 && read > sent / 3, "{sent} sent, {read} read");
    }
}
