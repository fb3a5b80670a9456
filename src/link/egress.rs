//! Layer 3: sending chunks of connections whose turn it is, where flow control or quality of service was agreed on.

use std::time::Instant;

use super::core::{Inner, bit};
use super::deadline::Until;
use super::wait::Goal;
use crate::demux::Mux;
use crate::demux::table::ConnEnd;
use crate::error::{Error, Result};
use crate::shm::buffer::Buffer;
use crate::shm::packet::ConnCopy;
use hqq_features::flow::Congestion;
use hqq_features::qos::Share;

/// The bytes of the chunk that a caller is about to send, and its connection.
type Own<'b> = (u64, &'b [u8]);

impl Inner {
    /// Whether chunks of connections go out by the rules of an agreement.
    pub(crate) fn is_regulated(&self) -> bool {
        self.state() & bit::REGULATED != 0
    }

    /// How a connection is treated.
    pub(crate) fn share(&self, id: u64) -> Share {
        self.lock().traffic.as_ref().map_or_else(Share::default, |traffic| traffic.share(id))
    }

    /// How a connection is treated from now on.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without quality of service; [`Error::Share`].
    pub(crate) fn set_share(&self, id: u64, share: Share) -> Result<()> {
        let mut mux = self.lock();
        let now = self.now();
        let set = match &mut mux.traffic {
            Some(traffic) => traffic.set_share(id, share, now),
            None => Err(Error::Unsupported { what: "quality of service was not agreed on: ask for it" }),
        };
        self.dispatch(&mut mux, None);
        self.settle(mux, 0);
        set
    }

    /// How sending on a connection stands, where flow control was agreed on.
    pub(crate) fn congestion(&self, id: u64) -> Option<Congestion> {
        let now = self.now();
        self.lock().traffic.as_ref()?.congestion(id, now)
    }

    /// Sends a chunk when it has credit and its turn has come, waiting for that until `until`; its CopyID. `ended` says what
    /// a connection's end is to the caller.
    pub(crate) fn send_regulated(
        &self,
        chunk: ConnCopy,
        part: &[u8],
        until: Until,
        ended: impl Fn(ConnEnd) -> Error,
    ) -> Result<u64> {
        let id = chunk.conn;
        let mut mux = self.lock();
        mux.table.can_send(id).map_err(&ended)?;
        let now = self.now();
        if let Some(traffic) = &mut mux.traffic {
            traffic.submit(chunk, now);
        }
        self.dispatch(&mut mux, Some((id, part)));
        let sent = match &mut mux.traffic {
            Some(traffic) => {
                let sent = traffic.outcome(id);
                if sent.is_none() {
                    traffic.keep(id, part);
                }
                sent
            }
            None => None,
        };
        self.settle(mux, 0);
        match sent {
            Some(copy_id) => Ok(copy_id),
            None => self.wait_for_turn(id, until, ended),
        }
    }

    #[cold]
    fn wait_for_turn(&self, id: u64, until: Until, ended: impl Fn(ConnEnd) -> Error) -> Result<u64> {
        let began = Instant::now();
        let failure = loop {
            // Nobody rings when a rate allows something again.
            let alarm = self.lock().traffic.as_ref().and_then(|traffic| traffic.alarm());
            let soonest =
                alarm.map_or(until, |at| until.earlier(Until::after(at.saturating_sub(self.now()))));
            let looked = self.wait(Goal::TURN, soonest, |own| {
                self.pump(own, |mux, _| {
                    let Some(traffic) = &mut mux.traffic else { return Err(Error::Closed) };
                    if let Some(copy_id) = traffic.outcome(id) {
                        return Ok(Some(Some(copy_id)));
                    }
                    let sooner = traffic.alarm().is_some_and(|now| alarm.is_none_or(|then| now < then));
                    mux.table.can_send(id).map_err(&ended)?;
                    self.send_end().map_or(Ok(sooner.then_some(None)), Err)
                })
            });
            match looked {
                Ok(Some(copy_id)) => return Ok(copy_id),
                Ok(None) => {}
                Err(Error::Timeout { .. }) if alarm.is_some() && !until.has_passed() => self.glance(),
                Err(Error::Timeout { what, .. }) => break Error::Timeout { what, after: began.elapsed() },
                Err(error) => break error,
            }
        };
        let mut mux = self.lock();
        let now = self.now();
        let sent = mux.traffic.as_mut().and_then(|traffic| traffic.withdraw(id, now));
        // What it gave up, others can use.
        self.dispatch(&mut mux, None);
        self.settle(mux, 0);
        sent.ok_or(failure)
    }

    /// Sends what is due on connections, as far as there is room.
    pub(crate) fn dispatch(&self, mux: &mut Mux, own: Option<Own<'_>>) {
        let Some(traffic) = &mut mux.traffic else { return };
        // Only what this look finds counts: room and buffers that come free ring by themselves.
        let before = traffic.take_alarm();
        self.dispatch_due(mux, own);
        let Some(traffic) = &mut mux.traffic else { return };
        let figures = self.measures().then(|| self.region().figures(self.role()));
        for blocked in traffic.take_stalls() {
            figures.inspect(|figures| figures.note_credit_stall(blocked));
        }
        // Whoever waits goes by the alarm that there was.
        if traffic.alarm().is_some_and(|now| before.is_none_or(|then| now < then)) {
            figures.inspect(|figures| figures.note_over_rate());
            mux.woke = true;
        }
    }

    fn dispatch_due(&self, mux: &mut Mux, own: Option<Own<'_>>) {
        if !mux.traffic.as_ref().is_some_and(|traffic| traffic.is_waiting()) {
            return;
        }
        for _ in 0..self.region().layout().geometry.slots() {
            let region = self.region();
            let now = self.now();
            let due = mux.traffic.as_mut().filter(|_| region.has_room());
            let Some(id) = due.and_then(|traffic| traffic.next(now, |position| region.is_taken(position)))
            else {
                return;
            };
            if mux.table.can_send(id).is_err() {
                // Its sender finds out, and takes it back.
                mux.woke = true;
                continue;
            }
            let Some((chunk, kept)) = mux.traffic.as_mut().and_then(|traffic| traffic.take(id)) else {
                continue;
            };
            let part = match (&kept, own) {
                (Some(bytes), _) => bytes,
                (None, Some((mine, part))) if mine == id => part,
                (None, _) => &[],
            };
            let posted = self.post_part(mux, &chunk, part);
            let Some(traffic) = &mut mux.traffic else { return };
            match posted {
                Ok(copy_id) => {
                    traffic.sent(id, copy_id, region.sent_so_far().wrapping_sub(1), now);
                    mux.woke |= own.is_none_or(|(mine, _)| mine != id);
                }
                Err(error) => {
                    traffic.put_back(id, kept);
                    // The buffer that it had may be another's.
                    mux.woke = true;
                    self.poison(&error);
                    return;
                }
            }
        }
    }

    fn post_part(&self, mux: &mut Mux, chunk: &ConnCopy, part: &[u8]) -> Result<u64> {
        let mut buffer = match part.is_empty() {
            true => None,
            false => {
                let mut buffer = self.loan_for(part.len())?;
                buffer.bytes_mut().copy_from_slice(part);
                Some(buffer)
            }
        };
        let sent = self.post_chunk(mux, chunk, &mut buffer);
        if let Some(buffer) = buffer {
            self.region().give(buffer);
        }
        sent
    }

    /// A buffer, with the table locked.
    fn loan_for(&self, len: usize) -> Result<Buffer<'static>> {
        let _gate = self.gate();
        match self.region().loan(len) {
            Err(error) if error.is_transient() => self.take_alone(len),
            taken => taken,
        }
    }
}
