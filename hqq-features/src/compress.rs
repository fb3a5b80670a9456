//! Compression of messages, one at a time, without I/O.
//!
//! A message is framed as a header of [`HEADER`] bytes and a body. The header is one little-endian word:
//!
//! | bits | what |
//! |---|---|
//! | 0 to 7 | the codec: 0 raw, 1 an LZ4 block, 2 a Zstandard frame |
//! | 8 to 63 | the message's length in bytes |
//!
//! A raw body is the message. Any other body is smaller than the message and decodes to exactly its length. Nothing is
//! carried over from one message to the next, so messages may be lost, skipped or reordered.
//!
//! ```
//! use hqq_features::compress::{Codec, Compressor, Decompressor, HEADER, How, Settings};
//!
//! let message = b"a line of a log, and again ".repeat(100);
//! let mut sender = Compressor::new(Codec::Lz4, Settings::default());
//! let mut frame = vec![0; sender.room(message.len())];
//! let len = sender.compress(&message, How::Auto, &mut frame);
//! assert!(len < message.len() / 10);
//!
//! let mut received = Vec::new();
//! let codec = Decompressor::default().decompress(&frame[..len], 1 << 20, &mut received)?;
//! assert_eq!((codec, received), (Codec::Lz4, message));
//! # Ok::<(), hqq_features::compress::CompressError>(())
//! ```
//!
//! # Whose memory
//!
//! A [`Compressor`] writes into memory that the peer can read and may write to at the same time. Both codecs only ever
//! store to their output when they compress:
//!
//! - The LZ4 block compressor finds its matches in the message and in a table of its own. What it does with the output
//!   is to push bytes and copy literals of the message to it; it is compiled with its checks, without `unsafe`.
//! - The Zstandard compressor finds matches in the message, collects literals and sequences in its context, and then
//!   writes them as bit streams that only go forward. Its one-shot call has no window in the output.
//!
//! Besides reading their sources, this was observed: a trace of all memory accesses of both, Zstandard at levels -3, 1,
//! 3, 9 and 19, has stores to the output and no loads. So a hostile peer can spoil what it will receive, and nothing
//! else.
//!
//! Decoders are different: matches refer to what has been decoded, and it is read back. So a [`Decompressor`] must be
//! given private memory for both, the frame and the message.
//!
//! # What it does not do
//!
//! There is no checksum: a frame that was changed on its way may decode to another message of the same length. How well
//! a message compresses can be seen from its length, also through encryption: do not compress secrets together with
//! what an attacker may choose.

use std::fmt;

use lz4_flex::block::{self, CompressTable};
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx};

use codec::LZ4_LONGEST;
pub use codec::{Codec, Codecs, NoSuchCodec};
pub use error::CompressError;
pub use layer::CompressionLayer;

mod codec;
mod error;
mod layer;
#[cfg(test)]
mod tests;

/// Bytes ahead of each body.
pub const HEADER: usize = 8;

/// The most bytes of private memory that a compressor keeps between two messages.
const KEPT: usize = 4 << 20;

/// Whether a message is compressed. If that would not make it smaller, it goes raw in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// If it is long enough and a sample of it looks as if something could be gained.
    #[default]
    Auto,
    /// Tried, whatever it looks like.
    Always,
    /// Not even tried.
    Never,
}

/// What a [`Compressor`] may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Zstandard's level: 1 and more for smaller output, negative for less effort. A level that does not exist counts
    /// as the nearest. 1 unless set.
    pub level: i32,
    /// [`How::Auto`] leaves shorter messages raw; bytes, 256 unless set. Within one machine there is nothing to gain
    /// from a few cache lines less.
    pub smallest: usize,
    /// How much of a message [`How::Auto`] looks at to guess whether compression pays; bytes in multiples of 64, 512
    /// unless set, at most 65536. With 0 the length alone decides.
    pub sample: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: 1, smallest: 256, sample: 512 }
    }
}

/// What a [`Compressor`] has done so far; the counts wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that became smaller.
    pub compressed: u64,
    /// Messages that went raw, for whatever reason.
    pub raw: u64,
    /// Bytes of all messages.
    pub bytes_in: u64,
    /// Bytes written for them, headers included.
    pub bytes_out: u64,
}

/// Makes frames of messages. It keeps the codec's memory from one message to the next: some 24 KiB for LZ4, more for
/// Zstandard.
pub struct Compressor {
    codec: Codec,
    settings: Settings,
    engine: Engine,
    tally: Tally,
}

/// What a codec keeps.
enum Engine {
    Idle,
    Lz4 {
        /// For messages below and from 64 KiB on: the smaller one is cleared faster.
        tables: [CompressTable; 2],
        /// Where it works if it is not given room for the worst case.
        scratch: Vec<u8>,
    },
    Zstd(CCtx<'static>),
}

impl Engine {
    fn new(codec: Codec, level: i32) -> Self {
        match codec {
            Codec::Raw => Self::Idle,
            Codec::Lz4 => {
                Self::Lz4 { tables: [CompressTable::small(), CompressTable::large()], scratch: Vec::new() }
            }
            // Without memory for it all messages go raw, which any peer understands.
            Codec::Zstd => context(level).map_or(Self::Idle, Self::Zstd),
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { codec, settings, tally, .. } = self;
        f.debug_struct("Compressor")
            .field("codec", codec)
            .field("settings", settings)
            .field("tally", tally)
            .finish_non_exhaustive()
    }
}

impl Compressor {
    /// A compressor for messages to a peer that can decode `codec`.
    pub fn new(codec: Codec, settings: Settings) -> Self {
        let engine = Engine::new(codec, settings.level);
        Self { codec, settings, engine, tally: Tally::default() }
    }

    /// The codec for what is compressed.
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// What has been done so far.
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// How much room a message of `len` bytes is best given, in bytes. With [`HEADER`] and `len` bytes it fits as well,
    /// but LZ4, which insists on room for the worst case, then works in private memory, and its output is copied.
    ///
    /// ```
    /// use hqq_features::compress::{Codec, Compressor, Settings};
    ///
    /// let room = |codec| Compressor::new(codec, Settings::default()).room(1000);
    /// assert_eq!((room(Codec::Zstd), room(Codec::Lz4)), (1008, 1128));
    /// ```
    pub const fn room(&self, len: usize) -> usize {
        self.codec.room(len)
    }

    /// Writes header and body for `message` to the beginning of `into`, and returns how many bytes these are: at most
    /// [`HEADER`] and the message's length. What comes after them in `into` may have been written to.
    ///
    /// `into` may be shared memory: it is only written to. `message` must be private, as any slice.
    ///
    /// # Panics
    /// If `into` is shorter than [`HEADER`] and the message.
    pub fn compress(&mut self, message: &[u8], how: How, into: &mut [u8]) -> usize {
        let len = message.len();
        let (header, body) = into.split_at_mut(HEADER);
        assert!(body.len() >= len, "{} bytes of room for a message of {len}", body.len());
        let smaller = if self.is_worth_trying(message, how) { self.encode(message, body) } else { None };
        let (codec, written) = match smaller {
            Some(written) => (self.codec, written),
            None => {
                body[..len].copy_from_slice(message);
                (Codec::Raw, len)
            }
        };
        let word = u64::from(codec.number()) | (len as u64) << 8;
        header.copy_from_slice(&word.to_le_bytes());
        let count = if codec == Codec::Raw { &mut self.tally.raw } else { &mut self.tally.compressed };
        *count = count.wrapping_add(1);
        self.tally.bytes_in = self.tally.bytes_in.wrapping_add(len as u64);
        self.tally.bytes_out = self.tally.bytes_out.wrapping_add((HEADER + written) as u64);
        HEADER + written
    }

    fn is_worth_trying(&self, message: &[u8], how: How) -> bool {
        let tried = match how {
            How::Auto => {
                message.len() >= self.settings.smallest
                    && is_promising(self.codec, message, self.settings.sample)
            }
            How::Always => true,
            How::Never => false,
        };
        tried && !message.is_empty()
    }

    /// The body's length, if it is smaller than the message. Any failure of a codec means that it is not.
    fn encode(&mut self, message: &[u8], body: &mut [u8]) -> Option<usize> {
        let len = message.len();
        match &mut self.engine {
            Engine::Idle => None,
            Engine::Lz4 { .. } if len > LZ4_LONGEST => None,
            Engine::Lz4 { tables, scratch } => {
                let table = &mut tables[usize::from(len >= usize::from(u16::MAX))];
                let worst = block::get_maximum_output_size(len);
                if let Some(room) = body.get_mut(..worst) {
                    let written = block::compress_into_with_table(message, room, table).ok()?;
                    return (written < len).then_some(written);
                }
                let room = resized(scratch, worst)?;
                let written = block::compress_into_with_table(message, room, table).ok();
                let written = written.filter(|written| *written < len);
                if let Some(written) = written {
                    body[..written].copy_from_slice(&room[..written]);
                }
                if scratch.capacity() > KEPT {
                    *scratch = Vec::new();
                }
                written
            }
            // Room for one byte less than the message: whatever fits is smaller.
            Engine::Zstd(context) => context.compress2(&mut body[..len - 1], message).ok(),
        }
    }
}

/// Zstandard's context; `None` if there is no memory for it.
fn context(level: i32) -> Option<CCtx<'static>> {
    let level = level.clamp(zstd_safe::min_c_level(), zstd_safe::max_c_level());
    let mut context = CCtx::try_create()?;
    context.set_parameter(CParameter::CompressionLevel(level)).ok()?;
    Some(context)
}

/// The first `len` bytes of `vec`, which is made longer if need be; `None` if there is no memory. What it holds stays,
/// so that only what is new must be zeroed.
fn resized(vec: &mut Vec<u8>, len: usize) -> Option<&mut [u8]> {
    if len > vec.capacity() {
        // Nothing is to be copied to the new place.
        vec.clear();
        vec.try_reserve_exact(len).ok()?;
    }
    vec.resize(vec.len().max(len), 0);
    vec.get_mut(..len)
}

/// Bytes of a message that a sample takes in one place.
const PIECE: usize = 64;
/// The longest sample, bytes.
const LONGEST_SAMPLE: usize = 64 << 10;

/// Whether a sample suggests that `codec` makes a message smaller; in constant time.
///
/// A four-byte word that has been there before, at any offset, is about a byte saved by either codec: a match of n
/// bytes is n - 3 such words and costs three. One in 64 is taken as promising; random bytes have practically none.
///
/// Zstandard saves by frequent bytes as well. Two bytes of random data are the same in one pair of 256; half as many
/// again is taken as promising. That is more than chance makes of it: 5 standard deviations for a sample of 256 bytes.
fn is_promising(codec: Codec, message: &[u8], sample: usize) -> bool {
    let len = message.len();
    let sample = sample.min(LONGEST_SAMPLE);
    // LZ4 sees by itself that a short message is noise, in the time that a sample takes.
    if sample == 0 || codec == Codec::Lz4 && len < 4 * sample {
        return true;
    }
    let size = PIECE.min(len);
    // They must not overlap, or the message would seem to repeat itself.
    let pieces = (sample.min(len) / PIECE).max(1);
    let (words, bytes) = (pieces * size.saturating_sub(3), pieces * size);
    let enough_repeats = words.div_ceil(64).max(1);
    let enough_pairs = match codec {
        Codec::Zstd => bytes * bytes.saturating_sub(1) * 3 / (2 * 256 * 2),
        _ => usize::MAX,
    };
    let mut seen = [0u32; 512];
    let mut counts = [0u32; 256];
    let (mut repeats, mut pairs) = (0, 0);
    for piece in 0..pieces {
        // Spread evenly, the first at the beginning and the last at the end.
        let start = (len - size) * piece / (pieces - 1).max(1);
        let piece = &message[start..start + size];
        for word in piece.windows(4) {
            let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            let place = &mut seen[(word.wrapping_mul(0x9E37_79B1) >> 23) as usize];
            repeats += usize::from(*place == word);
            *place = word;
        }
        if codec == Codec::Zstd {
            for byte in piece {
                let count = &mut counts[usize::from(*byte)];
                pairs += *count as usize;
                *count += 1;
            }
        }
        if repeats >= enough_repeats || pairs >= enough_pairs {
            return true;
        }
    }
    false
}

/// A frame whose header has been checked against all that can be known without decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'f> {
    codec: Codec,
    len: usize,
    body: &'f [u8],
}

impl<'f> Frame<'f> {
    /// Reads the header of `framed`, for a message of at most `limit` bytes. Nothing is allocated or decoded.
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

    /// How the body was made.
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// The message's length in bytes, as the header says; a message that decodes at all has it.
    pub const fn message_len(&self) -> usize {
        self.len
    }

    /// The message itself, if it was sent raw: then nothing needs to be decoded or copied.
    pub fn raw(&self) -> Option<&'f [u8]> {
        (self.codec == Codec::Raw).then_some(self.body)
    }
}

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
