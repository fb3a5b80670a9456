//! HQQ lets two processes on one machine exchange messages through shared memory: without copying them, and without
//! a system call while both are awake. It has the manners of sockets, so there is little to learn:
//!
//! ```
//! use std::thread;
//! use hqq::{Listener, StandardLink};
//!
//! # let name = format!("doc-head-{}", std::process::id());
//! # let other = name.clone();
//! let listener = Listener::bind(&name)?;
//! # let peer =
//! thread::spawn(move || { // another process, mostly
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
//! A peer may die at any instruction. Whoever waits for it is told, by proof from the kernel and not by a timeout:
//! first come the messages that it had committed, then [`Error::PeerDead`]. There is no daemon, no helper thread,
//! and with a bare name no file that could be left behind.
//!
//! # What there is
//!
//! - **Links**: [`Listener`] and [`StandardLink::connect`] meet at a name; [`StandardLink::pair`] is for threads and
//!   tests; an [`Offer`] is inherited by a child process. Both ends check that the other belongs to the same user.
//! - **Messages**: [`send`](StandardLink::send) and [`recv`](StandardLink::recv), with `try_`, `_timeout`,
//!   `_deadline` and batch forms; [`loan`](StandardLink::loan) to write in place; [`Message::detach`] to keep what
//!   was received; [`loan_as`](StandardLink::loan_as) and [`Message::cast`] for values instead of bytes. Up to 48
//!   bytes travel in the ring itself.
//! - **Streams**: links and connections are [`Read`](std::io::Read) and [`Write`](std::io::Write).
//! - **Connections**: many logical ones on a link, each a stream and a channel of messages; see [`Connection`].
//! - **Threads**: a link may be shared by many, or [split](StandardLink::split) into two halves. [`RingMode`] says
//!   what the rings must bear, [`WaitMode`] whether waiting calls may sleep; both are set in [`Options`].
//! - **Strangers**: [`UntrustedLink`] for peers of any user, whose messages are copied out before they are looked at.
//! - **Agreements**: [`AdvancedLink`] for what both ends want beyond that: messages compressed, encrypted, or kept until the
//!   peer's application acknowledges them; connections with credit, classes and rates; see [`advanced`].
//! - **Insight**: [`Stats`] of a link, [`stats::Metrics`] (latencies, rates, ratios) where both ends want them, a trace of
//!   its packets ([`Options::trace`]), and [`observe`] to look at any link from outside.
//! - **The core alone**, without std or an allocator, on memory that the caller brings: [`port`] and [`region`].
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
//! Every section begins on a page. Every word says who holds what it stands for: a process can be stopped at any
//! instruction, and the survivor can tell from shared memory alone what it was doing, and finish or undo it. A
//! message costs one slot, which is one cache line; its payload lies in the sender's pool until the receiver drops
//! it. `docs/spec.md` of the repository is the format byte by byte.
//!
//! # The layers
//!
//! A file of `src/` uses only what stands ahead of it here. Layers 0 to 2 are `no_std` and never allocate.
//!
//! | layer | files | what they do |
//! |---|---|---|
//! | 0 | [`sync`], [`protocol`], [`error`], [`words`], [`layout`], [`packet`] | atomics; what can be agreed on; errors; the words as stored; offsets; packets and their check |
//! | 1 | [`ring`], [`pool`], [`wait`], [`seat`], [`recover`] | messages in order; who holds a buffer; sleep announced; who is attached; what the dead left |
//! | 2 | [`superblock`], [`buffer`], [`region`], [`port`] | from bytes to words; one end without waiting |
//! | 3 | `negotiate`, [`feature`] | how two ends agree; what they can agree on, one feature a file, without I/O |
//! | 3 | `options`, [`stats`], [`observe`] | what can be chosen and what can be seen |
//! | 3 | `connection`, `park`, `turn`, `mux`, `inner` | the connection table; threads that wait; what all handles share |
//! | 3 | `message`, `link`, `untrusted`, `conn` | what the caller holds |
//! | 3 | `handshake`, `listener`, `named` | how links come about |
//! | 4 | [`advanced`] | a link and what was agreed on it |
//! | 5 | `io` | the standard library's traits |
//!
//! Raw memory is handled in `buffer` and `region` only, and the operating system called in the crate `hqq-sys`.
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
pub use setup::listener::Listener;
#[cfg(feature = "std")]
pub use setup::offer::Offer;
#[cfg(feature = "named")]
pub use setup::segment;
pub use shm::layout::{Geometry, RingMode, WaitMode};
pub use shm::words::Role;
