//! Commands for reliable delivery.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use hqq::advanced::Reliability;
use hqq::{AdvancedLink, Error, StandardLink};
use hqq_tests::agree;
use hqq_tests::delivery::{self, Record};

use crate::state::{Answer, State, Words, lock};

const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(state: &State, verb: &str, words: &mut Words<'_>) -> Option<Answer> {
    Some(match verb {
        // work NAME FILE commit|loose MESSAGES WANTED...: processes messages until the link is closed.
        "work" => work(words),
        // Processes the next message: receives and acknowledges it.
        "adv-process" => process(state),
        // Sends pending acknowledgements; returns how many messages are delivered and not acknowledged.
        "adv-flush" => flush(state),
        // adv-acked: waits until the peer has acknowledged all.
        "adv-acked" => acked(state),
        _ => return None,
    })
}

fn work(words: &mut Words<'_>) -> Answer {
    let (name, file, mode) = (words.next()?, Path::new(words.next()?), words.next()?);
    let commits = mode == "commit";
    let reliability = Reliability::new().messages(words.number()?);
    let records = Record::read_all(file);
    let reliability = if commits { delivery::resume(reliability, &records) } else { reliability };
    let wanted = agree::wanted(words.0.by_ref()).reliable(reliability);
    let file = OpenOptions::new().append(true).create(true).open(file)?;
    let link = StandardLink::connect_timeout(name, PATIENCE)?;
    let link = AdvancedLink::wait_for_negotiation(link, &wanted, PATIENCE)?;
    loop {
        let message = match link.recv() {
            Ok(message) => message,
            Err(Error::Closed) => return Ok(String::new()),
            Err(error) => return Err(error.into()),
        };
        let receipt = message.receipt().filter(|_| commits);
        Record { receipt, number: delivery::number(&message) }.append(&file)?;
        message.acknowledge()?;
    }
}

fn process(state: &State) -> Answer {
    let link = lock(&state.advanced).clone().ok_or("there is no link with an agreement")?;
    let message = link.recv()?;
    let told = hqq_tests::pattern::digest(&message);
    message.acknowledge()?;
    Ok(told)
}

fn flush(state: &State) -> Answer {
    let link = lock(&state.advanced).clone().ok_or("there is no link with an agreement")?;
    link.flush_acknowledgements();
    Ok(link.deliveries().map_or(0, |deliveries| deliveries.outstanding).to_string())
}

fn acked(state: &State) -> Answer {
    let link = lock(&state.advanced).clone().ok_or("there is no link with an agreement")?;
    link.wait_acknowledged(PATIENCE)?;
    Ok(String::new())
}
