//! The methods that links, halves and loans have in common, written once: [`sending_methods`], [`receiving_methods`],
//! [`link_methods`], [`connecting_methods`] and [`loan_methods`]. They stay inherent, so that nobody has to import a trait
//! to call them.
//!
//! A link or half has `core(&self) -> &Arc<LinkCore>`, `pipeline(&self) -> Option<&Pipeline>` for the layers that its
//! messages pass through, and `before_send(&self)`, which is called before a message is sent.

/// Messages that `recv_each` takes at a time.
pub(crate) const EACH: usize = 16;

/// Sending, for links and sending halves. The type has `core()`, `pipeline()`, and `before_send()`, which is called before
/// each message or loan.
macro_rules! sending_methods {
    () => {
        /// Sends a message, waiting for room. Up to 48 bytes travel in the ring itself, more through the pool;
        /// either way this form copies once.
        ///
        /// # Errors
        /// [`Error::TooLarge`]; [`Error::Closed`], [`Error::PeerDead`], [`Error::PeerGone`] or
        /// [`Error::Corrupt`] once the link has ended. If it ends during the call, the message may have been
        /// delivered all the same. With reliable delivery, the message is kept if and only if this returns `Ok`.
        #[inline(always)]
        pub fn send(&self, message: &[u8]) -> Result<()> {
            self.send_wait(message, Wait::Forever)
        }

        /// Sends a message if there is room now.
        ///
        /// # Errors
        /// As [`send`](Self::send); [`Error::RingFull`], [`Error::PoolExhausted`], [`Error::PoolFragmented`] or
        /// [`Error::Busy`] if it would have to wait; with reliable delivery also [`Error::StoreFull`].
        #[inline(always)]
        pub fn try_send(&self, message: &[u8]) -> Result<()> {
            self.send_wait(message, Wait::No)
        }

        /// Sends a message, waiting for room no longer than `time`.
        ///
        /// # Errors
        /// As [`send`](Self::send), or [`Error::Timeout`].
        pub fn send_timeout(&self, message: &[u8], time: Duration) -> Result<()> {
            self.send_wait(message, time.into())
        }

        #[inline(always)]
        fn send_wait(&self, message: &[u8], wait: Wait) -> Result<()> {
            self.before_send();
            let core = self.core();
            // Each way returns by itself: what a send costs depends on it.
            if core.fits_slot(message.len()) && core.sends_directly() {
                return core.send_in_slot(&SlotBytes::of(message), message, wait);
            }
            self.send_slowly(message, wait)
        }

        #[inline(never)]
        fn send_slowly(&self, message: &[u8], wait: Wait) -> Result<()> {
            match self.pipeline() {
                None => self.core().send_slowly(message, wait),
                Some(pipeline) => pipeline.send(self.core(), message, wait),
            }
        }

        /// Sends a message of `len` bytes that `fill` writes in place, waiting for room: the shortest way, since no
        /// handle is made. What `fill` finds there is whatever was there.
        ///
        /// ```
        /// let (primary, secondary) = hqq::StandardLink::pair()?;
        /// primary.send_with(1000, |bytes| bytes.fill(b'x'))?;
        /// assert_eq!(secondary.recv_with(|bytes| bytes.len())?, 1000);
        /// # Ok::<(), hqq::Error>(())
        /// ```
        ///
        /// # Errors
        /// As [`send`](Self::send).
        ///
        /// # Panics
        /// If `fill` does; then nothing is sent.
        #[inline(always)]
        pub fn send_with<T>(&self, len: usize, fill: impl FnOnce(&mut [u8]) -> T) -> Result<T> {
            let core = self.core();
            if self.pipeline().is_some() {
                let mut loan = self.loan(len)?;
                let filled = fill(&mut loan);
                loan.send()?;
                return Ok(filled);
            }
            self.before_send();
            if core.fits_slot(len) && core.sends_directly() {
                let mut message = SlotBytes::zeroed(len);
                let filled = fill(message.bytes_mut());
                core.send_in_slot(&message, message.bytes(), Wait::Forever)?;
                return Ok(filled);
            }
            let mut loan = Loan::empty(core);
            core.loan_frame(len, 1, Wait::Forever, loan.place())?;
            let filled = fill(&mut loan);
            core.send_body(loan.place(), Wait::Forever)?;
            Ok(filled)
        }

        /// Sends several messages, waiting for room, and wakes the peer once for as many as fit at a time. How
        /// many were sent: all, unless the link ended after the first.
        ///
        /// # Errors
        /// As [`send`](Self::send), if not even the first was sent.
        pub fn send_batch(&self, messages: &[&[u8]]) -> Result<usize> {
            let mut done = 0;
            while done < messages.len() {
                self.before_send();
                let batch = match self.pipeline() {
                    None => self.core().try_send_batch(&messages[done..]),
                    Some(_) => Err(Error::Busy),
                };
                let sent = match batch {
                    Err(error) if error.is_transient() => self.send(messages[done]).map(|()| 1),
                    batch => batch,
                };
                match sent {
                    Ok(sent) => done += sent,
                    Err(error) if done == 0 => return Err(error),
                    Err(_) => break,
                }
            }
            Ok(done)
        }

        /// Lends memory for a message of `len` bytes, waiting for it. Up to 48 bytes are lent without a buffer;
        /// more than a buffer holds takes several, side by side.
        ///
        /// # Errors
        /// [`Error::TooLarge`], or the link's end as for [`send`](Self::send).
        #[inline(always)]
        pub fn loan(&self, len: usize) -> Result<Loan<'_>> {
            let mut loan = Loan::empty(self.core());
            self.lend(len, 1, Wait::Forever, loan.place())?;
            Ok(loan)
        }

        /// Lends memory for a message of `len` bytes if there is some now.
        ///
        /// # Errors
        /// As [`loan`](Self::loan); [`Error::PoolExhausted`], [`Error::PoolFragmented`] or [`Error::Busy`].
        #[inline(always)]
        pub fn try_loan(&self, len: usize) -> Result<Loan<'_>> {
            let mut loan = Loan::empty(self.core());
            self.lend(len, 1, Wait::No, loan.place())?;
            Ok(loan)
        }

        /// Lends memory for a message of `len` bytes, waiting for it no longer than `time`.
        ///
        /// # Errors
        /// As [`loan`](Self::loan), or [`Error::Timeout`].
        pub fn loan_timeout(&self, len: usize, time: Duration) -> Result<Loan<'_>> {
            let mut loan = Loan::empty(self.core());
            self.lend(len, 1, time.into(), loan.place())?;
            Ok(loan)
        }

        /// Lends memory for one value of type `T`, zeroed, waiting for it.
        ///
        /// # Errors
        /// As [`loan`](Self::loan); [`Error::TypeAlign`] if `T` must be aligned to more than 64 bytes.
        pub fn loan_as<T: Pod>(&self) -> Result<TypedLoan<'_, T>> {
            let mut loan = Loan::empty(self.core());
            self.lend(size_of::<T>(), align_of::<T>(), Wait::Forever, loan.place())?;
            TypedLoan::new(loan)
        }

        #[inline(always)]
        fn lend<'l>(&'l self, len: usize, align: usize, wait: Wait, into: &mut HeldLoan<'l>) -> Result<()> {
            match self.pipeline() {
                None => {
                    self.before_send();
                    self.core().loan_frame(len, align, wait, into)
                }
                Some(pipeline) => {
                    *into = pipeline.lend(self.core(), len, align)?.into();
                    Ok(())
                }
            }
        }
    };
}

/// Receiving, for links and receiving halves. The type has `core()` and `pipeline()`.
macro_rules! receiving_methods {
    () => {
        /// Receives the next message, waiting for it.
        ///
        /// # Errors
        /// Once everything that was sent has been received: [`Error::Closed`] if the peer closed in order or
        /// this end was shut down, [`Error::PeerDead`], [`Error::PeerGone`]. [`Error::Corrupt`] at once.
        /// [`Error::Frame`] if a layer such as encryption refuses what came: it is gone, and the next call goes on after it.
        #[inline(always)]
        pub fn recv(&self) -> Result<Message<'_>> {
            self.recv_wait(Wait::Forever)
        }

        /// Receives the next message if there is one now.
        ///
        /// # Errors
        /// As [`recv`](Self::recv); [`Error::RingEmpty`] if it would have to wait.
        #[inline(always)]
        pub fn try_recv(&self) -> Result<Message<'_>> {
            self.recv_wait(Wait::No)
        }

        /// Receives the next message, waiting for it, and lets `read` read it in place: the shortest way, since no
        /// handle is made. The message is given back when `read` returns. An example is at `send_with`.
        ///
        /// # Errors
        /// As [`recv`](Self::recv).
        #[inline(always)]
        pub fn recv_with<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
            self.read_wait(Wait::Forever, read)
        }

        #[inline(always)]
        fn read_wait<T>(&self, wait: Wait, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
            let mut message = Message::empty(self.core());
            let Some(pipeline) = self.pipeline() else {
                self.core().take_wait(wait, message.place())?;
                return Ok(read(&message));
            };
            pipeline.recv(self.core(), wait, message.place())?;
            let value = read(&message);
            message.acknowledge()?;
            Ok(value)
        }

        /// Receives the next message, waiting for it no longer than `time`.
        ///
        /// # Errors
        /// As [`recv`](Self::recv), or [`Error::Timeout`].
        pub fn recv_timeout(&self, time: Duration) -> Result<Message<'_>> {
            self.recv_wait(time.into())
        }

        #[inline(always)]
        fn recv_wait(&self, wait: Wait) -> Result<Message<'_>> {
            let mut message = Message::empty(self.core());
            match self.pipeline() {
                None => self.core().take_wait(wait, message.place())?,
                Some(pipeline) => pipeline.recv(self.core(), wait, message.place())?,
            }
            Ok(message)
        }

        /// Receives up to `max` messages and lets `read` read each in place: waits for the first, then takes what is there,
        /// sixteen at a time, and wakes the peer once for those that were small. How many there were. Should `read` panic,
        /// what is left of those sixteen is lost.
        ///
        /// ```
        /// let (primary, secondary) = hqq::StandardLink::pair()?;
        /// primary.send_batch(&[b"one", b"two", b"three"])?;
        /// let mut letters = 0;
        /// assert_eq!(secondary.recv_each(16, |message| letters += message.len())?, 3);
        /// assert_eq!(letters, 11);
        /// # Ok::<(), hqq::Error>(())
        /// ```
        ///
        /// # Errors
        /// As [`recv`](Self::recv), if there is not even one. A message that a layer refuses ends the batch; the next call that
        /// receives returns its error.
        pub fn recv_each(&self, max: usize, mut read: impl FnMut(&[u8])) -> Result<usize> {
            if max == 0 {
                return Ok(0);
            }
            self.recv_with(&mut read)?;
            let mut taken = 1;
            // They are taken before any is read: nobody knows how long that takes, and the peer may sleep for the room.
            let mut chunk: [Message<'_>; EACH] = std::array::from_fn(|_| Message::empty(self.core()));
            while self.pipeline().is_none() {
                let wanted = EACH.min(max - taken);
                let mut count = 0;
                while count < wanted && self.core().take_quietly(chunk[count].place()) {
                    count += 1;
                }
                if count > 0 {
                    self.core().notify_peer(self.core().region().wake_senders());
                }
                for message in &mut chunk[..count] {
                    read(message);
                    message.release();
                }
                taken += count;
                if count == 0 || count < wanted {
                    break;
                }
            }
            // Whatever takes the long way.
            while taken < max {
                match self.read_wait(Wait::No, &mut read) {
                    Ok(()) => taken += 1,
                    Err(error) => {
                        self.end_batch(error);
                        break;
                    }
                }
            }
            Ok(taken)
        }

        /// Receives up to `max` messages: waits for the first, then takes what is there. Appends them to `out`
        /// and returns how many.
        ///
        /// # Errors
        /// As [`recv`](Self::recv), if there is not even one. A message that a layer refuses ends the batch; the next call that
        /// receives returns its error.
        pub fn recv_batch<'a>(&'a self, out: &mut Vec<Message<'a>>, max: usize) -> Result<usize> {
            if max == 0 {
                return Ok(0);
            }
            out.push(self.recv()?);
            for taken in 1..max {
                let mut message = Message::empty(self.core());
                let received = match self.pipeline() {
                    None => self.core().take_wait(Wait::No, message.place()),
                    Some(pipeline) => pipeline.recv(self.core(), Wait::No, message.place()),
                };
                if let Err(error) = received {
                    self.end_batch(error);
                    return Ok(taken);
                }
                out.push(message);
            }
            Ok(max)
        }

        /// Why a batch has ended before it was full. The next call finds out by itself, unless a message was refused.
        fn end_batch(&self, error: Error) {
            if let Some(pipeline) = self.pipeline() {
                pipeline.defer(error);
            }
        }

        /// Receives the next message into a slice, waiting for it. How many bytes it has.
        ///
        /// # Errors
        /// As [`recv`](Self::recv); [`RecvIntoError::TooSmall`] with the message if the slice is too small.
        pub fn recv_into(&self, into: &mut [u8]) -> Result<usize, RecvIntoError<Message<'_>>> {
            let message = self.recv()?;
            match into.get_mut(..message.len()) {
                Some(place) => place.copy_from_slice(&message),
                None => return Err(RecvIntoError::TooSmall { message, capacity: into.len() }),
            }
            let len = message.len();
            if self.pipeline().is_some() {
                message.acknowledge()?;
            }
            Ok(len)
        }
    };
}

/// What can be asked of a link as a whole, and done to it.
macro_rules! link_methods {
    ($link:ty) => {
        impl $link {
            /// Which end this is.
            pub fn role(&self) -> Role {
                self.core().role()
            }

            /// Who is at the other end, as the kernel says.
            pub fn peer(&self) -> Peer {
                self.core().peer()
            }

            /// Whether each end's payload is protected from the other; see [`Options::protected`](crate::Options::protected).
            pub fn is_protected(&self) -> bool {
                self.core().region().facts().modes.protected
            }

            /// Slots and buffers of the link.
            pub fn geometry(&self) -> Geometry {
                self.core().region().facts().geometry
            }

            /// The longest message that can be sent in one piece, bytes.
            pub fn max_message(&self) -> u64 {
                match self.pipeline() {
                    None => self.core().region().max_message(),
                    Some(pipeline) => pipeline.max_message(self.core()),
                }
            }

            /// The link's counters. Both ends and every observer see the same. Bytes are those that travelled, whatever layers made of
            /// the messages. A hostile peer can change them.
            pub fn stats(&self) -> Stats {
                Stats::read(self.core().region().views())
            }

            /// Whether both directions still work, as far as can be told now.
            pub fn is_open(&self) -> bool {
                self.core().is_open()
            }

            /// The last error that the peer reported, if any: it refused something this end sent.
            pub fn wire_error(&self) -> Option<WireError> {
                self.core().peek(|demux| demux.last_error)
            }

            /// Ends one or both directions for good, and with either of them the connections on the link; callable from any
            /// thread. Blocked calls of this process and of the
            /// peer return. After `Write` the peer receives what was sent, then [`Error::Closed`](crate::Error::Closed); after `Read` this
            /// end receives nothing more, and the peer's sends fail.
            pub fn shutdown(&self, how: Shutdown) {
                shut(self.core(), how);
            }

            /// A handle that can shut the link down from elsewhere, also after it was split.
            pub fn shutdown_handle(&self) -> ShutdownHandle {
                ShutdownHandle::new(self.core())
            }

            /// For event loops: takes what the doorbell holds, and says whether there is something to receive or accept, the
            /// link's end included. On `true` call the `try_` forms until they have nothing more, then this again. On `false`
            /// the link's descriptor ([`AsFd`]) becomes readable when there is something; then call this again.
            ///
            /// A link that is driven so should not be waited on by blocking calls at the same time: they share the doorbell.
            ///
            /// ```
            /// use std::os::fd::AsFd;
            ///
            /// let (primary, secondary) = hqq::StandardLink::pair()?;
            /// assert!(!secondary.drive()?); // poll secondary.as_fd() now
            /// primary.send(b"news")?; // makes it readable
            /// assert!(secondary.drive()?);
            /// assert_eq!(&*secondary.try_recv()?, b"news");
            /// assert!(!secondary.drive()?);
            /// # Ok::<(), hqq::Error>(())
            /// ```
            ///
            /// # Errors
            /// [`Error::Unsupported`](crate::Error::Unsupported) in spin-only mode, where nobody rings; [`Error::Corrupt`](crate::Error::Corrupt), [`Error::Os`](crate::Error::Os).
            pub fn drive(&self) -> Result<bool> {
                let has_left = self.pipeline().is_some_and(|pipeline| pipeline.has_left());
                let news = self.core().drive()? || has_left;
                if !news && self.pipeline().is_some() {
                    // The caller is about to sleep.
                    self.core().flush_acknowledgements();
                }
                Ok(news)
            }

            /// The peer's process: becomes readable for `poll` and the like once it is dead.
            pub fn peer_process(&self) -> BorrowedFd<'_> {
                self.core().parts().pidfd.as_fd()
            }

            /// The region's memory: for observers, which map it read-only, and for tests.
            pub fn memory(&self) -> BorrowedFd<'_> {
                self.core().parts().memory.as_fd()
            }
        }

        /// The link's doorbell, to be polled for reading; see [`StandardLink::drive`](crate::StandardLink::drive).
        impl AsFd for $link {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.core().parts().socket.as_fd()
            }
        }
    };
}

/// Connections on a link.
macro_rules! connecting_methods {
    () => {
        /// Opens a connection and waits until the peer accepts it.
        ///
        /// # Errors
        /// [`Error::Refused`] if it does not; [`Error::TooMany`]; [`Error::Unsupported`] on a split link; the link's
        /// end.
        pub fn open_connection(&self) -> Result<Connection> {
            connection::open(self.core(), self.pipeline(), Wait::Forever)
        }

        /// Opens a connection and waits no longer than `time` for the peer to accept it.
        ///
        /// # Errors
        /// As [`open_connection`](Self::open_connection), or [`Error::Timeout`].
        pub fn open_connection_timeout(&self, time: Duration) -> Result<Connection> {
            connection::open(self.core(), self.pipeline(), time.into())
        }

        /// Waits for a connection that the peer opens, and accepts it.
        ///
        /// # Errors
        /// [`Error::Unsupported`] on a split link; the link's end.
        pub fn accept_connection(&self) -> Result<Connection> {
            connection::accept(self.core(), self.pipeline(), Wait::Forever)
        }

        /// Waits no longer than `time` for a connection that the peer opens, and accepts it.
        ///
        /// # Errors
        /// As [`accept_connection`](Self::accept_connection), or [`Error::Timeout`].
        pub fn accept_connection_timeout(&self, time: Duration) -> Result<Connection> {
            connection::accept(self.core(), self.pipeline(), time.into())
        }

        /// Accepts a connection if the peer has opened one.
        ///
        /// # Errors
        /// As [`accept_connection`](Self::accept_connection), or [`Error::NoneWaiting`].
        pub fn try_accept_connection(&self) -> Result<Connection> {
            connection::accept(self.core(), self.pipeline(), Wait::No)
        }
    };
}

/// Sending a loan without waiting, or not for ever. The type has `core` and `body`, and a `send` of its own.
macro_rules! loan_methods {
    () => {
        /// Sends the message if there is room now.
        ///
        /// # Errors
        /// As [`send`](Self::send), or [`Error::RingFull`](crate::Error::RingFull) and whatever else a send would have to wait for; with the loan,
        /// to be tried again.
        #[expect(clippy::result_large_err, reason = "the loan comes back by value: nothing is allocated")]
        pub fn try_send(self) -> Result<(), TrySendError<Self>> {
            self.send_wait(Wait::No)
        }

        /// Sends the message, waiting for room no longer than `time`.
        ///
        /// # Errors
        /// As [`send`](Self::send), or [`Error::Timeout`](crate::Error::Timeout); with the loan.
        #[expect(clippy::result_large_err, reason = "the loan comes back by value: nothing is allocated")]
        pub fn send_timeout(self, time: Duration) -> Result<(), TrySendError<Self>> {
            self.send_wait(time.into())
        }

        #[expect(clippy::result_large_err, reason = "as above")]
        fn send_wait(mut self, wait: Wait) -> Result<(), TrySendError<Self>> {
            match self.core.send_body(&mut self.body, wait) {
                Ok(()) => Ok(()),
                Err(error) => Err(TrySendError { error, loan: self }),
            }
        }
    };
}

pub(crate) use {connecting_methods, link_methods, loan_methods, receiving_methods, sending_methods};
