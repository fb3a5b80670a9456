//! The rows beside HQQ's, as a table and as JSON.

use comfy_table::{CellAlignment, Table, presets};
use hqq_bench::{Facts, Row, ratio};
use serde::Serialize;

/// A row, and the same beside HQQ's.
#[derive(Serialize)]
pub struct Beside {
    #[serde(flatten)]
    row: Row,
    /// Times or rates divided by HQQ's in the same round; the median of all rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_to_hqq: Option<f64>,
}

/// What is printed as JSON.
#[derive(Serialize)]
pub struct Report {
    rows: Vec<Beside>,
    rounds: u64,
    pinned: Option<[usize; 2]>,
}

impl From<Facts> for Report {
    fn from(facts: Facts) -> Self {
        let Facts { rows, rounds, pinned } = facts;
        let own = |row: &Row| {
            // A link for one sender and one receiver is made so.
            let name = if row.case == "throughput_spsc" { "hqq-spsc" } else { "hqq" };
            rows.iter().find(|own| own.system == name && own.case == row.case && own.payload == row.payload)
        };
        let ratios: Vec<_> =
            rows.iter().map(|row| own(row).and_then(|own| ratio(&row.by_round, &own.by_round))).collect();
        let rows = rows.into_iter().zip(ratios);
        let rows = rows.map(|(row, ratio_to_hqq)| Beside { row, ratio_to_hqq }).collect();
        Self { rows, rounds, pinned }
    }
}

const HEADINGS: [&str; 8] = ["case", "bytes", "system", "p50 ns | rate", "p99", "p99.9", "x raw", "x hqq"];

impl Report {
    /// The rows, those of a case together.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(HEADINGS);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
            if !matches!(column.index, 0 | 2) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut last = None;
        for beside in &self.rows {
            let case = (&beside.row.case, beside.row.payload);
            let same = last.replace(case) == Some(case);
            if !same {
                table.add_row([""]);
            }
            table.add_row(cells(beside, same));
        }
        table.trim_fmt()
    }

    /// What one must know to read the table.
    pub fn notes(&self) -> String {
        let pinned = match self.pinned {
            Some([one, other]) => format!("Two processes, pinned to processors {one} and {other}"),
            None => "Two processes, not pinned".into(),
        };
        format!(
            "{pinned}; {} rounds, in each of which everything has a turn of a few milliseconds.\n\
             Round trips in ns; flows (throughput, stream) in messages or bytes per second. x raw, x hqq: divided by\n\
             raw's and hqq's (hqq-spsc's for throughput_spsc) in the same round, the median of all rounds. For round\n\
             trips less is better, for flows more. Systems with (threads) live within one process.",
            self.rounds
        )
    }
}

/// A row of the table.
fn cells(Beside { row, ratio_to_hqq }: &Beside, same: bool) -> [String; 8] {
    let system = match &row.between {
        Some(ends) => format!("{} ({ends})", row.system),
        None => row.system.clone(),
    };
    let times = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    let (middle, p99, p999) = match (row.rtt_ns, row.messages_per_second, row.bytes_per_second) {
        (Some(rtt), ..) => (rtt.p50.to_string(), rtt.p99.to_string(), rtt.p999.to_string()),
        (_, Some(rate), _) => (format!("{:.2} M/s", rate / 1e6), String::new(), String::new()),
        (_, _, Some(rate)) => (format!("{:.2} GB/s", rate / 1e9), String::new(), String::new()),
        _ => Default::default(),
    };
    let (case, payload) = if same { Default::default() } else { (row.case.clone(), row.payload.to_string()) };
    [case, payload, system, middle, p99, p999, times(row.ratio_to_raw), times(*ratio_to_hqq)]
}
