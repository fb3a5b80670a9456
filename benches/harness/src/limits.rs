//! What each case is compared with: the bare program, the same case with one thread, the fewest cache lines.

use crate::case::{Case, Kind, RARE_US};

/// The system, and its case, that stands for the least that a case takes; `fenced` where the sender has to look after each
/// message whether its receiver sleeps.
pub(crate) fn limit(case: Case, fenced: bool) -> (&'static str, Case) {
    let single = Case::new(Kind::ThroughputMpmc, case.payload);
    match (case.kind, fenced) {
        (Kind::ThroughputMpmc | Kind::Batch | Kind::Crowd, false) => ("proto-mpmc", single),
        (Kind::ThroughputMpmc | Kind::Batch | Kind::Crowd, true) => ("proto-mpmc-fence", single),
        (Kind::ThroughputSpsc, false) => ("proto-spsc", case),
        (Kind::ThroughputSpsc, true) => ("proto-spsc-fence", case),
        // A receiver that is awake between two messages need not be woken.
        (Kind::Paced, _) if case.period_us < RARE_US => ("hqq-spin", case),
        _ => ("raw", case),
    }
}

/// The case that several at a time, or several threads, are compared with: the same with one.
pub(crate) fn single(case: Case) -> Option<Case> {
    let single = Case::new(Kind::ThroughputMpmc, case.payload);
    matches!(case.kind, Kind::Batch | Kind::Crowd).then_some(single)
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
