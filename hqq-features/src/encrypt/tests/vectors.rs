//! The test vectors of Cacophony for our four handshakes: our primitives under `snow`, then our own transport.

use std::sync::Arc;

use snow::Builder;

use super::super::noise::{Noise, Resolver};
use super::*;

const PROLOGUE: &str = "4a6f686e2047616c74";
const PSK: &str = "54686973206973206d7920417573747269616e20706572737065637469766521";
const STATICS: [&str; 2] = [
    "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
    "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
];
const EPHEMERALS: [&str; 2] = [
    "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
    "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
];

/// What is sent in turn, the initiator first: two messages of the handshake, four of the transport.
const PAYLOADS: [&str; 6] = [
    "4c756477696720766f6e204d69736573",
    "4d757272617920526f746862617264",
    "462e20412e20486179656b",
    "4361726c204d656e676572",
    "4a65616e2d426170746973746520536179",
    "457567656e2042f6686d20766f6e2042617765726b",
];

/// The same on the wire, for each handshake.
const WIRE: [(&str, Cipher, [&str; 6]); 4] = [
    (
        "Noise_NNpsk0_25519_ChaChaPoly_SHA256",
        Cipher::ChaCha20Poly1305,
        [
            concat!(
                "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944",
                "79b962b8aff8485742ac32f905ba45369e2465fb59e138a93d67a0d1266b6a54"
            ),
            concat!(
                "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843",
                "d6062704d5a9c422a8e834423f8c1feada7e8d0d910a1a2cd030fb584221e3"
            ),
            "e632c3763d7669067383433197a3baddf146e9e70ad4b4e9e59e0f",
            "64c6bee32ea91c8474bb4c21d7a700109ad45af77b29764ba5eb1e",
            "e2fa0bed0603b62d3ccac2ecabbf3fe33f3e86514909b323361626266cb2471cc8",
            "0c01dc9cec1fe4ddd692e8dd32188aa351088dc91183639a53b57aa4692b5ebdef8b8ca111",
        ],
    ),
    (
        "Noise_NNpsk0_25519_AESGCM_SHA256",
        Cipher::Aes256Gcm,
        [
            concat!(
                "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944",
                "7c37a89fc17813788d30df2d59501d6066f5f8aecc3406bbd9829f2d24a531b1"
            ),
            concat!(
                "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843",
                "2f29d79368ef9de4e1ae7a362fb05bf0ad668e026bf5714554497b3a720461"
            ),
            "7c01e898a6201f36aecee532e29cd0b7f8ffa29d3366ad0dce39a6",
            "a9ff535aace3db6a1da1a7fb00fe2de2622bb373abad9fb42c00e0",
            "6cfc49a3e65472edc2d0152abe5ce950170a8a47c959f30bd48b5f0aacf29adbfd",
            "9bc86e6d974ed21ba04604a94aa68de21677eb409ead070c0cd569b069ee19ba142aa4c1a9",
        ],
    ),
    (
        "Noise_KK_25519_ChaChaPoly_SHA256",
        Cipher::ChaCha20Poly1305,
        [
            concat!(
                "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944",
                "0177015efc1fe7a37c629af7120a96274e6ab7afcc9261901d0e09ae32a5bb96"
            ),
            concat!(
                "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843",
                "b274d3429adc47ca093ba63ef90f8da89fda108db471dccfa4894aa7b00003"
            ),
            "966b05bc69ec01b8454d3160a214e6f24a3d884eb31ec2408af63f",
            "0ad887fba4f611bbb4afe44ba3556b8164332ca7d5934634d63d80",
            "012b28ae646ae7830e2c5472cb023eab071c1db3d8413ec69b513b83832f974c2d",
            "bb3e6a48160d9c5971d37f975727294e0d868342db31832e54d07191ab0ca3c3703b5ed3d9",
        ],
    ),
    (
        "Noise_KK_25519_AESGCM_SHA256",
        Cipher::Aes256Gcm,
        [
            concat!(
                "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944",
                "8564738a841228e693caeec4c497a8bd562231c3e51a1f03c4fd45dfe3a67870"
            ),
            concat!(
                "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843",
                "b94504c4d83506f5dd2568b68490eba8ed6f9cf2cca194a273c56d7ae3c558"
            ),
            "6a5c10a201d4e3a08f79f64949e55731f774913a4d949bda3fcebf",
            "4e8a1bf06926fdd74e2f516e2b0c11cc1dc3387fadeb75389d4342",
            "c1df7194ca8ea51d4dd99059bc9b90288112d47237d8481f1773fb26a31629a05c",
            "3edba4feaf590ee88dd8f5fba51db4bee651cf41afd410fe476c524ac9b1db24252fc55ff8",
        ],
    ),
];

fn bytes(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn end(name: &str, which: usize) -> Noise {
    let (prologue, secret, ephemeral) = (bytes(PROLOGUE), bytes(STATICS[which]), bytes(EPHEMERALS[which]));
    let [psk, theirs] = [PSK, STATICS[1 - which]].map(|digits| *bytes(digits).first_chunk().unwrap());
    let theirs = StaticSecret::new(theirs).public();
    let builder = Builder::with_resolver(name.parse().unwrap(), Box::new(Resolver(entropy)));
    let builder = builder.prologue(&prologue).unwrap().fixed_ephemeral_key_for_testing_only(&ephemeral);
    let builder = match name.contains("KK") {
        true => builder.local_private_key(&secret).unwrap().remote_public_key(&theirs).unwrap(),
        false => builder.psk(0, &psk).unwrap(),
    };
    let state = if which == 0 { builder.build_initiator() } else { builder.build_responder() };
    Noise(Box::new(state.unwrap()))
}

#[test]
fn the_handshake_and_the_transport_are_noises() {
    for (name, cipher, wire) in WIRE {
        let mut ends = [end(name, 0), end(name, 1)];
        for turn in 0..2 {
            let (payload, wire) = (bytes(PAYLOADS[turn]), bytes(wire[turn]));
            let mut message = vec![0; wire.len()];
            let len = ends[turn].0.write_message(&payload, &mut message).unwrap();
            assert_eq!((len, &message), (wire.len(), &wire), "{name}, message {turn}");
            let mut read = vec![0; wire.len()];
            let len = ends[1 - turn].0.read_message(&message, &mut read).unwrap();
            assert_eq!(read[..len], payload);
        }
        let [mut initiator, responder] = ends;
        let keys = initiator.split(cipher).map(Arc::new);
        drop((initiator, responder));
        for turn in 2..6 {
            let (mut message, wire) = (bytes(PAYLOADS[turn]), bytes(wire[turn]));
            let (key, counter) = (&keys[turn % 2], turn as u64 / 2 - 1);
            let tag = key.seal(counter, &[], message.as_mut_slice().into()).unwrap();
            assert_eq!([&message[..], &tag].concat(), wire, "{name}, message {turn}");
        }
    }
}
