//! `docs/errors.md` has each error, and says what the code does: class, kind and code. Each message has its numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use hqq::agreement::{Capabilities, Fallback, Features};
use hqq::{Error, ErrorCode};
use syn::{Fields, Item, Type};

const ERRORS: &str = "## The variants of `Error`";
const CODES: &str = "## The codes of a peer's answer";
const FALLBACKS: &str = "## Why nothing was agreed on";

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A sample of each variant. Its numbers occur nowhere else in its message.
fn samples() -> Vec<Error> {
    let name = || "camera".to_owned();
    let (what, rule, reason) = ("a thing", "less than that", || "it is not so".to_owned());
    vec![
        Error::Geometry { what, value: 48127, rule },
        Error::Misaligned { what, address: 48127, align: 65521 },
        Error::TooSmallMemory { what, have: 48127, need: 65521 },
        Error::RegionTooLarge { need: 65521, limit: 48127 },
        Error::ForeignMagic { found: 48127 },
        Error::FormatVersion { found: 48127, supported: 65521 },
        Error::PageSize { found: 48127, ours: 65521 },
        Error::NotReady,
        Error::NoSeat { seats: 48127 },
        Error::RingFull { slots: 48127 },
        Error::RingEmpty,
        Error::NoneWaiting,
        Error::Busy,
        Error::PoolExhausted { wanted: 65521, free: 48127 },
        Error::PoolFragmented { wanted: 65521, longest: 48127 },
        Error::TooLarge { len: 65521, limit: 48127 },
        Error::TypeSize { want: 65521, found: 48127 },
        Error::TypeAlign { want: 65521, found: 48127 },
        Error::Corrupt { what, found: 48127 },
        Error::Closed,
        Error::PeerDead,
        Error::PeerGone,
        Error::Timeout { what, after: Duration::from_millis(48127) },
        Error::Refused { what, code: ErrorCode::ConnRefused },
        Error::Cut { received: 48127, size: 65521 },
        Error::TooMany { open: 48127, limit: 65521 },
        Error::Unsupported { what },
        Error::NoSuchName { name: name() },
        Error::NameInUse { name: name() },
        Error::BadName { name: name(), rule },
        Error::OtherUser { uid: 48127, expected: 65521 },
        Error::Handshake { what, found: Some(48127) },
        Error::NotAgreed {
            missing: Features::QOS,
            incapable: Capabilities::LOW_LATENCY,
            fallback: Fallback::Silence,
        },
        Error::Frame { layer: "a layer", reason: reason() },
        Error::StoreFull { messages: 48127, bytes: 65521, limit: 50021 },
        Error::TrafficClass { reason: reason() },
        Error::Os { doing: "doing a thing", source: io::Error::from(io::ErrorKind::NotFound) },
    ]
}

/// The name of an error's variant.
fn variant(error: &Error) -> String {
    format!("{error:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// The variants of an enumeration, each with its fields that are numbers or durations.
fn variants(source: &str, name: &str) -> BTreeMap<String, Vec<String>> {
    let file = syn::parse_file(source).expect("the source is Rust");
    let found = file.items.into_iter().find_map(|item| match item {
        Item::Enum(item) if item.ident == name => Some(item),
        _ => None,
    });
    let item = found.unwrap_or_else(|| panic!("there is no enum {name}"));
    let is_number = |of: &Type| {
        let Type::Path(path) = of else { return false };
        let last = path.path.segments.last().expect("a path has a name").ident.to_string();
        ["u8", "u32", "u64", "usize", "Option", "Duration"].contains(&last.as_str())
    };
    item.variants
        .into_iter()
        .map(|variant| {
            let fields = match variant.fields {
                Fields::Named(fields) => fields.named.into_iter().collect(),
                _ => Vec::new(),
            };
            let numbers = fields.into_iter().filter(|field| is_number(&field.ty));
            let names = numbers.filter_map(|field| field.ident.map(|name| name.to_string())).collect();
            (variant.ident.to_string(), names)
        })
        .collect()
}

/// The rows of the table below a heading: name and the other cells.
fn rows<'p>(page: &'p str, heading: &str) -> Vec<(String, Vec<&'p str>)> {
    let below = page.split_once(heading).map_or("", |(_, below)| below);
    let table = below.split("\n## ").next().unwrap_or_default();
    let lines = table.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            (cells.next().unwrap_or_default().trim_matches('`').to_owned(), cells.collect())
        })
        .collect()
}

/// Names that are in one of the two and not in the other, or twice in the page.
fn unmatched(rows: &[(String, Vec<&str>)], code: &BTreeSet<String>, kind: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (name, cells) in rows {
        if !seen.insert(name.clone()) {
            found.push(format!("docs/errors.md: two rows for {kind}::{name}"));
        }
        if cells.iter().take(3).any(|cell| cell.is_empty()) && kind != "Error" {
            found.push(format!("docs/errors.md: {kind}::{name} has an empty cell"));
        }
    }
    found.extend(code.difference(&seen).map(|name| format!("docs/errors.md: no row for {kind}::{name}")));
    found.extend(seen.difference(code).map(|name| format!("docs/errors.md: there is no {kind}::{name}")));
    found
}

/// What the row of an error must say after meaning and cure: class, kind and code.
fn facts(error: &Error) -> [String; 3] {
    let class = match (error.is_transient(), error.is_end()) {
        (true, _) => "transient",
        (false, true) => "end",
        (false, false) => "",
    };
    let code = match error {
        Error::Refused { code, .. } => {
            assert_eq!(error.code(), Some(*code));
            "the peer's".to_owned()
        }
        error => error.code().map(|code| format!("{code:?}")).unwrap_or_default(),
    };
    let source = match error {
        Error::Os { source, .. } => Some(source.kind()),
        _ => None,
    };
    let kind = io::Error::from(again(error)).kind();
    let kind = if source == Some(kind) { "the source's".to_owned() } else { format!("{kind:?}") };
    [class.to_owned(), kind, code]
}

/// The sample once more: errors cannot be cloned.
fn again(error: &Error) -> Error {
    let same = samples().into_iter().find(|sample| variant(sample) == variant(error));
    same.expect("it is one of the samples")
}

/// Where the page and the sources differ.
fn violations(page: &str, errors: &str, agreement: &str) -> Vec<String> {
    let names = |source, name| variants(source, name).into_keys().collect::<BTreeSet<_>>();
    let rows_of_errors = rows(page, ERRORS);
    let mut found = unmatched(&rows_of_errors, &names(errors, "Error"), "Error");
    found.extend(unmatched(&rows(page, CODES), &names(errors, "ErrorCode"), "ErrorCode"));
    found.extend(unmatched(&rows(page, FALLBACKS), &names(agreement, "Fallback"), "Fallback"));

    let samples = samples();
    let sampled: BTreeSet<_> = samples.iter().map(variant).collect();
    let variants = variants(errors, "Error");
    found.extend(
        variants
            .keys()
            .filter(|name| !sampled.contains(*name))
            .map(|name| format!("tests/errors.rs: samples() lacks Error::{name}")),
    );
    for error in &samples {
        let name = variant(error);
        let Some((_, cells)) = rows_of_errors.iter().find(|(row, _)| *row == name) else { continue };
        if cells.len() != 5 || cells[..2].iter().any(|cell| cell.is_empty()) {
            found.push(format!("docs/errors.md: the row of {name} needs a meaning, a cure and 3 more cells"));
        } else if cells[2..] != facts(error) {
            found.push(format!("docs/errors.md: {name} is {:?}, not {:?}", facts(error), &cells[2..]));
        }
    }
    for (name, cells) in rows(page, CODES) {
        let number = cells.first().and_then(|cell| cell.strip_prefix("0x"));
        let number = number.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let code = number.and_then(ErrorCode::from_number);
        if code.is_none_or(|code| format!("{code:?}") != name) {
            found.push(format!("docs/errors.md: {name} does not have the number {:?}", cells.first()));
        }
    }
    found
}

fn sources() -> (String, String) {
    (text("src/error.rs"), text("src/agreement.rs"))
}

#[test]
fn the_page_has_each_error_as_it_is() {
    let (errors, agreement) = sources();
    let found = violations(&text("docs/errors.md"), &errors, &agreement);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_page_that_differs_is_found() {
    let (errors, agreement) = sources();
    let page = text("docs/errors.md");
    let finds = |page: &str, errors: &str, part: &str| {
        let found = violations(page, errors, &agreement);
        assert!(found.iter().any(|line| line.contains(part)), "{part}: {found:?}");
    };
    let without = |name: &str| {
        let row = format!("| `{name}` |");
        let lines: Vec<_> = page.lines().filter(|line| !line.starts_with(&row)).collect();
        assert!(lines.len() < page.lines().count(), "{name} has a row");
        lines.join("\n")
    };
    finds(&without("RingFull"), &errors, "no row for Error::RingFull");
    finds(&without("Overrun"), &errors, "no row for ErrorCode::Overrun");
    finds(&without("Silence"), &errors, "no row for Fallback::Silence");
    finds(&page.replace("| `Busy` |", "| `Lazy` |"), &errors, "there is no Error::Lazy");
    finds(&page.replace("| `Busy` |", "| `RingFull` |"), &errors, "two rows for Error::RingFull");
    finds(&page.replace("| end | ConnectionReset |", "| | ConnectionReset |"), &errors, "PeerDead is");
    finds(&page.replace("| ConnectionReset |", "| TimedOut |"), &errors, "PeerDead is");
    finds(&page.replace("PermissionDenied | NotAdmitted |", "PermissionDenied | |"), &errors, "OtherUser is");
    finds(&page.replace("| `Overrun` | 0x44 |", "| `Overrun` | 0x45 |"), &errors, "Overrun does not have");
    let more = errors.replace("    NotReady,\n", "    NotReady,\n    NotYet,\n");
    assert_ne!(more, errors);
    finds(&page, &more, "no row for Error::NotYet");
    finds(&page, &more, "samples() lacks Error::NotYet");
}

/// Values of an error's numeric fields that its message lacks.
fn missing(error: &Error, message: &str, fields: &[String]) -> Vec<String> {
    let debug = format!("{error:?}");
    let has = |value: &str| {
        let hexadecimal = value.parse::<u64>().map(|value| format!("{value:x}"));
        message.contains(value) || hexadecimal.is_ok_and(|digits| message.contains(&digits))
    };
    let value = |field: &str| {
        let (_, after) = debug.split_once(&format!(" {field}: ")).expect("the field is shown");
        let after = after.strip_prefix("Some(").unwrap_or(after);
        after.split([',', ')', ' ']).next().unwrap_or_default().to_owned()
    };
    fields.iter().map(|field| value(field)).filter(|value| !has(value)).collect()
}

#[test]
fn each_message_has_its_numbers_and_is_one_sentence() {
    let variants = variants(&text("src/error.rs"), "Error");
    let mut numbers = 0;
    for error in samples() {
        let (message, fields) = (error.to_string(), &variants[&variant(&error)]);
        numbers += fields.len();
        assert_eq!(missing(&error, &message, fields), [""; 0], "{message}");
        assert!(!message.ends_with('.') && !message.contains("  ") && !message.contains('\n'), "{message:?}");
    }
    assert!(numbers > 30, "{numbers} numeric fields were found");
    let error = Error::TooLarge { len: 65521, limit: 48127 };
    let lacking = missing(&error, "a message of 65521 bytes is too large", &variants["TooLarge"]);
    assert_eq!(lacking, ["48127"]);
}

#[test]
fn each_code_says_what_it_means() {
    let names = variants(&text("src/error.rs"), "ErrorCode");
    let codes: Vec<_> = (0..=255).filter_map(ErrorCode::from_number).collect();
    assert_eq!(codes.iter().map(|code| format!("{code:?}")).collect::<BTreeSet<_>>().len(), names.len());
    for code in codes {
        let message = Error::Refused { what: "the connection", code }.to_string();
        assert!(message.contains(code.meaning()) && message.contains(&code.to_string()), "{message}");
    }
}
