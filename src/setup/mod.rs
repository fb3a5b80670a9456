//! How links are made: names, listeners, the handshake between two processes, and named segments.
//!
//! | what | where |
//! |---|---|
//! | a name becomes the address of a socket | `address` in `connect` |
//! | a process connects to a listener | `connect` in `connect` |
//! | a listener accepts a socket and starts a handshake | `Listener::accept_pending` in `listener` |
//! | a peer is refused for its user or group | `check_user` in `identity`; before the handshake in `ServerHandshake::admits` |
//! | a successor is refused for its user | `AcceptPolicy::check_peer` in `handshake` |
//! | a peer is refused for its version or format | `check_greeting` in `handshake` |
//! | the connecting side refuses the listener | `connect` in `connect`, then `ClientHandshake::or_refuse` in `handshake` |
//! | a peer is refused since the region is too large for it | `ServerHandshake::offer` in `handshake` |
//! | a handshake takes too long | `Listener::drop_expired` in `listener` |
//! | a caller gives way to another, or gets memory next | the rules are in `admission` |
//! | the peer is sent the reason of a refusal | `ServerHandshake::drive` in `handshake`, by `PacketSocket::send_refusal` |
//! | this side learns that it was refused | `PacketSocket::receive` in `handshake` |
//! | handshakes that failed are counted | `Listener::count_refused` in `listener` |
//! | the Primary makes and sends the region | `NewRegion::new` in `memory`, `ServerHandshake::offer` in `handshake` |
//! | memory that a peer passed is refused | `check_memfd` in `memory` |
//! | the Secondary checks the region and takes a seat | `ClientHandshake::open` in `handshake` |
//! | the Primary checks the seat, and the link exists | `check_ready` and `ServerHandshake::advance` in `handshake` |
//! | a successor takes the place of a former Secondary | `Listener::reattach` in `listener`, then `link::reattach` |
//! | a parent offers a link and its child takes it | `Offer` and `StandardLink::inherited` in `child` |
//! | a link without a socket, feature `named` | `create` and `open` in `segment` |

mod admission;
pub(crate) mod child;
mod connect;
pub(crate) mod handshake;
mod identity;
pub(crate) mod listener;
mod memory;
#[cfg(feature = "named")]
pub mod segment;
