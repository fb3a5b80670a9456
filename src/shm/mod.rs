//! The shared memory and everything that one end does with it without waiting: words, rings, pools, recovery. `no_std`,
//! without allocation.

pub mod buffer;
pub mod endpoint;
pub mod layout;
pub mod packet;
pub mod pool;
pub mod recover;
pub mod region;
pub mod ring;
pub mod seats;
pub mod sleepers;
pub mod superblock;
pub mod words;
