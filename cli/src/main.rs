//! The `hqq` command: uses links in a shell, demonstrates and measures them, and inspects the links of this machine.

mod args;
mod bench;
mod demo;
mod exit;
mod inspect;
mod labels;
mod metrics;
mod out;
mod pattern;
mod pipe;
mod prometheus;
mod second;
mod systems;
mod trace;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use exit::Result;

fn main() -> ExitCode {
    let done = match Args::try_parse() {
        Ok(args) => run(args.command),
        Err(said) => out::clap(&said),
    };
    done.unwrap_or_else(|failure| out::report(&failure))
}

fn run(command: Command) -> Result<ExitCode> {
    match &command {
        Command::Demo(_) | Command::Bench(_) | Command::Ls(_) | Command::Stat(_) | Command::Check(_) => {
            out::check()?;
        }
        Command::DemoSecond(_) | Command::BenchSecond => second::name(),
        // The one writes nothing there; the other tells its sender.
        Command::Send(_) | Command::Recv(_) => {}
    }
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Send(args) => pipe::send(&args),
        Command::Recv(args) => pipe::recv(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Ls(args) => inspect::ls(&args),
        Command::Stat(args) => inspect::stat(&args),
        Command::Check(args) => inspect::check(&args),
        Command::DemoSecond(args) => demo::second(&args),
        Command::BenchSecond => bench::second(),
    }
}
