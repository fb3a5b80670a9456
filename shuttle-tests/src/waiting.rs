//! Sleepers of several processes on both sides: shuttle reports a deadlock if a wake-up is lost.

use hqq::shm::packet::{Packet, op};
use hqq::shm::ring::{Consumer, Denied, Producer, Take};
use hqq::shm::sleepers::Sleepers;
use hqq::shm::words::{Holder, Lap, SleepersWord, Slot, Want};
use hqq::sync::AtomicU64;
use shuttle::sync::Arc;
use shuttle::thread;

use crate::event::Event;
use crate::explore;

const SENDERS: usize = 3;
const RECEIVERS: usize = 2;
const EACH: u64 = 2;

/// A ring of two slots, the announcements of its senders' side and of its receivers', and everybody's doorbell.
struct Shared {
    slots: [Slot; 2],
    sleepers: [AtomicU64; 2],
    bells: [Event; SENDERS + RECEIVERS],
}

impl Shared {
    fn new() -> Arc<Self> {
        let awake = || AtomicU64::new(SleepersWord::AWAKE);
        Arc::new(Self {
            slots: std::array::from_fn(|_| Slot::new(Lap::new(0))),
            sleepers: [awake(), awake()],
            bells: std::array::from_fn(|_| Event::new().unwrap()),
        })
    }

    fn sleepers(&self, want: Want) -> Sleepers<'_> {
        Sleepers::new(&self.sleepers[usize::from(want == Want::Data)])
    }

    /// After an event: rings whoever announced.
    fn ring(&self, want: Want) {
        let seats = self.sleepers(want).check(want);
        for (seat, bell) in self.bells.iter().enumerate() {
            if seats >> seat & 1 == 1 {
                bell.ring();
            }
        }
    }

    /// Tries until it succeeds; sleeps in between.
    fn until<T>(&self, seat: usize, want: Want, mut attempt: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(found) = attempt() {
                return found;
            }
            self.sleepers(want).announce(seat, want);
            if let Some(found) = attempt() {
                self.sleepers(want).cancel(seat, want);
                return found;
            }
            self.bells[seat].sleep();
        }
    }
}

/// Legal outcomes for three processes that send and two that receive, each asleep whenever there is nothing to do: every
/// message arrives, and nobody sleeps for ever.
#[test]
fn sleepers_on_both_sides() {
    explore("sleepers", || {
        let shared = Shared::new();
        let senders: Vec<_> = (0..SENDERS)
            .map(|seat| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let tail = AtomicU64::new(0);
                    let producer = Producer::new(&shared.slots, &tail, Holder::new(seat, 1), false);
                    for turn in 0..EACH {
                        let ticket = shared.until(seat, Want::Space, || match producer.claim() {
                            Ok(ticket) => Some(ticket),
                            Err(Denied::Full | Denied::Busy) => None,
                            Err(Denied::Impossible(what)) => panic!("{what:?}"),
                        });
                        let value = seat as u64 * EACH + turn;
                        producer.publish(ticket, &Packet::new(op::CONN_CREATE, [value]));
                        shared.ring(Want::Data);
                    }
                })
            })
            .collect();
        let receivers: Vec<_> = (SENDERS..SENDERS + RECEIVERS)
            .map(|seat| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let cursors = [0, 0].map(AtomicU64::new);
                    let holder = Holder::new(seat, 1);
                    let consumer = Consumer::new(&shared.slots, &cursors[0], &cursors[1], holder, false);
                    let share = SENDERS as u64 * EACH / RECEIVERS as u64;
                    let receive = |_| {
                        shared.until(seat, Want::Data, || {
                            match consumer.take(|_| true, || {}).expect("only possible words") {
                                Take::Packet(ticket, packet) => {
                                    consumer.release(ticket);
                                    shared.ring(Want::Space);
                                    Some(packet.operands[0])
                                }
                                _ => None,
                            }
                        })
                    };
                    (0..share).map(receive).collect::<Vec<u64>>()
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let mut got: Vec<u64> = receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, Vec::from_iter(0..SENDERS as u64 * EACH));
    });
}
