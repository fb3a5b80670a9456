//! The compressor, and the decision which messages are worth compressing.

use std::fmt;

use lz4_flex::block::{self, CompressTable};
use zstd::zstd_safe::{self, CCtx, CParameter};

use super::codec::{Codec, HEADER, LZ4_MAX_LEN};
use super::memory::{KEPT, resized};

/// Whether [`Compressor::compress`] tries to compress a message. If that does not make it smaller, it is sent raw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Tries if the message is long enough and a sample of it looks compressible; see [`Settings`].
    #[default]
    Auto,
    /// Tries each message.
    Always,
    /// Sends each message raw.
    Never,
}

/// Settings of a [`Compressor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The level of Zstandard: higher for smaller frames, negative for less time. A level that does not exist counts as
    /// the nearest. The default is 1.
    pub level: i32,
    /// The shortest message, in bytes, that [`Mode::Auto`] compresses. The default is 256: within one machine, a few
    /// cache lines less do not pay for the time.
    pub smallest: usize,
    /// Bytes of a message that [`Mode::Auto`] examines to guess whether it is compressible, a multiple of 64 and at most
    /// 65536. The default is 512. With 0 only the length decides.
    pub sample: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: 1, smallest: 256, sample: 512 }
    }
}

/// Counts of a [`Compressor`] since it was made. They wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompressorCounts {
    /// Messages that were sent compressed.
    pub compressed: u64,
    /// Messages that were sent raw, for any reason.
    pub raw: u64,
    /// Bytes of all messages.
    pub bytes_in: u64,
    /// Bytes of all frames, with headers.
    pub bytes_out: u64,
}

/// Compresses messages into frames. It keeps the memory of its codec from one message to the next: about 24 KiB for LZ4,
/// more for Zstandard.
pub struct Compressor {
    codec: Codec,
    settings: Settings,
    pub(super) state: CodecState,
    counts: CompressorCounts,
}

/// The memory of a codec.
pub(super) enum CodecState {
    Idle,
    Lz4 {
        /// For messages below 64 KiB, and for others. The smaller table is cleared faster.
        tables: [CompressTable; 2],
        /// Output for a caller that has no room for the worst case.
        scratch: Vec<u8>,
    },
    Zstd(CCtx<'static>),
}

impl CodecState {
    fn new(codec: Codec, level: i32) -> Self {
        match codec {
            Codec::Raw => Self::Idle,
            Codec::Lz4 => {
                Self::Lz4 { tables: [CompressTable::small(), CompressTable::large()], scratch: Vec::new() }
            }
            // Without memory for a context all messages are sent raw, which any peer decodes.
            Codec::Zstd => context(level).map_or(Self::Idle, Self::Zstd),
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { codec, settings, counts, .. } = self;
        f.debug_struct("Compressor")
            .field("codec", codec)
            .field("settings", settings)
            .field("counts", counts)
            .finish_non_exhaustive()
    }
}

impl Compressor {
    /// A compressor that uses `codec`, which the peer can decode, with `settings`.
    pub fn new(codec: Codec, settings: Settings) -> Self {
        let state = CodecState::new(codec, settings.level);
        Self { codec, settings, state, counts: CompressorCounts::default() }
    }

    /// The codec of compressed messages.
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// The counts since the compressor was made.
    pub const fn counts(&self) -> CompressorCounts {
        self.counts
    }

    /// Bytes of room with which a message of `len` bytes is compressed without a copy. A frame never needs more than
    /// [`HEADER`] and `len` bytes, but LZ4 requires room for its worst case: with less, it writes to private memory and
    /// its output is copied.
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

    /// Writes the frame of `message` to the beginning of `into`, and returns its length in bytes: at most [`HEADER`] and
    /// the length of the message. The bytes of `into` after the frame may have been written to.
    ///
    /// `into` may be shared memory: it is only written to. `message` must be private memory, as any slice.
    ///
    /// # Panics
    /// If `into` is shorter than [`HEADER`] and the message together.
    pub fn compress(&mut self, message: &[u8], mode: Mode, into: &mut [u8]) -> usize {
        let len = message.len();
        let (header, body) = into.split_at_mut(HEADER);
        assert!(body.len() >= len, "{} bytes of room for a message of {len}", body.len());
        let smaller = if self.is_worth_trying(message, mode) { self.encode(message, body) } else { None };
        let (codec, written) = match smaller {
            Some(written) => (self.codec, written),
            None => {
                body[..len].copy_from_slice(message);
                (Codec::Raw, len)
            }
        };
        let word = u64::from(codec.number()) | (len as u64) << 8;
        header.copy_from_slice(&word.to_le_bytes());
        let count = if codec == Codec::Raw { &mut self.counts.raw } else { &mut self.counts.compressed };
        *count = count.wrapping_add(1);
        self.counts.bytes_in = self.counts.bytes_in.wrapping_add(len as u64);
        self.counts.bytes_out = self.counts.bytes_out.wrapping_add((HEADER + written) as u64);
        HEADER + written
    }

    pub(super) fn is_worth_trying(&self, message: &[u8], mode: Mode) -> bool {
        let tried = match mode {
            Mode::Auto => {
                message.len() >= self.settings.smallest
                    && is_promising(self.codec, message, self.settings.sample)
            }
            Mode::Always => true,
            Mode::Never => false,
        };
        tried && !message.is_empty()
    }

    /// Writes the body, and returns its length. `None` if it would not be smaller than the message, or the codec fails.
    fn encode(&mut self, message: &[u8], body: &mut [u8]) -> Option<usize> {
        let len = message.len();
        match &mut self.state {
            CodecState::Idle => None,
            CodecState::Lz4 { .. } if len > LZ4_MAX_LEN => None,
            CodecState::Lz4 { tables, scratch } => {
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
            // With room for one byte less than the message, any body that fits is smaller.
            CodecState::Zstd(context) => context.compress2(&mut body[..len - 1], message).ok(),
        }
    }
}

/// A context of Zstandard; `None` if there is no memory for it.
fn context(level: i32) -> Option<CCtx<'static>> {
    let level = level.clamp(zstd_safe::min_c_level(), zstd_safe::max_c_level());
    let mut context = CCtx::try_create()?;
    context.set_parameter(CParameter::CompressionLevel(level)).ok()?;
    Some(context)
}

/// Bytes of a message that a sample has from one place.
pub(super) const SAMPLE_BLOCK: usize = 64;
/// The longest sample, bytes.
const MAX_SAMPLE: usize = 64 << 10;

/// Whether a sample suggests that `codec` makes a message smaller; in constant time.
///
/// A repeated four-byte word, at any offset, saves either codec about one byte: a match of n bytes has n - 3 such words
/// and costs three bytes. One repeated word in 64 is promising; random bytes have practically none.
///
/// Zstandard also profits from frequent bytes. In random data one pair of bytes in 256 is equal; half as many again is
/// promising, which is 5 standard deviations above chance for a sample of 256 bytes.
pub(super) fn is_promising(codec: Codec, message: &[u8], sample: usize) -> bool {
    let len = message.len();
    let sample = sample.min(MAX_SAMPLE);
    // LZ4 detects noise in a short message in the time that a sample takes.
    if sample == 0 || codec == Codec::Lz4 && len < 4 * sample {
        return true;
    }
    let size = SAMPLE_BLOCK.min(len);
    // Blocks must not overlap, or each overlap would count as a repetition.
    let pieces = (sample.min(len) / SAMPLE_BLOCK).max(1);
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
        // Blocks are spread evenly, from the beginning of the message to its end.
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
