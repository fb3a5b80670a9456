//! Atomics and fences: the processor's, or loom's while a model runs. Nothing else in the crate knows of loom.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// Whether [`AtomicU64`] has the size of a `u64`, so that words can lie in shared memory. False under loom.
pub const IN_MEMORY: bool = cfg!(not(loom));

/// Loads a word that this or another thread will store to later.
///
/// Under loom the load is a compare-exchange that fails, because a plain load followed by a store to the same
/// atomic hides interleavings from it. (One that succeeds, such as adding zero, is no remedy: loom lets it
/// undo a plain store that it never saw.) But such a load never sees a stale value, so models run a second time
/// with plain loads (`look_plainly`).
#[inline(always)]
pub fn look(word: &AtomicU64, order: Ordering) -> u64 {
    #[cfg(not(loom))]
    return word.load(order);
    #[cfg(loom)]
    if PLAIN.with(core::cell::Cell::get) {
        word.load(order)
    } else {
        // No word is ever all ones.
        word.compare_exchange(u64::MAX, u64::MAX, order, order).unwrap_or_else(|found| found)
    }
}

#[cfg(loom)]
extern crate std;

#[cfg(loom)]
std::thread_local! {
    static PLAIN: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
}

/// Makes [`look`] a plain load, or the failing compare-exchange again, in models that this thread runs from now on.
#[cfg(loom)]
pub fn look_plainly(plainly: bool) {
    PLAIN.with(|plain| plain.set(plainly));
}

/// Tells the processor, or loom's scheduler, that this thread waits for another.
#[inline(always)]
pub fn spin() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// Makes sure that atomics have the size of the words they stand for: memory cannot be cast to loom's.
///
/// # Panics
/// Under loom.
pub fn require_memory() {
    let in_memory = IN_MEMORY;
    assert!(in_memory, "models build their words by hand");
}
