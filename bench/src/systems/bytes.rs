//! Streams of bytes: through anything that is `Write` and `Read`, and by one thread's copying.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use crate::{Case, Kind, Outcome, Session, Span, System, Turn, Turns, clock};

/// Bytes that are gone through from end to end before they are touched again: more than caches hold.
const COLD: usize = 256 << 20;

/// The leader's end of a [stream](Kind::Stream): writes memory that no cache holds.
pub struct Source<W> {
    writer: W,
    data: Vec<u8>,
    at: usize,
}

/// The follower's end: reads into memory that no cache holds.
pub struct Sink<R> {
    reader: R,
    data: Vec<u8>,
    at: usize,
}

/// What byte each block is filled with.
fn mark(at: usize, size: usize) -> u8 {
    (at / size % 251) as u8
}

/// Memory that is there, each block of it with its mark.
fn cold(size: usize) -> Vec<u8> {
    let mut data = vec![0; COLD / size * size];
    for (index, block) in data.chunks_mut(size).enumerate() {
        block.fill(mark(index * size, size));
    }
    data
}

impl<W: Write> Source<W> {
    /// Writes to `writer`, as many bytes at a time as the session's case says.
    pub fn new(writer: W, session: &Session) -> Self {
        Self { writer, data: cold(session.size()), at: 0 }
    }
}

impl<R: Read> Sink<R> {
    /// Reads from `reader` what a [`Source`] writes.
    pub fn new(reader: R, session: &Session) -> Self {
        Self { reader, data: cold(session.size()), at: 0 }
    }
}

impl<W: Write> Turns for Source<W> {
    fn lead(&mut self, turn: Turn, _: &mut [u32]) -> Outcome<Span> {
        let size = turn.case.payload as usize;
        let began = clock::now();
        for _ in 0..turn.count {
            self.writer.write_all(&self.data[self.at..self.at + size])?;
            self.at = (self.at + size) % self.data.len();
        }
        self.writer.flush()?;
        Ok(Span::since(began))
    }

    fn follow(&mut self, _: Turn) -> Outcome<Span> {
        Err("this end writes".into())
    }
}

impl<R: Read> Turns for Sink<R> {
    fn lead(&mut self, _: Turn, _: &mut [u32]) -> Outcome<Span> {
        Err("this end reads".into())
    }

    fn follow(&mut self, turn: Turn) -> Outcome<Span> {
        let size = turn.case.payload as usize;
        let began = clock::now();
        for _ in 0..turn.count {
            let block = &mut self.data[self.at..self.at + size];
            block[0] = !mark(self.at, size);
            self.reader.read_exact(block)?;
            if block[0] != mark(self.at, size) {
                return Err("these are not the bytes that were written".into());
            }
            self.at = (self.at + size) % self.data.len();
        }
        Ok(Span::since(began))
    }
}

/// One thread that copies the same memory: what a stream cannot beat.
pub struct Copied;

struct Copying {
    from: Vec<u8>,
    into: Vec<u8>,
    at: usize,
}

impl System for Copied {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn can(&self, case: &Case) -> bool {
        case.kind == Kind::Stream
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Turns>> {
        let (from, into) = (cold(session.size()), cold(session.size()));
        Ok(Box::new(Copying { from, into, at: 0 }))
    }

    fn follow(&self, _: &Session) -> Outcome<Box<dyn Turns>> {
        Ok(Box::new(Copying { from: Vec::new(), into: Vec::new(), at: 0 }))
    }
}

impl Turns for Copying {
    fn lead(&mut self, turn: Turn, _: &mut [u32]) -> Outcome<Span> {
        let size = turn.case.payload as usize;
        let began = clock::now();
        for _ in 0..turn.count {
            self.into[self.at..self.at + size].copy_from_slice(&self.from[self.at..self.at + size]);
            self.at = (self.at + size) % self.from.len();
        }
        Ok(Span::since(began))
    }

    fn follow(&mut self, _: Turn) -> Outcome<Span> {
        Ok(Span::since(clock::now()))
    }
}

/// A pipe, for comparison.
pub struct Pipe;

impl System for Pipe {
    fn name(&self) -> &'static str {
        "pipe"
    }

    fn can(&self, case: &Case) -> bool {
        case.kind == Kind::Stream
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Turns>> {
        let (reader, writer) = std::io::pipe()?;
        session.give(&[reader.as_fd()])?;
        Ok(Box::new(Source::new(writer, session)))
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Turns>> {
        let reader = session.take()?.pop().ok_or("no pipe came")?;
        Ok(Box::new(Sink::new(File::from(reader), session)))
    }
}
