//! What a user would pick instead of HQQ: a file for each.

mod boost;
mod bytes;
mod iceoryx;
mod ipc_channel;
mod queues;
mod shmem_ipc;
mod shmipc;
mod zeromq;

use std::hint;

use hqq_bench::{Case, How, Kind, Outcome, Session, System, Turns, own, payload, raw};

use crate::traces::Traces;

pub use boost::LEFT_OUT;

/// Everything that is measured: the raw programs, HQQ, and its peers.
pub fn all(traces: &Traces) -> Vec<Box<dyn System>> {
    // This program's own pipe does more than the harness's.
    let own = own().into_iter().filter(|system| system.name() != "pipe");
    let own = own.map(|system| Box::new(Mode(system)) as Box<dyn System>);
    let mut systems: Vec<Box<dyn System>> = raw().into_iter().chain(own).collect();
    systems.push(Box::new(iceoryx::Iceoryx::polled(traces)));
    systems.push(Box::new(iceoryx::Iceoryx::event(traces)));
    systems.push(Box::new(shmem_ipc::ShmemIpc));
    systems.push(Box::new(shmipc::Shmipc::new(traces)));
    systems.extend(boost::system(traces));
    systems.push(Box::new(ipc_channel::IpcChannel));
    systems.push(Box::new(zeromq::ZeroMq));
    systems.push(Box::new(bytes::UnixStreams));
    systems.push(Box::new(bytes::UnixDatagrams));
    systems.push(Box::new(bytes::Pipes));
    systems.push(Box::new(queues::Rtrb));
    systems.push(Box::new(queues::Crossbeam));
    systems
}

/// A link of HQQ. Those that are not as one gets them without options take part where it matters, in
/// throughput: `hqq bench` compares them.
struct Mode(Box<dyn System>);

impl System for Mode {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn can(&self, case: &Case) -> bool {
        let flows = matches!(case.kind, Kind::ThroughputMpmc | Kind::ThroughputSpsc);
        self.0.can(case) && (self.name() == "hqq" || flows)
    }

    fn limit(&self, case: Case) -> (&'static str, Case) {
        self.0.limit(case)
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Turns>> {
        self.0.lead(session)
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Turns>> {
        self.0.follow(session)
    }
}

/// Whether a system that copies does this: it has no payload that nobody touches.
fn copies(kind: Kind) -> bool {
    matches!(kind, Kind::Slot | Kind::Pool | Kind::Sleeping)
}

/// How many messages there is room for, where one can choose: as with links of HQQ, slots in a flow and buffers in round
/// trips. More of them would only be more that no cache holds, where they are used in turns.
fn capacity(session: &Session) -> usize {
    if session.case().kind.is_timed() { 16 } else { 1024 }
}

/// Writes a payload as asked.
#[inline(always)]
fn write(how: How, number: u64, into: &mut [u8]) {
    match how {
        How::Untouched => payload::mark(number, into),
        _ => payload::write(number, into),
    }
}

/// Reads a payload as asked.
#[inline(always)]
fn read(how: How, number: u64, message: &[u8]) -> Outcome {
    match how {
        How::Untouched => payload::check(number, message),
        _ => payload::read(number, message),
    }
}

/// Tries until there is something.
#[inline(always)]
fn spin<T>(mut attempt: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    loop {
        if let Some(done) = attempt()? {
            return Ok(done);
        }
        hint::spin_loop();
    }
}
