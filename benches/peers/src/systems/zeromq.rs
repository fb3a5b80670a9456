//! ZeroMQ over `ipc://`: a pair of push and pull sockets in each direction.
//!
//! Its receivers block in every case: messages come by a thread of the library's own, which a receiver that polls would
//! keep off their processor.

use std::sync::LazyLock;

use hqq_bench::{Case, Exchange, How, Kind, Outcome, Session, System, Workload};
use zmq::{Context, Message, Socket, SocketType};

use crate::common::{copies, read, write};

/// Milliseconds, after which the other end must be gone.
const PATIENCE: i32 = 20_000;

/// One for each process, as its guide says.
static CONTEXT: LazyLock<Context> = LazyLock::new(Context::new);

struct Sockets {
    output: Socket,
    input: Socket,
    /// What arrived last; its memory is the library's.
    message: Message,
}

impl Exchange for Sockets {
    #[inline]
    fn send(&mut self, how: How, number: u64, size: usize) -> Outcome {
        let mut message = Message::with_size(size);
        write(how, number, &mut message);
        Ok(self.output.send(message, 0)?)
    }

    #[inline]
    fn recv(&mut self, how: How, number: u64, _size: usize) -> Outcome {
        self.input.recv(&mut self.message, 0)?;
        read(how, number, &self.message)
    }
}

/// The crate `zmq`.
pub struct ZeroMq;

impl ZeroMq {
    fn open(session: &Session) -> Outcome<Box<dyn Workload>> {
        let socket = |kind: SocketType, there: bool| -> Outcome<Socket> {
            let socket = CONTEXT.socket(kind)?;
            socket.set_linger(0)?;
            socket.set_rcvtimeo(PATIENCE)?;
            socket.set_sndtimeo(PATIENCE)?;
            // Names that begin with this are no files.
            let endpoint = format!("ipc://@{}-{}", session.name(), if there { "there" } else { "back" });
            if session.leads() {
                socket.bind(&endpoint)?
            } else {
                socket.connect(&endpoint)?
            }
            Ok(socket)
        };
        if !session.leads() {
            session.recv()?;
        }
        let output = socket(SocketType::PUSH, session.leads())?;
        let input = socket(SocketType::PULL, !session.leads())?;
        if session.leads() {
            session.send(b"bound")?;
        }
        Ok(Box::new(Sockets { output, input, message: Message::new() }))
    }
}

impl System for ZeroMq {
    fn name(&self) -> &'static str {
        "zeromq"
    }

    fn can(&self, case: &Case) -> bool {
        copies(case.kind) || case.kind == Kind::ThroughputMpmc
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        Self::open(session)
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        Self::open(session)
    }
}
