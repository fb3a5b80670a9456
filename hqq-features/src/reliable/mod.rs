//! Reliable delivery: a message is kept until the application at the other end acknowledges it, and sent again to the
//! successor of a peer that died. [`Store`] is the state of the sender, [`Inbox`] that of the receiver. `hqq::AdvancedLink`
//! uses both for the messages of the link itself.
//!
//! # Guarantee
//!
//! While the sender lives, each message is processed exactly once if the receiver acknowledges inside its own commit, and
//! at least once otherwise.
//!
//! *Inside its own commit* means that one transaction writes the result of processing the message and its [`Receipt`]
//! (session and sequence). After the commit the receiver calls [`Inbox::acknowledge`]. Its successor reads the receipts and
//! begins with [`Inbox::resume`]. A receiver without such a record begins with [`Inbox::new`]; messages that its
//! predecessor had processed and not acknowledged to the sender are processed again.
//!
//! The link itself delivers each message in its ring once and in order. It cannot know whether a receiver that took a
//! message also processed it. This module adds only that.
//!
//! # Packets
//!
//! | packet | from | content |
//! |---|---|---|
//! | frame | sender | [`HEADER`] bytes: the sequence, from 1, little-endian; then the message |
//! | [`Start`] | sender | session; next: *messages below it that have not arrived are acknowledged*; whether it answers a Resume |
//! | [`Resume`] | receiver | session and upto: *all messages to `upto` are processed*; or that no record exists |
//! | [`Ack`] | receiver | session, upto, and 256 bits for single messages from a sequence on |
//!
//! A message is identified by its session and sequence: the CopyID of a packet is its place in the ring, and a message that
//! is sent again gets another place. Frames and Starts must reach the [`Inbox`] in the order of the ring. Frames may be
//! reordered among themselves, as they are with several receiving threads; a Start may not.
//!
//! # Attachment
//!
//! | step | sender | receiver |
//! |---|---|---|
//! | 1 | new, or [`detach`](Store::detach): keeps what is pushed, sends nothing | [`Inbox::new`], [`Inbox::resume`] |
//! | 2 | | sends [`Inbox::position`] as Resume |
//! | 3 | [`resumed`](Store::resumed): frees what is processed | drops frames that were in the ring: [`Verdict::Early`] |
//! | 4 | [`resend`](Store::resend): a Start, then what is kept, in order | [`started`](Inbox::started), then delivers |
//! | 5 | [`is_caught_up`](Store::is_caught_up): pushed messages may go directly into the ring | |
//!
//! The frames that are in the ring when the predecessor dies begin anywhere, after those that it took. The successor drops
//! them: the store has all of them that are not acknowledged, and sends them in order after the Start. So no message
//! arrives twice or out of order. If single messages were acknowledged out of order, the resend has holes, and a further
//! Start stands for each. A Start for a hole that was meant for the predecessor has no meaning for the successor, which may
//! lack frames before it: only a Start that answers a Resume opens its inbox.
//!
//! The predecessor must have stopped when the successor reads its record: later commits would not be in it. A dead process
//! has stopped; one that left and lives must ensure it.
//!
//! # Place of a message
//!
//! | state of the message | store | ring | inbox |
//! |---|---|---|---|
//! | pushed, not placed | kept | | |
//! | placed | kept | in the ring | |
//! | delivered | kept | | delivered |
//! | acknowledged by the application | kept | | acknowledgement pending |
//! | in an Ack in the ring | kept | | acknowledgement sent |
//! | freed by the Ack | | | forgotten after all before it are acknowledged too |
//!
//! Both ends are limited by [`StoreLimits`]: from the oldest unacknowledged message to the newest there are at most
//! `messages` sequences, acknowledged ones between them included. So the receiver needs no more marks than that, and
//! refuses later sequences. One message that stays unacknowledged stops the sender after `messages` more.
//!
//! # Death of the receiver
//!
//! | it dies | the successor, acknowledging inside the commit | otherwise |
//! |---|---|---|
//! | before it took the message | gets it | gets it |
//! | with it delivered, before the commit | gets it: the first processing had no effect | gets it |
//! | after the commit, before [`acknowledge`](Inbox::acknowledge) | knows it: dropped as a duplicate | gets it again |
//! | after that, before an Ack is sent | the same | gets it again |
//! | with the Ack in the ring, and lost | the same | gets it again |
//! | after the Ack was read | does not get it | does not get it |
//!
//! # Death of the sender
//!
//! The store is private memory, which is lost with the sender.
//!
//! | it dies | fate of the message |
//! |---|---|
//! | before it is in the ring | lost, though `push` took it |
//! | with it in the ring | a living receiver that has had its Start gets it; if that one dies too, lost |
//! | with it in the ring, before the Start for a successor | lost: a successor drops frames before its Start |
//! | after it was delivered | nothing; Acks have no receiver |
//!
//! A sender whose messages must survive its death keeps them in durable storage and pushes them again. They are then new
//! messages, which the applications must recognize.
//!
//! # Sessions
//!
//! A session is the life of one store, a random number. Sequences begin at 1 in each session. Every Ack, Start, Resume and
//! Receipt has its session. A Resume of another session counts as one without a record: all kept messages are sent. A Start
//! of another session makes the inbox forget what it knew. An Ack or Receipt of another session is refused and changes
//! nothing.
//!
//! # Time
//!
//! Times are durations since a fixed moment that the caller chooses.
//!
//! # Hostile peers
//!
//! A receiver can free only messages that were sent to a receiver. Messages that were never sent cannot be acknowledged. A
//! sender can withhold, repeat or skip only its own messages, and cannot make an inbox grow beyond its window. Every check
//! precedes the first change.

mod error;
mod inbox;
mod packet;
mod store;
#[cfg(test)]
mod tests;

pub use error::ReliableError;
pub use inbox::{AckPolicy, Inbox, InboxCounts, Started, Verdict};
pub use packet::{ACK_BITS, Ack, HEADER, Position, Receipt, Resume, Start, header, split_frame};
pub use store::{Resend, Resumed, Store, StoreCounts, StoreFull, StoreLimits};
