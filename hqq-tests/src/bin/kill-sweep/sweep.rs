//! Steps a victim through its operation and judges every instant.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use hqq_tests::oracle::{Fault, Kind, Verdict};
use serde::{Deserialize, Serialize};

use crate::arena::{Arena, Image};
use crate::scenario::Scenario;
use crate::scene::{Progress, World};
use hqq_tests::single_step::{Child, Stop};

/// More instructions than any operation takes.
pub const ENDLESS: u64 = 300_000;
/// Faults of one scenario that are told.
const ENOUGH: usize = 3;

/// What all scenarios have in common.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Whether the survivors recover the dead.
    pub recovers: bool,
    /// The only instant to judge.
    pub point: Option<u64>,
}

/// A fault, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    pub scenario: String,
    /// Instructions that the victim had executed.
    pub point: u64,
    /// Its next one, from the beginning of the program.
    pub address: u64,
    pub kind: String,
    pub what: String,
}

/// What came of a scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Instants at which the victim was dead.
    pub points: u64,
    /// Of these, instants at which the memory was another than before: each was judged.
    pub states: u64,
    pub faults: Vec<Found>,
}

impl Outcome {
    /// Notes a fault; whether there are enough of them.
    pub fn note(&mut self, scenario: &dyn std::fmt::Display, address: u64, fault: Fault) -> bool {
        self.faults.push(Found {
            scenario: scenario.to_string(),
            point: self.points.saturating_sub(1),
            address,
            kind: fault.kind.name().into(),
            what: fault.what,
        });
        self.faults.len() >= ENOUGH
    }
}

static PANICKED: Mutex<String> = Mutex::new(String::new());

/// Keeps what a panic says, instead of showing it: the survivors' panics are verdicts.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut last) = PANICKED.lock() {
            *last = info.to_string();
        }
    }));
}

/// A judgement that may panic.
///
/// # Errors
/// As the judgement; a panic wedges.
pub fn guarded<T>(judge: impl FnOnce() -> Verdict<T>) -> Verdict<T> {
    catch_unwind(AssertUnwindSafe(judge))
        .unwrap_or_else(|_| Err(Fault::new(Kind::Wedged, format!("a survivor panicked: {}", last_panic()))))
}

/// What the last panic said.
pub fn last_panic() -> String {
    PANICKED.lock().map(|last| last.clone()).unwrap_or_default()
}

/// Where this program's code begins.
pub fn image_base() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_default();
    let own = maps.lines().find(|line| line.ends_with(&*program.to_string_lossy()));
    let start = own.and_then(|line| line.split('-').next());
    start.and_then(|start| u64::from_str_radix(start, 16).ok()).unwrap_or(0)
}

/// Sweeps a scenario; `None` if it cannot be set up.
///
/// # Errors
/// The sweep itself failed.
pub fn sweep(arena: &Arena, scenario: Scenario, settings: Settings) -> Result<Option<Outcome>, String> {
    let mut world = match World::new(arena, scenario) {
        Ok(world) => world,
        Err(why) if settings.point.is_some() => return Err(why),
        Err(_) => return Ok(None),
    };
    let private = arena.save_private();
    let mut image = Image::default();
    let failed = |error: std::io::Error| format!("{scenario}: {error}");
    let (mut child, ()) = Child::fork(|| world.operate(), || ()).map_err(failed)?;
    let base = image_base();
    let mut outcome = Outcome::default();
    let mut done = Progress::default();
    let mut stop = Stop::Step;
    loop {
        let changed = outcome.points == 0 || !arena.is(&image);
        outcome.points += 1;
        if settings.point.map_or(changed, |point| point + 1 == outcome.points) {
            arena.save(&mut image);
            outcome.states += 1;
            let verdict = guarded(|| world.judge(done, settings.recovers));
            arena.restore(&image);
            arena.restore_private(&private);
            match verdict {
                Ok(progress) => done = progress,
                Err(fault) => {
                    let address = child.next_instruction().map_err(failed)?.wrapping_sub(base);
                    if outcome.note(&scenario, address, fault) {
                        return Ok(Some(outcome));
                    }
                }
            }
        }
        if stop == Stop::Mark || outcome.points > ENDLESS {
            break;
        }
        stop = child.step().map_err(failed)?;
    }
    let fault = if stop != Stop::Mark {
        Some("the victim's operation does not end")
    } else if !child.finish().map_err(failed)? {
        Some("the victim's operation did not do what it should")
    } else if settings.point.is_none() && outcome.faults.is_empty() && !world.is_complete(done) {
        Some("the victim's operation was complete, and the survivors do not see it")
    } else {
        None
    };
    if let Some(what) = fault {
        outcome.note(&scenario, 0, Fault::new(Kind::Wedged, what));
    }
    Ok(Some(outcome))
}
