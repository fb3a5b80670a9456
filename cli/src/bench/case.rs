//! What is measured: ways to pass a payload on, and payloads.

use crate::args::Measure;

/// A way to pass something to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum System {
    /// One cache line to and one fro, and nothing besides.
    Raw,
    /// A link with its defaults.
    Link,
    /// A link between one sender and one receiver each way.
    LinkSpsc,
    /// A link whose payload the other end cannot write to, with its other defaults.
    LinkProtected,
}

impl System {
    const ALL: [Self; 4] = [Self::Raw, Self::Link, Self::LinkSpsc, Self::LinkProtected];

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Link => "hqq",
            Self::LinkSpsc => "hqq-spsc",
            Self::LinkProtected => "hqq-protected",
        }
    }
}

/// A system and a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// How.
    pub system: System,
    /// Bytes.
    pub payload: u64,
}

impl Case {
    /// Where the payload travels.
    pub fn name(&self) -> &'static str {
        match self.system {
            System::Raw => "line",
            _ if self.payload <= hqq::packet::INLINE_MAX as u64 => "slot",
            _ => "pool",
        }
    }

    /// How many messages a turn of `count` stands for.
    pub fn messages(&self, count: u64, measure: Measure) -> u64 {
        // A round trip of the raw line is a message each way.
        if self.system == System::Raw && measure == Measure::Throughput { 2 * count } else { count }
    }

    /// As four words.
    pub fn words(&self, measure: Measure, count: u64) -> [u64; 4] {
        [self.system as u64, self.payload, measure as u64, count]
    }

    /// From such words.
    pub fn from_words([system, payload, measure, count]: [u64; 4]) -> Option<(Self, Measure, u64)> {
        let system = *System::ALL.get(usize::try_from(system).ok()?)?;
        let measure = match measure {
            0 => Measure::Latency,
            1 => Measure::Throughput,
            _ => return None,
        };
        Some((Self { system, payload }, measure, count))
    }
}

/// All cases: the raw line once, every other system with every payload.
pub fn all(payloads: &[u64]) -> Vec<Case> {
    let raw = Case { system: System::Raw, payload: 8 };
    let others = System::ALL[1..].iter();
    let others = others.flat_map(|&system| payloads.iter().map(move |&payload| Case { system, payload }));
    [raw].into_iter().chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_travel_as_words() {
        for case in all(&[8, 64]) {
            for measure in [Measure::Latency, Measure::Throughput] {
                assert_eq!(Case::from_words(case.words(measure, 7)), Some((case, measure, 7)));
            }
        }
        assert_eq!(all(&[8, 64]).len(), 7);
        assert_eq!(Case::from_words([9, 8, 0, 1]), None);
        assert_eq!(Case::from_words([1, 8, 2, 1]), None);
    }

    #[test]
    fn small_payloads_ride_in_the_slot() {
        let name = |payload| Case { system: System::Link, payload }.name();
        assert_eq!((name(8), name(48), name(49)), ("slot", "slot", "pool"));
    }
}
