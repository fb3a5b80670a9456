//! The receiving end of a direction.

use super::error::FlowError;
use super::grant::Grant;
use super::window::check_window;

/// The receiving end of a direction, which grants credit. See [`CreditSender`](super::sender::CreditSender) for an example.
#[derive(Clone, Debug)]
pub struct CreditReceiver {
    window: u64,
    /// Chunks since the beginning: granted, received, read.
    pub(super) announced: u64,
    pub(super) arrived: u64,
    pub(super) consumed: u64,
    faults: u64,
}

impl CreditReceiver {
    /// The end that has room for `window` unread chunks.
    ///
    /// # Errors
    /// [`FlowError::WindowTooSmall`], [`FlowError::WindowTooLarge`].
    pub fn new(window: u64) -> Result<Self, FlowError> {
        let window = check_window(window)?;
        Ok(Self { window, announced: window, arrived: 0, consumed: 0, faults: 0 })
    }

    /// Chunks that were received and not yet read: at most the window.
    pub fn unread(&self) -> u64 {
        self.arrived.wrapping_sub(self.consumed)
    }

    /// Whether the peer may send another chunk.
    pub fn has_room(&self) -> bool {
        self.announced != self.arrived
    }

    /// Counts `n` received chunks.
    ///
    /// # Errors
    /// [`FlowError::Overrun`] if they were not granted. Only the count of faults changes.
    pub fn arrived(&mut self, n: u64) -> Result<(), FlowError> {
        if n > self.announced.wrapping_sub(self.arrived) {
            self.faults += 1;
            return Err(FlowError::Overrun { window: self.window, got: self.unread().saturating_add(n) });
        }
        self.arrived = self.arrived.wrapping_add(n);
        Ok(())
    }

    /// Counts `n` chunks as read, or as released unread; no more than are unread. Returns the grant to send, if one is
    /// due.
    #[must_use]
    pub fn consumed(&mut self, n: u64) -> Option<Grant> {
        self.consumed = self.consumed.wrapping_add(n.min(self.unread()));
        let total = self.consumed.wrapping_add(self.window);
        let unannounced = total.wrapping_sub(self.announced);
        if unannounced < self.window.div_ceil(2) {
            return None;
        }
        self.announced = total;
        Some(Grant(total))
    }

    /// The last grant. It may be sent again.
    pub fn last_grant(&self) -> Grant {
        Grant(self.announced)
    }

    /// How many overruns there were.
    pub fn faults(&self) -> u64 {
        self.faults
    }
}
