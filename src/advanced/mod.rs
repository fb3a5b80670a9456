//! The Advanced Link: a [`StandardLink`](crate::StandardLink) and what both ends agreed on beyond it.
//!
//! | file | what is in it |
//! |---|---|
//! | `link.rs` | [`AdvancedLink`]: how two ends come to an agreement, and the link that has one |
//! | `options.rs` | [`AdvancedOptions`]: what an end asks for; a layer for messages is made here |
//! | `keys.rs` | the key exchange of an encrypted link |
//! | `reliability.rs`, `reliable.rs` | reliable delivery: how it is asked for, and used |
//!
//! The layers themselves are in the crate `hqq-features`, and `link/pipeline.rs` applies them.
//!
//! ```
//! use std::thread;
//! use std::time::Duration;
//! use hqq::{AdvancedLink, StandardLink};
//! use hqq::advanced::AdvancedOptions;
//! use hqq::agreement::Capabilities;
//!
//! let (primary, secondary) = StandardLink::pair()?;
//! let options = AdvancedOptions::new().capability(Capabilities::LOW_LATENCY);
//! let soon = Duration::from_secs(5);
//! let peer = thread::spawn(move || AdvancedLink::wait_for_negotiation(secondary, &options, soon));
//! let options = AdvancedOptions::new().capability(Capabilities::LOW_LATENCY | Capabilities::LARGE_BUFFERS);
//! let primary = AdvancedLink::negotiate(primary, &options, soon)?;
//! let secondary = peer.join().unwrap()?;
//! assert_eq!(primary.agreement().capabilities, Capabilities::LOW_LATENCY);
//! primary.send(b"as on any link")?;
//! assert_eq!(&*secondary.recv()?, b"as on any link");
//! # Ok::<(), hqq::Error>(())
//! ```
//!
//! Between two processes one listens and the other connects, as for any link, and one of them begins:
//!
//! ```
//! use std::time::Duration;
//! use hqq::{AdvancedLink, Listener, StandardLink};
//! use hqq::advanced::AdvancedOptions;
//!
//! const SOON: Duration = Duration::from_secs(5);
//!
//! fn server(name: &str) -> hqq::Result<()> {
//!     let link = Listener::bind(name)?.accept()?;
//!     let link = AdvancedLink::wait_for_negotiation(link, &AdvancedOptions::new().flow_control(16).statistics(), SOON)?;
//!     println!("agreed on: {}", link.agreement().features);
//!     let connection = link.accept_connection()?;
//!     connection.send(&connection.recv()?)
//! }
//!
//! fn client(name: &str) -> hqq::Result<Vec<u8>> {
//!     let link = StandardLink::connect_timeout(name, SOON)?;
//!     let link = AdvancedLink::negotiate(link, &AdvancedOptions::new().flow_control(64).statistics(), SOON)?;
//!     let connection = link.open_connection()?;
//!     connection.send(b"to and fro")?;
//!     connection.recv()
//! }
//! # let name = format!("doc-agreed-{}", std::process::id());
//! # let theirs = name.clone();
//! # let server = std::thread::spawn(move || server(&theirs));
//! # assert_eq!(client(&name)?, b"to and fro");
//! # server.join().unwrap()?;
//! # Ok::<(), hqq::Error>(())
//! ```
//!
//! Either end may begin, or both; if neither does, both wait in vain.

#[cfg(feature = "encrypt")]
mod keys;
mod link;
mod options;
mod reliability;
mod reliable;
#[cfg(test)]
mod tests;

#[cfg(feature = "encrypt")]
pub use keys::entropy;
pub use link::AdvancedLink;
pub use options::AdvancedOptions;
pub use reliability::{Deliveries, Reliability};
