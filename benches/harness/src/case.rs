//! Cases: the kinds of work that are measured, and their sizes.

use std::fmt;

/// From this period on, in microseconds, a receiver sleeps while it waits for the next message.
pub(crate) const RARE_US: u64 = 1000;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Round trips of a payload that fits a slot, written and read.
    Slot,
    /// Round trips of a payload that is written in place and read in place, if the system can.
    Pool,
    /// Round trips of a payload of which one byte is written and one is read.
    Untouched,
    /// Round trips from a slice of the sender to a slice of the receiver.
    Copy,
    /// Round trips where both ends sleep for each message.
    Sleeping,
    /// Messages on a schedule, each answered. The time runs from when a message was due to its answer.
    Paced,
    /// Messages one way at the highest rate, over a ring for any number of senders and receivers.
    ThroughputMpmc,
    /// Messages one way at the highest rate, over a ring for one sender and one receiver.
    ThroughputSpsc,
    /// Messages one way, sixteen at a time.
    Batch,
    /// Messages one way, from eight threads to eight.
    Crowd,
    /// Bytes one way, through `Write` and `Read`.
    Stream,
    /// Setup of a link, up to the first message received.
    Setup,
}

impl Kind {
    /// All kinds, in the order of the tables.
    pub const ALL: [Self; 12] = [
        Self::Slot,
        Self::Pool,
        Self::Untouched,
        Self::Copy,
        Self::Sleeping,
        Self::Paced,
        Self::ThroughputMpmc,
        Self::ThroughputSpsc,
        Self::Batch,
        Self::Crowd,
        Self::Stream,
        Self::Setup,
    ];

    /// The name in tables and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slot => "slot",
            Self::Pool => "pool",
            Self::Untouched => "untouched",
            Self::Copy => "copy",
            Self::Sleeping => "sleeping",
            Self::Paced => "paced",
            Self::ThroughputMpmc => "throughput_mpmc",
            Self::ThroughputSpsc => "throughput_spsc",
            Self::Batch => "batch",
            Self::Crowd => "crowd",
            Self::Stream => "stream",
            Self::Setup => "setup",
        }
    }

    /// A description of one line.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Slot => "round trips of a payload that fits a slot; every byte is written and read",
            Self::Pool => "round trips of a payload in buffers; every byte is written and read",
            Self::Untouched => "round trips of a payload of which one byte is written and read",
            Self::Copy => "round trips from a slice of the sender to a slice of the receiver",
            Self::Sleeping => "round trips; each end sleeps until the other sends",
            Self::Paced => {
                "messages on a schedule: from when a message was due to its answer; processor time of the receiver"
            }
            Self::ThroughputMpmc => "messages one way, over rings for any number of threads",
            Self::ThroughputSpsc => "messages one way, over rings for one thread at each end",
            Self::Batch => "messages one way, sixteen at a time",
            Self::Crowd => "messages one way, from eight threads on one processor to eight on the other",
            Self::Stream => {
                "bytes through Write and Read, from memory larger than the caches; raw is one thread that copies"
            }
            Self::Setup => "bind, connect, accept, first message; raw only reserves the memory",
        }
    }

    /// The kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether single times are measured; otherwise a rate is.
    pub const fn is_timed(self) -> bool {
        matches!(
            self,
            Self::Slot
                | Self::Pool
                | Self::Untouched
                | Self::Copy
                | Self::Sleeping
                | Self::Paced
                | Self::Setup
        )
    }

    /// How its payload is treated.
    pub const fn how(self) -> How {
        match self {
            Self::Untouched => How::Untouched,
            Self::Copy => How::Copy,
            _ => How::InPlace,
        }
    }
}

/// How a payload is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Every byte is written where it is sent from and read where it arrives. A system without such places copies from
    /// and to a buffer of the caller.
    InPlace,
    /// The same places, but only the first byte is written and read.
    Untouched,
    /// The payload is copied from and to a slice of the caller, who writes and reads its first byte.
    Copy,
}

/// A kind of work with its payload and schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// The kind of work.
    pub kind: Kind,
    /// Bytes of a message; for [`Kind::Stream`], of a single write.
    pub payload: u64,
    /// Microseconds between two messages; 0 except for [`Kind::Paced`].
    pub period_us: u64,
}

impl Case {
    /// A case without a schedule.
    pub const fn new(kind: Kind, payload: u64) -> Self {
        Self { kind, payload, period_us: 0 }
    }

    /// A case on a schedule.
    pub const fn paced(payload: u64, period_us: u64) -> Self {
        Self { kind: Kind::Paced, payload, period_us }
    }

    /// The usual cases, or only those of some kinds and payloads.
    pub fn select(kinds: Option<&[Kind]>, payloads: Option<&[u64]>) -> Vec<Self> {
        let wanted = |case: &Self| {
            kinds.is_none_or(|kinds| kinds.contains(&case.kind))
                && payloads.is_none_or(|payloads| payloads.contains(&case.payload))
        };
        let mut cases = Vec::new();
        for kind in Kind::ALL {
            // The usual payloads, and the range that others may be from.
            let (usual, range): (&[u64], _) = match kind {
                Kind::Slot => (&[8, 48], 1..49),
                Kind::Pool => (&[64, 1024, 4096, 65536], 49..Self::MOST + 1),
                Kind::Untouched => (&[64, 8192, 16 << 20], 49..Self::MOST + 1),
                Kind::Copy => (&[1024, 65536], 49..Self::MOST + 1),
                Kind::Stream => (&[65536], 0..0),
                Kind::ThroughputMpmc | Kind::ThroughputSpsc => (&[8], 1..49),
                Kind::Sleeping | Kind::Paced | Kind::Batch | Kind::Crowd | Kind::Setup => (&[8], 0..0),
            };
            let others = payloads.unwrap_or_default().iter().filter(|payload| range.contains(payload));
            let mut sizes: Vec<u64> = usual.iter().chain(others).copied().collect();
            sizes.sort_unstable();
            sizes.dedup();
            for size in sizes {
                match kind {
                    Kind::Paced => cases.extend([20, 5000].map(|period| Self::paced(size, period))),
                    _ => cases.push(Self::new(kind, size)),
                }
            }
        }
        cases.retain(wanted);
        cases
    }

    /// The longest payload.
    pub const MOST: u64 = 64 << 20;

    /// Encodes the case as words, for the other process.
    pub(crate) fn words(self) -> [u64; 3] {
        [self.kind as u64, self.payload, self.period_us]
    }

    /// Decodes these words.
    pub(crate) fn from_words([kind, payload, period_us]: [u64; 3]) -> Option<Self> {
        let kind = *Kind::ALL.get(usize::try_from(kind).ok()?)?;
        Some(Self { kind, payload, period_us })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.kind.name(), self.payload)?;
        if self.period_us > 0 { write!(f, " every {} us", self.period_us) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_travel_as_words() {
        for kind in Kind::ALL {
            for case in [Case::new(kind, 8), Case::paced(1 << 40, 5000)] {
                assert_eq!(Case::from_words(case.words()), Some(case));
            }
            assert_eq!(Kind::named(kind.name()), Some(kind));
        }
        assert_eq!(Case::from_words([Kind::ALL.len() as u64, 8, 0]), None);
        assert_eq!(Kind::named("line"), None);
    }

    #[test]
    fn cases_are_selected() {
        let all = Case::select(None, None);
        assert!(Kind::ALL.iter().all(|kind| all.iter().any(|case| case.kind == *kind)));
        let pool = Case::select(Some(&[Kind::Pool, Kind::Slot]), Some(&[8, 100, 4096]));
        assert_eq!(pool, [Case::new(Kind::Slot, 8), Case::new(Kind::Pool, 100), Case::new(Kind::Pool, 4096)]);
        assert_eq!(Case::select(Some(&[Kind::Slot]), Some(&[49])), []);
        assert_eq!(Case::select(Some(&[Kind::Paced]), None), [Case::paced(8, 20), Case::paced(8, 5000)]);
    }
}
