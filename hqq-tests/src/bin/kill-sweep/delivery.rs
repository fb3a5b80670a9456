//! Victims with reliable delivery: a forked process is killed at an instant, and a successor takes its place. What the victim
//! had not acknowledged is delivered to the successor, in order and once; what it had sent is received by the survivor.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hqq::advanced::{AdvancedOptions, Reliability};
use hqq::observe::Observer;
use hqq::{AdvancedLink, Error, Listener, Options, StandardLink};
use hqq_tests::oracle::{self, Fault, Kind, Verdict};
use hqq_tests::single_step::{Child, Stop, mark};

use crate::scenario::{COUNT, INLINE, POOL, SIZE};

/// Far more than anything here takes that does not hang.
const SOON: Duration = Duration::from_secs(20);
/// Messages to the victim, which never comes to the last.
const INWARD: [(u64, usize); 3] = [(101, POOL), (102, INLINE), (103, POOL)];
/// Messages of the victim.
const OUT: [(u64, usize); 2] = [(11, POOL), (12, INLINE)];

names! {
    /// What a victim does with its link.
    Op {
        /// Receives two messages and acknowledges them.
        Process "delivery-process",
        /// Sends two messages.
        Send "delivery-send",
    }
}

fn texts(messages: &[(u64, usize)]) -> Vec<Vec<u8>> {
    messages.iter().map(|&(number, len)| oracle::message(number, len - 8)).collect()
}

fn wanted() -> AdvancedOptions {
    AdvancedOptions::new().reliable(Reliability::new().messages(8))
}

fn join(name: &str) -> Result<AdvancedLink, Error> {
    AdvancedLink::wait_for_negotiation(StandardLink::connect_timeout(name, SOON)?, &wanted(), SOON)
}

/// The victim, between two marks.
fn play(op: Op, name: &str) -> Result<(), Error> {
    let (link, texts) = (join(name)?, texts(&OUT));
    mark();
    match op {
        Op::Process => {
            for _ in 0..2 {
                link.try_recv()?.acknowledge()?;
            }
            link.flush_acknowledgements();
        }
        Op::Send => {
            for text in &texts {
                link.try_send(text)?;
            }
        }
    }
    mark();
    Ok(())
}

fn wrong(error: Error) -> Fault {
    Fault::new(Kind::Wedged, format!("{error:?}"))
}

/// Kills a victim behind its instruction number `at`, or at its second mark. How many instructions it had executed.
///
/// # Errors
/// The sweep itself failed.
pub fn kill(op: Op, at: u64) -> Result<(u64, Verdict), String> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("kill-sweep-delivery-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let failed = |what: &dyn std::fmt::Debug| format!("{}: {what:?}", op.name());
    let options = Options::new().slots(COUNT).buffers(COUNT).buffer_size(SIZE).reattachable(true);
    let listener = Listener::bind_with(&name, options).map_err(|error| failed(&error))?;
    let meet = || {
        let link = AdvancedLink::negotiate(listener.accept_timeout(SOON)?, &wanted(), SOON)?;
        if op == Op::Process {
            texts(&INWARD).iter().try_for_each(|text| link.send_timeout(text, SOON))?;
        }
        Ok(link)
    };
    let (mut child, met) = Child::fork(|| play(op, &name).is_ok(), meet).map_err(|error| failed(&error))?;
    let link = met.map_err(|error: Error| failed(&error))?;
    let mut done = 0;
    while done < at {
        done += 1;
        if child.step().map_err(|error| failed(&error))? == Stop::Mark {
            break;
        }
    }
    child.kill().map_err(|error| failed(&error))?;
    Ok((done, succeed(op, &listener, link)))
}

/// The number of a message.
fn number(message: &[u8]) -> Verdict<u64> {
    oracle::number(message).ok_or_else(|| Fault::new(Kind::Torn, "a message"))
}

/// Another takes the victim's place.
fn succeed(op: Op, listener: &Listener, mut link: AdvancedLink) -> Verdict {
    let sent = if op == Op::Process { &INWARD[..] } else { &[] };
    let mut came = Vec::new();
    loop {
        match link.recv_timeout(SOON) {
            Ok(message) => came.push(number(&message)?),
            Err(Error::PeerDead) => break,
            Err(error) => return Err(wrong(error)),
        }
    }
    let due: Vec<u64> = OUT[..came.len().min(OUT.len())].iter().map(|(number, _)| *number).collect();
    oracle::compare("what the dead one sent", &came, 0, 0, |_| due.clone())?;
    thread::scope(|scope| {
        let successor = scope.spawn(|| {
            let link = join(listener.name()).map_err(wrong)?;
            let mut again = Vec::new();
            // The last was nobody's to acknowledge.
            while again.last() != sent.last().map(|(number, _)| number) {
                let message = link.recv_timeout(SOON).map_err(wrong)?;
                again.push(number(&message)?);
                message.acknowledge().map_err(wrong)?;
            }
            link.flush_acknowledgements();
            Ok::<_, Fault>((link, again))
        });
        link.reattach(listener, SOON).map_err(wrong)?;
        link.wait_acknowledged(SOON).map_err(wrong)?;
        let joined = successor.join().map_err(|_| Fault::new(Kind::Wedged, "it panicked"))?;
        let (successor, again) = joined?;
        let least = sent.len().min(1);
        oracle::compare("what was not acknowledged", &again, least, sent.len(), |last| {
            sent[sent.len() - last..].iter().map(|(number, _)| *number).collect()
        })?;
        for end in [[&link, &successor], [&successor, &link]] {
            end[0].send_timeout(&oracle::message(7, POOL - 8), SOON).map_err(wrong)?;
            let message = end[1].recv_timeout(SOON).map_err(wrong)?;
            oracle::compare("a further message", &[number(&message)?], 0, 0, |_| vec![7])?;
            message.acknowledge().map_err(wrong)?;
        }
        drop(successor);
        let refused: u64 = link.stats().sides.iter().map(|side| side.refused_total()).sum();
        let report = Observer::open(link.memory()).map_err(wrong)?.check();
        if refused > 0 || !report.findings.is_empty() {
            return Err(Fault::new(Kind::Leaked, format!("{refused} packets refused, {report:?}")));
        }
        let free = link.stats().directions.map(|direction| direction.buffers_free);
        if free != [u64::from(COUNT); 2] {
            return Err(Fault::new(Kind::Leaked, format!("{free:?} buffers are free")));
        }
        Ok(())
    })
}
