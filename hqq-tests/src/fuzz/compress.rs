//! Frames of compressed messages. Arbitrary bytes as a frame are refused or give the length in the header. Arbitrary bytes as
//! a message survive compression, also from a damaged frame if it is accepted.

use hqq::features::compress::{
    Codec, Codecs, CompressError, Compressor, Decompressor, Frame, HEADER, Mode, Settings, decompress,
};

use crate::fuzz::bytes::Bytes;

/// The longest message that is accepted, bytes.
const LIMIT: u64 = 1 << 16;

/// The target.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let codec = Codec::ALL[usize::from(bytes.byte() % 3)];
    match bytes.byte() % 4 {
        0 => drop(read(bytes.take(usize::MAX))),
        1 => forged(codec, &mut bytes),
        _ => there_and_back(codec, &mut bytes),
    }
}

/// Any bytes as a frame: all ways to read it agree, and spend no more than the limit.
fn read(framed: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let result = decompress(framed, LIMIT, &mut message);
    assert!(message.capacity() as u64 <= LIMIT, "{} bytes of memory", message.capacity());
    let mut slice = vec![0; LIMIT as usize];
    let other = Decompressor::new(Codecs::ALL).decompress_into(framed, &mut slice);
    match (result, Frame::read(framed, LIMIT)) {
        (Ok(codec), Ok(frame)) => {
            assert_eq!((frame.codec(), frame.message_len()), (codec, message.len()));
            assert_eq!(other, Ok((codec, message.len())));
            assert!(slice[..message.len()] == message, "a Vec and a slice differ");
            assert!(frame.raw().is_none_or(|raw| raw == message));
            assert!(framed.len() <= HEADER + message.len(), "a body that is not smaller");
            Some(message)
        }
        (Err(error), frame) => {
            assert!(frame.is_ok() || frame == Err(error));
            assert!(message.is_empty() && other == Err(error));
            assert!(!error.to_string().is_empty());
            None
        }
        (Ok(codec), Err(error)) => panic!("{codec} is taken in spite of: {error}"),
    }
}

/// A header that fits, mostly, ahead of any body.
fn forged(codec: Codec, bytes: &mut Bytes<'_>) {
    let len = bytes.number() & (2 * LIMIT - 1);
    let mut framed = (u64::from(codec.number()) | (len << 8)).to_le_bytes().to_vec();
    framed.extend_from_slice(bytes.take(usize::MAX));
    if let Some(message) = read(&framed) {
        assert_eq!(message.len() as u64, len);
    }
}

/// A message with repetitions, compressed; then the frame with a few bytes changed.
fn there_and_back(codec: Codec, bytes: &mut Bytes<'_>) {
    // Higher levels look into a constant table of zstd_opt.c that gcc's sanitizer takes for a variable out of its scope.
    let level = i32::from(bytes.byte() % 8) - 3;
    let settings = Settings { level, smallest: 0, sample: usize::from(bytes.byte()) * 4 };
    let how = [Mode::Auto, Mode::Always, Mode::Never][usize::from(bytes.byte() % 3)];
    let (spare, changes) = (bytes.number() % 64, bytes.byte() % 8);
    let changes: Vec<(u16, u8)> = (0..changes).map(|_| (bytes.short(), bytes.byte())).collect();
    let mut message = Vec::new();
    while !bytes.is_over() && message.len() < LIMIT as usize / 2 {
        let times = usize::from(bytes.byte() % 100);
        let count = usize::from(bytes.byte());
        message.extend_from_slice(&bytes.take(count).repeat(times));
    }
    let mut compressor = Compressor::new(codec, settings);
    let mut framed = vec![0; HEADER + message.len() + spare as usize];
    let len = compressor.compress(&message, how, &mut framed);
    assert!(len <= HEADER + message.len(), "{len} bytes for a message of {}", message.len());
    framed.truncate(len);
    assert!(read(&framed).is_some_and(|received| received == message), "it does not come back");
    let short = message.len() as u64 - u64::from(!message.is_empty());
    let error = CompressError::TooLong { len: message.len() as u64, limit: short };
    assert!(message.is_empty() || Frame::read(&framed, short) == Err(error));
    for (at, byte) in changes {
        let at = usize::from(at) % framed.len();
        framed[at] = byte;
        let _ = read(&framed);
    }
}
