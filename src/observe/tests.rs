//! Each kind of word damaged by itself and found; regions in order, at rest and at work, found in order.

use std::collections::BTreeSet;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::slice::from_ref;
use std::sync::atomic::AtomicBool;

use hqq_sys::mem::{self, Mapping};

use super::check::misfits;
use super::*;
use crate::error::{Error, ErrorCode};
use crate::shm::endpoint::{Incoming, Payload};
use crate::shm::layout::{Geometry, Modes, RingMode, required_bytes};
use crate::shm::packet::{NO_BUFFER, Packet, op};
use crate::shm::region::owned::OwnedRegion;
use crate::shm::region::{Setup, Views};
use crate::shm::words::{
    BufferState, BufferWord, Holder, Lap, LeaseWord, Role, Seat, SeatWord, Side, SideCounters, SleepersWord,
    SlotState, Stamp, Superblock,
};
use crate::sync::{AtomicU64, Ordering};

const PRIMARY: Holder = Holder::new(0, 1);
const SECONDARY: Holder = Holder::new(1, 1);
const STRANGER: Holder = Holder::new(5, 1);

/// Both ends of a region in this process, and an observer of it.
struct Bench {
    memfd: OwnedFd,
    primary: OwnedRegion<Mapping>,
    secondary: OwnedRegion<Mapping>,
    observer: Observer,
}

impl Bench {
    fn new(ring: RingMode, first_lap: u64) -> Self {
        Self::named("bench", ring, first_lap)
    }

    fn named(name: &str, ring: RingMode, first_lap: u64) -> Self {
        let geometry = Geometry::new(8, 8, 64).unwrap();
        let page = mem::page_size() as u64;
        let len = required_bytes(&geometry, page).unwrap();
        let memfd = mem::create(&format!("hqq:{name}"), len).unwrap();
        mem::seal(memfd.as_fd()).unwrap();
        let modes = Modes { ring, ..Modes::default() };
        let setup = Setup { geometry, modes, page, epoch: 99, first_lap, name };
        let map = || Mapping::map(memfd.as_fd(), len as usize).unwrap();
        let primary = OwnedRegion::create(map(), &setup, false).unwrap();
        let secondary = OwnedRegion::attach(map(), page, Role::Secondary, |_| Some(false)).unwrap();
        let observer = Observer::open(memfd.as_fd()).unwrap();
        Self { memfd, primary, secondary, observer }
    }

    /// The words, writable.
    fn views(&self) -> &Views<'static> {
        self.primary.region().views()
    }

    /// Puts a packet into a slot of ring 0, by hand.
    fn put(&self, index: usize, packet: Packet) {
        let slot = &self.views().slots(0)[index];
        for (word, operand) in slot.operands.iter().zip(packet.operands) {
            word.store(operand, Ordering::Relaxed);
        }
        slot.stamp.store(Stamp::published(Lap::new(0), packet.op).word(), Ordering::Relaxed);
    }

    fn findings(&self) -> Vec<Finding> {
        self.observer.check().findings
    }

    /// The only finding, which is at `offset` and breaks a rule that says `rule`.
    fn expect(&self, offset: u64, rule: &str) {
        let findings = self.findings();
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert_eq!(findings[0].offset, offset, "{}", findings[0]);
        assert!(findings[0].rule.contains(rule), "{}", findings[0]);
    }

    /// Damages a word for as long as it takes to see it found.
    fn damage(&self, word: &AtomicU64, value: u64, offset: u64, rule: &str) {
        let good = word.swap(value, Ordering::Relaxed);
        self.expect(offset, rule);
        word.store(good, Ordering::Relaxed);
    }

    fn slot_offset(&self, index: usize) -> u64 {
        self.views().layout().directions[0].ring + index as u64 * 64
    }
}

#[test]
fn a_new_region_is_in_order_and_says_what_it_is() {
    let bench = Bench::new(RingMode::Spmc, 7);
    let report = bench.observer.check();
    assert!(report.findings.is_empty() && report.slots.is_empty() && report.buffers.is_empty());
    let facts = bench.observer.facts();
    assert_eq!((facts.geometry.slots(), facts.epoch, facts.first_lap), (8, 99, 7));
    assert_eq!(facts.modes.ring, RingMode::Spmc);
    assert_eq!(bench.observer.name(), "bench");
    let seats = bench.observer.seats();
    let joined: Vec<_> = seats.iter().filter(|seat| seat.joined).collect();
    assert_eq!((seats.len(), joined.len()), (8, 2));
    assert_eq!((joined[0].role, joined[1].role), (Some(Role::Primary), Some(Role::Secondary)));
    assert_eq!((joined[1].index, joined[1].generation), (1, 1));
    assert_eq!(bench.observer.stats().directions[0].buffers_free, 8);
}

/// Every word of the superblock with its offset, and whether it may hold anything.
fn superblock_words(superblock: &Superblock) -> Vec<(&AtomicU64, usize, bool)> {
    let Superblock {
        magic,
        format,
        page_size,
        region_len,
        slots,
        buffers,
        buffer_size,
        stride,
        modes,
        epoch,
        first_lap,
        ready,
        reserved,
        name,
        sides,
        reserved2,
        seats,
        counters,
        metrics,
    } = superblock;
    let fixed = [
        magic,
        format,
        page_size,
        region_len,
        slots,
        buffers,
        buffer_size,
        stride,
        modes,
        epoch,
        first_lap,
        ready,
    ];
    let mut words: Vec<(&AtomicU64, usize, bool)> = Vec::new();
    for word in fixed.into_iter().chain(reserved).chain(name) {
        words.push((word, words.len() * 8, false));
    }
    for side in sides.iter().chain(reserved2) {
        let Side { sleepers, reserved } = side;
        for word in [sleepers].into_iter().chain(reserved) {
            words.push((word, words.len() * 8, false));
        }
    }
    for seat in seats {
        let Seat { word, pid, reserved } = seat;
        for (at, word) in [word, pid].into_iter().chain(reserved).enumerate() {
            words.push((word, words.len() * 8, at == 1));
        }
    }
    for side in counters {
        let start = words.len() * 8;
        let SideCounters {
            full_waits,
            pool_waits,
            empty_waits,
            sleeps,
            wakes,
            rings,
            tombstones,
            agreed,
            refused,
            refused_own,
            errors_received,
        } = side;
        let single = [full_waits, pool_waits, empty_waits, sleeps, wakes, rings, tombstones, agreed];
        for word in single.into_iter().chain(refused).chain(refused_own).chain(errors_received) {
            let at = words.len() * 8 - start;
            let checked = at == offset_of!(SideCounters, refused);
            words.push((word, words.len() * 8, !checked));
        }
    }
    for side in metrics {
        for word in side.words() {
            words.push((word, words.len() * 8, true));
        }
    }
    words
}

#[test]
fn each_word_of_the_superblock_is_checked() {
    let bench = Bench::new(RingMode::Mpmc, 0);
    let words = superblock_words(bench.views().superblock());
    assert_eq!(words.len() * 8, size_of::<Superblock>());
    for (word, offset, free) in words {
        let good = word.swap(u64::MAX, Ordering::Relaxed);
        let found: Vec<_> = bench.findings().iter().map(|finding| finding.offset as usize).collect();
        assert_eq!(found, if free { vec![] } else { vec![offset] }, "offset {offset:#x}");
        word.store(good, Ordering::Relaxed);
    }
    assert!(bench.findings().is_empty());
    let sleepers = &bench.views().superblock().sides[1].sleepers;
    let offset = offset_of!(Superblock, sides) + size_of::<Side>();
    bench.damage(sleepers, 0, offset as u64, "bit 63");
    sleepers.store(SleepersWord::AWAKE | 0xFFFF, Ordering::Relaxed);
    assert!(bench.findings().is_empty());
}

#[test]
fn each_damaged_stamp_is_found() {
    for first_lap in [0, 4, (1 << 39) - 1] {
        let bench = Bench::new(RingMode::Mpmc, first_lap);
        let slot = |index: usize| &bench.views().slots(0)[index].stamp;
        let lap = Lap::new(first_lap);
        for index in 0..8 {
            let at = bench.slot_offset(index);
            bench.damage(slot(index), 0, at, "no operation leaves");
            bench.damage(slot(index), u64::MAX, at, "no operation leaves");
            // Not one or two laps back: that could as well be a slot not yet released, and its neighbour wrong.
            for wrong in [2, 1 << 20, (1 << 39) - 3, 1 << 38] {
                let wrong = Lap::new(first_lap.wrapping_add(wrong));
                bench.damage(slot(index), Stamp::free(wrong).word(), at, "no holes");
                bench.damage(slot(index), Stamp::published(wrong, op::TOMBSTONE).word(), at, "no holes");
            }
        }
        // Slot 0 is next: anything there is fine, elsewhere it would be a hole.
        let next = Stamp::published(lap, op::TOMBSTONE).word();
        bench.damage(slot(5), next, bench.slot_offset(5), "no holes");
        let was = slot(0).swap(next, Ordering::Relaxed);
        assert!(bench.findings().is_empty());
        slot(0).store(was, Ordering::Relaxed);

        let at = bench.slot_offset(0);
        for (stamp, rule) in [
            (Stamp::claimed(lap, STRANGER), "occupies a seat"),
            (Stamp::claimed(lap, Holder::new(0, 2)), "occupies a seat"),
            (Stamp::claimed(lap, SECONDARY), "Primary's side only"),
            (Stamp::taken(lap, STRANGER, op::TOMBSTONE), "occupies a seat"),
            (Stamp::taken(lap, PRIMARY, op::TOMBSTONE), "Secondary's side only"),
            (Stamp::published(lap, 0x7E), "accepts"),
        ] {
            bench.damage(slot(0), stamp.word(), at, rule);
        }
        for fine in [Stamp::claimed(lap, PRIMARY), Stamp::taken(lap, SECONDARY, op::TOMBSTONE)] {
            let was = slot(0).swap(fine.word(), Ordering::Relaxed);
            assert!(bench.findings().is_empty());
            slot(0).store(was, Ordering::Relaxed);
        }
    }
    let bench = Bench::new(RingMode::Spsc, 0);
    let stamp = &bench.views().slots(0)[0].stamp;
    let lap = Lap::new(0);
    bench.damage(stamp, Stamp::claimed(lap, PRIMARY).word(), bench.slot_offset(0), "single producer");
    let taken = Stamp::taken(lap, SECONDARY, op::TOMBSTONE);
    bench.damage(stamp, taken.word(), bench.slot_offset(0), "single consumer");
}

#[test]
fn packets_in_slots_are_checked() {
    let bench = Bench::new(RingMode::Mpmc, 0);
    let copy = |operands: [u64; 4]| Packet::new(op::STANDARD_LINK_COPY, operands);
    let word = |index: usize| &bench.views().buffer_words(0)[index];
    for bad in [
        copy([1, 8, 1, 0]),
        copy([1, 7, 100, 2]),
        copy([1, NO_BUFFER, 5, 0]),
        Packet::new(op::INLINE_COPY, [49 << 56]),
        Packet::new(op::CONN_CLOSE, [1, 3]),
        Packet::new(op::CONN_COPY, [1, 1, 10, 10, 0, 10, 8]),
    ] {
        bench.put(0, bad);
        bench.expect(bench.slot_offset(0), "accepts");
    }
    assert!(bench.findings()[0].what.contains("MemoryAlign"), "{}", bench.findings()[0]);

    let pool = bench.views().layout().directions[0].pool;
    bench.put(0, copy([1, 3, 64, 0]));
    bench.expect(pool + 3 * 8, "not free while a slot names it");
    word(3).store(BufferWord::owned(PRIMARY).word(), Ordering::Relaxed);
    assert!(bench.findings().is_empty());
    word(3).store(BufferWord::held(SECONDARY).word(), Ordering::Relaxed);
    assert!(bench.findings().is_empty(), "a receiver that has not released the slot");

    word(2).store(BufferWord::owned(PRIMARY).word(), Ordering::Relaxed);
    bench.put(1, copy([2, 2, 100, 2]));
    bench.expect(bench.slot_offset(1), "one slot at a time");
    bench.put(1, Packet::new(op::TOMBSTONE, [2, 2, 100, 2]));
    assert!(bench.findings().is_empty(), "a tombstone's operands mean nothing");
}

#[test]
fn each_damaged_buffer_word_and_lease_is_found() {
    let bench = Bench::new(RingMode::Mpmc, 0);
    for direction in 0..2 {
        let layout = bench.views().layout().directions[direction];
        let (sender, receiver) = [(PRIMARY, SECONDARY), (SECONDARY, PRIMARY)][direction];
        for (index, word) in (0..).zip(bench.views().buffer_words(direction)) {
            let at = layout.pool + index * 8;
            for (value, rule) in [
                (0, "no operation leaves"),
                (u64::MAX, "no operation leaves"),
                (BufferWord::owned(STRANGER).word(), "occupies a seat"),
                (BufferWord::held(STRANGER).word(), "occupies a seat"),
                (BufferWord::owned(receiver).word(), "side only"),
                (BufferWord::held(sender).word(), "side only"),
            ] {
                bench.damage(word, value, at, rule);
            }
        }
        let lease = bench.views().lease(direction);
        for (value, rule) in [
            (0, "no operation leaves"),
            (LeaseWord::leased(STRANGER).word(), "occupies a seat"),
            (LeaseWord::leased(receiver).word(), "side only"),
        ] {
            bench.damage(lease, value, layout.lease, rule);
        }
        lease.store(LeaseWord::leased(sender).word(), Ordering::Relaxed);
        assert!(bench.findings().is_empty());
    }
}

#[test]
fn who_holds_what_is_listed() {
    let bench = Bench::new(RingMode::Mpmc, 3);
    let mut loan = bench.primary.region().loan(100).unwrap();
    loan.bytes_mut().fill(1);
    let report = bench.observer.check();
    let buffers: Vec<_> = report.buffers.iter().map(|b| (b.index, b.state, b.in_flight_in_slot)).collect();
    let owned = BufferState::Owned(PRIMARY);
    assert_eq!(buffers, [(0, owned, None), (1, owned, None)]);

    bench.primary.region().send_bytes(b"small", |_| {}).unwrap();
    bench.primary.region().send(loan, |_| {}).map_err(|(error, _)| error).unwrap();
    let report = bench.observer.check();
    let slot = HeldSlot {
        direction: 0,
        index: 1,
        lap: 3,
        position: 1,
        state: SlotState::Published,
        seat: None,
        op: Some("OpStandardLinkCopy"),
    };
    assert_eq!(report.slots.len(), 2);
    assert_eq!(report.slots[1], slot);
    assert!(report.buffers.iter().all(|buffer| buffer.in_flight_in_slot == Some(1)));
    let stats = bench.observer.stats();
    let sent = stats.sent_by(Role::Primary);
    assert_eq!((sent.packets_sent, sent.packets_received, sent.in_flight), (2, 0, 2));
    assert_eq!((sent.bytes_sent, sent.bytes_received), (105, 0));
    assert_eq!((sent.buffers_free, sent.buffers_owned, sent.buffers_held), (6, 2, 0));

    let receiver = bench.secondary.region();
    assert!(matches!(receiver.receive(|_| true, |_| {}), Ok(Incoming::Message(Payload::Slot(_), _))));
    let Ok(Incoming::Message(message, _)) = receiver.receive(|_| true, |_| {}) else { panic!() };
    let report = bench.observer.check();
    assert!(report.slots.is_empty() && report.findings.is_empty());
    let held = BufferState::Held(SECONDARY);
    assert_eq!(
        report.buffers[1],
        HeldBuffer { direction: 0, index: 1, state: held, seat: 1, in_flight_in_slot: None }
    );
    receiver.give_message(message);
    let received = bench.observer.stats().directions[0];
    assert_eq!((received.packets_received, received.bytes_received, received.buffers_free), (2, 105, 8));

    let counters = bench.secondary.region().counters(Role::Secondary);
    counters.refused[6].store(2, Ordering::Relaxed);
    counters.refused_own[0].store(3, Ordering::Relaxed);
    let side = *bench.observer.stats().side(Role::Secondary);
    assert_eq!(side.refused_with(ErrorCode::InvalidOp), 2);
    assert_eq!((side.refused_with(ErrorCode::ConnRefused), side.refused_total()), (3, 5));
}

#[test]
fn what_a_sender_left_in_flight_is_in_order() {
    let bench = Bench::new(RingMode::Mpmc, 0);
    bench.secondary.region().send_bytes(&[1; 64], |_| {}).unwrap();
    let seat = &bench.views().superblock().seats[1].word;
    let vacated = SeatWord::from_word(seat.load(Ordering::Relaxed)).vacated();
    seat.store(vacated.word(), Ordering::Relaxed);
    assert!(bench.findings().is_empty());
    bench.views().slots(1)[0]
        .stamp
        .store(Stamp::published(Lap::new(0), op::TOMBSTONE).word(), Ordering::Relaxed);
    bench.expect(bench.views().layout().directions[1].pool, "occupies a seat");
}

#[test]
fn a_region_at_work_is_in_order() {
    for (ring, first_lap) in [(RingMode::Mpmc, 0), (RingMode::Spsc, (1 << 39) - 3), (RingMode::Mpsc, 1)] {
        let bench = Bench::new(ring, first_lap);
        let stop = AtomicBool::new(false);
        let work = |from: &OwnedRegion<Mapping>, to: &OwnedRegion<Mapping>| {
            let bytes = [7; 300];
            for turn in 0.. {
                // A transient error means that the other thread is behind.
                match from.region().send_bytes(&bytes[..turn * 37 % 300], |_| {}) {
                    Ok(()) => {}
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
                match to.region().receive(|_| true, |_| {}).unwrap() {
                    Incoming::Message(message, _) => to.region().give_message(message),
                    Incoming::Empty | Incoming::Busy => {}
                    other => panic!("{other:?}"),
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        };
        std::thread::scope(|scope| {
            // Each thread sends in one direction and receives in the other: one of a kind at each end.
            scope.spawn(|| work(&bench.primary, &bench.primary));
            scope.spawn(|| work(&bench.secondary, &bench.secondary));
            let mut findings = Vec::new();
            for _ in 0..1000 {
                findings.extend(bench.findings());
            }
            stop.store(true, Ordering::Relaxed);
            assert!(findings.is_empty(), "{ring:?}: {findings:#?}");
        });
        let stats = bench.observer.stats();
        for direction in stats.directions {
            assert_eq!(direction.packets_sent, direction.packets_received + direction.in_flight);
            assert!(direction.packets_received > 0);
        }
    }
}

#[test]
fn no_contents_confuse_the_check() {
    let bench = Bench::new(RingMode::Mpmc, 0);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..300 {
        for direction in 0..2 {
            for slot in bench.views().slots(direction) {
                // Half of the stamps decode, in laps from all over.
                let lap = Lap::new(if round % 2 == 0 { random() } else { random() % 3 });
                let wild = random();
                let stamps = [Stamp::published(lap, 0xFF), Stamp::free(lap), Stamp::claimed(lap, STRANGER)];
                let stamp = stamps.get(wild as usize % 6).map_or(wild, |stamp| stamp.word());
                slot.stamp.store(stamp, Ordering::Relaxed);
                for operand in &slot.operands {
                    let value = random();
                    operand.store(if value % 2 == 0 { value } else { value >> 32 & 7 }, Ordering::Relaxed);
                }
            }
            for word in bench.views().buffer_words(direction) {
                word.store(random() & 0xFF03, Ordering::Relaxed);
            }
        }
        let report = bench.observer.check();
        assert!(!report.findings.is_empty());
        bench.observer.stats();
    }
}

#[test]
fn misfits_are_told_from_the_others() {
    for split in 0..=8 {
        let good: [i64; 8] = std::array::from_fn(|index| 5 - i64::from(index >= split));
        assert_eq!(misfits(&good.map(Some)), [0; 0], "split {split}");
        for index in 0..8 {
            for wrong in [-3, -2, 2, 3, 1 << 38, -(1 << 38)] {
                let mut laps = good.map(Some);
                laps[index] = Some(good[index] + wrong);
                assert_eq!(misfits(&laps), [index], "split {split}, {wrong}");
                laps[(index + 3) % 8] = None;
                assert_eq!(misfits(&laps), [index], "split {split}, {wrong}, one unknown");
            }
        }
    }
    assert_eq!(misfits(&[None; 4]), [0; 0]);
}

#[test]
fn links_are_found_from_outside() {
    let name = format!("observe-test-{}", std::process::id());
    let bench = Bench::named(&name, RingMode::Mpmc, 0);
    let second = bench.memfd.try_clone().unwrap();
    let other = Bench::named(&name, RingMode::Mpmc, 0);
    let seen = find(&name).unwrap();
    assert_eq!(seen.len(), 2, "{seen:#?}");
    assert_eq!(seen.iter().map(|link| link.inode).collect::<BTreeSet<_>>().len(), 2);
    for link in &seen {
        let pids: Vec<_> = link.processes.iter().map(|process| process.pid).collect();
        assert_eq!(pids, [std::process::id() as i32]);
        assert!(!link.processes[0].comm.is_empty());
        assert_eq!(link.open().unwrap().name(), name);
    }
    let by_pid = find(&std::process::id().to_string()).unwrap();
    assert!(seen.iter().all(|link| by_pid.contains(link)));
    drop((bench, second, other));
    assert!(find(&name).unwrap().is_empty());
    assert!(matches!(seen[0].open(), Err(Error::Os { .. })));
}

#[test]
fn what_is_no_region_is_refused() {
    let page = mem::page_size() as u64;
    let memfd = mem::create("hqq:not sealed", page).unwrap();
    assert!(matches!(Observer::open(memfd.as_fd()), Err(Error::Unsupported { .. })));
    mem::seal(memfd.as_fd()).unwrap();
    assert!(matches!(Observer::open(memfd.as_fd()), Err(Error::ForeignMagic { found: 0 })));
    let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(matches!(Observer::open(socket.as_fd()), Err(Error::Unsupported { .. })));
}

/// A stranger can reserve nothing, and let the reader pay for the pages.
#[test]
fn holes_are_refused_and_not_filled() {
    let geometry = Geometry::new(1 << 16, 1 << 16, 64).unwrap();
    let page = mem::page_size() as u64;
    let len = required_bytes(&geometry, page).unwrap();
    let make = |parts: &[std::ops::Range<u64>]| {
        let memfd = mem::create_sparse("hqq:holes", len, parts).unwrap();
        mem::seal(memfd.as_fd()).unwrap();
        std::fs::File::from(memfd)
    };
    let whole = make(from_ref(&(0..len)));
    let setup = Setup { geometry, modes: Modes::default(), page, epoch: 1, first_lap: 0, name: "holes" };
    let map = Mapping::map(whole.as_fd(), len as usize).unwrap();
    let region = OwnedRegion::create(map, &setup, false).unwrap();
    let control = region.region().layout().control();
    let mut superblock = vec![0; page as usize];
    whole.read_exact_at(&mut superblock, 0).unwrap();
    assert!(Observer::open(whole.as_fd()).is_ok());
    let second = control[1].start..control[1].end;
    for (parts, sound) in [
        (&control[..], true),
        (from_ref(&(0..page)), false),
        (from_ref(&control[0]), false),
        (&[0..control[0].end - page, second.clone()], false),
        (&[0..page, page * 2..len], false),
        (from_ref(&second), false),
    ] {
        let memfd = make(parts);
        memfd.write_all_at(&superblock, 0).unwrap();
        let blocks = || memfd.metadata().unwrap().blocks();
        let before = blocks();
        let observer = Observer::open(memfd.as_fd());
        match &observer {
            Ok(observer) => drop((observer.stats(), observer.check())),
            Err(error) => assert!(error.to_string().contains("have holes"), "{error}"),
        }
        assert_eq!((observer.is_ok(), blocks()), (sound, before), "{parts:?}");
    }
}

#[test]
fn what_a_stranger_has_put_in_a_links_place_is_not_waited_for() {
    let bench = Bench::named(&format!("placed-{}", std::process::id()), RingMode::Mpmc, 0);
    let own = |fd: i32| ProcessSeen { pid: std::process::id() as i32, fd, comm: String::new() };
    let memfd = own(bench.memfd.as_raw_fd());
    let found = mem::Found::at(&format!("/proc/self/fd/{}", memfd.fd)).unwrap().unwrap();
    let (device, inode) = (found.device, found.inode);
    let path = std::env::temp_dir().join(format!("hqq-placed-{}", std::process::id()));
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    // With O_NONBLOCK the FIFO opens at once. Without, it waits for a writer, and there is none.
    let fifo = std::fs::File::options().read(true).custom_flags(0o4000).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let placed = own(fifo.as_raw_fd());
    let mut link = LinkSeen { name: "x".into(), inode, device, processes: vec![placed.clone(), memfd] };
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let next = link.open();
        link.processes = vec![placed];
        let _ = tell.send((next, link.open()));
    });
    let (next, gone) = told.recv_timeout(std::time::Duration::from_secs(30)).expect("it returns");
    assert!(next.is_ok(), "the next process has it");
    assert!(matches!(gone, Err(Error::Os { source, .. }) if source.kind() == std::io::ErrorKind::NotFound));
}
