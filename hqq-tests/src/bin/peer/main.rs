//! The other process of a test. It runs the commands on its standard input, one on each line, and answers each with a
//! line that starts with `ok` or `error`. It ends with the process that writes to it.
//!
//! A command is a word and its arguments. With `bg` before it, a command runs on a thread of its own, and `join` returns
//! its answer. The `match` expressions of the modules list the commands.

mod advanced;
mod conn;
mod delivery;
mod link;
mod namespaces;
mod process;
mod raw;
mod scarce;
mod state;

use std::env;
use std::io::BufRead;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use state::{Answer, State, Words, lock};

fn run(state: &Arc<State>, command: &str) -> Answer {
    let mut words = Words(command.split_whitespace());
    let verb = words.next()?;
    match verb {
        "bg" => {
            let rest = command.split_once("bg ").map_or("", |(_, rest)| rest).to_owned();
            let inner = state.clone();
            lock(&state.jobs).push(thread::spawn(move || run(&inner, &rest)));
            return Ok(String::new());
        }
        // Waits for the oldest command in the background.
        "join" => {
            let mut jobs = lock(&state.jobs);
            if jobs.is_empty() {
                return Err("nothing runs".into());
            }
            let job = jobs.remove(0);
            drop(jobs);
            return job.join().unwrap_or_else(|_| Err("it panicked".into()));
        }
        "cpu" => return Ok(hqq_sys::cpu::cpu_time().as_micros().to_string()),
        // Replaces the process by a program without links.
        "exec" => return Err(Command::new("sleep").arg("1000").exec().into()),
        "left" => return left(),
        _ => {}
    }
    if let Some(answer) = link::run(state, verb, &mut words) {
        return answer;
    }
    if let Some(answer) = conn::run(state, verb, &mut words) {
        return answer;
    }
    if let Some(answer) = advanced::run(state, verb, &mut words) {
        return answer;
    }
    if let Some(answer) = delivery::run(state, verb, &mut words) {
        return answer;
    }
    if let Some(answer) = process::run(state, verb, &mut words) {
        return answer;
    }
    if let Some(answer) = scarce::run(state, verb, &mut words) {
        return answer;
    }
    raw::run(state, verb, &mut words).unwrap_or_else(|| Err(format!("{verb}: no such command").into()))
}

/// The number of open descriptors and of mapped regions of this process.
fn left() -> Answer {
    let open = std::fs::read_dir("/proc/self/fd")?.count();
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mapped = maps.lines().filter(|line| line.contains("memfd:hqq:")).count();
    Ok(format!("{open} {mapped}"))
}

fn main() {
    namespaces::enter(&env::args().skip(1).collect::<Vec<_>>());
    let (sender, commands) = channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
        // Standard input is closed: nothing can end what the main thread waits for.
        std::process::exit(9);
    });
    let state = Arc::new(State::default());
    for command in commands {
        if command == "quit" {
            return;
        }
        match run(&state, &command) {
            Ok(found) => println!("ok {found}"),
            Err(error) => println!("error {error:?}"),
        }
    }
}
