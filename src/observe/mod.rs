//! Observing links from outside: without help of their owners, and without disturbing them.
//!
//! An [`Observer`] maps a region read-only, so it cannot change a word. It joins no seat, and neither end notices it.
//! Its results may be outdated when they are returned.
//!
//! | what | where |
//! |---|---|
//! | the links of this machine | `discover.rs`: [`links`], [`find`] |
//! | a region opened read-only, its name and seats | `observer.rs`: [`Observer`] |
//! | counters of packets, bytes, waits and refusals | `stats.rs`: [`Stats`] |
//! | latencies, rates and ratios, if negotiated | `metrics.rs`: [`Metrics`] |
//! | every control word checked, held slots and buffers listed | `check.rs`: [`Observer::check`], [`Report`] |

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
