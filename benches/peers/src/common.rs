//! What several systems need: how payloads are written and read, and how a caller polls.

use std::hint;

use hqq_bench::{How, Kind, Outcome, Session, payload};

/// Whether a system that copies does this: it has no payload that nobody touches.
pub fn copies(kind: Kind) -> bool {
    matches!(kind, Kind::Slot | Kind::Pool | Kind::Sleeping)
}

/// How many messages there is room for, where one can choose: as with links of HQQ, slots in a flow and buffers in round
/// trips. More of them would only be more that no cache holds, where they are used in turns.
pub fn capacity(session: &Session) -> usize {
    if session.case().kind.is_timed() { 16 } else { 1024 }
}

/// Writes a payload as asked.
#[inline(always)]
pub fn write(how: How, number: u64, into: &mut [u8]) {
    match how {
        How::Untouched => payload::mark(number, into),
        _ => payload::write(number, into),
    }
}

/// Reads a payload as asked.
#[inline(always)]
pub fn read(how: How, number: u64, message: &[u8]) -> Outcome {
    match how {
        How::Untouched => payload::check(number, message),
        _ => payload::read(number, message),
    }
}

/// Tries until there is something.
#[inline(always)]
pub fn spin<T>(mut attempt: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    loop {
        if let Some(done) = attempt()? {
            return Ok(done);
        }
        hint::spin_loop();
    }
}
