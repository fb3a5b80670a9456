//! What the tasks share.

use std::fmt::Debug;

/// How a task ends: what went wrong, in words.
pub type Outcome = Result<(), String>;

/// Puts what was tried ahead of an error.
pub fn say<E: Debug>(tried: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{tried}: {error:?}")
}
