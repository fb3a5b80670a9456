//! Chunks of connections where flow control or quality of service was agreed on, for who sends them: when each goes is the
//! scheduler's matter, in `demux`.

use std::time::Instant;

use super::core::LinkCore;
use super::deadline::Wait;
use super::wait::WaitReason;
use crate::demux::Stop;
use crate::demux::table::ConnEnd;
use crate::error::{Error, Result};
use crate::shm::packet::ConnCopy;
use hqq_features::flow::Congestion;
use hqq_features::qos::TrafficClass;

impl LinkCore {
    /// Whether chunks of connections go out by the rules of an agreement.
    pub(crate) fn is_regulated(&self) -> bool {
        self.state().is_regulated()
    }

    /// How a connection is treated.
    pub(crate) fn traffic_class(&self, id: u64) -> TrafficClass {
        self.peek(|demux| {
            demux.egress.as_ref().map_or_else(TrafficClass::default, |egress| egress.traffic_class(id))
        })
    }

    /// How a connection is treated from now on.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without quality of service; [`Error::TrafficClass`].
    pub(crate) fn set_traffic_class(&self, id: u64, class: TrafficClass) -> Result<()> {
        let now = self.now();
        match &mut self.demux(0).egress {
            Some(egress) => egress.set_traffic_class(id, class, now),
            None => Err(Error::Unsupported {
                what: "quality of service was not agreed on: ask for it with AdvancedOptions::qos at both ends",
            }),
        }
    }

    /// How sending on a connection stands, where flow control was agreed on.
    pub(crate) fn congestion(&self, id: u64) -> Option<Congestion> {
        let now = self.now();
        self.peek(|demux| demux.egress.as_ref()?.congestion(id, now))
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
        self.tick();
        let sent = self.demux(0).submit_chunk(chunk, part, &ended)?;
        sent.map_or_else(|| self.wait_for_turn(chunk.conn, wait, ended), Ok)
    }

    #[cold]
    fn wait_for_turn(&self, id: u64, wait: Wait, ended: impl Fn(ConnEnd) -> Error) -> Result<u64> {
        let began = Instant::now();
        let failure = loop {
            // Nobody rings when a rate allows something again.
            let alarm = self.peek(|demux| demux.egress.as_ref().and_then(|egress| egress.alarm()));
            let soonest = alarm.map_or(wait, |at| wait.min(Wait::from(at.saturating_sub(self.now()))));
            let looked = self.wait(WaitReason::TURN, soonest, |own| {
                let mut demux = self.demux(own);
                demux.pump(Stop::Lap)?;
                demux.dispatch()?;
                let Some(egress) = &mut demux.egress else { return Err(Error::Closed) };
                if let Some(copy_id) = egress.outcome(id) {
                    return Ok(Some(Some(copy_id)));
                }
                let sooner = egress.alarm().is_some_and(|now| alarm.is_none_or(|then| now < then));
                demux.table.can_send(id).map_err(&ended)?;
                self.send_end().map_or(Ok(sooner.then_some(None)), Err)
            });
            match looked {
                Ok(Some(copy_id)) => return Ok(copy_id),
                Ok(None) => {}
                Err(Error::Timeout { .. }) if alarm.is_some() && !wait.is_over() => self.check_liveness(),
                Err(Error::Timeout { what, .. }) => break Error::Timeout { what, after: began.elapsed() },
                Err(error) => break error,
            }
        };
        let now = self.now();
        let sent = self.demux(0).egress.as_mut().and_then(|egress| egress.withdraw(id, now));
        sent.ok_or(failure)
    }
}
