//! Tests that take longer: millions of sleeps and wakes, recovery times, thousands of kills, long pauses, thousands of random
//! schedules. `cargo xtask wakes`, `recovery-times`, `soak` and `schedules` run them; `docs/testing.md` describes them.

mod ledger;
mod pair;
mod schedules;
mod soak;
mod times;
mod wakes;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    about = "Sleeps and wakes by the million, recovery times, kills by the thousand, long pauses, schedules"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Lets both ends of many links sleep and wake each other, with no timer to rescue whoever sleeps on
    Wakes(wakes::Wishes),
    /// Measures how long after a kill the survivor has recovered, and a waiting newcomer's first message is there
    RecoveryTimes(times::Wishes),
    /// Kills and restarts one of two processes under load, again and again, and checks every message
    Soak(soak::Wishes),
    /// Runs random schedules of features alone, in pairs and all together, against a model
    Schedules(schedules::Wishes),
    #[command(hide = true)]
    Answer(wakes::Answer),
    #[command(hide = true)]
    Victim(times::Victim),
    #[command(hide = true)]
    Worker(worker::Task),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Wakes(wishes) => wakes::run(&wishes),
        Task::RecoveryTimes(wishes) => times::run(&wishes),
        Task::Soak(wishes) => soak::run(&wishes),
        Task::Schedules(wishes) => schedules::run(&wishes),
        Task::Answer(task) => wakes::answer(&task),
        Task::Victim(task) => times::victim(&task),
        Task::Worker(task) => worker::run(&task),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}
