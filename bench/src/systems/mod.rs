//! The systems of this repository: links, and the raw programs that stand for the machine's limit.

mod link;
mod ping;

use crate::{Case, Kind, System};

/// The least that the machine allows, for each kind of work.
pub fn raw() -> Vec<Box<dyn System>> {
    vec![Box::new(ping::Raw)]
}

/// Links of HQQ in their modes.
pub fn own() -> Vec<Box<dyn System>> {
    link::all()
}

/// The system, and its case, that stands for the least that `system` needs for `case`.
pub(crate) fn limit(_system: &str, case: Case) -> (&'static str, Case) {
    ("raw", case)
}

/// The cache lines that carry a message at the least, of a round trip both ways.
pub(crate) fn lines(case: Case) -> Option<u64> {
    let payload = if case.payload <= 48 { 0 } else { case.payload.div_ceil(64) };
    match case.kind {
        Kind::Slot | Kind::Pool | Kind::Copy => Some(2 * (1 + payload)),
        Kind::Untouched => Some(2 * (1 + payload.min(1))),
        Kind::ThroughputMpmc | Kind::ThroughputSpsc | Kind::Batch | Kind::Crowd => Some(1 + payload),
        Kind::Sleeping | Kind::Paced | Kind::Stream | Kind::Setup => None,
    }
}
