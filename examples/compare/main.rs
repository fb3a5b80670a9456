//! Round trips through HQQ, a Unix stream socket and a pair of pipes, between the same two processes in turns.
//!
//! `cargo run --release --example compare [SECONDS]` measures each line of its table for that long (0.5 unless
//! given). Every message is written byte by byte by its sender and read byte by byte by its receiver.

mod measure;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, process};

use hqq::{Offer, Options, StandardLink};
use hqq_sys::cpu;
use measure::{Case, Exchange, Outcome, follow, head, lead, read, sessions};

const SIZES: [usize; 3] = [48, 4096, 65536];

/// The same value on x86-64 and aarch64.
const O_NONBLOCK: i32 = 0o4000;

/// HQQ: messages are written and read in place.
struct Hqq<'l> {
    link: &'l StandardLink,
}

impl Hqq<'_> {
    fn recv(&self, case: Case) -> hqq::Result<hqq::Message<'_>> {
        if case != Case::Polling {
            return self.link.recv();
        }
        loop {
            match self.link.try_recv() {
                Err(error) if error.is_transient() => std::hint::spin_loop(),
                done => return done,
            }
        }
    }

    fn send(&self, size: usize, fill: u8) -> hqq::Result<()> {
        let mut loan = self.link.loan(size)?;
        loan.fill(fill);
        loan.send()
    }
}

impl Exchange for Hqq<'_> {
    fn name(&self) -> &'static str {
        "HQQ"
    }

    fn ping(&mut self, case: Case, size: usize, fill: u8) -> Outcome<u64> {
        self.send(size, fill)?;
        Ok(read(&self.recv(case)?))
    }

    fn pong(&mut self, case: Case, size: usize) -> Outcome {
        let message = self.recv(case)?;
        std::hint::black_box(read(&message));
        let fill = message[0];
        drop(message);
        Ok(self.send(size, fill)?)
    }
}

/// A pair of byte streams, one for each direction.
struct Streams<R, W> {
    input: R,
    output: W,
    buffer: Vec<u8>,
}

impl<R: Read, W: Write> Streams<R, W> {
    fn new(input: R, output: W) -> Self {
        Self { input, output, buffer: Vec::new() }
    }

    fn send(&mut self, fill: u8, size: usize) -> io::Result<()> {
        self.buffer.resize(size, 0);
        self.buffer.fill(fill);
        let mut rest = &self.buffer[..];
        while !rest.is_empty() {
            match self.output.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn recv(&mut self, size: usize) -> io::Result<u64> {
        self.buffer.resize(size, 0);
        let mut done = 0;
        while done < size {
            match self.input.read(&mut self.buffer[done..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                Err(error) => return Err(error),
            }
        }
        Ok(read(&self.buffer))
    }

    fn ping(&mut self, size: usize, fill: u8) -> Outcome<u64> {
        self.send(fill, size)?;
        Ok(self.recv(size)?)
    }

    fn pong(&mut self, size: usize) -> Outcome {
        std::hint::black_box(self.recv(size)?);
        let fill = self.buffer[0];
        Ok(self.send(fill, size)?)
    }
}

/// A stream socket.
struct Socket(Streams<UnixStream, UnixStream>);

impl Socket {
    fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self(Streams::new(stream.try_clone()?, stream)))
    }
}

impl Exchange for Socket {
    fn name(&self) -> &'static str {
        "the Unix socket"
    }

    fn ping(&mut self, _case: Case, size: usize, fill: u8) -> Outcome<u64> {
        self.0.ping(size, fill)
    }

    fn pong(&mut self, _case: Case, size: usize) -> Outcome {
        self.0.pong(size)
    }

    fn begin(&mut self, case: Case) -> Outcome {
        Ok(self.0.input.set_nonblocking(case == Case::Polling)?)
    }
}

/// Two pipes, each opened twice: to block and to poll.
struct Pipes {
    blocking: Streams<File, File>,
    polling: Streams<File, File>,
}

impl Pipes {
    fn new(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        // A pipe opened again through /proc has flags of its own.
        let again = |fd: &OwnedFd, write: bool| {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            OpenOptions::new().read(!write).write(write).custom_flags(O_NONBLOCK).open(path)
        };
        Ok(Self {
            polling: Streams::new(again(&input, false)?, again(&output, true)?),
            blocking: Streams::new(input.into(), output.into()),
        })
    }

    fn of(&mut self, case: Case) -> &mut Streams<File, File> {
        if case == Case::Polling { &mut self.polling } else { &mut self.blocking }
    }
}

impl Exchange for Pipes {
    fn name(&self) -> &'static str {
        "the pipes"
    }

    fn ping(&mut self, case: Case, size: usize, fill: u8) -> Outcome<u64> {
        self.of(case).ping(size, fill)
    }

    fn pong(&mut self, case: Case, size: usize) -> Outcome {
        self.of(case).pong(size)
    }
}

/// The address of the socket, in the abstract namespace, so it ends with the processes.
fn address(leader: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("hqq-compare.{leader}"))
}

/// The second process: its pipes are its standard input and output.
fn echo(leader: u32, processor: Option<usize>) -> Outcome {
    if let Some(processor) = processor {
        cpu::pin(processor)?;
    }
    let link = StandardLink::inherited()?;
    let mut hqq = Hqq { link: &link };
    let mut socket = Socket::new(UnixStream::connect_addr(&address(leader)?)?)?;
    let (input, output) = (io::stdin(), io::stdout());
    let mut pipes = Pipes::new(input.as_fd().try_clone_to_owned()?, output.as_fd().try_clone_to_owned()?)?;
    follow(&link, &mut [&mut hqq, &mut socket, &mut pipes])
}

/// Starts the second process and measures.
fn session(cases: &[Case], processor: Option<usize>, time: Duration) -> Outcome {
    let listener = UnixListener::bind_addr(&address(process::id())?)?;
    let offer = Offer::new(Options::new())?;
    let mut command = Command::new(env::current_exe()?);
    command.args(["echo", &process::id().to_string()]).args(processor.map(|number| number.to_string()));
    offer.pass_to(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
    let mut child = command.spawn()?;
    let link = offer.accept_timeout(Duration::from_secs(20))?;

    let mut hqq = Hqq { link: &link };
    let mut socket = Socket::new(listener.accept()?.0)?;
    let (output, input) = (child.stdin.take(), child.stdout.take());
    let (output, input) = output.zip(input).ok_or("the child has no pipes")?;
    let mut pipes = Pipes::new(input.into(), output.into())?;
    lead(&link, &mut [&mut hqq, &mut socket, &mut pipes], cases, &SIZES, time)?;

    drop(link);
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the second process: {status}").into()) }
}

fn compare(seconds: f64) -> Outcome {
    let time = Duration::from_secs_f64(seconds);
    head(&["HQQ", "Unix socket", "pipes"]);
    sessions(|cases, processor| session(cases, processor, time))
}

fn main() -> Outcome {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["echo", leader] => echo(leader.parse()?, None),
        ["echo", leader, processor] => echo(leader.parse()?, Some(processor.parse()?)),
        [seconds] => compare(seconds.parse()?),
        [] => compare(0.5),
        _ => Err("usage: compare [SECONDS]".into()),
    }
}
