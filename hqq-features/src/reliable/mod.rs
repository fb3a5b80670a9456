//! Reliable delivery: a message is kept until the application at the other end acknowledges it, and sent again to
//! whoever takes a dead peer's place. A state machine without I/O: [`Store`] at the sender, [`Inbox`] at the
//! receiver. `hqq::AdvancedLink` uses it for the messages of the link itself.
//!
//! # The guarantee
//!
//! While the sender lives, each message is processed exactly once where the receiver acknowledges inside its own
//! commit, at least once otherwise.
//!
//! *Inside its own commit* means: one transaction writes what processing the message did, and its [`Receipt`]
//! (session and sequence). After the commit the receiver calls [`Inbox::acknowledge`]. Its successor reads the
//! receipts back and begins with [`Inbox::resume`]. A receiver that keeps no such record begins with [`Inbox::new`],
//! and what its predecessor had processed but not told is processed again.
//!
//! The link itself delivers what was committed to its ring once and in order. What it cannot know is whether a
//! receiver that took a message got to process it. That is all this module adds.
//!
//! # What travels
//!
//! | what | from | content |
//! |---|---|---|
//! | frame | sender | [`HEADER`] bytes: the sequence, from 1, little-endian; then the message |
//! | [`Start`] | sender | session; next: *what is below and has not come is acknowledged*; if it answers a Resume |
//! | [`Resume`] | receiver | session and upto: *all to `upto` is processed*; or that it knows nothing |
//! | [`Ack`] | receiver | session, upto, and 256 bits for single messages from a sequence on |
//!
//! The sequence is what names a copy for ever: the CopyID of a packet is its place in the ring, and a message that
//! is sent again gets another place. Frames and Starts must reach the receiver's [`Inbox`] in the order of the ring.
//! Frames may change places among themselves, as they do with several receiving threads; a Start may not.
//!
//! # An attachment
//!
//! | step | sender | receiver |
//! |---|---|---|
//! | 1 | new, or [`detach`](Store::detach): keeps what is pushed, sends nothing | [`Inbox::new`], [`Inbox::resume`] |
//! | 2 | | sends [`Inbox::position`] as Resume |
//! | 3 | [`resumed`](Store::resumed): drops what is processed | drops what lay in the ring: [`Verdict::Early`] |
//! | 4 | [`resend`](Store::resend): a Start, then what is kept, in order | [`started`](Inbox::started), then delivers |
//! | 5 | [`is_caught_up`](Store::is_caught_up): what is pushed may go straight into the ring | |
//!
//! What lay in the ring when the predecessor died begins somewhere in the middle, behind what the dead one took. The
//! newcomer drops it: the store still has all of it that is not acknowledged, and sends it in order behind the
//! Start. So nothing comes twice and nothing overtakes. Where single messages were acknowledged out of order, the
//! resend has holes; a further Start stands for each. One of those that was meant for the predecessor says nothing to
//! a newcomer, who may lack frames ahead of it: only a Start that answers a Resume opens its inbox.
//!
//! The predecessor must have stopped when the newcomer reads its record: what it commits later, nobody knows of. A
//! dead one has; one that left and lives must see to it itself.
//!
//! # Who keeps what
//!
//! | a message is | store | ring | inbox |
//! |---|---|---|---|
//! | pushed, not placed | kept | | |
//! | placed | kept | lies there | |
//! | delivered | kept | | delivered |
//! | acknowledged by the application | kept | | acknowledged, to be told |
//! | told by an Ack that is under way | kept | | told |
//! | freed by the Ack | | | forgotten once all before it are acknowledged too |
//!
//! Both ends are bounded by [`StoreLimits`]: the sequences from the oldest unacknowledged message to the newest are at
//! most `messages`, acknowledged ones between them included. So the receiver needs no more than that many marks, and
//! refuses sequences that are further ahead. One message that stays unacknowledged for long holds up the sender after
//! `messages` more.
//!
//! # Where the receiver may die
//!
//! | it dies | the newcomer, acknowledging inside the commit | without |
//! |---|---|---|
//! | before it took the message | gets it | gets it |
//! | with it delivered, before the commit | gets it: the first processing left nothing | gets it |
//! | after the commit, before [`acknowledge`](Inbox::acknowledge) | knows it: dropped as a duplicate | gets it again |
//! | after that, before an Ack is sent | the same | gets it again |
//! | with the Ack in the ring, and lost | the same | gets it again |
//! | with the Ack read | does not get it | does not get it |
//!
//! # Where the sender may die
//!
//! The store is private memory: it dies with the sender.
//!
//! | it dies | what becomes of the message |
//! |---|---|
//! | before it is in the ring | lost, though `push` took it |
//! | with it in the ring | a living receiver that has had its Start gets it; if that one dies too, lost |
//! | with it in the ring, before the Start for a newcomer | lost: a newcomer drops what precedes its Start |
//! | after it was delivered | nothing; Acks have nobody to go to |
//!
//! A sender that must survive its own death keeps its messages in durable storage and pushes them again; they are
//! then new messages, and telling them from the old ones is the applications' business.
//!
//! # Sessions
//!
//! A session is one store's life, a random number. Sequences begin at 1 in each, so that 7 of one session is not 7
//! of the next. Every Ack, Start, Resume and Receipt names its session. A Resume of another session counts as one
//! that knows nothing: everything kept is sent. A Start of another session makes the inbox forget what it knew. An
//! Ack or Receipt of another session is refused and changes nothing.
//!
//! # Hostile peers
//!
//! A receiver can only free what was sent to some receiver: it is the one to whom it was promised. What was never
//! sent cannot be acknowledged. A sender can withhold, repeat or skip its own messages only, and
//! cannot make an inbox grow beyond its window. Every check comes before the first change.

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
