//! The receiver's side: what was delivered, what is processed, and what the sender has been told.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::error::ReliableError;
use super::packet::{ACK_BITS, Ack, Position, Receipt, Resume, Start};

/// When a receiver should tell what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckPolicy {
    /// After so many acknowledgements; 0 counts as 1, and more than half the window as half.
    pub every: usize,
    /// Or once the first of them has waited so long.
    pub within: Duration,
}

/// What to do with a frame.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Give it to the application, with this receipt.
    Deliver(Receipt),
    /// Drop it: it was delivered, or is known to be processed.
    Duplicate,
    /// Drop it: it lay in the ring before this receiver came, and comes again behind the Start.
    Early,
}

/// What an inbox made of a [`Start`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It was meant for a predecessor. Nothing has changed.
    Early,
    /// It knew of no session before.
    First,
    /// The session goes on.
    Continued {
        /// Messages that are acknowledged, as the sender says, and of which this receiver has no record. Not 0 means
        /// that a predecessor acknowledged outside its commit, or that its record is incomplete.
        skipped: u64,
    },
    /// Another session than before: what is known of that one is forgotten. Its receipts are void.
    Anew,
}

/// Figures of an [`Inbox`], all since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxCounts {
    /// Messages delivered.
    pub delivered: u64,
    /// Frames dropped as duplicates.
    pub duplicates: u64,
    /// Frames dropped because they came before the Start.
    pub early: u64,
    /// Frames and Starts refused with an error.
    pub refused: u64,
    /// Messages acknowledged by the application.
    pub acknowledged: u64,
}

/// How far one message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Missing,
    Delivered,
    /// Acknowledged, and the sender is still to be told.
    AckPending,
    AckSent,
}

impl Mark {
    fn is_processed(self) -> bool {
        matches!(self, Self::AckPending | Self::AckSent)
    }
}

/// The receiver's side: which messages were delivered, which are acknowledged, and what the sender has been told.
///
/// See [`Store`](super::Store) for an example.
#[derive(Debug)]
pub struct Inbox {
    window: usize,
    pub(super) policy: AckPolicy,
    pub(super) session: Option<NonZeroU64>,
    /// A Start has come. Without one nothing tells what a frame's sequence means.
    started: bool,
    /// All to this sequence are processed.
    pub(super) upto: u64,
    /// Those beyond `upto`, without gaps; at most `window`. The front is never processed.
    pub(super) marks: VecDeque<Mark>,
    /// Marks that are `Delivered`.
    pub(super) outstanding: usize,
    /// Acknowledgements to be told, to `upto` and beyond.
    pub(super) pending: (usize, usize),
    /// When [`due`](Self::due) first saw the oldest of them.
    since: Option<Instant>,
    counts: InboxCounts,
}

impl Inbox {
    /// An inbox of a receiver that knows nothing of what is processed. `window` is the sender's
    /// [`StoreLimits::messages`](super::StoreLimits::messages); 0 counts as 1.
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

    /// An inbox of a receiver that has a durable record: all to `position` are processed, and those in `beyond`, in any
    /// order. What `beyond` repeats does no harm.
    ///
    /// The position may be older than the record: an honest sender never has a message out that is a window or more
    /// ahead of an unacknowledged one, so all that lie so far behind the newest of `beyond` count as processed.
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

    /// How far this receiver is: the Resume to begin an attachment with. A durable record may store it in place of the
    /// single receipts that it covers.
    pub fn position(&self) -> Resume {
        Resume { known: self.session.map(|session| Position { session, upto: self.upto }) }
    }

    /// The sender is gone: the next one's frames mean nothing before its Start.
    pub fn detach(&mut self) {
        self.started = false;
    }

    /// What the inbox has done.
    pub fn counts(&self) -> InboxCounts {
        self.counts
    }

    /// Messages delivered and not yet acknowledged.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// The mark of a sequence beyond `upto`.
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

    /// Forgets the processed messages ahead of all others.
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

    /// The sender says which frame comes next. To be called in the order of the ring.
    ///
    /// # Errors
    /// [`ReliableError::TooFar`] if that would leave delivered messages further behind than the window reaches.
    pub fn started(&mut self, start: Start) -> Result<Started, ReliableError> {
        if !self.started && !start.opens {
            return Ok(Started::Early);
        }
        // What a caller made by hand may say 0.
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

    /// A frame came.
    ///
    /// # Errors
    /// [`ReliableError::Malformed`] for sequence 0, [`ReliableError::TooFar`] for one beyond the window.
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
            // Sent again because the sender does not know. It is told again.
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

    /// The application has processed a message; in a receiver that keeps a record, after the commit. Returns whether
    /// that is new.
    ///
    /// # Errors
    /// [`ReliableError::OtherSession`] if the sender was replaced meanwhile: there is nobody to tell.
    /// [`ReliableError::NotDelivered`].
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

    /// Whether there is anything to tell, whatever the [`AckPolicy`].
    pub fn has_pending_acks(&self) -> bool {
        self.pending != (0, 0)
    }

    /// Whether it is time for [`take_ack`](Self::take_ack): often enough, or long enough, by the [`AckPolicy`].
    ///
    /// The time of an acknowledgement is that of the first call after it. Whoever is about to sleep takes the Ack
    /// without asking: the sender may be waiting for room.
    pub fn due(&mut self, now: Instant) -> bool {
        let pending = self.pending.0 + self.pending.1;
        if pending == 0 {
            return false;
        }
        let since = *self.since.get_or_insert(now);
        pending >= self.policy.every || now.saturating_duration_since(since) >= self.policy.within
    }

    /// When an Ack becomes due if nothing more happens; `None` while [`due`](Self::due) has seen nothing to tell.
    pub fn deadline(&self) -> Option<Instant> {
        self.since.and_then(|since| since.checked_add(self.policy.within))
    }

    /// What the sender should be told now; `None` if it has been told everything.
    ///
    /// One Ack does not always suffice: call it until it gives `None`.
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
