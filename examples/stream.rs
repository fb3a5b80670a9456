//! Sends a file to another process with the standard library's `Read` and `Write`, and receives its checksum.

mod common;

use common::{Outcome, PATIENCE};
use hqq::{Listener, StandardLink};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::{env, thread};

/// FNV-1a with 64 bits: a short checksum that is good enough for an example.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Write for Fnv {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Receives the file and answers with its checksum.
fn listen(name: &str) -> Outcome {
    let mut link = Listener::bind(name)?.accept_timeout(PATIENCE)?;
    let mut sum = Fnv::new();
    // The stream ends when the peer shuts it down. A peer that died is an error, so a file is never cut short unnoticed.
    let bytes = io::copy(&mut link, &mut sum)?;
    println!("received {bytes} bytes, sum {:016x}", sum.0);
    link.write_all(&sum.0.to_le_bytes())?;
    Ok(())
}

/// Sends this program's own file and compares the checksum.
fn connect(name: &str) -> Outcome {
    let mut link = StandardLink::connect_timeout(name, PATIENCE)?;
    let path = env::current_exe()?;
    let (mut file, mut again) = (File::open(&path)?, File::open(&path)?);
    let ours = thread::spawn(move || {
        let mut sum = Fnv::new();
        io::copy(&mut again, &mut sum).map(|_| sum.0)
    });
    let bytes = io::copy(&mut file, &mut link)?;
    link.shutdown(Shutdown::Write);
    println!("sent     {bytes} bytes of {}", path.display());

    let mut answer = [0; 8];
    link.read_exact(&mut answer)?;
    let ours = ours.join().map_err(|_| "the summing thread panicked")??;
    if u64::from_le_bytes(answer) != ours {
        return Err("the sums differ".into());
    }
    Ok(())
}

fn main() -> Outcome {
    common::two_processes(listen, connect)
}
