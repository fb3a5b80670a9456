//! Commands for links and their messages.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use hqq::{Error, Listener, RecvIntoError, StandardLink, UntrustedLink};
use hqq_tests::{pattern, stress};
use rustix::thread::{SecureComputingMode, set_secure_computing_mode};

use crate::state::{Answer, State, Words, lock};

pub fn run(state: &State, verb: &str, words: &mut Words<'_>) -> Option<Answer> {
    Some(match verb {
        "listen" | "accept" | "unlisten" | "connect" | "connect-wait" | "inherit" | "untrusted" | "cycle" => {
            connect(state, verb, words)
        }
        "drop" => {
            *lock(&state.link) = None;
            Ok(String::new())
        }
        "release" => {
            lock(&state.held).clear();
            Ok(String::new())
        }
        "hold" => hold(state),
        "strict" => strict(words),
        "split-echo" => split_echo(state),
        "shutdown" | "send-number" | "wire-error" | "fill" | "echo" | "busy-echo" | "produce" | "consume" => {
            state.link().map_err(Into::into).and_then(|link| other(&link, verb, words))
        }
        "send" | "try-send" | "send-for" | "loan" | "batch" | "write" => {
            state.link().map_err(Into::into).and_then(|link| send(&link, verb, words))
        }
        "recv" | "try-recv" | "recv-for" | "recv-into" | "read" | "read-exact" => {
            state.link().map_err(Into::into).and_then(|link| receive(&link, verb, words))
        }
        "untrusted-send" | "untrusted-recv" => {
            let link = lock(&state.untrusted).clone();
            link.ok_or("there is no such link".into()).and_then(|link| untrusted(&link, verb, words))
        }
        _ => return None,
    })
}

fn connect(state: &State, verb: &str, words: &mut Words<'_>) -> Answer {
    let link = match verb {
        "listen" => {
            let name = words.next()?;
            *lock(&state.listener) = Some(Arc::new(Listener::bind_with(name, words.options())?));
            return Ok(String::new());
        }
        "unlisten" => {
            *lock(&state.listener) = None;
            return Ok(String::new());
        }
        "accept" => {
            let listener = lock(&state.listener).clone().ok_or("there is no listener")?;
            listener.accept()?
        }
        "connect" => StandardLink::connect_with(words.next()?, words.options())?,
        "connect-wait" => {
            let (name, wait) = (words.next()?, Duration::from_millis(words.number()?));
            StandardLink::connect_with_timeout(name, words.options(), wait)?
        }
        "inherit" => StandardLink::inherited_with(words.options())?,
        "untrusted" => {
            let link = UntrustedLink::connect_with(words.next()?, words.options())?;
            let peer = link.peer();
            *lock(&state.untrusted) = Some(Arc::new(link));
            return Ok(format!("{}", peer.uid));
        }
        // Repeatedly connects, exchanges a message in each direction, and closes.
        _ => {
            let (name, count) = (words.next()?, words.number::<u32>()?);
            let options = words.options();
            for round in 0..count {
                let link = StandardLink::connect_with(name, options.clone())?;
                link.send(&pattern::bytes(1000, round.into()))?;
                if *link.recv()? != pattern::bytes(1000, round.into()) {
                    return Err("another message came back".into());
                }
            }
            return Ok(String::new());
        }
    };
    let peer = link.peer();
    *lock(&state.link) = Some(Arc::new(link));
    Ok(format!("{} {}", peer.pid.unwrap_or(0), peer.uid))
}

fn send(link: &StandardLink, verb: &str, words: &mut Words<'_>) -> Answer {
    let time = match verb {
        "send-for" => Duration::from_millis(words.number()?),
        _ => Duration::ZERO,
    };
    let count = if verb == "batch" { words.number::<u64>()? } else { 1 };
    let (len, seed) = (words.number()?, words.number::<u64>()?);
    let bytes = pattern::bytes(len, seed);
    match verb {
        "send" => link.send(&bytes)?,
        "try-send" => link.try_send(&bytes)?,
        "send-for" => link.send_timeout(&bytes, time)?,
        "loan" => {
            let mut loan = link.loan(len)?;
            loan.copy_from_slice(&bytes);
            loan.send()?;
        }
        "batch" => {
            let messages: Vec<_> = (seed..seed + count).map(|seed| pattern::bytes(len, seed)).collect();
            let messages: Vec<_> = messages.iter().map(Vec::as_slice).collect();
            return Ok(link.send_batch(&messages)?.to_string());
        }
        _ => {
            let mut stream: &StandardLink = link;
            stream.write_all(&bytes)?;
        }
    }
    Ok(String::new())
}

fn receive(link: &StandardLink, verb: &str, words: &mut Words<'_>) -> Answer {
    let mut stream: &StandardLink = link;
    let digest = match verb {
        "recv" => pattern::digest(&link.recv()?),
        "try-recv" => pattern::digest(&link.try_recv()?),
        "recv-for" => pattern::digest(&link.recv_timeout(Duration::from_millis(words.number()?))?),
        "recv-into" => {
            let mut into = vec![0; words.number()?];
            match link.recv_into(&mut into) {
                Ok(len) => pattern::digest(&into[..len]),
                Err(RecvIntoError::TooSmall { message, capacity }) => {
                    format!("too small {capacity} {}", pattern::digest(&message))
                }
                Err(RecvIntoError::Other(error)) => return Err(error.into()),
            }
        }
        "read-exact" => {
            let mut into = vec![0; words.number()?];
            stream.read_exact(&mut into)?;
            pattern::digest(&into)
        }
        _ => {
            let mut all = Vec::new();
            stream.read_to_end(&mut all)?;
            pattern::digest(&all)
        }
    };
    Ok(digest)
}

/// Receives a message and keeps it.
fn hold(state: &State) -> Answer {
    let link = state.link()?;
    let message = link.recv()?.detach();
    let digest = pattern::digest(&message);
    lock(&state.held).push(message);
    Ok(digest)
}

fn other(link: &StandardLink, verb: &str, words: &mut Words<'_>) -> Answer {
    match verb {
        "shutdown" => link.shutdown(how(words.next()?)?),
        "send-number" => link.send(&words.number::<u64>()?.to_le_bytes())?,
        "wire-error" => {
            let error = link.wire_error();
            return Ok(error.map_or("none".into(), |e| format!("{:x} {} {:x}", e.op, e.code, e.context)));
        }
        // Sends messages of a length and rising seeds until no more fit.
        "fill" => {
            let (len, mut seed) = (words.number()?, words.number()?);
            let mut sent = 0u64;
            loop {
                match link.try_send(&pattern::bytes(len, seed)) {
                    Ok(()) => (sent, seed) = (sent + 1, seed + 1),
                    Err(Error::RingFull { .. } | Error::PoolExhausted { .. }) => return Ok(sent.to_string()),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        "echo" => {
            for _ in 0..words.number::<u64>()? {
                let message = link.recv()?;
                link.send(&message)?;
            }
        }
        // The same, but never waits in the link.
        "busy-echo" => {
            for _ in 0..words.number::<u64>()? {
                let message = loop {
                    match link.try_recv() {
                        Err(Error::RingEmpty) => thread::yield_now(),
                        done => break done?,
                    }
                };
                loop {
                    match link.try_send(&message) {
                        Err(Error::RingFull { .. } | Error::PoolExhausted { .. }) => thread::yield_now(),
                        done => break done?,
                    }
                }
            }
        }
        "produce" => stress::produce(link, words.number()?, words.number()?, words.number()?)?,
        _ => {
            stress::consume(link, words.number()?, words.number()?, words.number()?, words.number()?)?;
        }
    }
    Ok(String::new())
}

pub fn how(word: &str) -> Result<Shutdown, String> {
    match word {
        "read" => Ok(Shutdown::Read),
        "write" => Ok(Shutdown::Write),
        "both" => Ok(Shutdown::Both),
        _ => Err(format!("{word}: no such half")),
    }
}

/// Splits the link and sends back each message, from one thread to the other, until the peer closes.
fn split_echo(state: &State) -> Answer {
    let link = lock(&state.link).take().ok_or("there is no link")?;
    let link = Arc::into_inner(link).ok_or("the link is in use")?;
    let (sender, receiver) = link.split()?;
    let (pass, passed) = channel();
    let back = thread::spawn(move || -> Result<u64, Error> {
        let mut count = 0;
        for message in passed {
            let message: hqq::OwnedMessage = message;
            sender.send(&message)?;
            count += 1;
        }
        Ok(count)
    });
    loop {
        match receiver.recv() {
            Ok(message) => pass.send(message.detach()).map_err(|_| "the other half ended")?,
            Err(Error::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    drop(pass);
    let count = back.join().map_err(|_| "the other half panicked")??;
    Ok(count.to_string())
}

fn untrusted(link: &UntrustedLink, verb: &str, words: &mut Words<'_>) -> Answer {
    match verb {
        "untrusted-send" => {
            let (len, seed) = (words.number()?, words.number()?);
            link.send(&pattern::bytes(len, seed))?;
            Ok(String::new())
        }
        _ => Ok(pattern::digest(&link.recv()?.to_vec())),
    }
}

/// Sends and receives on both ends of a link, on a thread that the kernel kills at its first system call other than
/// `read`, `write` and `exit`. With a message that needs one, to see that it does.
fn strict(words: &mut Words<'_>) -> Answer {
    let (count, len, sleepy) = (words.number::<u32>()?, words.number()?, words.number::<u32>()?);
    let (primary, secondary) = StandardLink::pair()?;
    let message = pattern::bytes(len, 1);
    let (report, progress) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let done = progress.clone();
    let failed = report.clone();
    let (name, named) = channel();
    thread::spawn(move || {
        // Whatever happens to the thread, it is gone then.
        name.send(rustix::thread::gettid()).expect("it is waited for");
        set_secure_computing_mode(SecureComputingMode::Strict).expect("the kernel has it");
        for round in 0..count {
            let sent = primary.send(&message).is_ok() && secondary.recv().is_ok_and(|got| *got == message);
            failed.fetch_add(u32::from(!sent), Ordering::Relaxed);
            if round == sleepy {
                thread::sleep(Duration::from_millis(1));
            }
            done.fetch_add(1, Ordering::Release);
        }
        // Ending is a system call too: it may well be killed here.
    });
    let at = format!("/proc/self/task/{}", named.recv()?.as_raw_nonzero());
    while Path::new(&at).exists() {
        thread::sleep(Duration::from_millis(1));
    }
    match progress.load(Ordering::Acquire) {
        now if now == count => Ok(format!("{now} {}", report.load(Ordering::Relaxed))),
        now => Err(format!("killed after {now}").into()),
    }
}
