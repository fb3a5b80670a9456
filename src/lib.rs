//! HQQ core.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(all(feature = "std", not(all(target_os = "linux", target_pointer_width = "64"))))]
compile_error!("the links of HQQ need 64-bit Linux; the core builds elsewhere with --no-default-features");

#[cfg(target_endian = "big")]
compile_error!("HQQ's words are little-endian; this target is not");

pub mod buffer;
#[cfg(feature = "std")]
mod conn;
#[cfg(feature = "std")]
mod connection;
pub mod error;
#[cfg(feature = "std")]
mod handshake;
#[cfg(feature = "std")]
mod inner;
#[cfg(feature = "std")]
mod io;
pub mod layout;
#[cfg(feature = "std")]
mod link;
#[cfg(feature = "std")]
mod listener;
#[cfg(feature = "std")]
mod message;
#[cfg(feature = "std")]
mod mux;
#[cfg(feature = "named")]
pub mod named;
#[cfg(feature = "std")]
pub mod observe;
#[cfg(feature = "std")]
mod options;
pub mod packet;
#[cfg(feature = "std")]
mod park;
pub mod pool;
pub mod port;
pub mod recover;
pub mod region;
pub mod ring;
#[cfg(feature = "std")]
pub mod stats;
mod superblock;
pub mod sync;
#[cfg(feature = "std")]
mod untrusted;
pub mod wait;
pub mod words;

#[cfg(feature = "std")]
pub use conn::Connection;
pub use error::{Error, ErrorCode, Result};
#[cfg(feature = "std")]
pub use inner::Peer;
pub use layout::{Geometry, RingMode, WaitMode};
#[cfg(feature = "std")]
pub use link::{Receiver, Sender, StandardLink};
#[cfg(feature = "std")]
pub use listener::{Listener, Offer};
#[cfg(feature = "std")]
pub use message::{Loan, LoanOf, Message, OwnedMessage, RecvIntoError, Rejected};
#[cfg(feature = "std")]
pub use mux::WireError;
#[cfg(feature = "std")]
pub use options::{Options, TraceEvent};
#[cfg(feature = "std")]
pub use stats::Stats;
#[cfg(feature = "std")]
pub use untrusted::{UntrustedLink, UntrustedLoan, UntrustedMessage};
pub use words::Role;
