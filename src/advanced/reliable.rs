//! Reliable delivery, as its owner uses it.

use std::time::Duration;

use super::link::AdvancedLink;
use super::reliability::Deliveries;
use crate::agreement::{Agreement, Fallback};
use crate::demux::Demux;
use crate::error::{Error, Result};
use crate::link::deadline::Wait;
use crate::setup::listener::Listener;
use hqq_features::reliable::{Position, Receipt};

/// # Reliable delivery
///
/// While the sender lives, each message is processed exactly once where the receiver acknowledges inside its own commit, at
/// least once otherwise: a link with [`AdvancedOptions::reliable`](super::AdvancedOptions::reliable) keeps a message until the peer's application acknowledges it, and
/// sends it again to whoever takes a dead peer's place ([`reattach`](Self::reattach)). *Inside its own commit* means that one
/// transaction writes what processing a message did, and its [receipt](crate::Message::receipt); a successor reads the record
/// back and begins with [`Reliability::resume`](super::Reliability::resume). What is known to be processed is then not delivered again.
///
/// Only a Secondary can be replaced, so this is about what a Primary sends. A Secondary's messages are kept until the Primary
/// has acknowledged them, which tells the Secondary what was processed; if the Primary dies, the link has ended.
///
/// A message that is refused with [`Error::Frame`] was not written by an honest peer; it has no receipt, and is never acknowledged.
/// Streams acknowledge a message when its bytes have been read and the next are asked for;
/// [`recv_with`](Self::recv_with), [`recv_each`](Self::recv_each) and [`recv_into`](Self::recv_into) when they have passed it on.
///
/// It covers the messages of the link itself. Connections end with their peer, and what was on its way in them is lost. What is
/// kept is in private memory, and dies with the sender.
impl AdvancedLink {
    /// The application has processed a message; in a receiver that keeps a record, after the commit. In any order, from any
    /// thread, and more than once without harm. The peer is told soon; see [`Reliability`](super::Reliability) for when. A receipt that
    /// came from a former peer is void: nobody is left to be told. Without reliable delivery nothing happens.
    ///
    /// ```
    /// use std::thread;
    /// use std::time::Duration;
    /// use hqq::{AdvancedLink, StandardLink};
    /// use hqq::advanced::{Reliability, AdvancedOptions};
    ///
    /// let (primary, secondary) = StandardLink::pair()?;
    /// let soon = Duration::from_secs(5);
    /// let peer = thread::spawn(move || {
    ///     let wanted = AdvancedOptions::new().reliable(Reliability::new());
    ///     let link = AdvancedLink::wait_for_negotiation(secondary, &wanted, soon)?;
    ///     let job = link.recv()?;
    ///     let receipt = job.receipt().unwrap();
    ///     // ... do it, and store the receipt with what came of it ...
    ///     link.acknowledge(receipt)
    /// });
    /// let wanted = AdvancedOptions::new().reliable(Reliability::new().messages(100));
    /// let primary = AdvancedLink::negotiate(primary, &wanted, soon)?;
    /// primary.send(b"a job")?;
    /// primary.wait_acknowledged(soon)?;
    /// assert_eq!(primary.deliveries().unwrap().store.acknowledged, 1);
    /// # peer.join().unwrap()?;
    /// # Ok::<(), hqq::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what was not received in the present session; a receipt of any other session is void, also one
    /// of a session that this link never had.
    pub fn acknowledge(&self, receipt: Receipt) -> Result<()> {
        self.core().acknowledge(receipt)
    }

    /// Tells the peer at once what was acknowledged; what the ring has no room for goes out with a later call. For an
    /// application that acknowledges and then makes no call for long: a call that waits does it before it sleeps.
    pub fn flush_acknowledgements(&self) {
        self.core().flush_acknowledgements();
    }

    /// Waits until the peer has acknowledged all that was sent, no longer than `time`: before a sender ends, whose store dies
    /// with it. At once without reliable delivery.
    ///
    /// # Errors
    /// The link's end, with messages left for [`reattach`](Self::reattach); [`Error::Timeout`].
    pub fn wait_acknowledged(&self, time: Duration) -> Result<()> {
        self.core().await_acknowledgements(Wait::from(time))
    }

    /// What is kept and what is delivered; `None` without reliable delivery.
    pub fn deliveries(&self) -> Option<Deliveries> {
        let (store, inbox, outstanding) = self.core().peek(Demux::delivery_counts)?;
        Some(Deliveries { store, inbox, outstanding })
    }

    /// How far this end is with the peer's messages: all of its session to that sequence are acknowledged. A durable record
    /// may store it in place of the receipts that it covers. `None` without reliable delivery, and before the peer's
    /// first word has come.
    pub fn position(&self) -> Option<Position> {
        self.core().peek(Demux::position)
    }

    /// Waits for a new Secondary to take the place of one that died or left, no longer than `time`; agrees with it on the same as
    /// with the former, with fresh keys; and sends it what is not acknowledged. As [`Listener::reattach`] for a link that
    /// keeps its messages: the link must have been made with [`Options::reattachable`](crate::Options::reattachable), and
    /// connections on it must be dropped beforehand.
    ///
    /// What the former peer had sent is still received first; its receipts are void. The newcomer must ask for
    /// [`AdvancedOptions::reliable`](super::AdvancedOptions::reliable) too, with no lower number of messages, for encryption if there was any, and for the same codec.
    /// It negotiates or waits for it, as it likes. What the ring has no room for goes out with later calls. An application that had processed messages must have ended before its
    /// successor reads its record.
    ///
    /// # Errors
    /// As [`Listener::reattach_timeout`] and [`negotiate`](Self::negotiate); [`Error::Unsupported`] on a link without reliable
    /// delivery. What is kept stays. If a newcomer came who does not agree, nothing can be sent until
    /// it has left and another call succeeds.
    pub fn reattach(&mut self, listener: &Listener, time: Duration) -> Result<()> {
        let wait = Wait::from(time);
        let (Some(pipeline), Some(options)) = (self.pipeline.clone(), self.successors.clone()) else {
            return Err(unkept());
        };
        // The peer's end may be noticed by the attempt alone.
        let ended = pipeline.put_aside(self.core(), wait)?;
        let mut vacated = listener.reattach_wait(&mut self.link, wait);
        if matches!(vacated, Err(Error::Unsupported { .. }))
            && !ended
            && pipeline.put_aside(self.core(), wait)?
        {
            vacated = listener.reattach_wait(&mut self.link, wait);
        }
        vacated?;
        self.agreement = Agreement::standard(Fallback::Silence);
        let renewed = Self::settle(&self.link, &options, None, true, wait);
        // One that does not agree is told so: it may wait for messages that would never come.
        let (agreement, renewed) = renewed.inspect_err(|_| self.core().hang_up())?;
        if let Some(renewed) = &renewed {
            renewed.inherit(&pipeline);
        }
        self.successors = Some(Box::new(options.again(&agreement)));
        (self.agreement, self.pipeline) = (agreement, renewed);
        Ok(())
    }
}

fn unkept() -> Error {
    Error::Unsupported {
        what: "only a link with reliable delivery can reattach: agree on it with AdvancedOptions::reliable",
    }
}

#[cfg(test)]
mod tests;
