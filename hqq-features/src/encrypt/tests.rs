//! What every pair of ends can rely on, and what a third party must not achieve.

mod agreeing;
mod keys;
mod memory;
mod opening;
mod sealing;
mod vectors;
mod windows;

use fastrand::Rng;

use super::cipher::has_aes;
use super::*;

const AD: &[u8] = b"opcode 1, operands 2 to 8";

/// Random bytes of the system.
fn entropy(into: &mut [u8]) -> Result<(), EncryptError> {
    getrandom::fill(into).map_err(|_| EncryptError::NoEntropy)
}

fn bytes(random: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.u64(..256) as u8).collect()
}

fn shared(byte: u8) -> Key {
    Key::shared([byte; 32])
}

/// Two ends that know each other.
fn pinned() -> (Key, Key) {
    let ends = || [StaticSecret::new([0x61; 32]), StaticSecret::new([0x62; 32])];
    let publics = ends().map(|end| end.public());
    let [ours, theirs] = ends();
    (Key::pinned(ours, publics[1]), Key::pinned(theirs, publics[0]))
}

/// A handshake's two ends, the initiator first.
fn handshakes(keys: (&Key, &Key), cipher: Cipher, settings: SessionSettings) -> (Handshake, Handshake) {
    let end = |key, initiator| Handshake::new(key, initiator, cipher, settings, b"agreed", entropy).unwrap();
    (end(keys.0, true), end(keys.1, false))
}

fn exchange(initiator: &mut Handshake, responder: &mut Handshake) -> Result<(), EncryptError> {
    responder.read(&initiator.write()?)?;
    initiator.read(&responder.write()?)
}

/// A session's two ends, the initiator's first.
fn session(cipher: Cipher, settings: SessionSettings) -> (Session, Session) {
    let key = shared(7);
    let (mut initiator, mut responder) = handshakes((&key, &key), cipher, settings);
    exchange(&mut initiator, &mut responder).unwrap();
    (initiator.finish().unwrap(), responder.finish().unwrap())
}

/// Header and ciphertext.
fn sealed(sealer: &Sealer, message: &[u8], ad: &[u8]) -> Vec<u8> {
    let mut framed = vec![0; HEADER + message.len()];
    sealer.seal_into(&mut message.to_vec(), ad, &mut framed).unwrap();
    framed
}

/// The plaintext; what a refusal must leave is checked.
fn opened(opener: &Opener, framed: &[u8], ad: &[u8]) -> Result<Vec<u8>, EncryptError> {
    let mut into = b"what was there before".to_vec();
    let opened = opener.open(framed, ad, &mut into);
    assert!(opened.is_ok() || into.is_empty(), "a refused message delivers nothing");
    opened.map(|()| into)
}

#[test]
fn ciphers_have_names_and_numbers() {
    for cipher in Cipher::ALL {
        assert_eq!(cipher.to_string().parse(), Ok(cipher));
        assert_eq!(Cipher::from_number(cipher.number()), Some(cipher));
    }
    assert_eq!(Cipher::ALL.map(|cipher| cipher.to_string()), ["chacha20poly1305", "aes256gcm"]);
    assert_eq!(Cipher::ALL.map(Cipher::number), [1, 2]);
    assert_eq!((Cipher::from_number(0), Cipher::from_number(3)), (None, None));
    assert_eq!("AES256GCM".parse::<Cipher>(), Err(UnknownCipher));
    assert_eq!(UnknownCipher.to_string(), "no cipher has this name: use one of chacha20poly1305 aes256gcm");
}

#[test]
fn ciphers_make_sets() {
    let [chacha, aes] = Cipher::ALL;
    assert_eq!(Ciphers::ALL.bits(), 0b110);
    assert_eq!(Ciphers::from_bits(u64::MAX), Ciphers::ALL);
    assert_eq!(Ciphers::NONE.with(chacha).with(aes), Ciphers::ALL);
    assert_eq!(Ciphers::from(aes).bits(), 0b100);
    assert!(Ciphers::from(aes).contains(aes) && !Ciphers::from(aes).contains(chacha));
    assert_eq!(Ciphers::ALL.and(Ciphers::from(chacha)), Ciphers::from(chacha));
    assert_eq!(Ciphers::from(aes).best(), Some(aes));
    assert_eq!(Ciphers::from(chacha).best(), Some(chacha));
    assert_eq!(Ciphers::NONE.best(), None);
    assert_eq!(Ciphers::ALL.best(), Some(if has_aes() { aes } else { chacha }));
}

#[test]
fn errors_name_values() {
    let with_values = [
        (EncryptError::Window { have: 11, limit: 22 }, "11 22"),
        (EncryptError::RekeyEvery { have: 11, least: 22, most: 33 }, "11 22 33"),
        (EncryptError::Exhausted { limit: 11 }, "11"),
        (EncryptError::TooLong { have: 11, limit: 22 }, "11 22"),
        (EncryptError::Room { have: 11, need: 22 }, "11 22"),
        (EncryptError::TooShort { have: 11, need: 22 }, "11 22"),
        (EncryptError::Forged { counter: 11 }, "11"),
        (EncryptError::Replayed { counter: 11 }, "11"),
        (EncryptError::TooOld { counter: 11, oldest: 22 }, "11 22"),
        (EncryptError::Skipped { counter: 11, next: 22 }, "11 22"),
        (EncryptError::AheadOfKeys { counter: 11, limit: 22 }, "11 22"),
    ];
    for (error, values) in with_values {
        let text = error.to_string();
        assert!(values.split(' ').all(|value| text.contains(value)), "{text}");
    }
}
