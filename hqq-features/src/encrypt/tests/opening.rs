//! What the opener accepts: each message once, as it was sealed, and nothing else.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use super::*;

#[test]
fn every_flipped_bit_is_noticed() {
    for cipher in Cipher::ALL {
        let (ours, theirs) = session(cipher, SessionSettings::default());
        for _ in 0..5 {
            sealed(&ours.sealer, b"lost", AD);
        }
        let message = bytes(&mut Rng::with_seed(4), 45);
        let framed = sealed(&ours.sealer, &message, AD);
        for bit in 0..framed.len() * 8 {
            let mut flipped = framed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let counter = flipped.first_chunk().copied().map(u64::from_le_bytes).unwrap();
            let refused = opened(&theirs.opener, &flipped, AD).unwrap_err();
            if counter < 4096 * (MAX_EPOCHS_AHEAD + 1) {
                assert_eq!(refused, EncryptError::Forged { counter }, "bit {bit}");
            } else {
                assert_eq!(
                    refused,
                    EncryptError::AheadOfKeys { counter, limit: 4096 * (MAX_EPOCHS_AHEAD + 1) }
                );
            }
            let (header, rest) = flipped.split_first_chunk_mut().unwrap();
            assert_eq!(theirs.opener.open_in_place(header, rest, AD), Err(refused));
            assert!(rest.iter().all(|&byte| byte == 0), "what was refused is wiped");
        }
        for bit in 0..AD.len() * 8 {
            let mut ad = AD.to_vec();
            ad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&theirs.opener, &framed, &ad), Err(EncryptError::Forged { counter: 5 }));
        }
        // None of that has used up the counter or moved the keys.
        assert_eq!(theirs.opener.state.lock().unwrap().keys.len(), 1);
        assert_eq!(opened(&theirs.opener, &framed, AD), Ok(message));
    }
}

#[test]
fn what_is_cut_or_longer_is_refused() {
    for cipher in Cipher::ALL {
        let (ours, theirs) = session(cipher, SessionSettings::default());
        let framed = sealed(&ours.sealer, b"a message", AD);
        for have in 0..HEADER {
            let too_short = EncryptError::TooShort { have, need: HEADER };
            assert_eq!(opened(&theirs.opener, &framed[..have], AD), Err(too_short));
        }
        for have in HEADER..framed.len() {
            assert_eq!(opened(&theirs.opener, &framed[..have], AD), Err(EncryptError::Forged { counter: 0 }));
        }
        let longer = [&framed[..], &[0]].concat();
        assert_eq!(opened(&theirs.opener, &longer, AD), Err(EncryptError::Forged { counter: 0 }));
        for ad in [&AD[1..], &AD[..AD.len() - 1], b"", &[AD, b"\0"].concat()] {
            assert_eq!(opened(&theirs.opener, &framed, ad), Err(EncryptError::Forged { counter: 0 }));
        }
        assert_eq!(opened(&theirs.opener, &framed, AD).unwrap(), b"a message");
    }
}

#[test]
fn bytes_and_associated_data_do_not_flow_into_each_other() {
    let (ours, theirs) = session(Cipher::ChaCha20Poly1305, SessionSettings::default());
    let framed = sealed(&ours.sealer, b"", b"abcd");
    let moved = [&framed[..], b"cd"].concat();
    assert_eq!(opened(&theirs.opener, &moved, b"ab"), Err(EncryptError::Forged { counter: 0 }));
    assert_eq!(opened(&theirs.opener, &framed, b"abcd"), Ok(Vec::new()));
}

#[test]
fn arbitrary_bytes_are_refused() {
    let mut random = Rng::with_seed(5);
    for cipher in Cipher::ALL {
        let (_, theirs) = session(cipher, SessionSettings { window: 64, rekey_every: 2, strict: false });
        for _ in 0..300 {
            let len = random.u64(..100) as usize;
            let mut bytes = super::bytes(&mut random, len);
            if random.u64(..2) == 0 && len >= 8 {
                // A counter that is not far off.
                bytes[..8].copy_from_slice(&random.u64(..600).to_le_bytes());
            }
            assert!(opened(&theirs.opener, &bytes, AD).is_err());
        }
        let state = theirs.opener.state.lock().unwrap();
        assert_eq!((state.first, state.keys.len(), state.window.oldest()), (0, 1, 0));
    }
}

#[test]
fn a_replay_is_refused() {
    for strict in [false, true] {
        let (ours, theirs) =
            session(Cipher::Aes256Gcm, SessionSettings { strict, ..SessionSettings::default() });
        let all: Vec<_> = (0..100).map(|_| sealed(&ours.sealer, b"once", AD)).collect();
        for (counter, framed) in (0..).zip(&all) {
            assert!(opened(&theirs.opener, framed, AD).is_ok());
            assert_eq!(opened(&theirs.opener, framed, AD), Err(EncryptError::Replayed { counter }));
        }
        for (counter, framed) in (0..).zip(&all) {
            assert_eq!(opened(&theirs.opener, framed, AD), Err(EncryptError::Replayed { counter }));
        }
    }
}

#[test]
fn the_order_may_change_inside_the_window_only() {
    let settings = SessionSettings { window: 100, ..SessionSettings::default() };
    let (ours, theirs) = session(Cipher::Aes256Gcm, settings);
    let all: Vec<_> = (0..300).map(|_| sealed(&ours.sealer, b"late", AD)).collect();
    assert!(opened(&theirs.opener, &all[250], AD).is_ok());
    // Counters 151 to 250 are the window.
    let oldest = 151;
    for counter in (0..250).rev() {
        let result = opened(&theirs.opener, &all[counter as usize], AD);
        if counter >= oldest {
            assert!(result.is_ok(), "{counter}: {result:?}");
        } else {
            assert_eq!(result, Err(EncryptError::TooOld { counter, oldest }));
        }
    }
    assert!(opened(&theirs.opener, &all[299], AD).is_ok());
    for (counter, framed) in (0..=250).zip(&all) {
        let oldest = 200;
        let replayed = EncryptError::Replayed { counter };
        let too_old = EncryptError::TooOld { counter, oldest };
        let error = if counter >= oldest { replayed } else { too_old };
        assert_eq!(opened(&theirs.opener, framed, AD), Err(error));
    }
}

#[test]
fn a_strict_session_takes_the_next_only() {
    let settings = SessionSettings { window: 64, rekey_every: 4, strict: true };
    let (ours, theirs) = session(Cipher::ChaCha20Poly1305, settings);
    let all: Vec<_> = (0..40).map(|_| sealed(&ours.sealer, b"in order", AD)).collect();
    for next in 0..39 {
        let early = opened(&theirs.opener, &all[next + 1], AD);
        let (counter, next) = (next as u64 + 1, next as u64);
        assert_eq!(early, Err(EncryptError::Skipped { counter, next }));
        assert!(opened(&theirs.opener, &all[next as usize], AD).is_ok());
        assert!(theirs.opener.state.lock().unwrap().keys.len() <= 2);
    }
    let state = theirs.opener.state.lock().unwrap();
    assert_eq!((state.first, state.keys.len()), (9, 1), "keys of the past are gone");
}

#[test]
fn late_messages_of_old_epochs_are_opened() {
    // A window of several epochs, of one, and of less than one.
    for (window, rekey_every) in [(64, 4), (64, 64), (64, 100), (10, 1)] {
        for cipher in Cipher::ALL {
            let (ours, theirs) = session(cipher, SessionSettings { window, rekey_every, strict: false });
            let count = 4 * (u64::from(window) + rekey_every);
            let all: Vec<_> =
                (0..count).map(|counter| sealed(&ours.sealer, &counter.to_le_bytes(), AD)).collect();
            // Blocks as wide as the window, each backwards.
            let counters: Vec<u64> = (0..count).collect();
            for block in counters.chunks(window as usize) {
                for &counter in block.iter().rev() {
                    let result = opened(&theirs.opener, &all[counter as usize], AD);
                    assert_eq!(result, Ok(counter.to_le_bytes().to_vec()), "{window} {rekey_every}");
                    let keys = theirs.opener.state.lock().unwrap().keys.len() as u64;
                    assert!(keys <= u64::from(window) / rekey_every + 2, "{keys} keys");
                }
            }
        }
    }
}

#[test]
fn an_old_key_goes_with_its_last_counter() {
    let (ours, theirs) =
        session(Cipher::Aes256Gcm, SessionSettings { window: 64, rekey_every: 64, strict: false });
    let epochs = |counter: u64| {
        let state = theirs.opener.state.lock().unwrap();
        (counter, state.first, state.keys.len())
    };
    for counter in 0..192 {
        assert!(opened(&theirs.opener, &sealed(&ours.sealer, b"", AD), AD).is_ok());
        // With counter 127 the window begins at 64, and epoch 0 has nothing more to say.
        let expected = match counter {
            0..64 => (counter, 0, 1),
            64..127 => (counter, 0, 2),
            127 => (counter, 1, 1),
            128..191 => (counter, 1, 2),
            _ => (counter, 2, 1),
        };
        assert_eq!(epochs(counter), expected);
    }
}

#[test]
fn a_gap_may_span_epochs_but_not_too_many() {
    let settings = SessionSettings { window: 64, rekey_every: 1, strict: false };
    for (lost, fine) in [(1, true), (100, true), (MAX_EPOCHS_AHEAD, true), (MAX_EPOCHS_AHEAD + 1, false)] {
        let (ours, theirs) = session(Cipher::Aes256Gcm, settings);
        for _ in 0..lost {
            sealed(&ours.sealer, b"lost", AD);
        }
        let framed = sealed(&ours.sealer, b"came", AD);
        let result = opened(&theirs.opener, &framed, AD);
        if fine {
            assert_eq!(result.unwrap(), b"came");
            let state = theirs.opener.state.lock().unwrap();
            assert_eq!(state.first + state.keys.len() as u64 - 1, lost, "the newest key is this message's");
            assert!(state.keys.len() <= 64);
        } else {
            let error = EncryptError::AheadOfKeys { counter: lost, limit: MAX_EPOCHS_AHEAD + 1 };
            assert_eq!(result, Err(error));
            assert_eq!(theirs.opener.state.lock().unwrap().keys.len(), 1);
        }
    }
}

#[test]
fn a_message_of_another_counters_key_is_refused() {
    // The same key throughout would let a message be moved by whole epochs, if the nonce were not the counter.
    let (ours, theirs) =
        session(Cipher::Aes256Gcm, SessionSettings { window: 64, rekey_every: 4, strict: false });
    let framed = sealed(&ours.sealer, b"moved", AD);
    for counter in 1..200_u64 {
        let moved = [&counter.to_le_bytes()[..], &framed[8..]].concat();
        assert_eq!(opened(&theirs.opener, &moved, AD), Err(EncryptError::Forged { counter }));
    }
    assert!(opened(&theirs.opener, &framed, AD).is_ok());
}

#[test]
fn the_highest_counters_are_refused_without_work() {
    let (_, theirs) =
        session(Cipher::Aes256Gcm, SessionSettings { rekey_every: 1 << 32, ..SessionSettings::default() });
    for counter in [COUNTERS, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
        let framed = [&counter.to_le_bytes()[..], &[0; 40]].concat();
        let refused = opened(&theirs.opener, &framed, AD).unwrap_err();
        assert!(matches!(refused, EncryptError::AheadOfKeys { .. }), "{refused:?}");
    }
}

#[test]
fn the_last_counter_is_the_last() {
    let (ours, theirs) = session(Cipher::Aes256Gcm, SessionSettings::default());
    let epoch = (COUNTERS - 1) / SessionSettings::default().rekey_every;
    theirs.opener.state.lock().unwrap().first = epoch;
    {
        let mut state = ours.sealer.state.lock().unwrap();
        (state.next, state.epoch) = (COUNTERS - 1, epoch);
    }
    let last = sealed(&ours.sealer, b"the last", AD);
    let beyond = [&COUNTERS.to_le_bytes()[..], &last[8..]].concat();
    let error = EncryptError::AheadOfKeys { counter: COUNTERS, limit: COUNTERS };
    assert_eq!(opened(&theirs.opener, &beyond, AD), Err(error));
    assert_eq!(opened(&theirs.opener, &last, AD).unwrap(), b"the last");
    assert_eq!(opened(&theirs.opener, &beyond, AD), Err(error));
}

#[test]
fn the_counter_is_checked_before_anything_is_decrypted() {
    let (ours, theirs) =
        session(Cipher::Aes256Gcm, SessionSettings { window: 10, ..SessionSettings::default() });
    for _ in 0..20 {
        assert!(opened(&theirs.opener, &sealed(&ours.sealer, b"", AD), AD).is_ok());
    }
    // Were the tag looked at first, these would be forged.
    let made_up = |counter: u64| [&counter.to_le_bytes()[..], &[0; 40]].concat();
    assert_eq!(opened(&theirs.opener, &made_up(19), AD), Err(EncryptError::Replayed { counter: 19 }));
    assert_eq!(opened(&theirs.opener, &made_up(9), AD), Err(EncryptError::TooOld { counter: 9, oldest: 10 }));
    assert_eq!(opened(&theirs.opener, &made_up(20), AD), Err(EncryptError::Forged { counter: 20 }));
}

#[test]
fn threads_may_move_the_keys_at_once() {
    let settings = SessionSettings { window: 64, rekey_every: 1, strict: false };
    let (ours, theirs) = session(Cipher::Aes256Gcm, settings);
    let start = Barrier::new(4);
    let (start, opener) = (&start, &theirs.opener);
    for round in 0..100 {
        let batch: Vec<_> = (0..4).map(|_| sealed(&ours.sealer, &[round; 4096], AD)).collect();
        thread::scope(|scope| {
            for framed in batch {
                scope.spawn(move || {
                    start.wait();
                    assert_eq!(opened(opener, &framed, AD), Ok(vec![round; 4096]));
                });
            }
        });
    }
}

#[test]
fn one_of_many_threads_gets_a_message() {
    let (ours, theirs) = session(Cipher::Aes256Gcm, SessionSettings::default());
    let start = Barrier::new(8);
    for counter in 0..60 {
        let framed = sealed(&ours.sealer, &[7; 4096], AD);
        let attempt = || {
            start.wait();
            opened(&theirs.opener, &framed, AD)
        };
        let attempt = &attempt;
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(attempt)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (got, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!((got.len(), refused.len()), (1, 7));
        assert!(refused.into_iter().all(|result| result == Err(EncryptError::Replayed { counter })));
    }
}

/// Deliveries in any order, with losses and repetitions, against a list of what should be accepted.
#[test]
fn deliveries_agree_with_a_simple_model() {
    for seed in 0..8 {
        let mut random = Rng::with_seed(seed);
        let window = 1 + random.u64(..200) as u32;
        let rekey_every = u64::from(window.div_ceil(64)) + random.u64(..50);
        let settings = SessionSettings { window, rekey_every, strict: false };
        let (ours, theirs) = session(Cipher::ALL[seed as usize % 2], settings);
        let mut sent: Vec<Vec<u8>> = Vec::new();
        let (mut accepted, mut next) = (BTreeSet::new(), 0_u64);
        for _ in 0..700 {
            if sent.is_empty() || random.u64(..3) == 0 {
                let burst = if random.u64(..30) == 0 { 300 } else { 3 };
                for _ in 0..=random.u64(..burst) {
                    sent.push(sealed(&ours.sealer, &sent.len().to_le_bytes(), AD));
                }
            }
            let back = random.u64(..u64::from(window) + 20).min(sent.len() as u64 - 1);
            let counter = sent.len() as u64 - 1 - back;
            let oldest = next.saturating_sub(window.into());
            let expected = if counter < oldest {
                Err(EncryptError::TooOld { counter, oldest })
            } else if accepted.contains(&counter) {
                Err(EncryptError::Replayed { counter })
            } else {
                accepted.insert(counter);
                next = next.max(counter + 1);
                Ok(counter.to_le_bytes().to_vec())
            };
            assert_eq!(opened(&theirs.opener, &sent[counter as usize], AD), expected, "seed {seed}");
        }
    }
}

#[test]
fn memory_is_used_again() {
    let (ours, theirs) = session(Cipher::Aes256Gcm, SessionSettings::default());
    let mut into = Vec::new();
    theirs.opener.open(&sealed(&ours.sealer, &[1; 1000], AD), AD, &mut into).unwrap();
    let (place, capacity) = (into.as_ptr(), into.capacity());
    theirs.opener.open(&sealed(&ours.sealer, &[2; 10], AD), AD, &mut into).unwrap();
    assert_eq!(into, [2; 10]);
    assert_eq!((into.as_ptr(), into.capacity()), (place, capacity));
    assert!(theirs.opener.open(&[0; 30], AD, &mut into).is_err());
    assert_eq!((into.as_ptr(), into.len(), into.capacity()), (place, 0, capacity));
}
