//! What the caller of a link holds: loans to fill and messages to read. They are the same on a
//! [`StandardLink`](crate::StandardLink) and an [`AdvancedLink`](crate::AdvancedLink).

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use bytemuck::{AnyBitPattern, Pod};

use crate::error::{Error, Result};
use crate::link::body::{Body, Decoded, Held, HeldMessage, MessageBody, Stored};
use crate::link::core::LinkCore;
use crate::link::deadline::Wait;
use crate::link::methods::loan_methods;
use crate::link::pipeline::HeldLoan;
use hqq_features::reliable::Receipt;

/// What a handle holds until it is taken out of it.
const HELD: &str = "the handle holds it until it is consumed";

/// Memory for one message, to be filled in place and sent without a copy.
///
/// Made by the `loan` methods of links; dereferences to `[u8]`. What it holds at first is whatever was there. Dropping it
/// unsent releases the buffers. It stays on the thread that made it.
///
/// On a link whose messages are compressed, encrypted or kept until they are acknowledged, a loan is private memory, zeroed,
/// and what the layers make of it enters shared memory when it is sent.
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
    body: HeldLoan<'a>,
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
        Self { core, body: Held::nothing(), thread: PhantomData }
    }

    /// Where the memory is put.
    #[inline(always)]
    pub(crate) fn place(&mut self) -> &mut HeldLoan<'a> {
        &mut self.body
    }

    /// Sends only the first `len` bytes, or all if there are fewer.
    pub fn truncate(&mut self, len: usize) {
        self.body.get_mut().expect(HELD).truncate(len);
    }

    /// Sends the message, waiting while there is no room.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::PeerDead`], [`Error::PeerGone`] or [`Error::Corrupt`] if the link has ended;
    /// the buffers are released.
    #[inline(always)]
    pub fn send(self) -> Result<()> {
        let mut loan = self;
        let sent = loan.core.send_body(&mut loan.body, Wait::Forever);
        if sent.is_ok() {
            // Nothing is left to drop.
            mem::forget(loan);
        }
        sent
    }

    loan_methods!();
}

impl Deref for Loan<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.body.bytes()
    }
}

impl DerefMut for Loan<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.body.bytes_mut()
    }
}

impl Drop for Loan<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.core.release_loan(&mut self.body);
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("len", &self.body.get().map(Body::len)).finish()
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
        let bytes = &mut *loan;
        bytes.fill(0);
        let at = bytes.as_ptr().addr();
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

/// A received message; dereferences to `[u8]`. It is read where the peer wrote it, or in private memory where a layer such as
/// compression has decoded it. Dropping it releases its buffers to the sender.
pub struct Message<'a> {
    core: &'a Arc<LinkCore>,
    body: HeldMessage,
}

impl<'a> Message<'a> {
    /// A handle that holds nothing yet.
    #[inline(always)]
    pub(crate) fn empty(core: &'a Arc<LinkCore>) -> Self {
        Self { core, body: Held::nothing() }
    }

    /// Where the message is put.
    #[inline(always)]
    pub(crate) fn place(&mut self) -> &mut HeldMessage {
        &mut self.body
    }

    /// Makes the message independent of the link's handle, to be kept or moved to another thread. Its buffers
    /// stay taken from the sender's pool until it is dropped; copies nothing.
    pub fn detach(mut self) -> OwnedMessage {
        let body = std::mem::replace(&mut self.body, Held::nothing());
        OwnedMessage { core: self.core.clone(), body }
    }

    /// Releases its buffers and holds nothing then.
    #[inline(always)]
    pub(crate) fn release(&mut self) {
        self.core.release_message(&mut self.body);
    }

    /// The body, to be released by the caller.
    pub(crate) fn into_body(mut self) -> MessageBody {
        self.body.take().expect(HELD)
    }

    /// The message in memory of its own. Copies it, unless a layer has decoded it into such memory.
    pub fn into_vec(mut self) -> Vec<u8> {
        if let Some(Body::Stored(Stored::Private(private))) = self.body.get_mut() {
            if let Decoded::Own(bytes) = &mut private.bytes {
                return mem::take(bytes);
            }
        }
        self.to_vec()
    }

    /// The receipt, which names the message for ever on a link with
    /// [reliable delivery](crate::advanced::AdvancedOptions::reliable): a receiver that acknowledges inside its own commit
    /// stores it there. `None` on other links.
    pub fn receipt(&self) -> Option<Receipt> {
        self.body.get().and_then(Body::receipt)
    }

    /// Acknowledges the message: it is processed, and will not be delivered again. See
    /// [`AdvancedLink::acknowledge`](crate::AdvancedLink::acknowledge). Without reliable delivery nothing happens.
    ///
    /// # Errors
    /// As there.
    pub fn acknowledge(mut self) -> Result<()> {
        let receipt = self.receipt();
        // The peer may wait for the buffers as well.
        self.release();
        receipt.map_or(Ok(()), |receipt| self.core.acknowledge(receipt))
    }

    /// Reads the message as a value of type `T`. A message that a layer has decoded is where the allocator put it, which may
    /// not be aligned as a `T` must be: `bytemuck::pod_read_unaligned` copies it from there.
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
        self.body.bytes()
    }
}

impl Drop for Message<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("len", &self.body.get().map(Body::len)).finish()
    }
}

/// A received message that may outlive its link's handles; dereferences to `[u8]`.
///
/// It keeps the memory mapped, but not the link open.
pub struct OwnedMessage {
    core: Arc<LinkCore>,
    body: HeldMessage,
}

impl OwnedMessage {
    /// The receipt; see [`Message::receipt`].
    pub fn receipt(&self) -> Option<Receipt> {
        self.body.get().and_then(Body::receipt)
    }

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
        self.body.bytes()
    }
}

impl Drop for OwnedMessage {
    fn drop(&mut self) {
        self.core.release_message(&mut self.body);
    }
}

impl fmt::Debug for OwnedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedMessage").field("len", &self.body.get().map(Body::len)).finish()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_a_body_and_a_reference() {
        // The slot's bytes with their alignment, what tells bodies apart, and the link.
        assert_eq!((size_of::<Loan<'_>>(), size_of::<Message<'_>>()), (96, 96));
        assert_eq!(size_of::<OwnedMessage>(), 96);
    }
}
