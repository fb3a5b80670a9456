//! Contents of messages that the receiver can generate again and compare.

/// A pseudo-random word for each number (splitmix64).
pub fn mix(number: u64) -> u64 {
    let mut word = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// Fills a slice with the bytes of `seed`.
pub fn fill(seed: u64, into: &mut [u8]) {
    let start = mix(seed);
    for (place, number) in into.chunks_mut(8).zip(start..) {
        let word = mix(number).to_le_bytes();
        place.copy_from_slice(&word[..place.len()]);
    }
}

/// `len` bytes of `seed`.
pub fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(seed, &mut bytes);
    bytes
}

/// A checksum, which changes if a byte differs, is missing or has moved.
pub fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    words.fold(bytes.len() as u64, |sum, word| mix(sum ^ word))
}

/// The length and the checksum of a message, as a peer reports it.
pub fn digest(bytes: &[u8]) -> String {
    format!("{} {:016x}", bytes.len(), sum(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        let good = bytes(100, 3);
        assert_eq!(good, bytes(100, 3));
        assert_ne!(good, bytes(100, 4));
        assert_eq!(good[..99], bytes(99, 3), "a shorter one is the beginning of a longer one");
        for at in 0..100 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_ne!(sum(&bad), sum(&good), "{at}");
        }
        assert_ne!(digest(&[0; 8]), digest(&[0; 9]));
    }
}
