//! Helpers of the tasks.

use std::fmt::Debug;

/// The result of a task.
pub type Outcome = Result<(), String>;

/// Prepends what was tried to an error.
pub fn context<E: Debug>(tried: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{tried}: {error:?}")
}
