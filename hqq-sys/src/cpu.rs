//! Processor affinity, processor time and the monotonic clock.

use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Number of processors of this machine, including those that this process may not use; at least 1.
pub fn online() -> usize {
    // SAFETY: a query without pointers.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count).unwrap_or(1).max(1)
}

/// Numbers of the processors that the calling thread may run on, ascending.
///
/// # Errors
/// The kernel's, on machines with more than 1,024 processors.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&n| set.is_set(n)).collect())
}

/// Restricts the calling thread, and threads that it starts later, to processor `cpu`.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if there is no such processor or this process may not use it.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("processor {cpu} cannot be named: the highest number is {}", CpuSet::MAX_CPU - 1),
        ));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Processor time that all threads of this process have used, in user and kernel mode.
pub fn cpu_time() -> Duration {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    // This clock starts at zero, so neither part is negative.
    Duration::new(t.tv_sec.unsigned_abs(), t.tv_nsec.unsigned_abs() as u32)
}

/// Time of the monotonic clock: the same for all processes of this machine. It never decreases.
pub fn now() -> Duration {
    let t = clock_gettime(ClockId::Monotonic);
    Duration::new(t.tv_sec.unsigned_abs(), t.tv_nsec.unsigned_abs() as u32)
}

/// Number of [`spin_loop`](std::hint::spin_loop) pauses that take about `time`, from 1 to 4,096. The first call
/// measures one pause, which takes some microseconds: pauses of different processors differ by a factor of ten.
pub fn pauses(time: Duration) -> u32 {
    const SAMPLE: u32 = 128;
    static PICOS: OnceLock<u64> = OnceLock::new();
    if time.is_zero() {
        return 1;
    }
    let picos = *PICOS.get_or_init(|| {
        let sample = || {
            let began = Instant::now();
            (0..SAMPLE).for_each(|_| std::hint::spin_loop());
            began.elapsed()
        };
        // Interruptions prolong a sample, so the shortest is the best.
        let shortest = (0..5).map(|_| sample()).min().unwrap_or_default();
        shortest.as_nanos() as u64 * 1000 / u64::from(SAMPLE)
    });
    // Zero if the clock is too coarse to measure a pause.
    let count = (time.as_nanos() as u64 * 1000).checked_div(picos).unwrap_or(1);
    count.clamp(1, 1 << 12) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_take_about_as_long_as_they_should() {
        assert_eq!(pauses(Duration::ZERO), 1);
        let (few, many) = (pauses(Duration::from_nanos(500)), pauses(Duration::from_micros(20)));
        assert!(few >= 1 && many > 10 * few, "{few} {many}");
    }

    #[test]
    fn pin_narrows_the_calling_thread_only() {
        let before = allowed().unwrap();
        assert!(!before.is_empty());
        let last = *before.last().unwrap();
        let inside = std::thread::spawn(move || {
            pin(last).unwrap();
            allowed().unwrap()
        })
        .join()
        .unwrap();
        assert_eq!(inside, [last]);
        assert_eq!(allowed().unwrap(), before);
    }

    #[test]
    fn pin_refuses_processors_that_do_not_exist() {
        for cpu in [CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU, usize::MAX] {
            let e = pin(cpu).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidInput, "{cpu}: {e}");
        }
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let before = cpu_time();
        let limit = Instant::now() + Duration::from_secs(10);
        while cpu_time() < before + Duration::from_millis(2) {
            assert!(Instant::now() < limit, "busy for 10 s, and no time was used");
        }
    }
}
