//! The sender's side: what is kept, and what a newcomer is to be sent.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU64;

use super::error::ReliableError;
use super::packet::{ACK_BITS, Ack, Resume, Start};

/// What a store may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Sequences from the oldest unacknowledged message to the newest; 0 counts as 1.
    pub messages: usize,
    /// Bytes in the messages kept, headers not counted.
    pub bytes: usize,
}

/// A store that cannot take a message. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFull {
    /// Bytes of the message.
    pub len: usize,
    /// Sequences from the oldest unacknowledged message to the newest.
    pub messages: usize,
    /// Bytes kept.
    pub bytes: usize,
    /// What there may be of both.
    pub limits: StoreLimits,
}

impl StoreFull {
    /// Whether no acknowledgement will ever make room: the message alone is over the limit.
    pub fn is_final(&self) -> bool {
        self.len > self.limits.bytes
    }
}

impl fmt::Display for StoreFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len, messages, bytes, limits } = self;
        if self.is_final() {
            return write!(f, "a message of {len} bytes, but {} may be kept: raise the limit", limits.bytes);
        }
        write!(
            f,
            "no room to keep {len} bytes: {messages} messages of {} and {bytes} bytes of {} are unacknowledged; \
             wait for the receiver, or raise the limits",
            limits.messages, limits.bytes
        )
    }
}

impl std::error::Error for StoreFull {}

/// What a newcomer is to be sent, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend<'a> {
    /// A Start packet.
    Start(Start),
    /// A frame.
    Message {
        /// Its sequence, as it was when it was pushed.
        sequence: u64,
        /// What was pushed.
        message: &'a [u8],
    },
}

/// What a store made of a [`Resume`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Messages that were freed.
    pub freed: usize,
    /// Whether the newcomer came with the record of another sender's life, which says nothing about this one.
    pub other_session: bool,
}

/// Figures of a [`Store`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Messages kept.
    pub messages: usize,
    /// Bytes in them.
    pub bytes: usize,
    /// Messages freed because they were acknowledged, ever.
    pub acknowledged: u64,
    /// Messages handed out by [`Store::resend`] that had been sent before, ever.
    pub resent: u64,
    /// Pushes refused because the store was full, ever.
    pub full: u64,
}

/// The sender's side: a copy of every message that the receiver has not acknowledged.
///
/// ```
/// use std::num::NonZeroU64;
/// use std::time::Duration;
/// use hqq_features::reliable::{Inbox, StoreLimits, AckPolicy, Resend, Resume, Store, Verdict};
///
/// let limits = StoreLimits { messages: 64, bytes: 1 << 20 };
/// let mut store = Store::new(NonZeroU64::new(0x5eed).unwrap(), limits);
/// store.push(b"one")?;
/// store.push(b"two")?;
///
/// // A receiver takes both, acknowledges the first, and dies.
/// let policy = AckPolicy { every: 1, within: Duration::ZERO };
/// let mut inbox = Inbox::new(limits.messages, policy);
/// # let mut feed = |store: &mut Store, inbox: &mut Inbox| {
/// #     let mut delivered = Vec::new();
/// store.resumed(inbox.position())?;
/// store.resend(|item| {
///     match item {
///         Resend::Start(start) => drop(inbox.started(start)?),
///         Resend::Message { sequence, message } => {
///             if let Verdict::Deliver(receipt) = inbox.arrived(sequence)? {
///                 delivered.push((receipt, message.to_vec()));
///             }
///         }
///     }
///     Ok::<(), hqq_features::reliable::ReliableError>(())
/// })?;
/// # Ok::<_, hqq_features::reliable::ReliableError>(delivered) };
/// # let delivered = feed(&mut store, &mut inbox)?;
/// inbox.acknowledge(delivered[0].0)?;
/// store.acknowledged(inbox.take_ack().unwrap())?;
/// store.detach();
///
/// // The next one gets the second again.
/// let mut inbox = Inbox::new(limits.messages, policy);
/// # let delivered = feed(&mut store, &mut inbox)?;
/// // ... as above ...
/// assert_eq!(delivered.len(), 1);
/// assert_eq!((delivered[0].0.sequence, &delivered[0].1[..]), (2, &b"two"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Store {
    session: NonZeroU64,
    limits: StoreLimits,
    /// The sequence of `kept[0]`, or of the next message if there is none.
    pub(super) first: u64,
    /// By sequence without gaps; `None` is acknowledged. The front is never `None`.
    pub(super) kept: VecDeque<Option<Box<[u8]>>>,
    /// A peer has resumed.
    attached: bool,
    /// That peer has had its first Start.
    pub(super) announced: bool,
    /// The sequence of what that peer is to get next.
    cursor: u64,
    /// The last sequence that any peer was sent; 0 for none.
    pub(super) sent: u64,
    /// The newest message is its pusher's to place, or nobody has seen it.
    fresh: bool,
    counts: StoreCounts,
}

impl Store {
    /// An empty store without a peer. `session` must differ from that of any earlier store whose receivers may still
    /// have a record: a random number.
    pub fn new(session: NonZeroU64, mut limits: StoreLimits) -> Self {
        limits.messages = limits.messages.max(1);
        Self {
            session,
            limits,
            first: 1,
            kept: VecDeque::new(),
            attached: false,
            announced: false,
            cursor: 1,
            sent: 0,
            fresh: false,
            counts: StoreCounts::default(),
        }
    }

    /// The session of this store.
    pub fn session(&self) -> NonZeroU64 {
        self.session
    }

    /// What the store may keep.
    pub fn limits(&self) -> StoreLimits {
        self.limits
    }

    /// How full it is, and what it has done.
    pub fn counts(&self) -> StoreCounts {
        self.counts
    }

    /// The sequence of the next message.
    fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Whether a message of `len` bytes can be kept now. For callers that want to know before they write it.
    ///
    /// # Errors
    /// [`StoreFull`]; the figure [`full`](StoreCounts::full) does not count it.
    pub fn room_for(&self, len: usize) -> Result<(), StoreFull> {
        let (messages, bytes) = (self.kept.len(), self.counts.bytes);
        if messages < self.limits.messages && len <= self.limits.bytes.saturating_sub(bytes) {
            return Ok(());
        }
        Err(StoreFull { len, messages, bytes, limits: self.limits })
    }

    /// Keeps a copy of a message and gives it its sequence.
    ///
    /// If the store [is caught up](Self::is_caught_up), the caller now places the frame in the ring, ahead of any
    /// later one. If not, the message waits for [`resend`](Self::resend).
    ///
    /// # Errors
    /// [`StoreFull`] if one of the limits would be passed.
    pub fn push<M>(&mut self, message: M) -> Result<u64, StoreFull>
    where
        M: AsRef<[u8]> + Into<Vec<u8>>,
    {
        let len = message.as_ref().len();
        if let Err(full) = self.room_for(len) {
            self.counts.full += 1;
            return Err(full);
        }
        let sequence = self.next();
        if self.is_caught_up() {
            self.cursor = sequence + 1;
            self.sent = sequence;
        }
        self.kept.push_back(Some(message.into().into_boxed_slice()));
        self.fresh = true;
        self.counts.messages += 1;
        self.counts.bytes += len;
        Ok(sequence)
    }

    /// Takes the newest message back, for a caller who could not place its frame. Its sequence is used again, so
    /// nobody may have seen it.
    ///
    /// Returns whether it was taken back: not if it is not the newest, was handed out by [`resend`](Self::resend), or
    /// the peer was lost meanwhile.
    #[must_use]
    pub fn withdraw(&mut self, sequence: u64) -> bool {
        if !self.fresh || sequence.checked_add(1) != Some(self.next()) {
            return false;
        }
        let Some(message) = self.kept.back_mut().and_then(Option::take) else {
            return false;
        };
        self.kept.pop_back();
        self.fresh = false;
        self.counts.messages -= 1;
        self.counts.bytes -= message.len();
        self.cursor = self.cursor.min(sequence);
        self.sent = self.sent.min(sequence - 1);
        true
    }

    /// The peer is gone, or no longer the one who resumed. From now on messages wait for a newcomer.
    ///
    /// What the old peer still said, its Acks in the ring, is to be read or dropped before the newcomer's Resume.
    pub fn detach(&mut self) {
        self.attached = false;
        self.announced = false;
        self.fresh = false;
    }

    /// A newcomer says what it knows to be processed. That is freed; the rest awaits [`resend`](Self::resend).
    ///
    /// # Errors
    /// [`ReliableError::AlreadyResumed`] without a [`detach`](Self::detach) since the last one;
    /// [`ReliableError::NeverSent`] for what cannot have been processed.
    pub fn resumed(&mut self, resume: Resume) -> Result<Resumed, ReliableError> {
        if self.attached {
            return Err(ReliableError::AlreadyResumed);
        }
        let own = resume.known.filter(|position| position.session == self.session);
        let upto = own.map_or(0, |position| position.upto);
        self.check_sent(upto)?;
        let freed = self.free_to(upto);
        self.attached = true;
        self.announced = false;
        self.cursor = self.first;
        Ok(Resumed { freed, other_session: own.is_none() && resume.known.is_some() })
    }

    /// The receiver's application has acknowledged messages: they are freed. Returns how many were.
    ///
    /// # Errors
    /// [`ReliableError::OtherSession`] and [`ReliableError::NeverSent`].
    pub fn acknowledged(&mut self, ack: Ack) -> Result<usize, ReliableError> {
        if ack.session != self.session {
            let (found, current) = (ack.session.get(), self.session.get());
            return Err(ReliableError::OtherSession { found, current });
        }
        self.check_sent(ack.highest())?;
        let mut freed = self.free_to(ack.upto);
        for bit in (0..ACK_BITS).filter(|bit| ack.has(*bit)) {
            // The sum fits, since the highest was sent.
            freed += self.free((ack.from + bit as u64).checked_sub(self.first));
        }
        self.trim();
        Ok(freed)
    }

    fn check_sent(&self, sequence: u64) -> Result<(), ReliableError> {
        if sequence > self.sent {
            return Err(ReliableError::NeverSent { sequence, last: self.sent });
        }
        Ok(())
    }

    fn free_to(&mut self, upto: u64) -> usize {
        let end = (upto + 1).clamp(self.first, self.next());
        let freed = (0..end - self.first).map(|at| self.free(Some(at))).sum();
        self.trim();
        freed
    }

    /// Frees the message at this distance from the first, if it is kept.
    fn free(&mut self, at: Option<u64>) -> usize {
        let place = at.and_then(|at| self.kept.get_mut(usize::try_from(at).ok()?));
        let Some(message) = place.and_then(Option::take) else { return 0 };
        self.counts.messages -= 1;
        self.counts.bytes -= message.len();
        self.counts.acknowledged += 1;
        1
    }

    /// Forgets the acknowledged messages ahead of all others.
    fn trim(&mut self) {
        while let Some(None) = self.kept.front() {
            self.kept.pop_front();
            self.first += 1;
        }
    }

    /// Whether a peer has resumed and was handed everything. Then what is pushed next is its pusher's to place.
    pub fn is_caught_up(&self) -> bool {
        self.attached && self.announced && self.cursor == self.next()
    }

    /// Hands out what the peer is still to get: a Start, then what is kept, in order, a Start for each hole.
    ///
    /// `send` places it in the ring. Where that fails the resend stops, and the next call goes on with the same item.
    /// Nothing happens while no peer has resumed. Returns the number of messages handed out.
    ///
    /// # Errors
    /// What `send` returned.
    pub fn resend<E>(&mut self, mut send: impl FnMut(Resend<'_>) -> Result<(), E>) -> Result<usize, E> {
        let mut handed = 0;
        while self.attached && !self.is_caught_up() {
            let at = self.cursor.checked_sub(self.first).filter(|_| self.announced);
            match at.and_then(|at| self.kept.get(at as usize)) {
                Some(Some(message)) => {
                    let sequence = self.cursor;
                    send(Resend::Message { sequence, message })?;
                    self.counts.resent += u64::from(sequence <= self.sent);
                    self.sent = self.sent.max(sequence);
                    self.cursor += 1;
                    self.fresh &= self.cursor != self.next();
                    handed += 1;
                }
                // At the beginning, at a hole, or behind the front because that was acknowledged meanwhile.
                _ => {
                    let from = self.cursor.max(self.first);
                    let rest = self.kept.range((from - self.first) as usize..);
                    let hole = rest.take_while(|message| message.is_none()).count() as u64;
                    let start = Start { session: self.session, next: from + hole, opens: !self.announced };
                    send(Resend::Start(start))?;
                    self.announced = true;
                    self.cursor = start.next;
                }
            }
        }
        Ok(handed)
    }
}
