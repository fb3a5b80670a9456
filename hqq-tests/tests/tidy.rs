//! The rules about the source, as tests. `CONTRIBUTING.md` explains them; the numbers are its numbers.
//!
//! Each rule is a function from text to violations. Its first test hands it the tree. Its second test hands it a
//! violation and expects that it is found.
//!
//! `tidy/imports.rs` has the rules about imports between files, `tidy/crates.rs` those about dependencies between
//! crates.

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/source.rs"]
mod source;

use source::{Parted, files, judge, line_of, root, sources, text, words};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The files of `src/` that open with a table of their ordering edges.
const TABLES: [&str; 5] = ["shm/ring.rs", "shm/pool.rs", "shm/sleepers.rs", "shm/seats.rs", "shm/recover.rs"];

/// The files of `src/` where raw memory is handled.
const RAW: [&str; 4] = ["shm/region.rs", "shm/region/direction.rs", "shm/region/owned.rs", "shm/buffer.rs"];

const LONGEST: usize = 700;

// ---- 4: unsafe ----------------------------------------------------------------------------------

fn raw_violations(name: &str, text: &str) -> Vec<String> {
    let in_src = name.strip_prefix("src/");
    let first = text.lines().next().unwrap_or_default();
    let says_why = first.starts_with("//") && words(first, "unsafe").next().is_some();
    let folders = ["hqq-sys/", "hqq-tokio/", "bindings/"];
    if folders.iter().any(|folder| name.starts_with(folder))
        || in_src.is_some_and(|file| RAW.contains(&file))
        || (["hqq-tests/", "loom-tests/", "benches/peers/"].iter().any(|tests| name.starts_with(tests))
            && says_why)
    {
        return Vec::new();
    }
    let code = Parted::new(text).code;
    let found = words(&code, "unsafe");
    found
        .map(|at| {
            let line = line_of(&code, at);
            format!("{name}:{line}: unsafe is not for this file; call hqq-sys or the files that RAW in tidy.rs lists")
        })
        .collect()
}

/// Of `hqq-tokio/`, only the file that registers with tokio may handle raw memory.
fn registration_violations(sources: &[(String, String)]) -> Vec<String> {
    let own = sources.iter().filter(|(name, _)| name.starts_with("hqq-tokio/"));
    let raw: Vec<String> = own
        .filter_map(|(name, text)| {
            let code = Parted::new(text).code;
            let at = words(&code, "unsafe").next()?;
            Some(format!("{name}:{}", line_of(&code, at)))
        })
        .collect();
    let several = raw.len() > 1;
    several
        .then(|| format!("{}: unsafe in more than one file of hqq-tokio; keep it in one", raw.join(", ")))
        .into_iter()
        .collect()
}

#[test]
fn raw_memory_is_handled_in_few_files() {
    let sources = sources("");
    judge(sources.iter().flat_map(|(name, text)| raw_violations(name, text)));
    judge(registration_violations(&sources));
}

#[test]
fn raw_memory_elsewhere_is_found() {
    let block = "//! A file.\nfn f() { unsafe { g() } }\n";
    for name in [
        "src/shm/ring.rs",
        "src/setup/segment.rs",
        "cli/src/main.rs",
        "xtask/src/main.rs",
        "examples/a.rs",
        "hqq-tests/src/lib.rs",
        "hqq-tests/tests/a.rs",
        "hqq-features/src/a.rs",
        "protocols/wire/src/a.rs",
        "nodes/qp/src/a.rs",
    ] {
        assert_eq!(raw_violations(name, block).len(), 1, "{name}");
    }
    for name in ["src/shm/region.rs", "src/shm/buffer.rs", "hqq-sys/src/mem.rs", "bindings/c/src/lib.rs"] {
        assert_eq!(raw_violations(name, block).len(), 0, "{name}");
    }
    let why = format!("// unsafe: a hostile peer writes what it likes\n{block}");
    assert_eq!(raw_violations("hqq-tests/tests/a.rs", &why).len(), 0);
    assert_eq!(raw_violations("loom-tests/src/lib.rs", &why).len(), 0);
    assert_eq!(raw_violations("benches/peers/src/a.rs", &why).len(), 0);
    assert_eq!(raw_violations("benches/link.rs", &why).len(), 1);
    assert_eq!(raw_violations("loom-tests/src/lib.rs", block).len(), 1);
    assert_eq!(raw_violations("cli/tests/a.rs", &why).len(), 1);
    let tokio = ["a", "b"].map(|name| (format!("hqq-tokio/src/{name}.rs"), block.to_owned()));
    assert_eq!(registration_violations(&tokio).len(), 1);
    assert_eq!(registration_violations(&tokio[1..]).len(), 0);
    let words = "#![deny(unsafe_op_in_unsafe_fn)]\n// unsafe\nconst A: &str = \"unsafe\";";
    assert_eq!(raw_violations("src/shm/ring.rs", words).len(), 0);
}

// ---- 9: loom and shuttle ------------------------------------------------------------------------

/// The two explorers, each with the folder of its models.
const EXPLORERS: [(&str, &str); 2] = [("loom", "loom-tests/"), ("shuttle", "shuttle-tests/")];

fn explorer_violations(name: &str, text: &str) -> Vec<String> {
    if name == "src/sync.rs" {
        return Vec::new();
    }
    let code = Parted::new(text).code;
    let strange = EXPLORERS.into_iter().filter(|(_, folder)| !name.starts_with(folder));
    strange
        .flat_map(|(word, _)| {
            let found = words(&code, word);
            found.map(move |at| (word, at))
        })
        .map(|(word, at)| format!("{name}:{}: only src/sync.rs knows {word}", line_of(&code, at)))
        .collect()
}

#[test]
fn only_sync_knows_the_explorers() {
    let sources = sources("");
    judge(sources.iter().flat_map(|(name, text)| explorer_violations(name, text)));
}

#[test]
fn an_explorer_elsewhere_is_found() {
    let text = "#[cfg(not(loom))]\nuse loom::thread; // loom and shuttle\n";
    assert_eq!(explorer_violations("src/shm/ring.rs", text).len(), 2);
    assert_eq!(explorer_violations("hqq-tests/src/lib.rs", text).len(), 2);
    assert_eq!(explorer_violations("shuttle-tests/src/lib.rs", text).len(), 2);
    assert_eq!(explorer_violations("src/sync.rs", text).len(), 0);
    assert_eq!(explorer_violations("loom-tests/tests/ring.rs", text).len(), 0);
    let text = "#[cfg(shuttle)]\nuse shuttle::thread;\n";
    assert_eq!(explorer_violations("src/link/waiters.rs", text).len(), 2);
    assert_eq!(explorer_violations("loom-tests/tests/ring.rs", text).len(), 2);
    assert_eq!(explorer_violations("src/sync.rs", text).len(), 0);
    assert_eq!(explorer_violations("shuttle-tests/src/lib.rs", text).len(), 0);
}

// ---- 7: ordering edges --------------------------------------------------------------------------

/// What `edge(...)` names in a text, with where it stands.
fn edges(text: &str) -> impl Iterator<Item = (usize, &str)> {
    words(text, "edge").filter_map(|at| {
        let inner = text[at..].strip_prefix("edge(")?;
        inner.split_once(')').map(|(label, _)| (at, label))
    })
}

/// The labels in the first cells of tables: `ring.a` or `edge(ring.a)`, between backticks or not.
fn table_labels(text: &str) -> BTreeSet<&str> {
    let rows = text.lines().filter_map(|line| line.strip_prefix('|'));
    let cells = rows.filter_map(|row| row.split('|').next());
    cells
        .map(|cell| cell.trim().trim_matches('`'))
        .map(|cell| cell.strip_prefix("edge(").unwrap_or(cell))
        .map(|cell| cell.strip_suffix(')').unwrap_or(cell))
        .filter(|cell| is_label(cell) && !cell.ends_with(".rs"))
        .collect()
}

/// What the `//!` lines at the top of a file say.
fn head(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| format!("{}\n", line.trim())).collect()
}

fn is_label(label: &str) -> bool {
    let plain = |part: &str| {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        !part.is_empty() && part.chars().all(is_plain)
    };
    label.contains('.') && label.split('.').all(plain)
}

/// Every label has both its sides in `sources`, and stands in `document`.
fn edge_violations(sources: &[(String, String)], document: &str) -> Vec<String> {
    let mut violations = Vec::new();
    let mut sides: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for (name, text) in sources {
        known.extend(table_labels(&head(text)).into_iter().map(String::from));
        let comments = Parted::new(text).comments;
        for (at, label) in edges(&comments) {
            let place = format!("{name}:{}", line_of(&comments, at));
            if !is_label(label) {
                violations.push(format!("{place}: edge({label}) is no label"));
                continue;
            }
            known.insert(label.to_owned());
            // Only a plain comment that begins with the label marks a line of code.
            if !comments[..at].ends_with("// ") || comments[..at].ends_with("/// ") {
                continue;
            }
            let after = &comments[at + "edge()".len() + label.len()..];
            let word = after.strip_prefix(": ").unwrap_or_default();
            let word = word.split(|c: char| !c.is_ascii_lowercase()).next();
            let side = match word {
                Some("release" | "store") => Some("store"),
                Some("acquire" | "load") => Some("load"),
                Some("fence") => Some("fence"),
                _ => None,
            };
            match side {
                Some(side) => *sides.entry(label.into()).or_default().entry(side).or_default() += 1,
                None => violations.push(format!(
                    "{place}: edge({label}) says neither release, acquire, store, load nor fence"
                )),
            }
        }
    }
    let mut documented = table_labels(document);
    documented.extend(edges(document).map(|(_, label)| label));
    known.extend(documented.iter().map(|label| (*label).to_owned()));
    for label in &known {
        let count = |side| {
            let sides = sides.get(label).and_then(|sides| sides.get(side));
            sides.copied().unwrap_or(0)
        };
        let (store, load, fence) = (count("store"), count("load"), count("fence"));
        if fence < 2 && (store == 0 || load == 0) {
            violations
                .push(format!("edge({label}) is alone in src: {store} store, {load} load, {fence} fence"));
        }
        if !documented.contains(label.as_str()) {
            violations.push(format!("edge({label}) is not in docs/memory-model.md"));
        }
    }
    violations
}

/// The head of the file tabulates each label that the file uses.
fn table_violations(name: &str, text: &str) -> Vec<String> {
    let head = head(text);
    let table = table_labels(&head);
    let comments = Parted::new(text).comments;
    let used: BTreeSet<&str> = edges(&comments).map(|(_, label)| label).collect();
    if table.is_empty() {
        return vec![format!("{name}: opens without a table of its edges")];
    }
    let absent = used.difference(&table);
    absent.map(|label| format!("{name}: edge({label}) is not in the table at its head")).collect()
}

#[test]
fn every_edge_has_its_partner() {
    let document = root().join("docs/memory-model.md");
    let document = fs::read_to_string(document).unwrap_or_default();
    judge(edge_violations(&sources("src/"), &document));
}

#[test]
fn files_with_edges_open_with_a_table() {
    let sources = sources("src/");
    let tabled =
        sources.iter().filter(|(name, _)| TABLES.iter().any(|table| *name == format!("src/{table}")));
    judge(tabled.flat_map(|(name, text)| table_violations(name, text)));
}

#[test]
fn an_edge_without_its_partner_is_found() {
    let check = |text: &str, document: &str| {
        edge_violations(&[("src/shm/ring.rs".into(), text.into())], document).join("\n")
    };
    let store = "// edge(ring.a): release what was written\na.store(1, Release);\n";
    let load = "a.load(Acquire); // edge(ring.a): acquire\n";
    let both = format!("{store}{load}");
    assert_eq!(check(&both, "| edge(ring.a) |"), "");
    assert!(check(store, "edge(ring.a)").contains("alone"));
    assert!(check(&store.repeat(2), "edge(ring.a)").contains("alone"));
    assert!(check(&both, "").contains("memory-model.md"));
    assert!(check("", "edge(ring.a)").contains("alone"));
    assert!(check(&both, "edge(ring.a) edge(ring.b)").contains("edge(ring.b) is alone"));
    assert!(check("//! | edge(ring.a) | release |\n", "edge(ring.a)").contains("alone"));
    assert!(check(&format!("{both}// edge(ring.a): both\n"), "edge(ring.a)").contains("neither"));
    assert!(check("// edge(Ring): release\n", "").contains("no label"));
    let fence = "// edge(wait.a): fence\n";
    assert!(check(fence, "edge(wait.a)").contains("alone"));
    assert!(check("//! | ring.a | store |\n", "| ring.a |").contains("alone"));
    assert_eq!(check(&both, "| `ring.a` | what it orders |"), "");
    assert!(check(&both, "In `ring.a`, as in ring.rs").contains("memory-model.md"));
    let relaxed = "// edge(wait.b): store\n// edge(wait.b): load\n";
    assert_eq!(check(relaxed, "| wait.b |"), "");
    assert_eq!(check(&fence.repeat(2), "edge(wait.a)"), "");
}

#[test]
fn a_table_without_an_edge_is_found() {
    let site = "\n// edge(ring.a): release\n// edge(ring.b): acquire\n";
    let row = |label: &str| format!("//! | {label} | store | load |\n");
    let check = |text: String| table_violations("src/shm/ring.rs", &text).len();
    assert_eq!(check(site.into()), 1);
    assert_eq!(check(format!("{}{site}", row("ring.a"))), 1);
    assert_eq!(check(format!("{site}{}{}", row("ring.a"), row("ring.b"))), 1);
    assert_eq!(check(format!("//! Head.\n{}{}{site}", row("ring.a"), row("ring.b"))), 0);
}

// ---- 8: length ----------------------------------------------------------------------------------

fn length_violation(name: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LONGEST).then(|| format!("{name}: {lines} lines, more than {LONGEST}"))
}

#[test]
fn files_can_be_held_in_the_head() {
    let sources = sources("src/");
    judge(sources.iter().filter_map(|(name, text)| length_violation(name, text)));
}

#[test]
fn a_long_file_is_found() {
    assert!(length_violation("a", &"\n".repeat(LONGEST)).is_none());
    assert!(length_violation("a", &"\n".repeat(LONGEST + 1)).is_some());
}

// ---- 10: unfinished work ------------------------------------------------------------------------

fn unfinished_violations(name: &str, text: &str) -> Vec<String> {
    // In two parts each, so that this file does not hold what it looks for.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("to", "do!("),
        concat!("unimplemented", "!("),
        concat!("#[ig", "nore"),
        concat!("allow(", "dead_code)"),
        concat!("allow(", "unused"),
    ];
    let mut violations = Vec::new();
    for mark in marks {
        for (at, _) in text.match_indices(mark) {
            violations.push(format!("{name}:{}: {mark}", line_of(text, at)));
        }
    }
    // The same lints in a longer list, or expected instead of allowed.
    let code = Parted::new(text).code;
    for verb in ["allow", "expect"] {
        for at in words(&code, verb).filter(|&at| !code[..at].ends_with('.')) {
            let inner = code[at + verb.len()..].strip_prefix('(');
            let inner = inner.and_then(|inner| inner.split_once(')'));
            let mut lints = inner.map_or("", |(inner, _)| inner).split(',').map(str::trim);
            let place = format!("{name}:{}", line_of(&code, at));
            if let Some(lint) = lints.find(|lint| *lint == "dead_code" || lint.starts_with("unused")) {
                violations.push(format!("{place}: {verb} of {lint}"));
            }
        }
    }
    violations
}

#[test]
fn nothing_is_left_for_later() {
    let sources = sources("");
    judge(sources.iter().flat_map(|(name, text)| unfinished_violations(name, text)));
}

#[test]
fn what_is_left_for_later_is_found() {
    for text in [
        concat!("// TO", "DO: later"),
        concat!("// FIX", "ME"),
        concat!("// XX", "X"),
        concat!("fn f() { to", "do!() }"),
        concat!("fn f() { unimplemented", "!() }"),
        concat!("#[ig", "nore = \"slow\"]"),
        concat!("#[allow(", "unused_mut)]"),
        "#[allow(clippy::all, dead_code)]",
        "#[expect(unused_mut)]",
    ] {
        assert!(!unfinished_violations("a", text).is_empty(), "{text}");
    }
    assert_eq!(unfinished_violations("a", "x.expect(unused); // to do").len(), 0);
}

// ---- 11: paths of one machine -------------------------------------------------------------------

/// The folders that must not be named: homes in general, this one, and where the tree lies.
fn private_folders(tree: &Path, home: Option<&Path>) -> Vec<String> {
    // Folders that every machine has tell nothing about this one.
    let common = ["/", "/tmp", "/var/tmp", "/dev/shm", "/opt", "/srv", "/mnt", "/usr/src"];
    let own = [Some(tree), tree.parent(), home];
    let own = own.into_iter().flatten().map(|folder| folder.to_string_lossy().into_owned());
    let general = [concat!("/ho", "me"), concat!("/Us", "ers"), concat!("/ro", "ot")];
    let all = own.chain(general.map(String::from));
    all.filter(|folder| folder.starts_with('/') && !common.contains(&folder.as_str()))
        .map(|folder| format!("{folder}/"))
        .collect()
}

fn path_violations(name: &str, text: &str, folders: &[String]) -> Vec<String> {
    let mut violations = Vec::new();
    for folder in folders {
        for (at, _) in text.match_indices(folder.as_str()) {
            // Behind a letter it is the middle of another path or of an address.
            let inside = |c: char| c.is_alphanumeric() || "._-/~".contains(c);
            if !text[..at].ends_with(inside) {
                violations.push(format!("{name}:{}: names {folder}", line_of(text, at)));
            }
        }
    }
    violations
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let home = env::var_os("HOME").map(PathBuf::from);
    let folders = private_folders(&root(), home.as_deref());
    let files = files(false);
    judge(files.iter().flat_map(|name| path_violations(&name.to_string_lossy(), &text(name), &folders)));
}

#[test]
fn a_path_of_one_machine_is_found() {
    let folders = private_folders(Path::new("/data/clone"), Some(Path::new("/users/me")));
    let count = |text: &str| path_violations("a", text, &folders).len();
    assert_eq!(count("see /data/clone/src"), 2, "the tree and what it lies in");
    assert_eq!(count("see /data/notes"), 1);
    assert_eq!(count("(/users/me/notes)"), 1);
    assert_eq!(count(concat!("\"/ho", "me/me/a\"")), 1);
    assert_eq!(count("https://host/data/clone/x target/data/x /proc/self/fd /tmp/x"), 0);
    let folders = private_folders(Path::new("/tmp/clone"), Some(Path::new("/")));
    assert_eq!(path_violations("a", "/tmp/x /y /dev/z", &folders).len(), 0);
}

// ---- 12: reasons for raw memory -----------------------------------------------------------------

/// Blocks and implementations need a SAFETY comment ahead of the statement they are in.
fn reason_violations(name: &str, text: &str) -> Vec<String> {
    let parted = Parted::new(text);
    let code: Vec<&str> = parted.code.lines().collect();
    let comments: Vec<&str> = parted.comments.lines().collect();
    let mut violations = Vec::new();
    for at in words(&parted.code, "unsafe") {
        let next = parted.code[at + "unsafe".len()..].trim_start();
        if !next.starts_with('{') && words(next, "impl").next() != Some(0) {
            continue;
        }
        let line = line_of(&parted.code, at);
        // Upwards over comments, attributes and the beginning of the same statement.
        let mut above = (0..line - 1).rev().take_while(|&i| {
            let code = code[i].trim_end();
            let attribute = code.trim_start().starts_with("#[");
            let blank = code.is_empty() && comments[i].trim().is_empty();
            !blank && (attribute || !code.ends_with([';', '{', '}', ',']))
        });
        if !above.any(|i| comments[i].contains("SAFETY:")) {
            violations.push(format!("{name}:{line}: unsafe without a SAFETY comment"));
        }
    }
    violations
}

#[test]
fn raw_memory_has_its_reasons() {
    let sources = [sources("src/"), sources("hqq-sys/")].concat();
    judge(sources.iter().flat_map(|(name, text)| reason_violations(name, text)));
}

#[test]
fn raw_memory_without_a_reason_is_found() {
    let count = |text: &str| reason_violations("a", text).len();
    assert_eq!(count("fn f() {\n    unsafe { g() }\n}"), 1);
    assert_eq!(count("// Sent freely.\nunsafe impl Send for A {}"), 1);
    assert_eq!(count("// SAFETY: one reason.\nlet a = 1;\nunsafe { g() }"), 1);
    assert_eq!(count("// SAFETY: g.\nunsafe { g() };\nunsafe { h() };"), 1);
    assert_eq!(count("// SAFETY: no pointer.\n#[rustfmt::skip]\nunsafe impl Send for A {}"), 0);
    assert_eq!(count("// SAFETY: in bounds,\n// as checked.\nlet a =\n    unsafe { g() };"), 0);
    assert_eq!(count("unsafe fn f() {}\ntype F = unsafe fn();"), 0);
}
