//! `hqq demo`, `bench`, `ls`, `stat`, `check`, and invalid command lines.

mod common;

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use common::{Running, hqq, name, run, text, until};
use serde_json::Value;

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}:\n{}", text(bytes)))
}

fn pid(process: &Running) -> u64 {
    process.0.id().into()
}

fn small_file() -> std::path::PathBuf {
    let path = std::env::temp_dir().join(name());
    std::fs::write(&path, vec![7; 200_001]).unwrap();
    path
}

#[test]
fn the_demonstration_verifies_everything() {
    let file = small_file();
    for size in [None, Some("8"), Some("49"), Some("5000")] {
        let mut args = vec!["demo", "--messages", "2001", "--json", "--file", file.to_str().unwrap()];
        args.extend(size.iter().flat_map(|size| ["--size", size]));
        let demo = run(&args);
        assert_eq!(demo.status.code(), Some(0), "{}", text(&demo.stderr));
        let facts = json(&demo.stdout);
        assert_eq!(facts["messages"], 2001);
        assert_eq!(facts["verified"], true);
        assert_eq!(facts["left_behind"], Value::Array(Vec::new()));
        let file = 2 * 200_001;
        if let Some(size) = size {
            assert_eq!(facts["bytes"], 2001 * size.parse::<u64>().unwrap() + file);
        }
        let rtt = &facts["rtt_ns"];
        let order = ["p50", "p99", "p999", "max"].map(|key| rtt[key].as_u64().unwrap());
        assert!(order[0] > 0 && order.is_sorted(), "{rtt}");
        for key in ["messages_per_second", "bytes_per_second"] {
            assert!(facts[key].as_f64().unwrap() > 0.0, "{key}");
        }
        assert_eq!(text(&demo.stderr), "");
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn the_demonstration_speaks_to_people_and_traces_packets() {
    let (file, trace) = (small_file(), std::env::temp_dir().join(name()));
    let demo = hqq(&["demo", "--messages", "20", "--file", file.to_str().unwrap()])
        .arg("--trace")
        .arg(&trace)
        .output()
        .unwrap();
    let said = text(&demo.stdout);
    assert_eq!(demo.status.code(), Some(0), "{}", text(&demo.stderr));
    assert!(said.contains("everything verified") && said.contains("left behind"), "{said}");
    assert!(!said.contains('\u{1b}'), "no colours without a terminal");
    let packets = std::fs::read_to_string(&trace).unwrap();
    let mut roles = [0, 0];
    for line in packets.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(words.len() >= 6 && words[0].parse::<f64>().is_ok() && words[1] == "pid", "{line}");
        roles[usize::from(words[3] == "secondary")] += 1;
    }
    assert!(roles[0] > 20 && roles[0] == roles[1], "{roles:?}: each packet is sent and received");
    std::fs::remove_file(file).unwrap();
    std::fs::remove_file(trace).unwrap();
}

#[test]
fn a_killed_second_process_fails_the_demonstration() {
    let mut demo = Running::start(&mut hqq(&["demo", "--messages", "100000000000", "--json"]));
    let child = child(&demo, b"demo-second");
    // The link exists when its region does.
    until("the link", || run(&["stat", &child]).status.success());
    assert!(hqq_kill(&child));
    let (code, errors) = demo.code_and_errors();
    assert_eq!(code, Some(4), "{errors}");
    assert!(errors.contains("the second process was killed") && errors.contains("by signal 9"), "{errors}");
}

#[test]
fn the_first_process_says_itself_why_there_is_no_link() {
    // The region has 64 MiB, which are more than the address space that is left.
    let script = "ulimit -v 65536 && exec \"$0\" demo --messages 10 --size 1048576";
    let demo = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_hqq")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = text(&demo.stderr);
    assert_eq!(demo.status.code(), Some(6), "{errors}");
    assert!(errors.contains("hqq: error: mapping the region failed: there is no room for"), "{errors}");
    assert!(errors.contains("the limit on address space is 67108864 bytes (ulimit -v)"), "{errors}");
    assert!(!errors.contains("handshake") && !errors.contains("exit code"), "{errors}");
}

#[test]
fn a_program_that_was_replaced_starts_its_second_process() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_hqq"));
    let gone = program.with_file_name(name());
    std::fs::hard_link(program, &gone).unwrap();
    let file = std::fs::File::open(&gone).unwrap();
    std::fs::remove_file(&gone).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&file));
    for args in [
        &["demo", "--messages", "10"][..],
        &["bench", "--rounds", "1", "--case", "slot", "--payload", "8", "--system", "raw"],
    ] {
        let done = std::process::Command::new(&path).args(args).stdin(Stdio::null()).output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{args:?}: {}", text(&done.stderr));
    }
}

#[test]
fn a_demonstration_does_not_take_things_of_others_for_its_own() {
    let file = small_file();
    let args = ["demo", "--messages", "100000", "--file", file.to_str().unwrap()];
    let mut demo = Running::start(&mut hqq(&args));
    // Others bind names that end as its process id does, and share files.
    let _listener = hqq::Listener::bind(&format!("{}.{}", name(), pid(&demo))).unwrap();
    let shared = std::path::PathBuf::from(format!("/dev/shm/hqq-{}", name()));
    let shared = std::fs::File::create_new(&shared).map(|_| shared);
    let ended = demo.code_and_errors();
    std::fs::remove_file(file).unwrap();
    let _ = shared.map(std::fs::remove_file);
    assert_eq!(ended, (Some(0), String::new()));
}

/// The process that `process` has started, once it runs that command.
fn child(process: &Running, command: &[u8]) -> String {
    let children = format!("/proc/{0}/task/{0}/children", pid(process));
    let mut child = String::new();
    until("the second process", || {
        child = std::fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
        // By then it is this program, and no copy of its parent.
        let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        !child.is_empty() && line.windows(command.len()).any(|word| word == command)
    });
    child
}

fn hqq_kill(pid: &str) -> bool {
    std::process::Command::new("sh").args(["-c", &format!("kill -9 {pid}")]).status().unwrap().success()
}

#[test]
fn measurements_come_as_rows() {
    let old = std::env::temp_dir().join(format!("{}.json", name()));
    let svg = old.with_extension("svg");
    let (old_path, svg_path) = (old.to_str().unwrap(), svg.to_str().unwrap());
    let bench = run(&["bench", "--rounds", "2", "--json", "--svg", svg_path]);
    assert_eq!(bench.status.code(), Some(0), "{}", text(&bench.stderr));
    let facts = json(&bench.stdout);
    let rows = facts["rows"].as_array().unwrap();
    for case in [
        "slot",
        "pool",
        "untouched",
        "copy",
        "sleeping",
        "paced",
        "throughput_mpmc",
        "throughput_spsc",
        "batch",
        "crowd",
        "stream",
        "setup",
    ] {
        let of = |system: &str| rows.iter().find(|row| row["system"] == system && row["case"] == case);
        let hqq = if case == "throughput_spsc" { "hqq-spsc" } else { "hqq" };
        assert!(of(hqq).is_some(), "{case}");
    }
    for row in rows {
        let positive = |key: &str| row[key].as_f64().is_some_and(|value| value > 0.0 && value.is_finite());
        assert!(positive("ratio_to_raw") && positive("payload"), "{row}");
        let rtt = &row["rtt_ns"];
        let order = ["p50", "p99", "p999", "p9999", "max"].map(|key| rtt[key].as_u64().unwrap_or_default());
        let timed = order[0] > 0 && order.is_sorted();
        assert!(timed != (positive("messages_per_second") || positive("bytes_per_second")), "{row}");
        if row["system"] == row["raw"] {
            assert_eq!(row["ratio_to_raw"], 1.0, "{row}");
        }
    }
    assert!(std::fs::read_to_string(&svg).unwrap().starts_with("<svg"));

    // What a system is compared with is measured besides; other figures are left alone.
    std::fs::write(&old, &bench.stdout).unwrap();
    let args = ["bench", "--rounds", "1", "--case", "slot", "--payload", "8", "--system", "hqq"];
    let table = run(&[&args[..], &["--compare", old_path]].concat());
    let said = text(&table.stdout);
    assert_eq!(table.status.code(), Some(0), "{}", text(&table.stderr));
    assert!(said.starts_with("slot: ") && said.contains("\nraw ") && said.contains("\nhqq "), "{said}");
    assert!(said.contains("CHANGE") && said.contains(" %") && !said.contains("hqq-spsc"), "{said}");
    let csv = text(&run(&[&args[..], &["--csv"]].concat()).stdout);
    assert_eq!(csv.lines().count(), 3, "{csv}");
    assert!(csv.starts_with("system,case,payload,"), "{csv}");
    std::fs::remove_file(old).unwrap();
    std::fs::remove_file(svg).unwrap();
}

#[test]
fn presets_are_measured_beside_each_other() {
    const PRESETS: [&str; 4] = ["default", "large-buffers", "high-throughput", "low-latency"];
    let bench = run(&["bench", "--presets", "--rounds", "1"]);
    assert_eq!(bench.status.code(), Some(0), "{}", text(&bench.stderr));
    let said = text(&bench.stdout);
    let lines: Vec<&str> = said.lines().collect();
    let heading: Vec<&str> = lines[0].split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(
        heading,
        [
            "PRESET",
            "8 B P50",
            "P99",
            "1 KIB P50",
            "P99",
            "RARE P50",
            "P99",
            "CPU",
            "OF 8 B",
            "OF 1 KIB",
            "OF 1 MIB"
        ]
    );
    for (line, preset) in lines[1..].iter().zip(PRESETS) {
        let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!((cells[0], cells.len()), (preset, heading.len()), "{line}");
        assert!(cells[1..].iter().all(|cell| cell.starts_with(|c: char| c.is_ascii_digit())), "{line}");
    }
    let bench = run(&["bench", "--presets", "--rounds", "1", "--json"]);
    let facts = json(&bench.stdout);
    let rows = facts["rows"].as_array().unwrap();
    for preset in PRESETS {
        let rows: Vec<_> = rows.iter().filter(|row| row["system"] == preset).collect();
        assert_eq!(rows.len(), 6, "{preset}");
        assert!(rows.iter().all(|row| row["raw"] == "default"), "{preset}");
    }
    assert_eq!(run(&["bench", "--presets", "--case", "slot"]).status.code(), Some(2));
}

#[test]
fn agreements_are_measured_beside_doing_nothing() {
    let bench = run(&["bench", "--agreements", "--rounds", "1"]);
    assert_eq!(bench.status.code(), Some(0), "{}", text(&bench.stderr));
    let said = text(&bench.stdout);
    let names = [
        "link",
        "statistics",
        "lz4",
        "zstd",
        "chacha20",
        "aes-256",
        "reliable",
        "connection",
        "credit",
        "classes",
        "urgent",
        "urgent, bulk",
        "equal, bulk",
    ];
    let rows: Vec<Vec<&str>> = said
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(rows[0], ["AGREED", "8 B P50", "P99", "×", "A MESSAGE", "×", "A GIB", "×"]);
    for (row, name) in rows[1..].iter().zip(names) {
        assert_eq!((row[0], row.len()), (name, 8), "{said}");
        let figures = if name.contains("urgent") || name.contains("equal") { 1..4 } else { 1..8 };
        assert!(row[figures].iter().all(|cell| cell.starts_with(|c: char| c.is_ascii_digit())), "{row:?}");
    }
    assert_eq!(run(&["bench", "--agreements", "--presets"]).status.code(), Some(2));
}

#[test]
fn measurements_that_cannot_be_made() {
    let wrong = |args: &[&str]| {
        let wrong = run(&[&["bench"], args].concat());
        (wrong.status.code(), text(&wrong.stderr))
    };
    let (code, said) = wrong(&["--case", "line"]);
    assert!(code == Some(2) && said.contains("slot") && said.contains("throughput_spsc"), "{said}");
    let (code, said) = wrong(&["latency"]);
    assert!(code == Some(2) && said.contains("hqq bench --case latency"), "{said}");
    let (code, said) = wrong(&["--system", "pigeon"]);
    assert!(code == Some(2) && said.contains("hqq-spsc-spin") && said.contains("proto-mpmc"), "{said}");
    let (code, said) = wrong(&["--case", "slot", "--payload", "64"]);
    assert!(code == Some(2) && said.contains("hint"), "{said}");
    assert_eq!(wrong(&["--compare", "/no/such/file"]).0, Some(6));
    assert_eq!(wrong(&["--compare", "/proc/version"]).0, Some(2));
    assert_eq!(wrong(&["--svg", "/no/such/folder/picture.svg"]).0, Some(6));
    assert_eq!(wrong(&["--json", "--csv"]).0, Some(2));
}

#[test]
fn a_killed_second_process_fails_the_measurement() {
    let mut bench = Running::start(&mut hqq(&["bench", "--rounds", "100000", "--case", "slot", "--json"]));
    let child = child(&bench, b"bench-second");
    assert!(hqq_kill(&child));
    let (code, errors) = bench.code_and_errors();
    assert_eq!(code, Some(4), "{errors}");
    assert!(errors.contains("the second process"), "{errors}");
}

#[test]
fn a_live_link_is_listed_counted_and_checked() {
    let name = name();
    let recv = Running::start(&mut hqq(&["recv", &name]));
    let mut send = Running::start(hqq(&["send", &name, "--wait", "60"]).stdin(Stdio::piped()));
    let mut input = send.0.stdin.take().unwrap();
    input.write_all(&[1; 1000]).unwrap();
    // Counters may lag behind what one sees, so wait for them.
    let mut stat = Value::Null;
    until("the bytes are counted", || {
        let found = run(&["stat", &name, "--json"]);
        stat = serde_json::from_slice(&found.stdout).unwrap_or_default();
        stat["links"][0]["directions"][1]["bytes_received"] == 1000
    });
    let link = &stat["links"][0];
    assert_eq!(link["name"], *name);
    assert_eq!(link["directions"][1]["packets_sent"], 1);
    assert_eq!(link["directions"][0]["packets_sent"], 0);
    let seats = link["seats"].as_array().unwrap().iter();
    let pids: Vec<u64> = seats.map(|seat| seat["pid"].as_u64().unwrap()).collect();
    assert_eq!(pids, [pid(&recv), pid(&send)]);

    let listed = json(&run(&["ls", "--json"]).stdout);
    let listed = listed["links"].as_array().unwrap().iter().find(|link| link["name"] == *name);
    assert_eq!(listed.unwrap()["processes"].as_array().unwrap().len(), 2);
    assert!(text(&run(&["ls"]).stdout).contains(&name));

    // The sender holds the buffer that its next input goes to.
    let by_pid = run(&["check", &pid(&send).to_string(), "--json"]);
    assert_eq!(by_pid.status.code(), Some(0), "{}", text(&by_pid.stderr));
    let checked = json(&by_pid.stdout);
    assert_eq!(checked["ok"], true);
    let mut held = checked["links"][0]["held_buffers"].clone();
    until("the sender has a buffer", || {
        held = json(&run(&["check", &name, "--json"]).stdout)["links"][0]["held_buffers"].clone();
        held.as_array().unwrap().iter().any(|buffer| buffer["pid"] == pid(&send))
    });
    let said = text(&run(&["check", &name]).stdout);
    assert!(said.contains("every control word is valid"), "{said}");
    assert!(said.contains(&format!("process {}, seat 1", pid(&send))), "{said}");
    let said = text(&run(&["stat", &name]).stdout);
    assert!(said.contains("bytes received") && said.contains("1,000"), "{said}");
    drop(input);
    assert_eq!(send.end().code(), Some(0));
}

#[test]
fn a_word_that_nobody_may_leave_is_found() {
    let name = name();
    let _recv = Running::start(&mut hqq(&["recv", &name]));
    let mut send = Running::start(hqq(&["send", &name, "--wait", "60"]).stdin(Stdio::piped()));
    let _input = send.0.stdin.take().unwrap();
    let mut stat = Value::Null;
    until("both have joined", || {
        let found = run(&["stat", &name, "--json"]);
        stat = serde_json::from_slice(&found.stdout).unwrap_or_default();
        stat["links"][0]["seats"].as_array().is_some_and(|seats| seats.len() == 2)
    });
    // The first words behind the superblock, which has a page, are slots; zero is in none of them.
    let (process, page) = (&stat["links"][0]["processes"][0], stat["links"][0]["page"].as_u64().unwrap());
    let region = format!("/proc/{}/fd/{}", process["pid"], process["fd"]);
    let region = std::fs::File::options().read(true).write(true).open(region).unwrap();
    region.write_all_at(&[0; 64], page).unwrap();

    let check = run(&["check", &name]);
    assert_eq!(check.status.code(), Some(1));
    let said = text(&check.stdout);
    assert!(said.contains("wrong: slot 0 of ring 0"), "{said}");
    assert!(text(&check.stderr).contains("1 invalid control word(s)"), "{}", text(&check.stderr));
    let check = run(&["check", &name, "--json"]);
    assert_eq!(check.status.code(), Some(1));
    let facts = json(&check.stdout);
    assert_eq!((&facts["ok"], &facts["links"][0]["findings"][0]["offset"]), (&false.into(), &page.into()));
}

#[test]
fn links_that_are_not_there() {
    for command in ["stat", "check"] {
        for which in [name(), "1999999999".into()] {
            let none = run(&[command, &which]);
            assert_eq!(none.status.code(), Some(3));
            assert!(text(&none.stderr).contains("hqq ls"), "{}", text(&none.stderr));
        }
    }
}

#[test]
fn wrong_command_lines() {
    for args in [
        &["demo", "--messages", "many"][..],
        &["demo", "--size", "7"],
        &["demo", "--size", "1048577"],
        &["bench", "speed"],
        &["bench", "--rounds", "0"],
        &["bench", "--payload", "0"],
        &["send"],
        &["recv", "x", "--wait", "soon"],
        &["nothing"],
        &[],
    ] {
        let wrong = run(args);
        assert_eq!(wrong.status.code(), Some(2), "{args:?}");
        assert!(!wrong.stderr.is_empty());
    }
    let missing = run(&["demo", "--file", "/no/such/file"]);
    assert_eq!(missing.status.code(), Some(6));
    assert!(text(&missing.stderr).contains("/no/such/file"));
    assert_eq!(run(&["demo", "--file", "/proc"]).status.code(), Some(2));
}

#[test]
fn help_shows_examples_and_exit_codes() {
    let help = text(&run(&["--help"]).stdout);
    assert!(help.contains("Exit codes:") && help.contains("the link broke"), "{help}");
    assert!(!help.contains("demo-second"), "{help}");
    for command in ["demo", "send", "recv", "bench", "ls", "stat", "check"] {
        let help = text(&run(&[command, "--help"]).stdout);
        assert!(help.contains("Examples:"), "{help}");
    }
    let version = text(&run(&["--version"]).stdout);
    assert_eq!(version, format!("hqq {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn colours_only_where_wanted() {
    let name = name();
    let colours =
        |command: &mut std::process::Command| text(&command.output().unwrap().stderr).contains('\u{1b}');
    assert!(!colours(&mut hqq(&["send", &name])), "no terminal");
    assert!(colours(hqq(&["send", &name]).env("CLICOLOR_FORCE", "1")), "asked for");
    assert!(!colours(hqq(&["send", &name]).env("NO_COLOR", "1")));
}

#[test]
fn an_output_that_is_closed_early_is_no_error() {
    let mut ls = Running::start(&mut hqq(&["ls", "--json"]));
    drop(ls.0.stdout.take());
    assert_eq!(ls.code_and_errors().0, Some(0));
}
