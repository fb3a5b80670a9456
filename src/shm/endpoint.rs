//! The operations of one end that never wait, as methods of [`Region`]: loan, send, receive, give. They combine ring,
//! pool and payload, and check every received packet. They need neither an allocator nor the standard library.
//!
//! They do not ring doorbells. After a send call [`Region::wake_receivers`], after a receive or a give
//! [`Region::wake_senders`], and wake the seats that these return. If both ends only poll, this is not needed.
//!
//! ```
//! use core::ptr::NonNull;
//! use hqq::shm::layout::{Geometry, Modes, required_bytes, required_scratch};
//! use hqq::shm::endpoint::Incoming;
//! use hqq::shm::region::{Region, Setup};
//! use hqq::shm::words::Role;
//!
//! #[repr(align(4096))]
//! struct Memory([u8; 1 << 16]);
//! let mut memory = Box::new(Memory([0; 1 << 16]));
//! let base = NonNull::new(memory.0.as_mut_ptr()).unwrap();
//! let geometry = Geometry::new(8, 4, 64)?;
//! let len = required_bytes(&geometry, 4096)?;
//! let setup =
//!     Setup { geometry, modes: Modes::default(), page: 4096, epoch: 1, first_lap: 0, name: "mine" };
//! let mut ours = vec![0; required_scratch(&geometry)];
//! let mut theirs = ours.clone();
//! // SAFETY: the memory outlives both ends, and only they touch it.
//! let (primary, secondary) = unsafe {
//!     (
//!         Region::init(base, len, &setup, &mut ours)?,
//!         Region::attach(base, len, 4096, Role::Secondary, &mut theirs)?,
//!     )
//! };
//! let mut loan = primary.loan(60)?;
//! loan.bytes_mut().fill(7);
//! primary.send(loan, |_| {}).map_err(|(error, _)| error)?;
//! let Incoming::Message(message, _) = secondary.receive(|_| true, |_| {})? else { panic!() };
//! assert_eq!(message.len(), 60);
//! secondary.give_message(message);
//! # Ok::<(), hqq::Error>(())
//! ```

use crate::error::{Error, ErrorCode, Result};
use crate::shm::buffer::Buffer;
use crate::shm::layout::WaitMode;
use crate::shm::packet::{ConnCopy, Fault, INLINE_MAX, NO_BUFFER, Operation, Packet, Run, op};
use crate::shm::pool::Shortage;
use crate::shm::region::{Region, prefetch};
use crate::shm::ring::{Denied, Producer, Take, Ticket};
use crate::shm::words::Want;
use crate::sync::{AtomicU64, Ordering};

/// A message of up to [`INLINE_MAX`] bytes, copied out of its slot or to be sent in one.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct SlotBytes {
    words: [u64; 6],
    len: u8,
}

impl SlotBytes {
    /// The message.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::bytes_of(&self.words)[..self.len as usize]
    }

    /// The message, for writing.
    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::bytes_of_mut(&mut self.words)[..self.len as usize]
    }

    /// Makes a message of `len` zero bytes.
    ///
    /// # Panics
    /// If `len` exceeds [`INLINE_MAX`].
    #[inline(always)]
    pub fn zeroed(len: usize) -> Self {
        assert!(len <= INLINE_MAX);
        Self { words: [0; 6], len: len as u8 }
    }

    /// Copies `message`.
    ///
    /// # Panics
    /// If `message` is longer than [`INLINE_MAX`].
    #[inline(always)]
    pub fn of(message: &[u8]) -> Self {
        Self { words: gather(message), len: message.len() as u8 }
    }

    /// Shortens the message to `len` bytes, if it is longer.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len as usize {
            self.bytes_mut()[len..].fill(0);
            self.len = len as u8;
        }
    }
}

/// Packs up to 48 bytes into six words, padded with zeros. Each copy has a constant length: one of variable length
/// would cost more than the rest of a send.
///
/// # Panics
/// If there are more than 48 bytes.
#[inline(always)]
fn gather(bytes: &[u8]) -> [u64; INLINE_MAX / 8] {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_ne_bytes(word)
    };
    // The last word overlaps the one before; the shift removes the bytes of that one.
    let len = bytes.len();
    let last = || word(len - 8) >> (8 * (len.wrapping_neg() % 8));
    match len {
        0..8 => [short_word(bytes), 0, 0, 0, 0, 0],
        8 => [word(0), 0, 0, 0, 0, 0],
        9..=16 => [word(0), last(), 0, 0, 0, 0],
        17..=24 => [word(0), word(8), last(), 0, 0, 0],
        25..=32 => [word(0), word(8), word(16), last(), 0, 0],
        33..=40 => [word(0), word(8), word(16), word(24), last(), 0],
        41..=INLINE_MAX => [word(0), word(8), word(16), word(24), word(32), last()],
        _ => panic!("{len} bytes do not fit a slot"),
    }
}

/// Packs fewer than eight bytes into a word.
#[inline(always)]
fn short_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    for (place, &byte) in word.iter_mut().zip(bytes) {
        *place = byte;
    }
    u64::from_ne_bytes(word)
}

/// A message of the link itself.
#[derive(Debug)]
pub enum Payload<'a> {
    /// A private copy of a message that travelled in its slot.
    Slot(SlotBytes),
    /// A message in buffers of the pool.
    Pool(Buffer<'a>),
}

impl Payload<'_> {
    /// Size of the message, bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Slot(inline) => inline.len as usize,
            Self::Pool(buffer) => buffer.len(),
        }
    }

    /// Whether the message is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Result of [`Region::receive`].
#[derive(Debug)]
pub enum Incoming<'a> {
    /// A message of the link itself, and the position of its packet in the ring.
    Message(Payload<'a>, u64),
    /// A chunk of data on a connection, with its buffer. `None` for an empty message.
    ConnData(ConnCopy, Option<Buffer<'a>>),
    /// Any other operation.
    Control(Operation),
    /// A packet that was refused. Report it to the peer, unless the packet is an OpError.
    Refused(Fault),
    /// The opcode of the next packet, which the caller did not want. The packet stays in the ring.
    Other(u8),
    /// No packet is published.
    Empty,
    /// Other threads took each packet that this call read. Try again.
    Busy,
    /// Only tombstones so far. Their slots are free now: wake the senders and try again.
    Skipped,
}

/// A claimed slot that becomes a tombstone if a hook panics before it is published.
struct Claimed<'p> {
    producer: &'p Producer<'p>,
    ticket: Option<Ticket<'p>>,
}

impl Claimed<'_> {
    #[inline(always)]
    fn publish(mut self, packet: &Packet, before: impl FnOnce(&Ticket<'_>)) {
        if let Some(ticket) = self.ticket.take() {
            before(&ticket);
            self.producer.publish(ticket, packet);
        }
    }
}

impl Drop for Claimed<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.producer.abandon(ticket);
        }
    }
}

/// Adds `bytes` to the byte counter of the ticket's slot.
#[inline(always)]
fn count_bytes(words: &[AtomicU64], ticket: &Ticket<'_>, bytes: u64) {
    // As many words as slots, which is a power of two.
    let word = &words[ticket.position() as usize & (words.len() - 1)];
    // Only the holder of the slot stores to this word, so no read-modify-write is needed.
    word.store(word.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
}

#[cold]
fn shortage_error(shortage: Shortage, wanted: u64) -> Error {
    match shortage {
        Shortage::Exhausted(free) => Error::PoolExhausted { wanted, free },
        Shortage::Fragmented(longest) => Error::PoolFragmented { wanted, longest },
        Shortage::Busy => Error::Busy,
        Shortage::Impossible(what) => what.into(),
    }
}

impl<'a> Region<'a> {
    /// Allocates buffers for a message of `len` bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::PoolExhausted`], [`Error::PoolFragmented`] or [`Error::Busy`], which are
    /// temporary; [`Error::Corrupt`].
    #[inline(always)]
    pub fn loan(&self, len: usize) -> Result<Buffer<'a>> {
        if len as u64 > self.max_single() {
            return self.loan_run(len);
        }
        match self.out().pool.allocate_one() {
            Ok(run) => Ok(self.single(self.out(), run.first, len)),
            Err(shortage) => Err(shortage_error(shortage, 1)),
        }
    }

    #[cold]
    fn loan_run(&self, len: usize) -> Result<Buffer<'a>> {
        let limit = self.max_message();
        if len as u64 > limit {
            return Err(Error::TooLarge { len: len as u64, limit });
        }
        // The limit is at most the size of the pool, so this is at most the number of buffers.
        let wanted = self.layout().geometry.run_for(len as u64);
        match self.out().pool.allocate(wanted as u32) {
            Ok(run) => Ok(self.buffer(self.out(), run, len)),
            Err(shortage) => Err(shortage_error(shortage, wanted)),
        }
    }

    /// Claims a slot, calls `packet` with its CopyID to make the packet, and publishes that. Counts `bytes` as sent.
    /// Returns the CopyID. `seen` is called with the packet just before it is published.
    #[inline(always)]
    fn post(
        &self,
        bytes: u64,
        seen: impl FnOnce(&Packet),
        packet: impl FnOnce(u64) -> Packet,
    ) -> Result<u64> {
        let producer = self.producer();
        let ticket = producer.claim().map_err(|denied| self.denied(denied))?;
        let copy_id = self.copy_id(&ticket);
        let position = ticket.position();
        let claimed = Claimed { producer, ticket: Some(ticket) };
        let packet = packet(copy_id);
        seen(&packet);
        let next = producer.next_slot(position);
        claimed.publish(&packet, |ticket| count_bytes(self.out().byte_counters, ticket, bytes));
        prefetch(next);
        Ok(copy_id)
    }

    #[cold]
    fn denied(&self, denied: Denied) -> Error {
        match denied {
            Denied::Full => Error::RingFull { slots: self.layout().geometry.slots().into() },
            Denied::Busy => Error::Busy,
            Denied::Impossible(what) => what.into(),
        }
    }

    /// CopyID of the ticket's position, in 56 bits: 1 for the first position of the region (ruling 10).
    #[inline(always)]
    fn copy_id(&self, ticket: &Ticket<'_>) -> u64 {
        ticket.position().wrapping_add(self.copy_base()) << 8 >> 8
    }

    /// Sends a loan. `seen` is called with the packet just before it is published.
    ///
    /// # Errors
    /// [`Error::RingFull`], [`Error::Busy`] or [`Error::Corrupt`], with the loan.
    ///
    /// # Panics
    /// If `buffer` is not a loan of this end.
    #[inline(always)]
    pub fn send(&self, buffer: Buffer<'a>, seen: impl FnOnce(&Packet)) -> Result<(), (Error, Buffer<'a>)> {
        self.send_kept(&buffer, seen).map_err(|error| (error, buffer))
    }

    /// As [`send`](Self::send), but borrows the handle. If this succeeds, the caller must not use the handle any more.
    ///
    /// # Errors
    /// As [`send`](Self::send), without the loan.
    #[inline(always)]
    pub(crate) fn send_kept(&self, buffer: &Buffer<'a>, seen: impl FnOnce(&Packet)) -> Result<()> {
        let out = self.out();
        assert!(out.owns(buffer), "a loan of this end");
        let (run, len) = (buffer.run(), buffer.len() as u64);
        self.post(len, seen, |copy_id| {
            // An empty message names no buffer, so the run is freed at once.
            if len == 0 {
                out.pool.give(run);
                return Packet::new(op::STANDARD_LINK_COPY, [copy_id, NO_BUFFER, 0]);
            }
            out.pool.pass(run);
            let count = if run.count == 1 { 0 } else { run.count.into() };
            Packet::new(op::STANDARD_LINK_COPY, [copy_id, run.first.into(), len, count])
        })?;
        out.prefetch(self.layout().geometry.stride());
        Ok(())
    }

    /// Sends a message in the slot itself. `seen` is called with the packet just before it is published.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    #[inline(always)]
    pub fn send_inline(&self, message: &SlotBytes, seen: impl FnOnce(&Packet)) -> Result<()> {
        let len = u64::from(message.len);
        let [a, b, c, d, e, f] = message.words;
        self.post(len, seen, |copy_id| Packet {
            op: op::INLINE_COPY,
            operands: [len << 56 | copy_id, a, b, c, d, e, f],
        })?;
        Ok(())
    }

    /// Copies `message` and sends it: in the slot if it fits, else through the pool. `seen` is called with the packet
    /// just before it is published.
    ///
    /// # Errors
    /// As [`loan`](Self::loan) and [`send`](Self::send).
    #[inline]
    pub fn send_bytes(&self, message: &[u8], seen: impl FnOnce(&Packet)) -> Result<()> {
        if message.len() <= INLINE_MAX {
            return self.send_inline(&SlotBytes::of(message), seen);
        }
        let mut buffer = self.loan(message.len())?;
        buffer.bytes_mut().copy_from_slice(message);
        self.send(buffer, seen).map_err(|(error, buffer)| {
            self.give(buffer);
            error
        })
    }

    /// Sends a packet that names no buffer. `seen` is called with the packet just before it is published.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_packet(&self, packet: &Packet, seen: impl FnOnce(&Packet)) -> Result<()> {
        self.post(0, seen, |_| *packet).map(drop)
    }

    /// Sends a chunk of a copy on a connection. `buffer` is a loan with the chunk, or `None` for an empty message.
    /// `chunk.copy_id` is 0 for the first chunk of a copy, which gets a new id. Returns the id of the copy.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Panics
    /// As [`send`](Self::send).
    pub fn send_chunk(
        &self,
        chunk: &ConnCopy,
        buffer: Option<Buffer<'a>>,
        seen: impl FnOnce(&Packet),
    ) -> Result<u64, (Error, Option<Buffer<'a>>)> {
        let out = self.out();
        let stride = self.layout().geometry.stride();
        assert!(buffer.as_ref().is_none_or(|buffer| out.owns(buffer)), "a loan of this end");
        // BufferSize is the size of the whole run, so that the receiver frees all of it.
        let place = buffer.as_ref().map(|buffer| (buffer.run(), buffer.capacity() as u64));
        let sent = self.post(chunk.transfer_size, seen, |fresh| {
            let copy_id = if chunk.copy_id == 0 { fresh } else { chunk.copy_id };
            let (size, offset) = match place {
                Some((run, size)) if chunk.transfer_size > 0 => {
                    out.pool.pass(run);
                    (size, u64::from(run.first) * stride)
                }
                Some((run, _)) => {
                    out.pool.give(run);
                    (0, NO_BUFFER)
                }
                None => (0, NO_BUFFER),
            };
            let ConnCopy { conn, copy_size, transfer_size, transfer_offset, .. } = *chunk;
            let operands = [conn, copy_id, copy_size, transfer_size, transfer_offset, size, offset];
            Packet { op: op::CONN_COPY, operands }
        });
        match sent {
            Ok(fresh) if chunk.copy_id == 0 => Ok(fresh),
            Ok(_) => Ok(chunk.copy_id),
            Err(error) => Err((error, buffer)),
        }
    }

    /// Allocates a spare buffer for the next [loan](Self::loan), so that the loan need not wait for the cache line of
    /// the buffer's word. Call it when idle. Does nothing if there is a spare already or no buffer is free.
    #[inline(always)]
    pub fn prepare(&self) {
        self.out().prepare(self.layout().geometry.stride());
    }

    /// Whether only one thread of this end may send.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn is_single(&self) -> bool {
        self.out().pool.is_single()
    }

    /// Whether there is a spare buffer.
    #[cfg(feature = "std")]
    pub(crate) fn has_spare(&self) -> bool {
        self.out().pool.has_spare()
    }

    /// Frees the spare buffer. Returns whether there was one.
    pub fn give_spare(&self) -> bool {
        self.out().pool.give_spare()
    }

    /// Frees a loan that was not sent, or a message that has been read.
    ///
    /// # Panics
    /// If `buffer` belongs to another region.
    #[inline(always)]
    pub fn give(&self, buffer: Buffer<'a>) {
        self.direction_of(&buffer).pool.give(buffer.run());
    }

    /// Frees the buffers of a message, if it has any.
    #[inline(always)]
    pub fn give_message(&self, message: Payload<'a>) {
        if let Payload::Pool(buffer) = message {
            self.give(buffer);
        }
    }

    /// Fast path of [`receive`](Self::receive): takes the packet at the head cursor if it is a message of the link
    /// itself. Stores the message in `into`, so that it need not be moved again, and returns its position in the
    /// ring. `None` does not mean that the ring is empty: call `receive` then. If the packet is refused, `refused` is
    /// called with the fault.
    #[inline(always)]
    pub fn receive_plain<P: From<Payload<'a>>>(
        &self,
        into: &mut P,
        refused: impl FnOnce(Fault),
    ) -> Option<u64> {
        let (ticket, operation) = self.consumer().hold_at_head(Packet::is_plain)?;
        let inward = self.inward();
        let position = ticket.position();
        if operation == op::INLINE_COPY {
            let first = ticket.operand(0);
            let len = (first >> 56) as u8;
            if len as usize > self.max_inline() {
                return self.receive_uncommon(ticket, operation, into, refused);
            }
            let words = core::array::from_fn(|index| ticket.operand(1 + index));
            count_bytes(inward.byte_counters, &ticket, len.into());
            self.consumer().release(ticket);
            *into = Payload::Slot(SlotBytes { words, len }).into();
            return Some(position);
        }
        let (first, len) = (ticket.operand(1), ticket.operand(2));
        // One buffer of the pool, and a message that is not empty and fits into it.
        let single = first < inward.pool.buffers()
            && ticket.operand(3) <= 1
            && len.wrapping_sub(1) < self.max_single();
        let run = Run { first: first as u32, count: 1 };
        if !single {
            return self.receive_uncommon(ticket, operation, into, refused);
        }
        inward.prefetch_message(first as usize, self.layout().geometry.stride(), len as usize);
        if inward.pool.hold(run).is_err() {
            return self.receive_uncommon(ticket, operation, into, refused);
        }
        count_bytes(inward.byte_counters, &ticket, len);
        self.consumer().release(ticket);
        *into = Payload::Pool(self.single(inward, run.first, len as usize)).into();
        Some(position)
    }

    /// Finishes [`receive_plain`](Self::receive_plain) for a message that is empty, uses several buffers, or is
    /// refused.
    #[cold]
    fn receive_uncommon<P: From<Payload<'a>>>(
        &self,
        ticket: Ticket<'_>,
        operation: u8,
        into: &mut P,
        refused: impl FnOnce(Fault),
    ) -> Option<u64> {
        // Copies the packet again: operands that were loaded before are not used.
        let packet = self.consumer().copy(&ticket, operation);
        match self.finish_receive(ticket, &packet, |_| {}) {
            Incoming::Refused(fault) => refused(fault),
            Incoming::Message(payload, position) => {
                *into = payload.into();
                return Some(position);
            }
            _ => {}
        }
        None
    }

    /// Takes the next packet if its opcode is `wanted`, checks it, holds its buffers and releases its slot. `seen` is
    /// called with the packet after its slot was released.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    #[inline]
    pub fn receive(&self, wanted: impl Fn(u8) -> bool, seen: impl FnOnce(&Packet)) -> Result<Incoming<'a>> {
        match self.consumer().take_at_head(&wanted) {
            Some((ticket, packet)) => Ok(self.finish_receive(ticket, &packet, seen)),
            None => self.receive_slow(wanted, seen),
        }
    }

    #[cold]
    fn receive_slow(&self, wanted: impl Fn(u8) -> bool, seen: impl FnOnce(&Packet)) -> Result<Incoming<'a>> {
        let mut tombstones = 0;
        let taken = self.consumer().take(wanted, || tombstones += 1)?;
        if tombstones > 0 {
            self.counters(self.role()).tombstones.fetch_add(tombstones, Ordering::Relaxed);
        }
        Ok(match taken {
            Take::Packet(ticket, packet) => self.finish_receive(ticket, &packet, seen),
            _ if tombstones > 0 => Incoming::Skipped,
            Take::Other(op) => Incoming::Other(op),
            Take::Empty => Incoming::Empty,
            Take::Busy => Incoming::Busy,
        })
    }

    /// Checks a taken packet, holds its buffers, and releases its slot.
    #[inline(always)]
    fn finish_receive(
        &self,
        ticket: Ticket<'_>,
        packet: &Packet,
        seen: impl FnOnce(&Packet),
    ) -> Incoming<'a> {
        let consumer = self.consumer();
        let position = ticket.position();
        let incoming = self.examine(packet, position);
        let bytes = match &incoming {
            Incoming::Message(payload, _) => payload.len() as u64,
            Incoming::ConnData(copy, _) => copy.transfer_size,
            _ => 0,
        };
        if bytes > 0 {
            count_bytes(self.inward().byte_counters, &ticket, bytes);
        }
        consumer.release(ticket);
        if let Incoming::Refused(Fault { run: Some(run), .. }) = incoming {
            self.inward().pool.give(run);
        }
        seen(packet);
        incoming
    }

    /// Checks a packet and holds its buffers.
    #[inline]
    fn examine(&self, packet: &Packet, position: u64) -> Incoming<'a> {
        match Operation::check(packet, &self.bounds()) {
            Ok(operation) => self.hold_buffers(packet.op, operation, position),
            Err(mut fault) => {
                // Buffers that this process already holds must not be freed.
                fault.run = fault.run.filter(|&run| self.inward().pool.hold(run).is_ok());
                Incoming::Refused(fault)
            }
        }
    }

    /// Holds the buffers of a checked operation.
    #[inline(always)]
    fn hold_buffers(&self, op: u8, operation: Operation, position: u64) -> Incoming<'a> {
        let hold = |run: Run, len: u64, context| match self.inward().pool.hold(run) {
            Ok(()) => Ok(self.buffer(self.inward(), run, len as usize)),
            Err(_) => Err(Fault { code: ErrorCode::BufferOverflow, context, op, run: None }),
        };
        match operation {
            Operation::Inline { len, words, .. } => {
                Incoming::Message(Payload::Slot(SlotBytes { words, len }), position)
            }
            Operation::Copy { run: None, .. } => {
                Incoming::Message(Payload::Slot(SlotBytes::zeroed(0)), position)
            }
            Operation::Copy { copy_id, len, run: Some(run) } => match hold(run, len, copy_id) {
                Ok(buffer) => Incoming::Message(Payload::Pool(buffer), position),
                Err(fault) => Incoming::Refused(fault),
            },
            Operation::ConnCopy(copy) => match copy.run {
                None => Incoming::ConnData(copy, None),
                Some(run) => match hold(run, copy.transfer_size, copy.conn) {
                    Ok(buffer) => Incoming::ConnData(copy, Some(buffer)),
                    Err(fault) => Incoming::Refused(fault),
                },
            },
            control => Incoming::Control(control),
        }
    }

    /// Whether the ring has a free slot for a send. Loads only; the result may be outdated when it is returned.
    pub fn has_room(&self) -> bool {
        self.producer().has_room()
    }

    /// Whether there is a packet at the head cursor. Loads only; the result may be outdated when it is returned. Does
    /// not find packets below the cursor that recovery published again; [`receive`](Self::receive) does.
    pub fn has_packet(&self) -> bool {
        self.consumer().is_ready()
    }

    /// Copies the next packet, unchecked, and leaves it in the ring. `None` if there is none, or if another thread
    /// takes it during the call.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn peek(&self) -> Result<Option<Packet>> {
        Ok(self.consumer().peek()?)
    }

    /// Withdraws packets of this end that the peer has not taken and whose opcode is `unwanted`. Frees the buffers that
    /// `run_of` returns for them.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    #[cfg(feature = "std")]
    pub(crate) fn retract(
        &self,
        unwanted: impl Fn(u8) -> bool,
        run_of: impl Fn(&Packet) -> Option<Run>,
    ) -> Result<()> {
        let pool = &self.out().pool;
        Ok(self.producer().retract(unwanted, |packet| {
            if let Some(run) = run_of(packet) {
                pool.give(run);
            }
        })?)
    }

    /// Whether the ring has a packet of the peer whose opcode is `wanted`.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    #[cfg(feature = "std")]
    pub(crate) fn has(&self, wanted: impl Fn(u8) -> bool) -> Result<bool> {
        Ok(self.consumer().holds(wanted)?)
    }

    /// Call after a send. Returns the seats of the peer's side that the caller must wake, a bit for each seat. Always
    /// 0 in spin-only mode.
    #[inline(always)]
    #[must_use = "the announcements are cleared: no other process will wake these seats"]
    pub fn wake_receivers(&self) -> u64 {
        self.wake(Want::Data)
    }

    /// Call after a receive or a give. Returns the seats of the peer's side that the caller must wake, a bit for each
    /// seat. Always 0 in spin-only mode.
    #[inline(always)]
    #[must_use = "the announcements are cleared: no other process will wake these seats"]
    pub fn wake_senders(&self) -> u64 {
        self.wake(Want::Space)
    }

    /// Call after a recovery. Returns all sleeping seats of both sides, which the caller must wake, a bit for each
    /// seat. Always 0 in spin-only mode.
    #[must_use = "the announcements are cleared: no other process will wake these seats"]
    pub fn wake_all(&self) -> u64 {
        let ours = self.sleepers(self.role());
        match self.facts().modes.wait {
            WaitMode::Spin => 0,
            WaitMode::Adaptive => {
                self.wake_receivers() | self.wake_senders() | ours.check(Want::Data) | ours.check(Want::Space)
            }
        }
    }

    #[inline(always)]
    fn wake(&self, want: Want) -> u64 {
        self.peer_sleepers().map_or(0, |sleepers| sleepers.check(want))
    }
}
