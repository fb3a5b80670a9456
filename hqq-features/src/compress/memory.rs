//! Private memory that codecs use again.

/// The most bytes of a buffer that are kept between two messages.
pub(super) const KEPT: usize = 4 << 20;

/// The first `len` bytes of `vec`, which grows if needed; `None` if there is no memory. Bytes that it holds stay, so that
/// only new ones must be zeroed.
pub(super) fn resized(vec: &mut Vec<u8>, len: usize) -> Option<&mut [u8]> {
    if len > vec.capacity() {
        // The bytes need not be copied to the new memory.
        vec.clear();
        vec.try_reserve_exact(len).ok()?;
    }
    vec.resize(vec.len().max(len), 0);
    vec.get_mut(..len)
}
