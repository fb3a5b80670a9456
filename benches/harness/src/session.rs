//! What a system finds when it opens its ends: a word with the other end.

use std::any::Any;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::Duration;

use hqq::StandardLink;
use hqq_sys::{mem, poll, sock};

use crate::case::Case;
use crate::outcome::Outcome;

/// How long one end waits for the other.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The first byte of what goes over the control link ahead of and between the turns.
pub(crate) mod tag {
    pub const TOLD: u8 = 0;
    pub const FAILED: u8 = 1;
    pub const OPEN: u8 = 2;
    pub const TURN: u8 = 3;
    pub const DONE: u8 = 4;
}

/// What two ends leave for each other if they are threads of one process.
pub(crate) type Shelf = Mutex<Option<Box<dyn Any + Send>>>;

/// The connection of the two ends while a system opens them.
pub struct Session<'a> {
    pub(crate) control: &'a StandardLink,
    pub(crate) socket: BorrowedFd<'a>,
    pub(crate) shelf: Option<&'a Shelf>,
    pub(crate) case: Case,
    pub(crate) name: String,
    pub(crate) leads: bool,
}

impl Session<'_> {
    /// What it will be used for. Also says whether to [sleep](crate::case::Kind::Sleeping) rather than poll.
    pub fn case(&self) -> Case {
        self.case
    }

    /// Bytes of a message.
    pub fn size(&self) -> usize {
        self.case.payload as usize
    }

    /// A name that nothing else on this machine has: letters, digits and hyphens, the same at both ends.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is the leader's end.
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// Tells the other end something; it must [`hear`](Self::hear).
    ///
    /// # Errors
    /// The control link's.
    pub fn tell(&self, bytes: &[u8]) -> Outcome {
        let mut message = vec![tag::TOLD];
        message.extend(bytes);
        Ok(self.control.send(&message)?)
    }

    /// What the other end tells.
    ///
    /// # Errors
    /// What went wrong there; the control link's.
    pub fn hear(&self) -> Outcome<Vec<u8>> {
        expect(self.control, tag::TOLD)
    }

    /// Waits until the other end is at the same place.
    ///
    /// # Errors
    /// What went wrong there; the control link's.
    pub fn meet(&self) -> Outcome {
        self.tell(b"here")?;
        self.hear().map(drop)
    }

    /// Gives descriptors to the other end; it must [`take`](Self::take) them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn give(&self, descriptors: &[BorrowedFd<'_>]) -> Outcome {
        Ok(sock::send(self.socket, b"d", descriptors)?)
    }

    /// The descriptors that the other end gives.
    ///
    /// # Errors
    /// The kernel's; if none come.
    pub fn take(&self) -> Outcome<Vec<OwnedFd>> {
        poll::many(&[self.socket], Some(PATIENCE))?;
        match sock::recv(self.socket, &mut [0; 8])? {
            Some(received) if !received.fds.is_empty() => Ok(received.fds),
            _ => Err("the other end was to give descriptors, and did not".into()),
        }
    }

    /// Sealed memory of `len` bytes, zeroed, the same at both ends.
    ///
    /// # Errors
    /// The kernel's.
    pub fn memory(&self, len: u64) -> Outcome<OwnedFd> {
        if !self.leads {
            return self.take()?.pop().ok_or_else(|| "no memory came".into());
        }
        let memory = mem::create(&self.name, len)?;
        mem::seal(memory.as_fd())?;
        self.give(&[memory.as_fd()])?;
        Ok(memory)
    }

    /// Leaves something for the other end, if both are threads of one process; it must [`find`](Self::find) it.
    ///
    /// # Errors
    /// If they are not.
    pub fn leave<T: Any + Send>(&self, thing: T) -> Outcome {
        *self.shelf()?.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Box::new(thing));
        self.meet()
    }

    /// What the other end [leaves](Self::leave).
    ///
    /// # Errors
    /// If it leaves something else or is no thread of this process.
    pub fn find<T: Any + Send>(&self) -> Outcome<T> {
        self.meet()?;
        let thing = self.shelf()?.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let thing = thing.and_then(|thing| thing.downcast().ok());
        thing.map(|thing| *thing).ok_or_else(|| "the other end left something else".into())
    }

    fn shelf(&self) -> Outcome<&Shelf> {
        self.shelf.ok_or_else(|| "the two ends are no threads of one process".into())
    }
}

/// The next message of the control link, which must begin with `tag`; without it.
pub(crate) fn expect(control: &StandardLink, tag: u8) -> Outcome<Vec<u8>> {
    let message = control.recv_timeout(PATIENCE)?;
    match message.split_first() {
        Some((&found, rest)) if found == tag => Ok(rest.to_vec()),
        Some((&tag::FAILED, rest)) => Err(String::from_utf8_lossy(rest).into()),
        _ => Err("the other end speaks out of turn".into()),
    }
}

/// Words as they travel.
pub(crate) fn words<const N: usize>(bytes: &[u8]) -> Outcome<[u64; N]> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let words = <[[u8; 8]; N]>::try_from(chunks).ok().filter(|_| rest.is_empty());
    words.map(|words| words.map(u64::from_le_bytes)).ok_or_else(|| "words were due".into())
}
