//! Models of announcing sleep. A doorbell is a token that stays until it is read. A thread that waits for one that never comes
//! is a deadlock, which loom reports.
#![cfg(loom)]

use hqq::shm::packet::{Packet, op};
use hqq::shm::ring::{Consumer, Producer, Take};
use hqq::shm::sleepers::Sleepers;
use hqq::shm::words::{Holder, SleepersWord, Want};
use hqq::sync::{AtomicU64, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;
use loom_tests::{explore, slot};

const SENDER: Holder = Holder::new(0, 1);
const RECEIVER: Holder = Holder::new(1, 1);

/// One side's announcements, the doorbells of two seats of it, and two events.
struct Shared {
    sleepers: AtomicU64,
    bells: [Notify; 2],
    events: [AtomicU64; 2],
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            sleepers: AtomicU64::new(SleepersWord::AWAKE),
            bells: [Notify::new(), Notify::new()],
            events: [AtomicU64::new(0), AtomicU64::new(0)],
        })
    }

    /// After an event: rings whoever announced.
    fn ring(&self, want: Want) {
        let seats = Sleepers::new(&self.sleepers).check(want);
        for (seat, bell) in self.bells.iter().enumerate() {
            if seats >> seat & 1 == 1 {
                bell.notify();
            }
        }
    }

    /// Sleeps until `done`.
    fn wait(&self, seat: usize, want: Want, mut done: impl FnMut() -> bool) {
        let sleepers = Sleepers::new(&self.sleepers);
        while !done() {
            sleepers.announce(seat, want);
            if done() {
                sleepers.cancel(seat, want);
                return;
            }
            self.bells[seat].wait();
        }
    }

    fn happened(&self, event: usize) -> bool {
        self.events[event].load(Ordering::Relaxed) == 1
    }

    fn raise(&self, event: usize, want: Want) {
        self.events[event].store(1, Ordering::Relaxed);
        self.ring(want);
    }
}

/// Legal outcomes: the waiter sees the event before it sleeps, or is rung. Never both asleep and not rung.
#[test]
fn one_ringer() {
    explore("one ringer", 2, 5, || {
        let shared = Shared::new();
        let ringer = {
            let shared = shared.clone();
            thread::spawn(move || shared.raise(0, Want::Data))
        };
        shared.wait(0, Want::Data, || shared.happened(0));
        ringer.join().unwrap();
    });
}

/// Legal outcomes: as above for a waiter that needs the events of two ringers, one of whom may strike the
/// announcement off for both.
#[test]
fn two_ringers() {
    explore("two ringers", 3, 50, || {
        let shared = Shared::new();
        let ringers = [0, 1].map(|event| {
            let shared = shared.clone();
            thread::spawn(move || shared.raise(event, Want::Data))
        });
        shared.wait(0, Want::Data, || shared.happened(0) && shared.happened(1));
        ringers.into_iter().for_each(|ringer| ringer.join().unwrap());
    });
}

/// Legal outcomes: one event wakes both seats that wait for it.
#[test]
fn two_waiters() {
    explore("two waiters", 3, 50, || {
        let shared = Shared::new();
        let waiters = [0, 1].map(|seat| {
            let shared = shared.clone();
            thread::spawn(move || shared.wait(seat, Want::Data, || shared.happened(0)))
        });
        shared.raise(0, Want::Data);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

/// Legal outcomes: each want is rung for by its own event only; the other's announcement stays.
#[test]
fn wants_do_not_mix() {
    explore("two wants", 3, 50, || {
        let shared = Shared::new();
        let waiter = {
            let shared = shared.clone();
            thread::spawn(move || shared.wait(1, Want::Space, || shared.happened(1)))
        };
        let ringer = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.raise(0, Want::Data);
                shared.raise(1, Want::Space);
            })
        };
        shared.wait(0, Want::Data, || shared.happened(0));
        waiter.join().unwrap();
        ringer.join().unwrap();
    });
}

/// Legal outcomes for a receiver that blocks on an empty ring: the message arrives, and it does not sleep for ever.
#[test]
fn a_receiver_waits_for_data() {
    explore("blocking receiver", 2, 50, || {
        let shared = Shared::new();
        let slots = Arc::new([slot(0), slot(0)]);
        let sender = {
            let (shared, slots) = (shared.clone(), slots.clone());
            thread::spawn(move || {
                let tail = AtomicU64::new(0);
                let producer = Producer::new(&*slots, &tail, SENDER, false);
                let ticket = producer.claim().expect("room");
                producer.publish(ticket, &Packet::new(op::CONN_CREATE, [7]));
                shared.ring(Want::Data);
            })
        };
        let cursors = [AtomicU64::new(0), AtomicU64::new(0)];
        let consumer = Consumer::new(&*slots, &cursors[0], &cursors[1], RECEIVER, false);
        shared.wait(0, Want::Data, || consumer.is_ready());
        let Ok(Take::Packet(_, packet)) = consumer.take(|_| true, || {}) else { panic!("it was ready") };
        assert_eq!(packet.operands[0], 7);
        sender.join().unwrap();
    });
}

/// Legal outcomes for a sender that blocks on a full ring: there is room once the receiver has released a slot, and it
/// does not sleep for ever.
#[test]
fn a_sender_waits_for_room() {
    explore("blocking sender", 2, 50, || {
        let shared = Shared::new();
        let slots = Arc::new([slot(0)]);
        let tail = AtomicU64::new(0);
        let producer = Producer::new(&*slots, &tail, SENDER, false);
        let ticket = producer.claim().expect("room");
        producer.publish(ticket, &Packet::new(op::CONN_CREATE, [7]));
        let receiver = {
            let (shared, slots) = (shared.clone(), slots.clone());
            thread::spawn(move || {
                let cursors = [AtomicU64::new(0), AtomicU64::new(0)];
                let consumer = Consumer::new(&*slots, &cursors[0], &cursors[1], RECEIVER, false);
                let Ok(Take::Packet(ticket, _)) = consumer.take(|_| true, || {}) else { panic!("lost") };
                consumer.release(ticket);
                shared.ring(Want::Space);
            })
        };
        shared.wait(1, Want::Space, || producer.has_room());
        assert!(producer.claim().is_ok(), "there was room");
        receiver.join().unwrap();
    });
}
