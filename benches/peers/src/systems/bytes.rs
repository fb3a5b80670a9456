//! Stream sockets, datagram sockets and pipes. They are polled, except in [`Kind::Sleeping`] and [`Kind::Stream`].

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use hqq_bench::{Case, Exchange, How, Kind, Outcome, Session, Sink, Source, System, Workload};
use rustix::io::ioctl_fionbio;

use crate::common::{copies, read, spin, write};

/// Tells that nothing could be done now from what went wrong.
#[inline(always)]
fn settled<T>(outcome: io::Result<T>) -> Outcome<Option<T>> {
    match outcome {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// This end's descriptors of those that the leader made: the first half is its own.
fn share<const N: usize>(
    session: &Session,
    make: impl FnOnce() -> Outcome<[OwnedFd; N]>,
) -> Outcome<Vec<OwnedFd>> {
    if !session.leads() {
        return session.recv_fds();
    }
    let mut made = Vec::from(make()?);
    let theirs = made.split_off(N / 2);
    session.send_fds(&theirs.iter().map(AsFd::as_fd).collect::<Vec<_>>())?;
    Ok(made)
}

/// The only one of `descriptors`.
fn only(mut descriptors: Vec<OwnedFd>) -> Outcome<OwnedFd> {
    descriptors.pop().ok_or_else(|| "a descriptor is missing".into())
}

/// One end of a stream of bytes, which blocks.
fn stream<R, W>(session: &Session, input: R, output: W) -> Box<dyn Workload>
where
    R: Read + 'static,
    W: Write + 'static,
{
    if session.leads() { Box::new(Source::new(output, session)) } else { Box::new(Sink::new(input, session)) }
}

/// A byte stream each way.
struct Streams<R, W> {
    input: R,
    output: W,
    buffer: Vec<u8>,
}

impl<R: Read, W: Write> Exchange for Streams<R, W> {
    #[inline]
    fn send(&mut self, how: How, number: u64, size: usize) -> Outcome {
        let mut rest = &mut self.buffer[..size];
        write(how, number, rest);
        while !rest.is_empty() {
            let done = spin(|| settled(self.output.write(rest)))?;
            rest = &mut rest[done..];
        }
        Ok(())
    }

    #[inline]
    fn recv(&mut self, how: How, number: u64, size: usize) -> Outcome {
        let mut done = 0;
        while done < size {
            match spin(|| settled(self.input.read(&mut self.buffer[done..size])))? {
                0 => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                count => done += count,
            }
        }
        read(how, number, &self.buffer[..size])
    }
}

/// Stream sockets.
pub struct UnixStreams;

impl UnixStreams {
    fn open(session: &Session) -> Outcome<Box<dyn Workload>> {
        let made = || {
            let (ours, theirs) = UnixStream::pair()?;
            Ok([ours.into(), theirs.into()])
        };
        let socket = UnixStream::from(only(share(session, made)?)?);
        if session.case().kind == Kind::Stream {
            return Ok(stream(session, socket.try_clone()?, socket));
        }
        socket.set_nonblocking(session.case().kind != Kind::Sleeping)?;
        let buffer = vec![0; session.size()];
        Ok(Box::new(Streams { input: socket.try_clone()?, output: socket, buffer }))
    }
}

impl System for UnixStreams {
    fn name(&self) -> &'static str {
        "unix-stream"
    }

    fn can(&self, case: &Case) -> bool {
        copies(case.kind) || matches!(case.kind, Kind::ThroughputSpsc | Kind::Stream)
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        Self::open(session)
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        Self::open(session)
    }
}

/// Pipes, one each way.
pub struct Pipes;

impl Pipes {
    fn open(session: &Session) -> Outcome<Box<dyn Workload>> {
        let made = || {
            let ((there_out, there_in), (back_out, back_in)) = (io::pipe()?, io::pipe()?);
            Ok([back_out.into(), there_in.into(), there_out.into(), back_in.into()])
        };
        let [input, output] =
            <[OwnedFd; 2]>::try_from(share::<4>(session, made)?).map_err(|_| "two pipes were due")?;
        let (input, output) = (File::from(input), File::from(output));
        if session.case().kind == Kind::Stream {
            return Ok(stream(session, input, output));
        }
        for end in [&input, &output] {
            ioctl_fionbio(end, session.case().kind != Kind::Sleeping)?;
        }
        let buffer = vec![0; session.size()];
        Ok(Box::new(Streams { input, output, buffer }))
    }
}

impl System for Pipes {
    fn name(&self) -> &'static str {
        "pipe"
    }

    fn can(&self, case: &Case) -> bool {
        copies(case.kind) || matches!(case.kind, Kind::ThroughputSpsc | Kind::Stream)
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        Self::open(session)
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        Self::open(session)
    }
}

/// A datagram socket.
struct Datagrams {
    socket: UnixDatagram,
    buffer: Vec<u8>,
}

impl Exchange for Datagrams {
    #[inline]
    fn send(&mut self, how: How, number: u64, size: usize) -> Outcome {
        write(how, number, &mut self.buffer[..size]);
        spin(|| settled(self.socket.send(&self.buffer[..size]))).map(drop)
    }

    #[inline]
    fn recv(&mut self, how: How, number: u64, size: usize) -> Outcome {
        let len = spin(|| settled(self.socket.recv(&mut self.buffer)))?;
        if len != size {
            return Err(format!("a datagram of {len} bytes came, and {size} were due").into());
        }
        read(how, number, &self.buffer)
    }
}

/// Datagram sockets.
pub struct UnixDatagrams;

impl UnixDatagrams {
    fn open(session: &Session) -> Outcome<Box<dyn Workload>> {
        let made = || {
            let (ours, theirs) = UnixDatagram::pair()?;
            Ok([ours.into(), theirs.into()])
        };
        let socket = UnixDatagram::from(only(share(session, made)?)?);
        socket.set_nonblocking(session.case().kind != Kind::Sleeping)?;
        Ok(Box::new(Datagrams { socket, buffer: vec![0; session.size()] }))
    }
}

impl System for UnixDatagrams {
    fn name(&self) -> &'static str {
        "unix-datagram"
    }

    fn can(&self, case: &Case) -> bool {
        copies(case.kind) || case.kind == Kind::ThroughputMpmc
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        Self::open(session)
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        Self::open(session)
    }
}
