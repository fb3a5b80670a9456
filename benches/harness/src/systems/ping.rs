//! The bare cache lines and the bare doorbell as systems.

use std::os::fd::AsFd;

use hqq_sys::raw::{bell::Bell, ping::Ping};
use hqq_sys::sock;

use crate::case::{Case, How, Kind, RARE_US};
use crate::measured::{Exchange, System, Workload};
use crate::outcome::Outcome;
use crate::payload;
use crate::session::Session;

/// Passes the cache lines of a message back and forth, and does nothing else.
pub struct Raw;

impl System for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn can(&self, case: &Case) -> bool {
        matches!(case.kind, Kind::Slot | Kind::Pool | Kind::Untouched | Kind::Copy)
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        open(session)
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        open(session)
    }
}

fn open(session: &Session) -> Outcome<Box<dyn Workload>> {
    let memory = session.memory(Ping::memory(session.size()))?;
    let slice = vec![0; session.size()];
    Ok(Box::new(Lines { ping: Ping::new(memory.as_fd(), session.size(), session.leads())?, slice }))
}

struct Lines {
    ping: Ping,
    slice: Vec<u8>,
}

impl Exchange for Lines {
    #[inline(always)]
    fn send(&mut self, how: How, number: u64, _: usize) -> Outcome {
        match how {
            How::InPlace => self.ping.send(|bytes| payload::write(number, bytes)),
            How::Untouched => self.ping.send(|bytes| payload::mark(number, bytes)),
            How::Copy => {
                payload::mark(number, &mut self.slice);
                self.ping.send(|bytes| bytes.copy_from_slice(&self.slice));
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn recv(&mut self, how: How, number: u64, _: usize) -> Outcome {
        match how {
            How::InPlace => self.ping.recv(|bytes| payload::read(number, bytes))?,
            How::Untouched => self.ping.recv(|bytes| payload::check(number, bytes))?,
            How::Copy => {
                self.ping.recv(|bytes| self.slice.copy_from_slice(bytes))?;
                payload::check(number, &self.slice)
            }
        }
    }
}

/// The socket that wakes the receivers of a link, and nothing else.
pub struct Bells;

impl System for Bells {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn can(&self, case: &Case) -> bool {
        let rare = case.kind == Kind::Paced && case.period_us >= RARE_US;
        (rare || case.kind == Kind::Sleeping) && case.payload <= 64
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let (near, far) = sock::pair()?;
        session.send_fds(&[far.as_fd()])?;
        // On a schedule, the leader polls the clock until the next message is due.
        Ok(Box::new(Bell::new(near, session.case().kind == Kind::Sleeping)?))
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        Ok(Box::new(Bell::new(session.recv_fds()?.pop().ok_or("the other end sent no socket")?, true)?))
    }
}

impl Exchange for Bell {
    #[inline(always)]
    fn send(&mut self, _: How, number: u64, size: usize) -> Outcome {
        let mut bytes = [0; 64];
        payload::write(number, &mut bytes[..size]);
        Ok(Bell::send(self, &bytes[..size])?)
    }

    #[inline(always)]
    fn recv(&mut self, _: How, number: u64, _: usize) -> Outcome {
        let mut bytes = [0; 64];
        let len = Bell::recv(self, &mut bytes)?;
        payload::read(number, &bytes[..len])
    }
}
