//! Overwriting what secrets may have left on the stack.

use std::hint::black_box;

/// Overwrites what calls that have returned may have left on the stack: as far as they usually reach.
#[inline(never)]
pub(super) fn wipe_stack() {
    black_box([0_u8; 16 * 1024]);
}
