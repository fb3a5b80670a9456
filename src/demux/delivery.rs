//! Reliable delivery, for the link that demultiplexes.

use std::sync::Arc;
use std::time::Duration;

use super::Demux;
use super::context::{LinkContext, SendContext};
use super::negotiation::Event;
use super::reliable::{self, Ends, Inward, Judged, ReliableConfig, ReliableDelivery, full, place, unready};
use crate::agreement::{Agreement, Capabilities};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::endpoint::Payload;
use crate::shm::packet::{Packet, op};
use hqq_features::LayerStack;
use hqq_features::reliable::{InboxCounts, Position, Receipt, ReliableError, StoreCounts};

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
        self.delivery.as_deref_mut().filter(|delivery| delivery.outward.is_attached())
    }

    /// Whether messages of the link itself are kept until they are acknowledged.
    pub(crate) fn is_reliable(&self) -> bool {
        self.delivery.as_ref().is_some_and(|delivery| delivery.ends.is_some())
    }

    /// Whether the peer is still to say how far it is.
    pub(crate) fn awaits_resume(&self) -> bool {
        self.delivery
            .as_ref()
            .is_some_and(|delivery| delivery.outward.is_attached() && !delivery.outward.is_resumed())
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
            delivery.layers = layers;
            delivery.on(reliable::Event::Layers);
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
    pub(super) fn on_delivery(&mut self, cx: LinkContext<'_>, op: u8, operands: &[u64; 7]) {
        let code = match self.delivery() {
            None => ErrorCode::InvalidOp,
            Some(delivery) => match delivery.on_packet(op, operands) {
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

    /// Schedules the acknowledgements that the peer has not had: `at_once` ahead of a sleep, else when they are due.
    #[inline]
    pub(crate) fn schedule_acks(&mut self, at_once: bool, now: impl FnOnce() -> Duration) {
        let Some(delivery) = &mut self.delivery else { return };
        let begun = delivery.inward == Inward::Begun && delivery.outward.has_layers();
        let Some(ends) = delivery.ends.as_mut().filter(|_| begun) else { return };
        if !delivery.acks_due && ends.inbox.has_pending_acks() {
            delivery.acks_due = at_once || ends.inbox.due(now());
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
    pub(crate) fn deliver(&mut self, tx: &SendContext<'_>, message: &[u8]) -> Result<()> {
        if self.has_outgoing() {
            self.flush_first(tx)?;
        }
        let _gate = tx.hold_gate();
        let Some(delivery) = self.delivery().filter(|delivery| delivery.outward.has_layers()) else {
            return Err(unready());
        };
        let Some(Ends { store, .. }) = &mut delivery.ends else { return Err(unready()) };
        let sequence = store.push(message).map_err(full)?;
        let mut lent = false;
        let mut placed = place(tx.link, &delivery.layers, sequence, message, &mut lent);
        if let Err(Error::PoolExhausted { .. } | Error::PoolFragmented { .. }) = placed {
            let _alone = tx.gather_alone();
            placed = place(tx.link, &delivery.layers, sequence, message, &mut lent);
        }
        if placed.is_err() {
            let taken_back = store.withdraw(sequence);
            debug_assert!(taken_back, "nobody has seen message {sequence}");
        }
        self.sent |= placed.is_ok();
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
