//! Layer 3: what two ends can agree on beyond a Standard Link, one feature a file. Without I/O: they work on
//! bytes, numbers and times that are given to them.

#[cfg(feature = "compress")]
pub mod compress;
#[cfg(feature = "encrypt")]
pub mod encrypt;
pub mod flow;
pub mod qos;
#[cfg(test)]
pub(crate) mod random;
pub mod reliable;
pub mod statistics;
