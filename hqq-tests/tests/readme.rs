//! Checks the README: its programs are the example, its commands exist, its links resolve.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What stands in the blocks of a language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once("\n```") {
        let (head, body) = begun.split_once('\n').expect("a block has lines");
        let (block, after) = body.split_once("```").expect("a block ends");
        if head == language {
            blocks.push(block);
        }
        rest = after;
    }
    blocks
}

/// Where the text's links go, those to the web left out.
fn links(text: &str) -> Vec<&str> {
    let ends = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    ends.filter(|link| !link.starts_with("http")).collect()
}

#[test]
fn blocks_and_links_are_found() {
    let text = "a [b](c/d.md#e) [f](http://g)\n```sh\nls\n```\n\n```rust\nx\ny\n```\n```text\n```\n";
    assert_eq!(blocks(text, "rust"), ["x\ny\n"]);
    assert_eq!(blocks(text, "sh"), ["ls\n"]);
    assert_eq!(links(text), ["c/d.md"]);
}

#[test]
fn its_programs_are_those_of_the_example() {
    let readme = text("README.md");
    let programs = [text("examples/pair/camera.rs"), text("examples/pair/viewer.rs")];
    assert_eq!(blocks(&readme, "rust"), programs);
    let code = |program: &String| {
        let is_code = |line: &&str| !line.trim().is_empty() && !line.starts_with("//");
        program.lines().filter(is_code).count()
    };
    let lines: usize = programs.iter().map(code).sum();
    assert!(lines <= 22, "the pair has grown to {lines} lines");
}

#[test]
fn it_names_the_two_commands() {
    let readme = text("README.md");
    let commands = blocks(&readme, "sh").concat();
    for command in ["cargo run --release -- demo", "cargo xtask test"] {
        let named = commands.lines().any(|line| line.split('#').next().unwrap_or_default().trim() == command);
        assert!(named, "{command}");
    }
}

#[test]
fn its_picture_is_that_of_the_crate() {
    let readme = text("README.md");
    let picture = blocks(&readme, "text").concat();
    let head: String = text("src/lib.rs")
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|l| format!("{l}\n"))
        .collect();
    assert!(picture.contains("SUPERBLOCK"));
    for line in picture.lines() {
        assert!(head.contains(line), "not in src/lib.rs: {line}");
    }
}

#[test]
fn its_links_lead_somewhere_and_every_example_is_listed() {
    let readme = text("README.md");
    let links = links(&readme);
    let missing: Vec<_> = links.iter().filter(|link| !root().join(link).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for entry in fs::read_dir(root().join("examples")).expect("there are examples") {
        let path = entry.expect("it can be read").path();
        let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
        if path.is_file() || path.join("main.rs").exists() {
            assert!(readme.contains(&format!("| [`{name}`](examples/{name}")), "{name}");
        }
    }
}
