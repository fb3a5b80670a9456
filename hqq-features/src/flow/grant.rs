//! What the receiver announces.

/// How many chunks the sender may have sent since the beginning, modulo 2^64. This is what travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant(pub(super) u64);

impl Grant {
    /// A grant as it came. [`CreditSender::granted`](super::sender::CreditSender::granted) checks it.
    pub const fn from_total(total: u64) -> Self {
        Self(total)
    }

    /// The operand to send.
    pub const fn total(self) -> u64 {
        self.0
    }
}
