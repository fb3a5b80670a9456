//! Errors: [`Error`] is what calls return, [`ErrorCode`] is what a peer is sent.
//!
//! `docs/errors.md` of the repository has a row for each of them: cause, cure, and how it converts.

use core::fmt;
use core::time::Duration;

/// The error numbers that OpError packets carry.
///
/// 0x01 to 0x07 are the specification's. Numbers from 0x40 on are extensions of this implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum ErrorCode {
    /// An address or offset is not aligned, or the page sizes differ.
    MemoryAlign = 0x01,
    /// A size contradicts another one, or breaks a rule of the geometry.
    InvalidSize = 0x02,
    /// Memory is smaller than its use requires, or a message is over the receiver's limit.
    MemorySmall = 0x03,
    /// A link or connection could not be set up.
    FailedInit = 0x04,
    /// There is no connection with this number.
    ConnNotFound = 0x05,
    /// The operation is unknown, or not allowed in the present state.
    InvalidOp = 0x06,
    /// A buffer index or range lies outside the pool, or the receiver still holds the buffer.
    BufferOverflow = 0x07,
    /// The receiver does not take the connection: its backlog or its connection table is full, or the application declined.
    ConnRefused = 0x40,
    /// The user of the connecting process is not admitted.
    NotAdmitted = 0x41,
    /// A message breaks the rules of a negotiated feature.
    BadFrame = 0x42,
    /// The two ends have different keys.
    WrongKey = 0x43,
    /// More was sent on a connection than the credit granted.
    Overrun = 0x44,
}

impl ErrorCode {
    /// The specification's codes, in order.
    pub const SPECIFIED: [Self; 7] = [
        Self::MemoryAlign,
        Self::InvalidSize,
        Self::MemorySmall,
        Self::FailedInit,
        Self::ConnNotFound,
        Self::InvalidOp,
        Self::BufferOverflow,
    ];

    /// The code with this number; `None` if this build does not know it.
    pub const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0x01 => Self::MemoryAlign,
            0x02 => Self::InvalidSize,
            0x03 => Self::MemorySmall,
            0x04 => Self::FailedInit,
            0x05 => Self::ConnNotFound,
            0x06 => Self::InvalidOp,
            0x07 => Self::BufferOverflow,
            0x40 => Self::ConnRefused,
            0x41 => Self::NotAdmitted,
            0x42 => Self::BadFrame,
            0x43 => Self::WrongKey,
            0x44 => Self::Overrun,
            _ => return None,
        })
    }

    /// The number on the wire.
    pub const fn number(self) -> u64 {
        self as u64
    }

    /// What the code means when a peer answers with it, and what to do: a clause without a full stop.
    ///
    /// ```
    /// use hqq::ErrorCode;
    ///
    /// assert!(ErrorCode::WrongKey.meaning().starts_with("the two ends have different keys"));
    /// ```
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::MemoryAlign => {
                "an address or offset is not aligned, or the two ends have different page sizes"
            }
            Self::InvalidSize => "a size breaks a rule of the geometry or of the packet",
            Self::MemorySmall => {
                "memory is too small, or the message is over the peer's limit: raise Options::max_message there"
            }
            Self::FailedInit => {
                "it could not set up the link or the connection; its own error has the reason"
            }
            Self::ConnNotFound => {
                "it has no connection with this number; it may have closed it: open a new one"
            }
            Self::InvalidOp => {
                "it does not know the operation or does not allow it now: run the same version at both ends"
            }
            Self::BufferOverflow => "a buffer lies outside the pool, or it still holds the buffer",
            Self::ConnRefused => {
                "its backlog or connection table is full, or it declined: retry, or raise Options::backlog or \
                 Options::max_connections there"
            }
            Self::NotAdmitted => {
                "it does not admit this user: allow it there with Options::allow_uid or Options::allow_gid"
            }
            Self::BadFrame => "a message breaks the rules of a negotiated feature",
            Self::WrongKey => "the two ends have different keys: give both the same key",
            Self::Overrun => "more was sent on the connection than the credit granted",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (0x{:02x})", self, *self as u8)
    }
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why a call failed.
///
/// The `Display` form is one sentence: it names the value, the limit and what the caller can do. [`Error::code`] is the
/// number that a peer is sent, where one fits. With the feature `std`, the error converts into [`std::io::Error`] with a
/// fitting kind. `docs/errors.md` of the repository has the cause and the cure of each.
///
/// ```
/// use hqq::{Error, StandardLink};
///
/// let (primary, _secondary) = StandardLink::pair()?;
/// match primary.try_recv() {
///     Err(error) if error.is_transient() => {} // nothing yet: try again later
///     Err(error) if error.is_end() => return Err(error), // make a new link
///     other => drop(other?),
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A number of the geometry breaks a rule: choose another one.
    Geometry {
        /// Name of the number, which is mostly that of an option: `slots`, `buffers`, `buffer_size`.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The rule, which completes "it must be".
        rule: &'static str,
    },
    /// Memory that must be aligned is not.
    Misaligned {
        /// Name of the memory.
        what: &'static str,
        /// Its address or offset.
        address: u64,
        /// The alignment that it needs, bytes.
        align: u64,
    },
    /// Memory is smaller than the geometry needs.
    TooSmallMemory {
        /// Name of the memory.
        what: &'static str,
        /// Its size, bytes.
        have: u64,
        /// The size that is needed, bytes.
        need: u64,
    },
    /// The region is larger than `Options::max_region` of this end or of the peer.
    RegionTooLarge {
        /// Size of the region, bytes.
        need: u64,
        /// The limit, bytes.
        limit: u64,
    },
    /// The memory does not begin with HQQ's magic number: it holds no region.
    ForeignMagic {
        /// Its first word.
        found: u64,
    },
    /// The region has a format version that this build does not know.
    FormatVersion {
        /// The region's version.
        found: u64,
        /// The version that this build knows.
        supported: u64,
    },
    /// The region was made for another page size than this machine's.
    PageSize {
        /// The region's page size, bytes.
        found: u64,
        /// This machine's page size, bytes.
        ours: u64,
    },
    /// The region's creator has not finished it.
    NotReady,
    /// Every seat of the region is taken.
    NoSeat {
        /// Number of seats.
        seats: usize,
    },
    /// Every slot of the ring is in use until the peer receives.
    RingFull {
        /// Number of slots.
        slots: u64,
    },
    /// No message has arrived.
    RingEmpty,
    /// No link or connection waits to be accepted.
    NoneWaiting,
    /// Another thread or process is in the middle of an operation that this one needs, or a connection is not open yet.
    Busy,
    /// Too few buffers are free.
    PoolExhausted {
        /// Buffers that the message needs.
        wanted: u64,
        /// Buffers that are free.
        free: u64,
    },
    /// Enough buffers may be free, but not enough of them are adjacent.
    PoolFragmented {
        /// Adjacent buffers that the message needs.
        wanted: u64,
        /// The longest run of free buffers.
        longest: u64,
    },
    /// A message is longer than a limit: the link's when sending, the caller's slice when receiving.
    TooLarge {
        /// Length of the message, bytes.
        len: u64,
        /// The limit, bytes.
        limit: u64,
    },
    /// A message does not have the size of the type that it is read as.
    TypeSize {
        /// Size of the type, bytes.
        want: usize,
        /// Length of the message, bytes.
        found: usize,
    },
    /// A message lies at an address that is not aligned for the type that it is read or written as.
    TypeAlign {
        /// Alignment of the type, bytes.
        want: usize,
        /// Alignment of the message's address, bytes.
        found: usize,
    },
    /// A word in shared memory holds a value that no operation writes. The link is unusable from then on.
    Corrupt {
        /// Name of the word.
        what: &'static str,
        /// Its value.
        found: u64,
    },
    /// The peer closed the link or connection in order, or this end was shut down.
    Closed,
    /// The peer's process has ended without closing the link.
    PeerDead,
    /// The peer's socket was closed without closing the link, and its process runs on.
    PeerGone,
    /// A call's time has passed.
    Timeout {
        /// What the call waited for: a noun, and after a colon what would bring it about.
        what: &'static str,
        /// How long the call waited.
        after: Duration,
    },
    /// The peer answered with an error.
    Refused {
        /// What the peer refused.
        what: &'static str,
        /// The peer's reason.
        code: ErrorCode,
    },
    /// The peer closed its direction of a connection in the middle of a message.
    Cut {
        /// Bytes of the message that arrived.
        received: u64,
        /// Length of the message, bytes.
        size: u64,
    },
    /// The link has as many connections as it may have.
    TooMany {
        /// Connections that are open.
        open: usize,
        /// The limit.
        limit: usize,
    },
    /// The call is not possible with this link's options or in its present state.
    Unsupported {
        /// What is not possible, and what to do instead: a sentence without a full stop.
        what: &'static str,
    },
    /// No listener has this name.
    #[cfg(feature = "std")]
    NoSuchName {
        /// The name.
        name: String,
    },
    /// A running process has this name.
    #[cfg(feature = "std")]
    NameInUse {
        /// The name.
        name: String,
    },
    /// The text cannot be the name of a link.
    #[cfg(feature = "std")]
    BadName {
        /// The text.
        name: String,
        /// The rule, which completes "it must be".
        rule: &'static str,
    },
    /// The process at the other end belongs to a user that is not admitted.
    #[cfg(feature = "std")]
    OtherUser {
        /// Its user id.
        uid: u32,
        /// The user id that was expected.
        expected: u32,
    },
    /// The peer broke a rule of the handshake or of the negotiation, or ended it.
    #[cfg(feature = "std")]
    Handshake {
        /// What happened: a clause with the peer as "the peer".
        what: &'static str,
        /// The value that broke the rule, if there is one.
        found: Option<u64>,
    },
    /// The negotiation did not agree on something that this end requires.
    #[cfg(feature = "std")]
    NotAgreed {
        /// Required features that were not agreed on.
        missing: crate::agreement::Features,
        /// Required capabilities that were not agreed on.
        incapable: crate::agreement::Capabilities,
        /// The reason.
        fallback: crate::agreement::Fallback,
    },
    /// A message breaks the rules of a negotiated feature. A received one is dropped, and later ones can be received; one
    /// that was to be sent is not sent.
    #[cfg(feature = "std")]
    Frame {
        /// Name of the feature.
        layer: &'static str,
        /// The rule, with the numbers: a clause.
        reason: String,
    },
    /// Reliable delivery keeps as many messages as it may until the peer's application acknowledges some.
    #[cfg(feature = "std")]
    StoreFull {
        /// Messages from the oldest unacknowledged one to the newest.
        messages: usize,
        /// Bytes in them.
        bytes: usize,
        /// The most messages that are kept.
        limit: usize,
    },
    /// A connection cannot have this class, weight or rate.
    #[cfg(feature = "std")]
    TrafficClass {
        /// The rule, with the numbers: a clause.
        reason: String,
    },
    /// A call to the operating system failed.
    #[cfg(feature = "std")]
    Os {
        /// What the call was for: a gerund, as in "mapping the region".
        doing: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

impl Error {
    /// The number that a peer is sent for this failure; `None` where none fits.
    pub fn code(&self) -> Option<ErrorCode> {
        Some(match self {
            Self::Misaligned { .. } | Self::PageSize { .. } | Self::TypeAlign { .. } => {
                ErrorCode::MemoryAlign
            }
            Self::Geometry { .. } | Self::RegionTooLarge { .. } | Self::TypeSize { .. } => {
                ErrorCode::InvalidSize
            }
            Self::TooSmallMemory { .. } => ErrorCode::MemorySmall,
            Self::ForeignMagic { .. } | Self::FormatVersion { .. } | Self::NotReady | Self::NoSeat { .. } => {
                ErrorCode::FailedInit
            }
            Self::TooLarge { .. } => ErrorCode::BufferOverflow,
            Self::Refused { code, .. } => *code,
            #[cfg(feature = "std")]
            Self::Handshake { .. } => ErrorCode::FailedInit,
            #[cfg(feature = "std")]
            Self::OtherUser { .. } => ErrorCode::NotAdmitted,
            #[cfg(feature = "std")]
            Self::Frame { .. } => ErrorCode::BadFrame,
            _ => return None,
        })
    }

    /// Whether the same call can succeed later without any change at this end. The `try_` forms return these errors where
    /// the other forms wait.
    pub const fn is_transient(&self) -> bool {
        #[cfg(feature = "std")]
        if matches!(self, Self::StoreFull { .. }) {
            return true;
        }
        matches!(
            self,
            Self::RingFull { .. }
                | Self::RingEmpty
                | Self::NoneWaiting
                | Self::Busy
                | Self::PoolExhausted { .. }
                | Self::PoolFragmented { .. }
        )
    }

    /// Whether the link or connection has ended: no later call of this kind will succeed.
    pub const fn is_end(&self) -> bool {
        matches!(self, Self::Closed | Self::PeerDead | Self::PeerGone | Self::Corrupt { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Geometry { what, value, rule } => write!(f, "{what} is {value}; it must be {rule}"),
            Self::Misaligned { what, address, align } => write!(
                f,
                "{what} begins at 0x{address:x}, which is not aligned: pass memory that begins at a multiple of {align} bytes"
            ),
            Self::TooSmallMemory { what, have, need } => write!(
                f,
                "{what} has {have} bytes and needs {need}: pass more memory, or use fewer or smaller slots and buffers"
            ),
            Self::RegionTooLarge { need, limit } => write!(
                f,
                "the region has {need} bytes and the limit is {limit}: use fewer or smaller buffers, or raise \
                 Options::max_region at the end that has this limit"
            ),
            Self::ForeignMagic { found } => {
                write!(f, "the memory holds no HQQ region, as it begins with 0x{found:016x}: pass a region's memory")
            }
            Self::FormatVersion { found, supported } => write!(
                f,
                "the region has format version {found} and this build knows version {supported}: build both ends with \
                 the same release of hqq"
            ),
            Self::PageSize { found, ours } => write!(
                f,
                "the region was made for pages of {found} bytes and this machine has pages of {ours}: make the region \
                 on this machine"
            ),
            Self::NotReady => f.write_str("the region's creator has not finished it: attach when it has"),
            Self::NoSeat { seats } => write!(
                f,
                "all {seats} seats of the region are taken: attach when a process has left it, or make another region"
            ),
            Self::RingFull { slots } => write!(
                f,
                "all {slots} slots of the ring are in use until the peer receives: wait with send or send_timeout, or \
                 raise Options::slots"
            ),
            Self::RingEmpty => f.write_str("no message has arrived yet: wait with recv or recv_timeout"),
            Self::NoneWaiting => {
                f.write_str("no peer waits to be accepted yet: wait with accept or accept_timeout")
            }
            Self::Busy => f.write_str(
                "another thread or process is in the middle of this operation, or the connection is not open yet: try again",
            ),
            Self::PoolExhausted { wanted, free } => write!(
                f,
                "the pool has too few free buffers (needed {wanted}, free {free}): wait until messages are dropped where they \
                 were received, or raise Options::buffers"
            ),
            Self::PoolFragmented { wanted, longest } => write!(
                f,
                "the pool has too few adjacent free buffers (needed {wanted}, longest run {longest}): wait until messages are \
                 dropped where they were received, or raise Options::buffer_size"
            ),
            Self::TooLarge { len, limit } => write!(
                f,
                "the message has {len} bytes and the limit is {limit}: to send it, use a Connection or raise \
                 Options::buffers, buffer_size or max_message; to receive it, pass a longer slice"
            ),
            Self::TypeSize { want, found } => write!(
                f,
                "the type has {want} bytes and the message {found}: read it as the type that was sent"
            ),
            Self::TypeAlign { want, found } => write!(
                f,
                "the type needs an alignment of {want} bytes and the message has {found}: copy the bytes into a value of \
                 the type"
            ),
            Self::Corrupt { what, found } => write!(
                f,
                "shared memory is corrupt, as {what} holds 0x{found:x}: the link is unusable; make a new one, and look for \
                 stray writes in both processes"
            ),
            Self::Closed => f.write_str(
                "the link or connection is closed, by the peer or by shutting down this end: make a new one to go on",
            ),
            Self::PeerDead => f.write_str(
                "the peer's process ended without closing the link: make a new link, or use Listener::reattach",
            ),
            Self::PeerGone => f.write_str(
                "the peer's socket was closed without closing the link, and its process still runs: make a new link",
            ),
            Self::Timeout { what, after } => write!(f, "timed out after {after:?} waiting for {what}"),
            Self::Refused { what, code } => {
                write!(f, "the peer refused {what} with {code}: {}", code.meaning())
            }
            Self::Cut { received, size } => write!(
                f,
                "the peer closed the connection after {received} of a message's {size} bytes: discard what was read of \
                 it, and have it sent again"
            ),
            Self::TooMany { open, limit } => write!(
                f,
                "{open} connections are open on the link and the limit is {limit}: drop some, or raise \
                 Options::max_connections"
            ),
            Self::Unsupported { what } => f.write_str(what),
            #[cfg(feature = "std")]
            Self::NoSuchName { name } => write!(
                f,
                "no listener has the name \"{name}\": start it first, or wait with connect_timeout; only the same user in \
                 the same network namespace sees a name without a slash"
            ),
            #[cfg(feature = "std")]
            Self::NameInUse { name } => write!(
                f,
                "the name \"{name}\" is in use by a running process: choose another name, or end that process"
            ),
            #[cfg(feature = "std")]
            Self::BadName { name, rule } => {
                write!(f, "\"{name}\" cannot be the name of a link: it must be {rule}")
            }
            #[cfg(feature = "std")]
            Self::OtherUser { uid, expected } if uid == expected => write!(
                f,
                "the process at the other end has user id {uid}, and so has everybody whom this user namespace does not map: \
                 run both as a user who is mapped, or use UntrustedLink"
            ),
            #[cfg(feature = "std")]
            Self::OtherUser { uid, expected } => write!(
                f,
                "the process at the other end belongs to user {uid} and user {expected} was expected: run both as the same \
                 user, admit the other one with Options::allow_uid or allow_gid, or choose another name"
            ),
            #[cfg(feature = "std")]
            Self::Handshake { what, found } => {
                write!(f, "the handshake failed: {what}")?;
                found.map_or(Ok(()), |found| write!(f, " (found {found})"))
            }
            #[cfg(feature = "std")]
            Self::NotAgreed { missing, incapable, fallback } => {
                f.write_str("this end requires ")?;
                match (missing.is_empty(), incapable.is_empty()) {
                    (true, _) => write!(f, "{incapable}")?,
                    (false, true) => write!(f, "{missing}")?,
                    (false, false) => write!(f, "{missing} and {incapable}")?,
                }
                write!(
                    f,
                    ", and it was not agreed on, because {fallback}: ask for it at the other end too, or require less"
                )
            }
            #[cfg(feature = "std")]
            Self::Frame { layer, reason } => write!(f, "a message was refused by {layer}: {reason}"),
            #[cfg(feature = "std")]
            Self::StoreFull { messages, bytes, limit } => write!(
                f,
                "{messages} messages of at most {limit}, {bytes} bytes, are not acknowledged yet: wait until the peer \
                 acknowledges some, or raise the limits of AdvancedOptions::reliable"
            ),
            #[cfg(feature = "std")]
            Self::TrafficClass { reason } => {
                write!(f, "the connection cannot have this class, weight or rate: {reason}")
            }
            #[cfg(feature = "std")]
            Self::Os { doing, source } => {
                write!(f, "{doing} failed: {source}")?;
                os_advice(source).map_or(Ok(()), |advice| write!(f, ": {advice}"))
            }
        }
    }
}

/// What to do about the commoner failures of the operating system.
#[cfg(feature = "std")]
fn os_advice(source: &std::io::Error) -> Option<&'static str> {
    use std::io::ErrorKind as Kind;
    // Linux's numbers of EMFILE and ENFILE, which have no kind.
    const FILES: [i32; 2] = [24, 23];
    if source.raw_os_error().is_some_and(|number| FILES.contains(&number)) {
        return Some("raise the limit on open files (ulimit -n), or close some");
    }
    match source.kind() {
        Kind::StorageFull | Kind::OutOfMemory | Kind::QuotaExceeded => {
            Some("free some memory, or use fewer or smaller buffers")
        }
        Kind::FileTooLarge => {
            Some("raise the limit on file sizes (ulimit -f), or use fewer or smaller buffers")
        }
        Kind::PermissionDenied => Some("check who owns the path or process, and its permissions"),
        _ => None,
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            #[cfg(feature = "std")]
            Self::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(feature = "std")]
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as Kind;
        let kind = match &error {
            e if e.is_transient() => Kind::WouldBlock,
            Error::Closed | Error::PeerGone => Kind::BrokenPipe,
            Error::PeerDead => Kind::ConnectionReset,
            Error::Timeout { .. } => Kind::TimedOut,
            Error::Refused { .. } => Kind::ConnectionRefused,
            Error::NoSuchName { .. } => Kind::NotFound,
            Error::NameInUse { .. } => Kind::AddrInUse,
            Error::OtherUser { .. } => Kind::PermissionDenied,
            Error::Corrupt { .. }
            | Error::Frame { .. }
            | Error::Handshake { .. }
            | Error::ForeignMagic { .. }
            | Error::FormatVersion { .. } => Kind::InvalidData,
            Error::Cut { .. } => Kind::UnexpectedEof,
            Error::Unsupported { .. } | Error::NotAgreed { .. } => Kind::Unsupported,
            Error::Os { source, .. } => source.kind(),
            _ => Kind::InvalidInput,
        };
        std::io::Error::new(kind, error)
    }
}

/// A control word with a value that no operation writes. Converts into [`Error::Corrupt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impossible {
    /// Name of the word.
    pub what: &'static str,
    /// Its value.
    pub found: u64,
}

impl From<Impossible> for Error {
    fn from(Impossible { what, found }: Impossible) -> Self {
        Self::Corrupt { what, found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_specified_numbers() {
        for (number, code) in (1..).zip(ErrorCode::SPECIFIED) {
            assert_eq!(code.number(), number);
            assert_eq!(ErrorCode::from_number(number), Some(code));
        }
        assert_eq!(ErrorCode::from_number(0), None);
        assert_eq!(ErrorCode::from_number(8), None);
    }

    #[cfg(feature = "std")]
    #[test]
    fn transient_errors_are_would_block() {
        let error = std::io::Error::from(Error::PoolExhausted { wanted: 3, free: 1 });
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        assert!(error.to_string().contains("needed 3, free 1"));
    }
}
