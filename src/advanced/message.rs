//! What the caller of a link with an agreement holds: loans to fill and messages to read.
//!
//! Handles are moved about, most often with nothing private in them. So that what is private lies behind a pointer, and in
//! the room of what is shared: a handle is no larger than a [`StandardLink`](crate::StandardLink)'s.

use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytemuck::AnyBitPattern;

use super::AdvancedLink;
use super::pipeline::Decoded;
use crate::error::Result;
use crate::link::core::LinkCore;
use crate::link::message::{Loan, Message, cast};
use crate::shm::endpoint::Payload;
use hqq_features::reliable::Receipt;

/// Memory for one message on an [`AdvancedLink`]; dereferences to `[u8]`. Dropped unsent, it is gone.
pub struct AdvancedLoan<'a>(Lent<'a>);

enum Lent<'a> {
    Shared(Loan<'a>),
    Own(Box<Own<'a>>),
}

struct Own<'a> {
    link: &'a AdvancedLink,
    bytes: Vec<u8>,
}

impl<'a> AdvancedLoan<'a> {
    /// A handle that holds nothing yet.
    #[inline(always)]
    pub(super) fn empty(core: &'a Arc<LinkCore>) -> Self {
        Self(Lent::Shared(Loan::empty(core)))
    }

    /// Where shared memory is put.
    #[inline(always)]
    pub(super) fn place(&mut self) -> &mut Option<Payload<'static>> {
        match &mut self.0 {
            Lent::Shared(loan) => loan.place(),
            Lent::Own(_) => unreachable!("a loan is of one kind"),
        }
    }

    /// Private memory, for what is changed when it is sent.
    pub(super) fn own(link: &'a AdvancedLink, bytes: Vec<u8>) -> Self {
        Self(Lent::Own(Box::new(Own { link, bytes })))
    }

    /// Sends only the first `len` bytes, or all if there are fewer.
    pub fn truncate(&mut self, len: usize) {
        match &mut self.0 {
            Lent::Shared(loan) => loan.truncate(len),
            Lent::Own(own) => own.bytes.truncate(len),
        }
    }

    /// Sends the message, waiting while there is no room.
    ///
    /// # Errors
    /// As [`StandardLink::send`](crate::StandardLink::send).
    #[inline(always)]
    pub fn send(self) -> Result<()> {
        match self.0 {
            Lent::Shared(loan) => loan.send(),
            Lent::Own(own) => own.link.send(&own.bytes),
        }
    }
}

impl Deref for AdvancedLoan<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Lent::Shared(loan) => loan,
            Lent::Own(own) => &own.bytes,
        }
    }
}

impl DerefMut for AdvancedLoan<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Lent::Shared(loan) => loan,
            Lent::Own(own) => &mut own.bytes,
        }
    }
}

impl fmt::Debug for AdvancedLoan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdvancedLoan").field("len", &self.len()).finish()
    }
}

/// A message received on an [`AdvancedLink`]; dereferences to `[u8]`. It lies where the peer wrote it, or in private memory
/// where something had to be undone.
pub struct AdvancedMessage<'a>(Came<'a>);

enum Came<'a> {
    /// As it is.
    Shared(Message<'a>),
    Changed(Box<Changed<'a>>),
}

struct Changed<'a> {
    core: &'a Arc<LinkCore>,
    bytes: Bytes<'a>,
    /// What acknowledges it, if anything does.
    receipt: Option<Receipt>,
}

enum Bytes<'a> {
    /// They stand in what came, behind so many others.
    Behind(Message<'a>, usize),
    Own(Vec<u8>),
}

impl Changed<'_> {
    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Behind(message, skip) => &message[*skip..],
            Bytes::Own(bytes) => bytes,
        }
    }
}

impl<'a> AdvancedMessage<'a> {
    /// A handle that holds nothing yet.
    #[inline(always)]
    pub(super) fn empty(core: &'a Arc<LinkCore>) -> Self {
        Self(Came::Shared(Message::empty(core)))
    }

    /// Where what comes is put.
    #[inline(always)]
    pub(super) fn place(&mut self) -> &mut Option<Payload<'static>> {
        match &mut self.0 {
            Came::Shared(message) => message.place(),
            Came::Changed(_) => unreachable!("nothing comes where something was made of it"),
        }
    }

    /// Holds what was made of the message from now on.
    pub(super) fn change(&mut self, core: &'a Arc<LinkCore>, undone: Decoded) {
        let Decoded { bytes, skip, receipt } = undone;
        let Self(came) = mem::replace(self, Self::empty(core));
        let bytes = match (came, bytes) {
            (_, Some(bytes)) => Bytes::Own(bytes),
            (Came::Shared(message), None) => Bytes::Behind(message, skip),
            (Came::Changed(changed), None) => changed.bytes,
        };
        *self = Self(Came::Changed(Box::new(Changed { core, bytes, receipt })));
    }

    /// The message in memory of its own; copies unless it is that already.
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Came::Shared(message) => message.to_vec(),
            Came::Changed(changed) => match changed.bytes {
                Bytes::Own(bytes) => bytes,
                Bytes::Behind(message, skip) => message[skip..].to_vec(),
            },
        }
    }
}

impl AdvancedMessage<'_> {
    /// What names the message for ever, on a link with [reliable delivery](super::Wanted::reliable): a receiver that
    /// acknowledges inside its own commit stores it there. `None` on other links.
    pub fn receipt(&self) -> Option<Receipt> {
        match &self.0 {
            Came::Shared(_) => None,
            Came::Changed(changed) => changed.receipt,
        }
    }

    /// The message is processed: it will not be delivered again. See [`AdvancedLink::acknowledge`]. Without reliable delivery
    /// nothing happens.
    ///
    /// # Errors
    /// As there.
    pub fn acknowledge(self) -> Result<()> {
        let Came::Changed(changed) = self.0 else { return Ok(()) };
        let Changed { core, bytes, receipt } = *changed;
        // The peer may wait for the buffers as well.
        drop(bytes);
        receipt.map_or(Ok(()), |receipt| core.acknowledge(receipt))
    }
}

impl AdvancedMessage<'_> {
    /// Reads the message as a value of type `T`. What was made anew lies where the allocator put it, which may not be where
    /// a `T` may lie: `bytemuck::pod_read_unaligned` copies it from there.
    ///
    /// # Errors
    /// [`Error::TypeSize`](crate::Error::TypeSize) or [`Error::TypeAlign`](crate::Error::TypeAlign) if it cannot be one.
    pub fn cast<T: AnyBitPattern>(&self) -> Result<&T> {
        cast(self)
    }
}

impl Deref for AdvancedMessage<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Came::Shared(message) => message,
            Came::Changed(changed) => changed.bytes(),
        }
    }
}

impl fmt::Debug for AdvancedMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdvancedMessage").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_no_larger_than_those_of_a_standard_link() {
        assert_eq!(size_of::<AdvancedLoan<'_>>(), size_of::<Loan<'_>>());
        assert_eq!(size_of::<AdvancedMessage<'_>>(), size_of::<Message<'_>>());
        assert_eq!(size_of::<Result<AdvancedMessage<'_>>>(), size_of::<Result<Message<'_>>>());
    }
}
