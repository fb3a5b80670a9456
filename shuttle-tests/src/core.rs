//! The ring and the pool with three threads on each side, one of which dies.

use hqq::shm::layout::Geometry;
use hqq::shm::packet::{Packet, Run, op};
use hqq::shm::pool::{Pool, Shortage};
use hqq::shm::recover::{DirectionWords, recover};
use hqq::shm::ring::{Consumer, Denied, Producer, Take};
use hqq::shm::seats::Seats;
use hqq::shm::words::{BufferWord, Holder, Lap, LeaseWord, Role, Seat, SeatWord, Slot};
use hqq::sync::{AtomicU64, Ordering};
use shuttle::sync::{Arc, Mutex};
use shuttle::{rand::Rng, thread};

use crate::explore;

const SLOTS: usize = 4;
const BUFFERS: usize = 4;
const FIRST: u64 = (1 << 39) - 2;

/// One direction, with seats, and where its payload would lie: who is at it.
struct Shared {
    slots: [Slot; SLOTS],
    words: [AtomicU64; BUFFERS],
    lease: AtomicU64,
    seats: [Seat; 7],
    payload: Mutex<[Option<Holder>; BUFFERS]>,
}

/// A process of its own.
struct Process {
    holder: Holder,
    cursors: [AtomicU64; 5],
    lent: [AtomicU64; BUFFERS],
}

impl Process {
    fn new(seat: usize) -> Self {
        let start = FIRST.wrapping_mul(SLOTS as u64);
        let cursors = [start, start, start, 0, 0].map(AtomicU64::new);
        Self { holder: holder(seat), cursors, lent: [0; BUFFERS].map(AtomicU64::new) }
    }

    fn producer<'a>(&'a self, shared: &'a Shared) -> Producer<'a> {
        Producer::new(&shared.slots, &self.cursors[0], self.holder, false)
    }

    fn consumer<'a>(&'a self, shared: &'a Shared) -> Consumer<'a> {
        Consumer::new(&shared.slots, &self.cursors[1], &self.cursors[2], self.holder, false)
    }

    fn pool<'a>(&'a self, shared: &'a Shared) -> Pool<'a> {
        let [.., hint, spare] = &self.cursors;
        Pool::new(&shared.words, &shared.lease, &self.lent, hint, spare, self.holder, false)
    }
}

fn holder(seat: usize) -> Holder {
    Holder::new(seat, 31)
}

impl Shared {
    fn new() -> Arc<Self> {
        let free = BufferWord::FREE.word();
        Arc::new(Self {
            slots: std::array::from_fn(|_| Slot::new(Lap::new(FIRST))),
            words: std::array::from_fn(|_| AtomicU64::new(free)),
            lease: AtomicU64::new(LeaseWord::VACANT.word()),
            seats: std::array::from_fn(|index| Seat {
                word: AtomicU64::new(SeatWord::joined(holder(index), Role::Primary, false).word()),
                pid: AtomicU64::new(0),
                reserved: std::array::from_fn(|_| AtomicU64::new(0)),
            }),
            payload: Mutex::new([None; BUFFERS]),
        })
    }

    /// Takes hold of a run's payload, of which nobody else may have any.
    fn enter(&self, run: Run, by: Holder) {
        for buffer in &mut self.payload.lock().unwrap()[run.indices()] {
            assert_eq!(buffer.replace(by), None, "a buffer with two holders");
        }
    }

    fn exit(&self, run: Run, by: Holder) {
        for buffer in &mut self.payload.lock().unwrap()[run.indices()] {
            assert_eq!(buffer.take(), Some(by));
        }
    }

    /// As a process recovers another and makes room for its successor.
    fn recover(&self, dead: Holder, by: Holder) -> bool {
        let seats = Seats::new(&self.seats);
        if seats.enter(dead, by).unwrap() {
            // Whatever the dead was writing or reading, nobody does any more.
            for buffer in self.payload.lock().unwrap().iter_mut().filter(|buffer| **buffer == Some(dead)) {
                *buffer = None;
            }
            let Self { slots, words, lease, .. } = self;
            let geometry = Geometry::new(SLOTS as u32, BUFFERS as u32, 64).unwrap();
            recover(DirectionWords { slots, words, lease }, geometry, dead, &mut [0; BUFFERS]).unwrap();
            seats.strike(dead);
            seats.finish(dead, by);
        }
        seats.vacate(dead).unwrap()
    }

    /// Sends `value` in the slot, or in a buffer if it is even; false if there is no room.
    fn send(&self, process: &Process, value: u64, dies: Option<u32>) -> bool {
        let stopped = |step| dies == Some(step);
        let pool = process.pool(self);
        let mut packet = Packet::new(op::CONN_CREATE, [value]);
        let mut run = None;
        if value % 2 == 0 {
            match pool.allocate(1) {
                Ok(taken) => {
                    self.enter(taken, process.holder);
                    packet = Packet::new(op::STANDARD_LINK_COPY, [value, taken.first.into(), 8]);
                    run = Some(taken);
                }
                Err(Shortage::Impossible(what)) => panic!("{what:?}"),
                Err(_) => return false,
            }
        }
        if stopped(0) {
            return false;
        }
        let producer = process.producer(self);
        match producer.claim() {
            Ok(_claimed) if stopped(1) => return false,
            Ok(ticket) => {
                if let Some(run) = run {
                    self.exit(run, process.holder);
                    pool.pass(run);
                }
                producer.publish(ticket, &packet);
            }
            Err(Denied::Impossible(what)) => panic!("{what:?}"),
            Err(_) => {
                if let Some(run) = run {
                    self.exit(run, process.holder);
                    pool.give(run);
                }
                return false;
            }
        }
        true
    }

    /// Receives a value.
    fn receive(&self, process: &Process, dies: Option<u32>) -> Option<u64> {
        let stopped = |step| dies == Some(step);
        let consumer = process.consumer(self);
        let Take::Packet(ticket, packet) = consumer.take(|_| true, || {}).expect("only possible words")
        else {
            return None;
        };
        if stopped(0) {
            return None;
        }
        if packet.op == op::CONN_CREATE {
            consumer.release(ticket);
            return Some(packet.operands[0]);
        }
        let run = Run { first: packet.operands[1] as u32, count: 1 };
        let pool = process.pool(self);
        pool.hold(run).expect("held once");
        if stopped(1) {
            return None;
        }
        consumer.release(ticket);
        self.enter(run, process.holder);
        if !stopped(2) {
            self.exit(run, process.holder);
            pool.give(run);
        }
        Some(packet.operands[0])
    }
}

/// Legal outcomes for three that send and three that receive over several laps, of whom one dies at some step and is
/// recovered by two others at once: every message that was sent arrives once, but for one that the dead had already
/// received; those of each sender that one receiver gets are in order; no buffer has two holders; all is free at last.
#[test]
fn three_and_three_and_a_death() {
    explore("three and three", || {
        const EACH: u64 = 5;
        let shared = Shared::new();
        let (victim, moment) =
            (shuttle::rand::thread_rng().gen_range(0..6), shuttle::rand::thread_rng().gen_range(0..12));
        let dies = move |seat: usize, turn: u64| {
            (seat == victim && turn == moment / 3).then_some((moment % 3) as u32)
        };
        let senders: Vec<_> = (0..3)
            .map(|seat| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let process = Process::new(seat);
                    let mut sent = Vec::new();
                    for turn in 0..EACH {
                        let value = seat as u64 * 100 + turn;
                        if shared.send(&process, value, dies(seat, turn)) {
                            sent.push(value);
                        } else if dies(seat, turn).is_some() {
                            break;
                        }
                        thread::yield_now();
                    }
                    sent
                })
            })
            .collect();
        let receivers: Vec<_> = (3..6)
            .map(|seat| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let process = Process::new(seat);
                    let mut got = Vec::new();
                    for turn in 0..2 * EACH {
                        match shared.receive(&process, dies(seat, turn)) {
                            Some(value) => got.push(value),
                            None => thread::yield_now(),
                        }
                        if dies(seat, turn).is_some() {
                            break;
                        }
                    }
                    got
                })
            })
            .collect();
        let mut threads: Vec<_> = senders.into_iter().chain(receivers).map(Some).collect();
        // Its end is the proof of its death. Then two recover it, while the others go on.
        let last = threads[victim].take().unwrap().join().unwrap();
        let dead = holder(victim);
        let other = {
            let shared = shared.clone();
            thread::spawn(move || shared.recover(dead, holder((victim + 1) % 6)))
        };
        let vacated = shared.recover(dead, holder(6));
        assert!(vacated | other.join().unwrap(), "who ends last vacates");

        let mut lists: Vec<Vec<u64>> = Vec::new();
        for (seat, thread) in threads.into_iter().enumerate() {
            lists.push(match thread {
                Some(thread) => thread.join().unwrap(),
                None => last.clone(),
            });
            assert_eq!(lists.len(), seat + 1);
        }
        let mut got: Vec<u64> = lists[3..].concat();
        for list in &lists[3..] {
            for sender in 0..3 {
                let own: Vec<u64> = list.iter().copied().filter(|value| value / 100 == sender).collect();
                // What recovery put back comes late.
                assert!(victim >= 3 || own.is_sorted(), "{own:?}");
            }
        }
        let process = Process::new(6);
        got.extend(std::iter::from_fn(|| shared.receive(&process, None)));
        let mut sent = lists[..3].concat();
        sent.sort_unstable();
        got.sort_unstable();
        assert_eq!(got, sent, "none lost, none doubled");
        assert!(shared.words.iter().all(|word| word.load(Ordering::Relaxed) == BufferWord::FREE.word()));
        assert_eq!(shared.lease.load(Ordering::Relaxed), LeaseWord::VACANT.word());
    });
}

/// Legal outcomes for one that gathers runs beside two that take single buffers and one that gathers as well: no
/// buffer has two holders, a run has its length, and at last all of them make one run.
#[test]
fn gathers_beside_singles() {
    explore("gathers and singles", || {
        let shared = Shared::new();
        let threads = [(0, 2), (1, 1), (2, 1), (3, 3)].map(|(seat, count)| {
            let shared = shared.clone();
            thread::spawn(move || {
                let process = Process::new(seat);
                let pool = process.pool(&shared);
                for _ in 0..3 {
                    match pool.allocate(count) {
                        Ok(run) => {
                            assert_eq!(run.count, count);
                            shared.enter(run, process.holder);
                            thread::yield_now();
                            shared.exit(run, process.holder);
                            pool.give(run);
                        }
                        Err(Shortage::Impossible(what)) => panic!("{what:?}"),
                        Err(_) => thread::yield_now(),
                    }
                }
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        let process = Process::new(4);
        let whole = process.pool(&shared).allocate(BUFFERS as u32);
        assert_eq!(whole, Ok(Run { first: 0, count: BUFFERS as u32 }));
    });
}
