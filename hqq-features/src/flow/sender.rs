//! The sending end of a direction.

use core::time::Duration;

use super::error::FlowError;
use super::grant::Grant;
use super::window::check_window;

/// The state of the sending direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Congestion {
    /// Chunks that callers wait to send.
    pub queued: u64,
    /// Chunks that may be sent now.
    pub credit: u64,
    /// The total time without enough credit, with the present stall.
    pub blocked: Duration,
    /// How often credit ran out.
    pub stalls: u64,
    /// Grants that were refused.
    pub faults: u64,
}

/// The sending end of a direction, which spends credit.
///
/// ```
/// use core::time::Duration;
/// use hqq_features::flow::{FlowError, CreditReceiver, CreditSender};
///
/// let (mut sender, mut receiver) = (CreditSender::new(4)?, CreditReceiver::new(4)?);
/// let at = Duration::from_millis;
/// for _ in 0..4 {
///     sender.try_spend(1, at(0))?;
///     receiver.arrived(1)?;
/// }
/// assert_eq!(sender.try_spend(1, at(1)), Err(FlowError::Blocked { wanted: 1, credit: 0 }));
/// assert_eq!(receiver.consumed(1), None); // a quarter
/// let grant = receiver.consumed(1).expect("half the window is free");
/// sender.granted(grant, at(5))?;
/// sender.try_spend(1, at(6))?;
/// assert_eq!(sender.congestion(at(9)).blocked, at(4));
/// # Ok::<(), FlowError>(())
/// ```
#[derive(Clone, Debug)]
pub struct CreditSender {
    window: u64,
    /// The total of the last grant, and the chunks that were spent, both since the beginning.
    pub(super) granted: u64,
    pub(super) spent: u64,
    queued: u64,
    /// The beginning of the present stall, and the credit that ends it.
    since: Option<(Duration, u64)>,
    blocked: Duration,
    stalls: u64,
    faults: u64,
}

impl CreditSender {
    /// The end that sends to a receiver with a window of `window` chunks.
    ///
    /// # Errors
    /// [`FlowError::WindowTooSmall`], [`FlowError::WindowTooLarge`].
    pub fn new(window: u64) -> Result<Self, FlowError> {
        let window = check_window(window)?;
        Ok(Self {
            window,
            granted: window,
            spent: 0,
            queued: 0,
            since: None,
            blocked: Duration::ZERO,
            stalls: 0,
            faults: 0,
        })
    }

    /// Chunks that may be sent now.
    pub fn credit(&self) -> u64 {
        self.granted.wrapping_sub(self.spent)
    }

    /// Chunks that were sent and not yet announced as read by the peer.
    pub fn outstanding(&self) -> u64 {
        self.window - self.credit()
    }

    /// Counts `n` chunks as queued, until they are spent or withdrawn.
    pub fn enqueue(&mut self, n: u64) {
        self.queued = self.queued.saturating_add(n);
    }

    /// Counts `n` chunks as no longer queued, at the time `now`: the caller does not send them.
    pub fn withdraw(&mut self, n: u64, now: Duration) {
        self.queued = self.queued.saturating_sub(n);
        if self.queued == 0 {
            self.end_stall(now);
        }
    }

    /// Spends credit for `n` chunks at the time `now`, before they are sent.
    ///
    /// # Errors
    /// [`FlowError::Blocked`] if there is too little credit, which begins a stall. [`FlowError::BeyondWindow`] for more than
    /// half the window at once.
    pub fn try_spend(&mut self, n: u64, now: Duration) -> Result<(), FlowError> {
        let most = self.window / 2;
        if n > most {
            return Err(FlowError::BeyondWindow { wanted: n, most });
        }
        let credit = self.credit();
        if n > credit {
            match &mut self.since {
                Some((_, enough)) => *enough = n,
                None => {
                    self.since = Some((now, n));
                    self.stalls += 1;
                }
            }
            return Err(FlowError::Blocked { wanted: n, credit });
        }
        self.spent = self.spent.wrapping_add(n);
        self.queued = self.queued.saturating_sub(n);
        self.end_stall(now);
        Ok(())
    }

    /// Returns the credit of `n` chunks that were not sent, because the ring was full, for instance. They count as queued
    /// again. No more than the outstanding chunks are returned.
    pub fn refund(&mut self, n: u64) {
        let n = n.min(self.outstanding());
        self.spent = self.spent.wrapping_sub(n);
        self.enqueue(n);
    }

    /// Processes a received grant at the time `now`. Returns whether there is more credit than before: then wake the
    /// callers that wait for it.
    ///
    /// # Errors
    /// [`FlowError::GrantShrinks`], [`FlowError::GrantTooLarge`]: the peer broke the rules. Only the count of faults
    /// changes.
    pub fn granted(&mut self, grant: Grant, now: Duration) -> Result<bool, FlowError> {
        let Grant(total) = grant;
        let more = total.wrapping_sub(self.granted);
        if (more as i64) < 0 {
            self.faults += 1;
            return Err(FlowError::GrantShrinks { total, before: self.granted });
        }
        // Chunks that were never sent cannot have been read.
        if total.wrapping_sub(self.spent) > self.window {
            self.faults += 1;
            return Err(FlowError::GrantTooLarge { total, most: self.spent.wrapping_add(self.window) });
        }
        self.granted = total;
        if self.since.is_some_and(|(_, enough)| self.credit() >= enough) {
            self.end_stall(now);
        }
        Ok(more > 0)
    }

    /// How long the present stall lasts at the time `now`; `None` if there is none.
    pub fn blocked_for(&self, now: Duration) -> Option<Duration> {
        self.since.map(|(since, _)| now.saturating_sub(since))
    }

    /// The state of the direction at the time `now`.
    pub fn congestion(&self, now: Duration) -> Congestion {
        Congestion {
            queued: self.queued,
            credit: self.credit(),
            blocked: self.blocked.saturating_add(self.blocked_for(now).unwrap_or_default()),
            stalls: self.stalls,
            faults: self.faults,
        }
    }

    /// Ends the stall, if there is one.
    fn end_stall(&mut self, now: Duration) {
        self.blocked = self.blocked.saturating_add(self.blocked_for(now).unwrap_or_default());
        self.since = None;
    }
}
