//! Compression as a layer of a stack.

use std::fmt;

use super::codec::{Codec, Codecs, HEADER};
use super::compressor::{Compressor, Mode, Settings};
use super::decompressor::Decompressor;
use super::frame::Frame;
use super::memory::KEPT;
use crate::free_list::FreeList;
use crate::layer::{Decoded, Encoded, Layer, LayerError, check_room};

/// Compression of messages as a [`Layer`]. It keeps the memory of the codecs from one message to the next, for as many
/// threads as use it at a time.
///
/// ```
/// use hqq_features::Layer;
/// use hqq_features::compress::{Codec, Codecs, CompressionLayer, Settings};
///
/// let layer = CompressionLayer::new(&[Codec::Zstd, Codec::Lz4], Settings::default(), Codecs::LZ4);
/// assert_eq!(layer.codec(), Codec::Lz4);
/// let message = b"a line of a log, and again ".repeat(100);
/// let mut frame = vec![0; layer.room(message.len())];
/// let encoded = layer.encode(&message, b"", &mut frame)?;
/// assert!(encoded.len < message.len() / 10);
/// let decoded = layer.decode(&frame[..encoded.len], b"", 1 << 20)?;
/// assert_eq!(decoded.bytes(&frame), message);
/// # Ok::<(), hqq_features::LayerError>(())
/// ```
pub struct CompressionLayer {
    codec: Codec,
    agreed: Codecs,
    settings: Settings,
    compressors: FreeList<Compressor>,
    /// Each with memory for a copy of the frame.
    decompressors: FreeList<(Decompressor, Vec<u8>)>,
}

impl fmt::Debug for CompressionLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { codec, agreed, settings, .. } = self;
        f.debug_struct("CompressionLayer")
            .field("codec", codec)
            .field("agreed", agreed)
            .field("settings", settings)
            .finish_non_exhaustive()
    }
}

/// The name in errors.
const NAME: &str = "compression";

impl CompressionLayer {
    /// A layer that compresses by the first codec of `preferred` that is in `agreed`, with these settings, and decodes
    /// all codecs in `agreed`.
    pub fn new(preferred: &[Codec], settings: Settings, agreed: Codecs) -> Self {
        let (compressors, decompressors) = Default::default();
        Self { codec: agreed.preferred(preferred), agreed, settings, compressors, decompressors }
    }

    /// The codec for messages that are sent.
    pub const fn codec(&self) -> Codec {
        self.codec
    }
}

impl Layer for CompressionLayer {
    fn name(&self) -> &'static str {
        NAME
    }

    fn overhead(&self) -> usize {
        HEADER
    }

    fn room(&self, len: usize) -> usize {
        self.codec.room(len)
    }

    fn encode(&self, message: &[u8], _: &[u8], into: &mut [u8]) -> Result<Encoded, LayerError> {
        check_room(NAME, into.len(), message.len().saturating_add(HEADER))?;
        let fresh = || Compressor::new(self.codec, self.settings);
        let len = self.compressors.with(fresh, |compressor| compressor.compress(message, Mode::Auto, into));
        Ok(Encoded { len, ticket: None })
    }

    fn decode(&self, frame: &[u8], _: &[u8], limit: u64) -> Result<Decoded, LayerError> {
        let refused = |error| LayerError::new(NAME, error);
        if Frame::read(frame, limit).map_err(refused)?.raw().is_some() {
            return Ok(Decoded::within(HEADER..frame.len()));
        }
        let fresh = || (Decompressor::new(self.agreed), Vec::new());
        let mut message = Vec::new();
        let decoded = self.decompressors.with(fresh, |(decompressor, copy)| {
            // The peer may write to the frame, and a decoder looks at it more than once.
            copy.clear();
            copy.extend_from_slice(frame);
            let decoded = decompressor.decompress(copy, limit, &mut message);
            if copy.capacity() > KEPT {
                *copy = Vec::new();
            }
            decoded
        });
        decoded.map(|_| Decoded::owned(message)).map_err(refused)
    }
}
