//! Layer 1: who holds which buffer. Words only, no payload; no unsafe.
//!
//! # State
//!
//! One word a buffer, in shared memory ([`BufferWord`]):
//!
//! ```text
//!          take (CAS)            hold (store)            give (store)
//!   free ------------> owned(S) --------------> held(R) --------------> free
//!     ^                  |  |  ^
//!     +-- give (store) --+  |  |         a loan that was dropped unsent
//!     |    prepare (store)  v  |  take (store)
//!     +-- give (store) -- spare(S)       taken ahead of the loan that will want it
//! ```
//!
//! Beside it each process keeps one private word a buffer, the *mark*: set while this process has the buffer lent
//! out to its own code. The peer cannot write it. A buffer whose mark is set is never handed out again, whatever
//! its shared word says.
//!
//! # Invariants
//!
//! - **One holder**: at every instruction a buffer is free, owned by a sender, in a published or taken slot, or
//!   held by a receiver. A published slot decides over the word: the word still says `owned` while the packet
//!   is in flight, and it may say `held` for a moment before the slot is released. So recovery reads the slots
//!   first.
//! - **Marks inside words**: the mark is set after the word is won and cleared before the word is given away or
//!   the packet is published, so that whoever wins the word next finds the mark clear.
//! - **Runs**: a message longer than a buffer takes consecutive buffers. Only the holder of the *lease* word
//!   gathers more than one, so two gatherers never hold half of what the other needs; it makes one pass over
//!   the pool and gives back what it got when a word in the middle is lost to a single take. The run travels
//!   whole: a message shorter than its loan still names every buffer of it, so no tail is forgotten.
//!
//! # Edges
//!
//! | label | store | load | guarantees |
//! |---|---|---|---|
//! | pool.give | `give`, release | `take`, acquire | the last reader is done with the payload before the next writer begins |
//! | pool.lease | `gather`, release | `gather`, acquire | a gatherer sees the words as the one before left them |
//! | pool.spare | `prepare`, release | `take`, acquire | who uses what another thread took has its `take` behind it |
//!
//! What a receiver sees of the payload is the ring's edge (ring.publish).
//!
//! # Where a process can die
//!
//! After `take`: the word names the dead and no slot names the buffer; recovery frees it. After publish: the slot
//! decides, the message is delivered. After `hold`, before the slot is released: the slot decides, recovery
//! publishes it again and leaves the word. After the release: the word names the dead; recovery frees it. Inside
//! a gather: each word won so far names the dead, and so does the lease.

use crate::error::Impossible;
use crate::shm::packet::Run;
use crate::shm::words::{BufferState, BufferWord, Holder, LeaseWord};
use crate::sync::{AtomicU64, Ordering, load_for_update};

/// Why nothing could be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Fewer free buffers than wanted; how many were seen.
    Exhausted(u64),
    /// Enough, but the longest run that was seen is too short.
    Fragmented(u64),
    /// Another thread or process gathers a run just now.
    Busy,
    /// A word that no operation leaves.
    Impossible(Impossible),
}

/// A buffer that the peer names cannot be held: this process holds it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyHeld;

#[inline(always)]
fn impossible(word: u64) -> Shortage {
    Shortage::Impossible(Impossible { what: "a buffer word", found: word })
}

/// The buffers of one direction, seen from one end of it.
#[derive(Clone, Copy, Debug)]
pub struct Pool<'a> {
    words: &'a [AtomicU64],
    lease: &'a AtomicU64,
    lent: &'a [AtomicU64],
    hint: &'a AtomicU64,
    /// The buffer that was taken ahead of time, plus one; 0 for none.
    spare: &'a AtomicU64,
    /// The word of a buffer that this end has on loan, and of one that it holds.
    owned_word: u64,
    held_word: u64,
    /// The word of a buffer that is taken ahead of time.
    spare_word: u64,
    holder: Holder,
    single: bool,
}

impl<'a> Pool<'a> {
    /// The pool over its shared words and lease, with this process's private words: a mark for each buffer, where to
    /// look next, and what is taken ahead of time (both zero at first). With `single`, no other thread takes (on the
    /// sending end) or holds (on the receiving end).
    ///
    /// # Panics
    /// Unless there is a mark for each word.
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

    /// How many buffers there are.
    #[inline(always)]
    pub fn buffers(&self) -> u64 {
        self.words.len() as u64
    }

    /// Takes `count` consecutive free buffers for a loan.
    ///
    /// # Errors
    /// [`Shortage`]: nothing was taken.
    #[inline]
    pub fn allocate(&self, count: u32) -> Result<Run, Shortage> {
        if count == 1 {
            return self.allocate_one();
        }
        // It may be just the one that the run needs.
        self.give_spare();
        self.gather(count)
    }

    /// The index and the word of the buffer that is tried first when the next one is taken.
    #[inline(always)]
    pub fn next(&self) -> (usize, &'a AtomicU64) {
        let index = self.index(self.hint.load(Ordering::Relaxed) as usize);
        (index, &self.words[index])
    }

    /// As [`take`](Self::take), a single buffer.
    ///
    /// # Errors
    /// As there.
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

    /// Takes a buffer ahead of time, for the next [`take`](Self::take) of one: its word has then been fetched from the
    /// processor that gave it back. Which one; `None` if there is one already, or if none is free. For threads that may take.
    #[inline(always)]
    pub fn prepare(&self) -> Option<usize> {
        if self.has_spare() {
            return None;
        }
        let run = self.allocate_next().ok()?;
        let spare = u64::from(run.first) + 1;
        // Still this thread's alone: whoever gets it from the private word is behind this.
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

    /// Whether only one thread may take.
    #[inline(always)]
    pub fn is_single(&self) -> bool {
        self.single
    }

    /// Whether a buffer has been taken ahead of time. Stale as soon as it returns.
    #[inline(always)]
    pub fn has_spare(&self) -> bool {
        self.spare.load(Ordering::Relaxed) != 0
    }

    /// Gives back what [`prepare`](Self::prepare) took, if nobody has used it. Whether there was anything. For threads that
    /// may take.
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
        // The usual case first: the buffer after the one that was taken last has come home.
        let hint = self.hint.load(Ordering::Relaxed) as usize;
        let index = self.index(hint);
        if self.win(index)? { Ok(self.advance_hint(hint, index)) } else { self.allocate_any(hint) }
    }

    /// The buffer whose turn it is: each once in as many turns as there are buffers. Two in a row have their words in
    /// different lines, so that a sender and a receiver at work on two messages do not meet in one; and no more than
    /// sixteen are mixed, so that those that are kept lie close together and leave room for runs.
    #[inline(always)]
    fn index(&self, hint: usize) -> usize {
        let buffers = self.words.len();
        // Eight words a line.
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

    /// Takes one buffer if it is free, word and mark.
    #[inline(always)]
    fn win(&self, index: usize) -> Result<bool, Shortage> {
        let word = &self.words[index];
        let free = BufferWord::FREE.word();
        let found = load_for_update(word, Ordering::Acquire); // edge(pool.give): acquire
        if found != free {
            return Self::not_free(found);
        }
        if self.single {
            // Only receivers store to a free buffer's word, and they stored last when they gave it.
            word.store(self.owned_word, Ordering::Relaxed);
        } else if word.compare_exchange(free, self.owned_word, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return Ok(false);
        }
        if self.set_lent(index) {
            return Ok(true);
        }
        // The word said free while our own code still has the buffer: only a corrupt peer does that.
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

    /// Lets go of a loan's marks because its packet is about to be published: from then on the words are the
    /// receiver's to change.
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

    /// Marks the buffers of a packet as held, before its slot is released.
    ///
    /// # Errors
    /// [`AlreadyHeld`] if this process holds one of them already; then none was marked anew.
    #[inline(always)]
    pub fn hold(&self, run: Run) -> Result<(), AlreadyHeld> {
        if run.count != 1 {
            return self.hold_run(run);
        }
        let index = run.first as usize;
        if !self.set_lent(index) {
            return Err(AlreadyHeld);
        }
        // Ordered before the slot's release by that store (ring.free).
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

    /// Gives a run back: a dropped loan, or a message that has been read.
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

    /// Sets a buffer's private mark; false if it was set.
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

    /// Whether this process has any buffer of this pool, on loan or received.
    pub fn is_in_use(&self) -> bool {
        // Who finds a mark clear is after the last look at the buffer: it may unmap the memory.
        self.lent.iter().any(|lent| lent.load(Ordering::Acquire) != 0)
    }

    /// Counts the free buffers. A picture that may be stale when it is returned.
    pub fn count_free(&self) -> u64 {
        let free = |word: &&AtomicU64| {
            BufferWord::from_word(word.load(Ordering::Relaxed)).state() == Some(BufferState::Free)
        };
        self.words.iter().filter(free).count() as u64
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;
