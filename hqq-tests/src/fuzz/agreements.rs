//! What a peer says while an agreement is made, and the messages that it sends behind it: an end settles on something that it
//! wanted, or on nothing; and a message is the one that was sent, or refused.

use std::thread;
use std::time::Duration;

use hqq::advanced::{Reliability, Wanted};
use hqq::feature::compress::Codec;
use hqq::feature::encrypt::Key;
use hqq::packet::{Packet, op};
use hqq::protocol::{Capabilities, Features, Version};
use hqq::{AdvancedLink, Error, ErrorCode, Options, StandardLink};

use super::Bytes;
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
        said(&link, &peer, &mut bytes);
        hear(link, &peer, &wanted, features, kind & 4 == 0, &mut bytes);
    } else {
        agreed(link, peer, &wanted, &mut bytes);
    }
}

/// What an end would like, and the features among it.
fn wanted(bytes: &mut Bytes<'_>) -> (Wanted, Features) {
    let choice = bytes.byte();
    let capabilities = Capabilities::from_bits_truncate(u64::from(choice >> 3));
    let (mut wanted, mut features) = (Wanted::new().capability(capabilities), Features::empty());
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
    (wanted, features)
}

/// Packets that lie there before the end looks: those of a negotiation more often than not, and often good ones.
fn said(link: &StandardLink, peer: &StandardLink, bytes: &mut Bytes<'_>) {
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
            14 => delivery(&mut number),
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

/// The end looks once, and goes on with what came of it.
fn hear(
    link: StandardLink,
    peer: &StandardLink,
    wanted: &Wanted,
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
    while !bytes.is_over() {
        let len = usize::from(bytes.byte());
        if reliable && len & 3 == 0 {
            Memory::at(link.memory(), link.geometry())
                .push(peer.role().direction(), &delivery(&mut || bytes.number() & 0xF));
            receive(&link, agreed, None);
            // What it sends may fill its store, or stay for want of room.
            let _ = link.try_send(b"to be acknowledged");
            while peer.try_recv().is_ok() {}
            continue;
        }
        let frame = bytes.take(len);
        if matches!(peer.try_send(frame), Err(error) if !error.is_transient()) {
            return;
        }
        receive(&link, agreed, Some(frame));
    }
}

/// Takes what is there. Without an agreement it is what was sent.
fn receive(link: &AdvancedLink, agreed: Features, sent: Option<&[u8]>) {
    for _ in 0..2 * SLOTS {
        match link.try_recv() {
            Ok(message) => {
                assert!(message.len() <= 4000);
                if let (true, None, Some(sent)) = (agreed.is_empty(), message.receipt(), sent) {
                    // Ahead of it may be what was pushed.
                    assert!(*message == *sent || message.len() <= 48);
                }
                message.acknowledge().expect("it was delivered");
            }
            Err(Error::Frame { .. }) => assert!(!agreed.is_empty()),
            Err(Error::RingEmpty) => return,
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Two ends that agree: what is sent is received, and what is damaged on its way is refused or another message.
fn agreed(link: StandardLink, peer: StandardLink, wanted: &Wanted, bytes: &mut Bytes<'_>) {
    let soon = Duration::from_secs(20);
    let (link, peer) = thread::scope(|scope| {
        let peer = scope.spawn(|| AdvancedLink::wait_for_negotiation(peer, wanted, soon));
        (AdvancedLink::negotiate(link, wanted, soon), peer.join().expect("it does not panic"))
    });
    let (link, peer) = (link.expect("they want the same"), peer.expect("they want the same"));
    assert_eq!(link.agreement(), peer.agreement());
    let encrypted = link.agreement().features.contains(Features::ENCRYPTION);
    let memory = Memory::at(link.memory(), link.geometry());
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
