//! Hexadecimal digits, read directly into their destination: no copy of a secret is left in memory.

use super::aead::KEY;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HexError {
    Length { have: usize },
    Digit { at: usize },
}

pub(super) fn read(digits: &str, into: &mut [u8; KEY]) -> Result<(), HexError> {
    let have = digits.chars().count();
    if have != 2 * KEY {
        return Err(HexError::Length { have });
    }
    for (i, digit) in digits.chars().enumerate() {
        let value = digit.to_digit(16).ok_or(HexError::Digit { at: i + 1 })?;
        into[i / 2] = into[i / 2] << 4 | value as u8;
    }
    Ok(())
}

pub(super) fn write(bytes: &[u8], into: &mut String) {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    into.extend(nibbles.filter_map(|nibble| char::from_digit(nibble.into(), 16)));
}
