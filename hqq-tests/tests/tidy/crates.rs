//! The rules between crates, from the `Cargo.toml` of each and from sources. A rule names folders, so it holds from a
//! folder's first commit.

use super::imports::{circles, crate_folders, joined, shipped};
use super::paths::{Source, read};
use super::source::{files, judge, line_of, sources, text};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// The crates at the bottom, by folder, each with the crates of ours that it may use.
const BOTTOM: [(&str, &[&str]); 5] = [
    ("", &["hqq-sys", "hqq-features"]),
    ("hqq-sys", &[]),
    ("hqq-features", &[]),
    ("protocols/wire", &[]),
    ("protocols/sync", &[]),
];

/// What a crate of `protocols/` may use of ours.
const OF_PROTOCOLS: [&str; 4] =
    ["protocols/wire", "protocols/sync", "hqq-features", "protocols/qtalk-macros"];

/// What a crate of `protocols/` may not use of others, beyond `is_runtime`.
const NOT_OF_PROTOCOLS: [&str; 1] = ["mio"];

/// What `hqq-features` may not use of others: operating system, randomness, I/O.
const NOT_PORTABLE: [&str; 7] = ["libc", "rustix", "getrandom", "mio", "tokio", "memmap2", "windows-sys"];

/// The modules of `std` that do I/O, or start a thread or a process.
const AMBIENT: [&str; 4] = ["net", "fs", "thread", "process"];

/// Where asynchronous runtimes are used.
const ASYNC: [&str; 4] = ["hqq-tokio", "transports", "nodes", "bridge"];

/// What no crate uses but these themselves and `MODELS`.
const TOP: [&str; 5] = ["nodes", "bindings", "cli", "bridge", "hqq-tests"];

/// Crates of tests only, beside `hqq-tests`.
const MODELS: [&str; 3] = ["loom-tests", "shuttle-tests", "fuzz"];

/// The folders whose public traits are listed, each with the traits that it may have.
const TRAITS: [(&str, &[&str]); 3] =
    [("transports", &["Session", "Channel"]), ("nodes", &[]), ("bridge", &["Fabric"])];

/// The newest Rust (1.N) that a package may need, and `RUST` for all others.
const RUSTS: [(&str, u32); 10] = [
    ("hqq", 85),
    ("hqq-sys", 85),
    ("hqq-features", 85),
    ("hqq-tokio", 85),
    ("hqq-wire", 85),
    ("hqq-sync", 85),
    ("hqq-qhp", 88),
    ("hqq-qp", 88),
    ("hqq-qtalk", 88),
    ("hqq-spatio", 90),
];
const RUST: u32 = 95;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Normal and build dependencies.
    Built,
    Dev,
}

struct Dependency {
    line: usize,
    package: String,
    /// The folder of a crate of ours.
    folder: Option<String>,
    kind: Kind,
    optional: bool,
}

/// What a `Cargo.toml` says.
struct Manifest {
    file: String,
    /// Without a `/` at its end.
    folder: String,
    package: String,
    /// The line of `[package]`.
    line: usize,
    /// Whether the crate belongs to the workspace of the tree, not to one of its own.
    member: bool,
    dependencies: Vec<Dependency>,
    /// Line and value.
    rust: Option<(usize, String)>,
}

impl Manifest {
    fn is_in(&self, folder: &str) -> bool {
        is_in(&self.folder, folder)
    }

    /// The normal and build dependencies. A crate may use for its tests what it wants.
    fn built(&self) -> impl Iterator<Item = &Dependency> {
        self.dependencies.iter().filter(|dependency| dependency.kind == Kind::Built)
    }
}

fn is_in(name: &str, folder: &str) -> bool {
    name.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Reads names and texts of manifests. The one of the workspace is called `Cargo.toml`.
fn manifests(sources: &[(String, String)]) -> Vec<Manifest> {
    let tables: Vec<_> = sources
        .iter()
        .map(|(name, text)| {
            let table = DeTable::parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, text, table.into_inner())
        })
        .collect();
    let main = tables.iter().find(|(name, _, _)| *name == "Cargo.toml");
    let workspace = main.and_then(|(_, _, table)| child(table, "workspace"));
    let shared = workspace.and_then(|workspace| child(workspace, "dependencies"));
    let shared_rust = workspace.and_then(|workspace| child(workspace, "package"));
    let shared_rust = shared_rust.and_then(|package| package.get("rust-version"));
    let mut found = Vec::new();
    for (name, text, table) in &tables {
        let Some((key, package)) = table.get_key_value("package") else {
            continue;
        };
        let package = package.get_ref().as_table().expect("[package] is a table");
        let line = |span: Range<usize>| line_of(text, span.start);
        let folder = name.trim_end_matches("Cargo.toml").trim_end_matches('/');
        let mut dependencies = Vec::new();
        let targets = child(table, "target").into_iter().flat_map(|targets| targets.values());
        let targets = targets.filter_map(|target| target.get_ref().as_table());
        for target in targets.chain([table]) {
            for (kind, list) in [
                (Kind::Built, "dependencies"),
                (Kind::Built, "build-dependencies"),
                (Kind::Dev, "dev-dependencies"),
            ] {
                for (key, value) in child(target, list).into_iter().flatten() {
                    let value = value.get_ref();
                    let optional = field(value, "optional").and_then(DeValue::as_bool) == Some(true);
                    let shared = shared.and_then(|shared| shared.get(key.get_ref().as_ref()));
                    let shared = shared.filter(|_| field(value, "workspace").is_some());
                    let (from, value) = shared.map_or((folder, value), |shared| ("", shared.get_ref()));
                    let of = |name| field(value, name).and_then(DeValue::as_str);
                    dependencies.push(Dependency {
                        line: line(key.span()),
                        package: of("package").unwrap_or(key.get_ref()).to_owned(),
                        folder: of("path").map(|path| joined(from, path)),
                        kind,
                        optional,
                    });
                }
            }
        }
        let rust = package.get_key_value("rust-version").and_then(|(key, value)| {
            let inherits = field(value.get_ref(), "workspace").is_some();
            let value =
                if inherits { shared_rust.map(|shared| shared.get_ref()) } else { Some(value.get_ref()) };
            Some((line(key.span()), value?.as_str()?.to_owned()))
        });
        found.push(Manifest {
            file: (*name).clone(),
            folder: folder.to_owned(),
            package: package.get("name").and_then(|name| name.get_ref().as_str()).unwrap_or("").to_owned(),
            line: line(key.span()),
            member: folder.is_empty() || !table.contains_key("workspace"),
            dependencies,
            rust,
        });
    }
    // A crate of ours may also be asked for by name alone.
    let folders: BTreeMap<String, String> =
        found.iter().map(|manifest| (manifest.package.clone(), manifest.folder.clone())).collect();
    for dependency in found.iter_mut().flat_map(|manifest| &mut manifest.dependencies) {
        dependency.folder = dependency.folder.take().or_else(|| folders.get(&dependency.package).cloned());
    }
    found
}

fn child<'a, 'b>(table: &'a DeTable<'b>, name: &str) -> Option<&'a DeTable<'b>> {
    table.get(name)?.get_ref().as_table()
}

fn field<'a, 'b>(value: &'a DeValue<'b>, name: &str) -> Option<&'a DeValue<'b>> {
    Some(value.as_table()?.get(name)?.get_ref())
}

/// The manifests of the tree.
fn tree() -> Vec<Manifest> {
    let files = files(true).into_iter().filter(|name| name.ends_with("Cargo.toml"));
    let files: Vec<_> = files.map(|name| (name.to_string_lossy().into_owned(), text(&name))).collect();
    manifests(&files)
}

/// Manifests for the tests below: `(folder, package, dependencies)`, with all folders in the workspace.
#[cfg(test)]
fn made(crates: &[(&str, &str, &str)]) -> Vec<Manifest> {
    let mut sources = Vec::new();
    for (folder, package, dependencies) in crates {
        let slash = if folder.is_empty() { "" } else { "/" };
        let mut text = format!("[package]\nname = \"{package}\"\n{dependencies}\n");
        if folder.is_empty() {
            text.push_str("[workspace.dependencies]\n");
            for (folder, package, _) in crates {
                text.push_str(&format!("{package} = {{ path = \"./{folder}\" }}\n"));
            }
        }
        sources.push((format!("{folder}{slash}Cargo.toml"), text));
    }
    manifests(&sources)
}

// ---- 1: bottom ----------------------------------------------------------------------------------

fn bottom_violations(manifests: &[Manifest]) -> Vec<String> {
    let mut violations = Vec::new();
    for manifest in manifests {
        let Some((_, allowed)) = BOTTOM.iter().find(|(folder, _)| manifest.folder == *folder) else {
            continue;
        };
        for Dependency { line, package, folder, .. } in manifest.built() {
            if folder.as_deref().is_some_and(|folder| !allowed.contains(&folder)) {
                violations.push(format!(
                    "{}:{line}: {} is below {package}; move what it needs down, or into a crate above both",
                    manifest.file, manifest.package
                ));
            }
        }
    }
    violations
}

#[test]
fn the_lowest_crates_use_none_of_ours() {
    judge(bottom_violations(&tree()));
}

#[test]
fn a_low_crate_that_uses_one_of_ours_is_found() {
    let count = |folder: &str, dependencies: &str| {
        let mut crates = vec![
            ("", "hqq", ""),
            ("hqq-sys", "hqq-sys", ""),
            ("hqq-features", "hqq-features", ""),
            ("protocols/wire", "hqq-wire", ""),
            ("cli", "hqq-cli", ""),
        ];
        let position = crates.iter().position(|(own, _, _)| *own == folder).expect("a crate above");
        crates[position].2 = dependencies;
        bottom_violations(&made(&crates)).len()
    };
    assert_eq!(count("", "[dependencies]\nhqq-wire.workspace = true"), 1);
    assert_eq!(count("hqq-features", "[dependencies]\nhqq-sys = { workspace = true, optional = true }"), 1);
    assert_eq!(count("hqq-sys", "[target.'cfg(loom)'.dependencies]\nhqq = { path = \"..\" }"), 1);
    assert_eq!(count("hqq-sys", "[build-dependencies]\nx = { version = \"1\", package = \"hqq-cli\" }"), 1);
    assert_eq!(count("protocols/wire", "[dependencies]\nhqq-features = \"0.1\""), 1);
    assert_eq!(
        count("", "[dependencies]\nhqq-sys = { workspace = true }\nhqq-features = { workspace = true }"),
        0
    );
    assert_eq!(
        count("hqq-sys", "[dependencies]\nlibc = \"0.2\"\n[dev-dependencies]\nhqq = { path = \"..\" }"),
        0
    );
    assert_eq!(count("cli", "[dependencies]\nhqq = { workspace = true }"), 0);
}

// ---- 2: protocols -------------------------------------------------------------------------------

fn protocol_violations(manifests: &[Manifest]) -> Vec<String> {
    let mut violations = Vec::new();
    for manifest in manifests {
        let (protocol, features) = (manifest.is_in("protocols"), manifest.folder == "hqq-features");
        for Dependency { line, package, folder, .. } in manifest.built() {
            let place = format!("{}:{line}", manifest.file);
            let ours = folder.as_deref().is_some_and(|folder| !OF_PROTOCOLS.contains(&folder));
            let others = is_runtime(package) || NOT_OF_PROTOCOLS.contains(&package.as_str());
            // By name too, for a crate of ours that does not exist yet.
            if protocol && (ours || others || ["hqq", "hqq-transport"].contains(&package.as_str())) {
                violations.push(format!(
                    "{place}: a protocol does not use {package}; take bytes and times as arguments, and let a node \
                     of nodes/ do the I/O"
                ));
            }
            if features && NOT_PORTABLE.contains(&package.as_str()) {
                violations.push(format!(
                    "{place}: hqq-features is portable, {package} is not; take what it provides as an argument"
                ));
            }
        }
    }
    violations
}

#[test]
fn protocols_and_features_depend_on_nothing_that_does_io() {
    judge(protocol_violations(&tree()));
}

#[test]
fn a_protocol_that_depends_on_io_is_found() {
    let count = |folder: &str, dependency: &str| {
        let dependencies = format!("[dependencies]\n{dependency}");
        let crates = [
            ("", "hqq", ""),
            ("hqq-features", "hqq-features", ""),
            ("hqq-sys", "hqq-sys", ""),
            ("protocols/wire", "hqq-wire", ""),
            ("protocols/qhp", "hqq-qhp", ""),
            ("protocols/qtalk-macros", "hqq-qtalk-macros", ""),
            (folder, "own", &dependencies),
        ];
        protocol_violations(&made(&crates)).len()
    };
    for wrong in [
        "tokio = \"1\"",
        "mio = \"1\"",
        "async-io = \"2\"",
        "hqq-transport = \"0.1\"",
        "a.package = \"tokio\"",
    ] {
        assert_eq!(count("protocols/own", wrong), 1, "{wrong}");
    }
    for ours in ["hqq", "hqq-sys", "hqq-qhp"] {
        assert_eq!(count("protocols/own", &format!("{ours}.workspace = true")), 1, "{ours}");
    }
    for fine in ["hqq-wire.workspace = true", "hqq-features.workspace = true", "bytes = \"1\""] {
        assert_eq!(count("protocols/own", fine), 0, "{fine}");
    }
    assert_eq!(
        count("protocols/own", "hqq-qtalk-macros.workspace = true\n[dev-dependencies]\ntokio = \"1\""),
        0
    );
    assert_eq!(count("nodes/own", "tokio = \"1\"\nhqq.workspace = true"), 0);
    let features =
        |dependencies| protocol_violations(&made(&[("hqq-features", "hqq-features", dependencies)])).len();
    assert_eq!(features("[dependencies]\nlibc = \"0.2\"\nrustix = \"1\""), 2);
    assert_eq!(
        features("[target.'cfg(unix)'.dependencies]\ngetrandom = { version = \"0.4\", optional = true }"),
        1
    );
    assert_eq!(features("[dependencies]\nsnow = \"0.10\"\n[dev-dependencies]\ngetrandom = \"0.4\""), 0);
}

fn ambient_violations(name: &str, source: &Source) -> Vec<String> {
    let mut found = BTreeSet::new();
    for named in source.named.iter().filter(|named| !named.test) {
        let path: Vec<&str> = named.path.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        let clock = path.contains(&"SystemTime") || path.windows(2).any(|two| two == ["Instant", "now"]);
        if clock || matches!(path[..], ["std", module, ..] if AMBIENT.contains(&module)) {
            found.insert((named.line, path.join("::")));
        }
    }
    let explain = |(line, path)| {
        format!(
            "{name}:{line}: {path} does I/O, starts something or reads a clock; take the result as an argument"
        )
    };
    found.into_iter().map(explain).collect()
}

#[test]
fn protocols_and_features_have_no_io_clock_or_thread() {
    let sources = [sources("hqq-features/"), sources("protocols/")].concat();
    let shipped = shipped(&sources, &crate_folders());
    judge(shipped.iter().flat_map(|(name, source)| ambient_violations(name, source)));
}

#[test]
fn a_protocol_with_io_a_clock_or_a_thread_is_found() {
    let count = |text: &str| ambient_violations("a", &read("a", text)).len();
    assert_eq!(count("use std::net::SocketAddr;"), 1);
    assert_eq!(count("use std::{fmt, fs::{self, File}, thread};"), 3);
    assert_eq!(count("fn f() { ::std::process::exit(1) }"), 1);
    assert_eq!(count("fn f() { let now = Instant::now(); g(std::time::Instant::now()); }"), 2);
    assert_eq!(count("use std::time::{Instant, SystemTime};"), 1);
    assert_eq!(count("fn f() { assert!(std::fs::exists(a)); }"), 1);
    assert_eq!(count("use std::time::{Duration, Instant}; use core::net::IpAddr; fn f(now: Instant) {}"), 0);
    assert_eq!(count("#[cfg(test)] mod tests { use std::thread; #[test] fn f() { Instant::now(); } }"), 0);
    let sources = [
        ("protocols/qp/src/lib.rs", "mod a; #[cfg(test)] mod tests;"),
        ("protocols/qp/src/a.rs", ""),
        ("protocols/qp/src/tests.rs", "mod b;"),
        ("protocols/qp/src/tests/b.rs", ""),
        ("protocols/qp/tests/c.rs", ""),
        ("protocols/qp/build.rs", ""),
    ];
    let sources = sources.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let shipped = shipped(&sources, &["protocols/qp/".to_owned()]);
    let names: Vec<&str> = shipped.keys().map(String::as_str).collect();
    assert_eq!(names, ["protocols/qp/src/a.rs", "protocols/qp/src/lib.rs"]);
}

// ---- 3: traits ----------------------------------------------------------------------------------

fn trait_violations(name: &str, source: &Source) -> Vec<String> {
    let Some((folder, allowed)) = TRAITS.iter().find(|(folder, _)| is_in(name, folder)) else {
        return Vec::new();
    };
    let strange = source.public_traits.iter().filter(|(_, own)| !allowed.contains(&own.as_str()));
    strange
        .map(|(line, own)| {
            let allowed = if allowed.is_empty() { "no trait".to_owned() } else { allowed.join(" and ") };
            format!(
                "{name}:{line}: {folder}/ has {allowed} to the public, not {own}; use tokio's AsyncRead and \
                 AsyncWrite or futures' Stream and Sink, or make it pub(crate)"
            )
        })
        .collect()
}

#[test]
fn streams_and_messages_have_the_traits_of_the_ecosystem() {
    let sources = TRAITS.iter().flat_map(|(folder, _)| sources(&format!("{folder}/"))).collect::<Vec<_>>();
    let shipped = shipped(&sources, &crate_folders());
    judge(shipped.iter().flat_map(|(name, source)| trait_violations(name, source)));
}

#[test]
fn a_trait_of_our_own_is_found() {
    let count = |name: &str, text: &str| trait_violations(name, &read(name, text)).len();
    let text = "pub trait Session {}\nmod a { pub trait Carrier {} }\npub(crate) trait B {}\ntrait C {}";
    assert_eq!(count("transports/src/a.rs", text), 1);
    assert_eq!(count("nodes/qp/src/a.rs", text), 2);
    assert_eq!(count("bridge/src/a.rs", "pub trait Fabric {} pub trait Session {}"), 1);
    assert_eq!(count("transports/src/session.rs", "pub trait Session {} pub unsafe trait Channel {}"), 0);
    assert_eq!(count("src/agreement.rs", text), 0);
}

// ---- 4: tokio -----------------------------------------------------------------------------------

fn is_runtime(package: &str) -> bool {
    let others = ["tokio", "smol", "async-std", "async-io", "async-executor", "monoio", "compio", "glommio"];
    package.starts_with("tokio-") || others.contains(&package)
}

fn runtime_violations(manifests: &[Manifest]) -> Vec<String> {
    let members = manifests.iter().filter(|manifest| manifest.member);
    let strange = members.filter(|manifest| !ASYNC.iter().any(|folder| manifest.is_in(folder)));
    strange
        .flat_map(|manifest| {
            let used = manifest.built().filter(|dependency| is_runtime(&dependency.package));
            used.map(|Dependency { line, package, .. }| {
                let (file, places) = (&manifest.file, ASYNC.join(", "));
                format!(
                    "{file}:{line}: {package} is used only in {places}; use threads, or move the code there"
                )
            })
        })
        .collect()
}

#[test]
fn tokio_is_used_in_few_folders() {
    judge(runtime_violations(&tree()));
}

#[test]
fn tokio_elsewhere_is_found() {
    let count = |folder: &str, text: &str| runtime_violations(&made(&[(folder, "own", text)])).len();
    for wrong in [
        "tokio = \"1\"",
        "tokio-util = \"0.7\"",
        "smol = \"2\"",
        "async-std = \"1\"",
        "a.package = \"tokio\"",
    ] {
        let text = format!("[dependencies]\n{wrong}");
        for folder in ["", "cli", "hqq-tests", "protocols/qp", "bindings/c", "nodes-of-others"] {
            assert_eq!(count(folder, &text), 1, "{folder} {wrong}");
        }
        for folder in ["hqq-tokio", "transports", "nodes/qp", "bridge"] {
            assert_eq!(count(folder, &text), 0, "{folder} {wrong}");
        }
    }
    assert_eq!(count("benches/peers", "[dependencies]\ntokio = \"1\"\n[workspace]"), 0);
    assert_eq!(count("cli", "[dependencies]\nfutures = \"1\"\n[dev-dependencies]\ntokio = \"1\""), 0);
}

// ---- 5: nodes and what else is at the top -------------------------------------------------------

fn top_violations(manifests: &[Manifest]) -> Vec<String> {
    let mut violations = Vec::new();
    for manifest in manifests {
        let (file, package) = (&manifest.file, &manifest.package);
        let may_use = TOP.iter().chain(&MODELS).any(|folder| manifest.is_in(folder));
        for dependency in manifest.built() {
            let (line, other) = (dependency.line, &dependency.package);
            let folder = dependency.folder.as_deref().unwrap_or_default();
            let top = TOP.iter().find(|top| is_in(folder, top));
            if let Some(top) = top.filter(|_| !may_use) {
                violations.push(format!(
                    "{file}:{line}: {package} is below {other}, which is in {top}; move what it needs down"
                ));
            }
            if manifest.is_in("nodes") && is_in(folder, "bridge") && !dependency.optional {
                violations.push(format!(
                    "{file}:{line}: a node uses the bridge behind a feature; make it optional"
                ));
            }
        }
    }
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for manifest in manifests {
        let used = manifest.built().filter(|dependency| dependency.folder.is_some());
        graph.insert(manifest.package.clone(), used.map(|dependency| dependency.package.clone()).collect());
    }
    for circle in circles(&graph) {
        let (way, first) = (circle.join(" -> "), &circle[0]);
        violations
            .push(format!("{way} -> {first}: crates use each other; move what they share into one below"));
    }
    violations
}

#[test]
fn nothing_below_uses_the_top_and_no_crates_use_each_other() {
    judge(top_violations(&tree()));
}

#[test]
fn a_use_of_the_top_and_a_circle_of_crates_are_found() {
    let found = |folder: &str, dependencies: &str| {
        let crates = [
            ("", "hqq", ""),
            ("cli", "hqq-cli", "[dependencies]\nhqq.workspace = true"),
            ("bridge", "hqq-bridge", ""),
            ("hqq-tests", "hqq-tests", ""),
            ("nodes/qp", "qp", "[dependencies]\nown.workspace = true"),
            ("bindings/c", "libhqq", ""),
            (folder, "own", dependencies),
        ];
        top_violations(&made(&crates))
    };
    for below in ["xtask", "benches/harness", "transports", "protocols/own", "hqq-tokio"] {
        for top in ["hqq-cli", "hqq-bridge", "hqq-tests", "libhqq"] {
            let dependencies = format!("[dependencies]\n{top}.workspace = true");
            assert_eq!(found(below, &dependencies).len(), 1, "{below} {top}");
        }
        assert_eq!(found(below, "[dev-dependencies]\nhqq-tests.workspace = true").len(), 0, "{below}");
    }
    for fine in ["fuzz", "loom-tests", "bindings/python", "nodes/own"] {
        assert_eq!(found(fine, "[dependencies]\nhqq-tests.workspace = true").len(), 0, "{fine}");
    }
    assert_eq!(found("nodes/own", "[dependencies]\nhqq-bridge.workspace = true").len(), 1);
    let optional = "[dependencies]\nhqq-bridge = { workspace = true, optional = true }";
    assert_eq!(found("nodes/own", optional).len(), 0);
    let circle = found("nodes/own", "[dependencies]\nqp = { path = \"../qp\" }");
    assert_eq!(circle.len(), 1);
    assert!(circle[0].starts_with("own -> qp -> own: "), "{}", circle[0]);
}

// ---- 13: the Rust version -----------------------------------------------------------------------

fn rust_violations(manifests: &[Manifest]) -> Vec<String> {
    let mut violations = Vec::new();
    for Manifest { file, package, line, rust, .. } in manifests.iter().filter(|manifest| manifest.member) {
        let Some((line, version)) = rust else {
            violations
                .push(format!("{file}:{line}: states no rust-version; write rust-version.workspace = true"));
            continue;
        };
        let newest = RUSTS.iter().find(|(own, _)| own == package).map_or(RUST, |(_, newest)| *newest);
        let mut parts = version.split('.').map(str::parse);
        let minor = if parts.next() == Some(Ok(1)) { parts.next() } else { None };
        if !matches!(minor, Some(Ok(minor)) if minor <= newest) {
            violations.push(format!(
                "{file}:{line}: {package} needs Rust {version}, newer than 1.{newest}; do without what is newer, or \
                 raise the limit in tidy/crates.rs and say why in the changelog"
            ));
        }
    }
    violations
}

#[test]
fn every_crate_states_a_rust_version_that_is_old_enough() {
    judge(rust_violations(&tree()));
}

#[test]
fn a_rust_version_that_is_absent_or_too_new_is_found() {
    let count = |package: &str, text: &str| {
        let text = format!("[package]\nname = \"{package}\"\n{text}\n");
        let workspace = "[workspace.package]\nrust-version = \"1.86\"\n";
        let sources = [("Cargo.toml", workspace), ("own/Cargo.toml", &text)];
        let sources = sources.map(|(name, text)| (name.to_owned(), text.to_owned()));
        rust_violations(&manifests(&sources)).len()
    };
    assert_eq!(count("hqq-cli", ""), 1);
    assert_eq!(count("hqq-cli", "rust-version = \"1.96\""), 1);
    assert_eq!(count("hqq-wire", "rust-version.workspace = true"), 1);
    assert_eq!(count("hqq-qp", "rust-version = \"1.89.0\""), 1);
    assert_eq!(count("hqq-spatio", "rust-version = \"2.0\""), 1);
    assert_eq!(count("hqq-cli", "rust-version.workspace = true"), 0);
    assert_eq!(count("hqq-wire", "rust-version = \"1.85\""), 0);
    assert_eq!(count("hqq-spatio", "rust-version = \"1.90.0\""), 0);
    assert_eq!(count("hqq-fuzz", "[workspace]"), 0);
}
