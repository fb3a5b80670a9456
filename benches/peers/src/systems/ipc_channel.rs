//! The crate `ipc-channel`: a bytes channel in each direction, without a serializer.

use hqq_bench::{Case, Exchange, How, Kind, Outcome, Session, System, Workload};
use ipc_channel::TryRecvError;
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};

use crate::common::{copies, read, spin, write};

/// What the follower is given.
type Ends = (IpcBytesSender, IpcBytesReceiver);

struct Channels {
    output: IpcBytesSender,
    input: IpcBytesReceiver,
    buffer: Vec<u8>,
    sleeps: bool,
}

impl Exchange for Channels {
    #[inline]
    fn send(&mut self, how: How, number: u64, size: usize) -> Outcome {
        write(how, number, &mut self.buffer[..size]);
        Ok(self.output.send(&self.buffer[..size])?)
    }

    #[inline]
    fn recv(&mut self, how: How, number: u64, _size: usize) -> Outcome {
        let message = if self.sleeps {
            self.input.recv()?
        } else {
            spin(|| match self.input.try_recv() {
                Ok(message) => Ok(Some(message)),
                Err(TryRecvError::Empty) => Ok(None),
                Err(error) => Err(error.into()),
            })?
        };
        read(how, number, &message)
    }
}

/// The crate `ipc-channel`.
pub struct IpcChannel;

impl IpcChannel {
    fn open(session: &Session, (output, input): Ends) -> Box<dyn Workload> {
        let sleeps = session.case().kind == Kind::Sleeping;
        Box::new(Channels { output, input, buffer: vec![0; session.size()], sleeps })
    }
}

impl System for IpcChannel {
    fn name(&self) -> &'static str {
        "ipc-channel"
    }

    fn can(&self, case: &Case) -> bool {
        copies(case.kind) || case.kind == Kind::ThroughputMpmc
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let (server, name) = IpcOneShotServer::<Ends>::new()?;
        session.send(name.as_bytes())?;
        // Accepting has no deadline, and so waits until the ends are on their way.
        session.recv()?;
        let (_, ends) = server.accept()?;
        Ok(Self::open(session, ends))
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let ((output, theirs), (back, input)) = (ipc::bytes_channel()?, ipc::bytes_channel()?);
        let sender = IpcSender::<Ends>::connect(String::from_utf8(session.recv()?)?)?;
        sender.send((back, theirs))?;
        session.send(b"sent")?;
        Ok(Self::open(session, (output, input)))
    }
}
