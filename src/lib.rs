//! HQQ core.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod buffer;
#[cfg(feature = "std")]
pub mod connection;
pub mod error;
pub mod layout;
#[cfg(feature = "std")]
pub mod observe;
pub mod packet;
pub mod pool;
pub mod port;
pub mod recover;
pub mod region;
pub mod ring;
#[cfg(feature = "std")]
pub mod stats;
pub mod sync;
pub mod wait;
pub mod words;

pub use error::{Error, ErrorCode, Result};
