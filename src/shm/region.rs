//! One end of a region: creating a region, attaching to one, recovering a dead peer, leaving. The unsafe code that
//! casts memory to words is in this file.
//!
//! A [`Region`] keeps a private copy of the geometry, so later changes of the superblock have no effect.

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::AtomicPtr;

use crate::error::{Error, Result};
use crate::shm::buffer::Buffer;
use crate::shm::layout::{CURSOR_WORDS, DirectionLayout, Geometry, Layout, WaitMode, required_scratch};
use crate::shm::packet::{Bounds, INLINE_MAX, Run};
use crate::shm::pool::Pool;
use crate::shm::recover::{DirectionWords, Recovered, recover};
use crate::shm::ring::{Consumer, Producer};
use crate::shm::seats::Seats;
use crate::shm::sleepers::Sleepers;
use crate::shm::superblock;
pub use crate::shm::superblock::{Facts, Setup};
use crate::shm::words::{
    BufferWord, Holder, Lap, LeaseWord, Role, SEATS, SeatWord, SideCounters, Slot, Stamp, Superblock,
};
use crate::sync::{AtomicU64, Ordering, require_memory};

/// Words of a region in mapped memory. [`Region`] and observers read the region through them.
#[derive(Clone, Copy, Debug)]
pub struct Views<'a> {
    base: NonNull<u8>,
    layout: Layout,
    memory: PhantomData<&'a Superblock>,
}

// SAFETY: Views gives access to atomic words only.
unsafe impl Send for Views<'_> {}
// SAFETY: as above.
unsafe impl Sync for Views<'_> {}

/// One end of a region: the mapped words, this process's seat, and its private words.
#[derive(Debug)]
pub struct Region<'a> {
    views: Views<'a>,
    facts: Facts,
    role: Role,
    holder: Holder,
    limit: u64,
    max_inline: usize,
    /// Maximum size of a message in one buffer, bytes.
    max_single: u64,
    /// Added to a position to get its CopyID.
    copy_base: u64,
    producer: Producer<'a>,
    consumer: Consumer<'a>,
    out: Direction<'a>,
    inward: Direction<'a>,
    /// Announcements of the peer's side. `None` in spin-only mode.
    peer_sleepers: Option<Sleepers<'a>>,
    /// Not `Sync`: in the single modes only one thread may send, and only one may receive.
    thread: PhantomData<core::cell::Cell<()>>,
}

impl<'a> Views<'a> {
    /// Checks the region of `len` bytes at `base` as [`Region::inspect`] does. Does not join a seat.
    ///
    /// # Errors
    /// As [`Region::inspect`].
    ///
    /// # Safety
    /// The memory must be valid for reads during `'a`, and for writes if the caller stores to a word. Stores must
    /// keep the protocol as long as an end of the region gives out plain slices of payload.
    pub unsafe fn new(base: NonNull<u8>, len: u64, page: u64) -> Result<Self> {
        // SAFETY: the caller keeps the contract, which is the same.
        let facts = unsafe { Region::inspect(base, len, page) }?;
        Ok(Self { base, layout: Layout::new(facts.geometry, page)?, memory: PhantomData })
    }

    /// Offsets of the region's sections.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The superblock.
    #[inline(always)]
    pub fn superblock(&self) -> &'a Superblock {
        // SAFETY: the layout begins with the superblock's page; it was checked to fit into the memory, which is valid
        // for 'a.
        unsafe { self.base.cast::<Superblock>().as_ref() }
    }

    #[inline(always)]
    fn offsets(&self, direction: usize) -> &DirectionLayout {
        &self.layout.directions[direction]
    }

    #[inline(always)]
    fn words(&self, offset: u64, count: u32) -> &'a [AtomicU64] {
        // SAFETY: callers pass an offset and count of one section of the checked layout; sections are aligned
        // to 64 bytes and valid for 'a; words are only ever reached as atomics.
        unsafe {
            let at = self.base.add(offset as usize).cast::<AtomicU64>();
            core::slice::from_raw_parts(at.as_ptr(), count as usize)
        }
    }

    /// Slots of the ring of a direction.
    #[inline(always)]
    pub fn slots(&self, direction: usize) -> &'a [Slot] {
        // SAFETY: as in `words`, for slots, which are 64 bytes and aligned to it.
        unsafe {
            let at = self.base.add(self.offsets(direction).ring as usize).cast::<Slot>();
            core::slice::from_raw_parts(at.as_ptr(), self.layout.geometry.slots() as usize)
        }
    }

    /// Words of the buffers of a direction.
    #[inline(always)]
    pub fn buffer_words(&self, direction: usize) -> &'a [AtomicU64] {
        self.words(self.offsets(direction).pool, self.layout.geometry.buffers())
    }

    /// Lease of the pool of a direction.
    #[inline(always)]
    pub fn lease(&self, direction: usize) -> &'a AtomicU64 {
        &self.words(self.offsets(direction).lease, 1)[0]
    }

    /// Counters of payload bytes sent through each slot of a direction. Only the holder of a claimed slot stores to
    /// its word.
    #[inline(always)]
    pub fn byte_counters_sent(&self, direction: usize) -> &'a [AtomicU64] {
        self.words(self.offsets(direction).sent, self.layout.geometry.slots())
    }

    /// Counters of payload bytes received through each slot of a direction. Only the holder of a taken slot stores to
    /// its word.
    #[inline(always)]
    pub fn byte_counters_received(&self, direction: usize) -> &'a [AtomicU64] {
        self.words(self.offsets(direction).received, self.layout.geometry.slots())
    }

    /// Start of the payload of a direction, in a region that is not protected.
    fn payload(&self, direction: usize) -> NonNull<u8> {
        // SAFETY: the offset is one of the checked layout, which the memory holds.
        unsafe { self.base.add(self.offsets(direction).buffers as usize) }
    }

    /// Seats of the region.
    pub fn seats(&self) -> Seats<'a> {
        Seats::new(&self.superblock().seats)
    }

    /// Writes every control word of a new region; the ready word last.
    fn write(&self, setup: &Setup<'_>, creator: SeatWord) {
        superblock::write(self.superblock(), setup, &self.layout, creator);
        let store = |word: &AtomicU64, value| word.store(value, Ordering::Relaxed);
        for direction in 0..2 {
            let free = Stamp::free(Lap::new(setup.first_lap)).word();
            for slot in self.slots(direction) {
                store(&slot.stamp, free);
                slot.operands.iter().for_each(|word| store(word, 0));
            }
            self.buffer_words(direction).iter().for_each(|word| store(word, BufferWord::FREE.word()));
            store(self.lease(direction), LeaseWord::VACANT.word());
            let tallies =
                self.byte_counters_sent(direction).iter().chain(self.byte_counters_received(direction));
            tallies.for_each(|word| store(word, 0));
        }
        superblock::publish(self.superblock());
    }
}

/// Indices into the private words of a direction. Those of sending and of receiving are in separate arrays.
mod private {
    pub const TAIL: usize = 0;
    pub const HINT: usize = 8;
    pub const SPARE: usize = 9;
    /// Hint and spare of the pool from which this end does not allocate.
    pub const UNUSED: usize = 10;
    pub const HEAD: usize = 0;
    pub const FLOOR: usize = 1;
}

impl<'a> Region<'a> {
    /// Creates a region in the `len` bytes at `base` and joins seat 0 as its Primary (the specification's
    /// `openStandardLink`, first half). Overwrites the memory. `scratch` is private memory of at least
    /// [`required_scratch`] words.
    ///
    /// # Errors
    /// [`Error::Geometry`]; [`Error::Misaligned`] unless `base` is at the start of a page; [`Error::TooSmallMemory`]
    /// for the memory or the scratch; [`Error::Unsupported`] for a protected region.
    ///
    /// # Safety
    /// The memory must be valid for reads and writes during `'a`, and only this protocol may access it: other processes
    /// that map it are attached to the region, and are trusted with its payload.
    pub unsafe fn init(
        base: NonNull<u8>,
        len: u64,
        setup: &Setup<'_>,
        scratch: &'a mut [u64],
    ) -> Result<Self> {
        if setup.modes.protected {
            return Err(Error::Unsupported { what: PAYLOAD_ELSEWHERE });
        }
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { Self::init_seated(base, len, setup, scratch, false) }
    }

    /// As [`init`](Self::init). `locked` tells whether the creator holds the lock on the byte of seat 0.
    ///
    /// # Safety
    /// As [`init`](Self::init).
    unsafe fn init_seated(
        base: NonNull<u8>,
        len: u64,
        setup: &Setup<'_>,
        scratch: &'a mut [u64],
        locked: bool,
    ) -> Result<Self> {
        let layout = Layout::new(setup.geometry, setup.page)?;
        check_memory(base, len, &layout)?;
        let scratch = private_words(scratch, &setup.geometry)?;
        let facts = Facts {
            geometry: setup.geometry,
            modes: setup.modes,
            page: setup.page,
            epoch: setup.epoch,
            first_lap: Lap::new(setup.first_lap).number(),
        };
        let holder = Holder::new(0, 1);
        let views = Views { base, layout, memory: PhantomData };
        views.write(setup, SeatWord::joined(holder, Role::Primary, locked));
        Self::open(views, facts, Role::Primary, holder, scratch)
    }

    /// Reads and checks the parameters of the region at `base` without attaching. `page` is the page size of this
    /// machine, bytes.
    ///
    /// # Errors
    /// [`Error::Misaligned`], [`Error::TooSmallMemory`], [`Error::ForeignMagic`], [`Error::NotReady`],
    /// [`Error::FormatVersion`], [`Error::PageSize`], [`Error::Geometry`], [`Error::Corrupt`].
    ///
    /// # Safety
    /// The memory must be valid for reads of `len` bytes.
    pub unsafe fn inspect(base: NonNull<u8>, len: u64, page: u64) -> Result<Facts> {
        require_memory();
        if base.addr().get() % 64 != 0 {
            let address = base.addr().get() as u64;
            return Err(Error::Misaligned { what: "the region", address, align: page });
        }
        if len < size_of::<Superblock>() as u64 {
            let need = size_of::<Superblock>() as u64;
            return Err(Error::TooSmallMemory { what: "the region", have: len, need });
        }
        // SAFETY: the checks above make sure of alignment and length; the caller of validity.
        let superblock = unsafe { base.cast::<Superblock>().as_ref() };
        let facts = superblock::read(superblock, page)?;
        check_memory(base, len, &Layout::new(facts.geometry, page)?)?;
        Ok(facts)
    }

    /// Attaches to the region at `base` on the side of `role`: checks it and joins a seat (the specification's
    /// `openStandardLink`, second half). `page` is the page size of this machine, bytes. `scratch` is private memory
    /// of at least [`required_scratch`] words for the geometry that [`inspect`](Self::inspect) returns.
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect); [`Error::TooSmallMemory`] for the scratch; [`Error::NoSeat`];
    /// [`Error::Unsupported`] for a protected region.
    ///
    /// # Safety
    /// As [`init`](Self::init). The memory need not hold a region: then this fails.
    pub unsafe fn attach(
        base: NonNull<u8>,
        len: u64,
        page: u64,
        role: Role,
        scratch: &'a mut [u64],
    ) -> Result<Self> {
        // SAFETY: the caller's memory is valid for reads.
        if unsafe { Self::inspect(base, len, page) }?.modes.protected {
            return Err(Error::Unsupported { what: PAYLOAD_ELSEWHERE });
        }
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { Self::attach_seated(base, len, page, role, scratch, |_| Some(false)) }
    }

    /// As [`attach`](Self::attach), in a seat that `prepare` accepts; see [`Seats::join`].
    ///
    /// # Safety
    /// As [`attach`](Self::attach).
    unsafe fn attach_seated(
        base: NonNull<u8>,
        len: u64,
        page: u64,
        role: Role,
        scratch: &'a mut [u64],
        prepare: impl FnMut(usize) -> Option<bool>,
    ) -> Result<Self> {
        // SAFETY: the caller's memory is valid for reads.
        let facts = unsafe { Self::inspect(base, len, page) }?;
        let layout = Layout::new(facts.geometry, page)?;
        let scratch = private_words(scratch, &facts.geometry)?;
        let views = Views { base, layout, memory: PhantomData };
        let holder = views.seats().join(role, prepare)?.ok_or(Error::NoSeat { seats: SEATS })?;
        Self::open(views, facts, role, holder, scratch).inspect_err(|_| {
            // This seat holds nothing yet.
            let _ = views.seats().leave(holder);
        })
    }

    /// Makes an end with its private words, the cursors at the present positions of the rings.
    fn open(
        views: Views<'a>,
        facts: Facts,
        role: Role,
        holder: Holder,
        scratch: &'a [AtomicU64],
    ) -> Result<Self> {
        let (out, inward) = (role.direction(), role.other().direction());
        let (cursors, lent) = scratch.split_at(2 * CURSOR_WORDS);
        let (sending, receiving) = cursors.split_at(CURSOR_WORDS);
        let lent = lent.split_at(facts.geometry.buffers() as usize);
        scratch.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        sending[private::TAIL].store(Producer::scan_for_tail(views.slots(out))?, Ordering::Relaxed);
        let head = Consumer::scan_for_head(views.slots(inward))?;
        receiving[private::HEAD].store(head, Ordering::Relaxed);
        receiving[private::FLOOR].store(head, Ordering::Relaxed);
        let ring = facts.modes.ring;
        let direction_of = |index: usize| {
            let sends = index == out;
            let single = if sends { ring.single_producer() } else { ring.single_consumer() };
            let [hint, spare] = if sends { [private::HINT, private::SPARE] } else { [private::UNUSED; 2] };
            let words = views.buffer_words(index);
            let lent = if index == 0 { lent.0 } else { lent.1 };
            Direction {
                pool: Pool::new(
                    words,
                    views.lease(index),
                    lent,
                    &sending[hint],
                    &sending[spare],
                    holder,
                    single,
                ),
                payload: AtomicPtr::new(views.payload(index).as_ptr()),
                byte_counters: if sends {
                    views.byte_counters_sent(out)
                } else {
                    views.byte_counters_received(inward)
                },
                pool_id: Buffer::pool_id_of(views.base.addr().get(), index),
            }
        };
        let sides = &views.superblock().sides;
        let adaptive = facts.modes.wait == WaitMode::Adaptive;
        let (tail, head, floor) =
            (&sending[private::TAIL], &receiving[private::HEAD], &receiving[private::FLOOR]);
        Ok(Self {
            views,
            facts,
            role,
            holder,
            limit: u64::MAX,
            max_inline: INLINE_MAX,
            max_single: facts.geometry.buffer_size(),
            // Ruling 10: the first position of the region has CopyID 1.
            copy_base: 1u64.wrapping_sub(facts.first_lap << facts.geometry.slots().trailing_zeros()),
            producer: Producer::new(views.slots(out), tail, holder, ring.single_producer()),
            consumer: Consumer::new(views.slots(inward), head, floor, holder, ring.single_consumer()),
            out: direction_of(out),
            inward: direction_of(inward),
            peer_sleepers: adaptive.then(|| Sleepers::new(&sides[role.other().direction()].sleepers)),
            thread: PhantomData,
        })
    }

    /// Limits the size of messages that this end sends or accepts to `limit` bytes.
    pub fn limit_messages(&mut self, limit: u64) {
        self.limit = limit;
        self.max_inline = INLINE_MAX.min(usize::try_from(limit).unwrap_or(INLINE_MAX));
        self.max_single = limit.min(self.facts.geometry.buffer_size());
    }

    /// Maximum size of a message in one buffer, bytes.
    #[inline(always)]
    pub(crate) fn max_single(&self) -> u64 {
        self.max_single
    }

    /// Number that is added to a position to get its CopyID.
    #[inline(always)]
    pub(crate) fn copy_base(&self) -> u64 {
        self.copy_base
    }

    /// Maximum size of a message that travels in a slot, bytes.
    #[inline(always)]
    pub fn max_inline(&self) -> usize {
        self.max_inline
    }

    /// Maximum size of a message, bytes: the limit of this end, or the size of a pool if that is less.
    #[inline(always)]
    pub fn max_message(&self) -> u64 {
        let geometry = &self.views.layout.geometry;
        self.limit.min(geometry.run_bytes(geometry.buffers()))
    }

    /// Parameters of the region: a private copy.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Offsets of the region's sections: a private copy.
    pub fn layout(&self) -> &Layout {
        &self.views.layout
    }

    /// Role of this end.
    #[inline(always)]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Seat and generation of this end.
    #[inline(always)]
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// Limits that received packets are checked against.
    #[inline(always)]
    pub fn bounds(&self) -> Bounds {
        Bounds { geometry: self.views.layout.geometry, max_message: self.limit }
    }

    /// Words of the region.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn views(&self) -> &Views<'a> {
        &self.views
    }

    /// The superblock.
    #[inline(always)]
    pub(crate) fn superblock(&self) -> &Superblock {
        self.views.superblock()
    }

    /// The seat with number `index`.
    ///
    /// # Panics
    /// If `index` exceeds 7.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn seat(&self, index: usize) -> &crate::shm::words::Seat {
        &self.superblock().seats[index]
    }

    /// Counters of a side.
    pub(crate) fn counters(&self, side: Role) -> &SideCounters {
        &self.superblock().counters[side.direction()]
    }

    /// Metrics of a side.
    #[cfg(feature = "std")]
    pub(crate) fn metrics(&self, side: Role) -> &crate::shm::words::SideMetrics {
        &self.superblock().metrics[side.direction()]
    }

    /// Sleepers that a side has announced.
    #[inline(always)]
    pub(crate) fn sleepers(&self, side: Role) -> Sleepers<'_> {
        Sleepers::new(&self.superblock().sides[side.direction()].sleepers)
    }

    /// Sleepers that the peer's side has announced. `None` in spin-only mode.
    #[inline(always)]
    pub(crate) fn peer_sleepers(&self) -> Option<&Sleepers<'a>> {
        self.peer_sleepers.as_ref()
    }

    /// Sending end of the ring of the outgoing direction.
    #[inline(always)]
    pub(crate) fn producer(&self) -> &Producer<'a> {
        &self.producer
    }

    /// A number that changes with each packet that this end sends.
    #[cfg(feature = "std")]
    pub(crate) fn sent_so_far(&self) -> u64 {
        self.producer().cursor()
    }

    /// A number that grows by one with each packet that this end takes at the head of the ring.
    #[cfg(feature = "std")]
    pub(crate) fn received_so_far(&self) -> u64 {
        self.consumer().cursor()
    }

    /// Whether the peer has received and released the packet that this end sent at `position`. Loads only.
    #[cfg(feature = "std")]
    pub(crate) fn is_taken(&self, position: u64) -> bool {
        self.producer().is_taken(position)
    }

    /// Receiving end of the ring of the incoming direction.
    #[inline(always)]
    pub(crate) fn consumer(&self) -> &Consumer<'a> {
        &self.consumer
    }

    /// The outgoing direction, from whose pool this end allocates.
    #[inline(always)]
    pub(crate) fn out(&self) -> &Direction<'a> {
        &self.out
    }

    /// The incoming direction, from whose pool this end holds received buffers.
    #[inline(always)]
    pub(crate) fn inward(&self) -> &Direction<'a> {
        &self.inward
    }

    /// The direction whose pool `buffer` belongs to.
    ///
    /// # Panics
    /// If `buffer` belongs to another region.
    #[inline(always)]
    pub(crate) fn direction_of(&self, buffer: &Buffer<'_>) -> &Direction<'a> {
        if self.inward.owns(buffer) {
            return &self.inward;
        }
        assert!(self.out.owns(buffer), "a buffer of this region");
        &self.out
    }

    /// Makes a handle to the memory of `run`, which this end holds in the pool of `direction`. The first `len` bytes
    /// are in use.
    ///
    /// # Panics
    /// If the run does not lie in the pool, or is shorter than `len` bytes.
    #[inline]
    pub(crate) fn buffer(&self, direction: &Direction<'a>, run: Run, len: usize) -> Buffer<'a> {
        let geometry = &self.views.layout.geometry;
        let capacity = geometry.run_bytes(run.count) as usize;
        assert!(run.indices().end <= geometry.buffers() as usize && len <= capacity);
        let offset = u64::from(run.first) * geometry.stride();
        let payload = direction.payload.load(Ordering::Relaxed);
        // SAFETY: the payload pointer is not null and has memory for all buffers, valid for 'a; the assertion checks
        // that the run lies in it; callers hold the run.
        unsafe {
            let at = NonNull::new_unchecked(payload.add(offset as usize));
            Buffer::new(at, len, capacity, run, direction.pool_id)
        }
    }

    /// As [`buffer`](Self::buffer), for the run of the one buffer `first`.
    ///
    /// # Panics
    /// As [`buffer`](Self::buffer).
    #[inline(always)]
    pub(crate) fn single(&self, direction: &Direction<'a>, first: u32, len: usize) -> Buffer<'a> {
        let geometry = &self.views.layout.geometry;
        let capacity = geometry.buffer_size() as usize;
        assert!(first < geometry.buffers() && len <= capacity);
        let payload = direction.payload.load(Ordering::Relaxed);
        let run = Run { first, count: 1 };
        // SAFETY: as in `buffer`.
        unsafe {
            let at = NonNull::new_unchecked(payload.add(first as usize * geometry.stride() as usize));
            Buffer::new(at, len, capacity, run, direction.pool_id)
        }
    }

    /// Recovers the slots, buffers and leases that `dead`, the dead occupant of a seat, holds in both directions.
    /// Does nothing if its seat has been vacated. Else the seat stays joined until [`vacate`](Self::vacate). `named`
    /// is private scratch of one word for each buffer of a pool. Wake all sleepers afterwards with
    /// [`wake_all`](Self::wake_all), since there may be packets to receive and room to send.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    ///
    /// # Panics
    /// If `dead` is this end, or `named` is too short.
    ///
    /// # Safety
    /// There must be proof that the occupant is dead, because what it holds is given to others. Between that proof
    /// and this call the seat must have fewer than 31 further occupants.
    pub unsafe fn recover(&self, dead: Holder, named: &mut [u64]) -> Result<Recovered> {
        self.recover_dead(dead, named)
    }

    /// As [`recover`](Self::recover), for callers in this crate, which have the proof of death.
    pub(crate) fn recover_dead(&self, dead: Holder, named: &mut [u64]) -> Result<Recovered> {
        assert!(dead != self.holder, "nobody recovers itself");
        let seats = self.views.seats();
        if !seats.enter(dead, self.holder)? {
            return Ok(Recovered::default());
        }
        let done = self.clear(dead, named);
        seats.strike(dead);
        seats.finish(dead, self.holder);
        done
    }

    fn clear(&self, dead: Holder, named: &mut [u64]) -> Result<Recovered> {
        let mut done = Recovered::default();
        for direction in 0..2 {
            let words = DirectionWords {
                slots: self.views.slots(direction),
                words: self.views.buffer_words(direction),
                lease: self.views.lease(direction),
            };
            done += recover(words, self.views.layout.geometry, dead, named)?;
        }
        Ok(done)
    }

    /// Vacates the seat of `dead` after this end has recovered it without an error. False while another process
    /// recovers it too: call again later, or after that process has been recovered.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    ///
    /// # Safety
    /// As [`recover`](Self::recover), and the recovery must have been complete: words that still name `dead` would be
    /// attributed to a later occupant with the same generation.
    pub unsafe fn vacate(&self, dead: Holder) -> Result<bool> {
        self.vacate_dead(dead)
    }

    /// As [`vacate`](Self::vacate), for callers in this crate.
    pub(crate) fn vacate_dead(&self, dead: Holder) -> Result<bool> {
        Ok(self.views.seats().vacate(dead)?)
    }

    /// Vacates this end's seat. False, and the seat stays joined, if this end still has buffers on loan or received:
    /// their words name this occupant. Another process recovers them after this one has died.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn leave(self) -> Result<bool> {
        self.leave_seat()
    }

    /// As [`leave`](Self::leave), for an owner that does not use the region afterwards.
    fn leave_seat(&self) -> Result<bool> {
        self.out.pool.give_spare();
        if self.out.pool.is_in_use() || self.inward.pool.is_in_use() {
            return Ok(false);
        }
        Ok(self.views.seats().leave(self.holder)?)
    }
}

/// Error text for callers that bring their own memory.
const PAYLOAD_ELSEWHERE: &str = "a protected region has its payload in other memory, which only a handshake passes on: connect to its listener";

/// Checks that a region of this layout fits into the `len` bytes at `base`.
fn check_memory(base: NonNull<u8>, len: u64, layout: &Layout) -> Result<()> {
    require_memory();
    let address = base.addr().get() as u64;
    if address % layout.page != 0 {
        return Err(Error::Misaligned { what: "the region", address, align: layout.page });
    }
    if len < layout.len {
        return Err(Error::TooSmallMemory { what: "the region", have: len, need: layout.len });
    }
    Ok(())
}

/// Casts private memory to atomic words.
fn private_words<'a>(scratch: &'a mut [u64], geometry: &Geometry) -> Result<&'a [AtomicU64]> {
    require_memory();
    let need = required_scratch(geometry);
    if scratch.len() < need {
        let (have, need) = (scratch.len() as u64 * 8, need as u64 * 8);
        return Err(Error::TooSmallMemory { what: "the scratch", have, need });
    }
    // SAFETY: an AtomicU64 has the size and alignment of a u64 (`require_memory`), and the slice is borrowed mutably
    // for 'a, so nothing else accesses it.
    Ok(unsafe { core::slice::from_raw_parts(scratch.as_ptr().cast::<AtomicU64>(), need) })
}

mod direction;
#[cfg(feature = "std")]
pub(crate) mod owned;
pub(crate) use direction::{Direction, prefetch};
