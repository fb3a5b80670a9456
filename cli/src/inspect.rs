//! `hqq ls`, `hqq stat`, `hqq check`: inspect the links of this machine from outside.

use std::io::ErrorKind;
use std::process::ExitCode;

use hqq::Stats;
use hqq::agreement::Agreed;
use hqq::observe::{self, LinkSeen, Observer, Report};
use hqq::shm::words::{BufferState, SlotState};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{Ls, Stat, Which};
use crate::exit::{Exit, Failure, Result};
use crate::labels::{DIRECTIONS, SIDES};
use crate::{metrics, out, prometheus};

/// `hqq ls`.
pub fn ls(args: &Ls) -> Result<ExitCode> {
    let found = observe::links()?;
    let unreadable = found.unreadable;
    let Opened { links, refused } = Opened::from(found.links);
    if args.json {
        let good = links.iter().map(|(link, seen)| summary(link, seen));
        let links: Vec<_> = good.chain(refused.iter().map(why_not)).collect();
        out::json(&json!({"links": links, "unreadable_processes": unreadable}))?;
        return out::done();
    }
    if links.is_empty() && refused.is_empty() {
        out::line("no links")?;
    } else {
        let good = links.iter().map(|(link, seen)| {
            let (geometry, stats) = (seen.facts().geometry, seen.stats());
            let [there, back] = &stats.directions;
            [
                out::plain(&link.name),
                processes(link),
                out::count(geometry.slots().into()),
                format!("{} x {}", geometry.buffers(), out::size(geometry.buffer_size())),
                out::count(there.packets_sent.wrapping_add(back.packets_sent)),
                out::bytes(there.bytes_sent.wrapping_add(back.bytes_sent)),
            ]
        });
        let bad = refused.iter().map(|(link, _)| {
            let none = || "-".to_owned();
            [out::plain(&link.name), processes(link), none(), none(), none(), none()]
        });
        let rows = good.chain(bad);
        out::line(out::table(["name", "processes", "slots", "buffers", "packets", "sent"], 2, rows))?;
    }
    note(&refused);
    if unreadable > 0 {
        out::note(format_args!(
            "hqq: note: {} processes of other users could not be inspected; run as root to see all links",
            unreadable
        ));
    }
    out::done()
}

/// Links that were found, opened for reading. Those that ended meanwhile are left out.
struct Opened {
    links: Vec<(LinkSeen, Observer)>,
    /// Regions that cannot be read, and why. Anybody can make one of any name, so they must not hide the others.
    refused: Vec<Refused>,
}

/// A region that cannot be read, and why.
type Refused = (LinkSeen, hqq::Error);

impl From<Vec<LinkSeen>> for Opened {
    fn from(found: Vec<LinkSeen>) -> Self {
        let (mut links, mut refused) = (Vec::new(), Vec::new());
        for link in found {
            match link.open() {
                Ok(seen) => links.push((link, seen)),
                Err(hqq::Error::Os { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                Err(error) => refused.push((link, error)),
            }
        }
        Self { links, refused }
    }
}

/// A region that cannot be read, as JSON.
fn why_not((link, error): &Refused) -> Value {
    let mut value = identity(link);
    merge(&mut value, json!({"error": error.to_string()}));
    value
}

/// A region that cannot be read, as a sentence.
fn said((link, error): &Refused) -> String {
    let (name, error) = (out::plain(&link.name), out::plain(error.to_string()));
    format!("{name}, open in {}, cannot be read: {error}", processes(link))
}

/// Tells of regions that cannot be read on standard error.
fn note(refused: &[Refused]) {
    refused.iter().for_each(|refused| out::note(format_args!("hqq: note: {}", said(refused))));
}

/// The processes that have a link open, as text.
fn processes(link: &LinkSeen) -> String {
    let each =
        link.processes.iter().map(|process| format!("{} ({})", process.pid, out::plain(&process.comm)));
    each.collect::<Vec<_>>().join(", ")
}

/// The identity of a link, as JSON.
fn identity(link: &LinkSeen) -> Value {
    let processes: Vec<_> =
        link.processes.iter().map(|p| json!({"pid": p.pid, "fd": p.fd, "command": p.comm})).collect();
    json!({"name": link.name, "inode": link.inode, "processes": processes})
}

/// The identity and the options of a link, as JSON.
fn summary(link: &LinkSeen, seen: &Observer) -> Value {
    let mut value = identity(link);
    let facts = seen.facts();
    let geometry = facts.geometry;
    let more = json!({
        "slots": geometry.slots(),
        "buffers": geometry.buffers(),
        "buffer_size": geometry.buffer_size(),
        "ring_mode": lower(facts.modes.ring),
        "wait_mode": lower(facts.modes.wait),
        "protected": facts.modes.protected,
        "packets": seen.stats().directions.map(|way| way.packets_sent),
        "bytes": seen.stats().directions.map(|way| way.bytes_sent),
    });
    merge(&mut value, more);
    value
}

/// The printed name of a mode.
fn lower(mode: impl std::fmt::Debug) -> String {
    format!("{mode:?}").to_lowercase()
}

/// Adds the keys of one object to another.
fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

/// Finds the links that `which` names, and opens them. Fails if none of them can be read.
fn find(which: &str) -> Result<Opened> {
    /// Looks, while all links that were found have ended when they are opened.
    const TRIES: usize = 3;
    for _ in 0..TRIES {
        let found = observe::find(which)?;
        if found.is_empty() {
            break;
        }
        let mut opened = Opened::from(found);
        if !opened.links.is_empty() {
            return Ok(opened);
        }
        if !opened.refused.is_empty() {
            let (link, error) = opened.refused.remove(0);
            note(&opened.refused);
            return Err(Failure::from(error).during(&format!("inspecting \"{}\"", link.name)));
        }
    }
    let message = match which.parse::<i32>() {
        Ok(pid) => {
            format!("no link is named \"{which}\", and process {pid} has no link that this user may inspect")
        }
        Err(_) => format!("no link is named \"{which}\""),
    };
    Err(Failure::new(Exit::Name, message).hint("`hqq ls` lists all links"))
}

/// `hqq stat`.
pub fn stat(args: &Stat) -> Result<ExitCode> {
    let Opened { links, refused } = find(&args.which)?;
    if args.prometheus {
        out::exactly(&prometheus::text(&links))?;
        note(&refused);
        return out::done();
    }
    if args.json {
        let good = links.iter().map(|(link, seen)| all_facts(link, seen));
        let links: Vec<_> = good.chain(refused.iter().map(why_not)).collect();
        out::json(&json!({ "links": links }))?;
        return out::done();
    }
    for (index, (link, seen)) in links.iter().enumerate() {
        if index > 0 {
            out::line("")?;
        }
        show_stat(link, seen)?;
    }
    show_refused(&refused)?;
    out::done()
}

/// Prints the regions that cannot be read, after the others.
fn show_refused(refused: &[Refused]) -> Result<()> {
    refused.iter().try_for_each(|refused| out::line(format_args!("\n{}", said(refused))))
}

/// All values of a link, as JSON.
fn all_facts(link: &LinkSeen, seen: &Observer) -> Value {
    let facts = seen.facts();
    let stats = seen.stats();
    let seats: Vec<_> = seen
        .seats()
        .iter()
        .filter(|seat| seat.joined)
        .map(|seat| {
            json!({
                "seat": seat.index,
                "role": seat.role.map(|role| role.to_string()),
                "generation": seat.generation,
                "pid": seat.pid,
                "sends_no_more": seat.no_send,
                "receives_no_more": seat.no_recv,
            })
        })
        .collect();
    let directions: Vec<_> = stats
        .directions
        .iter()
        .zip(DIRECTIONS)
        .map(|(way, name)| {
            json!({
                "direction": name,
                "packets_sent": way.packets_sent,
                "packets_received": way.packets_received,
                "in_flight": way.in_flight,
                "bytes_sent": way.bytes_sent,
                "bytes_received": way.bytes_received,
                "buffers_free": way.buffers_free,
                "buffers_of_sender": way.buffers_owned,
                "buffers_of_receiver": way.buffers_held,
            })
        })
        .collect();
    let sides: Vec<_> = stats
        .sides
        .iter()
        .zip(SIDES)
        .map(|(side, name)| {
            json!({
                "side": name,
                "full_waits": side.full_waits,
                "pool_waits": side.pool_waits,
                "empty_waits": side.empty_waits,
                "sleeps": side.sleeps,
                "wakes": side.wakes,
                "rings": side.rings,
                "tombstones": side.tombstones,
                "refused": side.refused_total(),
                "refused_by_code": by_code(side),
                "errors_received": side.errors_received_total(),
                "agreed": side.agreed.map(agreed),
            })
        })
        .collect();
    let mut value = summary(link, seen);
    let more = json!({
        "page": facts.page,
        "epoch": format!("{:016x}", facts.epoch),
        "seats": seats,
        "directions": directions,
        "sides": sides,
        "statistics": seen.metrics().as_ref().map(metrics::facts),
    });
    merge(&mut value, more);
    value
}

/// The agreement of a side, as JSON.
fn agreed(agreed: Agreed) -> Value {
    let names = |names: String| {
        if names == "none" { Vec::new() } else { names.split(", ").map(str::to_owned).collect() }
    };
    json!({
        "version": agreed.version.to_string(),
        "features": names(agreed.features.to_string()),
        "capabilities": names(agreed.capabilities.to_string()),
    })
}

/// The number of packets that a side refused, by error code of the specification.
fn by_code(side: &hqq::observe::SideStats) -> Value {
    let codes = hqq::ErrorCode::SPECIFIED.into_iter();
    codes
        .map(|code| (format!("{code:?}"), Value::from(side.refused_with(code))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn show_stat(link: &LinkSeen, seen: &Observer) -> Result<()> {
    heading(link, seen)?;
    let stats: Stats = seen.stats();
    let [there, back] = &stats.directions;
    let row =
        |name: &str, of: fn(&hqq::observe::DirectionStats) -> String| [name.into(), of(there), of(back)];
    let rows = [
        row("packets sent", |way| out::count(way.packets_sent)),
        row("packets received", |way| out::count(way.packets_received)),
        row("in flight", |way| out::count(way.in_flight)),
        row("bytes sent", |way| out::count(way.bytes_sent)),
        row("bytes received", |way| out::count(way.bytes_received)),
        row("buffers free", |way| out::count(way.buffers_free)),
        row("buffers of the sender", |way| out::count(way.buffers_owned)),
        row("buffers of the receiver", |way| out::count(way.buffers_held)),
    ];
    out::line(out::table(["direction", DIRECTIONS[0], DIRECTIONS[1]], 1, rows))?;
    let [primary, secondary] = &stats.sides;
    let row = |name: &str, of: fn(&hqq::observe::SideStats) -> u64| {
        [name.into(), out::count(of(primary)), out::count(of(secondary))]
    };
    let rows = [
        row("waits, ring full", |side| side.full_waits),
        row("waits, no buffer", |side| side.pool_waits),
        row("waits, ring empty", |side| side.empty_waits),
        row("sleeps", |side| side.sleeps),
        row("woken by the peer", |side| side.wakes),
        row("woke the peer", |side| side.rings),
        row("tombstones skipped", |side| side.tombstones),
        row("packets refused", |side| side.refused_total()),
        row("errors reported by the peer", |side| side.errors_received_total()),
    ];
    out::line("")?;
    out::line(out::table(["side", SIDES[0], SIDES[1]], 1, rows))?;
    if let Some(figures) = seen.metrics() {
        out::line("")?;
        out::line(metrics::shown(&figures))?;
    }
    for (side, name) in stats.sides.iter().zip(SIDES) {
        if let Some(Agreed { version, features, capabilities }) = side.agreed {
            let what = format_args!(
                "agreement of the {name}: version {version}; features: {features}; capabilities: {capabilities}"
            );
            out::line(what)?;
        }
    }
    Ok(())
}

/// Prints the name, the options and the seats of a link.
fn heading(link: &LinkSeen, seen: &Observer) -> Result<()> {
    let facts = seen.facts();
    let geometry = facts.geometry;
    out::line(format_args!("{}, open in {}", out::bold(out::plain(&link.name)), processes(link)))?;
    out::line(format_args!(
        "{} slots and {} buffers of {} in each direction; {} rings, {} waiting{}",
        geometry.slots(),
        geometry.buffers(),
        out::size(geometry.buffer_size()),
        lower(facts.modes.ring),
        lower(facts.modes.wait),
        if facts.modes.protected { ", protected" } else { "" }
    ))?;
    for seat in seen.seats().iter().filter(|seat| seat.joined) {
        let role = seat.role.map_or_else(String::new, |role| role.to_string());
        let closed = match (seat.no_send, seat.no_recv) {
            (false, false) => "",
            (true, false) => ", stopped sending",
            (false, true) => ", stopped receiving",
            (true, true) => ", closed",
        };
        out::line(format_args!("seat {}: {role}, process {}{closed}", seat.index, seat.pid))?;
    }
    out::line("")
}

/// A slot or buffer in use.
#[derive(Debug, Serialize)]
struct Held {
    direction: &'static str,
    index: u32,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight_in_slot: Option<u32>,
    seat: Option<usize>,
    pid: Option<u64>,
}

/// The slots and buffers in use, with their holders.
fn held(seen: &Observer, report: &Report) -> (Vec<Held>, Vec<Held>) {
    let seats = seen.seats();
    let pid = |seat: Option<usize>| seats.get(seat?).filter(|seat| seat.joined).map(|seat| seat.pid);
    let slots = report.slots.iter().map(|slot| Held {
        direction: DIRECTIONS[slot.direction & 1],
        index: slot.index,
        state: match slot.state {
            SlotState::Free => "free",
            SlotState::Claimed(_) => "being filled",
            SlotState::Published => "waiting for the receiver",
            SlotState::Taken(_) => "being read",
        }
        .into(),
        operation: slot.op,
        in_flight_in_slot: None,
        seat: slot.seat,
        pid: pid(slot.seat),
    });
    let buffers = report.buffers.iter().map(|buffer| Held {
        direction: DIRECTIONS[buffer.direction & 1],
        index: buffer.index,
        state: match (buffer.state, buffer.in_flight_in_slot) {
            (_, Some(slot)) => format!("in flight in slot {slot}"),
            (BufferState::Free, None) => "free".into(),
            (BufferState::Owned(_), None) => "lent to the sender".into(),
            (BufferState::Held(_), None) => "held by the receiver".into(),
            (BufferState::Spare(_), None) => "kept ready by the sender".into(),
        },
        operation: None,
        in_flight_in_slot: buffer.in_flight_in_slot,
        seat: Some(buffer.seat),
        pid: pid(Some(buffer.seat)),
    });
    (slots.collect(), buffers.collect())
}

/// `hqq check`.
pub fn check(args: &Which) -> Result<ExitCode> {
    let Opened { links, refused } = find(&args.which)?;
    let mut findings = 0;
    let mut values = Vec::new();
    for (link, seen) in &links {
        let report = seen.check();
        findings += report.findings.len();
        if args.json {
            values.push(check_json(link, seen, &report));
        } else {
            show_check(link, seen, &report)?;
        }
    }
    if args.json {
        values.extend(refused.iter().map(why_not));
        out::json(&json!({"links": values, "ok": findings == 0}))?;
    } else {
        show_refused(&refused)?;
    }
    match findings {
        0 => out::done(),
        n => Err(Failure::new(Exit::Failed, format!("{n} invalid control word(s)"))
            .hint("a process wrote to memory that it must not write; restart both sides")),
    }
}

fn check_json(link: &LinkSeen, seen: &Observer, report: &Report) -> Value {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "what": finding.what,
                "offset": finding.offset,
                "found": format!("0x{:016x}", finding.found),
                "rule": finding.rule,
            })
        })
        .collect();
    let (slots, buffers) = held(seen, report);
    let mut value = summary(link, seen);
    merge(&mut value, json!({"findings": findings, "held_slots": slots, "held_buffers": buffers}));
    value
}

fn show_check(link: &LinkSeen, seen: &Observer, report: &Report) -> Result<()> {
    heading(link, seen)?;
    let (slots, buffers) = held(seen, report);
    for (what, all) in [("slot", slots), ("buffer", buffers)] {
        if all.is_empty() {
            out::line(format_args!("all {what}s are free"))?;
            continue;
        }
        let rows = all.into_iter().map(|held| {
            let holder = match (held.pid, held.seat) {
                (Some(pid), Some(seat)) => format!("process {pid}, seat {seat}"),
                (None, Some(seat)) => format!("seat {seat}, vacant"),
                (_, None) => "-".into(),
            };
            let state = match held.operation {
                Some(operation) => format!("{}, {operation}", held.state),
                None => held.state,
            };
            [format!("{what} {}", held.index), held.direction.into(), state, holder]
        });
        out::line(out::table(["held", "direction", "state", "holder"], 4, rows))?;
    }
    for finding in &report.findings {
        out::line(format_args!("{} {finding}", out::red("wrong:")))?;
    }
    if report.findings.is_empty() {
        out::line(out::green("every control word is valid"))?;
    }
    Ok(())
}
