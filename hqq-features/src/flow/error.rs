//! The errors of flow control.

use core::fmt;

/// A request or a packet that flow control refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowError {
    /// The window is smaller than [`MIN_WINDOW`](super::window::MIN_WINDOW).
    WindowTooSmall {
        /// Chunks of the window.
        window: u64,
        /// The least chunks of a window.
        least: u64,
    },
    /// The window is larger than [`MAX_WINDOW`](super::window::MAX_WINDOW).
    WindowTooLarge {
        /// Chunks of the window.
        window: u64,
        /// The most chunks of a window.
        most: u64,
    },
    /// There is too little credit: wait for a grant. It is the only error that is temporary.
    Blocked {
        /// Chunks to send.
        wanted: u64,
        /// Chunks that may be sent now.
        credit: u64,
    },
    /// The chunks are more than half the window: there might never be credit for them at once.
    BeyondWindow {
        /// Chunks to send at once.
        wanted: u64,
        /// The most chunks at once.
        most: u64,
    },
    /// The peer sent more chunks than were granted.
    Overrun {
        /// Chunks that may be unread.
        window: u64,
        /// Chunks that would be unread.
        got: u64,
    },
    /// The peer granted fewer chunks than before.
    GrantShrinks {
        /// The total of the grant, in chunks since the beginning.
        total: u64,
        /// The total of the grant before.
        before: u64,
    },
    /// The peer granted more chunks than its window after those that were sent.
    GrantTooLarge {
        /// The total of the grant, in chunks since the beginning.
        total: u64,
        /// The greatest total that is possible now.
        most: u64,
    },
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::WindowTooSmall { window, least } => {
                write!(f, "a window of {window} chunks is too small: use at least {least}")
            }
            Self::WindowTooLarge { window, most } => {
                write!(f, "a window of {window} chunks is too large: use at most {most}")
            }
            Self::Blocked { wanted, credit } => {
                write!(
                    f,
                    "there is credit for {credit} chunks, and {wanted} are needed: wait until the peer reads"
                )
            }
            Self::BeyondWindow { wanted, most } => {
                write!(f, "{wanted} chunks at once exceed half the window, {most}: send them in parts")
            }
            Self::Overrun { window, got } => {
                write!(
                    f,
                    "{got} chunks would be unread, and the window is {window}: the peer must wait for credit"
                )
            }
            Self::GrantShrinks { total, before } => {
                write!(
                    f,
                    "a grant of {total} chunks follows one of {before}: the peer must not shrink a grant"
                )
            }
            Self::GrantTooLarge { total, most } => {
                write!(
                    f,
                    "a grant of {total} chunks exceeds the limit of {most}: the peer must grant at most its window"
                )
            }
        }
    }
}

impl core::error::Error for FlowError {}
