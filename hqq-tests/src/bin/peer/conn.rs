//! Commands for connections. Each names its connection by the id that opening or accepting it returned.

use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hqq::{Connection, Error, StandardLink};
use hqq_tests::pattern;

use crate::link::how;
use crate::state::{Answer, State, Words, lock};

pub fn run(state: &State, verb: &str, words: &mut Words<'_>) -> Option<Answer> {
    Some(match verb {
        "open" | "open-for" | "conn-accept" | "try-conn-accept" => make(state, verb, words),
        "serve" => state.link().map_err(Into::into).and_then(|link| serve(&link, words)),
        "conn-drop" => words.number().map_err(Into::into).map(|id: u64| {
            lock(&state.connections).remove(&id);
            String::new()
        }),
        "conn-swap" | "conn-send" | "conn-send-for" | "conn-recv" | "conn-recv-for" | "conn-recv-into"
        | "conn-write" | "conn-read" | "conn-shutdown" | "conn-echo" => act(state, verb, words),
        _ => return None,
    })
}

fn make(state: &State, verb: &str, words: &mut Words<'_>) -> Answer {
    let link = state.link()?;
    let connection = match verb {
        "open" => link.open_connection()?,
        "open-for" => link.open_connection_timeout(Duration::from_millis(words.number()?))?,
        "conn-accept" => link.accept_connection()?,
        _ => link.try_accept_connection()?,
    };
    let id = connection.id();
    lock(&state.connections).insert(id, Arc::new(connection));
    Ok(id.to_string())
}

fn act(state: &State, verb: &str, words: &mut Words<'_>) -> Answer {
    let id = words.number()?;
    let found = lock(&state.connections).get(&id).cloned();
    let connection = found.ok_or_else(|| format!("there is no connection {id}"))?;
    let mut stream: &Connection = &connection;
    match verb {
        "conn-send" => connection.send(&pattern::bytes(words.number()?, words.number()?))?,
        "conn-swap" => {
            connection.send(&pattern::bytes(words.number()?, words.number()?))?;
            return Ok(pattern::digest(&connection.recv()?));
        }
        "conn-send-for" => {
            let time = Duration::from_millis(words.number()?);
            connection.send_timeout(&pattern::bytes(words.number()?, words.number()?), time)?;
        }
        "conn-write" => stream.write_all(&pattern::bytes(words.number()?, words.number()?))?,
        "conn-shutdown" => connection.shutdown(how(words.next()?)?),
        "conn-recv" => return Ok(pattern::digest(&connection.recv()?)),
        "conn-recv-for" => {
            return Ok(pattern::digest(&connection.recv_timeout(Duration::from_millis(words.number()?))?));
        }
        "conn-recv-into" => {
            let mut into = vec![0; words.number()?];
            let len = connection.recv_into(&mut into)?;
            return Ok(pattern::digest(&into[..len]));
        }
        "conn-read" => {
            let mut all = Vec::new();
            stream.read_to_end(&mut all)?;
            return Ok(pattern::digest(&all));
        }
        _ => echo(&connection)?,
    }
    Ok(String::new())
}

/// Sends back each message until the peer closes.
fn echo(connection: &Connection) -> Result<(), Error> {
    loop {
        match connection.recv() {
            Ok(message) => connection.send(&message)?,
            Err(Error::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Accepts connections and echoes on each, a thread for each.
fn serve(link: &StandardLink, words: &mut Words<'_>) -> Answer {
    let count = words.number::<usize>()?;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..count {
            let connection = link.accept_connection()?;
            threads.push(scope.spawn(move || echo(&connection)));
        }
        for thread in threads {
            thread.join().map_err(|_| "an echo panicked")??;
        }
        Ok(String::new())
    })
}
