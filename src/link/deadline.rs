//! How long a call waits.

use std::time::{Duration, Instant};

/// When a waiting call gives up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// Never.
    Forever,
    /// Then.
    At(Instant),
}

impl Until {
    pub(crate) fn after(time: Duration) -> Self {
        // A time beyond the clock's range is as good as for ever.
        Instant::now().checked_add(time).map_or(Self::Forever, Self::At)
    }

    pub(crate) fn instant(self) -> Option<Instant> {
        match self {
            Self::Forever => None,
            Self::At(instant) => Some(instant),
        }
    }

    pub(crate) fn has_passed(self) -> bool {
        matches!(self, Self::At(instant) if instant <= Instant::now())
    }

    /// How long it is until then.
    pub(crate) fn left(self) -> Duration {
        self.instant().map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }

    /// The one that comes first.
    pub(crate) fn earlier(self, other: Self) -> Self {
        match (self.instant(), other.instant()) {
            (Some(one), Some(two)) => Self::At(one.min(two)),
            (Some(_), None) => self,
            (None, _) => other,
        }
    }
}
