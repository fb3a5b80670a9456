//! The contract of a layer: one transformation of messages, such as compression or encryption.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// One transformation of messages: bytes in, bytes out, without I/O.
///
/// [`encode`](Self::encode) makes a frame of a message, and [`decode`](Self::decode) makes the message of the frame at
/// the other end. A [`LayerStack`](crate::LayerStack) applies several layers in order; a layer knows nothing of the
/// others. Threads share a layer.
///
/// ```
/// use hqq_features::{Decoded, Encoded, Layer, LayerError, LayerStack};
/// use std::sync::Arc;
///
/// /// Appends the sum of all bytes.
/// #[derive(Debug)]
/// struct Sum;
///
/// fn sum(bytes: &[u8]) -> u8 {
///     bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
/// }
///
/// impl Layer for Sum {
///     fn name(&self) -> &'static str {
///         "sum"
///     }
///
///     fn overhead(&self) -> usize {
///         1
///     }
///
///     fn encode(&self, message: &[u8], _: &[u8], into: &mut [u8]) -> Result<Encoded, LayerError> {
///         into[..message.len()].copy_from_slice(message);
///         into[message.len()] = sum(message);
///         Ok(Encoded { len: message.len() + 1, ticket: None })
///     }
///
///     fn decode(&self, frame: &[u8], _: &[u8], _limit: u64) -> Result<Decoded, LayerError> {
///         match frame.split_last() {
///             Some((last, message)) if sum(message) == *last => Ok(Decoded::within(0..message.len())),
///             _ => Err(LayerError::new(self.name(), "the sum is wrong: send the message again")),
///         }
///     }
/// }
///
/// let stack = LayerStack::new(vec![Arc::new(Sum)]);
/// let frame = stack.encode_to_vec(b"abc", b"")?;
/// assert_eq!(frame, [97, 98, 99, 38]);
/// assert_eq!(stack.decode(&frame, b"", 100)?.bytes(&frame), b"abc");
/// # Ok::<(), LayerError>(())
/// ```
pub trait Layer: fmt::Debug + Send + Sync {
    /// The name of the layer in errors.
    fn name(&self) -> &'static str;

    /// The most bytes by which any frame exceeds its message.
    fn overhead(&self) -> usize;

    /// Bytes of room with which [`encode`](Self::encode) is fastest for a message of `len` bytes: at least `len` and
    /// [`overhead`](Self::overhead), which is the default.
    fn room(&self, len: usize) -> usize {
        len.saturating_add(self.overhead())
    }

    /// Writes the frame of `message` to the beginning of `into`. Its length is at most that of the message and
    /// [`overhead`](Self::overhead). Bytes of `into` after the frame may have been written to.
    ///
    /// `into` may be memory that the peer can read and write during the call. A layer only writes to it, and never
    /// writes what the peer must not see. `message` is private memory, as any slice.
    ///
    /// `context` is what both ends know of the message besides its bytes, such as its opcode and its sequence. A layer
    /// that authenticates refuses a frame that is decoded with another context.
    ///
    /// # Errors
    /// `into` is shorter than `message` and [`overhead`](Self::overhead), or the layer cannot encode the message.
    fn encode(&self, message: &[u8], context: &[u8], into: &mut [u8]) -> Result<Encoded, LayerError>;

    /// Makes the message of `frame`. It has at most `limit` bytes; no more memory than for one of that length is used.
    ///
    /// `frame` may be memory that the peer can write during the call. A layer copies what it needs to check before use.
    ///
    /// # Errors
    /// The frame breaks the rules of the layer, or its message is longer than `limit`.
    fn decode(&self, frame: &[u8], context: &[u8], limit: u64) -> Result<Decoded, LayerError>;

    /// Whether a frame is valid for one transmission only: it has a counter, or depends on a session or a context that
    /// is known only when it is sent. The default is `false`.
    ///
    /// Whoever keeps messages for a second transmission keeps them as they are before the first such layer; see
    /// [`LayerStack::split`](crate::LayerStack::split).
    fn is_single_use(&self) -> bool {
        false
    }

    /// Whether the frame with this [ticket](Encoded::ticket) may no longer be sent, because too many were encoded after
    /// it: the peer would refuse it as too old. Then the message is encoded again. The default is `false`.
    fn is_stale(&self, ticket: u64) -> bool {
        let _ = ticket;
        false
    }

    /// The layer for the messages of the logical connection `id`, if that needs one of its own: with its own keys and
    /// counters, for instance. `None`, the default, means that connections use this layer.
    ///
    /// Each end calls it once for each connection: a second layer with the same number would repeat the counters of the
    /// first.
    fn of_connection(&self, id: u64) -> Option<Arc<dyn Layer>> {
        let _ = id;
        None
    }
}

/// The outcome of [`Layer::encode`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Bytes of the frame.
    pub len: usize,
    /// The number by which [`Layer::is_stale`] knows the frame; `None` if it can be sent at any time.
    pub ticket: Option<u64>,
}

/// The outcome of [`Layer::decode`]: where the message is. If it is part of the frame, nothing is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Memory of the message's own; `None` if it is part of the frame.
    memory: Option<Vec<u8>>,
    /// The place of the message in that memory, or in the frame.
    range: Range<usize>,
}

impl Decoded {
    /// A message that is the bytes `range` of the frame.
    pub const fn within(range: Range<usize>) -> Self {
        Self { memory: None, range }
    }

    /// A message in memory of its own.
    pub fn owned(message: Vec<u8>) -> Self {
        let range = 0..message.len();
        Self { memory: Some(message), range }
    }

    /// The message, given the `frame` that it was decoded from.
    ///
    /// # Panics
    /// If the message is part of the frame, and `frame` is shorter than that was.
    pub fn bytes<'b>(&'b self, frame: &'b [u8]) -> &'b [u8] {
        &self.memory.as_deref().unwrap_or(frame)[self.range.clone()]
    }

    /// The bytes of the frame that are the message; `None` if it is in memory of its own.
    pub fn range(&self) -> Option<Range<usize>> {
        self.memory.is_none().then(|| self.range.clone())
    }

    /// The message in memory of its own, given the `frame` that it was decoded from. Copies it if it is part of the
    /// frame.
    ///
    /// # Panics
    /// As [`bytes`](Self::bytes).
    pub fn into_vec(self, frame: &[u8]) -> Vec<u8> {
        let Self { memory, range } = self;
        match memory {
            None => frame[range].to_vec(),
            Some(mut memory) => {
                memory.truncate(range.end);
                memory.drain(..range.start);
                memory
            }
        }
    }

    /// This decoding, followed by `next`, which was made of the message of this one.
    pub(crate) fn then(self, next: Self) -> Self {
        match next.memory {
            Some(_) => next,
            None => {
                let start = self.range.start;
                Self { memory: self.memory, range: start + next.range.start..start + next.range.end }
            }
        }
    }
}

/// A layer refused a message or a frame.
#[derive(Debug)]
pub struct LayerError {
    layer: &'static str,
    reason: Box<dyn Error + Send + Sync>,
}

impl LayerError {
    /// An error of the layer with the name `layer`. `reason` is a text or an error.
    pub fn new(layer: &'static str, reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { layer, reason: reason.into() }
    }

    /// The name of the layer.
    pub const fn layer(&self) -> &'static str {
        self.layer
    }

    /// The reason: a text, or an error type of the feature, which `downcast_ref` returns.
    pub fn reason(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.reason
    }
}

impl fmt::Display for LayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.layer, self.reason)
    }
}

impl Error for LayerError {}

/// Checks that the layer `layer` was given room for its longest frame.
///
/// # Errors
/// `have` bytes are less than `need`.
pub(crate) fn check_room(layer: &'static str, have: usize, need: usize) -> Result<(), LayerError> {
    if have >= need {
        return Ok(());
    }
    let reason = format!("{have} bytes of room for a frame of up to {need}: provide that many");
    Err(LayerError::new(layer, reason))
}
