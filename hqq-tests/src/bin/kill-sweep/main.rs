//! The kill sweep: kills a process after any machine instruction of any operation, and checks that the survivors recover.
//!
//! | file | what is in it |
//! |---|---|
//! | `arena.rs` | memory that can be copied and put back |
//! | `scene.rs` | operations on the region, fill levels, company; what must be found |
//! | `sweep.rs` | steps through a scenario and judges every instant |
//! | `link.rs` | victims with a real link, judged in a copy, and killed for real |
//! | `delivery.rs` | victims with reliable delivery, killed for real, and their successors |
//! | `report.rs` | figures |
//!
//! The victim is stepped by `hqq_tests::step`; the judgement itself is `hqq_tests::oracle`. The work is done by one process a processor, each a copy of this
//! program; a judge that hangs or crashes is seen from here, and is a verdict too. `cargo xtask kill-sweep` runs it.

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
