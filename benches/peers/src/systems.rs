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

use hqq_bench::{How, Kind, Outcome, System, payload};

use crate::traces::Traces;

pub use boost::LEFT_OUT;

/// All of them, as the table has them.
pub fn all(traces: &'static Traces) -> Vec<Box<dyn System>> {
    let mut systems: Vec<Box<dyn System>> = vec![
        Box::new(iceoryx::Iceoryx::polled(traces)),
        Box::new(iceoryx::Iceoryx::event(traces)),
        Box::new(shmem_ipc::ShmemIpc),
        Box::new(shmipc::Shmipc::new(traces)),
        Box::new(ipc_channel::IpcChannel),
        Box::new(zeromq::ZeroMq),
        Box::new(bytes::UnixStreams),
        Box::new(bytes::UnixDatagrams),
        Box::new(bytes::Pipes),
        Box::new(queues::Rtrb),
        Box::new(queues::Crossbeam),
    ];
    systems.extend(boost::system(traces));
    systems
}

/// Whether a system that copies does this: it has no payload that nobody touches.
fn copies(kind: Kind) -> bool {
    matches!(kind, Kind::Slot | Kind::Pool | Kind::Sleeping)
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
