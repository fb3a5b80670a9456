//! Finds the memory orderings of the core in its source.

use crate::command::root;
use proc_macro2::{LineColumn, Span};
use std::collections::BTreeMap;
use std::fs;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Expr, Meta};

/// The files of layers 0 to 2 that reach shared words. `sync.rs` hands orderings on.
const FILES: [&str; 9] =
    ["ring", "pool", "sleepers", "recover", "seats", "superblock", "region", "endpoint", "buffer"];

const METHODS: [&str; 8] =
    ["load", "store", "swap", "compare_exchange", "fetch_add", "fetch_sub", "fetch_or", "fetch_and"];
const FUNCTIONS: [&str; 2] = ["load_for_update", "fence"];

/// One access to a shared word, or a fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// `ring.rs Consumer::find_slow load_for_update`, with a number after it from the second of its kind on. Stable as long as
    /// the function is.
    pub name: String,
    /// `FILE:LINE:COLUMN` as the compiler counts.
    pub place: String,
    /// The orderings; a compare-exchange has two.
    pub orders: Vec<String>,
    /// The labels of its edges, and the side that the comment names.
    pub edges: Vec<(String, String)>,
    /// Whether it is a fence, which can be left out.
    pub fence: bool,
}

/// A site with one ordering weakened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    pub site: Site,
    /// The index of the weakened ordering.
    pub index: usize,
    /// The weaker ordering.
    pub order: &'static str,
}

impl Mutant {
    /// The value of the environment variable for the models.
    pub fn variable(&self) -> String {
        format!("{} {} {}", self.site.place, self.index, self.order)
    }

    /// The site and the change, as in the tables.
    pub fn name(&self) -> String {
        format!("{}: {}", self.site.name, self.change())
    }

    /// `AcqRel to Release`.
    pub fn change(&self) -> String {
        let failure = if self.index == 1 { "failure " } else { "" };
        format!("{failure}{} to {}", self.site.orders[self.index], self.order)
    }

    /// The labels of the side that is weakened, or all if no label names a side.
    pub fn edges(&self) -> Vec<&str> {
        let keeps = |side: &str| match side {
            "release" | "store" => self.order == "Release",
            "acquire" | "load" => self.order == "Acquire",
            _ => false,
        };
        let lost = self.site.edges.iter().filter(|(_, side)| !keeps(side));
        lost.map(|(label, _)| label.as_str()).collect()
    }
}

/// Every site with each ordering weakened by one step.
pub fn mutants(sites: &[Site]) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for site in sites {
        for (index, order) in site.orders.iter().enumerate() {
            for &order in weaker(order, site.fence) {
                mutants.push(Mutant { site: site.clone(), index, order });
            }
        }
    }
    mutants
}

fn weaker(order: &str, fence: bool) -> &'static [&'static str] {
    match (order, fence) {
        ("SeqCst", _) => &["AcqRel"],
        ("AcqRel", _) => &["Acquire", "Release"],
        ("Acquire" | "Release", true) => &["none"],
        ("Acquire" | "Release", false) => &["Relaxed"],
        _ => &[],
    }
}

/// All sites of the core.
pub fn scan() -> Result<Vec<Site>, String> {
    let mut sites = Vec::new();
    for file in FILES {
        let path = format!("src/shm/{file}.rs");
        let text = fs::read_to_string(root().join(&path)).map_err(|e| format!("{path}: {e}"))?;
        sites.extend(scan_text(&path, &text).map_err(|e| format!("{path}: {e}"))?);
    }
    Ok(sites)
}

fn scan_text(path: &str, text: &str) -> Result<Vec<Site>, String> {
    let file = syn::parse_file(text).map_err(|e| e.to_string())?;
    let mut scan = Scan {
        path,
        lines: text.lines().collect(),
        within: Vec::new(),
        statements: Vec::new(),
        counts: BTreeMap::new(),
        sites: Vec::new(),
    };
    scan.visit_file(&file);
    Ok(scan.sites)
}

struct Scan<'t> {
    path: &'t str,
    lines: Vec<&'t str>,
    /// The names of the enclosing type and functions.
    within: Vec<String>,
    /// The first lines of the enclosing statements.
    statements: Vec<usize>,
    counts: BTreeMap<String, usize>,
    sites: Vec<Site>,
}

impl Scan<'_> {
    fn site<'e>(&mut self, operation: &str, name: Span, whole: Span, args: impl Iterator<Item = &'e Expr>) {
        let orders: Vec<String> = args.filter_map(ordering).collect();
        if orders.is_empty() {
            return;
        }
        let file = self.path.rsplit('/').next().unwrap_or(self.path);
        let mut title = format!("{file} {} {operation}", self.within.join("::"));
        let count = self.counts.entry(title.clone()).or_default();
        *count += 1;
        if *count > 1 {
            title = format!("{title} {count}");
        }
        let LineColumn { line, column } = name.start();
        self.sites.push(Site {
            name: title,
            place: format!("{}:{line}:{}", self.path, column + 1),
            orders,
            edges: self.edges(line, whole.end().line),
            fence: operation == "fence",
        });
    }

    /// The labels in comments on the lines of an access, below them, or above the statement that it is in.
    fn edges(&self, first: usize, last: usize) -> Vec<(String, String)> {
        let line = |number: usize| self.lines.get(number.wrapping_sub(1)).copied().unwrap_or_default();
        let comment = |number: usize| line(number).trim_start().starts_with("//");
        let mut numbers: Vec<usize> = (first..=last).collect();
        numbers.extend((last + 1..).take_while(|&number| comment(number)));
        let mut top = first;
        for &statement in self.statements.iter().rev() {
            if statement + 3 < top {
                break;
            }
            top = top.min(statement);
            numbers.extend((1..statement).rev().take_while(|&number| comment(number)));
        }
        numbers.sort_unstable();
        numbers.dedup();
        let mut edges = Vec::new();
        for text in numbers.into_iter().map(line) {
            let Some((_, text)) = text.split_once("// edge(") else { continue };
            let Some((label, rest)) = text.split_once("): ") else { continue };
            let side = rest.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
            edges.push((label.to_owned(), side.to_owned()));
        }
        edges
    }

    fn named(&mut self, name: String, inside: impl FnOnce(&mut Self)) {
        self.within.push(name);
        inside(self);
        self.within.pop();
    }
}

/// `Ordering::Acquire` is `Acquire`.
fn ordering(arg: &Expr) -> Option<String> {
    let Expr::Path(path) = arg else { return None };
    let mut segments = path.path.segments.iter().rev();
    let order = segments.next()?;
    (segments.next()?.ident == "Ordering").then(|| order.ident.to_string())
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.tokens.clone().into_iter().any(|token| token.to_string().contains("test"))
        }
        _ => false,
    })
}

impl<'ast> Visit<'ast> for Scan<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let name = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
            _ => None,
        };
        self.named(name.unwrap_or_default(), |scan| visit::visit_item_impl(scan, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.named(item.sig.ident.to_string(), |scan| visit::visit_item_fn(scan, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.named(item.sig.ident.to_string(), |scan| visit::visit_impl_item_fn(scan, item));
    }

    fn visit_stmt(&mut self, statement: &'ast syn::Stmt) {
        self.statements.push(statement.span().start().line);
        visit::visit_stmt(self, statement);
        self.statements.pop();
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        visit::visit_expr_method_call(self, call);
        let name = call.method.to_string();
        if METHODS.contains(&name.as_str()) {
            self.site(&name, call.method.span(), call.span(), call.args.iter());
        }
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        visit::visit_expr_call(self, call);
        if let Expr::Path(path) = &*call.func {
            let name = path.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
            if FUNCTIONS.contains(&name.as_str()) {
                self.site(&name, call.func.span(), call.span(), call.args.iter());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
impl<'a> Ring<'a> {
    fn claim(&self) {
        // edge(ring.free): acquire
        // edge(ring.seen): release
        let claim = || {
            self.stamp.compare_exchange(1, 2, Ordering::AcqRel, Ordering::Acquire)
        };
        let other = 3;
        self.tail.store(other, Ordering::Release); // edge(ring.tail): release
        if let Err(_) = self
            .tail
            .swap(1, Ordering::Acquire)
        // edge(ring.other): acquire
        {}
        load_for_update(&self.tail, Ordering::Relaxed);
        load_for_update(&self.tail, Ordering::Acquire);
    }
}
fn check() {
    fence(Ordering::SeqCst); // edge(wait.a): fence
    fence(Ordering::Release);
}
#[cfg(all(test, feature = \"std\"))]
mod tests {
    fn not_this() {
        load_for_update(&a, Ordering::Acquire);
    }
}
";

    fn sites() -> Vec<Site> {
        scan_text("src/shm/ring.rs", SOURCE).unwrap()
    }

    #[test]
    fn sites_have_names_places_orders_and_edges() {
        let sites = sites();
        let names: Vec<&str> = sites.iter().map(|site| site.name.as_str()).collect();
        let want = [
            "ring.rs Ring::claim compare_exchange",
            "ring.rs Ring::claim store",
            "ring.rs Ring::claim swap",
            "ring.rs Ring::claim load_for_update",
            "ring.rs Ring::claim load_for_update 2",
            "ring.rs check fence",
            "ring.rs check fence 2",
        ];
        assert_eq!(names, want);
        assert_eq!(sites[0].place, "src/shm/ring.rs:6:24");
        assert_eq!(sites[0].orders, ["AcqRel", "Acquire"]);
        let edges = |site: usize| {
            let edges = sites[site].edges.iter();
            edges.map(|(label, side)| format!("{label} {side}")).collect::<Vec<_>>()
        };
        assert_eq!(edges(0), ["ring.free acquire", "ring.seen release"]);
        assert_eq!(edges(1), ["ring.tail release"]);
        assert_eq!(edges(2), ["ring.other acquire"]);
        assert_eq!(sites[2].place, "src/shm/ring.rs:12:14");
        assert_eq!(edges(3), Vec::<String>::new());
    }

    #[test]
    fn every_ordering_is_weakened_once_a_step() {
        let mutants = mutants(&sites());
        let changes: Vec<String> = mutants.iter().map(Mutant::change).collect();
        let want = [
            "AcqRel to Acquire",
            "AcqRel to Release",
            "failure Acquire to Relaxed",
            "Release to Relaxed",
            "Acquire to Relaxed",
            "Acquire to Relaxed",
            "SeqCst to AcqRel",
            "Release to none",
        ];
        assert_eq!(changes, want);
        assert_eq!(mutants[0].edges(), ["ring.seen"]);
        assert_eq!(mutants[1].edges(), ["ring.free"]);
        assert_eq!(mutants[0].variable(), "src/shm/ring.rs:6:24 0 Acquire");
        assert_eq!(mutants[2].variable(), "src/shm/ring.rs:6:24 1 Relaxed");
        assert_eq!(mutants[6].edges(), ["wait.a"]);
    }

    #[test]
    fn the_core_has_orderings() {
        let sites = scan().unwrap();
        for file in ["ring.rs", "pool.rs", "sleepers.rs", "recover.rs", "superblock.rs"] {
            assert!(sites.iter().any(|site| site.name.starts_with(file)), "{file}");
        }
        let mut names: Vec<&str> = sites.iter().map(|site| site.name.as_str()).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "names are unique");
    }
}
