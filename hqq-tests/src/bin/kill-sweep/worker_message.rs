//! Messages from a worker to the process that collects the results.

use serde::{Deserialize, Serialize};

use crate::sweep::Outcome;

/// A message of a worker: one line of JSON on its standard output.
#[derive(Debug, Serialize, Deserialize)]
pub enum WorkerMessage {
    /// The worker begins the job of this name.
    Started(String),
    /// The job of this name could not be set up.
    Skipped(String),
    /// The job of this name has ended: its outcome, and the number of real kills.
    Done(String, Outcome, u64),
    /// The sweep itself failed.
    Failed(String),
}
