// unsafe: Boost is C++, called through the functions of `boost/queue.cpp`.
//! `message_queue` of Boost.Interprocess, one in each direction, if its headers were installed at build time.

use hqq_bench::System;

use crate::traces::Traces;

/// What to tell if there is no Boost.
pub const LEFT_OUT: Option<&str> = if cfg!(boost) {
    None
} else {
    Some("boost-queue is left out: Boost's headers were not there when this was built (Debian: libboost-dev)")
};

/// The system, if there is Boost.
#[cfg(not(boost))]
pub fn system(_traces: &Traces) -> Option<Box<dyn System>> {
    None
}

/// The system, if there is Boost.
#[cfg(boost)]
pub fn system(traces: &Traces) -> Option<Box<dyn System>> {
    Some(Box::new(queue::Boost { traces: traces.clone() }))
}

#[cfg(boost)]
mod queue {
    use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
    use std::hint;
    use std::ptr::NonNull;

    use hqq_bench::{Case, Exchange, How, Kind, Outcome, Session, System, Workload};

    use crate::common::{capacity, copies, read, spin, write};
    use crate::traces::Traces;

    /// Between two looks: round trips are at their shortest with about as many.
    const PAUSES: u32 = 64;

    #[link(name = "hqq_boost_queue", kind = "static")]
    unsafe extern "C" {
        fn hqq_boost_open(name: *const c_char, count: usize, size: usize) -> *mut c_void;
        fn hqq_boost_close(queue: *mut c_void);
        fn hqq_boost_remove(name: *const c_char) -> c_long;
        fn hqq_boost_send(queue: *mut c_void, bytes: *const u8, size: usize, block: c_int) -> c_long;
        fn hqq_boost_recv(queue: *mut c_void, bytes: *mut u8, size: usize, block: c_int) -> c_long;
    }

    /// A `message_queue`.
    struct Queue(NonNull<c_void>);

    impl Queue {
        /// Makes one of that many messages, or opens it.
        fn open(name: &CStr, make: Option<usize>, size: usize) -> Outcome<Self> {
            // SAFETY: the name is a C string, and lives as long as the call.
            let queue = unsafe { hqq_boost_open(name.as_ptr(), make.unwrap_or(0), size) };
            NonNull::new(queue).map(Self).ok_or_else(|| "Boost's queue does not open".into())
        }

        /// Sends, or tells that there is no room.
        #[inline]
        fn send(&self, bytes: &[u8], block: bool) -> Outcome<Option<()>> {
            // SAFETY: the queue is open, and reads as many bytes as the slice has.
            match unsafe { hqq_boost_send(self.0.as_ptr(), bytes.as_ptr(), bytes.len(), block.into()) } {
                0 => Ok(Some(())),
                -1 => Ok(None),
                _ => Err("Boost's queue failed to send".into()),
            }
        }

        /// The size of what came, or nothing.
        #[inline]
        fn recv(&self, into: &mut [u8], block: bool) -> Outcome<Option<usize>> {
            // SAFETY: the queue is open, and writes at most as many bytes as the slice has.
            match unsafe { hqq_boost_recv(self.0.as_ptr(), into.as_mut_ptr(), into.len(), block.into()) } {
                -1 => Ok(None),
                size => Ok(Some(usize::try_from(size).map_err(|_| "Boost's queue failed to receive")?)),
            }
        }
    }

    impl Drop for Queue {
        fn drop(&mut self) {
            // SAFETY: it was open, and is not used any more.
            unsafe { hqq_boost_close(self.0.as_ptr()) }
        }
    }

    struct Queues {
        output: Queue,
        input: Queue,
        buffer: Vec<u8>,
        sleeps: bool,
    }

    impl Exchange for Queues {
        #[inline]
        fn send(&mut self, how: How, number: u64, size: usize) -> Outcome {
            write(how, number, &mut self.buffer[..size]);
            spin(|| self.output.send(&self.buffer[..size], self.sleeps))
        }

        #[inline]
        fn recv(&mut self, how: How, number: u64, size: usize) -> Outcome {
            let len = loop {
                match self.input.recv(&mut self.buffer, self.sleeps)? {
                    Some(len) => break len,
                    // Each look takes the queue's lock, which the sender needs.
                    None => (0..PAUSES).for_each(|_| hint::spin_loop()),
                }
            };
            if len != size {
                return Err(format!("a message of {len} bytes came, and {size} were due").into());
            }
            read(how, number, &self.buffer[..size])
        }
    }

    /// `boost::interprocess::message_queue`.
    pub struct Boost {
        pub traces: Traces,
    }

    impl Boost {
        fn open(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
            let (leads, size) = (session.leads(), session.size());
            let name = |there: bool| {
                let direction = if there { "there" } else { "back" };
                CString::new(format!("{}{}-{direction}", self.traces.prefix(), session.name()))
            };
            let (there, back) = (name(true)?, name(false)?);
            if !leads {
                session.recv()?;
            }
            let make = leads.then(|| capacity(session));
            let (there_queue, back_queue) =
                (Queue::open(&there, make, size)?, Queue::open(&back, make, size)?);
            if leads {
                session.send(b"made")?;
                session.recv()?;
                for name in [&there, &back] {
                    // SAFETY: the name is a C string. Who has opened the queue keeps its memory.
                    unsafe { hqq_boost_remove(name.as_ptr()) };
                }
            } else {
                session.send(b"opened")?;
            }
            let (output, input) = if leads { (there_queue, back_queue) } else { (back_queue, there_queue) };
            let sleeps = session.case().kind == Kind::Sleeping;
            Ok(Box::new(Queues { output, input, buffer: vec![0; size], sleeps }))
        }
    }

    impl System for Boost {
        fn name(&self) -> &'static str {
            "boost-queue"
        }

        fn can(&self, case: &Case) -> bool {
            copies(case.kind) || case.kind == Kind::ThroughputMpmc
        }

        fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
            self.open(session)
        }

        fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
            self.open(session)
        }
    }
}
