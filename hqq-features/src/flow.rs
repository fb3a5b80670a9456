//! Flow control: a window of credit for each connection, so that a slow reader of one never stops the others.
//!
//! Connections share the ring of a link, and a chunk that finds its inbox full stops all that lies behind it. With
//! flow control a sender puts a chunk into the ring only if the receiver has promised it a place: then no inbox is
//! ever found full. Each direction of a connection has a [`Sender`] at one end and a [`Receiver`] at the other.
//!
//! # The unit
//!
//! A credit is one chunk: one packet in the ring, and one buffer. Inboxes are bounded in chunks, and what a slow reader
//! holds is buffers, whether they are full or not. So chunks are what runs out; bytes are bounded with them, by chunks
//! times the buffer size. A chunk that lies in a run of `n` buffers spends `n`.
//!
//! # Credit
//!
//! Both ends begin with the receiver's window. A [`Grant`] is the number of chunks that the sender may have sent since
//! the beginning, not what is added. So a grant can be repeated, and a later one makes those before it needless: of
//! several that wait to be sent only the last must go. The receiver announces one when at least half of its window is
//! free again and unannounced, which is at most two a window. A sender that is out of credit cannot wait in vain: once
//! all it sent is read, the whole window is unannounced. This needs the last grant to arrive: it may be merged with
//! those before it, but not dropped; [`Receiver::last`] can be sent again at any time.
//!
//! | always | because |
//! |---|---|
//! | unread chunks <= window | a chunk beyond the announced count is an [`Overrun`](FlowError::Overrun) |
//! | a grant never shrinks | one that does is refused: the ring keeps order, so an older one cannot come late |
//! | credit <= window | a grant for chunks that were never sent is refused |
//!
//! A refused grant or chunk changes nothing but the count of faults. Counts wrap.
//!
//! # Memory
//!
//! A window is a promise of memory: what arrives and is not read at once, the receiver moves out of the pool when that
//! runs low, so that no connection holds buffers that the others need. It is bounded by the window, in buffers.
//!
//! The ring itself stays the rule for the link as a whole: a full ring holds up all senders alike.
//!
//! Times are durations since any one moment that the caller keeps to.

use core::fmt;
use core::time::Duration;

/// The smallest window, in chunks: one half can be under way while the other is announced.
pub const LEAST_WINDOW: u64 = 2;

/// The largest window, in chunks.
pub const LARGEST_WINDOW: u64 = 1 << 31;

/// What flow control refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowError {
    /// A window with less than [`LEAST_WINDOW`].
    WindowTooSmall {
        /// Chunks it was to have.
        window: u64,
        /// The least it must have.
        least: u64,
    },
    /// A window with more than [`LARGEST_WINDOW`].
    WindowTooLarge {
        /// Chunks it was to have.
        window: u64,
        /// The most it may have.
        most: u64,
    },
    /// Too little credit: wait for a grant. The only one that passes by itself.
    Blocked {
        /// Chunks that were to be sent.
        wanted: u64,
        /// Chunks that may be sent.
        credit: u64,
    },
    /// More at once than half the window: there might never be credit for it.
    BeyondWindow {
        /// Chunks that were to be sent at once.
        wanted: u64,
        /// The most at once.
        most: u64,
    },
    /// The peer sent more than it was allowed.
    Overrun {
        /// Chunks that may be unread.
        window: u64,
        /// Chunks that would be.
        got: u64,
    },
    /// The peer granted less than before.
    GrantShrinks {
        /// What it granted, in chunks since the beginning.
        total: u64,
        /// What it had granted already.
        before: u64,
    },
    /// The peer granted more than its window beyond what was sent.
    GrantTooLarge {
        /// What it granted, in chunks since the beginning.
        total: u64,
        /// The most it can grant now.
        most: u64,
    },
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::WindowTooSmall { window, least } => {
                write!(f, "a window of {window} chunks is too small: it needs at least {least}")
            }
            Self::WindowTooLarge { window, most } => {
                write!(f, "a window of {window} chunks is too large: at most {most} are allowed")
            }
            Self::Blocked { wanted, credit } => {
                write!(
                    f,
                    "credit for {credit} chunks where {wanted} are to be sent: wait until the peer reads"
                )
            }
            Self::BeyondWindow { wanted, most } => {
                write!(f, "{wanted} chunks at once, where half a window has {most}: send them in parts")
            }
            Self::Overrun { window, got } => {
                write!(f, "the peer sent beyond its window: {got} unread chunks where {window} are allowed")
            }
            Self::GrantShrinks { total, before } => {
                write!(
                    f,
                    "the peer granted {total} chunks after it had granted {before}: a grant never shrinks"
                )
            }
            Self::GrantTooLarge { total, most } => {
                write!(f, "the peer granted {total} chunks where its window allows at most {most}")
            }
        }
    }
}

impl core::error::Error for FlowError {}

fn checked(window: u64) -> Result<u64, FlowError> {
    match window {
        ..LEAST_WINDOW => Err(FlowError::WindowTooSmall { window, least: LEAST_WINDOW }),
        LEAST_WINDOW..=LARGEST_WINDOW => Ok(window),
        _ => Err(FlowError::WindowTooLarge { window, most: LARGEST_WINDOW }),
    }
}

/// How many chunks the sender may have sent since the beginning, modulo 2^64. This is what travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant(u64);

impl Grant {
    /// A grant as it came. [`Sender::granted`] checks it.
    pub const fn from_total(total: u64) -> Self {
        Self(total)
    }

    /// The operand to send.
    pub const fn total(self) -> u64 {
        self.0
    }
}

/// How a connection's sending stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Congestion {
    /// Chunks that callers want to send and that are not sent.
    pub queued: u64,
    /// Chunks that may be sent at once.
    pub credit: u64,
    /// How long credit was missing, all stalls together, the present one included.
    pub blocked: Duration,
    /// How often it went missing.
    pub stalls: u64,
    /// Grants that were refused.
    pub faults: u64,
}

/// The sending end: spends credit.
///
/// ```
/// use core::time::Duration;
/// use hqq_features::flow::{FlowError, Receiver, Sender};
///
/// let (mut sender, mut receiver) = (Sender::new(4)?, Receiver::new(4)?);
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
pub struct Sender {
    window: u64,
    /// The peer's last grant, and what was spent of it, both since the beginning.
    granted: u64,
    spent: u64,
    queued: u64,
    /// Since when credit is missing, and how much would be enough.
    since: Option<(Duration, u64)>,
    blocked: Duration,
    stalls: u64,
    faults: u64,
}

impl Sender {
    /// The end that sends to a receiver with this window, in chunks.
    ///
    /// # Errors
    /// [`FlowError::WindowTooSmall`], [`FlowError::WindowTooLarge`].
    pub fn new(window: u64) -> Result<Self, FlowError> {
        let window = checked(window)?;
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

    /// Chunks that may be sent at once.
    pub fn credit(&self) -> u64 {
        self.granted.wrapping_sub(self.spent)
    }

    /// Chunks that were sent and that the peer has not announced as read.
    pub fn outstanding(&self) -> u64 {
        self.window - self.credit()
    }

    /// A caller wants to send `n` chunks: they count as queued until they are spent or withdrawn.
    pub fn enqueue(&mut self, n: u64) {
        self.queued = self.queued.saturating_add(n);
    }

    /// A caller gives up on `n` queued chunks.
    pub fn withdraw(&mut self, n: u64, now: Duration) {
        self.queued = self.queued.saturating_sub(n);
        if self.queued == 0 {
            self.go_on(now);
        }
    }

    /// Spends credit for `n` chunks, ahead of sending them.
    ///
    /// # Errors
    /// [`FlowError::Blocked`] if there is too little: a stall begins, if none has. [`FlowError::BeyondWindow`] for more
    /// than half the window at once.
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
        self.go_on(now);
        Ok(())
    }

    /// Takes back what was spent for `n` chunks that could not be sent after all, as with a full ring; they count as
    /// queued again. More than is outstanding is not taken back.
    pub fn refund(&mut self, n: u64) {
        let n = n.min(self.outstanding());
        self.spent = self.spent.wrapping_sub(n);
        self.enqueue(n);
    }

    /// A grant arrived. True if there is more credit than before: wake who waits for it.
    ///
    /// # Errors
    /// [`FlowError::GrantShrinks`], [`FlowError::GrantTooLarge`]: the peer breaks the rules. Nothing changes, and the
    /// fault is counted.
    pub fn granted(&mut self, grant: Grant, now: Duration) -> Result<bool, FlowError> {
        let Grant(total) = grant;
        let more = total.wrapping_sub(self.granted);
        if (more as i64) < 0 {
            self.faults += 1;
            return Err(FlowError::GrantShrinks { total, before: self.granted });
        }
        // What was never sent cannot have been read.
        if total.wrapping_sub(self.spent) > self.window {
            self.faults += 1;
            return Err(FlowError::GrantTooLarge { total, most: self.spent.wrapping_add(self.window) });
        }
        self.granted = total;
        if self.since.is_some_and(|(_, enough)| self.credit() >= enough) {
            self.go_on(now);
        }
        Ok(more > 0)
    }

    /// How long credit has been missing, if it is.
    pub fn blocked_for(&self, now: Duration) -> Option<Duration> {
        self.since.map(|(since, _)| now.saturating_sub(since))
    }

    /// How things stand.
    pub fn congestion(&self, now: Duration) -> Congestion {
        Congestion {
            queued: self.queued,
            credit: self.credit(),
            blocked: self.blocked.saturating_add(self.blocked_for(now).unwrap_or_default()),
            stalls: self.stalls,
            faults: self.faults,
        }
    }

    /// The stall is over, if there was one.
    fn go_on(&mut self, now: Duration) {
        self.blocked = self.blocked.saturating_add(self.blocked_for(now).unwrap_or_default());
        self.since = None;
    }
}

/// The receiving end: grants credit. See [`Sender`] for an example.
#[derive(Clone, Debug)]
pub struct Receiver {
    window: u64,
    /// All since the beginning: the last grant, what came, what was read.
    announced: u64,
    arrived: u64,
    consumed: u64,
    faults: u64,
}

impl Receiver {
    /// The end that has room for so many unread chunks.
    ///
    /// # Errors
    /// [`FlowError::WindowTooSmall`], [`FlowError::WindowTooLarge`].
    pub fn new(window: u64) -> Result<Self, FlowError> {
        let window = checked(window)?;
        Ok(Self { window, announced: window, arrived: 0, consumed: 0, faults: 0 })
    }

    /// Chunks that came and are not read: at most the window.
    pub fn unread(&self) -> u64 {
        self.arrived.wrapping_sub(self.consumed)
    }

    /// Whether another chunk was granted.
    pub fn has_room(&self) -> bool {
        self.announced != self.arrived
    }

    /// `n` chunks come in.
    ///
    /// # Errors
    /// [`FlowError::Overrun`] if they were not granted. Nothing changes, and the fault is counted.
    pub fn arrived(&mut self, n: u64) -> Result<(), FlowError> {
        if n > self.announced.wrapping_sub(self.arrived) {
            self.faults += 1;
            return Err(FlowError::Overrun { window: self.window, got: self.unread().saturating_add(n) });
        }
        self.arrived = self.arrived.wrapping_add(n);
        Ok(())
    }

    /// `n` chunks were read, or given home unread; more than came do not count. The grant to send, if it is time for
    /// one.
    #[must_use]
    pub fn consumed(&mut self, n: u64) -> Option<Grant> {
        self.consumed = self.consumed.wrapping_add(n.min(self.unread()));
        let total = self.consumed.wrapping_add(self.window);
        let unannounced = total.wrapping_sub(self.announced);
        if unannounced < self.window.div_ceil(2) {
            return None;
        }
        self.announced = total;
        Some(Grant(total))
    }

    /// The last grant. Sending it again does no harm.
    pub fn last(&self) -> Grant {
        Grant(self.announced)
    }

    /// Overruns so far.
    pub fn faults(&self) -> u64 {
        self.faults
    }
}

#[cfg(test)]
mod tests;
