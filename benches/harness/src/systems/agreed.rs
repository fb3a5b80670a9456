//! The cost of each feature that two ends can agree on, compared with none; and the latency of an urgent message beside bulk.

use std::time::{Duration, Instant};

use hqq::Connection;
use hqq::advanced::{AdvancedOptions, Reliability};
use hqq::features::compress::Codec;
use hqq::features::encrypt::{Cipher, Ciphers, Key};
use hqq::features::qos::{Class, TrafficClass};
use hqq::{AdvancedLink, Error, Listener, Options, StandardLink};

use crate::case::{Case, How, Kind};
use crate::measured::{Exchange, Span, System, Turn, Workload, nanos};
use crate::outcome::Outcome;
use crate::session::{PATIENCE, Session};
use crate::{clock, payload};

/// The cases in which agreements are compared: round trips, and throughput one way.
pub const AGREED_CASES: [Case; 3] =
    [Case::new(Kind::Slot, 8), Case::new(Kind::ThroughputMpmc, 8), Case::new(Kind::ThroughputMpmc, 65536)];

/// Bytes of a bulk message.
const BULK: usize = 4096;
/// Bulk messages that the sender tries to send before each urgent one.
const MANY: usize = 64;

/// The carrier of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Link,
    Connection,
    /// A connection of the first class, beside a busy one of the second class if there is one.
    Urgent(Class, Option<Class>),
}

struct Agreed {
    name: &'static str,
    base: &'static str,
    wanted: fn(AdvancedOptions) -> AdvancedOptions,
    by: By,
}

/// Links and connections without an agreement, and with one feature each.
pub fn agreed() -> Vec<Box<dyn System>> {
    let system = |name, base, by, wanted| Box::new(Agreed { name, base, wanted, by }) as Box<dyn System>;
    let link = |name, wanted| system(name, "link", By::Link, wanted);
    let connection = |name, wanted| system(name, "connection", By::Connection, wanted);
    let urgent =
        |name, ours, beside| system(name, "urgent", By::Urgent(ours, beside), |w| w.qos().flow_control(64));
    vec![
        link("link", |wanted| wanted),
        link("statistics", AdvancedOptions::statistics),
        link("lz4", |wanted| wanted.compression(&[Codec::Lz4])),
        link("zstd", |wanted| wanted.compression(&[Codec::Zstd])),
        link("chacha20", |wanted| {
            wanted.encryption(Key::shared([7; 32])).ciphers(Ciphers::NONE.with(Cipher::ChaCha20Poly1305))
        }),
        link("aes-256", |wanted| {
            wanted.encryption(Key::shared([7; 32])).ciphers(Ciphers::NONE.with(Cipher::Aes256Gcm))
        }),
        link("reliable", |wanted| wanted.reliable(Reliability::new())),
        connection("connection", |wanted| wanted),
        connection("credit", |wanted| wanted.flow_control(64)),
        connection("classes", AdvancedOptions::qos),
        urgent("urgent", Class::URGENT, None),
        urgent("urgent, bulk", Class::URGENT, Some(Class::BULK)),
        urgent("equal, bulk", Class::NORMAL, Some(Class::NORMAL)),
    ]
}

impl Agreed {
    fn options() -> Options {
        Options::new().buffers(16).buffer_size(1 << 17)
    }

    fn agree(&self, link: StandardLink, leads: bool) -> Outcome<AdvancedLink> {
        let wanted = (self.wanted)(AdvancedOptions::new());
        if matches!(self.name, "link" | "connection") {
            return Ok(link.into());
        }
        Ok(if leads {
            AdvancedLink::negotiate(link, &wanted, PATIENCE)?
        } else {
            AdvancedLink::wait_for_negotiation(link, &wanted, PATIENCE)?
        })
    }

    fn open(&self, link: AdvancedLink, session: &Session) -> Outcome<Box<dyn Workload>> {
        let connection = || {
            if session.leads() {
                link.open_connection_timeout(PATIENCE)
            } else {
                link.accept_connection_timeout(PATIENCE)
            }
        };
        Ok(match self.by {
            By::Link if self.name == "reliable" => Box::new(Acknowledged(link)),
            By::Link => Box::new(Plain(link)),
            By::Connection => {
                Box::new(OverConnection { connection: connection()?, bytes: vec![0; session.size()] })
            }
            By::Urgent(ours, beside) => {
                let (urgent, bulk) = (connection()?, connection()?);
                urgent.set_traffic_class(TrafficClass { class: ours, ..TrafficClass::default() })?;
                bulk.set_traffic_class(TrafficClass {
                    class: beside.unwrap_or(Class::BULK),
                    ..TrafficClass::default()
                })?;
                Box::new(UrgentAndBulk { urgent, bulk, busy: beside.is_some(), load: vec![7; BULK] })
            }
        })
    }
}

impl System for Agreed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn can(&self, case: &Case) -> bool {
        match self.by {
            By::Urgent(..) => *case == AGREED_CASES[0],
            By::Link | By::Connection => AGREED_CASES.contains(case),
        }
    }

    fn limit(&self, case: Case) -> (&'static str, Case) {
        (self.base, case)
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let listener = Listener::bind_with(session.name(), Self::options())?;
        session.barrier()?;
        self.open(self.agree(listener.accept_timeout(PATIENCE)?, true)?, session)
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        session.barrier()?;
        let link = StandardLink::connect_with_timeout(session.name(), Self::options(), PATIENCE)?;
        self.open(self.agree(link, false)?, session)
    }
}

/// Messages over the link itself.
struct Plain(AdvancedLink);

impl Exchange for Plain {
    #[inline(always)]
    fn send(&mut self, _: How, number: u64, size: usize) -> Outcome {
        Ok(self.0.send_with(size, |bytes| payload::write(number, bytes))?)
    }

    #[inline(always)]
    fn recv(&mut self, _: How, number: u64, _: usize) -> Outcome {
        self.0.recv_with(|message| payload::read(number, message))?
    }
}

/// Messages over the link, each acknowledged as soon as it is read.
struct Acknowledged(AdvancedLink);

impl Exchange for Acknowledged {
    fn send(&mut self, _: How, number: u64, size: usize) -> Outcome {
        Ok(self.0.send_with(size, |bytes| payload::write(number, bytes))?)
    }

    fn recv(&mut self, _: How, number: u64, _: usize) -> Outcome {
        let message = self.0.recv()?;
        payload::read(number, &message)?;
        Ok(message.acknowledge()?)
    }
}

/// Messages over a connection.
struct OverConnection {
    connection: Connection,
    bytes: Vec<u8>,
}

impl Exchange for OverConnection {
    fn send(&mut self, _: How, number: u64, size: usize) -> Outcome {
        payload::write(number, &mut self.bytes[..size]);
        Ok(self.connection.send(&self.bytes[..size])?)
    }

    fn recv(&mut self, _: How, number: u64, _: usize) -> Outcome {
        payload::read(number, &self.connection.recv()?)
    }
}

/// Two connections, used by one thread at each end, so that the link is measured and not the scheduling of threads.
struct UrgentAndBulk {
    urgent: Connection,
    bulk: Connection,
    busy: bool,
    load: Vec<u8>,
}

impl Workload for UrgentAndBulk {
    fn lead(&mut self, turn: Turn, times: &mut [u32]) -> Outcome<Span> {
        let began = clock::now();
        let mut message = vec![0; turn.case.payload as usize];
        for (number, time) in (1..).zip(times) {
            for _ in 0..if self.busy { MANY } else { 0 } {
                match self.bulk.send_timeout(&self.load, Duration::ZERO) {
                    Ok(()) => {}
                    // The flow-control window is full.
                    Err(Error::Timeout { .. }) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            payload::write(number, &mut message);
            let asked = Instant::now();
            self.urgent.send(&message)?;
            payload::read(number, &self.urgent.recv()?)?;
            *time = nanos(asked.elapsed());
        }
        Ok(Span::since(began))
    }

    fn follow(&mut self, turn: Turn) -> Outcome<Span> {
        let began = clock::now();
        let mut answered = 0;
        while answered < turn.count {
            match self.urgent.try_recv() {
                Ok(message) => {
                    self.urgent.send(&message)?;
                    answered += 1;
                }
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error.into()),
            }
            match self.bulk.try_recv() {
                Ok(message) => payload::read(7, &message)?,
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Span::since(began))
    }
}
