//! Helpers for tests of agreements: options from words, agreements as text, messages to compress.

use std::time::Duration;

use hqq::advanced::{AdvancedOptions, Reliability};
use hqq::agreement::{Agreement, Capabilities, Features};
use hqq::features::compress::Codec;
use hqq::features::encrypt::{Ciphers, Key};

use crate::pattern;

/// Options from words such as `codecs=lz4,zstd`, `key=7`, `capabilities=12` and `require=2`.
///
/// # Panics
/// If a word is not an option.
pub fn wanted<'w>(words: impl Iterator<Item = &'w str>) -> AdvancedOptions {
    words.fold(AdvancedOptions::new(), |wanted, word| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse::<u64>().expect("a number");
        match name {
            "codecs" => {
                let codecs: Vec<Codec> =
                    value.split(',').map(|name| name.parse().expect("the name of a codec")).collect();
                wanted.compression(&codecs)
            }
            // A shared key of this byte, repeated.
            "key" => wanted.encryption(Key::shared([number() as u8; 32])),
            "ciphers" => wanted.ciphers(Ciphers::from_bits(number())),
            "statistics" => {
                if number() > 0 {
                    wanted.statistics()
                } else {
                    wanted
                }
            }
            "capabilities" => wanted.capability(Capabilities::from_bits_retain(number())),
            "window" => wanted.flow_control(number() as u32),
            "qos" => wanted.qos(),
            "reliable" => wanted.reliable(reliability(value)),
            "maybe-reliable" => wanted.reliable(reliability(value).optional()),
            "require" => wanted.require(Features::from_bits_retain(number())),
            _ => panic!("{word}: not an option"),
        }
    })
}

/// Reliable delivery with these numbers of messages, bytes, and messages for each acknowledgement; each may be missing.
fn reliability(words: &str) -> Reliability {
    let mut numbers = words.split(',').map(|number| number.parse::<u32>().expect("a number"));
    let mut reliability = Reliability::new().messages(numbers.next().unwrap_or(0));
    if let Some(bytes) = numbers.next() {
        reliability = reliability.bytes(bytes as usize);
    }
    match numbers.next() {
        Some(every) => {
            reliability.acknowledge_every(every as usize).acknowledge_within(Duration::from_secs(60))
        }
        None => reliability,
    }
}

/// An agreement as text: version, features, capabilities, codecs, and the reason if there is none.
pub fn summary(agreement: &Agreement) -> String {
    let Agreement { version, features, capabilities, terms, fallback } = agreement;
    let why = fallback.map_or_else(String::new, |why| format!(" {why:?}"));
    format!("{version} {} {} {}{why}", features.bits(), capabilities.bits(), terms.codecs)
}

/// A message of `len` bytes: `noise` cannot be compressed, `text` can.
pub fn message(kind: &str, len: usize, seed: u64) -> Vec<u8> {
    let noise = pattern::bytes(len, seed);
    if kind == "text" {
        noise.iter().map(|byte| b"etaoin shrdlu "[usize::from(byte % 14)]).collect()
    } else {
        noise
    }
}
