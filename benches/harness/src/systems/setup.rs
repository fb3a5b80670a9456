//! Setup of a link, up to the first message.

use std::os::fd::AsFd;
use std::time::Instant;

use hqq::{Listener, Options, StandardLink};
use hqq_sys::mem;

use crate::case::{Case, Kind};
use crate::measured::{Span, System, Turn, Workload, nanos};
use crate::outcome::Outcome;
use crate::session::{PATIENCE, Session};
use crate::{clock, payload};

/// Makes a new link each time: binds, notifies the other end, accepts, and receives one message.
pub struct Fresh {
    /// A link that exists already and notifies the other end that the name is bound.
    beside: StandardLink,
    name: String,
    number: u64,
}

impl Fresh {
    pub fn new(beside: StandardLink, session: &Session) -> Self {
        Self { beside, name: format!("{}-fresh", session.name()), number: 0 }
    }

    fn name(&mut self) -> String {
        self.number += 1;
        format!("{}-{}", self.name, self.number)
    }
}

impl Workload for Fresh {
    fn lead(&mut self, turn: Turn, times: &mut [u32]) -> Outcome<Span> {
        let began = clock::now();
        for time in times {
            let name = self.name();
            let start = Instant::now();
            let listener = Listener::bind_with(&name, Options::new())?;
            self.beside.send(b"bound")?;
            let link = listener.accept_timeout(PATIENCE)?;
            let message = link.recv_timeout(PATIENCE)?;
            payload::read(turn.case.payload, &message)?;
            *time = nanos(start.elapsed());
            drop(message);
            drop(link);
            self.beside.recv_timeout(PATIENCE)?;
        }
        Ok(Span::since(began))
    }

    fn follow(&mut self, turn: Turn) -> Outcome<Span> {
        let began = clock::now();
        let size = turn.case.payload;
        let mut bytes = vec![0; size as usize];
        payload::write(size, &mut bytes);
        for _ in 0..turn.count {
            let name = self.name();
            self.beside.recv_timeout(PATIENCE)?;
            let link = StandardLink::connect_timeout(&name, PATIENCE)?;
            link.send(&bytes)?;
            // Waits until the other end has received the message and closed.
            let _ = link.recv_timeout(PATIENCE);
            drop(link);
            self.beside.send(b"closed")?;
        }
        Ok(Span::since(began))
    }
}

/// Reserves as much memory as such a link has, and does nothing else.
pub struct Reserved;

struct Reserving(u64);

impl System for Reserved {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn can(&self, case: &Case) -> bool {
        case.kind == Kind::Setup
    }

    fn lead(&self, _: &Session) -> Outcome<Box<dyn Workload>> {
        let geometry = Options::new().geometry()?;
        Ok(Box::new(Reserving(hqq::shm::layout::required_bytes(&geometry, mem::page_size() as u64)?)))
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        self.lead(session)
    }
}

impl Workload for Reserving {
    fn lead(&mut self, _: Turn, times: &mut [u32]) -> Outcome<Span> {
        let began = clock::now();
        for time in times {
            let start = Instant::now();
            let memory = mem::create("hqq-bench", self.0)?;
            mem::seal(memory.as_fd())?;
            *time = nanos(start.elapsed());
        }
        Ok(Span::since(began))
    }

    fn follow(&mut self, _: Turn) -> Outcome<Span> {
        Ok(Span::since(clock::now()))
    }
}
