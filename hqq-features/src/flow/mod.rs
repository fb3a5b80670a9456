//! Flow control: a window of credit for each connection, so that a slow reader of one does not stop the others.
//!
//! Connections share the ring of a link, and a chunk whose inbox is full stops all chunks after it. With flow control a
//! chunk is sent only if the receiver has reserved room for it, so no inbox is ever full. Each direction of a connection
//! has a [`CreditSender`] at one end and a [`CreditReceiver`] at the other.
//!
//! # Unit
//!
//! A credit is one chunk: one packet in the ring, and one buffer. Inboxes are limited in chunks, and a slow reader holds
//! buffers, full or not, so chunks are the scarce resource. Bytes are limited too, by chunks times the size of a buffer.
//! A chunk in a run of `n` buffers costs `n` credits.
//!
//! # Credit
//!
//! Both ends begin with the window of the receiver. A [`Grant`] is the total number of chunks that the sender may have
//! sent since the beginning, not an increment. So a grant may be repeated, and of several grants that wait to be sent only
//! the last is needed. The receiver announces one when at least half of its window is free and not announced, at most
//! twice per window. A sender without credit cannot wait for ever: after all it sent was read, the whole window is
//! announced. The last grant must arrive: it may replace earlier ones, and must not be dropped.
//! [`CreditReceiver::last_grant`] can be sent again at any time.
//!
//! | invariant | reason |
//! |---|---|
//! | unread chunks <= window | a chunk beyond the announced total is an [`Overrun`](FlowError::Overrun) |
//! | a grant never shrinks | a smaller one is refused: the ring keeps the order, so grants do not arrive late |
//! | credit <= window | a grant for chunks that were never sent is refused |
//!
//! A refused grant or chunk changes only the count of faults. Totals wrap.
//!
//! # Memory
//!
//! A window is a promise of memory: the receiver copies unread chunks out of the pool when that runs low, so that no
//! connection holds buffers that others need. The copies are limited by the window, in buffers.
//!
//! The ring limits the link as a whole: a full ring stops all senders.
//!
//! # Time
//!
//! Times are durations since a fixed moment that the caller chooses.

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
