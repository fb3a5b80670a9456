//! The class of traffic of a connection.

use super::error::QosError;

/// The priority of a connection: 0 to 7, where 0 is served first.
///
/// ```
/// use hqq_features::qos::{Class, QosError};
/// assert!(Class::URGENT < Class::NORMAL && Class::NORMAL < Class::BULK);
/// assert_eq!(Class::new(7), Ok(Class::BULK));
/// assert_eq!(Class::new(8), Err(QosError::ClassOutOfRange { class: 8, most: 7 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(pub(super) u8);

impl Class {
    /// The number of classes.
    pub const COUNT: usize = 8;
    /// The most urgent class: it is served before all others, and may fill the whole ring.
    pub const URGENT: Self = Self(0);
    /// The default class.
    pub const NORMAL: Self = Self(3);
    /// The least urgent class.
    pub const BULK: Self = Self(7);

    /// The class with the number `number`.
    ///
    /// # Errors
    /// [`QosError::ClassOutOfRange`] for more than 7.
    pub const fn new(number: u64) -> Result<Self, QosError> {
        let most = Self::COUNT as u64 - 1;
        if number > most {
            return Err(QosError::ClassOutOfRange { class: number, most });
        }
        Ok(Self(number as u8))
    }

    /// The number of the class.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// The limit of the bytes that a connection sends: a rate, and a burst after a pause.
///
/// In a time `t` the connection sends at most `burst + t * bytes_per_second` bytes, plus those of two microseconds. If it
/// always has messages to send, it gets at least 99.8 % of the rate.
///
/// On a connection of a link the bytes are those of chunks as they are sent: after compression, with all headers, and 64
/// bytes for each slot. A burst must be at least a whole buffer and its slot; longer messages are sent in several chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes per second, at least 1.
    pub bytes_per_second: u64,
    /// Bytes at once, at least 1. The scheduler refuses messages that cost more.
    pub burst: u64,
}

/// The class of traffic of a connection: its priority, its weight, and its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficClass {
    /// The priority.
    pub class: Class,
    /// The weight among the connections of the class, at least 1.
    pub weight: u32,
    /// The limit of the bytes that it sends; `None` for no limit.
    pub rate: Option<Rate>,
}

impl Default for TrafficClass {
    /// [`Class::NORMAL`], weight 1, without a rate.
    fn default() -> Self {
        Self { class: Class::NORMAL, weight: 1, rate: None }
    }
}
