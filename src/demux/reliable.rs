//! Reliable delivery between the ring and the link's own inbox: a frame gets its sequence here, and is judged by it when
//! it comes; what is kept is sent again to whoever comes next. All of it under the lock, in the order of the ring.
//!
//! # Attaching to a peer
//!
//! Each direction begins anew with each peer that agrees to reliable delivery, and goes on as this table says. *Layers* means that
//! this end can make frames: after an agreement on encryption, that it has the key.
//!
//! | to the peer | agreed | its Resume | layers | the peer is gone |
//! |---|---|---|---|---|
//! | detached | agreed | refused | - | - |
//! | agreed | - | resumed | layered | detached |
//! | resumed | - | refused | open | detached |
//! | layered | - | open | - | detached |
//! | open: what is kept is sent | - | refused | - | detached |
//!
//! | from the peer | agreed | its Start | the peer is gone |
//! |---|---|---|---|
//! | detached | agreed | refused | - |
//! | agreed: acknowledgements are of former peers | - | begun, unless it came before its Resume was answered | detached |
//! | begun: acknowledgements are the peer's own | - | begun, or refused if it is of another session | detached |

use std::num::NonZeroU64;
use std::sync::Arc;

use super::context::LinkContext;
use crate::demux::frame::{frame_error, link_context};
use crate::error::{Error, Result};
use crate::shm::endpoint::{Payload, SlotBytes};
use crate::shm::packet::{Packet, op};
use hqq_features::LayerStack;
use hqq_features::reliable::{
    Ack, AckPolicy, HEADER, Inbox, Position, Receipt, ReliableError, Resend, Resume, Start, Started, Store,
    StoreFull, StoreLimits, Verdict, header, split_frame,
};

/// What an end brings along, before the number of messages is agreed on.
#[derive(Debug)]
pub(crate) struct ReliableConfig {
    /// A random number: the store's life.
    pub(crate) session: NonZeroU64,
    /// Bytes that may be kept.
    pub(crate) bytes: usize,
    pub(crate) ack_policy: AckPolicy,
    /// What is processed by the receiver's own record.
    pub(crate) record: Option<(Position, Vec<u64>)>,
}

/// Both directions of one end.
#[derive(Debug)]
pub(crate) struct ReliableDelivery {
    pub(super) plan: ReliableConfig,
    /// From the first agreement on.
    pub(super) ends: Option<Ends>,
    pub(super) outward: Outward,
    pub(super) inward: Inward,
    pub(super) layers: Arc<LayerStack>,
    /// Acknowledgements go out now.
    pub(super) acks_due: bool,
    /// An acknowledgement that found no room.
    pub(super) unsent_ack: Option<Packet>,
}

/// What happens to the attachment to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Both ends have begun to follow the agreement.
    Agreed,
    /// The peer's Resume.
    Resume,
    /// The peer's Start, that it sent after it had this end's Resume.
    Start,
    /// This end can make frames.
    Layers,
    /// The peer is gone.
    Detach,
}

/// How far the direction to the peer is; see the [module](self)'s table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outward {
    Detached,
    Agreed,
    Resumed,
    Layered,
    Open,
}

impl Outward {
    #[must_use]
    pub(super) const fn after(self, event: Event) -> Self {
        match (self, event) {
            (_, Event::Detach) => Self::Detached,
            (Self::Detached, Event::Agreed) => Self::Agreed,
            (Self::Agreed, Event::Resume) => Self::Resumed,
            (Self::Agreed, Event::Layers) => Self::Layered,
            (Self::Resumed, Event::Layers) | (Self::Layered, Event::Resume) => Self::Open,
            (same, _) => same,
        }
    }

    /// Whether the present peer has agreed.
    pub(super) const fn is_attached(self) -> bool {
        !matches!(self, Self::Detached)
    }

    /// Whether the peer has said how far it is.
    pub(super) const fn is_resumed(self) -> bool {
        matches!(self, Self::Resumed | Self::Open)
    }

    /// Whether frames can be made.
    pub(super) const fn has_layers(self) -> bool {
        matches!(self, Self::Layered | Self::Open)
    }
}

/// How far the direction from the peer is; see the [module](self)'s table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inward {
    Detached,
    Agreed,
    Begun,
}

impl Inward {
    #[must_use]
    pub(super) const fn after(self, event: Event) -> Self {
        match (self, event) {
            (_, Event::Detach) => Self::Detached,
            (Self::Detached, Event::Agreed) => Self::Agreed,
            (Self::Agreed, Event::Start) => Self::Begun,
            (same, _) => same,
        }
    }
}

#[derive(Debug)]
pub(super) struct Ends {
    pub(super) store: Store,
    pub(super) inbox: Inbox,
}

/// What is to be done with a message that came.
pub(super) enum Judged {
    Keep(Receipt),
    Drop,
    Refuse,
    /// Nobody has agreed to it.
    Stray,
}

fn bytes<'p>(payload: &'p Payload<'static>) -> &'p [u8] {
    match payload {
        Payload::Slot(inline) => inline.bytes(),
        Payload::Pool(buffer) => buffer.bytes(),
    }
}

pub(super) fn full(full: StoreFull) -> Error {
    let StoreFull { len, messages, bytes, limits } = full;
    if full.is_final() {
        return Error::TooLarge { len: len as u64, limit: limits.bytes as u64 };
    }
    Error::StoreFull { messages, bytes, limit: limits.messages }
}

impl ReliableDelivery {
    pub(super) fn new(plan: ReliableConfig) -> Self {
        Self {
            plan,
            ends: None,
            outward: Outward::Detached,
            inward: Inward::Detached,
            layers: Arc::default(),
            acks_due: false,
            unsent_ack: None,
        }
    }

    pub(super) fn on(&mut self, event: Event) {
        (self.outward, self.inward) = (self.outward.after(event), self.inward.after(event));
    }

    /// It is agreed on, with so many messages at a time.
    pub(super) fn begin(&mut self, kept: usize) -> Resume {
        let ReliableConfig { session, bytes, ack_policy, record } = &mut self.plan;
        let ends = self.ends.get_or_insert_with(|| Ends {
            store: Store::new(*session, StoreLimits { messages: kept, bytes: *bytes }),
            inbox: match record.take() {
                None => Inbox::new(kept, *ack_policy),
                Some((position, beyond)) => Inbox::resume(kept, *ack_policy, position, beyond),
            },
        });
        let resume = ends.inbox.position();
        self.on(Event::Agreed);
        resume
    }

    /// The peer is gone.
    pub(super) fn detach(&mut self) {
        if let Some(ends) = &mut self.ends {
            ends.store.detach();
            ends.inbox.detach();
        }
        self.on(Event::Detach);
        (self.layers, self.acks_due, self.unsent_ack) = (Arc::default(), false, None);
    }

    pub(super) fn judge(&mut self, payload: &Payload<'static>) -> Judged {
        let Some(ends) = &mut self.ends else { return Judged::Stray };
        if !self.outward.is_attached() {
            return Judged::Stray;
        }
        let verdict = split_frame(bytes(payload)).and_then(|(sequence, _)| ends.inbox.arrived(sequence));
        match verdict {
            Ok(Verdict::Deliver(receipt)) => Judged::Keep(receipt),
            Ok(Verdict::Duplicate | Verdict::Early) => Judged::Drop,
            Err(_) => Judged::Refuse,
        }
    }

    /// A Resume, a Start or an Ack.
    pub(super) fn on_packet(&mut self, op: u8, operands: &[u64; 7]) -> Result<(), ReliableError> {
        let Some(ends) = &mut self.ends else { return Ok(()) };
        match op {
            op::RESUME => {
                ends.store.resumed(Resume::decode(operands)?)?;
                self.on(Event::Resume);
            }
            op::START => {
                let start = Start::decode(operands)?;
                let current = ends.inbox.position().known.map(|position| position.session);
                let begun = self.inward == Inward::Begun;
                if let Some(current) = current.filter(|current| begun && *current != start.session) {
                    // A sender's life does not end while it is attached.
                    let (found, current) = (start.session.get(), current.get());
                    return Err(ReliableError::OtherSession { found, current });
                }
                if ends.inbox.started(start)? != Started::Early {
                    self.on(Event::Start);
                }
            }
            _ => {
                ends.store.acknowledged(Ack::decode(operands)?)?;
            }
        }
        Ok(())
    }

    /// Whether there is something to be sent, room or not.
    pub(super) fn has_outgoing(&self) -> bool {
        let Some(ends) = self.ends.as_ref().filter(|_| self.outward.has_layers()) else { return false };
        let resends = self.outward == Outward::Open && !ends.store.is_caught_up();
        self.acks_due || self.unsent_ack.is_some() || resends
    }

    /// Sends what is due.
    pub(super) fn flush(&mut self, cx: LinkContext<'_>, sent: &mut bool, lent: &mut bool) -> Result<()> {
        let Some(ends) = self.ends.as_mut().filter(|_| self.outward.has_layers()) else { return Ok(()) };
        let show = |packet: &_| cx.show(true, packet);
        let layers = &*self.layers;
        let resent = ends.store.resend(|item| {
            match item {
                Resend::Start(start) => {
                    let packet = Packet { op: op::START, operands: start.encode() };
                    cx.region.send_packet(&packet, show)
                }
                Resend::Message { sequence, message } => place(cx, layers, sequence, message, lent),
            }
            .inspect(|()| *sent = true)
        });
        // An Ack needs no buffer, so that it may go where a message has to wait for one.
        match resent {
            Err(error) if !error.is_transient() => return Err(error),
            _ => {}
        }
        while self.acks_due || self.unsent_ack.is_some() {
            let fresh = || Some(Packet { op: op::PROCESSED, operands: ends.inbox.take_ack()?.encode() });
            let Some(packet) = self.unsent_ack.take().or_else(fresh) else {
                self.acks_due = false;
                break;
            };
            if let Err(error) = cx.region.send_packet(&packet, show) {
                self.unsent_ack = Some(packet);
                return if error.is_transient() { Ok(()) } else { Err(error) };
            }
            *sent = true;
        }
        Ok(())
    }
}

/// Makes a message's frame and sends it. `lent` becomes true if buffers were out for it in vain.
pub(super) fn place(
    cx: LinkContext<'_>,
    layers: &LayerStack,
    sequence: u64,
    message: &[u8],
    lent: &mut bool,
) -> Result<()> {
    let region = cx.region;
    let show = |packet: &_| cx.show(true, packet);
    if !region.has_room() {
        // Nothing is made for a message that cannot go.
        return Err(Error::RingFull { slots: region.layout().geometry.slots().into() });
    }
    let context = link_context(sequence);
    let mut encoder = layers.prepare(message, &context).map_err(frame_error)?;
    let room = HEADER + encoder.min_room();
    let mut fill = |into: &mut [u8]| {
        let (head, body) = into.split_at_mut(HEADER);
        head.copy_from_slice(&header(sequence));
        encoder.write(body).map(|len| HEADER + len).map_err(frame_error)
    };
    if room <= region.max_inline() {
        let mut bytes = SlotBytes::zeroed(room);
        let len = fill(bytes.bytes_mut())?;
        bytes.truncate(len);
        return region.send_inline(&bytes, show);
    }
    let mut buffer = region.loan(room)?;
    let sent = match fill(buffer.bytes_mut()) {
        Ok(len) => {
            buffer.truncate(len);
            region.send(buffer, show)
        }
        Err(error) => Err((error, buffer)),
    };
    sent.map_err(|(error, buffer)| {
        region.give(buffer);
        *lent = true;
        error
    })
}

pub(super) fn unready() -> Error {
    Error::Unsupported {
        what: "the link has no peer that agreed to reliable delivery: call AdvancedLink::reattach first",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 5] = [Event::Agreed, Event::Resume, Event::Start, Event::Layers, Event::Detach];

    #[test]
    fn each_state_goes_on_as_the_table_says() {
        use Outward::*;
        // In the order of the events.
        let outward = [
            (Detached, [Agreed, Detached, Detached, Detached, Detached]),
            (Agreed, [Agreed, Resumed, Agreed, Layered, Detached]),
            (Resumed, [Resumed, Resumed, Resumed, Open, Detached]),
            (Layered, [Layered, Open, Layered, Layered, Detached]),
            (Open, [Open, Open, Open, Open, Detached]),
        ];
        for (state, after) in outward {
            assert_eq!(EVENTS.map(|event| state.after(event)), after, "{state:?}");
        }
        use Inward as In;
        let inward = [
            (In::Detached, [In::Agreed, In::Detached, In::Detached, In::Detached, In::Detached]),
            (In::Agreed, [In::Agreed, In::Agreed, In::Begun, In::Agreed, In::Detached]),
            (In::Begun, [In::Begun, In::Begun, In::Begun, In::Begun, In::Detached]),
        ];
        for (state, after) in inward {
            assert_eq!(EVENTS.map(|event| state.after(event)), after, "{state:?}");
        }
    }
}
