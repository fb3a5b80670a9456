//! The state of the receiver: the messages that were delivered and processed, and the acknowledgements that were sent.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Duration;

use super::error::ReliableError;
use super::packet::{ACK_BITS, Ack, Position, Receipt, Resume, Start};

/// When a receiver sends an Ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckPolicy {
    /// After this many acknowledgements; 0 counts as 1, and more than half the window as half.
    pub every: usize,
    /// Or when the first of them has waited this long.
    pub within: Duration,
}

/// The decision of the receiver about a frame.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Deliver it to the application, with this receipt.
    Deliver(Receipt),
    /// Drop it: it was delivered, or is processed according to the record.
    Duplicate,
    /// Drop it: it was in the ring before this receiver attached, and is sent again after the Start.
    Early,
}

/// The outcome of a [`Start`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// The Start was meant for a predecessor. Nothing has changed.
    Early,
    /// It is the first session of the inbox.
    First,
    /// The session continues.
    Continued {
        /// Messages that are acknowledged according to the sender, and not in the record of this receiver. If it is not 0,
        /// a predecessor acknowledged outside its commit, or its record is incomplete.
        skipped: u64,
    },
    /// Another session begins: the state of the old one is dropped, and its receipts are void.
    Anew,
}

/// Counts of an [`Inbox`] since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxCounts {
    /// Messages that were delivered.
    pub delivered: u64,
    /// Frames that were dropped as duplicates.
    pub duplicates: u64,
    /// Frames that were dropped because they arrived before the Start.
    pub early: u64,
    /// Frames and Starts that were refused with an error.
    pub refused: u64,
    /// Messages that the application acknowledged.
    pub acknowledged: u64,
}

/// The state of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Missing,
    Delivered,
    /// Acknowledged, and not yet in an Ack.
    AckPending,
    AckSent,
}

impl Mark {
    fn is_processed(self) -> bool {
        matches!(self, Self::AckPending | Self::AckSent)
    }
}

/// The state of the receiver: the messages that were delivered and acknowledged, and the Acks that are to be sent.
///
/// See [`Store`](super::Store) for an example.
#[derive(Debug)]
pub struct Inbox {
    window: usize,
    pub(super) policy: AckPolicy,
    pub(super) session: Option<NonZeroU64>,
    /// Whether a Start has arrived. Before it the session of a frame is unknown.
    started: bool,
    /// All messages to this sequence are processed.
    pub(super) upto: u64,
    /// The messages after `upto`, without gaps; at most `window`. The front is never processed.
    pub(super) marks: VecDeque<Mark>,
    /// The number of messages that are `Delivered`.
    pub(super) outstanding: usize,
    /// Acknowledgements that are not yet in an Ack: to `upto`, and after it.
    pub(super) pending: (usize, usize),
    /// The time of the first [`due`](Self::due) after the oldest of them.
    since: Option<Duration>,
    counts: InboxCounts,
}

impl Inbox {
    /// The inbox of a receiver without a record. `window` is [`StoreLimits::messages`](super::store::StoreLimits::messages)
    /// of the sender; 0 counts as 1.
    pub fn new(window: usize, mut policy: AckPolicy) -> Self {
        let window = window.max(1);
        policy.every = policy.every.min(window / 2).max(1);
        Self {
            window,
            policy,
            session: None,
            started: false,
            upto: 0,
            marks: VecDeque::new(),
            outstanding: 0,
            pending: (0, 0),
            since: None,
            counts: InboxCounts::default(),
        }
    }

    /// The inbox of a receiver with a durable record: all messages to `position` are processed, and those in `beyond`,
    /// which has any order and may have repetitions.
    ///
    /// The position may be older than the record: an honest sender sends no message that is a window or more after an
    /// unacknowledged one, so all messages that are a window or more before the newest of `beyond` count as processed.
    ///
    /// ```
    /// use std::num::NonZeroU64;
    /// use std::time::Duration;
    /// use hqq_features::reliable::{Inbox, AckPolicy, Position, Start, Started, Verdict};
    ///
    /// let session = NonZeroU64::new(0x5eed).unwrap();
    /// let policy = AckPolicy { every: 32, within: Duration::from_millis(1) };
    /// let mut inbox = Inbox::resume(64, policy, Position { session, upto: 3 }, [5]);
    /// assert_eq!(inbox.started(Start { session, next: 4, opens: true })?, Started::Continued { skipped: 0 });
    /// assert!(matches!(inbox.arrived(4)?, Verdict::Deliver(_)));
    /// assert_eq!(inbox.arrived(5)?, Verdict::Duplicate);
    /// # Ok::<(), hqq_features::reliable::ReliableError>(())
    /// ```
    pub fn resume(
        window: usize,
        policy: AckPolicy,
        position: Position,
        beyond: impl IntoIterator<Item = u64>,
    ) -> Self {
        let mut inbox = Self::new(window, policy);
        let beyond: Vec<u64> = beyond.into_iter().collect();
        let newest = beyond.iter().copied().max().unwrap_or(0);
        inbox.session = Some(position.session);
        inbox.upto = position.upto.max(newest.saturating_sub(inbox.window as u64));
        for sequence in beyond {
            if sequence > inbox.upto {
                if let Ok(mark) = inbox.mark(sequence) {
                    *mark = Mark::AckSent;
                }
            }
        }
        inbox.slide();
        inbox
    }

    /// The progress of this receiver, as the Resume that begins an attachment. A durable record may store it in place of
    /// the receipts that it covers.
    pub fn position(&self) -> Resume {
        Resume { known: self.session.map(|session| Position { session, upto: self.upto }) }
    }

    /// Detaches the sender, which is gone. Frames of the next one are dropped before its Start.
    pub fn detach(&mut self) {
        self.started = false;
    }

    /// The counts of the inbox.
    pub fn counts(&self) -> InboxCounts {
        self.counts
    }

    /// Messages that were delivered and not yet acknowledged.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// The mark of a sequence after `upto`.
    fn mark(&mut self, sequence: u64) -> Result<&mut Mark, ReliableError> {
        let upto = self.upto;
        let at = usize::try_from(sequence - upto - 1).unwrap_or(usize::MAX);
        if at >= self.window {
            return Err(ReliableError::TooFar { sequence, upto, window: self.window });
        }
        if self.marks.len() <= at {
            self.marks.resize(at + 1, Mark::Missing);
        }
        Ok(&mut self.marks[at])
    }

    /// Removes the processed messages before the first other one.
    fn slide(&mut self) {
        while let Some(mark) = self.marks.front().filter(|mark| mark.is_processed()) {
            if *mark == Mark::AckPending {
                self.pending.0 += 1;
                self.pending.1 -= 1;
            }
            self.marks.pop_front();
            self.upto += 1;
        }
    }

    /// Processes a Start. Starts and frames must be processed in the order of the ring.
    ///
    /// # Errors
    /// [`ReliableError::TooFar`] if delivered messages would be outside the window.
    pub fn started(&mut self, start: Start) -> Result<Started, ReliableError> {
        if !self.started && !start.opens {
            return Ok(Started::Early);
        }
        // A Start that was not decoded may have 0.
        let below = start.next.saturating_sub(1);
        if self.session != Some(start.session) {
            let started = if self.session.is_some() { Started::Anew } else { Started::First };
            let counts = self.counts;
            *self = Self::new(self.window, self.policy);
            (self.session, self.started, self.upto, self.counts) = (Some(start.session), true, below, counts);
            return Ok(started);
        }
        let ahead = below.saturating_sub(self.upto);
        let skipped = if ahead <= self.window as u64 {
            let ahead = ahead as usize;
            self.marks.resize(self.marks.len().max(ahead), Mark::Missing);
            let missing = self.marks.iter_mut().take(ahead).filter(|mark| **mark == Mark::Missing);
            let skipped = missing.map(|mark| *mark = Mark::AckSent).count();
            self.slide();
            skipped as u64
        } else if self.outstanding == 0 {
            let known = self.marks.drain(..).filter(|mark| mark.is_processed()).count();
            self.upto = below;
            self.pending = (self.pending.0 + self.pending.1, 0);
            ahead - known as u64
        } else {
            self.counts.refused += 1;
            return Err(ReliableError::TooFar { sequence: start.next, upto: self.upto, window: self.window });
        };
        self.started = true;
        Ok(Started::Continued { skipped })
    }

    /// Processes the arrival of the frame with the sequence `sequence`.
    ///
    /// # Errors
    /// [`ReliableError::Malformed`] for sequence 0, [`ReliableError::TooFar`] for one outside the window.
    pub fn arrived(&mut self, sequence: u64) -> Result<Verdict, ReliableError> {
        let verdict = self.judge(sequence);
        match verdict {
            Ok(Verdict::Deliver(_)) => self.counts.delivered += 1,
            Ok(Verdict::Duplicate) => self.counts.duplicates += 1,
            Ok(Verdict::Early) => self.counts.early += 1,
            Err(_) => self.counts.refused += 1,
        }
        verdict
    }

    fn judge(&mut self, sequence: u64) -> Result<Verdict, ReliableError> {
        if sequence == 0 {
            return Err(ReliableError::Malformed { what: "a sequence", found: 0 });
        }
        let Some(session) = self.session.filter(|_| self.started) else {
            return Ok(Verdict::Early);
        };
        if sequence <= self.upto {
            // Sent again because the sender lacks the Ack, which is sent again.
            self.pending.0 = self.pending.0.max(1);
            return Ok(Verdict::Duplicate);
        }
        let mark = self.mark(sequence)?;
        match *mark {
            Mark::Missing => {
                *mark = Mark::Delivered;
                self.outstanding += 1;
                return Ok(Verdict::Deliver(Receipt { session, sequence }));
            }
            Mark::AckSent => {
                *mark = Mark::AckPending;
                self.pending.1 += 1;
            }
            Mark::Delivered | Mark::AckPending => {}
        }
        Ok(Verdict::Duplicate)
    }

    /// Records that the application has processed a message; in a receiver that keeps a record, after the commit. Returns
    /// `false` if it was acknowledged before.
    ///
    /// # Errors
    /// [`ReliableError::OtherSession`] if the sender was replaced meanwhile; [`ReliableError::NotDelivered`].
    pub fn acknowledge(&mut self, receipt: Receipt) -> Result<bool, ReliableError> {
        let Receipt { session, sequence } = receipt;
        if self.session != Some(session) {
            let current = self.session.map_or(0, NonZeroU64::get);
            return Err(ReliableError::OtherSession { found: session.get(), current });
        }
        if sequence <= self.upto {
            return Ok(false);
        }
        let at = usize::try_from(sequence - self.upto - 1).unwrap_or(usize::MAX);
        match self.marks.get_mut(at) {
            Some(mark) if mark.is_processed() => Ok(false),
            Some(mark) if *mark == Mark::Delivered => {
                *mark = Mark::AckPending;
                self.outstanding -= 1;
                self.pending.1 += 1;
                self.counts.acknowledged += 1;
                self.slide();
                Ok(true)
            }
            _ => Err(ReliableError::NotDelivered { sequence }),
        }
    }

    /// Whether acknowledgements are to be sent, due or not.
    pub fn has_pending_acks(&self) -> bool {
        self.pending != (0, 0)
    }

    /// Whether an Ack is due at the time `now`, by the [`AckPolicy`]: then call [`take_ack`](Self::take_ack).
    ///
    /// The time of an acknowledgement is that of the first call after it. A caller that is about to sleep sends the Ack
    /// whether it is due or not: the sender may be waiting for room.
    pub fn due(&mut self, now: Duration) -> bool {
        let pending = self.pending.0 + self.pending.1;
        if pending == 0 {
            return false;
        }
        let since = *self.since.get_or_insert(now);
        pending >= self.policy.every || now.saturating_sub(since) >= self.policy.within
    }

    /// The time at which an Ack becomes due without further acknowledgements; `None` if [`due`](Self::due) has found none
    /// to send.
    pub fn deadline(&self) -> Option<Duration> {
        self.since.and_then(|since| since.checked_add(self.policy.within))
    }

    /// The next Ack to send; `None` if all acknowledgements were sent.
    ///
    /// One Ack does not always suffice: call it until it returns `None`.
    #[must_use]
    pub fn take_ack(&mut self) -> Option<Ack> {
        let session = self.session.filter(|_| self.pending != (0, 0))?;
        let mut ack = Ack { session, upto: self.upto, from: 0, bits: [0; ACK_BITS / 64] };
        self.pending.0 = 0;
        if let Some(at) = self.marks.iter().position(|mark| *mark == Mark::AckPending) {
            ack.from = self.upto + 1 + at as u64;
            for (bit, mark) in self.marks.range_mut(at..).take(ACK_BITS).enumerate() {
                ack.bits[bit / 64] |= u64::from(mark.is_processed()) << (bit % 64);
                if *mark == Mark::AckPending {
                    *mark = Mark::AckSent;
                    self.pending.1 -= 1;
                }
            }
        }
        if self.pending == (0, 0) {
            self.since = None;
        }
        Some(ack)
    }
}
