//! The operation of the victim between the two marks, one instruction at a time.

use super::*;

impl World<'_> {
    /// Does the operation between two marks. Whether it did all that it should.
    pub fn operate(&mut self) -> bool {
        let mut own = std::mem::take(&mut self.own);
        let packet = self.packet();
        let role = self.scenario.role;
        let dead = self.find_dead();
        let sleepers = self.sleepers(role);
        let Some(victim) = &self.victim else {
            mark();
            let joined = self.arena.attach(Who::Victim, role);
            mark();
            return joined.is_ok();
        };
        if self.scenario.op == Op::Leave {
            let Some(victim) = self.victim.take() else { return false };
            mark();
            let left = victim.leave();
            mark();
            return matches!(left, Ok(true));
        }
        let seat = victim.holder().seat();
        let mut done = Effect::default();
        let chunk = chunk();
        mark();
        match self.scenario.op {
            Op::Loan => drop(victim.loan(POOL)),
            Op::LoanAhead => {
                victim.prepare();
                drop(victim.loan(POOL));
            }
            Op::LoanRun | Op::LoanFragmented => drop(victim.loan(RUN)),
            Op::GiveLoan | Op::GiveRun => {
                if let Some(loan) = own.loan.take() {
                    victim.give(loan);
                }
            }
            Op::Send | Op::SendRun => {
                if let Some(loan) = own.loan.take() {
                    if victim.send(loan, |_| {}).is_ok() {
                        done.sends = self.effect.sends.clone();
                    }
                }
            }
            Op::SendEmpty => {
                if let Some(mut loan) = own.loan.take() {
                    loan.truncate(0);
                    if victim.send(loan, |_| {}).is_ok() {
                        done.sends = vec![EMPTY];
                    }
                }
            }
            Op::SendChunk => {
                let loan = own.loan.take();
                if victim.send_chunk(&chunk, loan, |_| {}).is_ok() {
                    done.sends = self.effect.sends.clone();
                }
            }
            Op::SendInline => {
                let mut inline = SlotBytes::zeroed(INLINE);
                inline.bytes_mut().copy_from_slice(&own.texts[0].1);
                if victim.send_inline(&inline, |_| {}).is_ok() {
                    done.sends = vec![own.texts[0].0];
                }
            }
            Op::SendBytes | Op::SendBatch => {
                for (number, bytes) in &own.texts {
                    if victim.send_bytes(bytes, |_| {}).is_err() {
                        break;
                    }
                    done.sends.push(*number);
                }
            }
            Op::SendPacket | Op::SendAccept | Op::SendClose => {
                if victim.send_packet(&packet, |_| {}).is_ok() {
                    done.sends = self.effect.sends.clone();
                }
            }
            Op::ReceiveInline | Op::ReceivePool => {
                let mut message = None;
                match victim.receive_plain(&mut message, |_| {}).and(message) {
                    Some(payload) => done.takes.push(read(&payload)),
                    None => done.takes.extend(receive_number(victim)),
                }
            }
            Op::Receive
            | Op::ReceiveRun
            | Op::ReceiveEmpty
            | Op::ReceiveChunk
            | Op::ReceiveTombstone
            | Op::ReceiveReturned => done.takes.extend(receive_number(victim)),
            Op::ReceiveRefused => {
                if receive_number(victim).is_some() {
                    done.takes = self.effect.takes.clone();
                }
            }
            Op::ReceiveBatch => {
                while let Ok(Incoming::Message(payload, _)) = victim.receive(|_| true, |_| {}) {
                    done.takes.push(read(&payload));
                    victim.give_message(payload);
                }
            }
            Op::Release | Op::ReleaseRun => {
                if let Some(message) = own.message.take() {
                    victim.give(message);
                }
            }
            Op::Echo => {
                if let Ok(Incoming::Message(payload, _)) = victim.receive(|_| true, |_| {}) {
                    done.takes.push(read(&payload));
                    if victim.send_bytes(&own.texts[0].1, |_| {}).is_ok() {
                        done.sends.push(own.texts[0].0);
                    }
                    victim.give_message(payload);
                }
            }
            Op::Announce => {
                sleepers.announce(seat, Want::Data);
                sleepers.announce(seat, Want::Space);
                if !(victim.has_packet() && victim.has_room()) {
                    sleepers.cancel(seat, Want::Data);
                    sleepers.cancel(seat, Want::Space);
                }
            }
            Op::Wake | Op::Attach | Op::Leave => {}
            Op::RecoverOwn | Op::RecoverOther => {
                for dead in dead.into_iter().filter(|dead| *dead != victim.holder()) {
                    let recovered = Arena::recover(victim, dead, &mut own.named);
                    if recovered.is_err() || !matches!(Arena::vacate(victim, dead), Ok(true)) {
                        return false;
                    }
                }
            }
        }
        // The seats would be rung now, by the caller.
        let _ = victim.wake_receivers();
        let _ = victim.wake_senders();
        mark();
        done == self.effect
    }
}

/// The number at a message's head; the rest is left alone, as the caller is being stepped.
fn head(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(EMPTY, |head| u64::from_le_bytes(*head) >> 16)
}

fn read(payload: &Payload<'_>) -> u64 {
    match payload {
        Payload::Slot(inline) => head(inline.bytes()),
        Payload::Pool(buffer) => head(buffer.bytes()),
    }
}

/// Receives one packet in the victim, and keeps its buffers.
fn receive_number(victim: &Region<'static>) -> Option<u64> {
    match victim.receive(|_| true, |_| {}) {
        Ok(Incoming::Message(payload, _)) => Some(read(&payload)),
        Ok(Incoming::ConnData(_, Some(buffer))) => Some(head(buffer.bytes())),
        Ok(Incoming::Refused(fault)) => Some(oracle::refused(fault.op)),
        _ => None,
    }
}
