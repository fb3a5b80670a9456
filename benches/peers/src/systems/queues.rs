//! Queues between threads of one process. They do not work between processes, and need not handle the death of another
//! process or its addresses. An element fills a cache line, 56 bytes of it payload.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use hqq_bench::{Case, Exchange, How, Kind, Outcome, Placement, Session, System, Workload};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::common::{capacity, read, spin, write};

/// An element of rtrb's ring, which has nothing beside it.
#[repr(align(64))]
struct Line([u8; 56]);

struct Ring {
    output: Producer<Line>,
    input: Consumer<Line>,
}

impl Exchange for Ring {
    #[inline]
    fn send(&mut self, how: How, number: u64, size: usize) -> Outcome {
        let mut line = Line([0; 56]);
        write(how, number, &mut line.0[..size]);
        let mut left = Some(line);
        spin(|| {
            let Some(line) = left.take() else { return Ok(Some(())) };
            left = self.output.push(line).err().map(|rtrb::PushError::Full(line)| line);
            Ok(left.is_none().then_some(()))
        })
    }

    #[inline]
    fn recv(&mut self, how: How, number: u64, size: usize) -> Outcome {
        let line = spin(|| Ok(self.input.pop().ok()))?;
        read(how, number, &line.0[..size])
    }
}

/// Whether these do this: one element, or a flow of them.
fn fits(case: &Case, throughput: Kind) -> bool {
    case.payload <= 56 && (case.kind == Kind::Slot || case.kind == throughput)
}

/// The crate `rtrb`.
pub struct Rtrb;

impl System for Rtrb {
    fn name(&self) -> &'static str {
        "rtrb"
    }

    fn placement(&self) -> Placement {
        Placement::BetweenThreads
    }

    fn can(&self, case: &Case) -> bool {
        fits(case, Kind::ThroughputSpsc)
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let ((output, theirs), (back, input)) =
            (RingBuffer::new(capacity(session)), RingBuffer::new(capacity(session)));
        session.share(Ring { output: back, input: theirs })?;
        Ok(Box::new(Ring { output, input }))
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        Ok(Box::new(session.shared::<Ring>()?))
    }
}

/// An element of crossbeam's queue, which puts its stamp beside it.
type Element = [u8; 56];

struct Arrays {
    output: Arc<ArrayQueue<Element>>,
    input: Arc<ArrayQueue<Element>>,
}

impl Exchange for Arrays {
    #[inline]
    fn send(&mut self, how: How, number: u64, size: usize) -> Outcome {
        let mut element = [0; 56];
        write(how, number, &mut element[..size]);
        spin(|| Ok(self.output.push(element).ok()))
    }

    #[inline]
    fn recv(&mut self, how: How, number: u64, size: usize) -> Outcome {
        let element = spin(|| Ok(self.input.pop()))?;
        read(how, number, &element[..size])
    }
}

/// The `ArrayQueue` of the crate `crossbeam-queue`.
pub struct Crossbeam;

impl System for Crossbeam {
    fn name(&self) -> &'static str {
        "crossbeam"
    }

    fn placement(&self) -> Placement {
        Placement::BetweenThreads
    }

    fn can(&self, case: &Case) -> bool {
        fits(case, Kind::ThroughputMpmc)
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let [output, input] = [(); 2].map(|()| Arc::new(ArrayQueue::new(capacity(session))));
        session.share(Arrays { output: input.clone(), input: output.clone() })?;
        Ok(Box::new(Arrays { output, input }))
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        Ok(Box::new(session.shared::<Arrays>()?))
    }
}
