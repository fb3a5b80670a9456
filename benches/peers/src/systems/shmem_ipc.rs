// unsafe: the crate lends the place of an item as a raw pointer, since the other process may write there.
//! The crate `shmem-ipc`: a ring of items in each direction, an item as large as the message; written and read in place.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::slice;

use hqq_bench::{Case, Exchange, How, Kind, Outcome, Session, System, Workload};
use shmem_ipc::sharedring::{Receiver, Sender};

use crate::common::{capacity, read, spin, write};

/// A message of that many words.
type Item<const WORDS: usize> = [u64; WORDS];

struct Rings<const WORDS: usize> {
    output: Sender<Item<WORDS>>,
    input: Receiver<Item<WORDS>>,
    sleeps: bool,
}

impl<const WORDS: usize> Exchange for Rings<WORDS> {
    #[inline]
    fn send(&mut self, how: How, number: u64, size: usize) -> Outcome {
        spin(|| {
            let mut sent = None;
            let put = |place: *mut Item<WORDS>, _room: usize| {
                // SAFETY: `place` is an item's, as large as the message, and the other end does not look at it until
                // this returns. Both ends are this program's, so that none of them breaks the ring's rules.
                write(how, number, unsafe { slice::from_raw_parts_mut(place.cast(), size) });
                sent = Some(());
                1
            };
            // The plain form wakes a sleeper with a system call whenever the ring was empty; who polls needs none.
            if self.sleeps {
                self.output.send_raw(put)?
            } else {
                self.output.sender_mut().send(put)?
            };
            Ok(sent)
        })
    }

    #[inline]
    fn recv(&mut self, how: How, number: u64, size: usize) -> Outcome {
        if self.sleeps {
            self.input.block_until_readable()?;
        }
        spin(|| {
            let mut done = None;
            let take = |place: *const Item<WORDS>, _count: usize| {
                // SAFETY: as in `send`: the item is as large as the message, and the other end's no more.
                done = Some(read(how, number, unsafe { slice::from_raw_parts(place.cast(), size) }));
                1
            };
            if self.sleeps {
                self.input.receive_raw(take)?
            } else {
                self.input.receiver_mut().recv(take)?
            };
            done.transpose()
        })
    }
}

impl<const WORDS: usize> Rings<WORDS> {
    fn open(session: &Session) -> Outcome<Box<dyn Workload>> {
        let give = |files: [BorrowedFd<'_>; 3]| session.send_fds(&files);
        let take = || {
            let files =
                <[OwnedFd; 3]>::try_from(session.recv_fds()?).map_err(|_| "three descriptors were due")?;
            Outcome::Ok(files.map(File::from))
        };
        let capacity = capacity(session);
        let (output, input);
        if session.leads() {
            output = Sender::new(capacity)?;
            give([
                output.memfd().as_file().as_fd(),
                output.empty_signal().as_fd(),
                output.full_signal().as_fd(),
            ])?;
            input = Receiver::new(capacity)?;
            give([
                input.memfd().as_file().as_fd(),
                input.empty_signal().as_fd(),
                input.full_signal().as_fd(),
            ])?;
        } else {
            let [memory, empty, full] = take()?;
            input = Receiver::open(capacity, memory, empty, full)?;
            let [memory, empty, full] = take()?;
            output = Sender::open(capacity, memory, empty, full)?;
        }
        Ok(Box::new(Self { output, input, sleeps: session.case().kind == Kind::Sleeping }))
    }
}

/// Opens an end.
type Opener = fn(&Session) -> Outcome<Box<dyn Workload>>;

/// What opens a ring for messages of so many bytes; an item's size must be known when this is compiled.
fn opener(size: u64) -> Option<Opener> {
    Some(match size {
        8 => Rings::<1>::open,
        48 => Rings::<6>::open,
        64 => Rings::<8>::open,
        1024 => Rings::<128>::open,
        4096 => Rings::<512>::open,
        8192 => Rings::<1024>::open,
        65536 => Rings::<8192>::open,
        _ => return None,
    })
}

/// The crate `shmem-ipc`.
pub struct ShmemIpc;

impl ShmemIpc {
    fn open(session: &Session) -> Outcome<Box<dyn Workload>> {
        opener(session.case().payload).ok_or("there is no ring for messages of this size")?(session)
    }
}

impl System for ShmemIpc {
    fn name(&self) -> &'static str {
        "shmem-ipc"
    }

    fn can(&self, case: &Case) -> bool {
        use Kind::{Pool, Sleeping, Slot, ThroughputSpsc, Untouched};
        opener(case.payload).is_some()
            && matches!(case.kind, Slot | Pool | Untouched | Sleeping | ThroughputSpsc)
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        Self::open(session)
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        Self::open(session)
    }
}
