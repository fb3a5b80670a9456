//! Reliable delivery between processes of which one dies again and again: what is not acknowledged comes to the next.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hqq::advanced::Reliability;
use hqq::{AdvancedLink, Error, Listener};
use hqq_tests::agree;
use hqq_tests::delivery::{Record, message};
use hqq_tests::test::SOON;
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
    worker.tell(format!("work {} {} {order}", listener.name(), file.display()));
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
        if let Some(answer) = self.worker.has_answered(Duration::ZERO).filter(|_| !self.struck) {
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
    shop.worker.hear_ok();
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
