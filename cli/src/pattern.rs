//! Messages whose bytes all follow from their number, so that the receiver can check every byte.

/// The messages of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    seed: u64,
    size: Option<u64>,
}

/// The odd number nearest to 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// The shortest message: its number.
const LEAST: u64 = 8;
/// The longest message if lengths vary.
const MOST: u64 = 256;

/// Spreads every bit of a number over all the others (the finaliser of splitmix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

impl Pattern {
    /// Messages of `size` bytes, or of varying length. Different seeds give different bytes.
    pub fn new(seed: u64, size: Option<u64>) -> Self {
        Self { seed: mix(seed.wrapping_add(GOLDEN)), size }
    }

    /// Bytes of the longest message.
    pub fn longest(size: Option<u64>) -> u64 {
        size.unwrap_or(MOST)
    }

    fn key(&self, number: u64) -> u64 {
        mix(self.seed ^ number.wrapping_mul(GOLDEN))
    }

    /// Bytes of message `number`.
    #[inline]
    pub fn len(&self, number: u64) -> usize {
        let len = self.size.unwrap_or_else(|| LEAST + self.key(number) % (MOST - LEAST + 1));
        len as usize
    }

    /// The words after the number.
    fn words(&self, number: u64) -> impl Iterator<Item = u64> {
        let key = self.key(number);
        (1..).map(move |i: u64| key.wrapping_add(i.wrapping_mul(GOLDEN)))
    }

    /// Writes message `number`, which is as long as `into`.
    #[inline]
    pub fn fill(&self, number: u64, into: &mut [u8]) {
        let (first, rest) = into.split_at_mut(LEAST as usize);
        first.copy_from_slice(&number.to_le_bytes());
        for (place, word) in rest.chunks_mut(8).zip(self.words(number)) {
            place.copy_from_slice(&word.to_le_bytes()[..place.len()]);
        }
    }

    /// Checks that `found` is message `number`, byte by byte.
    ///
    /// # Errors
    /// A description of the difference.
    #[inline]
    pub fn check(&self, number: u64, found: &[u8]) -> Result<(), String> {
        let named = found.first_chunk().map(|first| u64::from_le_bytes(*first));
        if named != Some(number) {
            return Err(match named {
                Some(other) => {
                    format!("expected message {number}, received {other}: lost, duplicated or out of order")
                }
                None => format!("expected message {number}, received one of {} bytes", found.len()),
            });
        }
        if found.len() != self.len(number) {
            return Err(format!("message {number} has {} bytes, not {}", found.len(), self.len(number)));
        }
        for (at, (place, word)) in found[LEAST as usize..].chunks(8).zip(self.words(number)).enumerate() {
            let same = match <[u8; 8]>::try_from(place) {
                Ok(place) => u64::from_le_bytes(place) == word,
                Err(_) => *place == word.to_le_bytes()[..place.len()],
            };
            if !same {
                return Err(format!(
                    "message {number} differs within bytes {} to {}",
                    at * 8 + 8,
                    at * 8 + 15
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(pattern: &Pattern, number: u64) -> Vec<u8> {
        let mut message = vec![0; pattern.len(number)];
        pattern.fill(number, &mut message);
        message
    }

    #[test]
    fn messages_are_known_again() {
        for size in [None, Some(8), Some(13), Some(64), Some(4096)] {
            let pattern = Pattern::new(1, size);
            for number in 0..300 {
                let message = message(&pattern, number);
                assert!((8..=Pattern::longest(size) as usize).contains(&message.len()));
                pattern.check(number, &message).unwrap();
            }
        }
    }

    #[test]
    fn every_wrong_byte_is_found() {
        let pattern = Pattern::new(1, Some(29));
        let good = message(&pattern, 7);
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut wrong = good.clone();
                wrong[at] ^= 1 << bit;
                assert!(pattern.check(7, &wrong).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn wrong_messages_are_found() {
        let pattern = Pattern::new(1, Some(24));
        let good = message(&pattern, 7);
        let said = |number, found: &[u8]| pattern.check(number, found).unwrap_err();
        assert!(said(6, &good).contains("expected message 6, received 7"));
        assert!(said(8, &good).contains("duplicated"));
        assert!(said(7, &good[..23]).contains("23 bytes, not 24"));
        assert!(said(7, &[]).contains("0 bytes"));
        assert!(Pattern::new(2, Some(24)).check(7, &good).is_err(), "a message of the other direction");
    }
}
