//! The invariants of a region after a death, and what is violated if they do not hold.
//!
//! Messages carry their number, their length and a pattern over all their bytes, so each can be told from every
//! other and from a torn one. An oracle's user
//!
//! 1. recovers, and lets the survivors [`scribble`] over whatever the pools say is free;
//! 2. lets them finish what they were in the middle of, and [`drain`]s both directions;
//! 3. [`compare`]s what came with what was committed;
//! 4. asks whether everything is [`at_rest`], and lets the survivors [`work`].

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

use hqq::Error;
use hqq::shm::buffer::Buffer;
use hqq::shm::endpoint::{Incoming, Payload, SlotBytes};
use hqq::shm::packet::Operation;
use hqq::shm::region::{Region, Views};
use hqq::shm::words::{BufferState, BufferWord, Holder, LeaseWord, SeatWord, SleepersWord, SlotState, Stamp};

use crate::pattern;

/// What kind of promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Something can no longer be done, or nobody can be sure of it.
    Wedged,
    /// A buffer, slot or lease stays with somebody who has given it back or is dead.
    Leaked,
    /// A committed message did not come, or not in its turn.
    Lost,
    /// A message came twice.
    Duplicated,
    /// A message came that nobody sent like that.
    Torn,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Wedged, Self::Leaked, Self::Lost, Self::Duplicated, Self::Torn];

    /// Its name in figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wedged => "wedged",
            Self::Leaked => "leaked",
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Torn => "torn",
        }
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub kind: Kind,
    /// What was found.
    pub what: String,
}

impl Fault {
    /// A fault.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.what)
    }
}

impl std::error::Error for Fault {}

/// All is well, or not.
pub type Verdict<T = ()> = Result<T, Fault>;

fn wedged<T>(what: impl Into<String>) -> Verdict<T> {
    Err(Fault::new(Kind::Wedged, what))
}

/// The number of every message without bytes.
pub const EMPTY: u64 = 1 << 50;
/// The fewest bytes of a message that says who it is.
pub const SHORTEST: usize = 8;
/// Numbers of the oracle's own messages start here.
const OWN: u64 = 1 << 40;
/// More than enough calls to see the end of any small ring.
const PATIENCE: usize = 10_000;

/// Writes message `number` over all of `into`.
///
/// # Panics
/// If that is shorter than [`SHORTEST`].
pub fn fill(number: u64, into: &mut [u8]) {
    let (head, rest) = into.split_first_chunk_mut().expect("a message has room for its number");
    *head = (number << 16 | (rest.len() + SHORTEST) as u64).to_le_bytes();
    pattern::fill(number, rest);
}

/// Message `number` in `len` bytes; no bytes are [`EMPTY`], whatever the number.
pub fn message(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    if len > 0 {
        fill(number, &mut bytes);
    }
    bytes
}

/// Which message this is, if it is whole.
pub fn number(bytes: &[u8]) -> Option<u64> {
    let Some((head, rest)) = bytes.split_first_chunk() else {
        return bytes.is_empty().then_some(EMPTY);
    };
    let head = u64::from_le_bytes(*head);
    let number = head >> 16;
    let whole = (head & 0xFFFF) as usize == bytes.len() && pattern::bytes(rest.len(), number) == rest;
    whole.then_some(number)
}

/// The number that stands for a packet that carries no message: its opcode and what it is about.
pub const fn control(op: u8, about: u64) -> u64 {
    1 << 51 | (op as u64) << 40 | about & 0xFF_FFFF
}

/// The number that stands for a refused packet.
pub const fn refused(op: u8) -> u64 {
    1 << 52 | op as u64
}

/// The number that stands for a part of a message: another for any other bytes.
pub fn part(bytes: &[u8]) -> u64 {
    1 << 53 | pattern::sum(bytes) >> 16
}

fn whole(bytes: &[u8]) -> Verdict<u64> {
    number(bytes).ok_or_else(|| {
        let head = &bytes[..bytes.len().min(16)];
        Fault::new(Kind::Torn, format!("a message of {} bytes that begins {head:02x?}", bytes.len()))
    })
}

/// Which message a payload is; it is given back in any case.
///
/// # Errors
/// It is torn.
pub fn consume<'a>(region: &Region<'a>, payload: Payload<'a>) -> Verdict<u64> {
    let number = match &payload {
        Payload::Slot(inline) => whole(inline.bytes()),
        Payload::Pool(buffer) => whole(buffer.bytes()),
    };
    region.give_message(payload);
    number
}

fn about(operation: Operation) -> u64 {
    use hqq::shm::packet::op;
    match operation {
        Operation::ConnCreate { conn } => control(op::CONN_CREATE, conn),
        Operation::ConnAccept { conn } => control(op::CONN_ACCEPT, conn),
        Operation::ConnClose { conn, how } => control(op::CONN_CLOSE, conn << 2 | how.number()),
        Operation::Error { context, code, .. } => control(op::ERROR, context << 8 | code),
        Operation::Negotiate { version, .. } => control(op::PROTO_NEGOTIATE, version),
        Operation::Ack { version, .. } => control(op::PROTO_ACK, version),
        Operation::Terms { operands } => control(op::TERMS, operands[0]),
        Operation::Begin { features, .. } => control(op::BEGIN, features),
        Operation::Key { words } => control(op::KEY, words[0]),
        Operation::Credit { conn, .. } => control(op::CREDIT, conn),
        Operation::Share { conn, .. } => control(op::SHARE, conn),
        Operation::Delivery { op, operands } => control(op, operands[0]),
        Operation::Probe { at } => control(op::PROBE, at),
        Operation::ConnCopy(_) | Operation::Inline { .. } | Operation::Copy { .. } => control(0, 0),
    }
}

/// The next message, or none.
///
/// # Errors
/// It is torn, or the ring is wedged.
pub fn receive(region: &Region<'_>) -> Verdict<Option<u64>> {
    for _ in 0..PATIENCE {
        let number = match region.receive(|_| true, |_| {}) {
            Ok(Incoming::Message(payload, _)) => consume(region, payload)?,
            Ok(Incoming::ConnData(copy, buffer)) => match buffer {
                Some(buffer) if copy.transfer_size == copy.copy_size => {
                    consume(region, Payload::Pool(buffer))?
                }
                Some(buffer) => {
                    let number = part(buffer.bytes());
                    region.give(buffer);
                    number
                }
                None => control(hqq::shm::packet::op::CONN_COPY, copy.conn),
            },
            Ok(Incoming::Control(operation)) => about(operation),
            Ok(Incoming::Refused(fault)) => refused(fault.op),
            Ok(Incoming::Empty) => return Ok(None),
            Ok(Incoming::Busy | Incoming::Skipped) => continue,
            Ok(Incoming::Other(op)) => return wedged(format!("opcode {op:02x} was not wanted")),
            Err(error) => return wedged(format!("receiving: {error:?}")),
        };
        return Ok(Some(number));
    }
    wedged("receiving stays busy")
}

/// Receives all that there is.
///
/// # Errors
/// As [`receive`]; more than any ring holds.
pub fn drain(region: &Region<'_>, into: &mut Vec<u64>) -> Verdict {
    for _ in 0..PATIENCE {
        match receive(region)? {
            Some(number) => into.push(number),
            None => return Ok(()),
        }
    }
    wedged("the ring never ends")
}

/// Compares what came with what may have: `want(progress)` for some progress from `least` to `most`. Which it is.
///
/// # Errors
/// None fits.
pub fn compare(
    what: &str,
    found: &[u64],
    least: usize,
    most: usize,
    want: impl Fn(usize) -> Vec<u64>,
) -> Verdict<usize> {
    if let Some(progress) = (least..=most).find(|&progress| want(progress) == found) {
        return Ok(progress);
    }
    let count = |number: &u64, list: &[u64]| list.iter().filter(|other| *other == number).count();
    let most_often =
        |number: &u64, at: RangeInclusive<usize>| at.map(|at| count(number, &want(at))).max().unwrap_or(0);
    let kind = if found.iter().any(|number| most_often(number, 0..=most) == 0) {
        Kind::Torn
    } else if found.iter().any(|number| count(number, found) > most_often(number, least..=most)) {
        // Twice, or once more after it had been received.
        Kind::Duplicated
    } else {
        Kind::Lost
    };
    let (first, last) = (want(least), want(most));
    Err(Fault::new(kind, format!("{what}: came {found:?}, due were {first:?} to {last:?}")))
}

/// Takes every buffer that the region's end can have, writes garbage all over them, and gives them back: what
/// somebody still needs must not be among them.
///
/// # Errors
/// The pool is wedged.
pub fn scribble(region: &Region<'_>) -> Verdict {
    let mut taken = Vec::new();
    let full = loop {
        match region.loan(region.layout().geometry.buffer_size() as usize) {
            Ok(mut buffer) => {
                buffer.bytes_mut().fill(0xA5);
                taken.push(buffer);
            }
            Err(full) => break full,
        }
    };
    taken.into_iter().for_each(|buffer| region.give(buffer));
    match full {
        Error::PoolExhausted { .. } => Ok(()),
        other => wedged(format!("lending: {other:?}")),
    }
}

/// Whether nobody holds anything: slots free, buffers home, leases vacant, words in order.
///
/// # Errors
/// What is not.
pub fn at_rest(views: &Views<'_>) -> Verdict {
    let leaked = |what: String| Err(Fault::new(Kind::Leaked, what));
    let sits = |by: Holder| {
        let word = views.superblock().seats[by.seat()].word.load(Ordering::Relaxed);
        SeatWord::from_word(word).is_occupied_by(by)
    };
    for direction in 0..2 {
        for (index, slot) in views.slots(direction).iter().enumerate() {
            let state = Stamp::from_word(slot.stamp.load(Ordering::Relaxed)).state();
            if state != Some(SlotState::Free) {
                return leaked(format!("slot {index} of direction {direction} is {state:?}"));
            }
        }
        for (index, word) in views.buffer_words(direction).iter().enumerate() {
            let word = BufferWord::from_word(word.load(Ordering::Relaxed));
            // What a sender keeps ready is as good as free; it must not be one that has left.
            let at_home = match word.state() {
                Some(BufferState::Spare(by)) => sits(by),
                state => state == Some(BufferState::Free),
            };
            if !at_home {
                return leaked(format!("buffer {index} of direction {direction} is {:?}", word.state()));
            }
        }
        let lease = LeaseWord::from_word(views.lease(direction).load(Ordering::Relaxed));
        if lease != LeaseWord::VACANT {
            return leaked(format!("the lease of direction {direction} is {:?}", lease.holder()));
        }
    }
    for side in &views.superblock().sides {
        let word = side.sleepers.load(Ordering::Relaxed);
        if !SleepersWord::from_word(word).is_valid() {
            return wedged(format!("a sleepers word says {word:x}"));
        }
    }
    Ok(())
}

/// Works rings and pools round twice in full between two ends at rest: every slot and buffer by itself, and the
/// whole pool as one run.
///
/// # Errors
/// What cannot be done, or goes wrong.
pub fn work<'a>(views: &Views<'_>, one: &Region<'a>, other: &Region<'a>) -> Verdict {
    let geometry = one.layout().geometry;
    let (slots, buffers) = (geometry.slots() as usize, geometry.buffers() as usize);
    let mut next = OWN;
    let mut number = || {
        next += 1;
        next
    };
    for _ in 0..2 {
        for (from, to) in [(one, other), (other, one)] {
            let mut due = Vec::new();
            // Every slot.
            for _ in 0..slots {
                let number = number();
                let mut inline = SlotBytes::zeroed(16);
                fill(number, inline.bytes_mut());
                sent("a small message", from.send_inline(&inline, |_| {}))?;
                due.push(number);
            }
            if !matches!(from.send_inline(&SlotBytes::zeroed(0), |_| {}), Err(Error::RingFull { .. })) {
                return wedged("a full ring takes more");
            }
            arrive(to, &mut due)?;
            // Every buffer, as many as there are slots at a time.
            let mut loans = Vec::new();
            for _ in 0..buffers {
                loans.push(lent(from, geometry.buffer_size() as usize)?);
            }
            for mut loan in loans {
                if due.len() == slots {
                    arrive(to, &mut due)?;
                }
                due.push(number());
                fill(due[due.len() - 1], loan.bytes_mut());
                sent("a message", from.send(loan, |_| {}).map_err(|(error, _)| error))?;
            }
            arrive(to, &mut due)?;
            // All of them as one.
            let mut loan = lent(from, geometry.run_bytes(buffers as u32) as usize)?;
            due.push(number());
            fill(due[0], loan.bytes_mut());
            sent("a run", from.send(loan, |_| {}).map_err(|(error, _)| error))?;
            arrive(to, &mut due)?;
        }
    }
    at_rest(views)
}

fn sent(what: &str, result: Result<(), Error>) -> Verdict {
    result.or_else(|error| wedged(format!("{what} cannot be sent: {error:?}")))
}

fn lent<'a>(from: &Region<'a>, len: usize) -> Verdict<Buffer<'a>> {
    from.loan(len).or_else(|error| wedged(format!("{len} bytes cannot be lent: {error:?}")))
}

fn arrive(to: &Region<'_>, due: &mut Vec<u64>) -> Verdict {
    let mut found = Vec::new();
    drain(to, &mut found)?;
    compare("a ring at work", &found, 0, 0, |_| due.clone())?;
    due.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_its_number_or_that_it_is_torn() {
        for len in [0, 8, 9, 24, 60, 1000] {
            let mut bytes = message(77, len);
            assert_eq!(number(&bytes), Some(if len == 0 { EMPTY } else { 77 }));
            for at in 0..len {
                bytes[at] ^= 1;
                assert_ne!(number(&bytes), Some(77), "byte {at} of {len}");
                bytes[at] ^= 1;
            }
            if len > 8 {
                assert_eq!(number(&bytes[..len - 1]), None, "cut");
            }
        }
        assert_eq!(number(b"short"), None);
    }

    #[test]
    fn each_kind_of_wrong_stream_has_its_name() {
        // 1 and 2 are due; 3 was being sent.
        let check = |found: &[u64], least| {
            let want = |progress: usize| [1, 2, 3][..2 + progress].to_vec();
            compare("x", found, least, 1, want).map_err(|fault| fault.kind)
        };
        assert_eq!(check(&[1, 2], 0), Ok(0));
        assert_eq!(check(&[1, 2, 3], 0), Ok(1));
        assert_eq!(check(&[1, 2], 1), Err(Kind::Lost), "it was committed before");
        assert_eq!(check(&[1], 0), Err(Kind::Lost));
        assert_eq!(check(&[1, 3], 0), Err(Kind::Lost));
        assert_eq!(check(&[2, 1], 0), Err(Kind::Lost), "out of turn");
        assert_eq!(check(&[1, 1, 2], 0), Err(Kind::Duplicated));
        assert_eq!(check(&[1, 2, 9], 0), Err(Kind::Torn));
        // 1 was being received, and its receiver has given the slot back.
        let taken = |progress: usize| [1, 2][progress..].to_vec();
        assert_eq!(compare("x", &[1, 2], 0, 1, taken), Ok(0));
        assert_eq!(compare("x", &[1, 2], 1, 1, taken).map_err(|fault| fault.kind), Err(Kind::Duplicated));
    }
}
