//! Links with the options of each capability, and one with the defaults.

use hqq::agreement::Capabilities;
use hqq::{Listener, Options, StandardLink};

use super::link::Open;
use crate::case::{Case, Kind};
use crate::measured::{System, Workload};
use crate::outcome::Outcome;
use crate::session::{PATIENCE, Session};

/// The name of the links that the others are compared with.
const DEFAULT: &str = "default";

/// The cases in which presets are compared: round trips, rare messages, and throughput one way.
pub const PRESET_CASES: [Case; 6] = [
    Case::new(Kind::Slot, 8),
    Case::new(Kind::Pool, 1024),
    Case::paced(8, 5000),
    Case::new(Kind::ThroughputMpmc, 8),
    Case::new(Kind::ThroughputMpmc, 1024),
    Case::new(Kind::ThroughputMpmc, 1 << 20),
];

struct Preset {
    name: &'static str,
    capabilities: Capabilities,
}

/// Links with the defaults and with the options of each capability.
pub fn presets() -> Vec<Box<dyn System>> {
    let preset = |name, capabilities| Box::new(Preset { name, capabilities }) as Box<dyn System>;
    vec![
        preset(DEFAULT, Capabilities::empty()),
        preset("large-buffers", Capabilities::LARGE_BUFFERS),
        preset("high-throughput", Capabilities::HIGH_THROUGHPUT),
        preset("low-latency", Capabilities::LOW_LATENCY),
    ]
}

impl Preset {
    fn open(link: StandardLink, session: &Session) -> Box<dyn Workload> {
        Box::new(Open::new(link, session))
    }
}

impl System for Preset {
    fn name(&self) -> &'static str {
        self.name
    }

    fn can(&self, case: &Case) -> bool {
        PRESET_CASES.contains(case)
    }

    fn limit(&self, case: Case) -> (&'static str, Case) {
        (DEFAULT, case)
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let listener = Listener::bind_with(session.name(), Options::for_capabilities(self.capabilities))?;
        session.barrier()?;
        Ok(Self::open(listener.accept_timeout(PATIENCE)?, session))
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        session.barrier()?;
        let options = Options::for_capabilities(self.capabilities);
        Ok(Self::open(StandardLink::connect_with_timeout(session.name(), options, PATIENCE)?, session))
    }
}
