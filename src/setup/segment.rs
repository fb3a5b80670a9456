//! Links on named segments (feature `named`), where processes cannot share a socket. The crate `shared_memory` makes the
//! segments.
//!
//! They are for trusted peers only. A named segment cannot be sealed: a process that may open it can truncate it or punch
//! holes into it, and then this process gets SIGBUS. Nothing identifies the peer or reports its death. There is no doorbell,
//! so calls poll: they spin, yield, and return an error at their deadline. Prefer [`StandardLink`](crate::StandardLink)
//! wherever it works.
//!
//! ```
//! use std::time::Duration;
//! use hqq::{Options, segment};
//!
//! # let name = format!("hqq-doc-{}", std::process::id());
//! let primary = segment::create(&name, &Options::new())?;
//! let secondary = segment::open(&name)?; // usually in another process
//! primary.send_timeout(b"hello", Duration::from_secs(1))?;
//! let message = secondary.recv_timeout(Duration::from_secs(1))?;
//! assert_eq!(&*message, b"hello");
//! # Ok::<(), hqq::error::Error>(())
//! ```

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use shared_memory::{Shmem, ShmemConf, ShmemError};

use crate::error::{Error, Result};
use crate::options::Options;
use crate::shm::endpoint::{Incoming, Payload};
use crate::shm::layout::{RingMode, required_bytes};
use crate::shm::region::owned::OwnedRegion;
use crate::shm::superblock::Setup;
use crate::shm::words::Role;

/// Polls between two readings of the clock.
const POLLS: u32 = 256;

/// One end of a link on a named segment. Threads may share it.
pub struct SegmentLink {
    region: OwnedRegion<Shmem>,
}

/// Creates the segment `name` with a region in it; this end is the Primary. Dropping this end removes the segment.
///
/// # Errors
/// [`Error::Geometry`] or [`Error::RegionTooLarge`] for the options; [`Error::Unsupported`] for a ring mode other than
/// MPMC, which would not be enforced here, or for [`Options::protected`]; [`Error::NameInUse`]; [`Error::Os`], also if the
/// file system has no room for the segment.
pub fn create(name: &str, options: &Options) -> Result<SegmentLink> {
    if options.modes.ring != RingMode::Mpmc {
        return Err(Error::Unsupported {
            what: "a link on a named segment has MPMC rings: leave Options::ring_mode at its default",
        });
    }
    if options.modes.protected {
        return Err(Error::Unsupported {
            what: "a link on a named segment cannot be protected: leave out Options::protected, or use a Listener",
        });
    }
    let geometry = options.geometry()?;
    let page = hqq_sys::mem::page_size() as u64;
    let need = required_bytes(&geometry, page)?;
    let allowed = hqq_sys::mem::check_file_size(need);
    allowed.map_err(|source| Error::Os { doing: "making a named segment", source })?;
    let memory = ShmemConf::new().os_id(name).size(need as usize).create();
    let memory = memory.map_err(|error| segment_error(name, error))?;
    // The crate reserves no memory: on a full tmpfs the first access would raise SIGBUS.
    let base = NonNull::new(memory.as_ptr()).ok_or(Error::Misaligned {
        what: "the mapping of the segment",
        address: 0,
        align: page,
    })?;
    let reserved = hqq_sys::mem::reserve(base, need as usize);
    reserved.map_err(|source| Error::Os { doing: "reserving a named segment", source })?;
    let setup = Setup { geometry, modes: options.modes, page, epoch: 1, first_lap: 0, name };
    let mut region = OwnedRegion::create(memory, &setup, false)?;
    region.limit_messages(options.max_message);
    Ok(SegmentLink { region })
}

/// Opens the segment `name`; this end is the Secondary.
///
/// # Errors
/// [`Error::NoSuchName`]; the errors of [`Region::attach`](crate::shm::region::Region::attach); [`Error::Os`].
pub fn open(name: &str) -> Result<SegmentLink> {
    let memory = ShmemConf::new().os_id(name).open().map_err(|error| segment_error(name, error))?;
    let region =
        OwnedRegion::attach(memory, hqq_sys::mem::page_size() as u64, Role::Secondary, |_| Some(false))?;
    Ok(SegmentLink { region })
}

/// Converts an error of the crate `shared_memory`.
fn segment_error(name: &str, error: ShmemError) -> Error {
    let name = name.to_owned();
    let missing = std::io::ErrorKind::NotFound;
    match error {
        ShmemError::MappingIdExists | ShmemError::LinkExists => Error::NameInUse { name },
        ShmemError::MapOpenFailed(code)
            if std::io::Error::from_raw_os_error(code as i32).kind() == missing =>
        {
            Error::NoSuchName { name }
        }
        other => Error::Os { doing: "opening a named segment", source: std::io::Error::other(other) },
    }
}

impl SegmentLink {
    /// The role of this end.
    pub fn role(&self) -> Role {
        self.region.region().role()
    }

    /// Sends `message` if there is room now.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::RingFull`], [`Error::PoolExhausted`], [`Error::PoolFragmented`] or
    /// [`Error::Busy`]; [`Error::Corrupt`].
    pub fn try_send(&self, message: &[u8]) -> Result<()> {
        self.region.region().send_bytes(message, |_| {})
    }

    /// Sends `message`, polling for room no longer than `time`.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Timeout`], [`Error::Corrupt`].
    pub fn send_timeout(&self, message: &[u8], time: Duration) -> Result<()> {
        poll(time, "room to send: the peer must receive and drop messages", || match self.try_send(message) {
            Err(error) if error.is_transient() => Ok(None),
            done => done.map(Some),
        })
    }

    /// Receives the next message if one has arrived. Packets without a message are skipped.
    ///
    /// # Errors
    /// [`Error::RingEmpty`], [`Error::Corrupt`].
    pub fn try_recv(&self) -> Result<SegmentMessage<'_>> {
        let region = self.region.region();
        // Bounded, so that a peer that sends other packets only does not keep this call.
        for _ in 0..region.layout().geometry.slots() {
            match region.receive(|_| true, |_| {})? {
                Incoming::Message(payload, _) => {
                    return Ok(SegmentMessage { link: self, payload: Some(payload) });
                }
                Incoming::ConnData(_, Some(buffer)) => region.give(buffer),
                Incoming::Empty => break,
                _ => {}
            }
        }
        Err(Error::RingEmpty)
    }

    /// Receives the next message, polling for it no longer than `time`.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Corrupt`].
    pub fn recv_timeout(&self, time: Duration) -> Result<SegmentMessage<'_>> {
        poll(time, "a message: the peer has sent none", || match self.try_recv() {
            Err(error) if error.is_transient() => Ok(None),
            done => done.map(Some),
        })
    }
}

/// Calls `attempt` until it returns something or `time` has passed. `what` is what the call waits for.
fn poll<T>(time: Duration, what: &'static str, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        for _ in 0..POLLS {
            if let Some(value) = attempt()? {
                return Ok(value);
            }
            std::hint::spin_loop();
        }
        if began.elapsed() >= time {
            return Err(Error::Timeout { what, after: began.elapsed() });
        }
        std::thread::yield_now();
    }
}

impl fmt::Debug for SegmentLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentLink").field("role", &self.role()).finish_non_exhaustive()
    }
}

/// A received message, read in place; dereferences to `[u8]`. Dropping it releases its buffers.
pub struct SegmentMessage<'a> {
    link: &'a SegmentLink,
    payload: Option<Payload<'static>>,
}

impl Deref for SegmentMessage<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.payload {
            Some(Payload::Slot(inline)) => inline.bytes(),
            Some(Payload::Pool(buffer)) => buffer.bytes(),
            None => &[],
        }
    }
}

impl Drop for SegmentMessage<'_> {
    fn drop(&mut self) {
        if let Some(payload) = self.payload.take() {
            self.link.region.region().give_message(payload);
        }
    }
}

impl fmt::Debug for SegmentMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentMessage").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn name(test: &str) -> String {
        format!("hqq-test-{test}-{}", std::process::id())
    }

    #[test]
    fn messages_of_every_kind_pass_both_ways() {
        let name = name("both");
        let primary = create(&name, &Options::new().buffer_size(1024)).unwrap();
        let secondary = open(&name).unwrap();
        for len in [0, 1, 48, 49, 1024, 5000] {
            let message = vec![len as u8; len];
            primary.send_timeout(&message, SOON).unwrap();
            assert_eq!(*secondary.recv_timeout(SOON).unwrap(), message);
            secondary.send_timeout(&message, SOON).unwrap();
            assert_eq!(*primary.recv_timeout(SOON).unwrap(), message);
        }
        assert!(matches!(primary.try_recv(), Err(Error::RingEmpty)));
    }

    /// Set for the copy of this program that has a tiny tmpfs.
    const TINY: &str = "HQQ_TEST_TINY_TMPFS";

    #[test]
    fn a_full_tmpfs_is_an_error_and_no_signal() {
        if std::env::var_os(TINY).is_some() {
            let (small, large) = (Options::new().slots(4).buffers(4).buffer_size(64), Options::new());
            let error = create(&name("large"), &large).unwrap_err();
            let full = std::io::ErrorKind::StorageFull;
            assert!(matches!(&error, Error::Os { source, .. } if source.kind() == full), "{error:?}");
            assert!(matches!(open(&name("large")), Err(Error::NoSuchName { .. })), "the segment was removed");
            let _fits = create(&name("small"), &small).unwrap();
            return;
        }
        // In namespaces of its own, where any user may mount a file system.
        let script = "mount -t tmpfs -o size=256k hqq /dev/shm || exit 77; exec \"$0\" --exact \
                      setup::segment::tests::a_full_tmpfs_is_an_error_and_no_signal";
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        let output = command.arg(std::env::current_exe().unwrap()).env(TINY, "1").output();
        match output {
            Ok(output) if output.status.success() => {
                assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
            }
            Ok(output) if !matches!(output.status.code(), Some(1 | 77)) => panic!("{output:?}"),
            failed => eprintln!("WARNING: A FULL TMPFS WAS NOT TRIED: none can be mounted here: {failed:?}"),
        }
    }

    /// Set for the copy of this program that may make small files only.
    const LIMITED: &str = "HQQ_TEST_FILE_SIZE_LIMIT";

    #[test]
    fn a_limit_on_file_sizes_is_an_error_and_no_signal() {
        if std::env::var_os(LIMITED).is_some() {
            let error = create(&name("limited"), &Options::new()).unwrap_err();
            let large = std::io::ErrorKind::FileTooLarge;
            assert!(matches!(&error, Error::Os { source, .. } if source.kind() == large), "{error:?}");
            assert!(error.to_string().contains("limit on file sizes of 1024000 bytes"), "{error}");
            assert!(matches!(open(&name("limited")), Err(Error::NoSuchName { .. })), "nothing was made");
            return;
        }
        let script = "ulimit -f 2000; exec \"$0\" --exact \
                      setup::segment::tests::a_limit_on_file_sizes_is_an_error_and_no_signal";
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).arg(std::env::current_exe().unwrap()).env(LIMITED, "1");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
    }

    #[test]
    fn wrong_names_are_told_apart() {
        let name = name("names");
        assert!(matches!(open(&name), Err(Error::NoSuchName { .. })));
        let _there = create(&name, &Options::new()).unwrap();
        assert!(matches!(create(&name, &Options::new()), Err(Error::NameInUse { .. })));
        let spsc = Options::new().ring_mode(RingMode::Spsc);
        assert!(matches!(create(&name, &spsc), Err(Error::Unsupported { .. })));
    }
}
