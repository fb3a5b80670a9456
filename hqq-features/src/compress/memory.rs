//! Private memory that codecs use again.

/// The most bytes of private memory that a compressor keeps between two messages.
pub(super) const KEPT: usize = 4 << 20;

/// The first `len` bytes of `vec`, which is made longer if need be; `None` if there is no memory. What it holds stays,
/// so that only what is new must be zeroed.
pub(super) fn resized(vec: &mut Vec<u8>, len: usize) -> Option<&mut [u8]> {
    if len > vec.capacity() {
        // Nothing is to be copied to the new place.
        vec.clear();
        vec.try_reserve_exact(len).ok()?;
    }
    vec.resize(vec.len().max(len), 0);
    vec.get_mut(..len)
}
