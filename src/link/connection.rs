//! Logical connections as the caller holds them. What they may do in which state is in `demux/table.rs`.

use std::fmt;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::demux::frame::{connection_context, frame_error};
use crate::demux::table::{Chunk, ConnEnd, LinkEnd, Pop, TableError};
use crate::demux::{ChunkData, Stop, home};
use crate::error::{Error, Result};
use crate::link::core::LinkCore;
use crate::link::deadline::Wait;
use crate::link::pipeline::Pipeline;
use crate::link::send::unless_transient;
use crate::link::stream::Rest;
use crate::link::timed_mutex::{TimedGuard, TimedMutex};
use crate::link::wait::WaitReason;
use crate::shm::buffer::Buffer;
use crate::shm::packet::{CloseHow, ConnCopy, Packet, op};
use hqq_features::LayerStack;
use hqq_features::flow::Congestion;
use hqq_features::qos::TrafficClass;

/// A logical connection on a link: a byte stream ([`Read`](std::io::Read), [`Write`](std::io::Write)) and messages
/// of any length up to the limit, beside others on the same link.
///
/// It may be shared by threads; messages of several senders are not mixed. Dropping it closes it. It keeps the
/// link open.
///
/// Each connection has an inbox of a bounded number of chunks. **A full inbox stops the link**: nothing is dropped,
/// and everything that the peer sent behind it, on whatever connection, waits until the inbox is read or the
/// connection dropped. Whoever waits on any connection of a link sorts packets for all of them.
///
/// There is no helper thread: what finds the ring full, be it the close of a dropped connection, goes out with this
/// process's next call on the link. Unread chunks keep their buffers, so two ends that each send more than a pool
/// holds before they read wait for each other, as with sockets.
///
/// ```
/// use std::thread;
///
/// let (primary, secondary) = hqq::StandardLink::pair()?;
/// let echo = thread::spawn(move || {
///     let connection = secondary.accept_connection()?;
///     connection.send(&connection.recv()?)
/// });
/// let connection = primary.open_connection()?;
/// let long = vec![7; 100_000]; // several buffers' worth
/// connection.send(&long)?;
/// assert_eq!(connection.recv()?, long);
/// # echo.join().unwrap()?;
/// # Ok::<(), hqq::Error>(())
/// ```
pub struct Connection {
    core: Arc<LinkCore>,
    id: u64,
    sending: TimedMutex<()>,
    reading: TimedMutex<Reading>,
    /// The layers that its messages pass through, if any.
    layers: Option<Box<Layers>>,
}

/// What a reader has begun.
#[derive(Debug, Default)]
struct Reading {
    /// A chunk, and how much of it has been read.
    chunk: Option<(Chunk<ChunkData>, usize)>,
    /// The beginning of a message whose rest has not come yet.
    message: Vec<u8>,
}

/// The layers that the messages of a connection pass through.
struct Layers {
    stack: LayerStack,
    /// What a reader has left of a decoded message. Whoever locks it has [`Connection::reading`].
    rest: Mutex<Rest>,
}

impl Layers {
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most bytes of a stream in one message with layers: enough for a codec, and little to hold twice.
const MOST: u64 = 64 << 10;

fn start_demux(core: &LinkCore) -> Result<()> {
    if core.is_split() {
        return Err(Error::Unsupported {
            what: "a link that was split has no connections: share one link between threads instead of splitting it",
        });
    }
    core.start_demux();
    Ok(())
}

/// Opens a connection, and waits for the peer to accept it.
pub(crate) fn open(core: &Arc<LinkCore>, pipeline: Option<&Pipeline>, wait: Wait) -> Result<Connection> {
    start_demux(core)?;
    let request = |own| {
        let mut demux = core.demux(own);
        demux.pump(Stop::Lap)?;
        if demux.is_backed_up() {
            return Ok(None);
        }
        let id = demux.table.open().map_err(|error| match error {
            TableError::TooMany { open, limit } => Error::TooMany { open, limit },
            TableError::NoIds => {
                Error::Unsupported { what: "the link has used all its connection numbers: make a new link" }
            }
            TableError::Link(end) => link_error(core, end),
        })?;
        demux.queue(Packet::new(op::CONN_CREATE, [id]));
        demux.opened(core.context(), id);
        Ok(Some(id))
    };
    if let Some(end) = core.send_end() {
        return Err(end);
    }
    let id = core.wait(WaitReason::OPEN, wait, request)?;
    // From here on, dropping it takes the request back.
    let connection = Connection::new(core, id, pipeline);
    core.wait(WaitReason::ANSWER, wait, |own| {
        let mut demux = core.demux(own);
        demux.pump(Stop::Lap)?;
        match demux.table.ready(id) {
            Ok(true) => Ok(Some(())),
            // Without a way to send, the request will never reach the peer.
            Ok(false) => core.send_end().map_or(Ok(None), Err),
            Err(end) => Err(connection.error(end)),
        }
    })?;
    Ok(connection)
}

/// Accepts a connection that the peer opens.
pub(crate) fn accept(core: &Arc<LinkCore>, pipeline: Option<&Pipeline>, wait: Wait) -> Result<Connection> {
    start_demux(core)?;
    let id = match wait {
        Wait::No => try_accept(core, 0)?.ok_or_else(|| {
            core.count_idle_poll();
            Error::NoneWaiting
        })?,
        wait => core.wait(WaitReason::ACCEPT, wait, |own| try_accept(core, own))?,
    };
    Ok(Connection::new(core, id, pipeline))
}

fn try_accept(core: &LinkCore, own: u64) -> Result<Option<u64>> {
    let mut demux = core.demux(own);
    let empty = demux.pump(Stop::Lap)?;
    if demux.is_backed_up() {
        return Ok(None);
    }
    let Some(id) = demux.table.accept() else {
        return match core.recv_end() {
            Some(end) if empty => Err(end),
            _ => Ok(None),
        };
    };
    demux.queue(Packet::new(op::CONN_ACCEPT, [id]));
    demux.opened(core.context(), id);
    Ok(Some(id))
}

fn link_error(core: &LinkCore, end: LinkEnd) -> Error {
    match end {
        LinkEnd::Closed => Error::Closed,
        LinkEnd::PeerDead => Error::PeerDead,
        LinkEnd::PeerGone => Error::PeerGone,
        LinkEnd::Corrupt => core.corrupt_error(),
    }
}

impl Connection {
    fn new(core: &Arc<LinkCore>, id: u64, pipeline: Option<&Pipeline>) -> Self {
        core.open_handle();
        Self {
            core: core.clone(),
            id,
            sending: TimedMutex::new(()),
            reading: TimedMutex::new(Reading::default()),
            layers: pipeline
                .and_then(|pipeline| pipeline.of_connection(id))
                .map(|stack| Box::new(Layers { stack, rest: Mutex::default() })),
        }
    }

    /// Its number on the link: odd if the Primary opened it, even if the Secondary did.
    pub fn id(&self) -> u64 {
        self.id
    }

    fn error(&self, end: ConnEnd) -> Error {
        match end {
            ConnEnd::Closed => Error::Closed,
            ConnEnd::NotOpen => Error::Busy,
            ConnEnd::Refused(code) => Error::Refused { what: "the connection", code },
            ConnEnd::Broken { code, op } => Error::Refused { what: Packet::name(op), code },
            ConnEnd::Cut { received, size } => Error::Cut { received, size },
            ConnEnd::Link(end) => link_error(&self.core, end),
        }
    }

    // ---- traffic ----

    /// How urgent it is, its weight, and its rate, in the direction that this end sends. It begins with what the peer has
    /// asked for, or [`TrafficClass::default`].
    pub fn traffic_class(&self) -> TrafficClass {
        self.core.traffic_class(self.id)
    }

    /// Sets how urgent it is, its weight, and its rate, for messages that this end sends from now on. The peer is told the
    /// class and the weight, and uses them for its own direction unless it sets its own.
    ///
    /// ```
    /// # use std::thread;
    /// # use std::time::Duration;
    /// # use hqq::{AdvancedLink, StandardLink};
    /// use hqq::advanced::AdvancedOptions;
    /// use hqq::features::qos::{Class, Rate, TrafficClass};
    ///
    /// # let (primary, secondary) = StandardLink::pair()?;
    /// # let soon = Duration::from_secs(5);
    /// let options = AdvancedOptions::new().qos();
    /// # let theirs = options.clone();
    /// # let peer = thread::spawn(move || {
    /// #     let link = AdvancedLink::wait_for_negotiation(secondary, &theirs, soon)?;
    /// #     let bulk = link.accept_connection()?;
    /// #     bulk.recv()
    /// # });
    /// let link = AdvancedLink::negotiate(primary, &options, soon)?;
    /// let bulk = link.open_connection()?;
    /// let rate = Some(Rate { bytes_per_second: 10_000_000, burst: 1_000_000 });
    /// bulk.set_traffic_class(TrafficClass { class: Class::BULK, rate, ..TrafficClass::default() })?;
    /// bulk.send(b"when there is time")?;
    /// # assert_eq!(peer.join().unwrap()?, b"when there is time");
    /// # Ok::<(), hqq::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] where quality of service was not agreed on; [`Error::TrafficClass`] for a weight or rate of
    /// zero, or a burst that is less than a buffer and a slot.
    pub fn set_traffic_class(&self, class: TrafficClass) -> Result<()> {
        self.core.set_traffic_class(self.id, class)
    }

    /// How sending stands: what is queued, what credit there is, and how long it was missing. `None` where flow control was
    /// not agreed on.
    pub fn congestion(&self) -> Option<Congestion> {
        self.core.congestion(self.id)
    }

    // ---- sending ----

    /// Sends a message, waiting for room; one longer than a buffer goes in chunks.
    ///
    /// # Errors
    /// [`Error::TooLarge`] over this end's limit; [`Error::Closed`] if either side closed this direction,
    /// [`Error::Refused`] if the peer refused a chunk, or the link's end. After an error in the middle of a
    /// message this direction is closed, and the peer's reader sees [`Error::Cut`].
    pub fn send(&self, message: &[u8]) -> Result<()> {
        self.send_wait(message, Wait::Forever)
    }

    /// Sends a message, waiting for room no longer than `time`.
    ///
    /// # Errors
    /// As [`send`](Self::send), or [`Error::Timeout`].
    pub fn send_timeout(&self, message: &[u8], time: Duration) -> Result<()> {
        self.send_wait(message, Wait::from(time))
    }

    fn send_wait(&self, message: &[u8], wait: Wait) -> Result<()> {
        match &self.layers {
            None => self.send_made(wait, || Ok(message)),
            Some(layers) => self.send_made(wait, || {
                let frame =
                    layers.stack.encode_to_vec(message, &connection_context(self.id)).map_err(frame_error)?;
                self.core.note_framed(message.len(), frame.len());
                Ok(frame)
            }),
        }
    }

    /// Sends what `make` makes when the turn of this thread has come: messages go in the order in which they are made.
    fn send_made<M: AsRef<[u8]>>(&self, wait: Wait, make: impl FnOnce() -> Result<M>) -> Result<()> {
        let _sending = lock(&self.sending, wait, "another thread that sends on the connection")?;
        let made = make()?;
        let message = made.as_ref();
        let bounds = self.core.region().bounds();
        let (len, limit) = (message.len() as u64, bounds.max_message);
        if len > limit {
            return Err(Error::TooLarge { len, limit });
        }
        let size = bounds.geometry.buffer_size() as usize;
        let regulated = self.core.is_regulated();
        let mut copy_id = 0;
        let mut offset = 0;
        loop {
            let part = &message[offset..message.len().min(offset + size)];
            let chunk = ConnCopy {
                conn: self.id,
                copy_id,
                copy_size: len,
                transfer_size: part.len() as u64,
                transfer_offset: offset as u64,
                run: None,
            };
            let sent = match regulated {
                false => self.send_chunk(chunk, part, wait),
                true => self.core.send_regulated(chunk, part, wait, |end| self.error(end)),
            };
            match sent {
                Ok(id) => copy_id = id,
                Err(error) => {
                    if offset > 0 {
                        self.close(CloseHow::Write);
                    }
                    return Err(error);
                }
            }
            offset += part.len();
            if offset == message.len() {
                return Ok(());
            }
        }
    }

    fn send_chunk(&self, chunk: ConnCopy, part: &[u8], wait: Wait) -> Result<u64> {
        // A buffer once found is kept while the ring is full.
        let mut buffer = None;
        let sent = match self.try_chunk(&chunk, part, &mut buffer) {
            Err(error) if error.is_transient() => {
                self.core.wait(WaitReason::CONN_ROOM, wait, |own| {
                    // Whoever waits sorts for all: the peer may wait for us to make room.
                    self.core.demux(own).pump(Stop::Lap)?;
                    unless_transient(self.try_chunk(&chunk, part, &mut buffer))
                })
            }
            done => done,
        };
        if let Some(buffer) = buffer {
            self.core.give_buffer(buffer);
        }
        sent
    }

    fn try_chunk(&self, chunk: &ConnCopy, part: &[u8], kept: &mut Option<Buffer<'static>>) -> Result<u64> {
        if kept.is_none() && !part.is_empty() {
            let mut buffer = self.core.take_buffer(part.len()).or_else(|failure| {
                // Nobody waits for a buffer to send it where nobody listens.
                self.core.peek(|demux| demux.table.can_send(self.id)).map_err(|end| self.error(end))?;
                Err(failure)
            })?;
            buffer.bytes_mut().copy_from_slice(part);
            *kept = Some(buffer);
        }
        self.core.tick();
        let mut demux = self.core.demux(0);
        // From here on nobody can close it before the chunk is in the ring.
        demux.table.can_send(self.id).map_err(|end| self.error(end))?;
        demux.send_chunk(chunk, kept)
    }

    // ---- receiving ----

    fn reading(&self, wait: Wait) -> Result<TimedGuard<'_, Reading>> {
        lock(&self.reading, wait, "another thread that reads from the connection")
    }

    /// The next chunk, with how much of it has been read.
    fn next_chunk<'r>(
        &self,
        reading: &'r mut Reading,
        wait: Wait,
    ) -> Result<&'r mut (Chunk<ChunkData>, usize)> {
        if reading.chunk.is_none() {
            let pop = |own| {
                let mut demux = self.core.demux(own);
                demux.pump(Stop::Chunk(self.id))?;
                match demux.table.pop(self.id) {
                    Pop::Chunk(chunk) => {
                        demux.made_room();
                        demux.consumed(self.id, &chunk.data);
                        Ok(Some(chunk))
                    }
                    Pop::Empty => Ok(None),
                    Pop::End(end) => Err(self.error(end)),
                }
            };
            let chunk = match pop(0)? {
                Some(chunk) => chunk,
                None if wait == Wait::No => {
                    self.core.count_idle_poll();
                    return Err(Error::RingEmpty);
                }
                None => self.core.wait(WaitReason::CONN_DATA, wait, pop)?,
            };
            reading.chunk = Some((chunk, 0));
        }
        Ok(reading.chunk.as_mut().expect("just put there"))
    }

    /// A chunk has been read: its buffer goes home.
    fn done(&self, reading: &mut Reading) {
        if let Some((chunk, _)) = reading.chunk.take() {
            if let ChunkData::Pool(buffer) = chunk.data {
                self.core.give_buffer(buffer);
            }
        }
    }

    /// Receives a message, waiting for it.
    ///
    /// # Errors
    /// After what was sent has been received: [`Error::Closed`], [`Error::Cut`] if the peer stopped inside a
    /// message, [`Error::Refused`], or the link's end.
    pub fn recv(&self) -> Result<Vec<u8>> {
        self.recv_wait(Wait::Forever)
    }

    /// Receives a message, waiting for it no longer than `time`. What has come of it by then is kept for the next
    /// call.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`Error::Timeout`].
    pub fn recv_timeout(&self, time: Duration) -> Result<Vec<u8>> {
        self.recv_wait(time.into())
    }

    /// Receives a message if it is there, whole.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`Error::RingEmpty`].
    pub fn try_recv(&self) -> Result<Vec<u8>> {
        self.recv_wait(Wait::No)
    }

    fn recv_wait(&self, wait: Wait) -> Result<Vec<u8>> {
        self.next_message(&mut *self.reading(wait)?, wait)
    }

    /// The next message: what is left of one that a stream has begun, or else what comes.
    fn next_message(&self, reading: &mut Reading, wait: Wait) -> Result<Vec<u8>> {
        let Some(layers) = &self.layers else { return self.finish(reading, wait) };
        let rest = layers.rest().take();
        if let Some(rest) = rest {
            return Ok(rest);
        }
        let frame = self.finish(reading, wait)?;
        let limit = self.core.region().bounds().max_message;
        match layers.stack.decode(&frame, &connection_context(self.id), limit) {
            Ok(decoded) => Ok(match decoded.range() {
                // All of it but a header: no second copy.
                Some(range) if range.end == frame.len() => {
                    let mut message = frame;
                    message.drain(..range.start);
                    message
                }
                _ => decoded.into_vec(&frame),
            }),
            Err(error) => {
                self.core.refuse_frame(op::CONN_COPY);
                Err(frame_error(error))
            }
        }
    }

    /// Receives the rest of a message.
    fn finish(&self, reading: &mut Reading, wait: Wait) -> Result<Vec<u8>> {
        loop {
            let (chunk, read) = self.next_chunk(reading, wait)?;
            let last = chunk.is_last();
            let part = match (&mut chunk.data, *read) {
                // It has been copied already.
                (ChunkData::Own(own), 0) => std::mem::take(own).into_vec(),
                _ => bytes(chunk).get(*read..).unwrap_or(&[]).to_vec(),
            };
            self.done(reading);
            if reading.message.is_empty() {
                reading.message = part;
            } else {
                reading.message.extend_from_slice(&part);
            }
            if last {
                return Ok(std::mem::take(&mut reading.message));
            }
        }
    }

    /// Receives a message into a slice, waiting for it; how many bytes it has.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); [`Error::TooLarge`] if the slice is too small: the message stays.
    pub fn recv_into(&self, into: &mut [u8]) -> Result<usize> {
        let wait = Wait::Forever;
        let mut reading = self.reading(wait)?;
        if let Some(layers) = &self.layers {
            let message = self.next_message(&mut reading, wait)?;
            let Some(place) = into.get_mut(..message.len()) else {
                let error = Error::TooLarge { len: message.len() as u64, limit: into.len() as u64 };
                layers.rest().put_back(message);
                return Err(error);
            };
            place.copy_from_slice(&message);
            return Ok(message.len());
        }
        let begun = reading.message.len() as u64;
        let (chunk, read) = self.next_chunk(&mut reading, wait)?;
        let len = chunk.copy_size - chunk.offset - *read as u64 + begun;
        if len > into.len() as u64 {
            return Err(Error::TooLarge { len, limit: into.len() as u64 });
        }
        if begun == 0 && chunk.is_last() {
            // All of it is here: one copy.
            let whole = bytes(chunk).get(*read..).unwrap_or(&[]);
            into[..whole.len()].copy_from_slice(whole);
            let count = whole.len();
            self.done(&mut reading);
            return Ok(count);
        }
        let message = self.finish(&mut reading, wait)?;
        into[..message.len()].copy_from_slice(&message);
        Ok(message.len())
    }

    /// Reads bytes as a stream, across messages; 0 at the end.
    pub(crate) fn read(&self, into: &mut [u8]) -> Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let mut reading = self.reading(Wait::Forever)?;
        if let Some(layers) = &self.layers {
            let mut rest = std::mem::take(&mut *layers.rest());
            let count = rest.read(into, || self.next_message(&mut reading, Wait::Forever));
            *layers.rest() = rest;
            return count;
        }
        if !reading.message.is_empty() {
            let count = into.len().min(reading.message.len());
            into[..count].copy_from_slice(&reading.message[..count]);
            reading.message.drain(..count);
            return Ok(count);
        }
        loop {
            let (chunk, read) = match self.next_chunk(&mut reading, Wait::Forever) {
                Ok(chunk) => chunk,
                Err(Error::Closed) => return Ok(0),
                Err(error) => return Err(error),
            };
            let rest = bytes(chunk).get(*read..).unwrap_or(&[]);
            let count = rest.len().min(into.len());
            into[..count].copy_from_slice(&rest[..count]);
            *read += count;
            let finished = count == rest.len();
            if finished {
                self.done(&mut reading);
            }
            if count > 0 {
                return Ok(count);
            }
        }
    }

    /// Writes bytes as a stream; how many of them.
    pub(crate) fn write(&self, from: &[u8]) -> Result<usize> {
        let limit = MOST.min(self.core.region().bounds().max_message) as usize;
        let most = self.layers.as_ref().map_or(from.len(), |layers| layers.stack.max_message_len(limit));
        let part = &from[..from.len().min(most)];
        if !part.is_empty() {
            self.send_wait(part, Wait::Forever)?;
        }
        Ok(part.len())
    }

    // ---- closing ----

    /// Closes one half or both. After `Write` the peer receives what was sent, then [`Error::Closed`]; after
    /// `Read` this end receives nothing more and the peer's sends fail.
    pub fn shutdown(&self, how: Shutdown) {
        self.close(match how {
            Shutdown::Read => CloseHow::Read,
            Shutdown::Write => CloseHow::Write,
            Shutdown::Both => CloseHow::Both,
        });
    }

    fn close(&self, how: CloseHow) {
        let mut demux = self.core.demux(0);
        if let Some(how) = demux.table.close(self.id, how) {
            demux.queue(Packet::new(op::CONN_CLOSE, [self.id, how.number()]));
        }
        demux.woke = true;
    }
}

/// Locks what one thread at a time uses. `other` names in a timeout who uses it.
///
/// # Errors
/// [`Error::Busy`] if it is in use and the call does not wait, or [`Error::Timeout`].
pub(crate) fn lock<'t, T>(
    mutex: &'t TimedMutex<T>,
    wait: Wait,
    other: &'static str,
) -> Result<TimedGuard<'t, T>> {
    if let Some(guard) = mutex.lock(Wait::No) {
        return Ok(guard);
    }
    if wait == Wait::No {
        return Err(Error::Busy);
    }
    let began = Instant::now();
    mutex.lock(wait).ok_or_else(|| Error::Timeout { what: other, after: began.elapsed() })
}

/// The bytes of a chunk.
fn bytes(chunk: &Chunk<ChunkData>) -> &[u8] {
    chunk.data.bytes()
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Ok(mut reading) = self.reading(Wait::No) {
            self.done(&mut reading);
        }
        let mut demux = self.core.demux(0);
        let forgotten = demux.table.forget(self.id);
        if let Some(how) = forgotten.close {
            demux.queue(Packet::new(op::CONN_CLOSE, [self.id, how.number()]));
        }
        for chunk in forgotten.chunks {
            demux.consumed(self.id, &chunk.data);
            home(self.core.region(), chunk.data);
        }
        demux.made_room();
        demux.closed(self.core.context(), self.id);
        drop(demux);
        self.core.notify_peer(self.core.region().wake_senders());
        self.core.close_handle();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).finish_non_exhaustive()
    }
}
