//! Many threads that share one link.

use std::sync::Barrier;
use std::thread;

use hqq::StandardLink;

use crate::measured::{Span, Turn, Workload};
use crate::outcome::{Failure, Outcome};
use crate::{clock, payload};

/// Threads in each of the two processes.
const THREADS: u64 = 8;

/// One end of a link that eight threads share. They run on the processor of the process.
pub struct Crowd(pub StandardLink);

impl Crowd {
    /// Runs `act` in each thread for its share of the turn. The span is from the first start to the last end.
    fn share(&self, turn: Turn, act: impl Fn(u64) -> Outcome + Sync) -> Outcome<Span> {
        let barrier = Barrier::new(THREADS as usize + 1);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|number| {
                    let own = turn.count / THREADS + u64::from(number < turn.count % THREADS);
                    let (act, barrier) = (&act, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        // Each thread reads the clock itself: on one processor, the waiting thread may run last.
                        let began = clock::now();
                        (0..own).try_for_each(|_| act(1))?;
                        Ok::<_, Failure>(Span::since(began))
                    })
                })
                .collect();
            barrier.wait();
            let mut all = Span { began: u64::MAX, ended: 0 };
            for thread in threads {
                let one = thread.join().map_err(|_| Failure::from("a thread panicked"))??;
                all = Span { began: all.began.min(one.began), ended: all.ended.max(one.ended) };
            }
            Ok(all)
        })
    }
}

impl Workload for Crowd {
    fn lead(&mut self, turn: Turn, _: &mut [u32]) -> Outcome<Span> {
        let size = turn.case.payload as usize;
        self.share(turn, |number| {
            let mut bytes = [0; hqq::shm::packet::INLINE_MAX];
            payload::write(number, &mut bytes[..size]);
            Ok(self.0.send(&bytes[..size])?)
        })
    }

    fn follow(&mut self, turn: Turn) -> Outcome<Span> {
        self.share(turn, |number| payload::read(number, &self.0.recv()?))
    }
}
