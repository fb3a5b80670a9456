//! How a link's end goes through a negotiation.

use super::core::LinkCore;
use super::deadline::Wait;
use super::wait::WaitReason;
use crate::agreement::{Agreed, Agreement, Capabilities, Features};
use crate::demux::negotiation::{Event, Keying, Negotiation, Offer, Progress};
use crate::demux::{Demux, ReliableConfig, Stop};
use crate::error::{Error, Result};
use crate::shm::endpoint::Incoming;
use crate::sync::Ordering;

impl LinkCore {
    /// Negotiates, waiting for the peer until `wait`; with `start`, begins it. `keys` makes the key, if there is to be
    /// one. `plan` is for messages that are kept; without one, those that a former peer has left are. What was agreed, or
    /// why nothing was.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the link has negotiated before; the link's end; [`Error::Timeout`] if the time is up when
    /// there is no way back; [`Error::Handshake`] if the peer broke the rules then.
    pub(crate) fn agree(
        &self,
        mut offer: Offer,
        keys: Option<Box<dyn Keying>>,
        plan: Option<ReliableConfig>,
        start: bool,
        wait: Wait,
    ) -> Result<Agreement> {
        let mut demux = self.demux(0);
        // No window is larger than the inbox that it promises.
        let inbox = u32::try_from(demux.table.inbox_limit()).unwrap_or(u32::MAX);
        offer.terms.window = offer.terms.window.min(inbox);
        if demux.has_connections() {
            return Err(Error::Unsupported {
                what: "this link has carried connections: negotiate before opening or accepting one",
            });
        }
        if !demux.negotiation.offer(offer) {
            return Err(Error::Unsupported {
                what: "this link has negotiated already: make a new link to negotiate again",
            });
        }
        demux.keys = keys;
        if let Some(plan) = plan {
            demux.plan_delivery(plan);
        }
        if start {
            demux.negotiate(self.context(), Event::Start, 0);
        }
        drop(demux);
        let agreed = match self.wait(WaitReason::AGREEMENT, wait, |own| self.look_for_agreement(own)) {
            Err(late @ Error::Timeout { .. }) => self.agree_no_longer(late),
            agreed => agreed,
        };
        // Whatever came of it, the key has done its part here.
        let mut demux = self.demux(0);
        demux.keys = None;
        demux.drop_plan();
        drop(demux);
        let agreed = agreed?;
        if agreed.features.intersects(Features::FLOW_CONTROL | Features::QOS) {
            self.state.regulate();
        }
        if agreed.capabilities.contains(Capabilities::RELIABLE_DELIVERY) {
            // Nobody else uses the link yet: no message is taken but under the lock.
            self.start_demux();
        }
        let Agreement { version, features, capabilities, .. } = agreed;
        let said = Agreed { version, features, capabilities };
        self.region().counters(self.role()).agreed.store(said.word(), Ordering::Relaxed);
        self.measure(features.contains(Features::STATISTICS));
        Ok(agreed)
    }

    fn agree_no_longer(&self, late: Error) -> Result<Agreement> {
        let mut demux = self.demux(0);
        demux.negotiate(self.context(), Event::Timeout, 0);
        match demux.negotiation.progress() {
            Progress::Done(agreement) if !demux.awaits_resume() => Ok(agreement),
            _ => Err(late),
        }
    }

    /// Takes packets of the negotiation until it is decided or there are none.
    fn look_for_agreement(&self, own: u64) -> Result<Option<Agreement>> {
        let mut demux = self.demux(own);
        let mut looked = self.look_once(&mut demux);
        let ended = if looked.is_ok() && is_under_way(&demux) { self.recv_end() } else { None };
        if ended.is_some() {
            // What was committed before the end is visible now.
            looked = self.look_once(&mut demux);
        }
        looked.inspect_err(|error| self.poison(error))?;
        match (demux.negotiation.progress(), ended) {
            (Progress::Done(agreement), _) if !demux.awaits_resume() => Ok(Some(agreement)),
            (Progress::Failed, _) => Err(Error::Handshake {
                what: "the peer went back on what was agreed: make a new link",
                found: None,
            }),
            (_, Some(end)) => Err(end),
            (_, None) => Ok(None),
        }
    }

    /// Looks at what the ring holds, as far as it is about the negotiation.
    fn look_once(&self, demux: &mut Demux) -> Result<()> {
        let cx = self.context();
        if !self.state().can_recv() {
            return Ok(());
        }
        if self.state().is_demuxed() {
            // Somebody has connections already.
            let freed = demux.pump(cx, Stop::Lap)?.freed;
            if demux.has_messages() {
                demux.negotiate(cx, Event::Traffic, 0);
            }
            if freed {
                self.notify_peer(cx.region.wake_senders());
            }
            return Ok(());
        }
        for _ in 0..cx.region.layout().geometry.slots() {
            if !is_under_way(demux) {
                break;
            }
            match cx.region.receive(Negotiation::may_come, |packet| cx.show(false, packet))? {
                Incoming::Control(operation) => demux.control(cx, operation),
                Incoming::Refused(fault) => demux.answer(cx, fault.code, fault.context, fault.op),
                Incoming::Other(_) => demux.negotiate(cx, Event::Traffic, 0),
                Incoming::Empty => break,
                // Neither of the two: `may_come` lets no payload through.
                Incoming::Busy | Incoming::Skipped | Incoming::Message(..) | Incoming::ConnData(..) => {}
            }
            self.notify_peer(cx.region.wake_senders());
        }
        Ok(())
    }
}

/// Whether the peer is still to do its part.
fn is_under_way(demux: &Demux) -> bool {
    demux.negotiation.progress() == Progress::Open || demux.awaits_resume()
}
