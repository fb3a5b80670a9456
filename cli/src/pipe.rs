//! `hqq send` and `hqq recv`: standard input to standard output, through a link.
//!
//! Each message is a part of the stream; an empty message ends it. The receiver answers with the number of bytes that it
//! has written, so that the sender succeeds only if all of them arrived. The kernel reads into the shared memory and
//! writes from it; there is no other copy.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hqq::advanced::AdvancedOptions;
use hqq::agreement::{Fallback, Features};
use hqq::features::compress::Codec;
use hqq::features::encrypt::Key;
use hqq::{AdvancedLink, Error, Listener, Options, StandardLink};
use hqq_sys::streams::{self, Stream};
use hqq_sys::{peer, poll};
use zeroize::Zeroizing;

use crate::args::{Quality, Recv, Secret, Send};
use crate::exit::{Exit, Failure, Result};
use crate::out::{self, Progress, Stdout};

/// The interval at which a sender without access to the receiver's process checks the link.
const LOOK: Duration = Duration::from_millis(200);

/// The time limit of the negotiation.
const AGREE: Duration = Duration::from_secs(5);

/// `hqq send NAME`.
pub fn send(args: &Send) -> Result<ExitCode> {
    // Errors of the input and of the key are reported before anything waits.
    let file = input()?;
    let wanted = wanted(&args.compress, &args.secret, &args.quality, args.statistics)?;
    // A rate is a requirement: without it, nothing is sent.
    let limited = |wanted: AdvancedOptions| {
        if args.quality.rate.is_some() { wanted.require(Features::QOS) } else { wanted }
    };
    let wanted = wanted.map(limited);
    let options = args.allow.extend(Options::new());
    let connected = match args.wait {
        Some(time) => StandardLink::connect_with_timeout(&args.name, options, time),
        None => StandardLink::connect_with(&args.name, options),
    };
    let link = connected.map_err(|error| {
        let name = &args.name;
        match (&error, args.wait) {
            (Error::NoSuchName { .. }, None) => {
                Failure::new(Exit::Name, format!("no receiver listens at \"{name}\""))
                    .hint(format!("start `hqq recv {name}` first, or add --wait SECONDS"))
            }
            (Error::NoSuchName { .. }, Some(wait)) => {
                Failure::new(Exit::Name, format!("no receiver listened at \"{name}\" within {wait:?}"))
                    .hint(format!("start `hqq recv {name}`"))
            }
            _ => Failure::from(error),
        }
    })?;
    let link = match wanted {
        None => link.into(),
        Some(wanted) => {
            AdvancedLink::negotiate(link, &wanted, AGREE).map_err(|error| not_agreed(error, "receiver"))?
        }
    };
    report_missing(&link, &args.compress, &args.quality, args.statistics, "receiver");
    let began = Instant::now();
    let mut input = Input::new(file, &link)?;
    let progress = Progress::bytes(input.length, !args.quiet);
    let sent = if link.agreement().features.contains(Features::QOS) {
        send_on_connection(&link, &mut input, &args.quality, &progress)?
    } else {
        send_on_link(&link, &mut input, &progress)?
    };
    let answer = link.recv().map_err(|error| lost(error, "receiver", sent))?;
    match <[u8; 8]>::try_from(&*answer).map(u64::from_le_bytes) {
        Ok(written) if written == sent => {
            progress.end(summary("sent", sent, began) + &smaller(&link, sent));
            out::done()
        }
        Ok(written) => {
            let message = format!("{sent} bytes were sent, but the receiver wrote only {written}");
            Err(Failure::new(Exit::Failed, message))
        }
        Err(_) => Err(Failure::new(Exit::Refused, "the other side is not `hqq recv`")),
    }
}

/// Sends the input as messages of the link itself; returns the number of bytes.
fn send_on_link(link: &AdvancedLink, input: &mut Input, progress: &Progress) -> Result<u64> {
    let size = link.geometry().buffer_size() as usize;
    let mut sent = 0;
    loop {
        let mut loan = link.loan(size).map_err(|error| lost(error, "receiver", sent))?;
        let count = input.read(link, &mut loan, sent)?;
        loan.truncate(count);
        loan.send().map_err(|error| lost(error, "receiver", sent))?;
        if count == 0 {
            return Ok(sent);
        }
        sent += count as u64;
        progress.add(count as u64);
    }
}

/// Sends the input on a connection with this class and rate; returns the number of bytes.
fn send_on_connection(
    link: &AdvancedLink,
    input: &mut Input,
    quality: &Quality,
    progress: &Progress,
) -> Result<u64> {
    let size = link.geometry().buffer_size();
    let connection = link.open_connection().map_err(|error| lost(error, "receiver", 0))?;
    connection.set_traffic_class(quality.share(size))?;
    let mut buffer = vec![0; size as usize];
    let mut sent = 0;
    loop {
        let count = input.read(link, &mut buffer, sent)?;
        connection.send(&buffer[..count]).map_err(|error| lost(error, "receiver", sent))?;
        if count == 0 {
            return Ok(sent);
        }
        sent += count as u64;
        progress.add(count as u64);
    }
}

/// `hqq recv NAME`.
pub fn recv(args: &Recv) -> Result<ExitCode> {
    let name = &args.name;
    let wanted = wanted(&args.compress, &args.secret, &args.quality, args.statistics)?;
    let options = Options::new().slots(64).buffers(args.buffers).buffer_size(args.buffer_size);
    let options = args.allow.extend(options.protected(args.protected));
    let listener = Listener::bind_with(name, options).map_err(|error| match &error {
        Error::Os { source, .. } if source.kind() == ErrorKind::NotFound => {
            Failure::from(error).hint(format!("the folder of \"{name}\" must exist"))
        }
        _ => Failure::from(error),
    })?;
    let accepted = match args.wait {
        Some(wait) => listener.accept_timeout(wait),
        None => listener.accept(),
    };
    let link = accepted.map_err(|error| match error {
        Error::Timeout { .. } => Failure::new(
            Exit::Name,
            format!("no sender connected to \"{name}\" within {:?}", args.wait.unwrap_or_default()),
        )
        .hint(format!("start `hqq send {name}`, or wait longer")),
        error => Failure::from(error),
    })?;
    drop(listener);
    let link = match wanted {
        None => link.into(),
        Some(wanted) => AdvancedLink::wait_for_negotiation(link, &wanted, AGREE)
            .map_err(|error| not_agreed(error, "sender"))?,
    };
    report_missing(&link, &args.compress, &args.quality, args.statistics, "sender");
    let connection = if link.agreement().features.contains(Features::QOS) {
        let connection = link.accept_connection().map_err(|error| lost(error, "sender", 0))?;
        connection.set_traffic_class(args.quality.share(link.geometry().buffer_size()))?;
        Some(connection)
    } else {
        None
    };
    let began = Instant::now();
    let mut output = Stdout::open().map_err(|failure| failure.during("nothing was received"))?;
    let progress = Progress::bytes(None, !args.quiet && !io::stdout().is_terminal());
    let mut written = 0;
    loop {
        let (of_link, of_connection);
        let message: &[u8] = match &connection {
            None => {
                of_link = link.recv().map_err(|error| lost(error, "sender", written))?;
                &of_link
            }
            Some(connection) => {
                of_connection = connection.recv().map_err(|error| lost(error, "sender", written))?;
                &of_connection
            }
        };
        if message.is_empty() {
            break;
        }
        output.write_all(message).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::new(
                Exit::System,
                format!("standard output was closed by its reader after {written} bytes"),
            )
            .hint("the sender has been stopped"),
            _ => Failure::system("writing to standard output", &error).hint("the sender has been stopped"),
        })?;
        written += message.len() as u64;
        progress.add(message.len() as u64);
    }
    // Everything has arrived, even if the sender no longer waits for the answer.
    let _ = link.send(&u64::to_le_bytes(written));
    progress.end(summary("received", written, began));
    out::done()
}

/// The features to negotiate; `None` without any.
fn wanted(
    codecs: &[Codec],
    secret: &Secret,
    quality: &Quality,
    statistics: bool,
) -> Result<Option<AdvancedOptions>> {
    let mut wanted = AdvancedOptions::new();
    if quality.is_wanted() {
        wanted = wanted.qos();
    }
    if !codecs.is_empty() {
        wanted = wanted.compression(codecs);
    }
    if let Some(path) = &secret.key_file {
        wanted = wanted.encryption(key(path)?);
    }
    if statistics {
        wanted = wanted.statistics();
    }
    let any = !codecs.is_empty() || secret.encrypt || quality.is_wanted() || statistics;
    Ok(any.then_some(wanted))
}

/// Reads a key from a file. Warns if others can read it, and refuses a key of zeros.
fn key(path: &Path) -> Result<Key> {
    /// More than the longest text of a key.
    const MOST: u64 = 4096;
    const ANOTHER: &str = "make one with `(umask 077; openssl rand -hex 32 > FILE)` and use it on both sides";
    let shown = out::plain(path.to_string_lossy());
    let cannot = |error| Failure::system(format_args!("reading the key in {shown}"), &error);
    let file = File::open(path).map_err(cannot)?;
    let facts = file.metadata().map_err(cannot)?;
    let mode = facts.mode() & 0o777;
    if facts.is_file() && mode & 0o077 != 0 {
        out::note(format_args!(
            "hqq: warning: others may use the key in {shown}, whose mode is {mode:03o}: run `chmod 600` on it, and replace \
             the key if it was read"
        ));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MOST).read_to_string(&mut text).map_err(cannot)?;
    let refused = |why: String| Failure::new(Exit::Usage, format!("{shown} {why}")).hint(ANOTHER);
    let key = Key::parse(&text).map_err(|error| refused(format!("does not contain a key: {error}")))?;
    let zeros = |part: &str| !part.is_empty() && part.bytes().all(|digit| digit == b'0');
    if text.trim().split(':').any(zeros) {
        return Err(refused("contains a key of zeros, which anybody can guess".into()));
    }
    Ok(key)
}

/// The failure for an unsuccessful negotiation with `who`.
fn not_agreed(error: Error, who: &str) -> Failure {
    match error {
        Error::NotAgreed { fallback: Fallback::WrongKey, .. } => {
            Failure::new(Exit::Refused, format!("the {who} has a different key"))
                .hint("use the same --key-file on both sides")
        }
        error @ Error::NotAgreed { missing: Features::QOS, .. } => {
            Failure::new(Exit::Refused, error.to_string())
                .hint(format!("start the {who} with --rate or --priority, too"))
        }
        error @ Error::NotAgreed { .. } => Failure::new(Exit::Refused, error.to_string())
            .hint(format!("start the {who} with --encrypt and the same --key-file")),
        error => Failure::from(error),
    }
}

/// Tells the user which requested features were not agreed on, and why.
fn report_missing(link: &AdvancedLink, codecs: &[Codec], quality: &Quality, statistics: bool, who: &str) {
    let agreement = link.agreement();
    let why =
        agreement.fallback.map_or_else(|| "the other side did not request it".into(), |why| why.to_string());
    if !codecs.is_empty() && !agreement.features.contains(Features::COMPRESSION) {
        out::note(format_args!(
            "hqq: note: not compressed: {why}; the {who} needs --compress with one of the same codecs"
        ));
    }
    if quality.is_wanted() && !agreement.features.contains(Features::QOS) {
        out::note(format_args!(
            "hqq: note: no priority or rate: {why}; the {who} needs --priority or --rate, too"
        ));
    }
    if statistics && !agreement.features.contains(Features::STATISTICS) {
        out::note(format_args!("hqq: note: not measured: {why}; the {who} needs --statistics, too"));
    }
}

/// The compression of what was sent, if it was compressed.
fn smaller(link: &AdvancedLink, sent: u64) -> String {
    let transferred = link.stats().sent_by(link.role()).bytes_sent;
    if link.agreement().features.contains(Features::COMPRESSION) && sent > 0 {
        format!(", compressed to {:.1} %", transferred as f64 * 100.0 / sent as f64)
    } else {
        String::new()
    }
}

/// Opens standard input without a buffer.
fn input() -> Result<File> {
    let opened = streams::open(Stream::Input).map(File::from);
    opened.map_err(|error| {
        Failure::system("standard input is closed or not open for reading", &error)
            .hint("redirect it from a file or a pipe, or from /dev/null to send nothing")
    })
}

/// Standard input, and the process of the receiver, whose death ends a wait for input.
struct Input {
    file: File,
    /// Bytes left to read, if it is a file.
    length: Option<u64>,
    receiver: Option<OwnedFd>,
}

impl Input {
    fn new(mut file: File, link: &AdvancedLink) -> Result<Self> {
        let facts = file.metadata().map_err(|error| Failure::system("inspecting standard input", &error))?;
        let length = facts.is_file().then(|| facts.len().saturating_sub(file.stream_position().unwrap_or(0)));
        let receiver = link.peer().pid.and_then(|pid| peer::pidfd_open(pid).ok());
        Ok(Self { file, length, receiver })
    }

    /// Reads into `buffer`; returns the number of bytes, 0 at the end.
    fn read(&mut self, link: &AdvancedLink, buffer: &mut [u8], sent: u64) -> Result<usize> {
        loop {
            self.wait(link, sent)?;
            match self.file.read(buffer) {
                Ok(count) => return Ok(count),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(Failure::system("reading standard input", &error)),
            }
        }
    }

    /// Waits until there is input; fails if the receiver dies meanwhile.
    fn wait(&self, link: &AdvancedLink, sent: u64) -> Result<()> {
        // Reading a file does not block.
        if self.length.is_some() {
            return Ok(());
        }
        loop {
            let input = self.file.as_fd();
            let ready = match &self.receiver {
                Some(receiver) => poll::many(&[input, receiver.as_fd()], None),
                None => poll::many(&[input], Some(LOOK)),
            };
            let ready = ready.map_err(|error| Failure::system("waiting for input", &error))?;
            if ready[0] {
                return Ok(());
            }
            if !link.is_open() {
                // Receiving tells why the link ended.
                let end = link.try_recv().err().filter(Error::is_end).unwrap_or(Error::Closed);
                return Err(lost(end, "receiver", sent));
            }
        }
    }
}

/// The failure for a link to `who` that ended early, after `done` bytes.
fn lost(error: Error, who: &str, done: u64) -> Failure {
    let done = format!("after {done} bytes");
    match error {
        Error::PeerDead => Failure::new(Exit::Link, format!("the {who} died {done}")),
        Error::PeerGone => Failure::new(Exit::Link, format!("the {who} closed its socket {done}")),
        Error::Closed => Failure::new(Exit::Link, format!("the {who} stopped early {done}"))
            .hint(format!("see the error message of the {who}")),
        error => Failure::from(error),
    }
}

/// The number of bytes, the time and the rate.
fn summary(what: &str, bytes: u64, began: Instant) -> String {
    let time = began.elapsed();
    let rate = out::bytes_rate(out::per_second(bytes, time));
    format!("{what} {} in {:.1} s, {rate}", out::bytes(bytes), time.as_secs_f64())
}
