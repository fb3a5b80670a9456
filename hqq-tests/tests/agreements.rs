//! Negotiations between two processes, and links whose peer does not negotiate.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use hqq::advanced::AdvancedOptions;
use hqq::agreement::{Capabilities, Fallback, Features, Version};
use hqq::observe::Stats;
use hqq::shm::packet::op;
use hqq::{AdvancedLink, Error, ErrorCode, Options, Role, StandardLink};
use hqq_tests::agree::{self, message, summary, wanted};
use hqq_tests::eventually;
use hqq_tests::mock::Memory;
use hqq_tests::patience::SOON;
use hqq_tests::pattern;
use hqq_tests::test;

const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];

fn fallback(link: &AdvancedLink) -> Fallback {
    link.agreement().fallback.expect("nothing was agreed")
}

fn want(words: &str) -> AdvancedOptions {
    wanted(words.split_whitespace())
}

#[test]
fn either_end_may_start_and_both_may() {
    let test = test!();
    let (ours, theirs) = ("codecs=lz4,zstd capabilities=12", "codecs=zstd capabilities=4");
    for role in ROLES {
        for (start, peer_starts) in [(true, "wait"), (false, "start"), (true, "start")] {
            let (link, mut peer) = test.link(role, "");
            peer.send_command(format!("bg agree {peer_starts} 30000 {theirs}"));
            peer.expect_ok();
            let made = match start {
                true => AdvancedLink::negotiate(link, &want(ours), SOON),
                false => AdvancedLink::wait_for_negotiation(link, &want(ours), SOON),
            };
            let link = made.unwrap();
            assert_eq!(summary(link.agreement()), "1.1 2 4 2");
            assert_eq!(peer.ask("join"), "1.1 2 4 2");
            for side in link.stats().sides {
                let agreed = side.agreed.unwrap();
                assert_eq!(agreed.version, Version { major: 1, minor: 1 });
                assert_eq!(
                    (agreed.features, agreed.capabilities),
                    (Features::COMPRESSION, Capabilities::HIGH_THROUGHPUT)
                );
                assert_eq!((side.refused_total(), side.errors_received_total()), (0, 0));
            }
            for (kind, len) in [("text", 0), ("text", 20), ("text", 5000), ("noise", 5000), ("text", 200_000)]
            {
                let sent = message(kind, len, 1);
                link.send(&sent).unwrap();
                assert_eq!(peer.ask("adv-recv"), pattern::digest(&sent));
                peer.ask(format!("adv-loan {kind} {len} 2"));
                assert_eq!(*link.recv().unwrap(), message(kind, len, 2));
            }
        }
    }
}

/// Each feature alone, all pairs, and all together: on the link and on a connection, both ways.
#[test]
fn every_set_of_features_works_between_two_processes() {
    const WORDS: [&str; 6] = ["codecs=lz4", "key=3", "window=4", "qos", "statistics=1", "reliable=16"];
    let test = test!(untraced);
    let pairs =
        (0..WORDS.len()).flat_map(|one| (one + 1..WORDS.len()).map(move |other| 1 << one | 1 << other));
    let sets: Vec<usize> =
        (0..WORDS.len()).map(|one| 1 << one).chain(pairs).chain([(1 << WORDS.len()) - 1]).collect();
    assert_eq!(sets.len(), 22);
    for (set, role) in sets.into_iter().zip(ROLES.into_iter().cycle()) {
        let words: Vec<&str> =
            (0..WORDS.len()).filter(|one| set >> one & 1 == 1).map(|one| WORDS[one]).collect();
        let words = words.join(" ");
        let (link, mut peer) = test.link(role, "slots=32 buffers=16 size=1024");
        peer.send_command(format!("bg agree wait 30000 {words}"));
        peer.expect_ok();
        let link = AdvancedLink::negotiate(link, &want(&words), SOON).unwrap();
        peer.ask("join");
        assert_eq!(link.agreement().fallback, None, "{words}");
        peer.send_command("adv-accept");
        let connection = link.open_connection().unwrap();
        let id = peer.expect_ok();
        for (kind, len) in [("text", 0), ("noise", 40), ("text", 1000), ("noise", 3000)] {
            for seed in 0..4 {
                let sent = message(kind, len, seed);
                link.send(&sent).unwrap();
                assert_eq!(peer.ask("adv-recv"), pattern::digest(&sent), "{words}");
                peer.ask(format!("adv-send {kind} {len} {seed}"));
                let received = link.recv().unwrap();
                assert!(*received == *sent, "{words}");
                received.acknowledge().unwrap();
                peer.send_command(format!("bg adv-conn-recv {id}"));
                peer.expect_ok();
                connection.send(&sent).unwrap();
                assert_eq!(peer.ask("join"), pattern::digest(&sent), "{words}");
                peer.send_command(format!("bg adv-conn-send {id} {kind} {len} {seed}"));
                peer.expect_ok();
                assert!(connection.recv().unwrap() == sent, "{words}");
                peer.ask("join");
            }
        }
        assert_eq!(link.stats().sides.map(|side| side.refused_total()), [0, 0], "{words}");
        drop(connection);
        peer.quit();
    }
}

/// Packets in flight when a link is made go through it as they are: what was not agreed costs nothing.
#[test]
fn without_features_messages_are_as_on_any_link() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Primary, "");
    peer.send_command("bg agree wait 30000 capabilities=8");
    peer.expect_ok();
    let link = AdvancedLink::negotiate(link, &want("capabilities=8"), SOON).unwrap();
    assert_eq!(peer.ask("join"), "1.1 0 8 0");
    link.send(b"short").unwrap();
    let mut loan = link.loan(1000).unwrap();
    loan.fill(3);
    loan.truncate(900);
    loan.send().unwrap();
    assert_eq!(peer.ask("adv-recv"), pattern::digest(b"short"));
    assert_eq!(peer.ask("adv-recv"), pattern::digest(&[3; 900]));
    assert_eq!(link.stats().sent_by(Role::Primary).bytes_sent, 905);
}

#[test]
fn a_standard_link_is_a_peer() {
    let test = test!(untraced);
    for role in ROLES {
        let (link, mut peer) = test.link(role, "");
        peer.send_command("bg recv");
        peer.expect_ok();
        let link = AdvancedLink::negotiate(link, &want("codecs=lz4"), SOON).unwrap();
        assert_eq!(fallback(&link), Fallback::NothingShared);
        assert_eq!(link.agreement().features, Features::empty());
        link.send(b"plain").unwrap();
        assert_eq!(peer.ask("join"), pattern::digest(b"plain"));
        peer.ask("send 5000 3");
        assert_eq!(*link.recv().unwrap(), pattern::bytes(5000, 3));
    }
}

/// One of version 1.0 knows no negotiation: the opcode is unknown to it, and it says so.
#[test]
fn a_peer_of_version_1_0_is_a_standard_peer() {
    let test = test!();
    for role in ROLES {
        let (link, mut peer) = test.link(role, "");
        let (_, refused) = (op::PROTO_NEGOTIATE, ErrorCode::InvalidOp.number());
        peer.ask(format!("push {} 0 {refused} {}", op::ERROR, op::PROTO_NEGOTIATE));
        let link = AdvancedLink::negotiate(link, &want("codecs=lz4"), SOON).unwrap();
        assert_eq!(fallback(&link), Fallback::Refused { code: refused });
        peer.ask("send 100 3");
        assert_eq!(*link.recv().unwrap(), pattern::bytes(100, 3));
    }
}

/// One that sends before it has heard anything does not wait for it.
#[test]
fn traffic_comes_before_the_agreement() {
    let test = test!(untraced);
    for starts in [false, true] {
        for order in ["send 10 1", "send 100 1", "bg open"] {
            let (link, mut peer) = test.link(Role::Primary, "");
            peer.ask(order);
            let before = Instant::now();
            let link = match starts {
                true => AdvancedLink::negotiate(link, &want("codecs=lz4"), SOON).unwrap(),
                false => AdvancedLink::wait_for_negotiation(link, &want("codecs=lz4"), SOON).unwrap(),
            };
            // Who opens a connection sorts, and may answer before its request goes out.
            let answered = order == "bg open" && fallback(&link) == Fallback::NothingShared;
            assert!(answered || fallback(&link) == Fallback::Traffic, "{:?}", link.agreement());
            assert!(before.elapsed() < SOON / 2);
            if order == "bg open" {
                let connection = link.accept_connection().unwrap();
                peer.ask("join");
                drop(connection);
            } else {
                let len = order.split(' ').nth(1).unwrap().parse().unwrap();
                assert_eq!(*link.recv().unwrap(), pattern::bytes(len, 1));
            }
        }
    }
}

#[test]
fn silence_ends() {
    let test = test!(untraced);
    let soon = Duration::from_millis(50);
    for starts in [false, true] {
        let (link, mut peer) = test.link(Role::Secondary, "");
        let link = match starts {
            true => AdvancedLink::negotiate(link, &want("codecs=lz4"), soon).unwrap(),
            false => AdvancedLink::wait_for_negotiation(link, &want("codecs=lz4"), soon).unwrap(),
        };
        assert_eq!(fallback(&link), Fallback::Silence);
        // Who proposes later is told that there is nothing.
        peer.send_command("bg agree start 30000 codecs=lz4");
        peer.expect_ok();
        thread::scope(|scope| {
            let receiver = scope.spawn(|| link.recv_timeout(SOON).map(|message| message.len()));
            let said = peer.ask("join");
            assert!(said.ends_with("Refused { code: 6 }") || said.ends_with("NothingShared"), "{said}");
            peer.ask("adv-send text 300 1");
            assert_eq!(receiver.join().unwrap().unwrap(), 300);
        });
    }
}

#[test]
fn what_is_required_is_had_or_said_to_be_missing() {
    let test = test!(untraced);
    for (theirs, role) in [("capabilities=8", Role::Primary), ("codecs=zstd", Role::Secondary)] {
        let (link, mut peer) = test.link(role, "");
        peer.send_command(format!("bg agree wait 30000 {theirs}"));
        peer.expect_ok();
        let failed = AdvancedLink::negotiate(link, &want("codecs=lz4 capabilities=8 require=2"), SOON);
        match failed.unwrap_err() {
            error @ Error::NotAgreed { missing: Features::COMPRESSION, .. } => {
                assert!(error.to_string().contains("requires compression"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        let said = peer.ask("join");
        assert!(said.starts_with("1.1 0 0 0 Refused"), "{said}");
    }
}

#[test]
fn an_agreement_is_made_once() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Primary, "");
    peer.send_command("bg agree wait 30000 codecs=lz4");
    peer.expect_ok();
    let link = AdvancedLink::negotiate(link, &want("codecs=lz4"), SOON).unwrap();
    peer.ask("join");
    // Later packets of a negotiation are refused, and the link goes on.
    for packet in ["0x05 0x101 2 0", "0x06 0x101 2 0", "0x30 1", "0x31 2 0"] {
        peer.ask(format!("push {packet}"));
        peer.ask("adv-send text 1000 1");
        assert_eq!(*link.recv().unwrap(), message("text", 1000, 1));
    }
    let stats: Stats = link.stats();
    assert_eq!(stats.side(Role::Primary).refused_with(ErrorCode::InvalidOp), 4);
}

#[test]
fn the_link_may_end_meanwhile() {
    let test = test!(untraced);
    for end in ["drop", "kill"] {
        let (link, mut peer) = test.link(Role::Primary, "");
        thread::scope(|scope| {
            let waits = scope.spawn(move || AdvancedLink::negotiate(link, &want("codecs=lz4"), SOON));
            if end == "drop" {
                peer.ask("drop");
            } else {
                peer.kill();
            }
            let error = waits.join().unwrap().unwrap_err();
            let expected = matches!((end, &error), ("drop", Error::Closed) | ("kill", Error::PeerDead));
            assert!(expected, "{end} {error:?}");
        });
    }
}

/// A frame that breaks the rules is refused, counted and told; the link goes on.
#[test]
fn bad_frames_are_refused_one_by_one() {
    let test = test!();
    let (link, mut peer) = test.link(Role::Primary, "max-message=1048576");
    peer.send_command("bg agree wait 30000 codecs=lz4");
    peer.expect_ok();
    let link = AdvancedLink::negotiate(link, &want("codecs=lz4"), SOON).unwrap();
    peer.ask("join");
    let word = |codec: u64, len: u64| len << 8 | codec;
    // In the slot: the header is the first word of the message.
    let bad = [
        (7, 0, "a header is cut off"),
        (16, word(3, 8), "an unknown codec"),
        (16, word(0, 9), "a raw body of another length"),
        (16, word(1, u64::MAX >> 8), "over the limit"),
        (16, word(1, 1 << 20), "a bomb"),
        (16, word(2, 100), "a codec that was not agreed on"),
        (16, word(1, 100), "nonsense"),
    ];
    for (number, (len, header, what)) in (1..).zip(bad) {
        peer.ask(format!("push 0x10 {} {header} 0xffffffffffffffff", (len as u64) << 56 | number));
        match link.recv() {
            Err(Error::Frame { layer: "compression", reason }) => assert!(!reason.is_empty(), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        peer.ask("adv-send text 600 9");
        assert_eq!(*link.recv().unwrap(), message("text", 600, 9), "{what}");
        let counted = link.stats().side(Role::Primary).refused_with(ErrorCode::BadFrame);
        assert_eq!(counted, number, "{what}");
    }
}

/// All of a region's memory.
fn memory(link: &AdvancedLink) -> Vec<u8> {
    let file = File::from(link.memory().try_clone_to_owned().unwrap());
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn what_is_encrypted_is_nowhere_in_the_region() {
    let test = test!(untraced);
    for (more, role) in
        [("", Role::Primary), (" codecs=zstd", Role::Secondary), (" ciphers=2", Role::Primary)]
    {
        let (link, mut peer) = test.link(role, "slots=16 buffers=32 size=4096");
        peer.send_command(format!("bg agree wait 30000 key=7{more}"));
        peer.expect_ok();
        let link = AdvancedLink::negotiate(link, &want(&format!("key=7{more}")), SOON).unwrap();
        assert!(link.agreement().features.contains(Features::ENCRYPTION));
        peer.ask("join");
        let secret = b"nobody else may read this, wherever it lies";
        for len in [0, 1, 20, 43, 4000, 100_000] {
            let message: Vec<u8> = secret.iter().copied().cycle().take(len).collect();
            link.send(&message).unwrap();
            let lies = memory(&link);
            assert_eq!(peer.ask("adv-recv"), pattern::digest(&message), "{len}");
            let mut loan = link.loan(len).unwrap();
            loan.copy_from_slice(&message);
            loan.send().unwrap();
            peer.ask("adv-recv");
            for piece in [lies, memory(&link)] {
                assert!(!piece.windows(16).any(|window| window == &secret[..16]), "{len}{more}");
            }
            peer.ask(format!("adv-send text {len} 5"));
            assert_eq!(*link.recv().unwrap(), agree::message("text", len, 5));
        }
        // The control: without a key it lies there.
        let (plain, _other) = StandardLink::pair_with(Options::new().slots(16)).unwrap();
        let plain = AdvancedLink::from(plain);
        plain.send(&secret.repeat(10)).unwrap();
        assert!(memory(&plain).windows(16).any(|window| window == &secret[..16]));
    }
}

#[test]
fn another_key_is_found_out_before_anything_is_sent() {
    let test = test!(untraced);
    for (role, starts, theirs) in [
        (Role::Primary, "wait", "key=8"),
        (Role::Secondary, "start", "key=8"),
        (Role::Primary, "wait", "key=7 ciphers=2"),
        (Role::Secondary, "wait", "codecs=lz4"),
    ] {
        let (link, mut peer) = test.link(role, "");
        peer.send_command(format!("bg agree {starts} 30000 {theirs}"));
        peer.expect_ok();
        let failed = AdvancedLink::negotiate(link, &want("key=7 ciphers=4"), SOON);
        let Err(Error::NotAgreed { missing: Features::ENCRYPTION, fallback, .. }) = failed else {
            panic!("{failed:?}")
        };
        if theirs == "key=8" {
            assert_eq!(fallback, Fallback::WrongKey);
            let theirs = peer.ask_error("join");
            assert!(theirs.contains("WrongKey"), "{theirs}");
        }
    }
    // A Standard Link is not enough, either.
    let (link, mut peer) = test.link(Role::Primary, "");
    peer.send_command("bg recv");
    peer.expect_ok();
    let failed = AdvancedLink::negotiate(link, &want("key=7"), SOON);
    assert!(matches!(failed, Err(Error::NotAgreed { .. })), "{failed:?}");
}

/// Who can write to the region cannot make the other end take what its peer did not send, or take it twice.
#[test]
fn forged_and_repeated_messages_are_refused() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "");
    peer.send_command("bg agree wait 30000 key=7");
    peer.expect_ok();
    let link = AdvancedLink::negotiate(link, &want("key=7"), SOON).unwrap();
    peer.ask("join");
    let region = Memory::at(link.memory(), link.geometry());
    let direction = Role::Secondary.direction();
    let mut refused = 0;
    let mut refuse = |what: &str| {
        match link.recv() {
            Err(Error::Frame { layer: "encryption", reason }) => assert!(reason.contains(what), "{reason}"),
            other => panic!("{what}: {other:?}"),
        }
        refused += 1;
        assert_eq!(link.stats().side(Role::Primary).refused_with(ErrorCode::BadFrame), refused);
    };
    // In the clear.
    peer.ask(format!("push 0x10 {} 1 2 3 4 5 6", 48_u64 << 56 | 1));
    refuse("");
    // The same once more: a copy of its slot.
    peer.ask("adv-send noise 20 1");
    let slot = region.newest(direction);
    assert_eq!(*link.recv().unwrap(), pattern::bytes(20, 1));
    region.push(direction, &slot);
    refuse("");
    // With a bit of it changed, in each word.
    for word in 0..6 {
        peer.ask("adv-send noise 20 2");
        let mut slot = region.newest(direction);
        assert_eq!(*link.recv().unwrap(), pattern::bytes(20, 2));
        slot.operands[1 + word] ^= 1 << 17;
        region.push(direction, &slot);
        refuse("");
    }
    peer.ask("adv-send text 5000 3");
    assert_eq!(*link.recv().unwrap(), message("text", 5000, 3));
}

/// Who only ever tries finds a full ring, and the peer's death behind it.
#[test]
fn tries_see_a_full_ring_and_a_death() {
    let test = test!(untraced);
    for words in ["key=7", "codecs=lz4"] {
        let (link, mut peer) = test.link(Role::Primary, "slots=4 buffers=4 size=256");
        peer.send_command(format!("bg agree wait 30000 {words}"));
        peer.expect_ok();
        let link = AdvancedLink::negotiate(link, &want(words), SOON).unwrap();
        peer.ask("join");
        (0..4).for_each(|_| link.try_send(b"small").unwrap());
        assert!(matches!(link.try_send(b"small"), Err(Error::RingFull { slots: 4 })));
        peer.kill();
        eventually("the death is seen", || match link.try_send(b"small") {
            Err(Error::RingFull { .. }) => false,
            Err(Error::PeerDead) => true,
            other => panic!("{other:?}"),
        });
    }
}

#[test]
fn connections_are_changed_like_the_link() {
    for words in ["key=7", "codecs=lz4", "key=7 codecs=zstd"] {
        let (one, other) = StandardLink::pair().unwrap();
        thread::scope(|scope| {
            let echo = scope.spawn(|| {
                let other = AdvancedLink::wait_for_negotiation(other, &want(words), SOON).unwrap();
                let connection = other.accept_connection_timeout(SOON).unwrap();
                loop {
                    match connection.recv_timeout(SOON) {
                        Ok(message) => connection.send(&message).unwrap(),
                        Err(Error::Closed) => break,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
            let one = AdvancedLink::negotiate(one, &want(words), SOON).unwrap();
            let connection = one.open_connection_timeout(SOON).unwrap();
            for (kind, len) in [("text", 0), ("noise", 3), ("text", 100_000), ("noise", 500_000)] {
                let sent = message(kind, len, 4);
                connection.send_timeout(&sent, SOON).unwrap();
                assert_eq!(connection.recv().unwrap(), sent, "{words} {kind} {len}");
            }
            assert!(matches!(connection.try_recv(), Err(Error::RingEmpty)));
            drop(connection);
            echo.join().unwrap();
        });
    }
}

#[test]
fn pairs_in_one_process() {
    let (one, other) = StandardLink::pair().unwrap();
    thread::scope(|scope| {
        let other = scope.spawn(|| AdvancedLink::negotiate(other, &want("codecs=zstd"), SOON).unwrap());
        let one = AdvancedLink::negotiate(one, &want("codecs=zstd"), SOON).unwrap();
        let other = other.join().unwrap();
        let text = message("text", 10_000, 1);
        one.try_send(&text).unwrap();
        assert_eq!(other.try_recv().unwrap().into_vec(), text);
        one.send_timeout(&text, SOON).unwrap();
        assert_eq!(other.recv_timeout(SOON).unwrap().into_vec(), text);
        let sent = one.stats().sent_by(one.role()).bytes_sent;
        assert!(sent < 10_000, "{sent} bytes for twice 10,000");
        assert!(matches!(other.try_recv(), Err(Error::RingEmpty)));
        assert!(matches!(one.loan(usize::MAX), Err(Error::TooLarge { .. })));
    });
}
