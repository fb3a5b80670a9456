//! Benchmarks within one process: the structures without contention, and the public calls on a pair in one thread.
//!
//! These figures say what the code costs, not how fast two processes talk: that takes two processors and is what
//! `hqq bench` and the example `compare` measure.

use std::hint::black_box;
use std::io::{Read, Write};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hqq::shm::packet::{Packet, op};
use hqq::shm::pool::Pool;
use hqq::shm::ring::{Consumer, Producer, Take};
use hqq::shm::words::{BufferWord, Holder, Lap, LeaseWord, Slot};
use hqq::sync::AtomicU64;
use hqq::{Options, RingMode, StandardLink, WaitMode};

const SIZES: [usize; 5] = [8, 48, 64, 4096, 65536];

/// Push and pop of a packet, and take and give of buffers, on words in private memory.
fn core(c: &mut Criterion) {
    let (ours, theirs) = (Holder::new(0, 1), Holder::new(1, 1));
    let mut group = c.benchmark_group("core");
    for (name, single) in [("push and pop, mpmc", false), ("push and pop, spsc", true)] {
        let slots: Vec<Slot> = (0..1024).map(|_| Slot::new(Lap::new(0))).collect();
        let [tail, head, floor] = [0; 3].map(AtomicU64::new);
        let producer = Producer::new(&slots, &tail, ours, single);
        let consumer = Consumer::new(&slots, &head, &floor, theirs, single);
        let packet = Packet::new(op::STANDARD_LINK_COPY, [1, 2, 3, 4]);
        group.bench_function(name, |b| {
            b.iter(|| {
                let ticket = producer.claim().expect("the ring is empty");
                producer.publish(ticket, black_box(&packet));
                match consumer.take(|_| true, || {}) {
                    Ok(Take::Packet(ticket, packet)) => {
                        consumer.release(ticket);
                        packet
                    }
                    other => panic!("{other:?}"),
                }
            })
        });
    }
    for count in [1, 4] {
        let words: Vec<AtomicU64> = (0..64).map(|_| AtomicU64::new(BufferWord::FREE.word())).collect();
        let lent: Vec<AtomicU64> = (0..64).map(|_| AtomicU64::new(0)).collect();
        let (lease, [hint, spare]) = (AtomicU64::new(LeaseWord::VACANT.word()), [0, 0].map(AtomicU64::new));
        let pool = Pool::new(&words, &lease, &lent, &hint, &spare, ours, false);
        group.bench_function(BenchmarkId::new("take and give buffers", count), |b| {
            b.iter(|| pool.give(pool.allocate(black_box(count)).expect("the pool is whole")))
        });
    }
    group.finish();
}

/// A message sent and received by the same thread: in the slot up to 48 bytes, else through the pool.
fn messages(c: &mut Criterion) {
    let (primary, secondary) = StandardLink::pair().expect("a pair can be made");
    let mut group = c.benchmark_group("send and recv, mpmc");
    for size in SIZES {
        let message = vec![7; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("copied", size), |b| {
            b.iter(|| {
                primary.send(black_box(&message)).expect("there is room");
                secondary.recv().expect("it has been sent").len()
            })
        });
    }
    group.throughput(Throughput::Elements(1));
    for size in [48, 4096, 65536] {
        group.bench_function(BenchmarkId::new("loan, untouched", size), |b| {
            b.iter(|| {
                let loan = primary.loan(black_box(size)).expect("there are buffers");
                loan.send().expect("there is room");
                secondary.recv().expect("it has been sent").len()
            })
        });
    }
    group.finish();
}

/// The same on the halves of a single-producer, single-consumer link that never sleeps.
fn halves(c: &mut Criterion) {
    let options = Options::new().ring_mode(RingMode::Spsc).wait_mode(WaitMode::Spin);
    let (primary, secondary) = StandardLink::pair_with(options).expect("a pair can be made");
    let (sender, _quiet) = primary.split().expect("no connection was made");
    let (_silent, receiver) = secondary.split().expect("no connection was made");
    let mut group = c.benchmark_group("send and recv, spsc halves, spin");
    for size in SIZES {
        let message = vec![7; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("copied", size), |b| {
            b.iter(|| {
                sender.send(black_box(&message)).expect("there is room");
                receiver.recv().expect("it has been sent").len()
            })
        });
    }
    group.finish();
}

/// Sixteen messages, one by one and as a batch.
fn batches(c: &mut Criterion) {
    let (primary, secondary) = StandardLink::pair().expect("a pair can be made");
    let batch = [&[7; 32][..]; 16];
    let mut group = c.benchmark_group("16 messages of 32 bytes");
    group.throughput(Throughput::Elements(16));
    group.bench_function("one by one", |b| {
        b.iter(|| {
            batch.iter().for_each(|message| primary.send(message).expect("there is room"));
            batch.iter().map(|_| secondary.recv().expect("it has been sent").len()).sum::<usize>()
        })
    });
    group.bench_function("batch", |b| {
        let mut received = Vec::with_capacity(16);
        b.iter(|| {
            primary.send_batch(black_box(&batch)).expect("there is room");
            secondary.recv_batch(&mut received, 16).expect("they have been sent");
            received.drain(..).map(|message| message.len()).sum::<usize>()
        })
    });
    group.finish();
}

/// Bytes through `Write` and `Read`, on the link and on a connection.
fn streams(c: &mut Criterion) {
    const SIZE: usize = 16 * 1024;
    let (primary, secondary) = StandardLink::pair().expect("a pair can be made");
    let (bytes, mut into) = (vec![7; SIZE], vec![0; SIZE]);
    let mut group = c.benchmark_group("write and read 16 KiB");
    group.throughput(Throughput::Bytes(SIZE as u64));
    group.bench_function("link", |b| {
        b.iter(|| {
            (&primary).write_all(black_box(&bytes)).expect("there is room");
            (&secondary).read_exact(&mut into).expect("it has been written");
        })
    });
    let (ours, theirs) = std::thread::scope(|scope| {
        let accepting = scope.spawn(|| secondary.accept_connection());
        let ours = primary.open_connection().expect("somebody accepts");
        (ours, accepting.join().expect("accepting does not panic").expect("it was opened"))
    });
    group.bench_function("connection", |b| {
        b.iter(|| {
            (&ours).write_all(black_box(&bytes)).expect("there is room");
            (&theirs).read_exact(&mut into).expect("it has been written");
        })
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots();
    targets = core, messages, halves, batches, streams
}
criterion_main!(benches);
