//! What goes out under the lock: packets of the outbox first, then chunks of connections, each as soon as it may.

use super::context::SendContext;
use super::table::ConnEnd;
use super::{Demux, LinkContext};
use crate::error::{Error, Result};
use crate::shm::buffer::Buffer;
use crate::shm::packet::{ConnCopy, Packet};

/// So many bytes are dispatched at once: a peer that sleeps is woken then, and begins with them.
const BURST: u64 = 256 << 10;

impl Demux {
    /// Whether packets wait to go out.
    #[inline]
    pub(crate) fn has_outgoing(&self) -> bool {
        let has_updates = self.egress.as_ref().is_some_and(|egress| egress.has_updates());
        !self.outbox.is_empty() || has_updates || self.has_deliveries()
    }

    /// Whether nothing waits to go out, and nothing can be due: no outbox, no agreement on when connections send or on what is kept.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.outbox.is_empty() && self.egress.is_none() && self.delivery.is_none()
    }

    /// Sends what may go now, ahead of the lock's release; true if there is more that can go as soon as the peer is woken. `at_once`
    /// says that the thread is going to sleep, so that acknowledgements do not wait for others.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(crate) fn settle(&mut self, tx: &SendContext<'_>, at_once: bool) -> Result<bool> {
        self.schedule_acks(at_once, || tx.link.now());
        let mut more = false;
        if self.egress.as_ref().is_some_and(|egress| egress.wants_dispatch()) {
            more = self.dispatch(tx, None)?;
        }
        if self.has_outgoing() {
            self.flush(tx)?;
        }
        Ok(more)
    }

    /// Sends what waits, as far as the ring has room.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(crate) fn flush(&mut self, tx: &SendContext<'_>) -> Result<()> {
        let _gate = tx.hold_gate();
        self.flush_once(tx.link)?;
        if self.is_reliable() && self.has_outgoing() {
            // What is sent again may need buffers.
            let _alone = tx.gather_alone();
            self.flush_once(tx.link)?;
        }
        Ok(())
    }

    fn flush_once(&mut self, cx: LinkContext<'_>) -> Result<()> {
        while let Some(packet) = self.outbox.front() {
            if !place(cx, packet)? {
                return Ok(());
            }
            self.outbox.pop_front();
            self.sent = true;
        }
        while let Some(egress) = &mut self.egress {
            let Some(packet) = egress.next_update() else { break };
            if !place(cx, &packet)? {
                break;
            }
            egress.update_sent();
            self.sent = true;
        }
        match &mut self.delivery {
            None => Ok(()),
            // Others may wait for the buffers.
            Some(delivery) => delivery.flush(cx, &mut self.sent, &mut self.woke),
        }
    }

    /// Sends what waits. Fails unless all of it went: it goes ahead of anything new.
    ///
    /// # Errors
    /// [`Error::RingFull`], [`Error::Corrupt`].
    pub(crate) fn flush_first(&mut self, tx: &SendContext<'_>) -> Result<()> {
        self.flush(tx)?;
        if self.has_outgoing() {
            return Err(Error::RingFull { slots: tx.link.region.layout().geometry.slots().into() });
        }
        Ok(())
    }

    /// Puts a chunk of a connection into the ring, with the buffer in `kept` if it has bytes. On failure the buffer is still there.
    /// The chunk's CopyID. The gate is held, and nothing waits that must go first.
    ///
    /// # Errors
    /// [`Error::RingFull`], [`Error::Busy`], [`Error::Corrupt`].
    #[inline]
    pub(crate) fn post_chunk(
        &mut self,
        cx: LinkContext<'_>,
        chunk: &ConnCopy,
        kept: &mut Option<Buffer<'static>>,
    ) -> Result<u64> {
        let sent = cx.region.send_chunk(chunk, kept.take(), |packet| cx.show(true, packet));
        self.sent |= sent.is_ok();
        sent.map_err(|(error, buffer)| {
            *kept = buffer;
            error
        })
    }

    // ---- chunks that go by credit, class and rate ----

    /// Submits a chunk with the bytes `part` to the scheduler, and sends what is due. The CopyID if the chunk was sent; its
    /// bytes are kept otherwise.
    ///
    /// # Errors
    /// The connection's end, as `ended` makes it; [`Error::Corrupt`].
    pub(crate) fn submit_chunk(
        &mut self,
        tx: &SendContext<'_>,
        chunk: ConnCopy,
        part: &[u8],
        ended: impl FnOnce(ConnEnd) -> Error,
    ) -> Result<Option<u64>> {
        let id = chunk.conn;
        self.table.can_send(id).map_err(ended)?;
        let now = tx.link.now();
        // Without an agreement there is none, and nothing comes here.
        let Some(egress) = &mut self.egress else { return Err(Error::Closed) };
        egress.submit(chunk, now);
        let dispatched = self.dispatch(tx, Some((id, part)));
        let Some(egress) = &mut self.egress else { return Err(Error::Closed) };
        if let Err(error) = dispatched {
            return egress.withdraw(id, now).map(Some).ok_or(error);
        }
        let sent = egress.outcome(id);
        if sent.is_none() {
            egress.keep(id, part);
        }
        Ok(sent)
    }

    /// Sends the chunks of connections that are due, as far as there is room. `own` is the caller's connection and the bytes of
    /// its chunk, which are not kept yet. True if there is more that can go as soon as the peer is woken.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(crate) fn dispatch(&mut self, tx: &SendContext<'_>, own: Option<(u64, &[u8])>) -> Result<bool> {
        let Some(egress) = &mut self.egress else { return Ok(false) };
        // Only what this look finds counts: room and buffers that come free ring by themselves.
        let before = egress.begin_dispatch();
        let dispatched = self.dispatch_due(tx, own);
        let Some(egress) = &mut self.egress else { return dispatched };
        for blocked in egress.take_stalls() {
            tx.metrics.inspect(|metrics| metrics.note_credit_stall(blocked));
        }
        // Whoever waits goes by the alarm that there was.
        if egress.alarm().is_some_and(|now| before.is_none_or(|then| now < then)) {
            tx.metrics.inspect(|metrics| metrics.note_over_rate());
            self.woke = true;
        }
        dispatched
    }

    fn dispatch_due(&mut self, tx: &SendContext<'_>, own: Option<(u64, &[u8])>) -> Result<bool> {
        let region = tx.link.region;
        let mut bytes = 0;
        for _ in 0..region.layout().geometry.slots() {
            let Some(egress) = self.egress.as_mut().filter(|egress| egress.is_waiting()) else { break };
            if !region.has_room() {
                break;
            }
            if bytes >= BURST {
                egress.dispatch_later();
                return Ok(true);
            }
            let now = tx.link.now();
            let Some(id) = egress.next(now, |position| region.is_taken(position)) else { break };
            if self.table.can_send(id).is_err() {
                // Its sender finds out, and takes it back.
                self.woke = true;
                continue;
            }
            let Some((chunk, kept)) = egress.take(id) else { continue };
            let part = match (&kept, own) {
                (Some(bytes), _) => bytes,
                (None, Some((mine, part))) if mine == id => part,
                (None, _) => &[],
            };
            bytes += chunk.transfer_size;
            let posted = self.post_part(tx, &chunk, part);
            let Some(egress) = &mut self.egress else { break };
            match posted {
                Ok(copy_id) => {
                    egress.sent(id, copy_id, region.sent_so_far().wrapping_sub(1), now);
                    self.woke |= own.is_none_or(|(mine, _)| mine != id);
                }
                Err(error) => {
                    egress.put_back(id, kept);
                    // The buffer that it had may be another's.
                    self.woke = true;
                    return if error.is_transient() { Ok(false) } else { Err(error) };
                }
            }
        }
        Ok(false)
    }

    fn post_part(&mut self, tx: &SendContext<'_>, chunk: &ConnCopy, part: &[u8]) -> Result<u64> {
        let mut buffer = match part.is_empty() {
            true => None,
            false => {
                let mut buffer = {
                    let _gate = tx.hold_gate();
                    tx.loan(part.len())?
                };
                buffer.bytes_mut().copy_from_slice(part);
                Some(buffer)
            }
        };
        let first = if self.has_outgoing() { self.flush_first(tx) } else { Ok(()) };
        let sent = first.and_then(|()| {
            let _gate = tx.hold_gate();
            self.post_chunk(tx.link, chunk, &mut buffer)
        });
        if let Some(buffer) = buffer {
            tx.link.region.give(buffer);
        }
        sent
    }
}

/// Puts a packet into the ring; false if it has no room now.
fn place(cx: LinkContext<'_>, packet: &Packet) -> Result<bool> {
    match cx.region.send_packet(packet, |packet| cx.show(true, packet)) {
        Ok(()) => Ok(true),
        Err(error) if error.is_transient() => Ok(false),
        Err(error) => Err(error),
    }
}
