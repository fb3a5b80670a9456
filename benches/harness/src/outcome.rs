//! Results of the harness and of the systems that it measures.

/// Any error: each system has errors of its own.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The result of a call into the harness or a system.
pub type Outcome<T = ()> = Result<T, Failure>;
