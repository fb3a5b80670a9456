//! The operating system calls of HQQ.
