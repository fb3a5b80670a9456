//! Alternatives to HQQ, each in a file of its own.

mod boost;
mod bytes;
mod iceoryx;
mod ipc_channel;
mod queues;
mod shmem_ipc;
mod shmipc;
mod zeromq;

use hqq_bench::{Case, Kind, Outcome, Session, System, Workload, own, raw};

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

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        self.0.lead(session)
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        self.0.follow(session)
    }
}
