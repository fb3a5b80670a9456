//! HQQ lets two processes on one machine exchange messages through shared memory: without copying them, and without
//! a system call while both are awake. It is used like sockets:
//!
//! ```
//! use std::thread;
//! use hqq::{Listener, StandardLink};
//!
//! # let name = format!("doc-head-{}", std::process::id());
//! # let other = name.clone();
//! let listener = Listener::bind(&name)?;
//! # let peer =
//! thread::spawn(move || { // usually another process
//! #   let name = other;
//!     let link = StandardLink::connect(&name)?;
//!     let mut frame = link.loan(640 * 480)?; // shared memory, lent
//!     frame.fill(7);
//!     frame.send() // nothing is copied
//! });
//! let link = listener.accept()?;
//! let frame = link.recv()?; // a &[u8], where the peer wrote it
//! assert_eq!((frame.len(), frame[0]), (640 * 480, 7));
//! # peer.join().unwrap()?;
//! # Ok::<(), hqq::Error>(())
//! ```
//!
//! It is zero-copy: a message lies in shared memory where the sender wrote it until the receiver drops it. Sending and receiving
//! are lock-free between processes: a process that is stopped or dies holds no lock that others need. A
//! full ring is backpressure, and a link has a descriptor for epoll.
//!
//! A peer may die at any instruction. The survivor learns of it by proof from the kernel, not by a timeout: it receives the
//! messages that the peer had committed, then [`Error::PeerDead`]. There is no daemon and no helper thread, and with a bare
//! name no file is left behind.
//!
//! # Which type do I want
//!
//! | situation | type |
//! |---|---|
//! | two processes meet at a name | [`Listener`] accepts, [`StandardLink::connect`] connects; both ends check that the other belongs to the same user |
//! | two threads, or a test | [`StandardLink::pair`] |
//! | a child process inherits its end | [`Offer`] |
//! | messages | [`send`](StandardLink::send) and [`recv`](StandardLink::recv), each with a `try_` and a `_timeout` form; [`send_batch`](StandardLink::send_batch) and [`recv_each`](StandardLink::recv_each) for many. Up to 48 bytes travel in the ring itself |
//! | messages that are written and read in place | [`loan`](StandardLink::loan) and [`Loan::send`]; [`Message`], kept or moved to another thread by [`Message::detach`] |
//! | values instead of bytes | [`loan_as`](StandardLink::loan_as) and [`Message::cast`] |
//! | a stream of bytes | links and connections are [`Read`](std::io::Read) and [`Write`](std::io::Write) |
//! | many logical connections on one link | [`Connection`]: messages of any length, or a stream |
//! | many threads | a link is shared by reference, or [split](StandardLink::split) into two halves. [`RingMode`] says how many threads may send and receive at a time, [`WaitMode`] whether waiting calls may sleep; both are [`Options`] |
//! | peers of other users | [`UntrustedLink`]: messages are copied out before they are looked at |
//! | compression, encryption, reliable delivery, credit, traffic classes, statistics | [`AdvancedLink`], where both ends ask for them with [`advanced::AdvancedOptions`] |
//! | to look at links from outside | [`observe`]; [`Stats`] of one's own link, [`observe::Metrics`], a trace of its packets ([`Options::trace`]) |
//! | the core alone, without std or an allocator, on memory that the caller brings | [`shm`] |
//!
//! # The region
//!
//! ```text
//! +----------------------------------------------------------------------------------+
//! | SUPERBLOCK  what this is, how large, who is attached, who sleeps, counters       |
//! +----------------------------------------------------------------------------------+
//! | CONTROL 0   ring: one 64-byte slot for each message   [stamp|op, 7 operands]...  |  Primary
//! |             pool: one word for each buffer            [who holds it]...          |     |
//! +----------------------------------------------------------------------------------+     |
//! | BUFFERS 0   payload and nothing else                                             |     v
//! +----------------------------------------------------------------------------------+  Secondary
//! | CONTROL 1   as above, the other way                                              |     |
//! +----------------------------------------------------------------------------------+     |
//! | BUFFERS 1                                                                        |     v
//! +----------------------------------------------------------------------------------+  Primary
//! ```
//!
//! Every section begins on a page. Each control word names the process that holds the slot or buffer: a process can be stopped at any
//! instruction, and the survivor can tell from shared memory alone what it was doing, and finish or undo it. A
//! message costs one slot, which is one cache line; its payload lies in the sender's pool until the receiver drops
//! it. `docs/spec.md` of the repository is the format byte by byte.
//!
//! # The rooms
//!
//! Each room of `src/` uses only what stands above it here. [`shm`] is `no_std` and never allocates.
//!
//! | room | what is in it |
//! |---|---|
//! | [`sync`], [`agreement`], [`error`] | atomics; what two ends can agree on; errors |
//! | [`shm`] | the words as stored, rings, pools, sleepers, seats, recovery; one end of a region, which never waits |
//! | [`observe`] | what can be seen of links, from inside and outside |
//! | `options` | what can be chosen |
//! | `demux` | what comes in is demultiplexed: the connection table, negotiation, egress, reliable delivery; without I/O |
//! | `link` | what all links share: sending, receiving, waiting, the layers; and the handles that the caller holds |
//! | `setup` | how links come about: listeners, connecting, handshakes |
//! | [`advanced`] | a link and what was agreed on it |
//! | `io` | the standard library's traits |
//!
//! What two ends can agree on is implemented in the crate `hqq-features`, without I/O: [`features`]. The operating system is
//! called in the crate `hqq-sys`. Raw memory is handled in `shm` only, in four files.
//!
//! # Features
//!
//! - `std` (on): everything but the core. Needs 64-bit Linux, 6.5 or later.
//! - `named` (off): regions on named segments by the `shared_memory` crate, for trusted peers only.
//! - `compress` (off): LZ4 and Zstandard for messages of an [`AdvancedLink`]. Needs a C compiler.
//! - `encrypt` (off): messages that only the two ends of an [`AdvancedLink`] can read.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(all(feature = "std", not(all(target_os = "linux", target_pointer_width = "64"))))]
compile_error!("the links of HQQ need 64-bit Linux; the core builds elsewhere with --no-default-features");

#[cfg(target_endian = "big")]
compile_error!("HQQ's words are little-endian; this target is not");

#[cfg(feature = "std")]
pub mod advanced;
#[cfg(feature = "std")]
pub mod agreement;
#[cfg(feature = "std")]
mod demux;
pub mod error;
#[cfg(feature = "std")]
mod io;
#[cfg(feature = "std")]
mod link;
#[cfg(feature = "std")]
pub mod observe;
#[cfg(feature = "std")]
mod options;
#[cfg(feature = "std")]
mod setup;
pub mod shm;
pub mod sync;

#[cfg(feature = "std")]
pub use advanced::AdvancedLink;
#[cfg(feature = "std")]
pub use demux::WireError;
pub use error::{Error, ErrorCode, Result};
#[cfg(feature = "std")]
pub use hqq_features as features;
#[cfg(feature = "std")]
pub use link::connection::Connection;
#[cfg(feature = "std")]
pub use link::core::Peer;
#[cfg(feature = "std")]
pub use link::message::{Loan, Message, OwnedMessage, RecvIntoError, TrySendError, TypedLoan};
#[cfg(feature = "std")]
pub use link::standard::{Receiver, Sender, ShutdownHandle, StandardLink};
#[cfg(feature = "std")]
pub use link::untrusted::{UntrustedLink, UntrustedLoan, UntrustedMessage};
#[cfg(feature = "std")]
pub use observe::Stats;
#[cfg(feature = "std")]
pub use options::{Clock, Options, TraceEvent};
#[cfg(feature = "std")]
pub use setup::child::Offer;
#[cfg(feature = "std")]
pub use setup::listener::Listener;
#[cfg(feature = "named")]
pub use setup::segment;
pub use shm::layout::{Geometry, RingMode, WaitMode};
pub use shm::words::Role;
