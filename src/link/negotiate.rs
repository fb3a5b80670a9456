//! Layer 3: how a link's end goes through a negotiation.

use super::core::{Inner, bit};
use super::deadline::Until;
use super::wait::Goal;
use crate::agreement::{Agreed, Agreement, Capabilities, Features};
use crate::demux::negotiation::{Event, Keying, Negotiation, Offer, Progress};
use crate::demux::{Mux, Plan, Stop};
use crate::error::{Error, Result};
use crate::shm::endpoint::Incoming;
use crate::sync::Ordering;

impl Inner {
    /// Negotiates, waiting for the peer until `until`; with `start`, begins it. `keys` makes the key, if there is to be
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
        plan: Option<Plan>,
        start: bool,
        until: Until,
    ) -> Result<Agreement> {
        let mut mux = self.lock();
        // No window is larger than the inbox that it promises.
        let inbox = u32::try_from(mux.table.inbox_limit()).unwrap_or(u32::MAX);
        offer.terms.window = offer.terms.window.min(inbox);
        if mux.has_connections() {
            return Err(Error::Unsupported { what: "this link has connections: negotiate ahead of them" });
        }
        if !mux.negotiation.offer(offer) {
            return Err(Error::Unsupported {
                what: "this link has negotiated already: attach again to do it anew",
            });
        }
        mux.keys = keys;
        if let Some(plan) = plan {
            mux.plan_delivery(plan);
        }
        if start {
            mux.negotiate(self.line(), Event::Start, 0);
        }
        self.settle(mux, 0);
        let agreed = match self.wait(Goal::AGREEMENT, until, |own| self.look_for_agreement(own)) {
            Err(late @ Error::Timeout { .. }) => self.agree_no_longer(late),
            agreed => agreed,
        };
        // Whatever came of it, the key has done its part here.
        let mut mux = self.lock();
        mux.keys = None;
        mux.drop_plan();
        drop(mux);
        let agreed = agreed?;
        if agreed.features.intersects(Features::FLOW_CONTROL | Features::QOS) {
            self.set(bit::REGULATED);
        }
        if agreed.capabilities.contains(Capabilities::RELIABLE_DELIVERY) {
            // Nobody else uses the link yet: no message is taken but under the lock.
            self.sort();
        }
        let Agreement { version, features, capabilities, .. } = agreed;
        let said = Agreed { version, features, capabilities };
        self.region().counters(self.role()).agreed.store(said.word(), Ordering::Relaxed);
        self.measure(features.contains(Features::STATISTICS));
        Ok(agreed)
    }

    fn agree_no_longer(&self, late: Error) -> Result<Agreement> {
        let mut mux = self.lock();
        mux.negotiate(self.line(), Event::Timeout, 0);
        let (progress, waits) = (mux.negotiation.progress(), mux.awaits_resume());
        self.settle(mux, 0);
        match progress {
            Progress::Done(agreement) if !waits => Ok(agreement),
            _ => Err(late),
        }
    }

    /// Takes packets of the negotiation until it is decided or there are none.
    fn look_for_agreement(&self, own: u64) -> Result<Option<Agreement>> {
        let mut mux = self.lock();
        let mut looked = self.look_once(&mut mux);
        let ended = if looked.is_ok() && is_under_way(&mux) { self.recv_end() } else { None };
        if ended.is_some() {
            // What was committed before the end is visible now.
            looked = self.look_once(&mut mux);
        }
        let (progress, waits) = (mux.negotiation.progress(), mux.awaits_resume());
        self.settle(mux, own);
        looked.inspect_err(|error| self.poison(error))?;
        match (progress, ended) {
            (Progress::Done(agreement), _) if !waits => Ok(Some(agreement)),
            (Progress::Failed, _) => {
                Err(Error::Handshake { what: "it went back on what was agreed", found: 0 })
            }
            (_, Some(end)) => Err(end),
            (_, None) => Ok(None),
        }
    }

    /// Looks at what the ring holds, as far as it is about the negotiation.
    fn look_once(&self, mux: &mut Mux) -> Result<()> {
        let line = self.line();
        if self.state() & bit::NO_RECV != 0 {
            return Ok(());
        }
        if self.state() & bit::SORTED != 0 {
            // Somebody has connections already.
            let freed = mux.pump(line, Stop::Lap)?.freed;
            if mux.has_messages() {
                mux.negotiate(line, Event::Traffic, 0);
            }
            if freed {
                self.ring(line.region.wake_senders());
            }
            return Ok(());
        }
        for _ in 0..line.region.layout().geometry.slots() {
            if !is_under_way(mux) {
                break;
            }
            match line.region.receive(Negotiation::may_come, |packet| line.show(false, packet))? {
                Incoming::Control(operation) => mux.control(line, operation),
                Incoming::Refused(fault) => mux.answer(line, fault.code, fault.context, fault.op),
                Incoming::Other(_) => mux.negotiate(line, Event::Traffic, 0),
                Incoming::Empty => break,
                // Neither of the two: `may_come` lets no payload through.
                Incoming::Busy | Incoming::Skipped | Incoming::Message(..) | Incoming::ConnData(..) => {}
            }
            self.ring(line.region.wake_senders());
        }
        Ok(())
    }
}

/// Whether the peer is still to do its part.
fn is_under_way(mux: &Mux) -> bool {
    mux.negotiation.progress() == Progress::Open || mux.awaits_resume()
}
