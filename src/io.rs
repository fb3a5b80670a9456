//! Links and connections as streams of bytes, with the standard library's traits.
//!
//! On a link itself a stream's bytes travel as messages of up to one buffer each; reads join them. A write of
//! nothing sends nothing (ruling 7). Reading ends with 0 once the peer has closed in order; a peer that died is an
//! error ([`ConnectionReset`](std::io::ErrorKind::ConnectionReset)), so that a cut stream is never taken for a
//! whole one. On a link with an agreement, each of the messages passes through the layers that were agreed on; one that is
//! refused is a hole in the stream, after which nothing is read.

use std::io::{self, Read, Write};

use crate::advanced::AdvancedLink;
use crate::link::connection::Connection;
use crate::link::message::Message;
use crate::link::standard::{Receiver, Sender, StandardLink};

macro_rules! reads {
    ($($link:ty),*) => {$(
        impl Read for $link {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                Ok(self.core().read(into, || self.recv().map(Message::into_body))?)
            }
        }
    )*};
}

macro_rules! writes {
    ($($link:ty),*) => {$(
        impl Write for $link {
            fn write(&mut self, from: &[u8]) -> io::Result<usize> {
                let part = self.core().stream_part(self.pipeline(), from);
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

reads!(StandardLink, &StandardLink, Receiver, &Receiver, AdvancedLink, &AdvancedLink);
writes!(StandardLink, &StandardLink, Sender, &Sender, AdvancedLink, &AdvancedLink);

macro_rules! connection {
    ($($connection:ty),*) => {$(
        impl Read for $connection {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                Ok(Connection::read(self, into)?)
            }
        }

        impl Write for $connection {
            fn write(&mut self, from: &[u8]) -> io::Result<usize> {
                Ok(Connection::write(self, from)?)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    )*};
}

connection!(Connection, &Connection);
