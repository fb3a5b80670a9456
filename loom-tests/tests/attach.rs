//! Models of attaching: seats joined, left and vacated, a recovery that must not overlap with a successor, and the word that
//! marks a region as ready. A dead process is a thread that stopped in the middle and was joined, which proves its death.
#![cfg(loom)]

use hqq::error::Error;
use hqq::shm::layout::{Geometry, Layout, Modes};
use hqq::shm::packet::{Packet, op};
use hqq::shm::recover::{DirectionWords, recover};
use hqq::shm::ring::{Consumer, Producer, Take};
use hqq::shm::seats::Seats;
use hqq::shm::superblock::{self, Facts, Setup};
use hqq::shm::words::{
    BufferWord, Holder, LeaseWord, Role, Seat, SeatWord, Side, SideCounters, SideMetrics, Slot, Superblock,
};
use hqq::sync::{AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;
use loom_tests::{Payload, explore, slot};

/// The seat that changes hands, and its first occupant.
const OLD: Holder = Holder::new(1, 31);
/// The next one: generations wrap.
const NEXT: Holder = Holder::new(1, 1);
/// Two that live, and may recover others.
const FIRST: Holder = Holder::new(0, 1);
const SECOND: Holder = Holder::new(2, 5);

fn seat(word: SeatWord) -> Seat {
    Seat {
        word: AtomicU64::new(word.word()),
        pid: AtomicU64::quiet(0),
        reserved: std::array::from_fn(|_| AtomicU64::quiet(0)),
    }
}

/// Three seats, all joined, and a payload that stands for the region: whoever acts for an occupant reaches it, and loom
/// reports a race if a successor does at the same time.
struct Shared {
    seats: [Seat; 3],
    region: Payload,
}

impl Shared {
    fn new() -> Arc<Self> {
        let joined = |holder| seat(SeatWord::joined(holder, Role::Secondary, false));
        Arc::new(Self { seats: [FIRST, OLD, SECOND].map(joined), region: Payload::new() })
    }

    fn seats(&self) -> Seats<'_> {
        Seats::new(&self.seats)
    }

    fn join(&self) -> Option<Holder> {
        self.seats().join(Role::Secondary, |_| Some(false)).expect("only possible words")
    }

    fn vacate(&self, dead: Holder) -> bool {
        self.seats().vacate(dead).expect("only possible words")
    }

    /// Joins if the seat is vacant, and begins to work.
    fn succeed(&self, value: u64) {
        if let Some(holder) = self.join() {
            assert_eq!(holder, NEXT);
            assert_eq!(self.region.read(), value);
            self.region.write(value + 1);
        }
    }

    fn word(&self) -> SeatWord {
        SeatWord::from_word(self.seats[1].word.load(Ordering::Relaxed))
    }
}

/// Legal outcomes for two that join where two seats are vacant, or one: each gets a seat of its own, or one of them gets
/// it and the other none.
#[test]
fn two_joiners() {
    for vacant in [1, 2] {
        explore(&format!("two joiners, {vacant} vacant"), 2, 3, move || {
            let seats = [3, 4].map(|generation| seat(SeatWord::vacant(generation)));
            let seats = Arc::new(seats);
            let join = move |seats: &[Seat]| {
                let seats = Seats::new(&seats[..vacant]);
                seats.join(Role::Secondary, |_| Some(false)).expect("only possible words")
            };
            let other = {
                let seats = seats.clone();
                thread::spawn(move || join(&*seats))
            };
            let mut got: Vec<Holder> = join(&*seats).into_iter().chain(other.join().unwrap()).collect();
            got.sort_unstable_by_key(|holder| holder.seat());
            assert_eq!(got, [Holder::new(0, 3), Holder::new(1, 4)][..vacant]);
        });
    }
}

/// Legal outcomes for a joiner beside one that leaves: no seat, or the seat with the next generation and all that its
/// predecessor did.
#[test]
fn a_newcomer_sees_what_its_predecessor_left() {
    explore("leave", 2, 2, || {
        let shared = Shared::new();
        let leaver = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.region.write(7);
                assert!(shared.seats().leave(OLD).expect("only possible words"));
            })
        };
        shared.succeed(7);
        leaver.join().unwrap();
    });
}

/// Legal outcomes for a joiner beside one that recovers the dead and vacates its seat: no seat, or the seat with the next
/// generation and all that recovery did.
#[test]
fn a_newcomer_sees_what_recovery_left() {
    explore("vacate", 2, 3, || {
        let shared = Shared::new();
        let recoverer = {
            let shared = shared.clone();
            thread::spawn(move || {
                assert!(shared.seats().enter(OLD, FIRST).expect("only possible words"));
                shared.region.write(6);
                shared.seats().finish(OLD, FIRST);
                // What must still be put right before anybody may come.
                shared.region.write(7);
                assert!(shared.vacate(OLD), "nobody else recovers");
            })
        };
        shared.succeed(7);
        recoverer.join().unwrap();
    });
}

/// Recovers as a process does; the seat's successor begins at once if there can be one.
fn recover_and_succeed(shared: &Shared, by: Holder) -> bool {
    if shared.seats().enter(OLD, by).expect("only possible words") {
        assert_eq!(shared.region.read(), 0, "no successor yet");
        shared.seats().finish(OLD, by);
    }
    let vacated = shared.vacate(OLD);
    if vacated {
        shared.succeed(0);
    }
    vacated
}

/// Legal outcomes for two that recover the same dead and vacate its seat: one of them, or both, find it vacated; a
/// successor begins once, and never while either of them is at work.
#[test]
fn a_slow_recoverer_meets_no_successor() {
    explore("two recoverers", 2, 20, || {
        let shared = Shared::new();
        let other = {
            let shared = shared.clone();
            thread::spawn(move || recover_and_succeed(&shared, SECOND))
        };
        let vacated = recover_and_succeed(&shared, FIRST);
        assert!(vacated | other.join().unwrap(), "who finishes last can vacate");
        assert!(shared.word().is_occupied_by(NEXT));
        assert_eq!(shared.region.read(), 1);
    });
}

/// Legal outcomes for one that only vacates a seat beside another that recovers its dead: refused, or the other has done
/// all that it will.
#[test]
fn who_vacates_is_after_every_recovery() {
    explore("vacate and recover", 2, 5, || {
        let shared = Shared::new();
        let other = {
            let shared = shared.clone();
            thread::spawn(move || {
                if shared.seats().enter(OLD, SECOND).expect("only possible words") {
                    shared.region.write(7);
                    shared.seats().finish(OLD, SECOND);
                }
            })
        };
        if shared.vacate(OLD) {
            assert!([0, 7].contains(&shared.region.read()));
        }
        other.join().unwrap();
    });
}

/// Legal outcomes for a recoverer that has died at work and is struck off, beside another that would vacate the seat:
/// that one is refused, or a successor begins and sees all that the dead recoverer had done.
#[test]
fn a_recoverer_that_died() {
    explore("dead recoverer", 2, 3, || {
        let shared = Shared::new();
        assert!(shared.seats().enter(OLD, SECOND).expect("only possible words"));
        let striker = {
            let shared = shared.clone();
            thread::spawn(move || {
                // The last that it did, and then whoever has the proof of its death.
                shared.region.write(7);
                shared.seats().strike(SECOND);
            })
        };
        assert!(shared.seats().enter(OLD, FIRST).expect("only possible words"));
        shared.seats().finish(OLD, FIRST);
        if shared.vacate(OLD) {
            shared.succeed(7);
        }
        striker.join().unwrap();
        assert_eq!(shared.word().recoverers(), 0);
        assert!(shared.vacate(OLD), "now or before");
    });
}

/// Legal outcomes for an occupant that leaves while somebody recovers it without proof: it leaves and there is nothing to
/// recover, or its seat stays.
#[test]
fn who_is_recovered_cannot_leave() {
    explore("leave and enter", 2, 2, || {
        let shared = Shared::new();
        let leaver = {
            let shared = shared.clone();
            thread::spawn(move || shared.seats().leave(OLD).expect("only possible words"))
        };
        let entered = shared.seats().enter(OLD, FIRST).expect("only possible words");
        let left = leaver.join().unwrap();
        assert_ne!(entered, left);
        assert_eq!(shared.word().is_occupied_by(OLD), entered);
    });
}

/// Legal outcomes for a recoverer that is told of a death by something that orders nothing: it finds the seat vacant, as
/// it was before the dead joined; or it is after all that the dead did before it joined.
#[test]
fn who_recovers_is_after_the_joining() {
    explore("enter", 2, 2, || {
        let shared = Arc::new(Shared {
            seats: [FIRST, OLD, SECOND].map(|holder| {
                let joined = SeatWord::joined(holder, Role::Secondary, false);
                seat(if holder == OLD { SeatWord::vacant(31) } else { joined })
            }),
            region: Payload::new(),
        });
        let dead = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.region.write(7);
                assert_eq!(shared.join(), Some(OLD));
            })
        };
        if shared.seats().enter(OLD, FIRST).expect("only possible words") {
            assert_eq!(shared.region.read(), 7);
        }
        dead.join().unwrap();
    });
}

/// A direction whose receiver sits in seat 1.
struct Link {
    shared: Arc<Shared>,
    slots: [Slot; 2],
    words: [AtomicU64; 1],
    lease: AtomicU64,
}

impl Link {
    /// Two messages have been sent.
    fn new() -> Arc<Self> {
        let link = Self {
            shared: Shared::new(),
            slots: [slot(0), slot(0)],
            words: [AtomicU64::quiet(BufferWord::FREE.word())],
            lease: AtomicU64::quiet(LeaseWord::VACANT.word()),
        };
        let tail = AtomicU64::quiet(0);
        let producer = Producer::new(&link.slots, &tail, FIRST, false);
        for value in 1..=2 {
            let ticket = producer.claim().expect("room");
            producer.publish(ticket, &Packet::new(op::CONN_CREATE, [value]));
        }
        Arc::new(link)
    }

    /// Takes a message; its slot stays taken unless it is to be released.
    fn receive(&self, by: Holder, start: u64, release: bool) -> Option<u64> {
        let cursors = [AtomicU64::quiet(start), AtomicU64::quiet(start)];
        let consumer = Consumer::new(&self.slots, &cursors[0], &cursors[1], by, false);
        let took = consumer.take(|_| true, || {}).expect("only possible words");
        let Take::Packet(ticket, packet) = took else { return None };
        if release {
            consumer.release(ticket);
        }
        Some(packet.operands[0])
    }

    /// Joins if the seat is vacant, surveys the ring, and receives.
    fn succeed(&self) -> Vec<u64> {
        let Some(holder) = self.shared.join() else { return Vec::new() };
        let receive = |_| {
            let start = Consumer::scan_for_head(&self.slots).expect("only possible words");
            self.receive(holder, start, true)
        };
        (0..2).filter_map(receive).collect()
    }
}

/// Legal outcomes for a newcomer that surveys the ring when its predecessor has received one message and left: it gets
/// the other.
#[test]
fn a_newcomer_goes_on_where_its_predecessor_left() {
    explore("leave and survey", 2, 2, || {
        let link = Link::new();
        let leaver = {
            let link = link.clone();
            thread::spawn(move || {
                assert_eq!(link.receive(OLD, 0, true), Some(1));
                assert!(link.shared.seats().leave(OLD).expect("only possible words"));
            })
        };
        let got = link.succeed();
        assert!(got.is_empty() || got == [2]);
        leaver.join().unwrap();
    });
}

/// Legal outcomes for a newcomer that surveys the ring when its predecessor has died with a message half received: both
/// messages, in order, once the recoverer has vacated the seat.
#[test]
fn a_newcomer_gets_what_its_predecessor_did_not() {
    explore("recover and survey", 2, 2, || {
        let link = Link::new();
        assert_eq!(link.receive(OLD, 0, false), Some(1));
        let recoverer = {
            let link = link.clone();
            thread::spawn(move || {
                assert!(link.shared.seats().enter(OLD, FIRST).expect("only possible words"));
                let Link { slots, words, lease, .. } = &*link;
                let direction = DirectionWords { slots, words, lease };
                let geometry = Geometry::new(2, 2, 8).expect("it is the smallest");
                let done = recover(direction, geometry, OLD, &mut [0]).expect("only possible words");
                assert_eq!(done.returned, 1);
                link.shared.seats().finish(OLD, FIRST);
                assert!(link.shared.vacate(OLD), "nobody else recovers");
            })
        };
        let got = link.succeed();
        assert!(got.is_empty() || got == [1, 2]);
        recoverer.join().unwrap();
    });
}

/// A superblock in fresh memory. Loom explores the words that decide and two that stand for all others.
fn superblock() -> Superblock {
    let quiet = || AtomicU64::quiet(0);
    let word = || AtomicU64::new(0);
    let side = || Side { sleepers: quiet(), reserved: std::array::from_fn(|_| quiet()) };
    let many = || std::array::from_fn(|_| quiet());
    let counters = || SideCounters {
        full_waits: quiet(),
        pool_waits: quiet(),
        empty_waits: quiet(),
        sleeps: quiet(),
        wakes: quiet(),
        rings: quiet(),
        tombstones: quiet(),
        agreed: quiet(),
        refused: many(),
        refused_own: many(),
        errors_received: many(),
    };
    Superblock {
        magic: word(),
        format: quiet(),
        page_size: quiet(),
        region_len: quiet(),
        slots: word(),
        buffers: quiet(),
        buffer_size: quiet(),
        stride: quiet(),
        modes: quiet(),
        epoch: word(),
        first_lap: quiet(),
        ready: word(),
        reserved: std::array::from_fn(|_| quiet()),
        name: std::array::from_fn(|_| quiet()),
        sides: [side(), side()],
        reserved2: [side(), side()],
        seats: std::array::from_fn(|_| Seat {
            word: quiet(),
            pid: quiet(),
            reserved: std::array::from_fn(|_| quiet()),
        }),
        counters: [counters(), counters()],
        metrics: [SideMetrics::of(quiet), SideMetrics::of(quiet)],
    }
}

/// Legal outcomes for opening a region that is being made: it is foreign or not ready yet, or all that it says is there,
/// and what the creator wrote elsewhere as well.
#[test]
fn what_is_ready_is_whole() {
    explore("ready", 2, 5, || {
        let shared = Arc::new((superblock(), Payload::new()));
        let geometry = Geometry::new(2, 2, 8).expect("it is the smallest");
        let creator = {
            let shared = shared.clone();
            thread::spawn(move || {
                let modes = Modes::default();
                let setup = Setup { geometry, modes, page: 4096, epoch: 5, first_lap: 6, name: "model" };
                let layout = Layout::new(geometry, 4096).expect("it is small");
                let seat = SeatWord::joined(FIRST, Role::Primary, false);
                superblock::write(&shared.0, &setup, &layout, seat);
                shared.1.write(7);
                superblock::publish(&shared.0);
            })
        };
        match superblock::read(&shared.0, 4096) {
            Ok(Facts { geometry: found, epoch, .. }) => {
                assert_eq!((found, epoch), (geometry, 5));
                assert_eq!(shared.1.read(), 7);
            }
            Err(Error::ForeignMagic { found: 0 } | Error::NotReady) => {}
            Err(error) => panic!("{error}"),
        }
        creator.join().unwrap();
        assert!(superblock::read(&shared.0, 4096).is_ok());
    });
}
