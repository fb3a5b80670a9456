//! Flow control: a window of credit for each connection, so that a slow reader of one never stops the others.
//!
//! Connections share the ring of a link, and a chunk that finds its inbox full stops all that lies behind it. With
//! flow control a sender puts a chunk into the ring only if the receiver has promised it a place: then no inbox is
//! ever found full. Each direction of a connection has a [`CreditSender`] at one end and a [`CreditReceiver`] at the other.
//!
//! # The unit
//!
//! A credit is one chunk: one packet in the ring, and one buffer. Inboxes are bounded in chunks, and what a slow reader
//! holds is buffers, whether they are full or not. So chunks are what runs out; bytes are bounded with them, by chunks
//! times the buffer size. A chunk that lies in a run of `n` buffers spends `n`.
//!
//! # Credit
//!
//! Both ends begin with the receiver's window. A [`Grant`] is the number of chunks that the sender may have sent since
//! the beginning, not what is added. So a grant can be repeated, and a later one makes those before it needless: of
//! several that wait to be sent only the last must go. The receiver announces one when at least half of its window is
//! free again and unannounced, which is at most two a window. A sender that is out of credit cannot wait in vain: once
//! all it sent is read, the whole window is unannounced. This needs the last grant to arrive: it may be merged with
//! those before it, but not dropped; [`CreditReceiver::last_grant`] can be sent again at any time.
//!
//! | always | because |
//! |---|---|
//! | unread chunks <= window | a chunk beyond the announced count is an [`Overrun`](FlowError::Overrun) |
//! | a grant never shrinks | one that does is refused: the ring keeps order, so an older one cannot come late |
//! | credit <= window | a grant for chunks that were never sent is refused |
//!
//! A refused grant or chunk changes nothing but the count of faults. Counts wrap.
//!
//! # Memory
//!
//! A window is a promise of memory: what arrives and is not read at once, the receiver moves out of the pool when that
//! runs low, so that no connection holds buffers that the others need. It is bounded by the window, in buffers.
//!
//! The ring itself stays the rule for the link as a whole: a full ring holds up all senders alike.
//!
//! Times are durations since any one moment that the caller keeps to.

mod error;
mod grant;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;
mod window;

pub use error::FlowError;
pub use grant::Grant;
pub use receiver::CreditReceiver;
pub use sender::{Congestion, CreditSender};
pub use window::{MAX_WINDOW, MIN_WINDOW};
