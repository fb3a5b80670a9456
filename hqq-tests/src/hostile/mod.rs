//! A peer that writes anything into shared memory at any time, for `cargo xtask hostile`.
//!
//! | module | what it does |
//! |---|---|
//! | [`menu`] | which words there are, and what is stored into them |
//! | [`memory`] | mappings between guard pages |
//! | [`region`] | the sweep over the core: one store, then every operation |
//! | [`link`] | the same over whole links |
//! | [`scribble`] | stores without pause while both ends work |

pub mod link;
pub mod memory;
pub mod menu;
pub mod region;
pub mod scribble;

/// What must not happen, beside panics of the library, hangs and deaths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// An end was handed a buffer that it has already.
    HeldTwice,
    /// Memory that is no payload of the region.
    OutOfBounds,
    /// A link that was corrupt said something else later.
    Forgotten,
    /// A call took far longer than it may.
    Late,
}

/// A breach, as the payload of a panic.
#[derive(Debug)]
pub struct Broken {
    /// Which.
    pub breach: Breach,
    /// What was seen.
    pub what: String,
}

/// Ends a case because of a breach.
pub fn breach(breach: Breach, what: String) -> ! {
    std::panic::panic_any(Broken { breach, what })
}
