//! Looking at links from outside: without their owners' help, and without disturbing them.
//!
//! An [`Observer`] maps a region for reading only, so that it cannot change a word, takes no seat and is seen by
//! nobody. What it tells is a picture that may be old when it is returned.

mod check;
mod discover;
mod load;
mod metrics;
mod observer;
mod stats;
#[cfg(test)]
mod tests;

pub use check::{Finding, HeldBuffer, HeldSlot, Report};
pub use discover::{Discovered, LinkSeen, ProcessSeen, find, links};
pub use metrics::{DirectionMetrics, Latency, Metrics};
pub use observer::{Observer, SeatSeen};
pub use stats::{DirectionStats, SideStats, Stats};
