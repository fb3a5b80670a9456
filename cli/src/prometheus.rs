//! `hqq stat --prometheus`: counters and metrics in the Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write};
use std::time::Duration;

use hqq::Stats;
use hqq::observe::{DirectionMetrics, Latency};
use hqq::observe::{LinkSeen, Observer};

use crate::labels::SIDES;

/// The values of the label `direction`, by number.
const DIRECTIONS: [&str; 2] = ["primary_to_secondary", "secondary_to_primary"];

/// The upper bounds of the buckets of the histogram, as powers of two in nanoseconds: 64 ns to 17 s. The link's own
/// buckets have bounds at each of them.
const BOUNDS: std::ops::RangeInclusive<u32> = 6..=34;

/// A metric, with the samples of all links.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: String,
}

/// The metric families collected so far.
#[derive(Default)]
struct Exposition(Vec<Family>);

/// Names and values of a sample's labels.
type Labels<'l> = &'l [(&'l str, &'l str)];

impl Exposition {
    fn family(&mut self, name: &'static str, kind: &'static str, help: &'static str) -> &mut Family {
        let at = self.0.iter().position(|family| family.name == name).unwrap_or_else(|| {
            self.0.push(Family { name, kind, help, samples: String::new() });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    fn counter(&mut self, name: &'static str, help: &'static str, labels: Labels<'_>, value: impl Display) {
        self.family(name, "counter", help).sample("", labels, value);
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, labels: Labels<'_>, value: impl Display) {
        self.family(name, "gauge", help).sample("", labels, value);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for Family { name, kind, help, samples } in &self.0 {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}");
        }
        text
    }
}

impl Family {
    fn sample(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        let labels = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
        let labels = labels.collect::<Vec<_>>().join(",");
        let _ = writeln!(self.samples, "{}{suffix}{{{labels}}} {value}", self.name);
    }

    fn histogram(&mut self, labels: Labels<'_>, latency: &Latency) {
        let count = latency.count();
        for bound in BOUNDS.map(|power| Duration::from_nanos(1 << power)) {
            let le = bound.as_secs_f64().to_string();
            let within = latency.count_within(bound);
            self.sample("_bucket", &[labels, &[("le", &le)]].concat(), within);
        }
        self.sample("_bucket", &[labels, &[("le", "+Inf")]].concat(), count);
        self.sample("_sum", labels, latency.sum().as_secs_f64());
        self.sample("_count", labels, count);
    }
}

/// Escapes the value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// All counters and metrics of these links.
pub fn text(links: &[(LinkSeen, Observer)]) -> String {
    let mut all = Exposition::default();
    for (link, seen) in links {
        let twins = links.iter().filter(|(other, _)| other.name == link.name).count();
        let inode = link.inode.to_string();
        let mut labels = vec![("link", link.name.as_str())];
        if twins > 1 {
            // Two series must not have the same labels.
            labels.push(("inode", &inode));
        }
        counters(&mut all, &labels, &seen.stats());
        for (figures, way) in
            seen.metrics().iter().flat_map(|figures| figures.directions.iter().zip(DIRECTIONS))
        {
            measured(&mut all, &[&labels[..], &[("direction", way)]].concat(), figures);
        }
    }
    all.text()
}

/// Adds the counters that every link has.
fn counters(all: &mut Exposition, link: Labels<'_>, stats: &Stats) {
    for (way, name) in stats.directions.iter().zip(DIRECTIONS) {
        let labels = [link, &[("direction", name)]].concat();
        all.counter(
            "hqq_packets_sent_total",
            "Messages and control packets sent.",
            &labels,
            way.packets_sent,
        );
        let help = "Messages and control packets received.";
        all.counter("hqq_packets_received_total", help, &labels, way.packets_received);
        all.counter("hqq_sent_bytes_total", "Payload bytes sent.", &labels, way.bytes_sent);
        all.counter("hqq_received_bytes_total", "Payload bytes received.", &labels, way.bytes_received);
        all.gauge("hqq_packets_in_flight", "Packets in the ring.", &labels, way.in_flight);
        let states =
            [("free", way.buffers_free), ("sender", way.buffers_owned), ("receiver", way.buffers_held)];
        for (holder, buffers) in states {
            let labels = [&labels[..], &[("holder", holder)]].concat();
            all.gauge("hqq_buffers", "Buffers, by holder.", &labels, buffers);
        }
    }
    for (side, name) in stats.sides.iter().zip(SIDES) {
        let labels = [link, &[("side", name)]].concat();
        let waits =
            [("ring_full", side.full_waits), ("no_buffer", side.pool_waits), ("empty", side.empty_waits)];
        for (reason, count) in waits {
            let labels = [&labels[..], &[("reason", reason)]].concat();
            all.counter("hqq_waits_total", "Calls that had to wait, by reason.", &labels, count);
        }
        all.counter("hqq_sleeps_total", "Times a thread slept in the kernel.", &labels, side.sleeps);
        all.counter("hqq_wakes_total", "Sleeps that the peer ended.", &labels, side.wakes);
        all.counter("hqq_rings_total", "Times this side woke the peer.", &labels, side.rings);
        all.counter("hqq_tombstones_total", "Abandoned slots that were skipped.", &labels, side.tombstones);
        all.counter("hqq_refused_total", "Packets that were refused.", &labels, side.refused_total());
        all.counter(
            "hqq_errors_received_total",
            "Errors that the peer reported.",
            &labels,
            side.errors_received_total(),
        );
    }
}

/// Adds the metrics of a link that agreed on statistics.
fn measured(all: &mut Exposition, labels: Labels<'_>, figures: &DirectionMetrics) {
    let help = "Time of sampled messages from the sender to the receiver.";
    all.family("hqq_latency_seconds", "histogram", help).histogram(labels, &figures.latency);
    let help = "Messages a second in the last measurement.";
    all.gauge("hqq_messages_per_second", help, labels, figures.messages_per_second);
    let help = "Payload bytes a second in the last measurement.";
    all.gauge("hqq_bytes_per_second", help, labels, figures.bytes_per_second);
    let help = "Time of the machine's monotonic clock when the rates were measured; 0 for never.";
    let at = figures.rated_at.unwrap_or_default().as_secs_f64();
    all.gauge("hqq_rates_measured_seconds", help, labels, at);
    for (result, count) in [("sent", figures.probes_sent), ("skipped", figures.probes_skipped)] {
        let labels = [labels, &[("result", result)]].concat();
        all.counter("hqq_probes_total", "Samples that were due.", &labels, count);
    }
    let help = "Messages that were compressed or encrypted.";
    all.counter("hqq_framed_messages_total", help, labels, figures.framed_messages);
    let help = "Bytes of compressed or encrypted messages before compression and encryption.";
    all.counter("hqq_plain_bytes_total", help, labels, figures.plain_bytes);
    let help = "Bytes of compressed or encrypted messages as sent.";
    all.counter("hqq_framed_bytes_total", help, labels, figures.framed_bytes);
    all.counter("hqq_credit_stalls_total", "Sends that waited for credit.", labels, figures.credit_stalls);
    let blocked = figures.credit_blocked.as_secs_f64();
    all.counter("hqq_credit_blocked_seconds_total", "Time that sends waited for credit.", labels, blocked);
    all.counter("hqq_over_rate_total", "Sends delayed by a rate.", labels, figures.over_rate);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut all = Exposition::default();
        all.counter("hqq_a_total", "A.", &[("link", "a \"b\"\\\n")], 1);
        all.gauge("hqq_b", "B.", &[], 0.25);
        all.counter("hqq_a_total", "A.", &[("link", "c")], 2);
        let wanted = "\
# HELP hqq_a_total A.
# TYPE hqq_a_total counter
hqq_a_total{link=\"a \\\"b\\\"\\\\\\n\"} 1
hqq_a_total{link=\"c\"} 2
# HELP hqq_b B.
# TYPE hqq_b gauge
hqq_b{} 0.25
";
        assert_eq!(all.text(), wanted);
    }
}
