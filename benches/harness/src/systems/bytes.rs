//! Streams of bytes: through any `Write` and `Read`, and copied by one thread.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::case::{Case, Kind};
use crate::clock;
use crate::measured::{Span, System, Turn, Workload};
use crate::outcome::Outcome;
use crate::session::Session;

/// Bytes that are passed through before any is touched again: more than the caches hold.
const COLD: usize = 256 << 20;
/// Bytes of a page; each page is filled with a mark of its own.
const PAGE: usize = 4096;

/// The data that all streams of this process write.
static FROM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut data = vec![0; COLD];
    for (number, page) in data.chunks_mut(PAGE).enumerate() {
        page.fill(mark(number * PAGE));
    }
    data
});

/// The memory that the streams of this process read into, one at a time.
static INTO: LazyLock<Mutex<Vec<u8>>> = LazyLock::new(|| Mutex::new(vec![1; COLD]));

/// The mark of the page at offset `at`.
fn mark(at: usize) -> u8 {
    (at / PAGE % 251) as u8
}

/// The offset of the next block; wraps around at the end.
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

/// The leader's end of a [stream](Kind::Stream): writes from memory larger than the caches.
pub struct Source<W> {
    writer: W,
    place: Place,
}

/// The follower's end of a stream: reads into memory larger than the caches.
pub struct Sink<R> {
    reader: R,
    place: Place,
}

impl<W: Write> Source<W> {
    /// A source that writes to `writer`.
    pub fn new(writer: W, _: &Session) -> Self {
        LazyLock::force(&FROM);
        Self { writer, place: Place::default() }
    }
}

impl<R: Read> Sink<R> {
    /// A sink that reads from `reader` what a [`Source`] writes.
    pub fn new(reader: R, _: &Session) -> Self {
        LazyLock::force(&INTO);
        Self { reader, place: Place::default() }
    }
}

impl<W: Write> Workload for Source<W> {
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

impl<R: Read> Workload for Sink<R> {
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
                return Err("the bytes read differ from those written".into());
            }
        }
        Ok(Span::since(began))
    }
}

/// One thread that copies the same memory: the limit of a stream.
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

    fn lead(&self, _: &Session) -> Outcome<Box<dyn Workload>> {
        LazyLock::force(&FROM);
        LazyLock::force(&INTO);
        Ok(Box::new(Copying::default()))
    }

    fn follow(&self, _: &Session) -> Outcome<Box<dyn Workload>> {
        Ok(Box::new(Copying::default()))
    }
}

impl Workload for Copying {
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

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let (reader, writer) = std::io::pipe()?;
        session.send_fds(&[reader.as_fd()])?;
        Ok(Box::new(Source::new(writer, session)))
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let reader = session.recv_fds()?.pop().ok_or("the other end sent no pipe")?;
        Ok(Box::new(Sink::new(File::from(reader), session)))
    }
}
