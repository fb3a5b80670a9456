//! `cargo xtask order-mutants`: weakens one memory ordering of the core at a time; a model must fail.
//!
//! The models are built once; an environment variable selects the weakened access (`src/sync.rs`). A mutant is run only
//! with the models that reach its access, each in a process of its own, and first with the model that found it last time,
//! according to the table in `docs/memory-model.md`.
//!
//! A mutant that no model finds must be listed in [`EQUIVALENT`] with the edge that covers it; at most one in ten may be.

use crate::command::{by_hand, run_within, target_dir};
use crate::document::Section;
use crate::models::{self, Model};
use crate::order_sites::{self, Mutant, Site};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const TABLE: Section = Section {
    document: "docs/memory-model.md",
    begin: "<!-- orders: begin -->",
    end: "<!-- orders: end -->",
};

/// The time limit of a model, in addition to ten times its time without a mutant.
const PATIENCE: Duration = Duration::from_secs(20);

/// At most one in this many mutants may be equivalent.
const SHARE: usize = 10;

/// A mutant that changes nothing, because another edge covers it.
struct Equivalent {
    mutant: &'static str,
    edge: &'static str,
    why: &'static str,
}

const EQUIVALENT: [Equivalent; 2] = [
    Equivalent {
        mutant: "ring.rs Consumer::rescan load_for_update: Acquire to Relaxed",
        edge: "ring.publish, at `hold`",
        why: "what is found there is believed only once it is taken",
    },
    Equivalent {
        mutant: "recover.rs buffers_of load_for_update: Acquire to Relaxed",
        edge: "pool.give, at the compare-exchange of the word",
        why: "it finds the word's last value whatever was seen before; that a store ahead of the slot's release might \
              come behind it is beyond what loom shows",
    },
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// The model that failed, and its message.
    Killed(String, String),
    /// The model that did not end.
    Timed(String),
    Survived,
}

struct Finding {
    mutant: Mutant,
    outcome: Outcome,
    seconds: f64,
}

/// The arguments of the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Only mutants whose name contains this; the table is not rewritten.
    pub only: Option<&'a str>,
    /// Print the results as JSON.
    pub json: bool,
    /// Compare the table instead of rewriting it.
    pub check: bool,
}

impl<'a> Wanted<'a> {
    /// Parses the arguments; `None` if they are invalid.
    pub fn parse(words: &[&'a str]) -> Option<Self> {
        match *words {
            [] => Some(Self::default()),
            ["--only", site, ref rest @ ..] => Some(Self { only: Some(site), ..Self::parse(rest)? }),
            ["--json", ref rest @ ..] => Some(Self { json: true, ..Self::parse(rest)? }),
            ["--check", ref rest @ ..] => Some(Self { check: true, ..Self::parse(rest)? }),
            _ => None,
        }
    }
}

/// Runs the mutants.
pub fn run(wanted: Wanted<'_>) -> Result<(), String> {
    let sites = order_sites::scan()?;
    let models = models::build_all()?;
    let say = |text: String| {
        if !wanted.json {
            println!("{text}")
        }
    };
    let reach = reach(&models)?;
    let unreached = unreached(&sites, &reach)?;

    let mutants: Vec<Mutant> = order_sites::mutants(&sites)
        .into_iter()
        .filter(|mutant| wanted.only.is_none_or(|only| mutant.name().contains(only)))
        .collect();
    say(format!("{} models reach {} sites; {} mutants", models.len(), sites.len(), mutants.len()));
    let remembered = remembered(&TABLE.read()?);
    let findings = try_all(&mutants, &reach, &remembered, &say);

    if wanted.json {
        let all: Vec<_> = findings.iter().map(Finding::json).collect();
        println!("{}", json!({ "mutants": all, "unreached": unreached }));
    }
    let mut faults = faults(&findings, wanted.only.is_none());
    faults.extend(unreached.iter().map(|site| format!("no model reaches {site}")));
    if faults.is_empty() && wanted.only.is_none() {
        faults.extend(TABLE.put(&table(&findings), wanted.check).err());
    }
    let killed = findings.iter().filter(|finding| finding.outcome != Outcome::Survived).count();
    say(format!("{killed} of {} mutants killed", findings.len()));
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// Fails unless the table names exactly the mutants that the source has, without trying them.
pub fn compare() -> Result<(), String> {
    let mutants = order_sites::mutants(&order_sites::scan()?);
    let listed: BTreeSet<String> = rows(&TABLE.read()?).into_iter().map(|(name, _)| name).collect();
    let named: BTreeSet<String> = mutants.iter().map(Mutant::name).collect();
    let faults: Vec<String> = (named.difference(&listed).map(|name| format!("not in the table: {name}")))
        .chain(listed.difference(&named).map(|name| format!("in the table, not in the source: {name}")))
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!("{}; cargo xtask order-mutants rewrites it\n{}", TABLE.document, faults.join("\n")))
}

/// A model, the places that it reaches, and how long it takes.
struct Reach<'m> {
    model: &'m Model,
    places: BTreeSet<String>,
    time: Duration,
}

/// Runs each model without a mutant and records the accesses that it reaches.
fn reach(models: &[Model]) -> Result<Vec<Reach<'_>>, String> {
    let folder = target_dir().join("order-sites");
    crate::trace_table::empty(&folder)?;
    let run = |number: usize| {
        let model = &models[number];
        let file = folder.join(number.to_string());
        let started = Instant::now();
        let mut command = model.command();
        run_within(command.env("HQQ_ORDER_SITES", &file), Duration::from_secs(300))
            .map_err(|why| format!("{} fails as it is: {why}", model.name))?;
        let time = started.elapsed();
        let text = fs::read_to_string(&file).unwrap_or_default();
        Ok(Reach { model, places: text.lines().map(String::from).collect(), time })
    };
    parallel(models.len(), run).into_iter().collect()
}

/// The sites that no model reaches. Every access that a model reaches must be in the source.
fn unreached(sites: &[Site], reach: &[Reach<'_>]) -> Result<Vec<String>, String> {
    let lines: BTreeMap<String, &Site> =
        sites.iter().map(|site| (format!("{} [{}]", site.place, site.orders.join(", ")), site)).collect();
    let reached: BTreeSet<&String> = reach.iter().flat_map(|reach| &reach.places).collect();
    if let Some(stranger) = reached.iter().find(|line| !lines.contains_key(**line)) {
        return Err(format!("a model reaches {stranger}, where the source shows no such access"));
    }
    let weak = |site: &Site| order_sites::mutants(std::slice::from_ref(site)).is_empty();
    let unreached = lines.iter().filter(|(line, site)| !weak(site) && !reached.contains(line));
    Ok(unreached.map(|(_, site)| site.name.clone()).collect())
}

fn try_all(
    mutants: &[Mutant],
    reach: &[Reach<'_>],
    remembered: &BTreeMap<String, String>,
    say: &(dyn Fn(String) + Sync),
) -> Vec<Finding> {
    parallel(mutants.len(), |number| {
        let mutant = &mutants[number];
        let last = remembered.get(&mutant.name()).map(String::as_str);
        let started = Instant::now();
        let outcome = attempt(mutant, reach, last);
        let seconds = started.elapsed().as_secs_f64();
        let finding = Finding { mutant: mutant.clone(), outcome, seconds };
        say(finding.line());
        finding
    })
}

/// Runs the models that reach the site until one fails.
fn attempt(mutant: &Mutant, reach: &[Reach<'_>], last: Option<&str>) -> Outcome {
    let place = format!("{} ", mutant.site.place);
    let mut models: Vec<&Reach<'_>> =
        reach.iter().filter(|reach| reach.places.iter().any(|line| line.starts_with(&place))).collect();
    // Whoever found it last, then those of the file's own area, the quickest first.
    let area = mutant.site.name.split('.').next().unwrap_or_default();
    models.sort_by_key(|reach| {
        let name = reach.model.name.as_str();
        (last != Some(name), !name.starts_with(area), reach.time)
    });
    for Reach { model, time, .. } in models {
        let mut command = model.command();
        command.env("HQQ_ORDER_MUTANT", mutant.variable());
        match run_within(&mut command, *time * 10 + PATIENCE) {
            Ok(_) => {}
            Err(why) if why.starts_with("it still ran") => return Outcome::Timed(model.name.clone()),
            Err(why) => match reason(&why) {
                Some(reason) => return Outcome::Killed(model.name.clone(), reason),
                None => eprintln!("{} fails within loom: {}\n{why}", model.name, by_hand(&command)),
            },
        }
    }
    Outcome::Survived
}

/// The message of a failed model; `None` for a known assertion of the explorer itself.
fn reason(output: &str) -> Option<String> {
    let mut lines = output.lines().skip_while(|line| !line.contains("panicked at"));
    let Some(place) = lines.next() else {
        return Some(output.lines().next().unwrap_or_default().to_owned());
    };
    let said = lines.next().unwrap_or_default();
    if place.contains("/rt/atomic.rs") && said.starts_with("assertion `left != right` failed") {
        return None;
    }
    Some(said.to_owned())
}

/// Runs `job` for each number, on as many threads as there are processors, and keeps the order.
fn parallel<T: Send>(count: usize, job: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let result = job(number);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(number, result);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_values().collect()
}

impl Finding {
    fn line(&self) -> String {
        let outcome = match &self.outcome {
            Outcome::Killed(model, reason) => format!("killed by {model}: {reason}"),
            Outcome::Timed(model) => format!("killed by time in {model}"),
            Outcome::Survived => "SURVIVED".into(),
        };
        format!("{:>6.1} s  {}: {outcome}", self.seconds, self.mutant.name())
    }

    fn json(&self) -> serde_json::Value {
        let (outcome, by, said) = match &self.outcome {
            Outcome::Killed(model, reason) => ("killed", Some(model), Some(reason)),
            Outcome::Timed(model) => ("killed by time", Some(model), None),
            Outcome::Survived => ("survived", None, None),
        };
        json!({
            "site": self.mutant.site.name,
            "place": self.mutant.site.place,
            "edges": self.mutant.edges(),
            "weakening": self.mutant.change(),
            "outcome": outcome,
            "by": by,
            "said": said,
            "seconds": self.seconds,
        })
    }
}

fn equivalent(mutant: &Mutant) -> Option<&'static Equivalent> {
    EQUIVALENT.iter().find(|equivalent| equivalent.mutant == mutant.name())
}

/// Errors in the results; with `all`, also in the number of equivalent mutants.
fn faults(findings: &[Finding], all: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let mut listed = 0;
    for finding in findings {
        let name = finding.mutant.name();
        match (&finding.outcome, equivalent(&finding.mutant)) {
            (Outcome::Survived, None) => faults.push(format!("nothing found {name}")),
            (Outcome::Killed(model, _) | Outcome::Timed(model), Some(_)) => {
                faults.push(format!("{name} is listed as equivalent, and {model} found it"));
            }
            _ => {}
        }
        listed += usize::from(equivalent(&finding.mutant).is_some());
    }
    if all && listed < EQUIVALENT.len() {
        faults.push("an equivalent is listed that is no mutant".into());
    }
    if all && listed * SHARE > findings.len() {
        faults
            .push(format!("{listed} of {} are listed as equivalent, more than 1 in {SHARE}", findings.len()));
    }
    faults
}

fn table(findings: &[Finding]) -> String {
    let mut text = String::from("| access | weakened | edge | found by |\n|---|---|---|---|\n");
    for finding in findings {
        let mutant = &finding.mutant;
        let edges = mutant.edges().join(", ");
        let by = match (&finding.outcome, equivalent(mutant)) {
            (Outcome::Killed(model, _), _) => format!("`{model}`"),
            (Outcome::Timed(model), _) => format!("`{model}`, by time"),
            (Outcome::Survived, Some(equivalent)) => {
                format!("nothing: {} covers it; {}", equivalent.edge, equivalent.why)
            }
            (Outcome::Survived, None) => "nothing".into(),
        };
        let _ = writeln!(text, "| `{}` | {} | {edges} | {by} |", mutant.site.name, mutant.change());
    }
    text
}

/// The mutants of a table, each with its last column.
fn rows(table: &str) -> Vec<(String, String)> {
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| {
        let (site, row) = row.split_once("` | ")?;
        let cells: Vec<&str> = row.split(" | ").collect();
        let &[change, .., by] = cells.as_slice() else { return None };
        Some((format!("{site}: {change}"), by.trim_end_matches(" |").to_owned()))
    })
    .collect()
}

/// The model that found a mutant last time.
fn remembered(table: &str) -> BTreeMap<String, String> {
    let found = |by: String| by.strip_prefix('`')?.split('`').next().map(String::from);
    rows(table).into_iter().filter_map(|(name, by)| Some((name, found(by)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(name: &str, outcome: Outcome) -> Finding {
        let site = Site {
            name: name.into(),
            place: "src/shm/ring.rs:1:1".into(),
            orders: vec!["Acquire".into()],
            edges: vec![("ring.publish".into(), "acquire".into())],
            fence: false,
        };
        Finding { mutant: Mutant { site, index: 0, order: "Relaxed" }, outcome, seconds: 0.0 }
    }

    fn killed(model: &str) -> Outcome {
        Outcome::Killed(model.into(), "said".into())
    }

    fn listed() -> &'static str {
        EQUIVALENT[0].mutant.strip_suffix(": Acquire to Relaxed").unwrap()
    }

    #[test]
    fn words_behind_the_command() {
        let both = Wanted { only: Some("ring.rs"), json: true, check: false };
        assert_eq!(Wanted::parse(&["--json", "--only", "ring.rs"]), Some(both));
        assert_eq!(Wanted::parse(&["--check"]), Some(Wanted { check: true, ..Wanted::default() }));
        assert_eq!(Wanted::parse(&["--only"]), None);
        assert_eq!(Wanted::parse(&["ring.rs"]), None);
    }

    #[test]
    fn survivors_must_be_listed_and_the_listed_survive() {
        let none: Vec<String> = Vec::new();
        assert_eq!(faults(&[finding("a look", killed("ring::a"))], false), none);
        assert_eq!(faults(&[finding(listed(), Outcome::Survived)], false), none);
        assert!(faults(&[finding("a look", Outcome::Survived)], false)[0].contains("nothing found a look"));
        assert!(faults(&[finding(listed(), killed("ring::a"))], false)[0].contains("ring::a found it"));
        assert!(faults(&[finding(listed(), Outcome::Timed("ring::a".into()))], false).len() == 1);
    }

    #[test]
    fn few_may_be_listed_and_none_in_vain() {
        let many = |count: usize| (0..count).map(|_| finding("a look", killed("ring::a")));
        let survivors = || {
            EQUIVALENT.iter().map(|equivalent| {
                let mut survivor = finding("", Outcome::Survived);
                survivor.mutant.site.name = equivalent.mutant.split(": ").next().unwrap().into();
                survivor
            })
        };
        let enough: Vec<Finding> = many(SHARE * EQUIVALENT.len()).chain(survivors()).collect();
        assert_eq!(faults(&enough, true), Vec::<String>::new());
        let few: Vec<Finding> = many(EQUIVALENT.len()).chain(survivors()).collect();
        assert!(faults(&few, true)[0].contains("more than 1 in"));
        let none: Vec<Finding> = many(3).collect();
        assert!(faults(&none, true)[0].contains("no mutant"));
    }

    #[test]
    fn the_table_remembers_who_found_what() {
        let findings = [
            finding("ring.rs a look", killed("ring::a")),
            finding("ring.rs b look", Outcome::Timed("wait::b".into())),
            finding(listed(), Outcome::Survived),
        ];
        let table = table(&findings);
        let names: Vec<String> = rows(&table).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, findings.each_ref().map(|finding| finding.mutant.name()));
        let remembered = remembered(&table);
        assert_eq!(remembered["ring.rs a look: Acquire to Relaxed"], "ring::a");
        assert_eq!(remembered["ring.rs b look: Acquire to Relaxed"], "wait::b");
        assert_eq!(remembered.len(), 2, "nobody found the third");
    }

    #[test]
    fn the_explorers_own_failures_do_not_count() {
        let output =
            |place: &str, said: &str| format!("stopped\n\nthread 'a' panicked at {place}:\n{said}\nmore");
        assert_eq!(reason(&output("tests/ring.rs:1:2", "lost")).as_deref(), Some("lost"));
        assert_eq!(reason(&output("x/rt/path.rs:1:2", "too many")).as_deref(), Some("too many"));
        assert_eq!(reason(&output("x/rt/atomic.rs:1:2", "assertion `left != right` failed")), None);
        assert_eq!(reason("it ended with signal: 6").as_deref(), Some("it ended with signal: 6"));
    }
}
