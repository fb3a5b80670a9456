//! The bare rings as systems.

use std::os::fd::AsFd;

use hqq_sys::raw::{RING, mpmc::Mpmc, spsc::Spsc};

use crate::case::{Case, How, Kind};
use crate::limits::limit;
use crate::measured::{Exchange, System, Workload};
use crate::outcome::Outcome;
use crate::payload;
use crate::session::Session;

/// A bare ring with or without a fence after each message.
struct Ring {
    name: &'static str,
    single: bool,
    fence: bool,
}

pub fn all() -> Vec<Box<dyn System>> {
    let ring = |name, single, fence| Box::new(Ring { name, single, fence }) as Box<dyn System>;
    vec![
        ring("proto-mpmc", false, false),
        ring("proto-mpmc-fence", false, true),
        ring("proto-spsc", true, false),
        ring("proto-spsc-fence", true, true),
    ]
}

impl System for Ring {
    fn name(&self) -> &'static str {
        self.name
    }

    fn can(&self, case: &Case) -> bool {
        let kind = if self.single { Kind::ThroughputSpsc } else { Kind::ThroughputMpmc };
        case.kind == kind && case.payload <= 56
    }

    fn limit(&self, case: Case) -> (&'static str, Case) {
        limit(case, self.fence)
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let memory = session.memory(RING)?;
        let memory = memory.as_fd();
        Ok(match (self.single, self.fence) {
            (true, false) => Box::new(Spsc::<false>::new(memory)?),
            (true, true) => Box::new(Spsc::<true>::new(memory)?),
            (false, false) => Box::new(Mpmc::<false>::new(memory)?),
            (false, true) => Box::new(Mpmc::<true>::new(memory)?),
        })
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        self.lead(session)
    }
}

macro_rules! exchange {
    ($ring:ident) => {
        impl<const FENCE: bool> Exchange for $ring<FENCE> {
            #[inline(always)]
            fn send(&mut self, _: How, number: u64, size: usize) -> Outcome {
                Ok($ring::send(self, |bytes| payload::write(number, &mut bytes[..size]))?)
            }

            #[inline(always)]
            fn recv(&mut self, _: How, number: u64, size: usize) -> Outcome {
                $ring::recv(self, |bytes| payload::read(number, &bytes[..size]))?
            }
        }
    };
}

exchange!(Spsc);
exchange!(Mpmc);
