//! Standard streams that are closed, full, odd or not blocking: the exit code says what has become of the data.

mod common;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use common::{Running, hqq, name, run, text, until};

/// The command with redirections that a shell makes.
fn redirected(args: &[&str], redirections: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec \"$0\" \"$@\" {redirections}"), env!("CARGO_BIN_EXE_hqq")]);
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the command with these redirections; returns the exit code and its messages.
fn code(args: &[&str], redirections: &str) -> (Option<i32>, String) {
    let done = redirected(args, redirections).output().unwrap();
    (done.status.code(), text(&done.stderr))
}

/// A small file for demonstrations.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

/// Commands that print facts and succeed.
const PRINTING: [&[&str]; 5] = [
    &["ls"],
    &["ls", "--json"],
    &["--help"],
    &["recv", "--help"],
    &["demo", "--messages", "10", "--file", FILE, "--json"],
];

#[test]
fn what_cannot_be_printed_is_no_success() {
    for args in PRINTING {
        for redirection in [">&-", "1</dev/null", ">/dev/full"] {
            let (code, errors) = code(args, redirection);
            assert_eq!(code, Some(6), "{args:?} {redirection}: {errors}");
            assert!(errors.contains("standard output"), "{args:?} {redirection}: {errors}");
        }
        // However the null device was opened, somebody wanted it.
        for redirection in [">/dev/null", "1<>/dev/null"] {
            assert_eq!(code(args, redirection), (Some(0), String::new()), "{args:?} {redirection}");
        }
    }
    // Nothing is measured or looked for in vain.
    for args in [&["bench", "--rounds", "100000"][..], &["stat", "x"], &["check", "x"], &["demo"]] {
        assert_eq!(code(args, ">&-").0, Some(6), "{args:?}");
    }
}

#[test]
fn what_a_receiver_cannot_write_is_no_success_of_the_sender() {
    for redirection in [">&-", "1</dev/null", ">/dev/full"] {
        let name = name();
        let mut recv = Running::start(&mut redirected(&["recv", &name], redirection));
        let mut send = Running::start(hqq(&["send", &name, "--wait", "60"]).stdin(Stdio::piped()));
        // The receiver may have stopped already.
        let _ = send.0.stdin.take().unwrap().write_all(b"precious");
        let (code, errors) = recv.code_and_errors();
        assert_eq!(code, Some(6), "{redirection}: {errors}");
        assert!(errors.contains("standard output"), "{redirection}: {errors}");
        let (code, errors) = send.code_and_errors();
        assert_eq!(code, Some(4), "{redirection}: {errors}");
        assert!(errors.contains("the receiver stopped early"), "{redirection}: {errors}");
    }
    for redirection in [">/dev/null", "1<>/dev/null"] {
        let name = name();
        let mut recv = Running::start(&mut redirected(&["recv", &name], redirection));
        let mut send = Running::start(&mut hqq(&["send", &name, "--wait", "60"]));
        assert_eq!((send.end().code(), recv.end().code()), (Some(0), Some(0)), "{redirection}");
    }
}

#[test]
fn an_input_that_cannot_be_read_is_no_empty_input() {
    let name = name();
    let _recv = Running::start(&mut hqq(&["recv", &name]));
    for redirection in ["<&-", "0>/dev/null"] {
        let (code, errors) = code(&["send", &name, "--wait", "60"], redirection);
        assert_eq!(code, Some(6), "{redirection}: {errors}");
        assert!(errors.contains("standard input is closed or not open for reading"), "{errors}");
    }
    // The receiver still waits for its sender. An empty input that somebody chose is one.
    assert_eq!(code(&["send", &name, "--wait", "60"], "0<>/dev/null"), (Some(0), String::new()));
}

#[test]
fn an_output_that_does_not_block_is_waited_for() {
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let name = name();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut recv =
        Running(hqq(&["recv", &name]).stdout(OwnedFd::from(theirs)).stderr(Stdio::piped()).spawn().unwrap());
    let mut send = Running::start(hqq(&["send", &name, "--wait", "60"]).stdin(Stdio::piped()));
    let mut input = send.0.stdin.take().unwrap();
    let (mut found, wanted) = (Vec::new(), bytes.clone());
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(&bytes).unwrap());
        // Nobody reads until the link is full, so the receiver has met an output without room.
        until("the sender waits for a buffer", || {
            let facts = run(&["stat", &name, "--json"]);
            let facts: serde_json::Value = serde_json::from_slice(&facts.stdout).unwrap_or_default();
            facts["links"][0]["sides"][1]["pool_waits"].as_u64() > Some(0)
        });
        ours.read_to_end(&mut found).unwrap();
    });
    assert_eq!(recv.code_and_errors(), (Some(0), String::new()));
    assert_eq!(send.code_and_errors(), (Some(0), String::new()));
    assert!(found == wanted, "{} bytes came", found.len());
}

#[test]
fn a_message_that_cannot_be_printed_changes_no_exit_code() {
    let nobody = name();
    for (args, wanted) in [
        (&["send", &nobody][..], 3),
        (&["recv", "/no/such/folder/name"], 6),
        (&["recv", "no name"], 2),
        (&["stat", &nobody], 3),
        (&["nothing"], 2),
        (&[], 2),
        (&["ls"], 0),
        (&["demo", "--messages", "10", "--file", FILE], 0),
        (&["demo", "--messages", "10", "--file", FILE, "--trace", "/dev/full"], 0),
        (&["bench", "--rounds", "1", "--case", "slot", "--payload", "8", "--system", "raw"], 0),
    ] {
        for redirection in ["2>/dev/full", "2>&-", "2</dev/null"] {
            assert_eq!(code(args, redirection).0, Some(wanted), "{args:?} {redirection}");
        }
        // No message and no output either.
        let both = code(args, ">/dev/full 2>/dev/full").0;
        assert_eq!(both, Some(if wanted == 0 { 6 } else { wanted }), "{args:?}");
    }
    // Both succeed, although neither can say that the other did not ask for compression.
    let name = name();
    let args = ["recv", &name, "--compress", "lz4"];
    let mut recv = Running::start(&mut redirected(&args, "2>/dev/full"));
    assert_eq!(code(&["send", &name, "--wait", "60", "--statistics"], "2>/dev/full").0, Some(0));
    assert_eq!(recv.end().code(), Some(0));
}
