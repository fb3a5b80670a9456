//! Both ends in one process: the frames, the store's limits, what is told when, bad packets, and another peer.

use std::net::Shutdown;
use std::sync::mpsc::channel;
use std::thread;

use super::*;
use crate::advanced::options::AdvancedOptions;
use crate::advanced::reliability::Reliability;
use crate::agreement::Capabilities;
use crate::demux::Stop;
use crate::error::ErrorCode;
use crate::link::standard::StandardLink;
use crate::options::{Clock, Options};
use crate::shm::packet::{Operation, Packet, op};
use hqq_features::reliable::{Ack, Resume, Start};

const SOON: Duration = Duration::from_secs(20);

fn options() -> Options {
    Options::new().slots(16).buffers(16).buffer_size(64).spin(Duration::ZERO)
}

fn keeps(messages: u32) -> Reliability {
    Reliability::new().messages(messages)
}

/// Tells nothing of itself, but that half is acknowledged.
fn lazy(messages: u32) -> Reliability {
    keeps(messages).acknowledge_every(usize::MAX).acknowledge_within(SOON)
}

fn wants(reliability: Reliability) -> AdvancedOptions {
    AdvancedOptions::new().reliable(reliability)
}

fn agree(
    ends: (StandardLink, StandardLink),
    ours: &AdvancedOptions,
    theirs: &AdvancedOptions,
) -> (AdvancedLink, AdvancedLink) {
    let (one, other) = try_agree(ends, ours, theirs);
    (one.unwrap(), other.unwrap())
}

fn try_agree(
    ends: (StandardLink, StandardLink),
    ours: &AdvancedOptions,
    theirs: &AdvancedOptions,
) -> (Result<AdvancedLink>, Result<AdvancedLink>) {
    thread::scope(|scope| {
        let other = scope.spawn(|| AdvancedLink::wait_for_negotiation(ends.1, theirs, SOON));
        (AdvancedLink::negotiate(ends.0, ours, SOON), other.join().unwrap())
    })
}

fn pair(reliability: &Reliability) -> (AdvancedLink, AdvancedLink) {
    let wanted = wants(reliability.clone());
    agree(StandardLink::pair_with(options()).unwrap(), &wanted, &wanted)
}

fn kept(link: &AdvancedLink) -> usize {
    link.deliveries().unwrap().store.messages
}

#[test]
fn a_message_is_kept_until_it_is_acknowledged() {
    let (one, other) = pair(&keeps(8));
    for text in [&b"one"[..], b"two", &[7; 500]] {
        one.send(text).unwrap();
    }
    let first = other.recv().unwrap();
    let receipt = first.receipt().unwrap();
    assert_eq!((&*first, receipt.sequence), (&b"one"[..], 1));
    let second = other.try_recv().unwrap();
    assert_eq!((&*second, second.receipt().unwrap().sequence), (&b"two"[..], 2));
    assert_eq!(kept(&one), 3);
    // In any order, and twice without harm.
    second.acknowledge().unwrap();
    other.acknowledge(receipt).unwrap();
    other.acknowledge(receipt).unwrap();
    let third = other.recv().unwrap();
    assert_eq!((&*third, third.to_vec()), (&[7; 500][..], vec![7; 500]));
    third.acknowledge().unwrap();
    other.flush_acknowledgements();
    one.wait_acknowledged(SOON).unwrap();
    let (sender, receiver) = (one.deliveries().unwrap(), other.deliveries().unwrap());
    assert_eq!((sender.store.messages, sender.store.bytes, sender.store.acknowledged), (0, 0, 3));
    assert_eq!((receiver.inbox.delivered, receiver.inbox.acknowledged, receiver.outstanding), (3, 3, 0));
    assert_eq!(other.position(), Some(Position { session: receipt.session, upto: 3 }));
    assert_eq!(one.position().map(|position| position.upto), Some(0));
    let unknown = Receipt { sequence: 4, ..receipt };
    assert!(matches!(other.acknowledge(unknown), Err(Error::Unsupported { .. })));
    assert!(matches!(other.try_recv(), Err(Error::RingEmpty)));
    drop(one);
    assert!(matches!(other.recv(), Err(Error::Closed)));
}

#[test]
fn a_full_store_is_an_error_or_a_wait() {
    let (one, other) = pair(&keeps(4).bytes(1000));
    for _ in 0..4 {
        one.try_send(b"x").unwrap();
    }
    match one.try_send(b"y") {
        Err(Error::StoreFull { messages: 4, bytes: 4, limit: 4 }) => {}
        found => panic!("{found:?}"),
    }
    assert!(matches!(one.send_timeout(b"y", Duration::from_millis(1)), Err(Error::Timeout { .. })));
    assert_eq!(one.deliveries().unwrap().store.full, 2);
    thread::scope(|scope| {
        let waits = scope.spawn(|| one.send(b"y"));
        other.recv().unwrap().acknowledge().unwrap();
        // Whoever waits for more tells ahead of its sleep.
        for _ in 0..4 {
            other.recv().unwrap().acknowledge().unwrap();
        }
        waits.join().unwrap().unwrap();
    });
    other.flush_acknowledgements();
    one.wait_acknowledged(SOON).unwrap();
    assert_eq!(one.max_message(), 1000);
    assert!(matches!(one.send(&[0; 1001]), Err(Error::TooLarge { len: 1001, limit: 1000 })));
    one.send(&[0; 600]).unwrap();
    assert!(matches!(one.try_send(&[0; 600]), Err(Error::StoreFull { messages: 1, bytes: 600, limit: 4 })));
}

#[test]
fn what_has_no_room_is_not_kept() {
    let (one, other) = pair(&keeps(100));
    let mut sent = 0u64;
    while one.try_send(&sent.to_le_bytes()).is_ok() {
        sent += 1;
    }
    assert!(matches!(one.try_send(b"one more"), Err(Error::RingFull { slots: 16 })));
    assert_eq!(kept(&one) as u64, sent);
    for number in 0..sent {
        assert_eq!(*other.recv().unwrap(), number.to_le_bytes());
    }
    let mut large = 0;
    while one.try_send(&[1; 200]).is_ok() {
        large += 1;
    }
    assert!(matches!(one.try_send(&[1; 200]), Err(Error::PoolExhausted { .. })));
    assert_eq!((large, kept(&one) as u64), (4, sent + 4));
    for sequence in sent + 1..=sent + 4 {
        let message = other.recv().unwrap();
        assert_eq!((message.len(), message.receipt().unwrap().sequence), (200, sequence));
    }
}

#[test]
fn acknowledgements_are_told_when_it_is_time() {
    let clock = Clock::new();
    let wanted = wants(keeps(100).acknowledge_every(3).acknowledge_within(Duration::from_millis(5)));
    let ends = StandardLink::pair_with(options().clock(&clock)).unwrap();
    let (one, other) = agree(ends, &wanted, &wanted);
    for _ in 0..10 {
        one.send(b"x").unwrap();
    }
    let told = || {
        one.link.core().demux(0).pump(Stop::Lap).unwrap();
        10 - kept(&one)
    };
    let process = || other.try_recv().unwrap().acknowledge().unwrap();
    process();
    process();
    assert_eq!(told(), 0);
    process();
    assert_eq!(told(), 3, "there are enough");
    process();
    assert_eq!(told(), 3);
    clock.advance(Duration::from_millis(5));
    process();
    assert_eq!(told(), 4, "the first has waited long enough, the other has not");
    process();
    drop(other.try_recv().unwrap());
    assert_eq!(told(), 4);
    other.flush_acknowledgements();
    assert_eq!(told(), 6, "somebody said so");
    for _ in 0..3 {
        drop(other.recv().unwrap());
    }
    assert_eq!(other.deliveries().unwrap().outstanding, 4);
    assert!(matches!(other.recv_timeout(Duration::from_millis(1)), Err(Error::Timeout { .. })));
    assert_eq!(told(), 6);
    for sequence in [7, 9] {
        let session = other.position().unwrap().session;
        other.acknowledge(Receipt { session, sequence }).unwrap();
    }
    assert!(matches!(other.recv_timeout(Duration::from_millis(1)), Err(Error::Timeout { .. })));
    assert_eq!(told(), 8, "ahead of a sleep");
}

#[test]
fn acknowledgements_wait_for_room() {
    let (one, other) = pair(&keeps(100));
    one.send(b"x").unwrap();
    let message = other.recv().unwrap();
    while other.try_send(b"y").is_ok() {}
    message.acknowledge().unwrap();
    other.flush_acknowledgements();
    while one.try_recv().is_ok() {}
    assert_eq!(kept(&one), 1);
    // Any call will do.
    assert!(matches!(other.try_recv(), Err(Error::RingEmpty)));
    assert!(matches!(one.try_recv(), Err(Error::RingEmpty)));
    assert_eq!(kept(&one), 0);
}

/// Both send more than ring and store hold, and neither receives but by a thread of its own.
#[test]
fn both_directions_at_once() {
    for messages in [1, 3, 100] {
        let (one, other) = pair(&keeps(messages));
        thread::scope(|scope| {
            for link in [&one, &other] {
                scope.spawn(move || {
                    for number in 0..500u64 {
                        let mut message = number.to_le_bytes().to_vec();
                        message.resize(8 + number as usize % 5 * 40, 1);
                        link.send(&message).unwrap();
                    }
                    link.wait_acknowledged(SOON).unwrap();
                });
                scope.spawn(move || {
                    for number in 0..500u64 {
                        let message = link.recv().unwrap();
                        assert_eq!(message[..8], number.to_le_bytes());
                        message.acknowledge().unwrap();
                    }
                    link.flush_acknowledgements();
                });
            }
        });
        assert_eq!((kept(&one), kept(&other)), (0, 0));
        assert_eq!(one.link.stats().sides.map(|side| side.refused_total()), [0, 0]);
    }
}

#[test]
fn bad_packets_are_refused_one_by_one() {
    let (one, other) = pair(&lazy(8));
    one.send(b"good").unwrap();
    let receipt = other.recv().unwrap().receipt().unwrap();
    other.send(b"good").unwrap();
    assert_eq!(&*one.recv().unwrap(), b"good");
    let Receipt { session, .. } = receipt;
    let push = |packet: Packet| one.link.core().region().send_packet(&packet, |_| ()).unwrap();
    let frame = |len: u64, sequence: u64| Packet::new(op::INLINE_COPY, [len << 56 | 1, sequence]);
    let delivery = |op, operands| Packet { op, operands };
    // The other end's own session, which this one has no business to say.
    let theirs = one.position().unwrap().session;
    let bad = [
        (frame(7, 2), op::STANDARD_LINK_COPY),
        (frame(8, 0), op::STANDARD_LINK_COPY),
        (frame(8, 9), op::STANDARD_LINK_COPY),
        (frame(8, u64::MAX), op::STANDARD_LINK_COPY),
        (delivery(op::RESUME, Resume::default().encode()), op::RESUME),
        (delivery(op::RESUME, [0, 1, 0, 0, 0, 0, 0]), op::RESUME),
        (delivery(op::START, [0; 7]), op::START),
        (delivery(op::START, Start { session, next: 1000, opens: true }.encode()), op::START),
        (delivery(op::PROCESSED, [0; 7]), op::PROCESSED),
        (delivery(op::PROCESSED, Ack { session, upto: 1, from: 0, bits: [0; 4] }.encode()), op::PROCESSED),
        (
            delivery(op::PROCESSED, Ack { session: theirs, upto: 2, from: 0, bits: [0; 4] }.encode()),
            op::PROCESSED,
        ),
        (
            delivery(op::PROCESSED, Ack { session: theirs, upto: 0, from: u64::MAX, bits: [!0; 4] }.encode()),
            op::PROCESSED,
        ),
    ];
    for (number, (packet, op)) in (1..).zip(bad) {
        push(packet);
        assert!(matches!(other.try_recv(), Err(Error::RingEmpty)), "{packet:?}");
        let counted = other.stats().side(other.role()).refused_with(ErrorCode::BadFrame);
        assert_eq!(counted, number, "{packet:?}");
        assert!(matches!(one.try_recv(), Err(Error::RingEmpty)));
        let heard = one.wire_error().unwrap();
        assert_eq!((heard.code, heard.op), (ErrorCode::BadFrame.number(), op), "{packet:?}");
    }
    // A frame that comes twice is a duplicate, which is no fault.
    push(frame(8, 1));
    assert!(matches!(other.try_recv(), Err(Error::RingEmpty)));
    assert_eq!(other.deliveries().unwrap().inbox.duplicates, 1);
    // Buffers of refused frames come home.
    for _ in 0..100 {
        let region = one.link.core().region();
        region.send_bytes(&[0; 100], |_| ()).unwrap();
        assert!(matches!(other.try_recv(), Err(Error::RingEmpty)));
        let _ = one.try_recv();
    }
    assert_eq!(one.stats().directions.map(|direction| direction.buffers_free), [16, 16]);
    one.send(b"still").unwrap();
    assert_eq!(&*other.recv().unwrap(), b"still");
    other.acknowledge(receipt).unwrap();
    other.flush_acknowledgements();
    one.link.core().demux(0).pump(Stop::Lap).unwrap();
    assert_eq!(kept(&one), 1);
}

#[test]
fn without_an_agreement_its_packets_are_refused() {
    let plain = AdvancedOptions::new().capability(Capabilities::LOW_LATENCY);
    let (one, other) = agree(StandardLink::pair_with(options()).unwrap(), &plain, &plain);
    for op in [op::RESUME, op::START, op::PROCESSED] {
        one.link.core().region().send_packet(&Packet::new(op, [1, 1]), |_| ()).unwrap();
        assert!(matches!(other.try_recv(), Err(Error::RingEmpty)));
        assert!(matches!(one.try_recv(), Err(Error::RingEmpty)));
        assert_eq!(one.wire_error().unwrap().op, op);
    }
    assert_eq!(other.stats().side(other.role()).refused_with(ErrorCode::InvalidOp), 3);
    one.send(b"plain").unwrap();
    let message = other.recv().unwrap();
    assert_eq!((message.receipt(), other.deliveries(), other.position()), (None, None, None));
    message.acknowledge().unwrap();
    one.wait_acknowledged(Duration::ZERO).unwrap();
}

#[test]
fn it_is_required_unless_it_is_optional() {
    let plain =
        AdvancedOptions::new().capability(Capabilities::LOW_LATENCY | Capabilities::RELIABLE_DELIVERY);
    let needs = wants(keeps(8)).capability(Capabilities::LOW_LATENCY);
    let reliable = Capabilities::RELIABLE_DELIVERY;
    for first in [true, false] {
        let wanted = if first { [&needs, &plain] } else { [&plain, &needs] };
        let made = try_agree(StandardLink::pair().unwrap(), wanted[0], wanted[1]);
        let (failed, other) = if first { made } else { (made.1, made.0) };
        let error = failed.unwrap_err();
        let Error::NotAgreed { missing, incapable, .. } = error else { panic!("{error:?}") };
        assert!(
            missing.is_empty() && incapable == reliable && error.to_string().contains("reliable delivery")
        );
        drop(other);
    }
    let may = wants(keeps(8).optional()).capability(Capabilities::LOW_LATENCY);
    let (one, other) = agree(StandardLink::pair().unwrap(), &may, &plain);
    assert_eq!(one.agreement().capabilities, Capabilities::LOW_LATENCY);
    one.send(b"as it is").unwrap();
    assert_eq!(&*other.recv().unwrap(), b"as it is");
    other.send(b"back").unwrap();
    assert_eq!(one.recv().unwrap().receipt(), None);
    let (one, _other) = agree(StandardLink::pair().unwrap(), &may, &needs);
    assert_eq!((one.agreement().capabilities & reliable, one.agreement().terms.kept), (reliable, 8));
}

#[cfg(feature = "encrypt")]
mod sealed {
    use std::sync::{Arc, Mutex};

    use super::*;
    use hqq_features::encrypt::Key;

    /// A sealed frame belongs to its sequence.
    #[test]
    fn nobody_can_give_a_frame_another_number() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let options = options().trace(move |event| {
            if event.sent && event.packet.op == op::INLINE_COPY {
                log.lock().unwrap().push(event.packet);
            }
        });
        let wanted = wants(keeps(8)).encryption(Key::shared([7; 32]));
        let (one, other) = agree(StandardLink::pair_with(options).unwrap(), &wanted, &wanted);
        one.send(b"").unwrap();
        let mut packet = seen.lock().unwrap()[0];
        assert_eq!(packet.operands[1], 1);
        // In the place of the true one, which never comes: it is no repetition.
        let region = one.link.core().region();
        region.retract(Packet::is_plain, |_| None).unwrap();
        packet.operands[1] = 2;
        region.send_packet(&packet, |_| ()).unwrap();
        assert!(matches!(other.recv(), Err(Error::Frame { layer: "encryption", .. })));
        assert_eq!(other.stats().side(other.role()).refused_with(ErrorCode::BadFrame), 1);
        // The one that it is in the place of comes too late; others do not.
        one.send(b"second").unwrap();
        one.send(b"third").unwrap();
        assert_eq!(&*other.recv().unwrap(), b"third");
    }
}

/// A link of which one end lives on, and callers for the other.
struct House {
    listener: Listener,
    link: AdvancedLink,
}

impl House {
    fn new(name: &str, ours: &AdvancedOptions, theirs: &AdvancedOptions) -> (Self, AdvancedLink) {
        let name = format!("{name}-{}", std::process::id());
        let listener = Listener::bind_with(&name, options().reattachable(true)).unwrap();
        let ends = thread::scope(|scope| {
            let caller = scope.spawn(|| StandardLink::connect(&name).unwrap());
            (listener.accept_timeout(SOON).unwrap(), caller.join().unwrap())
        });
        let (link, other) = agree(ends, ours, theirs);
        (Self { listener, link }, other)
    }

    /// Another peer; what becomes of the two ends.
    fn next(&mut self, wanted: AdvancedOptions) -> (Result<()>, Result<AdvancedLink>) {
        let name = self.listener.name().to_owned();
        let (said, made) = channel();
        let caller = thread::spawn(move || {
            let link = StandardLink::connect_timeout(&name, SOON).unwrap();
            let _ = said.send(AdvancedLink::wait_for_negotiation(link, &wanted, SOON));
        });
        let reattached = self.link.reattach(&self.listener, SOON);
        caller.join().unwrap();
        (reattached, made.recv().unwrap())
    }

    fn gone(&self) {
        assert!(matches!(self.link.recv_timeout(SOON), Err(Error::Closed)));
    }
}

#[test]
fn what_is_not_acknowledged_comes_to_the_next() {
    let wanted = wants(lazy(32));
    let (mut house, first) = House::new("next", &wanted, &wanted);
    for number in 1..=6u8 {
        house.link.send(&[number; 100]).unwrap();
    }
    let receipts: Vec<Receipt> = (0..4).map(|_| first.recv().unwrap().receipt().unwrap()).collect();
    first.acknowledge(receipts[1]).unwrap();
    first.flush_acknowledgements();
    // Known to its own record alone: the link does not hear of it.
    let record = Position { session: receipts[0].session, upto: 0 };
    for text in [&b"received"[..], b"left by the first", &[5; 300]] {
        first.send(text).unwrap();
    }
    let void = house.link.recv().unwrap().receipt().unwrap();
    drop(first);
    // Wait the end is noticed.
    while house.link.send(b"nobody").is_ok() {}

    let (made, second) = house.next(wants(lazy(32).resume(record, [2, 4])));
    made.unwrap();
    let second = second.unwrap();
    // Nobody is told of that one any more.
    house.link.acknowledge(void).unwrap();
    house.link.flush_acknowledgements();
    for sequence in [1, 3, 5, 6] {
        let message = second.recv().unwrap();
        assert_eq!((&*message, message.receipt().unwrap().sequence), (&[sequence as u8; 100][..], sequence));
        message.acknowledge().unwrap();
    }
    second.flush_acknowledgements();
    // What the former has sent comes first, and acknowledging it is no error.
    let old = house.link.recv().unwrap();
    assert_eq!(&*old, b"left by the first");
    second.send(b"from the second").unwrap();
    assert!(house.link.drive().unwrap());
    old.acknowledge().unwrap();
    let old = house.link.try_recv().unwrap();
    assert_eq!(*old, [5; 300]);
    old.acknowledge().unwrap();
    let new = house.link.recv().unwrap();
    assert_eq!(&*new, b"from the second");
    new.acknowledge().unwrap();
    house.link.flush_acknowledgements();
    second.wait_acknowledged(SOON).unwrap();
    house.link.send(&[9; 10]).unwrap();
    let mut last = second.recv().unwrap();
    while &*last == b"nobody" {
        last = second.recv().unwrap();
    }
    assert_eq!(*last, [9; 10]);
    assert_eq!(house.link.stats().sides.map(|side| side.refused_total()), [0, 0]);
    assert!(house.link.deliveries().unwrap().store.resent > 0);
}

#[test]
fn a_newcomer_must_agree_to_the_same() {
    let plain = AdvancedOptions::new().capability(Capabilities::LOW_LATENCY);
    let (mut house, first) = House::new("same", &wants(keeps(32)), &wants(keeps(16)));
    house.link.send(b"kept").unwrap();
    drop(first);
    house.gone();
    for wanted in [plain, wants(keeps(8)), wants(keeps(8).optional())] {
        let (made, other) = house.next(wanted);
        let error = made.unwrap_err();
        let Error::NotAgreed { incapable, .. } = error else { panic!("{error:?}") };
        assert_eq!(incapable, Capabilities::RELIABLE_DELIVERY);
        // Nothing goes out in another form, and nothing else is taken for a message.
        if let Ok(other) = other {
            assert!(house.link.send(b"lost").is_err_and(|error| error.is_end()));
            // Not even if it looks like one.
            let _ = other.send(b"\x01\0\0\0\0\0\0\0plain");
            assert!(house.link.try_recv().is_err_and(|error| error.is_end()));
            // It does not wait for what never comes.
            assert!(other.recv().is_err_and(|error| error.is_end()));
            drop(other);
        }
        house.gone();
        assert_eq!(kept(&house.link), 1);
    }
    let (made, other) = house.next(wants(keeps(100)));
    made.unwrap();
    let other = other.unwrap();
    assert_eq!(house.link.agreement().terms.kept, 16);
    assert_eq!(&*other.recv().unwrap(), b"kept");
    // The living keep their place.
    assert!(matches!(house.link.reattach(&house.listener, SOON), Err(Error::Unsupported { .. })));
    house.link.send(b"more").unwrap();
    assert_eq!(&*other.recv().unwrap(), b"more");
}

#[test]
fn only_a_link_that_keeps_its_messages_goes_on() {
    let wanted = AdvancedOptions::new().capability(Capabilities::LOW_LATENCY);
    let (mut house, first) = House::new("plain", &wanted, &wanted);
    drop(first);
    assert!(matches!(house.link.reattach(&house.listener, SOON), Err(Error::Unsupported { .. })));
}

/// A sender's life does not end while it is attached: or else what it sends could be counted anew for ever.
#[test]
fn another_session_is_refused_until_another_peer_comes() {
    let (one, other) = agree(StandardLink::pair_with(options()).unwrap(), &wants(keeps(8)), &wants(keeps(8)));
    one.send(b"first").unwrap();
    assert_eq!(&*other.recv().unwrap(), b"first");
    let mut demux = other.link.core().demux(0);
    for session in 1..20u64 {
        let operands = [session, 1, session % 2, 0, 0, 0, 0];
        demux.control(other.link.core().context(), Operation::Delivery { op: op::START, operands });
    }
    drop(demux);
    assert_eq!(other.stats().side(other.role()).refused_with(ErrorCode::BadFrame), 19);
    one.send(b"second").unwrap();
    assert_eq!(&*other.recv().unwrap(), b"second");
}

/// Acknowledgements come by the direction that the peer has closed.
#[test]
fn a_full_store_does_not_wait_for_who_says_no_more() {
    let (one, other) = agree(StandardLink::pair_with(options()).unwrap(), &wants(keeps(2)), &wants(keeps(2)));
    one.send(b"1").unwrap();
    one.send(b"2").unwrap();
    assert!(matches!(one.try_send(b"3"), Err(Error::StoreFull { .. })));
    other.shutdown(Shutdown::Write);
    assert!(one.send(b"3").unwrap_err().is_end());
}

/// Calls that pass a message on acknowledge it.
#[test]
fn what_was_passed_on_is_acknowledged() {
    use std::io::Read;

    let (one, mut other) =
        agree(StandardLink::pair_with(options()).unwrap(), &wants(keeps(8)), &wants(keeps(8)));
    let count = |other: &AdvancedLink| other.deliveries().unwrap().inbox.acknowledged;
    for _ in 0..6 {
        one.send(b"abc").unwrap();
    }
    other.recv_with(|_| ()).unwrap();
    other.recv_with(|_| ()).unwrap();
    other.recv_each(1, |_| ()).unwrap();
    other.recv_into(&mut [0; 8]).unwrap();
    assert_eq!(count(&other), 4);
    let mut bytes = [0; 2];
    other.read_exact(&mut bytes).unwrap();
    assert_eq!(count(&other), 4, "it is being read");
    let mut bytes = [0; 4];
    other.read_exact(&mut bytes).unwrap();
    assert_eq!(count(&other), 5);
    one.shutdown(Shutdown::Write);
    assert_eq!(other.read(&mut bytes).unwrap(), 0);
    assert_eq!(count(&other), 6);
}

/// What is due when the rings are emptied for a successor is not for the successor.
#[test]
fn nothing_is_sent_into_a_ring_that_is_made_ready_for_a_successor() {
    let clock = Clock::new();
    let wanted = wants(keeps(100).acknowledge_every(30).acknowledge_within(Duration::from_millis(5)));
    let ends = StandardLink::pair_with(options().clock(&clock).reattachable(true)).unwrap();
    let (one, other) = agree(ends, &wanted, &wanted);
    other.send(b"acknowledged, and the peer is not told yet").unwrap();
    one.try_recv().unwrap().acknowledge().unwrap();
    let core = one.link.core();
    // The peer has left its seat; its socket is still open.
    assert!(core.region().vacate_dead(core.parts().peer_seat).unwrap());
    clock.advance(Duration::from_millis(6));
    let before = core.region().sent_so_far();
    core.make_vacant().unwrap();
    assert_eq!(core.region().sent_so_far(), before);
}
