//! The raw lines, as a system.

use std::os::fd::AsFd;

use hqq_sys::raw::ping::Ping;

use crate::{Case, How, Kind, Outcome, Session, System, Turns, Way, payload};

/// The lines that a message needs, passed to and fro, and nothing besides.
pub struct Raw;

impl System for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn can(&self, case: &Case) -> bool {
        matches!(case.kind, Kind::Slot | Kind::Pool | Kind::Untouched | Kind::Copy)
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Turns>> {
        open(session)
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Turns>> {
        open(session)
    }
}

fn open(session: &Session) -> Outcome<Box<dyn Turns>> {
    let memory = session.memory(Ping::memory(session.size()))?;
    let slice = vec![0; session.size()];
    Ok(Box::new(Lines { ping: Ping::new(memory.as_fd(), session.size(), session.leads())?, slice }))
}

struct Lines {
    ping: Ping,
    slice: Vec<u8>,
}

impl Way for Lines {
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
