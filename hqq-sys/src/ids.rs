//! What an equal user or group id proves.
//!
//! The kernel translates the ids of a peer into the user namespace of the process that asks. Every id that is not mapped
//! there reads as the overflow id, 65534 unless the machine's owner chose another. So the overflow id names nobody, unless
//! the namespace maps all ids, as the initial one does: then it is an id like any other.
//!
//! A namespace that maps the overflow id, and not all others, does not help: those others read as that id as well.

use std::io;

use crate::fd::read_proc;

/// The overflow id of a kernel whose setting cannot be read.
const USUAL: u32 = 65534;
/// Number of ids that exist. 4,294,967,295 is none.
const ALL: u64 = u32::MAX as u64;

/// Which ids: those of users or those of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// User ids.
    User,
    /// Group ids.
    Group,
}

/// Whether a peer that has `id` here is the user or group of that id, and not anybody whom this namespace does not map.
///
/// # Errors
/// The kernel's, when descriptors or memory have run out. Where `/proc` cannot be read, 65534 proves nothing and other ids do.
pub fn proves(kind: Kind, id: u32) -> io::Result<bool> {
    let (map, overflow) = match kind {
        Kind::User => ("/proc/self/uid_map", "/proc/sys/kernel/overflowuid"),
        Kind::Group => ("/proc/self/gid_map", "/proc/sys/kernel/overflowgid"),
    };
    if maps_all(&read(map)?) {
        return Ok(true);
    }
    Ok(id != overflow_id(&read(overflow)?))
}

/// The text of a file; empty if there is none for this process.
fn read(path: &str) -> io::Result<String> {
    match read_proc(path) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => Err(e),
        other => Ok(other.unwrap_or_default()),
    }
}

/// Whether the text of a `uid_map` or `gid_map` maps all ids. Its ranges do not overlap.
fn maps_all(map: &str) -> bool {
    let count = |line: &str| {
        let mut words = line.split_ascii_whitespace().map(str::parse::<u64>);
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(Ok(_)), Some(Ok(_)), Some(Ok(count)), None) => Some(count),
            _ => None,
        }
    };
    map.lines().map(count).try_fold(0_u64, |sum, count| sum.checked_add(count?)) == Some(ALL)
}

/// The overflow id that the text of `overflowuid` or `overflowgid` says.
fn overflow_id(text: &str) -> u32 {
    text.trim().parse().unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_maps_all_ids_or_not() {
        for (map, all) in [
            ("         0          0 4294967295\n", true),
            ("0 1000 1\n1 0 1000\n1001 1001 4294966294\n", true),
            // None is mapped, as after `unshare -U`.
            ("", false),
            ("0 1000 1\n", false),
            ("65534 65534 1\n", false),
            ("0 0 65536\n", false),
            ("0 1000 1\n1 100000 65535\n", false),
            ("0 0 4294967294\n", false),
            ("0 0\n", false),
            ("0 0 4294967295 0\n", false),
            ("a b c\n", false),
            ("0 0 18446744073709551615\n1 1 4294967296\n", false),
        ] {
            assert_eq!(maps_all(map), all, "{map:?}");
        }
    }

    #[test]
    fn the_overflow_id_is_a_setting() {
        assert_eq!((overflow_id("65534\n"), overflow_id("12\n")), (65534, 12));
        assert_eq!((overflow_id(""), overflow_id("-1\n")), (USUAL, USUAL));
    }

    #[test]
    fn other_ids_are_proof() {
        for kind in [Kind::User, Kind::Group] {
            assert!(proves(kind, 1).unwrap());
        }
    }
}
