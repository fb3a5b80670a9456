//! Features that two ends of an HQQ link can agree on: compression, encryption, flow control, quality of service,
//! reliable delivery and statistics, each in a module.
//!
//! They are portable state machines without I/O, clocks or threads. Bytes, times and random bytes are passed in, so that
//! tests can set the time and replay schedules. The crate `hqq` re-exports this crate as `hqq::features`.
//!
//! A [`Layer`] is a transformation of messages, such as compression and encryption; a [`LayerStack`] applies several.

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
pub mod reliable;
pub mod statistics;

pub use layer::{Decoded, Encoded, Layer, LayerError};
pub use layer_stack::{Encoder, LayerStack};
