//! The decompressor.

use std::fmt;

use lz4_flex::block;
use zstd::zstd_safe::{self, DCtx};

use super::codec::{Codec, Codecs};
use super::error::CompressError;
use super::frame::Frame;
use super::memory::resized;

/// Decodes frames into messages. It keeps the memory of the codecs from one message to the next.
pub struct Decompressor {
    agreed: Codecs,
    // Made for the first Zstandard body.
    zstd: Option<DCtx<'static>>,
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new(Codecs::ALL)
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").field("agreed", &self.agreed).finish_non_exhaustive()
    }
}

impl Decompressor {
    /// A decompressor for raw bodies and those of the codecs `agreed`. [`Default`] decodes all codecs.
    pub fn new(agreed: Codecs) -> Self {
        Self { agreed, zstd: None }
    }

    /// Decodes the frame `framed` into `into`, whose former content is dropped, and returns the codec of the body. After
    /// an error `into` is empty.
    ///
    /// `framed` must be private memory, because it must not change after it was checked. `limit` is the longest message
    /// in bytes; no frame takes more memory or time than a message of that length.
    ///
    /// Reuse `into` without clearing it: then the memory that it has need not be zeroed.
    ///
    /// # Errors
    /// Those of [`Frame::read`]; [`CompressError::NotAgreed`], [`Invalid`](CompressError::Invalid),
    /// [`WrongLength`](CompressError::WrongLength) and [`NoMemory`](CompressError::NoMemory).
    pub fn decompress(
        &mut self,
        framed: &[u8],
        limit: u64,
        into: &mut Vec<u8>,
    ) -> Result<Codec, CompressError> {
        let result = self.append(framed, limit, into);
        if result.is_err() {
            into.clear();
        }
        result
    }

    fn append(&mut self, framed: &[u8], limit: u64, into: &mut Vec<u8>) -> Result<Codec, CompressError> {
        let frame = Frame::read(framed, limit)?;
        let no_memory = CompressError::NoMemory { len: frame.len as u64 };
        if let Some(message) = frame.raw() {
            into.clear();
            into.try_reserve_exact(message.len()).map_err(|_| no_memory)?;
            into.extend_from_slice(message);
            return Ok(Codec::Raw);
        }
        // Before memory is allocated, which a refused frame should not cost.
        self.check_agreed(frame.codec)?;
        self.decode(&frame, resized(into, frame.len).ok_or(no_memory)?)?;
        into.truncate(frame.len);
        Ok(frame.codec)
    }

    /// Decodes the frame `framed` to the beginning of `into`, which must be private memory and whose length is the limit
    /// of the message. Returns the codec of the body and the length of the message in bytes. After an error the content
    /// of `into` is unspecified.
    ///
    /// # Errors
    /// As for [`decompress`](Self::decompress).
    pub fn decompress_into(
        &mut self,
        framed: &[u8],
        into: &mut [u8],
    ) -> Result<(Codec, usize), CompressError> {
        let frame = Frame::read(framed, into.len() as u64)?;
        self.check_agreed(frame.codec)?;
        self.decode(&frame, &mut into[..frame.len])?;
        Ok((frame.codec, frame.len))
    }

    fn check_agreed(&self, codec: Codec) -> Result<(), CompressError> {
        if self.agreed.contains(codec) { Ok(()) } else { Err(CompressError::NotAgreed { codec }) }
    }

    /// `message` has the length that is in the header.
    fn decode(&mut self, frame: &Frame<'_>, message: &mut [u8]) -> Result<(), CompressError> {
        let Frame { codec, body, .. } = *frame;
        let len = frame.len as u64;
        let invalid = CompressError::Invalid { codec, len };
        let decoded = match codec {
            Codec::Raw => {
                message.copy_from_slice(body);
                body.len()
            }
            Codec::Lz4 => block::decompress_into(body, message).map_err(|_| invalid)?,
            Codec::Zstd => {
                // Exactly one frame: the decoder would accept any number, and skippable ones.
                if zstd_safe::find_frame_compressed_size(body) != Ok(body.len()) {
                    return Err(invalid);
                }
                if self.zstd.is_none() {
                    self.zstd = DCtx::try_create();
                }
                let context = self.zstd.as_mut().ok_or(CompressError::NoMemory { len })?;
                context.decompress(message, body).map_err(|_| invalid)?
            }
        };
        if decoded == message.len() {
            Ok(())
        } else {
            Err(CompressError::WrongLength { codec, len, decoded })
        }
    }
}

/// Decodes one frame of any codec; see [`Decompressor::decompress`].
///
/// # Errors
/// As [`Decompressor::decompress`].
pub fn decompress(framed: &[u8], limit: u64, into: &mut Vec<u8>) -> Result<Codec, CompressError> {
    Decompressor::default().decompress(framed, limit, into)
}
