//! Sending chunks of connections whose turn it is, where flow control or quality of service was agreed on.

use std::time::Instant;

use super::core::LinkCore;
use super::deadline::Wait;
use super::wait::WaitReason;
use crate::demux::Demux;
use crate::demux::table::ConnEnd;
use crate::error::{Error, Result};
use crate::shm::buffer::Buffer;
use crate::shm::packet::ConnCopy;
use hqq_features::flow::Congestion;
use hqq_features::qos::TrafficClass;

/// The bytes of the chunk that a caller is about to send, and its connection.
type Own<'b> = (u64, &'b [u8]);

impl LinkCore {
    /// Whether chunks of connections go out by the rules of an agreement.
    pub(crate) fn is_regulated(&self) -> bool {
        self.state().is_regulated()
    }

    /// How a connection is treated.
    pub(crate) fn traffic_class(&self, id: u64) -> TrafficClass {
        self.lock().egress.as_ref().map_or_else(TrafficClass::default, |egress| egress.traffic_class(id))
    }

    /// How a connection is treated from now on.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without quality of service; [`Error::TrafficClass`].
    pub(crate) fn set_traffic_class(&self, id: u64, class: TrafficClass) -> Result<()> {
        let mut demux = self.lock();
        let now = self.now();
        let set = match &mut demux.egress {
            Some(egress) => egress.set_traffic_class(id, class, now),
            None => Err(Error::Unsupported {
                what: "quality of service was not agreed on: ask for it with AdvancedOptions::qos at both ends",
            }),
        };
        self.dispatch(&mut demux, None);
        self.unlock_and_flush(demux, 0);
        set
    }

    /// How sending on a connection stands, where flow control was agreed on.
    pub(crate) fn congestion(&self, id: u64) -> Option<Congestion> {
        let now = self.now();
        self.lock().egress.as_ref()?.congestion(id, now)
    }

    /// Sends a chunk when it has credit and its turn has come, waiting for that until `wait`; its CopyID. `ended` says what
    /// a connection's end is to the caller.
    pub(crate) fn send_regulated(
        &self,
        chunk: ConnCopy,
        part: &[u8],
        wait: Wait,
        ended: impl Fn(ConnEnd) -> Error,
    ) -> Result<u64> {
        let id = chunk.conn;
        let mut demux = self.lock();
        demux.table.can_send(id).map_err(&ended)?;
        let now = self.now();
        if let Some(egress) = &mut demux.egress {
            egress.submit(chunk, now);
        }
        self.dispatch(&mut demux, Some((id, part)));
        let sent = match &mut demux.egress {
            Some(egress) => {
                let sent = egress.outcome(id);
                if sent.is_none() {
                    egress.keep(id, part);
                }
                sent
            }
            None => None,
        };
        self.unlock_and_flush(demux, 0);
        match sent {
            Some(copy_id) => Ok(copy_id),
            None => self.wait_for_turn(id, wait, ended),
        }
    }

    #[cold]
    fn wait_for_turn(&self, id: u64, wait: Wait, ended: impl Fn(ConnEnd) -> Error) -> Result<u64> {
        let began = Instant::now();
        let failure = loop {
            // Nobody rings when a rate allows something again.
            let alarm = self.lock().egress.as_ref().and_then(|egress| egress.alarm());
            let soonest = alarm.map_or(wait, |at| wait.min(Wait::from(at.saturating_sub(self.now()))));
            let looked = self.wait(WaitReason::TURN, soonest, |own| {
                self.pump(own, |demux, _| {
                    let Some(egress) = &mut demux.egress else { return Err(Error::Closed) };
                    if let Some(copy_id) = egress.outcome(id) {
                        return Ok(Some(Some(copy_id)));
                    }
                    let sooner = egress.alarm().is_some_and(|now| alarm.is_none_or(|then| now < then));
                    demux.table.can_send(id).map_err(&ended)?;
                    self.send_end().map_or(Ok(sooner.then_some(None)), Err)
                })
            });
            match looked {
                Ok(Some(copy_id)) => return Ok(copy_id),
                Ok(None) => {}
                Err(Error::Timeout { .. }) if alarm.is_some() && !wait.is_over() => self.check_liveness(),
                Err(Error::Timeout { what, .. }) => break Error::Timeout { what, after: began.elapsed() },
                Err(error) => break error,
            }
        };
        let mut demux = self.lock();
        let now = self.now();
        let sent = demux.egress.as_mut().and_then(|egress| egress.withdraw(id, now));
        // What it gave up, others can use.
        self.dispatch(&mut demux, None);
        self.unlock_and_flush(demux, 0);
        sent.ok_or(failure)
    }

    /// Sends what is due on connections, as far as there is room.
    pub(crate) fn dispatch(&self, demux: &mut Demux, own: Option<Own<'_>>) {
        let Some(egress) = &mut demux.egress else { return };
        // Only what this look finds counts: room and buffers that come free ring by themselves.
        let before = egress.take_alarm();
        self.dispatch_due(demux, own);
        let Some(egress) = &mut demux.egress else { return };
        let metrics = self.measures().then(|| self.region().metrics(self.role()));
        for blocked in egress.take_stalls() {
            metrics.inspect(|metrics| metrics.note_credit_stall(blocked));
        }
        // Whoever waits goes by the alarm that there was.
        if egress.alarm().is_some_and(|now| before.is_none_or(|then| now < then)) {
            metrics.inspect(|metrics| metrics.note_over_rate());
            demux.woke = true;
        }
    }

    fn dispatch_due(&self, demux: &mut Demux, own: Option<Own<'_>>) {
        if !demux.egress.as_ref().is_some_and(|egress| egress.is_waiting()) {
            return;
        }
        for _ in 0..self.region().layout().geometry.slots() {
            let region = self.region();
            let now = self.now();
            let due = demux.egress.as_mut().filter(|_| region.has_room());
            let Some(id) = due.and_then(|egress| egress.next(now, |position| region.is_taken(position)))
            else {
                return;
            };
            if demux.table.can_send(id).is_err() {
                // Its sender finds out, and takes it back.
                demux.woke = true;
                continue;
            }
            let Some((chunk, kept)) = demux.egress.as_mut().and_then(|egress| egress.take(id)) else {
                continue;
            };
            let part = match (&kept, own) {
                (Some(bytes), _) => bytes,
                (None, Some((mine, part))) if mine == id => part,
                (None, _) => &[],
            };
            let posted = self.post_part(demux, &chunk, part);
            let Some(egress) = &mut demux.egress else { return };
            match posted {
                Ok(copy_id) => {
                    egress.sent(id, copy_id, region.sent_so_far().wrapping_sub(1), now);
                    demux.woke |= own.is_none_or(|(mine, _)| mine != id);
                }
                Err(error) => {
                    egress.put_back(id, kept);
                    // The buffer that it had may be another's.
                    demux.woke = true;
                    self.poison(&error);
                    return;
                }
            }
        }
    }

    fn post_part(&self, demux: &mut Demux, chunk: &ConnCopy, part: &[u8]) -> Result<u64> {
        let mut buffer = match part.is_empty() {
            true => None,
            false => {
                let mut buffer = self.loan_for(part.len())?;
                buffer.bytes_mut().copy_from_slice(part);
                Some(buffer)
            }
        };
        let sent = self.post_chunk(demux, chunk, &mut buffer);
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
