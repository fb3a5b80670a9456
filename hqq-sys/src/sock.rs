//! Unix sockets that keep messages apart (`SOCK_SEQPACKET`): connecting two processes, telling
//! them who is at the other end, and waking one another.
//!
//! Every socket made here is close-on-exec, never blocks, and asks the kernel to tell with each
//! message who sent it.

mod address;
mod listener;
mod message;
mod socket;
#[cfg(test)]
mod tests;

pub use address::Address;
pub use listener::{FileId, file_id, listen, take_over, unlink_if_ours};
pub use message::{Drained, MAX_FDS, Received, drain, purge, recv, ring, send};
pub(crate) use socket::identify_senders;
pub use socket::{
    Creds, accept, connect, hang_up, pair, peer_creds, peer_pidfd, quiet, replace, set_cloexec,
};
