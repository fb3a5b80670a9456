//! What all links share ([`core`]), and what the caller holds: links, halves, connections, loans and messages.
//!
//! | what | where |
//! |---|---|
//! | the methods of links and halves, written once | `methods.rs` |
//! | a message is sent, as it is | `send.rs`; the slot is claimed by `Producer::claim` in `shm/ring.rs`, for `Region::post` in `shm/endpoint.rs` |
//! | a message is received, as it is | `recv.rs` |
//! | messages pass through layers such as compression | `pipeline.rs`; a layer itself is in the crate `hqq-features` |
//! | a call waits: it spins, announces its sleep, and sleeps on the doorbell | `wait.rs`, `waiters.rs`, `pace.rs`; for how long, `deadline.rs` |
//! | the peer closes, goes or dies, and is noticed | `peer_end.rs` |
//! | the state of this end, as a word with named transitions | `state.rs` |
//! | the demultiplexer is locked, and what its lock's release calls for | `guard.rs` |
//! | chunks of connections go by credit, class and rate | `egress.rs`, over the scheduler in `demux` |
//! | two ends negotiate | `negotiate.rs`, over the state machine in `demux` |
//! | a message is kept until it is acknowledged | `reliable.rs`, over the machine in `demux` |
//! | another process takes the place of a dead one | `reattach.rs` |
//! | what a loan or message consists of, and its handles | `body.rs`, `message.rs` |
//! | streams of bytes | `stream.rs` |

pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod core;
pub(crate) mod deadline;
mod egress;
mod guard;
mod measure;
pub(crate) mod message;
mod meter;
pub(crate) mod methods;
mod negotiate;
mod pace;
mod peer_end;
pub(crate) mod pipeline;
pub(crate) mod reattach;
mod recv;
mod reliable;
pub(crate) mod send;
pub(crate) mod standard;
mod state;
mod stream;
pub(crate) mod timed_mutex;
pub(crate) mod untrusted;
pub(crate) mod wait;
pub(crate) mod waiters;
