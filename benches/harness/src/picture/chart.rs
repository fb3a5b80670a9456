//! Axes, curves and labels of the picture.

use svg::node::element::path::Data;
use svg::node::element::{Group, Line, Path, Text};

use crate::text::nanos;

/// The colours of headings and of explanations.
pub const INK: &str = "#222222";
pub const PALE: &str = "#666666";
const GRID: &str = "#dddddd";

/// The area of the curves: left, right, top, bottom.
const PLOT: [f64; 4] = [104.0, 640.0, 160.0, 494.0];

/// Maps a value to a coordinate.
pub struct Scale {
    from: f64,
    factor: f64,
    start: f64,
}

impl Scale {
    /// A linear scale from 0 to `most`.
    pub fn linear(most: f64, start: f64, end: f64) -> Self {
        Self { from: 0.0, factor: (end - start) / most.max(f64::MIN_POSITIVE), start }
    }

    fn between(from: f64, to: f64, start: f64, end: f64) -> Self {
        Self { from, factor: (end - start) / (to - from).max(1e-9), start }
    }

    pub fn at(&self, value: f64) -> f64 {
        self.start + (value - self.from) * self.factor
    }
}

/// The curve of a system.
pub struct Curve {
    pub name: String,
    pub colour: &'static str,
    pub dashed: bool,
    /// Quantiles and nanoseconds, both ascending.
    pub points: Vec<(f64, u64)>,
}

fn written(x: i32, y: i32, size: u32, colour: &str, words: &str) -> Text {
    Text::new(words).set("x", x).set("y", y).set("font-size", size).set("fill", colour)
}

/// Text that starts at a point.
pub fn text(x: i32, y: i32, size: u32, colour: &str, words: &str) -> Text {
    written(x, y, size, colour, words)
}

/// A heading.
pub fn bold(x: i32, y: i32, size: u32, words: &str) -> Text {
    written(x, y, size, INK, words).set("font-weight", "bold")
}

/// Text that ends at a point.
pub fn label(x: i32, y: i32, size: u32, words: &str) -> Text {
    written(x, y, size, INK, words).set("text-anchor", "end")
}

/// Text centred on a point.
pub fn middle(x: i32, y: i32, size: u32, colour: &str, words: &str) -> Text {
    written(x, y, size, colour, words).set("text-anchor", "middle")
}

fn line(from: (f64, f64), to: (f64, f64), colour: &str) -> Line {
    let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1];
    Line::new().set("x1", x1).set("y1", y1).set("x2", x2).set("y2", y2).set("stroke", colour)
}

/// The number of nines of a quantile: 1 for 90 %, 2 for 99 %.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

/// Curves with their axes: the number of nines against the logarithm of the time.
pub fn curves(curves: &[Curve]) -> Group {
    let [left, right, top, bottom] = PLOT;
    let times = || curves.iter().flat_map(|curve| &curve.points).map(|&(_, time)| time as f64);
    let least = times().fold(f64::INFINITY, f64::min);
    let most = times().fold(0.0, f64::max);
    let x = Scale::between(nines(0.5), 4.0, left, right);
    let y = Scale::between((0.85 * least).log10(), (1.2 * most).max(3.0 * least).log10(), bottom, top);
    let mut group = Group::new();
    for (quantile, name) in
        [(0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")]
    {
        let at = x.at(nines(quantile));
        group = group.add(line((at, top), (at, bottom), GRID)).add(middle(
            at as i32,
            bottom as i32 + 22,
            14,
            INK,
            name,
        ));
    }
    for tick in ticks(least, most.max(3.0 * least)) {
        let at = y.at((tick as f64).log10());
        if (top..=bottom).contains(&at) {
            group = group.add(line((left, at), (right, at), GRID)).add(label(
                left as i32 - 10,
                at as i32 + 5,
                14,
                &nanos(tick).replace(".0 ", " "),
            ));
        }
    }
    group = group.add(middle(
        ((left + right) / 2.0) as i32,
        bottom as i32 + 40,
        13,
        PALE,
        "share of all round trips",
    ));
    group = group.add(line((left, bottom), (right, bottom), INK)).add(line((left, top), (left, bottom), INK));
    for (index, curve) in curves.iter().enumerate() {
        let mut data = Data::new();
        for (index, &(quantile, time)) in curve.points.iter().enumerate() {
            let place = (x.at(nines(quantile).min(4.0)), y.at((time as f64).log10()));
            data = if index == 0 { data.move_to(place) } else { data.line_to(place) };
        }
        let path = Path::new().set("d", data).set("fill", "none").set("stroke", curve.colour);
        group = group.add(dashed(path.set("stroke-width", 2.6).set("stroke-linejoin", "round"), curve));
        // The legend: in columns, so that a system and its limit are side by side.
        let rows = curves.len().div_ceil(3).max(2);
        let (column, row) = ((index / rows) as i32, (index % rows) as i32);
        let (at, base) = (60 + column * 210, 562 + row * 22);
        let sample = Data::new().move_to((at, base - 5)).line_to((at + 30, base - 5));
        let sample = Path::new().set("d", sample).set("stroke", curve.colour).set("stroke-width", 3);
        group = group.add(dashed(sample, curve)).add(text(at + 38, base, 14, INK, &curve.name));
    }
    group
}

fn dashed(path: Path, curve: &Curve) -> Path {
    if curve.dashed { path.set("stroke-dasharray", "7 5") } else { path }
}

/// Round times on a logarithmic axis: 1, 2, 5, 10; or only 1, 10 where that would be too many.
fn ticks(least: f64, most: f64) -> Vec<u64> {
    let decades = (0..10).map(|power| 10u64.pow(power));
    let steps: &[u64] = if most / least > 3000.0 { &[1] } else { &[1, 2, 5] };
    decades.flat_map(|decade| steps.iter().map(move |step| step * decade)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_values() {
        let scale = Scale::linear(10.0, 100.0, 200.0);
        assert_eq!((scale.at(0.0), scale.at(5.0), scale.at(10.0)), (100.0, 150.0, 200.0));
        assert!((nines(0.999) - 3.0).abs() < 1e-9);
        assert!(ticks(100.0, 500.0).contains(&200) && !ticks(100.0, 1e6).contains(&200));
    }
}
