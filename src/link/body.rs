//! What a loan or a message consists of: bytes of the slot, buffers of the pool, or private memory.

use std::mem::ManuallyDrop;
use std::ops::Range;

use crate::shm::buffer::Buffer;
use crate::shm::endpoint::{Payload, SlotBytes};
use hqq_features::reliable::Receipt;

/// The bytes of a message, wherever they are. `P` is what there is in private memory; it is boxed, since most messages
/// have nothing there.
pub(crate) enum Body<P> {
    /// Copied out of the slot, or to be copied into one.
    Slot(SlotBytes),
    /// Elsewhere.
    Stored(Stored<P>),
}

/// The bytes of a message that are not in the handle itself. An enum of its own, so that what came in the slot, which holds
/// nothing, is told apart by one comparison.
pub(crate) enum Stored<P> {
    /// In buffers of the pool.
    Pool(Buffer<'static>),
    /// In private memory.
    Private(Box<P>),
}

impl<P> From<Payload<'static>> for Body<P> {
    #[inline(always)]
    fn from(payload: Payload<'static>) -> Self {
        match payload {
            Payload::Slot(bytes) => Self::Slot(bytes),
            Payload::Pool(buffer) => Self::Stored(Stored::Pool(buffer)),
        }
    }
}

impl<P> Body<P> {
    /// The payload, unless it is in private memory.
    pub(super) fn into_payload(self) -> Option<Payload<'static>> {
        match self {
            Self::Slot(bytes) => Some(Payload::Slot(bytes)),
            Self::Stored(Stored::Pool(buffer)) => Some(Payload::Pool(buffer)),
            Self::Stored(Stored::Private(_)) => None,
        }
    }
}

impl<P: AsRef<[u8]>> Body<P> {
    /// The bytes. Only for trusted peers.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Slot(bytes) => bytes.bytes(),
            Self::Stored(Stored::Pool(buffer)) => buffer.bytes(),
            Self::Stored(Stored::Private(private)) => (**private).as_ref(),
        }
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Slot(bytes) => bytes.bytes().len(),
            Self::Stored(Stored::Pool(buffer)) => buffer.len(),
            Self::Stored(Stored::Private(private)) => (**private).as_ref().len(),
        }
    }
}

impl<P: AsMut<[u8]>> Body<P> {
    /// The bytes, to be written.
    #[inline(always)]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Slot(bytes) => bytes.bytes_mut(),
            Self::Stored(Stored::Pool(buffer)) => buffer.bytes_mut(),
            Self::Stored(Stored::Private(private)) => (**private).as_mut(),
        }
    }
}

/// What a handle holds until it is taken out of it.
const HELD: &str = "the handle holds it until it is consumed";

/// The place where a handle has its body, if it has one. Dropping it releases nothing: the handle does that, so that there is
/// one look at the body on the way out.
pub(crate) struct Held<P>(ManuallyDrop<Option<Body<P>>>);

impl<P> Held<P> {
    /// Nothing.
    #[inline(always)]
    pub(crate) const fn nothing() -> Self {
        Self(ManuallyDrop::new(None))
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> Option<&Body<P>> {
        self.0.as_ref()
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self) -> Option<&mut Body<P>> {
        self.0.as_mut()
    }

    /// Takes the body out.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Option<Body<P>> {
        self.0.take()
    }

    /// Forgets the body: somebody else has it now.
    #[inline(always)]
    pub(super) fn forget(&mut self) {
        *self = Self::nothing();
    }
}

impl<P: AsRef<[u8]>> Held<P> {
    /// The bytes of the body. Only for trusted peers.
    ///
    /// # Panics
    /// If there is no body.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self.get() {
            Some(Body::Slot(bytes)) => bytes.bytes(),
            Some(Body::Stored(Stored::Pool(buffer))) => buffer.bytes(),
            Some(Body::Stored(Stored::Private(private))) => private_bytes(&**private),
            None => panic!("{HELD}"),
        }
    }

    /// How many bytes the body has; 0 without one.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        match self.get() {
            Some(Body::Slot(bytes)) => bytes.bytes().len(),
            Some(Body::Stored(Stored::Pool(buffer))) => buffer.len(),
            Some(Body::Stored(Stored::Private(private))) => private_bytes(&**private).len(),
            None => 0,
        }
    }
}

impl<P: AsMut<[u8]>> Held<P> {
    /// The bytes of the body, to be written.
    ///
    /// # Panics
    /// If there is no body.
    #[inline(always)]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self.get_mut() {
            Some(Body::Slot(bytes)) => bytes.bytes_mut(),
            Some(Body::Stored(Stored::Pool(buffer))) => buffer.bytes_mut(),
            Some(Body::Stored(Stored::Private(private))) => private_bytes_mut(&mut **private),
            None => panic!("{HELD}"),
        }
    }
}

#[cold]
#[inline(never)]
fn private_bytes<P: AsRef<[u8]>>(private: &P) -> &[u8] {
    private.as_ref()
}

#[cold]
#[inline(never)]
fn private_bytes_mut<P: AsMut<[u8]>>(private: &mut P) -> &mut [u8] {
    private.as_mut()
}

impl<P> From<Body<P>> for Held<P> {
    #[inline(always)]
    fn from(body: Body<P>) -> Self {
        Self(ManuallyDrop::new(Some(body)))
    }
}

impl<P> From<Payload<'static>> for Held<P> {
    #[inline(always)]
    fn from(payload: Payload<'static>) -> Self {
        Body::from(payload).into()
    }
}

/// A received message that a pipeline has decoded.
pub(crate) struct PrivateMessage {
    pub(super) bytes: Decoded,
    /// What acknowledges the message, if anything does.
    pub(super) receipt: Option<Receipt>,
}

/// Where a decoded message is.
pub(super) enum Decoded {
    Own(Vec<u8>),
    /// These bytes of what came.
    Within(Payload<'static>, Range<usize>),
}

impl AsRef<[u8]> for PrivateMessage {
    fn as_ref(&self) -> &[u8] {
        match &self.bytes {
            Decoded::Own(bytes) => bytes,
            Decoded::Within(payload, range) => &payload_bytes(payload)[range.clone()],
        }
    }
}

/// The body of a received message, and the place for one.
pub(crate) type MessageBody = Body<PrivateMessage>;
pub(crate) type HeldMessage = Held<PrivateMessage>;

impl MessageBody {
    /// What acknowledges the message, if anything does.
    pub(crate) fn receipt(&self) -> Option<Receipt> {
        match self {
            Self::Stored(Stored::Private(private)) => private.receipt,
            Self::Slot(_) | Self::Stored(Stored::Pool(_)) => None,
        }
    }
}

/// The bytes of a payload. Only for trusted peers.
pub(super) fn payload_bytes<'p>(payload: &'p Payload<'static>) -> &'p [u8] {
    match payload {
        Payload::Slot(bytes) => bytes.bytes(),
        Payload::Pool(buffer) => buffer.bytes(),
    }
}
