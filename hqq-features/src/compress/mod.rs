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
//! There is no checksum: a frame that was changed on its way may decode to another message of the same length. Mode well
//! a message compresses can be seen from its length, also through encryption: do not compress secrets together with
//! what an attacker may choose.

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
