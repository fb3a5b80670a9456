//! What is done to the messages of a link on their way, by the features agreed on: on sending they are compressed, then
//! encrypted; on receipt that is undone in reverse. Each layer puts its header ahead of what it makes. Reliable delivery
//! keeps what compression has made, and puts its sequence ahead of all.

use std::sync::Arc;

use super::reliable::Layers;
use super::{AdvancedMessage, Compression, Encryption};
use crate::error::Result;
use crate::link::connection::Connection;
use crate::link::core::LinkCore;
use crate::link::deadline::Wait;
use crate::link::message::Loan;
use crate::shm::packet::op;
use hqq_features::reliable::{HEADER as SEQUENCE, Receipt};

/// The layers of one end.
#[derive(Debug)]
pub(crate) enum Pipeline {
    /// Messages are compressed, and no more.
    Compressed(Arc<Compression>),
    /// They are encrypted, and compressed before that if so agreed.
    Encrypted(Box<Encryption>, Option<Arc<Compression>>),
    /// They are kept until they are acknowledged, whatever else is done to them.
    Reliable(Box<Layers>),
}

/// A message as it was before the layers had it.
pub(crate) struct Decoded {
    /// `None` if it stands in what came.
    pub(super) bytes: Option<Vec<u8>>,
    /// Behind so many bytes.
    pub(super) skip: usize,
    /// What acknowledges it, if anything does.
    pub(super) receipt: Option<Receipt>,
}

impl Decoded {
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

impl Pipeline {
    /// These layers, if there is any.
    pub(super) fn new(compression: Option<Compression>, encryption: Option<Encryption>) -> Option<Arc<Self>> {
        let pipeline = match (encryption, compression.map(Arc::new)) {
            (Some(encryption), compression) => Self::Encrypted(Box::new(encryption), compression),
            (None, Some(compression)) => Self::Compressed(compression),
            (None, None) => return None,
        };
        Some(Arc::new(pipeline))
    }

    /// What encrypts, and what compresses.
    fn layers(&self) -> (Option<&Encryption>, Option<&Arc<Compression>>) {
        match self {
            Self::Compressed(compression) => (None, Some(compression)),
            Self::Encrypted(encryption, compression) => (Some(encryption), compression.as_ref()),
            Self::Reliable(layers) => layers.both(),
        }
    }

    /// Those of a connection: what is kept is kept of messages of the link itself.
    pub(super) fn of_connection(&self, id: u64) -> Option<Self> {
        let (encryption, compression) = self.layers();
        match encryption {
            Some(encryption) => Some(encryption.of_connection(id, compression.cloned())),
            None => compression.cloned().map(Self::Compressed),
        }
    }

    /// Bytes of all headers of a message.
    pub(super) fn headers(&self) -> usize {
        let (encryption, compression) = self.layers();
        let sequence = if let Self::Reliable(_) = self { SEQUENCE } else { 0 };
        sequence
            + encryption.map_or(0, |_| Encryption::HEADER)
            + compression.map_or(0, |_| Compression::HEADER)
    }

    /// The longest message that this end may send on the link itself, beside what memory allows, bytes.
    pub(super) fn longest(&self) -> u64 {
        match self {
            Self::Reliable(layers) => layers.longest() as u64,
            _ => u64::MAX,
        }
    }

    /// The longest message of which surely no more than `size` bytes are made; at least 1.
    pub(super) fn fits(&self, size: usize) -> usize {
        let len = size.saturating_sub(self.headers());
        let over = match self.layers() {
            (None, Some(compression)) => compression.room(len).saturating_sub(size),
            _ => 0,
        };
        len.saturating_sub(over).max(1)
    }

    /// Makes what travels of a message, and sends it. Without an `wait` it does not wait.
    pub(super) fn send(&self, core: &Arc<LinkCore>, message: &[u8], wait: Wait) -> Result<()> {
        core.tick();
        if wait == Wait::No && !matches!(self, Self::Reliable(_)) {
            // Nothing is made for a message that cannot go: it would cost time, and a counter.
            core.check_room()?;
        }
        let mut loan = Loan::empty(core);
        let framed = match self {
            Self::Compressed(compression) => {
                let least = Compression::HEADER + message.len();
                // More than that saves the codec a copy, where there is as much.
                let most = core.region().max_message().max(least as u64);
                let room = (compression.room(message.len()) as u64).min(most) as usize;
                core.loan(room, 1, wait, loan.place())?;
                let used = compression.apply(message, &mut loan);
                loan.truncate(used);
                core.send_payload(loan.place(), wait)?;
                used
            }
            Self::Encrypted(encryption, compression) => {
                let compressed = compression.as_ref().map(|layer| compressed(layer, message));
                let plain = compressed.as_deref().unwrap_or(message);
                let len = Encryption::HEADER + plain.len();
                core.loan(len, 1, wait, loan.place())?;
                send_sealed(core, encryption, plain, &mut loan, wait)?;
                len
            }
            Self::Reliable(layers) => layers.send(core, message, wait)?,
        };
        core.note_framed(message.len(), framed);
        Ok(())
    }

    /// What travels of a message on a connection.
    pub(super) fn build(&self, connection: &Connection, message: &[u8]) -> Result<Vec<u8>> {
        let (encryption, compression) = self.layers();
        let compressed = compression.map(|layer| compressed(layer, message));
        let frame = match encryption {
            Some(encryption) => {
                let plain = compressed.as_deref().unwrap_or(message);
                encryption.sealed(plain, &context(op::CONN_COPY, connection.id()))?
            }
            None => compressed.unwrap_or_else(|| message.to_vec()),
        };
        connection.core().note_framed(message.len(), frame.len());
        Ok(frame)
    }

    /// Makes the message again of what came on a connection.
    pub(super) fn undo(&self, connection: &Connection, mut framed: Vec<u8>) -> Result<Vec<u8>> {
        let core = connection.core();
        let undone = self.message_of(core, &framed, &context(op::CONN_COPY, connection.id()));
        let undone = undone.inspect_err(|_| core.refuse_frame(op::CONN_COPY))?;
        match undone.bytes {
            Some(message) => Ok(message),
            None => {
                framed.drain(..undone.skip);
                Ok(framed)
            }
        }
    }

    /// Takes the next message; without an `wait` it does not wait.
    pub(super) fn recv<'a>(&self, core: &'a Arc<LinkCore>, wait: Wait) -> Result<AdvancedMessage<'a>> {
        if let Self::Reliable(layers) = self {
            return self.recv_kept(layers, core, wait);
        }
        let mut message = AdvancedMessage::empty(core);
        core.take_wait(wait, message.place())?;
        let undone = self.message_of(core, &message, &context(op::STANDARD_LINK_COPY, 0));
        message.change(core, undone.inspect_err(|_| core.refuse_frame(op::STANDARD_LINK_COPY))?);
        Ok(message)
    }

    pub(super) fn message_of(&self, core: &LinkCore, framed: &[u8], context: &[u8; 16]) -> Result<Decoded> {
        let limit = core.region().bounds().max_message;
        match self.layers() {
            (None, None) => Ok(Decoded { skip: 0, ..Decoded::AS_IT_IS }),
            (None, Some(compression)) => compression.undo(framed, limit),
            (Some(encryption), None) => encryption.open(framed, context).map(Decoded::made),
            (Some(encryption), Some(compression)) => {
                let mut opened = encryption.open(framed, context)?;
                let made = compression.undo(&opened, limit)?;
                Ok(if made.bytes.is_some() {
                    made
                } else {
                    opened.drain(..made.skip);
                    Decoded::made(opened)
                })
            }
        }
    }
}

/// Seals a message into the loan and sends it. What has waited too long for room is sealed again: the peer would no longer
/// know whether it had it before.
fn send_sealed(
    core: &LinkCore,
    encryption: &Encryption,
    plain: &[u8],
    loan: &mut Loan<'_>,
    wait: Wait,
) -> Result<()> {
    let context = context(op::STANDARD_LINK_COPY, 0);
    let mut counter = encryption.seal(plain, &context, loan)?;
    let mut send = || loop {
        match encryption.send_in_order(counter, || core.try_send_payload(loan.place())) {
            Some(sent) => return sent,
            None => counter = encryption.seal(plain, &context, loan)?,
        }
    };
    match (send(), wait) {
        (Err(error), wait) if error.is_transient() && wait != Wait::No => core.wait_for_room(wait, send),
        (sent, _) => sent,
    }
}

/// What compression makes of a message, in private memory.
pub(super) fn compressed(layer: &Compression, message: &[u8]) -> Vec<u8> {
    let mut made = vec![0; layer.room(message.len())];
    let used = layer.apply(message, &mut made);
    made.truncate(used);
    made
}
