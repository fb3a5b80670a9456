//! Compression of messages, one at a time, by LZ4 or Zstandard. How to add a codec is at the top of `codec.rs`.
//!
//! A frame is a header of [`HEADER`] bytes and a body. The header is one little-endian word:
//!
//! | bits | content |
//! |---|---|
//! | 0 to 7 | the codec: 0 raw, 1 an LZ4 block, 2 a Zstandard frame |
//! | 8 to 63 | the length of the message in bytes |
//!
//! A raw body is the message. Any other body is smaller than the message and decodes to exactly its length. No state is
//! kept from one message to the next, so messages may be lost, skipped or reordered.
//!
//! [`Compressor`] and [`Decompressor`] encode and decode frames; [`CompressionLayer`] is both as a
//! [`Layer`](crate::Layer).
//!
//! ```
//! use hqq_features::compress::{Codec, Compressor, Decompressor, HEADER, Mode, Settings};
//!
//! let message = b"a line of a log, and again ".repeat(100);
//! let mut sender = Compressor::new(Codec::Lz4, Settings::default());
//! let mut frame = vec![0; sender.room(message.len())];
//! let len = sender.compress(&message, Mode::Auto, &mut frame);
//! assert!(len < message.len() / 10);
//!
//! let mut received = Vec::new();
//! let codec = Decompressor::default().decompress(&frame[..len], 1 << 20, &mut received)?;
//! assert_eq!((codec, received), (Codec::Lz4, message));
//! # Ok::<(), hqq_features::compress::CompressError>(())
//! ```
//!
//! # Shared memory
//!
//! A [`Compressor`] may write to memory that the peer can read and write at the same time. Both codecs only store to
//! their output when they compress:
//!
//! - The LZ4 block compressor finds matches in the message and in its own table. To the output it appends bytes and
//!   literals of the message. It is compiled with its checks, without `unsafe`.
//! - The Zstandard compressor finds matches in the message, collects literals and sequences in its context, and then
//!   writes them as bit streams that only advance. Its one-shot call has no window in the output.
//!
//! Besides reading their sources, this was observed: a trace of all memory accesses of both, Zstandard at levels -3, 1,
//! 3, 9 and 19, has stores to the output and no loads. A hostile peer can damage only what it receives.
//!
//! Decoders differ: matches refer to decoded bytes, which are read back. Both the frame and the message of a
//! [`Decompressor`] must be in private memory.
//!
//! # Limits
//!
//! There is no checksum: a frame that was changed on its way may decode to another message of the same length. The
//! length of a frame shows how well the message compresses, even if it is encrypted: do not compress secrets together
//! with data that an attacker may choose.

pub use codec::{Codec, Codecs, HEADER, UnknownCodec};
pub use compressor::{Compressor, CompressorCounts, Mode, Settings};
pub use decompressor::{Decompressor, decompress};
pub use error::CompressError;
pub use frame::Frame;
pub use layer::CompressionLayer;

mod codec;
mod compressor;
mod decompressor;
mod error;
mod frame;
mod layer;
mod memory;
#[cfg(test)]
mod tests;
