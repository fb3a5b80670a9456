//! What flow control refuses.

use core::fmt;

/// What flow control refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowError {
    /// A window with less than [`MIN_WINDOW`](super::window::MIN_WINDOW).
    WindowTooSmall {
        /// Chunks it was to have.
        window: u64,
        /// The least it must have.
        least: u64,
    },
    /// A window with more than [`MAX_WINDOW`](super::window::MAX_WINDOW).
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
