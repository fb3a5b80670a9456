//! `shmipc` of cloudwego: a stream with a shared buffer for each message, on a tokio runtime of this thread.
//!
//! Its readers sleep in every case: what comes is announced by an eventfd, which a task of the library's reads.

use std::any::Any;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hqq_bench::{Case, Exchange, How, Kind, Outcome, Session, System, Workload};
use shmipc::buffer::BufferReader;
use shmipc::config::{Config, SizePercentPair};
use shmipc::consts::MemMapType;
use shmipc::session::{SessionManager, SessionManagerConfig};
use shmipc::stream::Stream;
use shmipc::transport::{DefaultUnixConnect, DefaultUnixListen};
use shmipc::{Error, Listener};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::common::{read, write};
use crate::traces::Traces;

/// How long one end waits for the other.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest message.
const LONGEST: u64 = 1 << 20;
/// Buffers at least: they are used in turns, and many of them would be new to the caches each time.
const BUFFERS: u32 = 16;
/// The least memory that the library takes.
const LEAST: u32 = 1 << 20;
/// Messages on their way at most. More than there are buffers would go through the socket from then on.
const QUEUE: u32 = 1024;

struct Channel {
    stream: Stream,
    /// Whether what this end sends answers, or is answered by, what it reads: then the next message can take the last
    /// one's memory.
    leads: bool,
    runtime: Runtime,
    /// The session that the stream is of.
    _session: Box<dyn Any>,
}

impl Exchange for Channel {
    #[inline]
    fn send(&mut self, how: How, number: u64, size: usize) -> Outcome {
        write(how, number, self.stream.reserve(size)?);
        self.runtime.block_on(async {
            loop {
                match self.stream.flush(false).await {
                    // The queue is full; the message is kept. The library's own benchmark waits like this.
                    Err(Error::QueueFull) => sleep(Duration::from_micros(1)).await,
                    done => break done,
                }
            }
        })?;
        // For want of buffers, it would measure a socket from now on.
        if self.stream.fallback_state() { Err("it fell back to its socket".into()) } else { Ok(()) }
    }

    #[inline]
    fn recv(&mut self, how: How, number: u64, size: usize) -> Outcome {
        self.runtime.block_on(async {
            let message = self.stream.read_exact_bytes(size).await?;
            read(how, number, &message)
        })?;
        if self.leads {
            self.stream.release_read_and_reuse();
        } else {
            self.stream.recv_buf().release_previous_read();
        }
        Ok(())
    }
}

/// The crate `shmipc`.
pub struct Shmipc {
    traces: Traces,
}

impl Shmipc {
    pub fn new(traces: &Traces) -> Self {
        Self { traces: traces.clone() }
    }

    /// As its documentation has it for low latency. Every message fits one buffer.
    fn config(&self, session: &Session) -> Outcome<Config> {
        let size = session.case().payload as u32 + 256;
        let mut config = Config {
            // Sessions whose paths are the same share their buffers, of the first one's sizes.
            share_memory_path_prefix: format!("{}-buffers", self.place(session).display()),
            queue_path: format!("{}-queue", self.place(session).display()),
            queue_cap: QUEUE,
            mem_map_type: MemMapType::MemMapTypeMemFd,
            share_memory_buffer_cap: LEAST.max(BUFFERS * size),
            buffer_slice_sizes: vec![SizePercentPair {
                size: session.case().payload as u32 + 256,
                percent: 100,
            }],
            ..Config::default().with_v4_eventfd()
        };
        config.verify().map_err(|error| error.to_string())?;
        Ok(config)
    }

    /// What its paths begin with.
    fn place(&self, session: &Session) -> PathBuf {
        self.traces.folder().join(session.name())
    }

    fn address(&self, session: &Session) -> Outcome<SocketAddr> {
        Ok(SocketAddr::from_pathname(self.place(session))?)
    }
}

impl System for Shmipc {
    fn name(&self) -> &'static str {
        "shmipc"
    }

    fn can(&self, case: &Case) -> bool {
        use Kind::{Pool, Sleeping, Slot, ThroughputSpsc, Untouched};
        case.payload <= LONGEST && matches!(case.kind, Slot | Pool | Untouched | Sleeping | ThroughputSpsc)
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (address, config) = (self.address(session)?, self.config(session)?);
        let opened = async {
            let mut listener = Listener::new(DefaultUnixListen, address, config).await?;
            session.send(b"bound")?;
            // A stream is there when its first message is.
            let mut stream = timeout(PATIENCE, listener.accept()).await??;
            stream.discard(1).await?;
            Outcome::Ok((listener, stream))
        };
        let (listener, stream) = runtime.block_on(opened)?;
        Ok(Box::new(Channel { stream, leads: true, runtime, _session: Box::new(listener) }))
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (address, config) = (self.address(session)?, self.config(session)?);
        session.recv()?;
        let opened = async {
            let config = SessionManagerConfig::new().with_config(config).with_session_num(1);
            let manager =
                timeout(PATIENCE, SessionManager::new(config, DefaultUnixConnect, address)).await??;
            let mut stream = manager.get_stream()?;
            stream.write_bytes(b"!")?;
            stream.flush(false).await?;
            Outcome::Ok((manager, stream))
        };
        let (manager, stream) = runtime.block_on(opened)?;
        Ok(Box::new(Channel { stream, leads: false, runtime, _session: Box::new(manager) }))
    }
}
