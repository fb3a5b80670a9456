//! Two classes of traffic on one link: urgent messages overtake bulk messages.
//!
//! ```sh
//! cargo run --release --example classes
//! ```
//!
//! The other end answers urgent messages, and works on each bulk message for a while. The time until an answer is measured on
//! a link with quality of service, alone and beside a bulk connection that always has more to send; and on a link without,
//! where an urgent message waits behind all the bulk messages that the ring and the inbox hold.

use std::thread;
use std::time::{Duration, Instant};

use hqq::advanced::AdvancedOptions;
use hqq::features::qos::{Class, TrafficClass};
use hqq::{AdvancedLink, Connection, Error, StandardLink};

const SOON: Duration = Duration::from_secs(5);
const ROUNDS: usize = 300;
/// Time that the receiver works on a bulk message.
const WORK: Duration = Duration::from_micros(20);

fn wanted() -> AdvancedOptions {
    AdvancedOptions::new().qos().flow_control(16)
}

/// The other end: one thread that polls both connections in turn.
fn answer(link: &AdvancedLink) -> Result<(), Error> {
    let (urgent, bulk) = (link.accept_connection()?, link.accept_connection()?);
    loop {
        match urgent.try_recv() {
            Ok(question) => urgent.send(&question)?,
            Err(error) if error.is_transient() => {}
            Err(Error::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
        match bulk.try_recv() {
            Ok(_) => {
                let done = Instant::now() + WORK;
                while Instant::now() < done {
                    std::hint::spin_loop();
                }
            }
            Err(error) if error.is_transient() || matches!(error, Error::Closed) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends an urgent message now and then, and bulk messages in between; returns the times until the answers.
fn ask(urgent: &Connection, bulk: Option<&Connection>) -> Result<Vec<Duration>, Error> {
    let load = vec![7; 4096];
    let mut took = Vec::new();
    while took.len() < ROUNDS {
        let pause = Instant::now() + Duration::from_micros(200);
        while Instant::now() < pause {
            match bulk.map_or(Ok(()), |bulk| bulk.send_timeout(&load, Duration::ZERO)) {
                Ok(()) | Err(Error::Timeout { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let asked = Instant::now();
        urgent.send(b"how urgent?")?;
        urgent.recv()?;
        took.push(asked.elapsed());
    }
    took.sort();
    Ok(took)
}

fn say(what: &str, took: &[Duration]) {
    println!("{what:33} p50 {:>9.1?}, p99 {:>9.1?}", took[ROUNDS / 2], took[ROUNDS * 99 / 100]);
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (primary, secondary) = StandardLink::pair()?;
    let other =
        thread::spawn(move || answer(&AdvancedLink::wait_for_negotiation(secondary, &wanted(), SOON)?));
    let link = AdvancedLink::negotiate(primary, &wanted(), SOON)?;
    let (urgent, bulk) = (link.open_connection()?, link.open_connection()?);
    urgent.set_traffic_class(TrafficClass { class: Class::URGENT, ..TrafficClass::default() })?;
    bulk.set_traffic_class(TrafficClass { class: Class::BULK, ..TrafficClass::default() })?;
    say("with classes, alone", &ask(&urgent, None)?);
    say("with classes, beside bulk", &ask(&urgent, Some(&bulk))?);
    drop((urgent, bulk));
    other.join().expect("it does not panic")?;

    let (primary, secondary) = StandardLink::pair()?;
    let other = thread::spawn(move || answer(&secondary.into()));
    let link = AdvancedLink::from(primary);
    let (urgent, bulk) = (link.open_connection()?, link.open_connection()?);
    say("without an agreement, beside bulk", &ask(&urgent, Some(&bulk))?);
    drop((urgent, bulk));
    other.join().expect("it does not panic")?;
    Ok(())
}
