//! Recovers the victim, and checks what its survivors find.

use super::*;

impl World<'_> {
    /// Who sits in the region, but for the survivors.
    pub(super) fn find_dead(&self) -> Vec<Holder> {
        let alive = [Some(&self.ally), self.second.as_ref()];
        let alive: Vec<Holder> = alive.into_iter().flatten().map(Region::holder).collect();
        let seats = self.views.superblock().seats.iter().enumerate();
        let joined = seats.filter_map(|(index, seat)| {
            let word = SeatWord::from_word(seat.word.load(Ordering::Relaxed));
            word.is_joined().then(|| Holder::new(index, word.generation()))
        });
        joined.filter(|holder| !alive.contains(holder)).collect()
    }

    /// Buries the victim in the region as it is, and sees what the survivors find. How much of the operation was
    /// done, at least `least` of it. The memory is used up: whoever goes on puts it back.
    ///
    /// # Errors
    /// A broken promise.
    pub fn judge(&self, least: Progress, recovers: bool) -> Verdict<Progress> {
        let role = self.scenario.role;
        let corrupt = |error: Error| Fault::new(Kind::Wedged, format!("{error:?}"));
        let mut named = [0; COUNT as usize];
        if recovers {
            let mut survivors: Vec<_> =
                [Some(&self.ally), self.second.as_ref()].into_iter().flatten().collect();
            if self.scenario.fill % 2 == 1 {
                survivors.reverse();
            }
            let dead = self.find_dead();
            for (dead, survivor) in dead.iter().flat_map(|dead| survivors.iter().map(move |by| (*dead, by))) {
                Arena::recover(survivor, dead, &mut named).map_err(corrupt)?;
            }
            for dead in dead {
                if !Arena::vacate(&self.ally, dead).map_err(corrupt)? {
                    return Err(Fault::new(Kind::Leaked, format!("the seat of {dead:?} cannot be vacated")));
                }
            }
            if !self.find_dead().is_empty() {
                return Err(Fault::new(Kind::Leaked, format!("the dead still sit: {:?}", self.find_dead())));
            }
            self.wake()?;
        }
        let heir = self.arena.attach(Who::Heir, role).map_err(corrupt)?;
        let beside = self.second.as_ref().unwrap_or(&heir);
        oracle::scribble(&self.ally)?;
        oracle::scribble(&heir)?;

        let mut found = [Vec::new(), Vec::new()];
        self.finish_early()?;
        let (out, inward) = (self.out(), self.inward());
        oracle::drain(&self.ally, &mut found[out])?;
        oracle::drain(beside, &mut found[inward])?;
        self.finish_late()?;
        oracle::drain(&self.ally, &mut found[out])?;
        oracle::drain(beside, &mut found[inward])?;

        let Effect { sends, takes } = &self.effect;
        let sent = oracle::compare("its messages", &found[out], least.sent, sends.len(), |sent| {
            self.flows[out].expected(&[], &sends[..sent])
        })?;
        let taken = oracle::compare("messages to it", &found[inward], least.taken, takes.len(), |taken| {
            self.flows[inward].expected(&takes[..taken], &[])
        })?;
        oracle::at_rest(&self.views)?;
        oracle::work(&self.views, &self.ally, &heir)?;
        if let Some(second) = &self.second {
            oracle::work(&self.views, &self.ally, second)?;
        }
        Ok(Progress { sent, taken })
    }

    /// Whether all of the operation was done; asked when it is over.
    pub fn is_complete(&self, progress: Progress) -> bool {
        let gone = self.scenario.op != Op::Leave || self.find_dead().is_empty();
        gone && progress == Progress { sent: self.effect.sends.len(), taken: self.effect.takes.len() }
    }

    /// Whoever is in the middle of a ring or a pool goes on.
    fn finish_early(&self) -> Verdict {
        let Some((hands, held)) = &self.middle else { return Ok(()) };
        match held {
            Held::Claimed { ticket, packet } => hands.producer().publish(again(ticket), packet),
            Held::Taken { ticket, packet, run, marked, number } => {
                let inward = hands.inward();
                let Some(run) = run else {
                    hands.consumer().release(again(ticket));
                    return Ok(());
                };
                if !marked && hands.pool(inward).hold(*run).is_err() {
                    return Err(Fault::new(Kind::Wedged, "a taken packet's buffers are held"));
                }
                let bytes = self.arena.read(inward, *run, payload_len(packet));
                hands.consumer().release(again(ticket));
                hands.pool(inward).give(*run);
                if oracle::number(&bytes) != Some(*number) {
                    return Err(Fault::new(Kind::Torn, "a packet that a living process had taken"));
                }
            }
            Held::Gathered { index } => {
                let run = Run { first: *index as u32, count: 1 };
                let lease = self.views.lease(hands.out());
                let leased = LeaseWord::leased(hands.holder).word();
                if lease.load(Ordering::Relaxed) != leased {
                    return Err(Fault::new(Kind::Wedged, "a living process lost its lease"));
                }
                hands.pool(hands.out()).give(run);
                lease.store(LeaseWord::VACANT.word(), Ordering::Release);
            }
            Held::Nothing | Held::Lent { .. } | Held::Read { .. } => {}
        }
        Ok(())
    }

    /// Whoever has a loan sends it, whoever reads a message gives it back.
    fn finish_late(&self) -> Verdict {
        let Some((_, held)) = &self.middle else { return Ok(()) };
        let region = self.region(self.scenario.company.of().0);
        let (buffer, number) = match held {
            Held::Lent { buffer, number } | Held::Read { buffer, number } => (again(buffer), *number),
            _ => return Ok(()),
        };
        if oracle::number(buffer.bytes()) != Some(number) {
            return Err(Fault::new(Kind::Torn, "what a living process holds was overwritten"));
        }
        if matches!(held, Held::Read { .. }) {
            region.give(buffer);
            return Ok(());
        }
        region.send(buffer, |_| {}).map_err(|(error, _)| {
            Fault::new(Kind::Wedged, format!("a loan of a living process cannot be sent: {error:?}"))
        })
    }

    /// After a recovery everybody who announced a sleep is woken.
    fn wake(&self) -> Verdict {
        let sides = &self.views.superblock().sides;
        let announced = || {
            let words =
                sides.iter().map(|side| SleepersWord::from_word(side.sleepers.load(Ordering::Relaxed)));
            words.fold(0, |seats, word| seats | word.seats(Want::Data) | word.seats(Want::Space))
        };
        let before = announced();
        let rung = self.ally.wake_all();
        if rung == before && announced() == 0 {
            return Ok(());
        }
        Err(Fault::new(Kind::Wedged, format!("seats {before:b} sleep, and {rung:b} are rung")))
    }
}

impl Flow {
    /// What must come, without `gone`, and with `sent` behind what was there.
    fn expected(&self, gone: &[u64], sent: &[u64]) -> Vec<u64> {
        let mut ready = self.ready.clone();
        for number in gone {
            // Empty messages are all alike.
            if let Some(at) = ready.iter().position(|other| other == number) {
                ready.remove(at);
            }
        }
        let (first, then) = if self.behind { (&ready, &self.back) } else { (&self.back, &ready) };
        let all = first.iter().chain(then).chain(&self.claimed).chain(sent).chain(&self.late);
        all.copied().collect()
    }
}
