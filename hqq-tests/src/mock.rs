//! A hostile end: it writes any packet and any word into a region, and sends anything in a handshake.
//!
//! It writes to the region through the memfd, as any process with the descriptor can, so it needs no pointer.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{Ordering, fence};

use hqq::shm::layout::{Layout, MAX_SLOTS};
use hqq::shm::packet::Packet;
use hqq::shm::ring::Producer;
use hqq::shm::words::{FORMAT, Lap, MAGIC, Slot, Stamp};
use hqq::{Geometry, Options, StandardLink};
use hqq_sys::mem;
use hqq_sys::{poll, sock};

use crate::patience::SOON;

/// Handshake messages.
pub mod shake {
    /// The first message of the listener.
    pub const HELLO: u8 = 0x20;
    /// The first message of the client.
    pub const JOIN: u8 = 0x21;
    /// The listener offers the region.
    pub const OFFER: u8 = 0x22;
    /// The client has joined its seat.
    pub const READY: u8 = 0x23;
    /// The last message of the listener.
    pub const WELCOME: u8 = 0x24;
}

/// The offset of the Primary's seat in a region.
const SEAT_0: u64 = 0x200;
/// The offset of the first Secondary's seat in a region.
pub const SEAT_1: u64 = 0x240;
/// The word of that seat after the Secondary has joined.
pub const JOINED: u64 = 0x10A;
/// The word of that seat before.
const VACANT: u64 = 0x131;

/// The first operands of HELLO and JOIN.
pub const GREETING: [u64; 3] = [MAGIC, FORMAT, 0x0101];

/// A region, accessed through its memfd.
#[derive(Debug)]
pub struct Memory {
    file: File,
    layout: Layout,
}

impl Memory {
    /// The region of a link.
    pub fn of(link: &StandardLink) -> Self {
        Self::at(link.memory(), link.geometry())
    }

    /// The region in this memory.
    pub fn at(memory: BorrowedFd<'_>, geometry: Geometry) -> Self {
        let file = File::from(memory.try_clone_to_owned().expect("a descriptor can be copied"));
        let layout = Layout::new(geometry, mem::page_size() as u64).expect("the link has it");
        Self { file, layout }
    }

    /// The layout of the region.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The word at an offset.
    pub fn read(&self, offset: u64) -> u64 {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, offset).expect("the offset lies in the region");
        u64::from_le_bytes(word)
    }

    /// Stores a word at an offset.
    pub fn write(&self, offset: u64, word: u64) {
        self.file.write_all_at(&word.to_le_bytes(), offset).expect("the offset lies in the region");
    }

    /// The offset of a slot.
    pub fn slot(&self, direction: usize, index: u64) -> u64 {
        self.layout.directions[direction].ring + 64 * index
    }

    /// The next position to be claimed in a direction, unless another sender claims it first.
    pub fn next(&self, direction: usize) -> u64 {
        let slots: Vec<Slot> = (0..self.layout.geometry.slots().into())
            .map(|index| {
                let slot = Slot::new(Lap::new(0));
                slot.stamp.store(self.read(self.slot(direction, index)), Ordering::Relaxed);
                slot
            })
            .collect();
        Producer::scan_for_tail(&slots).expect("a healthy ring")
    }

    /// The packet published last, even if it has been received since.
    pub fn newest(&self, direction: usize) -> Packet {
        let slots = u64::from(self.layout.geometry.slots());
        let at = self.slot(direction, (self.next(direction) - 1) % slots);
        let mut bytes = [0; 64];
        self.file.read_exact_at(&mut bytes, at).expect("the slot lies in the region");
        bytes[1..8].fill(0);
        Packet::from_bytes(&bytes).expect("nothing is beside the opcode")
    }

    /// Publishes any packet at the next position. Wakes no receiver.
    pub fn push(&self, direction: usize, packet: &Packet) {
        let position = self.next(direction);
        let slots = u64::from(self.layout.geometry.slots());
        let at = self.slot(direction, position % slots);
        let lap = Lap::new(position / slots);
        assert_eq!(self.read(at), Stamp::free(lap).word(), "the ring is full");
        self.file.write_all_at(&packet.to_bytes()[8..], at + 8).expect("the slot lies in the region");
        fence(Ordering::SeqCst);
        self.write(at, Stamp::published(lap, packet.op).word());
    }
}

/// Memory as a hostile listener may offer it.
///
/// # Errors
/// The kernel's; an unknown `kind`.
pub fn memory(kind: &str) -> io::Result<OwnedFd> {
    if kind == "file" {
        return Ok(File::open("/dev/null")?.into());
    }
    // Starts from a valid region that only the Primary has joined.
    let options = Options::new().slots(8).buffers(8).buffer_size(64).protected(kind == "protected");
    let (primary, _secondary) = StandardLink::pair_with(options).map_err(io::Error::from)?;
    let mut bytes = Vec::new();
    File::from(primary.memory().try_clone_to_owned()?).read_to_end(&mut bytes)?;
    let (len, page) = (bytes.len() as u64, mem::page_size() as u64);
    let len = match kind {
        "over" => 2 << 20,
        "short" => page,
        "tiny" => 512,
        _ => len,
    };
    bytes.resize(len as usize, 0);
    let memory = mem::create("hqq:hostile", len)?;
    let file = File::from(memory.try_clone()?);
    file.write_all_at(&bytes, 0)?;
    let patch = |offset, word: u64| file.write_all_at(&word.to_le_bytes(), offset);
    if len > 0x240 {
        patch(SEAT_1, VACANT)?;
    }
    match kind {
        "good" | "protected" | "unsealed" | "over" | "short" | "tiny" => {}
        "magic" => patch(0x00, 0x1234)?,
        "format" => patch(0x08, 2)?,
        "page" => patch(0x10, 16 * page)?,
        "length" => patch(0x18, len + page)?,
        "slots" => patch(0x20, 7)?,
        "buffers" => patch(0x28, 1 << 30)?,
        "size" => patch(0x30, 60)?,
        // Consistent in itself, but not with the memory.
        "huge" => {
            let geometry = Geometry::new(MAX_SLOTS, 8, 64).map_err(io::Error::from)?;
            patch(0x20, MAX_SLOTS.into())?;
            patch(0x18, Layout::new(geometry, page).map_err(io::Error::from)?.len)?;
        }
        "stride" => patch(0x38, 72)?,
        "modes" => patch(0x40, 1 << 63 | 1 << 40)?,
        "unready" => patch(0x58, 0)?,
        // Seats 1 to 7, all joined by Secondaries.
        "seats" => (0..7).try_for_each(|seat| patch(SEAT_1 + 64 * seat, JOINED))?,
        "seat" => patch(SEAT_1, 0)?,
        // The seat of the Primary is vacant, too.
        "deserted" => patch(SEAT_0, VACANT)?,
        "stamp" => patch(page, 0)?,
        _ => return Err(io::Error::other(format!("{kind}: no such memory"))),
    }
    if kind != "unsealed" {
        mem::seal(memory.as_fd())?;
    }
    Ok(memory)
}

/// The payload of one direction of a region of 8 buffers of 64 bytes, as a hostile end may bring it.
///
/// # Errors
/// As [`memory`].
pub fn payload(kind: &str) -> io::Result<OwnedFd> {
    let page = mem::page_size() as u64;
    let len = match kind {
        "good" | "unsealed" => page,
        "long" => 2 * page,
        "file" => return memory("file"),
        _ => return Err(io::Error::other(format!("{kind}: no such payload"))),
    };
    let memory = mem::create("hostile", len)?;
    if kind != "unsealed" {
        mem::seal_contents(memory.as_fd())?;
    }
    Ok(memory)
}

/// Receives the next message on a socket: its bytes and its descriptors.
///
/// # Errors
/// Those of the kernel, and a timeout.
pub fn recv(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; 128];
    loop {
        if let Some(received) = sock::recv(socket, &mut bytes)? {
            bytes.truncate(received.len);
            return Ok((bytes, received.fds));
        }
        if !poll::many(&[socket], Some(SOON))?[0] {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// A client that did the handshake by hand and is hostile from then on.
#[derive(Debug)]
pub struct Stranger {
    /// The doorbell.
    pub socket: OwnedFd,
    /// The region's memory.
    pub memory: File,
}

impl Stranger {
    /// Connects to a listener of this user at `name`, and joins seat 1 of the region.
    ///
    /// # Errors
    /// Those of the kernel, and if the listener deviates from the handshake.
    pub fn connect(name: &str) -> io::Result<Self> {
        let address = sock::Address::Abstract(format!("hqq.{}.{name}", hqq_sys::peer::uid()).into_bytes());
        let socket = sock::connect(&address)?;
        let say = |op, first: &[u64]| {
            let mut packet = Packet::new(op, []);
            packet.operands[..first.len()].copy_from_slice(first);
            sock::send(socket.as_fd(), &packet.to_bytes(), &[])
        };
        recv(socket.as_fd())?;
        let [magic, format, version] = GREETING;
        say(shake::JOIN, &[magic, format, version, 1 << 30])?;
        let (_, fds) = recv(socket.as_fd())?;
        let memory = File::from(fds.into_iter().next().ok_or(io::ErrorKind::InvalidData)?);
        memory.write_all_at(&JOINED.to_le_bytes(), SEAT_1)?;
        say(shake::READY, &[1, 1])?;
        recv(socket.as_fd())?;
        Ok(Self { socket, memory })
    }

    /// Announces a sleeper for every event on this side, so that the other end writes to the doorbell after each operation.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sleep_for_everything(&self) -> io::Result<()> {
        self.memory.write_all_at(&(1u64 << 63 | 0xFFFF).to_le_bytes(), 0x140)
    }
}
