//! What is done to the messages of a link on their way, by the features agreed on: on sending they are compressed, then
//! encrypted; on receipt that is undone in reverse. Each layer puts its header ahead of what it makes. Reliable delivery
//! keeps what compression has made, and puts its sequence ahead of all.

use std::sync::Arc;

use super::reliable::Layers;
use super::{AdvancedMessage, Compression, Encryption};
use crate::conn::Connection;
use crate::error::Result;
use crate::feature::reliable::{HEADER, Receipt};
use crate::inner::{Inner, Until};
use crate::message::Loan;
use crate::packet::op;

/// The layers of one end.
#[derive(Debug)]
pub(crate) enum Frames {
    /// Messages are compressed, and no more.
    Compressed(Compression),
    /// They are encrypted, and compressed before that if so agreed.
    Encrypted(Encryption, Option<Compression>),
    /// They are kept until they are acknowledged, whatever else is done to them.
    Reliable(Box<Layers>),
}

/// A message as it was before the layers had it.
pub(crate) struct Undone {
    /// `None` if it stands in what came.
    pub(super) bytes: Option<Vec<u8>>,
    /// Behind so many bytes.
    pub(super) skip: usize,
    /// What acknowledges it, if anything does.
    pub(super) receipt: Option<Receipt>,
}

impl Undone {
    /// It stands behind the header of compression, in what came.
    pub(super) const AS_IT_IS: Self = Self { bytes: None, skip: Compression::HEADER, receipt: None };

    /// A message in memory of its own.
    pub(super) const fn made(bytes: Vec<u8>) -> Self {
        Self { bytes: Some(bytes), skip: 0, receipt: None }
    }
}

/// What a message is, for whoever authenticates it: the operation that it comes by, and which of them: on a connection its
/// number; on the link itself its sequence, or 0 if it has none.
pub(super) fn context(op: u8, which: u64) -> [u8; 16] {
    let mut context = [0; 16];
    context[0] = op;
    context[8..].copy_from_slice(&which.to_le_bytes());
    context
}

impl Frames {
    /// These layers, if there is any.
    pub(super) fn new(compression: Option<Compression>, encryption: Option<Encryption>) -> Option<Arc<Self>> {
        let frames = match (encryption, compression) {
            (Some(encryption), compression) => Self::Encrypted(encryption, compression),
            (None, Some(compression)) => Self::Compressed(compression),
            (None, None) => return None,
        };
        Some(Arc::new(frames))
    }

    /// Bytes of all headers of a message.
    pub(super) fn headers(&self) -> usize {
        match self {
            Self::Compressed(_) => Compression::HEADER,
            Self::Encrypted(_, None) => Encryption::HEADER,
            Self::Encrypted(_, Some(_)) => Encryption::HEADER + Compression::HEADER,
            Self::Reliable(layers) => HEADER + layers.headers(),
        }
    }

    /// Makes what travels of a message, and sends it. Without an `until` it does not wait.
    pub(super) fn send(&self, inner: &Arc<Inner>, message: &[u8], until: Option<Until>) -> Result<()> {
        if let Self::Reliable(layers) = self {
            return layers.send(inner, message, until);
        }
        if until.is_none() {
            // Nothing is made for a message that cannot go: it would cost time, and a counter.
            inner.check_room()?;
        }
        let mut loan = Loan::empty(inner);
        match self {
            Self::Compressed(compression) => {
                let least = Compression::HEADER + message.len();
                // More than that saves the codec a copy, where there is as much.
                let most = inner.region().max_message().max(least as u64);
                let room = (compression.room(message.len()) as u64).min(most) as usize;
                lend(inner, &mut loan, room, until)?;
                let used = compression.apply(message, &mut loan);
                loan.truncate(used);
            }
            Self::Encrypted(encryption, compression) => {
                let compressed = compression.as_ref().map(|layer| compressed(layer, message));
                let plain = compressed.as_deref().unwrap_or(message);
                lend(inner, &mut loan, Encryption::HEADER + plain.len(), until)?;
                encryption.seal(plain, &context(op::STANDARD_LINK_COPY, 0), &mut loan)?;
            }
            Self::Reliable(_) => {}
        }
        match until {
            None => inner.try_send_payload(loan.place()),
            Some(until) => inner.send_payload(loan.place(), until),
        }
    }

    /// What travels of a message on a connection.
    pub(super) fn build(&self, connection: &Connection, message: &[u8]) -> Result<Vec<u8>> {
        let (encryption, compression) = self.layers();
        let compressed = compression.map(|layer| compressed(layer, message));
        let plain = compressed.as_deref().unwrap_or(message);
        let Some(encryption) = encryption else { return Ok(compressed.unwrap_or_else(|| message.to_vec())) };
        let mut frame = vec![0; Encryption::HEADER + plain.len()];
        encryption.seal(plain, &context(op::CONN_COPY, connection.id()), &mut frame)?;
        Ok(frame)
    }

    /// What encrypts, and what compresses.
    fn layers(&self) -> (Option<&Encryption>, Option<&Compression>) {
        match self {
            Self::Compressed(compression) => (None, Some(compression)),
            Self::Encrypted(encryption, compression) => (Some(encryption), compression.as_ref()),
            Self::Reliable(layers) => layers.both(),
        }
    }

    /// Makes the message again of what came on a connection.
    pub(super) fn undo(&self, connection: &Connection, mut framed: Vec<u8>) -> Result<Vec<u8>> {
        let inner = connection.inner();
        let undone = self.message_of(inner, &framed, &context(op::CONN_COPY, connection.id()));
        let undone = undone.inspect_err(|_| inner.refuse_frame(op::CONN_COPY))?;
        match undone.bytes {
            Some(message) => Ok(message),
            None => {
                framed.drain(..undone.skip);
                Ok(framed)
            }
        }
    }

    /// Makes the message again of what came.
    pub(super) fn open(&self, inner: &Inner, message: &mut AdvancedMessage<'_>) -> Result<()> {
        let undone = self.message_of(inner, &message.shared, &context(op::STANDARD_LINK_COPY, 0));
        let undone = undone.inspect_err(|_| inner.refuse_frame(op::STANDARD_LINK_COPY))?;
        if undone.bytes.is_some() {
            message.shared.give_back();
        }
        message.changed = Some(Box::new(undone));
        Ok(())
    }

    pub(super) fn message_of(&self, inner: &Inner, framed: &[u8], context: &[u8; 16]) -> Result<Undone> {
        let limit = inner.region().bounds().max_message;
        match self.layers() {
            (None, None) => Ok(Undone { skip: 0, ..Undone::AS_IT_IS }),
            (None, Some(compression)) => compression.undo(framed, limit),
            (Some(encryption), None) => encryption.open(framed, context).map(Undone::made),
            (Some(encryption), Some(compression)) => {
                let mut opened = encryption.open(framed, context)?;
                let made = compression.undo(&opened, limit)?;
                Ok(if made.bytes.is_some() {
                    made
                } else {
                    opened.drain(..made.skip);
                    Undone::made(opened)
                })
            }
        }
    }
}

/// What compression makes of a message, in private memory.
pub(super) fn compressed(layer: &Compression, message: &[u8]) -> Vec<u8> {
    let mut made = vec![0; layer.room(message.len())];
    let used = layer.apply(message, &mut made);
    made.truncate(used);
    made
}

fn lend(inner: &Inner, loan: &mut Loan<'_>, len: usize, until: Option<Until>) -> Result<()> {
    match until {
        None => inner.try_loan(len, 1, loan.place()),
        Some(until) => inner.loan(len, 1, until, loan.place()),
    }
}
