// unsafe: loom watches plain memory only through raw pointers
//! What the models in `tests/` share: a runner that knows when a model explored too little.
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hqq::sync::look_plainly;
use loom::cell::UnsafeCell;

/// Explores every execution of `model` with at most `preemptions` preemptions, in two runs: one in which
/// `look` is a compare-exchange, so that loom forgets no interleaving, and one in which it is a plain load,
/// so that stale values are seen as well.
///
/// # Panics
/// If an execution of the model does, or if the first run has fewer than `least` executions: a model that loom
/// does not vary shows nothing.
pub fn explore(name: &str, preemptions: usize, least: usize, model: impl Fn() + Send + Sync + 'static) {
    let model = Arc::new(model);
    for plainly in [false, true] {
        look_plainly(plainly);
        let count = Arc::new(AtomicUsize::new(0));
        let started = std::time::Instant::now();
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.max_branches = 20_000;
        let (run, counter) = (model.clone(), count.clone());
        builder.check(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            run();
        });
        let count = count.load(Ordering::Relaxed);
        let seconds = started.elapsed().as_secs_f64();
        let looks = if plainly { "plain looks" } else { "strong looks" };
        println!("{name}, {looks}: {count} executions, {seconds:.1} s");
        let enough = plainly || count >= least;
        assert!(enough, "{name}, {looks}: only {count} executions, {least} expected");
    }
    look_plainly(false);
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
