//! The paths, modules and public traits that a Rust file names, read with `syn`.

use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, Lit, Meta, Token, UseTree, Visibility};

/// A path in a file: an item of a `use` list, or a path in code, types, patterns and the tokens of macros.
pub struct Named {
    pub line: usize,
    /// The inline modules (`mod x { .. }`) around it, from the outside in.
    pub inside: Vec<String>,
    /// Its segments; the first is empty if the path begins with `::`.
    pub path: Vec<String>,
    pub origin: Origin,
    /// Whether it is compiled for tests only.
    pub test: bool,
}

/// What a path is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A `use` declaration.
    Use,
    /// Code, or the tokens that are handed to a macro.
    Code,
    /// The definition of a macro. Where it is expanded decides what `self` and `super` mean there.
    Macro,
}

/// A module that a file declares, in a file of its own or inline.
pub struct Declared {
    pub inside: Vec<String>,
    pub name: String,
    pub inline: bool,
    /// The value of `#[path = ".."]`.
    pub path: Option<String>,
    pub test: bool,
}

/// What a file names.
#[derive(Default)]
pub struct Source {
    pub named: Vec<Named>,
    pub modules: Vec<Declared>,
    /// Line and name of each `pub trait`.
    pub public_traits: Vec<(usize, String)>,
    /// Whether the whole file is compiled for tests only.
    pub test: bool,
}

/// Reads the file `name`, which only the message about a file that is no Rust uses.
pub fn read(name: &str, text: &str) -> Source {
    let file = syn::parse_file(text).unwrap_or_else(|e| panic!("{name}:{}: {e}", e.span().start().line));
    let mut reader = Reader { test: file.attrs.iter().any(is_for_tests), ..Reader::default() };
    reader.source.test = reader.test;
    reader.visit_file(&file);
    reader.source
}

#[derive(Default)]
struct Reader {
    inside: Vec<String>,
    test: bool,
    source: Source,
}

impl Reader {
    fn name(&mut self, span: Span, path: Vec<String>, origin: Origin) {
        let line = span.start().line;
        self.source.named.push(Named { line, inside: self.inside.clone(), path, origin, test: self.test });
    }

    /// Visits what `attributes` belong to.
    fn attributed(&mut self, attributes: &[Attribute], visit: impl FnOnce(&mut Self)) {
        let before = self.test;
        self.test |= attributes.iter().any(is_for_tests);
        visit(self);
        self.test = before;
    }

    fn use_tree(&mut self, tree: &UseTree, prefix: &[String]) {
        let with = |ident: &Ident| [prefix, &[word(ident)]].concat();
        match tree {
            UseTree::Path(path) => self.use_tree(&path.tree, &with(&path.ident)),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(tree, prefix)),
            UseTree::Glob(glob) => self.name(glob.star_token.spans[0], prefix.to_vec(), Origin::Use),
            UseTree::Name(name) => self.use_leaf(&name.ident, prefix),
            UseTree::Rename(rename) => self.use_leaf(&rename.ident, prefix),
        }
    }

    /// The last segment of a `use` path; `self` in braces stands for what is ahead of them.
    fn use_leaf(&mut self, ident: &Ident, prefix: &[String]) {
        let own = if ident == "self" && !prefix.is_empty() { Vec::new() } else { vec![word(ident)] };
        self.name(ident.span(), [prefix, &own].concat(), Origin::Use);
    }

    /// The paths among the tokens of a macro. Behind `a::{`, each path begins with `prefix`.
    fn tokens(&mut self, tokens: TokenStream, prefix: &[String], origin: Origin) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let punct = |i: usize| match tokens.get(i) {
            Some(TokenTree::Punct(punct)) => punct.as_char(),
            _ => ' ',
        };
        let colons = |i: usize| punct(i) == ':' && punct(i + 1) == ':';
        let mut i = 0;
        while i < tokens.len() {
            let begin = i;
            i += 1;
            let ident = match &tokens[begin] {
                TokenTree::Ident(ident) => ident,
                TokenTree::Group(group) => {
                    self.tokens(group.stream(), &[], origin);
                    continue;
                }
                _ => continue,
            };
            // In braces of a `use`, what follows `as` is no path.
            let starts = prefix.is_empty() || begin == 0 || punct(begin - 1) == ',';
            let variable = begin > 0 && punct(begin - 1) == '$' && ident != "crate";
            let mut path = prefix.to_vec();
            if begin > 1 && colons(begin - 2) {
                path.push(String::new());
            }
            if ident != "self" || prefix.is_empty() {
                path.push(word(ident));
            }
            let mut group = None;
            while colons(i) {
                match tokens.get(i + 2) {
                    Some(TokenTree::Ident(ident)) => path.push(word(ident)),
                    Some(TokenTree::Group(braces)) if braces.delimiter() == Delimiter::Brace => {
                        group = Some(braces.stream());
                    }
                    _ => break,
                }
                i += 3;
            }
            if !starts || variable {
                continue;
            }
            let macro_of_crate = punct(i) == '!' && is_macro_of_crate(&path);
            match group {
                Some(group) => self.tokens(group, &path, origin),
                None if !macro_of_crate => self.name(ident.span(), path, origin),
                None => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        self.attributed(attributes(item), |reader| visit::visit_item(reader, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.attributed(&item.attrs, |reader| visit::visit_impl_item_fn(reader, item));
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.source.modules.push(Declared {
            inside: self.inside.clone(),
            name: word(&item.ident),
            inline: item.content.is_some(),
            path: item.attrs.iter().find_map(path_attribute),
            test: self.test,
        });
        if let Some((_, items)) = &item.content {
            self.inside.push(word(&item.ident));
            items.iter().for_each(|item| self.visit_item(item));
            self.inside.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let prefix = if item.leading_colon.is_some() { vec![String::new()] } else { Vec::new() };
        self.use_tree(&item.tree, &prefix);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        if matches!(item.vis, Visibility::Public(_)) {
            self.source.public_traits.push((item.ident.span().start().line, word(&item.ident)));
        }
        visit::visit_item_trait(self, item);
    }

    // `pub(in crate::a)` imports nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let mut segments: Vec<String> = path.segments.iter().map(|segment| word(&segment.ident)).collect();
        if path.leading_colon.is_some() {
            segments.insert(0, String::new());
        }
        if let Some(first) = path.segments.first() {
            self.name(first.ident.span(), segments, Origin::Code);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let before = self.source.named.len();
        self.visit_path(&call.path);
        if self.source.named.last().is_some_and(|named| is_macro_of_crate(&named.path)) {
            self.source.named.truncate(before);
        }
        let defines = call.path.is_ident("macro_rules");
        self.tokens(call.tokens.clone(), &[], if defines { Origin::Macro } else { Origin::Code });
    }
}

/// `crate::m!`: macros with `#[macro_export]` are there, whichever file defines them.
fn is_macro_of_crate(path: &[String]) -> bool {
    path.len() == 2 && path[0] == "crate"
}

fn word(ident: &Ident) -> String {
    let word = ident.to_string();
    word.strip_prefix("r#").map_or(word.clone(), String::from)
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// `#[test]`, `#[cfg(test)]` and the like, not `#[cfg(not(test))]`.
fn is_for_tests(attribute: &Attribute) -> bool {
    fn holds_in_tests_only(meta: &Meta) -> bool {
        let Meta::List(list) = meta else {
            return meta.path().is_ident("test");
        };
        let inner = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
        let inner = inner.unwrap_or_default();
        match list.path.get_ident().map(ToString::to_string).as_deref() {
            Some("all" | "cfg") => inner.iter().any(holds_in_tests_only),
            Some("any") => !inner.is_empty() && inner.iter().all(holds_in_tests_only),
            _ => false,
        }
    }
    holds_in_tests_only(&attribute.meta)
}

fn path_attribute(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = &attribute.meta else {
        return None;
    };
    match &meta.value {
        Expr::Lit(value) if meta.path.is_ident("path") => match &value.lit {
            Lit::Str(path) => Some(path.value()),
            _ => None,
        },
        _ => None,
    }
}

/// The paths of a text that have more than one segment or are imported, as `LINE PATH`.
#[cfg(test)]
fn listed(text: &str) -> Vec<String> {
    let named = read("a", text).named.into_iter();
    let named = named.filter(|named| named.path.len() > 1 || named.origin == Origin::Use);
    named.map(|named| format!("{} {}", named.line, named.path.join("::"))).collect()
}

#[test]
fn paths_are_read_wherever_they_are() {
    let tree = "use crate::{a::{self, B as C}, d::*};\npub use super::e;\nuse ::f::g;";
    assert_eq!(listed(tree), ["1 crate::a", "1 crate::a::B", "1 crate::d", "2 super::e", "3 ::f::g"]);
    let code = "fn f(a: a::B) -> Vec<c::D> {\n  e::f::<g::H>();\n  let i::J(k) = l; <m::N as o::P>::q() }";
    assert_eq!(listed(code), ["1 a::B", "1 c::D", "2 e::f", "2 g::H", "3 i::J", "3 m::N", "3 o::P::q"]);
    let tokens = "m!(crate::a::B, x.y, $z::c, [super :: d()], ::e::f);\ncrate::n!();\nsuper::o!();";
    assert_eq!(listed(tokens), ["1 crate::a::B", "1 super::d", "1 ::e::f", "3 super::o"]);
    let defined = "macro_rules! m { () => { use $crate::{a::B as C, d::{self, E}}; crate::n!() } }";
    assert_eq!(listed(defined), ["1 crate::a::B", "1 crate::d", "1 crate::d::E"]);
    assert_eq!(listed("pub(in crate::a) struct B; // crate::c\nconst D: &str = \"crate::e\";").len(), 0);
}

#[test]
fn tests_and_modules_are_told_apart() {
    let text =
        "#[cfg(all(a, test))] mod b { use c::d; }\n#[cfg(not(test))] use e::f;\n#[path = \"g\"] mod h;";
    let source = read("a", text);
    let tests: Vec<_> = source.named.iter().filter(|named| named.test).map(|named| &named.path[0]).collect();
    assert_eq!(tests, ["c"]);
    let module = |i: usize| {
        let module: &Declared = &source.modules[i];
        (module.name.as_str(), module.inline, module.test, module.path.as_deref())
    };
    assert_eq!(module(0), ("b", true, true, None));
    assert_eq!(module(1), ("h", false, false, Some("g")));
    assert!(read("a", "#![cfg(test)]").test);
    assert_eq!(read("a", "pub trait A {}\ntrait B {}\npub(crate) trait C {}").public_traits.len(), 1);
}
