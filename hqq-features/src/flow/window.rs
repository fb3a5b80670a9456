//! The bounds of a window.

use super::error::FlowError;

/// The smallest window, in chunks: one half can be under way while the other is announced.
pub const LEAST_WINDOW: u64 = 2;

/// The largest window, in chunks.
pub const LARGEST_WINDOW: u64 = 1 << 31;

/// The window, if it is within bounds.
pub(super) fn checked(window: u64) -> Result<u64, FlowError> {
    match window {
        ..LEAST_WINDOW => Err(FlowError::WindowTooSmall { window, least: LEAST_WINDOW }),
        LEAST_WINDOW..=LARGEST_WINDOW => Ok(window),
        _ => Err(FlowError::WindowTooLarge { window, most: LARGEST_WINDOW }),
    }
}
