// unsafe: loom watches plain memory only through raw pointers
//! Shared by the models in `tests/`: a runner that detects a model that explored too little.
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hqq::shm::words::{Lap, Slot, Stamp};
use hqq::sync::{AtomicU64, Looks, is_mutated, set_looks};
use loom::cell::UnsafeCell;

/// Explores the executions of `model`, whose work is done by so many `threads` at once: all of them if there are two,
/// those with at most three preemptions if there are more. There are three runs, one for each kind of [`Looks`]; in
/// those that show stale values three threads have two preemptions and one.
///
/// # Panics
/// If an execution of the model does, or if the first run has fewer than `least` executions: a model that loom
/// does not vary shows nothing.
pub fn explore(name: &str, threads: usize, least: usize, model: impl Fn() + Send + Sync + 'static) {
    let model = Arc::new(model);
    for looks in [Looks::Strong, Looks::Plain, Looks::Stale] {
        set_looks(looks);
        let count = Arc::new(AtomicUsize::new(0));
        let started = std::time::Instant::now();
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = match (threads, looks) {
            (2, _) => None,
            (_, Looks::Strong) => Some(3),
            (_, Looks::Plain) => Some(2),
            (_, Looks::Stale) => Some(1),
        };
        builder.max_branches = 20_000;
        let (run, counter) = (model.clone(), count.clone());
        builder.check(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            run();
        });
        let count = count.load(Ordering::Relaxed);
        let seconds = started.elapsed().as_secs_f64();
        println!("{name}, {looks:?}: {count} executions, {seconds:.1} s");
        // A weakened ordering may leave fewer, which is not what finds it.
        let enough = looks != Looks::Strong || count >= least || is_mutated();
        assert!(enough, "{name}, {looks:?}: only {count} executions, {least} expected");
    }
    set_looks(Looks::Strong);
}

/// A word of plain memory, standing for a payload: loom fails the model if two threads reach it at once and
/// nothing orders them.
#[derive(Debug, Default)]
pub struct Payload(UnsafeCell<u64>);

// SAFETY: the model decides; loom panics at an access that no edge orders.
unsafe impl Sync for Payload {}
// SAFETY: a number.
unsafe impl Send for Payload {}

impl Payload {
    /// A payload of zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores to it.
    pub fn write(&self, value: u64) {
        // SAFETY: the pointer is valid in the closure, and loom has checked that no other access overlaps.
        self.0.with_mut(|word| unsafe { *word = value });
    }

    /// Loads it.
    pub fn read(&self) -> u64 {
        // SAFETY: as in `write`.
        self.0.with(|word| unsafe { *word })
    }
}

/// A free slot in `lap`. All operands are stored and loaded alike, so two of them show what seven would, and loom has
/// less to explore.
pub fn slot(lap: u64) -> Slot {
    let operand = |index| if index < 2 { AtomicU64::new(0) } else { AtomicU64::quiet(0) };
    Slot { stamp: AtomicU64::new(Stamp::free(Lap::new(lap)).word()), operands: std::array::from_fn(operand) }
}
