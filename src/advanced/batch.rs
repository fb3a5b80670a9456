//! What else a [`StandardLink`](crate::StandardLink) can do, on a link with an agreement: many messages at a time, and values.

use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::sync::PoisonError;
use std::time::Duration;

use bytemuck::Pod;

use super::{AdvancedLink, AdvancedLoan, AdvancedMessage};
use crate::error::{Error, Result};
use crate::link::deadline::Wait;
use crate::link::message::{RecvIntoError, TypedLoan};

impl AdvancedLink {
    /// Lends memory for a message, waiting for it no longer than `time`; see [`loan`](Self::loan).
    ///
    /// # Errors
    /// As there, or [`Error::Timeout`].
    pub fn loan_timeout(&self, len: usize, time: Duration) -> Result<AdvancedLoan<'_>> {
        if self.pipeline.is_some() {
            return self.lend_own(len);
        }
        let mut loan = AdvancedLoan::empty(self.link.core());
        self.link.core().loan(len, 1, Wait::from(time), loan.place())?;
        Ok(loan)
    }

    /// Lends memory for one value of type `T`, zeroed, waiting for it.
    ///
    /// ```
    /// use hqq::{AdvancedLink, StandardLink};
    ///
    /// let (one, other) = StandardLink::pair()?;
    /// let (one, other) = (AdvancedLink::from(one), AdvancedLink::from(other));
    /// let mut place = one.loan_as::<[f64; 2]>()?;
    /// place[1] = 0.5;
    /// place.send()?;
    /// assert_eq!(other.recv()?.cast::<[f64; 2]>()?[1], 0.5);
    /// # Ok::<(), hqq::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`StandardLink::loan_as`](crate::StandardLink::loan_as).
    pub fn loan_as<T: Pod>(&self) -> Result<AdvancedLoanOf<'_, T>> {
        if self.pipeline.is_none() {
            self.tick();
            return Ok(AdvancedLoanOf(Typed::Shared(self.link.loan_as()?)));
        }
        let (len, limit) = (size_of::<T>() as u64, self.max_message());
        if len > limit {
            return Err(Error::TooLarge { len, limit });
        }
        Ok(AdvancedLoanOf(Typed::Own(self, bytemuck::zeroed_box())))
    }

    /// Sends several messages, waiting for room. How many were sent: all, unless the link ended after the first.
    ///
    /// # Errors
    /// As [`send`](Self::send), if not even the first was sent.
    pub fn send_batch(&self, messages: &[&[u8]]) -> Result<usize> {
        if self.pipeline.is_none() {
            self.tick();
            return self.link.send_batch(messages);
        }
        count(messages.iter().map(|message| self.send(message)))
    }

    /// Sends as many of the messages, in order, as there is room for now.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), if not even the first was sent.
    pub fn try_send_batch(&self, messages: &[&[u8]]) -> Result<usize> {
        if self.pipeline.is_none() {
            self.tick();
            return self.link.try_send_batch(messages);
        }
        count(messages.iter().map(|message| self.try_send(message)))
    }

    /// Receives up to `max` messages: waits for the first, then takes what is there. Appends them to `out` and returns how
    /// many. A message that has to be refused ends the batch, and the next batch begins with its error.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), if there is not even one.
    pub fn recv_batch<'a>(&'a self, out: &mut Vec<AdvancedMessage<'a>>, max: usize) -> Result<usize> {
        self.batch(max, true, |message| out.push(message))
    }

    /// Receives up to `max` messages that are there now; see [`recv_batch`](Self::recv_batch).
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv), if there is not even one.
    pub fn try_recv_batch<'a>(&'a self, out: &mut Vec<AdvancedMessage<'a>>, max: usize) -> Result<usize> {
        self.batch(max, false, |message| out.push(message))
    }

    /// Receives up to `max` messages and lets `read` read each: waits for the first, then takes what is there. How many there
    /// were. A message that has to be refused ends the batch, and the next batch begins with its error. See
    /// [`StandardLink::recv_each`](crate::StandardLink::recv_each).
    ///
    /// # Errors
    /// As [`recv`](Self::recv), if there is not even one.
    pub fn recv_each(&self, max: usize, mut read: impl FnMut(&[u8])) -> Result<usize> {
        if self.pipeline.is_none() {
            return self.link.recv_each(max, read);
        }
        self.batch(max, true, |message| {
            read(&message);
            // It was received here, or nobody is left to be told.
            let _ = message.acknowledge();
        })
    }

    fn batch<'a>(
        &'a self,
        max: usize,
        wait: bool,
        mut each: impl FnMut(AdvancedMessage<'a>),
    ) -> Result<usize> {
        let mut taken = 0;
        while taken < max {
            let late = || self.streams.late.lock().unwrap_or_else(PoisonError::into_inner);
            let next = match (taken, self.pipeline.is_some().then(|| late().take()).flatten()) {
                (0, Some(error)) => Err(error),
                (0, None) if wait => self.recv(),
                _ => self.try_recv(),
            };
            match next {
                Ok(message) => each(message),
                Err(error) if taken == 0 => return Err(error),
                Err(error @ Error::Frame { .. }) => {
                    *late() = Some(error);
                    break;
                }
                // There is nothing more now, or it will be said again.
                Err(_) => break,
            }
            taken += 1;
        }
        Ok(taken)
    }

    /// Receives the next message into a slice, waiting for it. How many bytes it has.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); [`RecvIntoError::TooSmall`] with the message if the slice is too small.
    pub fn recv_into(&self, into: &mut [u8]) -> Result<usize, RecvIntoError<AdvancedMessage<'_>>> {
        let message = self.recv()?;
        match into.get_mut(..message.len()) {
            Some(place) => place.copy_from_slice(&message),
            None => return Err(RecvIntoError::TooSmall { message, capacity: into.len() }),
        }
        let len = message.len();
        message.acknowledge()?;
        Ok(len)
    }

    /// Whether each end's payload is protected from the other; see [`Options::protected`](crate::Options::protected).
    pub fn is_protected(&self) -> bool {
        self.link.is_protected()
    }

    /// The peer's process: becomes readable for `poll` and the like once it is dead.
    pub fn peer_process(&self) -> BorrowedFd<'_> {
        self.link.peer_process()
    }
}

/// How many went well, up to the first that did not.
fn count(sent: impl Iterator<Item = Result<()>>) -> Result<usize> {
    let mut done = 0;
    for sent in sent {
        match sent {
            Ok(()) => done += 1,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Memory for one value of type `T` on an [`AdvancedLink`], zeroed at first; see [`AdvancedLink::loan_as`].
pub struct AdvancedLoanOf<'a, T: Pod>(Typed<'a, T>);

enum Typed<'a, T: Pod> {
    Shared(TypedLoan<'a, T>),
    Own(&'a AdvancedLink, Box<T>),
}

impl<T: Pod> AdvancedLoanOf<'_, T> {
    /// Sends the value; see [`AdvancedLoan::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(self) -> Result<()> {
        match self.0 {
            Typed::Shared(loan) => loan.send(),
            Typed::Own(link, value) => link.send(bytemuck::bytes_of(&*value)),
        }
    }
}

impl<T: Pod> Deref for AdvancedLoanOf<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Typed::Shared(loan) => loan,
            Typed::Own(_, value) => value,
        }
    }
}

impl<T: Pod> DerefMut for AdvancedLoanOf<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Typed::Shared(loan) => loan,
            Typed::Own(_, value) => value,
        }
    }
}

impl<T: Pod> fmt::Debug for AdvancedLoanOf<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdvancedLoanOf").field("size", &mem::size_of::<T>()).finish()
    }
}
