//! The sweep over whole links: one store into one word, then every call of the public interface, with each call once as the
//! first.

use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hqq::observe::Observer;
use hqq::shm::layout::Layout;
use hqq::shm::packet::op;
use hqq::shm::words::Role;
use hqq::{Connection, Error, Loan, Message, Options, Result, StandardLink};
use hqq_sys::mem;

use super::memory::{Guarded, cradle, guard};
use super::menu::{self, Found, VALUES};
use super::{Breach, breach};

/// What links of the sweep are called in `/proc`; the prefix of what the library calls the memory of a pair.
const NAME: &str = "hqq:pair";
/// For calls that wait: there is nobody to wait for.
const SHORT: Duration = Duration::from_micros(20);
/// What a call may take that does not wait, or not for longer than [`SHORT`]. Far more than any does.
const LONG: Duration = Duration::from_secs(5);

/// What is under way when the store comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Nothing.
    Fresh,
    /// Messages both ways, some being read, some on loan.
    Flowing,
    /// As much as rings and pools take.
    Full,
    /// A connection, with a chunk that waits to be read, behind messages.
    Connected,
    /// The peer has said that it sends no more.
    Shut,
    /// As `Flowing`, on a link whose payload is protected.
    Protected,
}

const FILLS: [Fill; 6] =
    [Fill::Fresh, Fill::Flowing, Fill::Full, Fill::Connected, Fill::Shut, Fill::Protected];

/// What the victim does first; the `Inside` ones have the store made by the trace hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    SendShort,
    SendBuffer,
    SendRun,
    SendBatch,
    SendLoan,
    DropLoan,
    TryRecv,
    RecvTimeout,
    RecvBatch,
    GiveAll,
    Open,
    Accept,
    ConnSend,
    ConnRecv,
    ConnShutdown,
    ConnDrop,
    Drive,
    Stats,
    IsOpen,
    Observe,
    ShutdownRead,
    ShutdownWrite,
    Split,
    SendShortInside,
    SendBufferInside,
    RecvInside,
    ConnSendInside,
}

const ACTS: [Act; 27] = {
    use Act::*;
    [
        SendShort,
        SendBuffer,
        SendRun,
        SendBatch,
        SendLoan,
        DropLoan,
        TryRecv,
        RecvTimeout,
        RecvBatch,
        GiveAll,
        Open,
        Accept,
        ConnSend,
        ConnRecv,
        ConnShutdown,
        ConnDrop,
        Drive,
        Stats,
        IsOpen,
        Observe,
        ShutdownRead,
        ShutdownWrite,
        Split,
        SendShortInside,
        SendBufferInside,
        RecvInside,
        ConnSendInside,
    ]
};

/// What the victim does after that, whatever it was.
const REST: [Act; 19] = {
    use Act::*;
    [
        Stats,
        IsOpen,
        Drive,
        SendShort,
        TryRecv,
        SendBuffer,
        SendRun,
        RecvBatch,
        ConnRecv,
        ConnSend,
        GiveAll,
        SendLoan,
        SendBatch,
        Accept,
        Open,
        RecvTimeout,
        ConnShutdown,
        DropLoan,
        ConnDrop,
    ]
};

const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];

#[derive(Clone, Copy, Debug)]
struct Case {
    victim: Role,
    fill: Fill,
    act: Act,
    value: usize,
    place: usize,
}

/// What the cases share.
#[derive(Debug)]
pub struct Desk {
    layout: Layout,
    places: Vec<u64>,
}

/// A link under attack.
struct End<'l> {
    link: &'l StandardLink,
    messages: Vec<Message<'l>>,
    loans: Vec<Loan<'l>>,
    connection: Option<Connection>,
    corrupt: bool,
    operations: u64,
}

impl<'l> End<'l> {
    fn new(link: &'l StandardLink) -> Self {
        let (messages, loans) = (Vec::new(), Vec::new());
        Self { link, messages, loans, connection: None, corrupt: false, operations: 0 }
    }

    /// Looks at what a call on the link answered: once corrupt, always corrupt.
    fn done<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        self.operations += 1;
        let corrupt = matches!(result, Err(Error::Corrupt { .. }));
        if self.corrupt && !corrupt {
            let said = result.err().map_or("nothing is wrong".into(), |error| error.to_string());
            breach(Breach::Forgotten, format!("{what}, on a link that was corrupt: {said}"));
        }
        self.corrupt |= corrupt;
        result.ok()
    }

    /// Memory was handed out: it must not be in hand, and every byte of it be there.
    fn fresh(&self, bytes: &[u8]) {
        let range = |bytes: &[u8]| {
            let start = bytes.as_ptr() as usize;
            (start, start + bytes.len())
        };
        let (start, end) = range(bytes);
        let held =
            self.messages.iter().map(|message| &**message).chain(self.loans.iter().map(|loan| &**loan));
        for other in held.filter(|other| other.len() > 48).map(range) {
            if start < other.1 && other.0 < end {
                breach(Breach::HeldTwice, format!("{start:x}..{end:x} beside {other:x?}"));
            }
        }
        std::hint::black_box(bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
    }

    fn message(&mut self, message: Message<'l>) {
        if message.len() > 48 {
            self.fresh(&message);
        }
        self.messages.push(message);
        if self.messages.len() > 2 {
            self.messages.remove(0);
        }
    }

    fn lend(&mut self, len: usize) -> bool {
        let lent = self.link.try_loan(len);
        let Some(mut loan) = self.done("a loan", lent) else { return false };
        if loan.len() > 48 {
            self.fresh(&loan);
        }
        loan.fill(9);
        self.loans.push(loan);
        true
    }

    fn act(&mut self, act: Act) {
        let link = self.link;
        match act {
            Act::SendShort | Act::SendShortInside => _ = self.done("a send", link.try_send(&[1; 9])),
            Act::SendBuffer | Act::SendBufferInside => _ = self.done("a send", link.try_send(&[2; 60])),
            Act::SendRun => _ = self.done("a send", link.send_timeout(&[3; 120], SHORT)),
            Act::SendBatch => {
                // A batch waits for room without a limit, which a hostile peer need not give.
                let batch: [&[u8]; 3] = [&[4; 9], &[5; 60], &[6; 100]];
                for message in batch {
                    self.done("a send", link.try_send(message));
                }
            }
            Act::SendLoan => {
                if self.lend(60) {
                    let sent =
                        self.loans.pop().map(|loan| loan.try_send().map_err(|rejected| rejected.error));
                    sent.map(|sent| self.done("a loan's send", sent));
                }
            }
            Act::DropLoan => {
                self.lend(200);
                self.loans.clear();
            }
            Act::TryRecv | Act::RecvInside => {
                let received = link.try_recv();
                let received = self.done("a receive", received);
                received.into_iter().for_each(|message| self.message(message));
            }
            Act::RecvTimeout => {
                let received = link.recv_timeout(SHORT);
                let received = self.done("a receive", received);
                received.into_iter().for_each(|message| self.message(message));
            }
            Act::RecvBatch => {
                for _ in 0..8 {
                    let received = link.try_recv();
                    match self.done("a receive", received) {
                        Some(message) => self.message(message),
                        None => break,
                    }
                }
            }
            Act::GiveAll => {
                self.messages.clear();
                self.loans.clear();
            }
            Act::Open => {
                let opened = link.open_connection_timeout(SHORT);
                if let Some(connection) = self.done("opening a connection", opened) {
                    self.connection = Some(connection);
                }
            }
            Act::Accept => {
                let accepted = link.try_accept_connection();
                if let Some(connection) = self.done("accepting a connection", accepted) {
                    self.connection = Some(connection);
                }
            }
            Act::ConnSend | Act::ConnSendInside => {
                if let Some(connection) = self.connection.take() {
                    // What the connection said before the link was corrupt it may go on saying.
                    let _ = connection.send_timeout(&[7; 100], SHORT);
                    self.connection = Some(connection);
                }
            }
            Act::ConnRecv => {
                if let Some(connection) = &self.connection {
                    let _ = connection.try_recv();
                    let _ = connection.recv_timeout(SHORT);
                }
            }
            Act::ConnShutdown => {
                if let Some(connection) = &self.connection {
                    connection.shutdown(Shutdown::Write);
                }
            }
            Act::ConnDrop => self.connection = None,
            Act::Drive => _ = link.drive(),
            Act::Stats => {
                let stats = link.stats();
                std::hint::black_box((stats, link.wire_error()));
            }
            Act::IsOpen => {
                if link.is_open() && self.corrupt {
                    breach(Breach::Forgotten, "a corrupt link says that it is open".into());
                }
            }
            Act::Observe => {
                if let Ok(observer) = Observer::open(link.memory()) {
                    std::hint::black_box((
                        observer.check(),
                        observer.stats(),
                        observer.metrics(),
                        observer.seats(),
                        observer.name(),
                    ));
                }
            }
            Act::ShutdownRead => link.shutdown(Shutdown::Read),
            Act::ShutdownWrite => link.shutdown(Shutdown::Write),
            // A link that is being used is split by its owner alone; see `run`.
            Act::Split => {}
        }
        self.operations += 1;
    }

    /// An act and how long it may take.
    fn timed(&mut self, act: Act) {
        let began = Instant::now();
        self.act(act);
        let took = began.elapsed();
        if took > LONG {
            breach(Breach::Late, format!("{act:?} took {took:?}"));
        }
    }
}

/// What the trace hook knows.
#[derive(Default)]
struct Hook {
    armed: AtomicBool,
    store: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Hook {
    fn fire(&self) {
        if self.armed.swap(false, Ordering::Relaxed) {
            if let Some(store) = self.store.get() {
                store();
            }
        }
    }
}

/// A small link in this process, with guard pages around its mappings.
fn pair(hook: &Arc<Hook>, protected: bool) -> (StandardLink, StandardLink) {
    let hook = hook.clone();
    let options = Options::new().slots(4).buffers(4).buffer_size(64).max_connections(4).inbox(2).backlog(2);
    let options = options.protected(protected).trace(move |event| {
        if event.packet.op == op::OFFER && event.sent {
            // The Primary has mapped its region, and the Secondary not yet: this goes between the two.
            guard(NAME);
        }
        hook.fire();
    });
    StandardLink::pair_with(options).expect("a link")
}

impl Desk {
    /// A desk.
    ///
    /// # Panics
    /// If no link can be made.
    pub fn new() -> Self {
        let (primary, secondary) = pair(&Arc::default(), false);
        let layout = Layout::new(primary.geometry(), mem::page_size() as u64).expect("the link has it");
        drop((primary, secondary));
        cradle(layout.len, 4);
        Self { layout, places: menu::places(&layout) }
    }

    /// How many cases there are.
    pub fn cases(&self) -> u64 {
        (ROLES.len() * FILLS.len() * ACTS.len() * VALUES.len() * self.places.len()) as u64
    }

    fn case(&self, number: u64) -> Case {
        let mut rest = number as usize;
        let mut choose = |count: usize| {
            let choice = rest % count;
            rest /= count;
            choice
        };
        Case {
            place: choose(self.places.len()),
            value: choose(VALUES.len()),
            act: ACTS[choose(ACTS.len())],
            fill: FILLS[choose(FILLS.len())],
            victim: ROLES[choose(ROLES.len())],
        }
    }

    /// What a case is, for people.
    pub fn describe(&self, number: u64) -> String {
        let Case { victim, fill, act, value, place } = self.case(number);
        let word = menu::name(&self.layout, self.places[place]);
        format!("{act:?} by the {victim}'s link, {fill:?}: {word} becomes {}", VALUES[value].0)
    }

    /// Runs a case: how many operations that were, and how many links called themselves corrupt.
    ///
    /// # Panics
    /// As soon as the library does, or with a [`Breach`].
    pub fn run(&self, number: u64) -> (u64, u64) {
        let case = self.case(number);
        let hook = Arc::new(Hook::default());
        let (primary, secondary) = pair(&hook, case.fill == Fill::Protected);
        let map = Guarded::new(primary.memory().as_fd(), (self.layout.len) as usize).expect("a mapping");
        let offset = self.places[case.place];
        let store = move || {
            let hand = map.words();
            let value = VALUES[case.value].1(Found::at(hand, offset));
            hand[offset as usize / 8].store(value, Ordering::Release);
        };
        let (victim, peer) = match case.victim {
            Role::Primary => (primary, secondary),
            Role::Secondary => (secondary, primary),
        };
        let mut counts = {
            let (mut ours, mut theirs) = (End::new(&victim), End::new(&peer));
            fill(case.fill, &mut ours, &mut theirs);
            if matches!(
                case.act,
                Act::SendShortInside | Act::SendBufferInside | Act::RecvInside | Act::ConnSendInside
            ) {
                hook.armed.store(true, Ordering::Relaxed);
                let _ = hook.store.set(Box::new(store));
            } else {
                store();
            }
            ours.timed(case.act);
            if case.act != Act::Split {
                for act in REST {
                    ours.timed(act);
                    theirs.timed(act);
                }
            }
            (ours.operations + theirs.operations, u64::from(ours.corrupt) + u64::from(theirs.corrupt))
        };
        if case.act == Act::Split {
            counts.0 += split(victim);
        }
        let (again, closing) = (End::new(&peer).closing(), Instant::now());
        counts.0 += again;
        drop(peer);
        if closing.elapsed() > LONG {
            breach(Breach::Late, "closing".into());
        }
        counts
    }
}

impl End<'_> {
    /// What is done with a link whose other end may be gone.
    fn closing(mut self) -> u64 {
        for act in
            [Act::TryRecv, Act::SendShort, Act::Stats, Act::IsOpen, Act::ShutdownRead, Act::ShutdownWrite]
        {
            self.timed(act);
        }
        self.operations
    }
}

fn fill<'l>(fill: Fill, ours: &mut End<'l>, theirs: &mut End<'l>) {
    match fill {
        Fill::Fresh => {}
        Fill::Flowing | Fill::Protected => flow(ours, theirs),
        Fill::Full => {
            flow(ours, theirs);
            for end in [ours, theirs] {
                end.act(Act::SendBuffer);
                (0..5).for_each(|_| end.act(Act::SendShort));
                while end.lend(60) {}
            }
        }
        Fill::Connected => {
            ours.act(Act::SendShort);
            connect(ours, theirs);
            theirs.act(Act::ConnSend);
            ours.act(Act::ConnSend);
            theirs.act(Act::SendShort);
        }
        Fill::Shut => {
            flow(ours, theirs);
            theirs.act(Act::ShutdownWrite);
        }
    }
}

/// A connection between the two.
fn connect(ours: &mut End<'_>, theirs: &mut End<'_>) {
    let (opener, taker) = (ours.link, theirs.link);
    let (opened, accepted) = std::thread::scope(|scope| {
        let accepting = scope.spawn(|| taker.accept_connection_timeout(LONG));
        (opener.open_connection_timeout(LONG), accepting.join().expect("accepting does not panic"))
    });
    ours.connection = Some(opened.expect("the peer accepts"));
    theirs.connection = Some(accepted.expect("the peer opens"));
}

fn flow(ours: &mut End<'_>, theirs: &mut End<'_>) {
    for _ in 0..2 {
        ours.act(Act::SendBuffer);
        theirs.act(Act::SendBuffer);
    }
    ours.act(Act::TryRecv);
    theirs.act(Act::TryRecv);
    ours.act(Act::SendShort);
    theirs.act(Act::SendShort);
    ours.lend(64);
    theirs.lend(64);
}

/// A split link's halves.
fn split(link: StandardLink) -> u64 {
    if let Ok((sender, receiver)) = link.split() {
        let _ = (sender.try_send(&[1; 9]), sender.try_send(&[2; 60]), sender.try_send(&[3; 200]));
        for _ in 0..6 {
            let _ = receiver.try_recv();
        }
        let _ = receiver.recv_timeout(SHORT);
        let _ = sender.loan_timeout(100, SHORT);
        drop(receiver);
        let _ = sender.try_send(&[1; 9]);
    }
    12
}

impl Default for Desk {
    fn default() -> Self {
        Self::new()
    }
}
