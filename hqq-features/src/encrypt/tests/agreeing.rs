//! Handshakes: who gets a session, and who does not.

use super::*;

/// Both kinds of key with both ciphers.
fn all() -> impl Iterator<Item = ((Key, Key), Cipher)> {
    Cipher::ALL.into_iter().flat_map(|cipher| [((shared(7), shared(7)), cipher), (pinned(), cipher)])
}

#[test]
fn both_kinds_of_key_agree_with_both_ciphers() {
    for ((ours, theirs), cipher) in all() {
        let (mut initiator, mut responder) = handshakes((&ours, &theirs), cipher, SessionSettings::default());
        assert!(!initiator.is_finished() && !responder.is_finished());
        exchange(&mut initiator, &mut responder).unwrap();
        assert!(initiator.is_finished() && responder.is_finished());
        let (ours, theirs) = (initiator.finish().unwrap(), responder.finish().unwrap());
        for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
            for len in [0, 1, 15, 16, 17, 63, 64, 65, 5000] {
                let message = bytes(&mut Rng::with_seed(len as u64), len);
                let framed = sealed(&from.sealer, &message, AD);
                assert_eq!(opened(&to.opener, &framed, AD), Ok(message));
            }
        }
    }
}

#[test]
fn each_session_has_keys_of_its_own() {
    let (old, _) = session(Cipher::ChaCha20Poly1305, SessionSettings::default());
    let (new, peer) = session(Cipher::ChaCha20Poly1305, SessionSettings::default());
    let (one, other) = (sealed(&old.sealer, &[0; 64], AD), sealed(&new.sealer, &[0; 64], AD));
    assert_eq!(one[..8], other[..8]);
    assert_ne!(one[HEADER..], other[HEADER..]);
    assert_eq!(opened(&peer.opener, &one, AD), Err(EncryptError::Forged { counter: 0 }));
    assert_eq!(opened(&peer.opener, &other, AD), Ok(vec![0; 64]));
}

#[test]
fn the_directions_have_keys_of_their_own() {
    for cipher in Cipher::ALL {
        let (ours, theirs) = session(cipher, SessionSettings::default());
        let framed = sealed(&ours.sealer, b"to the peer", AD);
        assert_eq!(opened(&ours.opener, &framed, AD), Err(EncryptError::Forged { counter: 0 }));
        assert_ne!(framed, sealed(&theirs.sealer, b"to the peer", AD));
    }
}

/// The first error of an exchange, and at which end.
fn refusal(mut initiator: Handshake, mut responder: Handshake) -> (&'static str, EncryptError) {
    let message = match initiator.write() {
        Ok(message) => message,
        Err(error) => return ("initiator", error),
    };
    if let Err(error) = responder.read(&message) {
        // What has failed is over.
        assert_eq!(responder.read(&message), Err(EncryptError::UnexpectedStep));
        assert_eq!(responder.write(), Err(EncryptError::UnexpectedStep));
        assert!(!responder.is_finished());
        assert_eq!(responder.finish().unwrap_err(), EncryptError::UnexpectedStep);
        return ("responder", error);
    }
    ("initiator", initiator.read(&responder.write().unwrap()).unwrap_err())
}

#[test]
fn a_wrong_key_is_refused() {
    let settings = SessionSettings::default();
    let stranger = || StaticSecret::new([0x63; 32]);
    for cipher in Cipher::ALL {
        let (ours, theirs) = pinned();
        let public = |byte| StaticSecret::new([byte; 32]).public();
        let cases = [
            (shared(7), shared(8)),
            (shared(7), pinned().1),
            (pinned().0, shared(7)),
            // The initiator is not whom the responder pinned, and the other way round.
            (Key::pinned(stranger(), public(0x62)), theirs),
            (ours, Key::pinned(stranger(), public(0x61))),
            // Each knows the other's secret, not its own: the same keys, the wrong way round.
            (pinned().0, pinned().0),
        ];
        for (ours, theirs) in &cases {
            let (initiator, responder) = handshakes((ours, theirs), cipher, settings);
            assert_eq!(refusal(initiator, responder), ("responder", EncryptError::WrongKey));
        }
    }
}

#[test]
fn the_initiator_notices_a_wrong_key_too() {
    let settings = SessionSettings::default();
    for (key, peer) in [(shared(7), shared(7)), pinned()] {
        let (mut initiator, mut responder) = handshakes((&key, &peer), Cipher::Aes256Gcm, settings);
        responder.read(&initiator.write().unwrap()).unwrap();
        // Another handshake's answer, made with the same key.
        let (mut other, mut another) = handshakes((&key, &peer), Cipher::Aes256Gcm, settings);
        another.read(&other.write().unwrap()).unwrap();
        assert_eq!(initiator.read(&another.write().unwrap()), Err(EncryptError::WrongKey));
        assert_eq!(initiator.finish().unwrap_err(), EncryptError::UnexpectedStep);
    }
}

#[test]
fn what_was_agreed_on_must_be_the_same() {
    let settings = SessionSettings::default();
    let slower = SessionSettings { rekey_every: 8192, ..settings };
    let [chacha, aes] = Cipher::ALL;
    for (ours, theirs) in [(shared(7), shared(7)), pinned()] {
        let responders = [
            (aes, settings, &b"agreed"[..]),
            (chacha, slower, b"agreed"),
            (chacha, settings, b"agreeD"),
            (chacha, settings, b"agree"),
            (chacha, settings, b""),
        ];
        for (cipher, settings_of_theirs, prologue) in responders {
            let initiator = Handshake::new(&ours, true, chacha, settings, b"agreed", entropy).unwrap();
            let responder =
                Handshake::new(&theirs, false, cipher, settings_of_theirs, prologue, entropy).unwrap();
            assert_eq!(refusal(initiator, responder), ("responder", EncryptError::WrongKey));
        }
        // What each end chooses for itself may differ.
        let own = SessionSettings { window: 64, strict: true, ..settings };
        let mut initiator = Handshake::new(&ours, true, chacha, settings, b"agreed", entropy).unwrap();
        let mut responder = Handshake::new(&theirs, false, chacha, own, b"agreed", entropy).unwrap();
        assert_eq!(exchange(&mut initiator, &mut responder), Ok(()));
    }
}

#[test]
fn a_changed_handshake_is_refused() {
    for ((ours, theirs), cipher) in all() {
        for byte in 0..HANDSHAKE {
            // Bit 255 of the public key means nothing to X25519, and must not be free to change.
            let bit = if byte == 31 { 7 } else { byte % 8 };
            let (mut initiator, mut responder) =
                handshakes((&ours, &theirs), cipher, SessionSettings::default());
            let mut first = initiator.write().unwrap();
            first[byte] ^= 1 << bit;
            assert_eq!(responder.read(&first), Err(EncryptError::WrongKey), "byte {byte} of the first");

            let (mut initiator, mut responder) =
                handshakes((&ours, &theirs), cipher, SessionSettings::default());
            responder.read(&initiator.write().unwrap()).unwrap();
            let mut second = responder.write().unwrap();
            second[byte] ^= 1 << bit;
            assert_eq!(initiator.read(&second), Err(EncryptError::WrongKey), "byte {byte} of the second");
        }
    }
}

#[test]
fn each_step_has_its_turn() {
    let key = shared(7);
    let pair = || handshakes((&key, &key), Cipher::Aes256Gcm, SessionSettings::default());
    let unexpected = Err(EncryptError::UnexpectedStep);
    let (mut initiator, mut responder) = pair();
    assert_eq!(responder.write(), Err(EncryptError::UnexpectedStep));
    assert_eq!(initiator.read(&[0; HANDSHAKE]), unexpected);
    let (mut initiator, mut responder) = pair();
    let first = initiator.write().unwrap();
    assert_eq!(initiator.write(), Err(EncryptError::UnexpectedStep));
    responder.read(&first).unwrap();
    assert_eq!(responder.read(&first), unexpected);
    let (initiator, mut responder) = pair();
    assert_eq!(initiator.finish().unwrap_err(), EncryptError::UnexpectedStep);
    let (mut initiator, _) = pair();
    responder.read(&initiator.write().unwrap()).unwrap();
    responder.write().unwrap();
    assert_eq!(responder.write(), Err(EncryptError::UnexpectedStep));
}

#[test]
fn a_handshake_cannot_be_reflected() {
    let key = shared(7);
    let (mut initiator, mut other) = handshakes((&key, &key), Cipher::Aes256Gcm, SessionSettings::default());
    let first = initiator.write().unwrap();
    assert_eq!(initiator.read(&first), Err(EncryptError::WrongKey));
    assert_eq!(other.read(&first), Ok(()));
}

#[test]
fn a_key_with_which_all_secrets_are_equal_is_refused() {
    // Points of order 1, 2 and 4, and the top bit that is ignored.
    let mut one = [0; 32];
    one[0] = 1;
    let mut top = [0; 32];
    top[31] = 0x80;
    for weak in [[0; 32], one, top] {
        let key = Key::pinned(StaticSecret::new([0x61; 32]), weak);
        let (mut initiator, _) = handshakes((&key, &key), Cipher::Aes256Gcm, SessionSettings::default());
        assert_eq!(initiator.write(), Err(EncryptError::WeakKey));

        let key = shared(7);
        let (_, mut responder) = handshakes((&key, &key), Cipher::Aes256Gcm, SessionSettings::default());
        let mut message = [0; HANDSHAKE];
        message[..32].copy_from_slice(&weak);
        assert_eq!(
            responder.read(&message),
            Err(EncryptError::WrongKey),
            "its tag is wrong, which comes first"
        );
    }
}

#[test]
fn settings_have_limits() {
    let check = |window, rekey_every| {
        let settings = SessionSettings { window, rekey_every, strict: false };
        Handshake::new(&shared(7), true, Cipher::Aes256Gcm, settings, b"", entropy).map(|_| ())
    };
    let limit = SessionSettings::MAX_WINDOW;
    assert_eq!(check(0, 4096), Err(EncryptError::Window { have: 0, limit }));
    assert_eq!(check(limit + 1, 1 << 32), Err(EncryptError::Window { have: limit + 1, limit }));
    let most = SessionSettings::MAX_REKEY_EVERY;
    assert_eq!(check(1, 0), Err(EncryptError::RekeyEvery { have: 0, least: 1, most }));
    assert_eq!(check(129, 2), Err(EncryptError::RekeyEvery { have: 2, least: 3, most }));
    assert_eq!(check(129, most + 1), Err(EncryptError::RekeyEvery { have: most + 1, least: 3, most }));
    assert_eq!(check(129, 3), Ok(()));
    assert_eq!(check(limit, most), Ok(()));
}

#[test]
fn a_handshake_shows_nothing() {
    let key = shared(0xab);
    let (mut initiator, mut responder) =
        handshakes((&key, &key), Cipher::Aes256Gcm, SessionSettings::default());
    exchange(&mut initiator, &mut responder).unwrap();
    assert_eq!(
        format!("{initiator:?}"),
        "Handshake { initiator: true, cipher: Aes256Gcm, finished: true, .. }"
    );
    let session = initiator.finish().unwrap();
    session.sealer.seal(&mut [], AD).unwrap();
    assert_eq!(
        format!("{session:?}"),
        "Session { sealer: Sealer { next: 1, .. }, opener: Opener { oldest: 0, keys: 1, .. } }"
    );
}
