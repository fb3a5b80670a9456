//! In a build without features that change messages, nothing can be done to them.

use std::sync::Arc;

use crate::advanced::{AdvancedMessage, Wanted};
use crate::conn::Connection;
use crate::error::Result;
use crate::inner::{Inner, Until};
use crate::protocol::Agreement;
use crate::words::Role;

/// There is none.
#[derive(Debug)]
pub(crate) enum Frames {}

impl Frames {
    pub(super) fn new(_: &Wanted, _: &Agreement, _: Role) -> Option<Arc<Self>> {
        None
    }

    pub(super) fn headers(&self) -> usize {
        match *self {}
    }

    pub(super) fn send(&self, _: &Arc<Inner>, _: &[u8], _: Option<Until>) -> Result<()> {
        match *self {}
    }

    pub(super) fn build(&self, _: &[u8]) -> Vec<u8> {
        match *self {}
    }

    pub(super) fn undo(&self, _: &Connection, _: Vec<u8>) -> Result<Vec<u8>> {
        match *self {}
    }

    pub(super) fn open(&self, _: &Inner, _: &mut AdvancedMessage<'_>) -> Result<()> {
        match *self {}
    }
}
