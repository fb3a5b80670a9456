//! Several layers, applied one after the other.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use crate::layer::{Decoded, Layer, LayerError, check_room};

/// Several layers: the first encodes the message, each other encodes the frame of the one before it. Decoding goes the
/// other way.
///
/// The last layer writes to the memory that the frame is sent from; all others write to private memory. A stack without
/// layers leaves messages as they are.
///
/// ```
/// use hqq_features::{LayerError, LayerStack};
///
/// // With feature `compress`: LayerStack::new(vec![Arc::new(CompressionLayer::new(...))])
/// let stack = LayerStack::default();
/// let mut encoder = stack.prepare(b"hello", b"opcode 1")?;
/// let mut loan = vec![0; encoder.room()];
/// let len = encoder.write(&mut loan)?;
/// let sent = encoder.send_in_order(|| loan[..len].to_vec()).expect("nothing was encoded since");
/// assert_eq!(stack.decode(&sent, b"opcode 1", 100)?.bytes(&sent), b"hello");
/// # Ok::<(), LayerError>(())
/// ```
#[derive(Debug, Default)]
pub struct LayerStack {
    layers: Vec<Arc<dyn Layer>>,
    /// The sum over all layers.
    overhead: usize,
    /// Held from the test for staleness until the frame is sent.
    order: Mutex<()>,
}

impl LayerStack {
    /// A stack of these layers, in the order in which they encode.
    pub fn new(layers: Vec<Arc<dyn Layer>>) -> Self {
        let overhead = layers.iter().map(|layer| layer.overhead()).sum();
        Self { layers, overhead, order: Mutex::default() }
    }

    /// Whether there are no layers.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The layers, in the order in which they encode.
    pub fn layers(&self) -> &[Arc<dyn Layer>] {
        &self.layers
    }

    /// The most bytes by which any frame exceeds its message.
    pub fn overhead(&self) -> usize {
        self.overhead
    }

    /// The length of the longest message that is encoded without a copy into `size` bytes, and whose frame has at most
    /// that many; at least 1.
    pub fn max_message_len(&self, size: usize) -> usize {
        let len = size.saturating_sub(self.overhead);
        let room = self.layers.last().map_or(len, |last| last.room(len + self.overhead - last.overhead()));
        len.saturating_sub(room.saturating_sub(size)).max(1)
    }

    /// Applies the layers to `message` that can be applied before there is memory to send from. See [`Layer::encode`]
    /// for `context`.
    ///
    /// # Errors
    /// The error of the layer that refused it.
    pub fn prepare<'m>(&'m self, message: &'m [u8], context: &'m [u8]) -> Result<Encoder<'m>, LayerError> {
        let single_use = self.layers.iter().position(|layer| layer.is_single_use());
        let last = self.layers.len().saturating_sub(1);
        let split = single_use.map_or(last, |first| first.min(last));
        let mut message = Cow::Borrowed(message);
        for layer in &self.layers[..split] {
            message = Cow::Owned(encode_to_vec(&**layer, &message, context)?.0);
        }
        Ok(Encoder { stack: self, split, message, context, tickets: Tickets::default() })
    }

    /// The frame of `message`, in private memory. See [`Layer::encode`] for `context`.
    ///
    /// # Errors
    /// The error of the layer that refused it.
    pub fn encode_to_vec(&self, message: &[u8], context: &[u8]) -> Result<Vec<u8>, LayerError> {
        let mut encoder = self.prepare(message, context)?;
        let mut frame = vec![0; encoder.room()];
        let len = encoder.write(&mut frame)?;
        frame.truncate(len);
        Ok(frame)
    }

    /// Makes the message of `frame`, which may be shared memory. It has at most `limit` bytes. See [`Layer::decode`].
    ///
    /// # Errors
    /// The error of the layer that refused it.
    pub fn decode(&self, frame: &[u8], context: &[u8], limit: u64) -> Result<Decoded, LayerError> {
        let mut decoded = Decoded::within(0..frame.len());
        // The overhead of the layers that are still to decode.
        let mut inner = self.overhead;
        for layer in self.layers.iter().rev() {
            inner -= layer.overhead();
            let limit = limit.saturating_add(inner as u64);
            let next = layer.decode(decoded.bytes(frame), context, limit)?;
            decoded = decoded.then(next);
        }
        Ok(decoded)
    }

    /// The stack for the messages of the logical connection `id`. Each end calls it once for each connection; see
    /// [`Layer::of_connection`].
    #[must_use]
    pub fn of_connection(&self, id: u64) -> Self {
        let own = |layer: &Arc<dyn Layer>| layer.of_connection(id).unwrap_or_else(|| Arc::clone(layer));
        Self::new(self.layers.iter().map(own).collect())
    }

    /// Divides the stack at its first [single-use](Layer::is_single_use) layer: into the layers whose frames can be kept
    /// and sent again, and those that are applied to each transmission.
    #[must_use]
    pub fn split(mut self) -> (Self, Self) {
        let first = self.layers.iter().position(|layer| layer.is_single_use());
        let rest = self.layers.split_off(first.unwrap_or(self.layers.len()));
        (Self::new(self.layers), Self::new(rest))
    }
}

fn encode_to_vec(
    layer: &dyn Layer,
    message: &[u8],
    context: &[u8],
) -> Result<(Vec<u8>, Option<u64>), LayerError> {
    let mut frame = vec![0; layer.room(message.len())];
    let encoded = layer.encode(message, context, &mut frame)?;
    frame.truncate(encoded.len);
    Ok((frame, encoded.ticket))
}

/// A message on its way through a [`LayerStack`]: the layers that need the memory to send from, or the moment of
/// sending, are still to be applied.
#[derive(Debug)]
pub struct Encoder<'m> {
    stack: &'m LayerStack,
    /// Layers that have been applied.
    split: usize,
    /// The result of those layers.
    message: Cow<'m, [u8]>,
    context: &'m [u8],
    tickets: Tickets,
}

/// The tickets of the last frame, each with the index of its layer. More than one is rare.
#[derive(Debug, Default)]
struct Tickets {
    first: Option<(usize, u64)>,
    others: Vec<(usize, u64)>,
}

impl Encoder<'_> {
    fn rest(&self) -> &[Arc<dyn Layer>] {
        &self.stack.layers[self.split..]
    }

    /// The least bytes of memory that [`write`](Self::write) takes.
    pub fn min_room(&self) -> usize {
        self.rest().iter().fold(self.message.len(), |len, layer| len.saturating_add(layer.overhead()))
    }

    /// Bytes of memory with which [`write`](Self::write) is fastest: at least [`min_room`](Self::min_room).
    pub fn room(&self) -> usize {
        let least = self.min_room();
        self.rest().last().map_or(least, |last| last.room(least - last.overhead()))
    }

    /// Writes the frame to the beginning of `into`, which may be shared memory, and returns its length. The bytes after
    /// it may have been written to. It can be called again, which makes a new frame.
    ///
    /// # Errors
    /// `into` is shorter than [`min_room`](Self::min_room), or a layer refused the message.
    pub fn write(&mut self, into: &mut [u8]) -> Result<usize, LayerError> {
        let (stack, len) = (self.stack, self.message.len());
        let rest = stack.layers[self.split..].split_last();
        // No counter is spent on a frame that has no room.
        check_room(rest.map_or("link", |(last, _)| last.name()), into.len(), self.min_room())?;
        self.tickets = Tickets::default();
        let Some((last, inner)) = rest else {
            into[..len].copy_from_slice(&self.message);
            return Ok(len);
        };
        let mut made: Option<Vec<u8>> = None;
        for (at, layer) in (self.split..).zip(inner) {
            let message = made.as_deref().unwrap_or(&self.message);
            let (frame, ticket) = encode_to_vec(&**layer, message, self.context)?;
            self.tickets.add(at, ticket);
            made = Some(frame);
        }
        let message = made.as_deref().unwrap_or(&self.message);
        let encoded = last.encode(message, self.context, into)?;
        self.tickets.add(stack.layers.len() - 1, encoded.ticket);
        Ok(encoded.len)
    }

    /// Calls `send`, which sends the frame that was written last, and returns what it returned. `None`, without a call,
    /// if that frame is [stale](Layer::is_stale): [`write`](Self::write) a new one.
    ///
    /// Frames that can become stale are sent one at a time in a stack, so that none becomes stale between the test and
    /// `send`. `send` must not wait for room.
    pub fn send_in_order<T>(&self, send: impl FnOnce() -> T) -> Option<T> {
        let Tickets { first, others } = &self.tickets;
        if first.is_none() {
            return Some(send());
        }
        // The lock guards no data, so a panic of another thread leaves nothing broken.
        let _order = self.stack.order.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stale = |(at, ticket): &(usize, u64)| self.stack.layers[*at].is_stale(*ticket);
        let stale = first.iter().chain(others).any(is_stale);
        (!stale).then(send)
    }
}

impl Tickets {
    fn add(&mut self, at: usize, ticket: Option<u64>) {
        match (ticket, &self.first) {
            (None, _) => {}
            (Some(ticket), None) => self.first = Some((at, ticket)),
            (Some(ticket), Some(_)) => self.others.push((at, ticket)),
        }
    }
}
