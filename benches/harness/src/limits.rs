//! What each case is compared with: the bare program, the same case with one thread, the fewest cache lines.

use crate::case::{Case, Kind, RARE_US};

/// The bare program, and its case, that does the least that `case` takes. `fenced`: the sender checks after each message
/// whether the receiver sleeps.
pub(crate) fn limit(case: Case, fenced: bool) -> (&'static str, Case) {
    let single = Case::new(Kind::ThroughputMpmc, case.payload);
    match (case.kind, fenced) {
        (Kind::ThroughputMpmc | Kind::Batch | Kind::Crowd, false) => ("proto-mpmc", single),
        (Kind::ThroughputMpmc | Kind::Batch | Kind::Crowd, true) => ("proto-mpmc-fence", single),
        (Kind::ThroughputSpsc, false) => ("proto-spsc", case),
        (Kind::ThroughputSpsc, true) => ("proto-spsc-fence", case),
        // A receiver that polls between two messages is not woken.
        (Kind::Paced, _) if case.period_us < RARE_US => ("hqq-spin", case),
        _ => ("raw", case),
    }
}

/// The case that a batch, or several threads, are compared with: one message at a time, one thread.
pub(crate) fn single(case: Case) -> Option<Case> {
    let single = Case::new(Kind::ThroughputMpmc, case.payload);
    matches!(case.kind, Kind::Batch | Kind::Crowd).then_some(single)
}

/// The fewest cache lines that carry a message; of a round trip, both ways.
pub(crate) fn lines(case: Case) -> Option<u64> {
    let payload = if case.payload <= 48 { 0 } else { case.payload.div_ceil(64) };
    match case.kind {
        Kind::Slot | Kind::Pool | Kind::Copy => Some(2 * (1 + payload)),
        Kind::Untouched => Some(2 * (1 + payload.min(1))),
        Kind::ThroughputMpmc | Kind::ThroughputSpsc | Kind::Batch | Kind::Crowd => Some(1 + payload),
        Kind::Sleeping | Kind::Paced | Kind::Stream | Kind::Setup => None,
    }
}
