//! Streams of bytes: through anything that is `Write` and `Read`, and by one thread's copying.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::case::{Case, Kind};
use crate::clock;
use crate::measured::{Span, System, Turn, Turns};
use crate::outcome::Outcome;
use crate::session::Session;

/// Bytes that are gone through from end to end before they are touched again: more than caches hold.
const COLD: usize = 256 << 20;
/// A page has a mark of its own.
const PAGE: usize = 4096;

/// What all streams of this process write.
static FROM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut data = vec![0; COLD];
    for (number, page) in data.chunks_mut(PAGE).enumerate() {
        page.fill(mark(number * PAGE));
    }
    data
});

/// Where all streams of this process read to, one at a time.
static INTO: LazyLock<Mutex<Vec<u8>>> = LazyLock::new(|| Mutex::new(vec![1; COLD]));

/// What the page at that place is filled with.
fn mark(at: usize) -> u8 {
    (at / PAGE % 251) as u8
}

/// The places of blocks, one after the other, and from the beginning again.
#[derive(Default)]
struct Place(usize);

impl Place {
    fn next(&mut self, size: usize) -> Range<usize> {
        if self.0 + size > COLD {
            self.0 = 0;
        }
        self.0 += size;
        self.0 - size..self.0
    }
}

/// The leader's end of a [stream](Kind::Stream): writes memory that no cache holds.
pub struct Source<W> {
    writer: W,
    place: Place,
}

/// The follower's end: reads into memory that no cache holds.
pub struct Sink<R> {
    reader: R,
    place: Place,
}

impl<W: Write> Source<W> {
    /// Writes to `writer`, in a session whose case is a stream.
    pub fn new(writer: W, _: &Session) -> Self {
        LazyLock::force(&FROM);
        Self { writer, place: Place::default() }
    }
}

impl<R: Read> Sink<R> {
    /// Reads from `reader` what a [`Source`] writes, in the same session.
    pub fn new(reader: R, _: &Session) -> Self {
        LazyLock::force(&INTO);
        Self { reader, place: Place::default() }
    }
}

impl<W: Write> Turns for Source<W> {
    fn lead(&mut self, turn: Turn, _: &mut [u32]) -> Outcome<Span> {
        let (size, data) = (turn.case.payload as usize, &*FROM);
        let began = clock::now();
        for _ in 0..turn.count {
            self.writer.write_all(&data[self.place.next(size)])?;
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
        let mut data = INTO.lock().unwrap_or_else(PoisonError::into_inner);
        let began = clock::now();
        for _ in 0..turn.count {
            let place = self.place.next(size);
            let mark = mark(place.start);
            let block = &mut data[place];
            block[0] = !mark;
            self.reader.read_exact(block)?;
            if block[0] != mark {
                return Err("these are not the bytes that were written".into());
            }
        }
        Ok(Span::since(began))
    }
}

/// One thread that copies the same memory: what a stream cannot beat.
pub struct Copied;

#[derive(Default)]
struct Copying(Place);

impl System for Copied {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn can(&self, case: &Case) -> bool {
        case.kind == Kind::Stream
    }

    fn lead(&self, _: &Session) -> Outcome<Box<dyn Turns>> {
        LazyLock::force(&FROM);
        LazyLock::force(&INTO);
        Ok(Box::new(Copying::default()))
    }

    fn follow(&self, _: &Session) -> Outcome<Box<dyn Turns>> {
        Ok(Box::new(Copying::default()))
    }
}

impl Turns for Copying {
    fn lead(&mut self, turn: Turn, _: &mut [u32]) -> Outcome<Span> {
        let (size, from) = (turn.case.payload as usize, &*FROM);
        let mut into = INTO.lock().unwrap_or_else(PoisonError::into_inner);
        let began = clock::now();
        for _ in 0..turn.count {
            let place = self.0.next(size);
            into[place.clone()].copy_from_slice(&from[place]);
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
