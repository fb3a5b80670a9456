//! The clock that both processes read.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since a moment that is the same for all processes of the machine.
#[inline]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither part is negative.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
