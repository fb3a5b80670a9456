//! Minimal exchanges between two processes through shared memory, without recovery or validation: references for
//! benchmarks. [`RawLine`] exchanges one cache line in each direction.

pub mod bell;
pub mod mpmc;
pub mod ping;
pub mod spsc;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::mem::{self, Mapping};

/// Offset of the second line, bytes. Two lines apart, because processors fetch lines in pairs.
const SECOND_LINE: usize = 128;
/// Number of polls between two readings of the clock.
const POLLS: u32 = 1 << 16;

/// Two cache lines at the start of shared memory. Each of two processes writes to one of them.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::{os::fd::AsFd, thread, time::Duration};
/// use hqq_sys::{mem, raw::RawLine};
///
/// let memory = mem::create("ping-pong", 4096)?;
/// mem::seal(memory.as_fd())?;
/// let (near, far) = (RawLine::new(memory.as_fd())?, RawLine::new(memory.as_fd())?);
/// let patience = Duration::from_secs(5);
/// let other = thread::spawn(move || (1..=1000).try_for_each(|n| far.pong(n, patience)));
/// (1..=1000).try_for_each(|n| near.ping(n, patience))?;
/// other.join().unwrap()
/// # }
/// ```
#[derive(Debug)]
pub struct RawLine {
    memory: Mapping,
}

impl RawLine {
    /// Maps the lines of `memfd`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] unless it is a sealed memfd of at least 192 bytes; those of [`Mapping::map`].
    pub fn new(memfd: BorrowedFd<'_>) -> io::Result<Self> {
        if !mem::facts(memfd)?.sealed {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "only sealed memory can be relied on"));
        }
        Ok(Self { memory: Mapping::map(memfd, SECOND_LINE + 64)? })
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the offsets are 0 and SECOND_LINE, which lie in the mapping; the mapping starts at a page, so they
        // are aligned; it is writable, sealed against truncation, and lives as long as `self`; all processes access
        // the word atomically.
        unsafe { AtomicU64::from_ptr(self.memory.base().as_ptr().add(offset).cast()) }
    }

    /// Writes `n` to the first line and waits until the other process has written it to the second.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if that takes longer than `patience`.
    #[inline]
    pub fn ping(&self, n: u64, patience: Duration) -> io::Result<()> {
        self.word(0).store(n, Ordering::Release);
        await_word(self.word(SECOND_LINE), n, patience)
    }

    /// Waits until the other process has written `n` to the first line, and writes it to the second.
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    #[inline]
    pub fn pong(&self, n: u64, patience: Duration) -> io::Result<()> {
        await_word(self.word(0), n, patience)?;
        self.word(SECOND_LINE).store(n, Ordering::Release);
        Ok(())
    }
}

#[inline]
fn await_word(word: &AtomicU64, n: u64, patience: Duration) -> io::Result<()> {
    let mut began = None;
    loop {
        for _ in 0..POLLS {
            if word.load(Ordering::Acquire) == n {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        if began.get_or_insert_with(Instant::now).elapsed() > patience {
            let found = word.load(Ordering::Acquire);
            let message = format!("{n} was due, {found} is there after {patience:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        // The other process may need this processor.
        std::thread::yield_now();
    }
}

/// Returns the descriptor if it is a sealed memfd.
fn sealed(memfd: BorrowedFd<'_>) -> io::Result<BorrowedFd<'_>> {
    match mem::facts(memfd)?.sealed {
        true => Ok(memfd),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "only sealed memory can be relied on")),
    }
}

/// Size of a cache line, bytes.
const LINE: usize = 64;
/// Number of slots of the bare rings: the default of a link.
const SLOTS: u64 = 1024;
/// Number of pauses between two polls of a bare ring. An end that polls sooner takes the cache line away from the
/// other end, which is about to write to it, and the two proceed in lockstep. With one pause the ring with exchanges
/// and a fence transferred a fifth of the messages.
const PAUSES: u32 = 256;
/// Size of a bare ring, bytes.
pub const RING: u64 = SLOTS * LINE as u64;

/// Number of polls after which a waiting thread starts to yield its processor.
const YIELD_AFTER: u64 = 1 << 20;
/// Number of polls after which it gives up: some ten seconds.
const GIVE_UP_AFTER: u64 = YIELD_AFTER + (1 << 24);

/// Counts a poll. After [`YIELD_AFTER`] polls yields the processor; after [`GIVE_UP_AFTER`] fails.
#[inline(always)]
fn count_poll(polls: &mut u64) -> io::Result<()> {
    *polls += 1;
    if *polls < YIELD_AFTER { Ok(()) } else { yield_or_give_up(*polls) }
}

#[cold]
fn yield_or_give_up(polls: u64) -> io::Result<()> {
    std::thread::yield_now();
    if polls < GIVE_UP_AFTER { Ok(()) } else { Err(io::Error::new(io::ErrorKind::TimedOut, "nothing comes")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn patience_ends_and_foreign_memory_is_refused() {
        let memory = mem::create("raw", 4096).unwrap();
        let unsealed = RawLine::new(memory.as_fd()).unwrap_err();
        assert_eq!(unsealed.kind(), io::ErrorKind::InvalidInput);
        mem::seal(memory.as_fd()).unwrap();
        let line = RawLine::new(memory.as_fd()).unwrap();
        let late = line.ping(1, Duration::ZERO).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert!(line.pong(1, Duration::ZERO).is_ok(), "the ping stands there");
    }

    fn memory(len: u64) -> std::os::fd::OwnedFd {
        let memory = mem::create("raw", len).unwrap();
        mem::seal(memory.as_fd()).unwrap();
        memory
    }

    #[test]
    fn what_is_sent_is_received() {
        for size in [8, 57] {
            let memory = memory(ping::Ping::memory(size));
            let mut near = ping::Ping::new(memory.as_fd(), size, true).unwrap();
            let mut far = ping::Ping::new(memory.as_fd(), size, false).unwrap();
            for number in 1..10 {
                near.send(|bytes| bytes.fill(number));
                assert_eq!(far.recv(|bytes| bytes.to_vec()).unwrap(), vec![number; size]);
                far.send(|bytes| bytes.fill(0));
                near.recv(|bytes| assert_eq!(bytes[0], 0)).unwrap();
            }
        }
        let (near, far) = crate::sock::pair().unwrap();
        let (near, far) = (bell::Bell::new(near, true).unwrap(), bell::Bell::new(far, false).unwrap());
        far.send(b"word").unwrap();
        assert_eq!(near.recv(&mut [0; 64]).unwrap(), 4);
        drop(near);
        assert_eq!(far.recv(&mut [0; 64]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    /// Sends messages for more than two laps of the ring, and receives them in order.
    macro_rules! ring_goes_round {
        ($ring:ty) => {{
            let memory = memory(RING);
            let (mut sender, mut receiver) =
                (<$ring>::new(memory.as_fd()).unwrap(), <$ring>::new(memory.as_fd()).unwrap());
            let sent = std::thread::spawn(move || {
                (1..=3000_u64)
                    .try_for_each(|n| sender.send(|bytes| bytes[..8].copy_from_slice(&n.to_le_bytes())))
            });
            for number in 1..=3000_u64 {
                let found = receiver.recv(|bytes| <[u8; 8]>::try_from(&bytes[..8]).unwrap()).unwrap();
                assert_eq!(u64::from_le_bytes(found), number);
            }
            sent.join().unwrap().unwrap();
        }};
    }

    #[test]
    fn rings_go_round() {
        ring_goes_round!(spsc::Spsc<false>);
        ring_goes_round!(spsc::Spsc<true>);
        ring_goes_round!(mpmc::Mpmc<false>);
        ring_goes_round!(mpmc::Mpmc<true>);
    }

    #[test]
    fn two_senders_share_a_bare_ring() {
        let memory = memory(RING);
        let ends = || mpmc::Mpmc::<false>::new(memory.as_fd()).unwrap();
        let senders = [ends(), ends()].map(|mut sender| {
            std::thread::spawn(move || (0..2000).try_for_each(|_| sender.send(|bytes| bytes[0] = 1)))
        });
        let mut receiver = ends();
        for _ in 0..4000 {
            assert_eq!(receiver.recv(|bytes| bytes[0]).unwrap(), 1);
        }
        for sender in senders {
            sender.join().unwrap().unwrap();
        }
    }
}
