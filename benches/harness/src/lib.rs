//! The measuring harness: ways to pass messages between two processes, each in turns of a few milliseconds beside the
//! least that the machine itself allows for the same work.
//!
//! A [`System`] names something that passes messages on, and opens a [`Way`] at each end of it for a [`Case`]. [`lead`]
//! runs in the first process, [`serve`] in the second; both know the same systems. In each round every pair of a system
//! and a case has its turn, so that the machine's drift meets all alike. How it is done, and why: `docs/benchmarks.md`.

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
pub use measured::{Lives, Span, System, Turn, Turns, Way};
pub use outcome::{Failure, Outcome};
pub use run::{Plan, SecondEnded, lead, serve};
pub use session::Session;
pub use systems::{AGREED_CASES, PRESET_CASES, Sink, Source, agreed, own, presets, raw};
pub use tally::{Facts, Percentiles, Row};
