//! How payload is written and read: the same for every system.

use std::hint::black_box;

use crate::outcome::{Failure, Outcome};

/// Fills `into` with the lowest byte of `number`.
#[inline(always)]
pub fn write(number: u64, into: &mut [u8]) {
    into.fill(number as u8);
}

/// Reads every byte, and compares the first with `number`.
///
/// # Errors
/// If it belongs to another message.
#[inline(always)]
pub fn read(number: u64, message: &[u8]) -> Outcome {
    let (words, rest) = message.as_chunks::<8>();
    let rest = rest.iter().fold(0, |sum: u64, &byte| sum ^ u64::from(byte));
    black_box(words.iter().fold(rest, |sum, &word| sum ^ u64::from_le_bytes(word)));
    check(number, message)
}

/// Writes only the first byte.
#[inline(always)]
pub fn mark(number: u64, into: &mut [u8]) {
    if let Some(first) = into.first_mut() {
        *first = number as u8;
    }
}

/// Reads only the first byte, and compares it with `number`.
///
/// # Errors
/// If it belongs to another message.
#[inline(always)]
pub fn check(number: u64, message: &[u8]) -> Outcome {
    match message.first() {
        Some(&first) if first == number as u8 => Ok(()),
        first => Err(wrong(number, first.copied())),
    }
}

#[cold]
fn wrong(number: u64, first: Option<u8>) -> Failure {
    format!("expected message {number}, received one whose first byte is {first:?}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut bytes = [0; 21];
        write(0x1_07, &mut bytes);
        assert_eq!(bytes, [7; 21]);
        assert!(read(7, &bytes).is_ok() && check(0x2_07, &bytes).is_ok());
        assert!(read(8, &bytes).is_err() && check(7, &[]).is_err());
        mark(9, &mut bytes);
        assert_eq!((bytes[0], bytes[1]), (9, 7));
    }
}
