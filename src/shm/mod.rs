//! The shared memory, and everything that one end does with it without waiting. `no_std`, without allocation.
//!
//! | what | where |
//! |---|---|
//! | the words in shared memory and their bits | [`words`] |
//! | number of slots and buffers, modes, offsets | [`layout`]: [`Geometry`](layout::Geometry), [`Modes`](layout::Modes), [`Layout`](layout::Layout) |
//! | packets, and the check of a packet from the peer | [`packet`]: [`Operation::check`](packet::Operation::check) |
//! | a slot is claimed, published | [`ring`]: [`Producer::claim`](ring::Producer::claim), [`publish`](ring::Producer::publish) |
//! | a packet is taken, its slot released | [`ring`]: [`Consumer::take`](ring::Consumer::take), [`release`](ring::Consumer::release) |
//! | a buffer is allocated, held, freed | [`pool`]: [`Pool::allocate`](pool::Pool::allocate), [`hold`](pool::Pool::hold), [`give`](pool::Pool::give) |
//! | a buffer as bytes | [`buffer`]: [`Buffer`](buffer::Buffer) |
//! | a sleeping process is announced, found | [`sleepers`]: [`Sleepers::announce`](sleepers::Sleepers::announce), [`check`](sleepers::Sleepers::check) |
//! | a process joins, leaves | [`seats`]: [`Seats::join`](seats::Seats::join), [`leave`](seats::Seats::leave) |
//! | the operations of a dead process are completed or undone | [`recover`] |
//! | the first page is written, checked | [`superblock`] |
//! | a region is created, attached to, recovered, left | [`region`]: [`Region`](region::Region) |
//! | messages are sent, received | [`endpoint`]: [`Region::send`](region::Region::send), [`Region::receive`](region::Region::receive) |
//!
//! Raw memory is accessed in `region.rs`, `region/direction.rs`, `region/owned.rs` and `buffer.rs` only. The
//! lock-free files (`ring.rs`, `pool.rs`, `sleepers.rs`, `seats.rs`, `recover.rs`) open with a table of their
//! ordering edges; `docs/memory-model.md` has the arguments, `docs/spec.md` the format.

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
