//! The exact cost of a message: a forked child sends and receives, and each of its instructions is stepped, decoded and
//! counted. No clock is involved, so other load does not matter. `cargo xtask costs` runs this.
//!
//! | file | what is in it |
//! |---|---|
//! | `rows.rs` | what is counted |
//! | `count.rs` | instructions, and what they touch |
//! | `memory.rs` | an allocator that is seen, a level stack, regions for the core |

#[cfg(target_arch = "x86_64")]
mod count;
#[cfg(target_arch = "x86_64")]
mod measure;
#[cfg(target_arch = "x86_64")]
mod memory;
#[cfg(target_arch = "x86_64")]
mod rows;

#[cfg(target_arch = "x86_64")]
fn main() -> std::process::ExitCode {
    measure::main()
}

#[cfg(not(target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    eprintln!("the instructions and registers of x86-64 only are known here");
    std::process::ExitCode::from(2)
}
