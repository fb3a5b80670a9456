//! The errors of quality of service.

use core::fmt;

/// A class of traffic or a request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosError {
    /// There is no class with this number.
    ClassOutOfRange {
        /// The number.
        class: u64,
        /// The number of the least urgent class.
        most: u64,
    },
    /// The weight is zero: the connection would never send.
    WeightZero,
    /// The rate is zero bytes per second: the connection would never send.
    RateZero,
    /// The burst is too small for any message.
    BurstTooSmall {
        /// Bytes of the burst.
        burst: u64,
        /// The least bytes of a burst.
        least: u64,
    },
    /// The burst is too large to count.
    BurstTooLarge {
        /// Bytes of the burst.
        burst: u64,
        /// The most bytes of a burst at this rate.
        most: u64,
    },
    /// The message costs more than the burst of the connection.
    MessageBeyondBurst {
        /// The cost of the message, in bytes.
        cost: u64,
        /// The burst of the connection, in bytes.
        burst: u64,
    },
    /// The scheduler has the most connections already.
    TooManyConnections {
        /// The most connections.
        limit: usize,
    },
    /// The most messages of this connection wait already.
    TooManyWaiting {
        /// The most messages that may wait.
        limit: usize,
    },
    /// The connection was added already.
    KnownConnection,
    /// The connection was never added, or was removed.
    UnknownConnection,
    /// The part of the ring is too small: one packet must fit while another is read.
    PartTooSmall {
        /// Packets of the part.
        packets: u64,
        /// The least packets of a part.
        least: u64,
    },
}

impl fmt::Display for QosError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ClassOutOfRange { class, most } => {
                write!(f, "class {class} is out of range: use 0, the most urgent, to {most}")
            }
            Self::WeightZero => write!(f, "a weight of 0 would never send: use at least 1"),
            Self::RateZero => write!(f, "a rate of 0 bytes per second would never send: use at least 1"),
            Self::BurstTooSmall { burst, least } => {
                write!(f, "a burst of {burst} bytes is too small: use at least {least}")
            }
            Self::BurstTooLarge { burst, most } => {
                write!(f, "a burst of {burst} bytes is too large: use at most {most} at this rate")
            }
            Self::MessageBeyondBurst { cost, burst } => {
                write!(
                    f,
                    "a message of {cost} bytes exceeds the burst of {burst}: allow a larger burst, or split it"
                )
            }
            Self::TooManyConnections { limit } => {
                write!(f, "{limit} connections are scheduled already, which is the limit: remove one")
            }
            Self::TooManyWaiting { limit } => {
                write!(
                    f,
                    "{limit} messages of the connection wait already, which is the limit: send them first"
                )
            }
            Self::KnownConnection => write!(f, "the connection is scheduled already: remove it first"),
            Self::UnknownConnection => write!(f, "the connection is not scheduled: add it first"),
            Self::PartTooSmall { packets, least } => {
                write!(f, "a part of the ring of {packets} packets is too small: use at least {least}")
            }
        }
    }
}

impl core::error::Error for QosError {}
