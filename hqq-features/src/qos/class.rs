//! How connections are to be treated.

use super::error::QosError;

/// How urgent a connection is: 0 to 7, and 0 goes first.
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
    /// How many there are.
    pub const COUNT: usize = 8;
    /// Overtakes everything, and may fill the whole ring.
    pub const URGENT: Self = Self(0);
    /// What a connection has that asked for nothing.
    pub const NORMAL: Self = Self(3);
    /// Has time.
    pub const BULK: Self = Self(7);

    /// The class with this number.
    ///
    /// # Errors
    /// [`QosError::ClassOutOfRange`].
    pub const fn new(number: u64) -> Result<Self, QosError> {
        let most = Self::COUNT as u64 - 1;
        if number > most {
            return Err(QosError::ClassOutOfRange { class: number, most });
        }
        Ok(Self(number as u8))
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// What a connection may send in the long run, and at once after a pause.
///
/// In any time `t` it sends at most `burst + t * bytes_per_second`, rounded up by what it may send in two microseconds,
/// and if it always has something to send no less than 99.8 % of the rate.
///
/// On a connection of a link this is about chunks as they travel: what compression has left, with all headers, and 64 bytes for
/// each slot. A burst there must hold a whole buffer and its slot; longer messages go in several chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes a second, at least 1.
    pub bytes_per_second: u64,
    /// Bytes at once, at least 1. The scheduler refuses what costs more.
    pub burst: u64,
}

/// What a connection gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficClass {
    /// How urgent it is.
    pub class: Class,
    /// Its part among the connections of its class, at least 1.
    pub weight: u32,
    /// The most that it may send.
    pub rate: Option<Rate>,
}

impl Default for TrafficClass {
    /// Normal, weight 1, as fast as it goes.
    fn default() -> Self {
        Self { class: Class::NORMAL, weight: 1, rate: None }
    }
}
