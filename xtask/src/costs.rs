//! `cargo xtask costs`: the exact cost of a message, compared with a budget.
//!
//! The program `hqq-cost-counter` steps through the release build and counts (`hqq-tests/src/bin/cost-counter`). The budget is
//! `docs/costs.json`; the table in `docs/benchmarks.md` shows it.

use crate::command::{cargo, root, run as run_command, target_dir};
use crate::document::Section;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

/// The cargo command that builds the program.
const BUILD: &str = "build --release --quiet -p hqq-tests --bin hqq-cost-counter";

const BUDGET: &str = "docs/costs.json";
const TABLE: Section =
    Section { document: "docs/benchmarks.md", begin: "<!-- costs: begin -->", end: "<!-- costs: end -->" };
const WAY_OUT: &str = "If the change is worth it, raise the budget with `cargo xtask costs --write` and give the reason in \
                       the commit. To separate sends from receives: cargo xtask costs --parts --only ROW";

/// A counted quantity.
struct Column {
    key: &'static str,
    heading: &'static str,
    /// The fraction by which the count may grow with another compiler, if it depends on the compiler. The number of private
    /// lines also depends on the layout of the program.
    slack: Option<f64>,
}

const fn column(key: &'static str, heading: &'static str, slack: Option<f64>) -> Column {
    Column { key, heading, slack }
}

const COUNT: usize = 11;
const COLUMNS: [Column; COUNT] = [
    column("instructions", "instructions", Some(0.02)),
    column("rmws", "atomic RMWs", None),
    column("fences", "fences", None),
    column("shared_lines", "shared lines", None),
    column("written_lines", "written", None),
    column("private_lines", "private lines", Some(0.1)),
    column("loads", "loads", Some(0.02)),
    column("stores", "stores", Some(0.02)),
    column("system_calls", "system calls", None),
    column("allocations", "allocations", None),
    column("clock_reads", "clock reads", None),
];

const PARTS: [&str; 3] = ["send", "receive", "both"];
const BOTH: usize = 2;

/// The arguments of the command.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Print a table.
    Show {
        /// Separate sends from receives.
        parts: bool,
        /// Also count instructions with callgrind.
        callgrind: bool,
        /// Only rows whose name contains this.
        only: String,
    },
    /// Store the counts as the budget.
    Write,
    /// Fail if a count exceeds the budget.
    Check,
}

impl Wanted {
    /// Parses the arguments; `None` if they are invalid.
    pub fn parse(args: &[&str]) -> Option<Self> {
        let (mut parts, mut callgrind, mut only) = (false, false, String::new());
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            match *arg {
                "--write" if args.len() == 1 => return Some(Self::Write),
                "--check" if args.len() == 1 => return Some(Self::Check),
                "--parts" => parts = true,
                "--callgrind" => callgrind = true,
                "--only" => only = (*rest.next()?).to_owned(),
                _ => return None,
            }
        }
        Some(Self::Show { parts, callgrind, only })
    }
}

/// A row: the cost of sending a message, of receiving it, and of both. The lines of both may be less than the sum.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    name: String,
    parts: [[f64; COUNT]; 3],
    callgrind: Option<f64>,
}

impl Row {
    fn read(value: &Value, number: impl Fn(&Value, &Column) -> Option<f64>) -> Option<Self> {
        let mut parts = [[0.0; COUNT]; 3];
        for (name, part) in PARTS.iter().zip(&mut parts) {
            let given = value.get("parts")?.get(name)?;
            for (column, cell) in COLUMNS.iter().zip(part) {
                *cell = number(given, column)?;
            }
        }
        let name = value["name"].as_str()?.to_owned();
        Some(Self { name, parts, callgrind: value["callgrind"].as_f64() })
    }

    /// Reads the output of the program: sums over several messages.
    fn found(value: &Value) -> Option<Self> {
        let messages = value["messages"].as_f64()?;
        Self::read(value, |part, column| Some(part["total"][column.key].as_f64()? / messages))
    }

    /// Reads the budget: the cost of one message.
    fn budgeted(value: &Value) -> Option<Self> {
        Self::read(value, |part, column| part[column.key].as_f64())
    }
}

/// The budget, and the compiler that it was counted with.
#[derive(Debug, PartialEq)]
struct Budget {
    compiler: String,
    rows: Vec<Row>,
}

impl Budget {
    fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("{BUDGET} was not written by this command");
        let value: Value = serde_json::from_str(text).map_err(|e| format!("{BUDGET}: {e}"))?;
        let compiler = value["compiler"].as_str().ok_or_else(wrong)?.to_owned();
        let rows = value["rows"].as_array().ok_or_else(wrong)?;
        let rows: Option<Vec<Row>> = rows.iter().map(Row::budgeted).collect();
        Ok(Self { compiler, rows: rows.ok_or_else(wrong)? })
    }

    /// The budget as JSON with one line for each part, so that diffs are readable.
    fn text(&self) -> String {
        let mut text = format!("{{\n  \"compiler\": {},\n  \"rows\": [", Value::from(self.compiler.as_str()));
        for (at, row) in self.rows.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ =
                write!(text, "{comma}\n    {{ \"name\": {}, \"parts\": {{", Value::from(row.name.as_str()));
            for (at, (name, part)) in PARTS.iter().zip(&row.parts).enumerate() {
                let cells: Vec<String> = COLUMNS
                    .iter()
                    .zip(part)
                    .map(|(column, cell)| format!("\"{}\": {cell}", column.key))
                    .collect();
                let comma = if at == 0 { "" } else { "," };
                let _ = write!(text, "{comma}\n      \"{name}\": {{ {} }}", cells.join(", "));
            }
            text.push_str(" } }");
        }
        text.push_str("\n  ]\n}\n");
        text
    }

    /// Compares counts with the budget: one line for each part of a row that is over or under it.
    fn judge(&self, found: &Budget) -> Judgement {
        let mut judgement = Judgement::default();
        let same_compiler = self.compiler == found.compiler;
        for row in &found.rows {
            let Some(allowed) = self.rows.iter().find(|allowed| allowed.name == row.name) else {
                judgement.over.push(format!("{}: has no budget", row.name));
                continue;
            };
            for (part, (cells, budgets)) in PARTS.iter().zip(row.parts.iter().zip(&allowed.parts)) {
                let (mut over, mut under, mut other_compiler) = (Vec::new(), Vec::new(), Vec::new());
                for (column, (cell, budget)) in COLUMNS.iter().zip(cells.iter().zip(budgets)) {
                    let slack = budget * column.slack.unwrap_or(0.0);
                    let lines = if *cell < budget - slack {
                        &mut under
                    } else if *cell <= budget + slack {
                        continue;
                    } else if same_compiler || column.slack.is_none() {
                        &mut over
                    } else {
                        &mut other_compiler
                    };
                    lines.push(format!(
                        "{}: budget {}, found {}",
                        column.heading,
                        figure(*budget),
                        figure(*cell)
                    ));
                }
                let told = [
                    (over, &mut judgement.over),
                    (under, &mut judgement.under),
                    (other_compiler, &mut judgement.other_compiler),
                ];
                for (figures, lines) in told.into_iter().filter(|(figures, _)| !figures.is_empty()) {
                    lines.push(format!("{}, {part}: {}", row.name, figures.join("; ")));
                }
            }
        }
        let gone = self.rows.iter().filter(|row| found.rows.iter().all(|other| other.name != row.name));
        judgement
            .over
            .extend(gone.map(|row| format!("{}: has a budget, but is not counted any more", row.name)));
        judgement
    }
}

#[derive(Debug, Default)]
struct Judgement {
    over: Vec<String>,
    under: Vec<String>,
    /// Counts over the budget that depend on the compiler, with another compiler.
    other_compiler: Vec<String>,
}

/// Runs the command.
pub fn run(wanted: &Wanted) -> Result<(), String> {
    match wanted {
        Wanted::Show { parts, callgrind, only } => {
            let found = count(only, *callgrind)?;
            print!("{}", table(&found, *parts));
            agree(&found)
        }
        Wanted::Write => {
            let budget = Budget { compiler: compiler()?, rows: count("", false)? };
            let path = root().join(BUDGET);
            fs::write(&path, budget.text()).map_err(|e| format!("{}: {e}", path.display()))?;
            println!("{BUDGET} rewritten");
            TABLE.put(&section(&budget), false)
        }
        Wanted::Check => check(),
    }
}

/// Compares the two ways to count instructions: they must agree, except for the loop, which callgrind also counts.
fn agree(found: &[Row]) -> Result<(), String> {
    const LOOP: f64 = 4.0;
    let far = |row: &&Row| {
        let own = row.parts[BOTH][0];
        row.callgrind.is_some_and(|count| (own - count).abs() > LOOP.max(own * 0.01))
    };
    let names: Vec<&str> = found.iter().filter(far).map(|row| row.name.as_str()).collect();
    if names.is_empty() { Ok(()) } else { Err(format!("callgrind counts otherwise: {}", names.join("; "))) }
}

fn check() -> Result<(), String> {
    let text = fs::read_to_string(root().join(BUDGET)).map_err(|e| format!("{BUDGET}: {e}"))?;
    let budget = Budget::read(&text)?;
    TABLE.put(&section(&budget), true)?;
    let found = Budget { compiler: compiler()?, rows: count("", false)? };
    let judgement = budget.judge(&found);
    if budget.compiler != found.compiler {
        println!(
            "the budget is {}'s, this is {}: instructions, loads, stores and private lines are not enforced",
            budget.compiler, found.compiler
        );
        judgement.other_compiler.iter().for_each(|line| println!("more with this compiler: {line}"));
    }
    if !judgement.under.is_empty() {
        judgement.under.iter().for_each(|line| println!("less: {line}"));
        println!("the budget can be tightened: cargo xtask costs --write");
    }
    if judgement.over.is_empty() {
        println!("{} rows are within {BUDGET}", found.rows.len());
        return Ok(());
    }
    Err(format!("over the budget of {BUDGET}:\n{}\n{WAY_OUT}", judgement.over.join("\n")))
}

/// Builds and runs the program that counts.
fn count(only: &str, callgrind: bool) -> Result<Vec<Row>, String> {
    run_command(&mut cargo(BUILD))?;
    let program = target_dir().join("release/hqq-cost-counter");
    let mut command = Command::new(program);
    command.args(["--only", only]).args(callgrind.then_some("--callgrind")).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("hqq-cost-counter does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("hqq-cost-counter ended with {}", output.status));
    }
    let values: Vec<Value> =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("hqq-cost-counter: {e}"))?;
    let rows: Option<Vec<Row>> = values.iter().map(Row::found).collect();
    let rows = rows.ok_or("hqq-cost-counter prints other figures than this command knows")?;
    if rows.is_empty() { Err(format!("no row has {only:?} in its name")) } else { Ok(rows) }
}

fn compiler() -> Result<String, String> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program).arg("--version").output().map_err(|e| format!("rustc: {e}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The table for the document.
fn section(budget: &Budget) -> String {
    format!("{}\nInstructions by {}.\n", table(&budget.rows, false), budget.compiler)
}

/// A Markdown table with aligned columns.
fn table(rows: &[Row], parts: bool) -> String {
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut head = vec![String::from("one message"), COLUMNS[0].heading.into()];
    if !parts {
        head.extend(["to send", "to receive"].map(String::from));
    }
    head.extend(COLUMNS[1..].iter().map(|column| column.heading.to_owned()));
    let callgrind = rows.iter().any(|row| row.callgrind.is_some());
    if callgrind {
        head.extend(["callgrind", "differs by"].map(String::from));
    }
    lines.push(head);
    for row in rows {
        let both = BOTH..=BOTH;
        let shown = if parts { 0..=BOTH } else { both };
        for part in shown {
            let cells = &row.parts[part];
            let name = if parts { format!("{}, {}", row.name, PARTS[part]) } else { row.name.clone() };
            let mut line = vec![name, figure(cells[0])];
            if !parts {
                line.extend([figure(row.parts[0][0]), figure(row.parts[1][0])]);
            }
            line.extend(cells[1..].iter().map(|cell| figure(*cell)));
            if callgrind {
                line.extend(match row.callgrind.filter(|_| part == BOTH) {
                    Some(count) => [figure(count), format!("{:.1} %", (cells[0] - count) / count * 100.0)],
                    None => [String::new(), String::new()],
                });
            }
            lines.push(line);
        }
    }
    let widths: Vec<usize> =
        (0..lines[0].len()).map(|at| lines.iter().map(|line| line[at].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ =
                if at == 0 { write!(text, "| {cell:width$} |") } else { write!(text, " {cell:>width$} |") };
        }
        text.push('\n');
        if at == 0 {
            let rules = widths.iter().enumerate();
            let rules = rules.map(|(at, width)| match at {
                0 => "-".repeat(width + 2),
                _ => format!("{}:", "-".repeat(width + 1)),
            });
            let _ = writeln!(text, "|{}|", rules.collect::<Vec<String>>().join("|"));
        }
    }
    text
}

/// Formats a number with at most two decimal places.
fn figure(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, cell: f64) -> Row {
        Row { name: name.into(), parts: [[cell; COUNT]; 3], callgrind: None }
    }

    fn budget(rows: Vec<Row>) -> Budget {
        Budget { compiler: "rustc 1".into(), rows }
    }

    #[test]
    fn what_is_written_is_read() {
        let written = budget(vec![row("a \"slot\"", 100.0), row("b", 0.015625)]);
        assert_eq!(Budget::read(&written.text()).unwrap(), written);
        for wrong in ["", "{}", r#"{"compiler": "x", "rows": [{}]}"#] {
            assert!(Budget::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn more_than_the_budget_is_a_failure_that_names_it() {
        let allowed = budget(vec![row("a", 100.0)]);
        assert!(allowed.judge(&allowed).over.is_empty());
        for (at, column) in COLUMNS.iter().enumerate() {
            let mut found = budget(vec![row("a", 100.0)]);
            found.rows[0].parts[1][at] = 101.0;
            let over = allowed.judge(&found).over;
            assert_eq!(over.len(), usize::from(column.slack.is_none()), "{}", column.key);
            found.rows[0].parts[1][at] = 111.0;
            let over = allowed.judge(&found).over;
            assert_eq!(over, [format!("a, receive: {}: budget 100, found 111", column.heading)]);
        }
    }

    #[test]
    fn another_compiler_is_held_to_what_it_does_not_decide() {
        let allowed = budget(vec![row("a", 100.0)]);
        let found = Budget { compiler: "rustc 2".into(), rows: vec![row("a", 200.0)] };
        let judgement = allowed.judge(&found);
        let compiled = COLUMNS.iter().filter(|column| column.slack.is_some()).count();
        let figures =
            |lines: &[String]| lines.iter().map(|line| line.matches("found").count()).collect::<Vec<_>>();
        assert_eq!(figures(&judgement.other_compiler), [compiled; 3]);
        assert_eq!(figures(&judgement.over), [COUNT - compiled; 3]);
    }

    #[test]
    fn less_is_told_and_rows_must_match() {
        let allowed = budget(vec![row("a", 100.0), row("b", 1.0)]);
        let judgement = allowed.judge(&budget(vec![row("a", 80.0), row("c", 1.0)]));
        assert_eq!(judgement.under.len(), PARTS.len());
        assert_eq!(judgement.over, ["c: has no budget", "b: has a budget, but is not counted any more"]);
    }

    #[test]
    fn callgrind_must_agree() {
        let counted = |callgrind| [Row { callgrind, ..row("a", 1000.0) }];
        for good in [None, Some(1000.0), Some(991.0), Some(1009.0)] {
            assert!(agree(&counted(good)).is_ok(), "{good:?}");
        }
        assert!(agree(&counted(Some(1011.0))).is_err());
        let short = |callgrind| [Row { callgrind, ..row("a", 75.0) }];
        assert!(agree(&short(Some(78.0))).is_ok());
        assert!(agree(&short(Some(80.0))).is_err());
    }

    #[test]
    fn arguments_are_understood() {
        let shown = |parts, callgrind, only: &str| Some(Wanted::Show { parts, callgrind, only: only.into() });
        assert_eq!(Wanted::parse(&[]), shown(false, false, ""));
        assert_eq!(Wanted::parse(&["--only", "core", "--callgrind"]), shown(false, true, "core"));
        assert_eq!(Wanted::parse(&["--check"]), Some(Wanted::Check));
        for wrong in [&["--check", "--write"][..], &["--only"], &["all"], &["--check", "--only", "x"]] {
            assert_eq!(Wanted::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn figures_are_short() {
        assert_eq!([100.0, 1.0625, 0.0, 0.5].map(figure), ["100", "1.06", "0", "0.5"]);
    }
}
