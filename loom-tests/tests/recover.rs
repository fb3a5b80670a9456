//! Models of recovery: the slots and buffers of a dead seat are released while others work. The dead process is a thread that
//! stopped in the middle and was joined, which proves its death.
#![cfg(loom)]

use hqq::shm::layout::Geometry;
use hqq::shm::packet::{Packet, Run, op};
use hqq::shm::pool::{Pool, Shortage};
use hqq::shm::recover::{DirectionWords, Recovered, recover};
use hqq::shm::ring::{Consumer, Producer, Take};
use hqq::shm::words::{BufferWord, Holder, LeaseWord, Slot};
use hqq::sync::{AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;
use loom_tests::{Payload, explore, slot};

const DEAD: Holder = Holder::new(1, 2);
const SENDER: Holder = Holder::new(0, 1);
const RECEIVER: Holder = Holder::new(2, 3);
const FIRST: u64 = (1 << 39) - 1;
const START: u64 = FIRST * 2;

/// One direction with two slots and two buffers, of which only buffer 0 matters.
struct Shared {
    slots: [Slot; 2],
    words: [AtomicU64; 2],
    lease: AtomicU64,
    payload: Payload,
}

/// A process's private words.
struct Private {
    lent: [AtomicU64; 2],
    cursors: [AtomicU64; 4],
}

impl Private {
    fn new() -> Self {
        Self {
            lent: [AtomicU64::new(0), AtomicU64::new(0)],
            cursors: [START, START, 0, 0].map(AtomicU64::new),
        }
    }

    fn producer<'a>(&'a self, shared: &'a Shared, holder: Holder) -> Producer<'a> {
        Producer::new(&shared.slots, &self.cursors[0], holder, false)
    }

    fn consumer<'a>(&'a self, shared: &'a Shared, holder: Holder) -> Consumer<'a> {
        Consumer::new(&shared.slots, &self.cursors[0], &self.cursors[1], holder, false)
    }

    fn pool<'a>(&'a self, shared: &'a Shared, holder: Holder) -> Pool<'a> {
        let [_, _, hint, spare] = &self.cursors;
        Pool::new(&shared.words, &shared.lease, &self.lent, hint, spare, holder, false)
    }
}

const BUFFER: Run = Run { first: 0, count: 1 };

impl Shared {
    fn new() -> Arc<Self> {
        let held = BufferWord::held(RECEIVER).word();
        Arc::new(Self {
            slots: [slot(FIRST), slot(FIRST)],
            words: [AtomicU64::new(BufferWord::FREE.word()), AtomicU64::new(held)],
            lease: AtomicU64::new(LeaseWord::VACANT.word()),
            payload: Payload::new(),
        })
    }

    /// Recovers both slots and buffers, or the first of each alone, where nothing happened to the others.
    fn recover_so_many(&self, count: usize) -> Recovered {
        let (slots, words) = (&self.slots[..count], &self.words[..count]);
        let direction = DirectionWords { slots, words, lease: &self.lease };
        let geometry = Geometry::new(2, 2, 8).unwrap();
        recover(direction, geometry, DEAD, &mut [0; 2]).expect("only possible words")
    }

    fn recover(&self) -> Recovered {
        self.recover_so_many(2)
    }

    /// Takes buffer 0 if it is free, writes it and sends it; what came of it.
    fn send(&self, private: &Private, holder: Holder, value: u64) -> bool {
        let pool = private.pool(self, holder);
        let Ok(run) = pool.allocate(1) else { return false };
        assert_eq!(run, BUFFER);
        self.payload.write(value);
        let producer = private.producer(self, holder);
        let Ok(ticket) = producer.claim() else {
            pool.give(run);
            return false;
        };
        pool.pass(run);
        producer.publish(ticket, &Packet::new(op::STANDARD_LINK_COPY, [1, 0, 8]));
        true
    }

    /// Receives, reads and gives back.
    fn receive(&self, private: &Private) -> Option<u64> {
        let consumer = private.consumer(self, RECEIVER);
        let Take::Packet(ticket, packet) = consumer.take(|_| true, || {}).expect("only possible words")
        else {
            return None;
        };
        if packet.op == op::CONN_CREATE {
            consumer.release(ticket);
            return Some(packet.operands[0]);
        }
        assert_eq!(packet, Packet::new(op::STANDARD_LINK_COPY, [1, 0, 8]));
        let pool = private.pool(self, RECEIVER);
        pool.hold(BUFFER).expect("held once");
        consumer.release(ticket);
        let value = self.payload.read();
        pool.give(BUFFER);
        Some(value)
    }

    fn is_clean(&self) {
        assert_eq!(self.words[0].load(Ordering::Relaxed), BufferWord::FREE.word());
        assert_eq!(self.lease.load(Ordering::Relaxed), LeaseWord::VACANT.word());
    }
}

/// Runs what the dead did, until it stopped, in a thread of its own.
fn die(shared: &Arc<Shared>, last: impl FnOnce(&Shared, &Private) + 'static) {
    let shared = shared.clone();
    thread::spawn(move || last(&shared, &Private::new())).join().unwrap();
}

/// The dead took the buffer, wrote half of it, and claimed a slot.
fn hole(shared: &Shared, private: &Private) {
    private.pool(shared, DEAD).allocate(1).unwrap();
    shared.payload.write(99);
    let _claimed = private.producer(shared, DEAD).claim().unwrap();
}

/// The dead received a packet as far as marking its buffer, and did not release the slot.
fn half_received(shared: &Shared, private: &Private) {
    let consumer = private.consumer(shared, DEAD);
    let Ok(Take::Packet(_ticket, _)) = consumer.take(|_| true, || {}) else { panic!("there is one") };
    private.pool(shared, DEAD).hold(BUFFER).unwrap();
}

/// Legal outcomes for the hole of a dead producer, recovered beside a living producer and consumer: one
/// tombstone, one buffer freed; the living message arrives once if it was sent; what the dead wrote is read by
/// nobody, and its buffer is written by another only after recovery freed it.
#[test]
fn a_hole_beside_the_living() {
    explore("hole", 2, 50, || {
        let shared = Shared::new();
        let sender = {
            let shared = shared.clone();
            thread::spawn(move || shared.send(&Private::new(), SENDER, 8))
        };
        die(&shared, |shared, private| {
            if private.pool(shared, DEAD).allocate(1).is_ok() {
                shared.payload.write(99);
            }
            let _claimed = private.producer(shared, DEAD).claim();
        });
        shared.recover();
        let private = Private::new();
        let mut got: Vec<u64> = shared.receive(&private).into_iter().collect();
        let sent = sender.join().unwrap();
        got.extend(std::iter::from_fn(|| shared.receive(&private)));
        assert_eq!(got, Vec::from_iter(sent.then_some(8)));
        shared.is_clean();
    });
}

/// Legal outcomes for two that recover the same dead at once: each thing is done by exactly one of them, and
/// nothing is done twice.
#[test]
fn two_recoverers() {
    for taken in [false, true] {
        let name = if taken { "packet" } else { "hole" };
        explore(&format!("two recoverers, {name}"), 2, 10, move || {
            let shared = Shared::new();
            if taken {
                assert!(shared.send(&Private::new(), SENDER, 5));
            }
            shared.lease.store(LeaseWord::leased(DEAD).word(), Ordering::Relaxed);
            die(&shared, if taken { half_received } else { hole });
            let other = {
                let shared = shared.clone();
                thread::spawn(move || shared.recover_so_many(1))
            };
            let mut done = shared.recover_so_many(1);
            done += other.join().unwrap();
            let want = if taken {
                Recovered { tombstones: 0, returned: 1, buffers: 0 }
            } else {
                Recovered { tombstones: 1, returned: 0, buffers: 1 }
            };
            assert_eq!(done, want);
            assert_eq!(shared.receive(&Private::new()), taken.then_some(5));
            shared.is_clean();
        });
    }
}

/// Legal outcomes for a packet that a dead receiver had taken, recovered beside a living receiver whose cursors are
/// past it and a producer: it and the next message are delivered once each.
#[test]
fn a_returned_packet_is_received_once() {
    explore("returned", 3, 50, || {
        let shared = Shared::new();
        let private = Private::new();
        assert!(shared.send(&private, SENDER, 5));
        die(&shared, half_received);
        let sender = {
            let shared = shared.clone();
            thread::spawn(move || {
                let producer = private.producer(&shared, SENDER);
                let ticket = producer.claim().expect("one is free");
                producer.publish(ticket, &Packet::new(op::CONN_CREATE, [6]));
            })
        };
        let recoverer = {
            let shared = shared.clone();
            thread::spawn(move || shared.recover())
        };
        let private = Private::new();
        let mut got: Vec<u64> = shared.receive(&private).into_iter().collect();
        assert_eq!(recoverer.join().unwrap(), Recovered { tombstones: 0, returned: 1, buffers: 0 });
        sender.join().unwrap();
        got.extend(std::iter::from_fn(|| shared.receive(&private)));
        got.sort_unstable();
        assert_eq!(got, [5, 6]);
        shared.is_clean();
    });
}

/// Legal outcomes for a receiver, past the slot or not yet, beside the recovery of another that died when it had marked
/// the packet's buffer: nothing yet, or the packet, and the buffer is then its own and not the dead one's.
#[test]
fn a_returned_packet_has_a_new_receiver() {
    explore("new receiver", 2, 10, || {
        let shared = Shared::new();
        let private = Private::new();
        assert!(shared.send(&private, SENDER, 5));
        let receiver = {
            let shared = shared.clone();
            thread::spawn(move || {
                let private = Private::new();
                let consumer = private.consumer(&shared, RECEIVER);
                let took = consumer.take(|_| true, || {}).expect("only possible words");
                let Take::Packet(ticket, packet) = took else { return };
                assert_eq!(packet, Packet::new(op::STANDARD_LINK_COPY, [1, 0, 8]));
                private.pool(&shared, RECEIVER).hold(BUFFER).expect("held once");
                consumer.release(ticket);
                assert_eq!(shared.words[0].load(Ordering::Relaxed), BufferWord::held(RECEIVER).word());
            })
        };
        let consumer = private.consumer(&shared, DEAD);
        if let Ok(Take::Packet(_ticket, _)) = consumer.take(|_| true, || {}) {
            private.pool(&shared, DEAD).hold(BUFFER).unwrap();
            assert_eq!(shared.recover_so_many(1).returned, 1);
        }
        receiver.join().unwrap();
    });
}

/// Legal outcomes for a recovery that reads a slot while it goes round: the packet that was there, or nothing. Never
/// operands of the next packet with the opcode of this one, which would name a buffer of the dead and spare it.
#[test]
fn a_slot_is_read_whole_or_not_at_all() {
    explore("slot goes round", 2, 5, || {
        let shared = Shared::new();
        shared.words[1].store(BufferWord::owned(DEAD).word(), Ordering::Relaxed);
        let slots = Arc::new([slot(0)]);
        let cursors = [0; 3].map(AtomicU64::quiet);
        let producer = Producer::new(&*slots, &cursors[0], SENDER, false);
        let ticket = producer.claim().expect("room");
        producer.publish(ticket, &Packet::new(op::STANDARD_LINK_COPY, [1, 0, 8]));
        let recoverer = {
            let (shared, slots) = (shared.clone(), slots.clone());
            thread::spawn(move || {
                let direction = DirectionWords { slots: &*slots, words: &shared.words, lease: &shared.lease };
                let geometry = Geometry::new(2, 2, 8).unwrap();
                recover(direction, geometry, DEAD, &mut [0; 2]).expect("only possible words")
            })
        };
        let consumer = Consumer::new(&*slots, &cursors[1], &cursors[2], RECEIVER, false);
        let Ok(Take::Packet(ticket, _)) = consumer.take(|_| true, || {}) else { panic!("there is one") };
        consumer.release(ticket);
        let ticket = producer.claim().expect("room");
        producer.publish(ticket, &Packet::new(op::CONN_CREATE, [1, 1, 8]));
        assert_eq!(recoverer.join().unwrap().buffers, 1);
    });
}

/// Legal outcomes for the message of a producer that died after it published, recovered while a receiver takes it
/// and another sender waits for its buffer: the message is received whole, once; the buffer passes to the other
/// sender only when the receiver has given it back, never because its word names the dead.
#[test]
fn a_message_outlives_its_sender() {
    explore("in flight", 3, 50, || {
        let shared = Shared::new();
        die(&shared, |shared, private| assert!(shared.send(private, DEAD, 5)));
        let receiver = {
            let shared = shared.clone();
            thread::spawn(move || shared.receive(&Private::new()))
        };
        let sender = {
            let shared = shared.clone();
            thread::spawn(move || shared.send(&Private::new(), SENDER, 6))
        };
        assert_eq!(shared.recover(), Recovered::default());
        assert_eq!(receiver.join().unwrap(), Some(5));
        let sent = sender.join().unwrap();
        assert_eq!(shared.receive(&Private::new()), sent.then_some(6));
        shared.is_clean();
    });
}

/// Legal outcomes for a gather that the dead left unfinished, recovered beside a living gatherer: that one gets
/// the run once recovery has freed lease and buffers, or finds the lease busy or too little. It never writes a
/// payload that it does not see the dead leave.
#[test]
fn a_gather_cut_short() {
    explore("gather", 2, 10, || {
        let shared = Shared::new();
        shared.words[1].store(BufferWord::FREE.word(), Ordering::Relaxed);
        let sender = {
            let shared = shared.clone();
            thread::spawn(move || {
                let private = Private::new();
                let pool = private.pool(&shared, SENDER);
                if let Ok(run) = pool.allocate(2) {
                    shared.payload.write(1);
                    pool.give(run);
                }
            })
        };
        die(&shared, |shared, private| {
            let leased = LeaseWord::leased(DEAD).word();
            let vacant = LeaseWord::VACANT.word();
            let lease = shared.lease.compare_exchange(vacant, leased, Ordering::Acquire, Ordering::Relaxed);
            if lease.is_ok() && private.pool(shared, DEAD).allocate(1).is_ok_and(|run| run == BUFFER) {
                shared.payload.write(99);
            }
        });
        shared.recover();
        sender.join().unwrap();
        shared.is_clean();
        assert!(Private::new().pool(&shared, SENDER).allocate(2).is_ok());
    });
}

/// Legal outcomes for a gatherer that comes while the dead's lease and buffer are given up: busy, or the whole run.
/// Never too little, for the lease is given up last and hands on the buffers.
#[test]
fn a_lease_hands_on_the_buffers() {
    explore("lease of the dead", 2, 3, || {
        let shared = Shared::new();
        shared.words[1].store(BufferWord::FREE.word(), Ordering::Relaxed);
        die(&shared, |shared, private| {
            shared.lease.store(LeaseWord::leased(DEAD).word(), Ordering::Relaxed);
            private.pool(shared, DEAD).allocate(1).unwrap();
        });
        let gatherer = {
            let shared = shared.clone();
            thread::spawn(move || Private::new().pool(&shared, SENDER).allocate(2))
        };
        shared.recover();
        let legal = [Ok(Run { first: 0, count: 2 }), Err(Shortage::Busy)];
        assert!(legal.contains(&gatherer.join().unwrap()));
    });
}
