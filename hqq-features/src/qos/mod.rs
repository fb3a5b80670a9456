//! Quality of service: which connection sends next, and how much of the ring the others may fill.
//!
//! - **Classes** are 0, the most urgent, to 7. A more urgent class is served first.
//! - **No starvation**: a class with waiting messages gets at least one part in [`GUARANTEED`] of the bytes that it and
//!   more urgent classes send: for each of its bytes they may send `GUARANTEED - 1`. Once they have sent as many for its
//!   whole next message, the class is due and is served before them. So an urgent message waits for at most one message
//!   of each other class, and for those that rounding to whole messages has left due. A class that has no room
//!   accumulates no more than one message.
//! - **Weights**: the connections of a class share its bytes in proportion to their weights, by start-time fair queueing.
//!   The bytes by weight of two connections that always wait never differ by more than the largest message of each, by
//!   weight. A connection gets no compensation for time in which it was idle or limited by its rate.
//! - **Rates**: an optional token bucket for each connection. A connection that exceeds its rate delays no other.
//! - **[`Occupancy`]**: the ring keeps the order, so an urgent message waits for all that is in it already. Messages that
//!   are not urgent may therefore fill only a part of the ring.
//!
//! The cost of a message is in bytes. It should include the size of the packet, so that short messages are not free; 0
//! counts as 1.
//!
//! Times are durations since a fixed moment that the caller chooses; a time before the last one counts as the last one.
//! Operations take logarithmic time in the number of connections. [`Scheduler::next`] also wakes connections whose rate
//! allows them to send again, each once for each message that was delayed.

mod bucket;
mod class;
mod error;
mod occupancy;
mod scheduler;
#[cfg(test)]
mod tests;

pub use class::{Class, Rate, TrafficClass};
pub use error::QosError;
pub use occupancy::{Load, Occupancy};
pub use scheduler::{GUARANTEED, Next, Scheduler, SchedulerLimits};
