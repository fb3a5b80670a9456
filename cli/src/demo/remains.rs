//! Checks that nothing is left behind when a link has ended.
//!
//! Others use the same names, process ids and folders at the same time. So only what belongs to this process, or to the
//! child that it started, counts: its descriptors, the sockets among them, its mappings, and its children.

use std::collections::BTreeSet;
use std::fs;

/// The descriptors that existed before.
pub struct Remains {
    descriptors: BTreeSet<String>,
}

impl Remains {
    /// Records the descriptors that exist.
    pub fn before() -> Self {
        Self { descriptors: descriptors() }
    }

    /// Lists what this process and `child`, which has been reaped, have left behind.
    pub fn left_behind(&self, child: u32) -> Vec<String> {
        let mut found = Vec::new();
        if is_child(child) {
            found.push(format!("process {child}"));
        }
        let now = descriptors();
        let new: Vec<_> = now.difference(&self.descriptors).collect();
        found.extend(new.iter().map(|what| format!("descriptor {what}")));
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mapped = maps.lines().filter(|line| line.contains("/memfd:hqq"));
        found.extend(mapped.map(|line| format!("mapping {line}")));
        // A name lives as long as its socket, and the child has no descriptors any more.
        let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let named = sockets.lines().filter_map(|line| {
            let mut fields = line.split_whitespace().skip(6);
            Some((fields.next()?, fields.next()?))
        });
        let ours = named.filter(|(inode, _)| {
            let socket = format!(", socket:[{inode}]");
            new.iter().any(|what| what.ends_with(&socket))
        });
        found.extend(ours.map(|(_, name)| format!("socket {name}")));
        found
    }
}

/// Whether a process with this id is a child of this one. After the child has been reaped, others may get its id.
fn is_child(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent.and_then(|parent| parent.trim().parse().ok()) == Some(std::process::id())
}

/// The open descriptors of this process, as number and target.
fn descriptors() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let numbers: Vec<_> = numbers.collect();
    let targets = numbers.into_iter().filter_map(|number| {
        // The descriptor that listed the others is closed by now.
        let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
        // The standard library keeps it open where the kernel refuses random numbers by a call.
        (target.as_os_str() != "/dev/urandom").then(|| format!("{number}, {}", target.display()))
    });
    targets.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn what_is_left_behind_is_found() {
        let before = Remains::before();
        let name = format!("left-behind-{}", std::process::id());
        let listener = hqq::Listener::bind(&name).unwrap();
        let (link, _other) = hqq::StandardLink::pair().unwrap();
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let found = before.left_behind(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        let has = |what: &str| found.iter().any(|found| found.contains(what));
        assert!(has(&format!("process {}", child.id())), "{found:?}");
        assert!(has("descriptor"), "{found:?}");
        assert!(has("mapping"), "{found:?}");
        assert!(found.iter().any(|found| found.starts_with("socket ") && found.contains(&name)), "{found:?}");
        drop((link, listener));
    }

    #[test]
    fn a_process_with_the_id_of_a_child_is_none() {
        assert!(!is_child(1) && !is_child(std::process::id()) && !is_child(u32::MAX));
    }
}
