//! What others have open beside a link: regions that cannot be read or that come and go, and names that give orders.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::{ChildStdin, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Running, hqq, name, run, text, until};
use hqq::{Listener, StandardLink};
use hqq_sys::mem;
use serde_json::Value;

/// A receiver and a sender that are linked by this name.
fn linked(name: &str) -> (Running, Running, ChildStdin) {
    let recv = Running::start(&mut hqq(&["recv", name]));
    let mut send = Running::start(hqq(&["send", name, "--wait", "60"]).stdin(Stdio::piped()));
    let mut input = send.0.stdin.take().unwrap();
    input.write_all(&[1; 1000]).unwrap();
    until("both have joined", || {
        let stat = json(&run(&["stat", name, "--json"]));
        stat["links"][0]["seats"].as_array().is_some_and(|seats| seats.len() == 2)
    });
    (recv, send, input)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The output of a command that succeeds, and its messages.
fn shown(args: &[&str]) -> (String, String) {
    let done = run(args);
    let (output, errors) = (text(&done.stdout), text(&done.stderr));
    assert_eq!(done.status.code(), Some(0), "{args:?}: {errors}");
    (output, errors)
}

#[test]
fn a_region_that_cannot_be_read_hides_no_link() {
    let name = name();
    let bad = mem::create(&format!("hqq:{name}"), 4096).unwrap();
    for command in ["stat", "check"] {
        let alone = run(&[command, &name]);
        assert_eq!(alone.status.code(), Some(6), "{command}");
        assert!(text(&alone.stderr).contains("only a sealed memfd"), "{}", text(&alone.stderr));
    }
    let (mut recv, mut send, input) = linked(&name);
    for args in [&["stat", &name][..], &["check", &name]] {
        let (output, _) = shown(args);
        assert!(output.contains("seat 0: ") && output.contains("cannot be read: only a sealed"), "{output}");
    }
    for args in [&["stat", &name, "--json"][..], &["check", &name, "--json"]] {
        let links = json(&run(args))["links"].take();
        assert_eq!(links.as_array().map(Vec::len), Some(2), "{links}");
        assert!(links[0]["error"].is_null() && links[0]["slots"].is_u64(), "{links}");
        assert!(links[1]["error"].as_str().unwrap().contains("only a sealed memfd"), "{links}");
    }
    let (metrics, errors) = shown(&["stat", &name, "--prometheus"]);
    let sent = format!("hqq_sent_bytes_total{{link=\"{name}\",direction=\"secondary_to_primary\"}} 1000\n");
    assert!(metrics.contains(&sent), "{metrics}");
    assert!(errors.contains("cannot be read: only a sealed memfd"), "{errors}");
    let (list, errors) = shown(&["ls"]);
    assert_eq!(list.lines().filter(|line| line.starts_with(&name)).count(), 2, "{list}");
    assert!(errors.contains(&format!("{name}, open in ")), "{errors}");
    drop(bad);
    assert!(!shown(&["stat", &name]).0.contains("cannot be read"));
    drop(input);
    assert_eq!((send.end().code(), recv.code_and_errors()), (Some(0), (Some(0), String::new())));
}

#[test]
fn links_that_come_and_go_hide_none_that_stays() {
    let name = name();
    let listener = Listener::bind(&name).unwrap();
    let accepted = || listener.accept_timeout(Duration::from_millis(50)).ok();
    let stop = AtomicBool::new(false);
    let stays = std::thread::scope(|scope| {
        let connected = scope.spawn(|| StandardLink::connect(&name).unwrap());
        let mut accepted = None;
        until("a link", || {
            accepted = listener.accept_timeout(Duration::from_secs(1)).ok();
            accepted.is_some()
        });
        (connected.join().unwrap(), accepted)
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                drop(accepted());
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = StandardLink::connect_timeout(&name, Duration::from_millis(50));
            }
        });
        let looked = (0..40).map(|turn| {
            let command = [&["stat", &name, "--prometheus"][..], &["stat", &name], &["check", &name]];
            run(command[turn % 3])
        });
        let failed: Vec<_> = looked.filter(|looked| looked.status.code() != Some(0)).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(failed.is_empty(), "{} of 40 failed: {}", failed.len(), text(&failed[0].stderr));
    });
    drop(stays);
}

/// A copy of a link's region that has another name.
fn copied(link: &str, name: &str) -> OwnedFd {
    let stat = json(&run(&["stat", link, "--json"]));
    let process = &stat["links"][0]["processes"][0];
    let region = File::open(format!("/proc/{}/fd/{}", process["pid"], process["fd"])).unwrap();
    let mut bytes = vec![0; region.metadata().unwrap().len() as usize];
    region.read_exact_at(&mut bytes, 0).unwrap();
    let memfd = File::from(mem::create(&format!("hqq:{name}"), bytes.len() as u64).unwrap());
    memfd.write_all_at(&bytes, 0).unwrap();
    mem::seal(memfd.as_fd()).unwrap();
    memfd.into()
}

#[test]
fn names_of_others_give_no_orders() {
    // Orders to a terminal, and lines that look like the command's own.
    let orders = "\u{1b}[2J\u{9b}1m\u{7f}\rx\nhqq_forged{} 1\nforged, open in 1";
    let name = name();
    let hostile = format!("{name}{orders}\"\\");
    let _linked = linked(&name);
    let _good = copied(&name, &hostile);
    let _bad = mem::create(&format!("hqq:bad{orders}"), 4096).unwrap();
    // The command name of this process.
    fs::write("/proc/self/comm", "a\u{1b}[1m\nforged").unwrap();
    let own = std::process::id().to_string();

    let escaped =
        format!("{name}\\u{{1b}}[2J\\u{{9b}}1m\\u{{7f}}\\rx\\nhqq_forged{{}} 1\\nforged, open in 1\"\\");
    let clean = |output: &str| output.chars().all(|c| c == '\n' || !c.is_control());
    for args in [&["ls"][..], &["stat", &own], &["check", &own]] {
        let (output, errors) = shown(args);
        assert!(clean(&output) && clean(&errors), "{args:?}: {output:?} {errors:?}");
        assert!(!(output + &errors).lines().any(|line| line.starts_with("forged")), "{args:?}");
        let (output, _) = shown(args);
        assert!(output.contains(&escaped) && output.contains("a\\u{1b}[1m\\nforged"), "{args:?}: {output}");
    }
    for args in [&["ls", "--json"][..], &["stat", &own, "--json"], &["check", &own, "--json"]] {
        let done = run(args);
        assert!(clean(&text(&done.stdout)), "{args:?}");
        let links = json(&done)["links"].take();
        let named = |link: &&Value| link["name"] == *hostile;
        let link = links.as_array().unwrap().iter().find(named).expect("the name as it is");
        assert_eq!(link["processes"][0]["command"], "a\u{1b}[1m\nforged");
    }
    // The format escapes these three characters, and takes all others as they are.
    let (metrics, errors) = shown(&["stat", &own, "--prometheus"]);
    let label = hostile.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    assert!(metrics.contains(&format!("{{link=\"{label}\",")), "{metrics}");
    let lines = |line: &str| line.starts_with("# ") || line.contains("{link=\"");
    assert!(metrics.split_terminator('\n').all(lines) && clean(&errors), "{metrics} {errors}");
    // An error names what it is about.
    let wrong = run(&["stat", orders]);
    assert_eq!((wrong.status.code(), clean(&text(&wrong.stderr))), (Some(3), true));
}
