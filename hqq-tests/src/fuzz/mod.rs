//! The bodies of the fuzz targets. The fuzzer itself is in `fuzz/`; the bodies are a library, so that a plain test can replay
//! the corpus.
//!
//! | target | what the bytes are |
//! |---|---|
//! | [`agreements`] | what a peer says while an agreement is made, and the messages behind it |
//! | [`attach`] | a region's words, or patches of a good one's, and what is called on it then |
//! | [`packets`] | packets of a peer, checked as such and received by links |
//! | [`compress`] | frames of compressed messages, and messages to compress |
//! | [`connections`] | what two ends do on a link with connections, beside an oracle |
//! | [`geometry`] | numbers for a geometry, and a packet |
//! | [`handshake`] | what a mock peer says in a handshake, and which descriptors it brings |

pub mod agreements;
pub mod attach;
pub mod bytes;
pub mod compress;
pub mod connections;
pub mod geometry;
pub mod handshake;
pub mod packets;

use std::sync::{Mutex, PoisonError};

/// A target's name and body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 7] = [
    ("agreements", agreements::run),
    ("attach", attach::run),
    ("compress", compress::run),
    ("connections", connections::run),
    ("geometry", geometry::run),
    ("handshake", handshake::run),
    ("packets", packets::run),
];

/// Runs a target on an input, one at a time in this process: some of them count its descriptors.
///
/// # Panics
/// If the input shows a fault, or there is no such target.
pub fn run(name: &str, data: &[u8]) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, body) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target of this name");
    body(data);
}
