//! The cost of the negotiated features within one process, each compared with the plain calls that it is made of.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hqq::features::compress::{Codec, Compressor, Decompressor, Mode, Settings};
use lz4_flex::block::{self, CompressTable};
use zstd::zstd_safe::{CCtx, CParameter, DCtx};

const SIZES: [usize; 4] = [64, 1 << 10, 64 << 10, 1 << 20];

/// Words of a log, the frequent ones more often.
fn text(len: usize, random: &mut u64) -> Vec<u8> {
    let words =
        "the of a ring pool link peer buffer message sent received at 17:04:33.120 error closed retry";
    let words: Vec<&str> = words.split(' ').collect();
    let mut text = String::new();
    while text.len() < len {
        let [first, second] = [0; 2].map(|_| next(random) as usize % words.len());
        text.push_str(words[first.min(second)]);
        text.push(' ');
        if next(random) % 8 == 0 {
            text.push_str(&(next(random) % 10_000).to_string());
            text.push('\n');
        }
    }
    text.truncate(len);
    text.into_bytes()
}

fn noise(len: usize, random: &mut u64) -> Vec<u8> {
    (0..len).map(|_| next(random) as u8).collect()
}

/// splitmix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// Frames made and undone, beside the codecs' own calls on the same data and with memory that they keep.
fn compress(c: &mut Criterion) {
    let mut random = 1;
    for size in SIZES {
        for (kind, message) in [("text", text(size, &mut random)), ("random", noise(size, &mut random))] {
            let mut group = c.benchmark_group(format!("compress, {kind}"));
            group.throughput(Throughput::Bytes(size as u64));
            plain(&mut group, &message);
            for codec in [Codec::Lz4, Codec::Zstd] {
                for (name, how) in [("auto", Mode::Auto), ("always", Mode::Always)] {
                    let mut compressor = Compressor::new(codec, Settings::default());
                    let mut frame = vec![0; compressor.room(size)];
                    let id = |what| BenchmarkId::new(format!("{codec} {name} {what}"), size);
                    group.bench_function(id("made"), |b| {
                        b.iter(|| compressor.compress(black_box(&message), how, &mut frame))
                    });
                    let len = compressor.compress(&message, how, &mut frame);
                    let (mut decompressor, mut received) = (Decompressor::default(), Vec::new());
                    group.bench_function(id("undone"), |b| {
                        b.iter(|| {
                            let frame = black_box(&frame[..len]);
                            decompressor.decompress(frame, size as u64, &mut received).expect("a frame")
                        })
                    });
                    assert_eq!(received, message);
                }
            }
            group.finish();
        }
    }
}

/// The codecs alone, and a copy.
fn plain(group: &mut BenchmarkGroup<'_, WallTime>, message: &[u8]) {
    let size = message.len();
    let mut body = vec![0; block::get_maximum_output_size(size) + 64];
    let mut received = vec![0; size];
    group.bench_function(BenchmarkId::new("copy", size), |b| {
        b.iter(|| {
            received.copy_from_slice(black_box(message));
            black_box(&mut received);
        })
    });
    let mut table = if size < 64 << 10 { CompressTable::small() } else { CompressTable::large() };
    group.bench_function(BenchmarkId::new("lz4 plain made", size), |b| {
        b.iter(|| block::compress_into_with_table(black_box(message), &mut body, &mut table).expect("room"))
    });
    let len = block::compress_into(message, &mut body).expect("room");
    group.bench_function(BenchmarkId::new("lz4 plain undone", size), |b| {
        b.iter(|| block::decompress_into(black_box(&body[..len]), &mut received).expect("a block"))
    });
    let (mut making, mut undoing) = (CCtx::create(), DCtx::create());
    let level = CParameter::CompressionLevel(Settings::default().level);
    making.set_parameter(level).expect("a level");
    group.bench_function(BenchmarkId::new("zstd plain made", size), |b| {
        b.iter(|| making.compress2(&mut body[..], black_box(message)).expect("room"))
    });
    let len = making.compress2(&mut body[..], message).expect("room");
    group.bench_function(BenchmarkId::new("zstd plain undone", size), |b| {
        b.iter(|| undoing.decompress(&mut received[..], black_box(&body[..len])).expect("a frame"))
    });
}

criterion_group! {
    name = features;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(100));
    targets = compress
}
criterion_main!(features);
