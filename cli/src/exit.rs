//! Exit codes, and errors with hints.

use std::io;

/// The exit codes, as `--help` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A check or a verification failed.
    Failed = 1,
    /// The command line, or a value in it, is invalid.
    Usage = 2,
    /// The name does not exist or is in use.
    Name = 3,
    /// The other process died, or the link broke.
    Link = 4,
    /// The other end refused, or belongs to another user.
    Refused = 5,
    /// The operating system reported an error.
    System = 6,
}

/// The table of exit codes for `--help`.
pub const CODES: &str = "\
Exit codes:
  0  success
  1  a check or a verification failed
  2  invalid command line
  3  the name does not exist or is in use
  4  the other process died or stopped early, or the link broke
  5  the other end refused or belongs to another user
  6  error of the operating system";

/// An error of the command, with a hint.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// One sentence, without a full stop.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

/// The result of a step of the command.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// Sets the hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error of the operating system.
    pub fn system(doing: impl std::fmt::Display, error: &io::Error) -> Self {
        Self::new(Exit::System, format!("{doing}: {error}"))
    }

    /// Prepends what was being done to the message.
    pub fn during(mut self, doing: &str) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl From<hqq::Error> for Failure {
    fn from(error: hqq::Error) -> Self {
        use hqq::Error as E;
        let (exit, hint) = match &error {
            E::NoSuchName { .. } | E::NameInUse { .. } => (Exit::Name, None),
            E::BadName { .. } | E::TooLarge { .. } => (Exit::Usage, None),
            E::Geometry { .. } | E::RegionTooLarge { .. } => {
                (Exit::Usage, Some("choose other sizes; --help lists the limits".into()))
            }
            E::Closed | E::PeerDead | E::PeerGone | E::Cut { .. } | E::Corrupt { .. } | E::Timeout { .. } => {
                (Exit::Link, None)
            }
            E::OtherUser { .. } | E::Refused { .. } | E::Handshake { .. } | E::FormatVersion { .. } => {
                (Exit::Refused, None)
            }
            E::Os { source, .. } => (Exit::System, system_hint(source)),
            _ => (Exit::System, None),
        };
        Self { exit, message: error.to_string(), hint }
    }
}

/// Hints for common errors of the kernel.
fn system_hint(error: &io::Error) -> Option<String> {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "only its owner and root may inspect a process",
        io::ErrorKind::StorageFull | io::ErrorKind::OutOfMemory => "free some memory, or use smaller buffers",
        io::ErrorKind::Unsupported => "HQQ needs Linux 6.5 or later",
        _ => return None,
    };
    Some(hint.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented() {
        for exit in
            [Exit::Failed, Exit::Usage, Exit::Name, Exit::Link, Exit::Refused, Exit::System].map(|e| e as u8)
        {
            assert!(CODES.lines().any(|line| line.starts_with(&format!("  {exit}  "))), "{exit}");
        }
    }

    #[test]
    fn errors_of_the_library_have_codes() {
        let name = || "x".to_owned();
        assert_eq!(Failure::from(hqq::Error::NoSuchName { name: name() }).exit, Exit::Name);
        assert_eq!(Failure::from(hqq::Error::NameInUse { name: name() }).exit, Exit::Name);
        assert_eq!(Failure::from(hqq::Error::PeerDead).exit, Exit::Link);
        assert_eq!(Failure::from(hqq::Error::OtherUser { uid: 1, expected: 2 }).exit, Exit::Refused);
        let source = io::Error::from(io::ErrorKind::StorageFull);
        let full = Failure::from(hqq::Error::Os { doing: "reserving", source });
        assert_eq!(full.exit, Exit::System);
        assert!(full.hint.is_some());
    }
}
