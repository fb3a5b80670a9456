//! Round trips, what is compressed at all, and frames that nobody should have sent.

use std::fmt;

use fastrand::Rng;

use super::compressor::{CodecState, SAMPLE_BLOCK, is_promising};
use super::memory::KEPT;
use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// As after encryption.
    Noise,
    Zeros,
    Text,
    /// One random block of 16 bytes, again and again.
    Record,
    /// 64 random blocks of 16 bytes in any order.
    Records,
    /// Measurements as `f32`.
    Floats,
    /// Noise with stuffed zeros behind 0xFF, restart markers and a header.
    Jpeg,
    /// Noise in 64 letters.
    Base64,
}

const KINDS: [Kind; 8] = {
    use Kind::*;
    [Noise, Zeros, Text, Record, Records, Floats, Jpeg, Base64]
};

const CODECS: [Codec; 2] = [Codec::Lz4, Codec::Zstd];

fn data(kind: Kind, len: usize, random: &mut Rng) -> Vec<u8> {
    let mut data = Vec::with_capacity(len + 64);
    let blocks: Vec<[u8; 16]> = (0..64)
        .map(|_| {
            let [a, b] = [0; 2].map(|_| random.u64(..).to_le_bytes());
            std::array::from_fn(|i| if i < 8 { a[i] } else { b[i - 8] })
        })
        .collect();
    let words: Vec<&str> =
        "the ring holds a packet for each message and pool keeps what is free of them".split(' ').collect();
    if kind == Kind::Jpeg {
        data.extend_from_slice(b"\xFF\xD8\xFF\xE0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00");
    }
    while data.len() < len {
        match kind {
            Kind::Noise => data.extend_from_slice(&random.u64(..).to_le_bytes()),
            Kind::Zeros => data.push(0),
            Kind::Text => {
                data.extend_from_slice(words[random.usize(..words.len())].as_bytes());
                data.extend_from_slice(if random.usize(..8) == 0 { b". " } else { b" " });
            }
            Kind::Record => data.extend_from_slice(&blocks[0]),
            Kind::Records => data.extend_from_slice(&blocks[random.usize(..64)]),
            Kind::Floats => {
                let value = 20.0 + random.usize(..10_000) as f32 / 1000.0;
                data.extend_from_slice(&value.to_le_bytes());
            }
            Kind::Jpeg => match random.u64(..) as u8 {
                0xFF => data.extend_from_slice(&[0xFF, 0]),
                _ if random.usize(..4000) == 0 => {
                    data.extend_from_slice(&[0xFF, 0xD0 | random.usize(..8) as u8])
                }
                byte => data.push(byte),
            },
            Kind::Base64 => {
                let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                data.push(letters[random.usize(..64)]);
            }
        }
    }
    data.truncate(len);
    data
}

/// The frame, from exactly so much room.
fn made(compressor: &mut Compressor, message: &[u8], mode: Mode, room: usize) -> Vec<u8> {
    let mut frame = vec![0xA5; room];
    let len = compressor.compress(message, mode, &mut frame);
    assert!(len <= HEADER + message.len(), "{len} bytes for a message of {}", message.len());
    frame.truncate(len);
    frame
}

fn frame(codec: Codec, message: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(codec, Settings::default());
    made(&mut compressor, message, Mode::Always, HEADER + message.len())
}

/// A frame with any header.
fn forged(number: u8, len: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = (u64::from(number) | len << 8).to_le_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// What all ways of reading a frame agree on.
fn undone(framed: &[u8], limit: usize) -> Result<(Codec, Vec<u8>), CompressError> {
    let mut message = vec![7; 5];
    let result = decompress(framed, limit as u64, &mut message);
    assert!(message.len() <= limit && message.capacity() <= limit.max(5), "more memory than allowed");
    let mut slice = vec![9; limit];
    let other = Decompressor::default().decompress_into(framed, &mut slice);
    match result {
        Ok(codec) => {
            assert_eq!(other, Ok((codec, message.len())));
            assert_eq!(slice[..message.len()], message);
            let frame = Frame::read(framed, limit as u64).expect("a frame that decodes");
            assert_eq!((frame.codec(), frame.message_len()), (codec, message.len()));
            Ok((codec, message))
        }
        Err(error) => {
            assert_eq!((other, message.len()), (Err(error), 0));
            Err(error)
        }
    }
}

// Names, numbers, sets.

#[test]
fn codecs_have_numbers_and_names() {
    for (codec, number, name) in [(Codec::Raw, 0, "none"), (Codec::Lz4, 1, "lz4"), (Codec::Zstd, 2, "zstd")] {
        assert_eq!((codec.number(), Codec::from_number(number)), (number, Some(codec)));
        assert_eq!((codec.to_string().as_str(), name.parse()), (name, Ok(codec)));
    }
    assert!((3..=255).all(|number| Codec::from_number(number).is_none()));
    for name in ["", "raw", "LZ4", "lz4 ", "gzip"] {
        assert_eq!(name.parse::<Codec>(), Err(UnknownCodec));
    }
    assert_eq!(format!("{:>5}|", Codec::Lz4), "  lz4|");
}

#[test]
fn what_both_can_is_agreed() {
    let all = [Codecs::NONE, Codecs::LZ4, Codecs::ZSTD, Codecs::ALL];
    for (a, left) in all.into_iter().enumerate() {
        for (b, right) in all.into_iter().enumerate() {
            assert_eq!((left & right).bits(), (a & b) as u64);
        }
        assert_eq!((left.bits(), Codecs::from_bits(a as u64)), (a as u64, left));
        assert_eq!(left.contains(Codec::Lz4), a & 1 != 0);
        assert_eq!(left.contains(Codec::Zstd), a & 2 != 0);
        assert!(left.contains(Codec::Raw));
        let order = [Codec::Zstd, Codec::Lz4];
        let first = [Codec::Raw, Codec::Lz4, Codec::Zstd, Codec::Zstd][a];
        assert_eq!((left.preferred(&order), left.preferred(&[])), (first, Codec::Raw));
        assert_eq!(left.preferred(&[Codec::Raw, Codec::Zstd]), Codec::Raw);
    }
    assert_eq!(Codecs::from_bits(u64::MAX), Codecs::ALL, "what is unknown cannot be agreed on");
}

#[test]
fn handles_go_to_other_threads() {
    fn check<T: Send + Sync + fmt::Debug>(_: &T) {}
    check(&Compressor::new(Codec::Zstd, Settings::default()));
    check(&Decompressor::default());
}

// Round trips.

#[test]
fn every_message_comes_back() {
    let mut random = Rng::with_seed(1);
    let sizes =
        [0, 1, 3, 4, 7, 8, 12, 13, 64, 255, 256, 257, 1000, 4096, 65534, 65535, 65536, 65537, 300_000];
    for codec in Codec::ALL {
        let mut compressor = Compressor::new(codec, Settings::default());
        let mut decompressor = Decompressor::new(Codecs::ALL);
        let (mut expected, mut received) = (CompressorCounts::default(), Vec::new());
        for (size, kind) in sizes.into_iter().flat_map(|size| KINDS.map(|kind| (size, kind))) {
            let message = data(kind, size, &mut random);
            for mode in [Mode::Auto, Mode::Always, Mode::Never] {
                for room in [HEADER + size, compressor.room(size)] {
                    let frame = made(&mut compressor, &message, mode, room);
                    let sent = decompressor.decompress(&frame, size as u64, &mut received);
                    assert!(received == message, "{codec}, {kind:?}, {size} bytes, {mode:?}");
                    let small = frame.len() < HEADER + size;
                    assert_eq!(sent, Ok(if small { codec } else { Codec::Raw }));
                    assert!(!(small && mode == Mode::Never));
                    if small {
                        expected.compressed += 1
                    } else {
                        expected.raw += 1
                    };
                    expected.bytes_in += size as u64;
                    expected.bytes_out += frame.len() as u64;
                }
            }
            // A quarter at the least is gained where there is much to gain.
            if size >= 1000 && codec != Codec::Raw && [Kind::Zeros, Kind::Text, Kind::Record].contains(&kind)
            {
                assert!(frame(codec, &message).len() < size * 3 / 4);
            }
        }
        assert_eq!(compressor.counts(), expected);
    }
}

#[test]
fn the_header_is_a_little_endian_word() {
    let message = [7; 0x12345];
    for codec in CODECS {
        assert_eq!(frame(codec, &message)[..HEADER], [codec.number(), 0x45, 0x23, 0x01, 0, 0, 0, 0]);
    }
    assert_eq!(frame(Codec::Raw, b"abc"), [0, 3, 0, 0, 0, 0, 0, 0, b'a', b'b', b'c']);
    assert_eq!(frame(Codec::Lz4, b""), [0; 8]);
    // As any decoder knows them: a run of LZ4, and the magic number of Zstandard.
    assert_eq!(frame(Codec::Lz4, &[0; 32])[HEADER..], [0x1F, 0, 1, 0, 6, 0x60, 0, 0, 0, 0, 0, 0]);
    assert_eq!(frame(Codec::Zstd, &[0; 32])[HEADER..][..4], 0xFD2F_B528_u32.to_le_bytes());
}

#[test]
fn tight_room_changes_nothing_but_where_lz4_works() {
    let mut random = Rng::with_seed(2);
    for (size, kind) in [100, 5000, 70_000].into_iter().flat_map(|size| KINDS.map(|kind| (size, kind))) {
        let message = data(kind, size, &mut random);
        let mut compressor = Compressor::new(Codec::Lz4, Settings::default());
        let best = compressor.room(size);
        assert!(best > HEADER + size);
        let wide = made(&mut compressor, &message, Mode::Always, best);
        let CodecState::Lz4 { scratch, .. } = &compressor.state else { panic!("it is for LZ4") };
        assert_eq!(scratch.capacity(), 0, "it went straight to its place");
        assert_eq!(made(&mut compressor, &message, Mode::Always, HEADER + size), wide);
        assert_eq!(made(&mut compressor, &message, Mode::Always, best - 1), wide);
    }
}

#[test]
fn private_memory_is_not_kept_for_ever() {
    let mut compressor = Compressor::new(Codec::Lz4, Settings::default());
    for (size, kept) in [(1 << 20, true), (KEPT, false)] {
        let message = vec![0; size];
        assert!(made(&mut compressor, &message, Mode::Auto, HEADER + size).len() < size / 200);
        let CodecState::Lz4 { scratch, .. } = &compressor.state else { panic!("it is for LZ4") };
        assert_eq!(scratch.capacity() > 0, kept);
    }
}

#[test]
fn a_message_that_did_not_fit_leaves_no_trace() {
    let mut random = Rng::with_seed(3);
    for codec in CODECS {
        let mut compressor = Compressor::new(codec, Settings::default());
        for size in [1, 2, 20, 1000, 200_000] {
            let (noise, text) = (data(Kind::Noise, size, &mut random), data(Kind::Text, size, &mut random));
            let fresh = frame(codec, &text);
            let raw = made(&mut compressor, &noise, Mode::Always, HEADER + size);
            assert_eq!((raw[0], &raw[HEADER..]), (0, &noise[..]), "{codec}, {size} bytes");
            assert_eq!(made(&mut compressor, &text, Mode::Always, HEADER + size), fresh);
        }
    }
}

/// From a message that grows by compression to one that shrinks, past the one for which nothing changes.
#[test]
fn a_body_as_long_as_the_message_goes_raw() {
    for codec in CODECS {
        let mut small = Vec::new();
        for zeros in 0..64 {
            let mut message = data(Kind::Noise, 100, &mut Rng::with_seed(11));
            message.resize(100 + zeros, 0);
            let frame = frame(codec, &message);
            let (sent, received) = undone(&frame, message.len()).expect("a frame");
            assert_eq!(received, message);
            assert_eq!(sent != Codec::Raw, frame.len() < HEADER + message.len());
            small.push(sent != Codec::Raw);
        }
        assert!(small.is_sorted() && !small[0] && small[63], "{codec}");
    }
}

#[test]
fn all_levels_work_and_others_count_as_the_nearest() {
    let message = data(Kind::Text, 20_000, &mut Rng::with_seed(4));
    let size = |level| {
        let mut compressor = Compressor::new(Codec::Zstd, Settings { level, ..Settings::default() });
        let frame = made(&mut compressor, &message, Mode::Always, HEADER + message.len());
        assert_eq!(undone(&frame, message.len()).map(|(_, received)| received), Ok(message.clone()));
        frame.len()
    };
    let sizes = [i32::MIN, -5, 1, 3, 9, i32::MAX].map(size);
    assert!(sizes.is_sorted_by(|more, less| more >= less), "{sizes:?}");
    assert!(sizes[0] > sizes[5]);
}

#[test]
#[should_panic(expected = "11 bytes of room for a message of 12")]
fn room_for_the_message_is_the_callers_business() {
    Compressor::new(Codec::Zstd, Settings::default()).compress(&[0; 12], Mode::Auto, &mut [0; HEADER + 11]);
}

// What is tried.

#[test]
fn auto_tries_what_promises_something() {
    use Kind::*;
    let mut random = Rng::with_seed(5);
    // LZ4 tries whatever is short, and letters without order are a matter of frequencies, which it knows nothing of.
    for (kind, lz4, zstd) in [
        (Noise, false, false),
        (Jpeg, false, false),
        (Zeros, true, true),
        (Text, true, true),
        (Record, true, true),
        (Records, true, true),
        (Base64, false, true),
    ] {
        for size in [256, 300, 1000, 2047, 2048, 4096, 100_000, 1 << 20] {
            // 300 bytes of 64 records repeat one by chance, and those of a picture are a header for a good part.
            if size < 1000 && [Records, Jpeg].contains(&kind) {
                continue;
            }
            for seed in 0..20 {
                random.seed(seed << 32 | size as u64);
                let message = data(kind, size, &mut random);
                let tried = CODECS.map(|codec| {
                    Compressor::new(codec, Settings::default()).is_worth_trying(&message, Mode::Auto)
                });
                assert_eq!(tried, [lz4 || size < 2048, zstd], "{kind:?}, {size} bytes, seed {seed}");
            }
        }
    }
}

#[test]
fn settings_say_what_is_tried() {
    let mut random = Rng::with_seed(6);
    let (zeros, noise) = ([0; 300], data(Kind::Noise, 300, &mut random));
    for codec in CODECS {
        let tries = |settings, message: &[u8], mode| {
            let mut compressor = Compressor::new(codec, settings);
            made(&mut compressor, message, mode, HEADER + message.len())[0] != 0
        };
        let smallest = |smallest| Settings { smallest, ..Settings::default() };
        assert!(tries(smallest(300), &zeros, Mode::Auto));
        assert!(!tries(smallest(301), &zeros, Mode::Auto));
        assert!(tries(smallest(301), &zeros, Mode::Always));
        assert!(!tries(smallest(0), &zeros, Mode::Never));
        assert!(!tries(smallest(0), &[], Mode::Always));
        let worth = |sample, message: &[u8]| {
            let settings = Settings { sample, ..Settings::default() };
            Compressor::new(codec, settings).is_worth_trying(message, Mode::Auto)
        };
        assert!(worth(0, &noise), "the length alone decides");
        for sample in [1, 64, 300, 1000, usize::MAX] {
            assert!(worth(sample, &zeros));
        }
        for sample in [300, 1000, usize::MAX] {
            assert_eq!(worth(sample, &noise), codec == Codec::Lz4, "{codec}, a sample of {sample}");
        }
    }
    assert_eq!(Compressor::new(Codec::Raw, Settings::default()).room(100), HEADER + 100);
}

/// Only what is looked at counts, and that does not grow with the message.
#[test]
fn a_sample_has_its_size() {
    let size = 1 << 20;
    let mut message = data(Kind::Noise, size, &mut Rng::with_seed(7));
    for piece in 0..8 {
        let start = (size - SAMPLE_BLOCK) * piece / 7;
        message[start..start + SAMPLE_BLOCK].fill(0);
    }
    assert!(CODECS.iter().all(|codec| is_promising(*codec, &message, 512)));
    let mut message = vec![0; size];
    let noise = data(Kind::Noise, SAMPLE_BLOCK * 8, &mut Rng::with_seed(8));
    for (piece, noise) in noise.chunks(SAMPLE_BLOCK).enumerate() {
        let start = (size - SAMPLE_BLOCK) * piece / 7;
        message[start..start + SAMPLE_BLOCK].copy_from_slice(noise);
    }
    assert!(!CODECS.iter().any(|codec| is_promising(*codec, &message, 512)));
    assert!(CODECS.iter().all(|codec| is_promising(*codec, &message, 1024)));
}

// Frames that nobody should have sent.

#[test]
fn the_limit_is_exact_and_nothing_is_allocated_beyond_it() {
    for codec in Codec::ALL {
        let frame = frame(codec, &[1; 1000]);
        assert_eq!(frame[0], codec.number());
        assert_eq!(undone(&frame, 1000), Ok((codec, vec![1; 1000])));
        assert_eq!(undone(&frame, 999), Err(CompressError::TooLong { len: 1000, limit: 999 }));
        let mut into = Vec::new();
        assert!(decompress(&frame, 999, &mut into).is_err());
        assert_eq!(into.capacity(), 0);
    }
    let longest = (1 << 56) - 1;
    let error = Err(CompressError::TooLong { len: longest, limit: 1 << 20 });
    assert_eq!(undone(&forged(2, longest, &[0; 100]), 1 << 20), error);
}

#[test]
fn what_is_reserved_is_refused() {
    for number in 3..=255 {
        assert_eq!(undone(&forged(number, 3, b"abc"), 100), Err(CompressError::UnknownCodec { number }));
    }
    for len in 0..HEADER {
        assert_eq!(undone(&vec![0; len], 100), Err(CompressError::Short { len }));
    }
    for (agreed, codec, fine) in [
        (Codecs::LZ4, Codec::Lz4, true),
        (Codecs::LZ4, Codec::Zstd, false),
        (Codecs::ZSTD, Codec::Lz4, false),
        (Codecs::ZSTD, Codec::Zstd, true),
        (Codecs::NONE, Codec::Raw, true),
    ] {
        let (frame, mut into) = (frame(codec, &[0; 500]), Vec::new());
        let expected = if fine { Ok(codec) } else { Err(CompressError::NotAgreed { codec }) };
        assert_eq!(Decompressor::new(agreed).decompress(&frame, 500, &mut into), expected);
        assert_eq!(into.capacity() > 0, fine);
    }
}

#[test]
fn a_body_has_a_length_of_its_kind() {
    for (len, body) in [(0, 1), (1, 0), (3, 2), (3, 4)] {
        let error = CompressError::RawLength { len, body };
        assert_eq!(undone(&forged(0, len, &vec![0; body]), 100), Err(error));
    }
    for codec in CODECS {
        for (len, body) in [(0, 0), (0, 1), (5, 5), (5, 6)] {
            let error = CompressError::NotSmaller { codec, len, body };
            assert_eq!(undone(&forged(codec.number(), len, &vec![0; body]), 100), Err(error));
        }
    }
}

/// A Zstandard frame of so many runs, each a block of its own.
fn runs(count: usize, each: u32) -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0, 0x40];
    for left in (0..count).rev() {
        let header = each << 3 | 1 << 1 | u32::from(left == 0);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(b'x');
    }
    frame
}

#[test]
fn bombs_do_not_go_off() {
    // What a body of such a length cannot hold is not even decoded.
    for (codec, most) in [(Codec::Lz4, 255), (Codec::Zstd, 32768)] {
        for body in [0, 1, 10] {
            let len = body as u64 * most + 1;
            let mut into = Vec::new();
            let frame = forged(codec.number(), len, &vec![0xFF; body]);
            let error = CompressError::Bomb { codec, len, body };
            assert_eq!(decompress(&frame, u64::MAX, &mut into), Err(error));
            assert_eq!(into.capacity(), 0);
        }
    }
    // 10 KiB for 2.6 MB or 335 MB, under headers that say less or more.
    let mut lz4 = vec![0x1F, 0, 1, 0];
    lz4.resize(10_240, 0xFF);
    lz4.extend_from_slice(&[0, 0x50, 0, 0, 0, 0, 0]);
    let real = 1 + 19 + 255 * (10_240 - 4) + 5;
    assert_eq!(
        undone(&forged(1, real, &lz4), real as usize).map(|(_, message)| message.len()),
        Ok(2_610_205)
    );
    let blocks = runs(2560, 128 << 10);
    for (codec, body) in [(Codec::Lz4, &lz4), (Codec::Zstd, &blocks)] {
        let len = 20_000;
        let error = Err(CompressError::Invalid { codec, len });
        assert_eq!(undone(&forged(codec.number(), len, body), 20_000), error, "no more than it said");
    }
    let short = forged(1, real + 1, &lz4);
    let error = CompressError::WrongLength { codec: Codec::Lz4, len: real + 1, decoded: real as usize };
    assert_eq!(undone(&short, 3_000_000), Err(error));
}

#[test]
fn a_zstandard_body_is_one_frame() {
    let one = runs(3, 1000);
    assert_eq!(undone(&forged(2, 3000, &one), 3000), Ok((Codec::Zstd, vec![b'x'; 3000])));
    let error = Err(CompressError::WrongLength { codec: Codec::Zstd, len: 3001, decoded: 3000 });
    assert_eq!(undone(&forged(2, 3001, &one), 9000), error);
    let skipped = [0x50, 0x2A, 0x4D, 0x18, 2, 0, 0, 0, 1, 2];
    for (len, body) in [
        (6000, [&one[..], &one].concat()),
        (3000, [&skipped[..], &one].concat()),
        (3000, [&one[..], &skipped].concat()),
        (3000, [&one[..], &[0]].concat()),
    ] {
        let error = Err(CompressError::Invalid { codec: Codec::Zstd, len });
        assert_eq!(undone(&forged(2, len, &body), 9000), error);
    }
    let error = Err(CompressError::WrongLength { codec: Codec::Zstd, len: 100, decoded: 0 });
    assert_eq!(undone(&forged(2, 100, &skipped), 100), error);
}

/// Each way to shorten small frames, and each single bit of them.
#[test]
fn damaged_frames_are_refused_or_keep_their_length() {
    let mut random = Rng::with_seed(9);
    let mut refused = 0;
    for codec in Codec::ALL {
        for kind in KINDS {
            let message = data(kind, 150, &mut random);
            let whole = frame(codec, &message);
            let mut check = |damaged: &[u8]| match undone(damaged, 400) {
                Ok((_, message)) => {
                    let header = u64::from_le_bytes(damaged[..8].try_into().expect("a header"));
                    assert_eq!(message.len() as u64, header >> 8);
                }
                Err(_) => refused += 1,
            };
            for len in 0..whole.len() {
                check(&whole[..len]);
            }
            for bit in 0..whole.len() * 8 {
                let mut damaged = whole.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                check(&damaged);
            }
        }
    }
    assert!(refused > 1000);
}

/// What a message decodes to does not depend on what the memory held before.
#[test]
fn memory_may_be_used_again() {
    let mut random = Rng::with_seed(10);
    let (mut decompressor, mut into) = (Decompressor::default(), vec![0xEE; 77]);
    for _ in 0..300 {
        let codec = Codec::ALL[random.usize(..3)];
        let size = random.usize(..3000);
        let message = data(KINDS[random.usize(..8)], size, &mut random);
        let mut frame = frame(codec, &message);
        let damage = random.usize(..4) == 0;
        if damage {
            frame.push(0);
            frame[0] = 0;
        }
        let result = decompressor.decompress(&frame, size as u64, &mut into);
        assert_eq!(result.is_err(), damage);
        assert_eq!(into, if damage { &[][..] } else { &message });
        let mut slice = vec![0xEE; size + 10];
        if let Ok((_, len)) = decompressor.decompress_into(&frame, &mut slice) {
            assert_eq!(slice[..len], message);
            assert!(codec == Codec::Lz4 || slice[len..].iter().all(|byte| *byte == 0xEE));
        }
    }
}

/// Messages of mixed pieces and any settings come back; frames with mixed damage do no harm.
#[test]
fn random_messages_and_random_damage() {
    for seed in 0..400 {
        let mut random = Rng::with_seed(seed);
        let mut message = Vec::new();
        for _ in 0..random.usize(..5) {
            let (kind, most) = (KINDS[random.usize(..8)], 1 << random.usize(..15));
            let size = random.usize(..most);
            message.extend_from_slice(&data(kind, size, &mut random));
        }
        let (level, smallest) = (random.usize(..12) as i32 - 6, random.usize(..500));
        let settings = Settings { level, smallest, sample: random.usize(..2000) };
        let mut compressor = Compressor::new(Codec::ALL[random.usize(..3)], settings);
        let mode = [Mode::Auto, Mode::Always][random.usize(..2)];
        let room = HEADER + message.len() + random.usize(..2) * random.usize(..message.len() / 5 + 40);
        let mut frame = made(&mut compressor, &message, mode, room);
        let (_, received) = undone(&frame, message.len()).expect("a frame");
        assert!(received == message, "seed {seed}");
        for _ in 0..20 {
            // The length is left alone mostly, so that bodies are looked at.
            let at = random.usize(..frame.len());
            if at >= HEADER || random.usize(..8) == 0 {
                frame[at] = random.u64(..) as u8;
            }
            let _ = undone(&frame, message.len() + 100);
        }
        let mut garbage = data(Kind::Noise, HEADER + random.usize(..200), &mut random);
        garbage[..HEADER].copy_from_slice(&forged((seed % 3) as u8, random.usize(..1000) as u64, &[]));
        let _ = undone(&garbage, 1000);
    }
}

#[test]
fn errors_name_their_numbers() {
    let codec = Codec::Lz4;
    for (error, numbers) in [
        (CompressError::Short { len: 5 }, "5 8"),
        (CompressError::UnknownCodec { number: 77 }, "77"),
        (CompressError::NotAgreed { codec }, "lz4"),
        (CompressError::TooLong { len: 2000, limit: 1000 }, "2000 1000"),
        (CompressError::RawLength { len: 10, body: 20 }, "20 10"),
        (CompressError::NotSmaller { codec, len: 10, body: 20 }, "lz4 20 10"),
        (CompressError::Bomb { codec, len: 600, body: 2 }, "lz4 2 600 510"),
        (CompressError::Invalid { codec, len: 600 }, "lz4 600"),
        (CompressError::WrongLength { codec, len: 600, decoded: 500 }, "lz4 500 600"),
        (CompressError::NoMemory { len: 600 }, "600"),
    ] {
        let text = error.to_string();
        let mut rest = text.split(|c: char| !c.is_alphanumeric());
        assert!(numbers.split(' ').all(|number| rest.any(|word| word == number)), "{text}: {numbers}");
    }
}
