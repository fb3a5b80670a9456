//! The threads of two processes on one link; each process has one announcement and one doorbell for all its threads
//! (`waiters.rs`, which is compiled here unchanged).

use hqq::shm::packet::{Packet, op};
use hqq::shm::ring::{Consumer, Denied, Producer, Take};
use hqq::shm::sleepers::Sleepers;
use hqq::shm::words::{Holder, Lap, SleepersWord, Slot, Want};
use hqq::sync::AtomicU64;
use shuttle::sync::Arc;
use shuttle::thread;

use crate::explore;
use crate::waiters::Waiters;

/// One process: its announcements, its private cursors, and where its threads wait.
struct Process {
    sleepers: AtomicU64,
    /// Of its producer, and two of its consumer.
    cursors: [AtomicU64; 3],
    waiters: Waiters,
}

impl Process {
    fn new() -> Self {
        let cursors = [0, 0, 0].map(AtomicU64::new);
        Self { sleepers: AtomicU64::new(SleepersWord::AWAKE), cursors, waiters: Waiters::new().unwrap() }
    }

    /// As a waiting call of a link does it.
    fn until<T>(&self, want: Want, mut attempt: impl FnMut() -> Option<T>) -> T {
        if let Some(found) = attempt() {
            return found;
        }
        let sleepers = Sleepers::new(&self.sleepers);
        loop {
            let round = self.waiters.arrive();
            sleepers.announce(0, want);
            if let Some(found) = attempt() {
                self.waiters.leave();
                sleepers.cancel(0, want);
                if self.waiters.anyone_waits(0) {
                    self.waiters.wake();
                }
                return found;
            }
            self.waiters.wait(round, None, || self.waiters.event().sleep());
            self.waiters.leave();
        }
    }

    /// The other process made something happen.
    fn ring(&self, want: Want) {
        if Sleepers::new(&self.sleepers).check(want) != 0 {
            self.waiters.event().ring();
        }
    }
}

/// A ring of `N` slots each way. Side 0 sends in ring 0.
struct Link<const N: usize> {
    rings: [[Slot; N]; 2],
    sides: [Process; 2],
}

impl<const N: usize> Link<N> {
    fn new() -> Arc<Self> {
        let ring = || std::array::from_fn(|_| Slot::new(Lap::new(0)));
        Arc::new(Self { rings: [ring(), ring()], sides: [Process::new(), Process::new()] })
    }

    fn send(&self, side: usize, value: u64) {
        let (own, peer) = (&self.sides[side], &self.sides[1 - side]);
        let producer = Producer::new(&self.rings[side], &own.cursors[0], Holder::new(side, 1), false);
        let ticket = own.until(Want::Space, || match producer.claim() {
            Ok(ticket) => Some(ticket),
            Err(Denied::Full | Denied::Busy) => None,
            Err(Denied::Impossible(what)) => panic!("{what:?}"),
        });
        producer.publish(ticket, &Packet::new(op::CONN_CREATE, [value]));
        peer.ring(Want::Data);
    }

    fn receive(&self, side: usize) -> u64 {
        let (own, peer) = (&self.sides[side], &self.sides[1 - side]);
        let [_, head, floor] = &own.cursors;
        let consumer = Consumer::new(&self.rings[1 - side], head, floor, Holder::new(side, 1), false);
        let (ticket, packet) =
            own.until(Want::Data, || match consumer.take(|_| true, || {}).expect("only possible words") {
                Take::Packet(ticket, packet) => Some((ticket, packet)),
                _ => None,
            });
        consumer.release(ticket);
        peer.ring(Want::Space);
        packet.operands[0]
    }
}

/// Legal outcomes for two threads that send and three that receive, all blocking: every message arrives, and nobody
/// sleeps for ever, neither in the kernel nor behind a thread of its own process.
#[test]
fn threads_that_share_a_doorbell() {
    explore("threads of two processes", || {
        let link = Link::<2>::new();
        let senders = [0, 1].map(|number| {
            let link = link.clone();
            thread::spawn(move || (0..3).for_each(|turn| link.send(0, number * 3 + turn)))
        });
        let receivers = [(); 3].map(|()| {
            let link = link.clone();
            thread::spawn(move || [link.receive(1), link.receive(1)])
        });
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let mut got: Vec<u64> = receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, Vec::from_iter(0..6));
    });
}

/// Legal outcomes for two processes that each send with one thread and receive with another: every message arrives in
/// order. Whoever is woken for what the other thread waits for passes it on.
#[test]
fn threads_that_wait_for_different_things() {
    explore("both ways", || {
        let link = Link::<1>::new();
        let threads = [0, 1].map(|side| {
            let (one, other) = (link.clone(), link.clone());
            let sender = thread::spawn(move || (1..=3).for_each(|value| one.send(side, value)));
            let receiver = thread::spawn(move || [(); 3].map(|()| other.receive(side)));
            (sender, receiver)
        });
        for (sender, receiver) in threads {
            sender.join().unwrap();
            assert_eq!(receiver.join().unwrap(), [1, 2, 3]);
        }
    });
}

/// Legal outcomes for threads that wait for something of their own process, such as a loan that another drops, beside one
/// that waits for the peer: a wake-up reaches all of them.
#[test]
fn news_of_their_own_process() {
    explore("own news", || {
        let process = Arc::new(Process::new());
        let news = Arc::new(AtomicU64::new(0));
        let waiters = [(); 3].map(|()| {
            let (process, news) = (process.clone(), news.clone());
            thread::spawn(move || {
                process.until(Want::Space, || (news.load(hqq::sync::Ordering::SeqCst) == 1).then_some(()));
            })
        });
        news.store(1, hqq::sync::Ordering::SeqCst);
        if process.waiters.anyone_waits(0) {
            process.waiters.wake();
        }
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}
