//! Messages and connections in any order on two ends: each direction delivers what was sent, in order, and then its end.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use hqq::{Connection, Error, ErrorCode, Options, StandardLink};

use crate::fuzz::bytes::Bytes;

/// For calls that wait: the other end is this same thread.
const SHORT: Duration = Duration::from_micros(5);

/// What one end has sent on a connection, and what is to be expected at its end.
#[derive(Debug, Default)]
struct Flow {
    due: VecDeque<Vec<u8>>,
    /// The last message may have been cut short by its sender.
    cut: bool,
    /// Its sender sends no more.
    ended: bool,
    /// Its receiver reads no more, so that what was sent may be lost.
    unread: bool,
}

/// Both ends of a connection, and its two flows: the first end's and the second's.
#[derive(Debug, Default)]
struct Pair {
    ends: [Option<Connection>; 2],
    flows: [Flow; 2],
}

/// The target.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let options = Options::new().slots(8).buffers(4).buffer_size(64).max_message(500);
    let options = options.max_connections(4).inbox(2).backlog(2);
    let (primary, secondary) = StandardLink::pair_with(options).expect("a link");
    let links = [primary, secondary];
    let mut pairs: Vec<Pair> = Vec::new();
    let mut plain = [VecDeque::new(), VecDeque::new()];
    let mut number = 0u8;
    for _ in 0..200 {
        if bytes.is_over() {
            break;
        }
        let (act, with) = (bytes.byte(), usize::from(bytes.byte()));
        let me = with % 2;
        let count = pairs.len();
        let mut pair = if count == 0 { None } else { pairs.get_mut(with / 2 % count) };
        match act % 16 {
            0 if count < 4 => pairs.extend(open(&links, me, &mut plain)),
            1..=4 => {
                number = number.wrapping_add(1);
                let len = usize::from(bytes.byte()) * 2;
                if let Some(pair) = &mut pair {
                    send(pair, me, vec![number; len]);
                }
            }
            5..=9 => {
                if let Some(pair) = &mut pair {
                    read(pair, me);
                }
            }
            10 | 11 => {
                if let Some(pair) = &mut pair {
                    let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][act as usize / 16 % 3];
                    shut(pair, me, how);
                }
            }
            12 => {
                if let Some(pair) = &mut pair {
                    shut(pair, me, Shutdown::Both);
                    pair.ends[me] = None;
                }
                pairs.retain(|pair| pair.ends.iter().any(Option::is_some));
            }
            13 => {
                number = number.wrapping_add(1);
                let message = vec![number; usize::from(bytes.byte())];
                match links[me].try_send(&message) {
                    Ok(()) => plain[me].push_back(message),
                    Err(error) => assert!(error.is_transient() || is_too_large(&error), "{error}"),
                }
            }
            14 => receive(&links, me, &mut plain),
            _ => {
                let _ = links[me].drive().expect("a healthy link");
            }
        }
    }
    // All that is still due comes, whoever has to make room for it.
    let mut rounds = 0;
    while plain.iter().any(|due| !due.is_empty())
        || pairs.iter().any(|pair| (0..2).any(|me| expects(pair, me)))
    {
        for me in 0..2 {
            receive(&links, me, &mut plain);
            pairs.iter_mut().for_each(|pair| read(pair, me));
        }
        rounds += 1;
        assert!(rounds < 2000, "never delivered: {pairs:?} and {plain:?}");
    }
    for link in &links {
        assert!(link.is_open());
        for side in link.stats().sides {
            // A request may be turned down, and what was under way then comes for a connection that is not there.
            let known =
                side.refused_with(ErrorCode::ConnRefused) + side.refused_with(ErrorCode::ConnNotFound);
            assert_eq!(side.refused_total(), known, "both keep the rules: {side:?}");
        }
    }
}

/// Whether the other end of a pair still has to read something.
fn expects(pair: &Pair, sender: usize) -> bool {
    let flow = &pair.flows[sender];
    !flow.unread && !flow.due.is_empty() && pair.ends[1 - sender].is_some()
}

fn is_too_large(error: &Error) -> bool {
    matches!(error, Error::TooLarge { .. })
}

/// A connection that one end opens and the other accepts.
fn open(links: &[StandardLink; 2], me: usize, plain: &mut [VecDeque<Vec<u8>>; 2]) -> Option<Pair> {
    // Plain messages may be in the way of a request.
    for end in 0..2 {
        receive(links, end, plain);
    }
    let (opened, accepted) = thread::scope(|scope| {
        let accepting = scope.spawn(|| links[1 - me].accept_connection_timeout(SHORT * 400));
        let opened = links[me].open_connection_timeout(SHORT * 400);
        (opened, accepting.join().expect("accepting does not panic"))
    });
    let mut pair = Pair::default();
    match (opened, accepted) {
        (Ok(ours), Ok(theirs)) if ours.id() == theirs.id() => {
            pair.ends[me] = Some(ours);
            pair.ends[1 - me] = Some(theirs);
            Some(pair)
        }
        // A full inbox stops the link, or the table is full, or they missed each other: then it is as if nothing had been.
        (opened, accepted) => {
            for error in [opened.err(), accepted.err()].into_iter().flatten() {
                let expected = matches!(
                    error,
                    Error::Timeout { .. } | Error::TooMany { .. } | Error::Refused { .. } | Error::Closed
                );
                assert!(expected, "{error}");
            }
            None
        }
    }
}

fn send(pair: &mut Pair, me: usize, message: Vec<u8>) {
    let flow = &mut pair.flows[me];
    let Some(connection) = &pair.ends[me] else { return };
    match connection.send_timeout(&message, SHORT) {
        Ok(()) => {
            assert!(!flow.ended, "sent behind the end");
            flow.due.push_back(message);
        }
        Err(error) if is_too_large(&error) => assert!(message.len() > 500),
        // Cut short, unless nothing of it had gone. In the first case this direction is closed.
        Err(Error::Timeout { .. }) => flow.cut |= message.len() > 64,
        Err(Error::Closed) => {}
        Err(other) => panic!("{other}"),
    }
}

fn read(pair: &mut Pair, me: usize) {
    let flow = &mut pair.flows[1 - me];
    let Some(connection) = &pair.ends[me] else { return };
    match connection.try_recv() {
        Ok(message) => {
            let due = flow.due.pop_front();
            assert_eq!(Some(message), due, "order and content");
        }
        Err(Error::RingEmpty) => {}
        Err(Error::Closed) => {
            assert!(flow.unread || flow.due.is_empty(), "lost before the end: {:?}", flow.due);
            assert!(flow.unread || flow.ended || flow.cut, "an end that nobody made");
        }
        Err(Error::Cut { .. }) => {
            assert!(flow.unread || flow.due.is_empty() && (flow.cut || flow.ended), "a cut that nobody made");
        }
        Err(other) => panic!("{other}"),
    }
}

fn shut(pair: &mut Pair, me: usize, how: Shutdown) {
    let Some(connection) = &pair.ends[me] else { return };
    connection.shutdown(how);
    if matches!(how, Shutdown::Write | Shutdown::Both) {
        pair.flows[me].ended = true;
    }
    if matches!(how, Shutdown::Read | Shutdown::Both) {
        pair.flows[1 - me].unread = true;
    }
}

/// Takes all messages of the link itself that are there now.
fn receive(links: &[StandardLink; 2], me: usize, plain: &mut [VecDeque<Vec<u8>>; 2]) {
    loop {
        match links[me].try_recv() {
            Ok(message) => {
                let due = plain[1 - me].pop_front();
                assert_eq!(due.as_deref(), Some(&*message), "order and content");
            }
            Err(Error::RingEmpty) => return,
            Err(other) => panic!("{other}"),
        }
    }
}
