//! What is done to the messages of a link on their way, by the features agreed on: on sending they are compressed, then
//! encrypted; on receipt that is undone in reverse. Each layer puts its header ahead of what it makes.

use std::sync::Arc;

use super::{AdvancedMessage, Compression, Encryption};
use crate::conn::Connection;
use crate::error::{Error, Result};
use crate::inner::{Inner, Until};
use crate::message::Loan;
use crate::packet::op;

/// Bytes ahead of a compressed message, and of an encrypted one.
const COMPRESSION_HEADER: usize = 8;
const ENCRYPTION_HEADER: usize = 24;

/// The layers of one end: at least one of them.
#[derive(Debug)]
pub(crate) struct Frames {
    compression: Option<Compression>,
    encryption: Option<Encryption>,
}

/// A message as it was before a layer had it.
pub(crate) enum Undone {
    /// It stands behind so many bytes of what came.
    Behind(usize),
    /// In memory of its own.
    Made(Vec<u8>),
}

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
        let some = compression.is_some() || encryption.is_some();
        some.then(|| Arc::new(Self { compression, encryption }))
    }

    /// Bytes of all headers of a message.
    pub(super) fn headers(&self) -> usize {
        let compression = if self.compression.is_some() { COMPRESSION_HEADER } else { 0 };
        compression + if self.encryption.is_some() { ENCRYPTION_HEADER } else { 0 }
    }

    /// Makes what travels of a message, and sends it. Without an `until` it does not wait.
    pub(super) fn send(&self, inner: &Arc<Inner>, message: &[u8], until: Option<Until>) -> Result<()> {
        if until.is_none() && !inner.region().has_room() {
            // Nothing is made for a message that cannot go: it would cost time, and a counter.
            return Err(Error::RingFull { slots: inner.region().facts().geometry.slots().into() });
        }
        let mut loan = Loan::empty(inner);
        match (&self.compression, &self.encryption) {
            (Some(compression), None) => {
                let least = COMPRESSION_HEADER + message.len();
                // More than that saves the codec a copy, where there is as much.
                let most = inner.region().max_message().max(least as u64);
                let room = (compression.room(message.len()) as u64).min(most) as usize;
                lend(inner, &mut loan, room, until)?;
                let used = compression.apply(message, &mut loan);
                loan.truncate(used);
            }
            (compression, encryption) => {
                let compressed = compression.as_ref().map(|layer| compressed(layer, message));
                let plain = compressed.as_deref().unwrap_or(message);
                let header = if encryption.is_some() { ENCRYPTION_HEADER } else { 0 };
                lend(inner, &mut loan, header + plain.len(), until)?;
                if let Some(encryption) = encryption {
                    encryption.seal(plain, &context(op::STANDARD_LINK_COPY, 0), &mut loan)?;
                }
            }
        }
        match until {
            None => inner.try_send_payload(loan.place()),
            Some(until) => inner.send_payload(loan.place(), until),
        }
    }

    /// What travels of a message on a connection.
    pub(super) fn build(&self, connection: &Connection, message: &[u8]) -> Result<Vec<u8>> {
        let compressed = self.compression.as_ref().map(|layer| compressed(layer, message));
        let Some(encryption) = &self.encryption else { return Ok(compressed.unwrap_or_default()) };
        let plain = compressed.as_deref().unwrap_or(message);
        let mut frame = vec![0; ENCRYPTION_HEADER + plain.len()];
        encryption.seal(plain, &context(op::CONN_COPY, connection.id()), &mut frame)?;
        Ok(frame)
    }

    /// Makes the message again of what came on a connection.
    pub(super) fn undo(&self, connection: &Connection, mut framed: Vec<u8>) -> Result<Vec<u8>> {
        let inner = connection.inner();
        let undone = self.message_of(inner, &framed, &context(op::CONN_COPY, connection.id()));
        match undone.inspect_err(|_| inner.refuse_frame(op::CONN_COPY))? {
            Undone::Made(message) => Ok(message),
            Undone::Behind(header) => {
                framed.drain(..header);
                Ok(framed)
            }
        }
    }

    /// Makes the message again of what came.
    pub(super) fn open(&self, inner: &Inner, message: &mut AdvancedMessage<'_>) -> Result<()> {
        let undone = self.message_of(inner, &message.shared, &context(op::STANDARD_LINK_COPY, 0));
        let undone = undone.inspect_err(|_| inner.refuse_frame(op::STANDARD_LINK_COPY))?;
        if matches!(undone, Undone::Made(_)) {
            message.shared.give_back();
        }
        message.changed = Some(Box::new(undone));
        Ok(())
    }

    fn message_of(&self, inner: &Inner, framed: &[u8], context: &[u8; 16]) -> Result<Undone> {
        let limit = inner.region().bounds().max_message;
        let Some(encryption) = &self.encryption else {
            return self
                .compression
                .as_ref()
                .map_or(Ok(Undone::Behind(0)), |layer| layer.undo(framed, limit));
        };
        let mut opened = encryption.open(framed, context)?;
        let Some(compression) = &self.compression else { return Ok(Undone::Made(opened)) };
        Ok(match compression.undo(&opened, limit)? {
            Undone::Behind(header) => {
                opened.drain(..header);
                Undone::Made(opened)
            }
            made => made,
        })
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
