//! A link that many connections share: one ring, one pool of buffers, an inbox each. Some readers stay away.

use super::*;

const SLOTS: usize = 16;
const WINDOW: u64 = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Credit and [`may_hold`].
    Both,
    /// A sender puts into the ring what it likes.
    NoCredit,
    /// Credit, and any buffer that is free.
    AnyBuffer,
}

struct Link {
    rule: Rule,
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    inboxes: Vec<VecDeque<u64>>,
    ring: VecDeque<(usize, u64)>,
    /// Grants that wait to go back: at most one a connection, the last.
    grants: Vec<Option<Grant>>,
    /// Buffers that each connection's chunks hold, and those that nobody does.
    held: Vec<u64>,
    free: u64,
    sent: Vec<u64>,
    read: Vec<u64>,
}

impl Link {
    fn new(rule: Rule, connections: usize, buffers: u64) -> Self {
        Self {
            rule,
            senders: vec![Sender::new(WINDOW).unwrap(); connections],
            receivers: vec![Receiver::new(WINDOW).unwrap(); connections],
            inboxes: vec![VecDeque::new(); connections],
            ring: VecDeque::new(),
            grants: vec![None; connections],
            held: vec![0; connections],
            free: buffers,
            sent: vec![0; connections],
            read: vec![0; connections],
        }
    }

    fn send(&mut self, of: usize, now: Duration) {
        let takes = match self.rule {
            Rule::AnyBuffer => self.free > 0,
            _ => may_hold(self.held[of], self.free),
        };
        if !takes || (self.rule != Rule::NoCredit && self.senders[of].try_spend(1, now).is_err()) {
            return;
        }
        if self.ring.len() == SLOTS {
            self.senders[of].refund(1);
            return;
        }
        self.ring.push_back((of, self.sent[of]));
        self.sent[of] += 1;
        self.held[of] += 1;
        self.free -= 1;
    }

    /// Sorts the ring's oldest packet, unless its inbox is full: then everything waits.
    fn sort(&mut self) {
        let Some(&(of, number)) = self.ring.front() else { return };
        if self.inboxes[of].len() as u64 == WINDOW {
            assert!(self.rule == Rule::NoCredit, "a full inbox was found in spite of credit");
            return;
        }
        if self.rule != Rule::NoCredit {
            self.receivers[of].arrived(1).unwrap();
        }
        self.inboxes[of].push_back(number);
        self.ring.pop_front();
    }

    fn read(&mut self, of: usize) {
        let Some(number) = self.inboxes[of].pop_front() else { return };
        assert_eq!(number, self.read[of], "order");
        self.read[of] += 1;
        self.held[of] -= 1;
        self.free += 1;
        if let Some(grant) = self.receivers[of].consumed(1) {
            self.grants[of] = Some(grant);
        }
    }
}

/// Runs a link of 6 connections of which the first `away` are never read; what the others read, at least.
fn run(rule: Rule, away: usize, buffers: u64, seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut link = Link::new(rule, 6, buffers);
    for step in 0..30_000 {
        let of = random.below(6) as usize;
        match random.below(4) {
            0 => link.send(of, at(step)),
            1 => link.sort(),
            2 if of >= away => link.read(of),
            2 => {}
            _ => {
                if let Some(grant) = link.grants[of].take() {
                    link.senders[of].granted(grant, at(step)).unwrap();
                }
            }
        }
        assert!(link.ring.len() <= SLOTS && link.inboxes.iter().all(|inbox| inbox.len() as u64 <= WINDOW));
    }
    for of in 0..away {
        assert!(link.sent[of] <= WINDOW + SLOTS as u64 && link.read[of] == 0);
    }
    link.read[away..].iter().copied().min().unwrap()
}

#[test]
fn a_slow_reader_never_stops_the_others() {
    for seed in 1..=20 {
        let undisturbed = run(Rule::Both, 0, 1 << 20, seed);
        for away in 1..6 {
            let read = run(Rule::Both, away, 1 << 20, seed);
            assert!(read * 10 >= undisturbed * 9, "{away} away: {read} of {undisturbed}");
        }
        // The simulation can show it: without credit one reader stops all.
        assert!(run(Rule::NoCredit, 1, 1 << 20, seed) < undisturbed / 10);
    }
}

#[test]
fn slow_readers_never_hold_the_whole_pool() {
    for seed in 1..=20 {
        for away in 1..6 {
            // Fewer buffers than the windows of those that are away.
            let read = run(Rule::Both, away, 12, seed);
            assert!(read > 300, "{away} away: {read}");
        }
        assert!(run(Rule::AnyBuffer, 2, 12, seed) < 100);
    }
}
