//! What all links share ([`core`]), and what the caller holds: links, halves, connections, loans and messages.

pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod core;
pub(crate) mod deadline;
mod egress;
mod measure;
pub(crate) mod message;
mod meter;
pub(crate) mod methods;
mod negotiate;
mod pace;
pub(crate) mod pipeline;
pub(crate) mod reattach;
mod recv;
mod reliable;
pub(crate) mod send;
pub(crate) mod standard;
mod state;
mod stream;
pub(crate) mod timed_mutex;
pub(crate) mod untrusted;
pub(crate) mod wait;
pub(crate) mod waiters;
