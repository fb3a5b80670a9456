//! Layer 3: [`StandardLink`], and the two halves it can be split into.

use std::fmt;
use std::marker::PhantomData;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytemuck::Pod;

use crate::demux::WireError;
use crate::error::{Error, Result};
use crate::link::core::{LinkCore, Peer};
use crate::link::deadline::Wait;
use crate::link::message::{Loan, Message, RecvIntoError, TypedLoan};
use crate::observe::Stats;
use crate::shm::endpoint::SlotBytes;
use crate::shm::layout::Geometry;
use crate::shm::words::Role;

/// Messages that [`StandardLink::recv_each`] takes at a time.
const CHUNK: usize = 16;

/// What a link and its sending half have in common.
macro_rules! sending {
    () => {
        /// Sends a message, waiting for room. Up to 48 bytes travel in the ring itself, more through the pool;
        /// either way this form copies once.
        ///
        /// # Errors
        /// [`Error::TooLarge`]; [`Error::Closed`], [`Error::PeerDead`], [`Error::PeerGone`] or
        /// [`Error::Corrupt`] once the link has ended. If it ends during the call, the message may have been
        /// delivered all the same.
        #[inline(always)]
        pub fn send(&self, message: &[u8]) -> Result<()> {
            self.core.send(message, Wait::Forever)
        }

        /// Sends a message if there is room now.
        ///
        /// # Errors
        /// As [`send`](Self::send); [`Error::RingFull`], [`Error::PoolExhausted`], [`Error::PoolFragmented`] or
        /// [`Error::Busy`] if it would have to wait.
        #[inline(always)]
        pub fn try_send(&self, message: &[u8]) -> Result<()> {
            self.core.try_send(message)
        }

        /// Sends a message, waiting for room no longer than `time`.
        ///
        /// # Errors
        /// As [`send`](Self::send), or [`Error::Timeout`].
        pub fn send_timeout(&self, message: &[u8], time: Duration) -> Result<()> {
            self.core.send(message, Wait::from(time))
        }

        /// Sends a message, waiting for room until `deadline`.
        ///
        /// # Errors
        /// As [`send`](Self::send), or [`Error::Timeout`].
        pub fn send_deadline(&self, message: &[u8], deadline: Instant) -> Result<()> {
            self.core.send(message, Wait::Until(deadline))
        }

        /// Sends a message of `len` bytes that `fill` writes in place, waiting for room: the shortest way, since no
        /// handle is made. What `fill` finds there is whatever was there.
        ///
        /// ```
        /// let (primary, secondary) = hqq::StandardLink::pair()?;
        /// primary.send_with(1000, |bytes| bytes.fill(b'x'))?;
        /// assert_eq!(secondary.recv_with(|bytes| bytes.len())?, 1000);
        /// # Ok::<(), hqq::Error>(())
        /// ```
        ///
        /// # Errors
        /// As [`send`](Self::send).
        ///
        /// # Panics
        /// If `fill` does; then nothing is sent.
        #[inline(always)]
        pub fn send_with<T>(&self, len: usize, fill: impl FnOnce(&mut [u8]) -> T) -> Result<T> {
            if self.core.fits_slot(len) {
                let mut message = SlotBytes::zeroed(len);
                let filled = fill(message.bytes_mut());
                self.core.send_inline(&message)?;
                return Ok(filled);
            }
            let mut loan = Loan::empty(&self.core);
            self.core.loan(len, 1, Wait::Forever, loan.place())?;
            let filled = fill(&mut loan);
            self.core.send_payload(loan.place(), Wait::Forever)?;
            Ok(filled)
        }

        /// Sends several messages, waiting for room, and wakes the peer once for as many as fit at a time. How
        /// many were sent: all, unless the link ended after the first.
        ///
        /// # Errors
        /// As [`send`](Self::send), if not even the first was sent.
        pub fn send_batch(&self, messages: &[&[u8]]) -> Result<usize> {
            let mut done = 0;
            while done < messages.len() {
                let sent = match self.try_send_batch(&messages[done..]) {
                    Ok(sent) => Ok(sent),
                    Err(error) if error.is_transient() => self.send(messages[done]).map(|()| 1),
                    Err(error) => Err(error),
                };
                match sent {
                    Ok(sent) => done += sent,
                    Err(error) if done == 0 => return Err(error),
                    Err(_) => break,
                }
            }
            Ok(done)
        }

        /// Sends as many of the messages, in order, as there is room for now, and wakes the peer once.
        ///
        /// # Errors
        /// As [`try_send`](Self::try_send), if not even the first was sent.
        pub fn try_send_batch(&self, messages: &[&[u8]]) -> Result<usize> {
            if messages.is_empty() {
                return Ok(0);
            }
            self.core.try_send_batch(messages)
        }

        /// Lends memory for a message of `len` bytes, waiting for it. Up to 48 bytes are lent without a buffer;
        /// more than a buffer holds takes several, side by side.
        ///
        /// # Errors
        /// [`Error::TooLarge`], or the link's end as for [`send`](Self::send).
        #[inline(always)]
        pub fn loan(&self, len: usize) -> Result<Loan<'_>> {
            let mut loan = Loan::empty(&self.core);
            self.core.loan(len, 1, Wait::Forever, loan.place())?;
            Ok(loan)
        }

        /// Lends memory for a message if there is some now.
        ///
        /// # Errors
        /// As [`loan`](Self::loan); [`Error::PoolExhausted`], [`Error::PoolFragmented`] or [`Error::Busy`].
        #[inline(always)]
        pub fn try_loan(&self, len: usize) -> Result<Loan<'_>> {
            let mut loan = Loan::empty(&self.core);
            self.core.try_loan(len, 1, loan.place())?;
            Ok(loan)
        }

        /// Lends memory for a message, waiting for it no longer than `time`.
        ///
        /// # Errors
        /// As [`loan`](Self::loan), or [`Error::Timeout`].
        pub fn loan_timeout(&self, len: usize, time: Duration) -> Result<Loan<'_>> {
            let mut loan = Loan::empty(&self.core);
            self.core.loan(len, 1, Wait::from(time), loan.place())?;
            Ok(loan)
        }

        /// Lends memory for one value of type `T`, zeroed, waiting for it.
        ///
        /// # Errors
        /// As [`loan`](Self::loan); [`Error::TypeAlign`] if buffers are not aligned as `T` must be (they are to
        /// 64 bytes at least).
        pub fn loan_as<T: Pod>(&self) -> Result<TypedLoan<'_, T>> {
            let mut loan = Loan::empty(&self.core);
            self.core.loan(size_of::<T>(), align_of::<T>(), Wait::Forever, loan.place())?;
            TypedLoan::new(loan)
        }
    };
}

/// What a link and its receiving half have in common.
macro_rules! receiving {
    () => {
        /// Receives the next message, waiting for it.
        ///
        /// # Errors
        /// Once everything that was sent has been received: [`Error::Closed`] if the peer closed in order or
        /// this end was shut down, [`Error::PeerDead`], [`Error::PeerGone`]. [`Error::Corrupt`] at once.
        #[inline(always)]
        pub fn recv(&self) -> Result<Message<'_>> {
            self.recv_wait(Wait::Forever)
        }

        /// Receives the next message if there is one now.
        ///
        /// # Errors
        /// As [`recv`](Self::recv); [`Error::RingEmpty`] if it would have to wait.
        #[inline(always)]
        pub fn try_recv(&self) -> Result<Message<'_>> {
            let mut message = Message::empty(&self.core);
            if self.core.take(0, message.place())? {
                return Ok(message);
            }
            self.core.idle();
            Err(Error::RingEmpty)
        }

        /// Receives the next message, waiting for it, and lets `read` read it in place: the shortest way, since no
        /// handle is made. The message is given back when `read` returns. An example is at `send_with`.
        ///
        /// # Errors
        /// As [`recv`](Self::recv).
        #[inline(always)]
        pub fn recv_with<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
            let mut message = Message::empty(&self.core);
            self.core.take_wait(Wait::Forever, message.place())?;
            Ok(read(&message))
        }

        /// As [`recv_with`](Self::recv_with), if there is a message now.
        ///
        /// # Errors
        /// As [`try_recv`](Self::try_recv).
        #[inline(always)]
        pub fn try_recv_with<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
            let mut message = Message::empty(&self.core);
            if self.core.take(0, message.place())? {
                return Ok(read(&message));
            }
            self.core.idle();
            Err(Error::RingEmpty)
        }

        /// Receives the next message, waiting for it no longer than `time`.
        ///
        /// # Errors
        /// As [`recv`](Self::recv), or [`Error::Timeout`].
        pub fn recv_timeout(&self, time: Duration) -> Result<Message<'_>> {
            self.recv_wait(Wait::from(time))
        }

        /// Receives the next message, waiting for it until `deadline`.
        ///
        /// # Errors
        /// As [`recv`](Self::recv), or [`Error::Timeout`].
        pub fn recv_deadline(&self, deadline: Instant) -> Result<Message<'_>> {
            self.recv_wait(Wait::Until(deadline))
        }

        #[inline(always)]
        fn recv_wait(&self, wait: Wait) -> Result<Message<'_>> {
            let mut message = Message::empty(&self.core);
            self.core.take_wait(wait, message.place())?;
            Ok(message)
        }

        /// Receives up to `max` messages and lets `read` read each in place: waits for the first, then takes what is there,
        /// sixteen at a time, and wakes the peer once for those that were small. How many there were. Should `read` panic,
        /// what is left of those sixteen is lost.
        ///
        /// ```
        /// let (primary, secondary) = hqq::StandardLink::pair()?;
        /// primary.send_batch(&[b"one", b"two", b"three"])?;
        /// let mut letters = 0;
        /// assert_eq!(secondary.recv_each(16, |message| letters += message.len())?, 3);
        /// assert_eq!(letters, 11);
        /// # Ok::<(), hqq::Error>(())
        /// ```
        ///
        /// # Errors
        /// As [`recv`](Self::recv), if there is not even one.
        pub fn recv_each(&self, max: usize, mut read: impl FnMut(&[u8])) -> Result<usize> {
            if max == 0 {
                return Ok(0);
            }
            self.recv_with(&mut read)?;
            let mut taken = 1;
            // They are taken before any is read: nobody knows how long that takes, and the peer may sleep for the room.
            let mut chunk: [Message<'_>; CHUNK] = std::array::from_fn(|_| Message::empty(&self.core));
            loop {
                let wanted = CHUNK.min(max - taken);
                let mut count = 0;
                while count < wanted && self.core.take_quietly(chunk[count].place()) {
                    count += 1;
                }
                if count > 0 {
                    self.core.notify_peer(self.core.region().wake_senders());
                }
                for message in &mut chunk[..count] {
                    read(message);
                    message.give_back();
                }
                taken += count;
                if count == 0 || count < wanted {
                    break;
                }
            }
            // Whatever takes the long way.
            while taken < max && self.try_recv_with(&mut read).is_ok() {
                taken += 1;
            }
            Ok(taken)
        }

        /// Receives up to `max` messages: waits for the first, then takes what is there. Appends them to `out`
        /// and returns how many.
        ///
        /// # Errors
        /// As [`recv`](Self::recv), if there is not even one.
        pub fn recv_batch<'a>(&'a self, out: &mut Vec<Message<'a>>, max: usize) -> Result<usize> {
            if max == 0 {
                return Ok(0);
            }
            out.push(self.recv()?);
            Ok(1 + self.try_recv_batch(out, max - 1).unwrap_or(0))
        }

        /// Receives up to `max` messages that are there now. Appends them to `out` and returns how many.
        ///
        /// # Errors
        /// As [`try_recv`](Self::try_recv), if there is not even one.
        pub fn try_recv_batch<'a>(&'a self, out: &mut Vec<Message<'a>>, max: usize) -> Result<usize> {
            for taken in 0..max {
                match self.try_recv() {
                    Ok(message) => out.push(message),
                    Err(error) if taken == 0 => return Err(error),
                    Err(_) => return Ok(taken),
                }
            }
            Ok(max)
        }

        /// Receives the next message into a slice, waiting for it. How many bytes it has.
        ///
        /// # Errors
        /// As [`recv`](Self::recv); [`RecvIntoError::TooSmall`] with the message if the slice is too small.
        pub fn recv_into(&self, into: &mut [u8]) -> Result<usize, RecvIntoError<Message<'_>>> {
            let message = self.recv()?;
            match into.get_mut(..message.len()) {
                Some(place) => place.copy_from_slice(&message),
                None => return Err(RecvIntoError::TooSmall { message, capacity: into.len() }),
            }
            Ok(message.len())
        }
    };
}

/// One end of a link between two processes: messages both ways, streams, logical connections.
///
/// It may be shared by many threads. Dropping it closes the link once the connections on it are dropped too:
/// the peer receives what was sent, then [`Error::Closed`].
///
/// ```
/// use std::thread;
/// use hqq::{Listener, StandardLink};
///
/// # let name = format!("doc-{}", std::process::id());
/// let listener = Listener::bind(&name)?;
/// let other = thread::spawn(move || {
///     let link = StandardLink::connect(&name)?;
///     link.send(b"hello from over here")
/// });
/// let link = listener.accept()?;
/// assert_eq!(&*link.recv()?, b"hello from over here");
/// # other.join().unwrap()?;
/// # Ok::<(), hqq::Error>(())
/// ```
pub struct StandardLink {
    core: Arc<LinkCore>,
}

impl StandardLink {
    pub(crate) fn new(core: LinkCore) -> Self {
        Self { core: Arc::new(core) }
    }

    pub(crate) fn core(&self) -> &Arc<LinkCore> {
        &self.core
    }

    sending!();
    receiving!();

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.core.role()
    }

    /// Who is at the other end, as the kernel says.
    pub fn peer(&self) -> Peer {
        self.core.peer()
    }

    /// Whether each end's payload is protected from the other; see [`Options::protected`](crate::Options::protected).
    pub fn is_protected(&self) -> bool {
        self.core.region().facts().modes.protected
    }

    /// Slots and buffers of the link.
    pub fn geometry(&self) -> Geometry {
        self.core.region().facts().geometry
    }

    /// The longest message that can be sent in one piece, bytes.
    pub fn max_message(&self) -> u64 {
        self.core.region().max_message()
    }

    /// The link's counters. Both ends and every observer see the same.
    pub fn stats(&self) -> Stats {
        Stats::read(self.core.region().views())
    }

    /// Whether both directions still work, as far as can be told now.
    pub fn is_open(&self) -> bool {
        self.core.is_open()
    }

    /// The last error that the peer reported, if any: it refused something this end sent.
    pub fn wire_error(&self) -> Option<WireError> {
        self.core.lock().heard
    }

    /// Ends one or both directions for good, and with either of them the connections on the link; callable from any
    /// thread. Blocked calls of this process and of the
    /// peer return. After `Write` the peer receives what was sent, then [`Error::Closed`]; after `Read` this
    /// end receives nothing more, and the peer's sends fail.
    pub fn shutdown(&self, how: Shutdown) {
        shut(&self.core, how);
    }

    /// A handle that can shut the link down from elsewhere, also after it was split.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle { core: Arc::downgrade(&self.core) }
    }

    /// For event loops: takes what the doorbell holds, and says whether there is something to receive or accept, the
    /// link's end included. On `true` call the `try_` forms until they have nothing more, then this again. On `false`
    /// the link's descriptor ([`AsFd`]) becomes readable when there is something; then call this again.
    ///
    /// A link that is driven so should not be waited on by blocking calls at the same time: they share the doorbell.
    ///
    /// ```
    /// use std::os::fd::AsFd;
    ///
    /// let (primary, secondary) = hqq::StandardLink::pair()?;
    /// assert!(!secondary.drive()?); // poll secondary.as_fd() now
    /// primary.send(b"news")?; // makes it readable
    /// assert!(secondary.drive()?);
    /// assert_eq!(&*secondary.try_recv()?, b"news");
    /// assert!(!secondary.drive()?);
    /// # Ok::<(), hqq::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] in spin-only mode, where nobody rings; [`Error::Corrupt`], [`Error::Os`].
    pub fn drive(&self) -> Result<bool> {
        self.core.drive()
    }

    /// The peer's process: becomes readable for `poll` and the like once it is dead.
    pub fn peer_process(&self) -> BorrowedFd<'_> {
        self.core.parts().pidfd.as_fd()
    }

    /// The region's memory: for observers, which map it read-only, and for tests.
    pub fn memory(&self) -> BorrowedFd<'_> {
        self.core.parts().memory.as_fd()
    }

    /// Splits the link into a half that sends and one that receives, for two threads. In a single-producer or
    /// single-consumer mode the halves need no lock. Dropping a half shuts its direction down.
    ///
    /// # Errors
    /// [`Error::Unsupported`] once the link has carried connections or control packets; share it instead.
    pub fn split(self) -> Result<(Sender, Receiver)> {
        self.core.split()?;
        self.core.open_handle();
        self.core.open_handle();
        let (core, thread) = (&self.core, PhantomData);
        Ok((Sender { core: core.clone(), thread }, Receiver { core: core.clone(), thread }))
    }
}

/// The link's doorbell, to be polled for reading; see [`StandardLink::drive`].
impl AsFd for StandardLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.core.parts().socket.as_fd()
    }
}

impl Drop for StandardLink {
    fn drop(&mut self) {
        self.core.close_handle();
    }
}

impl fmt::Debug for StandardLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

/// Shuts a link down from any thread; see [`StandardLink::shutdown_handle`]. It does not keep the link open.
///
/// ```
/// use std::net::Shutdown;
///
/// let (primary, _secondary) = hqq::StandardLink::pair()?;
/// let shutdown_handle = primary.shutdown_handle();
/// let (_sender, receiver) = primary.split()?;
/// let waiting = std::thread::spawn(move || matches!(receiver.recv(), Err(hqq::Error::Closed)));
/// shutdown_handle.shutdown(Shutdown::Read);
/// assert!(waiting.join().unwrap());
/// # Ok::<(), hqq::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ShutdownHandle {
    core: Weak<LinkCore>,
}

impl ShutdownHandle {
    /// Ends one or both directions; see [`StandardLink::shutdown`]. Nothing happens if the link is gone.
    pub fn shutdown(&self, how: Shutdown) {
        if let Some(core) = self.core.upgrade() {
            shut(&core, how);
        }
    }
}

fn shut(core: &LinkCore, how: Shutdown) {
    let (recv, send) = match how {
        Shutdown::Read => (true, false),
        Shutdown::Write => (false, true),
        Shutdown::Both => (true, true),
    };
    core.shutdown(send, recv);
}

/// The sending half of a link; see [`StandardLink::split`]. It can move to a thread, and is used by one at a time.
pub struct Sender {
    core: Arc<LinkCore>,
    thread: PhantomData<std::cell::Cell<()>>,
}

impl Sender {
    sending!();

    pub(crate) fn core(&self) -> &Arc<LinkCore> {
        &self.core
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.core.shutdown(true, false);
        self.core.close_handle();
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

/// The receiving half of a link; see [`StandardLink::split`]. It can move to a thread, and is used by one at a
/// time.
pub struct Receiver {
    core: Arc<LinkCore>,
    thread: PhantomData<std::cell::Cell<()>>,
}

impl Receiver {
    receiving!();

    pub(crate) fn core(&self) -> &Arc<LinkCore> {
        &self.core
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.core.shutdown(false, true);
        self.core.close_handle();
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}
