//! `hqq bench`: runs the harness, and prints its results as tables, JSON or CSV, draws them, or compares them with an
//! earlier run.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use hqq_bench::{AGREED_CASES, Case, Facts, PRESET_CASES, Plan, SecondEnded, picture, report};

use crate::args::Bench;
use crate::exit::{Exit, Failure, Result};
use crate::systems::systems;
use crate::{out, second};

/// `hqq bench`.
pub fn run(args: &Bench) -> Result<ExitCode> {
    // Errors of the files are reported before the measurement.
    let old = args.compare.as_deref().map(earlier).transpose()?;
    let svg = args.svg.as_deref().map(|path| create(path).map(|file| (path, file))).transpose()?;
    let systems = match (args.presets, args.agreements) {
        (true, _) => hqq_bench::presets(),
        (_, true) => hqq_bench::agreed(),
        _ => systems(),
    };
    let kinds = args.kinds();
    let payloads = (!args.payload.is_empty()).then_some(args.payload.as_slice());
    let cases = match (args.presets, args.agreements) {
        (true, _) => PRESET_CASES.to_vec(),
        (_, true) => AGREED_CASES.to_vec(),
        _ => Case::select(kinds.as_deref(), payloads),
    };
    let plan =
        Plan { systems: &systems, cases, only: args.system.clone(), beside_hqq: false, rounds: args.rounds };
    if plan.pairs().is_empty() {
        let message = "no system has these cases with these payloads";
        return Err(Failure::new(Exit::Usage, message).hint("`hqq bench --help` lists systems and cases"));
    }
    let mut command = second::program();
    command.arg("bench-second");
    let mut progress = None;
    let facts = hqq_bench::lead(&plan, command, |done, all| {
        let progress = progress.get_or_insert_with(|| {
            let progress = out::Progress::things(all);
            progress.message("turns;");
            progress
        });
        progress.at(done);
    });
    drop(progress);
    let facts = facts.map_err(failure)?;
    if facts.pinned.is_none() {
        out::note("hqq: note: the processes could not be pinned to two processors; results will vary more");
    }
    if let Some((path, mut file)) = svg {
        let cannot = |error| Failure::system(format!("writing {}", path.display()), &error);
        file.set_len(0).and_then(|()| file.write_all(picture::draw(&facts).as_bytes())).map_err(cannot)?;
    }
    let compared = old.map(|old| report::compare(&old, &facts));
    if args.json {
        out::json(&facts)?;
    } else if args.csv {
        out::line(report::csv(&facts).map_err(failure)?.trim_end())?;
    } else {
        if args.presets {
            out::line(report::presets(&facts))?;
            out::line(report::presets_legend(&facts))?;
        } else if args.agreements {
            out::line(report::agreements(&facts))?;
            out::line(report::agreements_legend(&facts))?;
        } else {
            out::line(report::tables(&facts))?;
            out::line(report::legend(&facts))?;
        }
        if let Some(compared) = compared {
            out::line(format_args!("\n{compared}"))?;
        }
        return out::done();
    }
    if let Some(compared) = compared {
        out::note(compared);
    }
    out::done()
}

/// The second process.
pub fn second() -> Result<ExitCode> {
    let all: Vec<_> = systems().into_iter().chain(hqq_bench::presets()).chain(hqq_bench::agreed()).collect();
    hqq_bench::serve(&all).map_err(|error| second::here(failure(error)))?;
    out::done()
}

/// Reads the JSON of an earlier run.
fn earlier(path: &Path) -> Result<Facts> {
    let cannot = |error| Failure::system(format!("reading {}", path.display()), &error);
    let text = fs::read_to_string(path).map_err(cannot)?;
    serde_json::from_str(&text).map_err(|error| {
        let message = format!("{} is not the JSON of an earlier `hqq bench`: {error}", path.display());
        Failure::new(Exit::Usage, message).hint("make one with `hqq bench --json > FILE`")
    })
}

/// Opens the file for writing; its contents stay until new ones are written.
fn create(path: &Path) -> Result<File> {
    let file = File::options().create(true).write(true).truncate(false).open(path);
    file.map_err(|error| Failure::system(format!("writing {}", path.display()), &error))
}

/// Converts a failure of the harness.
fn failure(failure: hqq_bench::Failure) -> Failure {
    let failure = match failure.downcast::<hqq::Error>() {
        Ok(error) => return Failure::from(*error),
        Err(failure) => failure,
    };
    let exit = if failure.is::<SecondEnded>() { Exit::Link } else { Exit::Failed };
    match failure.downcast::<std::io::Error>() {
        Ok(error) => Failure::system("measuring", &error),
        Err(failure) => Failure::new(exit, failure.to_string()),
    }
}
