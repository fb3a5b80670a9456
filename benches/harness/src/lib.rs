//! The measuring harness: compares ways to pass messages between two processes with each other, and with bare programs
//! that show what the machine allows.
//!
//! A [`System`] passes messages on. For a [`Case`] it opens a [`Workload`] at each end; most are an [`Exchange`], which
//! only sends and receives. [`lead`] runs in the first process, [`serve`] in the second; both get the same systems. In
//! each round, every pair of a system and a case has a turn of a few milliseconds, so that drift of the machine affects
//! all alike. `docs/benchmarks.md` describes the method.

mod case;
pub mod clock;
mod limits;
mod measured;
mod outcome;
pub mod payload;
pub mod picture;
mod processors;
pub mod report;
mod run;
mod session;
mod systems;
mod tally;
pub mod text;

pub use case::{Case, How, Kind};
pub use measured::{Exchange, Placement, Span, System, Turn, Workload};
pub use outcome::{Failure, Outcome};
pub use run::{Plan, SecondEnded, lead, serve};
pub use session::Session;
pub use systems::{AGREED_CASES, PRESET_CASES, Sink, Source, agreed, own, presets, raw};
pub use tally::{Facts, Percentiles, Row};
