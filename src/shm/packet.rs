//! Layer 0: packets and the operations they stand for.
//!
//! A [`Packet`] is the private copy of a slot: opcode and seven operands, whatever they hold. An [`Operation`]
//! is one that has been checked against the [`Bounds`] of the link; nothing else may be acted upon.

use crate::error::ErrorCode;
use crate::shm::layout::Geometry;

/// Numbers of the operations (specification, "Operation Codes"; from 0x10 to 0x7F and 0xFE our own).
pub mod op {
    /// Report of an error.
    pub const ERROR: u8 = 0x00;
    /// Creates a connection.
    pub const CONN_CREATE: u8 = 0x01;
    /// Accepts a connection.
    pub const CONN_ACCEPT: u8 = 0x02;
    /// Closes a connection, or one half of it.
    pub const CONN_CLOSE: u8 = 0x03;
    /// Data on a connection.
    pub const CONN_COPY: u8 = 0x04;
    /// Asks for protocol features.
    pub const PROTO_NEGOTIATE: u8 = 0x05;
    /// Answers such a request.
    pub const PROTO_ACK: u8 = 0x06;
    /// A message of up to 48 bytes in the slot itself (ours).
    pub const INLINE_COPY: u8 = 0x10;
    /// First message of a handshake: the Primary greets (ours; on the socket, never in a ring).
    pub const HELLO: u8 = 0x20;
    /// The Secondary's answer (ours, on the socket).
    pub const JOIN: u8 = 0x21;
    /// The Primary's region, with its descriptor (ours, on the socket).
    pub const OFFER: u8 = 0x22;
    /// The Secondary has attached (ours, on the socket).
    pub const READY: u8 = 0x23;
    /// Handshake, the Primary's last word: the link is made.
    pub const WELCOME: u8 = 0x24;
    /// What the features of its sender need to know (ours).
    pub const TERMS: u8 = 0x30;
    /// From here on its sender follows what was agreed (ours).
    pub const BEGIN: u8 = 0x31;
    /// One of the two messages that keys are made by (ours).
    pub const KEY: u8 = 0x32;
    /// How much may be sent on a connection (ours).
    pub const CREDIT: u8 = 0x33;
    /// How urgent a connection is, and its weight (ours).
    pub const SHARE: u8 = 0x34;
    /// What a receiver of reliable delivery knows to be processed (ours).
    pub const RESUME: u8 = 0x35;
    /// Where a sender of reliable delivery goes on (ours).
    pub const START: u8 = 0x36;
    /// Which messages of reliable delivery are processed (ours).
    pub const PROCESSED: u8 = 0x37;
    /// A moment, to be compared with that of its arrival (ours).
    pub const PROBE: u8 = 0x38;
    /// A slot that was claimed and will never be filled (ours). Receivers skip it.
    pub const TOMBSTONE: u8 = 0xFE;
    /// A message in the pool.
    pub const STANDARD_LINK_COPY: u8 = 0xFF;
}

/// The longest message that rides in the slot itself, bytes.
pub const INLINE_MAX: usize = 48;
/// In place of a buffer index or offset: there is none, the message is empty.
pub const NO_BUFFER: u64 = u64::MAX;

/// A private copy of a slot's opcode and operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The opcode.
    pub op: u8,
    /// The operands 0 to 6.
    pub operands: [u64; 7],
}

impl Packet {
    /// A packet with the given first operands, the others zero.
    pub const fn new<const N: usize>(op: u8, first: [u64; N]) -> Self {
        let mut operands = [0; 7];
        let mut i = 0;
        while i < N {
            operands[i] = first[i];
            i += 1;
        }
        Self { op, operands }
    }

    /// An OpError packet: what it is about, why, and which opcode was refused (ruling 11).
    pub const fn error(context: u64, code: ErrorCode, failed: u8) -> Self {
        Self::new(op::ERROR, [context, code.number(), failed as u64])
    }

    /// Whether the packet is a message on the link itself, not on a connection.
    #[inline(always)]
    pub const fn is_plain(op: u8) -> bool {
        op == op::STANDARD_LINK_COPY || op == op::INLINE_COPY
    }

    /// The 64 bytes of a packet outside the ring: opcode, seven zero bytes, operands little-endian.
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0] = self.op;
        for (place, operand) in bytes[8..].chunks_exact_mut(8).zip(self.operands) {
            place.copy_from_slice(&operand.to_le_bytes());
        }
        bytes
    }

    /// The packet in 64 bytes, `None` if the seven bytes beside the opcode are not zero.
    pub fn from_bytes(bytes: &[u8; 64]) -> Option<Self> {
        if bytes[1..8] != [0; 7] {
            return None;
        }
        let mut operands = [0; 7];
        for (operand, place) in operands.iter_mut().zip(bytes[8..].chunks_exact(8)) {
            let mut word = [0; 8];
            word.copy_from_slice(place);
            *operand = u64::from_le_bytes(word);
        }
        Some(Self { op: bytes[0], operands })
    }

    /// The operation's name in the specification, for traces.
    pub const fn name(op: u8) -> &'static str {
        match op {
            op::ERROR => "OpError",
            op::CONN_CREATE => "OpConnCreate",
            op::CONN_ACCEPT => "OpConnAccept",
            op::CONN_CLOSE => "OpConnClose",
            op::CONN_COPY => "OpConnCopy",
            op::PROTO_NEGOTIATE => "OpProtoNegotiate",
            op::PROTO_ACK => "OpProtoAck",
            op::INLINE_COPY => "InlineCopy",
            op::HELLO => "Hello",
            op::JOIN => "Join",
            op::OFFER => "Offer",
            op::READY => "Ready",
            op::WELCOME => "Welcome",
            op::TERMS => "Terms",
            op::BEGIN => "Begin",
            op::KEY => "Key",
            op::CREDIT => "Credit",
            op::SHARE => "Share",
            op::RESUME => "Resume",
            op::START => "Start",
            op::PROCESSED => "Processed",
            op::PROBE => "Probe",
            op::TOMBSTONE => "Tombstone",
            op::STANDARD_LINK_COPY => "OpStandardLinkCopy",
            _ => "unknown",
        }
    }
}

/// Which halves of a connection an OpConnClose closes, seen from its sender: its second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseHow {
    /// Both: the specification's form.
    Both = 0,
    /// It writes no more.
    Write = 1,
    /// It reads no more.
    Read = 2,
}

impl CloseHow {
    /// The form with this number on the wire.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Both),
            1 => Some(Self::Write),
            2 => Some(Self::Read),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn number(self) -> u64 {
        self as u64
    }
}

/// Consecutive buffers that travel as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the first.
    pub first: u32,
    /// How many: at least 1.
    pub count: u32,
}

impl Run {
    /// The indices of the run.
    pub fn indices(self) -> core::ops::Range<usize> {
        self.first as usize..self.first as usize + self.count as usize
    }
}

/// The operands of an OpConnCopy, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnCopy {
    /// The connection.
    pub conn: u64,
    /// The copy that this chunk belongs to.
    pub copy_id: u64,
    /// Bytes of the whole copy.
    pub copy_size: u64,
    /// Bytes of this chunk.
    pub transfer_size: u64,
    /// Where the chunk lies in the copy.
    pub transfer_offset: u64,
    /// The buffers with the chunk; `None` for an empty message.
    pub run: Option<Run>,
}

/// A packet whose operands have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The peer refused something.
    Error {
        /// Connection, or copy.
        context: u64,
        /// The code's number, known to us or not.
        code: u64,
        /// The opcode that was refused.
        failed: u8,
    },
    /// The peer creates a connection.
    ConnCreate {
        /// Its id.
        conn: u64,
    },
    /// The peer accepts ours.
    ConnAccept {
        /// Its id.
        conn: u64,
    },
    /// The peer closes a connection or a half.
    ConnClose {
        /// Its id.
        conn: u64,
        /// Which halves.
        how: CloseHow,
    },
    /// Data on a connection.
    ConnCopy(ConnCopy),
    /// The peer proposes a protocol version and features.
    Negotiate {
        /// (major << 8) | minor.
        version: u64,
        /// Features it wants.
        features: u64,
        /// Capabilities it has.
        capabilities: u64,
    },
    /// The peer settles them.
    Ack {
        /// (major << 8) | minor.
        version: u64,
        /// Features in force.
        features: u64,
        /// Capabilities in force.
        capabilities: u64,
    },
    /// What the peer's features need to know.
    Terms {
        /// As they came.
        operands: [u64; 7],
    },
    /// One of the messages that keys are made by.
    Key {
        /// Its bytes.
        words: [u64; 6],
    },
    /// The peer follows what was agreed from here on.
    Begin {
        /// Features in force.
        features: u64,
        /// Capabilities in force.
        capabilities: u64,
    },
    /// How much this end may send on a connection.
    Credit {
        /// Its id.
        conn: u64,
        /// Chunks since the beginning.
        total: u64,
    },
    /// How the peer would like a connection to be treated.
    Share {
        /// Its id.
        conn: u64,
        /// How urgent it is.
        class: u64,
        /// Its weight in the class.
        weight: u64,
    },
    /// One of the packets of reliable delivery: Resume, Start or Processed.
    Delivery {
        /// Which.
        op: u8,
        /// As they came.
        operands: [u64; 7],
    },
    /// When the peer sent this.
    Probe {
        /// Nanoseconds of the monotonic clock.
        at: u64,
    },
    /// A message in the slot.
    Inline {
        /// Unique per sender.
        copy_id: u64,
        /// Its bytes.
        len: u8,
        /// Its bytes, then zeros.
        words: [u64; 6],
    },
    /// A message in the pool, or an empty one.
    Copy {
        /// Unique per sender.
        copy_id: u64,
        /// Bytes of the message.
        len: u64,
        /// The buffers with it; `None` for an empty message.
        run: Option<Run>,
    },
}

/// A packet that must not be acted upon, and what the peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub code: ErrorCode,
    /// The connection or copy that it is about.
    pub context: u64,
    /// The packet's opcode.
    pub op: u8,
    /// Buffers that the packet names in order, though it is refused: their receiver gives them home.
    pub run: Option<Run>,
}

/// What the operands of packets in one direction are checked against. Private memory, never the superblock.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The link's geometry.
    pub geometry: Geometry,
    /// The longest message that this end accepts, bytes.
    pub max_message: u64,
}

impl Operation {
    /// Checks a packet.
    ///
    /// # Errors
    /// [`Fault`] with the code for the peer: `InvalidOp` for an unknown opcode, `InvalidSize` for sizes that
    /// contradict each other, `MemoryAlign` for an offset that is no buffer's start, `BufferOverflow` for
    /// what lies outside the pool, `MemorySmall` for a message over this end's limit.
    #[inline]
    pub fn check(packet: &Packet, bounds: &Bounds) -> Result<Self, Fault> {
        let [a, b, c, ..] = packet.operands;
        let fault = |code| Fault { code, context: a, op: packet.op, run: None };
        match packet.op {
            op::INLINE_COPY => {
                let len = (a >> 56) as u8;
                let copy_id = a << 8 >> 8;
                if len as usize > INLINE_MAX {
                    return Err(Fault { context: copy_id, ..fault(ErrorCode::InvalidSize) });
                }
                if u64::from(len) > bounds.max_message {
                    return Err(Fault { context: copy_id, ..fault(ErrorCode::MemorySmall) });
                }
                let [_, words @ ..] = packet.operands;
                Ok(Self::Inline { copy_id, len, words })
            }
            op::STANDARD_LINK_COPY => {
                let run = bounds.check_copy(packet)?;
                Ok(Self::Copy { copy_id: a, len: c, run })
            }
            op::CONN_COPY => Self::check_conn_copy(packet, bounds),
            op::CONN_CREATE => Ok(Self::ConnCreate { conn: a }),
            op::CONN_ACCEPT => Ok(Self::ConnAccept { conn: a }),
            op::CONN_CLOSE => match CloseHow::from_number(b) {
                Some(how) => Ok(Self::ConnClose { conn: a, how }),
                None => Err(fault(ErrorCode::InvalidOp)),
            },
            op::ERROR => Ok(Self::Error { context: a, code: b, failed: c as u8 }),
            op::PROTO_NEGOTIATE => Ok(Self::Negotiate { version: a, features: b, capabilities: c }),
            op::PROTO_ACK => Ok(Self::Ack { version: a, features: b, capabilities: c }),
            op::TERMS => Ok(Self::Terms { operands: packet.operands }),
            op::KEY => {
                let [_, words @ ..] = packet.operands;
                Ok(Self::Key { words })
            }
            op::BEGIN => Ok(Self::Begin { features: a, capabilities: b }),
            op::CREDIT => Ok(Self::Credit { conn: a, total: b }),
            op::SHARE => Ok(Self::Share { conn: a, class: b, weight: c }),
            op::RESUME | op::START | op::PROCESSED => {
                Ok(Self::Delivery { op: packet.op, operands: packet.operands })
            }
            op::PROBE => Ok(Self::Probe { at: a }),
            _ => Err(fault(ErrorCode::InvalidOp)),
        }
    }

    fn check_conn_copy(packet: &Packet, bounds: &Bounds) -> Result<Self, Fault> {
        let [conn, copy_id, copy_size, transfer_size, transfer_offset, size, offset] = packet.operands;
        let fault = |code, run| Fault { code, context: conn, op: packet.op, run };
        let run = match (size, offset) {
            (0, NO_BUFFER) => None,
            (0, _) | (_, NO_BUFFER) => return Err(fault(ErrorCode::InvalidSize, None)),
            _ => {
                let stride = bounds.geometry.stride();
                if offset % stride != 0 {
                    return Err(fault(ErrorCode::MemoryAlign, None));
                }
                let count = bounds.geometry.run_for(size);
                Some(bounds.run(offset / stride, count, size).map_err(|code| fault(code, None))?)
            }
        };
        if transfer_offset.checked_add(transfer_size).is_none_or(|end| end > copy_size)
            || (transfer_size == 0) != (copy_size == 0)
            || (transfer_size == 0) != run.is_none()
            || transfer_size > size
        {
            return Err(fault(ErrorCode::InvalidSize, run));
        }
        if copy_size > bounds.max_message {
            return Err(fault(ErrorCode::MemorySmall, run));
        }
        let copy = ConnCopy { conn, copy_id, copy_size, transfer_size, transfer_offset, run };
        Ok(Self::ConnCopy(copy))
    }
}

impl Bounds {
    /// Checks an OpStandardLinkCopy: the buffers with its message, `None` for an empty one.
    #[inline(always)]
    pub(crate) fn check_copy(&self, packet: &Packet) -> Result<Option<Run>, Fault> {
        let [context, first, len, count, ..] = packet.operands;
        let fault = |code| Fault { code, context, op: packet.op, run: None };
        let run = match (first, len) {
            (NO_BUFFER, 0) => return Ok(None),
            (NO_BUFFER, _) | (_, 0) => return Err(fault(ErrorCode::InvalidSize)),
            _ => self.run(first, count.max(1), len).map_err(fault)?,
        };
        if len > self.max_message {
            return Err(Fault { run: Some(run), ..fault(ErrorCode::MemorySmall) });
        }
        Ok(Some(run))
    }

    /// The run of `count` buffers from `first`, if it lies in the pool and holds `len` bytes.
    #[inline]
    fn run(&self, first: u64, count: u64, len: u64) -> Result<Run, ErrorCode> {
        let buffers = u64::from(self.geometry.buffers());
        if first >= buffers || count > buffers - first {
            return Err(ErrorCode::BufferOverflow);
        }
        // Both are below 2^21 by the line above.
        let run = Run { first: first as u32, count: count as u32 };
        if len > self.geometry.run_bytes(run.count) {
            return Err(ErrorCode::BufferOverflow);
        }
        Ok(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        Bounds { geometry: Geometry::new(8, 8, 64).unwrap(), max_message: 400 }
    }

    fn code(packet: Packet) -> ErrorCode {
        Operation::check(&packet, &bounds()).expect_err("refused").code
    }

    #[test]
    fn good_packets_pass() {
        for (packet, want) in [
            (
                Packet::new(op::STANDARD_LINK_COPY, [7, 2, 64]),
                Operation::Copy { copy_id: 7, len: 64, run: Some(Run { first: 2, count: 1 }) },
            ),
            (
                Packet::new(op::STANDARD_LINK_COPY, [7, 6, 100, 2]),
                Operation::Copy { copy_id: 7, len: 100, run: Some(Run { first: 6, count: 2 }) },
            ),
            (
                Packet::new(op::STANDARD_LINK_COPY, [7, NO_BUFFER, 0]),
                Operation::Copy { copy_id: 7, len: 0, run: None },
            ),
            (
                Packet::new(op::INLINE_COPY, [48 << 56 | 9, 1, 2, 3, 4, 5, 6]),
                Operation::Inline { copy_id: 9, len: 48, words: [1, 2, 3, 4, 5, 6] },
            ),
            (Packet::new(op::CONN_CLOSE, [3, 1]), Operation::ConnClose { conn: 3, how: CloseHow::Write }),
        ] {
            assert_eq!(Operation::check(&packet, &bounds()), Ok(want));
            assert_eq!(Packet::from_bytes(&packet.to_bytes()), Some(packet));
        }
        let copy = Packet::new(op::CONN_COPY, [1, 5, 100, 36, 64, 36, 128]);
        let Ok(Operation::ConnCopy(copy)) = Operation::check(&copy, &bounds()) else { panic!() };
        assert_eq!(copy.run, Some(Run { first: 2, count: 1 }));
    }

    #[test]
    fn each_bad_operand_has_its_code() {
        use ErrorCode::*;
        for (packet, want) in [
            (Packet::new(0x7E, [0]), InvalidOp),
            (Packet::new(op::CONN_CLOSE, [1, 3]), InvalidOp),
            (Packet::new(op::INLINE_COPY, [49 << 56]), InvalidSize),
            (Packet::new(op::STANDARD_LINK_COPY, [1, NO_BUFFER, 1]), InvalidSize),
            (Packet::new(op::STANDARD_LINK_COPY, [1, 0, 0]), InvalidSize),
            (Packet::new(op::STANDARD_LINK_COPY, [1, 8, 1]), BufferOverflow),
            (Packet::new(op::STANDARD_LINK_COPY, [1, 9, 1]), BufferOverflow),
            (Packet::new(op::STANDARD_LINK_COPY, [1, 0, 65]), BufferOverflow),
            (Packet::new(op::STANDARD_LINK_COPY, [1, 7, 65, 2]), BufferOverflow),
            (Packet::new(op::STANDARD_LINK_COPY, [1, 1, 1, u64::MAX]), BufferOverflow),
            (Packet::new(op::STANDARD_LINK_COPY, [1, 0, 401, 8]), MemorySmall),
            (Packet::new(op::CONN_COPY, [1, 1, 10, 11, 0, 11, 0]), InvalidSize),
            (Packet::new(op::CONN_COPY, [1, 1, 10, 5, u64::MAX, 5, 0]), InvalidSize),
            (Packet::new(op::CONN_COPY, [1, 1, 10, 0, 0, 0, NO_BUFFER]), InvalidSize),
            (Packet::new(op::CONN_COPY, [1, 1, 10, 10, 0, 9, 0]), InvalidSize),
            (Packet::new(op::CONN_COPY, [1, 1, 0, 0, 0, 64, 0]), InvalidSize),
            (Packet::new(op::CONN_COPY, [1, 1, 10, 10, 0, 10, 8]), MemoryAlign),
            (Packet::new(op::CONN_COPY, [1, 1, 10, 10, 0, 10, 512]), BufferOverflow),
            (Packet::new(op::CONN_COPY, [1, 1, 10, 10, 0, u64::MAX, 64]), BufferOverflow),
            (Packet::new(op::CONN_COPY, [1, 1, 401, 10, 0, 10, 64]), MemorySmall),
        ] {
            assert_eq!(code(packet), want, "{packet:?}");
        }
    }

    #[test]
    fn bytes_beside_the_opcode_must_be_zero() {
        let mut bytes = Packet::new(op::CONN_CREATE, [1]).to_bytes();
        bytes[3] = 1;
        assert_eq!(Packet::from_bytes(&bytes), None);
    }
}
