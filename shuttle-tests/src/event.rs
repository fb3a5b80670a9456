//! A doorbell and an event in one, on which threads of a link sleep.

use shuttle::sync::{Condvar, Mutex};

#[derive(Debug, Default)]
struct Signals {
    rung: bool,
    set: bool,
}

/// An eventfd, and the socket that is polled with it.
#[derive(Debug)]
pub struct Event {
    signals: Mutex<Signals>,
    changed: Condvar,
}

impl Event {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { signals: Mutex::new(Signals::default()), changed: Condvar::new() })
    }

    /// This process has news.
    pub fn signal(&self) -> std::io::Result<()> {
        self.signals.lock().unwrap().set = true;
        self.changed.notify_all();
        Ok(())
    }

    /// The peer rings. The token stays until it is read.
    pub fn ring(&self) {
        self.signals.lock().unwrap().rung = true;
        self.changed.notify_all();
    }

    /// Sleeps until either, and takes both.
    pub fn sleep(&self) {
        let mut signals = self.signals.lock().unwrap();
        while !signals.rung && !signals.set {
            signals = self.changed.wait(signals).unwrap();
        }
        *signals = Signals::default();
    }
}
