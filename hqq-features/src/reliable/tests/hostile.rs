//! Peers that lie: nothing panics, nothing grows beyond its limit, nothing is freed that was not named.

use std::collections::BTreeSet;

use super::super::inbox::Mark;
use super::*;

/// A number near something that matters, or any.
fn number(random: &mut Rng, near: u64) -> u64 {
    match random.u64(..8) {
        0 => random.u64(..),
        1 => random.u64(..4),
        2 => u64::MAX - random.u64(..300),
        3 => near.wrapping_add(random.u64(..600)).wrapping_sub(300),
        _ => near.wrapping_add(random.u64(..12)).wrapping_sub(6),
    }
}

fn words(random: &mut Rng, near: u64) -> [u64; 7] {
    let mut words = [0; 7];
    for word in &mut words[1..] {
        *word = match random.u64(..3) {
            0 => 0,
            1 => 1 << random.u64(..64),
            _ => number(random, near),
        };
    }
    words[0] = if random.u64(..8) == 0 { random.u64(..12) } else { 9 };
    if random.u64(..2) == 0 {
        words[2..].fill(0);
        words[2] = random.u64(..2);
    }
    words
}

fn kept(store: &Store) -> BTreeSet<u64> {
    let sequences = store.first..;
    sequences
        .zip(&store.kept)
        .filter(|(_, message)| message.is_some())
        .map(|(sequence, _)| sequence)
        .collect()
}

#[test]
fn a_receiver_frees_only_what_it_names_and_was_sent() {
    for seed in 1..=40 {
        let mut random = Rng::with_seed(seed);
        let mut store = store(12);
        let (mut accepted, mut refused) = (0, 0);
        for _ in 0..1500 {
            let before = kept(&store);
            let picture = format!("{store:?}");
            let words = words(&mut random, store.first);
            let sent = store.sent;
            let (outcome, named): (_, Box<dyn Fn(u64) -> bool>) = match random.u64(..8) {
                0..3 => {
                    let was_full = store.kept.len() == 12;
                    assert_eq!(store.push(random.u64(..).to_le_bytes()).is_err(), was_full);
                    continue;
                }
                3 => {
                    let mut room = random.u64(..20);
                    let _ = store.resend(|_| {
                        room = room.checked_sub(1).ok_or(())?;
                        Ok::<(), ()>(())
                    });
                    assert_eq!(kept(&store), before);
                    continue;
                }
                4 if random.u64(..2) == 0 => {
                    store.detach();
                    continue;
                }
                4 | 5 => match Resume::decode(&words) {
                    Ok(resume) => {
                        let upto = resume.known.filter(|k| k.session == id(9)).map_or(0, |k| k.upto);
                        (store.resumed(resume).map(|r| r.freed), Box::new(move |s| s <= upto))
                    }
                    Err(error) => (Err(error), Box::new(|_| false)),
                },
                _ => match Ack::decode(&words) {
                    Ok(ack) => {
                        let bit = move |at: u64| at < 256 && ack.bits[at as usize / 64] >> (at % 64) & 1 == 1;
                        let named = move |s: u64| s <= ack.upto || s.checked_sub(ack.from).is_some_and(bit);
                        (store.acknowledged(ack), Box::new(named))
                    }
                    Err(error) => (Err(error), Box::new(|_| false)),
                },
            };
            let freed: Vec<u64> = before.difference(&kept(&store)).copied().collect();
            match outcome {
                Ok(count) => {
                    assert_eq!(count, freed.len());
                    assert!(freed.iter().all(|sequence| named(*sequence) && *sequence <= sent));
                    let rest = kept(&store);
                    assert!(rest.iter().all(|sequence| !named(*sequence)), "{words:?}");
                    accepted += 1;
                }
                Err(_) => {
                    assert_eq!(format!("{store:?}"), picture, "refused, and yet something changed");
                    refused += 1;
                }
            }
            let rest = kept(&store);
            assert_eq!((store.counts().messages, store.counts().bytes), (rest.len(), rest.len() * 8));
        }
        assert!(accepted > 50 && refused > 50, "{accepted} {refused}");
    }
}

#[test]
fn a_sender_cannot_make_an_inbox_grow() {
    for seed in 1..=40 {
        let mut random = Rng::with_seed(seed);
        let mut inbox = Inbox::new(12, POLICY);
        let mut delivered = BTreeSet::new();
        for _ in 0..1500 {
            let picture = format!("{:?}", (&inbox.marks, inbox.upto, inbox.session, inbox.pending));
            let is_same = |inbox: &Inbox| {
                format!("{:?}", (&inbox.marks, inbox.upto, inbox.session, inbox.pending)) == picture
            };
            let sequence = number(&mut random, inbox.upto);
            match random.u64(..8) {
                0 => match Start::decode(&words(&mut random, inbox.upto)).map(|start| inbox.started(start)) {
                    Ok(Ok(Started::First | Started::Anew)) => delivered.clear(),
                    Ok(Ok(Started::Continued { .. })) => {}
                    Ok(Ok(Started::Early)) => assert!(is_same(&inbox)),
                    Ok(Err(_)) | Err(_) => assert!(is_same(&inbox)),
                },
                1 => while inbox.take_ack().is_some() {},
                2 | 3 => {
                    let session = id(if random.u64(..4) == 0 { 1 + random.u64(..12) } else { 9 });
                    let outcome = inbox.acknowledge(Receipt { session, sequence });
                    assert!(outcome == Ok(true) || is_same(&inbox));
                    assert!(outcome != Ok(true) || delivered.contains(&sequence));
                }
                _ => match inbox.arrived(sequence) {
                    Ok(Verdict::Deliver(receipt)) => {
                        assert_eq!(Some(receipt.session), inbox.session);
                        assert!(delivered.insert(sequence), "{sequence} twice");
                    }
                    Ok(Verdict::Duplicate) => {}
                    Ok(Verdict::Early) | Err(_) => assert!(is_same(&inbox)),
                },
            }
            assert!(inbox.marks.len() <= 12);
            let count = |wanted| inbox.marks.iter().filter(|mark| **mark == wanted).count();
            let delivered = count(Mark::Delivered);
            let acknowledged = count(Mark::AckPending);
            assert_eq!((delivered, acknowledged), (inbox.outstanding, inbox.pending.1));
        }
    }
}

#[test]
fn any_words_are_decoded_or_refused() {
    let mut random = Rng::with_seed(1);
    for _ in 0..20_000 {
        let words = words(&mut random, 5);
        if let Ok(ack) = Ack::decode(&words) {
            assert_eq!(ack.encode(), words);
        }
        if let Ok(start) = Start::decode(&words) {
            assert_eq!(start.encode(), words);
        }
        if let Ok(resume) = Resume::decode(&words) {
            assert_eq!(resume.encode(), words);
        }
    }
}
