//! The state of the sender: the messages that are kept, and those to send to a successor.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU64;

use super::error::ReliableError;
use super::packet::{ACK_BITS, Ack, Resume, Start};

/// The limits of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// The most sequences from the oldest unacknowledged message to the newest; 0 counts as 1.
    pub messages: usize,
    /// The most bytes of all kept messages, without headers.
    pub bytes: usize,
}

/// The store has no room for a message. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFull {
    /// Bytes of the message.
    pub len: usize,
    /// Sequences from the oldest unacknowledged message to the newest.
    pub messages: usize,
    /// Bytes of all kept messages.
    pub bytes: usize,
    /// The limits of the store.
    pub limits: StoreLimits,
}

impl StoreFull {
    /// Whether no acknowledgement can make room, because the message alone exceeds the limit.
    pub fn is_final(&self) -> bool {
        self.len > self.limits.bytes
    }
}

impl fmt::Display for StoreFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len, messages, bytes, limits } = self;
        if self.is_final() {
            return write!(
                f,
                "a message of {len} bytes exceeds the {} that may be kept: raise the limit",
                limits.bytes
            );
        }
        write!(
            f,
            "no room for a message of {len} bytes: {messages} messages of {} and {bytes} bytes of {} are unacknowledged: \
             wait for the receiver, or raise the limits",
            limits.messages, limits.bytes
        )
    }
}

impl std::error::Error for StoreFull {}

/// An item to send to a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend<'a> {
    /// A Start.
    Start(Start),
    /// A frame.
    Message {
        /// The sequence that `push` returned.
        sequence: u64,
        /// The message that was pushed.
        message: &'a [u8],
    },
}

/// The outcome of a [`Resume`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The number of messages that were freed.
    pub freed: usize,
    /// Whether the record of the successor is of another session, and so has no meaning for this one.
    pub other_session: bool,
}

/// Counts of a [`Store`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Messages that are kept.
    pub messages: usize,
    /// Bytes of those messages.
    pub bytes: usize,
    /// Messages that were freed by acknowledgements, since the store was made.
    pub acknowledged: u64,
    /// Messages that [`Store::resend`] sent again, since the store was made.
    pub resent: u64,
    /// Pushes that were refused because the store was full, since it was made.
    pub full: u64,
}

/// The state of the sender: a copy of each message that the receiver has not acknowledged.
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
/// // Its successor gets the second again.
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
    /// The messages by sequence, without gaps; `None` is acknowledged. The front is never `None`.
    pub(super) kept: VecDeque<Option<Box<[u8]>>>,
    /// Whether a peer has resumed.
    attached: bool,
    /// Whether that peer was sent its first Start.
    pub(super) announced: bool,
    /// The sequence of the next message for that peer.
    cursor: u64,
    /// The last sequence that was sent to any peer; 0 for none.
    pub(super) sent: u64,
    /// Whether the newest message was sent to no peer, unless by the caller that pushed it.
    fresh: bool,
    counts: StoreCounts,
}

impl Store {
    /// An empty store without a peer. `session` is a random number: it must differ from that of any store of which a
    /// receiver may have a record.
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

    /// The limits of the store.
    pub fn limits(&self) -> StoreLimits {
        self.limits
    }

    /// The counts of the store.
    pub fn counts(&self) -> StoreCounts {
        self.counts
    }

    /// The sequence of the next message.
    fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Checks whether a message of `len` bytes can be kept now, for callers that have not written it yet.
    ///
    /// # Errors
    /// [`StoreFull`]. It is not counted in [`StoreCounts::full`].
    pub fn room_for(&self, len: usize) -> Result<(), StoreFull> {
        let (messages, bytes) = (self.kept.len(), self.counts.bytes);
        if messages < self.limits.messages && len <= self.limits.bytes.saturating_sub(bytes) {
            return Ok(());
        }
        Err(StoreFull { len, messages, bytes, limits: self.limits })
    }

    /// Keeps a copy of `message` and returns its sequence.
    ///
    /// If the store [is caught up](Self::is_caught_up), the caller then places the frame in the ring, before any later
    /// one. Otherwise the message waits for [`resend`](Self::resend).
    ///
    /// # Errors
    /// [`StoreFull`] if a limit would be exceeded.
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

    /// Removes the newest message, if `sequence` is its sequence and the caller could not place its frame. The sequence is
    /// used again, so no peer may have received it.
    ///
    /// Returns whether it was removed: not if it is not the newest, was sent by [`resend`](Self::resend), or the peer was
    /// lost meanwhile.
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

    /// Detaches the peer, which is gone or replaced. From now on messages wait for a successor.
    ///
    /// The Acks of the old peer that are in the ring must be processed or dropped before the Resume of the successor.
    pub fn detach(&mut self) {
        self.attached = false;
        self.announced = false;
        self.fresh = false;
    }

    /// Processes the Resume of a successor: frees the messages that it has processed. The others wait for
    /// [`resend`](Self::resend).
    ///
    /// # Errors
    /// [`ReliableError::AlreadyResumed`] without a [`detach`](Self::detach) since the last Resume;
    /// [`ReliableError::NeverSent`] for messages that were never sent.
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

    /// Processes an Ack: frees the acknowledged messages, and returns how many there were.
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

    /// Frees the message with the index `at` in `kept`, if it is kept.
    fn free(&mut self, at: Option<u64>) -> usize {
        let place = at.and_then(|at| self.kept.get_mut(usize::try_from(at).ok()?));
        let Some(message) = place.and_then(Option::take) else { return 0 };
        self.counts.messages -= 1;
        self.counts.bytes -= message.len();
        self.counts.acknowledged += 1;
        1
    }

    /// Removes the acknowledged messages before the first kept one.
    fn trim(&mut self) {
        while let Some(None) = self.kept.front() {
            self.kept.pop_front();
            self.first += 1;
        }
    }

    /// Whether a peer has resumed and was sent all messages. Then the caller places the next frame that it pushes.
    pub fn is_caught_up(&self) -> bool {
        self.attached && self.announced && self.cursor == self.next()
    }

    /// Sends the items that the peer still lacks: a Start, then the kept messages in order, with a Start for each hole.
    /// Returns the number of messages.
    ///
    /// `send` places an item in the ring. If it fails, the resend stops, and the next call continues with the same item.
    /// Nothing is sent while no peer has resumed.
    ///
    /// # Errors
    /// The error of `send`.
    pub fn resend<E>(&mut self, mut send: impl FnMut(Resend<'_>) -> Result<(), E>) -> Result<usize, E> {
        let mut sent_now = 0;
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
                    sent_now += 1;
                }
                // At the beginning, at a hole, or before the front because messages were acknowledged meanwhile.
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
        Ok(sent_now)
    }
}
