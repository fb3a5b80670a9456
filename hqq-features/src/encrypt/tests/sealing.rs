//! What the sealer writes, and where.

use std::collections::BTreeSet;
use std::thread;

use chacha20poly1305::aead::inout::InOutBuf;

use super::super::aead::Aead;
use super::*;

/// Nothing that random bytes would contain.
const SECRET: &[u8] = b"plain text here!";

fn shows_plaintext(bytes: &[u8]) -> bool {
    let mut parts = SECRET.windows(4);
    parts.any(|part| bytes.windows(4).any(|window| window == part))
}

#[test]
fn only_ciphertext_is_written_for_others_to_read() {
    for cipher in Cipher::ALL {
        let (ours, theirs) = session(cipher, SessionSettings::default());
        for len in (0..200).chain([4096, 16 * 1024 + 5, 100_000]) {
            let message: Vec<u8> = SECRET.iter().copied().cycle().take(len).collect();
            assert_eq!(shows_plaintext(&message), len >= 4);
            let mut into = vec![0xee; HEADER + len];

            let mut own = message.clone();
            ours.sealer.seal_into(&mut own, AD, &mut into).unwrap();
            assert!(!shows_plaintext(&into) && !shows_plaintext(&own), "{len} bytes");
            assert_eq!(own, into[HEADER..], "the message has become ciphertext");
            assert_eq!(opened(&theirs.opener, &into, AD).as_ref(), Ok(&message));

            let mut scratch = vec![0x11; len / 2];
            ours.sealer.seal_copy_into(&message, AD, &mut scratch, &mut into).unwrap();
            assert!(!shows_plaintext(&into) && !shows_plaintext(&scratch), "{len} bytes");
            assert_eq!(opened(&theirs.opener, &into, AD).as_ref(), Ok(&message));
        }
    }
}

#[test]
fn nothing_is_written_where_sealing_fails() {
    let (ours, theirs) = session(Cipher::Aes256Gcm, SessionSettings::default());
    for have in [0, HEADER, HEADER + SECRET.len() - 1, HEADER + SECRET.len() + 1] {
        let (mut message, mut scratch, mut into) = (SECRET.to_vec(), Vec::new(), vec![0xee; have]);
        let error = EncryptError::Room { have, need: HEADER + SECRET.len() };
        assert_eq!(ours.sealer.seal_into(&mut message, AD, &mut into), Err(error));
        assert_eq!(ours.sealer.seal_copy_into(&message, AD, &mut scratch, &mut into), Err(error));
        assert_eq!((message, into, scratch), (SECRET.to_vec(), vec![0xee; have], Vec::new()));
    }
    ours.sealer.state.lock().unwrap().next = COUNTERS;
    let (mut message, mut scratch, mut into) =
        (SECRET.to_vec(), Vec::new(), vec![0xee; HEADER + SECRET.len()]);
    let error = Err(EncryptError::Exhausted { limit: COUNTERS });
    assert_eq!(ours.sealer.seal_into(&mut message, AD, &mut into), error);
    let copied = ours.sealer.seal_copy_into(&message, AD, &mut scratch, &mut into);
    assert_eq!(copied.map(drop), error);
    assert_eq!((&message[..], &into[..]), (SECRET, &[0xee; HEADER + SECRET.len()][..]));
    assert!(!shows_plaintext(&scratch));
    drop(theirs);
}

#[test]
fn the_frame_is_counter_tag_and_ciphertext() {
    for cipher in Cipher::ALL {
        let (ours, _) = session(cipher, SessionSettings::default());
        let key = std::sync::Arc::clone(&ours.sealer.state.lock().unwrap().key);
        for counter in 0..3_u64 {
            let framed = sealed(&ours.sealer, SECRET, AD);
            let mut message = SECRET.to_vec();
            let tag = key.seal(counter, AD, InOutBuf::from(&mut message[..])).unwrap();
            assert_eq!(framed, [&counter.to_le_bytes()[..], &tag, &message].concat());
        }
    }
}

#[test]
fn all_three_ways_to_seal_make_the_same() {
    for cipher in Cipher::ALL {
        let (ours, _) = session(cipher, SessionSettings::default());
        let message = bytes(&mut Rng::with_seed(3), 1000);
        let again = || ours.sealer.state.lock().unwrap().next = 5;
        again();
        let one = sealed(&ours.sealer, &message, AD);
        again();
        let mut other = vec![0; one.len()];
        ours.sealer.seal_copy_into(&message, AD, &mut Vec::new(), &mut other).unwrap();
        assert_eq!(one, other);
        again();
        let mut own = message.clone();
        let header = ours.sealer.seal(&mut own, AD).unwrap();
        assert_eq!(one, [&header[..], &own].concat());
    }
}

#[test]
fn counters_do_not_run_over() {
    for cipher in Cipher::ALL {
        let (ours, _) = session(cipher, SessionSettings::default());
        {
            let mut state = ours.sealer.state.lock().unwrap();
            state.next = COUNTERS - 1;
            state.epoch = (COUNTERS - 1) / SessionSettings::default().rekey_every;
        }
        let header = ours.sealer.seal(&mut [], AD).unwrap();
        assert_eq!(header[..8], (COUNTERS - 1).to_le_bytes());
        for _ in 0..3 {
            let mut message = SECRET.to_vec();
            assert_eq!(ours.sealer.seal(&mut message, AD), Err(EncryptError::Exhausted { limit: COUNTERS }));
            assert_eq!(message, SECRET, "what was not sealed is as it was");
        }
    }
}

#[test]
fn threads_never_share_a_counter() {
    const EACH: usize = 3000;
    let settings = SessionSettings { window: 1 << 15, rekey_every: 512, strict: false };
    let (ours, theirs) = session(Cipher::Aes256Gcm, settings);
    let seal =
        |thread: u8| -> Vec<Vec<u8>> { (0..EACH).map(|_| sealed(&ours.sealer, &[thread; 8], AD)).collect() };
    let seal = &seal;
    let batches: Vec<Vec<Vec<u8>>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|thread| scope.spawn(move || seal(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let counter = |framed: &[u8]| framed.first_chunk().copied().map(u64::from_le_bytes).unwrap();
    let counters: BTreeSet<u64> = batches.iter().flatten().map(|framed| counter(framed)).collect();
    assert_eq!(counters, (0..8 * EACH as u64).collect());
    for batch in &batches {
        assert!(batch.is_sorted_by_key(|framed| counter(framed)));
    }
    // As many threads open them, each what one thread sealed; each message with the key of its epoch.
    let opener = &theirs.opener;
    thread::scope(|scope| {
        for (thread, batch) in (0_u8..).zip(&batches) {
            scope.spawn(move || {
                for framed in batch {
                    assert_eq!(opened(opener, framed, AD), Ok(vec![thread; 8]));
                }
            });
        }
    });
}

#[test]
fn the_next_key_is_noises_rekey() {
    for cipher in Cipher::ALL {
        let first = Aead::new(cipher, &[5; 32]);
        let mut key = [0; 32];
        first.seal(u64::MAX, &[], InOutBuf::from(&mut key[..])).unwrap();
        let seal = |key: &Aead| {
            let mut message = [0; 16];
            (key.seal(9, AD, InOutBuf::from(&mut message[..])).unwrap(), message)
        };
        assert_eq!(seal(&first.next()), seal(&Aead::new(cipher, &key)));
        assert_ne!(seal(&first.next()), seal(&first));
    }
}

#[test]
fn each_epoch_has_its_key() {
    let settings = SessionSettings { window: 64, rekey_every: 4, strict: false };
    for cipher in Cipher::ALL {
        let (ours, _) = session(cipher, settings);
        let mut key = std::sync::Arc::clone(&ours.sealer.state.lock().unwrap().key);
        for counter in 0..20 {
            if counter > 0 && counter % 4 == 0 {
                key = std::sync::Arc::new(key.next());
            }
            let mut framed = sealed(&ours.sealer, SECRET, AD);
            let tag = framed[8..HEADER].first_chunk().copied().unwrap();
            assert!(key.open(counter, AD, &mut framed[HEADER..], &tag));
            assert_eq!(&framed[HEADER..], SECRET);
        }
        assert_eq!(ours.sealer.state.lock().unwrap().epoch, 4);
    }
}
