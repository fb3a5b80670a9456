//! Two classes of traffic on one link: what is urgent overtakes what is bulk.
//!
//! ```sh
//! cargo run --release --example classes
//! ```
//!
//! The other end answers what is urgent, and takes the bulk. How long the answer takes is measured three times: on a link
//! with nothing else to do, beside a bulk connection that always has more to send, and beside one that is no less urgent.

use std::thread;
use std::time::{Duration, Instant};

use hqq::advanced::{AdvancedConnection, Wanted};
use hqq::feature::qos::{Class, Share};
use hqq::{AdvancedLink, Error, StandardLink};

const SOON: Duration = Duration::from_secs(5);
const ROUNDS: usize = 2000;

/// The other end: one thread that looks at both connections in turn.
fn answer(link: StandardLink) -> Result<(), Error> {
    let link = AdvancedLink::wait_for_negotiation(link, &wanted(), SOON)?;
    let (urgent, bulk) = (link.accept_connection()?, link.accept_connection()?);
    loop {
        match urgent.try_recv() {
            Ok(question) => urgent.send(&question)?,
            Err(error) if error.is_transient() => {}
            Err(Error::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
        match bulk.try_recv() {
            Err(error) if !error.is_transient() && !matches!(error, Error::Closed) => return Err(error),
            _ => {}
        }
    }
}

fn wanted() -> Wanted {
    Wanted::new().qos().flow_control(16)
}

/// Asks now and then, with as much bulk in between as goes; how long the answers took.
fn ask(urgent: &AdvancedConnection, bulk: Option<&AdvancedConnection>) -> Result<Vec<Duration>, Error> {
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (primary, secondary) = StandardLink::pair()?;
    let other = thread::spawn(move || answer(secondary));
    let link = AdvancedLink::negotiate(primary, &wanted(), SOON)?;
    let (urgent, bulk) = (link.open_connection()?, link.open_connection()?);
    let class = |class| Share { class, ..Share::default() };
    for (what, ours, beside) in [
        ("alone", Class::URGENT, None),
        ("beside bulk", Class::URGENT, Some(Class::BULK)),
        ("beside its equal", Class::NORMAL, Some(Class::NORMAL)),
    ] {
        urgent.set_share(class(ours))?;
        bulk.set_share(class(beside.unwrap_or(Class::BULK)))?;
        let took = ask(&urgent, beside.map(|_| &bulk))?;
        println!("{what:17} p50 {:?}, p99 {:?}", took[ROUNDS / 2], took[ROUNDS * 99 / 100]);
    }
    drop((urgent, bulk));
    other.join().expect("it does not panic")?;
    Ok(())
}
