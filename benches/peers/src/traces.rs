//! Removes the files that peers leave behind.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Where POSIX's named shared memory is.
const SHARED_MEMORY: &str = "/dev/shm";
/// What all names begin with; then comes the keeper's process id.
const NAME: &str = "hqq-peers-";

/// The folder and the names that one run uses for whatever must have a place in the file system.
#[derive(Clone)]
pub struct Traces {
    keeper: u32,
    folder: PathBuf,
    prefix: String,
}

impl Traces {
    /// Those of the run whose keeper is the process of this id.
    pub fn of(keeper: u32) -> Self {
        let prefix = format!("{NAME}{keeper}-");
        Self { keeper, folder: env::temp_dir().join(&prefix), prefix }
    }

    /// Makes the folder. What runs have left whose keepers were killed goes first.
    ///
    /// # Errors
    /// The kernel's.
    pub fn make(&self) -> io::Result<()> {
        sweep(|keeper| keeper == self.keeper || !Path::new(&format!("/proc/{keeper}")).exists());
        fs::create_dir(&self.folder)
    }

    /// A folder of this run's.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the names of this run begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Removes what is there.
    pub fn remove(&self) {
        sweep(|keeper| keeper == self.keeper);
    }
}

/// Removes what the runs of some keepers left. Errors are none: another run may do the same.
fn sweep(unwanted: impl Fn(u32) -> bool) {
    for folder in [Path::new(SHARED_MEMORY), &env::temp_dir()] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if keeper_of(&entry.file_name()).is_some_and(&unwanted) {
                let path = entry.path();
                let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            }
        }
    }
}

/// The keeper of the run that used such a name.
fn keeper_of(name: &OsStr) -> Option<u32> {
    name.to_str()?.strip_prefix(NAME)?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_whose_they_are() {
        assert_eq!(keeper_of(OsStr::new("hqq-peers-12-service")), Some(12));
        assert_eq!(keeper_of(OsStr::new("hqq-peers-12")), None);
        assert_eq!(keeper_of(OsStr::new("iox2_12-")), None);
    }
}
