//! What is refused.

use core::fmt;

/// What is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosError {
    /// No such class.
    ClassOutOfRange {
        /// The number that was given.
        class: u64,
        /// The largest there is.
        most: u64,
    },
    /// A weight of zero: the connection would never send.
    WeightZero,
    /// A rate of zero bytes a second: the connection would never send.
    RateZero,
    /// A burst in which no message fits.
    BurstTooSmall {
        /// Bytes it was to have.
        burst: u64,
        /// The least it must have.
        least: u64,
    },
    /// A burst too large to count.
    BurstTooLarge {
        /// Bytes it was to have.
        burst: u64,
        /// The most it may have at this rate.
        most: u64,
    },
    /// A message that costs more than the connection may ever send at once.
    MessageBeyondBurst {
        /// What it costs, in bytes.
        cost: u64,
        /// The connection's burst, in bytes.
        burst: u64,
    },
    /// The scheduler has no room for another connection.
    TooManyConnections {
        /// The most there may be.
        limit: usize,
    },
    /// As many messages of this connection wait already as may.
    TooManyWaiting {
        /// The most there may be.
        limit: usize,
    },
    /// The connection is there already.
    KnownConnection,
    /// The connection was never added, or was removed.
    UnknownConnection,
    /// A part of the ring in which not even one packet can wait while another is read.
    PartTooSmall {
        /// Packets it was to have.
        packets: u64,
        /// The least it must have.
        least: u64,
    },
}

impl fmt::Display for QosError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ClassOutOfRange { class, most } => {
                write!(f, "class {class} is out of range: 0 is the most urgent, {most} the least")
            }
            Self::WeightZero => write!(f, "a weight of 0 would never send: it must be at least 1"),
            Self::RateZero => write!(f, "a rate of 0 bytes a second would never send: it must be at least 1"),
            Self::BurstTooSmall { burst, least } => {
                write!(f, "a burst of {burst} bytes is too small: it must be at least {least}")
            }
            Self::BurstTooLarge { burst, most } => {
                write!(f, "a burst of {burst} bytes is too large: at this rate it may be {most}")
            }
            Self::MessageBeyondBurst { cost, burst } => {
                write!(f, "a message of {cost} bytes exceeds the burst of {burst}: allow more, or split it")
            }
            Self::TooManyConnections { limit } => {
                write!(f, "{limit} connections are scheduled already, as many as may be")
            }
            Self::TooManyWaiting { limit } => {
                write!(f, "{limit} messages of the connection wait already, as many as may be")
            }
            Self::KnownConnection => write!(f, "the connection is scheduled already: remove it first"),
            Self::UnknownConnection => write!(f, "the connection is not scheduled: add it first"),
            Self::PartTooSmall { packets, least } => {
                write!(f, "{packets} packets are too small a part of a ring: it must be at least {least}")
            }
        }
    }
}

impl core::error::Error for QosError {}
