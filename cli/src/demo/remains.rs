//! Checks that nothing is left behind when a link has ended.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The descriptors and shared files that existed before.
pub struct Remains {
    descriptors: BTreeSet<String>,
    shared: BTreeSet<String>,
}

/// The folder of named shared memory.
const NAMED: &str = "/dev/shm";

impl Remains {
    /// Records the descriptors and shared files that exist.
    pub fn before() -> Self {
        Self { descriptors: descriptors(), shared: names(NAMED) }
    }

    /// Lists what this process and `child`, which has been reaped, have left behind.
    pub fn left_behind(&self, child: u32) -> Vec<String> {
        let mut found = Vec::new();
        if Path::new("/proc").join(child.to_string()).exists() {
            found.push(format!("process {child}"));
        }
        let descriptors = descriptors();
        found.extend(descriptors.difference(&self.descriptors).map(|what| format!("descriptor {what}")));
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mapped = maps.lines().filter(|line| line.contains("/memfd:hqq:"));
        found.extend(mapped.map(|line| format!("mapping {line}")));
        let own = [std::process::id(), child].map(|pid| pid.to_string());
        let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let names = sockets.lines().filter_map(|line| line.split_whitespace().nth(7));
        let ours = names.filter(|name| name.contains("hqq.") && own.iter().any(|pid| name.ends_with(pid)));
        found.extend(ours.map(|name| format!("socket {name}")));
        // Other programs use this folder, too; only names of HQQ count.
        let shared = self::names(NAMED);
        let new = shared.difference(&self.shared).filter(|name| name.contains("hqq"));
        found.extend(new.map(|name| format!("file {NAMED}/{name}")));
        found
    }
}

/// The names in a folder; none if it cannot be read.
fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The open descriptors of this process, as number and target.
fn descriptors() -> BTreeSet<String> {
    let numbers = names("/proc/self/fd").into_iter();
    // The descriptor that listed the others is closed by now.
    numbers
        .filter_map(|number| {
            let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
            Some(format!("{number}, {}", target.display()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn what_is_left_behind_is_found() {
        let before = Remains::before();
        let (link, _other) = hqq::StandardLink::pair().unwrap();
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let found = before.left_behind(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        let has = |what: &str| found.iter().any(|found| found.contains(what));
        assert!(has(&format!("process {}", child.id())), "{found:?}");
        assert!(has("descriptor"), "{found:?}");
        assert!(has("mapping"), "{found:?}");
        drop(link);
    }
}
