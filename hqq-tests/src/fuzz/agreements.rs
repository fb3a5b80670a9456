//! Packets that a peer sends during a negotiation, and messages after it. The end agrees on something that it wanted, or on
//! nothing; each message is the one that was sent, or is refused.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use hqq::advanced::{AdvancedOptions, Reliability};
use hqq::agreement::{Capabilities, Features, Version};
use hqq::features::compress::Codec;
use hqq::features::encrypt::Key;
use hqq::features::qos::TrafficClass;
use hqq::shm::packet::{NO_BUFFER, Packet, op};
use hqq::{AdvancedLink, Error, ErrorCode, Options, StandardLink};

use crate::fuzz::bytes::Bytes;
use crate::mock::Memory;

const SLOTS: u32 = 16;

fn options() -> Options {
    Options::new().slots(SLOTS).buffers(16).buffer_size(64).max_message(4000).spin(Duration::ZERO)
}

/// The target.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let (one, other) = StandardLink::pair_with(options()).expect("a link");
    let kind = bytes.byte();
    let (link, peer) = if kind & 1 == 0 { (one, other) } else { (other, one) };
    let (wanted, features) = wanted(&mut bytes);
    if kind & 2 == 0 {
        send_packets(&link, &peer, &mut bytes);
        negotiate(link, &peer, &wanted, features, kind & 4 == 0, &mut bytes);
    } else {
        agreed(link, peer, &wanted, &mut bytes);
    }
}

/// What an end would like, and the features among it.
fn wanted(bytes: &mut Bytes<'_>) -> (AdvancedOptions, Features) {
    let choice = bytes.byte();
    let capabilities = Capabilities::from_bits_truncate(u64::from(choice >> 3));
    let (mut wanted, mut features) = (AdvancedOptions::new().capability(capabilities), Features::empty());
    if choice & 1 != 0 {
        features |= Features::COMPRESSION;
        wanted = wanted.compression(if choice & 4 == 0 { &[Codec::Lz4] } else { &[Codec::Zstd, Codec::Lz4] });
    }
    if choice & 2 != 0 {
        features |= Features::ENCRYPTION;
        wanted = wanted.encryption(Key::shared([7; 32]));
    }
    if choice & 128 != 0 {
        wanted = wanted.reliable(Reliability::new().messages(4).optional());
    }
    let more = bytes.byte();
    if more & 1 != 0 {
        features |= Features::FLOW_CONTROL;
        wanted = wanted.flow_control(u32::from(more >> 4));
    }
    if more & 2 != 0 {
        features |= Features::QOS;
        wanted = wanted.qos();
    }
    if more & 4 != 0 {
        features |= Features::STATISTICS;
        wanted = wanted.statistics();
    }
    (wanted, features)
}

/// Sends packets before the end receives: mostly packets of a negotiation, and often valid ones.
fn send_packets(link: &StandardLink, peer: &StandardLink, bytes: &mut Bytes<'_>) {
    let memory = Memory::of(link);
    for _ in 0..bytes.byte() % (SLOTS as u8 - 1) {
        let choice = bytes.byte();
        let mut number = || if choice & 128 == 0 { bytes.number() & 0x3F } else { bytes.number() };
        let version = Version::CURRENT.number();
        let packet = match choice & 15 {
            0..=2 => Packet::new(op::PROTO_NEGOTIATE, [version, number(), number()]),
            3..=5 => Packet::new(op::PROTO_ACK, [version, number(), number()]),
            6..=8 => Packet::new(op::TERMS, [number(), number(), number(), number()]),
            9..=10 => Packet::new(op::BEGIN, [number(), number()]),
            11 => Packet { op: op::KEY, operands: [(); 7].map(|()| number()) },
            12 => Packet::error(
                0,
                ErrorCode::InvalidOp,
                [op::PROTO_NEGOTIATE, op::PROTO_ACK, op::KEY][number() as usize % 3],
            ),
            13 => Packet::new(number() as u8, [number(), number(), number()]),
            14 if number() & 1 == 0 => delivery(&mut number),
            14 => traffic(number(), &mut number),
            _ => Packet::new(op::INLINE_COPY, [number() << 56 | 1]),
        };
        memory.push(peer.role().direction(), &packet);
    }
}

/// One of the packets of reliable delivery.
fn delivery(number: &mut impl FnMut() -> u64) -> Packet {
    let op = [op::RESUME, op::START, op::PROCESSED][number() as usize % 3];
    Packet { op, operands: [number(), number(), number() & 1, number() & 1, 0, 0, 0] }
}

/// A packet about a connection: credit, a share or a chunk; or a probe.
fn traffic(conn: u64, number: &mut impl FnMut() -> u64) -> Packet {
    match number() & 3 {
        0 => Packet::new(op::CREDIT, [conn, number()]),
        1 => Packet::new(op::SHARE, [conn, number(), number()]),
        // An empty chunk: there is no buffer to be named.
        2 => Packet::new(op::CONN_COPY, [conn, number(), 0, 0, 0, 0, NO_BUFFER]),
        _ => Packet::new(op::PROBE, [number()]),
    }
}

/// The end receives once, and continues with the result.
fn negotiate(
    link: StandardLink,
    peer: &StandardLink,
    wanted: &AdvancedOptions,
    features: Features,
    starts: bool,
    bytes: &mut Bytes<'_>,
) {
    let made = match starts {
        true => AdvancedLink::negotiate(link, wanted, Duration::ZERO),
        false => AdvancedLink::wait_for_negotiation(link, wanted, Duration::ZERO),
    };
    let link = match made {
        Ok(link) => link,
        Err(Error::NotAgreed { missing, .. }) => return assert_eq!(missing, Features::ENCRYPTION),
        Err(Error::Timeout { .. } | Error::Handshake { .. }) => return,
        Err(error) => panic!("{error:?}"),
    };
    let agreed = link.agreement().features;
    assert!(features.contains(agreed), "{agreed} of {features}");
    // Nobody made a key with it.
    assert!(!agreed.contains(Features::ENCRYPTION));
    let reliable = link.deliveries().is_some();
    let plain = agreed.is_empty() && !reliable;
    if plain {
        // Messages may be among what was pushed, in a slot or in buffers, which the peer's next message would share.
        receive(&link, agreed);
    }
    while !bytes.is_over() {
        let len = usize::from(bytes.byte());
        if reliable && len & 3 == 0 {
            Memory::at(link.memory(), link.geometry())
                .push(peer.role().direction(), &delivery(&mut || bytes.number() & 0xF));
            receive(&link, agreed);
            // What it sends may fill its store, or stay for want of room.
            let _ = link.try_send(b"to be acknowledged");
            while peer.try_recv().is_ok() {}
            continue;
        }
        let frame = bytes.take(len);
        let sent = match peer.try_send(frame) {
            Ok(()) => Some(frame.to_vec()),
            Err(error) if error.is_transient() => None,
            Err(_) => return,
        };
        let received = receive(&link, agreed);
        // Without an agreement it is what was sent, and nothing else.
        assert!(!plain || received == Vec::from_iter(sent), "{received:?}");
    }
}

/// Takes what is there.
fn receive(link: &AdvancedLink, agreed: Features) -> Vec<Vec<u8>> {
    let mut received = Vec::new();
    for _ in 0..2 * SLOTS {
        match link.try_recv() {
            Ok(message) => {
                assert!(message.len() <= 4000);
                received.push(message.to_vec());
                message.acknowledge().expect("it was delivered");
            }
            Err(Error::Frame { .. }) => assert!(!agreed.is_empty()),
            Err(Error::RingEmpty) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    received
}

/// Two ends that agree: what is sent is received, and what is damaged on its way is refused or another message.
fn agreed(link: StandardLink, peer: StandardLink, wanted: &AdvancedOptions, bytes: &mut Bytes<'_>) {
    let soon = Duration::from_secs(20);
    let (link, peer) = thread::scope(|scope| {
        let peer = scope.spawn(|| AdvancedLink::wait_for_negotiation(peer, wanted, soon));
        (AdvancedLink::negotiate(link, wanted, soon), peer.join().expect("it does not panic"))
    });
    let (link, peer) = (link.expect("they want the same"), peer.expect("they want the same"));
    assert_eq!(link.agreement(), peer.agreement());
    let encrypted = link.agreement().features.contains(Features::ENCRYPTION);
    let memory = Memory::at(link.memory(), link.geometry());
    if bytes.byte() & 1 != 0 {
        return connected(&link, &peer, &memory, bytes);
    }
    let reliable = link.deliveries().is_some();
    // A frame has had another's number: that one is none any more.
    let mut renumbered = false;
    while !bytes.is_over() {
        let (len, damage) = (usize::from(bytes.byte()) * 3, bytes.byte());
        let sent = bytes.take(len).repeat(1 + usize::from(damage & 3));
        if sent.len() > 500 || peer.try_send(&sent).is_err() {
            continue;
        }
        let packet = memory.newest(peer.role().direction());
        match link.try_recv() {
            Ok(received) => {
                assert!(*received == *sent || renumbered);
                received.acknowledge().expect("it was delivered");
            }
            Err(Error::RingEmpty | Error::Frame { .. }) => assert!(renumbered),
            Err(error) => panic!("{error:?}"),
        }
        link.flush_acknowledgements();
        // Once more from the same slot, with a bit changed or not.
        if packet.op == op::INLINE_COPY {
            let mut again = packet;
            let bit = usize::from(damage) % (7 * 64);
            again.operands[bit / 64] ^= u64::from(damage & 8 != 0) << (bit % 64);
            renumbered |= reliable && packet.operands[1] != again.operands[1];
            renumbered |= reliable && packet.operands[0] != again.operands[0];
            memory.push(peer.role().direction(), &again);
            match link.try_recv() {
                Ok(_) => assert!(!encrypted, "an authenticated message came twice, or changed"),
                Err(Error::Frame { .. } | Error::RingEmpty) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

/// Two ends with a connection, and packets about it that nobody sent: what was sent comes as it was, or not at all.
fn connected(link: &AdvancedLink, peer: &AdvancedLink, memory: &Memory, bytes: &mut Bytes<'_>) {
    let soon = Duration::from_secs(20);
    let (ours, theirs) = thread::scope(|scope| {
        let theirs = scope.spawn(|| peer.accept_connection_timeout(soon));
        (link.open_connection_timeout(soon), theirs.join().expect("it does not panic"))
    });
    let (ours, theirs) = (ours.expect("it is accepted"), theirs.expect("it is opened"));
    let mut under_way = VecDeque::new();
    while !bytes.is_over() {
        let (choice, len) = (bytes.byte(), usize::from(bytes.byte() & 15));
        match choice & 3 {
            0 => {
                let sent = bytes.take(len).to_vec();
                match theirs.send_timeout(&sent, Duration::ZERO) {
                    Ok(()) => under_way.push_back(sent),
                    Err(error) => assert!(!matches!(error, Error::Unsupported { .. }), "{error:?}"),
                }
            }
            1 => {
                // A chunk that nobody sent would have its place among the others.
                let packet = traffic(ours.id(), &mut || bytes.number() & 0x1F);
                // What lies in the ring is taken, as long as there is room in the inbox.
                let _ = link.try_recv();
                if packet.op != op::CONN_COPY && under_way.len() < 8 {
                    memory.push(peer.role().direction(), &packet);
                }
            }
            2 => {
                let share = TrafficClass { weight: u32::from(choice >> 4), ..TrafficClass::default() };
                let _ = ours.set_traffic_class(share);
            }
            _ => match ours.try_recv() {
                Ok(message) => {
                    assert_eq!(Some(message), under_way.pop_front());
                }
                Err(error) => assert!(error.is_transient(), "{error:?}"),
            },
        }
    }
}
