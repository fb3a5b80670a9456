//! Which file imports which, and the rules about it: layers, circles, the names at the top of `src/`.
//!
//! A path resolves to the file of the deepest module that its segments name: `crate::shm::ring::Ring` to
//! `src/shm/ring.rs`, `crate::observe::Stats` to `src/observe/mod.rs`, wherever `Stats` is defined. A `mod` declaration
//! imports nothing.

use super::paths::{Declared, Named, Origin, Source, read};
use super::source::{files, judge, sources};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

/// The rooms and files of `src/` from the bottom up. Each may use itself and what is ahead of it.
const LAYERS: [&str; 11] =
    ["sync", "agreement", "error", "shm", "observe", "options", "demux", "link", "setup", "advanced", "io"];

/// How many files and folders the top of `src/` may have.
const MOST_AT_TOP: usize = 13;

/// Names that say nothing about what a file of `src/` does, or that the layers above use for something else.
const VAGUE: [&str; 11] =
    ["inner", "port", "mux", "park", "turn", "more", "frames", "handle", "without", "way", "pieces"];

/// A file uses something of another one.
pub struct Import {
    pub from: String,
    pub line: usize,
    pub to: String,
    pub path: String,
    /// Whether it is in the unit tests of a file that is not for tests only.
    pub in_unit_test: bool,
}

/// The modules that one root (`src/lib.rs`, `tests/a.rs`, ..) brings together.
#[derive(Default)]
struct Tree {
    /// The files that each module is in: one, unless `#[cfg]` chooses among several.
    modules: BTreeMap<Vec<String>, BTreeSet<String>>,
    /// Each file, the module that it is, and whether it is compiled for tests only.
    places: Vec<(String, Vec<String>, bool)>,
}

/// The sources of the crate in `folder`, which is empty or ends with `/`.
struct Crate<'a> {
    folder: &'a str,
    sources: BTreeMap<&'a str, &'a Source>,
    /// All names, for files that belong to another crate and are included with `#[path]`.
    all: BTreeSet<&'a str>,
}

impl Crate<'_> {
    /// A tree for each root. Roots are where Cargo looks for them, and what no other file declares.
    fn trees(&self) -> Vec<Tree> {
        let (usual, others): (Vec<&str>, Vec<&str>) = self.sources.keys().partition(|name| {
            let parts: Vec<&str> = name[self.folder.len()..].split('/').collect();
            match parts[..] {
                ["build.rs"] | ["src", "lib.rs" | "main.rs"] => true,
                ["tests" | "benches" | "examples", file] | ["src", "bin", file] => file != "mod.rs",
                ["tests" | "benches" | "examples", _, "main.rs"] | ["src", "bin", _, "main.rs"] => true,
                _ => false,
            }
        });
        let (mut trees, mut reached) = (Vec::new(), BTreeSet::new());
        for root in usual.into_iter().chain(others) {
            if !reached.contains(root) {
                let mut tree = Tree::default();
                self.add(&mut tree, root, Vec::new(), true, false);
                reached.extend(tree.places.iter().map(|(file, _, _)| file.clone()));
                trees.push(tree);
            }
        }
        trees
    }

    /// Adds the file `name` and the modules that it declares. `owns_folder`: they are beside it, as those of a `mod.rs`
    /// are, not in a folder of its name.
    fn add(&self, tree: &mut Tree, name: &str, module: Vec<String>, owns_folder: bool, test: bool) {
        let first = tree.modules.entry(module.clone()).or_default().insert(name.to_owned());
        let Some(source) = self.sources.get(name).filter(|_| first) else {
            return;
        };
        let test = test || source.test;
        tree.places.push((name.to_owned(), module.clone(), test));
        let beside = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = if owns_folder { beside } else { name.strip_suffix(".rs").unwrap_or(name) };
        for declared in &source.modules {
            let mut child = [module.as_slice(), declared.inside.as_slice()].concat();
            child.push(declared.name.clone());
            if declared.inline {
                tree.modules.entry(child).or_default().insert(name.to_owned());
                continue;
            }
            let mut files = candidates(beside, folder, declared).into_iter();
            if let Some(file) = files.find(|file| self.all.contains(file.as_str())) {
                let owns_folder = file.ends_with("/mod.rs") || declared.path.is_some();
                self.add(tree, &file, child, owns_folder, test || declared.test);
            }
        }
    }
}

/// Where the file of a declared module may be.
fn candidates(beside: &str, folder: &str, declared: &Declared) -> Vec<String> {
    let inside = |folder: &str| {
        let folder = (!folder.is_empty()).then_some(folder);
        folder.into_iter().chain(declared.inside.iter().map(String::as_str)).collect::<Vec<_>>().join("/")
    };
    match &declared.path {
        Some(path) if declared.inside.is_empty() => vec![joined(beside, path)],
        Some(path) => vec![joined(&inside(folder), path)],
        None => {
            let name = &declared.name;
            ["", "/mod"].iter().map(|end| joined(&inside(folder), &format!("{name}{end}.rs"))).collect()
        }
    }
}

/// `path` seen from `folder`, without `..` inside.
pub fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Tree {
    /// The files that `named` means if it is in the file that is `module`.
    fn resolve(&self, module: &[String], named: &Named) -> Option<&BTreeSet<String>> {
        let mut at = [module, named.inside.as_slice()].concat();
        let mut path = named.path.iter().map(String::as_str).peekable();
        let relative = named.origin != Origin::Macro;
        match *path.peek()? {
            "crate" => at.clear(),
            "self" | "super" if relative => {}
            first => {
                let child = [at.as_slice(), &[first.to_owned()]].concat();
                if !relative || !self.modules.contains_key(&child) {
                    return None;
                }
            }
        }
        // In code, a name alone is a variable or a type.
        if named.path.len() < 2 && named.origin != Origin::Use {
            return None;
        }
        for part in path {
            match part {
                "crate" | "self" => {}
                "super" => {
                    at.pop()?;
                }
                part => {
                    at.push(part.to_owned());
                    if !self.modules.contains_key(&at) {
                        at.pop();
                        break;
                    }
                }
            }
        }
        self.modules.get(&at)
    }
}

/// The trees of all crates. `folders` has the folders of the crates, each empty or with a `/` at its end.
fn trees(sources: &BTreeMap<String, Source>, folders: &[String]) -> Vec<Tree> {
    let home = |name: &str| {
        let around = folders.iter().filter(|folder| name.starts_with(folder.as_str()));
        around.max_by_key(|folder| folder.len())
    };
    let all: BTreeSet<&str> = sources.keys().map(String::as_str).collect();
    let mut trees = Vec::new();
    for folder in folders {
        let own = sources.iter().filter(|(name, _)| home(name) == Some(folder));
        let sources = own.map(|(name, source)| (name.as_str(), source)).collect();
        trees.extend(Crate { folder, sources, all: all.clone() }.trees());
    }
    trees
}

fn parsed(sources: &[(String, String)]) -> BTreeMap<String, Source> {
    sources.iter().map(|(name, text)| (name.clone(), read(name, text))).collect()
}

/// Every import from one file by another.
pub fn imports(sources: &[(String, String)], folders: &[String]) -> Vec<Import> {
    let sources = parsed(sources);
    let mut imports = Vec::new();
    for tree in trees(&sources, folders) {
        for (from, module, test) in &tree.places {
            for named in &sources[from].named {
                for to in tree.resolve(module, named).into_iter().flatten().filter(|to| *to != from) {
                    imports.push(Import {
                        from: from.clone(),
                        line: named.line,
                        to: to.clone(),
                        path: named.path.join("::"),
                        in_unit_test: named.test && !test,
                    });
                }
            }
        }
    }
    imports
}

/// The sources that become part of a library or a program, read, without those for tests only.
pub fn shipped(sources: &[(String, String)], folders: &[String]) -> BTreeMap<String, Source> {
    let mut sources = parsed(sources);
    let trees = trees(&sources, folders);
    let places = trees.iter().flat_map(|tree| &tree.places).filter(|(_, _, test)| !test);
    let shipped: BTreeSet<String> = places.map(|(name, _, _)| name.clone()).collect();
    let beside = |name: &str, kind: &str| name.starts_with(kind) || name.contains(&format!("/{kind}"));
    sources.retain(|name, _| {
        let apart = ["tests/", "benches/", "examples/"].iter().any(|kind| beside(name, kind));
        shipped.contains(name) && !apart && !name.ends_with("build.rs")
    });
    sources
}

/// The folder of each crate, empty or with a `/` at its end.
pub fn crate_folders() -> Vec<String> {
    let manifests = files(true).into_iter().filter(|name| name.ends_with("Cargo.toml"));
    manifests.map(|name| name.to_string_lossy().trim_end_matches("Cargo.toml").to_owned()).collect()
}

/// The circles of a graph, each once and beginning with its first name: the shortest through each edge that is on one,
/// but for those that a smaller one is part of.
pub fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (from, targets) in graph {
        for to in targets {
            if let Some(mut circle) = shortest(graph, to, from) {
                let first = (0..circle.len()).min_by_key(|&i| &circle[i]).unwrap_or(0);
                circle.rotate_left(first);
                found.insert(circle);
            }
        }
    }
    let members: Vec<BTreeSet<String>> =
        found.iter().map(|circle: &Vec<String>| circle.iter().cloned().collect()).collect();
    found.retain(|circle| {
        let contains = |part: &&BTreeSet<String>| part.iter().all(|name| circle.contains(name));
        !members.iter().filter(contains).any(|part| part.len() < circle.len())
    });
    found
}

/// The shortest way from one name to another, both included.
fn shortest(graph: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::from([(from, from)]);
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        if at == to {
            let mut way = vec![at.to_owned()];
            let mut at = at;
            while at != from {
                at = came_from[at];
                way.push(at.to_owned());
            }
            way.reverse();
            return Some(way);
        }
        for next in graph.get(at).into_iter().flatten() {
            if !came_from.contains_key(next.as_str()) {
                came_from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    None
}

// ---- Layers -------------------------------------------------------------------------------------

/// The room or file at the top of `src/` that a file is in.
fn room(name: &str) -> Option<&str> {
    let first = name.strip_prefix("src/")?.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

fn layer_violations(sources: &[(String, String)]) -> Vec<String> {
    let rank = |room: &str| LAYERS.iter().position(|layer| *layer == room);
    let mut violations = Vec::new();
    for (name, _) in sources {
        if room(name).is_some_and(|room| room != "lib" && rank(room).is_none()) {
            violations.push(format!("{name}:1: is in no layer; add it to LAYERS in tidy/imports.rs"));
        }
    }
    for Import { from, line, to, path, .. } in imports(sources, &[String::new()]) {
        let (Some(own), Some(used)) = (room(&from), room(&to)) else {
            continue;
        };
        if own == "lib" {
            continue;
        }
        if used == "lib" {
            violations.push(format!(
                "{from}:{line}: {path} hides its layer; name the module that it comes from, as crate::error::Error"
            ));
        } else if rank(own) < rank(used) {
            violations.push(format!(
                "{from}:{line}: {path} is in {used}, which is above {own}; move what is shared to the lower of the two"
            ));
        }
    }
    violations
}

#[test]
fn a_file_uses_only_the_layers_beneath_it() {
    judge(layer_violations(&sources("src/")));
}

#[cfg(test)]
fn owned(sources: &[(&str, &str)]) -> Vec<(String, String)> {
    sources.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn a_use_of_a_higher_layer_is_found() {
    let count = |name: &str, text: &str| {
        let rooms =
            "pub mod error; mod sync; pub mod shm; mod options; mod demux; mod link; pub use link::Link;";
        let mut sources = owned(&[
            ("src/lib.rs", rooms),
            ("src/error.rs", ""),
            ("src/options.rs", ""),
            ("src/shm/mod.rs", "mod ring; mod words;"),
            ("src/shm/ring.rs", ""),
            ("src/shm/words.rs", ""),
            ("src/demux/mod.rs", "mod table;"),
            ("src/demux/table.rs", "#[cfg(test)] mod tests;"),
            ("src/link/mod.rs", "mod standard;"),
            ("src/link/standard.rs", ""),
        ]);
        sources.retain(|(other, _)| other != name);
        sources.push((name.to_owned(), text.to_owned()));
        layer_violations(&sources).len()
    };
    assert_eq!(count("src/shm/ring.rs", "use crate::link::standard::StandardLink;"), 1);
    assert_eq!(count("src/shm/ring.rs", "use crate::{error::A, demux::{B, C}, link};"), 3);
    assert_eq!(count("src/shm/ring.rs", "use super::super::link;"), 1);
    assert_eq!(count("src/shm/ring.rs", "fn f() { crate :: options::g(); }"), 1);
    assert_eq!(count("src/shm/ring.rs", "fn f() { assert!(crate::options::g()); }"), 1);
    assert_eq!(count("src/shm/ring.rs", "macro_rules! m { () => { $crate::link::A } }"), 1);
    assert_eq!(count("src/shm/ring.rs", "#[cfg(test)] mod tests { use crate::link::A; }"), 1);
    assert_eq!(count("src/demux/table/tests.rs", "use crate::link::A;"), 1);
    assert_eq!(count("src/shm/ring.rs", "use crate::StandardLink;"), 1);
    assert_eq!(count("src/shm/ring.rs", "use crate::*;"), 1);
    assert_eq!(count("src/novel.rs", ""), 1);
    assert_eq!(count("src/lib.rs", "mod link; pub use link::StandardLink; use crate::link::A;"), 0);
    let fine =
        "//! see crate::link\nuse crate::{error::E, shm};\nuse super::words::*; use std::link; crate::m!();";
    assert_eq!(count("src/shm/ring.rs", fine), 0);
    assert_eq!(count("src/link/standard.rs", "use crate::demux::A; pub(in crate::link) use super::b;"), 0);
}

// ---- Circles ------------------------------------------------------------------------------------

fn circle_violations(sources: &[(String, String)], folders: &[String]) -> Vec<String> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut lines: BTreeMap<(String, String), usize> = BTreeMap::new();
    // Unit tests inside a file are treated as those in a file of their own, which nothing imports.
    let imports = imports(sources, folders).into_iter().filter(|import| !import.in_unit_test);
    for Import { from, line, to, .. } in imports {
        let first = lines.entry((from.clone(), to.clone())).or_insert(line);
        *first = line.min(*first);
        graph.entry(from).or_default().insert(to);
    }
    let shown = |circle: Vec<String>| {
        let next = circle.iter().cycle().skip(1);
        let steps = circle.iter().zip(next).map(|(from, to)| {
            let line = lines[&(from.clone(), to.clone())];
            format!("{from}:{line} -> ")
        });
        let steps: String = steps.collect();
        format!("{steps}{}: move what they share to a file that imports none of them", circle[0])
    };
    circles(&graph).into_iter().map(shown).collect()
}

#[test]
fn no_files_import_each_other() {
    judge(circle_violations(&sources(""), &crate_folders()));
}

#[test]
fn files_that_import_each_other_are_found() {
    let found = |sources: &[(&str, &str)]| {
        let folders = ["", "cli/"].map(String::from);
        let violations = circle_violations(&owned(sources), &folders).into_iter();
        violations.filter_map(|text| text.split(": ").next().map(String::from)).collect::<Vec<_>>()
    };
    let door = [
        ("src/lib.rs", "mod a;"),
        ("src/a/mod.rs", "mod b; mod c;\npub use b::B;\npub use self::c::C;"),
        ("src/a/b.rs", "use super::C;\nuse super::c::D;"),
        ("src/a/c.rs", "use crate::a::b;"),
    ];
    let expected =
        ["src/a/b.rs:2 -> src/a/c.rs:1 -> src/a/b.rs", "src/a/b.rs:1 -> src/a/mod.rs:2 -> src/a/b.rs"];
    assert_eq!(found(&door), expected);
    let crates = [
        ("cli/src/main.rs", "mod a; #[path = \"odd/c.rs\"] mod b;\nfn main() { a::f::<b::B>(); }"),
        ("cli/src/a.rs", "mod d;\nmod e { use super::super::b; }"),
        ("cli/src/a/d.rs", ""),
        ("cli/src/odd/c.rs", "fn f() { m!(crate::a::g()); }"),
        ("cli/tests/t.rs", "mod common;\nuse common::f;"),
        ("cli/tests/common/mod.rs", "use super::g;"),
    ];
    let expected = [
        "cli/src/a.rs:2 -> cli/src/odd/c.rs:1 -> cli/src/a.rs",
        "cli/tests/common/mod.rs:1 -> cli/tests/t.rs:2 -> cli/tests/common/mod.rs",
    ];
    assert_eq!(found(&crates), expected);
    let fine = [
        ("src/lib.rs", "mod a; pub use a::b::B;"),
        ("src/a.rs", "#[cfg(test)] mod tests; pub mod b; use b::B; mod inline { use super::*; }"),
        (
            "src/a/b.rs",
            "pub(super) fn f() { self::g(); c::h(); }\n#[cfg(test)] mod tests { use crate::a::f; }",
        ),
        ("src/a/tests.rs", "use super::*; use crate::a::b::B;"),
    ];
    assert_eq!(found(&fine).len(), 0);
}

// ---- The top of src -----------------------------------------------------------------------------

/// `names` has the files of `src/`.
fn room_violations(names: &[String]) -> Vec<String> {
    let names: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix("src/")).collect();
    let top: BTreeSet<&str> = names.iter().filter_map(|name| name.split('/').next()).collect();
    let mut violations = Vec::new();
    if top.len() > MOST_AT_TOP {
        let list = top.iter().copied().collect::<Vec<_>>().join(", ");
        violations.push(format!(
            "src/: {} names at the top ({list}), more than {MOST_AT_TOP}; put a new file into the room that it is part of",
            top.len()
        ));
    }
    for room in top.iter().filter(|name| !name.contains('.')) {
        if !names.contains(&format!("{room}/mod.rs").as_str()) {
            violations.push(format!("src/{room}/: has no door; its first file is src/{room}/mod.rs"));
        }
        if top.contains(format!("{room}.rs").as_str()) {
            violations.push(format!("src/{room}.rs:1: is beside src/{room}/; move it to src/{room}/mod.rs"));
        }
    }
    let mut vague = BTreeSet::new();
    for name in &names {
        let parts = name.split('/').map(|part| Path::new(part).file_stem().unwrap_or_default());
        for part in parts.filter_map(|part| part.to_str()).filter(|part| VAGUE.contains(part)) {
            vague.insert(format!(
                "src/{name}:1: {part} does not tell what is in it; name it after what it does"
            ));
        }
    }
    violations.extend(vague);
    violations
}

#[test]
fn src_has_few_rooms_with_one_door_each() {
    let names: Vec<String> = sources("src/").into_iter().map(|(name, _)| name).collect();
    judge(room_violations(&names));
}

#[test]
fn a_room_without_order_is_found() {
    let count = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| format!("src/{name}")).collect();
        room_violations(&names).len()
    };
    let top: Vec<String> = (0..=MOST_AT_TOP).map(|i| format!("a{i}.rs")).collect();
    let top: Vec<&str> = top.iter().map(String::as_str).collect();
    assert_eq!(count(&top[1..]), 0);
    assert_eq!(count(&top), 1);
    assert_eq!(count(&["shm/ring.rs"]), 1);
    assert_eq!(count(&["shm/mod.rs", "shm.rs"]), 1);
    assert_eq!(count(&["inner.rs", "shm/mod.rs", "shm/park.rs", "shm/mux/a.rs"]), 3);
    assert_eq!(count(&["shm/mod.rs", "shm/ring.rs", "shm/ring/tests.rs", "io.rs", "shm/parking.rs"]), 0);
}
