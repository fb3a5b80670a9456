//! Overwriting secrets on the stack.

use std::hint::black_box;

/// Overwrites the part of the stack below the caller that returned calls usually used.
#[inline(never)]
pub(super) fn wipe_stack() {
    black_box([0_u8; 16 * 1024]);
}
