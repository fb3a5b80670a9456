use super::*;
use crate::shm::pool::Pool;
use crate::shm::ring::{Consumer, Denied, Producer, Take, Ticket};
use crate::shm::words::Lap;
use std::vec::Vec;

const LAPS: [u64; 2] = [0, (1 << 39) - 1];
const S: Holder = Holder::new(0, 1);
const R: Holder = Holder::new(1, 1);
const DEAD: Holder = Holder::new(2, 7);
/// Another occupant of the same seat.
const HEIR: Holder = Holder::new(2, 8);

/// One direction with four slots and four buffers.
struct World {
    slots: [Slot; 4],
    words: [AtomicU64; 4],
    lease: AtomicU64,
    lap: u64,
}

/// A process's private words.
struct Process {
    holder: Holder,
    lent: [AtomicU64; 4],
    tail: AtomicU64,
    head: AtomicU64,
    floor: AtomicU64,
    hint: AtomicU64,
    spare: AtomicU64,
}

impl World {
    fn new(lap: u64) -> Self {
        let free = BufferWord::FREE.word();
        Self {
            slots: core::array::from_fn(|_| Slot::new(Lap::new(lap))),
            words: core::array::from_fn(|_| AtomicU64::new(free)),
            lease: AtomicU64::new(LeaseWord::VACANT.word()),
            lap,
        }
    }

    fn join(&self, holder: Holder) -> Process {
        let at = || AtomicU64::new(self.lap * 4);
        let lent = [const { AtomicU64::new(0) }; 4];
        Process {
            holder,
            lent,
            tail: at(),
            head: at(),
            floor: at(),
            hint: AtomicU64::new(0),
            spare: AtomicU64::new(0),
        }
    }

    fn try_recover(&self) -> Result<Recovered, Impossible> {
        let direction = DirectionWords { slots: &self.slots, words: &self.words, lease: &self.lease };
        recover(direction, Geometry::new(4, 4, 8).unwrap(), DEAD, &mut [77; 4])
    }

    /// Recovers, and sees that doing it again finds nothing.
    fn recover(&self) -> Recovered {
        let done = self.try_recover().expect("possible words");
        assert_eq!(self.try_recover(), Ok(Recovered::default()), "once is enough");
        done
    }

    fn state(&self, index: usize) -> Option<BufferState> {
        BufferWord::from_word(self.words[index].load(Ordering::Relaxed)).state()
    }

    fn slot(&self, index: usize) -> Option<SlotState> {
        Stamp::from_word(self.slots[index].stamp.load(Ordering::Relaxed)).state()
    }
}

impl Process {
    fn producer<'a>(&'a self, world: &'a World) -> Producer<'a> {
        Producer::new(&world.slots, &self.tail, self.holder, false)
    }

    fn consumer<'a>(&'a self, world: &'a World) -> Consumer<'a> {
        Consumer::new(&world.slots, &self.head, &self.floor, self.holder, false)
    }

    fn pool<'a>(&'a self, world: &'a World) -> Pool<'a> {
        Pool::new(&world.words, &world.lease, &self.lent, &self.hint, &self.spare, self.holder, false)
    }

    /// Does the first `steps` of the four steps of a send: take, claim, pass, publish. What it has in hand then.
    fn send<'w>(
        &'w self,
        world: &'w World,
        value: u64,
        count: u32,
        steps: usize,
    ) -> Option<(Run, Option<Ticket<'w>>)> {
        let run = (steps > 0).then(|| self.pool(world).allocate(count).expect("buffers"))?;
        if steps == 1 {
            return Some((run, None));
        }
        let ticket = self.producer(world).claim().expect("room");
        if steps > 2 {
            self.pool(world).pass(run);
        }
        if steps > 3 {
            let operands = [value, run.first.into(), 8 * u64::from(count), count.into()];
            self.producer(world).publish(ticket, &Packet::new(op::STANDARD_LINK_COPY, operands));
            return None;
        }
        Some((run, Some(ticket)))
    }

    /// Does the first `steps` of the four steps of a receive: take, hold, release, give. The value it took.
    fn receive<'w>(&'w self, world: &'w World, steps: usize) -> Option<(u64, Run, Option<Ticket<'w>>)> {
        if steps == 0 {
            return None;
        }
        let (ticket, packet) = match self.consumer(world).take(|_| true, || {}).expect("possible words") {
            Take::Packet(ticket, packet) => (ticket, packet),
            Take::Empty => return None,
            other => panic!("{other:?}"),
        };
        let [value, first, len, count, ..] = packet.operands;
        assert_eq!((packet.op, len), (op::STANDARD_LINK_COPY, 8 * count), "whole");
        let run = Run { first: first as u32, count: count as u32 };
        if steps > 1 {
            self.pool(world).hold(run).expect("not held twice");
        }
        if steps < 3 {
            return Some((value, run, Some(ticket)));
        }
        self.consumer(world).release(ticket);
        if steps > 3 {
            self.pool(world).give(run);
        }
        Some((value, run, None))
    }

    fn drain(&self, world: &World) -> Vec<u64> {
        std::iter::from_fn(|| self.receive(world, 4).map(|(value, ..)| value)).collect()
    }
}

/// Nothing leaked: every buffer is free, every slot goes round, runs can be gathered.
fn is_whole(world: &World, sender: &Process, receiver: &Process) {
    assert_eq!(sender.pool(world).count_free(), 4);
    assert_eq!(world.lease.load(Ordering::Relaxed), LeaseWord::VACANT.word());
    for round in 0..5 {
        (0..4).for_each(|i| assert!(sender.send(world, 1000 + round * 4 + i, 1, 4).is_none()));
        assert_eq!(sender.producer(world).claim(), Err(Denied::Full));
        let want = Vec::from_iter(1000 + round * 4..1004 + round * 4);
        assert_eq!(receiver.drain(world), want);
    }
    assert!(sender.send(world, 2000, 4, 4).is_none());
    assert_eq!(receiver.drain(world), [2000]);
}

#[test]
fn a_hole_becomes_a_tombstone() {
    let world = World::new(0);
    let (sender, dead, receiver) = (world.join(S), world.join(DEAD), world.join(R));
    let _claimed = dead.producer(&world).claim().unwrap();
    sender.send(&world, 1, 1, 4);
    assert!(receiver.drain(&world).is_empty());
    assert_eq!(world.recover(), Recovered { tombstones: 1, returned: 0, buffers: 0 });
    assert_eq!(receiver.drain(&world), [1]);
    is_whole(&world, &sender, &receiver);
}

#[test]
fn a_taken_packet_is_published_again_and_its_buffer_is_spared() {
    let world = World::new(LAPS[1]);
    let (sender, dead, receiver) = (world.join(S), world.join(DEAD), world.join(R));
    sender.send(&world, 1, 2, 4);
    sender.send(&world, 2, 1, 4);
    dead.receive(&world, 2);
    assert_eq!(receiver.drain(&world), [2]);
    assert_eq!(world.state(1), Some(BufferState::Held(DEAD)));
    assert_eq!(world.recover(), Recovered { tombstones: 0, returned: 1, buffers: 0 });
    assert_eq!(world.state(1), Some(BufferState::Held(DEAD)), "the slot names it");
    assert_eq!(receiver.drain(&world), [1]);
    is_whole(&world, &sender, &receiver);
}

#[test]
fn buffers_on_loan_and_held_come_home() {
    let world = World::new(0);
    let (sender, dead, receiver) = (world.join(S), world.join(DEAD), world.join(R));
    sender.send(&world, 1, 2, 4);
    dead.receive(&world, 3);
    dead.send(&world, 9, 1, 1);
    assert_eq!(world.state(0), Some(BufferState::Held(DEAD)));
    assert_eq!(world.state(2), Some(BufferState::Owned(DEAD)));
    assert_eq!(dead.pool(&world).prepare(), Some(3));
    assert_eq!(world.state(3), Some(BufferState::Spare(DEAD)));
    assert_eq!(world.recover(), Recovered { tombstones: 0, returned: 0, buffers: 4 });
    is_whole(&world, &sender, &receiver);
}

#[test]
fn a_lease_is_vacated_with_what_was_gathered() {
    let world = World::new(0);
    let (sender, receiver) = (world.join(S), world.join(R));
    world.lease.store(LeaseWord::leased(DEAD).word(), Ordering::Relaxed);
    world.words[0].store(BufferWord::owned(DEAD).word(), Ordering::Relaxed);
    assert_eq!(world.recover(), Recovered { tombstones: 0, returned: 0, buffers: 1 });
    is_whole(&world, &sender, &receiver);
}

#[test]
fn a_published_message_of_the_dead_is_delivered() {
    for op_of in [op::STANDARD_LINK_COPY, op::CONN_COPY] {
        let world = World::new(0);
        let (sender, dead, receiver) = (world.join(S), world.join(DEAD), world.join(R));
        let (run, ticket) = dead.send(&world, 5, 2, 3).unwrap();
        let operands = match op_of {
            op::CONN_COPY => [1, 5, 16, 16, 0, 16, 64 * u64::from(run.first)],
            _ => [5, run.first.into(), 16, 2, 0, 0, 0],
        };
        dead.producer(&world).publish(ticket.unwrap(), &Packet { op: op_of, operands });
        assert_eq!(world.recover(), Recovered::default());
        assert_eq!(world.state(1), Some(BufferState::Owned(DEAD)), "the slot names it");
        let Ok(Take::Packet(ticket, packet)) = receiver.consumer(&world).take(|_| true, || {}) else {
            panic!("it was committed")
        };
        assert_eq!(packet.operands, operands);
        receiver.pool(&world).hold(run).unwrap();
        receiver.consumer(&world).release(ticket);
        receiver.pool(&world).give(run);
        is_whole(&world, &sender, &receiver);
    }
}

#[test]
fn others_keep_what_they_hold() {
    let world = World::new(0);
    let (sender, receiver, heir) = (world.join(S), world.join(R), world.join(HEIR));
    sender.send(&world, 1, 1, 4);
    let taken = receiver.receive(&world, 2).unwrap();
    let (loan, claimed) = sender.send(&world, 2, 1, 2).unwrap();
    let (other, hole) = heir.send(&world, 3, 1, 2).unwrap();
    world.lease.store(LeaseWord::leased(HEIR).word(), Ordering::Relaxed);
    let before: Vec<u64> = world.slots.iter().map(|slot| slot.stamp.load(Ordering::Relaxed)).collect();
    assert_eq!(world.recover(), Recovered::default());
    let after: Vec<u64> = world.slots.iter().map(|slot| slot.stamp.load(Ordering::Relaxed)).collect();
    assert_eq!(before, after);
    assert_eq!(world.slot(2), Some(SlotState::Claimed(HEIR)));
    assert_eq!(world.state(other.first as usize), Some(BufferState::Owned(HEIR)));
    assert_eq!(world.lease.load(Ordering::Relaxed), LeaseWord::leased(HEIR).word());
    // They go on where they were.
    world.lease.store(LeaseWord::VACANT.word(), Ordering::Relaxed);
    receiver.consumer(&world).release(taken.2.unwrap());
    receiver.pool(&world).give(taken.1);
    for (process, run, ticket) in [(&sender, loan, claimed), (&heir, other, hole)] {
        process.pool(&world).pass(run);
        let packet = Packet::new(op::STANDARD_LINK_COPY, [4, run.first.into(), 8, 1]);
        process.producer(&world).publish(ticket.unwrap(), &packet);
    }
    assert_eq!(receiver.drain(&world), [4, 4]);
    is_whole(&world, &sender, &receiver);
}

#[test]
fn nonsense_in_a_published_packet_names_nothing() {
    for operands in [[1, 4, 8, 1], [1, 0, 8, u64::MAX], [1, u64::MAX, 0, 0], [1, 3, 8, 2]] {
        let world = World::new(0);
        let (sender, receiver) = (world.join(S), world.join(R));
        let ticket = sender.producer(&world).claim().unwrap();
        sender.producer(&world).publish(ticket, &Packet::new(op::STANDARD_LINK_COPY, operands));
        world.words.iter().for_each(|word| word.store(BufferWord::held(DEAD).word(), Ordering::Relaxed));
        assert_eq!(world.recover().buffers, 4, "{operands:?}");
        let Ok(Take::Packet(ticket, _)) = receiver.consumer(&world).take(|_| true, || {}) else { panic!() };
        receiver.consumer(&world).release(ticket);
        is_whole(&world, &sender, &receiver);
    }
}

#[test]
fn a_packet_that_will_be_refused_keeps_the_buffers_that_its_receiver_gives_home() {
    let world = World::new(0);
    let (sender, dead, receiver) = (world.join(S), world.join(DEAD), world.join(R));
    let (run, ticket) = dead.send(&world, 1, 2, 3).unwrap();
    // A chunk that ends after its message.
    let operands = [1, 1, 8, 9, 0, 72, u64::from(run.first) * 64];
    dead.producer(&world).publish(ticket.unwrap(), &Packet { op: op::CONN_COPY, operands });
    assert_eq!(world.recover(), Recovered::default());
    assert_eq!(world.state(run.first as usize), Some(BufferState::Owned(DEAD)), "the slot decides");
    let Ok(Take::Packet(ticket, _)) = receiver.consumer(&world).take(|_| true, || {}) else { panic!() };
    receiver.pool(&world).hold(run).unwrap();
    receiver.consumer(&world).release(ticket);
    receiver.pool(&world).give(run);
    is_whole(&world, &sender, &receiver);
}

#[test]
fn impossible_words_are_named() {
    for bad in [0, u64::MAX] {
        let world = World::new(0);
        world.slots[3].stamp.store(bad, Ordering::Relaxed);
        assert_eq!(world.try_recover(), Err(Impossible { what: "a ring stamp", found: bad }));
        let world = World::new(0);
        world.words[3].store(bad, Ordering::Relaxed);
        assert_eq!(world.try_recover(), Err(Impossible { what: "a buffer word", found: bad }));
    }
}

#[test]
#[should_panic]
fn scratch_must_hold_a_word_a_buffer() {
    let world = World::new(0);
    let direction = DirectionWords { slots: &world.slots, words: &world.words, lease: &world.lease };
    let _ = recover(direction, Geometry::new(4, 4, 8).unwrap(), DEAD, &mut [0; 3]);
}

/// What the living were doing when the other died: each paused in the middle.
#[derive(Clone, Copy)]
struct Background {
    /// Messages in the ring beforehand.
    waiting: u64,
    /// A living sender is paused after this many steps of a send, before the dead begins.
    sender: usize,
    /// A living receiver is paused after this many steps of a receive, before the dead begins.
    receiver: usize,
}

fn backgrounds() -> impl Iterator<Item = Background> {
    (0..=2).flat_map(|waiting| {
        (0..4).flat_map(move |sender| {
            let last = if waiting == 0 { 0 } else { 3 };
            (0..=last).map(move |receiver| Background { waiting, sender, receiver })
        })
    })
}

/// Death after each step of `act`, before each background's living go on: the oracle is that what was committed
/// arrives once, what was not arrives never, and at the end nothing has leaked. `act` does some steps and returns
/// what it committed and what it finished receiving.
fn kill_at_each_step(steps: usize, act: impl Fn(&World, &Process, usize) -> (Option<u64>, Option<u64>)) {
    for lap in LAPS {
        for background in backgrounds() {
            for stop in 0..=steps {
                for again in [false, true] {
                    kill(lap, background, stop, again, &act);
                }
            }
        }
    }
}

fn kill(
    lap: u64,
    background: Background,
    stop: usize,
    again: bool,
    act: &impl Fn(&World, &Process, usize) -> (Option<u64>, Option<u64>),
) {
    let world = World::new(lap);
    let (sender, dead, receiver) = (world.join(S), world.join(DEAD), world.join(R));
    // Marks that have moved: a lap was sent and received before.
    (0..5).for_each(|value| {
        sender.send(&world, value, 1, 4);
        assert_eq!(receiver.drain(&world), [value]);
    });
    let mut committed: Vec<u64> = (100..100 + background.waiting).collect();
    committed.iter().for_each(|value| assert!(sender.send(&world, *value, 1, 4).is_none()));
    let taken = receiver.receive(&world, background.receiver);
    let sending = sender.send(&world, 200, 1, background.sender);
    let (sent, received) = act(&world, &dead, stop);
    committed.extend(sent);
    if again {
        // Beside another recoverer.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| world.try_recover().unwrap());
            let mut both = world.try_recover().unwrap();
            both += other.join().unwrap();
            assert!(both.tombstones + both.returned <= 1, "done once");
        });
    }
    world.recover();
    // The living go on.
    let mut got: Vec<u64> = received.into_iter().collect();
    if let Some((value, run, ticket)) = taken {
        got.push(value);
        if let Some(ticket) = ticket {
            if background.receiver < 2 {
                receiver.pool(&world).hold(run).unwrap();
            }
            receiver.consumer(&world).release(ticket);
        }
        receiver.pool(&world).give(run);
    }
    if let Some((run, ticket)) = sending {
        let ticket = ticket.unwrap_or_else(|| sender.producer(&world).claim().expect("room"));
        sender.pool(&world).pass(run);
        let packet = Packet::new(op::STANDARD_LINK_COPY, [200, run.first.into(), 8, 1]);
        sender.producer(&world).publish(ticket, &packet);
        committed.push(200);
    }
    got.extend(receiver.drain(&world));
    got.sort_unstable();
    committed.sort_unstable();
    assert_eq!(got, committed, "stopped after step {stop}");
    is_whole(&world, &sender, &receiver);
}

#[test]
fn a_sender_dies_after_each_step() {
    kill_at_each_step(4, |world, dead, stop| {
        dead.send(world, 300, 1, stop);
        ((stop == 4).then_some(300), None)
    });
}

#[test]
fn a_receiver_dies_after_each_step() {
    kill_at_each_step(4, |world, dead, stop| {
        let taken = dead.receive(world, stop);
        // From its release on, the packet counts as received.
        (None, taken.and_then(|(value, ..)| (stop >= 3).then_some(value)))
    });
}

#[test]
fn a_process_dies_with_both_ends_in_hand() {
    kill_at_each_step(4, |world, dead, stop| {
        let taken = dead.receive(world, stop.min(2));
        let free = dead.pool(world).count_free() > 0;
        if free && (stop < 2 || taken.is_none()) {
            dead.send(world, 300, 1, stop);
            return ((stop == 4).then_some(300), None);
        }
        (None, None)
    });
}

#[test]
fn a_gatherer_dies_after_each_step() {
    kill_at_each_step(3, |world, dead, stop| {
        if stop > 0 {
            world.lease.store(LeaseWord::leased(DEAD).word(), Ordering::Relaxed);
        }
        for word in world.words.iter().take(stop.saturating_sub(1)) {
            let free = BufferWord::FREE.word();
            let owned = BufferWord::owned(dead.holder).word();
            let _ = word.compare_exchange(free, owned, Ordering::AcqRel, Ordering::Relaxed);
        }
        (None, None)
    });
}
