//! Reliable delivery between the ring and the link's own inbox: a frame gets its sequence here, and is judged by it when
//! it comes; what is kept is sent again to whoever comes next. All of it under the lock, in the order of the ring.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::{Demux, LinkContext};
use crate::agreement::{Agreement, Capabilities};
use crate::demux::frame::{frame_error, link_context};
use crate::demux::negotiation::Event;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::endpoint::{Payload, SlotBytes};
use crate::shm::packet::{Packet, op};
use hqq_features::LayerStack;
use hqq_features::reliable::{
    Ack, AckPolicy, HEADER, Inbox, InboxCounts, Position, Receipt, ReliableError, Resend, Resume, Start,
    Started, Store, StoreCounts, StoreFull, StoreLimits, Verdict, header, split_frame,
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
    plan: ReliableConfig,
    /// From the first agreement on.
    ends: Option<Ends>,
    /// Agreed on with the present peer.
    active: bool,
    /// The present peer has resumed.
    resumed: bool,
    /// Frames can be made.
    ready: bool,
    layers: Arc<LayerStack>,
    /// The present peer has begun: what is acknowledged from here on is its own.
    begun: bool,
    /// Acknowledgements go out now.
    telling: bool,
    /// One that had no room.
    told: Option<Packet>,
}

#[derive(Debug)]
struct Ends {
    store: Store,
    inbox: Inbox,
}

/// What is to be done with a message that came.
enum Judged {
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

fn full(full: StoreFull) -> Error {
    let StoreFull { len, messages, bytes, limits } = full;
    if full.is_final() {
        return Error::TooLarge { len: len as u64, limit: limits.bytes as u64 };
    }
    Error::StoreFull { messages, bytes, limit: limits.messages }
}

impl ReliableDelivery {
    fn new(plan: ReliableConfig) -> Self {
        Self {
            plan,
            ends: None,
            active: false,
            resumed: false,
            ready: false,
            layers: Arc::default(),
            begun: false,
            telling: false,
            told: None,
        }
    }

    /// It is agreed on, with so many messages at a time.
    fn begin(&mut self, kept: usize) -> Resume {
        let ReliableConfig { session, bytes, ack_policy, record } = &mut self.plan;
        let ends = self.ends.get_or_insert_with(|| Ends {
            store: Store::new(*session, StoreLimits { messages: kept, bytes: *bytes }),
            inbox: match record.take() {
                None => Inbox::new(kept, *ack_policy),
                Some((position, beyond)) => Inbox::resume(kept, *ack_policy, position, beyond),
            },
        });
        self.active = true;
        ends.inbox.position()
    }

    /// The peer is gone.
    fn detach(&mut self) {
        if let Some(ends) = &mut self.ends {
            ends.store.detach();
            ends.inbox.detach();
        }
        (self.active, self.resumed, self.ready, self.begun) = (false, false, false, false);
        (self.layers, self.telling, self.told) = (Arc::default(), false, None);
    }

    fn judge(&mut self, payload: &Payload<'static>) -> Judged {
        let Some(ends) = &mut self.ends else { return Judged::Stray };
        if !self.active {
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
    fn hear(&mut self, op: u8, operands: &[u64; 7]) -> Result<(), ReliableError> {
        let Some(ends) = &mut self.ends else { return Ok(()) };
        match op {
            op::RESUME => {
                ends.store.resumed(Resume::decode(operands)?)?;
                self.resumed = true;
            }
            op::START => {
                let start = Start::decode(operands)?;
                let current = ends.inbox.position().known.map(|position| position.session);
                if let Some(current) = current.filter(|current| self.begun && *current != start.session) {
                    // A sender's life does not end while it is attached.
                    let (found, current) = (start.session.get(), current.get());
                    return Err(ReliableError::OtherSession { found, current });
                }
                let started = ends.inbox.started(start)?;
                self.begun |= started != Started::Early;
            }
            _ => {
                ends.store.acknowledged(Ack::decode(operands)?)?;
            }
        }
        Ok(())
    }

    /// Whether there is something to be sent, room or not.
    fn has_outgoing(&self) -> bool {
        let Some(ends) = self.ends.as_ref().filter(|_| self.ready) else { return false };
        self.telling || self.told.is_some() || self.resumed && !ends.store.is_caught_up()
    }

    /// Sends what is due.
    fn flush(&mut self, cx: LinkContext<'_>, sent: &mut usize, lent: &mut bool) -> Result<()> {
        let Some(ends) = self.ends.as_mut().filter(|_| self.ready) else { return Ok(()) };
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
            .inspect(|()| *sent += 1)
        });
        // An Ack needs no buffer, so that it may go where a message has to wait for one.
        match resent {
            Err(error) if !error.is_transient() => return Err(error),
            _ => {}
        }
        while self.telling || self.told.is_some() {
            let fresh = || Some(Packet { op: op::PROCESSED, operands: ends.inbox.take_ack()?.encode() });
            let Some(packet) = self.told.take().or_else(fresh) else {
                self.telling = false;
                break;
            };
            if let Err(error) = cx.region.send_packet(&packet, show) {
                self.told = Some(packet);
                return if error.is_transient() { Ok(()) } else { Err(error) };
            }
            *sent += 1;
        }
        Ok(())
    }
}

/// Makes a message's frame and sends it. `lent` becomes true if buffers were out for it in vain.
fn place(
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

impl Demux {
    /// This end would like to keep its messages.
    pub(crate) fn plan_delivery(&mut self, plan: ReliableConfig) {
        self.delivery = Some(Box::new(ReliableDelivery::new(plan)));
    }

    /// Forgets that, unless something is kept for whoever comes next.
    pub(crate) fn drop_plan(&mut self) {
        if self.delivery.as_ref().is_some_and(|delivery| delivery.ends.is_none()) {
            self.delivery = None;
        }
    }

    fn delivery(&mut self) -> Option<&mut ReliableDelivery> {
        self.delivery.as_deref_mut().filter(|delivery| delivery.active)
    }

    /// Whether messages of the link itself are kept until they are acknowledged.
    pub(crate) fn is_reliable(&self) -> bool {
        self.delivery.as_ref().is_some_and(|delivery| delivery.ends.is_some())
    }

    /// Whether the peer is still to say how far it is.
    pub(crate) fn awaits_resume(&self) -> bool {
        self.delivery.as_ref().is_some_and(|delivery| delivery.active && !delivery.resumed)
    }

    /// Both ends have begun to follow an agreement.
    pub(super) fn begin_delivery(&mut self, agreement: &Agreement) {
        if !agreement.capabilities.contains(Capabilities::RELIABLE_DELIVERY) {
            return;
        }
        if let Some(delivery) = &mut self.delivery {
            let resume = delivery.begin(agreement.terms.kept as usize);
            self.queue(Packet { op: op::RESUME, operands: resume.encode() });
        }
    }

    /// Frames can be made from here on: by `layers`, or as they are.
    pub(crate) fn deliver_by(&mut self, layers: Arc<LayerStack>) {
        if let Some(delivery) = self.delivery() {
            (delivery.layers, delivery.ready) = (layers, true);
        }
    }

    /// A message of the link itself came: the inbox gets it, unless it is one that this end has had.
    pub(super) fn sort_message(&mut self, cx: LinkContext<'_>, position: u64, payload: Payload<'static>) {
        let receipt = match &mut self.delivery {
            Some(delivery) if delivery.ends.is_some() => match delivery.judge(&payload) {
                Judged::Keep(receipt) => Some(receipt),
                judged => {
                    cx.region.give_message(payload);
                    match judged {
                        Judged::Refuse => self.answer(cx, ErrorCode::BadFrame, 0, op::STANDARD_LINK_COPY),
                        Judged::Stray => {
                            self.negotiate(cx, Event::Traffic, 0);
                            self.answer(cx, ErrorCode::InvalidOp, 0, op::STANDARD_LINK_COPY);
                        }
                        Judged::Keep(_) | Judged::Drop => {}
                    }
                    return;
                }
            },
            _ => None,
        };
        self.inbox.push_back((position, payload, receipt));
        self.woke = true;
    }

    /// One of the packets of reliable delivery.
    pub(super) fn hear_delivery(&mut self, cx: LinkContext<'_>, op: u8, operands: &[u64; 7]) {
        let code = match self.delivery() {
            None => ErrorCode::InvalidOp,
            Some(delivery) => match delivery.hear(op, operands) {
                // Senders may wait for what is free now.
                Ok(()) => return self.woke = true,
                Err(_) => ErrorCode::BadFrame,
            },
        };
        self.answer(cx, code, 0, op);
    }

    /// Whether messages wait to be sent again, or acknowledgements to be told.
    pub(super) fn has_deliveries(&self) -> bool {
        self.delivery.as_ref().is_some_and(|delivery| delivery.has_outgoing())
    }

    pub(super) fn flush_deliveries(&mut self, cx: LinkContext<'_>, sent: &mut usize) -> Result<()> {
        match &mut self.delivery {
            None => Ok(()),
            // Others may wait for the buffers.
            Some(delivery) => delivery.flush(cx, sent, &mut self.woke),
        }
    }

    /// Sees to it that what was acknowledged is told: `at_once` for somebody who is about to sleep, else when it is time.
    #[inline]
    pub(crate) fn tell(&mut self, at_once: bool, now: impl FnOnce() -> Duration) {
        let Some(delivery) = &mut self.delivery else { return };
        let (true, true, Some(ends)) = (delivery.begun, delivery.ready, &mut delivery.ends) else { return };
        if !delivery.telling && ends.inbox.has_pending_acks() {
            delivery.telling = at_once || ends.inbox.due(now());
        }
    }

    /// Whether a message of so many bytes can be kept.
    ///
    /// # Errors
    /// [`Error::StoreFull`]; [`Error::TooLarge`] if it never can.
    pub(crate) fn check_store(&mut self, len: usize) -> Result<()> {
        let Some(ReliableDelivery { ends: Some(ends), .. }) = self.delivery() else { return Err(unready()) };
        ends.store.room_for(len).map_err(full)
    }

    /// Keeps a message and sends it; both or neither.
    ///
    /// # Errors
    /// As [`check_store`](Self::check_store); what is in the way of a message.
    pub(crate) fn deliver(&mut self, cx: LinkContext<'_>, message: &[u8]) -> Result<()> {
        let Some(delivery) = self.delivery().filter(|delivery| delivery.ready) else { return Err(unready()) };
        let Some(Ends { store, .. }) = &mut delivery.ends else { return Err(unready()) };
        let sequence = store.push(message).map_err(full)?;
        let mut lent = false;
        let placed = place(cx, &delivery.layers, sequence, message, &mut lent);
        if placed.is_err() {
            let taken_back = store.withdraw(sequence);
            debug_assert!(taken_back, "nobody has seen message {sequence}");
        }
        self.woke |= lent;
        placed
    }

    /// The application has processed a message.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what was not delivered here.
    pub(crate) fn acknowledge(&mut self, receipt: Receipt) -> Result<()> {
        let Some(ReliableDelivery { ends: Some(ends), .. }) = self.delivery.as_deref_mut() else {
            return Ok(());
        };
        match ends.inbox.acknowledge(receipt) {
            // Nobody is left to be told of another session's.
            Ok(_) | Err(ReliableError::OtherSession { .. }) => Ok(()),
            Err(_) => {
                let what = "this message was not received on this link: acknowledge it on the link that it came from";
                Err(Error::Unsupported { what })
            }
        }
    }

    /// How far the receiving direction is, by its own account.
    pub(crate) fn position(&self) -> Option<Position> {
        self.delivery.as_ref()?.ends.as_ref()?.inbox.position().known
    }

    /// Figures of both directions, and what is delivered and not acknowledged.
    pub(crate) fn delivery_counts(&self) -> Option<(StoreCounts, InboxCounts, usize)> {
        let Ends { store, inbox } = self.delivery.as_ref()?.ends.as_ref()?;
        Some((store.counts(), inbox.counts(), inbox.outstanding()))
    }

    /// The peer is gone: what is kept waits for the next.
    pub(super) fn detach_delivery(&mut self) {
        if let Some(delivery) = &mut self.delivery {
            delivery.detach();
        }
    }
}

fn unready() -> Error {
    Error::Unsupported {
        what: "the link has no peer that agreed to reliable delivery: call AdvancedLink::reattach first",
    }
}
