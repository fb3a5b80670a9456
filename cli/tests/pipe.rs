//! `hqq send` and `hqq recv` as two processes.

mod common;

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Running, hqq, name, run, text, until};

/// The time limit for one end to follow the other; the promise is a second, but the machine may be busy.
const SOON: Duration = Duration::from_secs(5);

/// Bytes without a pattern.
fn noise(count: usize) -> Vec<u8> {
    let mut word: u64 = 0x1234_5678_9abc_def1;
    let mut step = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word as u8
    };
    (0..count).map(|_| step()).collect()
}

fn temporary(what: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("{}-{what}", name()));
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Waits until the kernel lists a listener at this name.
fn until_bound(name: &str) {
    until("a listener", || {
        let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
        sockets.lines().any(|line| line.ends_with(&format!(".{name}")))
    });
}

/// A connected receiver and sender; the sender waits for input from a pipe.
fn linked() -> (Running, Running, std::process::ChildStdin) {
    let name = name();
    let mut recv = Running::start(&mut hqq(&["recv", &name]));
    let mut send = Running::start(hqq(&["send", &name, "--wait", "60"]).stdin(Stdio::piped()));
    let mut input = send.0.stdin.take().unwrap();
    input.write_all(b"first").unwrap();
    // After this has arrived, both are running.
    let mut found = [0; 5];
    recv.0.stdout.as_mut().unwrap().read_exact(&mut found).unwrap();
    assert_eq!(&found, b"first");
    (recv, send, input)
}

#[test]
fn a_protected_link_carries_a_file_and_says_what_it_is() {
    let name = name();
    let mut recv =
        Running::start(&mut hqq(&["recv", &name, "--protected", "--allow-uid", "0", "--allow-gid", "1"]));
    let mut send =
        Running::start(hqq(&["send", &name, "--wait", "60", "--allow-uid", "1"]).stdin(Stdio::piped()));
    let mut input = send.0.stdin.take().unwrap();
    input.write_all(&noise(100_000)).unwrap();
    let mut found = vec![0; 100_000];
    recv.0.stdout.as_mut().unwrap().read_exact(&mut found).unwrap();
    assert!(found == noise(100_000));
    let stat = run(&["stat", &name]);
    assert!(text(&stat.stdout).contains("adaptive waiting, protected"), "{stat:?}");
    let stat = run(&["stat", &name, "--json"]);
    assert!(text(&stat.stdout).contains("\"protected\": true"), "{stat:?}");
    assert_eq!(run(&["check", &name]).status.code(), Some(0));
    drop(input);
    assert_eq!(recv.code_and_errors(), (Some(0), String::new()));
    assert_eq!(send.code_and_errors(), (Some(0), String::new()));
}

#[test]
fn a_file_arrives_in_either_order() {
    let bytes = noise(3_000_001);
    let path = temporary("in", &bytes);
    for sender_first in [false, true] {
        let name = name();
        let start_send = || {
            let input = File::open(&path).unwrap();
            Running::start(hqq(&["send", &name, "--wait", "60"]).stdin(input))
        };
        let early = sender_first.then(start_send);
        let mut recv = Running::start(&mut hqq(&["recv", &name, "--wait", "60"]));
        let mut send = early.unwrap_or_else(|| {
            until_bound(&name);
            start_send()
        });
        let mut found = Vec::new();
        recv.0.stdout.take().unwrap().read_to_end(&mut found).unwrap();
        assert_eq!(recv.code_and_errors(), (Some(0), String::new()));
        assert_eq!(send.code_and_errors(), (Some(0), String::new()));
        assert!(found == bytes, "{} bytes came", found.len());
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn pieces_arrive_as_they_are_written_and_nothing_is_an_input_too() {
    let (mut recv, mut send, mut input) = linked();
    let mut output = recv.0.stdout.take().unwrap();
    for piece in [&b"a"[..], b"bc", &noise(700_000)] {
        let mut found = vec![0; piece.len()];
        std::thread::scope(|scope| {
            scope.spawn(|| output.read_exact(&mut found).unwrap());
            input.write_all(piece).unwrap();
        });
        assert!(found == piece);
    }
    drop(input);
    assert_eq!(output.read(&mut [0]).unwrap(), 0);
    assert_eq!((send.end().code(), recv.end().code()), (Some(0), Some(0)));

    let name = name();
    let mut recv = Running::start(&mut hqq(&["recv", &name]));
    until_bound(&name);
    assert_eq!(run(&["send", &name]).status.code(), Some(0));
    assert_eq!(recv.end().code(), Some(0));
}

#[test]
fn a_path_is_a_name_too_and_goes_away() {
    let path = std::env::temp_dir().join(name());
    let path = path.to_str().unwrap();
    let mut recv = Running::start(&mut hqq(&["recv", path]));
    let mut send = Running::start(&mut hqq(&["send", path, "--wait", "60"]));
    assert_eq!((send.end().code(), recv.end().code()), (Some(0), Some(0)));
    assert!(!std::path::Path::new(path).exists());

    let nowhere = run(&["recv", "/no/such/folder/name"]);
    assert_eq!(nowhere.status.code(), Some(6));
    assert!(text(&nowhere.stderr).contains("must exist"), "{}", text(&nowhere.stderr));
}

#[test]
fn other_buffers_can_be_chosen() {
    let name = name();
    let bytes = noise(100_000);
    let path = temporary("small", &bytes);
    let mut recv = Running::start(&mut hqq(&["recv", &name, "--buffer-size", "64", "--buffers", "2"]));
    until_bound(&name);
    let mut send = Running::start(hqq(&["send", &name]).stdin(File::open(&path).unwrap()));
    let mut found = Vec::new();
    recv.0.stdout.take().unwrap().read_to_end(&mut found).unwrap();
    assert!(found == bytes);
    assert_eq!((send.end().code(), recv.end().code()), (Some(0), Some(0)));
    std::fs::remove_file(path).unwrap();

    let wrong = run(&["recv", &name, "--buffers", "3"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("buffers is 3"), "{}", text(&wrong.stderr));
    let wrong = run(&["recv", &name, "--buffer-size", "1099511627776"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stderr));
}

#[test]
fn a_killed_sender_ends_the_receiver() {
    let (mut recv, mut send, input) = linked();
    send.0.kill().unwrap();
    let killed = Instant::now();
    let (code, errors) = recv.code_and_errors();
    assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
    assert_eq!(code, Some(4));
    assert!(errors.contains("the sender died after 5 bytes"), "{errors}");
    drop(input);
}

#[test]
fn a_killed_receiver_ends_a_sender_that_waits_for_input() {
    let (mut recv, mut send, input) = linked();
    recv.0.kill().unwrap();
    let killed = Instant::now();
    let (code, errors) = send.code_and_errors();
    assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
    assert_eq!(code, Some(4));
    assert!(errors.contains("the receiver died after 5 bytes"), "{errors}");
    drop(input);
}

#[test]
fn a_killed_receiver_ends_a_sender_that_waits_for_room() {
    let name = name();
    // Nothing reads its output, so the receiver blocks, and so does the sender.
    let mut recv = Running::start(&mut hqq(&["recv", &name]));
    until_bound(&name);
    let mut send = Running::start(hqq(&["send", &name]).stdin(File::open("/dev/zero").unwrap()));
    until("the sender waits for a buffer", || {
        let facts = run(&["stat", &name, "--json"]);
        let facts: serde_json::Value = serde_json::from_slice(&facts.stdout).unwrap_or_default();
        facts["links"][0]["sides"][1]["pool_waits"].as_u64() > Some(0)
    });
    recv.0.kill().unwrap();
    let (code, errors) = send.code_and_errors();
    assert_eq!(code, Some(4));
    assert!(errors.contains("the receiver died"), "{errors}");
}

#[test]
fn a_closed_output_ends_both() {
    let name = name();
    let mut recv = Running::start(&mut hqq(&["recv", &name]));
    drop(recv.0.stdout.take());
    until_bound(&name);
    let mut send = Running::start(hqq(&["send", &name]).stdin(File::open("/dev/zero").unwrap()));
    let (code, errors) = recv.code_and_errors();
    assert_eq!(code, Some(6));
    assert!(errors.contains("closed by its reader after"), "{errors}");
    let (code, errors) = send.code_and_errors();
    assert_eq!(code, Some(4));
    assert!(errors.contains("the receiver stopped early"), "{errors}");
}

#[test]
fn a_reader_that_cannot_read_is_no_end_of_input() {
    let name = name();
    let mut recv = Running::start(&mut hqq(&["recv", &name]));
    until_bound(&name);
    let folder = File::open(std::env::temp_dir()).unwrap();
    let (code, errors) = Running::start(hqq(&["send", &name]).stdin(folder)).code_and_errors();
    assert_eq!(code, Some(6));
    assert!(errors.contains("reading standard input"), "{errors}");
    let (code, errors) = recv.code_and_errors();
    assert_eq!(code, Some(4));
    assert!(errors.contains("the sender stopped early after 0 bytes"), "{errors}");
}

#[test]
fn names_that_are_not_there_or_taken() {
    let name = name();
    let nobody = run(&["send", &name]);
    assert_eq!(nobody.status.code(), Some(3));
    let said = text(&nobody.stderr);
    assert!(said.contains("no receiver listens at") && said.contains("hint: start `hqq recv"), "{said}");
    assert_eq!(run(&["send", &name, "--wait", "0.05"]).status.code(), Some(3));
    let late = run(&["recv", &name, "--wait", "0.05"]);
    assert_eq!(late.status.code(), Some(3));
    assert!(text(&late.stderr).contains("no sender connected to"), "{}", text(&late.stderr));

    let _first = Running::start(&mut hqq(&["recv", &name]));
    until_bound(&name);
    let second = run(&["recv", &name]);
    assert_eq!(second.status.code(), Some(3));
    assert!(text(&second.stderr).contains("in use"), "{}", text(&second.stderr));

    let wrong = run(&["recv", "no name"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("cannot be the name of a link"), "{}", text(&wrong.stderr));
}

/// Sends `input` from one command to the other with these options; returns the output, the exit codes and the messages.
fn through(input: &[u8], send: &[&str], recv: &[&str]) -> (Vec<u8>, [Option<i32>; 2], String) {
    let name = name();
    let file = temporary("through", input);
    let mut receiver = Running::start(&mut hqq(&[&["recv", &name], recv].concat()));
    let mut sender = hqq(&[&["send", &name, "--wait", "60"], send].concat());
    let mut output = receiver.0.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut found = Vec::new();
        output.read_to_end(&mut found).map(|_| found)
    });
    let sent = sender.stdin(File::open(&file).unwrap()).output().unwrap();
    let found = reader.join().unwrap().unwrap();
    let code = receiver.0.wait().unwrap().code();
    let mut said = text(&sent.stderr);
    receiver.0.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
    std::fs::remove_file(file).unwrap();
    (found, [sent.status.code(), code], said)
}

#[test]
fn compressed_and_encrypted_streams_arrive_whole() {
    let words = b"a stream with many repetitions, ".repeat(100_000);
    let key = temporary("key", b"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
    let key = key.to_str().unwrap();
    let encrypted = ["--encrypt", "--key-file", key];
    let both = ["--compress", "zstd", "--encrypt", "--key-file", key];
    for (input, send, recv) in [
        (&words, &["--compress", "zstd,lz4"][..], &["--compress", "lz4"][..]),
        (&noise(3_000_000), &["--compress", "lz4"], &["--compress", "lz4,zstd"]),
        (&words, &encrypted, &encrypted),
        (&words, &both, &both),
    ] {
        let (found, codes, said) = through(input, send, recv);
        assert_eq!(codes, [Some(0), Some(0)], "{send:?} {recv:?}: {said}");
        assert!(found == **input, "{send:?} {recv:?}");
    }
    // Without compression at one side, the stream is sent uncompressed, and the other side reports it.
    for (send, recv) in [(&["--compress", "lz4"][..], &[][..]), (&[], &["--compress", "lz4"])] {
        let (found, codes, said) = through(&words, send, recv);
        assert_eq!(codes, [Some(0), Some(0)], "{said}");
        assert!(found == words && said.contains("not compressed: "), "{said}");
    }
    std::fs::remove_file(key).unwrap();
}

#[test]
fn a_rate_is_kept_and_a_priority_taken() {
    let bytes = noise(1_500_000);
    let began = Instant::now();
    let (found, codes, said) =
        through(&bytes, &["--rate", "1MB"], &["--priority", "3", "--buffer-size", "65536"]);
    assert_eq!(codes, [Some(0), Some(0)], "{said}");
    assert!(found == bytes);
    assert!(began.elapsed() >= Duration::from_millis(1350), "{:?}", began.elapsed());
    let all = ["--priority", "7", "--compress", "lz4"];
    let (found, codes, said) = through(&bytes, &all, &all);
    assert_eq!(codes, [Some(0), Some(0)], "{said}");
    assert!(found == bytes);
    // Without an agreement, the stream is sent without a priority, and the side that asked reports it.
    let (found, codes, said) = through(b"hello", &["--priority", "0"], &[]);
    assert_eq!((&found[..], codes), (&b"hello"[..], [Some(0), Some(0)]), "{said}");
    assert!(said.contains("no priority or rate: "), "{said}");
    // A rate is a requirement: without it, nothing is sent.
    let (found, codes, said) = through(b"hello", &["--rate", "1M"], &[]);
    assert_eq!((&found[..], codes[0]), (&b""[..], Some(5)), "{said}");
    assert!(said.contains("start the receiver with --rate or --priority, too"), "{said}");
    for (option, value, what) in [
        ("--priority", "8", "class 8 is out of range: use 0, the most urgent, to 7"),
        ("--priority", "high", "not a number from 0 to 7"),
        ("--rate", "0", "the rate is 0, but it must be at least 1"),
        ("--rate", "fast", "such as 500k or 10MiB"),
    ] {
        let wrong = run(&["send", "nobody", option, value]);
        assert_eq!(wrong.status.code(), Some(2));
        assert!(text(&wrong.stderr).contains(what), "{}", text(&wrong.stderr));
    }
}

#[test]
fn without_the_same_key_nothing_is_sent() {
    let keys = ["ab", "cd"].map(|digits| temporary(digits, digits.repeat(32).as_bytes()));
    let [one, other] = keys.each_ref().map(|path| path.to_str().unwrap());
    let with = |key| ["--encrypt", "--key-file", key];
    for (send, recv, what) in [
        (&with(one)[..], &with(other)[..], "has a different key"),
        (&with(one), &[], "requires encryption"),
        (&[], &with(one), "requires encryption"),
    ] {
        let (found, codes, said) = through(b"secret", send, recv);
        assert!(found.is_empty(), "{send:?} {recv:?}");
        assert!(codes.iter().all(|code| *code != Some(0)) && codes.contains(&Some(5)), "{codes:?} {said}");
        assert!(said.contains(what), "{said}");
    }
    let nonsense = temporary("nonsense", b"nonsense");
    let bad = run(&["send", "nobody", "--encrypt", "--key-file", nonsense.to_str().unwrap()]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(text(&bad.stderr).contains("does not contain a key"), "{}", text(&bad.stderr));
    let missing = run(&["recv", "nobody", "--encrypt", "--key-file", "/nowhere/key"]);
    assert_eq!(missing.status.code(), Some(6));
    for path in keys.iter().chain([&nonsense]) {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_key_that_others_can_read_draws_a_warning() {
    let path = temporary("open-key", "ab".repeat(32).as_bytes());
    let file = path.to_str().unwrap();
    let said = |mode| {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let nobody = run(&["send", "nobody", "--encrypt", "--key-file", file]);
        assert_eq!(nobody.status.code(), Some(3));
        text(&nobody.stderr)
    };
    for mode in [0o644, 0o640, 0o602, 0o610] {
        let said = said(mode);
        assert!(said.contains(&format!("hqq: warning: others may use the key in {file}")), "{said}");
        assert!(said.contains(&format!("{mode:o}")) && said.contains("chmod 600"), "{said}");
    }
    for mode in [0o600, 0o400] {
        assert!(!said(mode).contains("warning"), "{mode:o}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_key_of_zeros_is_refused() {
    let (zeros, one) = ("00".repeat(32), format!("{}1", "0".repeat(63)));
    for key in [
        zeros.clone(),
        format!("psk:{zeros}\n"),
        format!("pinned:{zeros}:{}", "ab".repeat(32)),
        format!("pinned:{one}:{zeros}"),
    ] {
        let path = temporary("zeros", key.as_bytes());
        for command in ["send", "recv"] {
            let refused = run(&[command, "nobody", "--encrypt", "--key-file", path.to_str().unwrap()]);
            let said = text(&refused.stderr);
            assert_eq!(refused.status.code(), Some(2), "{key}: {said}");
            assert!(said.contains("openssl rand -hex 32"), "{key}: {said}");
            assert!(said.contains("key of zeros") || key.starts_with("pinned:"), "{key}: {said}");
        }
        std::fs::remove_file(path).unwrap();
    }
    let path = temporary("one", one.as_bytes());
    assert_eq!(
        run(&["send", "nobody", "--encrypt", "--key-file", path.to_str().unwrap()]).status.code(),
        Some(3)
    );
    std::fs::remove_file(path).unwrap();
}
