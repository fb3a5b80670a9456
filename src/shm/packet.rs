//! Packets, and the check that turns them into operations.
//!
//! A [`Packet`] is a private copy of a slot: an opcode and seven operands with any values. [`Operation::check`]
//! compares it with the [`Bounds`] of the link. Only the resulting [`Operation`] may be acted upon.

use crate::error::ErrorCode;
use crate::shm::layout::Geometry;

/// Opcodes (specification, "Operation Codes"). Those from 0x10 to 0x7F and 0xFE are HQQ's own.
pub mod op {
    /// Reports that a packet was refused.
    pub const ERROR: u8 = 0x00;
    /// Creates a connection.
    pub const CONN_CREATE: u8 = 0x01;
    /// Accepts a connection.
    pub const CONN_ACCEPT: u8 = 0x02;
    /// Closes a connection, or one half of it.
    pub const CONN_CLOSE: u8 = 0x03;
    /// Carries a chunk of data on a connection.
    pub const CONN_COPY: u8 = 0x04;
    /// Proposes a protocol version, features and capabilities.
    pub const PROTO_NEGOTIATE: u8 = 0x05;
    /// Answers such a proposal.
    pub const PROTO_ACK: u8 = 0x06;
    /// Carries a message of up to 48 bytes in the slot itself.
    pub const INLINE_COPY: u8 = 0x10;
    /// Handshake, on the socket: the Primary's first message.
    pub const HELLO: u8 = 0x20;
    /// Handshake, on the socket: the Secondary's answer.
    pub const JOIN: u8 = 0x21;
    /// Handshake, on the socket: the Primary sends its region, with the descriptor.
    pub const OFFER: u8 = 0x22;
    /// Handshake, on the socket: the Secondary has attached.
    pub const READY: u8 = 0x23;
    /// Handshake, on the socket: the Primary confirms that the link is established.
    pub const WELCOME: u8 = 0x24;
    /// Negotiation: parameters of the sender's features.
    pub const TERMS: u8 = 0x30;
    /// Negotiation: the sender applies the agreed features from the next packet on.
    pub const BEGIN: u8 = 0x31;
    /// Negotiation: one of the two messages of the key exchange.
    pub const KEY: u8 = 0x32;
    /// Flow control: how many chunks may be sent on a connection.
    pub const CREDIT: u8 = 0x33;
    /// QoS: class and weight of a connection.
    pub const SHARE: u8 = 0x34;
    /// Reliable delivery: the receiver reports which messages it has processed.
    pub const RESUME: u8 = 0x35;
    /// Reliable delivery: the sequence number with which the sender continues.
    pub const START: u8 = 0x36;
    /// Reliable delivery: the receiver acknowledges processed messages.
    pub const PROCESSED: u8 = 0x37;
    /// Carries its time of sending, to measure latency.
    pub const PROBE: u8 = 0x38;
    /// Marks a slot that was claimed and will never be filled. Receivers skip it.
    pub const TOMBSTONE: u8 = 0xFE;
    /// Carries a message of the link itself in the pool, or an empty one.
    pub const STANDARD_LINK_COPY: u8 = 0xFF;
}

/// Maximum size of a message that travels in the slot itself, bytes.
pub const INLINE_MAX: usize = 48;
/// Value in place of a buffer's index or offset where the message is empty.
pub const NO_BUFFER: u64 = u64::MAX;

/// A private copy of a slot's opcode and operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The opcode.
    pub op: u8,
    /// Operands 0 to 6.
    pub operands: [u64; 7],
}

impl Packet {
    /// Makes a packet whose operands begin with `first`; the others are zero.
    pub const fn new<const N: usize>(op: u8, first: [u64; N]) -> Self {
        let mut operands = [0; 7];
        let mut i = 0;
        while i < N {
            operands[i] = first[i];
            i += 1;
        }
        Self { op, operands }
    }

    /// Makes an OpError packet (ruling 11). `context` is the connection or copy that it concerns, `failed` the opcode
    /// that was refused.
    pub const fn error(context: u64, code: ErrorCode, failed: u8) -> Self {
        Self::new(op::ERROR, [context, code.number(), failed as u64])
    }

    /// Whether `op` is a message of the link itself, not of a connection.
    #[inline(always)]
    pub const fn is_plain(op: u8) -> bool {
        op == op::STANDARD_LINK_COPY || op == op::INLINE_COPY
    }

    /// Encodes the packet for transport outside the ring: opcode, seven zero bytes, little-endian operands.
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0] = self.op;
        for (place, operand) in bytes[8..].chunks_exact_mut(8).zip(self.operands) {
            place.copy_from_slice(&operand.to_le_bytes());
        }
        bytes
    }

    /// Decodes a packet. `None` unless the seven bytes after the opcode are zero.
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

    /// Name of opcode `op` in the specification, for traces.
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

/// Second operand of OpConnClose: the halves of a connection that its sender closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseHow {
    /// Both halves, as in the specification.
    Both = 0,
    /// The sender writes no more.
    Write = 1,
    /// The sender reads no more.
    Read = 2,
}

impl CloseHow {
    /// Decodes the operand. `None` for a number over 2.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Both),
            1 => Some(Self::Write),
            2 => Some(Self::Read),
            _ => None,
        }
    }

    /// The operand.
    pub const fn number(self) -> u64 {
        self as u64
    }
}

/// Consecutive buffers that carry one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the first buffer.
    pub first: u32,
    /// Number of buffers, at least 1.
    pub count: u32,
}

impl Run {
    /// Indices of the buffers.
    pub fn indices(self) -> core::ops::Range<usize> {
        self.first as usize..self.first as usize + self.count as usize
    }
}

/// Operands of an OpConnCopy, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnCopy {
    /// Id of the connection.
    pub conn: u64,
    /// Id of the copy (message) that this chunk is part of.
    pub copy_id: u64,
    /// Size of the whole copy, bytes.
    pub copy_size: u64,
    /// Size of this chunk, bytes.
    pub transfer_size: u64,
    /// Offset of the chunk in the copy, bytes.
    pub transfer_offset: u64,
    /// Buffers that contain the chunk. `None` for an empty message.
    pub run: Option<Run>,
}

/// A packet whose opcode and operands have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The peer refused a packet.
    Error {
        /// Id of the connection or copy that it concerns.
        context: u64,
        /// Number of the error code, known or not.
        code: u64,
        /// The opcode that was refused.
        failed: u8,
    },
    /// The peer creates a connection.
    ConnCreate {
        /// Id of the connection.
        conn: u64,
    },
    /// The peer accepts a connection that this end created.
    ConnAccept {
        /// Id of the connection.
        conn: u64,
    },
    /// The peer closes a connection or one half of it.
    ConnClose {
        /// Id of the connection.
        conn: u64,
        /// The halves that the peer closes.
        how: CloseHow,
    },
    /// A chunk of data on a connection.
    ConnCopy(ConnCopy),
    /// The peer proposes a protocol version, features and capabilities.
    Negotiate {
        /// `major << 8 | minor`.
        version: u64,
        /// Bits of the features that the peer wants.
        features: u64,
        /// Bits of the capabilities that the peer has.
        capabilities: u64,
    },
    /// The peer answers a proposal.
    Ack {
        /// `major << 8 | minor`.
        version: u64,
        /// Bits of the agreed features.
        features: u64,
        /// Bits of the agreed capabilities.
        capabilities: u64,
    },
    /// Parameters of the peer's features.
    Terms {
        /// The operands, not checked.
        operands: [u64; 7],
    },
    /// A message of the key exchange.
    Key {
        /// The 48 bytes of the message.
        words: [u64; 6],
    },
    /// The peer applies the agreed features from the next packet on.
    Begin {
        /// Bits of the agreed features.
        features: u64,
        /// Bits of the agreed capabilities.
        capabilities: u64,
    },
    /// The peer grants credit on a connection.
    Credit {
        /// Id of the connection.
        conn: u64,
        /// Number of chunks that this end may send, counted from the connection's creation.
        total: u64,
    },
    /// The peer states the QoS class and weight of a connection, so that this end may treat it alike.
    Share {
        /// Id of the connection.
        conn: u64,
        /// Number of the class.
        class: u64,
        /// Weight within the class.
        weight: u64,
    },
    /// A packet of reliable delivery: Resume, Start or Processed.
    Delivery {
        /// The opcode.
        op: u8,
        /// The operands, not checked.
        operands: [u64; 7],
    },
    /// A latency probe.
    Probe {
        /// Time of sending: nanoseconds of the monotonic clock.
        at: u64,
    },
    /// A message in the slot itself.
    Inline {
        /// Id of the copy, unique for its sender.
        copy_id: u64,
        /// Size of the message, bytes.
        len: u8,
        /// The message, padded with zeros if the peer keeps the protocol.
        words: [u64; 6],
    },
    /// A message in the pool, or an empty one.
    Copy {
        /// Id of the copy, unique for its sender.
        copy_id: u64,
        /// Size of the message, bytes.
        len: u64,
        /// Buffers that contain the message. `None` for an empty one.
        run: Option<Run>,
    },
}

/// Why a packet was refused, as reported to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Error code.
    pub code: ErrorCode,
    /// Id of the connection or copy that it concerns.
    pub context: u64,
    /// Opcode of the packet.
    pub op: u8,
    /// Buffers of the packet, if it names them correctly. The receiver frees them although it refuses the packet.
    pub run: Option<Run>,
}

/// Limits that the packets of one direction are checked against. Kept in private memory, so that a peer cannot change
/// them.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Number of slots and buffers, and the buffer size.
    pub geometry: Geometry,
    /// Maximum size of a message that this end accepts, bytes.
    pub max_message: u64,
}

impl Operation {
    /// Checks a packet against the limits of the link.
    ///
    /// # Errors
    /// [`Fault`] with the code for the peer: `InvalidOp` for an unknown opcode, `InvalidSize` for sizes that
    /// contradict each other, `MemoryAlign` for an offset at which no buffer starts, `BufferOverflow` for buffers
    /// outside the pool or a message longer than its buffers, `MemorySmall` for a message over this end's limit.
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
    /// Checks an OpStandardLinkCopy. Returns the buffers of the message, or `None` for an empty one.
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

    /// Checks that the run of `count` buffers from `first` lies in the pool and can contain `len` bytes.
    #[inline]
    fn run(&self, first: u64, count: u64, len: u64) -> Result<Run, ErrorCode> {
        let buffers = u64::from(self.geometry.buffers());
        if first >= buffers || count > buffers - first {
            return Err(ErrorCode::BufferOverflow);
        }
        // The check above limits both to 2^20.
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
