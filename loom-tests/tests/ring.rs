//! Models of the ring with a capacity of 2. A payload cell beside each slot stands for a buffer: loom reports a race unless
//! publish and release order its accesses.
#![cfg(loom)]

use hqq::shm::packet::{Packet, op};
use hqq::shm::ring::{Consumer, Denied, Producer, Take};
use hqq::shm::words::{Holder, Slot};
use hqq::sync::{AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;
use loom_tests::{Payload, explore, slot};

/// Laps begin just before the wrap, so that most models cross it.
const FIRST: u64 = (1 << 39) - 1;
const START: u64 = FIRST * 2;
const P: [Holder; 2] = [Holder::new(0, 1), Holder::new(1, 9)];
const C: [Holder; 2] = [Holder::new(2, 31), Holder::new(3, 1)];

/// A process's private cursors.
struct Cursors {
    tail: AtomicU64,
    head: AtomicU64,
    floor: AtomicU64,
}

impl Cursors {
    fn new(at: u64) -> Self {
        let cursor = || AtomicU64::new(at);
        Self { tail: cursor(), head: cursor(), floor: cursor() }
    }
}

/// A ring between two sending and two receiving processes.
struct Ring {
    slots: [Slot; 2],
    payload: [Payload; 2],
    senders: [Cursors; 2],
    receivers: [Cursors; 2],
    single: (bool, bool),
}

impl Ring {
    fn new(single: (bool, bool)) -> Self {
        let cursors = || [Cursors::new(START), Cursors::new(START)];
        Self {
            slots: [slot(FIRST), slot(FIRST)],
            payload: [Payload::new(), Payload::new()],
            senders: cursors(),
            receivers: cursors(),
            single,
        }
    }

    fn producer(&self, process: usize) -> Producer<'_> {
        Producer::new(&self.slots, &self.senders[process].tail, P[process], self.single.0)
    }

    fn consumer(&self, process: usize) -> Consumer<'_> {
        let cursors = &self.receivers[process];
        Consumer::new(&self.slots, &cursors.head, &cursors.floor, C[process], self.single.1)
    }

    /// Sends `value`, or gives the slot up for a zero; false if the ring is full or others are in the way.
    fn send(&self, process: usize, value: u64) -> bool {
        let producer = self.producer(process);
        match producer.claim() {
            Ok(ticket) => {
                self.payload[ticket.position() as usize & 1].write(value);
                if value == 0 {
                    producer.abandon(ticket);
                } else {
                    producer.publish(ticket, &Packet::new(op::CONN_CREATE, [value, !value]));
                }
                true
            }
            Err(Denied::Full | Denied::Busy) => false,
            Err(Denied::Impossible(what)) => panic!("{what:?}"),
        }
    }

    /// Takes the next value.
    fn receive(&self, process: usize) -> Option<u64> {
        let consumer = self.consumer(process);
        match consumer.take(|_| true, || {}).expect("only possible words") {
            Take::Packet(ticket, packet) => {
                let value = self.payload[ticket.position() as usize & 1].read();
                assert_eq!(packet, Packet::new(op::CONN_CREATE, [value, !value]), "packet and payload agree");
                consumer.release(ticket);
                Some(value)
            }
            Take::Empty | Take::Busy => None,
            Take::Other(op) => panic!("{op}"),
        }
    }

    /// Takes the next value if it is where the head cursor says, and looks further only if not, as a receive does.
    fn receive_at_head(&self, process: usize) -> Option<u64> {
        let consumer = self.consumer(process);
        let Some((ticket, packet)) = consumer.take_at_head(|_| true) else { return self.receive(process) };
        let value = self.payload[ticket.position() as usize & 1].read();
        assert_eq!(packet, Packet::new(op::CONN_CREATE, [value, !value]), "packet and payload agree");
        consumer.release(ticket);
        Some(value)
    }

    /// What is left, as one process takes it.
    fn drain(&self, process: usize) -> Vec<u64> {
        std::iter::from_fn(|| self.receive(process)).collect()
    }
}

/// Each of `sent` exactly once in `got`.
fn same(mut got: Vec<u64>, mut sent: Vec<u64>) {
    got.sort_unstable();
    sent.sort_unstable();
    assert_eq!(got, sent, "none lost, none doubled");
}

/// Sends the values in order until one is refused; those that went out, but for tombstones.
fn send_all(ring: &Ring, process: usize, values: &[u64]) -> Vec<u64> {
    values
        .iter()
        .copied()
        .take_while(|value| ring.send(process, *value))
        .filter(|value| *value != 0)
        .collect()
}

/// The spawned thread begins when the other has come to its end, and loom varies from there; so that it sees both
/// ends' loads late, each end is spawned once.
fn one_to_one(name: &str, single: (bool, bool)) {
    for spawned in ["producer", "consumer"] {
        explore(&format!("1p1c {name}, {spawned} spawned"), 2, 20, move || {
            let ring = Arc::new(Ring::new(single));
            let send = |ring: &Ring| send_all(ring, 0, &[1, 2, 3]);
            let receive = |ring: &Ring| (0..2).filter_map(|_| ring.receive_at_head(0)).collect::<Vec<u64>>();
            let other = ring.clone();
            let (mut got, sent) = if spawned == "producer" {
                let sender = thread::spawn(move || send(&other));
                (receive(&ring), sender.join().unwrap())
            } else {
                let receiver = thread::spawn(move || receive(&other));
                let sent = send(&ring);
                (receiver.join().unwrap(), sent)
            };
            assert!(sent.len() >= 2, "two fit");
            got.extend(ring.drain(0));
            assert_eq!(got, sent);
        });
    }
}

/// Legal outcomes: the consumer gets 1, 2, 3 in this order, the last only if it released a slot before the
/// producer came round; nothing else, and a payload is never written while it is read.
#[test]
fn one_producer_one_consumer() {
    one_to_one("mpmc", (false, false));
}

/// Legal outcomes: as above, without any read-modify-write.
#[test]
fn spsc() {
    one_to_one("spsc", (true, true));
}

/// Legal outcomes: as above.
#[test]
fn mpsc_and_spmc() {
    one_to_one("mpsc", (false, true));
    one_to_one("spmc", (true, false));
}

fn two_to_one(name: &'static str, processes: [usize; 2], values: [&'static [u64]; 2]) {
    explore(name, 3, 200, move || {
        let ring = Arc::new(Ring::new((false, false)));
        let senders: Vec<_> = processes
            .into_iter()
            .zip(values)
            .map(|(process, values)| {
                let ring = ring.clone();
                thread::spawn(move || send_all(&ring, process, values))
            })
            .collect();
        let mut got: Vec<u64> = ring.receive(0).into_iter().collect();
        let sent: Vec<Vec<u64>> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        got.extend(ring.drain(0));
        for sent in &sent {
            let own: Vec<u64> = got.iter().copied().filter(|value| sent.contains(value)).collect();
            assert_eq!(own, *sent, "each producer's own order");
        }
        same(got, sent.concat());
    });
}

/// Legal outcomes: every value whose send succeeded arrives once, each producer's values in its order, in any
/// mixture; two or three of the four fit. Claims of one producer are no impossible words to the other.
#[test]
fn two_producers_one_consumer() {
    two_to_one("2p1c", [0, 1], [&[10, 11], &[20, 21]]);
    two_to_one("2p1c, one lags", [0, 1], [&[10, 11, 12], &[20]]);
    two_to_one("2p1c, tombstones", [0, 1], [&[10, 0, 12], &[0, 21]]);
}

/// Legal outcomes: as above, for two threads of one process, which share their tail cursor.
#[test]
fn two_producers_of_one_process() {
    two_to_one("2p1c, one process", [0, 0], [&[10, 11], &[20, 21]]);
}

fn one_to_two(name: &'static str, processes: [usize; 2]) {
    explore(name, 3, 200, move || {
        let ring = Arc::new(Ring::new((false, false)));
        assert!(ring.send(0, 1) && ring.send(0, 2));
        let receivers: Vec<_> = processes
            .into_iter()
            .map(|process| {
                let ring = ring.clone();
                thread::spawn(move || ring.receive(process))
            })
            .collect();
        let sent = if ring.send(0, 3) { vec![1, 2, 3] } else { vec![1, 2] };
        let mut got: Vec<u64> =
            receivers.into_iter().filter_map(|receiver| receiver.join().unwrap()).collect();
        let rest = ring.drain(0);
        assert!(rest.is_sorted());
        got.extend(rest);
        same(got, sent);
    });
}

/// Legal outcomes: each of 1, 2 and, if there was room, 3 goes to exactly one consumer; what is drained
/// afterwards is in order.
#[test]
fn one_producer_two_consumers() {
    one_to_two("1p2c", [0, 1]);
}

/// Legal outcomes: as above, for two threads of one process, which share their cursors.
#[test]
fn two_consumers_of_one_process() {
    one_to_two("1p2c, one process", [0, 0]);
}

/// Legal outcomes for a consumer that has slept for a lap, beside another that takes and a third message that
/// comes round: each message goes to one of them or stays, and neither sees an impossible word.
#[test]
fn a_lagging_consumer() {
    explore("1p2c, one lags", 3, 100, || {
        let ring = Arc::new(Ring::new((false, false)));
        assert!(ring.send(0, 1));
        let run = |role: fn(&Ring) -> Vec<u64>| {
            let ring = ring.clone();
            thread::spawn(move || role(&ring))
        };
        let sender = run(|ring| send_all(ring, 0, &[2, 3]));
        let other = run(|ring| (0..3).filter_map(|_| ring.receive(0)).collect());
        let mut got: Vec<u64> = ring.receive(1).into_iter().collect();
        got.extend(other.join().unwrap());
        let sent = sender.join().unwrap();
        got.extend(ring.drain(1));
        same(got, [vec![1], sent].concat());
    });
}

/// A producer is late with the second of three slots, the third is published; one consumer takes both, another,
/// which begins to look at the cursors of `process`, comes after it.
fn behind_a_taker(name: &str, process: usize) {
    explore(name, 3, 20, move || {
        let ring = Arc::new(Ring::new((false, false)));
        assert!(ring.send(0, 1));
        assert_eq!(ring.receive(0), Some(1));
        let late = ring.producer(1).claim().expect("room");
        assert!(ring.send(0, 3));
        let taker = {
            let ring = ring.clone();
            thread::spawn(move || (0..2).filter_map(|_| ring.receive(0)).collect::<Vec<u64>>())
        };
        let other = {
            let ring = ring.clone();
            thread::spawn(move || ring.receive(process))
        };
        ring.payload[1].write(2);
        ring.producer(1).publish(late, &Packet::new(op::CONN_CREATE, [2, !2]));
        let mut got = taker.join().unwrap();
        assert!(got.is_sorted());
        got.extend(other.join().unwrap());
        got.extend(ring.drain(0));
        same(got, vec![2, 3]);
    });
}

/// Legal outcomes for a consumer that has looked away for a lap, or shares its cursors with the one that takes: it
/// gets 2, 3 or nothing. It never finds a slot ahead of a taken one in a state that order makes impossible.
#[test]
fn a_consumer_behind_another() {
    behind_a_taker("behind a taker", 1);
    behind_a_taker("behind a taker, one process", 0);
}

/// Legal outcomes for two threads of a process that has looked away for a lap, of which one walks on and the other
/// begins where it stopped: each gets 2, 3 or nothing, and neither finds an impossible word.
#[test]
fn where_another_stopped() {
    explore("where another stopped", 3, 20, || {
        let ring = Arc::new(Ring::new((false, false)));
        assert!(ring.send(0, 1));
        assert_eq!(ring.receive(0), Some(1));
        let late = ring.producer(1).claim().expect("room");
        assert!(ring.send(0, 3));
        let others = [(); 2].map(|()| {
            let ring = ring.clone();
            thread::spawn(move || ring.receive(1))
        });
        ring.payload[1].write(2);
        ring.producer(1).publish(late, &Packet::new(op::CONN_CREATE, [2, !2]));
        // Takes both, if it can, and releases neither.
        let take = |_| Some(ring.consumer(0).take_at_head(|_| true)?.1.operands[0]);
        let mut got: Vec<u64> = (0..2).filter_map(take).collect();
        got.extend(others.into_iter().filter_map(|other| other.join().unwrap()));
        got.extend(ring.drain(0));
        same(got, vec![2, 3]);
    });
}

/// Legal outcomes of a peek beside a take, a release and a producer that overwrites the slot: one of the
/// packets 1, 2, 3 whole, or nothing. Never a mixture.
#[test]
fn peek_is_whole_or_nothing() {
    explore("peek", 2, 10, || {
        let ring = Arc::new(Ring::new((false, false)));
        assert!(ring.send(0, 1) && ring.send(0, 2));
        let peeker = {
            let ring = ring.clone();
            thread::spawn(move || {
                if let Some(packet) = ring.consumer(1).peek().expect("only possible words") {
                    let value = packet.operands[0];
                    assert!((1..=3).contains(&value));
                    assert_eq!(packet, Packet::new(op::CONN_CREATE, [value, !value]));
                }
            })
        };
        let got = usize::from(ring.receive(0).is_some());
        let sent = send_all(&ring, 0, &[3]).len();
        peeker.join().unwrap();
        assert_eq!(got + ring.drain(0).len(), sent + 2);
    });
}

/// Legal outcomes for a consumer that attaches while a producer sends: its cursors begin at or before the oldest
/// packet, so it gets every one, in order.
#[test]
fn a_newcomer_misses_nothing() {
    explore("newcomer", 2, 50, || {
        let ring = Arc::new(Ring::new((false, false)));
        let sender = {
            let ring = ring.clone();
            thread::spawn(move || send_all(&ring, 0, &[1, 2]))
        };
        let start = Consumer::scan_for_head(&ring.slots).expect("only possible words");
        let (head, floor) = (AtomicU64::new(start), AtomicU64::new(start));
        let sent = sender.join().unwrap();
        let consumer = Consumer::new(&ring.slots, &head, &floor, C[1], false);
        for value in sent {
            let Ok(Take::Packet(ticket, packet)) = consumer.take(|_| true, || {}) else {
                panic!("lost {value}")
            };
            assert_eq!(packet.operands[0], value);
            consumer.release(ticket);
        }
    });
}

/// Legal outcomes for a newcomer's survey while messages go round for several laps: a cursor that lets it send or
/// receive, never an impossible word.
#[test]
fn a_newcomer_survives_traffic() {
    for (sends, rounds) in [(true, 3), (false, 2)] {
        explore(&format!("newcomer that {}", if sends { "sends" } else { "receives" }), 2, 5, move || {
            let ring = Arc::new(Ring::new((false, false)));
            let others = {
                let ring = ring.clone();
                thread::spawn(move || {
                    for value in 1..=rounds {
                        assert!(ring.send(0, value));
                        assert_eq!(ring.receive(0), Some(value));
                    }
                })
            };
            let scan = if sends { Producer::scan_for_tail } else { Consumer::scan_for_head };
            let start = scan(&ring.slots).expect("only possible words");
            others.join().unwrap();
            let cursors = if sends { &ring.senders[1] } else { &ring.receivers[1] };
            for cursor in [&cursors.tail, &cursors.head, &cursors.floor] {
                cursor.store(start, Ordering::Relaxed);
            }
            assert!(ring.send(usize::from(sends), 4));
            assert_eq!(ring.receive(usize::from(!sends)), Some(4));
        });
    }
}

/// Legal outcomes for a producer that goes on beside another which has slept for several laps, or is a thread of the same
/// process and begins where it stopped: the other gets the next slot or finds the ring full. It never finds a slot ahead
/// of a claimed one in a state that order makes impossible.
#[test]
fn a_producer_behind_another() {
    // How the one that goes on claims, and whether the other shares its cursor.
    for (by, how) in ["at its cursor", "from behind"].into_iter().enumerate() {
        for (process, whose) in ["one process", "another process"].into_iter().enumerate() {
            behind_a_claimer(&format!("behind a claimer {how}, {whose}"), by == 1, process);
        }
    }
}

fn behind_a_claimer(name: &str, slow: bool, process: usize) {
    explore(name, 2, 10, move || {
        let ring = Arc::new(Ring::new((false, false)));
        assert!(ring.send(0, 1));
        assert_eq!(ring.receive(0), Some(1));
        let claim = move |ring: &Ring, process: usize| match ring.producer(process).claim() {
            Ok(ticket) => Some(ticket.position().wrapping_sub(START)),
            Err(Denied::Full | Denied::Busy) => None,
            Err(Denied::Impossible(what)) => panic!("{what:?}"),
        };
        let other = {
            let ring = ring.clone();
            thread::spawn(move || claim(&ring, process))
        };
        // The rest of one lap and the beginning of the next.
        let mut got = Vec::new();
        for _ in 0..2 {
            got.extend(claim(&ring, 0));
            if slow {
                ring.senders[0].tail.store(START, Ordering::Relaxed);
            }
        }
        got.extend(other.join().unwrap());
        same(got, vec![1, 2]);
    });
}

/// Legal outcomes for two threads of a process that has slept for several laps, of which one finds the ring full: the
/// other, which begins where that one stopped, finds it full as well, or gets a slot before. Never an impossible word.
#[test]
fn where_another_was_refused() {
    explore("refused", 2, 10, || {
        let ring = Arc::new(Ring::new((false, false)));
        assert!(ring.send(0, 1));
        assert_eq!(ring.receive(0), Some(1));
        let claim = |ring: &Ring, process| match ring.producer(process).claim() {
            Ok(_) => 1,
            Err(Denied::Full | Denied::Busy) => 0,
            Err(Denied::Impossible(what)) => panic!("{what:?}"),
        };
        let other = {
            let ring = ring.clone();
            thread::spawn(move || claim(&ring, 1))
        };
        let got = claim(&ring, 0) + claim(&ring, 0) + claim(&ring, 1);
        assert_eq!(got + other.join().unwrap(), 2);
    });
}

/// Legal outcomes for three threads of a process that take one after the other, each where the one before stopped: 2, 3
/// and nothing, or less. The third never finds an impossible word, though it sees of the first only what the second did.
#[test]
fn views_are_handed_on() {
    explore("handed on", 3, 20, || {
        let ring = Arc::new(Ring::new((false, false)));
        assert!(ring.send(0, 1));
        assert_eq!(ring.receive(0), Some(1));
        let late = ring.producer(1).claim().expect("room");
        assert!(ring.send(0, 3));
        let at_head = |ring: &Ring| Some(ring.consumer(0).take_at_head(|_| true)?.1.operands[0]);
        let second = {
            let ring = ring.clone();
            thread::spawn(move || at_head(&ring))
        };
        let third = {
            let ring = ring.clone();
            thread::spawn(move || match ring.consumer(0).take(|_| true, || {}) {
                Ok(Take::Packet(_, packet)) => Some(packet.operands[0]),
                Ok(_) => None,
                Err(what) => panic!("{what:?}"),
            })
        };
        ring.producer(1).publish(late, &Packet::new(op::CONN_CREATE, [2, !2]));
        let first = at_head(&ring);
        let got = [first, second.join().unwrap(), third.join().unwrap()];
        let got: Vec<u64> = got.into_iter().flatten().collect();
        let left = [2, 3].into_iter().filter(|value| !got.contains(value));
        same(got.iter().copied().chain(left).collect(), vec![2, 3]);
    });
}

/// Legal outcomes for a packet that is taken back while its sender goes on: it was not there yet, or whoever took it back
/// sees it whole, and is done with it before the slot is used again.
#[test]
fn what_is_taken_back_is_whole() {
    explore("retract", 2, 5, || {
        let shared = Arc::new(([slot(0)], Payload::new(), [AtomicU64::new(0), AtomicU64::new(0)]));
        let other = {
            let shared = shared.clone();
            thread::spawn(move || {
                let producer = Producer::new(&shared.0, &shared.2[0], P[0], false);
                let read = |_| {
                    // As its operands are: seen published, and not yet taken back.
                    assert_eq!(shared.1.read(), 1);
                    true
                };
                let whole = |packet: &Packet| assert_eq!(*packet, Packet::new(op::CONN_CREATE, [1, !1]));
                producer.retract(read, whole).expect("only possible words");
            })
        };
        let (slots, payload, cursors) = &*shared;
        let producer = Producer::new(slots, &cursors[0], P[0], false);
        let ticket = producer.claim().expect("room");
        payload.write(1);
        producer.publish(ticket, &Packet::new(op::CONN_CREATE, [1, !1]));
        let floor = AtomicU64::new(0);
        let consumer = Consumer::new(slots, &cursors[1], &floor, C[0], false);
        // Skips what was taken back, and takes nothing else.
        let _ = consumer.take(|_| false, || {}).expect("only possible words");
        if let Ok(ticket) = producer.claim() {
            payload.write(2);
            producer.abandon(ticket);
        }
        other.join().unwrap();
    });
}
