//! A forked child under ptrace, stepped by instruction; unsafe code, for fork, ptrace and addresses of the child. The kill
//! sweep and the exact costs use it.
//!
//! The child is a copy of this process, with the same code at the same addresses; shared memory stays shared. It
//! runs freely up to its first [`mark`], where [`Child::fork`] returns, and then one instruction at a time up to the
//! second. A system call is one instruction. Whatever happens to this process, the kernel kills the child.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use libc::{c_long, c_void, pid_t};

/// A traced child; dropping it kills it.
pub struct Child {
    pid: pid_t,
    gone: bool,
}

/// Where a child stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Behind one more instruction.
    Step,
    /// Behind its second mark.
    Mark,
}

/// Stops a traced child for its tracer. Inlined: a step from mark to mark meets nothing of ours.
#[inline(always)]
pub fn mark() {
    // SAFETY: a breakpoint changes nothing; what the compiler must have stored before it is stored, as for any call.
    unsafe { std::arch::asm!("int3") };
}

fn failed<T>(what: &str) -> io::Result<T> {
    let why = io::Error::last_os_error();
    Err(io::Error::new(why.kind(), format!("{what}: {why}")))
}

impl Child {
    /// Starts a child that does `body` and then ends, successfully if that returned true; returns when it has come
    /// to its first mark. `meanwhile` runs in this process before that is waited for.
    ///
    /// # Errors
    /// The kernel's; the child did not come to its mark.
    pub fn fork<T>(body: impl FnOnce() -> bool, meanwhile: impl FnOnce() -> T) -> io::Result<(Self, T)> {
        // SAFETY: this process has one thread whenever it forks, so the child may go on as its parent could.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => failed("fork"),
            0 => {
                let done = catch_unwind(AssertUnwindSafe(|| {
                    ask(libc::PTRACE_TRACEME, 0, 0, 0)?;
                    Ok::<_, io::Error>(body())
                }));
                let code = if matches!(done, Ok(Ok(true))) { 0 } else { 1 };
                // SAFETY: ends the child without its parent's destructors and exit handlers.
                unsafe { libc::_exit(code) }
            }
            pid => {
                let child = Self { pid, gone: false };
                let value = meanwhile();
                child.wait()?;
                ask(libc::PTRACE_SETOPTIONS, pid, 0, libc::PTRACE_O_EXITKILL as c_long)?;
                Ok((child, value))
            }
        }
    }

    /// Waits until it stops. A child that never does holds this process up; whoever started it sees that.
    fn wait(&self) -> io::Result<()> {
        let status = self.wait_any()?;
        if libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP {
            return Ok(());
        }
        Err(io::Error::other(format!("the victim ended or met a signal by itself: status {status:x}")))
    }

    fn wait_any(&self) -> io::Result<i32> {
        let mut status = 0;
        loop {
            // SAFETY: the status is live and writable.
            match unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) } {
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                -1 => return failed("waitpid"),
                _ => return Ok(status),
            }
        }
    }

    /// Its number, for its files under `/proc`.
    #[must_use]
    pub fn pid(&self) -> pid_t {
        self.pid
    }

    /// Lets it run freely to its next mark.
    ///
    /// # Errors
    /// The kernel's; it came to no mark, but to its end.
    pub fn run_to_mark(&mut self) -> io::Result<()> {
        ask(libc::PTRACE_CONT, self.pid, 0, 0)?;
        self.wait()
    }

    /// Lets it execute one instruction.
    ///
    /// # Errors
    /// The kernel's; it came to no second mark, but to its end.
    pub fn step(&mut self) -> io::Result<Stop> {
        ask(libc::PTRACE_SINGLESTEP, self.pid, 0, 0)?;
        self.wait()?;
        // SAFETY: all zeroes is a valid siginfo.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        ask(libc::PTRACE_GETSIGINFO, self.pid, 0, (&raw mut info).expose_provenance() as c_long)?;
        // A trap instruction is the kernel's to report, a step the debugger's.
        const SI_KERNEL: i32 = 0x80;
        Ok(if info.si_code == SI_KERNEL { Stop::Mark } else { Stop::Step })
    }

    /// Its registers.
    ///
    /// # Errors
    /// The kernel's.
    pub fn registers(&self) -> io::Result<libc::user_regs_struct> {
        // SAFETY: all zeroes are valid registers.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        ask(libc::PTRACE_GETREGS, self.pid, 0, (&raw mut registers).expose_provenance() as c_long)?;
        Ok(registers)
    }

    /// The address of its next instruction.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next_instruction(&self) -> io::Result<u64> {
        let rip = std::mem::offset_of!(libc::user_regs_struct, rip);
        let null = std::ptr::null_mut::<c_void>();
        // SAFETY: only reads the stopped child's register.
        let rip = unsafe { libc::ptrace(libc::PTRACE_PEEKUSER, self.pid, rip, null) };
        if rip == -1 { failed("PTRACE_PEEKUSER") } else { Ok(rip as u64) }
    }

    /// Whether the instruction at `address` of the child is a system call.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_system_call(&self, address: u64) -> io::Result<bool> {
        let null = std::ptr::null_mut::<c_void>();
        // SAFETY: only reads the stopped child's memory.
        let word = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, self.pid, address, null) };
        Ok(word & 0xFFFF == 0x050F)
    }

    /// Kills it where it stands and waits until it is dead.
    ///
    /// # Errors
    /// The kernel's.
    pub fn kill(&mut self) -> io::Result<()> {
        // SAFETY: the child was not waited for since it was last seen stopped, so the number is still its own.
        if unsafe { libc::kill(self.pid, libc::SIGKILL) } != 0 {
            return failed("kill");
        }
        self.reap().map(drop)
    }

    /// Lets it run on to its end, and says whether that was a success.
    ///
    /// # Errors
    /// The kernel's.
    pub fn finish(mut self) -> io::Result<bool> {
        ask(libc::PTRACE_CONT, self.pid, 0, 0)?;
        let status = self.reap()?;
        Ok(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0)
    }

    fn reap(&mut self) -> io::Result<i32> {
        loop {
            let status = self.wait_any()?;
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                self.gone = true;
                return Ok(status);
            }
            // Stopped by a signal of its own: it ends here.
            // SAFETY: the child is stopped, so the number is its own.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.gone {
            // Fails only if it is gone already.
            let _ = self.kill();
        }
    }
}

fn ask(request: libc::c_uint, pid: pid_t, address: c_long, data: c_long) -> io::Result<()> {
    // SAFETY: the requests used write at most to `data`, which then is the address of something live.
    match unsafe { libc::ptrace(request, pid, address, data) } {
        -1 => failed("ptrace"),
        _ => Ok(()),
    }
}
