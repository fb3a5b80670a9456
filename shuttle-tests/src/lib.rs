//! Models with more threads than loom can explore, on random schedules from fixed seeds. Memory is sequentially consistent
//! here: these models find faults of the protocols and lost wake-ups, not of memory orderings.
//!
//! A failure prints the schedule that led to it; `shuttle::replay` takes that.
#![cfg(all(shuttle, test))]

// `waiters.rs` is compiled a second time, with a condition variable that shuttle knows; what it calls the operating
// system's event is the one below.
extern crate self as hqq_sys;

mod core;
mod event;
mod parking;
#[path = "../../src/link/waiters.rs"]
mod waiters;
mod waiting;

/// What `waiters.rs` expects of the crate that it belongs to.
mod sync {
    pub use hqq::sync::{AtomicU64, Ordering, fence};
    pub use shuttle::sync::{Condvar, Mutex, MutexGuard};
}

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, Runner};

const SEED: u64 = 0x0051_1A5E;

/// How many schedules each model runs, half of them by chance alone and half with few preemptions at points that
/// matter (PCT), unless `HQQ_SCHEDULES` says otherwise.
const SCHEDULES: usize = 3000;

fn explore(name: &str, model: fn()) {
    let schedules = std::env::var("HQQ_SCHEDULES").ok().map(|text| text.parse().expect("a number"));
    let half = schedules.unwrap_or(SCHEDULES) / 2;
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::Print;
    // It warns that it does not know weak orderings, which is said above.
    config.silence_warnings = true;
    let started = std::time::Instant::now();
    let random = Runner::new(RandomScheduler::new_from_seed(SEED, half), config.clone()).run(model);
    let bounded = Runner::new(PctScheduler::new_from_seed(SEED, 3, half), config).run(model);
    assert!(random + bounded >= 2 * half, "{name}: all schedules were run");
    println!("{name}: {random} + {bounded} schedules, {:.1} s", started.elapsed().as_secs_f64());
}
