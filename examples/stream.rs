//! A file from one process to another with the standard library's `Read` and `Write`, and a checksum of it back.

mod common;

use common::{Outcome, PATIENCE};
use hqq::{Listener, StandardLink};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::{env, thread};

/// FNV-1a, 64 bits: a sum that tells any two files of a test apart, and fits on a page.
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

/// Receives the file and answers with its sum.
fn listen(name: &str) -> Outcome {
    let mut link = Listener::bind(name)?.accept_timeout(PATIENCE)?;
    let mut sum = Fnv::new();
    // The end of the stream is the peer's shutdown. A peer that died is an error, never a short file.
    let bytes = io::copy(&mut link, &mut sum)?;
    println!("received {bytes} bytes, sum {:016x}", sum.0);
    link.write_all(&sum.0.to_le_bytes())?;
    Ok(())
}

/// Sends this program's own file and compares the sum.
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
