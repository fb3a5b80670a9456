//! The limits of a window.

use super::error::FlowError;

/// The smallest window, in chunks: one half is in transit while the other is announced.
pub const MIN_WINDOW: u64 = 2;

/// The largest window, in chunks.
pub const MAX_WINDOW: u64 = 1 << 31;

/// Returns `window` if it is within the limits.
pub(super) fn check_window(window: u64) -> Result<u64, FlowError> {
    match window {
        ..MIN_WINDOW => Err(FlowError::WindowTooSmall { window, least: MIN_WINDOW }),
        MIN_WINDOW..=MAX_WINDOW => Ok(window),
        _ => Err(FlowError::WindowTooLarge { window, most: MAX_WINDOW }),
    }
}
