//! The operating system calls of HQQ, and nothing of its protocol.
//!
//! Everything that HQQ asks of the kernel goes through here, so that the crates above hold no
//! `libc` and hardly any `unsafe`:
//!
//! | module | what it wraps |
//! |---|---|
//! | [`mem`] | sealed anonymous memory (`memfd`) and its mappings |
//! | [`sock`] | Unix sockets that keep messages apart: names, credentials, descriptors, doorbell |
//! | [`poll`] | sleeping on a socket, a peer's death and a local event at once |
//! | [`peer`] | process identity and proof of death (`pidfd`) |
//! | [`lock`] | a locked byte of shared memory: proof that its holder's memory lives |
//! | [`event`] | waking a thread of this process (`eventfd`) |
//! | [`barrier`] | a memory barrier on every thread of this process (`membarrier`) |
//! | [`cpu`] | processor affinity and processor time |
//! | [`random`] | random bytes of the kernel |
//! | [`spawn`] | handing a socket to a child process |
//! | [`raw`] | one cache line to and fro, what a link is measured against |
//!
//! Linux 6.5 or newer is needed, because older kernels do not tell with a message which process
//! sent it (`SO_PASSPIDFD`); [`sock`] reports that as [`std::io::ErrorKind::Unsupported`].
//!
//! Functions that can fail return [`std::io::Result`] and keep the kernel's error number where
//! there is one. Calls that a signal interrupts are repeated. Every descriptor made here is
//! close-on-exec.

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
