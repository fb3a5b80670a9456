//! Generates the table of opcodes and error codes in `docs/testing.md` from the traces of the tests.
//!
//! With `HQQ_TRACE_DIR` set, the processes of the tests append to files `*.trace` in that folder,
//! one line for each packet that they send or receive, its fields separated by tabs:
//!
//! ```text
//! TEST  primary|secondary  sent|received  OPCODE  ERROR-CODE|-
//! ```
//!
//! Codes are hexadecimal; the last field is the error code of an OpError and `-` otherwise. The
//! table lists the directions and the tests of each code. It has no counts, because counts differ from run to run.

use crate::command::{cargo, root, run, target_dir};
use crate::document::{Section, first_difference};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The environment variable with the folder of the traces.
pub const VARIABLE: &str = "HQQ_TRACE_DIR";

const DOCUMENT: &str = "docs/testing.md";
const TABLE: Section =
    Section { document: DOCUMENT, begin: "<!-- opcodes: begin -->", end: "<!-- opcodes: end -->" };
/// The most tests that a row names.
const NAMED: usize = 6;

const OPCODES: [(u8, &str); 10] = [
    (0x00, "OpError"),
    (0x01, "OpConnCreate"),
    (0x02, "OpConnAccept"),
    (0x03, "OpConnClose"),
    (0x04, "OpConnCopy"),
    (0x05, "OpProtoNegotiate"),
    (0x06, "OpProtoAck"),
    (0x10, "InlineCopy"),
    (TOMBSTONE, "tombstone"),
    (0xFF, "OpStandardLinkCopy"),
];

/// Never delivered to a receiver, so it need not be in a trace.
const TOMBSTONE: u8 = 0xFE;

const ERRORS: [(u64, &str); 7] = [
    (0x01, "MemoryAlign"),
    (0x02, "InvalidSize"),
    (0x03, "MemorySmall"),
    (0x04, "FailedInit"),
    (0x05, "ConnNotFound"),
    (0x06, "InvalidOp"),
    (0x07, "BufferOverflow"),
];

/// Error codes from here on are not in the specification; they are listed if they occur.
const OWN_ERRORS: u64 = 0x40;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Code {
    Op(u8),
    Error(u64),
}

#[derive(Debug, Default)]
struct Sight {
    from_primary: bool,
    from_secondary: bool,
    tests: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Seen(BTreeMap<Code, Sight>);

impl Seen {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[test, role, direction, op, context] = fields.as_slice() else {
            return Err(format!("{} fields instead of 5", fields.len()));
        };
        if test.is_empty() || test.contains('|') {
            return Err(format!("{test:?} is not the name of a test"));
        }
        let from_primary = match (role, direction) {
            ("primary", "sent") | ("secondary", "received") => true,
            ("primary", "received") | ("secondary", "sent") => false,
            _ => return Err(format!("{role:?} {direction:?} is not a role and a direction")),
        };
        let op = u8::from_str_radix(op, 16).map_err(|e| format!("opcode {op:?}: {e}"))?;
        let mut codes = vec![Code::Op(op)];
        if op == 0x00 {
            let code =
                u64::from_str_radix(context, 16).map_err(|e| format!("error code {context:?}: {e}"))?;
            codes.push(Code::Error(code));
        } else if context != "-" {
            return Err(format!("{context:?} instead of - with opcode {op:02x}"));
        }
        for code in codes {
            let sight = self.0.entry(code).or_default();
            sight.from_primary |= from_primary;
            sight.from_secondary |= !from_primary;
            sight.tests.insert(test.to_owned());
        }
        Ok(())
    }

    fn file(&mut self, text: &str) -> Result<(), String> {
        for (number, line) in text.split_inclusive('\n').enumerate() {
            // A process that was killed while it wrote leaves its last line unfinished.
            if let Some(line) = line.strip_suffix('\n') {
                self.line(line).map_err(|e| format!("line {}: {e}", number + 1))?;
            }
        }
        Ok(())
    }

    /// The required codes that no test traced.
    fn missing(&self) -> Vec<String> {
        let ops = OPCODES.iter().filter(|(op, _)| *op != TOMBSTONE);
        let ops = ops.map(|&(op, name)| (Code::Op(op), format!("opcode 0x{op:02X} {name}")));
        let errors =
            ERRORS.iter().map(|&(code, name)| (Code::Error(code), format!("error code 0x{code:02X} {name}")));
        ops.chain(errors).filter(|(code, _)| !self.0.contains_key(code)).map(|(_, text)| text).collect()
    }

    fn table(&self) -> String {
        let mut text = String::new();
        let head = |text: &mut String, first: &str| {
            let _ = writeln!(
                text,
                "| {first} | Name | From Primary | From Secondary | Seen in |\n|---|---|---|---|---|"
            );
        };
        head(&mut text, "Opcode");
        for (op, name) in OPCODES {
            self.row(&mut text, Code::Op(op), u64::from(op), name);
        }
        text.push('\n');
        head(&mut text, "Error code");
        for (code, name) in ERRORS {
            self.row(&mut text, Code::Error(code), code, name);
        }
        for code in self.0.keys() {
            if let Code::Error(own) = *code {
                if own >= OWN_ERRORS {
                    self.row(&mut text, *code, own, "our own, see `spec.md`");
                }
            }
        }
        text
    }

    fn row(&self, text: &mut String, code: Code, number: u64, name: &str) {
        let nothing = Sight::default();
        let sight = self.0.get(&code).unwrap_or(&nothing);
        let mut tests: Vec<String> = sight.tests.iter().take(NAMED).map(|test| format!("`{test}`")).collect();
        if sight.tests.len() > NAMED {
            tests.push("and others".into());
        }
        if tests.is_empty() && code == Code::Op(TOMBSTONE) {
            tests.push("never delivered: the models and the tests of recovery".into());
        }
        let yes = |seen| if seen { "yes" } else { "no" };
        let _ = writeln!(
            text,
            "| `0x{number:02X}` | {name} | {} | {} | {} |",
            yes(sight.from_primary),
            yes(sight.from_secondary),
            tests.join(", ")
        );
    }
}

/// Runs the tests with tracing, then writes the table, or only compares it.
pub fn regenerate(check: bool) -> Result<(), String> {
    let folder = target_dir().join("trace");
    empty(&folder)?;
    // Every test that can trace, as `cargo xtask test` has it, so that both make the same table.
    let mut tests = cargo("test --workspace --tests");
    run(tests.env(VARIABLE, &folder)).map_err(|why| format!("the tests failed: {why}"))?;
    if check {
        return compare(&folder);
    }
    let path = root().join(DOCUMENT);
    let (old, new) = documents(&folder)?;
    if old == new {
        println!("{DOCUMENT} is up to date");
        return Ok(());
    }
    fs::write(&path, new).map_err(|e| format!("{}: {e}", path.display()))?;
    println!("{DOCUMENT} rewritten");
    Ok(())
}

/// Makes `folder` an empty folder.
pub fn empty(folder: &Path) -> Result<(), String> {
    let problem = |e| format!("{}: {e}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(problem)?;
    }
    fs::create_dir_all(folder).map_err(problem)
}

/// Fails unless the table in the document is the one that the traces in `folder` make.
pub fn compare(folder: &Path) -> Result<(), String> {
    let (old, new) = documents(folder)?;
    match first_difference(&old, &new) {
        None => Ok(()),
        Some(difference) => Err(format!(
            "{DOCUMENT} is not what the tests show; cargo xtask trace-table rewrites it\n{difference}"
        )),
    }
}

/// The document as it is and as it should be.
fn documents(folder: &Path) -> Result<(String, String), String> {
    let seen = read(folder)?;
    let missing = seen.missing();
    if !missing.is_empty() {
        return Err(format!("no test showed {}", missing.join(", ")));
    }
    let old = fs::read_to_string(root().join(DOCUMENT)).map_err(|e| format!("{DOCUMENT}: {e}"))?;
    let new = TABLE.splice(&old, &seen.table()).map_err(|e| format!("{DOCUMENT}: {e}"))?;
    Ok((old, new))
}

fn read(folder: &Path) -> Result<Seen, String> {
    let problem = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut seen = Seen::default();
    let mut files = 0;
    for entry in fs::read_dir(folder).map_err(problem)? {
        let path = entry.map_err(problem)?.path();
        if path.extension().is_some_and(|ext| ext == "trace") {
            let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let text = String::from_utf8_lossy(&bytes);
            let read = seen.file(&text);
            read.map_err(|e| format!("{}: {e}", path.display()))?;
            files += 1;
        }
    }
    if files == 0 {
        return Err(format!("the tests wrote no *.trace to {}", folder.display()));
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Seen {
        let mut seen = Seen::default();
        for (op, _) in OPCODES {
            if op != 0x00 && op != TOMBSTONE {
                seen.line(&format!("ops::all\tprimary\tsent\t{op:02x}\t-")).unwrap();
            }
        }
        for (code, _) in ERRORS {
            seen.line(&format!("errors::all\tprimary\treceived\t00\t{code:02x}")).unwrap();
        }
        seen
    }

    #[test]
    fn direction_is_that_of_the_packet() {
        let mut seen = Seen::default();
        seen.file("t\tsecondary\treceived\tff\t-\nt\tsecondary\tsent\t00\t05\n").unwrap();
        let copy = &seen.0[&Code::Op(0xFF)];
        assert!(copy.from_primary && !copy.from_secondary);
        let error = &seen.0[&Code::Error(5)];
        assert!(!error.from_primary && error.from_secondary);
        assert!(seen.0.contains_key(&Code::Op(0)));
    }

    #[test]
    fn every_required_code_is_required() {
        assert_eq!(all().missing(), Vec::<String>::new());
        for (op, name) in OPCODES {
            let mut seen = all();
            seen.0.remove(&Code::Op(op));
            let missing = seen.missing().join(" ");
            assert_eq!(missing.contains(name), op != TOMBSTONE, "{name}");
        }
        for (code, name) in ERRORS {
            let mut seen = all();
            seen.0.remove(&Code::Error(code));
            assert!(seen.missing()[0].contains(name));
        }
    }

    #[test]
    fn broken_lines_are_errors_and_an_unfinished_last_one_is_not() {
        for wrong in [
            "",
            "t\tprimary\tsent\t04",
            "\tprimary\tsent\t04\t-",
            "t\tnobody\tsent\t04\t-",
            "t\tprimary\tlost\t04\t-",
            "t\tprimary\tsent\tzz\t-",
            "t\tprimary\tsent\t00\t-",
            "t\tprimary\tsent\t04\t01",
        ] {
            assert!(Seen::default().line(wrong).is_err(), "{wrong:?}");
        }
        let whole = "t\tprimary\tsent\t04\t-\n";
        let mut seen = Seen::default();
        assert!(seen.file(&format!("{whole}t\tprim")).is_ok());
        let late = seen.file(&format!("{whole}t\tprim\n{whole}")).unwrap_err();
        assert!(late.starts_with("line 2"), "{late}");
    }

    #[test]
    fn the_table_is_the_same_in_any_order_and_however_often() {
        let lines = [
            "b::two\tprimary\tsent\tff\t-\n",
            "a::one\tprimary\treceived\tff\t-\n",
            "c::three\tprimary\tsent\t00\t40\n",
        ];
        let (mut once, mut often) = (Seen::default(), Seen::default());
        once.file(&lines.concat()).unwrap();
        for line in lines.iter().rev().chain(&lines) {
            often.file(line).unwrap();
        }
        assert_eq!(once.table(), often.table());
        let table = once.table();
        assert!(table.contains("| `0xFF` | OpStandardLinkCopy | yes | yes | `a::one`, `b::two` |"));
        assert!(table.contains("| `0x40` | our own, see `spec.md` | yes | no | `c::three` |"));
        assert!(table.contains("| `0xFE` | tombstone | no | no | never delivered"));
    }
}
