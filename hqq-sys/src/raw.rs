//! The least that two processes can do with shared memory: one cache line to and one fro. What everything else
//! is measured against.

pub mod bell;
pub mod mpmc;
pub mod ping;
pub mod spsc;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::mem::{self, Mapping};

/// Where the second line lies, bytes: two lines on, since processors fetch lines in pairs.
const SECOND_LINE: usize = 128;
/// Polls between looks at the clock.
const POLLS: u32 = 1 << 16;

/// Two cache lines at the beginning of shared memory, one to be written by each of two processes.
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
    /// Maps the lines.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] unless it is a sealed memfd of at least 192 bytes; those of
    /// [`Mapping::map`].
    pub fn new(memfd: BorrowedFd<'_>) -> io::Result<Self> {
        if !mem::facts(memfd)?.sealed {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "only sealed memory can be relied on"));
        }
        Ok(Self { memory: Mapping::map(memfd, SECOND_LINE + 64)? })
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the offsets used are 0 and SECOND_LINE, which lie in the mapping and are aligned for a word, since it
        // begins on a page; it can be written to, is sealed, so that it stays there, and lives as long as
        // `self`; all processes access the word atomically.
        unsafe { AtomicU64::from_ptr(self.memory.base().as_ptr().add(offset).cast()) }
    }

    /// Writes `n` to one line and waits until the other process has written it to the other.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if it does not within `patience`.
    #[inline]
    pub fn ping(&self, n: u64, patience: Duration) -> io::Result<()> {
        self.word(0).store(n, Ordering::Release);
        await_word(self.word(SECOND_LINE), n, patience)
    }

    /// Waits until the other process has written `n` to one line, and writes it to the other.
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
        // It may need this processor.
        std::thread::yield_now();
    }
}

/// The descriptor, if it is of sealed memory.
fn sealed(memfd: BorrowedFd<'_>) -> io::Result<BorrowedFd<'_>> {
    match mem::facts(memfd)?.sealed {
        true => Ok(memfd),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "only sealed memory can be relied on")),
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;
/// Slots of the bare rings: as many as a link has unless told otherwise.
const SLOTS: u64 = 1024;
/// Pauses between two looks of a bare ring's end that has to wait. Who looks at once again takes the line away from who is to
/// write it, and the two go on in step, slot by slot: with one pause the ring with exchanges and a fence passed on a fifth
/// of the messages.
const PAUSES: u32 = 256;
/// Bytes of memory that a bare ring takes.
pub const RING: u64 = SLOTS * LINE as u64;

/// Polls before somebody who waits begins to offer its processor to others.
const YIELD_AFTER: u64 = 1 << 20;
/// Polls before it gives up: some ten seconds.
const GIVE_UP_AFTER: u64 = YIELD_AFTER + (1 << 24);

/// Counts a poll; once there were very many, offers the processor to others, and at last gives up.
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

    /// As many messages as make the ring go round more than twice, all in order.
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
