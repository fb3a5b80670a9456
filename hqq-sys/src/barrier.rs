//! A memory barrier on every running thread of this process.
//!
//! It lets the frequent side of a handshake between two threads of one process do without a fence
//! of its own: the rare side calls [`process_barrier`] and pays for both. It does not reach other
//! processes.

use rustix::thread::{MembarrierCommand, membarrier};

/// Announces to the kernel that this process will call [`process_barrier`].
///
/// Needed once a process; more often does no harm. Returns `false` if the kernel refuses, for
/// instance under a system call filter: use fences then.
pub fn register() -> bool {
    membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
}

/// Makes every thread of this process that is running now pass through a full memory barrier
/// before this returns.
///
/// Returns `false`, and gives no ordering at all, if [`register`] was not called or the kernel
/// refuses. The call interrupts other processors and takes microseconds.
pub fn process_barrier() -> bool {
    membarrier(MembarrierCommand::PrivateExpedited).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_once_registered() {
        if register() {
            assert!(process_barrier());
            assert!(register(), "registering again is harmless");
        } else {
            assert!(!process_barrier());
        }
    }
}
