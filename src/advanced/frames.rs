//! What is done to the messages of a link on their way, by the features agreed on: on sending they are compressed, then
//! encrypted; on receipt that is undone in reverse. Each layer puts its header ahead of what it makes.

use std::sync::Arc;

use super::{AdvancedMessage, Compression, Encryption};
use crate::conn::Connection;
use crate::error::Result;
use crate::inner::{Inner, Until};
use crate::message::Loan;
use crate::packet::op;

/// The layers of one end.
#[derive(Debug)]
pub(crate) enum Frames {
    /// Messages are compressed, and no more.
    Compressed(Arc<Compression>),
    /// They are encrypted, and compressed before that if so agreed.
    Encrypted(Box<Encryption>, Option<Arc<Compression>>),
}

/// A message as it was before the layers had it; `None` if it stands behind the header of compression, in what came.
pub(crate) struct Undone(pub(super) Option<Vec<u8>>);

/// What a message is, for whoever authenticates it: the operation that it comes by, and the connection.
fn context(op: u8, conn: u64) -> [u8; 16] {
    let mut context = [0; 16];
    context[0] = op;
    context[8..].copy_from_slice(&conn.to_le_bytes());
    context
}

impl Frames {
    /// These layers, if there is any.
    pub(super) fn new(compression: Option<Compression>, encryption: Option<Encryption>) -> Option<Arc<Self>> {
        let frames = match (encryption, compression.map(Arc::new)) {
            (Some(encryption), compression) => Self::Encrypted(Box::new(encryption), compression),
            (None, Some(compression)) => Self::Compressed(compression),
            (None, None) => return None,
        };
        Some(Arc::new(frames))
    }

    /// The same for a connection.
    pub(super) fn of_connection(&self, id: u64) -> Self {
        match self {
            Self::Compressed(compression) => Self::Compressed(compression.clone()),
            Self::Encrypted(encryption, compression) => encryption.of_connection(id, compression.clone()),
        }
    }

    /// Bytes of all headers of a message.
    pub(super) fn headers(&self) -> usize {
        match self {
            Self::Compressed(_) => Compression::HEADER,
            Self::Encrypted(_, None) => Encryption::HEADER,
            Self::Encrypted(_, Some(_)) => Encryption::HEADER + Compression::HEADER,
        }
    }

    /// The longest message of which surely no more than `size` bytes are made; at least 1.
    pub(super) fn fits(&self, size: usize) -> usize {
        let len = size.saturating_sub(self.headers());
        let over = match self {
            Self::Compressed(compression) => compression.room(len).saturating_sub(size),
            Self::Encrypted(..) => 0,
        };
        len.saturating_sub(over).max(1)
    }

    /// Makes what travels of a message, and sends it. Without an `until` it does not wait.
    pub(super) fn send(&self, inner: &Arc<Inner>, message: &[u8], until: Option<Until>) -> Result<()> {
        inner.tick();
        if until.is_none() {
            // Nothing is made for a message that cannot go: it would cost time, and a counter.
            inner.check_room()?;
        }
        let mut loan = Loan::empty(inner);
        let framed = match self {
            Self::Compressed(compression) => {
                let least = Compression::HEADER + message.len();
                // More than that saves the codec a copy, where there is as much.
                let most = inner.region().max_message().max(least as u64);
                let room = (compression.room(message.len()) as u64).min(most) as usize;
                lend(inner, &mut loan, room, until)?;
                let used = compression.apply(message, &mut loan);
                loan.truncate(used);
                match until {
                    None => inner.try_send_payload(loan.place())?,
                    Some(until) => inner.send_payload(loan.place(), until)?,
                }
                used
            }
            Self::Encrypted(encryption, compression) => {
                let compressed = compression.as_ref().map(|layer| compressed(layer, message));
                let plain = compressed.as_deref().unwrap_or(message);
                let len = Encryption::HEADER + plain.len();
                lend(inner, &mut loan, len, until)?;
                send_sealed(inner, encryption, plain, &mut loan, until)?;
                len
            }
        };
        inner.note_framed(message.len(), framed);
        Ok(())
    }

    /// What travels of a message on a connection.
    pub(super) fn build(&self, connection: &Connection, message: &[u8]) -> Result<Vec<u8>> {
        let frame = match self {
            Self::Compressed(compression) => compressed(compression, message),
            Self::Encrypted(encryption, compression) => {
                let compressed = compression.as_ref().map(|layer| compressed(layer, message));
                let plain = compressed.as_deref().unwrap_or(message);
                encryption.sealed(plain, &context(op::CONN_COPY, connection.id()))?
            }
        };
        connection.inner().note_framed(message.len(), frame.len());
        Ok(frame)
    }

    /// Makes the message again of what came on a connection.
    pub(super) fn undo(&self, connection: &Connection, mut framed: Vec<u8>) -> Result<Vec<u8>> {
        let inner = connection.inner();
        let undone = self.message_of(inner, &framed, &context(op::CONN_COPY, connection.id()));
        match undone.inspect_err(|_| inner.refuse_frame(op::CONN_COPY))? {
            Undone(Some(message)) => Ok(message),
            Undone(None) => {
                framed.drain(..Compression::HEADER);
                Ok(framed)
            }
        }
    }

    /// Makes the message again of what came.
    #[inline(never)]
    pub(super) fn open<'a>(&self, inner: &'a Arc<Inner>, message: &mut AdvancedMessage<'a>) -> Result<()> {
        let undone = self.message_of(inner, message, &context(op::STANDARD_LINK_COPY, 0));
        message.change(inner, undone.inspect_err(|_| inner.refuse_frame(op::STANDARD_LINK_COPY))?);
        Ok(())
    }

    fn message_of(&self, inner: &Inner, framed: &[u8], context: &[u8; 16]) -> Result<Undone> {
        let limit = inner.region().bounds().max_message;
        match self {
            Self::Compressed(compression) => compression.undo(framed, limit),
            Self::Encrypted(encryption, None) => {
                encryption.open(framed, context).map(|message| Undone(Some(message)))
            }
            Self::Encrypted(encryption, Some(compression)) => {
                let mut opened = encryption.open(framed, context)?;
                Ok(match compression.undo(&opened, limit)? {
                    Undone(None) => {
                        opened.drain(..Compression::HEADER);
                        Undone(Some(opened))
                    }
                    made => made,
                })
            }
        }
    }
}

/// Seals a message into the loan and sends it. What has waited too long for room is sealed again: the peer would no longer
/// know whether it had it before.
fn send_sealed(
    inner: &Inner,
    encryption: &Encryption,
    plain: &[u8],
    loan: &mut Loan<'_>,
    until: Option<Until>,
) -> Result<()> {
    let context = context(op::STANDARD_LINK_COPY, 0);
    let mut counter = encryption.seal(plain, &context, loan)?;
    let mut send = || loop {
        match encryption.send_in_order(counter, || inner.try_send_payload(loan.place())) {
            Some(sent) => return sent,
            None => counter = encryption.seal(plain, &context, loan)?,
        }
    };
    match (send(), until) {
        (Err(error), Some(until)) if error.is_transient() => inner.wait_for_room(until, send),
        (sent, _) => sent,
    }
}

/// What compression makes of a message, in private memory.
fn compressed(layer: &Compression, message: &[u8]) -> Vec<u8> {
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
