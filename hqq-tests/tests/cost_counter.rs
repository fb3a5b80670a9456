//! The program that counts the cost of messages, checked on code with known counts, in the build of the tests. The costs
//! themselves are measured by `cargo xtask costs` on the release build.

#![cfg(target_arch = "x86_64")]

use std::process::{Command, Output};

fn costs(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hqq-cost-counter")).args(arguments).output().expect("it starts")
}

#[test]
fn what_is_known_is_counted_and_twice_the_same() {
    // With no row left, it still looks first at the one that is known.
    let counted = costs(&["--only", "no such row"]);
    assert!(counted.status.success(), "{}", String::from_utf8_lossy(&counted.stderr));
    assert_eq!(counted.stdout, b"[]\n");
    let [once, again] = [(), ()].map(|()| String::from_utf8(costs(&["step", "known"]).stdout).expect("text"));
    assert!(once.contains("\"rmws\":64"), "{once}");
    assert_eq!(once, again);
}

#[test]
fn a_row_that_does_not_exist_is_an_error() {
    for arguments in [&["step", "no such row"][..], &["--run", "no such row", "--operations", "1"]] {
        assert_eq!(costs(arguments).status.code(), Some(1), "{arguments:?}");
    }
}
