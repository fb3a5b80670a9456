//! A worker: runs cases in sequence, or starts scribblers, and reports one line at a time.

use std::any::Any;
use std::cell::RefCell;
use std::hint::black_box;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hqq_tests::hostile::memory::{Guarded, Memory, map_file, trespass};
use hqq_tests::hostile::scribble::Tally;
use hqq_tests::hostile::{Breach, Broken, breach, link, region, scribble};

/// The words of the shared file.
pub mod word {
    /// The number of the case that runs.
    pub const CASE: usize = 0;
    /// Operations so far.
    pub const OPERATIONS: usize = 1;
    /// Those, or those links, that said that the region is corrupt.
    pub const CORRUPT: usize = 2;
    /// Cases that are over.
    pub const DONE: usize = 3;
}

/// The kinds of finding that a worker reports itself. It cannot report its own death.
pub mod finding {
    pub const PANIC: &str = "panic";
    pub const HELD: &str = "held-twice";
    pub const BOUNDS: &str = "out-of-bounds";
    pub const FORGOTTEN: &str = "not-corrupt-any-more";
    pub const HANG: &str = "hang";
}

thread_local! {
    /// Where the last panic of this thread was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A line for the parent.
fn report(kind: &str, case: &str, what: &str) {
    let what = what.replace('\n', " ");
    let mut out = std::io::stdout().lock();
    // Without a parent there is nobody to tell.
    let _ = writeln!(out, "{kind} {case} {what}");
    let _ = out.flush();
}

/// What a panic was.
fn judge(payload: &(dyn Any + Send)) -> (&'static str, String) {
    if let Some(Broken { breach, what }) = payload.downcast_ref::<Broken>() {
        let kind = match breach {
            Breach::HeldTwice => finding::HELD,
            Breach::OutOfBounds => finding::BOUNDS,
            Breach::Forgotten => finding::FORGOTTEN,
            Breach::Late => finding::HANG,
        };
        return (kind, what.clone());
    }
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    let place = PLACE.with(|place| place.borrow().clone());
    (finding::PANIC, format!("{} at {place}", text.unwrap_or_default()))
}

/// Ends the process when `progress` stands still for longer than `limit`.
fn watch(
    limit: Duration,
    progress: impl Fn() -> u64 + Send + 'static,
    case: impl Fn() -> String + Send + 'static,
) {
    thread::spawn(move || {
        let (mut last, mut since) = (progress(), Instant::now());
        loop {
            thread::sleep(Duration::from_millis(100));
            let now = progress();
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > limit {
                report(finding::HANG, &case(), &format!("not over after {limit:?}"));
                std::process::abort();
            }
        }
    });
}

/// `worker KIND FILE LIMIT-MS FROM TO STRIDE OFFSET`, or `worker scribble-... FILE LIMIT-MS SEED TARGET`.
pub fn main(args: &[String]) -> ExitCode {
    let [kind, file, limit, numbers @ ..] = args else { return ExitCode::from(2) };
    let Ok(map) = map_file(Path::new(file)) else { return ExitCode::from(2) };
    let numbers: Vec<u64> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
    let limit = Duration::from_millis(limit.parse().unwrap_or(10_000));
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        PLACE.with(|last| *last.borrow_mut() = place);
        // Threads of their own are not caught where they are started.
        if thread::current().name() != Some("main") {
            let (kind, what) = judge(info.payload());
            report(kind, "-", &what);
        }
    }));
    let map = Arc::new(map);
    match (kind.as_str(), numbers.as_slice()) {
        ("region", &[from, to, stride, offset]) => {
            let desk = region::Desk::new();
            cases(&map, limit, desk.cases(), [from, to, stride, offset], |case| desk.run(case));
        }
        ("link", &[from, to, stride, offset]) => {
            let desk = link::Desk::new();
            cases(&map, limit, desk.cases(), [from, to, stride, offset], |case| desk.run(case));
        }
        ("scribble-regions", &[seed, target]) => {
            scribbling(limit, |tally| scribble::regions(seed, target, tally))
        }
        ("scribble-untrusted", &[seed, target]) => {
            scribbling(limit, |tally| scribble::untrusted(seed, target, false, tally));
        }
        ("scribble-protected", &[seed, target]) => {
            scribbling(limit, |tally| scribble::untrusted(seed, target, true, tally));
        }
        ("circles", &[..]) => scribbling(limit, scribble::circles),
        ("chased", &[seed, milliseconds]) => {
            let time = Duration::from_millis(milliseconds);
            scribbling(limit, |tally| scribble::chased(seed, time, tally));
        }
        // What each kind of finding looks like: the parent checks that it is told of them.
        ("prove", &[number]) => cases(&map, limit, 8, [number, number + 1, 1, 0], prove),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn cases(
    map: &Arc<Guarded>,
    limit: Duration,
    total: u64,
    [from, to, stride, offset]: [u64; 4],
    run: impl Fn(u64) -> (u64, u64),
) {
    let watched = map.clone();
    let at = map.clone();
    watch(
        limit,
        move || watched.words()[word::CASE].load(Ordering::Relaxed),
        move || at.words()[word::CASE].load(Ordering::Relaxed).to_string(),
    );
    let words = map.words();
    let add = |index: usize, more: u64| {
        let word: &AtomicU64 = &words[index];
        word.store(word.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    };
    for number in from..to {
        words[word::CASE].store(number, Ordering::Relaxed);
        let case =
            ((u128::from(number) * u128::from(stride) + u128::from(offset)) % u128::from(total)) as u64;
        match catch_unwind(AssertUnwindSafe(|| run(case))) {
            Ok((operations, corrupt)) => {
                add(word::OPERATIONS, operations);
                add(word::CORRUPT, corrupt);
            }
            Err(payload) => {
                let (kind, what) = judge(&*payload);
                report(kind, &number.to_string(), &what);
            }
        }
        add(word::DONE, 1);
    }
}

fn scribbling(limit: Duration, work: impl FnOnce(&Tally)) {
    let tally: &'static Tally = Box::leak(Box::default());
    let get = |word: &AtomicU64| word.load(Ordering::Relaxed);
    watch(limit, move || get(&tally.region) + get(&tally.untrusted), || "-".into());
    let done = catch_unwind(AssertUnwindSafe(|| work(tally))).inspect_err(|payload| {
        let (kind, what) = judge(&**payload);
        // That of another thread has been told by the hook.
        if !what.starts_with("a scoped thread panicked") {
            report(kind, "-", &what);
        }
    });
    let figures = [
        get(&tally.region),
        get(&tally.untrusted),
        get(&tally.stores),
        get(&tally.made),
        get(&tally.corrupt),
        get(&tally.guarded[0]),
        get(&tally.guarded[1]),
        get(&tally.succeeded),
    ];
    if done.is_ok() {
        let figures: Vec<String> = figures.iter().map(ToString::to_string).collect();
        report("tally", "-", &figures.join(" "));
    }
}

/// One of each kind of finding.
fn prove(number: u64) -> (u64, u64) {
    match number {
        0 => panic!("as it should"),
        1 => breach(Breach::HeldTwice, "as it should".into()),
        2 => breach(Breach::Forgotten, "as it should".into()),
        3 => loop {
            thread::sleep(Duration::from_millis(10));
        },
        4 => {
            let memory = Memory::new(4096).and_then(|memory| memory.map());
            black_box(memory.map(|memory| trespass(&memory)).ok());
        }
        _ => {}
    }
    (1, 0)
}
