//! Layer 5: links and connections as streams of bytes, with the standard library's traits.
//!
//! On a link itself a stream's bytes travel as messages of up to one buffer each; reads join them. A write of
//! nothing sends nothing (ruling 7). Reading ends with 0 once the peer has closed in order; a peer that died is an
//! error ([`ConnectionReset`](std::io::ErrorKind::ConnectionReset)), so that a cut stream is never taken for a
//! whole one. On a link with an agreement, what was agreed on is done to each of the messages; one that has to be refused
//! is a hole in the stream, behind which nothing is read.

use std::io::{self, Read, Write};
use std::sync::{Arc, PoisonError};

use crate::advanced::{AdvancedConnection, AdvancedLink};
use crate::error::{Error, Result};
use crate::link::connection::Connection;
use crate::link::core::LinkCore;
use crate::link::deadline::Wait;
use crate::link::message::{Message, bytes};
use crate::link::standard::{Receiver, Sender, StandardLink};
use crate::shm::endpoint::Payload;

/// Reads from the messages of a link.
fn read(core: &Arc<LinkCore>, into: &mut [u8], next: impl Fn() -> Result<Payload<'static>>) -> Result<usize> {
    if into.is_empty() {
        return Ok(0);
    }
    let mut reading = core.reading.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let (payload, done) = match &mut *reading {
            Some(begun) => begun,
            None => match next() {
                Ok(payload) => reading.insert((payload, 0)),
                Err(Error::Closed) => return Ok(0),
                Err(error) => return Err(error),
            },
        };
        let rest = &bytes(payload)[*done..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        *done += count;
        if count == rest.len() {
            if let Some((payload, _)) = reading.take() {
                core.give(payload);
            }
        }
        if count > 0 {
            return Ok(count);
        }
    }
}

/// The part of a write that goes into one message.
fn part<'b>(core: &LinkCore, from: &'b [u8]) -> &'b [u8] {
    let region = core.region();
    let most = region.facts().geometry.buffer_size().min(region.max_message());
    &from[..from.len().min(most as usize)]
}

macro_rules! stream {
    ($($link:ty),*) => {$(
        impl Read for $link {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let next = || self.recv().map(Message::into_payload);
                Ok(read(self.core(), into, next)?)
            }
        }
    )*};
    (write $($link:ty),*) => {$(
        impl Write for $link {
            fn write(&mut self, from: &[u8]) -> io::Result<usize> {
                let part = part(self.core(), from);
                if !part.is_empty() {
                    self.send(part)?;
                }
                Ok(part.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    )*};
}

stream!(StandardLink, &StandardLink, Receiver, &Receiver);
stream!(write StandardLink, &StandardLink, Sender, &Sender);

macro_rules! connection {
    ($($connection:ty),*) => {$(
        impl Read for $connection {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                Ok(Connection::read(self, into)?)
            }
        }

        impl Write for $connection {
            fn write(&mut self, from: &[u8]) -> io::Result<usize> {
                if !from.is_empty() {
                    self.send_wait(from, Wait::Forever)?;
                }
                Ok(from.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    )*};
}

connection!(Connection, &Connection);

macro_rules! advanced {
    ($($stream:ty),*) => {$(
        impl Read for $stream {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                match self.plain() {
                    Some(mut plain) => Read::read(&mut plain, into),
                    None => Ok(self.read_changed(into)?),
                }
            }
        }

        impl Write for $stream {
            fn write(&mut self, from: &[u8]) -> io::Result<usize> {
                let part = self.part(from);
                if !part.is_empty() {
                    self.send(part)?;
                }
                Ok(part.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    )*};
}

advanced!(AdvancedLink, &AdvancedLink, AdvancedConnection, &AdvancedConnection);
