//! The transfer of a file: once without a copy, once through `Read` and `Write`, hashed at both ends.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use hqq::StandardLink;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::exit::{Exit, Failure, Result};
use crate::out;
use crate::second::{PROGRAM, stream_error};

/// The longest message of the transfer.
const CHUNK: u64 = 64 * 1024;

/// The results of the transfer.
#[derive(Debug, Serialize)]
pub struct Streamed {
    /// The path of the file.
    pub path: String,
    /// Bytes of the file; it was sent twice.
    pub bytes: u64,
    /// The hash that both ends computed.
    pub sha256: String,
    /// The transfer without a copy: read into the shared memory and hashed there.
    pub zero_copy: Pass,
    /// The transfer through `Read` and `Write`.
    pub stream: Pass,
}

/// One transfer of the file.
#[derive(Debug, Serialize)]
pub struct Pass {
    /// Duration, hashing at both ends included.
    pub seconds: f64,
    /// The rate.
    pub bytes_per_second: f64,
}

/// The file to stream.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: File,
    len: u64,
}

fn fault(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Failed, message)
}

impl Source {
    /// Opens the file.
    pub fn open(path: &Path) -> Result<Self> {
        let cannot = |error| Failure::system(format_args!("opening {}", path.display()), &error);
        let file = File::open(path).map_err(cannot)?;
        let facts = file.metadata().map_err(cannot)?;
        if !facts.is_file() {
            let message = format!("{} is not a regular file", path.display());
            return Err(Failure::new(Exit::Usage, message).hint("choose one with --file"));
        }
        // What the kernel's own link to this program leads to says more than the link.
        let path = match fs::read_link(path) {
            Ok(program) if path == Path::new(PROGRAM) => program,
            _ => path.into(),
        };
        Ok(Self { path, file, len: facts.len() })
    }

    /// The name of the file, without its folder.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// Sends the file to the other end in both ways.
    pub fn stream(&self, link: &StandardLink) -> Result<Streamed> {
        let (zero_copy, hash) = self.pass(link, |hash| self.zero_copy(link, hash))?;
        let (stream, again) = self.pass(link, |hash| self.written(link, hash))?;
        if hash != again {
            return Err(fault(format!("{} changed while it was streamed", self.path.display())));
        }
        let path = self.path.display().to_string();
        Ok(Streamed { path, bytes: self.len, sha256: hex(&hash), zero_copy, stream })
    }

    /// Sends the length, then the file with `send`, and compares the hashes of both ends.
    fn pass(
        &self,
        link: &StandardLink,
        send: impl FnOnce(&mut Sha256) -> Result<()>,
    ) -> Result<(Pass, Vec<u8>)> {
        (&self.file).rewind().map_err(|error| self.unreadable(&error))?;
        let began = Instant::now();
        link.send(&self.len.to_le_bytes())?;
        let mut hash = Sha256::new();
        send(&mut hash)?;
        let own = hash.finalize().to_vec();
        let far = link.recv()?.to_vec();
        let time = began.elapsed();
        if own != far {
            return Err(fault(format!("SHA-256 was {} here, {} at the other end", hex(&own), hex(&far))));
        }
        let bytes_per_second = out::per_second(self.len, time);
        Ok((Pass { seconds: time.as_secs_f64(), bytes_per_second }, own))
    }

    /// Sends the file from loans; the kernel reads into them, which is the only copy.
    fn zero_copy(&self, link: &StandardLink, hash: &mut Sha256) -> Result<()> {
        let mut left = self.len;
        while left > 0 {
            let mut loan = link.loan(left.min(chunk(link)) as usize)?;
            (&self.file).read_exact(&mut loan).map_err(|error| self.unreadable(&error))?;
            hash.update(&*loan);
            left -= loan.len() as u64;
            loan.send()?;
        }
        Ok(())
    }

    /// Sends the file through `Write`.
    fn written(&self, mut link: &StandardLink, hash: &mut Sha256) -> Result<()> {
        let mut left = self.len;
        let mut buffer = vec![0; CHUNK as usize];
        while left > 0 {
            let part = &mut buffer[..left.min(CHUNK) as usize];
            (&self.file).read_exact(part).map_err(|error| self.unreadable(&error))?;
            hash.update(&*part);
            left -= part.len() as u64;
            link.write_all(part).map_err(stream_error)?;
        }
        Ok(())
    }

    fn unreadable(&self, error: &std::io::Error) -> Failure {
        Failure::system(format_args!("reading {}", self.path.display()), error)
    }
}

/// Bytes of a message of the transfer without a copy: whole buffers, an eighth of the pool at most.
fn chunk(link: &StandardLink) -> u64 {
    let geometry = link.geometry();
    geometry
        .run_bytes(geometry.buffers() / 8)
        .clamp(geometry.buffer_size(), CHUNK.max(geometry.buffer_size()))
}

/// The other end: receives the file in both ways, and sends back the hashes.
pub fn receive(link: &StandardLink) -> Result<()> {
    let mut left = announced(link)?;
    let mut hash = Sha256::new();
    while left > 0 {
        let message = link.recv()?;
        hash.update(&*message);
        left = left
            .checked_sub(message.len() as u64)
            .ok_or_else(|| fault("the file is longer than announced"))?;
    }
    link.send(&hash.finalize())?;

    let mut left = announced(link)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK as usize];
    let mut stream = link;
    while left > 0 {
        let most = left.min(CHUNK) as usize;
        let count = stream.read(&mut buffer[..most]).map_err(stream_error)?;
        if count == 0 {
            return Err(hqq::Error::Closed.into());
        }
        hash.update(&buffer[..count]);
        left -= count as u64;
    }
    Ok(link.send(&hash.finalize())?)
}

/// Receives the length of the file.
fn announced(link: &StandardLink) -> Result<u64> {
    let message = link.recv()?;
    let length = <[u8; 8]>::try_from(&*message)
        .map_err(|_| fault("expected the length of a file, received something else"))?;
    Ok(u64::from_le_bytes(length))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
