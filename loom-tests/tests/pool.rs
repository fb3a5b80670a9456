//! Models of the pool with two buffers. Each buffer has a payload cell: loom reports a race unless allocation and release
//! order its accesses.
#![cfg(loom)]

use hqq::shm::packet::{Packet, Run, op};
use hqq::shm::pool::{Pool, Shortage};
use hqq::shm::ring::{Consumer, Producer, Take};
use hqq::shm::words::{BufferWord, Holder, LeaseWord};
use hqq::sync::AtomicU64;
use loom::sync::Arc;
use loom::thread;
use loom_tests::{Payload, explore, slot};

const HOLDERS: [Holder; 3] = [Holder::new(0, 1), Holder::new(1, 2), Holder::new(2, 3)];

/// A process's private words.
struct Private {
    lent: [AtomicU64; 2],
    hint: AtomicU64,
    spare: AtomicU64,
}

/// A pool, and three processes.
struct Shared {
    words: [AtomicU64; 2],
    lease: AtomicU64,
    payload: [Payload; 2],
    private: [Private; 3],
}

impl Shared {
    fn new() -> Self {
        let word = |value| AtomicU64::new(value);
        let private = || Private { lent: [word(0), word(0)], hint: word(0), spare: word(0) };
        let free = BufferWord::FREE.word();
        Self {
            words: [word(free), word(free)],
            lease: word(LeaseWord::VACANT.word()),
            payload: [Payload::new(), Payload::new()],
            private: [private(), private(), private()],
        }
    }

    fn pool(&self, process: usize, single: bool) -> Pool<'_> {
        let Private { lent, hint, spare } = &self.private[process];
        Pool::new(&self.words, &self.lease, lent, hint, spare, HOLDERS[process], single)
    }

    /// Takes a run and writes its payload; what was written is its own as long as it is held.
    fn fill(&self, process: usize, count: u32, value: u64) -> Option<Run> {
        match self.pool(process, false).allocate(count) {
            Ok(run) => {
                run.indices().for_each(|index| self.payload[index].write(value));
                Some(run)
            }
            Err(Shortage::Impossible(what)) => panic!("{what:?}"),
            Err(_) => None,
        }
    }

    /// Sees that the payload is as `fill` left it, and gives the run back.
    fn empty(&self, process: usize, run: Run, value: u64) {
        run.indices().for_each(|index| assert_eq!(self.payload[index].read(), value));
        self.pool(process, false).give(run);
    }

    /// Everything is at home, and can be taken.
    fn is_whole(&self) {
        let pool = self.pool(0, false);
        assert_eq!(pool.count_free(), 2);
        assert_eq!(pool.allocate(2), Ok(Run { first: 0, count: 2 }));
    }
}

fn two_takers(name: &'static str, processes: [usize; 2], counts: [u32; 2], least: usize) {
    explore(name, 2, least, move || {
        let shared = Arc::new(Shared::new());
        let takers: Vec<_> = processes
            .into_iter()
            .zip(counts)
            .map(|(process, count)| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let value = u64::from(count) + 10 * process as u64;
                    let run = shared.fill(process, count, value);
                    run.inspect(|run| shared.empty(process, *run, value)).is_some()
                })
            })
            .collect();
        let won: Vec<bool> = takers.into_iter().map(|taker| taker.join().unwrap()).collect();
        assert!(won.contains(&true), "one of them gets what it wants");
        shared.is_whole();
    });
}

/// Legal outcomes for two that each take one of two buffers, write, read and give: both succeed or, if one
/// looked while the other held both words' attention, one; they never hold the same buffer.
#[test]
fn two_takers_of_one() {
    two_takers("two singles", [0, 1], [1, 1], 20);
    two_takers("two singles, one process", [0, 0], [1, 1], 20);
}

/// Legal outcomes for a run of both buffers beside a single: either or both succeed, never at once; what the
/// gatherer won before it failed is free again.
#[test]
fn a_run_beside_a_single() {
    explore("run and single", 2, 20, || {
        let shared = Arc::new(Shared::new());
        let gatherer = {
            let shared = shared.clone();
            thread::spawn(move || {
                if let Some(run) = shared.fill(0, 2, 7) {
                    shared.empty(0, run, 7);
                }
            })
        };
        if let Some(run) = shared.fill(1, 1, 8) {
            shared.empty(1, run, 8);
        }
        gatherer.join().unwrap();
        shared.is_whole();
    });
}

/// Legal outcomes for two gatherers: one of them gets the run, the other gets it later, finds the first busy, or
/// finds too little. Never two halves.
#[test]
fn two_gatherers() {
    two_takers("two runs", [0, 1], [2, 2], 20);
    two_takers("two runs, one process", [0, 0], [2, 2], 20);
}

/// Legal outcomes for two gatherers of both buffers, one of which is away: `Busy`, or `Exhausted(1)`, for the
/// lease hands on what the gatherer before gave back. Never `Exhausted(0)`.
#[test]
fn a_gatherer_sees_what_the_last_one_left() {
    explore("lease", 2, 5, || {
        let shared = Arc::new(Shared::new());
        shared.words[1].store(BufferWord::held(HOLDERS[2]).word(), hqq::sync::Ordering::Relaxed);
        let other = {
            let shared = shared.clone();
            thread::spawn(move || shared.pool(0, false).allocate(2))
        };
        let legal = [Err(Shortage::Busy), Err(Shortage::Exhausted(1))];
        assert!(legal.contains(&shared.pool(1, false).allocate(2)));
        assert!(legal.contains(&other.join().unwrap()));
        assert_eq!(shared.lease.load(hqq::sync::Ordering::Relaxed), LeaseWord::VACANT.word());
    });
}

fn give_then_take(name: &'static str, single: bool) {
    explore(name, 2, 2, move || {
        let shared = Arc::new(Shared::new());
        let reader = shared.pool(2, single);
        reader.hold(Run { first: 0, count: 2 }).unwrap();
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || match shared.pool(0, single).allocate(1) {
                Ok(run) => shared.payload[run.first as usize].write(1),
                Err(shortage) => assert_eq!(shortage, Shortage::Exhausted(0)),
            })
        };
        for index in 0..2 {
            assert_eq!(shared.payload[index as usize].read(), 0);
            reader.give(Run { first: index, count: 1 });
        }
        writer.join().unwrap();
    });
}

/// Legal outcomes for a writer that waits for what a reader gives: it gets a buffer that the reader has done
/// with, or nothing. It never writes what is still being read.
#[test]
fn the_reader_is_done_before_the_next_writer() {
    give_then_take("give to take", false);
    give_then_take("give to take, single", true);
}

/// Legal outcomes for a thread that uses what another of its process has taken ahead: it writes only what the reader has done
/// with, or gets nothing.
#[test]
fn what_was_taken_ahead_has_been_read() {
    explore("taken ahead", 3, 20, || {
        let shared = Arc::new(Shared::new());
        shared.pool(2, false).hold(Run { first: 0, count: 1 }).unwrap();
        shared.pool(2, false).hold(Run { first: 1, count: 1 }).unwrap();
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || shared.empty(2, Run { first: 0, count: 1 }, 0))
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || shared.pool(0, false).prepare().is_some())
        };
        let taken = shared.fill(0, 1, 1);
        reader.join().unwrap();
        other.join().unwrap();
        taken.into_iter().for_each(|run| shared.empty(0, run, 1));
        shared.pool(2, false).give(Run { first: 1, count: 1 });
        shared.pool(0, false).give_spare();
        shared.is_whole();
    });
}

/// Legal outcomes for two threads of a process that take one ahead and give it back, beside one that takes it: nobody has it
/// twice, and nothing is left behind.
#[test]
fn one_is_taken_ahead_by_two() {
    explore("taken ahead by two", 3, 100, || {
        let shared = Arc::new(Shared::new());
        let [first, second] = [1, 2].map(|value| {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.pool(0, false).prepare();
                match shared.fill(0, 1, value) {
                    Some(run) => shared.empty(0, run, value),
                    None => _ = shared.pool(0, false).give_spare(),
                }
            })
        });
        let taken = shared.fill(0, 1, 3);
        taken.into_iter().for_each(|run| shared.empty(0, run, 3));
        first.join().unwrap();
        second.join().unwrap();
        shared.pool(0, false).give_spare();
        shared.is_whole();
    });
}

/// Legal outcomes for a thread that would unmap the memory when its process has none of the buffers any more: it finds one
/// in use, or is after the last look at it.
#[test]
fn what_is_in_use_stays_mapped() {
    explore("in use", 2, 2, || {
        let shared = Arc::new(Shared::new());
        shared.pool(2, false).hold(Run { first: 0, count: 1 }).unwrap();
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || shared.empty(2, Run { first: 0, count: 1 }, 0))
        };
        if !shared.pool(2, false).is_in_use() {
            shared.payload[0].write(1);
        }
        reader.join().unwrap();
    });
}

/// Legal outcomes for one buffer that goes round from a sender by a ring to a receiver and back to another thread
/// of the sender's process: that thread gets it only when the receiver has read it, with its lent flag clear; no word
/// on the way is impossible.
#[test]
fn a_buffer_goes_round() {
    explore("circuit", 3, 50, || {
        let shared = Arc::new(Shared::new());
        shared.words[1].store(BufferWord::held(HOLDERS[1]).word(), hqq::sync::Ordering::Relaxed);
        let slots = Arc::new([slot(0), slot(0)]);
        let sender = {
            let (shared, slots) = (shared.clone(), slots.clone());
            thread::spawn(move || {
                let Some(run) = shared.fill(0, 1, 5) else { return };
                let tail = AtomicU64::new(0);
                let producer = Producer::new(&*slots, &tail, HOLDERS[0], false);
                let ticket = producer.claim().expect("empty");
                shared.pool(0, false).pass(run);
                producer.publish(ticket, &Packet::new(op::STANDARD_LINK_COPY, [1, run.first.into(), 8]));
            })
        };
        let receiver = {
            let (shared, slots) = (shared.clone(), slots.clone());
            thread::spawn(move || {
                let cursors = [AtomicU64::new(0), AtomicU64::new(0)];
                let consumer = Consumer::new(&*slots, &cursors[0], &cursors[1], HOLDERS[2], false);
                if let Take::Packet(ticket, packet) = consumer.take(|_| true, || {}).expect("possible words")
                {
                    let run = Run { first: packet.operands[1] as u32, count: 1 };
                    shared.pool(2, false).hold(run).expect("held once");
                    consumer.release(ticket);
                    let value = shared.payload[run.first as usize].read();
                    assert!(value == 5);
                    shared.pool(2, false).give(run);
                }
            })
        };
        if let Some(run) = shared.fill(0, 1, 6) {
            shared.empty(0, run, 6);
        }
        sender.join().unwrap();
        receiver.join().unwrap();
    });
}
