//! Layer 3: what the caller holds: loans to fill and messages to read.

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytemuck::{AnyBitPattern, Pod};

use crate::error::{Error, Result};
use crate::link::core::LinkCore;
use crate::link::deadline::Wait;
use crate::shm::endpoint::Payload;

/// The bytes of a payload. Only for trusted peers.
#[inline(always)]
pub(crate) fn bytes<'p>(payload: &'p Payload<'static>) -> &'p [u8] {
    match payload {
        Payload::Slot(inline) => inline.bytes(),
        Payload::Pool(buffer) => buffer.bytes(),
    }
}

/// What a handle holds until it is taken out of it.
const HELD: &str = "the handle holds it until it is consumed";

/// Memory for one message, to be filled in place and sent without a copy.
///
/// Made by [`StandardLink::loan`](crate::StandardLink::loan); dereferences to `[u8]`. What it holds at first is
/// whatever was there. Dropping it unsent gives the buffers back. It stays on the thread that made it.
///
/// ```
/// let (primary, secondary) = hqq::StandardLink::pair()?;
/// let mut loan = primary.loan(1000)?;
/// loan.fill(b'x');
/// loan.truncate(500);
/// loan.send()?;
/// assert_eq!(secondary.recv()?.len(), 500);
/// # Ok::<(), hqq::Error>(())
/// ```
pub struct Loan<'a> {
    core: &'a Arc<LinkCore>,
    payload: Option<Payload<'static>>,
    /// Where only one thread may send, a loan must not carry the right to another.
    thread: PhantomData<*const ()>,
}

/// A loan that could not be sent, and why. The loan is as it was.
#[derive(Debug)]
pub struct TrySendError<L> {
    /// Why.
    pub error: Error,
    /// What was to be sent.
    pub loan: L,
}

impl<L> fmt::Display for TrySendError<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not sent: {}", self.error)
    }
}

impl<L: fmt::Debug> std::error::Error for TrySendError<L> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<'a> Loan<'a> {
    /// A handle that holds nothing yet.
    #[inline(always)]
    pub(crate) fn empty(core: &'a Arc<LinkCore>) -> Self {
        Self { core, payload: None, thread: PhantomData }
    }

    /// Where the memory is put.
    #[inline(always)]
    pub(crate) fn place(&mut self) -> &mut Option<Payload<'static>> {
        &mut self.payload
    }

    /// Sends only the first `len` bytes, or all if there are fewer.
    pub fn truncate(&mut self, len: usize) {
        match self.payload.as_mut().expect(HELD) {
            Payload::Slot(inline) => inline.truncate(len),
            Payload::Pool(buffer) => buffer.truncate(len),
        }
    }

    /// Sends the message, waiting while the ring is full.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::PeerDead`], [`Error::PeerGone`] or [`Error::Corrupt`] if the link has ended;
    /// the buffers are given back.
    #[inline(always)]
    pub fn send(self) -> Result<()> {
        let mut loan = self;
        let sent = loan.core.send_payload(&mut loan.payload, Wait::Forever);
        if sent.is_ok() {
            // Nothing is left to drop.
            mem::forget(loan);
        }
        sent
    }

    /// Sends the message if there is room now.
    ///
    /// # Errors
    /// As [`send`](Self::send), or [`Error::RingFull`]; with the loan, to be tried again.
    #[expect(clippy::result_large_err, reason = "the loan comes back by value: nothing is allocated")]
    pub fn try_send(mut self) -> Result<(), TrySendError<Self>> {
        match self.core.try_send_payload(&mut self.payload) {
            Ok(()) => Ok(()),
            Err(error) => Err(TrySendError { error, loan: self }),
        }
    }
}

impl Deref for Loan<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        bytes(self.payload.as_ref().expect(HELD))
    }
}

impl DerefMut for Loan<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        match self.payload.as_mut().expect(HELD) {
            Payload::Slot(inline) => inline.bytes_mut(),
            Payload::Pool(buffer) => buffer.bytes_mut(),
        }
    }
}

impl Drop for Loan<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(payload) = self.payload.take() {
            self.core.give(payload);
        }
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("len", &self.payload.as_ref().map(Payload::len)).finish()
    }
}

/// Memory for one value of type `T`, zeroed at first, to be sent without a copy.
///
/// ```
/// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
/// #[repr(C)]
/// struct Pose { at: [f64; 3], stamp: u64 }
///
/// let (primary, secondary) = hqq::StandardLink::pair()?;
/// let mut pose = primary.loan_as::<Pose>()?;
/// pose.stamp = 7;
/// pose.send()?;
/// let message = secondary.recv()?;
/// assert_eq!(message.cast::<Pose>()?.stamp, 7);
/// # Ok::<(), hqq::Error>(())
/// ```
#[derive(Debug)]
pub struct TypedLoan<'a, T: Pod> {
    loan: Loan<'a>,
    value: PhantomData<T>,
}

impl<'a, T: Pod> TypedLoan<'a, T> {
    pub(crate) fn new(mut loan: Loan<'a>) -> Result<Self> {
        loan.fill(0);
        let at = loan.as_ptr().addr();
        if at % align_of::<T>() != 0 {
            return Err(Error::TypeAlign { want: align_of::<T>(), found: 1 << at.trailing_zeros() });
        }
        Ok(Self { loan, value: PhantomData })
    }

    /// Sends the value; see [`Loan::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(self) -> Result<()> {
        self.loan.send()
    }

    /// Sends the value if there is room now; see [`Loan::try_send`].
    ///
    /// # Errors
    /// As there.
    #[expect(clippy::result_large_err, reason = "the loan comes back by value: nothing is allocated")]
    pub fn try_send(self) -> Result<(), TrySendError<Self>> {
        self.loan.try_send().map_err(|TrySendError { error, loan }| TrySendError {
            error,
            loan: Self { loan, value: PhantomData },
        })
    }
}

impl<T: Pod> Deref for TypedLoan<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        bytemuck::from_bytes(&self.loan)
    }
}

impl<T: Pod> DerefMut for TypedLoan<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        bytemuck::from_bytes_mut(&mut self.loan)
    }
}

/// Reads a message as a value.
pub(crate) fn cast<T: AnyBitPattern>(bytes: &[u8]) -> Result<&T> {
    if bytes.len() != size_of::<T>() {
        return Err(Error::TypeSize { want: size_of::<T>(), found: bytes.len() });
    }
    bytemuck::try_from_bytes(bytes).map_err(|_| Error::TypeAlign {
        want: align_of::<T>(),
        found: 1 << bytes.as_ptr().addr().trailing_zeros(),
    })
}

/// A received message, read in place; dereferences to `[u8]`. Dropping it gives its buffers back to the sender.
pub struct Message<'a> {
    core: &'a Arc<LinkCore>,
    payload: Option<Payload<'static>>,
}

impl<'a> Message<'a> {
    /// A handle that holds nothing yet.
    #[inline(always)]
    pub(crate) fn empty(core: &'a Arc<LinkCore>) -> Self {
        Self { core, payload: None }
    }

    /// Where the message is put.
    #[inline(always)]
    pub(crate) fn place(&mut self) -> &mut Option<Payload<'static>> {
        &mut self.payload
    }
    /// Makes the message independent of the link's handle, to be kept or moved to another thread. Its buffers
    /// stay taken from the sender's pool until it is dropped; copies nothing.
    pub fn detach(mut self) -> OwnedMessage {
        OwnedMessage { core: self.core.clone(), payload: self.payload.take() }
    }

    /// Gives its buffers back and holds nothing then.
    #[inline(always)]
    pub(crate) fn give_back(&mut self) {
        // What came in the slot is not moved once more for nothing.
        if matches!(self.payload, Some(Payload::Pool(_))) {
            if let Some(payload) = self.payload.take() {
                self.core.give(payload);
            }
        } else {
            self.payload = None;
        }
    }

    /// The payload, to be given back by the caller.
    pub(crate) fn into_payload(mut self) -> Payload<'static> {
        self.payload.take().expect(HELD)
    }

    /// Reads the message as a value of type `T`.
    ///
    /// # Errors
    /// [`Error::TypeSize`] or [`Error::TypeAlign`] if it cannot be one.
    pub fn cast<T: AnyBitPattern>(&self) -> Result<&T> {
        cast(self)
    }
}

impl Deref for Message<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        bytes(self.payload.as_ref().expect(HELD))
    }
}

impl Drop for Message<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.give_back();
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("len", &self.payload.as_ref().map(Payload::len)).finish()
    }
}

/// A received message that may outlive its link's handles; dereferences to `[u8]`.
///
/// It keeps the memory mapped, but not the link open.
pub struct OwnedMessage {
    core: Arc<LinkCore>,
    payload: Option<Payload<'static>>,
}

impl OwnedMessage {
    /// Reads the message as a value of type `T`; see [`Message::cast`].
    ///
    /// # Errors
    /// As there.
    pub fn cast<T: AnyBitPattern>(&self) -> Result<&T> {
        cast(self)
    }
}

impl Deref for OwnedMessage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        bytes(self.payload.as_ref().expect(HELD))
    }
}

impl Drop for OwnedMessage {
    fn drop(&mut self) {
        if let Some(payload) = self.payload.take() {
            self.core.give(payload);
        }
    }
}

impl fmt::Debug for OwnedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedMessage").field("len", &self.payload.as_ref().map(Payload::len)).finish()
    }
}

/// Why [`recv_into`](crate::StandardLink::recv_into) failed; `M` is what a received message is there.
#[derive(Debug)]
pub enum RecvIntoError<M> {
    /// The slice is too small; the message is here, whole.
    TooSmall {
        /// The message.
        message: M,
        /// Bytes of the slice.
        capacity: usize,
    },
    /// Nothing was received.
    Other(Error),
}

impl<M: Deref<Target = [u8]>> fmt::Display for RecvIntoError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { message, capacity } => {
                write!(f, "the message has {} bytes, the slice {capacity}", message.len())
            }
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl<M: Deref<Target = [u8]> + fmt::Debug> std::error::Error for RecvIntoError<M> {}

impl<M> From<Error> for RecvIntoError<M> {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}
