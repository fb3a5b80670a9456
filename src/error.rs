//! What can go wrong: [`Error`] for the caller, [`ErrorCode`] for the peer.

use core::fmt;
use core::time::Duration;

/// The error numbers that travel in OpError packets.
///
/// 0x01 to 0x07 are the specification's; those from 0x40 on are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum ErrorCode {
    /// An address or offset is not aligned as it must be.
    MemoryAlign = 0x01,
    /// A size contradicts another one, or the geometry's rules.
    InvalidSize = 0x02,
    /// Memory is too small for what was asked of it.
    MemorySmall = 0x03,
    /// Something could not be set up.
    FailedInit = 0x04,
    /// No such connection.
    ConnNotFound = 0x05,
    /// An unknown operation, or one that its state forbids.
    InvalidOp = 0x06,
    /// A buffer index or range outside the pool, or a buffer that its receiver still holds.
    BufferOverflow = 0x07,
    /// The peer does not take this connection: its backlog or its table is full, or it says no.
    ConnRefused = 0x40,
    /// The listener does not admit this user.
    NotAdmitted = 0x41,
    /// A message breaks the rules of what was agreed.
    BadFrame = 0x42,
    /// The two ends have different keys.
    WrongKey = 0x43,
    /// More was sent on a connection than was granted.
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

    /// The code with this number, if it is one we know.
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
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (0x{:02x})", self, *self as u8)
    }
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why a call failed: what, the value, the limit.
///
/// The `Display` form is one sentence for a person; [`Error::code`] is the specification's number where one
/// fits; with the `std` feature it converts into [`std::io::Error`] with a fitting kind.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A number of the geometry breaks a rule.
    Geometry {
        /// Which number.
        what: &'static str,
        /// What it was.
        value: u64,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// An address that must be aligned is not.
    Misaligned {
        /// What lies there.
        what: &'static str,
        /// The address or offset.
        address: u64,
        /// The alignment it needs, bytes.
        align: u64,
    },
    /// The memory is smaller than the geometry needs.
    TooSmallMemory {
        /// Which memory.
        what: &'static str,
        /// Bytes there are.
        have: u64,
        /// Bytes that are needed.
        need: u64,
    },
    /// The region is larger than the configured limit.
    RegionTooLarge {
        /// Bytes it has.
        need: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// The memory does not begin with HQQ's magic.
    ForeignMagic {
        /// The first word.
        found: u64,
    },
    /// The region was laid out by another version of the format.
    FormatVersion {
        /// Its version.
        found: u64,
        /// The version we know.
        supported: u64,
    },
    /// The region was made on a machine with another page size.
    PageSize {
        /// Its page size, bytes.
        found: u64,
        /// Ours.
        ours: u64,
    },
    /// The region's creator has not finished it.
    NotReady,
    /// Every seat of the region is taken.
    NoSeat {
        /// How many there are.
        seats: usize,
    },
    /// The ring is full; the peer must receive first.
    RingFull {
        /// How many slots it has.
        slots: u64,
    },
    /// Nothing to receive.
    RingEmpty,
    /// Nobody waits to be accepted.
    NoneWaiting,
    /// Another thread is in the way for the moment; try again.
    Busy,
    /// Too few free buffers.
    PoolExhausted {
        /// How many were wanted.
        wanted: u64,
        /// How many were free.
        free: u64,
    },
    /// Enough free buffers, but not side by side.
    PoolFragmented {
        /// How many were wanted.
        wanted: u64,
        /// The longest run that was free.
        longest: u64,
    },
    /// A message longer than the limit.
    TooLarge {
        /// Its bytes.
        len: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// A message of another size than the type it is read as.
    TypeSize {
        /// Bytes of the type.
        want: usize,
        /// Bytes of the message.
        found: usize,
    },
    /// A message at an address that the type it is read as cannot have.
    TypeAlign {
        /// The type's alignment, bytes.
        want: usize,
        /// The alignment that the message has.
        found: usize,
    },
    /// A control word holds a value that no operation can have left there. The link is finished.
    Corrupt {
        /// Which word.
        what: &'static str,
        /// What it holds.
        found: u64,
    },
    /// The peer closed in order, or this end was shut down.
    Closed,
    /// The peer's process is dead.
    PeerDead,
    /// The peer hung up without closing while its process lives.
    PeerGone,
    /// The deadline passed.
    Timeout {
        /// What did not happen in time.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The peer answered with an error.
    Refused {
        /// What it refused.
        what: &'static str,
        /// Its reason.
        code: ErrorCode,
    },
    /// The peer stopped writing inside a message.
    Cut {
        /// Bytes of it that came.
        received: u64,
        /// Bytes it was to have.
        size: u64,
    },
    /// As many connections as the limit allows are open.
    TooMany {
        /// How many there are.
        open: usize,
        /// The limit.
        limit: usize,
    },
    /// The link or the end cannot do this in its present state.
    Unsupported {
        /// What, and what to do instead.
        what: &'static str,
    },
    /// Nobody listens at this name.
    #[cfg(feature = "std")]
    NoSuchName {
        /// The name.
        name: String,
    },
    /// Somebody else listens at this name.
    #[cfg(feature = "std")]
    NameInUse {
        /// The name.
        name: String,
    },
    /// Not a name that can be bound or found.
    #[cfg(feature = "std")]
    BadName {
        /// The name.
        name: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// The process at the other end belongs to another user.
    #[cfg(feature = "std")]
    OtherUser {
        /// Its user id.
        uid: u32,
        /// The one that was expected.
        expected: u32,
    },
    /// The peer's handshake broke a rule.
    #[cfg(feature = "std")]
    Handshake {
        /// Which.
        what: &'static str,
        /// The offending value.
        found: u64,
    },
    /// The peer does not agree to what this end cannot do without.
    #[cfg(feature = "std")]
    NotAgreed {
        /// What there is not.
        missing: crate::agreement::Features,
        /// What it is not made for.
        incapable: crate::agreement::Capabilities,
        /// What the negotiation came to.
        fallback: crate::agreement::Fallback,
    },
    /// A message breaks the rules of what was agreed. It is gone; those behind it are not.
    #[cfg(feature = "std")]
    Frame {
        /// The feature whose rules they are.
        layer: &'static str,
        /// The rule, with the numbers.
        reason: String,
    },
    /// The store of reliable delivery is full until the peer's application acknowledges what it has.
    #[cfg(feature = "std")]
    StoreFull {
        /// Messages from the oldest unacknowledged one to the newest.
        messages: usize,
        /// Bytes in them.
        bytes: usize,
        /// The most messages.
        limit: usize,
    },
    /// A connection cannot have this class, weight or rate.
    #[cfg(feature = "std")]
    TrafficClass {
        /// The rule, with the numbers.
        reason: String,
    },
    /// The operating system refused.
    #[cfg(feature = "std")]
    Os {
        /// What was being done.
        doing: &'static str,
        /// Its reason.
        source: std::io::Error,
    },
}

impl Error {
    /// The specification's number for this failure, where one fits.
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

    /// Whether the same call can succeed later without anything else being done here: the `try_` forms
    /// return these where the blocking forms wait.
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

    /// Whether the link has ended: no later call of this kind will succeed.
    pub const fn is_end(&self) -> bool {
        matches!(self, Self::Closed | Self::PeerDead | Self::PeerGone | Self::Corrupt { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Geometry { what, value, rule } => {
                write!(f, "{what} is {value}, but must be {rule}")
            }
            Self::Misaligned { what, address, align } => {
                write!(f, "{what} at 0x{address:x} is not aligned to {align} bytes")
            }
            Self::TooSmallMemory { what, have, need } => {
                write!(f, "{what} has {have} bytes, but {need} are needed")
            }
            Self::RegionTooLarge { need, limit } => write!(
                f,
                "the region has {need} bytes, the limit is {limit}: use a smaller geometry or raise max_region"
            ),
            Self::ForeignMagic { found } => {
                write!(f, "this memory is no HQQ region: it begins with 0x{found:016x}")
            }
            Self::FormatVersion { found, supported } => {
                write!(f, "the region has format version {found}, this build knows {supported}")
            }
            Self::PageSize { found, ours } => {
                write!(f, "the region was made for pages of {found} bytes, this machine has {ours}")
            }
            Self::NotReady => f.write_str("the region's creator has not finished it"),
            Self::NoSeat { seats } => write!(f, "all {seats} seats of the region are taken"),
            Self::RingFull { slots } => {
                write!(f, "the ring's {slots} slots are full until the peer receives")
            }
            Self::RingEmpty => f.write_str("nothing to receive yet"),
            Self::NoneWaiting => f.write_str("nobody waits to be accepted yet"),
            Self::Busy => f.write_str("another thread is in the way for a moment; try again"),
            Self::PoolExhausted { wanted, free } => write!(
                f,
                "{wanted} buffer(s) wanted, {free} free: the peer, or this process, must drop some first"
            ),
            Self::PoolFragmented { wanted, longest } => {
                write!(f, "{wanted} buffers side by side wanted, the longest free run has {longest}")
            }
            Self::TooLarge { len, limit } => {
                write!(f, "a message of {len} bytes is over the limit of {limit}")
            }
            Self::TypeSize { want, found } => {
                write!(f, "the type has {want} bytes, the message {found}")
            }
            Self::TypeAlign { want, found } => {
                write!(f, "the type needs alignment {want}, the message has {found}")
            }
            Self::Corrupt { what, found } => {
                write!(f, "shared memory is corrupt: {what} holds 0x{found:016x}; the link is finished")
            }
            Self::Closed => f.write_str("the link is closed"),
            Self::PeerDead => f.write_str("the peer's process died"),
            Self::PeerGone => f.write_str("the peer hung up without closing; its process lives"),
            Self::Timeout { what, after } => write!(f, "{what}: nothing within {after:?}"),
            Self::Refused { what, code } => write!(f, "the peer refused {what}: {code}"),
            Self::Cut { received, size } => {
                write!(f, "the peer stopped after {received} of a message's {size} bytes")
            }
            Self::TooMany { open, limit } => {
                write!(
                    f,
                    "{open} connections are open, the limit is {limit}: drop some or raise max_connections"
                )
            }
            Self::Unsupported { what } => f.write_str(what),
            #[cfg(feature = "std")]
            Self::NoSuchName { name } => {
                write!(f, "nobody listens at \"{name}\": start the other side first, or wait for it")
            }
            #[cfg(feature = "std")]
            Self::NameInUse { name } => write!(f, "\"{name}\" is in use by a living process"),
            #[cfg(feature = "std")]
            Self::BadName { name, rule } => write!(f, "\"{name}\" is no name for a link: {rule}"),
            #[cfg(feature = "std")]
            Self::OtherUser { uid, expected } => {
                write!(f, "the other end belongs to user {uid}, not to user {expected}: refused")
            }
            #[cfg(feature = "std")]
            Self::Handshake { what, found } => {
                write!(f, "the peer's handshake is wrong: {what} (found {found})")
            }
            #[cfg(feature = "std")]
            Self::NotAgreed { missing, incapable, fallback } => {
                f.write_str("this end requires ")?;
                match (missing.is_empty(), incapable.is_empty()) {
                    (true, _) => write!(f, "{incapable}")?,
                    (false, true) => write!(f, "{missing}")?,
                    (false, false) => write!(f, "{missing} and {incapable}")?,
                }
                write!(f, ", and it was not agreed on: {fallback}")
            }
            #[cfg(feature = "std")]
            Self::Frame { layer, reason } => write!(f, "a message was refused ({layer}): {reason}"),
            #[cfg(feature = "std")]
            Self::StoreFull { messages, bytes, limit } => write!(
                f,
                "{messages} messages of {limit} ({bytes} bytes) are kept until the peer acknowledges them: wait for it"
            ),
            #[cfg(feature = "std")]
            Self::TrafficClass { reason } => write!(f, "no share for the connection: {reason}"),
            #[cfg(feature = "std")]
            Self::Os { doing, source } => write!(f, "{doing}: {source}"),
        }
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

/// A control word that no operation can have left so: which word, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impossible {
    /// Which word.
    pub what: &'static str,
    /// What it holds.
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
        assert!(error.to_string().contains("3 buffer(s) wanted, 1 free"));
    }
}
