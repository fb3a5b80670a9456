//! Addresses of listeners.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::net::SocketAddrUnix;

/// Maximum length of a name in a socket's address, bytes, without the zero byte that starts or ends it.
const MAX_NAME: usize = 107;

/// Address of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A name without a file, of 1 to 107 bytes with any values. It is visible in the whole network namespace, and
    /// disappears with its listener.
    Abstract(Vec<u8>),
    /// A socket file, whose path has 1 to 107 bytes, none of them zero.
    Path(PathBuf),
}

impl Address {
    pub(super) fn to_unix(&self) -> io::Result<SocketAddrUnix> {
        let name = match self {
            Self::Abstract(name) => name.as_slice(),
            Self::Path(path) => path.as_os_str().as_bytes(),
        };
        // For an empty path the kernel would choose a name. It would also accept a path of 108 bytes without the final
        // zero, which other programs do not expect.
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the name of the socket has {} bytes; it must have 1 to {MAX_NAME}", name.len()),
            ));
        }
        Ok(match self {
            Self::Abstract(name) => SocketAddrUnix::new_abstract_name(name),
            Self::Path(path) => SocketAddrUnix::new(path.as_path()),
        }?)
    }
}
