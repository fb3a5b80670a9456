//! What the tests of HQQ between processes are built from. `docs/testing.md` explains them to people.
//!
//! A test is one process; the other is the program `hqq-test-peer`, started anew for each test, which does as it
//! is told line by line and answers each line with one of its own. So every step of both sides stands in the
//! test, in order, while the two ends are as far apart as they are in life.
//!
//! | module | what it gives |
//! |---|---|
//! | [`test`](mod@test) | a test's name, its time limit, names for its links |
//! | [`peer`] | the other process, killed and reaped whatever happens |
//! | [`pattern`] | contents that can be checked at the far end |
//! | [`stress`] | many senders and receivers, and what must hold of all that they moved |
//! | [`fuzz`](mod@fuzz) | the bodies of the fuzz targets, which tests replay |
//! | [`delivery`] | numbered messages, and the file of a worker that processes them |
//! | [`agree`] | what tests of agreements say to their peers |
//! | [`hostile`] | a peer that writes anything anywhere: the sweep and the scribbler of `cargo xtask hostile` |
//! | [`mock`] | an end that keeps no rule: raw packets, raw words, raw handshakes |
//! | [`traced`] | a process that a debugger has stopped |
//! | [`oracle`] | what must hold of a region after a death |
//! | `single_step` | a forked child under ptrace, one instruction at a time (x86-64) |
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

/// Begins a test: its name is that of the function that it stands in.
///
/// Its packets are traced. `test!(untraced)` is for tests in which chance decides what is sent, as where a process is
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
