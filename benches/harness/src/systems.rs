//! The systems of this repository: links, and bare programs that show what the machine allows.

mod agreed;
mod batch;
mod bytes;
mod crowd;
mod link;
mod ping;
mod preset;
mod ring;
mod setup;

pub use agreed::{AGREED_CASES, agreed};
pub use bytes::{Sink, Source};
pub use preset::{PRESET_CASES, presets};

use crate::measured::System;

/// Bare programs that show the least that the machine allows, for each kind of work.
pub fn raw() -> Vec<Box<dyn System>> {
    let mut all: Vec<Box<dyn System>> =
        vec![Box::new(ping::Raw), Box::new(ping::Bells), Box::new(bytes::Copied), Box::new(setup::Reserved)];
    all.extend(ring::all());
    all
}

/// Links of HQQ in their modes, and a pipe to compare streams with.
pub fn own() -> Vec<Box<dyn System>> {
    let mut all = link::all();
    all.push(Box::new(bytes::Pipe));
    all
}
