//! Arbitrary packets from a peer that follows the rules of the ring: they are refused or processed, and messages between
//! them arrive as they were sent.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use hqq::shm::packet::{Packet, op};
use hqq::shm::words::Role;
use hqq::{Connection, Error, Listener, Message, Options, StandardLink, UntrustedLink, UntrustedMessage};

use crate::fuzz::bytes::Bytes;
use crate::mock::Memory;

const SLOTS: u32 = 8;
const BUFFERS: u64 = 8;

fn options() -> Options {
    let options = Options::new().slots(SLOTS).buffers(BUFFERS as u32).buffer_size(64).max_message(400);
    options.max_connections(3).inbox(2).backlog(2)
}

/// The target.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let kind = bytes.byte();
    if kind % 2 == 0 {
        let (primary, secondary) = StandardLink::pair_with(options()).expect("a link");
        let (victim, peer) = if kind % 4 == 0 { (primary, secondary) } else { (secondary, primary) };
        standard(&victim, &peer, &mut bytes);
    } else {
        let name = format!("fuzz-{}-{:?}", std::process::id(), thread::current().id());
        let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let listener = Listener::bind_with(&name, options()).expect("a fresh name");
        let soon = Duration::from_secs(20);
        let (victim, peer) = thread::scope(|scope| {
            let calling = scope.spawn(|| StandardLink::connect_with_timeout(&name, options(), soon));
            let victim = listener.accept_untrusted_timeout(soon).expect("the other thread calls");
            (victim, calling.join().expect("a call does not panic").expect("the listener accepts"))
        });
        untrusted(&victim, &peer, &mut bytes);
    }
}

/// A packet as the input says, with operands that mean something more often than not.
fn packet(bytes: &mut Bytes<'_>) -> Packet {
    let kind = bytes.byte();
    let mut small = |below: u64| bytes.number() % below;
    match kind {
        // Nearly right: the sizes and places are of the link's own order.
        0..=31 => {
            let sizes = [small(8), small(10), small(600), small(10)];
            return Packet::new(op::STANDARD_LINK_COPY, sizes);
        }
        32..=95 => {
            let (conn, offset, size) = (small(6), 64 * small(10), small(600));
            let sizes = [conn, small(4), small(600), small(600), small(600), size, offset];
            return Packet::new(op::CONN_COPY, sizes);
        }
        _ => {}
    }
    let op = match kind {
        96..=111 => op::STANDARD_LINK_COPY,
        112..=127 => op::CONN_COPY,
        128..=159 => op::INLINE_COPY,
        160..=229 => bytes.byte() % 8,
        _ => bytes.byte(),
    };
    Packet { op, operands: [(); 7].map(|()| bytes.number()) }
}

/// Messages that must arrive: their bytes can be mistaken for nobody else's.
#[derive(Default)]
struct Oracle {
    sent: u64,
    due: VecDeque<[u8; 40]>,
}

impl Oracle {
    fn next(&mut self) -> [u8; 40] {
        self.sent += 1;
        let mut message = [0xC3; 40];
        message[..8].copy_from_slice(&(self.sent ^ 0x5DEE_CE66_D123_4567).to_le_bytes());
        self.due.push_back(message);
        message
    }

    fn arrived(&mut self, bytes: &[u8]) {
        if self.due.front().is_some_and(|due| due == bytes) {
            self.due.pop_front();
        } else {
            assert!(!self.due.iter().any(|due| due == bytes), "a message overtook another");
        }
    }
}

/// What the peer does in one step of either link.
fn step(memory: &Memory, direction: usize, peer: &StandardLink, oracle: &mut Oracle, bytes: &mut Bytes<'_>) {
    for _ in 0..bytes.byte() % 4 {
        memory.push(direction, &packet(bytes));
    }
    let message = oracle.next();
    peer.try_send(&message).expect("there is room for it: everything before was received");
    // Answers must not fill the ring.
    while peer.try_recv().is_ok() {}
}

fn standard(victim: &StandardLink, peer: &StandardLink, bytes: &mut Bytes<'_>) {
    let memory = Memory::of(peer);
    let direction = peer.role().direction();
    let mut oracle = Oracle::default();
    let mut held: Vec<Message<'_>> = Vec::new();
    let mut connections: Vec<Connection> = Vec::new();
    for _ in 0..64 {
        if bytes.is_over() {
            break;
        }
        step(&memory, direction, peer, &mut oracle, bytes);
        // No inbox may stop the link, or what is due would never come.
        for _ in 0..4 * SLOTS {
            match victim.try_recv() {
                Ok(message) => {
                    oracle.arrived(&message);
                    held.push(message);
                }
                Err(Error::RingEmpty) => {}
                Err(other) => panic!("packets alone do no harm to a link: {other}"),
            }
            if held.len() > 3 {
                held.remove(0);
            }
            if let Ok(connection) = victim.try_accept_connection() {
                connections.push(connection);
            }
            connections.retain(|connection| {
                loop {
                    match connection.try_recv() {
                        Ok(message) => assert!(message.len() <= 400),
                        Err(Error::RingEmpty | Error::Busy) => break true,
                        Err(_) => break false,
                    }
                }
            });
            if oracle.due.is_empty() {
                break;
            }
        }
        assert!(oracle.due.is_empty(), "{} messages are lost", oracle.due.len());
        if bytes.byte() % 4 == 0 {
            held.clear();
            connections.clear();
        }
    }
    drop((held, connections));
    // What had no room in a dropped connection's inbox is sorted now.
    assert!(matches!(victim.try_recv(), Err(Error::RingEmpty)), "nothing more was sent");
    all_is_well(victim.is_open(), &victim.stats(), victim.role());
}

fn untrusted(victim: &UntrustedLink, peer: &StandardLink, bytes: &mut Bytes<'_>) {
    let memory = Memory::of(peer);
    let direction = peer.role().direction();
    let mut oracle = Oracle::default();
    let mut held: Vec<UntrustedMessage<'_>> = Vec::new();
    for _ in 0..64 {
        if bytes.is_over() {
            break;
        }
        step(&memory, direction, peer, &mut oracle, bytes);
        for _ in 0..4 * SLOTS {
            match victim.try_recv() {
                Ok(message) => {
                    oracle.arrived(&message.to_vec());
                    held.push(message);
                }
                Err(Error::RingEmpty) => {}
                Err(other) => panic!("packets alone do no harm to a link: {other}"),
            }
            if held.len() > 3 {
                held.remove(0);
            }
            if oracle.due.is_empty() {
                break;
            }
        }
        assert!(oracle.due.is_empty(), "{} messages are lost", oracle.due.len());
        victim.try_send(&[1; 9]).expect("its own ring is empty");
        if bytes.byte() % 4 == 0 {
            held.clear();
        }
    }
    drop(held);
    // The peer's own answers.
    assert!(matches!(victim.try_recv(), Err(Error::RingEmpty)), "nothing more was sent");
    all_is_well(true, &victim.stats(), victim.role());
}

/// What was being read has gone home.
fn all_is_well(open: bool, stats: &hqq::Stats, role: Role) {
    assert!(open, "packets alone do not end a link");
    let inward = stats.sent_by(role.other());
    assert_eq!(inward.buffers_held, 0, "a buffer was kept");
    assert_eq!(inward.in_flight, 0, "a packet was kept");
}
