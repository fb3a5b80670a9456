//! The connection between the two ends of a system while it opens them.

use std::any::Any;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::Duration;

use hqq::StandardLink;
use hqq_sys::{mem, poll, sock};

use crate::case::Case;
use crate::outcome::Outcome;

/// The time limit of one end that waits for the other.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The first byte of messages on the control link, before and between the turns.
pub(crate) mod tag {
    pub const MESSAGE: u8 = 0;
    pub const FAILED: u8 = 1;
    pub const OPEN: u8 = 2;
    pub const TURN: u8 = 3;
    pub const DONE: u8 = 4;
}

/// The place where two ends that are threads of one process share values.
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
    /// The case that the system is opened for. Its kind says whether to [sleep](crate::case::Kind::Sleeping) rather than
    /// poll.
    pub fn case(&self) -> Case {
        self.case
    }

    /// Bytes of a message.
    pub fn size(&self) -> usize {
        self.case.payload as usize
    }

    /// A name that is unique on this machine: letters, digits and hyphens, the same at both ends.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is the leading end.
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// Sends `bytes` to the other end, which must call [`recv`](Self::recv).
    ///
    /// # Errors
    /// The control link's.
    pub fn send(&self, bytes: &[u8]) -> Outcome {
        let mut message = vec![tag::MESSAGE];
        message.extend(bytes);
        Ok(self.control.send(&message)?)
    }

    /// Receives what the other end [sends](Self::send).
    ///
    /// # Errors
    /// Failures of the other end and of the control link.
    pub fn recv(&self) -> Outcome<Vec<u8>> {
        expect(self.control, tag::MESSAGE)
    }

    /// Waits until the other end calls this, too.
    ///
    /// # Errors
    /// Failures of the other end and of the control link.
    pub fn barrier(&self) -> Outcome {
        self.send(b"here")?;
        self.recv().map(drop)
    }

    /// Sends descriptors to the other end, which must call [`recv_fds`](Self::recv_fds).
    ///
    /// # Errors
    /// The kernel's.
    pub fn send_fds(&self, descriptors: &[BorrowedFd<'_>]) -> Outcome {
        Ok(sock::send(self.socket, b"d", descriptors)?)
    }

    /// Receives the descriptors that the other end sends.
    ///
    /// # Errors
    /// The kernel's; if none come.
    pub fn recv_fds(&self) -> Outcome<Vec<OwnedFd>> {
        poll::many(&[self.socket], Some(PATIENCE))?;
        match sock::recv(self.socket, &mut [0; 8])? {
            Some(received) if !received.fds.is_empty() => Ok(received.fds),
            _ => Err("the other end sent no descriptors".into()),
        }
    }

    /// Sealed and zeroed memory of `len` bytes that both ends share.
    ///
    /// # Errors
    /// The kernel's.
    pub fn memory(&self, len: u64) -> Outcome<OwnedFd> {
        if !self.leads {
            return self.recv_fds()?.pop().ok_or_else(|| "the other end sent no memory".into());
        }
        let memory = mem::create(&self.name, len)?;
        mem::seal(memory.as_fd())?;
        self.send_fds(&[memory.as_fd()])?;
        Ok(memory)
    }

    /// Hands a value to the other end, which must call [`shared`](Self::shared). Both must be threads of one process.
    ///
    /// # Errors
    /// If they are not.
    pub fn share<T: Any + Send>(&self, thing: T) -> Outcome {
        *self.shelf()?.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Box::new(thing));
        self.barrier()
    }

    /// Receives the value that the other end [hands over](Self::share).
    ///
    /// # Errors
    /// If it hands over another type, or is not a thread of this process.
    pub fn shared<T: Any + Send>(&self) -> Outcome<T> {
        self.barrier()?;
        let thing = self.shelf()?.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let thing = thing.and_then(|thing| thing.downcast().ok());
        thing.map(|thing| *thing).ok_or_else(|| "the other end handed over a value of another type".into())
    }

    fn shelf(&self) -> Outcome<&Shelf> {
        self.shelf.ok_or_else(|| "the two ends are not threads of one process".into())
    }
}

/// Receives the next message of the control link, which must begin with `tag`, and returns the rest.
pub(crate) fn expect(control: &StandardLink, tag: u8) -> Outcome<Vec<u8>> {
    let message = control.recv_timeout(PATIENCE)?;
    match message.split_first() {
        Some((&found, rest)) if found == tag => Ok(rest.to_vec()),
        Some((&tag::FAILED, rest)) => Err(String::from_utf8_lossy(rest).into()),
        _ => Err("the other end sent an unexpected message".into()),
    }
}

/// Decodes `N` words.
pub(crate) fn words<const N: usize>(bytes: &[u8]) -> Outcome<[u64; N]> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let words = <[[u8; 8]; N]>::try_from(chunks).ok().filter(|_| rest.is_empty());
    words.map(|words| words.map(u64::from_le_bytes)).ok_or_else(|| "a message has the wrong length".into())
}
