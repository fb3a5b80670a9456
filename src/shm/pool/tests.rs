use super::*;
use std::vec::Vec;

const S: Holder = Holder::new(0, 1);
const T: Holder = Holder::new(3, 31);
const R: Holder = Holder::new(1, 5);

/// A pool's shared words and one process's private ones for each holder.
struct Memory {
    words: Vec<AtomicU64>,
    lease: AtomicU64,
    lent: [Vec<AtomicU64>; 3],
    hints: [AtomicU64; 3],
    spares: [AtomicU64; 3],
}

impl Memory {
    fn new(buffers: usize) -> Self {
        let words = |value| (0..buffers).map(|_| AtomicU64::new(value)).collect::<Vec<_>>();
        Self {
            words: words(BufferWord::FREE.word()),
            lease: AtomicU64::new(LeaseWord::VACANT.word()),
            lent: [words(0), words(0), words(0)],
            hints: [const { AtomicU64::new(0) }; 3],
            spares: [const { AtomicU64::new(0) }; 3],
        }
    }

    fn pool(&self, holder: Holder, single: bool) -> Pool<'_> {
        let process = [S, T, R].iter().position(|known| *known == holder).expect("one of three");
        let (hint, spare) = (&self.hints[process], &self.spares[process]);
        Pool::new(&self.words, &self.lease, &self.lent[process], hint, spare, holder, single)
    }

    fn state(&self, index: usize) -> Option<BufferState> {
        BufferWord::from_word(self.words[index].load(Ordering::Relaxed)).state()
    }
}

fn run(first: u32, count: u32) -> Run {
    Run { first, count }
}

#[test]
fn what_is_taken_ahead_is_the_next_take() {
    [false, true].into_iter().for_each(taken_ahead);
}

fn taken_ahead(single: bool) {
    let memory = Memory::new(8);
    let pool = memory.pool(S, single);
    assert_eq!((pool.prepare(), pool.prepare()), (Some(0), None));
    assert_eq!((pool.count_free(), memory.state(0)), (7, Some(BufferState::Spare(S))));
    assert!(pool.is_in_use());
    // Another process on this side has no part in it.
    assert_eq!(memory.pool(T, false).allocate(1), Ok(run(1, 1)));
    assert_eq!(pool.allocate(1), Ok(run(0, 1)));
    assert!(!pool.give_spare());
    // All of a pool can be taken, and a run finds it whole.
    pool.give(run(0, 1));
    memory.pool(T, false).give(run(1, 1));
    assert!(pool.prepare().is_some());
    assert_eq!(pool.allocate(8), Ok(run(0, 8)));
    assert_eq!(pool.prepare(), None);
    pool.give(run(0, 8));
    assert!(pool.prepare().is_some());
    assert!(pool.give_spare());
    assert_eq!(pool.count_free(), 8);
    assert!(!pool.is_in_use());
}

#[test]
fn singles_are_all_handed_out_once() {
    for single in [false, true] {
        let memory = Memory::new(8);
        let pool = memory.pool(S, single);
        for _ in 0..3 {
            let mut taken: Vec<Run> = (0..8).map(|_| pool.allocate(1).unwrap()).collect();
            assert_eq!(pool.allocate(1), Err(Shortage::Exhausted(0)));
            assert_eq!(pool.count_free(), 0);
            taken.sort_by_key(|run| run.first);
            assert!(taken.iter().enumerate().all(|(index, run)| *run == self::run(index as u32, 1)));
            assert_eq!(memory.state(5), Some(BufferState::Owned(S)));
            pool.give(taken.remove(5));
            assert_eq!(pool.count_free(), 1);
            assert_eq!(pool.allocate(1), Ok(run(5, 1)));
            taken.push(run(5, 1));
            taken.into_iter().for_each(|run| pool.give(run));
        }
    }
}

#[test]
fn runs_are_consecutive_and_travel_whole() {
    for single in [false, true] {
        let memory = Memory::new(8);
        let pool = memory.pool(S, single);
        assert_eq!(pool.allocate(8), Ok(run(0, 8)));
        pool.give(run(0, 8));
        assert_eq!(pool.count_free(), 8);
        assert_eq!((pool.allocate(3), pool.allocate(3)), (Ok(run(0, 3)), Ok(run(3, 3))));
        assert_eq!(pool.allocate(3), Err(Shortage::Exhausted(2)));
        assert_eq!(pool.count_free(), 2, "what the failed gather won is free again");
        pool.give(run(0, 3));
        assert_eq!(pool.allocate(4), Err(Shortage::Fragmented(3)));
        assert_eq!(pool.allocate(6), Err(Shortage::Exhausted(5)));
        assert_eq!(pool.count_free(), 5);
        // A receiver holds it and frees all of it.
        pool.pass(run(3, 3));
        let receiver = memory.pool(R, single);
        receiver.hold(run(3, 3)).unwrap();
        assert_eq!(memory.state(4), Some(BufferState::Held(R)));
        assert_eq!(pool.allocate(6), Err(Shortage::Exhausted(5)));
        receiver.give(run(3, 3));
        assert_eq!(pool.allocate(8), Ok(run(0, 8)));
        assert_eq!(memory.lease.load(Ordering::Relaxed), LeaseWord::VACANT.word());
    }
}

#[test]
fn a_leased_pool_is_busy_for_runs_only() {
    let memory = Memory::new(4);
    memory.lease.store(LeaseWord::leased(T).word(), Ordering::Relaxed);
    let pool = memory.pool(S, false);
    assert_eq!(pool.allocate(2), Err(Shortage::Busy));
    assert_eq!(pool.allocate(1), Ok(run(0, 1)));
    assert_eq!(memory.lease.load(Ordering::Relaxed), LeaseWord::leased(T).word());
    for bad in [0, 2, u64::MAX] {
        memory.lease.store(bad, Ordering::Relaxed);
        let impossible = Impossible { what: "a pool lease", found: bad };
        assert_eq!(pool.allocate(2), Err(Shortage::Impossible(impossible)));
    }
}

#[test]
fn a_lent_buffer_is_not_handed_out_whatever_its_word_says() {
    for single in [false, true] {
        let memory = Memory::new(2);
        let pool = memory.pool(S, single);
        let (lent, other) = (pool.allocate(1).unwrap(), pool.allocate(1).unwrap());
        memory.words[lent.first as usize].store(BufferWord::FREE.word(), Ordering::Relaxed);
        let impossible = Impossible { what: "a buffer word", found: BufferWord::FREE.word() };
        assert_eq!(pool.allocate(1), Err(Shortage::Impossible(impossible)));
        memory.words[lent.first as usize].store(BufferWord::FREE.word(), Ordering::Relaxed);
        pool.give(other);
        assert_eq!(pool.allocate(2), Err(Shortage::Impossible(impossible)));
        assert_eq!(memory.lease.load(Ordering::Relaxed), LeaseWord::VACANT.word());
    }
}

#[test]
fn impossible_words_are_named_and_the_rest_stays_whole() {
    for bad in [0, 2, 1 << 20 | 1, u64::MAX] {
        let memory = Memory::new(4);
        memory.words[2].store(bad, Ordering::Relaxed);
        let pool = memory.pool(S, false);
        let impossible = Impossible { what: "a buffer word", found: bad };
        assert_eq!(pool.allocate(3), Err(Shortage::Impossible(impossible)));
        assert_eq!(pool.count_free(), 3, "what the gather won before is free again");
        assert_eq!((pool.allocate(1), pool.allocate(1)), (Ok(run(0, 1)), Ok(run(1, 1))));
        assert_eq!(pool.allocate(1), Err(Shortage::Impossible(impossible)));
    }
}

#[test]
fn a_buffer_is_held_once() {
    for single in [false, true] {
        let memory = Memory::new(4);
        let receiver = memory.pool(R, single);
        receiver.hold(run(2, 1)).unwrap();
        assert_eq!(receiver.hold(run(2, 1)), Err(AlreadyHeld));
        assert_eq!(receiver.hold(run(0, 4)), Err(AlreadyHeld));
        // Nothing of the refused run was marked or stored.
        assert_eq!(memory.state(0), Some(BufferState::Free));
        receiver.hold(run(0, 2)).unwrap();
        receiver.give(run(2, 1));
        receiver.hold(run(2, 2)).unwrap();
    }
}

/// Threads of two processes allocate single buffers and runs: no buffer is ever allocated twice, and at the end all are
/// free.
#[test]
fn concurrent_takers_never_share() {
    const BUFFERS: usize = 8;
    let memory = Memory::new(BUFFERS);
    let users: [AtomicU64; BUFFERS] = Default::default();
    let won = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for (id, (holder, count)) in [(S, 1), (S, 3), (T, 1), (T, 2), (S, 2)].into_iter().enumerate() {
            let (memory, users, won, id) = (&memory, &users, &won, id as u64 + 1);
            scope.spawn(move || {
                let pool = memory.pool(holder, false);
                for _ in 0..10_000 {
                    let run = match pool.allocate(count) {
                        Ok(run) => run,
                        Err(Shortage::Impossible(what)) => panic!("{what:?}"),
                        Err(_) => {
                            std::thread::yield_now();
                            continue;
                        }
                    };
                    assert_eq!(run.count, count);
                    for index in run.indices() {
                        assert_eq!(users[index].swap(id, Ordering::Relaxed), 0, "shared");
                    }
                    for index in run.indices() {
                        assert_eq!(users[index].swap(0, Ordering::Relaxed), id, "shared");
                    }
                    won.fetch_add(1, Ordering::Relaxed);
                    pool.give(run);
                }
            });
        }
    });
    assert!(won.into_inner() >= 20_000, "singles at least mostly succeed");
    let pool = memory.pool(S, false);
    assert_eq!(pool.count_free(), BUFFERS as u64);
    assert_eq!(pool.allocate(8), Ok(run(0, 8)));
}
