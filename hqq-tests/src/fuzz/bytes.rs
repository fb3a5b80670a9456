//! Reads the fuzzer's bytes as numbers.

/// Bytes taken one after the other; zeros when there are no more.
#[derive(Debug)]
pub struct Bytes<'d>(arbitrary::Unstructured<'d>);

impl<'d> Bytes<'d> {
    /// All of `data`.
    pub fn new(data: &'d [u8]) -> Self {
        Self(arbitrary::Unstructured::new(data))
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// The next two bytes.
    pub fn short(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// A number: mostly a small one or one at some edge, so that few bytes go far.
    pub fn number(&mut self) -> u64 {
        let byte = self.byte();
        match byte >> 5 {
            0 | 1 => u64::from(byte & 63),
            2 => u64::from(self.short()),
            3 => u64::MAX - u64::from(byte & 31),
            4 => 1 << (2 * (byte & 31)),
            5 => (1u64 << (2 * (byte & 31) + 1)).wrapping_sub(1),
            6 => 64 * u64::from(byte & 31),
            _ => self.0.arbitrary().unwrap_or_default(),
        }
    }

    /// The next bytes, at most so many.
    pub fn take(&mut self, count: usize) -> &'d [u8] {
        let count = count.min(self.0.len());
        self.0.bytes(count).unwrap_or_default()
    }
}
