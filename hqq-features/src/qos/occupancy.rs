//! How much of the ring may be filled while urgent messages must overtake.

use core::time::Duration;
use std::collections::VecDeque;

use super::class::Class;
use super::error::QosError;

/// Packets, and the bytes they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How many packets.
    pub packets: u64,
    /// How many bytes, all together.
    pub bytes: u64,
}

/// The least part of a ring, in packets: one is read while the next is written.
const LEAST: u64 = 2;

/// A whole ring.
const WHOLE: u64 = 1 << 16;

/// A packet that is not urgent and that the peer has not taken.
#[derive(Clone, Copy, Debug)]
struct Sent {
    position: u64,
    bytes: u64,
    at: Duration,
}

/// How much that is not urgent may be in the ring at once.
///
/// The ring keeps order. An urgent message that enters it waits until the peer has taken all that is ahead of it: if
/// the peer takes `r` bytes a second, and `b` bytes are ahead, that is `b / r`. No scheduler can shorten that wait
/// afterwards. So it is bounded beforehand: while there is an urgent connection ([`guard`](Self::guard)), everything
/// else may fill only a part of the ring. An urgent message then waits for at most that part, or for one packet that
/// is larger than it, since one may always go.
///
/// The part can be [fixed](Self::fixed), or [learnt](Self::learning) from how long packets stay in the ring: if one
/// stays longer than the target, an urgent message in its place would have, so the part shrinks by a quarter; if it
/// was full, and all of that left in time, it grows by an eighth. After a change only packets sent later are looked
/// at. A packet counts as taken when the caller says so, therefore it should look whenever it is about to send.
///
/// The driver counts positions as the ring does: one a packet, wrapping.
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
    /// The part that is learnt, of [`WHOLE`], and the least it may be.
    part: u64,
    least: u64,
    guarded: bool,
    /// Where the ring ended when something first had to wait for the part, since that last changed: the packet ahead of
    /// it has a whole part ahead of itself.
    full: Option<u64>,
    in_flight: Load,
    sent: VecDeque<Sent>,
    /// The position behind the last packet, and where it was when the part last changed.
    next: u64,
    changed: u64,
}

impl Occupancy {
    /// A fixed part of a ring.
    ///
    /// # Errors
    /// [`QosError::PartTooSmall`] for less than 2 packets.
    pub fn fixed(ring: Load, part: Load) -> Result<Self, QosError> {
        let fixed = Load { packets: part.packets.min(ring.packets), bytes: part.bytes.min(ring.bytes) };
        Self::new(ring, Some(fixed), Duration::ZERO, fixed.packets)
    }

    /// A part that lets packets wait no longer than `target`, as far as can be learnt. It begins with a sixteenth.
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

    /// Whether urgent messages must be able to overtake. Without it only the ring itself bounds anything.
    ///
    /// What is in the ring when this begins stays in it: the first urgent message may wait for all of it.
    pub fn guard(&mut self, on: bool) {
        self.guarded = on;
    }

    /// What may be in the ring at once that is not urgent.
    pub fn limit(&self) -> Load {
        let part = |whole: u64| (u128::from(whole) * u128::from(self.part) / u128::from(WHOLE)) as u64;
        match (self.guarded, self.fixed) {
            (false, _) => self.ring,
            (true, Some(fixed)) => fixed,
            (true, None) => Load { packets: part(self.ring.packets), bytes: part(self.ring.bytes) },
        }
    }

    /// What is in the ring that is not urgent.
    pub fn in_flight(&self) -> Load {
        self.in_flight
    }

    /// Whether a packet of this class and cost may enter the ring, if that has room.
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

    /// A packet entered the ring at this position.
    pub fn sent(&mut self, now: Duration, class: Class, position: u64, bytes: u64) {
        self.next = position.wrapping_add(1);
        if class == Class::URGENT {
            return;
        }
        // A ring holds no more; a driver that forgot to say what left it must not fill our memory.
        if self.sent.len() as u64 >= self.ring.packets {
            self.drop_oldest();
        }
        self.in_flight.packets += 1;
        self.in_flight.bytes = self.in_flight.bytes.saturating_add(bytes);
        self.sent.push_back(Sent { position, bytes, at: now });
    }

    /// The peer has taken everything ahead of this position.
    pub fn reached(&mut self, now: Duration, position: u64) {
        while let Some(&sent) = self.sent.front() {
            if !is_ahead(sent.position, position) {
                break;
            }
            self.drop_oldest();
            if self.guarded && !is_ahead(sent.position, self.changed) {
                self.learn(now.saturating_sub(sent.at), sent.position);
            }
        }
    }

    /// The peer has taken everything ahead of the first position of which `taken` says no: it is asked for each packet that
    /// is not known to be taken, from the oldest on.
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
        } else if self.full.is_some_and(|end| !is_ahead(position.wrapping_add(1), end)) {
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

/// Whether a position stands ahead of another, on a count that wraps.
fn is_ahead(position: u64, other: u64) -> bool {
    (position.wrapping_sub(other) as i64) < 0
}
