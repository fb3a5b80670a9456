//! Messages in batches of sixteen.

use hqq::StandardLink;
use hqq::shm::packet::INLINE_MAX;

use crate::measured::{Span, Turn, Workload};
use crate::outcome::Outcome;
use crate::{clock, payload};

/// Messages of a batch.
const BATCH: usize = 16;

/// One end of a link that sends and receives in batches.
pub struct Batches(pub StandardLink);

impl Workload for Batches {
    fn lead(&mut self, turn: Turn, _: &mut [u32]) -> Outcome<Span> {
        let size = turn.case.payload as usize;
        let mut bytes = [[0; INLINE_MAX]; BATCH];
        let began = clock::now();
        for first in (1..=turn.count).step_by(BATCH) {
            let count = BATCH.min((turn.count + 1 - first) as usize);
            for (number, bytes) in (first..).zip(&mut bytes[..count]) {
                payload::write(number, &mut bytes[..size]);
            }
            let messages: [&[u8]; BATCH] = std::array::from_fn(|index| &bytes[index][..size]);
            let mut sent = 0;
            while sent < count {
                sent += self.0.send_batch(&messages[sent..count])?;
            }
        }
        Ok(Span::since(began))
    }

    fn follow(&mut self, turn: Turn) -> Outcome<Span> {
        let began = clock::now();
        let mut number = 1;
        let mut outcome = Ok(());
        while number <= turn.count {
            self.0.recv_each(BATCH, |message| {
                if outcome.is_ok() {
                    outcome = payload::read(number, message);
                }
                number += 1;
            })?;
        }
        outcome?;
        Ok(Span::since(began))
    }
}
