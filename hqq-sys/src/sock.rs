//! Unix sockets that preserve message boundaries (`SOCK_SEQPACKET`). They connect two processes, identify the peer,
//! carry descriptors, and serve as doorbell.
//!
//! Every socket that this module creates is close-on-exec and non-blocking, and the kernel reports the sender of each
//! message.

mod address;
mod listener;
mod message;
mod socket;
#[cfg(test)]
mod tests;

pub use address::Address;
pub use listener::{SocketFile, listen, obstacle, take_over};
pub use message::{Drained, MAX_FDS, Received, drain, purge, recv, ring, send};
pub(crate) use socket::identify_senders;
pub use socket::{
    Creds, accept, connect, hang_up, is_exhaustion, pair, peer_creds, peer_pidfd, quiet, replace, set_cloexec,
};
