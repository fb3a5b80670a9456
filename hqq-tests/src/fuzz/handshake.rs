//! A mock peer sends anything in a handshake, with any descriptors. The other side refuses in time, or has a link that works
//! or ends, and keeps no descriptor.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hqq::shm::packet::Packet;
use hqq::shm::words::{FORMAT, MAGIC};
use hqq::{Error, Listener, Options, StandardLink, UntrustedLink};
use hqq_sys::sock::{self, Address};
use hqq_sys::{mem, peer, poll};

use crate::fuzz::bytes::Bytes;
use crate::mock::{JOINED, SEAT_1, shake};

/// For a handshake. The mock peer hangs up long before.
const LIMIT: Duration = Duration::from_secs(30);
/// Messages of one input.
const MOST: usize = 8;

fn options() -> Options {
    Options::new().slots(2).buffers(2).buffer_size(64).max_region(1 << 20).handshake_timeout(LIMIT)
}

fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("fuzz-shake-{}-{}", process(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn process() -> u32 {
    std::process::id()
}

fn address(name: &str) -> Address {
    Address::Abstract(format!("hqq.{}.{name}", peer::uid()).into_bytes())
}

/// The target.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    // Other threads of the program may have one open for a moment: the C library reads the number of processors when a
    // thread first allocates.
    let before = (0..3).map(|_| open_descriptors()).min().unwrap_or_default();
    let began = Instant::now();
    match bytes.byte() % 4 {
        0 | 1 => host(&mut bytes),
        2 => guest(&mut bytes, false),
        _ => guest(&mut bytes, true),
    }
    assert!(began.elapsed() < LIMIT, "a handshake whose peer has hung up went on for {:?}", began.elapsed());
    let patience = Instant::now();
    while open_descriptors() != before {
        let (now, waited) = (open_descriptors(), patience.elapsed());
        assert!(
            waited < LIMIT,
            "{now} descriptors in place of {before}: one was kept, or one too many closed"
        );
        std::thread::yield_now();
    }
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Sends a message of the mock peer, with its descriptors.
fn send(socket: &OwnedFd, bytes: &mut Bytes<'_>, memory: Option<&File>) {
    let kind = bytes.byte();
    let count = usize::from(kind >> 6);
    let fds: Vec<OwnedFd> = (0..count).map(|_| descriptor(bytes)).collect();
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let image = match kind % 8 {
        // Bytes as they come, mostly of a wrong length.
        0 => {
            let count = usize::from(bytes.byte());
            bytes.take(count).to_vec()
        }
        // The right message, perhaps with a word changed.
        kind => {
            let (op, mut operands) = match kind {
                1 | 2 => (shake::HELLO, [MAGIC, FORMAT, 0x0101, 0, 0, 0, 0]),
                3 | 4 => (shake::JOIN, [MAGIC, FORMAT, 0x0101, 1 << 20, 0, 0, 0]),
                5 => (shake::OFFER, [bytes.number(), 1, 0, 0, 0, 0, 0]),
                6 => (shake::READY, [1, 1, 0, 0, 0, 0, 0]),
                _ => (bytes.byte(), [bytes.number(); 7]),
            };
            let changes = bytes.byte();
            if changes % 4 == 1 {
                operands[usize::from(changes / 4) % 7] = bytes.number();
            }
            let mut image = Packet { op, operands }.to_bytes().to_vec();
            if changes % 16 == 2 {
                image[usize::from(changes / 16) + 1] ^= bytes.byte();
            }
            image
        }
    };
    if let Some(memory) = memory {
        // As a caller: the seat that READY names, or another word there.
        let word = if kind & 32 == 0 { JOINED } else { bytes.number() };
        let _ = memory.write_all_at(&word.to_le_bytes(), SEAT_1);
    }
    // The other side may have hung up.
    let _ = sock::send(socket.as_fd(), &image, &fds);
}

/// Something to bring along.
fn descriptor(bytes: &mut Bytes<'_>) -> OwnedFd {
    let kind = bytes.byte();
    match kind % 8 {
        0 => File::open("/dev/null").expect("it is there").into(),
        1 => sock::pair().expect("two more descriptors").0,
        2 => sealed(&image()[..usize::from(bytes.byte()) * 8 + 8], true),
        3 => sealed(image(), false),
        4 => sealed(&vec![0; image().len()], true),
        5 => {
            // As long as a payload of its own must be, in a protected region.
            let memory = mem::create("hqq:payload", mem::page_size() as u64).expect("a page");
            let _ = mem::seal(memory.as_fd());
            memory
        }
        kind => {
            let mut image = image().to_vec();
            for _ in 0..bytes.byte() % 8 {
                let at = usize::from(bytes.short()) * 8 % image.len();
                image[at..at + 8].copy_from_slice(&bytes.number().to_le_bytes());
            }
            sealed(&image, kind == 6)
        }
    }
}

/// Memory with these contents.
fn sealed(contents: &[u8], seal: bool) -> OwnedFd {
    let memory = mem::create("hqq:fuzz", contents.len() as u64).expect("a little memory");
    let file = File::from(memory.try_clone().expect("a descriptor"));
    file.write_all_at(contents, 0).expect("it is as long");
    if seal {
        let _ = mem::seal(memory.as_fd());
    }
    memory
}

/// A good region, in which nobody sits but the Primary.
fn image() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let memory = crate::mock::memory("good").expect("a good region");
        let mut bytes = Vec::new();
        File::from(memory).read_to_end(&mut bytes).expect("it can be read");
        bytes
    })
}

/// Receives the next message of the other side; returns its first descriptor.
fn recv(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut image = [0; 128];
    loop {
        match sock::recv(socket.as_fd(), &mut image).ok()? {
            Some(received) => return received.fds.into_iter().next(),
            None => poll::many(&[socket.as_fd()], Some(Duration::from_millis(1))).ok()?[0].then_some(())?,
        }
    }
}

/// The library listens, the mock peer calls.
fn host(bytes: &mut Bytes<'_>) {
    let name = name();
    let kind = bytes.byte();
    let listener = Listener::bind_with(&name, options().protected(kind & 1 != 0)).expect("a fresh name");
    let socket = sock::connect(&address(&name)).expect("somebody listens");
    let mut link = None;
    let turn = |link: &mut Option<StandardLink>| match listener.try_accept() {
        Ok(made) => *link = Some(made),
        Err(Error::NoneWaiting) => {}
        Err(other) => panic!("the caller's trouble is not the listener's: {other}"),
    };
    turn(&mut link);
    let mut memory = None;
    let mut said = 0;
    while !bytes.is_over() && said < MOST && link.is_none() {
        if bytes.byte() & 7 == 0 {
            // An honest beginning, so that what follows is heard.
            let join = Packet::new(shake::JOIN, [MAGIC, FORMAT, 0x0101, 1 << 20]);
            let _ = sock::send(socket.as_fd(), &join.to_bytes(), &[]);
        } else {
            send(&socket, bytes, memory.as_ref());
        }
        turn(&mut link);
        if memory.is_none() {
            memory = (0..2).find_map(|_| recv(&socket)).map(File::from);
        }
        said += 1;
    }
    drop(socket);
    let began = Instant::now();
    while link.is_none() && listener.refused() == 0 {
        turn(&mut link);
        assert!(began.elapsed() < LIMIT, "neither a link nor refused");
    }
    link.into_iter().for_each(|link| exercise(&link));
}

/// The library calls, the mock peer listens.
fn guest(bytes: &mut Bytes<'_>, untrusted: bool) {
    let name = name();
    let listening = sock::listen(&address(&name), 4).expect("a fresh name");
    thread::scope(|scope| {
        let calling = scope.spawn(|| {
            if untrusted {
                if let Ok(link) = UntrustedLink::connect_with(&name, options()) {
                    let _ = (link.try_send(&[1; 60]), link.try_recv().map(|message| message.to_vec()));
                    std::hint::black_box(link.stats());
                }
            } else if let Ok(link) = StandardLink::connect_with(&name, options()) {
                exercise(&link);
            }
        });
        let _ = poll::many(&[listening.as_fd()], Some(LIMIT));
        let socket = sock::accept(listening.as_fd()).expect("a listener").expect("somebody calls");
        // A caller that is hung up on calls again, as long as there is a listener.
        drop(listening);
        let mut said = 0;
        while !bytes.is_over() && said < MOST {
            match bytes.byte() & 7 {
                0 => {
                    let hello = Packet::new(shake::HELLO, [MAGIC, FORMAT, 0x0101]);
                    let _ = sock::send(socket.as_fd(), &hello.to_bytes(), &[]);
                }
                1 => {
                    let memory = descriptor(bytes);
                    let offer = Packet::new(shake::OFFER, [0, 1]);
                    let _ = sock::send(socket.as_fd(), &offer.to_bytes(), &[memory.as_fd()]);
                }
                2 => {
                    let welcome = Packet::new(shake::WELCOME, []);
                    let _ = sock::send(socket.as_fd(), &welcome.to_bytes(), &[]);
                }
                _ => send(&socket, bytes, None),
            }
            said += 1;
        }
        drop(socket);
        calling.join().expect("a call does not panic");
    });
}

/// A link whose other end has hung up, over memory that holds anything.
fn exercise(link: &StandardLink) {
    let _ = (link.try_send(&[1; 9]), link.try_send(&[2; 60]), link.try_send(&[3; 100]));
    for _ in 0..4 {
        let _ = link.try_recv().map(|message| message.len());
    }
    let _ = (link.drive(), link.is_open(), link.try_accept_connection().map(drop));
    std::hint::black_box((link.stats(), link.wire_error()));
}
