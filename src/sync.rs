//! Atomics and fences: those of `core`, or of loom or shuttle in a build for models. No other file of the crate names
//! loom or shuttle.
//!
//! In a loom build each access also knows its place in the source, so that `cargo xtask order-mutants` can weaken one
//! ordering at a time without rebuilding.

#[cfg(not(any(loom, shuttle)))]
pub use core::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use model::{AtomicU64, Looks, Ordering, fence, is_mutated, set_looks};
#[cfg(shuttle)]
pub use shuttle::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(feature = "std")]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

/// Whether [`AtomicU64`] has the size of a `u64`, so that memory can be cast to words. False in builds for models.
pub const IN_MEMORY: bool = cfg!(not(any(loom, shuttle)));

/// Loads a word that this or another thread may change later.
///
/// Under loom the load is a compare-exchange that fails, because loom misses interleavings after a plain load that is
/// followed by a store to the same atomic. (A read-modify-write that succeeds, such as adding zero, does not help:
/// loom lets it undo a plain store that it did not read.) But such a load never returns a stale value. So models run
/// again with other kinds of loads (`Looks`).
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub fn load_for_update(word: &AtomicU64, order: Ordering) -> u64 {
    #[cfg(not(loom))]
    return word.load(order);
    #[cfg(loom)]
    return word.load_for_update(order);
}

/// Tells the processor, or a model's scheduler, that this thread polls.
#[inline(always)]
pub fn spin() {
    #[cfg(not(any(loom, shuttle)))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
}

/// Checks that memory can be cast to words; see [`IN_MEMORY`].
///
/// # Panics
/// In builds for models.
pub fn require_memory() {
    let in_memory = IN_MEMORY;
    assert!(in_memory, "models build their words by hand");
}

/// Loom's atomics, with orderings that environment variables can weaken. Each is read once:
///
/// - `HQQ_ORDER_MUTANT` is `FILE:LINE:COLUMN INDEX ORDER`: the access at this place uses `ORDER` instead of its
///   ordering number `INDEX`. A compare-exchange has two orderings. For a fence, `ORDER` may be `none`.
/// - `HQQ_ORDER_SITES` names a file. Each access of the crate appends `FILE:LINE:COLUMN ORDER...` to it when it is
///   reached for the first time.
#[cfg(loom)]
mod model {
    extern crate std;

    use core::cell::Cell;
    use core::panic::Location;
    use std::collections::BTreeSet;
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::string::String;
    use std::sync::{Mutex, OnceLock, PoisonError};
    use std::{env, format};

    pub use loom::sync::atomic::Ordering;

    std::thread_local! {
        static LOOKS: Cell<Looks> = const { Cell::new(Looks::Strong) };
    }

    /// Kind of the loads by [`load_for_update`](super::load_for_update) in a model. No kind shows loom every execution;
    /// together they miss few.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Looks {
        /// A compare-exchange that fails: loom sees every interleaving, but no stale values.
        Strong,
        /// A plain load: loom sees stale values, but misses some interleavings.
        Plain,
        /// As `Plain`. Also, a compare-exchange first does a plain load and may fail on its value, as the language
        /// allows: loom sees exchanges that fail on stale values, but misses most interleavings.
        Stale,
    }

    /// Sets the kind of loads in the models that this thread runs from now on.
    pub fn set_looks(looks: Looks) {
        LOOKS.with(|cell| cell.set(looks));
    }

    #[derive(Debug)]
    struct Mutant {
        file: String,
        line: u32,
        column: u32,
        index: usize,
        /// `None` omits the fence.
        order: Option<Ordering>,
    }

    impl Mutant {
        fn parse(text: &str) -> Option<Self> {
            let (place, change) = text.split_once(' ')?;
            let mut place = place.split(':');
            let (index, order) = change.split_once(' ')?;
            let order = match order {
                "none" => None,
                "Relaxed" => Some(Ordering::Relaxed),
                "Acquire" => Some(Ordering::Acquire),
                "Release" => Some(Ordering::Release),
                "AcqRel" => Some(Ordering::AcqRel),
                _ => return None,
            };
            Some(Self {
                file: place.next()?.into(),
                line: place.next()?.parse().ok()?,
                column: place.next()?.parse().ok()?,
                index: index.parse().ok()?,
                order,
            })
        }
    }

    fn mutant() -> Option<&'static Mutant> {
        static MUTANT: OnceLock<Option<Mutant>> = OnceLock::new();
        let read = || {
            let text = env::var("HQQ_ORDER_MUTANT").ok()?;
            Some(Mutant::parse(&text).expect("HQQ_ORDER_MUTANT is FILE:LINE:COLUMN INDEX ORDER"))
        };
        MUTANT.get_or_init(read).as_ref()
    }

    /// Whether an ordering is weakened.
    pub fn is_mutated() -> bool {
        mutant().is_some()
    }

    /// Writes an access of this crate to the file of `HQQ_ORDER_SITES`, if that is set.
    fn note(place: &'static Location<'static>, orders: &[Ordering]) {
        type Sites = Mutex<(File, BTreeSet<(u32, u32, &'static str)>)>;
        static SITES: OnceLock<Option<Sites>> = OnceLock::new();
        let open = || {
            let path = env::var_os("HQQ_ORDER_SITES")?;
            let file = OpenOptions::new().create(true).append(true).open(path);
            Some(Mutex::new((file.expect("HQQ_ORDER_SITES names a file"), BTreeSet::new())))
        };
        let Some(sites) = SITES.get_or_init(open) else { return };
        let mut sites = sites.lock().unwrap_or_else(PoisonError::into_inner);
        if place.file().starts_with("src/") && sites.1.insert((place.line(), place.column(), place.file())) {
            let line = format!("{place} {orders:?}\n");
            sites.0.write_all(line.as_bytes()).expect("the file of sites takes a line");
        }
    }

    /// The orderings to use at `place` instead of `orders`, which the source has.
    fn at<const N: usize>(place: &'static Location<'static>, orders: [Ordering; N]) -> [Option<Ordering>; N] {
        note(place, &orders);
        let mut used = orders.map(Some);
        if let Some(mutant) = mutant() {
            let here = mutant.line == place.line() && mutant.column == place.column();
            if here && mutant.file == place.file() {
                used[mutant.index] = mutant.order;
            }
        }
        used
    }

    #[track_caller]
    fn one(order: Ordering) -> Ordering {
        at(Location::caller(), [order])[0].expect("only fences can be left out")
    }

    /// Issues a fence, unless the mutant omits it.
    #[track_caller]
    pub fn fence(order: Ordering) {
        if let [Some(order)] = at(Location::caller(), [order]) {
            loom::sync::atomic::fence(order);
        }
    }

    /// The part of [`core::sync::atomic::AtomicU64`] that the crate uses.
    #[derive(Debug)]
    pub struct AtomicU64(Word);

    #[derive(Debug)]
    enum Word {
        Explored(loom::sync::atomic::AtomicU64),
        Quiet(core::sync::atomic::AtomicU64),
    }

    /// Makes the same call on either kind of word.
    macro_rules! call {
        ($word:expr, $call:ident($($arg:expr),*)) => {
            match &$word.0 {
                Word::Explored(word) => word.$call($($arg),*),
                Word::Quiet(word) => word.$call($($arg),*),
            }
        };
    }

    impl AtomicU64 {
        /// Makes a word.
        #[track_caller]
        pub fn new(value: u64) -> Self {
            Self(Word::Explored(loom::sync::atomic::AtomicU64::new(value)))
        }

        /// Makes a word that loom does not explore: threads do not switch at its accesses, and every load returns the
        /// last value. For words on which the outcome of a model does not depend.
        pub fn quiet(value: u64) -> Self {
            Self(Word::Quiet(core::sync::atomic::AtomicU64::new(value)))
        }

        /// Loads the value.
        #[track_caller]
        pub fn load(&self, order: Ordering) -> u64 {
            call!(self, load(one(order)))
        }

        /// Loads the value as [`load_for_update`](super::load_for_update) describes.
        #[track_caller]
        pub(super) fn load_for_update(&self, order: Ordering) -> u64 {
            let order = one(order);
            if LOOKS.with(Cell::get) != Looks::Strong {
                return call!(self, load(order));
            }
            // The exchange fails: no word has all bits set.
            call!(self, compare_exchange(u64::MAX, u64::MAX, order, order)).unwrap_or_else(|found| found)
        }

        /// Stores a value.
        #[track_caller]
        pub fn store(&self, value: u64, order: Ordering) {
            call!(self, store(value, one(order)));
        }

        /// Stores a value and returns the previous one.
        #[track_caller]
        pub fn swap(&self, value: u64, order: Ordering) -> u64 {
            call!(self, swap(value, one(order)))
        }

        /// Stores `new` if the value is `current`. Returns the previous value, as an error if it was another.
        #[track_caller]
        pub fn compare_exchange(
            &self,
            current: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            let [success, failure] =
                at(Location::caller(), [success, failure]).map(|order| order.expect("no fence"));
            if LOOKS.with(Cell::get) == Looks::Stale {
                let found = call!(self, load(failure));
                if found != current {
                    return Err(found);
                }
            }
            call!(self, compare_exchange(current, new, success, failure))
        }

        /// Adds to the value and returns the previous one.
        #[track_caller]
        pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            call!(self, fetch_add(value, one(order)))
        }

        /// Computes the bitwise OR and returns the previous value.
        #[track_caller]
        pub fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
            call!(self, fetch_or(value, one(order)))
        }

        /// Computes the bitwise AND and returns the previous value.
        #[track_caller]
        pub fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
            call!(self, fetch_and(value, one(order)))
        }
    }
}
