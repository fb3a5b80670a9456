//! Draws a run as an SVG picture: percentiles of round trips on the left, messages a second on the right.

mod chart;

use svg::Document;
use svg::node::element::{Group, Rectangle};

use crate::case::Kind;
use crate::tally::{Facts, Row};
use crate::text::{rate, size};
use chart::{Curve, INK, PALE, Scale, bold, curves, label, middle, text};

/// The colours of HQQ, from small payloads to large ones; the middle one for a single payload.
const OWN: [&str; 3] = ["#f0955a", "#d55e00", "#7f3800"];
/// Colours of other systems, distinguishable with red-green colour blindness.
const OTHERS: [&str; 10] = [
    "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#b59b00", "#7a5195", "#00b3b3", "#8c564b", "#4d4d4d",
    "#9acd32",
];
/// The colour of the bare programs.
const LIMIT: &str = "#7f7f7f";
/// The most curves, and the most bars of a group.
const MOST: usize = 12;

/// Assigns each system one colour for all parts of the picture.
fn colour(facts: &Facts, system: &str) -> &'static str {
    if system == "raw" || system.starts_with("proto-") {
        return LIMIT;
    }
    if system.starts_with("hqq") {
        return OWN[1];
    }
    let mut names: Vec<&str> = Vec::new();
    for row in facts
        .rows
        .iter()
        .filter(|row| !row.system.starts_with("hqq") && row.raw.as_ref() != Some(&row.system))
    {
        if !names.contains(&row.system.as_str()) {
            names.push(&row.system);
        }
    }
    let at = names.iter().position(|name| *name == system).unwrap_or_default();
    OTHERS[at % OTHERS.len()]
}

/// Draws the run as SVG, 1280 by 640: curves of times, and bars of rates.
pub fn draw(facts: &Facts) -> String {
    let background = Rectangle::new().set("width", 1280).set("height", 640).set("fill", "#ffffff");
    let pinned = if facts.pinned.is_some() { "pinned" } else { "not pinned" };
    let run = format!(
        "{}; {} rounds, in each of which every system had its turn; processes {pinned}",
        facts.machine, facts.rounds
    );
    let mut document = Document::new()
        .set("viewBox", (0, 0, 1280, 640))
        .set("width", 1280)
        .set("height", 640)
        .set("font-family", "Inter, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif")
        .add(background)
        .add(bold(
            40,
            44,
            24,
            "Messages between two processes of one machine, beside the machine's own limit",
        ))
        .add(text(40, 70, 14, PALE, &run));
    let (heading, shown) = times(facts);
    document = document.add(bold(40, 112, 18, &heading)).add(text(
        40,
        134,
        14,
        PALE,
        "time within which that share of round trips was back; lower is better",
    ));
    document = if shown.is_empty() {
        document.add(middle(340, 350, 15, PALE, "no round trips in this run"))
    } else {
        document.add(curves(&shown))
    };
    document
        .add(bold(720, 112, 18, "Throughput: messages one way, in a second"))
        .add(text(720, 134, 14, PALE, "longer is better; bare: a ring of cache lines and nothing else"))
        .add(bars(facts))
        .to_string()
}

/// The curves to draw, and their heading. With peers: all systems at one case. Without: HQQ and the bare program at
/// several payloads.
fn times(facts: &Facts) -> (String, Vec<Curve>) {
    let of = |kind: Kind, payload: u64| {
        let wanted =
            move |row: &&Row| row.case == kind.name() && row.payload == payload && !row.curve.is_empty();
        facts.rows.iter().filter(wanted)
    };
    let is_own = |row: &Row| row.system == "raw" || row.system.starts_with("hqq");
    // A mode beside the default one says little here.
    let shown = |row: &&Row| !row.system.starts_with("hqq-") && row.between.is_none();
    let candidates = [(Kind::Pool, 64), (Kind::Slot, 8), (Kind::Slot, 48), (Kind::Untouched, 8192)];
    if let Some((kind, payload)) =
        candidates.into_iter().find(|&(kind, payload)| of(kind, payload).any(|row| !is_own(row)))
    {
        let curves = of(kind, payload).filter(shown).take(MOST).map(|row| {
            let limit = row.system == "raw";
            let name = if limit { "bare cache lines".into() } else { row.system.clone() };
            let colour = colour(facts, &row.system);
            Curve { name, colour, dashed: limit, points: row.curve.clone() }
        });
        return (format!("Latency: round trips of {} each way", size(payload)), curves.collect());
    }
    let mut curves = Vec::new();
    let usual = [(Kind::Slot, 8), (Kind::Pool, 64), (Kind::Pool, 4096)];
    let others = facts.rows.iter().filter(|row| row.system == "hqq").filter_map(|row| {
        Kind::named(&row.case).filter(|kind| kind.is_timed()).map(|kind| (kind, row.payload))
    });
    let mut cases: Vec<_> =
        usual.into_iter().filter(|&(kind, payload)| of(kind, payload).next().is_some()).collect();
    if cases.is_empty() {
        cases = others.collect();
        cases.dedup();
        cases.truncate(3);
    }
    for ((kind, payload), colour) in cases.into_iter().zip(OWN) {
        for row in of(kind, payload).filter(shown) {
            let limit = row.system == "raw";
            let name = if limit { "bare cache lines".into() } else { row.system.clone() };
            let name = format!("{name}, {}", size(payload));
            curves.push(Curve { name, colour, dashed: limit, points: row.curve.clone() });
        }
    }
    ("Latency: round trips, every byte written and read".into(), curves)
}

/// The rates of one sender and one receiver, grouped by the kind of ring.
fn bars(facts: &Facts) -> Group {
    let kinds = [
        (Kind::ThroughputMpmc, "any number of threads may send and receive"),
        (Kind::ThroughputSpsc, "one thread at each end"),
        (Kind::Batch, "sixteen at a time"),
    ];
    let mut groups: Vec<(&str, Vec<&Row>)> = kinds
        .into_iter()
        .map(|(kind, name)| {
            let mut rows: Vec<&Row> = facts
                .rows
                .iter()
                .filter(|row| row.case == kind.name() && row.messages_per_second.is_some())
                .collect();
            let least = rows.iter().map(|row| row.payload).min().unwrap_or_default();
            rows.retain(|row| row.payload == least);
            rows.truncate(MOST);
            (name, rows)
        })
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    let all = groups.iter().flat_map(|(_, rows)| rows);
    let most = all.filter_map(|row| row.messages_per_second).fold(0.0, f64::max);
    let mut group = Group::new();
    if groups.is_empty() {
        return group.add(middle(980, 350, 15, PALE, "no throughput in this run"));
    }
    let count = |groups: &[(&str, Vec<&Row>)]| groups.iter().map(|(_, rows)| rows.len() + 1).sum::<usize>();
    // What is least asked for goes where there is no room.
    if count(&groups) > 22 {
        groups.truncate(2);
    }
    let lines = count(&groups);
    let step = (450.0 / lines as f64).min(34.0);
    let scale = Scale::linear(most, 890.0, 1160.0);
    let mut y = 160.0;
    for (name, rows) in &groups {
        group = group.add(text(720, (y + 0.55 * step) as i32, 14, INK, name));
        y += step;
        for row in rows {
            let limit = row.system.starts_with("proto-");
            let colour = colour(facts, &row.system);
            let speed = row.messages_per_second.unwrap_or_default();
            let name = match (limit, row.system.ends_with("-fence")) {
                (true, true) => "bare, with fence".into(),
                (true, false) => "bare".into(),
                _ if row.between.is_some() => format!("{} (threads)", row.system),
                _ => row.system.clone(),
            };
            let end = scale.at(speed);
            let bar = Rectangle::new()
                .set("x", 890)
                .set("y", y)
                .set("width", (end - 890.0).max(1.0))
                .set("height", 0.74 * step)
                .set("rx", 2)
                .set("fill", colour)
                .set("fill-opacity", if limit { 0.55 } else { 0.9 });
            let base = (y + 0.37 * step + 5.0) as i32;
            group = group.add(bar).add(label(880, base, 14, &name)).add(text(
                end as i32 + 8,
                base,
                14,
                INK,
                &rate(speed),
            ));
            y += step;
        }
        y += 0.15 * step;
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::tests::sample;

    #[test]
    fn a_picture_names_what_it_shows() {
        let mut facts = sample();
        let text = draw(&facts);
        for part in ["a machine", "hqq, 8 B", "99.9 %", "90.00 M/s", "one thread at each end"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        facts.rows[0].system = "pigeon".into();
        let text = draw(&facts);
        assert!(text.contains(">\npigeon\n<") && text.contains("round trips of 8 B each way"), "{text}");
        facts.rows.clear();
        let text = draw(&facts);
        assert!(text.contains("no round trips") && text.contains("no throughput"));
    }
}
