//! Commands for a hostile peer: packets and words written without the library, handshakes made by hand.

use std::fmt::Write;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use hqq::shm::packet::Packet;
use hqq_sys::mem;
use hqq_sys::sock::{self, Address};
use hqq_sys::{peer, poll, spawn};
use hqq_tests::mock::{self, GREETING, JOINED, Memory, SEAT_1, shake};
use hqq_tests::patience::SOON;

use crate::state::{Answer, Sockets, State, Words, lock};

pub fn run(state: &State, verb: &str, words: &mut Words<'_>) -> Option<Answer> {
    Some(match verb {
        // push OPCODE OPERAND...: publishes a packet in the direction in which this side sends.
        "push" | "poke" | "peek" => write(state, verb, words),
        _ if verb.starts_with("sock-") => shake(&mut lock(&state.raw), verb, words),
        _ => return None,
    })
}

fn write(state: &State, verb: &str, words: &mut Words<'_>) -> Answer {
    let (memory, role) = match (lock(&state.advanced).as_deref(), state.link()) {
        (Some(link), _) => (Memory::at(link.memory(), link.geometry()), link.role()),
        (None, link) => {
            let link = link?;
            (Memory::of(&link), link.role())
        }
    };
    let numbers = words.operands()?;
    match (verb, numbers.as_slice()) {
        ("push", &[op, ref operands @ ..]) => {
            memory.push(role.direction(), &packet(op, operands));
            Ok(String::new())
        }
        ("poke", &[offset, word]) => {
            memory.write(offset, word);
            Ok(String::new())
        }
        ("peek", &[offset]) => Ok(format!("{:x}", memory.read(offset))),
        _ => Err("wrong operands".into()),
    }
}

fn packet(op: u64, operands: &[u64]) -> Packet {
    let mut packet = Packet::new(op as u8, []);
    packet.operands[..operands.len()].copy_from_slice(operands);
    packet
}

/// `@name` is an abstract address, anything else a path.
fn address(word: &str) -> Address {
    match word.strip_prefix('@') {
        Some(name) => Address::Abstract(name.into()),
        None => Address::Path(word.into()),
    }
}

fn shake(sockets: &mut Sockets, verb: &str, words: &mut Words<'_>) -> Answer {
    match verb {
        "sock-listen" => sockets.listener = Some(sock::listen(&address(words.next()?), 8)?),
        "sock-accept" => {
            let listener = sockets.listener.as_ref().ok_or("there is no listener")?.as_fd();
            poll::many(&[listener], Some(SOON))?;
            sockets.socket = sock::accept(listener)?;
            sockets.socket()?;
        }
        "sock-connect" => sockets.socket = Some(sock::connect(&address(words.next()?))?),
        "sock-inherit" => sockets.socket = Some(spawn::inherited("HQQ_LINK_FD")?),
        "sock-drop" => sockets.socket = None,
        "sock-send" => send(sockets.socket()?, &words.operands()?, &[])?,
        // Bytes that are not a packet, all of one value.
        "sock-bytes" => {
            let (count, byte) = (words.number()?, words.number::<u8>()?);
            sock::send(sockets.socket()?, &vec![byte; count], &[])?;
        }
        // A packet with an unexpected descriptor.
        "sock-extra" => {
            let null = File::open("/dev/null")?;
            send(sockets.socket()?, &words.operands()?, &[null.as_fd()])?;
        }
        // Sends a copy of this socket to another process.
        "sock-lend" => {
            let other = sock::connect(&address(words.next()?))?;
            sock::send(other.as_fd(), &[0], &[sockets.socket()?])?;
        }
        "sock-recv" => return receive(sockets.socket()?),
        // As a listener: accepts a client and offers it memory of this kind; returns what the client sends next.
        "sock-offer" => {
            let socket = sockets.socket()?;
            send_greeting(socket, shake::HELLO)?;
            let (join, _) = mock::recv(socket)?;
            if join.first() != Some(&shake::JOIN) {
                return Err(format!("no JOIN: {join:?}").into());
            }
            let memory = mock::memory(words.next()?)?;
            let len = mem::facts(memory.as_fd())?.len;
            let payload = words.next().ok().map(mock::payload).transpose()?;
            let fds: Vec<_> = [&memory].into_iter().chain(&payload).map(AsFd::as_fd).collect();
            send(socket, &[shake::OFFER.into(), len, 1], &fds)?;
            return receive(socket);
        }
        "sock-hello" => send_greeting(sockets.socket()?, shake::HELLO)?,
        // As a client: the handshake up to joining the seat. READY is not sent yet.
        "sock-join" => {
            let socket = sockets.socket()?;
            mock::recv(socket)?;
            send_greeting(socket, shake::JOIN)?;
            let (offer, fds) = mock::recv(socket)?;
            let Some(memory) = fds.into_iter().next() else { return Ok(describe(&offer, 0)) };
            File::from(memory).write_all_at(&JOINED.to_le_bytes(), SEAT_1)?;
        }
        // As a client, after that: sends READY with a payload of this kind.
        "sock-ready" => {
            let payload = words.next().ok().map(mock::payload).transpose()?;
            let fds: Vec<_> = payload.iter().map(AsFd::as_fd).collect();
            send(sockets.socket()?, &[shake::READY.into(), 1, 1], &fds)?;
        }
        "sock-uid" => return Ok(peer::uid().to_string()),
        _ => return Err(format!("{verb}: no such command").into()),
    }
    Ok(String::new())
}

fn send(socket: BorrowedFd<'_>, numbers: &[u64], fds: &[BorrowedFd<'_>]) -> Result<(), std::io::Error> {
    let (op, operands) = numbers.split_first().unwrap_or((&0, &[]));
    sock::send(socket, &packet(*op, operands).to_bytes(), fds)
}

fn send_greeting(socket: BorrowedFd<'_>, op: u8) -> Result<(), std::io::Error> {
    let [magic, format, version] = GREETING;
    send(socket, &[op.into(), magic, format, version, 1 << 30], &[])
}

fn receive(socket: BorrowedFd<'_>) -> Answer {
    let (bytes, fds) = mock::recv(socket)?;
    Ok(describe(&bytes, fds.len()))
}

/// A message in words: opcode and operands in hexadecimal without the zeros at the end, then descriptors.
fn describe(bytes: &[u8], fds: usize) -> String {
    let image = bytes.first_chunk::<64>().filter(|_| bytes.len() == 64);
    let Some(packet) = image.and_then(Packet::from_bytes) else {
        return format!("{} bytes", bytes.len());
    };
    let mut text = format!("{:02x}", packet.op);
    let last = packet.operands.iter().rposition(|&operand| operand != 0).map_or(0, |last| last + 1);
    for operand in &packet.operands[..last] {
        let _ = write!(text, " {operand:x}");
    }
    if fds > 0 {
        let _ = write!(text, " +{fds}");
    }
    text
}
