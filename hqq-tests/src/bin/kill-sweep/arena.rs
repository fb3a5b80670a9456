//! The memory of the regions of the sweep; unsafe code, for its addresses.
//!
//! One mapping, shared with forked children, and private words for each process that plays a part. All of it can be
//! copied and put back, so that a region's future can be tried again and again from one instant.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use hqq::Geometry;
use hqq::shm::layout::{Layout, RingMode, required_scratch};
use hqq::shm::packet::{Packet, Run};
use hqq::shm::pool::Pool;
use hqq::shm::region::{Region, Setup, Views};
use hqq::shm::ring::{Consumer, Producer, Ticket};
use hqq::shm::words::{Holder, Role};
use hqq_sys::mem::Mapping;

pub const PAGE: u64 = 4096;

/// The processes of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Dies.
    Victim,
    /// Lives on the other side.
    Ally,
    /// Lives on the victim's side.
    Second,
    /// Died before.
    Dead,
    /// Joins the victim's side after its death.
    Heir,
}

const PROCESSES: usize = 5;
/// Private words of a process's hands, see [`Hands`].
const HAND_WORDS: usize = 5;

/// Memory for one region and its processes, for the life of this program.
pub struct Arena {
    base: NonNull<u8>,
    layout: Layout,
    /// What of the memory is in use: offsets and bytes, all multiples of eight.
    parts: Vec<(usize, usize)>,
    private: NonNull<AtomicU64>,
    words_each: usize,
}

/// A copy of a region, or of private words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image(Vec<u64>);

impl Arena {
    /// Memory for a region of this geometry.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(geometry: Geometry) -> io::Result<Self> {
        let layout = Layout::new(geometry, PAGE).map_err(io::Error::other)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping where the kernel likes touches nothing.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), layout.len as usize, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        let control = geometry.slots() as usize * 64 + 8 * geometry.buffers() as usize;
        let mut parts = vec![(0, 0x600)];
        for direction in &layout.directions {
            let ring = direction.ring as usize;
            let tallies = direction.received as usize + 8 * geometry.slots() as usize - ring;
            parts.push((ring, tallies.max(control)));
            parts
                .push((direction.buffers as usize, (geometry.buffers() as u64 * geometry.stride()) as usize));
        }
        let buffers = geometry.buffers() as usize;
        let words_each = required_scratch(&geometry) + HAND_WORDS + 2 * buffers;
        let private = Box::leak(vec![0u64; PROCESSES * words_each].into_boxed_slice());
        let private = NonNull::from(private).cast::<AtomicU64>();
        Ok(Self { base, layout, parts, private, words_each })
    }

    /// A process's private words.
    fn words(&self, who: Who) -> &'static [AtomicU64] {
        // SAFETY: leaked words, of the size and alignment of atomics and only ever reached as such or by a region
        // that the process's role is played by; five times `words_each` of them.
        unsafe {
            let at = self.private.add(who as usize * self.words_each);
            std::slice::from_raw_parts(at.as_ptr(), self.words_each)
        }
    }

    /// The scratch of a process's region, which must be the only one that plays it.
    fn scratch(&self, who: Who) -> &'static mut [u64] {
        let need = required_scratch(&self.layout.geometry);
        // SAFETY: as in `words`; the words behind these are the hands'. Whoever opens a region for a process has
        // dropped the one before.
        unsafe {
            let at = self.private.add(who as usize * self.words_each).cast::<u64>();
            std::slice::from_raw_parts_mut(at.as_ptr(), need)
        }
    }

    /// Lays a region out; the primary is played by `who`.
    ///
    /// # Errors
    /// The region's.
    pub fn init(&self, who: Who, setup: &Setup<'_>) -> hqq::Result<Region<'static>> {
        // SAFETY: the mapping is never unmapped, and only ends of its one region touch it.
        unsafe { Region::init(self.base, self.layout.len, setup, self.scratch(who)) }
    }

    /// Attaches to the region.
    ///
    /// # Errors
    /// The region's.
    pub fn attach(&self, who: Who, role: Role) -> hqq::Result<Region<'static>> {
        // SAFETY: as in `init`.
        unsafe { Region::attach(self.base, self.layout.len, PAGE, role, self.scratch(who)) }
    }

    /// Recovers what `dead` left.
    ///
    /// # Errors
    /// The region's.
    pub fn recover(region: &Region<'_>, dead: Holder, named: &mut [u64]) -> hqq::Result<()> {
        // SAFETY: the caller's victim is dead, or its region only a copy.
        unsafe { region.recover(dead, named) }.map(drop)
    }

    /// Makes the seat of `dead` vacant.
    ///
    /// # Errors
    /// The region's.
    pub fn vacate(region: &Region<'_>, dead: Holder) -> hqq::Result<bool> {
        // SAFETY: as in `recover`, which the caller has done.
        unsafe { region.vacate(dead) }
    }

    /// The region's words.
    ///
    /// # Errors
    /// It holds none.
    pub fn views(&self) -> hqq::Result<Views<'static>> {
        // SAFETY: as in `init`.
        unsafe { Views::new(self.base, self.layout.len, PAGE) }
    }

    /// Writes payload into a run that the caller holds.
    pub fn write(&self, direction: usize, run: Run, bytes: &[u8]) {
        let geometry = &self.layout.geometry;
        assert!(bytes.len() as u64 <= geometry.run_bytes(run.count));
        let offset = self.layout.directions[direction].buffers + u64::from(run.first) * geometry.stride();
        // SAFETY: a run's memory lies in the mapping and has room by the assertion; nobody else has it.
        unsafe {
            let to = self.base.add(offset as usize).as_ptr();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// Reads payload from a run that the caller holds.
    pub fn read(&self, direction: usize, run: Run, len: usize) -> Vec<u8> {
        let geometry = &self.layout.geometry;
        assert!(len as u64 <= geometry.run_bytes(run.count));
        let offset = self.layout.directions[direction].buffers + u64::from(run.first) * geometry.stride();
        // SAFETY: as in `write`.
        unsafe { std::slice::from_raw_parts(self.base.add(offset as usize).as_ptr(), len) }.to_vec()
    }

    fn each(&self, base: NonNull<u8>, mut each: impl FnMut(&[AtomicU64])) {
        for &(offset, bytes) in &self.parts {
            // SAFETY: callers pass the beginning of this mapping, or of a longer or equal one that lives meanwhile; a
            // part of it is aligned, and reached as atomics, which others may change.
            each(unsafe {
                let at = base.add(offset).cast::<AtomicU64>();
                std::slice::from_raw_parts(at.as_ptr(), bytes / 8)
            });
        }
    }

    fn copy(&self, base: NonNull<u8>, into: &mut Image) {
        into.0.clear();
        self.each(base, |words| into.0.extend(words.iter().map(|word| word.load(Ordering::Relaxed))));
    }

    fn same(&self, base: NonNull<u8>, image: &Image) -> bool {
        let mut same = true;
        let mut rest = &image.0[..];
        self.each(base, |words| {
            let (these, behind) = rest.split_at(words.len());
            rest = behind;
            same &= words.iter().zip(these).all(|(word, old)| word.load(Ordering::Relaxed) == *old);
        });
        same
    }

    /// Copies the region.
    pub fn save(&self, into: &mut Image) {
        self.copy(self.base, into);
    }

    /// Whether the region is still as it was copied.
    pub fn is(&self, image: &Image) -> bool {
        self.same(self.base, image)
    }

    /// Copies a region of the same layout.
    ///
    /// # Panics
    /// If the memory is shorter.
    pub fn save_of(&self, memory: &Mapping, into: &mut Image) {
        assert!(memory.len() as u64 >= self.layout.len);
        self.copy(memory.base(), into);
    }

    /// Whether that region is still as it was copied.
    ///
    /// # Panics
    /// If the memory is shorter.
    pub fn is_of(&self, memory: &Mapping, image: &Image) -> bool {
        assert!(memory.len() as u64 >= self.layout.len);
        self.same(memory.base(), image)
    }

    /// Puts a copy of the region back.
    pub fn restore(&self, image: &Image) {
        let mut rest = image.0.iter();
        self.each(self.base, |words| {
            words.iter().zip(&mut rest).for_each(|(word, old)| word.store(*old, Ordering::Relaxed));
        });
    }

    /// Copies the private words of all processes.
    pub fn save_private(&self) -> Image {
        let words = (0..PROCESSES).flat_map(|who| self.words(PLAYERS[who]));
        Image(words.map(|word| word.load(Ordering::Relaxed)).collect())
    }

    /// Puts them back.
    pub fn restore_private(&self, image: &Image) {
        let words = (0..PROCESSES).flat_map(|who| self.words(PLAYERS[who]));
        words.zip(&image.0).for_each(|(word, old)| word.store(*old, Ordering::Relaxed));
    }

    /// The hands of a process that is attached.
    ///
    /// # Errors
    /// The ring is corrupt.
    pub fn hands(&self, who: Who, region: &Region<'static>) -> hqq::Result<Hands> {
        let views = self.views()?;
        let own = &self.words(who)[required_scratch(&self.layout.geometry)..];
        own.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        let (out, inward) = (region.role().direction(), region.role().other().direction());
        let ours = &own[..HAND_WORDS];
        ours[0].store(Producer::scan_for_tail(views.slots(out))?, Ordering::Relaxed);
        let head = Consumer::scan_for_head(views.slots(inward))?;
        ours[1].store(head, Ordering::Relaxed);
        ours[2].store(head, Ordering::Relaxed);
        let marks = &own[HAND_WORDS..];
        Ok(Hands {
            views,
            role: region.role(),
            holder: region.holder(),
            ring: region.facts().modes.ring,
            ours,
            marks,
        })
    }
}

const PLAYERS: [Who; PROCESSES] = [Who::Victim, Who::Ally, Who::Second, Who::Dead, Who::Heir];

/// A process's own ring ends and pools, one step at a time: for operations that are stopped in the middle. They have
/// marks of their own, which lag behind its region's, as marks may.
#[derive(Clone, Copy)]
pub struct Hands {
    pub views: Views<'static>,
    pub holder: Holder,
    role: Role,
    ring: RingMode,
    ours: &'static [AtomicU64],
    marks: &'static [AtomicU64],
}

impl Hands {
    /// The direction it sends in.
    pub fn out(&self) -> usize {
        self.role.direction()
    }

    /// The direction it receives from.
    pub fn inward(&self) -> usize {
        self.role.other().direction()
    }

    /// Its end of the ring it sends into.
    pub fn producer(&self) -> Producer<'static> {
        Producer::new(self.views.slots(self.out()), &self.ours[0], self.holder, self.ring.single_producer())
    }

    /// Its end of the ring it receives from.
    pub fn consumer(&self) -> Consumer<'static> {
        let slots = self.views.slots(self.inward());
        Consumer::new(slots, &self.ours[1], &self.ours[2], self.holder, self.ring.single_consumer())
    }

    /// Its end of a pool.
    pub fn pool(&self, direction: usize) -> Pool<'static> {
        let words = self.views.buffer_words(direction);
        let marks = &self.marks[direction * words.len()..][..words.len()];
        let single =
            if direction == self.out() { self.ring.single_producer() } else { self.ring.single_consumer() };
        let (hint, spare) = (&self.ours[3], &self.ours[4]);
        Pool::new(words, self.views.lease(direction), marks, hint, spare, self.holder, single)
    }
}

/// A second handle to something that has no destructor: what is held at one instant is let go in each of its futures,
/// and memory is put back in between.
pub fn again<T: Repeatable>(held: &T) -> T {
    // SAFETY: by the trait.
    unsafe { std::ptr::read(held) }
}

/// A ticket without the borrow of the marks with which it was taken.
pub fn lasting(ticket: Ticket<'_>) -> Ticket<'static> {
    // SAFETY: a ticket refers to its slot alone, and the arena's memory stays mapped.
    unsafe { std::mem::transmute(ticket) }
}

/// Values without a destructor, which a future that was taken back may have used up.
///
/// # Safety
/// Nothing may be freed or written when such a value is dropped.
pub unsafe trait Repeatable {}

// SAFETY: a position, and where its slot is.
unsafe impl Repeatable for Ticket<'_> {}
// SAFETY: an address and numbers; "dropping it leaks the buffers" says its documentation.
unsafe impl Repeatable for hqq::shm::buffer::Buffer<'static> {}
// SAFETY: numbers.
unsafe impl Repeatable for Packet {}
