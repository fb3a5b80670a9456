//! [`Options`]: what a caller chooses when a link is made, and the limits that protect this end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::agreement::Capabilities;
use crate::error::{Error, Result};
use crate::shm::layout::{Geometry, Modes, RingMode, WaitMode};
use crate::shm::packet::Packet;
use crate::shm::words::Role;
use crate::sync::{AtomicU64, Ordering};

/// A packet that this end sent or received, as the hook of [`Options::trace`] is shown it.
#[derive(Clone, Copy, Debug)]
pub struct TraceEvent {
    /// This end's role.
    pub role: Role,
    /// Whether this end sent the packet; otherwise this end received it.
    pub sent: bool,
    /// The packet. A received one has not been validated yet.
    pub packet: Packet,
}

impl TraceEvent {
    /// Name of the operation, as the specification has it.
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

/// A clock that is set by hand, for tests and simulations of rates, of the pace of acknowledgements and of metrics.
/// Timeouts and deadlines of calls use the machine's clock in any case. Clones share their time.
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
    /// Creates a clock at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Advances the clock by `time`.
    pub fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// Spin time of [`Capabilities::LOW_LATENCY`]: longer than most pauses in steady traffic, and short enough that an idle
/// link leaves the processor to other threads.
const LOW_LATENCY_SPIN: Duration = Duration::from_millis(20);
/// Spin time of [`Capabilities::HIGH_THROUGHPUT`]: longer than a busy sender is delayed between two messages.
const THROUGHPUT_SPIN: Duration = Duration::from_millis(1);

/// The hook of [`Options::trace`].
#[derive(Clone)]
pub(crate) struct Trace(Arc<Hook<HookFn>>);

type HookFn = dyn Fn(&TraceEvent) + Send + Sync;

struct Hook<F: ?Sized> {
    /// It has panicked.
    unwound: AtomicU64,
    call: F,
}

impl Trace {
    fn new(call: impl Fn(&TraceEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Hook { unwound: AtomicU64::new(0), call }))
    }

    /// Shows the hook a packet.
    pub(crate) fn show(&self, event: &TraceEvent) {
        struct Unwinding<'h>(&'h AtomicU64);
        impl Drop for Unwinding<'_> {
            fn drop(&mut self) {
                self.0.store(1, Ordering::Relaxed);
            }
        }
        let unwinding = Unwinding(&self.0.unwound);
        (self.0.call)(event);
        std::mem::forget(unwinding);
    }

    /// Whether a call of the hook has panicked.
    pub(crate) fn has_panicked(&self) -> bool {
        self.0.unwound.load(Ordering::Relaxed) != 0
    }
}

/// How a link is made, and which messages and peers this end accepts.
///
/// The Primary (the end that listens, offers, or is first of a pair) chooses the geometry and the modes of the link: `slots`,
/// `buffers`, `buffer_size`, `ring_mode`, `wait_mode`, `protected`, `reattachable`. All other options apply to the end that
/// sets them.
///
/// | you want | set |
/// |---|---|
/// | messages that are longer than 1 MiB, or larger than a buffer without fragmentation | [`buffer_size`](Self::buffer_size), [`buffers`](Self::buffers) |
/// | a sender that may be further ahead of its receiver | [`slots`](Self::slots), [`buffers`](Self::buffers) |
/// | the shortest latency, one thread at each end | [`ring_mode`](Self::ring_mode), [`spin`](Self::spin) |
/// | less processor time while messages are rare | [`spin`](Self::spin) of zero |
/// | payload that the peer cannot change after it was sent | [`protected`](Self::protected) |
/// | a link that survives its Secondary | [`reattachable`](Self::reattachable) |
/// | peers of other users | [`allow_uid`](Self::allow_uid), [`allow_gid`](Self::allow_gid) |
/// | limits on what a peer can make this process allocate | [`max_region`](Self::max_region), [`max_message`](Self::max_message), [`max_connections`](Self::max_connections), [`inbox`](Self::inbox), [`backlog`](Self::backlog) |
/// | to see every packet | [`trace`](Self::trace) |
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
    /// Creates the default options: 1024 slots, 64 buffers of 16 KiB in each direction, MPMC rings, adaptive waiting; regions
    /// of up to 1 GiB, messages of up to 256 MiB, 1024 connections with inboxes of 64 chunks and a backlog of 128; 5 seconds
    /// for a handshake; peers of this user only; neither protected nor reattachable; no trace.
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

    /// Creates options that suit `capabilities`. Each setting can be changed afterwards; those that no capability sets are the
    /// defaults of [`new`](Self::new).
    ///
    /// | capability | what it sets |
    /// |---|---|
    /// | [`LARGE_BUFFERS`](Capabilities::LARGE_BUFFERS) | 16 buffers of 1 MiB: a large message takes one, and others can be sent meanwhile |
    /// | [`HIGH_THROUGHPUT`](Capabilities::HIGH_THROUGHPUT) | 8192 slots, 256 buffers, and a [spin](Self::spin) of 1 ms: the sender may be further ahead, and no thread sleeps in a short pause |
    /// | [`LOW_LATENCY`](Capabilities::LOW_LATENCY) | a spin of 20 ms: the receiver of rare messages is awake too, and occupies a processor |
    ///
    /// Several capabilities set what each of them sets. Where two set the same, large buffers and the longest spin are used.
    /// Other capabilities set nothing. The geometry is the Primary's; each end has its own spin time.
    ///
    /// The same capabilities can be negotiated with [`AdvancedOptions::capability`](crate::advanced::AdvancedOptions::capability).
    /// That does not change the geometry, as the link exists by then. Both ends then spin as long as the agreed capabilities
    /// set, unless [`spin`](Self::spin) was called.
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

    /// Sets the number of slots of each ring: a power of two from 2 to 1,048,576. Default: 1024.
    ///
    /// A slot carries one message, or one chunk of a message on a connection. The sender can be this many ahead.
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    /// Sets the number of buffers of each pool: a power of two from 2 to 1,048,576. Default: 64.
    ///
    /// A message of more than 48 bytes takes at least one buffer until its receiver drops it.
    pub fn buffers(mut self, buffers: u32) -> Self {
        self.buffers = buffers;
        self
    }

    /// Sets the size of a buffer in bytes: a multiple of 8. Default: 16 KiB.
    ///
    /// A longer message takes several adjacent buffers.
    pub fn buffer_size(mut self, bytes: u64) -> Self {
        self.buffer_size = bytes;
        self
    }

    /// Sets how many threads may use each end of a ring at the same time. Default: [`RingMode::Mpmc`].
    pub fn ring_mode(mut self, mode: RingMode) -> Self {
        self.modes.ring = mode;
        self
    }

    /// Sets how calls wait. Default: [`WaitMode::Adaptive`].
    pub fn wait_mode(mut self, mode: WaitMode) -> Self {
        self.modes.wait = mode;
        self
    }

    /// Sets how long this end's calls spin before they sleep, with [`WaitMode::Adaptive`]. By default they learn it from
    /// earlier waits. With a `time` of zero they sleep at once, which saves processor time where messages are rare.
    pub fn spin(mut self, time: Duration) -> Self {
        self.spin = Some(time);
        self
    }

    /// Sets the size in bytes of the largest region that this end creates or attaches to. Default: 1 GiB.
    pub fn max_region(mut self, bytes: u64) -> Self {
        self.max_region = bytes;
        self
    }

    /// Sets the length in bytes of the longest message that this end sends or accepts. Default: 256 MiB.
    ///
    /// A message on the link itself can have at most the size of the pool, `buffers` times `buffer_size`. A message on a
    /// [`Connection`](crate::Connection) can be longer; the receiver assembles it in memory of its process.
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = bytes;
        self
    }

    /// Sets how many connections a link may have at a time. Default: 1024.
    pub fn max_connections(mut self, count: u32) -> Self {
        self.max_connections = count;
        self
    }

    /// Sets how many chunks may wait in a connection's inbox. Default: 64.
    ///
    /// While an inbox is full, nothing else is received on the link, unless flow control was agreed on.
    pub fn inbox(mut self, chunks: u32) -> Self {
        self.inbox = chunks;
        self
    }

    /// Sets how many connections may wait to be accepted; the peer's further ones are refused. Default: 128.
    pub fn backlog(mut self, count: u32) -> Self {
        self.backlog = count;
        self
    }

    /// Sets how long a handshake may take. Default: 5 seconds. The handshake of a slower peer is dropped; others are not
    /// delayed by it.
    pub fn handshake_timeout(mut self, time: Duration) -> Self {
        self.handshake_timeout = time;
        self
    }

    /// Sets whether each end's payload is protected from the other end. Default: `false`.
    ///
    /// Protected payload lies in memory that its sender writes and the other end can only read. So a message cannot be changed
    /// by its receiver, and an [`UntrustedLoan`](crate::UntrustedLoan) is a plain slice. The Primary chooses. It costs three
    /// more mappings when the link is made, and nothing later.
    pub fn protected(mut self, protected: bool) -> Self {
        self.modes.protected = protected;
        self
    }

    /// Sets whether another process can take the place of a Secondary that died or left; see
    /// [`Listener::reattach`](crate::Listener::reattach). Default: `false`. The Primary chooses.
    pub fn reattachable(mut self, reattachable: bool) -> Self {
        self.reattachable = reattachable;
        self
    }

    /// Admits peers with the effective user id `uid`, beside those of this process's own user. Each call adds one.
    ///
    /// Such peers are trusted as those of this user are. For peers that are not, use
    /// [`Listener::accept_untrusted`](crate::Listener::accept_untrusted). The list applies to accepting and to connecting.
    ///
    /// In a user namespace that does not map all ids, every user who is not mapped there has the same id, the overflow id
    /// (65534). So it admits nobody there, be it on the list or this process's own.
    ///
    /// ```
    /// use hqq::{Listener, Options};
    ///
    /// # let name = format!("doc-allow-{}", std::process::id());
    /// let options = Options::new().allow_uid(1000).allow_gid(44);
    /// let listener = Listener::bind_with(&name, options)?; // this user, user 1000, and processes of group 44
    /// # Ok::<(), hqq::Error>(())
    /// ```
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.uids.push(uid);
        self
    }

    /// Admits peers with the effective group id `gid`, of any user; see [`allow_uid`](Self::allow_uid). Supplementary groups
    /// do not count.
    pub fn allow_gid(mut self, gid: u32) -> Self {
        self.gids.push(gid);
        self
    }

    /// Whether there is a list of admitted users or groups.
    pub(crate) fn admits_others(&self) -> bool {
        !self.uids.is_empty() || !self.gids.is_empty()
    }

    /// Whether a peer with the user id `uid` is admitted by a process of user `own`, if that id is proof of who it is.
    pub(crate) fn admits_user(&self, own: u32, uid: u32) -> bool {
        uid == own || self.uids.contains(&uid)
    }

    /// As [`admits_user`](Self::admits_user), for a group id.
    pub(crate) fn admits_group(&self, gid: u32) -> bool {
        self.gids.contains(&gid)
    }

    /// Sets a hook that is called with every packet that this end sends or receives, on the thread that does so. Default:
    /// none, which costs a predictable branch for each packet.
    ///
    /// The hook must not use the link. It must not panic, as the message would be lost.
    pub fn trace(mut self, hook: impl Fn(&TraceEvent) + Send + Sync + 'static) -> Self {
        self.trace = Some(Trace::new(hook));
        self
    }

    /// Sets the clock for rates, acknowledgements and metrics. Default: the machine's monotonic clock. See [`Clock`].
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// The geometry that these options describe: slots, buffers and buffer size.
    ///
    /// # Errors
    /// [`Error::Geometry`] if a number breaks a rule; [`Error::RegionTooLarge`] if the region would exceed
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

/// How long calls spin on a link with these capabilities; `None` if none of them sets it.
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
