//! What is done to the messages of a link on their way, by the features agreed on: on sending they are compressed; on
//! receipt that is undone. Each layer puts its header ahead of what it makes.

use std::sync::{Arc, Mutex, PoisonError};

use crate::advanced::{AdvancedMessage, Held, Wanted};
use crate::error::{Error, ErrorCode, Result};
use crate::feature::compress::{self, Codec, Codecs, CompressError, Compressor, Decompressor, Frame, How};
use crate::inner::{Inner, Until};
use crate::message::{Loan, Message};
use crate::packet::op;
use crate::protocol::{Agreement, Features};

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

impl Frames {
    /// What the agreement asks for, if that is anything.
    pub(super) fn new(wanted: &Wanted, agreement: &Agreement) -> Option<Box<Self>> {
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
        Some(Box::new(Self { compression }))
    }

    /// Bytes of all headers of a message.
    pub(super) const fn headers(&self) -> usize {
        compress::HEADER
    }

    /// Makes what travels of a message, and sends it. Without an `until` it does not wait.
    pub(super) fn send(
        &self,
        inner: &Arc<Inner>,
        message: &[u8],
        how: How,
        until: Option<Until>,
    ) -> Result<()> {
        let compression = &self.compression;
        let mut compressor = take(&compression.compressors)
            .unwrap_or_else(|| Compressor::new(compression.codec, compression.settings));
        let room = compressor.room(message.len());
        let mut loan = Loan::empty(inner);
        lend(inner, &mut loan, room, until).or_else(|error| match error {
            // Without the codec's wish for more room than the message itself.
            Error::TooLarge { .. } => lend(inner, &mut loan, compress::HEADER + message.len(), until),
            error => Err(error),
        })?;
        let used = compressor.compress(message, how, &mut loan);
        put(&compression.compressors, compressor);
        loan.truncate(used);
        match until {
            None => inner.try_send_payload(loan.place()),
            Some(until) => inner.send_payload(loan.place(), until),
        }
    }

    /// Makes the message again of what came.
    pub(super) fn open<'a>(&self, inner: &Inner, message: Message<'a>) -> Result<AdvancedMessage<'a>> {
        match self.undo(inner, &message) {
            Ok(None) => Ok(AdvancedMessage { held: Held::Shared { message, from: compress::HEADER } }),
            Ok(Some(bytes)) => Ok(AdvancedMessage { held: Held::Own(bytes) }),
            Err(error) => {
                inner.refuse_frame(ErrorCode::BadFrame, op::STANDARD_LINK_COPY);
                Err(error.into())
            }
        }
    }

    /// The message in memory of its own; `None` if it stands behind the headers as it is.
    fn undo(&self, inner: &Inner, framed: &[u8]) -> Result<Option<Vec<u8>>, CompressError> {
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
