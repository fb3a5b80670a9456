//! The header of a frame.

use super::codec::{Codec, HEADER};
use super::error::CompressError;

/// A frame whose header was checked against everything that is known without decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'f> {
    pub(super) codec: Codec,
    pub(super) len: usize,
    pub(super) body: &'f [u8],
}

impl<'f> Frame<'f> {
    /// Checks the header of the frame `framed`, whose message may have at most `limit` bytes. Nothing is allocated or
    /// decoded.
    ///
    /// # Errors
    /// [`CompressError::Short`], [`UnknownCodec`](CompressError::UnknownCodec),
    /// [`TooLong`](CompressError::TooLong), [`RawLength`](CompressError::RawLength),
    /// [`NotSmaller`](CompressError::NotSmaller) or [`Bomb`](CompressError::Bomb).
    ///
    /// ```
    /// use hqq_features::compress::{Codec, CompressError, Frame};
    ///
    /// let framed = [0, 3, 0, 0, 0, 0, 0, 0, b'a', b'b', b'c'];
    /// let frame = Frame::read(&framed, 100)?;
    /// assert_eq!((frame.codec(), frame.raw()), (Codec::Raw, Some(&b"abc"[..])));
    /// assert_eq!(Frame::read(&framed, 2), Err(CompressError::TooLong { len: 3, limit: 2 }));
    /// # Ok::<(), CompressError>(())
    /// ```
    pub fn read(framed: &'f [u8], limit: u64) -> Result<Self, CompressError> {
        let Some((header, body)) = framed.split_first_chunk::<HEADER>() else {
            return Err(CompressError::Short { len: framed.len() });
        };
        let word = u64::from_le_bytes(*header);
        let (number, len) = (header[0], word >> 8);
        let codec = Codec::from_number(number).ok_or(CompressError::UnknownCodec { number })?;
        let size = body.len() as u64;
        if len > limit {
            return Err(CompressError::TooLong { len, limit });
        }
        if codec == Codec::Raw && size != len {
            return Err(CompressError::RawLength { len, body: body.len() });
        }
        if codec != Codec::Raw && size >= len {
            return Err(CompressError::NotSmaller { codec, len, body: body.len() });
        }
        if len > codec.expansion().saturating_mul(size) {
            return Err(CompressError::Bomb { codec, len, body: body.len() });
        }
        let len = usize::try_from(len).map_err(|_| CompressError::NoMemory { len })?;
        Ok(Self { codec, len, body })
    }

    /// The encoding of the body.
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// The length of the message in bytes, as in the header. A frame that decodes has a message of this length.
    pub const fn message_len(&self) -> usize {
        self.len
    }

    /// The message, if it was sent raw: then it need not be decoded or copied. `None` otherwise.
    pub fn raw(&self) -> Option<&'f [u8]> {
        (self.codec == Codec::Raw).then_some(self.body)
    }
}
