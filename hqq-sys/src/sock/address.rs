//! Where a listener can be found.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::net::SocketAddrUnix;

/// What a socket's address holds beside the zero byte that starts or ends the name.
const MAX_NAME: usize = 107;

/// Where a listener can be found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A name that is no file: gone with its listener, seen by all processes of the network
    /// namespace. 1 to 107 bytes, any values.
    Abstract(Vec<u8>),
    /// A socket file. The path may have 1 to 107 bytes, none of them zero.
    Path(PathBuf),
}

impl Address {
    pub(super) fn to_unix(&self) -> io::Result<SocketAddrUnix> {
        let name = match self {
            Self::Abstract(name) => name.as_slice(),
            Self::Path(path) => path.as_os_str().as_bytes(),
        };
        // The kernel takes an empty path for a request to make up a name. It would also take a
        // path of 108 bytes, without the final zero, which other programs do not expect.
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the name of the socket has {} bytes, and 1 to {MAX_NAME} fit", name.len()),
            ));
        }
        Ok(match self {
            Self::Abstract(name) => SocketAddrUnix::new_abstract_name(name),
            Self::Path(path) => SocketAddrUnix::new(path.as_path()),
        }?)
    }
}
