//! Counts what a stepped child does between two marks, from its registers and its code.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::ops::{Add, Range};
use std::os::unix::fs::FileExt;

use hqq_tests::single_step::Child;
use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};
use libc::user_regs_struct;
use serde::{Deserialize, Serialize};

/// More instructions than any operation takes.
const ENDLESS: u64 = 1_000_000;
const LINE: u64 = 64;

/// What was counted between two marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub instructions: u64,
    /// Atomic read-modify-writes: with a lock prefix, or an exchange with memory. A fence is none.
    pub rmws: u64,
    /// `mfence` and its like, and `lock or` of nothing into the top of the stack, which is how the compiler does a
    /// sequentially consistent fence where that is faster.
    pub fences: u64,
    /// Distinct lines of memory that another process could map.
    pub shared_lines: u64,
    /// Those of them that were written.
    pub written_lines: u64,
    /// Distinct lines of all other memory, the stack's among them.
    pub private_lines: u64,
    pub loads: u64,
    pub stores: u64,
    pub system_calls: u64,
    pub allocations: u64,
    /// Calls into the code that the kernel lends, to read a clock. It depends on the time how many instructions that
    /// takes, so they are left out, and what they touch.
    pub clock_reads: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            instructions: self.instructions + more.instructions,
            rmws: self.rmws + more.rmws,
            fences: self.fences + more.fences,
            shared_lines: self.shared_lines + more.shared_lines,
            written_lines: self.written_lines + more.written_lines,
            private_lines: self.private_lines + more.private_lines,
            loads: self.loads + more.loads,
            stores: self.stores + more.stores,
            system_calls: self.system_calls + more.system_calls,
            allocations: self.allocations + more.allocations,
            clock_reads: self.clock_reads + more.clock_reads,
        }
    }
}

/// Counts, and the lines behind them.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    counts: Counts,
    shared: BTreeSet<(u64, u64)>,
    written: BTreeSet<(u64, u64)>,
    private: BTreeSet<u64>,
}

impl Trail {
    /// The figures.
    pub fn counts(&self) -> Counts {
        Counts {
            shared_lines: self.shared.len() as u64,
            written_lines: self.written.len() as u64,
            private_lines: self.private.len() as u64,
            ..self.counts
        }
    }

    /// This one and what came after it, as one. A line that both touched counts once.
    pub fn and(mut self, next: &Self) -> Self {
        self.counts = self.counts + next.counts;
        self.shared.extend(&next.shared);
        self.written.extend(&next.written);
        self.private.extend(&next.private);
        self
    }
}

/// A shared mapping of the child: both ends of a link map the same file, each for itself.
struct Shared {
    start: u64,
    end: u64,
    inode: u64,
    offset: u64,
}

/// Reads a stopped child.
pub struct Counter {
    memory: File,
    shared: Vec<Shared>,
    lent: Range<u64>,
    /// Whoever is called for each allocation.
    allocator: u64,
    decoded: HashMap<u64, Instruction>,
    facts: InstructionInfoFactory,
}

impl Counter {
    /// For a child that has mapped what it will; `allocator` is the function that it calls for each allocation.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn new(child: &Child, allocator: fn()) -> io::Result<Self> {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.pid()))?;
        Ok(Self {
            memory: File::open(format!("/proc/{}/mem", child.pid()))?,
            shared: maps.lines().filter_map(shared).collect(),
            lent: maps.lines().find_map(lent).unwrap_or_default(),
            allocator: allocator as usize as u64,
            decoded: HashMap::new(),
            facts: InstructionInfoFactory::new(),
        })
    }

    /// Steps the child to its next mark.
    ///
    /// # Errors
    /// The kernel's; there is no mark; an instruction that is not known.
    pub fn segment(&mut self, child: &mut Child) -> io::Result<Trail> {
        let mut trail = Trail::default();
        let (mut before, mut reads) = (None, false);
        for _ in 0..ENDLESS {
            let registers = child.registers()?;
            let instruction = self.decode(registers.rip)?;
            if instruction.code() == Code::Int3 {
                child.step()?;
                return Ok(trail);
            }
            // One that repeats itself stops behind each round.
            let again = before == Some(registers.rip);
            before = has_rep(&instruction).then_some(registers.rip);
            let read = self.lent.contains(&registers.rip);
            if !read {
                self.note(&instruction, &registers, again, &mut trail)?;
            }
            trail.counts.clock_reads += u64::from(read && !reads);
            reads = read;
            child.step()?;
        }
        Err(io::Error::other(format!("no mark within {ENDLESS} instructions")))
    }

    fn decode(&mut self, address: u64) -> io::Result<Instruction> {
        if let Some(known) = self.decoded.get(&address) {
            return Ok(*known);
        }
        let mut bytes = [0; 15];
        let len = self.memory.read_at(&mut bytes, address)?;
        let instruction = Decoder::with_ip(64, &bytes[..len], address, DecoderOptions::NONE).decode();
        if instruction.is_invalid() {
            return Err(io::Error::other(format!("no instruction that is known: {bytes:x?}")));
        }
        self.decoded.insert(address, instruction);
        Ok(instruction)
    }

    fn note(
        &mut self,
        instruction: &Instruction,
        registers: &user_regs_struct,
        again: bool,
        trail: &mut Trail,
    ) -> io::Result<()> {
        let counts = &mut trail.counts;
        if !again {
            counts.instructions += 1;
            let fence = is_fence(instruction);
            counts.fences += u64::from(fence);
            counts.rmws += u64::from(is_rmw(instruction) && !fence);
            counts.system_calls += u64::from(instruction.mnemonic() == Mnemonic::Syscall);
            counts.allocations += u64::from(registers.rip == self.allocator);
        }
        for access in self.facts.info(instruction).used_memory() {
            let (loads, stores) = ways(access.access());
            if !loads && !stores {
                continue;
            }
            let Some(first) = access.virtual_address(0, |register, _, _| value(register, registers)) else {
                return Err(io::Error::other(format!("{:?}: where is its operand?", instruction.code())));
            };
            counts.loads += u64::from(loads);
            counts.stores += u64::from(stores);
            let last = first + (access.memory_size().size() as u64).max(1) - 1;
            for line in first / LINE..=last / LINE {
                let address = line * LINE;
                let map = self.shared.iter().find(|map| (map.start..map.end).contains(&address));
                match map {
                    Some(map) => {
                        let line = (map.inode, (address - map.start + map.offset) / LINE);
                        trail.shared.insert(line);
                        if stores {
                            trail.written.insert(line);
                        }
                    }
                    None => drop(trail.private.insert(line)),
                }
            }
        }
        Ok(())
    }
}

/// A line of `maps`, if it tells of shared memory: `start-end perms offset device inode name`.
fn shared(line: &str) -> Option<Shared> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if !fields.next()?.ends_with('s') {
        return None;
    }
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let offset = hex(fields.next()?)?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(Shared { start: hex(start)?, end: hex(end)?, inode, offset })
}

/// A line of `maps`, if it tells where the code lies that the kernel lends.
fn lent(line: &str) -> Option<Range<u64>> {
    let (start, end) = line.strip_suffix("[vdso]")?.split_ascii_whitespace().next()?.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

fn has_rep(instruction: &Instruction) -> bool {
    instruction.is_string_instruction()
        && (instruction.has_rep_prefix() || instruction.has_repe_prefix() || instruction.has_repne_prefix())
}

fn is_fence(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Mfence | Mnemonic::Lfence | Mnemonic::Sfence => true,
        Mnemonic::Or => {
            let nothing = [OpKind::Immediate8, OpKind::Immediate8to32, OpKind::Immediate8to64]
                .contains(&instruction.op1_kind())
                && instruction.immediate(1) == 0;
            instruction.has_lock_prefix() && instruction.memory_base() == Register::RSP && nothing
        }
        _ => false,
    }
}

fn is_rmw(instruction: &Instruction) -> bool {
    let exchanges = instruction.mnemonic() == Mnemonic::Xchg
        && (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory);
    instruction.has_lock_prefix() || exchanges
}

/// Whether it loads, and whether it stores.
fn ways(access: OpAccess) -> (bool, bool) {
    match access {
        OpAccess::Read | OpAccess::CondRead => (true, false),
        OpAccess::Write | OpAccess::CondWrite => (false, true),
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
        _ => (false, false),
    }
}

fn value(register: Register, registers: &user_regs_struct) -> Option<u64> {
    let whole = match register.full_register() {
        Register::RAX => registers.rax,
        Register::RBX => registers.rbx,
        Register::RCX => registers.rcx,
        Register::RDX => registers.rdx,
        Register::RSI => registers.rsi,
        Register::RDI => registers.rdi,
        Register::RBP => registers.rbp,
        Register::RSP => registers.rsp,
        Register::R8 => registers.r8,
        Register::R9 => registers.r9,
        Register::R10 => registers.r10,
        Register::R11 => registers.r11,
        Register::R12 => registers.r12,
        Register::R13 => registers.r13,
        Register::R14 => registers.r14,
        Register::R15 => registers.r15,
        Register::FS => registers.fs_base,
        Register::GS => registers.gs_base,
        Register::CS | Register::DS | Register::ES | Register::SS => 0,
        _ => return None,
    };
    Some(if register.is_gpr32() { u64::from(whole as u32) } else { whole })
}
