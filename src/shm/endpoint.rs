//! Layer 2: what one end can do without waiting: loans, sends and receives over ring, pool and payload, with every
//! packet checked. Works on memory that the caller brings, without an allocator and without the standard library.
//!
//! Nothing here rings a doorbell. After a send call [`Region::wake_receivers`], after a receive or a give
//! [`Region::wake_senders`], and wake the seats that they name; a caller that only polls needs neither.
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

/// A small message, copied out of its slot.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct SlotBytes {
    words: [u64; 6],
    len: u8,
}

impl SlotBytes {
    /// The bytes.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::bytes_of(&self.words)[..self.len as usize]
    }

    /// The bytes, to be written.
    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::bytes_of_mut(&mut self.words)[..self.len as usize]
    }

    /// `len` zero bytes.
    ///
    /// # Panics
    /// If that is more than [`INLINE_MAX`].
    #[inline(always)]
    pub fn zeroed(len: usize) -> Self {
        assert!(len <= INLINE_MAX);
        Self { words: [0; 6], len: len as u8 }
    }

    /// A copy of `message`.
    ///
    /// # Panics
    /// If it is longer than [`INLINE_MAX`].
    #[inline(always)]
    pub fn of(message: &[u8]) -> Self {
        Self { words: gather(message), len: message.len() as u8 }
    }

    /// Uses only the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len as usize {
            self.bytes_mut()[len..].fill(0);
            self.len = len as u8;
        }
    }
}

/// Up to 48 bytes as six words, the rest of them zero. Without a copy whose length only the processor knows: such a
/// one costs more than the rest of a send.
///
/// # Panics
/// If there are more bytes.
#[inline(always)]
fn gather(bytes: &[u8]) -> [u64; INLINE_MAX / 8] {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_ne_bytes(word)
    };
    // The last word overlaps the one before; what that has is shifted out.
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

/// Fewer than eight bytes as a word.
#[inline(always)]
fn short_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    for (place, &byte) in word.iter_mut().zip(bytes) {
        *place = byte;
    }
    u64::from_ne_bytes(word)
}

/// A message on the link itself.
#[derive(Debug)]
pub enum Payload<'a> {
    /// Copied out of the slot.
    Slot(SlotBytes),
    /// In the pool.
    Pool(Buffer<'a>),
}

impl Payload<'_> {
    /// Its bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Slot(inline) => inline.len as usize,
            Self::Pool(buffer) => buffer.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What was received.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// A message, and its position in the ring.
    Message(Payload<'a>, u64),
    /// Data on a connection, and the buffer with it.
    ConnData(ConnCopy, Option<Buffer<'a>>),
    /// Any other operation.
    Control(Operation),
    /// A packet that was refused. Tell the peer, unless it is an OpError.
    Refused(Fault),
    /// The next packet's opcode was not wanted; it stays.
    Other(u8),
    /// Nothing there.
    Empty,
    /// Other threads were faster again and again; try once more.
    Busy,
    /// Only tombstones so far, whose slots are free now: wake the senders, and try once more.
    Skipped,
}

/// A claimed slot that becomes a tombstone if a panicking hook keeps it from being published.
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

#[inline(always)]
fn count_bytes(words: &[AtomicU64], ticket: &Ticket<'_>, bytes: u64) {
    // There are as many as slots, a power of two.
    let word = &words[ticket.position() as usize & (words.len() - 1)];
    // Only the ticket's holder stores to this word, so no read-modify-write is needed.
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
    /// Takes buffers for a message of `len` bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::PoolExhausted`], [`Error::PoolFragmented`] or [`Error::Busy`], which pass;
    /// [`Error::Corrupt`].
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
        // At most the whole pool, as the limit is at most its bytes.
        let wanted = self.layout().geometry.run_for(len as u64);
        match self.out().pool.allocate(wanted as u32) {
            Ok(run) => Ok(self.buffer(self.out(), run, len)),
            Err(shortage) => Err(shortage_error(shortage, wanted)),
        }
    }

    /// Claims a slot, lets `packet` make the packet from its CopyID, and publishes it.
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

    /// The CopyID that goes with a position: 1 for the first of the region (ruling 10), in 56 bits.
    #[inline(always)]
    fn copy_id(&self, ticket: &Ticket<'_>) -> u64 {
        ticket.position().wrapping_add(self.copy_base()) << 8 >> 8
    }

    /// Sends a loan. `seen` is shown the packet just before it is published.
    ///
    /// # Errors
    /// [`Error::RingFull`], [`Error::Busy`] or [`Error::Corrupt`], with the loan.
    ///
    /// # Panics
    /// If the buffer is not a loan of this direction.
    #[inline(always)]
    pub fn send(&self, buffer: Buffer<'a>, seen: impl FnOnce(&Packet)) -> Result<(), (Error, Buffer<'a>)> {
        self.send_kept(&buffer, seen).map_err(|error| (error, buffer))
    }

    /// As [`send`](Self::send). The handle stays with the caller, who must forget it if this succeeds.
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub(crate) fn send_kept(&self, buffer: &Buffer<'a>, seen: impl FnOnce(&Packet)) -> Result<()> {
        let out = self.out();
        assert!(out.owns(buffer), "a loan of this end");
        let (run, len) = (buffer.run(), buffer.len() as u64);
        self.post(len, seen, |copy_id| {
            // A run that carries nothing comes home at once: an empty message names no buffer.
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

    /// Sends up to [`INLINE_MAX`] bytes in the slot itself.
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

    /// Copies a message in and sends it: in the slot if it fits, else through the pool.
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

    /// Sends a packet that carries no buffer.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_packet(&self, packet: &Packet, seen: impl FnOnce(&Packet)) -> Result<()> {
        self.post(0, seen, |_| *packet).map(drop)
    }

    /// Sends a chunk of a connection's copy in a loan; `None` for an empty message. `copy_id` is the copy's, or 0
    /// for its first chunk. The copy's id.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Panics
    /// As there.
    pub fn send_chunk(
        &self,
        chunk: &ConnCopy,
        buffer: Option<Buffer<'a>>,
        seen: impl FnOnce(&Packet),
    ) -> Result<u64, (Error, Option<Buffer<'a>>)> {
        let out = self.out();
        let stride = self.layout().geometry.stride();
        assert!(buffer.as_ref().is_none_or(|buffer| out.owns(buffer)), "a loan of this end");
        // BufferSize is the run's whole room, so that the receiver gives all of it back.
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

    /// Takes the buffer of the next [loan](Self::loan) ahead of time, so that the loan need not wait for the line that says
    /// who holds it: for when there is nothing else to do. Nothing happens if one has been taken already, or if none is
    /// free.
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

    /// Whether a buffer has been taken ahead of time.
    #[cfg(feature = "std")]
    pub(crate) fn has_spare(&self) -> bool {
        self.out().pool.has_spare()
    }

    /// Gives back what [`prepare`](Self::prepare) took, if no loan has used it. Whether there was anything.
    pub fn give_spare(&self) -> bool {
        self.out().pool.give_spare()
    }

    /// Gives buffers back to their pool: a loan unsent, or a message that has been read.
    ///
    /// # Panics
    /// If they are another region's.
    #[inline(always)]
    pub fn give(&self, buffer: Buffer<'a>) {
        self.direction_of(&buffer).pool.give(buffer.run());
    }

    /// Gives a message's buffers back, if it has any.
    #[inline(always)]
    pub fn give_message(&self, message: Payload<'a>) {
        if let Payload::Pool(buffer) = message {
            self.give(buffer);
        }
    }

    /// Takes the next packet if it is a message on the link itself, where the head mark says: the usual case, without
    /// detours. Puts the message into `into`, where it stays without being moved once more, and returns its position in
    /// the ring. `None` says nothing; a packet that was refused meanwhile is shown to `refused`.
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
        // One buffer of the pool, and neither an empty message nor one that is too long for it.
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

    /// A message that is empty, takes several buffers, or is refused.
    #[cold]
    fn receive_uncommon<P: From<Payload<'a>>>(
        &self,
        ticket: Ticket<'_>,
        operation: u8,
        into: &mut P,
        refused: impl FnOnce(Fault),
    ) -> Option<u64> {
        // A copy of its own: nothing that was looked at before is used.
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

    /// Takes the next packet whose opcode is `wanted`, checks it and holds its buffers. `seen` is shown it once its
    /// slot is free again.
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

    /// Checks a packet and holds the buffers that it names.
    #[inline]
    fn examine(&self, packet: &Packet, position: u64) -> Incoming<'a> {
        match Operation::check(packet, &self.bounds()) {
            Ok(operation) => self.hold_buffers(packet.op, operation, position),
            Err(mut fault) => {
                // Buffers that somebody here holds are not the packet's to give.
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

    /// Whether a send is worth trying, as far as the ring goes. Only loads; stale as soon as it returns.
    pub fn has_room(&self) -> bool {
        self.producer().has_room()
    }

    /// Whether a receive is worth trying. Only loads; stale as soon as it returns. Packets that recovery put back
    /// behind others are found by [`receive`](Self::receive) alone.
    pub fn has_packet(&self) -> bool {
        self.consumer().is_ready()
    }

    /// A copy of the next packet, unchecked, which stays where it is; `None` if there is none or another thread is
    /// just taking it.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn peek(&self) -> Result<Option<Packet>> {
        Ok(self.consumer().peek()?)
    }

    /// Takes back packets of this end that nobody has received, those whose opcode is `unwanted`, and gives home the
    /// buffers that `run_of` finds in them.
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

    /// Whether any packet of the other end's, with an opcode that is `wanted`, has not been received.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    #[cfg(feature = "std")]
    pub(crate) fn has(&self, wanted: impl Fn(u8) -> bool) -> Result<bool> {
        Ok(self.consumer().holds(wanted)?)
    }

    /// After something was sent: the seats of the other side to wake, a bit each. Always 0 in spin-only mode.
    #[inline(always)]
    #[must_use = "the seats have been struck off: nobody else will wake them"]
    pub fn wake_receivers(&self) -> u64 {
        self.wake(Want::Data)
    }

    /// After a slot or buffer was given back: the seats of the other side to wake, a bit each.
    #[inline(always)]
    #[must_use = "the seats have been struck off: nobody else will wake them"]
    pub fn wake_senders(&self) -> u64 {
        self.wake(Want::Space)
    }

    /// After a recovery: the seats of both sides that sleep, whatever they wait for, a bit each.
    #[must_use = "the seats have been struck off: nobody else will wake them"]
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
