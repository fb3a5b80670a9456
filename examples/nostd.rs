//! The core without the standard library: a ring and a pool on memory of the caller.
//!
//! The core of HQQ needs neither an operating system nor an allocator. Here all memory is one static, as on a
//! microcontroller with two cores; two threads stand for the cores. They share the words of the ring and of the pool, each
//! of which names its holder. Cursors and lent flags are private to each side.
//!
//! A whole region, with superblock, seats and both directions, is laid out by `Region::init` on a base pointer and a
//! length; the documentation of the module `hqq::shm::endpoint` shows that. It is `unsafe`, since only the caller can
//! know that the memory is valid and not used otherwise.

use core::sync::atomic::Ordering;
use hqq::shm::packet::{Packet, Run, op};
use hqq::shm::pool::{Pool, Shortage};
use hqq::shm::ring::{Consumer, Denied, Producer, Take};
use hqq::shm::words::{BufferWord, Holder, Lap, Slot};
use hqq::sync::AtomicU64;
use std::sync::LazyLock;
use std::thread;

const SLOTS: usize = 8;
const BUFFERS: usize = 4;
const SIZE: usize = 16;
const MESSAGES: u64 = 10_000;

/// Memory that both cores share. The payload is atomic words too, so that safe code can share it.
struct Shared {
    slots: [Slot; SLOTS],
    pool: [AtomicU64; BUFFERS],
    lease: AtomicU64,
    payload: [[AtomicU64; SIZE]; BUFFERS],
}

static SHARED: LazyLock<Shared> = LazyLock::new(|| Shared {
    slots: core::array::from_fn(|_| Slot::new(Lap::new(0))),
    pool: core::array::from_fn(|_| AtomicU64::new(BufferWord::FREE.word())),
    lease: AtomicU64::new(hqq::shm::words::LeaseWord::VACANT.word()),
    payload: core::array::from_fn(|_| core::array::from_fn(|_| AtomicU64::new(0))),
});

/// Memory that is private to one core: the other core cannot change it.
#[derive(Default)]
struct Private {
    cursors: [AtomicU64; 2],
    hint: AtomicU64,
    spare: AtomicU64,
    lent: [AtomicU64; BUFFERS],
}

impl Private {
    fn pool(&self, holder: Holder) -> Pool<'_> {
        Pool::new(&SHARED.pool, &SHARED.lease, &self.lent, &self.hint, &self.spare, holder, true)
    }
}

/// Fills a buffer for each message and sends it.
fn send() {
    let (private, holder) = (Private::default(), Holder::new(0, 1));
    let pool = private.pool(holder);
    let ring = Producer::new(&SHARED.slots, &private.cursors[0], holder, true);
    for number in 1..=MESSAGES {
        let run = loop {
            match pool.allocate(1) {
                Ok(run) => break run,
                Err(Shortage::Impossible(what)) => panic!("{what:?}"),
                Err(_) => thread::yield_now(),
            }
        };
        for (i, word) in SHARED.payload[run.first as usize].iter().enumerate() {
            word.store(number * i as u64, Ordering::Relaxed);
        }
        let ticket = loop {
            match ring.claim() {
                Ok(ticket) => break ticket,
                Err(Denied::Impossible(what)) => panic!("{what:?}"),
                Err(_) => thread::yield_now(),
            }
        };
        pool.pass(run);
        // Publishing the packet publishes the payload with it.
        let packet = Packet::new(op::STANDARD_LINK_COPY, [number, run.first.into(), SIZE as u64 * 8]);
        ring.publish(ticket, &packet);
    }
}

/// Checks each message in place and releases its buffer.
fn receive() -> u64 {
    let (private, holder) = (Private::default(), Holder::new(1, 1));
    let pool = private.pool(holder);
    let ring = Consumer::new(&SHARED.slots, &private.cursors[0], &private.cursors[1], holder, true);
    let mut sum = 0;
    for number in 1..=MESSAGES {
        let (ticket, packet) = loop {
            match ring.take(|_| true, || {}).expect("every word is possible") {
                Take::Packet(ticket, packet) => break (ticket, packet),
                _ => thread::yield_now(),
            }
        };
        assert_eq!(packet.operands[0], number, "in order, none lost");
        let run = Run { first: packet.operands[1] as u32, count: 1 };
        pool.hold(run).expect("it is the sender's until now");
        ring.release(ticket);
        let words = SHARED.payload[run.first as usize].iter();
        sum += words.map(|word| word.load(Ordering::Relaxed)).sum::<u64>();
        pool.give(run);
    }
    sum
}

fn main() {
    let sender = thread::spawn(send);
    let sum = receive();
    sender.join().expect("the sending core does not panic");
    assert_eq!(sum, (0..SIZE as u64).sum::<u64>() * (MESSAGES * (MESSAGES + 1) / 2));
    println!("{MESSAGES} messages through {SLOTS} slots and {BUFFERS} buffers of one static");
}
