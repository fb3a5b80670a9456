//! Layer 4: what two ends can agree on beyond a Standard Link, one feature a file. Without I/O: they work on bytes,
//! numbers and times that are given to them.

pub mod reliable;
