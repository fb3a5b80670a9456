//! Atomics and fences: the processor's, or loom's or shuttle's while a model runs. Nothing else in the crate knows of
//! either.
//!
//! In a loom model each access also knows where it stands in the source, so that `cargo xtask order-mutants` can weaken
//! one ordering at a time without building anew.

#[cfg(not(any(loom, shuttle)))]
pub use core::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use model::{AtomicU64, Looks, Ordering, fence, is_mutated, set_looks};
#[cfg(shuttle)]
pub use shuttle::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(feature = "std")]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

/// Whether [`AtomicU64`] has the size of a `u64`, so that words can lie in shared memory. False in models.
pub const IN_MEMORY: bool = cfg!(not(any(loom, shuttle)));

/// Loads a word that this or another thread will store to later.
///
/// Under loom the load is a compare-exchange that fails, because a plain load followed by a store to the same
/// atomic hides interleavings from it. (One that succeeds, such as adding zero, is no remedy: loom lets it
/// undo a plain store that it never saw.) But such a load never sees a stale value, so models run again with others
/// (`Looks`).
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub fn load_for_update(word: &AtomicU64, order: Ordering) -> u64 {
    #[cfg(not(loom))]
    return word.load(order);
    #[cfg(loom)]
    return word.load_for_update(order);
}

/// Tells the processor, or a model's scheduler, that this thread waits for another.
#[inline(always)]
pub fn spin() {
    #[cfg(not(any(loom, shuttle)))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
}

/// Makes sure that atomics have the size of the words they stand for: memory cannot be cast to a model's.
///
/// # Panics
/// In models.
pub fn require_memory() {
    let in_memory = IN_MEMORY;
    assert!(in_memory, "models build their words by hand");
}

/// Loom's atomics, with orderings that can be weakened from outside.
///
/// Two environment variables, each read once:
///
/// - `HQQ_ORDER_MUTANT` is `FILE:LINE:COLUMN INDEX ORDER`: the access whose name stands there uses `ORDER` (or, for a
///   fence, `none`) in place of its ordering number `INDEX`; a compare-exchange has two.
/// - `HQQ_ORDER_SITES` names a file to which each access of the crate appends `FILE:LINE:COLUMN ORDER...` when it
///   is reached first.
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

    /// What loads are in a model. None of these shows loom everything; together they miss little.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Looks {
        /// [`look`](super::look) is a compare-exchange that fails: no interleaving is hidden, no value is stale.
        Strong,
        /// `look` is a plain load: values may be stale, some interleavings are hidden.
        Plain,
        /// As `Plain`, and a compare-exchange is ahead of itself a plain load by which it may fail, as the language
        /// allows: hides most interleavings, and shows the stale values on which an exchange fails.
        Stale,
    }

    /// Decides on the models that this thread runs from now on.
    pub fn set_looks(looks: Looks) {
        LOOKS.with(|cell| cell.set(looks));
    }

    #[derive(Debug)]
    struct Mutant {
        file: String,
        line: u32,
        column: u32,
        index: usize,
        /// Nothing is no fence at all.
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

    /// Whether one ordering is weaker than it stands in the source.
    pub fn is_mutated() -> bool {
        mutant().is_some()
    }

    /// Notes an access of this crate for whoever asked.
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

    /// The orderings to use at `place`, where `orders` stand in the source.
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

    /// A fence, unless the mutant is that there is none.
    #[track_caller]
    pub fn fence(order: Ordering) {
        if let [Some(order)] = at(Location::caller(), [order]) {
            loom::sync::atomic::fence(order);
        }
    }

    /// [`core::sync::atomic::AtomicU64`], as far as the crate needs it.
    #[derive(Debug)]
    pub struct AtomicU64(Word);

    #[derive(Debug)]
    enum Word {
        Explored(loom::sync::atomic::AtomicU64),
        Quiet(core::sync::atomic::AtomicU64),
    }

    /// The same call on either kind of word.
    macro_rules! call {
        ($word:expr, $call:ident($($arg:expr),*)) => {
            match &$word.0 {
                Word::Explored(word) => word.$call($($arg),*),
                Word::Quiet(word) => word.$call($($arg),*),
            }
        };
    }

    impl AtomicU64 {
        /// A word.
        #[track_caller]
        pub fn new(value: u64) -> Self {
            Self(Word::Explored(loom::sync::atomic::AtomicU64::new(value)))
        }

        /// A word that a model is not interested in: threads do not switch at its accesses, and its last value is
        /// seen at once. For words that only repeat what others show.
        pub fn quiet(value: u64) -> Self {
            Self(Word::Quiet(core::sync::atomic::AtomicU64::new(value)))
        }

        /// A load.
        #[track_caller]
        pub fn load(&self, order: Ordering) -> u64 {
            call!(self, load(one(order)))
        }

        /// A load that hides no interleavings, see [`look`](super::look).
        #[track_caller]
        pub(super) fn load_for_update(&self, order: Ordering) -> u64 {
            let order = one(order);
            if LOOKS.with(Cell::get) != Looks::Strong {
                return call!(self, load(order));
            }
            // No word is ever all ones.
            call!(self, compare_exchange(u64::MAX, u64::MAX, order, order)).unwrap_or_else(|found| found)
        }

        /// A store.
        #[track_caller]
        pub fn store(&self, value: u64, order: Ordering) {
            call!(self, store(value, one(order)));
        }

        /// A store that tells what was there.
        #[track_caller]
        pub fn swap(&self, value: u64, order: Ordering) -> u64 {
            call!(self, swap(value, one(order)))
        }

        /// A store if `current` is there; else an error that tells what is.
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

        /// An addition that tells what was there.
        #[track_caller]
        pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            call!(self, fetch_add(value, one(order)))
        }

        /// An OR that tells what was there.
        #[track_caller]
        pub fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
            call!(self, fetch_or(value, one(order)))
        }

        /// An AND that tells what was there.
        #[track_caller]
        pub fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
            call!(self, fetch_and(value, one(order)))
        }
    }
}
