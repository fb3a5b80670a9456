//! Commands for links with an agreement.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use hqq::AdvancedLink;
use hqq_tests::agree;
use hqq_tests::pattern;

use crate::state::{Answer, State, Words, lock};

pub fn run(state: &State, verb: &str, words: &mut Words<'_>) -> Option<Answer> {
    Some(match verb {
        // agree start|wait MS WANTED...: the link becomes one with an agreement.
        "agree" => make(state, words),
        "adv-send" | "adv-loan" | "adv-recv" | "adv-drop" => act(state, verb, words),
        "adv-open" | "adv-accept" => connect(state, verb),
        "adv-conn-send" | "adv-conn-recv" | "adv-conn-drain" | "adv-conn-share" | "adv-conn-drop" => {
            connection(state, verb, words)
        }
        "adv-write" | "adv-read" | "adv-shutdown" | "adv-echo" => stream(state, verb, words),
        _ => return None,
    })
}

fn make(state: &State, words: &mut Words<'_>) -> Answer {
    let starts = words.next()? == "start";
    let time = Duration::from_millis(words.number()?);
    let wanted = agree::wanted(words.0.by_ref());
    let link = lock(&state.link).take().and_then(Arc::into_inner).ok_or("there is no unshared link")?;
    let made = if starts {
        AdvancedLink::negotiate(link, &wanted, time)?
    } else {
        AdvancedLink::wait_for_negotiation(link, &wanted, time)?
    };
    let told = agree::summary(made.agreement());
    *lock(&state.advanced) = Some(Arc::new(made));
    Ok(told)
}

/// Streams. `adv-read` reads to the end; `adv-echo` accepts a connection and returns its stream until that ends.
fn stream(state: &State, verb: &str, words: &mut Words<'_>) -> Answer {
    let link = lock(&state.advanced).clone().ok_or("there is no link with an agreement")?;
    let mut stream: &AdvancedLink = &link;
    match verb {
        "adv-write" => {
            stream.write_all(&agree::message(words.next()?, words.number()?, words.number()?))?;
            stream.flush()?;
        }
        "adv-shutdown" => link.shutdown(Shutdown::Write),
        "adv-read" => {
            let mut all = Vec::new();
            stream.read_to_end(&mut all)?;
            return Ok(pattern::digest(&all));
        }
        _ => {
            let connection = link.accept_connection()?;
            let count = io::copy(&mut &connection, &mut &connection)?;
            connection.shutdown(Shutdown::Write);
            return Ok(count.to_string());
        }
    }
    Ok(String::new())
}

fn act(state: &State, verb: &str, words: &mut Words<'_>) -> Answer {
    let link = lock(&state.advanced).clone().ok_or("there is no link with an agreement")?;
    match verb {
        "adv-recv" => return Ok(pattern::digest(&link.recv()?)),
        "adv-drop" => *lock(&state.advanced) = None,
        _ => {
            let message = agree::message(words.next()?, words.number()?, words.number()?);
            if verb == "adv-send" {
                link.send(&message)?;
            } else {
                let mut loan = link.loan(message.len())?;
                loan.copy_from_slice(&message);
                loan.send()?;
            }
        }
    }
    Ok(String::new())
}

fn connect(state: &State, verb: &str) -> Answer {
    let link = lock(&state.advanced).clone().ok_or("there is no link with an agreement")?;
    let connection = if verb == "adv-open" { link.open_connection()? } else { link.accept_connection()? };
    let id = connection.id();
    lock(&state.advanced_connections).insert(id, Arc::new(connection));
    Ok(id.to_string())
}

/// Commands for a connection of a link with an agreement, by its id.
fn connection(state: &State, verb: &str, words: &mut Words<'_>) -> Answer {
    let id = words.number()?;
    let found = lock(&state.advanced_connections).get(&id).cloned();
    let connection = found.ok_or_else(|| format!("there is no connection {id}"))?;
    match verb {
        "adv-conn-recv" => return Ok(pattern::digest(&connection.recv()?)),
        // Receives this many messages; returns the sum of their bytes.
        "adv-conn-drain" => {
            let mut bytes = 0;
            for _ in 0..words.number::<u64>()? {
                bytes += connection.recv()?.len();
            }
            return Ok(bytes.to_string());
        }
        // Returns the class and the weight of the connection.
        "adv-conn-share" => {
            let share = connection.traffic_class();
            return Ok(format!("{} {}", share.class.number(), share.weight));
        }
        "adv-conn-drop" => drop(lock(&state.advanced_connections).remove(&id)),
        _ => connection.send(&agree::message(words.next()?, words.number()?, words.number()?))?,
    }
    Ok(String::new())
}
