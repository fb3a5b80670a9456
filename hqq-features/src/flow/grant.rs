//! The grant, which a receiver announces.

/// The total number of chunks that a sender may have sent since the beginning, modulo 2^64. It is sent to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant(pub(super) u64);

impl Grant {
    /// A grant with the total that was received. [`CreditSender::granted`](super::sender::CreditSender::granted) checks it.
    pub const fn from_total(total: u64) -> Self {
        Self(total)
    }

    /// The total, which is sent to the peer.
    pub const fn total(self) -> u64 {
        self.0
    }
}
