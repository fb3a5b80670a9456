//! Layer 2: from bytes to words. Creating a region, attaching to one, and the views that the layers above use.
//! The unsafe code that casts memory lives here.
//!
//! A [`Region`] keeps a private copy of the geometry: what the superblock says later is of no importance.

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

/// The words of a region, as they lie in memory. What [`Region`] and observers are made of.
#[derive(Clone, Copy, Debug)]
pub struct Views<'a> {
    base: NonNull<u8>,
    layout: Layout,
    memory: PhantomData<&'a Superblock>,
}

// SAFETY: everything reached through Views is atomic words.
unsafe impl Send for Views<'_> {}
// SAFETY: as above.
unsafe impl Sync for Views<'_> {}

/// One end of a region: the memory, this process's seat in it, and its private words.
#[derive(Debug)]
pub struct Region<'a> {
    views: Views<'a>,
    facts: Facts,
    role: Role,
    holder: Holder,
    limit: u64,
    max_inline: usize,
    /// The longest message in one buffer.
    max_single: u64,
    /// What is added to a position to make a CopyID of it.
    copy_base: u64,
    producer: Producer<'a>,
    consumer: Consumer<'a>,
    out: Direction<'a>,
    inward: Direction<'a>,
    /// The other side's announcements; `None` in spin-only mode.
    peer_sleepers: Option<Sleepers<'a>>,
    /// Not to be shared by threads: in the single modes only one may send, and one receive.
    thread: PhantomData<core::cell::Cell<()>>,
}

impl<'a> Views<'a> {
    /// The words of the region at `base`, checked as by [`Region::inspect`]. Takes no seat.
    ///
    /// # Errors
    /// As `inspect`.
    ///
    /// # Safety
    /// The memory must be valid during `'a`: for reads, and for writes if a word is ever stored to. Whoever
    /// stores keeps the protocol, or no end of the region may hand out plain slices.
    pub unsafe fn new(base: NonNull<u8>, len: u64, page: u64) -> Result<Self> {
        // SAFETY: the caller's.
        let facts = unsafe { Region::inspect(base, len, page) }?;
        Ok(Self { base, layout: Layout::new(facts.geometry, page)?, memory: PhantomData })
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The first page.
    #[inline(always)]
    pub fn superblock(&self) -> &'a Superblock {
        // SAFETY: the layout begins with a superblock page, checked to lie in the memory, which is valid for 'a.
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

    /// The ring slots of a direction.
    #[inline(always)]
    pub fn slots(&self, direction: usize) -> &'a [Slot] {
        // SAFETY: as in `words`, for slots, which are 64 bytes and aligned to it.
        unsafe {
            let at = self.base.add(self.offsets(direction).ring as usize).cast::<Slot>();
            core::slice::from_raw_parts(at.as_ptr(), self.layout.geometry.slots() as usize)
        }
    }

    /// The buffer words of a direction.
    #[inline(always)]
    pub fn buffer_words(&self, direction: usize) -> &'a [AtomicU64] {
        self.words(self.offsets(direction).pool, self.layout.geometry.buffers())
    }

    /// The lease for runs of a direction.
    #[inline(always)]
    pub fn lease(&self, direction: usize) -> &'a AtomicU64 {
        &self.words(self.offsets(direction).lease, 1)[0]
    }

    /// Payload bytes sent through each slot. A slot's word is stored only by who has claimed the slot.
    #[inline(always)]
    pub fn byte_counters_sent(&self, direction: usize) -> &'a [AtomicU64] {
        self.words(self.offsets(direction).sent, self.layout.geometry.slots())
    }

    /// Payload bytes received through each slot. A slot's word is stored only by who has taken the slot.
    #[inline(always)]
    pub fn byte_counters_received(&self, direction: usize) -> &'a [AtomicU64] {
        self.words(self.offsets(direction).received, self.layout.geometry.slots())
    }

    /// Where the payload of a direction begins, in a region that is not protected.
    fn payload(&self, direction: usize) -> NonNull<u8> {
        // SAFETY: the offset is one of the checked layout, which the memory holds.
        unsafe { self.base.add(self.offsets(direction).buffers as usize) }
    }

    /// The seats.
    pub fn seats(&self) -> Seats<'a> {
        Seats::new(&self.superblock().seats)
    }

    /// Writes every control word of a new region, the ready word last.
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

/// Indices into the private words of a direction.
mod private {
    pub const TAIL: usize = 0;
    pub const HINT: usize = 8;
    pub const SPARE: usize = 9;
    /// Both of the pool that this end does not take from.
    pub const UNUSED: usize = 10;
    pub const HEAD: usize = 0;
    pub const FLOOR: usize = 1;
}

impl<'a> Region<'a> {
    /// Lays a region out in `len` bytes at `base` and takes seat 0 as its Primary (the specification's
    /// `openStandardLink`, first half). Overwrites whatever is there. `scratch` is private memory of
    /// [`required_scratch`] words.
    ///
    /// # Errors
    /// [`Error::Geometry`], [`Error::Misaligned`] unless `base` is on a page, [`Error::TooSmallMemory`] for
    /// the memory or the scratch.
    ///
    /// # Safety
    /// The memory must be valid for reads and writes during `'a` and touched by nothing but this protocol:
    /// other processes that map it are attached to it, and are trusted with the payload that they share.
    pub unsafe fn init(
        base: NonNull<u8>,
        len: u64,
        setup: &Setup<'_>,
        scratch: &'a mut [u64],
    ) -> Result<Self> {
        if setup.modes.protected {
            return Err(Error::Unsupported { what: PAYLOAD_ELSEWHERE });
        }
        // SAFETY: the caller's.
        unsafe { Self::init_seated(base, len, setup, scratch, false) }
    }

    /// As [`init`](Self::init); `locked` if the creator holds the lock on seat 0.
    ///
    /// # Safety
    /// As there.
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

    /// Reads what the region at `base` says of itself, without attaching. `page` is this machine's page size.
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
        // SAFETY: aligned and long enough by the lines above, valid by the caller.
        let superblock = unsafe { base.cast::<Superblock>().as_ref() };
        let facts = superblock::read(superblock, page)?;
        check_memory(base, len, &Layout::new(facts.geometry, page)?)?;
        Ok(facts)
    }

    /// Attaches to the region at `base` on the side of `role`: checks it and takes a seat (the specification's
    /// `openStandardLink`, second half). `scratch` is private memory of [`required_scratch`] words for the
    /// geometry that [`inspect`](Self::inspect) reported.
    ///
    /// # Errors
    /// As `inspect`; [`Error::TooSmallMemory`] for the scratch, [`Error::NoSeat`], [`Error::Corrupt`].
    ///
    /// # Safety
    /// As [`init`](Self::init); the memory must hold a region or be at least readable and writable.
    pub unsafe fn attach(
        base: NonNull<u8>,
        len: u64,
        page: u64,
        role: Role,
        scratch: &'a mut [u64],
    ) -> Result<Self> {
        // SAFETY: the caller's.
        if unsafe { Self::inspect(base, len, page) }?.modes.protected {
            return Err(Error::Unsupported { what: PAYLOAD_ELSEWHERE });
        }
        // SAFETY: the caller's.
        unsafe { Self::attach_seated(base, len, page, role, scratch, |_| Some(false)) }
    }

    /// As [`attach`](Self::attach), in a seat that `prepare` agrees to; see [`Seats::join`].
    ///
    /// # Safety
    /// As there.
    unsafe fn attach_seated(
        base: NonNull<u8>,
        len: u64,
        page: u64,
        role: Role,
        scratch: &'a mut [u64],
        prepare: impl FnMut(usize) -> Option<bool>,
    ) -> Result<Self> {
        // SAFETY: the caller's.
        let facts = unsafe { Self::inspect(base, len, page) }?;
        let layout = Layout::new(facts.geometry, page)?;
        let scratch = private_words(scratch, &facts.geometry)?;
        let views = Views { base, layout, memory: PhantomData };
        let holder = views.seats().join(role, prepare)?.ok_or(Error::NoSeat { seats: SEATS })?;
        Self::open(views, facts, role, holder, scratch).inspect_err(|_| {
            // Nothing was done from this seat.
            let _ = views.seats().leave(holder);
        })
    }

    /// An end with its private words, the marks where the rings stand.
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
            // The first position of the region has CopyID 1 (ruling 10).
            copy_base: 1u64.wrapping_sub(facts.first_lap << facts.geometry.slots().trailing_zeros()),
            producer: Producer::new(views.slots(out), tail, holder, ring.single_producer()),
            consumer: Consumer::new(views.slots(inward), head, floor, holder, ring.single_consumer()),
            out: direction_of(out),
            inward: direction_of(inward),
            peer_sleepers: adaptive.then(|| Sleepers::new(&sides[role.other().direction()].sleepers)),
            thread: PhantomData,
        })
    }

    /// Limits the messages that this end sends or accepts to `limit` bytes.
    pub fn limit_messages(&mut self, limit: u64) {
        self.limit = limit;
        self.max_inline = INLINE_MAX.min(usize::try_from(limit).unwrap_or(INLINE_MAX));
        self.max_single = limit.min(self.facts.geometry.buffer_size());
    }

    /// The longest message in one buffer, bytes.
    #[inline(always)]
    pub(crate) fn max_single(&self) -> u64 {
        self.max_single
    }

    /// What is added to a position to make a CopyID of it.
    #[inline(always)]
    pub(crate) fn copy_base(&self) -> u64 {
        self.copy_base
    }

    /// The longest message that rides in the slot, bytes.
    #[inline(always)]
    pub fn max_inline(&self) -> usize {
        self.max_inline
    }

    /// The longest message in one piece, bytes: the limit, or a whole pool if that is less.
    #[inline(always)]
    pub fn max_message(&self) -> u64 {
        let geometry = &self.views.layout.geometry;
        self.limit.min(geometry.run_bytes(geometry.buffers()))
    }

    /// What the region was made with. Private memory.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Where everything lies. Private memory.
    pub fn layout(&self) -> &Layout {
        &self.views.layout
    }

    /// This end's role.
    #[inline(always)]
    pub fn role(&self) -> Role {
        self.role
    }

    /// This end's seat and generation.
    #[inline(always)]
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// What packets are checked against.
    #[inline(always)]
    pub fn bounds(&self) -> Bounds {
        Bounds { geometry: self.views.layout.geometry, max_message: self.limit }
    }

    /// The words.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn views(&self) -> &Views<'a> {
        &self.views
    }

    /// The first page.
    #[inline(always)]
    pub(crate) fn superblock(&self) -> &Superblock {
        self.views.superblock()
    }

    /// A seat.
    ///
    /// # Panics
    /// If there is no seat of this number.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn seat(&self, index: usize) -> &crate::shm::words::Seat {
        &self.superblock().seats[index]
    }

    /// The counters of a side.
    pub(crate) fn counters(&self, side: Role) -> &SideCounters {
        &self.superblock().counters[side.direction()]
    }

    /// The statistics of a side.
    #[cfg(feature = "std")]
    pub(crate) fn metrics(&self, side: Role) -> &crate::shm::words::SideMetrics {
        &self.superblock().metrics[side.direction()]
    }

    /// The announcements of a side.
    #[inline(always)]
    pub(crate) fn sleepers(&self, side: Role) -> Sleepers<'_> {
        Sleepers::new(&self.superblock().sides[side.direction()].sleepers)
    }

    /// The other side's announcements; `None` in spin-only mode.
    #[inline(always)]
    pub(crate) fn peer_sleepers(&self) -> Option<&Sleepers<'a>> {
        self.peer_sleepers.as_ref()
    }

    /// The ring that this end sends into.
    #[inline(always)]
    pub(crate) fn producer(&self) -> &Producer<'a> {
        &self.producer
    }

    /// A number that changes whenever this end sends something.
    #[cfg(feature = "std")]
    pub(crate) fn sent_so_far(&self) -> u64 {
        self.producer().cursor()
    }

    /// A number that grows by one with each packet that this end takes at the ring's head.
    #[cfg(feature = "std")]
    pub(crate) fn received_so_far(&self) -> u64 {
        self.consumer().cursor()
    }

    /// Whether the peer has taken what this end sent to a position of the ring. Only loads.
    #[cfg(feature = "std")]
    pub(crate) fn is_taken(&self, position: u64) -> bool {
        self.producer().is_taken(position)
    }

    /// The ring that this end receives from.
    #[inline(always)]
    pub(crate) fn consumer(&self) -> &Consumer<'a> {
        &self.consumer
    }

    /// The direction in which this end sends: it takes buffers from the pool.
    #[inline(always)]
    pub(crate) fn out(&self) -> &Direction<'a> {
        &self.out
    }

    /// The direction in which this end receives: it holds buffers of the pool.
    #[inline(always)]
    pub(crate) fn inward(&self) -> &Direction<'a> {
        &self.inward
    }

    /// The direction that a buffer of this region belongs to.
    ///
    /// # Panics
    /// If it is another region's.
    #[inline(always)]
    pub(crate) fn direction_of(&self, buffer: &Buffer<'_>) -> &Direction<'a> {
        if self.inward.owns(buffer) {
            return &self.inward;
        }
        assert!(self.out.owns(buffer), "a buffer of this region");
        &self.out
    }

    /// The memory of a run of `direction` that this end holds.
    ///
    /// # Panics
    /// If the run does not lie in the pool, or does not hold `len` bytes.
    #[inline]
    pub(crate) fn buffer(&self, direction: &Direction<'a>, run: Run, len: usize) -> Buffer<'a> {
        let geometry = &self.views.layout.geometry;
        let capacity = geometry.run_bytes(run.count) as usize;
        assert!(run.indices().end <= geometry.buffers() as usize && len <= capacity);
        let offset = u64::from(run.first) * geometry.stride();
        let payload = direction.payload.load(Ordering::Relaxed);
        // SAFETY: the payload pointer is never null and has memory for all buffers, valid for 'a; the run lies in it by
        // the assertion; callers hold the run.
        unsafe {
            let at = NonNull::new_unchecked(payload.add(offset as usize));
            Buffer::new(at, len, capacity, run, direction.pool_id)
        }
    }

    /// As [`buffer`](Self::buffer), for a run of one.
    ///
    /// # Panics
    /// As there.
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

    /// Clears the region of what the dead occupant of a seat left in both directions. Its seat stays taken until it is
    /// [vacated](Self::vacate); if that has been done, there is nothing to clear. `named` is private scratch of one word a
    /// buffer. Wake [everybody](Self::wake_all) afterwards: there may be packets to receive and room to send.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    ///
    /// # Panics
    /// If `dead` is this end, or `named` is too short.
    ///
    /// # Safety
    /// The occupant must be dead, by proof: what it holds is handed to others. Between that proof and this call the seat
    /// must not see 31 successors.
    pub unsafe fn recover(&self, dead: Holder, named: &mut [u64]) -> Result<Recovered> {
        self.recover_dead(dead, named)
    }

    /// As [`recover`](Self::recover), for callers in this crate that have the proof.
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

    /// Makes the seat of a dead occupant vacant for a successor, after this end has recovered it without an error.
    /// False while another process recovers it too; call again later, or once that process has been recovered itself.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    ///
    /// # Safety
    /// As [`recover`](Self::recover), and the recovery must have been complete: what is left in the name of `dead`
    /// would be taken for its 31st successor's.
    pub unsafe fn vacate(&self, dead: Holder) -> Result<bool> {
        self.vacate_dead(dead)
    }

    /// As [`vacate`](Self::vacate), for callers in this crate.
    pub(crate) fn vacate_dead(&self, dead: Holder) -> Result<bool> {
        Ok(self.views.seats().vacate(dead)?)
    }

    /// Gives this end's seat up, in order. False, and the seat stays, if buffers are still on loan or being read: they
    /// could not be told from a successor's. They come home once this process is dead and has been recovered.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn leave(self) -> Result<bool> {
        self.leave_seat()
    }

    /// As [`leave`](Self::leave), for an owner that lets nobody use the region afterwards.
    fn leave_seat(&self) -> Result<bool> {
        self.out.pool.give_spare();
        if self.out.pool.is_in_use() || self.inward.pool.is_in_use() {
            return Ok(false);
        }
        Ok(self.views.seats().leave(self.holder)?)
    }
}

/// What who brings a region's memory is told.
const PAYLOAD_ELSEWHERE: &str =
    "a protected region has its payload elsewhere, and only a handshake can bring it";

/// Whether a region of this layout can lie at `base`.
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

/// Private memory as atomic words.
fn private_words<'a>(scratch: &'a mut [u64], geometry: &Geometry) -> Result<&'a [AtomicU64]> {
    require_memory();
    let need = required_scratch(geometry);
    if scratch.len() < need {
        let (have, need) = (scratch.len() as u64 * 8, need as u64 * 8);
        return Err(Error::TooSmallMemory { what: "the scratch", have, need });
    }
    // SAFETY: an AtomicU64 has the size and alignment of a u64 (IN_MEMORY), and the slice is borrowed mutably
    // for 'a, so nothing else reaches it.
    Ok(unsafe { core::slice::from_raw_parts(scratch.as_ptr().cast::<AtomicU64>(), need) })
}

mod direction;
#[cfg(feature = "std")]
pub(crate) mod owned;
pub(crate) use direction::{Direction, prefetch};
