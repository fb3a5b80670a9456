//! Quality of service: which of the connections that want to send goes next, and how much of the ring the others may
//! fill meanwhile.
//!
//! - **Classes**, 0 the most urgent, 7 the least. A more urgent class goes first.
//! - **No starvation**: a class whose connections wait gets at least one part in [`GUARANTEED`] of the bytes that it
//!   and more urgent classes send: for each byte that it sends they may send `GUARANTEED - 1`; once they have sent as
//!   many for the whole of its next message, it is due, and goes ahead of them. So an urgent message waits for at
//!   most one message of each other class, and what rounding to whole messages has left due. A class that has no room
//!   gathers no more than one message.
//! - **Weights**: the connections of one class share what the class gets by their weights, in bytes, by start-time fair
//!   queueing. Of two that always wait, the shares by weight never differ by more than the largest message of each, by
//!   weight. Who was away, or was held up by a rate, gets no arrears.
//! - **Rates**: a token bucket for each connection, if wanted. Who is over the rate holds up nobody.
//! - **[`Occupancy`]**: the ring keeps order, so an urgent message waits for all that is already in it. What is not
//!   urgent may therefore fill only a part of the ring.
//!
//! What is sent has a cost in bytes. It should be the size of the packet as well as that of the payload, so that small
//! messages are not free; 0 counts as 1.
//!
//! Times are durations since any one moment that the caller keeps to; a time before the last one counts as the last
//! one. Operations take logarithmic time in the number of connections; [`Scheduler::next`] besides wakes connections
//! whose rate allows them again, each once for each message that it held up.

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
