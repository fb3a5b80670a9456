//! What is done to the messages of a link on their way, by the features agreed on: on sending they are compressed; on
//! receipt that is undone. Each layer puts its header ahead of what it makes.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::advanced::{AdvancedMessage, Own, Wanted};
use crate::conn::Connection;
use crate::error::{Error, Result};
use crate::feature::compress::{self, Codec, Codecs, CompressError, Compressor, Decompressor, Frame, How};
use crate::inner::{Inner, Until};
use crate::message::Loan;
use crate::packet::op;
use crate::protocol::{Agreement, Features};
use crate::words::Role;

/// The layers of one end.
pub(crate) struct Frames {
    compression: Compression,
}

/// The memory of codecs is used again; as many are made as threads are at it at a time.
struct Compression {
    codec: Codec,
    agreed: Codecs,
    settings: compress::Settings,
    compressors: Mutex<Vec<Compressor>>,
    decompressors: Mutex<Vec<Decompressor>>,
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("codec", &self.compression.codec).finish_non_exhaustive()
    }
}

impl Frames {
    /// What the agreement asks for, if that is anything.
    pub(super) fn new(wanted: &Wanted, agreement: &Agreement, _: Role) -> Option<Arc<Self>> {
        if !agreement.features.contains(Features::COMPRESSION) {
            return None;
        }
        let agreed = Codecs::from_bits(agreement.terms.codecs.into());
        let compression = Compression {
            codec: agreed.preferred(&wanted.codecs),
            agreed,
            settings: wanted.compress,
            compressors: Mutex::default(),
            decompressors: Mutex::default(),
        };
        Some(Arc::new(Self { compression }))
    }

    /// Bytes of all headers of a message.
    pub(super) const fn headers(&self) -> usize {
        compress::HEADER
    }

    /// Makes what travels of a message, and sends it. Without an `until` it does not wait.
    pub(super) fn send(&self, inner: &Arc<Inner>, message: &[u8], until: Option<Until>) -> Result<()> {
        let mut compressor = self.compressor();
        let room = compressor.room(message.len());
        let mut loan = Loan::empty(inner);
        lend(inner, &mut loan, room, until).or_else(|error| match error {
            // Without the codec's wish for more room than the message itself.
            Error::TooLarge { .. } => lend(inner, &mut loan, compress::HEADER + message.len(), until),
            error => Err(error),
        })?;
        let used = compressor.compress(message, How::Auto, &mut loan);
        put(&self.compression.compressors, compressor);
        loan.truncate(used);
        match until {
            None => inner.try_send_payload(loan.place()),
            Some(until) => inner.send_payload(loan.place(), until),
        }
    }

    fn compressor(&self) -> Compressor {
        let Compression { codec, settings, compressors, .. } = &self.compression;
        take(compressors).unwrap_or_else(|| Compressor::new(*codec, *settings))
    }

    /// What travels of a message on a connection.
    pub(super) fn build(&self, message: &[u8]) -> Vec<u8> {
        let mut compressor = self.compressor();
        let mut frame = vec![0; compressor.room(message.len())];
        let used = compressor.compress(message, How::Auto, &mut frame);
        put(&self.compression.compressors, compressor);
        frame.truncate(used);
        frame
    }

    /// Makes the message again of what came on a connection.
    pub(super) fn undo(&self, connection: &Connection, mut framed: Vec<u8>) -> Result<Vec<u8>> {
        let inner = connection.inner();
        match self.message_of(inner, &framed) {
            Ok(Some(message)) => Ok(message),
            Ok(None) => {
                framed.drain(..compress::HEADER);
                Ok(framed)
            }
            Err(error) => Err(refused(inner, error, op::CONN_COPY)),
        }
    }

    /// Makes the message again of what came.
    pub(super) fn open(&self, inner: &Inner, message: &mut AdvancedMessage<'_>) -> Result<()> {
        match self.message_of(inner, &message.shared) {
            Ok(None) => message.from = compress::HEADER,
            Ok(Some(bytes)) => {
                message.own = Some(Box::new(Own(bytes)));
                message.shared.give_back();
            }
            Err(error) => return Err(refused(inner, error, op::STANDARD_LINK_COPY)),
        }
        Ok(())
    }

    /// The message in memory of its own; `None` if it stands behind the headers as it is.
    fn message_of(&self, inner: &Inner, framed: &[u8]) -> Result<Option<Vec<u8>>, CompressError> {
        let limit = inner.region().bounds().max_message;
        if Frame::read(framed, limit)?.raw().is_some() {
            return Ok(None);
        }
        let compression = &self.compression;
        let mut decompressor =
            take(&compression.decompressors).unwrap_or_else(|| Decompressor::new(compression.agreed));
        let mut bytes = Vec::new();
        let done = decompressor.decompress(framed, limit, &mut bytes);
        put(&compression.decompressors, decompressor);
        done.map(|_| Some(bytes))
    }
}

/// Counts a frame that breaks the rules, and tells the peer.
#[cold]
fn refused(inner: &Inner, error: CompressError, op: u8) -> Error {
    inner.refuse_frame(op);
    Error::Frame { layer: "compression", reason: error.to_string() }
}

fn lend(inner: &Inner, loan: &mut Loan<'_>, len: usize, until: Option<Until>) -> Result<()> {
    match until {
        None => inner.try_loan(len, 1, loan.place()),
        Some(until) => inner.loan(len, 1, until, loan.place()),
    }
}

fn take<T>(from: &Mutex<Vec<T>>) -> Option<T> {
    from.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn put<T>(into: &Mutex<Vec<T>>, what: T) {
    into.lock().unwrap_or_else(PoisonError::into_inner).push(what);
}
