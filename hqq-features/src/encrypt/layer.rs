//! Encryption as a layer of a stack.

use std::fmt;
use std::sync::Arc;

use super::error::EncryptError;
use super::limits::HEADER;
use super::session::Session;
use crate::free_list::FreeList;
use crate::layer::{Decoded, Encoded, Layer, LayerError, check_room};

/// Encryption of messages as a [`Layer`]. The context of a message is its associated data.
///
/// Ciphertext is made in private memory and then copied: only ciphertext is written to the memory that a frame is sent
/// from, and nothing is read from it. Messages are opened into private memory.
pub struct EncryptionLayer {
    session: Session,
    /// Memory for ciphertext.
    scratch: FreeList<Vec<u8>>,
    /// The most messages that may be sealed after a frame and sent before it.
    leeway: u64,
}

impl fmt::Debug for EncryptionLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptionLayer")
            .field("session", &self.session)
            .field("leeway", &self.leeway)
            .finish_non_exhaustive()
    }
}

/// The name in errors.
const NAME: &str = "encryption";

fn refused(error: EncryptError) -> LayerError {
    LayerError::new(NAME, error)
}

impl EncryptionLayer {
    /// A layer with the keys of `session`. A frame is [stale](Layer::is_stale) after more than half of `window`
    /// messages were sealed after it; the other half is for frames that change places on their way. `window` is the
    /// width of the peer's replay window, in messages; 0 is for messages that are sent in the order in which they are
    /// sealed.
    pub fn new(session: Session, window: u32) -> Self {
        Self { session, scratch: FreeList::default(), leeway: u64::from(window) / 2 }
    }
}

impl Layer for EncryptionLayer {
    fn name(&self) -> &'static str {
        NAME
    }

    fn overhead(&self) -> usize {
        HEADER
    }

    /// Seals `message`. The ticket is its counter.
    fn encode(&self, message: &[u8], context: &[u8], into: &mut [u8]) -> Result<Encoded, LayerError> {
        let len = message.len().saturating_add(HEADER);
        check_room(NAME, into.len(), len)?;
        let sealer = &self.session.sealer;
        let counter = self
            .scratch
            .with(Vec::new, |scratch| sealer.seal_copy_into(message, context, scratch, &mut into[..len]));
        Ok(Encoded { len, ticket: Some(counter.map_err(refused)?) })
    }

    fn decode(&self, frame: &[u8], context: &[u8], limit: u64) -> Result<Decoded, LayerError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let have = frame.len().saturating_sub(HEADER);
        if have > limit {
            return Err(refused(EncryptError::TooLong { have, limit }));
        }
        let mut message = Vec::new();
        self.session.opener.open(frame, context, &mut message).map_err(refused)?;
        Ok(Decoded::owned(message))
    }

    fn is_single_use(&self) -> bool {
        true
    }

    fn is_stale(&self, ticket: u64) -> bool {
        self.session.sealer.sealed_since(ticket) > self.leeway
    }

    /// A layer with the keys of [`Session::of_connection`]. Messages of a connection are sent in the order in which they
    /// are sealed.
    fn of_connection(&self, id: u64) -> Option<Arc<dyn Layer>> {
        Some(Arc::new(Self::new(self.session.of_connection(id), 0)))
    }
}
