//! The parent: starts the workers, reads their reports, reaps those that die, and adds up.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hqq_tests::hostile::memory::map_file;
use hqq_tests::hostile::menu::VALUES;
use hqq_tests::hostile::{link, region};

use crate::worker::{finding, word};

/// What a case may take. Each takes far less than a millisecond, or a few.
const LIMIT: Duration = Duration::from_secs(20);
/// So many findings are enough.
const ENOUGH: usize = 30;
/// A worker that died without a word.
const DIED: &str = "died";

/// What is to be done.
#[derive(Debug)]
pub struct Orders {
    pub short: bool,
    pub json: bool,
    pub seed: u64,
    pub link_share: u64,
}

impl Default for Orders {
    fn default() -> Self {
        Self { short: false, json: false, seed: 1, link_share: 40 }
    }
}

/// Something that must not happen.
#[derive(Clone, Debug)]
struct Found {
    kind: String,
    what: String,
}

/// What the workers did.
#[derive(Debug, Default)]
struct Sum {
    cases: u64,
    operations: u64,
    corrupt: u64,
    /// As in the workers' tally.
    tally: [u64; 8],
    found: Vec<Found>,
}

/// A sweep: its kind, how many cases there are, how many are to be run, and what each is.
struct Sweep<'s> {
    kind: &'static str,
    total: u64,
    cases: u64,
    offset: u64,
    describe: &'s (dyn Fn(u64) -> String + Sync),
}

impl Sweep<'_> {
    /// A step that meets every case once before it meets one twice.
    fn stride(&self) -> u64 {
        const STEP: u64 = 982_451_653; // a prime, larger than any sweep
        if self.total % STEP == 0 { 1 } else { STEP }
    }

    fn case(&self, number: u64) -> u64 {
        let number = u128::from(number) * u128::from(self.stride()) + u128::from(self.offset);
        (number % u128::from(self.total)) as u64
    }
}

/// The shared file of a worker, removed at the end.
struct Shared(PathBuf);

impl Shared {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("hqq-hostile-{}-{name}", std::process::id()));
        let file = File::create(&path).expect("a temporary file");
        file.set_len(hqq_sys::mem::page_size() as u64).expect("room for a page");
        Self(path)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // It is only a temporary file.
        let _ = fs::remove_file(&self.0);
    }
}

fn start(shared: &Shared, kind: &str, limit: Duration, numbers: &[u64]) -> Child {
    let program = env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(["worker", kind]).arg(&shared.0).arg(limit.as_millis().to_string());
    command.args(numbers.iter().map(ToString::to_string));
    if kind == "prove" {
        // It dies as it should, which is nothing to read about.
        command.stderr(Stdio::null());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("this program can be started")
}

/// Listens until the worker ends: its findings with the number of the case, its tally, and whether it ended well.
fn listen(child: &mut Child) -> (Vec<(String, String, String)>, [u64; 8], bool) {
    let mut found = Vec::new();
    let mut tally = [0; 8];
    let lines = child.stdout.take().map(|pipe| BufReader::new(pipe).lines());
    for line in lines.into_iter().flatten().map_while(Result::ok) {
        let mut words = line.splitn(3, ' ');
        let mut next = || words.next().unwrap_or_default().to_owned();
        let (kind, case, what) = (next(), next(), next());
        if kind == "tally" {
            for (sum, word) in tally.iter_mut().zip(what.split(' ')) {
                *sum += word.parse::<u64>().unwrap_or(0);
            }
        } else {
            found.push((kind, case, what));
            if found.len() >= ENOUGH {
                // It has ended, or ends now.
                let _ = child.kill();
            }
        }
    }
    let well = child.wait().is_ok_and(|status| status.success());
    (found, tally, well)
}

/// Runs a part of a sweep, and goes on behind every case that ends its worker.
fn shard(sweep: &Sweep<'_>, number: u64, mut from: u64, to: u64, sum: &Mutex<Sum>, stop: &AtomicBool) {
    let shared = Shared::new(&format!("{}-{number}", sweep.kind));
    let map = map_file(&shared.0).expect("the file can be mapped");
    let words = map.words();
    while from < to && !stop.load(Ordering::Relaxed) {
        for word in [word::OPERATIONS, word::CORRUPT, word::DONE] {
            words[word].store(0, Ordering::Relaxed);
        }
        words[word::CASE].store(from, Ordering::Relaxed);
        let numbers = [from, to, sweep.stride(), sweep.offset];
        let (found, _, well) = listen(&mut start(&shared, sweep.kind, LIMIT, &numbers));
        let last = words[word::CASE].load(Ordering::Relaxed);
        let mut sum = sum.lock().expect("nobody panics with it");
        let explained = found.iter().any(|(kind, ..)| kind == finding::HANG) || found.len() >= ENOUGH;
        for (kind, case, what) in found {
            let case = case.parse().map_or_else(|_| case.clone(), |case| (sweep.describe)(sweep.case(case)));
            sum.found.push(Found { kind, what: format!("{case}: {what}") });
        }
        if !well && !explained {
            let what = (sweep.describe)(sweep.case(last));
            sum.found.push(Found { kind: DIED.into(), what });
        }
        sum.cases += words[word::DONE].load(Ordering::Relaxed);
        sum.operations += words[word::OPERATIONS].load(Ordering::Relaxed);
        sum.corrupt += words[word::CORRUPT].load(Ordering::Relaxed);
        if sum.found.len() >= ENOUGH {
            stop.store(true, Ordering::Relaxed);
        }
        from = if well { to } else { last + 1 };
    }
}

fn run_sweep(sweep: &Sweep<'_>, workers: u64, sum: &Mutex<Sum>) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..workers {
            let (from, to) = (sweep.cases * worker / workers, sweep.cases * (worker + 1) / workers);
            let stop = &stop;
            scope.spawn(move || shard(sweep, worker, from, to, sum, stop));
        }
    });
}

fn run_scribblers(kind: &str, seed: u64, target: u64, sum: &mut Sum) {
    let shared = Shared::new(kind);
    let (found, tally, well) = listen(&mut start(&shared, kind, LIMIT, &[seed, target]));
    if !well && found.is_empty() || well && tally == [0; 8] && found.is_empty() {
        sum.found.push(Found { kind: DIED.into(), what: format!("{kind}, seed {seed}") });
    }
    for (kind, _, what) in found {
        sum.found.push(Found { kind, what: format!("scribbled on, seed {seed}: {what}") });
    }
    for (sum, part) in sum.tally.iter_mut().zip(tally) {
        *sum += part;
    }
}

/// Every kind of finding, made on purpose, is told and counted as what it is.
fn prove() -> Result<(), String> {
    let shared = Shared::new("prove");
    for (number, expected) in
        [(0, finding::PANIC), (1, finding::HELD), (2, finding::FORGOTTEN), (3, finding::HANG), (4, DIED)]
    {
        let limit = Duration::from_millis(500);
        let (found, _, well) = listen(&mut start(&shared, "prove", limit, &[number]));
        let kinds: Vec<&str> = found.iter().map(|(kind, ..)| kind.as_str()).collect();
        let right = if expected == DIED { !well && kinds.is_empty() } else { kinds == [expected] };
        if !right {
            return Err(format!("a {expected} that was made on purpose was told as {kinds:?}"));
        }
    }
    Ok(())
}

/// Does what was ordered, and prints the figures.
pub fn run(orders: &Orders) -> ExitCode {
    let began = Instant::now();
    if let Err(why) = prove() {
        eprintln!("the attack does not see what it looks for: {why}");
        return ExitCode::FAILURE;
    }
    let workers = thread::available_parallelism().map_or(1, |count| count.get() as u64).min(4);
    let sum = Mutex::new(Sum::default());
    let (core, links) = (region::Desk::new(), link::Desk::new());
    let (core_cases, link_cases) = (core.cases(), links.cases());
    let offset = fastrand::Rng::with_seed(orders.seed).u64(..);
    let describe_core = |case| core.describe(case);
    let describe_link = |case| links.describe(case);
    let sweeps = [
        Sweep {
            kind: "region",
            total: core_cases,
            cases: if orders.short { 30_000 } else { core_cases },
            offset: offset % core_cases,
            describe: &describe_core,
        },
        Sweep {
            kind: "link",
            total: link_cases,
            cases: if orders.short { 2_000 } else { link_cases / orders.link_share },
            offset: offset % link_cases,
            describe: &describe_link,
        },
    ];
    for sweep in &sweeps {
        let started = Instant::now();
        run_sweep(sweep, workers, &sum);
        if !orders.json {
            let (run, of) = (sweep.cases, sweep.total);
            println!("{}: {run} of {of} cases in {:.1} s", sweep.kind, started.elapsed().as_secs_f64());
        }
    }
    let mut sum = sum.into_inner().expect("nobody panics with it");
    // Calls, once, and milliseconds for each way of running ahead.
    for (kind, short, full) in [
        ("scribble-regions", 1_500_000, 100_000_000),
        ("scribble-untrusted", 30_000, 4_000_000),
        ("scribble-protected", 10_000, 1_000_000),
        ("circles", 1, 1),
        ("chased", 200, 3_000),
    ] {
        let target = if orders.short { short } else { full };
        let started = Instant::now();
        run_scribblers(kind, orders.seed, target, &mut sum);
        if !orders.json {
            println!("{kind}: {:.1} s", started.elapsed().as_secs_f64());
        }
    }
    report(orders, &sum, core.words(), began.elapsed())
}

fn report(orders: &Orders, sum: &Sum, words: usize, took: Duration) -> ExitCode {
    for Found { kind, what } in &sum.found {
        eprintln!("{kind}: {what}");
    }
    let count =
        |kinds: &[&str]| sum.found.iter().filter(|found| kinds.contains(&found.kind.as_str())).count();
    // Who dies without a word has touched a guard page, or was found out by the sanitizer.
    let (panics, hangs) = (count(&[finding::PANIC]), count(&[finding::HANG]));
    let (bounds, twice) = (count(&[finding::BOUNDS, DIED]), count(&[finding::HELD]));
    let forgotten = count(&[finding::FORGOTTEN]);
    let (values, fills, acts) = (VALUES.len(), region::FILLS.len(), region::ACTS.len());
    let [region, untrusted, stores, made, corrupt, guarded, looked, succeeded] = sum.tally;
    let (cases, calls, said) = (sum.cases, sum.operations, sum.corrupt);
    let scribbled = region + untrusted;
    let seconds = took.as_secs_f64();
    if orders.json {
        println!(
            "{{\"words\": {words}, \"values\": {values}, \"fills\": {fills}, \"operations\": {acts}, \
             \"cases\": {cases}, \"calls\": {calls}, \"said_corrupt\": {said}, \"scribbled\": {scribbled}, \
             \"scribbled_succeeded\": {succeeded}, \"scribbled_untrusted\": {untrusted}, \"stores\": {stores}, \"ends_made\": {made}, \
             \"ends_corrupt\": {corrupt}, \"mappings_guarded\": {guarded}, \"mappings\": {looked}, \
             \"panics\": {panics}, \"hangs\": {hangs}, \"out_of_bounds\": {bounds}, \
             \"double_hand_outs\": {twice}, \"corrupt_forgotten\": {forgotten}, \"seconds\": {seconds:.1}}}"
        );
    } else {
        println!(
            "{calls} calls after a store, {said} of them said Corrupt; {stores} stores scribbled, {made} ends made, \
             {corrupt} of them found corrupt; {guarded} of {looked} mappings of links between guard pages"
        );
        println!(
            "{words} words x {values} values x {fills} fills x {acts} operations: {cases} cases; {scribbled} \
             operations scribbled on, {succeeded} of them with success; panics {panics}, hangs {hangs}, out of bounds {bounds}, double hand-outs \
             {twice}, corrupt and forgotten {forgotten}; {seconds:.0} s"
        );
    }
    if sum.found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
