//! `hqq stat` of a link that agreed on statistics: as a table, as JSON, and for Prometheus.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{ChildStdin, Stdio};

use common::{Running, hqq, name, run, text, until};
use serde_json::Value;

/// A sender and a receiver that measure, after the first message.
fn measuring(name: &str) -> (Running, Running, ChildStdin) {
    let recv = Running::start(&mut hqq(&["recv", name, "--statistics", "--compress", "lz4"]));
    let args = ["send", name, "--wait", "60", "--statistics", "--compress", "lz4"];
    let mut send = Running::start(hqq(&args).stdin(Stdio::piped()));
    let mut input = send.0.stdin.take().unwrap();
    input.write_all(&[1; 1000]).unwrap();
    until("there is a sample", || statistics(name)[1]["latency"]["samples"].as_u64() >= Some(1));
    (recv, send, input)
}

fn statistics(name: &str) -> Value {
    let stat = run(&["stat", name, "--json"]);
    let facts: Value = serde_json::from_slice(&stat.stdout).unwrap_or_default();
    facts["links"][0]["statistics"].clone()
}

#[test]
fn a_link_that_measures_says_what() {
    let name = name();
    let (_recv, _send, _input) = measuring(&name);
    let ways = statistics(&name);
    let latency = &ways[1]["latency"];
    let order = ["p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"].map(|key| latency[key].as_u64().unwrap());
    assert!(order[0] > 0 && order.is_sorted(), "{latency}");
    let samples =
        latency["buckets"].as_array().unwrap().iter().map(|bucket| bucket["samples"].as_u64().unwrap());
    assert_eq!(samples.sum::<u64>(), latency["samples"].as_u64().unwrap());
    assert_eq!((&ways[1]["framed_messages"], &ways[1]["plain_bytes"]), (&1.into(), &1000.into()));
    assert!(ways[1]["ratio"].as_f64().unwrap() > 1.0, "{ways}");
    assert_eq!((&ways[0]["latency"]["samples"], &ways[0]["latency"]["p50_ns"]), (&0.into(), &Value::Null));
    assert_eq!((&ways[0]["ratio"], &ways[1]["credit_stalls"]), (&Value::Null, &0.into()));
    let said = text(&run(&["stat", &name]).stdout);
    for row in ["latency p50", "latency p99.9", "latency max", "compression ratio", "waits for credit"] {
        assert!(said.contains(row), "{row}: {said}");
    }
}

#[test]
fn a_link_that_does_not_has_none() {
    let name = name();
    let _recv = Running::start(&mut hqq(&["recv", &name]));
    let mut send = Running::start(hqq(&["send", &name, "--wait", "60"]).stdin(Stdio::piped()));
    let mut input = send.0.stdin.take().unwrap();
    input.write_all(&[1; 1000]).unwrap();
    until("the link is there", || run(&["stat", &name]).status.success());
    assert_eq!(statistics(&name), Value::Null);
    assert!(!text(&run(&["stat", &name]).stdout).contains("latency"));
    let metrics = text(&run(&["stat", &name, "--prometheus"]).stdout);
    let families = parsed(&metrics);
    assert!(families.contains_key("hqq_packets_sent_total") && !metrics.contains("latency"), "{metrics}");
}

#[test]
fn prometheus_is_told_in_its_format() {
    // All characters that a name may contain besides letters and digits.
    let name = format!("{}._-", name());
    let (_recv, _send, _input) = measuring(&name);
    let told = run(&["stat", &name, "--prometheus"]);
    assert_eq!(told.status.code(), Some(0));
    let families = parsed(&text(&told.stdout));
    let kind = |name: &str| families[name].kind.as_str();
    assert_eq!((kind("hqq_latency_seconds"), kind("hqq_sent_bytes_total")), ("histogram", "counter"));
    assert!(families.values().flat_map(|family| &family.samples).all(|sample| sample.labels["link"] == name));
    let latency = &families["hqq_latency_seconds"];
    for direction in ["primary_to_secondary", "secondary_to_primary"] {
        let of = |suffix: &str| -> Vec<&Sample> {
            let name = format!("hqq_latency_seconds{suffix}");
            let here = |sample: &&Sample| sample.name == name && sample.labels["direction"] == direction;
            latency.samples.iter().filter(here).collect()
        };
        let (buckets, count) = (of("_bucket"), of("_count"));
        let bounds: Vec<f64> = buckets.iter().map(|bucket| number(&bucket.labels["le"])).collect();
        let counts: Vec<f64> = buckets.iter().map(|bucket| bucket.value).collect();
        assert!(bounds.is_sorted() && counts.is_sorted() && bounds.len() < 40, "{bounds:?} {counts:?}");
        assert_eq!((bounds.last(), counts.last()), (Some(&f64::INFINITY), Some(&count[0].value)));
        assert_eq!((count.len(), of("_sum").len()), (1, 1));
        assert_eq!(count[0].value > 0.0, direction == "secondary_to_primary");
        assert_eq!(of("_sum")[0].value > 0.0, direction == "secondary_to_primary");
    }
}

#[test]
fn one_format_at_a_time() {
    let both = run(&["stat", "any", "--json", "--prometheus"]);
    assert_eq!(both.status.code(), Some(2));
    let help = text(&run(&["stat", "--help"]).stdout);
    assert!(help.contains("--prometheus") && help.contains("AdvancedOptions::statistics"), "{help}");
}

/// A side that asks for statistics alone reports that there are none.
#[test]
fn the_other_must_measure_too() {
    let name = name();
    let mut recv = Running::start(&mut hqq(&["recv", &name, "--quiet"]));
    let send = hqq(&["send", &name, "--wait", "60", "--statistics"]).output().unwrap();
    assert_eq!((send.status.code(), recv.code_and_errors().0), (Some(0), Some(0)));
    assert!(text(&send.stderr).contains("not measured: "), "{}", text(&send.stderr));
}

#[derive(Debug)]
struct Family {
    kind: String,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

fn number(text: &str) -> f64 {
    text.strip_prefix('+').unwrap_or(text).parse().unwrap_or_else(|_| panic!("{text}: a number"))
}

fn is_name(text: &str) -> bool {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(starts) && text.chars().all(|c| starts(c) || c.is_ascii_digit())
}

/// Reads the text format strictly: HELP, TYPE, then all samples of a family, each series once.
fn parsed(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n') && !text.contains("\n\n"), "whole lines");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut current, mut helped) = (String::new(), String::new());
    let mut series = BTreeSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(is_name(name) && !words.is_empty() && !words.contains('\\'), "{line}");
            helped = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert_eq!(name, helped, "{line}");
            name.clone_into(&mut current);
            let family = Family { kind: kind.to_owned(), samples: Vec::new() };
            assert!(families.insert(current.clone(), family).is_none(), "{line}: each family once");
        } else {
            let sample = sample(line);
            let family = families.get_mut(&current).unwrap_or_else(|| panic!("{line}: of no family"));
            let suffix =
                sample.name.strip_prefix(&current).unwrap_or_else(|| panic!("{line}: of another family"));
            let allowed: &[&str] =
                if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(allowed.contains(&suffix), "{line}");
            assert!(series.insert((sample.name.clone(), sample.labels.clone())), "{line}: each series once");
            family.samples.push(sample);
        }
    }
    families
}

/// `name{label="value",...} number`
fn sample(line: &str) -> Sample {
    let (name, rest) = line.split_once('{').unwrap_or_else(|| panic!("{line}: no labels"));
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    while let Some((label, behind)) = rest.split_once("=\"") {
        assert!(is_name(label), "{line}");
        let (mut value, mut chars) = (String::new(), behind.chars());
        loop {
            match chars.next().unwrap_or_else(|| panic!("{line}: a value ends")) {
                '"' => break,
                '\\' => value.push(match chars.next() {
                    Some('n') => '\n',
                    Some(c @ ('\\' | '"')) => c,
                    other => panic!("{line}: \\{other:?}"),
                }),
                c => value.push(c),
            }
        }
        assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
        rest = chars.as_str();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    let value = rest.strip_prefix("} ").unwrap_or_else(|| panic!("{line}: no value"));
    Sample { name: name.to_owned(), labels, value: number(value) }
}
