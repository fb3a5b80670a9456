//! The cost of sealing and opening compared with the bare ciphers: counters, keys, the replay window and the copy.

use std::hint::black_box;
use std::time::Duration;

use aes_gcm::Aes256Gcm;
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hqq::features::encrypt::{Cipher, EncryptError, HEADER, Handshake, Key, Session, SessionSettings};

const SIZES: [usize; 4] = [64, 1024, 64 * 1024, 1024 * 1024];
const AD: &[u8] = &[1; 64];

fn session(cipher: Cipher) -> Result<(Session, Session), EncryptError> {
    let key = Key::generate(hqq::advanced::entropy)?;
    let end = |initiator| {
        Handshake::new(&key, initiator, cipher, SessionSettings::default(), b"", hqq::advanced::entropy)
    };
    let (mut initiator, mut responder) = (end(true)?, end(false)?);
    responder.read(&initiator.write()?)?;
    initiator.read(&responder.write()?)?;
    Ok((initiator.finish()?, responder.finish()?))
}

/// Sealing and opening, against the cipher alone, which works in place and needs neither.
fn compare<A: AeadInOut + KeyInit>(c: &mut Criterion, cipher: Cipher) {
    let mut group = c.benchmark_group(cipher.to_string());
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        let bare = A::new(&Default::default());
        let nonce = Default::default();
        let mut message = vec![7; size];
        group.bench_function(BenchmarkId::new("cipher alone, encrypt", size), |b| {
            b.iter(|| bare.encrypt_inout_detached(&nonce, AD, black_box(&mut message[..]).into()).is_ok())
        });
        let tag = bare.encrypt_inout_detached(&nonce, AD, message[..].as_mut().into()).expect("it is short");
        let ciphertext = message.clone();
        group.bench_function(BenchmarkId::new("cipher alone, decrypt", size), |b| {
            // As the opener does: it must not decrypt what others can change.
            b.iter(|| {
                message.copy_from_slice(black_box(&ciphertext));
                bare.decrypt_inout_detached(&nonce, AD, message[..].as_mut().into(), &tag).is_ok()
            })
        });

        let (ours, _) = session(cipher).expect("the keys fit");
        let mut shared = vec![0; HEADER + size];
        group.bench_function(BenchmarkId::new("seal in place", size), |b| {
            b.iter(|| ours.sealer.seal(black_box(&mut message), AD).expect("counters are left"))
        });
        group.bench_function(BenchmarkId::new("seal_into", size), |b| {
            b.iter(|| {
                ours.sealer.seal_into(black_box(&mut message), AD, &mut shared).expect("counters are left")
            })
        });
        let mut scratch = Vec::new();
        group.bench_function(BenchmarkId::new("seal_copy_into", size), |b| {
            b.iter(|| {
                let sealed = ours.sealer.seal_copy_into(black_box(&message), AD, &mut scratch, &mut shared);
                sealed.expect("counters are left")
            })
        });
        // Another one, since what was sealed until now and never opened is a gap that no opener takes.
        let (ours, theirs) = session(cipher).expect("the keys fit");
        let mut opened = Vec::new();
        group.bench_function(BenchmarkId::new("seal_into and open", size), |b| {
            b.iter(|| {
                ours.sealer.seal_into(black_box(&mut message), AD, &mut shared).expect("counters are left");
                theirs.opener.open(&shared, AD, &mut opened).expect("nobody has meddled")
            })
        });
    }
    group.finish();
}

fn ciphers(c: &mut Criterion) {
    compare::<ChaCha20Poly1305>(c, Cipher::ChaCha20Poly1305);
    compare::<Aes256Gcm>(c, Cipher::Aes256Gcm);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .sample_size(20)
        .without_plots();
    targets = ciphers
}
criterion_main!(benches);
