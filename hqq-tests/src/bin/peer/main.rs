//! The other process of a test: does what its standard input says, a line at a time, and answers each line with
//! one that begins with `ok` or `error`. It dies with whoever wrote to it.
//!
//! An order is a word and what belongs to it; `bg` ahead of an order lets it run on a thread of its own, answered
//! only when `join` asks for it. What orders there are stands in the `match`es of the modules.

mod advanced;
mod born;
mod conn;
mod delivery;
mod link;
mod process;
mod raw;
mod state;

use std::env;
use std::io::BufRead;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use state::{Answer, State, Words, lock};

fn obey(state: &Arc<State>, order: &str) -> Answer {
    let mut words = Words(order.split_whitespace());
    let verb = words.next()?;
    match verb {
        "bg" => {
            let rest = order.split_once("bg ").map_or("", |(_, rest)| rest).to_owned();
            let inner = state.clone();
            lock(&state.jobs).push(thread::spawn(move || obey(&inner, &rest)));
            return Ok(String::new());
        }
        // Waits for the oldest.
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
        // Becomes a program that knows nothing of links.
        "exec" => return Err(Command::new("sleep").arg("1000").exec().into()),
        "left" => return left(),
        _ => {}
    }
    if let Some(answer) = link::obey(state, verb, &mut words) {
        return answer;
    }
    if let Some(answer) = conn::obey(state, verb, &mut words) {
        return answer;
    }
    if let Some(answer) = advanced::obey(state, verb, &mut words) {
        return answer;
    }
    if let Some(answer) = delivery::obey(state, verb, &mut words) {
        return answer;
    }
    if let Some(answer) = process::obey(state, verb, &mut words) {
        return answer;
    }
    raw::obey(state, verb, &mut words).unwrap_or_else(|| Err(format!("{verb}: no such order").into()))
}

/// How many descriptors this process has open, and how many regions it has mapped.
fn left() -> Answer {
    let open = std::fs::read_dir("/proc/self/fd")?.count();
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mapped = maps.lines().filter(|line| line.contains("memfd:hqq:")).count();
    Ok(format!("{open} {mapped}"))
}

fn main() {
    born::again(&env::args().skip(1).collect::<Vec<_>>());
    let (sender, orders) = channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
        // Whatever the main thread is blocked in: nobody is left to tell it anything.
        std::process::exit(9);
    });
    let state = Arc::new(State::default());
    for order in orders {
        if order == "quit" {
            return;
        }
        match obey(&state, &order) {
            Ok(found) => println!("ok {found}"),
            Err(error) => println!("error {error:?}"),
        }
    }
}
