//! Layer 3: what can be chosen when a link is made, and the limits that protect this end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::agreement::Capabilities;
use crate::error::{Error, Result};
use crate::shm::layout::{Geometry, Modes, RingMode, WaitMode};
use crate::shm::packet::Packet;
use crate::shm::words::Role;
use crate::sync::{AtomicU64, Ordering};

/// A packet that this end sent or received, as the trace hook sees it.
#[derive(Clone, Copy, Debug)]
pub struct TraceEvent {
    /// This end's role.
    pub role: Role,
    /// Whether this end sent it; otherwise it received it.
    pub sent: bool,
    /// The packet, before it is checked.
    pub packet: Packet,
}

impl TraceEvent {
    /// The operation's name in the specification.
    pub fn name(&self) -> &'static str {
        Packet::name(self.packet.op)
    }
}

impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.sent { "sent" } else { "received" };
        write!(f, "{} {verb} {}", self.role, self.name())?;
        let last = self.packet.operands.iter().rposition(|&operand| operand != 0);
        for operand in &self.packet.operands[..last.map_or(0, |last| last + 1)] {
            if *operand < 1 << 32 {
                write!(f, " {operand}")?;
            } else {
                write!(f, " 0x{operand:x}")?;
            }
        }
        Ok(())
    }
}

/// A clock that its owner sets, for tests and simulations of what goes by time: rates, the pace of acknowledgements,
/// figures. Deadlines of waiting calls go by the machine's clock all the same.
///
/// ```
/// use std::time::Duration;
/// use hqq::{Clock, Options};
///
/// let clock = Clock::new();
/// let (primary, secondary) = hqq::StandardLink::pair_with(Options::new().clock(&clock))?;
/// clock.advance(Duration::from_secs(60));
/// # drop((primary, secondary));
/// # Ok::<(), hqq::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// A clock that stands at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// The hook of a packet trace.
/// Longer than most pauses of who works steadily; short enough that an idle link leaves the processor to others.
const LOW_LATENCY_SPIN: Duration = Duration::from_millis(20);
/// Longer than a sender is held up where it has something to send.
const THROUGHPUT_SPIN: Duration = Duration::from_millis(1);

pub(crate) type Trace = Arc<dyn Fn(&TraceEvent) + Send + Sync>;

/// How a link is made and what it admits.
///
/// Geometry and modes are the Primary's to choose; the limits hold for the end that sets them.
///
/// ```
/// use hqq::{Options, RingMode};
///
/// let options = Options::new().slots(256).buffers(16).buffer_size(1 << 20).ring_mode(RingMode::Spsc);
/// let (primary, secondary) = hqq::StandardLink::pair_with(options)?;
/// primary.send(b"hello")?;
/// assert_eq!(&*secondary.recv()?, b"hello");
/// # Ok::<(), hqq::Error>(())
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) slots: u32,
    pub(crate) buffers: u32,
    pub(crate) buffer_size: u64,
    pub(crate) modes: Modes,
    pub(crate) max_region: u64,
    pub(crate) max_message: u64,
    pub(crate) max_connections: u32,
    pub(crate) inbox: u32,
    pub(crate) backlog: u32,
    pub(crate) handshake_timeout: Duration,
    pub(crate) spin: Option<Duration>,
    pub(crate) reattachable: bool,
    pub(crate) uids: Vec<u32>,
    pub(crate) gids: Vec<u32>,
    pub(crate) trace: Option<Trace>,
    pub(crate) clock: Option<Clock>,
}

impl Options {
    /// The defaults: 1024 slots, 64 buffers of 16 KiB in each direction, MPMC rings, adaptive waiting; regions
    /// up to 1 GiB, messages of up to 256 MiB, 1024 connections with inboxes of 64 chunks and a backlog of
    /// 128; 5 seconds for a handshake; peers of this user only; neither protected nor re-attachable; no trace.
    pub fn new() -> Self {
        Self {
            slots: 1024,
            buffers: 64,
            buffer_size: 16 * 1024,
            modes: Modes::default(),
            max_region: 1 << 30,
            max_message: 256 << 20,
            max_connections: 1024,
            inbox: 64,
            backlog: 128,
            handshake_timeout: Duration::from_secs(5),
            spin: None,
            reattachable: false,
            uids: Vec::new(),
            gids: Vec::new(),
            trace: None,
            clock: None,
        }
    }

    /// A starting point for links that are made for something. What is not among the capabilities' matters is as
    /// [`new`](Self::new) has it, and each setting can be changed afterwards:
    ///
    /// | capability | what it sets |
    /// |---|---|
    /// | [`LARGE_BUFFERS`](Capabilities::LARGE_BUFFERS) | 16 buffers of 1 MiB: a large message takes one, and others are under way beside it |
    /// | [`HIGH_THROUGHPUT`](Capabilities::HIGH_THROUGHPUT) | 8192 slots, 256 buffers, and a [spin](Self::spin) of 1 ms: the sender may be further ahead, and a short pause puts nobody to sleep |
    /// | [`LOW_LATENCY`](Capabilities::LOW_LATENCY) | a spin of 20 ms: rare messages, too, find their receiver awake, whose processor is busy meanwhile |
    ///
    /// Several together set what each of them sets; of buffers, large ones come first, and of spins, the longest. Others set
    /// nothing. Of the two ends' geometries the Primary's counts; each end spins as it is told itself.
    ///
    /// The same capabilities can be [asked for](crate::advanced::Wanted::capability) of the peer. The geometry is made by then,
    /// but both ends spin as what they agree on says, unless they have been told otherwise.
    ///
    /// ```
    /// use hqq::Options;
    /// use hqq::agreement::Capabilities;
    ///
    /// let options = Options::for_capabilities(Capabilities::LARGE_BUFFERS | Capabilities::LOW_LATENCY);
    /// assert_eq!(options.geometry()?.buffer_size(), 1 << 20);
    /// # Ok::<(), hqq::Error>(())
    /// ```
    pub fn for_capabilities(capabilities: Capabilities) -> Self {
        let mut options = Self::new();
        if capabilities.contains(Capabilities::HIGH_THROUGHPUT) {
            options = options.slots(8192).buffers(256);
        }
        if capabilities.contains(Capabilities::LARGE_BUFFERS) {
            options = options.buffers(16).buffer_size(1 << 20);
        }
        if let Some(time) = spin_for(capabilities) {
            options = options.spin(time);
        }
        options
    }

    /// Slots of each ring: a power of two.
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    /// Buffers of each pool: a power of two.
    pub fn buffers(mut self, buffers: u32) -> Self {
        self.buffers = buffers;
        self
    }

    /// Bytes of a buffer: a multiple of 8. Longer messages take several, side by side.
    pub fn buffer_size(mut self, bytes: u64) -> Self {
        self.buffer_size = bytes;
        self
    }

    /// Who may use the rings at the same time.
    pub fn ring_mode(mut self, mode: RingMode) -> Self {
        self.modes.ring = mode;
        self
    }

    /// How blocked calls wait.
    pub fn wait_mode(mut self, mode: WaitMode) -> Self {
        self.modes.wait = mode;
        self
    }

    /// How long this end's waiting calls spin before they sleep, with [`WaitMode::Adaptive`]. Unless it is set, they learn
    /// from the waits before; with zero they sleep at once, which saves processor time where messages are rare.
    pub fn spin(mut self, time: Duration) -> Self {
        self.spin = Some(time);
        self
    }

    /// The largest region, bytes, that this end creates or attaches to.
    pub fn max_region(mut self, bytes: u64) -> Self {
        self.max_region = bytes;
        self
    }

    /// The longest message, bytes, that this end sends or accepts. On the link itself a whole pool is the most there
    /// can be; on a connection messages may be longer, and are put together in this process's memory.
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = bytes;
        self
    }

    /// Connections at a time on one link.
    pub fn max_connections(mut self, count: u32) -> Self {
        self.max_connections = count;
        self
    }

    /// Chunks that wait in a connection's inbox before the link stops.
    pub fn inbox(mut self, chunks: u32) -> Self {
        self.inbox = chunks;
        self
    }

    /// Connections that the peer has created and nobody has accepted yet.
    pub fn backlog(mut self, count: u32) -> Self {
        self.backlog = count;
        self
    }

    /// How long a handshake may take. A peer that is slower is dropped and delays nobody.
    pub fn handshake_timeout(mut self, time: Duration) -> Self {
        self.handshake_timeout = time;
        self
    }

    /// Protects each end's payload from the other: it lies in memory of its writer's own, which the kernel lets the other end
    /// read and not write. What has been sent can then be changed by its sender alone, and an
    /// [`UntrustedLoan`](crate::UntrustedLoan) is a plain slice. The Primary's to choose. Costs three more mappings when the
    /// link is made, and nothing later.
    pub fn protected(mut self, protected: bool) -> Self {
        self.modes.protected = protected;
        self
    }

    /// Keeps the link's place when its Secondary dies or leaves, for a successor; see
    /// [`Listener::reattach`](crate::Listener::reattach). The Primary's to choose.
    pub fn reattachable(mut self, reattachable: bool) -> Self {
        self.reattachable = reattachable;
        self
    }

    /// Admits peers of this effective user id too, beside those of this process's own. They are trusted like those:
    /// use [`Listener::accept_untrusted`](crate::Listener::accept_untrusted) otherwise. May be called again for more.
    /// Holds for who accepts and for who connects.
    ///
    /// ```
    /// use hqq::{Listener, Options};
    ///
    /// # let name = format!("doc-allow-{}", std::process::id());
    /// let options = Options::new().allow_uid(1000).allow_gid(44);
    /// let listener = Listener::bind_with(&name, options)?; // this user, user 1000, and whoever runs in group 44
    /// # Ok::<(), hqq::Error>(())
    /// ```
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.uids.push(uid);
        self
    }

    /// Admits peers of this effective group id too, whatever their user. As [`allow_uid`](Self::allow_uid); supplementary
    /// groups do not count.
    pub fn allow_gid(mut self, gid: u32) -> Self {
        self.gids.push(gid);
        self
    }

    /// Whether peers of other users than this process's own may be admitted.
    pub(crate) fn admits_others(&self) -> bool {
        !self.uids.is_empty() || !self.gids.is_empty()
    }

    /// Whether a peer is admitted: it is `own`, or on the list.
    pub(crate) fn admits(&self, own: u32, uid: u32, gid: u32) -> bool {
        uid == own || self.uids.contains(&uid) || self.gids.contains(&gid)
    }

    /// A hook that sees every packet that this end sends or receives, on the thread that does it. It must not
    /// use the link, and not panic: the message it is shown would be lost. Without one, a packet costs a predictable branch.
    pub fn trace(mut self, hook: impl Fn(&TraceEvent) + Send + Sync + 'static) -> Self {
        self.trace = Some(Arc::new(hook));
        self
    }

    /// Time by this clock, instead of the machine's; see [`Clock`].
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// The geometry, checked.
    ///
    /// # Errors
    /// [`Error::Geometry`]; [`Error::RegionTooLarge`] if the region would exceed
    /// [`max_region`](Self::max_region).
    pub fn geometry(&self) -> Result<Geometry> {
        let geometry = Geometry::new(self.slots, self.buffers, self.buffer_size)?;
        let need = crate::shm::layout::required_bytes(&geometry, hqq_sys::mem::page_size() as u64)?;
        if need > self.max_region {
            return Err(Error::RegionTooLarge { need, limit: self.max_region });
        }
        Ok(geometry)
    }
}

/// How long waiting calls spin on a link that is made for this, if that is said at all.
pub(crate) fn spin_for(capabilities: Capabilities) -> Option<Duration> {
    let longest =
        [(Capabilities::LOW_LATENCY, LOW_LATENCY_SPIN), (Capabilities::HIGH_THROUGHPUT, THROUGHPUT_SPIN)];
    longest.into_iter().find(|(capability, _)| capabilities.contains(*capability)).map(|(_, time)| time)
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("slots", &self.slots)
            .field("buffers", &self.buffers)
            .field("buffer_size", &self.buffer_size)
            .field("modes", &self.modes)
            .field("max_region", &self.max_region)
            .field("max_message", &self.max_message)
            .field("max_connections", &self.max_connections)
            .field("inbox", &self.inbox)
            .field("backlog", &self.backlog)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("spin", &self.spin)
            .field("reattachable", &self.reattachable)
            .field("uids", &self.uids)
            .field("gids", &self.gids)
            .field("trace", &self.trace.is_some())
            .field("clock", &self.clock)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_presets() {
        const LARGE: Capabilities = Capabilities::LARGE_BUFFERS;
        const THROUGHPUT: Capabilities = Capabilities::HIGH_THROUGHPUT;
        const LATENCY: Capabilities = Capabilities::LOW_LATENCY;
        let made = |capabilities| {
            let options = Options::for_capabilities(capabilities);
            assert!(options.geometry().is_ok(), "{capabilities}");
            assert_eq!(options.modes, Modes::default());
            (options.slots, options.buffers, options.buffer_size, options.spin.map(|spin| spin.as_millis()))
        };
        for (capabilities, preset) in [
            (Capabilities::empty(), (1024, 64, 16 << 10, None)),
            (Capabilities::RELIABLE_DELIVERY, (1024, 64, 16 << 10, None)),
            (LARGE, (1024, 16, 1 << 20, None)),
            (THROUGHPUT, (8192, 256, 16 << 10, Some(1))),
            (LATENCY, (1024, 64, 16 << 10, Some(20))),
            (LARGE | THROUGHPUT, (8192, 16, 1 << 20, Some(1))),
            (LARGE | LATENCY, (1024, 16, 1 << 20, Some(20))),
            (THROUGHPUT | LATENCY, (8192, 256, 16 << 10, Some(20))),
            (Capabilities::all(), (8192, 16, 1 << 20, Some(20))),
        ] {
            assert_eq!(made(capabilities), preset, "{capabilities}");
        }
    }
}
