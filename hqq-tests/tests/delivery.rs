//! Reliable delivery to processes that die repeatedly: a message that was not acknowledged is delivered to the successor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hqq::advanced::Reliability;
use hqq::agreement::Capabilities;
use hqq::shm::packet::{Packet, op};
use hqq::{AdvancedLink, Error, ErrorCode, Listener, Role};
use hqq_tests::agree;
use hqq_tests::delivery::{Record, message};
use hqq_tests::mock::Memory;
use hqq_tests::patience::SOON;
use hqq_tests::{Peer, Test, test};

const SMALL: &str = "slots=16 buffers=32 size=256 reattachable";
/// How long a newcomer may take before somebody looks whether it has died as well.
const SHORT: Duration = Duration::from_millis(500);

/// A sender, and the workers that it outlives.
struct Workshop<'t> {
    test: &'t Test,
    listener: Listener,
    file: PathBuf,
    /// How the worker works, and what it wants.
    order: String,
    worker: Peer,
    link: AdvancedLink,
    /// The worker was struck, and has no successor.
    struck: bool,
    deaths: u32,
}

fn hire(test: &Test, listener: &Listener, file: &Path, order: &str) -> Peer {
    let mut worker = test.peer();
    worker.send_command(format!("work {} {} {order}", listener.name(), file.display()));
    worker
}

impl<'t> Workshop<'t> {
    fn new(test: &'t Test, file: PathBuf, options: &str, kind: &str, messages: u32, wanted: &str) -> Self {
        let options = hqq_tests::peer::options(test.options(), options.split_whitespace());
        let listener = Listener::bind_with(&test.link_name(), options).unwrap();
        let order = format!("{kind} {messages} {wanted}");
        let worker = hire(test, &listener, &file, &order);
        let link = listener.accept_timeout(SOON).unwrap();
        let wanted = agree::wanted(wanted.split_whitespace());
        let wanted = wanted.reliable(Reliability::new().messages(messages).bytes(1 << 20));
        let link = AdvancedLink::negotiate(link, &wanted, SOON).unwrap();
        Self { test, listener, file, order, worker, link, struck: false, deaths: 0 }
    }

    /// Kills the worker where it stands.
    fn strike(&mut self) {
        if !std::mem::replace(&mut self.struck, true) {
            self.worker.kill();
            self.deaths += 1;
        }
    }

    /// Another worker in the place of the dead one. Some die while they come.
    fn replace(&mut self, dies: bool) {
        for dies in [dies, false] {
            self.worker = hire(self.test, &self.listener, &self.file, &self.order);
            self.struck = false;
            let pid = self.worker.pid();
            let time = if dies { SHORT } else { SOON };
            let made = std::thread::scope(|scope| {
                if dies {
                    scope.spawn(move || {
                        std::thread::sleep(Duration::from_micros(fastrand::u64(500..30_000)));
                        let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
                        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                    });
                }
                self.link.reattach(&self.listener, time)
            });
            match made {
                Ok(()) => return,
                Err(Error::Timeout { .. } | Error::PeerDead) if dies => self.strike(),
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    /// The worker has ended without being struck.
    fn fate(&mut self, error: &Error) {
        if let Some(answer) = self.worker.try_read_reply(Duration::ZERO).filter(|_| !self.struck) {
            panic!("{error:?}; the worker says: {answer}");
        }
        assert!(matches!(error, Error::PeerDead), "{error:?}");
        self.replace(false);
    }

    /// Sends so many messages and waits until all are processed; meanwhile so many workers die.
    fn run(&mut self, messages: u64, deaths: u32) {
        let mut sent = 0;
        let mut next_death = 0;
        while sent < messages {
            if self.deaths < deaths && sent >= next_death {
                std::thread::sleep(Duration::from_micros(fastrand::u64(0..2000)));
                self.strike();
                next_death = sent + fastrand::u64(0..2 * messages / u64::from(deaths));
                // Half the time it is noticed by who sends.
                if fastrand::bool() {
                    self.replace(fastrand::u8(0..3) == 0);
                }
            }
            match self.link.send(&message(sent)) {
                Ok(()) => sent += 1,
                Err(error) => self.fate(&error),
            }
        }
        while self.deaths < deaths {
            self.strike();
            self.replace(false);
        }
        while let Err(error) = self.link.wait_acknowledged(SOON) {
            self.fate(&error);
        }
        assert_eq!(self.link.deliveries().unwrap().store.messages, 0);
    }

    /// How often each message was processed.
    fn counts(&self, messages: u64) -> BTreeMap<u64, u32> {
        let mut counts: BTreeMap<u64, u32> = (0..messages).map(|number| (number, 0)).collect();
        for record in Record::read_all(&self.file) {
            *counts.get_mut(&record.number).expect("it was sent") += 1;
        }
        counts
    }
}

fn exactly_once(options: &str, wanted: &str) {
    let mut test = test!(untraced);
    let file = test.folder().join("ledger");
    let mut shop = Workshop::new(&test, file, &format!("{SMALL} {options}"), "commit", 64, wanted);
    shop.run(4000, 30);
    for (number, count) in shop.counts(4000) {
        assert_eq!(count, 1, "message {number} after {} deaths", shop.deaths);
    }
    let wire = shop.link.stats();
    assert!(wire.sides.iter().all(|side| side.refused_total() == 0), "{wire:?}");
    drop(shop.link);
    shop.worker.expect_ok();
}

#[test]
fn who_acknowledges_inside_its_commit_processes_each_message_once() {
    exactly_once("", "");
}

#[test]
fn also_what_is_compressed_and_encrypted() {
    exactly_once("", "codecs=lz4 key=7");
}

#[test]
fn also_with_one_sender_and_one_receiver() {
    exactly_once("mode=spsc protected", "codecs=zstd");
}

/// Without a record what the dead one had processed and not told is processed again, and nothing is left out.
#[test]
fn who_keeps_no_record_processes_each_message_at_least_once() {
    let mut test = test!(untraced);
    let file = test.folder().join("ledger");
    let mut shop = Workshop::new(&test, file, SMALL, "loose", 64, "codecs=lz4");
    shop.run(4000, 30);
    let counts = shop.counts(4000);
    assert!(counts.values().all(|count| *count >= 1), "{counts:?}");
    // No more often than it was sent.
    let again = counts.values().map(|count| u64::from(count - 1)).sum::<u64>();
    assert!(again <= shop.link.deliveries().unwrap().store.resent, "{again}");
}

/// A link and a peer with such an agreement.
fn agreed(test: &Test, role: Role, options: &str, wanted: &str) -> (AdvancedLink, Peer) {
    let (link, mut peer) = test.link(role, options);
    peer.send_command(format!("bg agree wait 30000 {wanted}"));
    peer.expect_ok();
    let link = AdvancedLink::negotiate(link, &agree::wanted(wanted.split_whitespace()), SOON).unwrap();
    peer.ask("join");
    (link, peer)
}

#[test]
fn a_full_store_waits_for_the_peers_application() {
    let test = test!(untraced);
    for role in [Role::Primary, Role::Secondary] {
        let (link, mut peer) = agreed(&test, role, "", "reliable=4,3000");
        assert_eq!(link.agreement().capabilities, Capabilities::RELIABLE_DELIVERY);
        for number in 0..4 {
            link.try_send(&message(number)[..8]).unwrap();
        }
        let full = link.try_send(b"more");
        assert!(matches!(full, Err(Error::StoreFull { messages: 4, bytes: 32, limit: 4 })), "{full:?}");
        // Received is not enough.
        peer.ask("adv-recv");
        assert!(matches!(link.try_send(b"more"), Err(Error::StoreFull { .. })));
        peer.ask("adv-process");
        peer.ask("adv-flush");
        // The first holds up whatever is behind the fourth.
        assert!(matches!(link.try_send(b"more"), Err(Error::StoreFull { .. })));
        assert_eq!(link.deliveries().unwrap().store.messages, 3);
        assert!(matches!(link.wait_acknowledged(Duration::from_millis(10)), Err(Error::Timeout { .. })));
        peer.kill();
        assert!(matches!(link.send(b"more"), Err(Error::PeerDead)));
        assert!(matches!(link.wait_acknowledged(SOON), Err(Error::PeerDead)));
        assert_eq!(link.deliveries().unwrap().store.messages, 3);
    }
}

#[test]
fn a_waiting_sender_goes_on_when_something_is_acknowledged() {
    let test = test!(untraced);
    for wanted in ["reliable=2", "reliable=1,100 codecs=zstd key=3"] {
        let (link, mut peer) = agreed(&test, Role::Primary, "slots=4 buffers=4 size=64", wanted);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                for number in 0..20 {
                    link.send(&message(number)[..8]).unwrap();
                }
                link.wait_acknowledged(SOON).unwrap();
            });
            for number in 0..20 {
                let want = hqq_tests::pattern::digest(&message(number)[..8]);
                assert_eq!(peer.ask("adv-process"), want);
            }
            // The peer makes no call for long.
            assert_eq!(peer.ask("adv-flush"), "0");
            sender.join().unwrap();
        });
    }
}

/// Frames that come again, and an Ack that comes twice or late, change nothing.
#[test]
fn duplicates_are_dropped() {
    let test = test!();
    let (link, mut peer) = agreed(&test, Role::Primary, "", "reliable=8,1000,1");
    peer.ask("adv-send noise 30 1");
    let first = link.recv().unwrap();
    let session = first.receipt().unwrap().session;
    first.acknowledge().unwrap();
    peer.ask("adv-acked");
    for sequence in [1, 1] {
        peer.ask(format!("push {} {} {sequence}", op::INLINE_COPY, 20u64 << 56 | 100));
        assert!(matches!(link.try_recv(), Err(Error::RingEmpty)));
    }
    assert_eq!(link.deliveries().unwrap().inbox.duplicates, 2);
    // The same session, but by now it says nothing new.
    let memory = Memory::at(link.memory(), link.geometry());
    let ack = Packet::new(op::PROCESSED, [session.get(), 1]);
    link.send(b"more").unwrap();
    assert_eq!(peer.ask("adv-process"), hqq_tests::pattern::digest(b"more"));
    memory.push(0, &ack);
    link.send(b"and more").unwrap();
    assert_eq!(peer.ask("adv-process"), hqq_tests::pattern::digest(b"and more"));
    link.wait_acknowledged(SOON).unwrap();
    assert!(link.stats().sides.iter().all(|side| side.refused_total() == 0), "{:?}", link.stats());
    // Of sessions that this end never had, and a second Resume.
    for operands in ["77 1", &format!("{session} 900")] {
        peer.ask(format!("push {} {operands}", op::PROCESSED));
        assert!(matches!(link.try_recv(), Err(Error::RingEmpty)));
    }
    peer.ask(format!("push {} 0 0", op::RESUME));
    assert!(matches!(link.try_recv(), Err(Error::RingEmpty)));
    assert_eq!(link.stats().side(Role::Primary).refused_with(ErrorCode::BadFrame), 3);
    link.send(b"the last").unwrap();
    assert_eq!(peer.ask("adv-process"), hqq_tests::pattern::digest(b"the last"));
    link.wait_acknowledged(SOON).unwrap();
}

/// A Secondary that sends and dies: what it had committed is received, and its receipts are void.
#[test]
fn what_a_dead_sender_has_sent_is_received() {
    let test = test!(untraced);
    for more in ["", " key=9 codecs=lz4"] {
        let wanted = format!("reliable=16{more}");
        let listener = Listener::bind_with(
            &test.link_name(),
            hqq_tests::peer::options(test.options(), SMALL.split_whitespace()),
        );
        let listener = listener.unwrap();
        let caller = || {
            let mut peer = test.peer();
            peer.send_command(format!("connect-wait {} 30000", listener.name()));
            peer
        };
        let mut peer = caller();
        let link = listener.accept_timeout(SOON).unwrap();
        peer.expect_ok();
        peer.send_command(format!("agree wait 30000 {wanted}"));
        let made = AdvancedLink::negotiate(link, &agree::wanted(wanted.split_whitespace()), SOON);
        let mut link = made.unwrap();
        peer.expect_ok();
        for round in 0..10 {
            for seed in 0..6 {
                peer.ask(format!("adv-send noise {} {}", seed * 90, 10 * round + seed));
            }
            link.send(&[round as u8; 70]).unwrap();
            let held = link.recv().unwrap();
            assert_eq!(*held, agree::message("noise", 0, 10 * round));
            let receipt = held.receipt().unwrap();
            drop(held);
            peer.kill();
            peer = caller();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    peer.expect_ok();
                    peer.send_command(format!("agree wait 30000 {wanted}"));
                });
                link.reattach(&listener, SOON).unwrap();
            });
            peer.expect_ok();
            link.acknowledge(receipt).unwrap();
            for seed in 1..6 {
                let message = link.recv().unwrap();
                assert_eq!(*message, agree::message("noise", seed as usize * 90, 10 * round + seed));
                message.acknowledge().unwrap();
            }
            for earlier in 0..=round {
                assert_eq!(peer.ask("adv-recv"), hqq_tests::pattern::digest(&[earlier as u8; 70]));
            }
        }
        assert!(link.stats().sides.iter().all(|side| side.refused_total() == 0), "{:?}", link.stats());
    }
}
