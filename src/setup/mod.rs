//! How links come about: listeners and callers, the handshake between them, and named segments.

pub(crate) mod handshake;
pub(crate) mod listener;
#[cfg(feature = "named")]
pub mod segment;
