//! Keys as text, and what they show of themselves.

use super::*;

#[test]
fn a_key_is_one_line() {
    let digits = "00112233445566778899aAbBcCdDeEfF0123456789abcdef0123456789ABCDEF";
    let lower = digits.to_lowercase();
    for text in
        [digits.to_owned(), format!("psk:{digits}"), format!("  psk:{digits}\r\n"), format!("{digits}\n")]
    {
        let key = Key::parse(&text).unwrap();
        assert_eq!(*key.text(), format!("psk:{lower}"));
    }
    let other = "ff".repeat(32);
    let text = format!("pinned:{lower}:{other}");
    assert_eq!(*Key::parse(&text).unwrap().text(), text);
}

#[test]
fn a_text_that_is_no_key_is_refused() {
    let digits = "5e".repeat(32);
    let digits = digits.as_str();
    let psk = |have| KeyError::Digits { part: "psk", have };
    let bad = |part, at| KeyError::NotHex { part, at };
    let cases = [
        (String::new(), KeyError::Empty),
        (" \n\t".into(), KeyError::Empty),
        (format!("{digits}\n{digits}"), KeyError::Lines { have: 2 }),
        (format!("{digits}\n\n\n{digits}\n"), KeyError::Lines { have: 4 }),
        (digits[1..].into(), psk(63)),
        (format!("psk:{digits}0"), psk(65)),
        ("psk:".into(), psk(0)),
        (format!("psk:{}é", &digits[1..]), bad("psk", 64)),
        (format!("psk: {}", &digits[1..]), bad("psk", 1)),
        (format!("0x{}", &digits[2..]), bad("psk", 2)),
        (format!("+{}", &digits[1..]), bad("psk", 1)),
        (format!("PSK:{digits}"), KeyError::Kind),
        (format!("{digits}:{digits}"), KeyError::Kind),
        (format!("pinned:{digits}"), KeyError::NoPublic),
        (format!("pinned:{digits}:"), KeyError::Digits { part: "public key of the peer", have: 0 }),
        (format!("pinned:x:{digits}"), KeyError::Digits { part: "own secret key", have: 1 }),
        (format!("pinned:{digits}:{digits}:"), KeyError::Digits { part: "public key of the peer", have: 65 }),
        (format!("pinned:{}g:{digits}", &digits[1..]), bad("own secret key", 64)),
        (format!("pinned:{digits}:g{}", &digits[1..]), bad("public key of the peer", 1)),
    ];
    for (text, error) in cases {
        assert_eq!(Key::parse(&text).map(|_| ()), Err(error), "{text}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("5e5e"), "{shown}");
    }
}

#[test]
fn arbitrary_text_is_no_reason_to_panic() {
    let mut random = Rng::with_seed(1);
    let letters = ["psk:", "pinned:", ":", "0", "f5", "é", "\n", " ", "\u{2028}", "5e5e5e5e5e5e5e5e"];
    for _ in 0..20_000 {
        let parts = random.u64(..12);
        let text: String = (0..parts).map(|_| letters[random.u64(..10) as usize]).collect();
        if let Ok(key) = Key::parse(&text) {
            assert!(Key::parse(&key.text()).is_ok());
        }
    }
}

#[test]
fn generated_keys_differ_and_fit() {
    let (one, other) = (Key::generate(entropy).unwrap(), Key::generate(entropy).unwrap());
    assert_ne!(*one.text(), *other.text());
    let (ours, theirs) = Key::generate_pair(entropy).unwrap();
    for (ours, theirs) in [(&ours, &theirs), (&one, &one)] {
        let ours = Key::parse(&ours.text()).unwrap();
        let (mut initiator, mut responder) =
            handshakes((&ours, theirs), Cipher::Aes256Gcm, SessionSettings::default());
        assert_eq!(exchange(&mut initiator, &mut responder), Ok(()));
    }
    let (mut initiator, mut responder) =
        handshakes((&one, &other), Cipher::Aes256Gcm, SessionSettings::default());
    assert_eq!(exchange(&mut initiator, &mut responder), Err(EncryptError::WrongKey));
}

#[test]
fn a_public_key_is_x25519s() {
    // From the test vectors of Cacophony.
    let secret = "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1";
    let (mut bytes, mut public) = ([0; 32], String::new());
    hex::read(secret, &mut bytes).unwrap();
    hex::write(&StaticSecret::new(bytes).public(), &mut public);
    assert_eq!(public, "6bc3822a2aa7f4e6981d6538692b3cdf3e6df9eea6ed269eb41d93c22757b75a");
}

#[test]
fn keys_show_nothing() {
    let (pinned, _) = pinned();
    assert_eq!(format!("{:?} {pinned:?}", shared(0xab)), "Key(shared) Key(pinned)");
    assert_eq!(format!("{:?}", StaticSecret::new([0xab; 32])), "StaticSecret");
}
