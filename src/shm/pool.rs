//! The buffer pool of one direction: which process holds which buffer. Words only, no payload; no unsafe.
//!
//! # State
//!
//! Shared memory has one word for each buffer ([`BufferWord`]):
//!
//! ```text
//!        allocate (CAS)          hold (store)            give (store)
//!   free ------------> owned(S) --------------> held(R) --------------> free
//!     ^                  |  |  ^
//!     +-- give (store) --+  |  |             a loan that was dropped unsent
//!     |    prepare (store)  v  |  allocate (store)
//!     +-- give (store) -- spare(S)           allocated before the loan that will use it
//! ```
//!
//! *Give* returns a buffer to the pool. Each process also has one private word for each buffer, the *lent flag*: set
//! while the process has lent the buffer to its own code. The peer cannot write it. A buffer whose flag is set is not
//! allocated or received again, whatever its shared word says.
//!
//! # Invariants
//!
//! - **One holder**: at every instruction a buffer is free, owned by a sender, in a published or taken slot, or
//!   held by a receiver. A slot takes precedence over the word: the word is still `owned` while the packet is in
//!   flight, and may be `held` shortly before the slot is released. So recovery reads the slots first.
//! - **Lent flags inside words**: a flag is set after the word was won, and cleared before the word is freed or the
//!   packet published. So a thread that wins the word next finds the flag clear.
//! - **Runs**: a message longer than a buffer uses consecutive buffers. Only the holder of the *lease* word gathers
//!   more than one, so two gatherers cannot each hold half of what the other needs. A gather passes over the pool
//!   once, and frees the words won so far where it meets one that is not free. A message shorter than its loan still
//!   names every buffer of the run, so all of them are freed.
//!
//! # Edges
//!
//! | label | store | load | guarantees |
//! |---|---|---|---|
//! | pool.give | `give`, release | `allocate`, acquire | the last reader is done with the payload before the next writer begins |
//! | pool.lease | `gather`, release | `gather`, acquire | a gatherer sees the words as the previous gatherer left them |
//! | pool.spare | `prepare`, release | `allocate`, acquire | a thread that uses a spare buffer of another thread is after its allocation |
//!
//! The ring's edge (ring.publish) makes the payload visible to the receiver.
//!
//! # Where a process can die
//!
//! | death | the words | recovery |
//! |---|---|---|
//! | after `allocate` | the word names the dead holder, no slot names the buffer | frees the buffer |
//! | after publish | a slot names the buffer | leaves the word; the message is delivered |
//! | after `hold`, before the slot's release | a taken slot names the buffer | publishes the packet again, leaves the word |
//! | after the slot's release | the word names the dead holder, no slot names the buffer | frees the buffer |
//! | inside a gather | the lease and each word won so far name the dead holder | frees the buffers, vacates the lease |

use crate::error::Impossible;
use crate::shm::packet::Run;
use crate::shm::words::{BufferState, BufferWord, Holder, LeaseWord};
use crate::sync::{AtomicU64, Ordering, load_for_update};

/// Why no buffers were allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Fewer buffers were free than wanted: this many.
    Exhausted(u64),
    /// Enough buffers were free, but the longest run of free ones had only this many.
    Fragmented(u64),
    /// Another thread or process is gathering a run.
    Busy,
    /// A buffer word or lease that no operation stores.
    Impossible(Impossible),
}

/// Error of [`Pool::hold`]: the packet names a buffer that this process already holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyHeld;

#[inline(always)]
fn impossible(word: u64) -> Shortage {
    Shortage::Impossible(Impossible { what: "a buffer word", found: word })
}

/// Pool of one direction, as used by one end.
#[derive(Clone, Copy, Debug)]
pub struct Pool<'a> {
    words: &'a [AtomicU64],
    lease: &'a AtomicU64,
    lent: &'a [AtomicU64],
    hint: &'a AtomicU64,
    /// Index of the spare buffer plus one; 0 for none.
    spare: &'a AtomicU64,
    /// Word of a buffer that this end has on loan.
    owned_word: u64,
    /// Word of a buffer that this end has received.
    held_word: u64,
    /// Word of a buffer that this end keeps as its spare.
    spare_word: u64,
    holder: Holder,
    single: bool,
}

impl<'a> Pool<'a> {
    /// Creates a pool for `holder` over the shared `words` and `lease`. `lent` (one flag for each buffer), `hint`
    /// (how many single buffers were allocated) and `spare` are private words of this process, initially zero. With
    /// `single`, no other thread allocates (on the sending end) or holds (on the receiving end).
    ///
    /// # Panics
    /// Unless `words` and `lent` have the same length.
    #[inline(always)]
    pub fn new(
        words: &'a [AtomicU64],
        lease: &'a AtomicU64,
        lent: &'a [AtomicU64],
        hint: &'a AtomicU64,
        spare: &'a AtomicU64,
        holder: Holder,
        single: bool,
    ) -> Self {
        assert!(words.len() == lent.len());
        let (owned_word, held_word) = (BufferWord::owned(holder).word(), BufferWord::held(holder).word());
        let spare_word = BufferWord::spare(holder).word();
        Self { words, lease, lent, hint, spare, owned_word, held_word, spare_word, holder, single }
    }

    /// Number of buffers.
    #[inline(always)]
    pub fn buffers(&self) -> u64 {
        self.words.len() as u64
    }

    /// Allocates `count` consecutive free buffers for a loan.
    ///
    /// # Errors
    /// [`Shortage`], with the reason that nothing was allocated.
    #[inline]
    pub fn allocate(&self, count: u32) -> Result<Run, Shortage> {
        if count == 1 {
            return self.allocate_one();
        }
        // The run may need the spare buffer.
        self.give_spare();
        self.gather(count)
    }

    /// Index and word of the buffer that the next allocation of a single buffer tries first.
    #[inline(always)]
    pub fn next(&self) -> (usize, &'a AtomicU64) {
        let index = self.index(self.hint.load(Ordering::Relaxed) as usize);
        (index, &self.words[index])
    }

    /// Allocates one buffer: the spare if there is one, or else a free buffer.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    #[inline(always)]
    pub fn allocate_one(&self) -> Result<Run, Shortage> {
        match self.pop_spare() {
            Some(run) => {
                self.words[run.first as usize].store(self.owned_word, Ordering::Relaxed);
                Ok(run)
            }
            None => self.allocate_next(),
        }
    }

    /// Allocates a spare buffer, which the next [`allocate_one`](Self::allocate_one) uses. So that call need not wait
    /// for the word's cache line from the processor that freed it. Returns the buffer's index, or `None` if there is
    /// a spare already or no buffer is free. Only for threads that may allocate.
    #[inline(always)]
    pub fn prepare(&self) -> Option<usize> {
        if self.has_spare() {
            return None;
        }
        let run = self.allocate_next().ok()?;
        let spare = u64::from(run.first) + 1;
        // No other thread has the buffer yet: it reaches them only through the store to `spare` below.
        self.words[run.first as usize].store(self.spare_word, Ordering::Relaxed);
        if self.single {
            self.spare.store(spare, Ordering::Relaxed);
        } else if self.spare.compare_exchange(0, spare, Ordering::Release, Ordering::Relaxed).is_err()
        // edge(pool.spare): release
        {
            self.give(run);
            return None;
        }
        Some(run.first as usize)
    }

    /// Whether only one thread may allocate.
    #[inline(always)]
    pub fn is_single(&self) -> bool {
        self.single
    }

    /// Whether there is a spare buffer. The result may be outdated when it is returned.
    #[inline(always)]
    pub fn has_spare(&self) -> bool {
        self.spare.load(Ordering::Relaxed) != 0
    }

    /// Frees the spare buffer. Returns whether there was one. Only for threads that may allocate.
    pub fn give_spare(&self) -> bool {
        let spare = self.pop_spare();
        if let Some(run) = spare {
            self.give(run);
        }
        spare.is_some()
    }

    #[inline(always)]
    fn pop_spare(&self) -> Option<Run> {
        if !self.has_spare() {
            return None;
        }
        if self.single {
            let spare = self.spare.load(Ordering::Relaxed);
            self.spare.store(0, Ordering::Relaxed);
            return Some(Run { first: (spare - 1) as u32, count: 1 });
        }
        match self.spare.swap(0, Ordering::Acquire) {
            // edge(pool.spare): acquire
            0 => None,
            spare => Some(Run { first: (spare - 1) as u32, count: 1 }),
        }
    }

    #[inline(always)]
    fn allocate_next(&self) -> Result<Run, Shortage> {
        // Fast path: the buffer after the last one allocated is free.
        let hint = self.hint.load(Ordering::Relaxed) as usize;
        let index = self.index(hint);
        if self.win(index)? { Ok(self.advance_hint(hint, index)) } else { self.allocate_any(hint) }
    }

    /// Index of the buffer to try for a value of the hint. Consecutive values visit every buffer once.
    ///
    /// The words of two consecutive buffers lie in different cache lines, so that a sender and a receiver that work on
    /// successive messages do not share one. Only groups of sixteen are permuted, so that buffers in use lie close
    /// together and leave long runs free.
    #[inline(always)]
    fn index(&self, hint: usize) -> usize {
        let buffers = self.words.len();
        // A cache line has eight words.
        let mixed = hint & !15 | (hint & 1) << 3 | hint >> 1 & 7;
        // The number of buffers is a power of two.
        (if buffers < 16 { hint } else { mixed }) & (buffers - 1)
    }

    #[inline(always)]
    fn advance_hint(&self, hint: usize, index: usize) -> Run {
        self.hint.store(hint.wrapping_add(1) as u64, Ordering::Relaxed);
        Run { first: index as u32, count: 1 }
    }

    #[cold]
    fn allocate_any(&self, start: usize) -> Result<Run, Shortage> {
        for step in 1..self.words.len() {
            let hint = start.wrapping_add(step);
            let index = self.index(hint);
            if self.win(index)? {
                return Ok(self.advance_hint(hint, index));
            }
        }
        Err(Shortage::Exhausted(0))
    }

    /// Makes a buffer this end's if it is free: its word, then its lent flag. False if it is not free.
    #[inline(always)]
    fn win(&self, index: usize) -> Result<bool, Shortage> {
        let word = &self.words[index];
        let free = BufferWord::FREE.word();
        let found = load_for_update(word, Ordering::Acquire); // edge(pool.give): acquire
        if found != free {
            return Self::not_free(found);
        }
        if self.single {
            // No other thread allocates, and receivers do not store to the word of a free buffer.
            word.store(self.owned_word, Ordering::Relaxed);
        } else if word.compare_exchange(free, self.owned_word, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return Ok(false);
        }
        if self.set_lent(index) {
            return Ok(true);
        }
        // The word was free, but our own code still has the buffer: only a corrupt peer does that.
        Err(impossible(found))
    }

    #[cold]
    fn not_free(found: u64) -> Result<bool, Shortage> {
        match BufferWord::from_word(found).state() {
            Some(_) => Ok(false),
            None => Err(impossible(found)),
        }
    }

    #[cold]
    fn gather(&self, count: u32) -> Result<Run, Shortage> {
        let leased = LeaseWord::leased(self.holder).word();
        let vacant = LeaseWord::VACANT.word();
        if let Err(found) = self.lease.compare_exchange(vacant, leased, Ordering::Acquire, Ordering::Relaxed)
        // edge(pool.lease): acquire
        {
            return Err(match LeaseWord::from_word(found).holder() {
                Some(_) => Shortage::Busy,
                None => Shortage::Impossible(Impossible { what: "a pool lease", found }),
            });
        }
        let result = self.gather_leased(count as usize);
        self.lease.store(vacant, Ordering::Release); // edge(pool.lease): release
        result
    }

    fn gather_leased(&self, count: usize) -> Result<Run, Shortage> {
        let mut free = 0;
        let mut longest = 0;
        let mut first = 0;
        for index in 0..self.words.len() {
            match self.win(index) {
                Ok(true) => {
                    free += 1;
                    longest = longest.max(index + 1 - first);
                    if index + 1 - first == count {
                        return Ok(Run { first: first as u32, count: count as u32 });
                    }
                }
                Ok(false) => {
                    self.give_range(first..index);
                    first = index + 1;
                }
                Err(shortage) => {
                    self.give_range(first..index);
                    return Err(shortage);
                }
            }
        }
        self.give_range(first..self.words.len());
        let shortage = if free < count { Shortage::Exhausted } else { Shortage::Fragmented };
        Err(shortage(if free < count { free as u64 } else { longest as u64 }))
    }

    /// Clears the lent flags of a loan whose packet is about to be published. After that the receiver changes the
    /// words.
    #[inline(always)]
    pub fn pass(&self, run: Run) {
        if run.count == 1 {
            self.lent[run.first as usize].store(0, Ordering::Relaxed);
        } else {
            self.pass_run(run);
        }
    }

    #[cold]
    fn pass_run(&self, run: Run) {
        for index in run.indices() {
            self.lent[index].store(0, Ordering::Relaxed);
        }
    }

    /// Marks the buffers of a received packet as held by this end. Call it before the packet's slot is released.
    ///
    /// # Errors
    /// [`AlreadyHeld`] if this process holds one of them already. Then no flag and no word is changed.
    #[inline(always)]
    pub fn hold(&self, run: Run) -> Result<(), AlreadyHeld> {
        if run.count != 1 {
            return self.hold_run(run);
        }
        let index = run.first as usize;
        if !self.set_lent(index) {
            return Err(AlreadyHeld);
        }
        // The release of the slot orders this store before it (ring.free).
        self.words[index].store(self.held_word, Ordering::Relaxed);
        Ok(())
    }

    #[cold]
    fn hold_run(&self, run: Run) -> Result<(), AlreadyHeld> {
        for index in run.indices() {
            if !self.set_lent(index) {
                self.pass_run(Run { first: run.first, count: (index - run.first as usize) as u32 });
                return Err(AlreadyHeld);
            }
        }
        for index in run.indices() {
            // As in `hold`.
            self.words[index].store(self.held_word, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Frees a run: a loan that was not sent, or a message that has been read.
    #[inline(always)]
    pub fn give(&self, run: Run) {
        if run.count == 1 { self.give_one(run.first as usize) } else { self.give_range(run.indices()) }
    }

    #[cold]
    fn give_range(&self, range: core::ops::Range<usize>) {
        for index in range {
            self.give_one(index);
        }
    }

    #[inline(always)]
    fn give_one(&self, index: usize) {
        self.lent[index].store(0, Ordering::Release);
        self.words[index].store(BufferWord::FREE.word(), Ordering::Release); // edge(pool.give): release
    }

    /// Sets a buffer's lent flag. False if it was set already.
    #[inline(always)]
    fn set_lent(&self, index: usize) -> bool {
        let lent = &self.lent[index];
        if self.single {
            let was = lent.load(Ordering::Relaxed);
            lent.store(1, Ordering::Relaxed);
            was == 0
        } else {
            lent.swap(1, Ordering::Relaxed) == 0
        }
    }

    /// Whether this process has any buffer of the pool, on loan or received.
    pub fn is_in_use(&self) -> bool {
        // Acquire: a caller that finds all flags clear may unmap the memory, after the last access to it.
        self.lent.iter().any(|lent| lent.load(Ordering::Acquire) != 0)
    }

    /// Counts the free buffers. The result may be outdated when it is returned.
    pub fn count_free(&self) -> u64 {
        let free = |word: &&AtomicU64| {
            BufferWord::from_word(word.load(Ordering::Relaxed)).state() == Some(BufferState::Free)
        };
        self.words.iter().filter(free).count() as u64
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;
