//! The token bucket of a connection: that of governor, with the times that the caller passes.

use core::cell::Cell;
use core::num::NonZeroU32;
use core::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::class::Rate;
use super::error::QosError;

/// The least time of a cell, in nanoseconds. Governor counts whole cells, each in whole nanoseconds; with one byte per cell
/// 0.6 GB/s and 1 GB/s would be the same. So a cell has enough bytes for a rounding error of less than 0.2 %.
const LEAST_PERIOD_NS: u128 = 512;

/// A clock that shows the time of the last call.
#[derive(Clone, Debug)]
struct Given(Cell<Duration>);

impl Clock for Given {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.get()
    }
}

#[derive(Debug)]
pub(super) struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, Given, NoOpMiddleware<Duration>>,
    burst: u64,
    /// Bytes in a cell, a power of two.
    cell: u64,
    /// Bytes of the last cell that are paid and not yet used.
    paid: u64,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(rate: Rate, now: Duration) -> Result<Self, QosError> {
        let Rate { bytes_per_second, burst } = rate;
        if bytes_per_second == 0 {
            return Err(QosError::RateZero);
        }
        if burst == 0 {
            return Err(QosError::BurstTooSmall { burst, least: 1 });
        }
        let second = 1_000_000_000u128;
        let period = |cell: u64| (u128::from(cell) * second).div_ceil(u128::from(bytes_per_second));
        let cell = (0..u64::BITS).map(|bit| 1 << bit).find(|&cell| period(cell) >= LEAST_PERIOD_NS);
        // The greatest rate needs 2^44.
        let cell = cell.ok_or(QosError::RateZero)?;
        let cells = u32::try_from(burst.div_ceil(cell)).ok().and_then(NonZeroU32::new);
        let most = u64::from(u32::MAX).saturating_mul(cell);
        let cells = cells.ok_or(QosError::BurstTooLarge { burst, most })?;
        // At most a second, for one byte per second.
        let period = Duration::from_nanos(period(cell) as u64);
        let quota = Quota::with_period(period).ok_or(QosError::RateZero)?.allow_burst(cells);
        let limiter = RateLimiter::direct_with_clock(quota, Given(Cell::new(now)));
        Ok(Self { limiter, burst, cell, paid: 0 })
    }

    /// The most bytes that can be paid at once.
    pub(super) fn burst(&self) -> u64 {
        self.burst
    }

    /// Pays for `cost` bytes at the time `now`, which never decreases, or returns the time at which it is possible.
    pub(super) fn pay(&mut self, cost: u64, now: Duration) -> Result<(), Duration> {
        let missing = cost.saturating_sub(self.paid).div_ceil(self.cell);
        let Some(cells) = u32::try_from(missing).ok().and_then(NonZeroU32::new) else {
            self.paid = self.paid.saturating_sub(cost);
            return Ok(());
        };
        self.limiter.clock().0.set(now);
        // A cost over the burst was refused by `push`, so the capacity suffices.
        if let Ok(Err(early)) = self.limiter.check_n(cells) {
            return Err(early.earliest_possible());
        }
        // The rest is less than a cell; the sum may exceed 64 bits.
        let paid = u128::from(self.paid) + u128::from(missing) * u128::from(self.cell);
        self.paid = paid.saturating_sub(u128::from(cost)) as u64;
        Ok(())
    }
}
