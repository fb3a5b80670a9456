//! Attacks the library from shared memory and counts violations: `cargo xtask hostile`.
//!
//! The work is done by workers, children of this process, so that a case that hangs or kills is found, named and left
//! behind. A worker writes the number of its present case into a file that both map.

mod parent;
mod worker;

use std::env;
use std::process::ExitCode;

const USAGE: &str = "\
usage: hqq-hostile [--short] [--json] [--seed N] [--link-share N]

  --short         a sample of the cases, and fewer stores: what cargo xtask test runs
  --json          the figures as one line of JSON
  --seed N        another sample, and other stores of the scribblers
  --link-share N  one in N of the cases over whole links, 40 unless said";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "worker") {
        return worker::main(&args[1..]);
    }
    let mut orders = parent::Orders::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|arg| arg.parse::<u64>().ok());
        let understood = match arg.as_str() {
            "--short" => {
                orders.short = true;
                true
            }
            "--json" => {
                orders.json = true;
                true
            }
            "--seed" => number().map(|seed| orders.seed = seed).is_some(),
            "--link-share" => {
                number().filter(|&share| share > 0).map(|share| orders.link_share = share).is_some()
            }
            _ => false,
        };
        if !understood {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    parent::run(&orders)
}
