//! No key outlives its use: looked for in the memory of this process.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::BufRead;
use std::os::unix::fs::FileExt;

use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::super::wipe::wipe_stack;
use super::*;

/// A secret with all bits flipped, so that looking for it leaves no copy.
type Flipped = [u8; 32];

fn flipped(secret: &[u8]) -> Flipped {
    std::array::from_fn(|i| !secret[i])
}

/// How often each secret is found in what this process can write to.
fn found(secrets: &[Flipped]) -> Vec<usize> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let memory = File::open("/proc/self/mem").unwrap();
    let mut found = vec![0; secrets.len()];
    // It must neither be found itself nor leave anything behind.
    let mut chunk = Zeroizing::new(vec![0; 1 << 16]);
    let own = chunk.as_ptr().addr() as u64;
    let own = own..own + chunk.len() as u64;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [mut from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).unwrap());
        while from < to {
            let len = chunk.len().min((to - from) as usize);
            // A mapping may be gone by now.
            let Ok(len @ 32..) = memory.read_at(&mut chunk[..len], from) else {
                break;
            };
            for (secret, found) in secrets.iter().zip(&mut found) {
                let places = places(&chunk[..len], secret).into_iter();
                *found += places.filter(|&place| !own.contains(&(from + place as u64))).count();
            }
            // The next chunk overlaps, so that nothing is missed between two.
            from += if from + len as u64 == to { len as u64 } else { len as u64 - 31 };
        }
    }
    found
}

fn places(bytes: &[u8], secret: &Flipped) -> Vec<usize> {
    let (mut rest, mut places) = (bytes, Vec::new());
    while rest.skip_until(!secret[0]).is_ok_and(|skipped| skipped > 0) {
        let begin = bytes.len() - rest.len() - 1;
        let window = bytes.get(begin..begin + 32);
        if window.is_some_and(|window| window.iter().zip(secret).all(|(byte, flipped)| *byte == !flipped)) {
            places.push(begin);
        }
    }
    places
}

/// A whole life of two ends, and the secrets that there were in it: those of the keys and of the session.
#[inline(never)]
fn live(cipher: Cipher, shared: bool, inspect: impl FnOnce(&[Flipped])) -> Vec<Flipped> {
    let (one, other) = Key::generate_pair(entropy).unwrap();
    let (ours, theirs) = match shared {
        true => {
            let key = Key::generate(entropy).unwrap();
            let again = Key::parse(&key.text()).unwrap();
            (key, again)
        }
        false => (one, other),
    };
    let mut secrets: Vec<Flipped> = [&ours, &theirs]
        .into_iter()
        .map(|key| match &key.0 {
            key::Kind::Shared(secret) => flipped(&secret[..]),
            key::Kind::Pinned { ours, .. } => flipped(&ours[..]),
        })
        .collect();
    let settings = SessionSettings { window: 4, rekey_every: 4, strict: false };
    let (mut initiator, mut responder) = handshakes((&ours, &theirs), cipher, settings);
    exchange(&mut initiator, &mut responder).unwrap();
    let mut keys = initiator.noise.as_mut().unwrap().0.dangerously_get_raw_split();
    secrets.extend([flipped(&keys.0), flipped(&keys.1)]);
    zeroize::Zeroize::zeroize(&mut keys.0);
    zeroize::Zeroize::zeroize(&mut keys.1);
    inspect(&secrets);
    let (ours, theirs) = (initiator.finish().unwrap(), responder.finish().unwrap());
    for _ in 0..20 {
        let framed = sealed(&ours.sealer, b"message", AD);
        opened(&theirs.opener, &framed, AD).unwrap();
    }
    secrets
}

/// What this thread's calls have left on its own stack is not what is looked for here.
#[inline(never)]
fn wipe_deep() {
    black_box([0_u8; 256 * 1024]);
    wipe_stack();
}

#[test]
fn no_key_is_left_in_memory() {
    for cipher in Cipher::ALL {
        for shared in [true, false] {
            let mut before = Vec::new();
            let secrets = live(cipher, shared, |secrets| before = found(secrets));
            assert!(before[0] > 0 && before[1] > 0, "the search finds what is there: {before:?}");
            wipe_deep();
            let after = found(&secrets);
            assert_eq!(after, [0; 4], "{cipher}, shared {shared}");
        }
    }
}

/// Opens a message with a secret in it, then one for which the buffer must grow, or one that is refused.
#[inline(never)]
fn receive(ours: &Session, theirs: &Session, refused: bool) -> Flipped {
    let mut message = Zeroizing::new([0; 300]);
    entropy(&mut message[..]).unwrap();
    let secret = flipped(&message[100..132]);
    let mut shared = [0; HEADER + 300];
    ours.sealer.seal_into(&mut message[..], AD, &mut shared).unwrap();
    let mut into = Vec::new();
    theirs.opener.open(&shared, AD, &mut into).unwrap();
    assert!(found(&[secret])[0] > 0, "the search finds what is there");
    if refused {
        assert!(theirs.opener.open(&shared, AD, &mut into).is_err());
    } else {
        theirs.opener.open(&sealed(&ours.sealer, &[1; 100_000], AD), AD, &mut into).unwrap();
    }
    secret
}

#[test]
fn no_message_is_left_where_the_next_one_went() {
    let (ours, theirs) = session(Cipher::ChaCha20Poly1305, SessionSettings::default());
    for refused in [false, true] {
        let secret = receive(&ours, &theirs, refused);
        wipe_deep();
        assert_eq!(found(&[secret]), [0], "refused {refused}");
    }
}

#[test]
fn what_holds_keys_wipes_them() {
    fn wipes<T: ZeroizeOnDrop>() {}
    wipes::<chacha20poly1305::ChaCha20Poly1305>();
    wipes::<aes_gcm::Aes256Gcm>();
    wipes::<x25519_dalek::StaticSecret>();
    wipes::<x25519_dalek::SharedSecret>();
    wipes::<Zeroizing<[u8; 32]>>();
}
