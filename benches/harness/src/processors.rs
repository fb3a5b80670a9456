//! The processors to pin the two processes to, and a description of the machine.

use std::fs;

/// Two processors that this process may use, on different cores if possible; `None` if there is only one.
pub fn pair() -> Option<[usize; 2]> {
    let allowed = hqq_sys::cpu::allowed().ok()?;
    let (&first, others) = allowed.split_first()?;
    let path = format!("/sys/devices/system/cpu/cpu{first}/topology/core_cpus_list");
    let siblings = members(&fs::read_to_string(path).unwrap_or_default());
    let apart = others.iter().find(|other| !siblings.contains(other));
    Some([first, *apart.or(others.first())?])
}

/// The model and number of the processors, and the version of the kernel.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let guest = if cpuinfo.contains(" hypervisor") { ", virtual machine" } else { "" };
    let kernel = kernel.split(['-', '\n']).next().unwrap_or_default();
    format!("{model}, {} processors{guest}, Linux {kernel}", hqq_sys::cpu::online())
}

/// The numbers in a list such as `0,4-6`.
fn members(list: &str) -> Vec<usize> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_understood() {
        assert_eq!(members("0,4-6\n"), [0, 4, 5, 6]);
        assert_eq!(members("3"), [3]);
        assert!(members("").is_empty() && members("x-y").is_empty());
    }
}
