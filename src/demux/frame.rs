//! What the layers of a message are told besides its bytes, and what they refuse.

use crate::error::Error;
use crate::shm::packet::op;
use hqq_features::LayerError;

/// What both ends know of a message: the operation that carries it, and its number.
fn context(op: u8, number: u64) -> [u8; 16] {
    let mut context = [0; 16];
    context[0] = op;
    context[8..].copy_from_slice(&number.to_le_bytes());
    context
}

/// The context of a message of the link itself: `sequence` is that of reliable delivery, or 0 without it.
pub(crate) fn link_context(sequence: u64) -> [u8; 16] {
    context(op::STANDARD_LINK_COPY, sequence)
}

/// The context of a message on the connection `id`.
pub(crate) fn connection_context(id: u64) -> [u8; 16] {
    context(op::CONN_COPY, id)
}

/// What a layer refused, as an error of the link.
pub(crate) fn frame_error(error: LayerError) -> Error {
    Error::Frame { layer: error.layer(), reason: error.reason().to_string() }
}
