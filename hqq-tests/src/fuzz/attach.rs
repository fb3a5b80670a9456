// unsafe: ends attach to memory that holds anything at all.
//! Attaches to a region of arbitrary bytes, in either role, and uses it.

use std::cell::OnceCell;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use hqq::observe::Observer;
use hqq::shm::layout::{Geometry, Modes, RingMode, WaitMode, required_bytes, required_scratch};
use hqq::shm::region::{Region, Setup};
use hqq::shm::words::Role;
use hqq_sys::mem;

use crate::fuzz::bytes::Bytes;
use crate::hostile::memory::{Guarded, Memory};
use crate::hostile::region::End;

/// Bytes of the memory: more than the regions need that an input begins with.
const LEN: u64 = 1 << 16;

thread_local! {
    static MEMORY: OnceCell<(Memory, Guarded, Guarded)> = const { OnceCell::new() };
}

/// The target.
pub fn run(data: &[u8]) {
    MEMORY.with(|memory| {
        let (memory, first, second) = memory.get_or_init(|| {
            let memory = Memory::new(LEN).expect("a little memory");
            let maps = (memory.map().expect("a mapping"), memory.map().expect("a mapping"));
            (memory, maps.0, maps.1)
        });
        work(memory, first, second, &mut Bytes::new(data));
    });
}

fn work(memory: &Memory, first: &Guarded, second: &Guarded, bytes: &mut Bytes<'_>) {
    let words = second.words();
    words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    let page = mem::page_size() as u64;
    let kind = bytes.byte();
    if kind % 8 == 0 {
        // Nothing but what the input holds.
        for (word, chunk) in words.iter().zip(bytes.take(LEN as usize / 2).chunks(8)) {
            let mut value = [0; 8];
            value[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_le_bytes(value), Ordering::Relaxed);
        }
    } else {
        let counts = bytes.byte();
        let geometry = Geometry::new(2 << (counts & 3), 2 << (counts >> 2 & 3), 8 << (counts >> 4 & 7));
        let geometry = geometry.expect("a small geometry");
        let ring =
            [RingMode::Mpmc, RingMode::Spsc, RingMode::Mpsc, RingMode::Spmc][usize::from(kind >> 3 & 3)];
        let modes = Modes { ring, wait: WaitMode::Adaptive, ..Modes::default() };
        let first_lap = if kind >> 5 & 1 == 0 { 0 } else { (1 << 39) - 2 };
        let setup = Setup { geometry, modes, page, epoch: 1, first_lap, name: "fuzz" };
        assert!(required_bytes(&geometry, page).is_ok_and(|need| need <= LEN));
        let mut scratch = vec![0; required_scratch(&geometry)];
        // SAFETY: the mapping outlives the end, which reaches payload by volatile copies only; see `End`.
        let region = unsafe { Region::init(first.base(), LEN, &setup, &mut scratch) };
        let mut end = End::new(region.expect("a good region"), first.base(), false);
        for _ in 0..bytes.byte() % 16 {
            end.call(bytes.byte(), bytes.byte());
        }
        patch(words, bytes);
    }
    let roles = [Role::Primary, Role::Secondary];
    for _ in 0..2 {
        let role = roles[usize::from(bytes.byte() % 2)];
        // SAFETY: as above.
        let Ok(facts) = (unsafe { Region::inspect(first.base(), LEN, page) }) else { break };
        let layout = hqq::shm::layout::Layout::new(facts.geometry, page).expect("inspected");
        assert!(layout.len <= LEN, "{layout:?} does not lie in {LEN} bytes");
        let mut scratch = vec![0; required_scratch(&facts.geometry)];
        // SAFETY: as above.
        let Ok(region) = (unsafe { Region::attach(first.base(), LEN, page, role, &mut scratch) }) else {
            continue;
        };
        let mut end = End::new(region, first.base(), false);
        for _ in 0..64 {
            if bytes.is_over() {
                break;
            }
            match bytes.byte() {
                255 => patch(words, bytes),
                call => end.call(call, bytes.byte()),
            }
        }
        // And everything there is, whatever the input says.
        (0..32).for_each(|call| end.call(call, call * 7));
        let _ = end.leave();
    }
    if let Ok(observer) = Observer::open(memory.as_fd()) {
        let report = observer.check();
        report.findings.iter().for_each(|finding| assert!(!finding.to_string().is_empty()));
        std::hint::black_box((observer.stats(), observer.seats(), observer.name()));
    }
}

/// Stores what the input says into some words.
fn patch(words: &[std::sync::atomic::AtomicU64], bytes: &mut Bytes<'_>) {
    for _ in 0..bytes.byte() % 16 {
        let at = usize::from(bytes.short()) % words.len();
        let value = match bytes.byte() % 4 {
            0 => bytes.number(),
            1 => words[at].load(Ordering::Relaxed) ^ 1 << (bytes.byte() % 64),
            2 => words[at].load(Ordering::Relaxed).wrapping_add(bytes.number() << 25),
            _ => words[(at + 8) % words.len()].load(Ordering::Relaxed),
        };
        words[at].store(value, Ordering::Relaxed);
    }
}
