//! The operating system calls of HQQ, without its protocol.
//!
//! HQQ calls the kernel only through this crate, so the crates above use no `libc` and little `unsafe`:
//!
//! | module | what it wraps |
//! |---|---|
//! | [`mem`] | sealed anonymous memory (`memfd`) and its mappings |
//! | [`sock`] | Unix sockets that preserve message boundaries: addresses, credentials, descriptors, doorbell |
//! | [`poll`] | sleeping until a socket, a peer's death or a local event |
//! | [`peer`] | process identity and proof of death (`pidfd`) |
//! | [`ids`] | whether an equal user or group id proves anything |
//! | [`lock`] | a locked byte of shared memory, which proves that its holder's memory still exists |
//! | [`event`] | waking a thread of this process (`eventfd`) |
//! | [`barrier`] | a memory barrier on every thread of this process (`membarrier`) |
//! | [`cpu`] | processor affinity, processor time and the monotonic clock |
//! | [`random`] | random bytes of the kernel |
//! | [`spawn`] | passing a socket to a child process |
//! | `streams` | the standard streams, and which of them were closed at the start; with the feature `streams` |
//! | [`raw`] | minimal exchanges through shared memory, as references for benchmarks |
//!
//! Linux 6.5 or newer is needed, because older kernels do not report which process sent a message (`SO_PASSPIDFD`). On
//! them [`sock`] returns [`std::io::ErrorKind::Unsupported`].
//!
//! Functions that can fail return [`std::io::Result`], with the kernel's error number where there is one. Calls that a
//! signal interrupts are repeated. Every descriptor that this crate creates is close-on-exec, and its number is at least 3: it
//! never takes the place of a standard stream that the process has closed.

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!(
    "HQQ needs 64-bit Linux (kernel 6.5 or newer) on x86-64 or aarch64: it builds on sealed \
     memfds, pidfds and SO_PASSPIDFD, which other systems do not have."
);

#[cfg(target_os = "linux")]
pub mod barrier;
#[cfg(target_os = "linux")]
pub mod cpu;
#[cfg(target_os = "linux")]
pub mod event;
#[cfg(target_os = "linux")]
mod fd;
#[cfg(target_os = "linux")]
pub mod ids;
#[cfg(target_os = "linux")]
pub mod lock;
#[cfg(target_os = "linux")]
pub mod mem;
#[cfg(target_os = "linux")]
pub mod peer;
#[cfg(target_os = "linux")]
pub mod poll;
#[cfg(target_os = "linux")]
pub mod random;
#[cfg(target_os = "linux")]
pub mod raw;
#[cfg(target_os = "linux")]
pub mod sock;
#[cfg(target_os = "linux")]
pub mod spawn;
#[cfg(all(target_os = "linux", feature = "streams"))]
pub mod streams;
