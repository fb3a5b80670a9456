// unsafe: regions lie on memory that the test brings, and some of its words are stored by a hostile hand.
//! The core on memory of the caller: two ends of one region, refused packets, the bytes of the layout, and what `attach`
//! returns for memory that is not a region.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use hqq::shm::buffer::Buffer;
use hqq::shm::endpoint::{Incoming, Payload, SlotBytes};
use hqq::shm::layout::{Geometry, Modes, RingMode, required_bytes, required_scratch};
use hqq::shm::packet::{CloseHow, ConnCopy, NO_BUFFER, Operation, Packet, op};
use hqq::shm::recover::Recovered;
use hqq::shm::region::{Region, Setup, Views};
use hqq::shm::sleepers::Sleepers;
use hqq::shm::words::{FORMAT, Holder, MAGIC, READY, Role, SEATS, Want};
use hqq::{Error, ErrorCode};

const PAGE: u64 = 4096;
/// Two laps before the wrap.
const LATE: u64 = (1 << 39) - 2;

#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u8; PAGE as usize]);

/// Memory for a region, on pages.
struct Memory(Vec<Page>);

impl Memory {
    fn new(len: u64) -> Self {
        Self(vec![Page([0xA5; PAGE as usize]); len.div_ceil(PAGE) as usize])
    }

    fn base(&mut self) -> NonNull<u8> {
        NonNull::new(self.0.as_mut_ptr().cast()).unwrap()
    }

    fn len(&self) -> u64 {
        self.0.len() as u64 * PAGE
    }

    /// The word at `offset`; no region is attached meanwhile.
    fn word(&mut self, offset: usize) -> &mut u64 {
        assert!(offset % 8 == 0 && offset as u64 + 8 <= self.len());
        // SAFETY: aligned and inside the memory, borrowed mutably.
        unsafe { &mut *self.base().as_ptr().add(offset).cast() }
    }
}

fn setup(geometry: Geometry, ring: RingMode, first_lap: u64) -> Setup<'static> {
    let modes = Modes { ring, ..Modes::default() };
    Setup { geometry, modes, page: PAGE, epoch: 0x0123_4567_89AB_CDEF, first_lap, name: "golden" }
}

/// Hands two ends of a fresh region to `test`.
fn with_pair(setup: &Setup<'_>, test: impl FnOnce(&mut Region<'_>, &mut Region<'_>)) {
    let len = required_bytes(&setup.geometry, PAGE).unwrap();
    let mut memory = Memory::new(len);
    let words = required_scratch(&setup.geometry);
    let (mut ours, mut theirs) = (vec![9; words], vec![9; words]);
    // SAFETY: the memory outlives both ends, and only they touch it.
    let (mut primary, mut secondary) = unsafe {
        (
            Region::init(memory.base(), len, setup, &mut ours).unwrap(),
            Region::attach(memory.base(), len, PAGE, Role::Secondary, &mut theirs).unwrap(),
        )
    };
    test(&mut primary, &mut secondary);
}

fn small() -> Geometry {
    Geometry::new(4, 4, 64).unwrap()
}

fn next<'a>(region: &Region<'a>) -> Incoming<'a> {
    region.receive(|_| true, |_| {}).unwrap()
}

/// The next message, given back.
fn bytes(region: &Region<'_>) -> Vec<u8> {
    match next(region) {
        Incoming::Message(payload, _) => {
            let bytes = match &payload {
                Payload::Slot(inline) => inline.bytes().to_vec(),
                Payload::Pool(buffer) => buffer.bytes().to_vec(),
            };
            assert_eq!((payload.len(), payload.is_empty()), (bytes.len(), bytes.is_empty()));
            region.give_message(payload);
            bytes
        }
        other => panic!("{other:?}"),
    }
}

fn refused(region: &Region<'_>) -> (ErrorCode, u64, u8) {
    match next(region) {
        Incoming::Refused(fault) => (fault.code, fault.context, fault.op),
        other => panic!("{other:?}"),
    }
}

fn filled<'a>(region: &Region<'a>, len: usize, byte: u8) -> Buffer<'a> {
    let mut loan = region.loan(len).unwrap();
    loan.bytes_mut().fill(byte);
    loan
}

/// Takes all buffers of `region`'s own pool at once, which needs each of them to be at home.
fn is_whole(region: &Region<'_>) {
    let loan = region.loan(3 * 64 + 64).unwrap();
    assert_eq!(loan.run().count, 4);
    region.give(loan);
}

#[test]
fn the_short_way_refuses_what_the_long_one_does() {
    with_pair(&setup(small(), RingMode::Mpmc, 0), |primary, secondary| refuse_and_give(primary, secondary));
}

fn refuse_and_give(primary: &Region<'_>, secondary: &Region<'_>) {
    for (packet, code) in [
        (Packet::new(op::STANDARD_LINK_COPY, [1, 4, 60]), ErrorCode::BufferOverflow),
        (Packet::new(op::STANDARD_LINK_COPY, [1, u64::MAX - 1, 60]), ErrorCode::BufferOverflow),
        (Packet::new(op::STANDARD_LINK_COPY, [1, 0, 65]), ErrorCode::BufferOverflow),
        (Packet::new(op::STANDARD_LINK_COPY, [1, 3, 65, 2]), ErrorCode::BufferOverflow),
        (Packet::new(op::STANDARD_LINK_COPY, [1, 0, 0]), ErrorCode::InvalidSize),
        (Packet::new(op::INLINE_COPY, [49 << 56 | 1]), ErrorCode::InvalidSize),
    ] {
        primary.send_packet(&packet, |_| {}).unwrap();
        let (mut message, mut refused) = (None, None);
        assert!(secondary.receive_plain(&mut message, |fault| refused = Some(fault.code)).is_none());
        assert!(message.is_none(), "{packet:?}");
        assert_eq!(refused, Some(code), "{packet:?}");
    }
    // A short message in a run gives all of it back, and an empty one needs no buffer.
    for len in [10, 0] {
        let mut loan = primary.loan(4 * 64).unwrap();
        loan.truncate(len);
        primary.send(loan, |_| {}).map_err(|(error, _)| error).unwrap();
        let mut message = None;
        assert!(secondary.receive_plain(&mut message, |fault| panic!("{fault:?}")).is_some());
        let message = message.unwrap();
        assert_eq!(message.len(), len);
        secondary.give_message(message);
    }
    let whole = primary.loan(4 * 64).expect("all buffers are home");
    primary.give(whole);
}

#[test]
fn every_length_of_a_small_message_is_gathered_whole() {
    let bytes: Vec<u8> = (1..=64).collect();
    for len in 0..=48 {
        for start in 0..8 {
            let message = &bytes[start..start + len];
            assert_eq!(SlotBytes::of(message).bytes(), message, "{len} bytes from {start}");
        }
    }
    assert!(catch_unwind(|| SlotBytes::of(&bytes[..49])).is_err());
}

#[test]
fn messages_of_every_length_go_both_ways_in_every_mode() {
    for ring in [RingMode::Mpmc, RingMode::Spsc, RingMode::Mpsc, RingMode::Spmc] {
        with_pair(&setup(small(), ring, LATE), |primary, secondary| {
            assert_eq!((primary.role(), secondary.role()), (Role::Primary, Role::Secondary));
            assert_eq!((primary.holder(), secondary.holder()), (Holder::new(0, 1), Holder::new(1, 1)));
            for len in 0..=256usize {
                let message: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
                for (from, to) in [(&*primary, &*secondary), (&*secondary, &*primary)] {
                    from.send_bytes(&message, |packet| {
                        let inline = packet.op == op::INLINE_COPY;
                        assert_eq!(inline, len <= 48, "short messages ride in the slot");
                    })
                    .unwrap();
                    assert_eq!(bytes(to), message);
                    assert!(matches!(next(to), Incoming::Empty));
                }
            }
            is_whole(primary);
            is_whole(secondary);
        });
    }
}

#[test]
fn loans_are_cut_sent_empty_or_dropped() {
    with_pair(&setup(small(), RingMode::Mpmc, 0), |primary, secondary| {
        let mut loan = filled(primary, 200, 3);
        assert_eq!((loan.run().count, loan.capacity(), loan.direction()), (4, 256, 0));
        loan.truncate(10);
        primary.send(loan, |_| {}).unwrap();
        // The run travels whole, however little it carries.
        match primary.loan(1) {
            Err(Error::PoolExhausted { wanted: 1, .. }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(bytes(secondary), [3; 10]);
        is_whole(primary);
        let mut loan = primary.loan(70).unwrap();
        loan.truncate(0);
        let mut seen = None;
        primary.send(loan, |packet| seen = Some(*packet)).unwrap();
        assert_eq!(seen, Some(Packet::new(op::STANDARD_LINK_COPY, [2, NO_BUFFER, 0])));
        is_whole(primary);
        assert_eq!(bytes(secondary), []);
        primary.give(primary.loan(256).unwrap());
        is_whole(primary);
    });
}

#[test]
fn what_does_not_fit_comes_back() {
    with_pair(&setup(small(), RingMode::Mpmc, 0), |primary, secondary| {
        match primary.loan(257) {
            Err(Error::TooLarge { len: 257, limit: 256 }) => {}
            other => panic!("{other:?}"),
        }
        let (first, second) = (filled(primary, 64, 1), filled(primary, 64, 2));
        let third = filled(primary, 64, 3);
        primary.give(second);
        match primary.loan(128) {
            Err(Error::PoolFragmented { wanted: 2, longest: 1 }) => {}
            other => panic!("{other:?}"),
        }
        match primary.loan(192) {
            Err(Error::PoolExhausted { wanted: 3, free: 2 }) => {}
            other => panic!("{other:?}"),
        }
        primary.give(third);
        (0..4).for_each(|i| primary.send_inline(&SlotBytes::zeroed(i), |_| {}).unwrap());
        let (error, first) = primary.send(first, |_| panic!("not sent")).unwrap_err();
        assert!(matches!(error, Error::RingFull { slots: 4 }), "{error:?}");
        assert_eq!(first.bytes(), [1; 64], "the loan comes back as it was");
        assert!(matches!(primary.send_bytes(&[0; 100], |_| {}), Err(Error::RingFull { slots: 4 })));
        (0..4).for_each(|i| assert_eq!(bytes(secondary).len(), i));
        primary.send(first, |_| {}).unwrap();
        assert_eq!(bytes(secondary), [1; 64]);
        is_whole(primary);
    });
}

#[test]
fn copy_ids_count_messages_from_one() {
    for first_lap in [0, LATE] {
        with_pair(&setup(small(), RingMode::Mpmc, first_lap), |primary, secondary| {
            for want in 1..=40u64 {
                let len = if want % 2 == 0 { 5 } else { 60 };
                let mut id = 0;
                let seen = |packet: &Packet| id = packet.operands[0] << 8 >> 8;
                primary.send_bytes(&vec![0; len], seen).unwrap();
                assert_eq!(id, want);
                assert_eq!(bytes(secondary).len(), len);
            }
        });
    }
}

#[test]
fn chunks_of_a_connection_carry_their_copy() {
    with_pair(&setup(small(), RingMode::Mpmc, 0), |primary, secondary| {
        let chunk = |copy_id, transfer_size, transfer_offset| ConnCopy {
            conn: 7,
            copy_id,
            copy_size: 100,
            transfer_size,
            transfer_offset,
            run: None,
        };
        let id = primary.send_chunk(&chunk(0, 60, 0), Some(filled(primary, 60, 1)), |_| {}).unwrap();
        let again = primary.send_chunk(&chunk(id, 40, 60), Some(filled(primary, 40, 2)), |_| {}).unwrap();
        assert_eq!(id, again);
        for (offset, len, byte) in [(0, 60, 1), (60, 40, 2)] {
            let Incoming::ConnData(copy, Some(buffer)) = next(secondary) else { panic!() };
            assert_eq!((copy.conn, copy.copy_id, copy.copy_size), (7, id, 100));
            assert_eq!((copy.transfer_offset, copy.transfer_size), (offset, len));
            assert_eq!(buffer.bytes(), vec![byte; len as usize]);
            secondary.give(buffer);
        }
        let empty = ConnCopy { copy_size: 0, ..chunk(0, 0, 0) };
        primary.send_chunk(&empty, None, |_| {}).unwrap();
        assert!(matches!(next(secondary), Incoming::ConnData(copy, None) if copy.copy_size == 0));
        is_whole(primary);
    });
}

#[test]
fn control_packets_pass_and_unwanted_ones_stay() {
    with_pair(&setup(small(), RingMode::Mpmc, 0), |primary, secondary| {
        primary.send_packet(&Packet::new(op::CONN_CLOSE, [5, 1]), |_| {}).unwrap();
        for _ in 0..2 {
            let other = secondary.receive(Packet::is_plain, |_| panic!("not taken")).unwrap();
            assert!(matches!(other, Incoming::Other(op::CONN_CLOSE)));
        }
        let want = Operation::ConnClose { conn: 5, how: CloseHow::Write };
        assert!(matches!(next(secondary), Incoming::Control(found) if found == want));
        let error = Packet::error(9, ErrorCode::ConnNotFound, op::CONN_COPY);
        primary.send_packet(&error, |_| {}).unwrap();
        let want = Operation::Error { context: 9, code: 5, failed: op::CONN_COPY };
        assert!(matches!(next(secondary), Incoming::Control(found) if found == want));
    });
}

/// Every code that a check gives, each by a packet that a hostile or broken peer sends; the ring goes on.
#[test]
fn bad_packets_are_refused_with_their_code() {
    use ErrorCode::*;
    with_pair(&setup(small(), RingMode::Mpmc, LATE), |primary, secondary| {
        secondary.limit_messages(200);
        for (packet, code, context) in [
            (Packet::new(0x7E, [3]), InvalidOp, 3),
            (Packet::new(op::CONN_CLOSE, [4, 9]), InvalidOp, 4),
            (Packet::new(op::INLINE_COPY, [200 << 56 | 5]), InvalidSize, 5),
            (Packet::new(op::STANDARD_LINK_COPY, [6, NO_BUFFER, 8]), InvalidSize, 6),
            (Packet::new(op::STANDARD_LINK_COPY, [6, 0, 0]), InvalidSize, 6),
            (Packet::new(op::STANDARD_LINK_COPY, [7, 4, 8]), BufferOverflow, 7),
            (Packet::new(op::STANDARD_LINK_COPY, [7, 0, 65]), BufferOverflow, 7),
            (Packet::new(op::STANDARD_LINK_COPY, [7, 2, 100, 3]), BufferOverflow, 7),
            (Packet::new(op::STANDARD_LINK_COPY, [8, 0, 201, 4]), MemorySmall, 8),
            (Packet::new(op::CONN_COPY, [9, 1, 8, 8, 0, 8, 32]), MemoryAlign, 9),
            (Packet::new(op::CONN_COPY, [9, 1, 8, 9, 0, 16, 0]), InvalidSize, 9),
            (Packet::new(op::CONN_COPY, [9, 1, 8, 8, 0, 8, 256]), BufferOverflow, 9),
            (Packet::new(op::CONN_COPY, [9, 1, 300, 8, 0, 8, 0]), MemorySmall, 9),
        ] {
            primary.send_packet(&packet, |_| {}).unwrap();
            assert_eq!(refused(secondary), (code, context, packet.op), "{packet:?}");
            primary.send_bytes(b"still here", |_| {}).unwrap();
            assert_eq!(bytes(secondary), b"still here");
        }
    });
}

#[test]
fn a_message_over_the_receivers_limit_leaks_nothing() {
    with_pair(&setup(small(), RingMode::Mpmc, 0), |primary, secondary| {
        secondary.limit_messages(100);
        for len in [101, 200, 256] {
            primary.send_bytes(&vec![1; len], |_| {}).unwrap();
            assert_eq!(refused(secondary).0, ErrorCode::MemorySmall);
            is_whole(primary);
        }
    });
}

#[test]
fn a_buffer_that_is_held_cannot_be_sent_again() {
    with_pair(&setup(small(), RingMode::Mpmc, 0), |primary, secondary| {
        primary.send_bytes(&[4; 64], |_| {}).unwrap();
        let Incoming::Message(Payload::Pool(held), _) = next(secondary) else { panic!() };
        let first = u64::from(held.run().first);
        primary.send_packet(&Packet::new(op::STANDARD_LINK_COPY, [9, first, 64]), |_| {}).unwrap();
        assert_eq!(refused(secondary), (ErrorCode::BufferOverflow, 9, op::STANDARD_LINK_COPY));
        assert_eq!(held.bytes(), [4; 64]);
        secondary.give(held);
        is_whole(primary);
    });
}

#[test]
fn buffers_of_another_region_are_turned_away() {
    type Use = for<'a> fn(&Region<'a>, Buffer<'a>);
    let chunk: Use = |region, buffer| {
        let sizes =
            ConnCopy { conn: 1, copy_id: 0, copy_size: 64, transfer_size: 64, transfer_offset: 0, run: None };
        drop(region.send_chunk(&sizes, Some(buffer), |_| {}));
    };
    let uses: [Use; 3] = [|r, buffer| r.give(buffer), |r, buffer| drop(r.send(buffer, |_| {})), chunk];
    with_pair(&setup(small(), RingMode::Mpmc, 0), |ours, peer| {
        let kept = filled(ours, 64, 1);
        for misuse in uses {
            with_pair(&setup(small(), RingMode::Mpmc, 0), |other, _| {
                // The same run in both: whoever took one for the other would hand it out twice.
                let foreign = filled(other, 64, 2);
                assert_eq!(foreign.run(), kept.run());
                let done = catch_unwind(AssertUnwindSafe(|| misuse(ours, foreign)));
                assert!(done.is_err(), "the caller's error");
            });
        }
        assert!(matches!(next(peer), Incoming::Empty), "nothing was sent");
        let rest: Vec<_> = (0..3).map(|_| filled(ours, 64, 3)).collect();
        assert!(ours.loan(64).is_err(), "all are lent");
        rest.into_iter().chain([kept]).for_each(|buffer| ours.give(buffer));
        is_whole(ours);
    });
}

#[test]
fn positions_are_kept_by_a_second_attach() {
    let setup = setup(small(), RingMode::Mpmc, LATE);
    let mut memory = Memory::new(required_bytes(&setup.geometry, PAGE).unwrap());
    let (base, len) = (memory.base(), memory.len());
    let words = required_scratch(&setup.geometry);
    let mut scratch = vec![vec![0; words]; 3];
    let [a, b, c] = &mut scratch[..] else { panic!() };
    // SAFETY: the memory outlives the ends, and only they touch it.
    let (primary, dead) = unsafe {
        let primary = Region::init(base, len, &setup, a).unwrap();
        (primary, Region::attach(base, len, PAGE, Role::Secondary, b).unwrap())
    };
    for i in 0..13u8 {
        primary.send_bytes(&[i; 60], |_| {}).unwrap();
        assert_eq!(bytes(&dead), [i; 60]);
    }
    (0..3u8).for_each(|i| primary.send_bytes(&[i; 60], |_| {}).unwrap());
    let Incoming::Message(Payload::Pool(_held), _) = next(&dead) else { panic!() };
    // SAFETY: as above; the dead end makes no more calls.
    let (heir, done) = unsafe {
        let heir = Region::attach(base, len, PAGE, Role::Secondary, c).unwrap();
        (heir, primary.recover(dead.holder(), &mut [0; 4]).unwrap())
    };
    assert_eq!((done.buffers, done.returned, done.tombstones), (1, 0, 0));
    assert_eq!(heir.holder(), Holder::new(2, 1));
    assert_eq!((bytes(&heir), bytes(&heir)), (vec![1; 60], vec![2; 60]));
    assert!(matches!(next(&heir), Incoming::Empty));
    is_whole(&primary);
    heir.send_bytes(b"in turn", |_| {}).unwrap();
    assert_eq!(bytes(&primary), b"in turn");
}

#[test]
fn seats_change_hands() {
    let setup = setup(small(), RingMode::Mpmc, 0);
    let len = required_bytes(&setup.geometry, PAGE).unwrap();
    let mut memory = Memory::new(len);
    let base = memory.base();
    let words = required_scratch(&setup.geometry);
    let mut scratch = vec![vec![0; words]; 3];
    let [a, b, c] = &mut scratch[..] else { panic!() };
    // SAFETY: the memory outlives the ends, and only they touch it.
    let (primary, other) = unsafe {
        let primary = Region::init(base, len, &setup, a).unwrap();
        (primary, Region::attach(base, len, PAGE, Role::Primary, b).unwrap())
    };
    let mut named = [0; 4];
    for generation in (1..32).chain(1..4) {
        primary.send_bytes(&[generation; 60], |_| {}).unwrap();
        // SAFETY: as above; the end that was there before makes no more calls.
        let guest = unsafe { Region::attach(base, len, PAGE, Role::Secondary, c) }.unwrap();
        let holder = guest.holder();
        assert_eq!(holder, Holder::new(2, generation));
        assert_eq!(bytes(&guest), [generation; 60]);
        let held = guest.loan(8).unwrap();
        if generation % 2 == 0 {
            guest.give(held);
            // What is kept ready is nothing to stay for.
            guest.prepare();
            assert!(guest.leave().unwrap());
        } else {
            assert!(!guest.leave().unwrap(), "a loan is out");
            // SAFETY: the guest makes no more calls, as if it were dead.
            unsafe {
                // Both recover; only one need, and the seat is given up but once.
                let done = [&primary, &other].map(|end| end.recover(holder, &mut named).unwrap().buffers);
                assert_eq!(done, [1, 0]);
                assert!(other.vacate(holder).unwrap() && primary.vacate(holder).unwrap());
                assert_eq!(primary.recover(holder, &mut named).unwrap(), Recovered::default());
            }
        }
        is_whole(&primary);
    }
    assert!(other.leave().unwrap());
}

#[test]
#[should_panic(expected = "nobody recovers itself")]
fn an_end_does_not_recover_itself() {
    with_pair(&setup(small(), RingMode::Mpmc, 0), |primary, _| {
        // SAFETY: not so, and refused.
        let _ = unsafe { primary.recover(primary.holder(), &mut [0; 4]) };
    });
}

#[test]
fn a_recovery_wakes_both_sides() {
    let setup = setup(small(), RingMode::Mpmc, 0);
    let len = required_bytes(&setup.geometry, PAGE).unwrap();
    let mut memory = Memory::new(len);
    let base = memory.base();
    let mut scratch = vec![vec![0; required_scratch(&setup.geometry)]; 3];
    let [a, b, c] = &mut scratch[..] else { panic!() };
    // SAFETY: the memory outlives the ends, and only they touch it.
    let (primary, other, secondary, views) = unsafe {
        let primary = Region::init(base, len, &setup, a).unwrap();
        let other = Region::attach(base, len, PAGE, Role::Primary, b).unwrap();
        let secondary = Region::attach(base, len, PAGE, Role::Secondary, c).unwrap();
        (primary, other, secondary, Views::new(base, len, PAGE).unwrap())
    };
    let sides = &views.superblock().sides;
    Sleepers::new(&sides[0].sleepers).announce(other.holder().seat(), Want::Data);
    Sleepers::new(&sides[1].sleepers).announce(secondary.holder().seat(), Want::Space);
    assert_eq!(primary.wake_all(), 0b110);
    assert_eq!(primary.wake_all(), 0);
}

// ---- the bytes ----------------------------------------------------------------------------------

/// Lines of 16 bytes that are not all zero, with their offsets. Payload pages are left out.
fn hex(memory: &Memory) -> String {
    let mut text = String::new();
    let all: Vec<u8> = memory.0.iter().flat_map(|page| page.0).collect();
    for (index, line) in all.chunks(16).enumerate() {
        let payload = [2, 4].contains(&(index * 16 / PAGE as usize));
        if !payload && line.iter().any(|byte| *byte != 0) {
            write!(text, "{:05x}:", index * 16).unwrap();
            line.iter().for_each(|byte| write!(text, " {byte:02x}").unwrap());
            text.push('\n');
        }
    }
    text
}

/// The smallest region, fresh; and after an inline message, a message in the pool, and a packet the other way.
#[test]
fn the_bytes_of_a_region_do_not_change() {
    let setup = setup(Geometry::new(2, 2, 8).unwrap(), RingMode::Mpmc, 5);
    let len = required_bytes(&setup.geometry, PAGE).unwrap();
    assert_eq!(len, 5 * PAGE);
    let mut memory = Memory::new(len);
    // What no word covers keeps what was there: here zero, as in a new memfd.
    memory.0.iter_mut().for_each(|page| page.0.fill(0));
    let (mut ours, mut theirs) = (vec![0; 36], vec![0; 36]);
    assert_eq!(required_scratch(&setup.geometry), 36);
    // SAFETY: the memory outlives the end, and only it touches it.
    let primary = unsafe { Region::init(memory.base(), len, &setup, &mut ours) }.unwrap();
    assert_eq!(hex(&memory), include_str!("golden/region-2-2-8.hex"), "fresh");
    // SAFETY: as above.
    let secondary =
        unsafe { Region::attach(memory.base(), len, PAGE, Role::Secondary, &mut theirs) }.unwrap();
    primary.send_bytes(b"slot", |_| {}).unwrap();
    primary.send(filled(&primary, 8, 0xEE), |_| {}).unwrap();
    secondary.send_packet(&Packet::new(op::CONN_CREATE, [2]), |_| {}).unwrap();
    assert!(matches!(next(&primary), Incoming::Control(_)));
    assert_eq!(hex(&memory), include_str!("golden/region-2-2-8-used.hex"), "used");
}

// ---- what attach says ---------------------------------------------------------------------------

/// Attaches to a sound region with one word changed.
fn attach_after(offset: usize, value: u64) -> Error {
    let setup = setup(small(), RingMode::Mpmc, 3);
    let mut memory = Memory::new(required_bytes(&setup.geometry, PAGE).unwrap());
    let (base, len) = (memory.base(), memory.len());
    let mut scratch = vec![0; required_scratch(&setup.geometry)];
    // SAFETY: the memory outlives the end, and only it touches it.
    unsafe { Region::init(base, len, &setup, &mut scratch) }.unwrap();
    *memory.word(offset) = value;
    // SAFETY: as above.
    unsafe { Region::attach(base, len, PAGE, Role::Secondary, &mut scratch) }.expect_err("refused")
}

#[test]
fn corrupt_superblocks_are_refused_by_field() {
    assert!(matches!(attach_after(0x00, 7), Error::ForeignMagic { found: 7 }));
    assert!(matches!(attach_after(0x00, MAGIC.swap_bytes()), Error::ForeignMagic { .. }));
    assert!(matches!(attach_after(0x08, 2), Error::FormatVersion { found: 2, supported: FORMAT }));
    assert!(matches!(attach_after(0x10, 16384), Error::PageSize { found: 16384, ours: PAGE }));
    assert!(matches!(attach_after(0x18, 1), Error::Corrupt { what: "the region's length", found: 1 }));
    assert!(matches!(attach_after(0x20, 3), Error::Geometry { what: "slots", value: 3, .. }));
    assert!(matches!(attach_after(0x20, 1 << 33), Error::Geometry { what: "slots", .. }));
    assert!(matches!(attach_after(0x28, 0), Error::Geometry { what: "buffers", value: 0, .. }));
    assert!(matches!(attach_after(0x30, 12), Error::Geometry { what: "buffer_size", value: 12, .. }));
    assert!(matches!(attach_after(0x38, 65), Error::Corrupt { what: "the stride", found: 65 }));
    assert!(matches!(attach_after(0x40, 0), Error::Corrupt { what: "the modes", found: 0 }));
    assert!(matches!(attach_after(0x40, 1 << 63 | 1 << 5), Error::Corrupt { what: "the modes", .. }));
    assert!(matches!(attach_after(0x58, 0), Error::NotReady));
    assert!(matches!(attach_after(0x58, READY ^ 1), Error::NotReady));
    // A geometry that is sound in itself but another than the region's.
    assert!(matches!(attach_after(0x20, 8), Error::Corrupt { .. } | Error::TooSmallMemory { .. }));
    // A seat, and the first stamp of each ring.
    assert!(matches!(attach_after(0x240, 0), Error::Corrupt { what: "a seat", found: 0 }));
    assert!(matches!(attach_after(0x1000, 0), Error::Corrupt { what: "a ring stamp", found: 0 }));
    assert!(matches!(attach_after(0x3000, u64::MAX), Error::Corrupt { what: "a ring stamp", .. }));
}

/// No one word of the first page, whatever it holds, makes an attach panic or an end reach beyond the memory.
#[test]
fn no_word_of_the_superblock_can_mislead() {
    let setup = setup(small(), RingMode::Mpmc, 3);
    let mut memory = Memory::new(required_bytes(&setup.geometry, PAGE).unwrap());
    let (base, len) = (memory.base(), memory.len());
    let mut scratch = vec![0; required_scratch(&setup.geometry)];
    for offset in (0..0x600).step_by(8) {
        for value in [0, 1, 2, 4, 1 << 20, 1 << 40, u64::MAX, MAGIC, READY] {
            // SAFETY: the memory outlives the ends, and only they touch it.
            let attached = unsafe {
                Region::init(base, len, &setup, &mut scratch).unwrap();
                *memory.word(offset) = value;
                Region::attach(base, len, PAGE, Role::Secondary, &mut scratch)
            };
            if let Ok(region) = attached {
                assert!(region.layout().len <= len, "inside the memory");
                let _ = (region.send_bytes(b"hello", |_| {}), region.receive(|_| true, |_| {}));
            }
        }
    }
}

#[test]
fn unfit_memory_is_refused_with_its_numbers() {
    let setup = setup(small(), RingMode::Mpmc, 0);
    let need = required_bytes(&setup.geometry, PAGE).unwrap();
    let mut memory = Memory::new(need + PAGE);
    let base = memory.base();
    let words = required_scratch(&setup.geometry);
    let mut scratch = vec![0; words];
    // SAFETY: one page beyond the base is still inside.
    let odd = [8, 64, 2048].map(|offset| unsafe { base.add(offset) });
    for base in odd {
        // SAFETY: `need` bytes from here lie in the memory.
        let (made, joined) = unsafe {
            (
                Region::init(base, need, &setup, &mut scratch).expect_err("misaligned"),
                Region::attach(base, need, PAGE, Role::Secondary, &mut scratch).expect_err("no region"),
            )
        };
        let address = base.as_ptr() as u64;
        match made {
            Error::Misaligned { address: found, align: PAGE, .. } => assert_eq!(found, address),
            other => panic!("{other:?}"),
        }
        // Aligned to a line, it is first of all no region.
        assert!(matches!(joined, Error::Misaligned { .. } | Error::ForeignMagic { .. }), "{joined:?}");
    }
    // SAFETY: as above; the lengths are less than there is.
    unsafe {
        match Region::init(base, need - 1, &setup, &mut scratch) {
            Err(Error::TooSmallMemory { have, need: wanted, .. }) => {
                assert_eq!((have, wanted), (need - 1, need))
            }
            other => panic!("{other:?}"),
        }
        match Region::init(base, need, &setup, &mut scratch[1..]) {
            Err(Error::TooSmallMemory { what: "the scratch", have, need }) => {
                assert_eq!((have, need), (8 * (words as u64 - 1), 8 * words as u64));
            }
            other => panic!("{other:?}"),
        }
        Region::init(base, need, &setup, &mut scratch).unwrap();
        for len in [0, 63, 4095, need - 1] {
            match Region::attach(base, len, PAGE, Role::Secondary, &mut scratch) {
                Err(Error::TooSmallMemory { what: "the region", have, .. }) => assert_eq!(have, len),
                other => panic!("{len}: {other:?}"),
            }
        }
        match Region::attach(base, need, PAGE, Role::Secondary, &mut scratch[1..]) {
            Err(Error::TooSmallMemory { what: "the scratch", .. }) => {}
            other => panic!("{other:?}"),
        }
        // A region that was copied off its page.
        let shifted = base.add(64);
        std::ptr::copy(base.as_ptr(), shifted.as_ptr(), need as usize);
        match Region::inspect(shifted, need, PAGE) {
            Err(Error::Misaligned { align: PAGE, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn seats_run_out() {
    let setup = setup(small(), RingMode::Mpmc, 0);
    let need = required_bytes(&setup.geometry, PAGE).unwrap();
    let mut memory = Memory::new(need);
    let base = memory.base();
    let mut scratch = vec![vec![0; required_scratch(&setup.geometry)]; SEATS + 1];
    let (last, most) = scratch.split_last_mut().unwrap();
    let mut ends = Vec::new();
    for (index, scratch) in most.iter_mut().enumerate() {
        // SAFETY: the memory outlives the ends, and only they touch it.
        let end = unsafe {
            match index {
                0 => Region::init(base, need, &setup, scratch),
                _ => Region::attach(base, need, PAGE, Role::Secondary, scratch),
            }
        };
        let end = end.unwrap();
        assert_eq!(end.holder(), Holder::new(index, 1));
        ends.push(end);
    }
    // SAFETY: as above.
    let (refused, views) = unsafe {
        (Region::attach(base, need, PAGE, Role::Secondary, last), Views::new(base, need, PAGE).unwrap())
    };
    assert!(matches!(refused, Err(Error::NoSeat { seats: SEATS })));
    // Seven receivers of one ring: each message goes to one of them.
    for round in 0..3u8 {
        for i in 0..4 {
            ends[0].send_bytes(&[round, i], |_| {}).unwrap();
        }
        for i in 0..4 {
            assert_eq!(bytes(&ends[1 + usize::from(i + round)]), [round, i]);
        }
    }
    assert_eq!(views.slots(0).len(), 4);
}
