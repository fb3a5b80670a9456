//! The layer that compresses.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::pipeline::Decoded;
use crate::error::{Error, Result};
use hqq_features::compress::{Codec, Codecs, Compressor, Decompressor, Frame, HEADER, Mode, Settings};

/// The codecs' memory is used again; as many are made as threads are at it at a time.
pub(crate) struct Compression {
    codec: Codec,
    agreed: Codecs,
    settings: Settings,
    compressors: Mutex<Vec<Compressor>>,
    decompressors: Mutex<Vec<Decompressor>>,
}

impl fmt::Debug for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compression").field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl Compression {
    /// Bytes ahead of what is made.
    pub(super) const HEADER: usize = HEADER;

    pub(super) fn new(liked: &[Codec], settings: Settings, agreed: Codecs) -> Self {
        let (compressors, decompressors) = Default::default();
        Self { codec: agreed.preferred(liked), agreed, settings, compressors, decompressors }
    }

    /// Bytes of memory for what is made of a message of `len` bytes.
    pub(super) fn room(&self, len: usize) -> usize {
        self.with_compressor(|compressor| compressor.room(len))
    }

    /// Puts what is made of a message into `into`: its first so many bytes.
    pub(super) fn apply(&self, message: &[u8], into: &mut [u8]) -> usize {
        self.with_compressor(|compressor| compressor.compress(message, Mode::Auto, into))
    }

    fn with_compressor<T>(&self, act: impl FnOnce(&mut Compressor) -> T) -> T {
        let fresh = || Compressor::new(self.codec, self.settings);
        let mut compressor = take(&self.compressors).unwrap_or_else(fresh);
        let done = act(&mut compressor);
        put(&self.compressors, compressor);
        done
    }

    /// Makes the message again, of at most `limit` bytes.
    pub(super) fn undo(&self, framed: &[u8], limit: u64) -> Result<Decoded> {
        let refused = |error| Error::Frame { layer: "compression", reason: format!("{error}") };
        if Frame::read(framed, limit).map_err(refused)?.raw().is_some() {
            return Ok(Decoded::AS_IT_IS);
        }
        let mut decompressor = take(&self.decompressors).unwrap_or_else(|| Decompressor::new(self.agreed));
        let mut bytes = Vec::new();
        let done = decompressor.decompress(framed, limit, &mut bytes);
        put(&self.decompressors, decompressor);
        done.map(|_| Decoded::made(bytes)).map_err(refused)
    }
}

fn take<T>(from: &Mutex<Vec<T>>) -> Option<T> {
    from.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn put<T>(into: &Mutex<Vec<T>>, what: T) {
    into.lock().unwrap_or_else(PoisonError::into_inner).push(what);
}
