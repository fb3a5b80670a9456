//! Links of HQQ as systems.

use std::time::Duration;

use hqq::shm::packet::INLINE_MAX;
use hqq::{Listener, Options, Receiver, RingMode, Sender, StandardLink, WaitMode};

use super::batch::Batches;
use super::bytes::{Sink, Source};
use super::crowd::Crowd;
use super::setup::Fresh;
use crate::case::{Case, How, Kind, RARE_US};
use crate::limits::limit;
use crate::measured::{Exchange, System, Workload};
use crate::outcome::Outcome;
use crate::payload;
use crate::session::{PATIENCE, Session};

/// A link in one of its modes.
struct Link {
    name: &'static str,
    ring: RingMode,
    wait: WaitMode,
    protected: bool,
}

/// Links in all modes that are measured.
pub fn all() -> Vec<Box<dyn System>> {
    let link =
        |name, ring, wait, protected| Box::new(Link { name, ring, wait, protected }) as Box<dyn System>;
    vec![
        link("hqq", RingMode::Mpmc, WaitMode::Adaptive, false),
        link("hqq-spin", RingMode::Mpmc, WaitMode::Spin, false),
        link("hqq-spsc", RingMode::Spsc, WaitMode::Adaptive, false),
        link("hqq-spsc-spin", RingMode::Spsc, WaitMode::Spin, false),
        link("hqq-protected", RingMode::Mpmc, WaitMode::Adaptive, true),
    ]
}

impl Link {
    fn options(&self, case: Case) -> Options {
        let size = case.payload.next_multiple_of(64).max(4096);
        let buffers = if size > 1 << 20 { 2 } else { 16 };
        let options = Options::new().ring_mode(self.ring).wait_mode(self.wait).protected(self.protected);
        let options = options.buffer_size(size).buffers(buffers);
        if case.kind == Kind::Sleeping { options.spin(Duration::ZERO) } else { options }
    }

    fn open(&self, link: StandardLink, session: &Session) -> Outcome<Box<dyn Workload>> {
        let slice = vec![0; session.size()];
        Ok(match self.ring {
            _ if session.case().kind == Kind::Batch => Box::new(Batches(link)),
            _ if session.case().kind == Kind::Crowd => Box::new(Crowd(link)),
            _ if session.case().kind == Kind::Setup => Box::new(Fresh::new(link, session)),
            _ if session.case().kind == Kind::Stream && session.leads() => {
                Box::new(Source::new(link, session))
            }
            _ if session.case().kind == Kind::Stream => Box::new(Sink::new(link, session)),
            RingMode::Spsc => Box::new(Open { ends: link.split()?, slice }),
            _ => Box::new(Open { ends: link, slice }),
        })
    }
}

impl System for Link {
    fn name(&self) -> &'static str {
        self.name
    }

    fn can(&self, case: &Case) -> bool {
        let mpmc = self.ring == RingMode::Mpmc;
        let adaptive = self.wait == WaitMode::Adaptive;
        let usual = mpmc && adaptive && !self.protected;
        let inline = case.payload <= INLINE_MAX as u64;
        // Modes that differ little in a case are not all measured.
        match case.kind {
            Kind::Slot => inline,
            Kind::Pool => mpmc || adaptive,
            Kind::Untouched => mpmc,
            Kind::Copy => mpmc && adaptive,
            Kind::Paced => usual || mpmc && !adaptive && case.period_us < RARE_US,
            Kind::ThroughputMpmc | Kind::Batch => mpmc && !self.protected && inline,
            Kind::ThroughputSpsc => !mpmc && inline,
            Kind::Crowd => usual && inline,
            Kind::Sleeping | Kind::Stream | Kind::Setup => usual,
        }
    }

    fn limit(&self, case: Case) -> (&'static str, Case) {
        limit(case, self.wait == WaitMode::Adaptive)
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let options = self.options(session.case());
        let listener = Listener::bind_with(session.name(), options)?;
        session.barrier()?;
        self.open(listener.accept_timeout(PATIENCE)?, session)
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        session.barrier()?;
        let options = self.options(session.case());
        self.open(StandardLink::connect_with_timeout(session.name(), options, PATIENCE)?, session)
    }
}

/// A link that any thread may use, or its two halves.
trait Ends {
    fn send(&self, message: &[u8]) -> hqq::Result<()>;
    fn send_with(&self, size: usize, fill: impl FnOnce(&mut [u8])) -> hqq::Result<()>;
    fn recv_with<T>(&self, read: impl FnOnce(&[u8]) -> T) -> hqq::Result<T>;
}

impl Ends for StandardLink {
    #[inline(always)]
    fn send(&self, message: &[u8]) -> hqq::Result<()> {
        self.send(message)
    }

    #[inline(always)]
    fn send_with(&self, size: usize, fill: impl FnOnce(&mut [u8])) -> hqq::Result<()> {
        self.send_with(size, fill)
    }

    #[inline(always)]
    fn recv_with<T>(&self, read: impl FnOnce(&[u8]) -> T) -> hqq::Result<T> {
        self.recv_with(read)
    }
}

impl Ends for (Sender, Receiver) {
    #[inline(always)]
    fn send(&self, message: &[u8]) -> hqq::Result<()> {
        self.0.send(message)
    }

    #[inline(always)]
    fn send_with(&self, size: usize, fill: impl FnOnce(&mut [u8])) -> hqq::Result<()> {
        self.0.send_with(size, fill)
    }

    #[inline(always)]
    fn recv_with<T>(&self, read: impl FnOnce(&[u8]) -> T) -> hqq::Result<T> {
        self.1.recv_with(read)
    }
}

/// An open link, and the slice of the caller for [`How::Copy`].
pub(super) struct Open<E> {
    ends: E,
    slice: Vec<u8>,
}

impl Open<StandardLink> {
    pub(super) fn new(link: StandardLink, session: &Session) -> Self {
        Self { ends: link, slice: vec![0; session.size()] }
    }
}

impl<E: Ends> Exchange for Open<E> {
    #[inline(always)]
    fn send(&mut self, how: How, number: u64, size: usize) -> Outcome {
        match how {
            How::InPlace => self.ends.send_with(size, |bytes| payload::write(number, bytes))?,
            How::Untouched => self.ends.send_with(size, |bytes| payload::mark(number, bytes))?,
            How::Copy => {
                payload::mark(number, &mut self.slice);
                self.ends.send(&self.slice)?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn recv(&mut self, how: How, number: u64, _: usize) -> Outcome {
        let slice = &mut self.slice;
        self.ends.recv_with(|message| match how {
            How::InPlace => payload::read(number, message),
            How::Untouched => payload::check(number, message),
            How::Copy => {
                slice.copy_from_slice(message);
                payload::check(number, slice)
            }
        })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_its_limit() {
        let limits = |kind| -> Vec<&str> {
            let case = Case::new(kind, 8);
            all().iter().filter(|link| link.can(&case)).map(|link| link.limit(case).0).collect()
        };
        assert_eq!(limits(Kind::ThroughputMpmc), ["proto-mpmc-fence", "proto-mpmc"]);
        assert_eq!(limits(Kind::ThroughputSpsc), ["proto-spsc-fence", "proto-spsc"]);
        assert_eq!(limits(Kind::Slot), ["raw"; 5]);
        assert_eq!(limits(Kind::Crowd), ["proto-mpmc-fence"]);
        let paced = |period| all()[0].limit(Case::paced(8, period)).0;
        assert_eq!((paced(20), paced(5000)), ("hqq-spin", "raw"));
    }
}
