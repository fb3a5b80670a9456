//! Messages made of frames.

use std::fmt;

use lz4_flex::block;
use zstd::zstd_safe::{self, DCtx};

use super::codec::{Codec, Codecs};
use super::error::CompressError;
use super::frame::Frame;
use super::memory::resized;

/// Makes messages of frames again. It keeps the codec's memory from one message to the next.
pub struct Decompressor {
    agreed: Codecs,
    // Made when the first body needs it.
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
    /// A decompressor that takes raw bodies and those of the codecs agreed on. [`Default`] takes all.
    pub fn new(agreed: Codecs) -> Self {
        Self { agreed, zstd: None }
    }

    /// Puts the message of `framed` into `into`, in place of what that held, and returns how it had been sent. After an
    /// error `into` is empty.
    ///
    /// `framed` must be a private copy, because what has been checked must not change any more. `limit` is the longest
    /// message in bytes; neither more memory nor more work than for one of that length is spent on any frame.
    ///
    /// Hand in the same `into` again, and without clearing it: memory that it already has need not be zeroed.
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
        // Asked for early: a frame that will be refused should not cost memory.
        self.check_agreed(frame.codec)?;
        self.decode(&frame, resized(into, frame.len).ok_or(no_memory)?)?;
        into.truncate(frame.len);
        Ok(frame.codec)
    }

    /// The same into a slice, whose length is the limit. Returns how the message had been sent, and its length; it
    /// stands at the beginning of `into`, which must be private memory. After an error what `into` holds is
    /// unspecified.
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

    /// `message` has the length that the frame says.
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
                // One frame and nothing behind it: the decoder would take any number, and ones to be skipped.
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

/// [`Decompressor::decompress`] for one message of any codec.
///
/// # Errors
/// As there.
pub fn decompress(framed: &[u8], limit: u64, into: &mut Vec<u8>) -> Result<Codec, CompressError> {
    Decompressor::default().decompress(framed, limit, into)
}
