// unsafe: two ends of a region live on memory that others scribble on.
//! Continuous stores while both ends of a region, and of untrusted links, operate.
//!
//! The scribblers know what the words mean: most of what they store could stand there, so that the ends go on for a
//! while; the rest could not. An end that finds its region corrupt begins anew.

use std::fs::{self, File};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hqq::shm::layout::{Geometry, Layout, Modes, RingMode, required_bytes, required_scratch};
use hqq::shm::packet::{Packet, op};
use hqq::shm::region::{Region, Setup, Views};
use hqq::shm::ring::{Consumer, Take};
use hqq::shm::words::{Holder, Lap, Role, Slot, Stamp};
use hqq::{Error, Listener, Options, Result, UntrustedLink};
use hqq_sys::mem;

use super::memory::{Guarded, Memory, cradle, guard};
use super::menu::{self, Found, VALUES};
use super::region::End;
use super::{Breach, breach};

/// Calls of an end before it begins anew, if nothing forces it to.
const LIFE: u64 = 400;
/// Calls that go on after the first that found the region corrupt.
const AFTERLIFE: u64 = 20;
/// What a call of an untrusted link may take. None waits longer than a millisecond for its peer.
const LATE: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_micros(50);

/// What a run did.
#[derive(Debug, Default)]
pub struct Tally {
    /// Calls of the core.
    pub region: AtomicU64,
    /// Those that handed something out, sent it or received it.
    pub succeeded: AtomicU64,
    /// Calls of untrusted links.
    pub untrusted: AtomicU64,
    /// Words stored by the scribblers.
    pub stores: AtomicU64,
    /// Regions and links that were made.
    pub made: AtomicU64,
    /// How many of them called themselves corrupt.
    pub corrupt: AtomicU64,
    /// Mappings of links that had a guard page on both sides, and mappings that were looked at.
    pub guarded: [AtomicU64; 2],
}

fn add(word: &AtomicU64, more: u64) -> u64 {
    word.fetch_add(more, Ordering::Relaxed) + more
}

fn get(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

/// Sets a flag when a thread ends, however it does.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What all of them are made with.
fn geometry() -> Result<Geometry> {
    Geometry::new(8, 8, 64)
}

/// Stores one value into one word.
fn scribble(words: &[AtomicU64], places: &[u64], random: &mut fastrand::Rng) {
    // The words on which everything hangs, the stamps, come less often than their share.
    let mut place = places[random.usize(..places.len())];
    if words.len() * 8 <= place as usize {
        return;
    }
    if place % 64 == 0 && random.u8(..) > 32 {
        place += 8 * random.u64(1..8);
    }
    let value = match random.u8(..) {
        // Anything at all.
        0..=3 => random.u64(..),
        // A word from somewhere else.
        4..=31 => Found::at(words, places[random.usize(..places.len())]).word(),
        32..=95 => random.u64(0..300),
        _ => VALUES[random.usize(..VALUES.len())].1(Found::at(words, place)),
    };
    if let Some(word) = words.get(place as usize / 8) {
        word.store(value, Ordering::Release);
    }
}

/// Calls of the core, from two threads, until there were `target` of them.
///
/// # Panics
/// As soon as the library does, or with a [`Breach`].
pub fn regions(seed: u64, target: u64, tally: &Tally) {
    let page = mem::page_size() as u64;
    let geometry = geometry().expect("a good geometry");
    let layout = Layout::new(geometry, page).expect("a good geometry");
    let memory = Memory::new(required_bytes(&geometry, page).expect("a good geometry"));
    let memory = memory.expect("memory for a small region");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (memory, over) = (&memory, &over);
        for role in [Role::Primary, Role::Secondary] {
            scope.spawn(move || {
                let _over = Over(over);
                let map = memory.map().expect("a mapping");
                let mut random = fastrand::Rng::with_seed(seed ^ role.direction() as u64);
                while get(&tally.region) < target && !over.load(Ordering::Relaxed) {
                    life(role, &map, geometry, &mut random, tally);
                }
            });
        }
        scope.spawn(move || {
            let map = memory.map().expect("a mapping");
            let places = menu::places(&layout);
            let mut random = fastrand::Rng::with_seed(!seed);
            while !over.load(Ordering::Relaxed) {
                for _ in 0..1000 {
                    scribble(map.words(), &places, &mut random);
                }
                add(&tally.stores, 1000);
            }
        });
    });
}

/// One end, from its beginning until it has found the region corrupt, or has lived long enough.
fn life(role: Role, map: &Guarded, geometry: Geometry, random: &mut fastrand::Rng, tally: &Tally) {
    let ring = [RingMode::Mpmc, RingMode::Spsc, RingMode::Mpsc, RingMode::Spmc][random.usize(..4)];
    let setup = Setup {
        geometry,
        modes: Modes { ring, ..Modes::default() },
        page: mem::page_size() as u64,
        epoch: random.u64(..),
        first_lap: if random.bool() { 0 } else { (1 << 39) - 3 },
        name: "scribbled",
    };
    let mut scratch = vec![0; required_scratch(&geometry)];
    let (base, len) = (map.base(), map.len() as u64);
    // SAFETY: the mapping outlives the end. Whoever else reaches the memory does so through other mappings, as a
    // hostile process would, and this end reaches its payload by volatile copies only.
    let region = unsafe {
        match role {
            Role::Primary => Region::init(base, len, &setup, &mut scratch),
            Role::Secondary => Region::attach(base, len, setup.page, role, &mut scratch),
        }
    };
    let Ok(region) = region else {
        // The Primary has not been there yet, or the scribbler has.
        thread::yield_now();
        add(&tally.region, 1);
        return;
    };
    add(&tally.made, 1);
    let mut end = End::new(region, base, false);
    let mut last = LIFE;
    while end.operations < last {
        end.any(random);
        if end.corrupt > 0 && last == LIFE {
            last = end.operations + AFTERLIFE;
            add(&tally.corrupt, 1);
        }
    }
    add(&tally.succeeded, end.succeeded.saturating_sub(end.idle));
    add(&tally.region, end.operations);
}

/// What a call of the core may take of its thread's time. It ends after so many steps, whatever others do meanwhile; and
/// those are some microseconds.
const STEPS: Duration = Duration::from_millis(5);

/// How somebody runs ahead of an end round the ring, so that it always finds a reason to go on.
#[derive(Clone, Copy, Debug)]
enum Ahead {
    /// Each slot has been claimed already, when a producer comes.
    Claimed,
    /// Each has been taken already, when a consumer comes.
    Taken,
    /// Each holds a tombstone.
    Tombstones,
}

/// Stamps that lead round the ring for ever: each slot is an eighth of all laps ahead of the one before it, the first one of
/// the last. And tombstones of which there is one more whenever one has been skipped. A call ends all the same.
///
/// # Panics
/// With [`Breach::Late`] if too many are skipped; an endless call is the watchdog's to find.
pub fn circles(tally: &Tally) {
    let page = mem::page_size() as u64;
    let geometry = geometry().expect("a good geometry");
    let slots = u64::from(geometry.slots());
    let memory = Memory::new(required_bytes(&geometry, page).expect("a good geometry"));
    let map = memory.and_then(|memory| memory.map()).expect("memory for a small region");
    let mut scratch = vec![0; required_scratch(&geometry)];
    let (modes, name) = (Modes::default(), "circles");
    let setup = Setup { geometry, modes, page, epoch: 1, first_lap: 0, name };
    let len = map.len() as u64;
    // SAFETY: as in `life`; nobody else is there.
    let region = unsafe { Region::init(map.base(), len, &setup, &mut scratch) }.expect("a good region");
    // SAFETY: as above; what is stored through it is what a hostile peer stores.
    let views = unsafe { Views::new(map.base(), len, page) }.expect("a good region");
    let stranger = Holder::new(7, 31);
    let eighth = |slot: u64| Lap::new((slot + 1) * (1 << 39) / slots);
    for (slot, place) in (0..).zip(views.slots(0)) {
        place.stamp.store(Stamp::claimed(eighth(slot), stranger).word(), Ordering::Release);
    }
    for (slot, place) in (0..).zip(views.slots(1)) {
        let stamp = Stamp::taken(eighth(slot), stranger, op::INLINE_COPY);
        place.stamp.store(stamp.word(), Ordering::Release);
    }
    let sent = region.send_packet(&Packet::new(op::CONN_CREATE, [2]), |_| {});
    let received = region.receive(|_| true, |_| {});
    std::hint::black_box((sent.is_ok(), received.is_ok(), region.peek().is_ok()));
    add(&tally.region, 3);

    let fresh: Vec<Slot> = (0..slots).map(|_| Slot::new(Lap::new(0))).collect();
    let publish = |position: u64| {
        let stamp = Stamp::published(Lap::new(position / slots), op::TOMBSTONE);
        fresh[(position % slots) as usize].stamp.store(stamp.word(), Ordering::Release);
    };
    let (head, floor) = (AtomicU64::new(0), AtomicU64::new(0));
    let consumer = Consumer::new(&fresh, &head, &floor, Holder::new(1, 1), false);
    publish(0);
    let mut skipped = 0;
    let taken = consumer.take(
        |_| true,
        || {
            skipped += 1;
            publish(skipped);
            if skipped > 4 * slots + 64 {
                breach(Breach::Late, format!("a call skipped {skipped} tombstones in a ring of {slots}"));
            }
        },
    );
    assert!(matches!(taken, Ok(Take::Busy)), "{taken:?}");
    add(&tally.region, 1);
}

/// Calls that somebody runs ahead of, each kind for `time`.
///
/// # Panics
/// As [`regions`]; or with [`Breach::Late`] if a call follows without an end.
pub fn chased(seed: u64, time: Duration, tally: &Tally) {
    let page = mem::page_size() as u64;
    let geometry = geometry().expect("a good geometry");
    let layout = Layout::new(geometry, page).expect("a good geometry");
    let memory = Memory::new(layout.len).expect("memory for a small region");
    let (ours, theirs) = (memory.map().expect("a mapping"), memory.map().expect("a mapping"));
    let stranger = Holder::new(7, 31);
    for (direction, ahead) in [(0, Ahead::Claimed), (1, Ahead::Taken), (1, Ahead::Tombstones)] {
        let mut scratch = vec![0; required_scratch(&geometry)];
        let (modes, name) = (Modes::default(), "chased");
        let setup = Setup { geometry, modes, page, epoch: seed, first_lap: 0, name };
        // SAFETY: as in `life`.
        let region = unsafe { Region::init(ours.base(), ours.len() as u64, &setup, &mut scratch) };
        let region = region.expect("a good region");
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let ring = layout.directions[direction].ring as usize / 8;
                let slots = u64::from(geometry.slots());
                let words = theirs.words();
                let mut position = 0;
                while !over.load(Ordering::Relaxed) {
                    let lap = Lap::new(position / slots);
                    let stamp = match ahead {
                        Ahead::Claimed => Stamp::claimed(lap, stranger),
                        Ahead::Taken => Stamp::taken(lap, stranger, op::INLINE_COPY),
                        Ahead::Tombstones => Stamp::published(lap, op::TOMBSTONE),
                    };
                    words[ring + 8 * (position % slots) as usize].store(stamp.word(), Ordering::Release);
                    position += 1;
                }
                add(&tally.stores, position);
            });
            let _over = Over(&over);
            let began = Instant::now();
            let mut calls = 0;
            while began.elapsed() < time {
                let before = processor_time();
                let _ = region.send_packet(&Packet::new(op::CONN_CREATE, [2]), |_| {});
                let _ = (region.receive(|_| true, |_| {}), region.peek());
                let took = processor_time().saturating_sub(before);
                if took > STEPS {
                    let what = format!("a call took {took:?} of its thread's time, behind {ahead:?}");
                    breach(Breach::Late, what);
                }
                calls += 3;
            }
            add(&tally.region, calls);
        });
    }
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Calls of untrusted links, from a thread for each end, until there were `target` of them. With `protected`, of links
/// whose payload is.
///
/// # Panics
/// As [`regions`]; if no link can be made.
pub fn untrusted(seed: u64, target: u64, protected: bool, tally: &Tally) {
    let name = format!("scribbled-{}", std::process::id());
    // The memory of the present link, for the scribblers.
    let present: Mutex<Option<(File, Layout)>> = Mutex::new(None);
    let over = AtomicBool::new(false);
    let options = Options::new().slots(8).buffers(8).buffer_size(64).protected(protected);
    let called = format!("hqq:{name}");
    let layout = geometry().and_then(|geometry| Layout::new(geometry, mem::page_size() as u64));
    cradle(layout.expect("a good geometry").len, 8);
    let spaced = called.clone();
    let between = options.clone().trace(move |event| {
        if event.packet.op == op::OFFER && event.sent {
            guard(&spaced);
        }
    });
    thread::scope(|scope| {
        let (present, over, name, called) = (&present, &over, &name, &called);
        scope.spawn(move || {
            let _over = Over(over);
            let listener = Listener::bind_with(name, between).expect("a fresh name");
            let mut random = fastrand::Rng::with_seed(seed);
            while get(&tally.untrusted) < target && !over.load(Ordering::Relaxed) {
                if let Ok(link) = listener.accept_untrusted_timeout(Duration::from_millis(100)) {
                    *present.lock().expect("nobody panics with it") = region_of(called);
                    if random.u8(..) < 16 {
                        let (guarded, all) = guard(called);
                        add(&tally.guarded[0], guarded as u64);
                        add(&tally.guarded[1], all as u64);
                    }
                    session(link, &mut random, tally);
                }
            }
        });
        scope.spawn(move || {
            let _over = Over(over);
            let mut random = fastrand::Rng::with_seed(seed ^ 1);
            while get(&tally.untrusted) < target && !over.load(Ordering::Relaxed) {
                let time = Duration::from_millis(100);
                if let Ok(link) = UntrustedLink::connect_with_timeout(name, options.clone(), time) {
                    session(link, &mut random, tally);
                }
            }
        });
        scope.spawn(move || {
            let mut random = fastrand::Rng::with_seed(!seed);
            while !over.load(Ordering::Relaxed) {
                let taken = present.lock().expect("nobody panics with it").take();
                match taken {
                    Some((file, layout)) => attack(&file, &layout, present, over, &mut random, tally),
                    None => thread::yield_now(),
                }
            }
        });
    });
}

/// Scribbles on one link's region until there is another.
fn attack(
    file: &File,
    layout: &Layout,
    present: &Mutex<Option<(File, Layout)>>,
    over: &AtomicBool,
    random: &mut fastrand::Rng,
    tally: &Tally,
) {
    let Ok(map) = Guarded::new(file.as_fd(), layout.len as usize) else { return };
    let places = menu::places(layout);
    // Links that live long, and links that do not.
    let pause = [0, 0, 20, 200][random.usize(..4)];
    while !over.load(Ordering::Relaxed) && present.lock().expect("nobody panics with it").is_none() {
        for _ in 0..64 {
            scribble(map.words(), &places, random);
            (0..pause).for_each(|_| std::hint::spin_loop());
        }
        // Payload as well, by a system call: it is no atomic.
        let offset = layout.directions[random.usize(..2)].buffers + random.u64(..512);
        let _ = file.write_all_at(&random.u64(..).to_ne_bytes(), offset);
        add(&tally.stores, 65);
    }
}

/// The memory of the newest link of this process whose memory has the name.
fn region_of(called: &str) -> Option<(File, Layout)> {
    let wanted = format!("/memfd:{called}");
    let fds = fs::read_dir("/proc/self/fd").ok()?;
    let named = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with(&wanted))
    };
    let entry = fds.flatten().find(named)?;
    let file = File::options().read(true).write(true).open(entry.path()).ok()?;
    Some((file, Layout::new(geometry().ok()?, mem::page_size() as u64).ok()?))
}

/// One untrusted link, until it has ended, or has lived long enough.
fn session(link: UntrustedLink, random: &mut fastrand::Rng, tally: &Tally) {
    add(&tally.made, 1);
    let mut corrupt = 0;
    let mut bytes = [0; 600];
    let mut held = Vec::new();
    let (mut operations, mut succeeded) = (0, 0);
    while operations < LIFE && corrupt < AFTERLIFE {
        let began = Instant::now();
        let len = if random.u8(..) < 200 { random.usize(0..=64) } else { random.usize(65..=512) };
        let result: Result<()> = match random.u8(0..32) {
            0..=9 => link.try_send(&bytes[..len]),
            10..=11 => link.send_timeout(&bytes[..len], SHORT),
            12..=13 => link.loan_timeout(len, SHORT).and_then(|mut loan| {
                match loan.bytes_mut() {
                    Some(place) => place.copy_from_slice(&bytes[..len]),
                    None => _ = loan.write_at(0, &bytes[..len]),
                }
                if random.bool() { loan.send_timeout(SHORT).map_err(|failed| failed.error) } else { Ok(()) }
            }),
            14..=25 => link.try_recv().map(|message| {
                if message.copy_to(&mut bytes) != message.len().min(bytes.len()) {
                    breach(Breach::OutOfBounds, format!("{message:?}"));
                }
                held.push(message);
            }),
            26 => link.recv_timeout(SHORT).map(|message| drop(message.to_vec())),
            27 => {
                std::hint::black_box((link.stats(), link.max_message(), link.peer()));
                if corrupt > 0 { Err(Error::Corrupt { what: "", found: 0 }) } else { Ok(()) }
            }
            _ => {
                held.truncate(random.usize(0..=held.len()));
                if corrupt > 0 { Err(Error::Corrupt { what: "", found: 0 }) } else { Ok(()) }
            }
        };
        operations += 1;
        if held.len() > 4 {
            held.clear();
        }
        let took = began.elapsed();
        if took > LATE {
            breach(Breach::Late, format!("a call of an untrusted link took {took:?}"));
        }
        match result {
            Ok(()) if corrupt == 0 => succeeded += 1,
            Err(Error::Corrupt { .. }) => corrupt += 1,
            Err(Error::Closed | Error::PeerGone | Error::PeerDead) if corrupt == 0 => break,
            other if corrupt > 0 => {
                breach(Breach::Forgotten, format!("an untrusted link that was corrupt says {other:?}"));
            }
            _ => {}
        }
    }
    add(&tally.corrupt, u64::from(corrupt > 0));
    add(&tally.succeeded, succeeded);
    add(&tally.untrusted, operations);
    if random.bool() {
        link.shutdown(Shutdown::Both);
    }
}
