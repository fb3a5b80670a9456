//! What two ends of an HQQ link can agree on beyond the standard operations, one module a feature.
//!
//! Portable state machines without I/O: bytes, times and randomness are passed in, so that they can be tested with a
//! clock set by hand and replayed. The crate `hqq` re-exports this one as `hqq::features`.

#[cfg(feature = "compress")]
pub mod compress;
#[cfg(feature = "encrypt")]
pub mod encrypt;
pub mod flow;
#[cfg(any(feature = "compress", feature = "encrypt"))]
mod free_list;
mod layer;
mod layer_stack;
pub mod qos;
#[cfg(test)]
mod random;
pub mod reliable;
pub mod statistics;

pub use layer::{Decoded, Encoded, Layer, LayerError};
pub use layer_stack::{Encoder, LayerStack};
