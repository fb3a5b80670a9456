//! The part of the ring that messages may fill that are not urgent.

use core::time::Duration;
use std::collections::VecDeque;

use super::class::Class;
use super::error::QosError;

/// A number of packets, and their cost in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The number of packets.
    pub packets: u64,
    /// The bytes of all packets.
    pub bytes: u64,
}

/// The least part of a ring, in packets: one is read while the next is written.
const LEAST: u64 = 2;

/// The whole ring, in units of [`Occupancy::part`].
const WHOLE: u64 = 1 << 16;

/// A packet in the ring that is not urgent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    position: u64,
    bytes: u64,
    at: Duration,
}

/// Limits the messages in the ring that are not urgent.
///
/// The ring keeps the order. An urgent message in it waits until the peer has received all messages before it: if the peer
/// receives `r` bytes per second, and `b` bytes are before it, it waits for `b / r`. No scheduler can shorten that
/// afterwards, so it is limited in advance: while there is an urgent connection ([`guard`](Self::guard)), all others may
/// fill only a part of the ring. An urgent message then waits for at most that part, or for one packet that is larger,
/// since one packet is always allowed.
///
/// The part is [fixed](Self::fixed), or [adapted](Self::learning) to how long packets stay in the ring: if one stays
/// longer than the target, an urgent message in its place would have too, and the part shrinks by a quarter; if the part
/// was full and all its packets left in time, it grows by an eighth. After a change only packets that were sent later
/// count. A packet leaves when the caller reports it, which it should do before each message that it sends.
///
/// Positions count the packets of the ring, and wrap.
///
/// ```
/// use core::time::Duration;
/// use hqq_features::qos::{Class, Load, Occupancy};
///
/// let ring = Load { packets: 64, bytes: 64 * 4096 };
/// let mut occupancy = Occupancy::fixed(ring, Load { packets: 2, bytes: 8192 })?;
/// occupancy.guard(true);
/// let now = Duration::ZERO;
/// for position in 0..2 {
///     assert!(occupancy.may_send(Class::BULK, 4096));
///     occupancy.sent(now, Class::BULK, position, 4096);
/// }
/// assert!(!occupancy.may_send(Class::BULK, 4096));
/// assert!(occupancy.may_send(Class::URGENT, 4096));
/// occupancy.reached(now, 1); // the peer took position 0
/// assert!(occupancy.may_send(Class::BULK, 4096));
/// # Ok::<(), hqq_features::qos::QosError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Occupancy {
    ring: Load,
    fixed: Option<Load>,
    target: Duration,
    /// The adapted part, in units of [`WHOLE`], and its minimum.
    part: u64,
    least: u64,
    guarded: bool,
    /// The position after the last packet when a packet first had to wait for the part, since it last changed: the packet
    /// before that position has a whole part before it.
    full: Option<u64>,
    in_flight: Load,
    sent: VecDeque<Sent>,
    /// The position after the last packet, and its value when the part last changed.
    next: u64,
    changed: u64,
}

impl Occupancy {
    /// Limits messages to the fixed part `part` of a ring of the size `ring`.
    ///
    /// # Errors
    /// [`QosError::PartTooSmall`] for less than 2 packets.
    pub fn fixed(ring: Load, part: Load) -> Result<Self, QosError> {
        let fixed = Load { packets: part.packets.min(ring.packets), bytes: part.bytes.min(ring.bytes) };
        Self::new(ring, Some(fixed), Duration::ZERO, fixed.packets)
    }

    /// Adapts the part of a ring of the size `ring` so that packets stay no longer than `target`. It begins with a
    /// sixteenth.
    ///
    /// # Errors
    /// [`QosError::PartTooSmall`] for a ring with less than 2 packets.
    pub fn learning(ring: Load, target: Duration) -> Result<Self, QosError> {
        Self::new(ring, None, target, ring.packets)
    }

    fn new(ring: Load, fixed: Option<Load>, target: Duration, packets: u64) -> Result<Self, QosError> {
        if packets < LEAST {
            return Err(QosError::PartTooSmall { packets, least: LEAST });
        }
        let least = (LEAST * WHOLE).div_ceil(ring.packets);
        Ok(Self {
            ring,
            fixed,
            target,
            part: (WHOLE / 16).max(least),
            least,
            guarded: false,
            full: None,
            in_flight: Load::default(),
            sent: VecDeque::new(),
            next: 0,
            changed: 0,
        })
    }

    /// Enables the limit, while there is an urgent connection, or disables it.
    ///
    /// Packets that are in the ring when it is enabled stay in it: the first urgent message may wait for all of them.
    pub fn guard(&mut self, on: bool) {
        self.guarded = on;
    }

    /// The most packets and bytes in the ring that are not urgent.
    pub fn limit(&self) -> Load {
        let part = |whole: u64| (u128::from(whole) * u128::from(self.part) / u128::from(WHOLE)) as u64;
        match (self.guarded, self.fixed) {
            (false, _) => self.ring,
            (true, Some(fixed)) => fixed,
            (true, None) => Load { packets: part(self.ring.packets), bytes: part(self.ring.bytes) },
        }
    }

    /// The packets and bytes in the ring that are not urgent.
    pub fn in_flight(&self) -> Load {
        self.in_flight
    }

    /// Whether a packet of the class `class` that costs `bytes` may enter the ring, if that has room.
    #[must_use]
    pub fn may_send(&mut self, class: Class, bytes: u64) -> bool {
        if !self.guarded || class == Class::URGENT || self.in_flight.packets == 0 {
            return true;
        }
        let limit = self.limit();
        let fits = self.in_flight.packets < limit.packets
            && self.in_flight.bytes.saturating_add(bytes) <= limit.bytes;
        if !fits {
            self.full.get_or_insert(self.next);
        }
        fits
    }

    /// Records that a packet entered the ring at `position`.
    pub fn sent(&mut self, now: Duration, class: Class, position: u64, bytes: u64) {
        self.next = position.wrapping_add(1);
        if class == Class::URGENT {
            return;
        }
        // A ring holds no more packets; a caller that does not report those that left must not exhaust the memory.
        if self.sent.len() as u64 >= self.ring.packets {
            self.drop_oldest();
        }
        self.in_flight.packets += 1;
        self.in_flight.bytes = self.in_flight.bytes.saturating_add(bytes);
        self.sent.push_back(Sent { position, bytes, at: now });
    }

    /// Records that the peer has received all packets before `position`.
    pub fn reached(&mut self, now: Duration, position: u64) {
        while let Some(&sent) = self.sent.front() {
            if !is_before(sent.position, position) {
                break;
            }
            self.drop_oldest();
            if self.guarded && !is_before(sent.position, self.changed) {
                self.learn(now.saturating_sub(sent.at), sent.position);
            }
        }
    }

    /// Records that the peer has received all packets before the first one for whose position `taken` is false. `taken` is
    /// called for each recorded packet, from the oldest on.
    pub fn retire(&mut self, now: Duration, mut taken: impl FnMut(u64) -> bool) {
        while let Some(position) = self.sent.front().map(|sent| sent.position) {
            if !taken(position) {
                break;
            }
            self.reached(now, position.wrapping_add(1));
        }
    }

    fn learn(&mut self, stayed: Duration, position: u64) {
        let part = if stayed > self.target {
            self.part - self.part / 4
        } else if self.full.is_some_and(|end| !is_before(position.wrapping_add(1), end)) {
            self.part + self.part / 8 + 1
        } else {
            return;
        };
        self.part = part.clamp(self.least, WHOLE);
        self.full = None;
        self.changed = self.next;
    }

    fn drop_oldest(&mut self) {
        if let Some(sent) = self.sent.pop_front() {
            self.in_flight.packets -= 1;
            self.in_flight.bytes = self.in_flight.bytes.saturating_sub(sent.bytes);
        }
    }
}

/// Whether `position` is before `other`. Positions wrap.
fn is_before(position: u64, other: u64) -> bool {
    (position.wrapping_sub(other) as i64) < 0
}
