//! Links of HQQ.

use std::time::Duration;

use hqq::packet::INLINE_MAX;
use hqq::{Listener, Loan, Message, Options, Receiver, RingMode, Sender, StandardLink, WaitMode};

use crate::session::PATIENCE;
use crate::{Case, How, Kind, Outcome, Session, System, Turns, Way, payload};

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
        // As many as are of use: two are under way in a round trip, more where many messages go one way.
        let buffers = if case.kind.is_timed() { 8 } else { 1024 };
        let options = Options::new().ring_mode(self.ring).wait_mode(self.wait).protected(self.protected);
        let options = options.buffer_size(size).buffers(buffers);
        if case.kind == Kind::Sleeping { options.spin(Duration::ZERO) } else { options }
    }

    fn open(&self, link: StandardLink, session: &Session) -> Outcome<Box<dyn Turns>> {
        let slice = vec![0; session.size()];
        Ok(match self.ring {
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
        match case.kind {
            Kind::Slot => case.payload <= INLINE_MAX as u64,
            Kind::Pool | Kind::Untouched => true,
            Kind::Copy => self.wait == WaitMode::Adaptive,
            Kind::Sleeping => self.wait == WaitMode::Adaptive && mpmc && !self.protected,
            Kind::Paced => {
                mpmc && !self.protected && (self.wait == WaitMode::Adaptive || case.period_us < 1000)
            }
            Kind::ThroughputMpmc => mpmc && !self.protected,
            Kind::Batch => mpmc && !self.protected,
            Kind::ThroughputSpsc => !mpmc,
            Kind::Crowd | Kind::Stream | Kind::Setup => false,
        }
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Turns>> {
        let options = self.options(session.case());
        let listener = Listener::bind_with(session.name(), options)?;
        session.meet()?;
        self.open(listener.accept_timeout(PATIENCE)?, session)
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Turns>> {
        session.meet()?;
        let options = self.options(session.case());
        self.open(StandardLink::connect_with(session.name(), options, Some(PATIENCE))?, session)
    }
}

/// What can send and receive: a link that any thread may use, or the halves of one for two threads.
trait Ends {
    fn loan(&self, size: usize) -> hqq::Result<Loan<'_>>;
    fn send(&self, message: &[u8]) -> hqq::Result<()>;
    fn recv(&self) -> hqq::Result<Message<'_>>;
}

impl Ends for StandardLink {
    #[inline(always)]
    fn loan(&self, size: usize) -> hqq::Result<Loan<'_>> {
        self.loan(size)
    }

    #[inline(always)]
    fn send(&self, message: &[u8]) -> hqq::Result<()> {
        self.send(message)
    }

    #[inline(always)]
    fn recv(&self) -> hqq::Result<Message<'_>> {
        self.recv()
    }
}

impl Ends for (Sender, Receiver) {
    #[inline(always)]
    fn loan(&self, size: usize) -> hqq::Result<Loan<'_>> {
        self.0.loan(size)
    }

    #[inline(always)]
    fn send(&self, message: &[u8]) -> hqq::Result<()> {
        self.0.send(message)
    }

    #[inline(always)]
    fn recv(&self) -> hqq::Result<Message<'_>> {
        self.1.recv()
    }
}

/// A link that is open, and the caller's slice for [`How::Copy`].
struct Open<E> {
    ends: E,
    slice: Vec<u8>,
}

impl<E: Ends> Way for Open<E> {
    #[inline(always)]
    fn send(&mut self, how: How, number: u64, size: usize) -> Outcome {
        match how {
            // What fits a slot is sent as a slice: nothing is gained by a loan.
            How::InPlace if size <= INLINE_MAX => {
                let mut bytes = [0; INLINE_MAX];
                payload::write(number, &mut bytes[..size]);
                self.ends.send(&bytes[..size])?;
            }
            How::InPlace => {
                let mut loan = self.ends.loan(size)?;
                payload::write(number, &mut loan);
                loan.send()?;
            }
            How::Untouched => {
                let mut loan = self.ends.loan(size)?;
                payload::mark(number, &mut loan);
                loan.send()?;
            }
            How::Copy => {
                payload::mark(number, &mut self.slice);
                self.ends.send(&self.slice)?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn recv(&mut self, how: How, number: u64, _: usize) -> Outcome {
        let message = self.ends.recv()?;
        match how {
            How::InPlace => payload::read(number, &message),
            How::Untouched => payload::check(number, &message),
            How::Copy => {
                self.slice.copy_from_slice(&message);
                payload::check(number, &self.slice)
            }
        }
    }
}
