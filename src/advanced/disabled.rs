//! What a build has in place of layers that it leaves out: types of which there are no values.

#[cfg(not(feature = "compress"))]
mod compression {
    use super::super::pipeline::Decoded;
    use crate::error::Result;

    #[derive(Debug)]
    pub(crate) enum Compression {}

    impl Compression {
        pub(crate) const HEADER: usize = 0;

        pub(crate) fn room(&self, _: usize) -> usize {
            match *self {}
        }

        pub(crate) fn apply(&self, _: &[u8], _: &mut [u8]) -> usize {
            match *self {}
        }

        pub(crate) fn undo(&self, _: &[u8], _: u64) -> Result<Decoded> {
            match *self {}
        }
    }
}
#[cfg(not(feature = "compress"))]
pub(super) use compression::Compression;

#[cfg(not(feature = "encrypt"))]
mod encryption {
    use std::sync::Arc;

    use super::super::Compression;
    use super::super::pipeline::Pipeline;
    use crate::error::Result;

    #[derive(Debug)]
    pub(crate) enum Encryption {}

    impl Encryption {
        pub(crate) const HEADER: usize = 0;

        pub(crate) fn of_connection(&self, _: u64, _: Option<Arc<Compression>>) -> Pipeline {
            match *self {}
        }

        pub(crate) fn send_in_order<T>(&self, _: u64, _: impl FnOnce() -> T) -> Option<T> {
            match *self {}
        }

        pub(crate) fn seal(&self, _: &[u8], _: &[u8; 16], _: &mut [u8]) -> Result<u64> {
            match *self {}
        }

        pub(crate) fn sealed(&self, _: &[u8], _: &[u8; 16]) -> Result<Vec<u8>> {
            match *self {}
        }

        pub(crate) fn open(&self, _: &[u8], _: &[u8; 16]) -> Result<Vec<u8>> {
            match *self {}
        }
    }
}
#[cfg(not(feature = "encrypt"))]
pub(super) use encryption::Encryption;
