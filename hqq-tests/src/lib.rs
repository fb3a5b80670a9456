//! Building blocks of the tests of HQQ with several processes. `docs/testing.md` explains them.
//!
//! A test is one process. The other is the program `hqq-test-peer`, started anew for each test. It reads a command on each
//! line and replies with a line. So the test contains every step of both sides, in order, while the two ends are in
//! separate processes, as in use.
//!
//! | module | what it gives |
//! |---|---|
//! | [`test`](mod@test) | the name of a test, its time limit, names for its links |
//! | [`patience`] | waiting for something that must happen |
//! | [`peer`] | the other process, and commands for it |
//! | [`pattern`] | contents of messages that the receiver can check |
//! | [`stress`] | many senders and receivers on one link, and the check of what arrived |
//! | [`fuzz`](mod@fuzz) | the bodies of the fuzz targets, which tests replay |
//! | [`delivery`] | numbered messages, and the file of a worker that processes them |
//! | [`agree`] | helpers for tests of agreements |
//! | [`hostile`] | a peer that writes anything into shared memory: the sweep and the scribbler of `cargo xtask hostile` |
//! | [`mock`] | a hostile end: raw packets, raw words, raw handshakes |
//! | [`traced`] | a process stopped by ptrace |
//! | [`oracle`] | the invariants of a region after a death |
//! | [`single_step`] | a forked child under ptrace, one instruction at a time |
//! | `schedule` | random schedules compared with a model (x86-64) |
//! | [`trace`] | the packet traces that the table in `docs/testing.md` is made of |

pub mod agree;
pub mod delivery;
pub mod fuzz;
pub mod hostile;
pub mod mock;
pub mod oracle;
pub mod patience;
pub mod pattern;
pub mod peer;
#[cfg(target_arch = "x86_64")]
pub mod schedule;
pub mod single_step;
pub mod stress;
pub mod test;
pub mod trace;
pub mod traced;

pub use patience::eventually;
pub use peer::Peer;
pub use test::Test;

/// Starts a test, which gets the name of the surrounding function.
///
/// Its packets are traced. Use `test!(untraced)` if the packets vary from run to run, for example because a process is
/// killed: the table in `docs/testing.md` must be the same after each run.
#[macro_export]
macro_rules! test {
    () => {
        $crate::test!(@ true)
    };
    (untraced) => {
        $crate::test!(@ false)
    };
    (@ $traced:expr) => {{
        fn here() {}
        $crate::Test::new(std::any::type_name_of_val(&here), env!("CARGO_BIN_EXE_hqq-test-peer"), $traced)
    }};
}
