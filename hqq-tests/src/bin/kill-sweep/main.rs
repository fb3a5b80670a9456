//! The kill sweep: kills a process after any machine instruction of any operation, and checks that the survivors recover.
//!
//! | file | what is in it |
//! |---|---|
//! | `arena.rs` | memory that can be copied and put back |
//! | `scene.rs` | operations on the region, fill levels, other processes; the checks |
//! | `sweep.rs` | steps through a scenario and checks every instant |
//! | `link.rs` | victims with a real link, checked in a copy, and really killed |
//! | `delivery.rs` | victims with reliable delivery, really killed, and their successors |
//! | `report.rs` | results |
//!
//! The victim is stepped by `hqq_tests::single_step`; the checks are `hqq_tests::oracle`. A worker process for each processor, a copy of this
//! program, does the work; a worker that hangs or crashes counts as a fault. `cargo xtask kill-sweep` runs it.

#[cfg(target_arch = "x86_64")]
#[macro_use]
mod names;
#[cfg(target_arch = "x86_64")]
mod arena;
#[cfg(target_arch = "x86_64")]
mod delivery;
#[cfg(target_arch = "x86_64")]
mod link;
#[cfg(target_arch = "x86_64")]
mod report;
#[cfg(target_arch = "x86_64")]
mod scenario;
#[cfg(target_arch = "x86_64")]
mod scene;
#[cfg(target_arch = "x86_64")]
mod sweep;
#[cfg(target_arch = "x86_64")]
mod work;
#[cfg(target_arch = "x86_64")]
mod worker_message;

#[cfg(target_arch = "x86_64")]
fn main() -> std::process::ExitCode {
    work::main()
}

#[cfg(not(target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    eprintln!("the kill sweep knows the breakpoints and registers of x86-64 only");
    std::process::ExitCode::from(2)
}
