//! Orders about links with an agreement.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use hqq::AdvancedLink;
use hqq_tests::agree;
use hqq_tests::pattern;

use crate::state::{Answer, State, Words, lock};

pub fn obey(state: &State, verb: &str, words: &mut Words<'_>) -> Option<Answer> {
    Some(match verb {
        // agree start|wait MS WANTED...: the link becomes one with an agreement.
        "agree" => make(state, words),
        "adv-send" | "adv-loan" | "adv-recv" | "adv-drop" => act(state, verb, words),
        "adv-open" | "adv-meet" => join(state, verb),
        "lane-send" | "lane-recv" | "lane-drain" | "lane-share" | "lane-drop" => lane(state, verb, words),
        "adv-write" | "adv-read" | "adv-shutdown" | "adv-echo" => stream(state, verb, words),
        _ => return None,
    })
}

fn make(state: &State, words: &mut Words<'_>) -> Answer {
    let starts = words.next()? == "start";
    let time = Duration::from_millis(words.number()?);
    let wanted = agree::wanted(words.0.by_ref());
    let link = lock(&state.link).take().and_then(Arc::into_inner).ok_or("there is no link of one's own")?;
    let made = if starts {
        AdvancedLink::negotiate(link, &wanted, time)?
    } else {
        AdvancedLink::wait_for_negotiation(link, &wanted, time)?
    };
    let told = agree::told(made.agreement());
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
            return Ok(pattern::told(&all));
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
        "adv-recv" => return Ok(pattern::told(&link.recv()?)),
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

fn join(state: &State, verb: &str) -> Answer {
    let link = lock(&state.advanced).clone().ok_or("there is no link with an agreement")?;
    let connection = if verb == "adv-open" { link.open_connection()? } else { link.accept_connection()? };
    let id = connection.id();
    lock(&state.lanes).insert(id, Arc::new(connection));
    Ok(id.to_string())
}

/// Orders about a connection with an agreement, by its id.
fn lane(state: &State, verb: &str, words: &mut Words<'_>) -> Answer {
    let id = words.number()?;
    let found = lock(&state.lanes).get(&id).cloned();
    let connection = found.ok_or_else(|| format!("there is no connection {id}"))?;
    match verb {
        "lane-recv" => return Ok(pattern::told(&connection.recv()?)),
        // Receives so many messages: how many bytes they had.
        "lane-drain" => {
            let mut bytes = 0;
            for _ in 0..words.number::<u64>()? {
                bytes += connection.recv()?.len();
            }
            return Ok(bytes.to_string());
        }
        // How the connection is treated here: class and weight.
        "lane-share" => {
            let share = connection.traffic_class();
            return Ok(format!("{} {}", share.class.number(), share.weight));
        }
        "lane-drop" => drop(lock(&state.lanes).remove(&id)),
        _ => connection.send(&agree::message(words.next()?, words.number()?, words.number()?))?,
    }
    Ok(String::new())
}
