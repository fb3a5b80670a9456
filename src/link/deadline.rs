//! How long a call waits.

use std::time::{Duration, Instant};

/// How long a call waits for what is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all: the call fails with a transient error.
    No,
    /// Until then: the call fails with [`Error::Timeout`](crate::error::Error::Timeout).
    Until(Instant),
    /// Until the link ends.
    Forever,
}

impl From<Duration> for Wait {
    /// Until `time` from now. A time beyond the clock's range is for ever.
    fn from(time: Duration) -> Self {
        Instant::now().checked_add(time).map_or(Self::Forever, Self::Until)
    }
}

impl From<Instant> for Wait {
    fn from(deadline: Instant) -> Self {
        Self::Until(deadline)
    }
}

impl Wait {
    /// When a call that waits gives up.
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Until(deadline) => Some(deadline),
            Self::No | Self::Forever => None,
        }
    }

    /// Whether there is nothing left to wait.
    pub(crate) fn is_over(self) -> bool {
        match self {
            Self::No => true,
            Self::Until(deadline) => deadline <= Instant::now(),
            Self::Forever => false,
        }
    }

    /// How long there is left to wait; `None` if that is for ever.
    pub(crate) fn left(self) -> Option<Duration> {
        match self {
            Self::No => Some(Duration::ZERO),
            Self::Until(deadline) => Some(deadline.saturating_duration_since(Instant::now())),
            Self::Forever => None,
        }
    }

    /// The shorter one of the two.
    pub(crate) fn min(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Until(one), Self::Until(two)) => Self::Until(one.min(two)),
            (Self::Forever, wait) | (wait, Self::Forever) => wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_wait_wins_and_no_wait_is_over() {
        let soon = Wait::from(Duration::from_secs(60));
        let late = Wait::from(Duration::from_secs(600));
        assert_eq!(soon.min(late), soon);
        assert_eq!(Wait::Forever.min(late), late);
        assert_eq!(late.min(Wait::No), Wait::No);
        assert_eq!(Wait::from(Duration::MAX), Wait::Forever);
        assert!(Wait::No.is_over() && !soon.is_over() && !Wait::Forever.is_over());
        assert_eq!((Wait::No.left(), Wait::Forever.left()), (Some(Duration::ZERO), None));
        assert!(Wait::from(Instant::now()).is_over());
        assert_eq!((Wait::No.deadline(), Wait::Forever.deadline()), (None, None));
    }
}
