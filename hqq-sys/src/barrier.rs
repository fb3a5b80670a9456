//! A memory barrier on every running thread of this process.
//!
//! If two threads of a process both need a fence, and one of them often, the other can call [`process_barrier`]
//! instead: then the frequent one needs no fence. The barrier does not affect other processes.

use rustix::thread::{MembarrierCommand, membarrier};

/// Registers this process with the kernel for [`process_barrier`].
///
/// Needed once in each process; further calls have no effect. Returns `false` if the kernel refuses, for instance
/// because of a system call filter. Use fences then.
pub fn register() -> bool {
    membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
}

/// Executes a full memory barrier on every running thread of this process, before it returns.
///
/// Returns `false`, without any ordering, if [`register`] was not called or the kernel refuses. The call interrupts
/// other processors and takes microseconds.
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
