//! Many threads that send and receive on one link, and the check of the result: every message of every producer arrives
//! once and whole, and each consumer receives the messages of each producer in order.

use std::collections::BTreeMap;
use std::thread;

use hqq::{Error, StandardLink};

use crate::pattern;

/// Bytes before the contents: the numbers of the producer and of the message.
const HEAD: usize = 16;

/// The message `number` of `producer`. Its length is from a few bytes, which fit a slot, to several buffers of 256 bytes.
pub fn message(producer: u64, number: u64) -> Vec<u8> {
    let seed = producer << 32 | number;
    let len = match pattern::mix(seed) % 8 {
        0..4 => pattern::mix(seed + 1) % 33,
        4..7 => pattern::mix(seed + 1) % 240,
        _ => pattern::mix(seed + 1) % 800,
    };
    let mut bytes = vec![0; HEAD + len as usize];
    bytes[..8].copy_from_slice(&producer.to_le_bytes());
    bytes[8..HEAD].copy_from_slice(&number.to_le_bytes());
    pattern::fill(seed, &mut bytes[HEAD..]);
    bytes
}

/// The producer and number of a message, if it is whole.
pub fn read(bytes: &[u8]) -> Option<(u64, u64)> {
    let (producer, rest) = bytes.split_first_chunk()?;
    let (number, _) = rest.split_first_chunk()?;
    let (producer, number) = (u64::from_le_bytes(*producer), u64::from_le_bytes(*number));
    (message(producer, number) == bytes).then_some((producer, number))
}

/// Sends `count` messages from each of `threads` threads, numbered from `first`.
///
/// # Errors
/// The first error of a thread.
pub fn produce(link: &StandardLink, first: u64, threads: u64, count: u64) -> Result<(), Error> {
    thread::scope(|scope| {
        let producers: Vec<_> = (first..first + threads)
            .map(|producer| {
                scope.spawn(move || {
                    (0..count).try_for_each(|number| {
                        let message = message(producer, number);
                        if number % 3 == 0 {
                            let mut loan = link.loan(message.len())?;
                            loan.copy_from_slice(&message);
                            loan.send()
                        } else {
                            link.send(&message)
                        }
                    })
                })
            })
            .collect();
        producers.into_iter().try_for_each(|producer| producer.join().expect("a producer panicked"))
    })
}

/// Receives on `threads` threads until the peer closes, and checks that `count` messages arrived from each of `producers`
/// threads, numbered from `first`.
///
/// # Errors
/// A description of what is wrong.
pub fn consume(
    link: &StandardLink,
    threads: usize,
    first: u64,
    producers: u64,
    count: u64,
) -> Result<(), String> {
    let logs = thread::scope(|scope| {
        let consumers: Vec<_> = (0..threads).map(|_| scope.spawn(|| one_consumer(link))).collect();
        let logs = consumers.into_iter().map(|consumer| consumer.join().expect("a consumer panicked"));
        logs.collect::<Result<Vec<_>, _>>()
    })?;
    verify(&logs, first, producers, count)
}

fn one_consumer(link: &StandardLink) -> Result<Vec<(u64, u64)>, String> {
    let mut log = Vec::new();
    loop {
        match link.recv() {
            Ok(message) => {
                let len = message.len();
                log.push(read(&message).ok_or_else(|| format!("a message of {len} bytes is damaged"))?);
            }
            Err(Error::Closed) => return Ok(log),
            Err(error) => return Err(format!("{error:?}")),
        }
    }
}

fn verify(logs: &[Vec<(u64, u64)>], first: u64, producers: u64, count: u64) -> Result<(), String> {
    let mut all: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for log in logs {
        let mut last = BTreeMap::new();
        for &(producer, number) in log {
            if let Some(before) = last.insert(producer, number) {
                if before >= number {
                    return Err(format!("producer {producer}: received {number} after {before}"));
                }
            }
            all.entry(producer).or_default().push(number);
        }
    }
    for producer in first..first + producers {
        let mut numbers = all.remove(&producer).unwrap_or_default();
        numbers.sort_unstable();
        if !numbers.iter().copied().eq(0..count) {
            return Err(format!(
                "producer {producer}: {} of {count} messages, lost or duplicated",
                numbers.len()
            ));
        }
    }
    if all.is_empty() { Ok(()) } else { Err(format!("unknown producers: {:?}", all.keys())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_a_double_a_swap_and_damage_are_seen() {
        let check = |logs: &[&[(u64, u64)]]| {
            let logs: Vec<Vec<_>> = logs.iter().map(|log| log.to_vec()).collect();
            verify(&logs, 1, 2, 2)
        };
        assert_eq!(check(&[&[(1, 0), (2, 0)], &[(1, 1), (2, 1)]]), Ok(()));
        for (wrong, why) in [
            (&[&[(1u64, 0u64), (2, 0), (2, 1)][..]][..], "lost"),
            (&[&[(1, 0), (1, 1), (2, 0), (2, 1)], &[(1, 1)]], "doubled"),
            (&[&[(1, 1), (1, 0), (2, 0), (2, 1)]], "swapped"),
            (&[&[(1, 0), (1, 1), (2, 0), (2, 1), (9, 0)]], "foreign"),
        ] {
            assert!(check(wrong).is_err(), "{why}");
        }
        let mut bytes = message(3, 5);
        assert_eq!(read(&bytes), Some((3, 5)));
        bytes.push(0);
        assert_eq!(read(&bytes), None);
    }
}
